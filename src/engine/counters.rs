//! Counters since the start, and the current sizes of everything that grows with load.

use serde::{Deserialize, Serialize};

/// What happened since the start, for `queue stats` and the status page.
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
    /// Messages that it, or what happened to it, deferred.
    pub hook_deferred: u64,
    /// Connections, messages and recipients of clients who had had enough.
    pub throttled: u64,
    /// Recipients refused because a list has the client.
    pub listed: u64,
    /// Recipients deferred by greylisting.
    pub greylisted: u64,
    /// Replies held back.
    pub slowed: u64,
    /// Questions to the DNS that were not asked, because whoever needed them had its share of questions.
    pub unasked: u64,
}

/// Adds to a counter; one that is full stays full.
pub(super) const fn count_up(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}

/// Sizes of what grows with load, for those who hold them to their ceilings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// Bytes in buffers whose size peers decide.
    pub memory: usize,
    /// Connections in both directions.
    pub connections: usize,
    /// Client sessions.
    pub deliveries: usize,
    /// Next hops.
    pub hops: usize,
    /// Deadlines, those whose owner is gone too.
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
    /// Messages of which a block is on its way there.
    pub blocks: usize,
    /// Sessions that can make room.
    pub evictable: usize,
    /// Questions to the hook, those that wait too.
    pub hooks: usize,
    /// Queued messages.
    pub queued: usize,
    /// What is known of clients.
    pub clients: ClientTables,
}

/// DSNs that are not on the disk yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DsnTables {
    /// Those that are being made.
    pub at_work: usize,
    /// Those that wait.
    pub waiting: usize,
}

/// What is known of clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClientTables {
    /// Counts of what they do.
    pub conduct: usize,
    /// What greylisting remembers.
    pub greylist: usize,
    /// Return addresses whose uses are counted.
    pub returns: usize,
}
