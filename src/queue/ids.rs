//! Queue ids that are never reused within a spool, whatever the clock does.

use crate::date::Timestamp;
use crate::queue_id::QueueId;

/// Assigns queue ids: the second of the wall clock, then a counter, and always above every earlier id of the spool.
///
/// Invariant: each id is greater than the one before it and than the highest that recovery saw. The journal writes
/// its highest id at the front of every segment and keeps the last segment, so an empty queue does not forget it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdSource {
    last: u64,
}

impl IdSource {
    /// A source of ids above `highest`.
    pub const fn above(highest: QueueId) -> Self {
        Self {
            last: highest.number(),
        }
    }

    /// The next id. Setting the clock back makes ids look younger than they are, but never equal.
    pub fn next(&mut self, now: Timestamp) -> QueueId {
        let from_clock = now.seconds().min(SECONDS_MAX) << COUNTER_BITS;
        self.last = from_clock.max(self.last.saturating_add(1));
        QueueId::new(self.last)
    }
}

const COUNTER_BITS: u32 = 24; // 16 million messages a second before ids run ahead of the clock
const SECONDS_MAX: u64 = (1 << 38) - 1; // the year 10680; keeps ids of a mad clock from the end of the range

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_when_the_clock_goes_back() {
        let mut ids = IdSource::above(QueueId::new(0));
        let mut last = QueueId::new(0);
        for seconds in [100, 100, 50, 0, u64::MAX, 1, 101] {
            let id = ids.next(Timestamp::from_seconds(seconds));
            assert!(id > last);
            last = id;
        }
    }

    #[test]
    fn ids_start_above_what_recovery_saw() {
        let high = QueueId::new(1 << 60);
        assert!(IdSource::above(high).next(Timestamp::from_seconds(9)) > high);
    }
}
