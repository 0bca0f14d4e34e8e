//! Numbers since the start, and how large what grows with load is now.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::date::Timestamp;

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
    /// The longest turn of the event loop.
    #[serde(flatten)]
    pub longest_turn: LongestTurn,
}

/// The longest turn of the event loop, all that is done between two waits for the world.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LongestTurn {
    /// Microseconds that it took by the wall clock. Time in which the processor was with other processes is in it.
    #[serde(rename = "longest_turn_us")]
    pub us: u64,
    /// When it began, in seconds since 1970; 0 where there was none.
    #[serde(rename = "longest_turn_at")]
    pub at: u64,
}

impl Counters {
    /// A turn of the event loop took so long.
    pub(super) fn turn(&mut self, took: Duration, at: Timestamp) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if took > self.longest_turn.us {
            let at = at.seconds();
            self.longest_turn = LongestTurn { us: took, at };
        }
    }
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
    /// DSNs.
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
    pub crowd: usize,
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
