//! Current figures and counters since the start: one declaration for the engine, the queue tools and the status page.

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::delivery::Delivery;
use super::effects::Effects;

/// Current figures, and counts since the start. A figure that an older daemon does not know is 0.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Stats {
    /// Messages queued.
    pub queued: usize,
    /// Messages held.
    pub held: usize,
    /// Next hops in the table.
    pub hops: usize,
    /// SMTP server sessions, now.
    pub sessions: usize,
    /// Delivery sessions, now.
    pub deliveries: usize,
    /// Bytes in buffers.
    pub buffered: usize,
    /// Since the start.
    #[serde(flatten)]
    pub total: Counters,
    /// Microseconds that the longest turn of the event loop took by the wall clock, all that is done between two waits
    /// for the world. Time in which the processor was with other processes is in it.
    pub longest_turn_us: u64,
    /// The time when that turn began, in seconds since 1970; 0 if there was none.
    pub longest_turn_at: u64,
}

/// Numbers of now and since the start.
pub(super) fn stats(delivery: &Delivery, fx: &Effects) -> Stats {
    Stats {
        queued: fx.index.len(),
        held: fx.index.entries().filter(|(_, entry)| entry.held).count(),
        hops: delivery.hops(),
        sessions: fx.sessions(),
        deliveries: fx.deliveries(),
        buffered: fx.memory(),
        total: fx.counters,
        longest_turn_us: fx.observed.longest_turn.us,
        longest_turn_at: fx.observed.longest_turn.at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_an_older_daemon_is_read_and_that_of_a_newer_one_too() {
        let text = r#"{"queued": 3, "accepted": 7, "sessions_total": 9, "invented_later": 1}"#;
        let stats: Stats = serde_json::from_str(text).expect("it reads");
        let total = Counters {
            accepted: 7,
            sessions: 9,
            ..Counters::default()
        };
        let expected = Stats {
            queued: 3,
            total,
            ..Stats::default()
        };
        assert_eq!(stats, expected);
    }
}
