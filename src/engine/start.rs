//! What an engine begins with.

use super::Engine;
use super::connections::Connections;
use super::control::Control;
use super::counters::Counters;
use super::deadlines::SWEEP_INTERVAL;
use super::delivery::Delivery;
use super::dsn::Dsns;
use super::effects::{Disk, Effects, Jobs, Logging, ROOT};
use super::following::Following;
use super::log::Level;
use super::lookups::Lookups;
use super::repeats::Repeats;
use super::server::Server;
use super::shares::capacity;
use super::spool::Spool;
use super::status::Visits;
use super::status::observed::Observed;
use super::timers::{Timer, Timers};
use crate::auth::srs::Rewriter;
use crate::clock::Now;
use crate::config::Config;
use crate::entropy::Entropy;
use crate::limits::SESSIONS_MAX_DEFAULT;
use crate::policy::shares::Shares;
use crate::queue::{IdSource, Index};
use crate::workload::Workload;
use std::collections::VecDeque;
use std::sync::Arc;

/// The configuration, the clock's first reading and the source of chance that an engine begins with.
pub struct EngineStart {
    /// The configuration.
    pub config: Arc<Config>,
    /// Ids above all that the spool has seen.
    pub ids: IdSource,
    /// Chance.
    pub entropy: Box<dyn Entropy + Send>,
    /// Rewrites the senders of what is forwarded.
    pub rewriter: Rewriter,
}

impl Engine {
    /// An engine with an empty queue; [`Event::Recovered`] fills it.
    pub fn new(start: EngineStart, now: Now) -> Self {
        let EngineStart {
            config,
            ids,
            entropy,
            rewriter,
        } = start;
        let mut fx = Effects {
            now,
            shares: Shares::new(|resource| capacity(&config, None, resource)),
            lookups: Lookups::new(config.dns.servers.clone()),
            config,
            entropy,
            conns: Connections::with_capacity(SESSIONS_MAX_DEFAULT),
            actions: VecDeque::new(),
            timers: Timers::with_capacity(SESSIONS_MAX_DEFAULT),
            index: Index::default(),
            ids,
            jobs: Jobs::default(),
            disk: Disk::default(),
            counters: Counters::default(),
            observed: Observed::default(),
            logging: Logging {
                level: Level::Info,
                repeats: Repeats::default(),
                following: Following::default(),
            },
            notes: VecDeque::new(),
            operator: ROOT,
            stopping: false,
        };
        fx.timers
            .set(now.instant.after(SWEEP_INTERVAL), Timer::Sweep);
        Self {
            server: Server::new(rewriter, &mut fx),
            delivery: Delivery::default(),
            spool: Spool::default(),
            dsns: Dsns::default(),
            control: Control::default(),
            visits: Visits::default(),
            heaviest: Workload::default(),
            fx,
        }
    }

    /// Makes log lines of this level and more urgent ones from now on.
    pub fn set_log_level(&mut self, level: Level) {
        self.fx.logging.level = level;
    }

    /// Names the account that the relay runs as.
    pub fn set_operator(&mut self, uid: u32) {
        self.fx.operator = uid;
    }
}
