//! What can be read of the engine from outside, beside its events: counts, sizes of tables, the state for the status page.

use super::Engine;
use super::control::Stats;
use super::counters::{Counters, DsnTables, Tables};
use super::stats;
use super::status;
use super::status::RelayStatus;
use crate::clock::Now;
use crate::policy::shares::Resource;
use crate::queue_id::QueueId;
use crate::workload::Workload;
use std::net::IpAddr;

impl Engine {
    /// Whether everything that was mid-message at [`Event::Stop`] is finished.
    pub fn is_stopped(&self) -> bool {
        let (tickets, _) = self.spool.counts();
        self.fx.stopping && self.fx.conns.is_empty() && tickets == 0
    }

    /// The greylist, to be kept until the next run.
    pub fn greylist_image(&self) -> Option<Vec<u8>> {
        self.server.greylist_image()
    }

    /// The numbers since the start.
    pub fn counters(&self) -> Counters {
        self.fx.counters
    }

    /// Numbers of now and since the start.
    pub fn stats(&self) -> Stats {
        stats::stats(&self.delivery, &self.fx)
    }

    /// The state of the relay. Visits each queued message once.
    pub fn status(&mut self, now: Now) -> RelayStatus {
        self.begin(now);
        status::status(&self.delivery, &mut self.fx)
    }

    /// Whether a client is a tool of the operator's that tries this host.
    pub fn is_probe(&self, client: IpAddr) -> bool {
        self.fx.is_probe(client)
    }

    /// The highest work counts in one turn so far, caused by one event or one deadline.
    pub fn heaviest_turn(&self) -> Workload {
        self.heaviest
    }

    /// How many messages are queued.
    pub fn queue_len(&self) -> usize {
        self.fx.index.len()
    }

    /// The ids of the queued messages, oldest first.
    pub fn queue_ids(&self) -> Vec<QueueId> {
        self.fx.index.ids()
    }

    /// Bytes in buffers whose size a peer decides, and connections in both directions.
    pub fn load(&self) -> (usize, usize) {
        (self.fx.memory(), self.fx.conns.len())
    }

    /// Units of each resource that are handed out, and names that hold some.
    pub fn held(&self) -> [(Resource, u64, usize); Resource::ALL.len()] {
        Resource::ALL.map(|resource| {
            let pool = self.fx.shares.of(resource);
            (resource, pool.used(), pool.holders())
        })
    }

    /// Whether all notes have been handed on, which holds after every event.
    pub fn is_settled(&self) -> bool {
        self.fx.notes.is_empty()
    }

    /// How large the tables are now.
    pub fn tables(&self) -> Tables {
        let fx = &self.fx;
        let (questions, answers) = fx.lookups.counts();
        let (at_work, waiting) = self.dsns.counts();
        let (commits, unrecorded) = self.spool.counts();
        let server = self.server.sizes();
        Tables {
            memory: fx.memory(),
            connections: fx.conns.len(),
            deliveries: fx.deliveries(),
            hops: self.delivery.hops(),
            timers: fx.timers.len(),
            jobs: fx.jobs.len(),
            verifications: server.verifications,
            questions,
            answers,
            dsns: DsnTables { at_work, waiting },
            unrecorded,
            commits,
            spilling: server.spilling,
            blocks: server.blocks,
            evictable: server.evictable,
            hooks: server.hooks,
            queued: fx.index.len(),
            clients: server.clients,
        }
    }
}
