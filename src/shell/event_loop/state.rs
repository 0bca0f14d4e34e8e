//! The data that the loop owns and keeps from turn to turn.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mio::{Poll, Token, Waker};

use super::fixed::Fixed;
use crate::clock::{Instant, Now};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::event::{ConnId, Event};
use crate::limits::{
    CERTIFICATES_INTERVAL, DROP_FOLDER_INTERVAL, READ_TURN_BYTES_MAX, RESOLV_CONF_INTERVAL,
};
use crate::shell::certificates::log::CertificateLog;
use crate::shell::certificates::pairs::Fingerprint;
use crate::shell::files::folder::resolv_conf_changed;
use crate::shell::helper::Helper;
use crate::shell::net::listen::{ListeningPort, Reserve};
use crate::shell::net::streams::Streams;
use crate::shell::net::udp::DnsSockets;
use crate::shell::process::sandbox::SandboxRules;
use crate::shell::process::signals::Signals;
use crate::shell::process::systemd::Systemd;
use crate::shell::process::time::Clock;
use crate::shell::renewals::Renewals;
use crate::shell::run_error::RunError;
use crate::shell::spool::drop_runs::DropRuns;
use crate::shell::spool::file_disk::FileReader;
use crate::shell::spool::journal_writer::JournalWriter;
use crate::shell::tls::Tls;
use crate::shell::workers::Workers;

/// Files that the loop itself reads and writes.
pub(in crate::shell) struct LoopPaths {
    /// The configuration folder.
    pub(in crate::shell) folder: PathBuf,
    /// The greylist between two runs.
    pub(in crate::shell) greylist: PathBuf,
}

/// The loop and everything that it owns.
pub(in crate::shell) struct EventLoop {
    /// Decides.
    pub(in crate::shell) engine: Engine,
    /// Sleeps.
    pub(in crate::shell) poll: Poll,
    /// Tells the time.
    pub(in crate::shell) clock: Clock,
    /// The time at the start of this turn.
    pub(in crate::shell) now: Now,
    pub(in crate::shell) paths: LoopPaths,
    pub(in crate::shell) config: Arc<Config>,
    /// The listening sockets.
    pub(in crate::shell) ports: Vec<ListeningPort>,
    /// A reserve descriptor, for when there is no other.
    pub(in crate::shell) reserve: Reserve,
    /// SIGTERM and its like.
    pub(in crate::shell) signals: Signals,
    /// The threads for expensive computations.
    pub(in crate::shell) workers: Workers,
    /// The thread that writes.
    pub(in crate::shell) journal: JournalWriter,
    /// Reads queued messages.
    pub(in crate::shell) reader: FileReader,
    /// Handshakes.
    pub(in crate::shell) tls: Tls,
    /// The process outside the sandbox.
    pub(in crate::shell) helper: Helper,
    /// Messages that were left while the relay was down.
    pub(in crate::shell) drops: DropRuns,
    /// The thread that renews certificates.
    pub(in crate::shell) renewals: Renewals,
    /// Periodic notifications to systemd.
    pub(in crate::shell) supervisor: Systemd,
    /// The rest, which begins empty.
    pub(in crate::shell) state: LoopState,
}

/// State that the loop keeps from turn to turn.
pub(in crate::shell) struct LoopState {
    pub(super) streams: Streams,
    pub(super) dns: DnsSockets,
    pub(super) later: VecDeque<Later>,
    pub(super) scratch: Vec<u8>,
    pub(super) accept_again: Option<Instant>,
    pub(super) looks: [(PeriodicCheck, Instant); 3],
    pub(super) certificates: Fingerprint,
    pub(super) certificate_log: CertificateLog,
    pub(super) resolv_conf: Option<std::time::SystemTime>,
    pub(super) fixed: Fixed,
    pub(super) stop_by: Option<Instant>,
    pub(super) failed: Option<RunError>,
    /// Why the loop stops, if it was not asked to.
    pub(super) stopped_by: Option<RunError>,
}

impl LoopState {
    /// The state of a loop that begins.
    pub(in crate::shell) fn new(
        certificates: Fingerprint,
        config: &Config,
        rules: Option<SandboxRules>,
    ) -> Self {
        Self {
            streams: Streams::new(),
            dns: DnsSockets::default(),
            later: VecDeque::new(),
            scratch: vec![0; READ_TURN_BYTES_MAX],
            accept_again: None,
            looks: [
                PeriodicCheck::ResolvConf,
                PeriodicCheck::DropFolder,
                PeriodicCheck::Certificates,
            ]
            .map(|look| (look, Instant::START)),
            certificates,
            certificate_log: CertificateLog::default(),
            resolv_conf: resolv_conf_changed(),
            fixed: Fixed::new(config, rules),
            stop_by: None,
            failed: None,
            stopped_by: None,
        }
    }
}

/// What an action causes.
pub(super) enum Later {
    /// Report to the engine.
    Event(Event<'static>),
    /// Read the configuration again, possibly for a tool.
    Reload(Option<ConnId>),
}

/// A task that the loop performs at intervals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PeriodicCheck {
    ResolvConf,
    DropFolder,
    Certificates,
}

impl PeriodicCheck {
    /// Time between two runs of the task.
    pub(super) const fn interval(self) -> Duration {
        match self {
            Self::ResolvConf => RESOLV_CONF_INTERVAL,
            Self::DropFolder => DROP_FOLDER_INTERVAL,
            Self::Certificates => CERTIFICATES_INTERVAL,
        }
    }
}

/// The meaning of a token; the rest of the token is an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) enum TokenSource {
    Signals,
    /// Results of other threads.
    Waker,
    /// A listening socket.
    Port,
    Stream,
    /// A DNS socket.
    Dns,
    Helper,
}

impl TokenSource {
    /// The token of the source at this index.
    pub(in crate::shell) const fn token(self, index: usize) -> Token {
        Token(index.wrapping_mul(SOURCES).wrapping_add(self as usize))
    }

    pub(super) fn of(token: Token) -> (Self, usize) {
        let source = match token.0 % SOURCES {
            0 => Self::Signals,
            1 => Self::Waker,
            2 => Self::Port,
            3 => Self::Stream,
            4 => Self::Dns,
            _ => Self::Helper,
        };
        (source, token.0 / SOURCES)
    }
}

/// The waker for other threads.
pub(in crate::shell) fn waker(poll: &Poll) -> io::Result<Arc<Waker>> {
    Waker::new(poll.registry(), TokenSource::Waker.token(0)).map(Arc::new)
}

const SOURCES: usize = 6;
