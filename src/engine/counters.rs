//! Counters since the start, and the current sizes of everything that grows with load.

use serde::{Deserialize, Serialize};

/// Counts since the start, for `queue stats` and the status page.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Counters {
    /// Sessions accepted.
    #[serde(rename = "sessions_total")]
    pub sessions: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Messages and recipients refused.
    pub refused: u64,
    /// Recipients delivered.
    pub delivered: u64,
    /// Attempts deferred.
    pub deferred: u64,
    /// Recipients failed.
    pub failed: u64,
    /// DSNs sent.
    pub dsns: u64,
    /// Recipients that were forwarded with a rewritten reverse-path.
    pub forwarded: u64,
    /// Messages that failed DMARC.
    pub dmarc_failed: u64,
    /// Messages that were refused for it.
    pub dmarc_refused: u64,
    /// Messages that the hook refused.
    pub hook_refused: u64,
    /// Messages deferred by the hook, or because it failed.
    pub hook_deferred: u64,
    /// Connections, messages and recipients refused because the client was over its limit.
    pub throttled: u64,
    /// Recipients refused because a list has the client.
    pub listed: u64,
    /// Recipients deferred by greylisting.
    pub greylisted: u64,
    /// Replies held back.
    pub slowed: u64,
    /// DNS questions that were not asked, because the asker had used up its share.
    pub unasked: u64,
}

/// Adds to a counter, which saturates.
pub(super) const fn count_up(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}

/// Sizes of everything that grows with load, for tests of their ceilings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// Bytes in buffers whose size a peer decides.
    pub memory: usize,
    /// Connections in both directions.
    pub connections: usize,
    /// Client sessions.
    pub deliveries: usize,
    /// Next hops.
    pub hops: usize,
    /// Deadlines, including those whose owner is gone.
    pub timers: usize,
    /// Pieces of work that workers have.
    pub jobs: usize,
    /// Messages whose signatures wait for a worker.
    pub verifications: usize,
    /// Questions to the DNS under way.
    pub questions: usize,
    /// Answers of the DNS that are remembered.
    pub answers: usize,
    pub dsns: DsnTables,
    /// Outcomes that the disk refused.
    pub unrecorded: usize,
    /// Records that are on their way to the disk.
    pub commits: usize,
    /// Messages that are streamed to the disk.
    pub spilling: usize,
    /// Messages with a block on its way to the disk.
    pub blocks: usize,
    /// Sessions that can make room.
    pub evictable: usize,
    /// Questions to the hook, including those that wait.
    pub hooks: usize,
    /// Queued messages.
    pub queued: usize,
    /// Tables about clients.
    pub clients: ClientTables,
}

/// DSNs that are not on the disk yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DsnTables {
    /// DSNs that are being made.
    pub at_work: usize,
    /// DSNs that wait.
    pub waiting: usize,
}

/// Sizes of the tables about clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClientTables {
    /// Counts of client behaviour.
    pub client_rates: usize,
    /// Greylist entries.
    pub greylist: usize,
    /// Return addresses whose uses are counted.
    pub returns: usize,
}
