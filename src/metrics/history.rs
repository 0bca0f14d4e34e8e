//! Counts for each of the last 60 minutes, and for each quarter of an hour of the last day.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;

/// Totals since the start, of which the history keeps the differences.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Totals {
    /// Messages accepted.
    pub accepted: u64,
    /// Recipients delivered.
    pub delivered: u64,
    /// Attempts deferred.
    pub deferred: u64,
    /// Recipients failed.
    pub failed: u64,
    /// Commands, messages and recipients refused.
    pub refused: u64,
}

impl Totals {
    fn since(self, earlier: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            delivered: self.delivered.saturating_sub(earlier.delivered),
            deferred: self.deferred.saturating_sub(earlier.deferred),
            failed: self.failed.saturating_sub(earlier.failed),
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }

    fn and(self, more: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_add(more.accepted),
            delivered: self.delivered.saturating_add(more.delivered),
            deferred: self.deferred.saturating_add(more.deferred),
            failed: self.failed.saturating_add(more.failed),
            refused: self.refused.saturating_add(more.refused),
        }
    }
}

/// Counts by the hour for the last day, as the status page draws them.
#[derive(Debug)]
pub struct History {
    seen: Totals,
    hour: Ring,
    day: Ring,
}

impl Default for History {
    fn default() -> Self {
        Self {
            seen: Totals::default(),
            hour: Ring::new(Duration::from_secs(60), 60),
            day: Ring::new(Duration::from_secs(900), 96),
        }
    }
}

impl History {
    /// Adds everything since the last call to the current minute. Exact to the minute if called at least once per
    /// minute.
    pub fn observe(&mut self, totals: Totals, now: Instant) {
        let new = totals.since(self.seen);
        self.seen = totals;
        self.hour.add(new, now);
        self.day.add(new, now);
    }

    /// The last 60 minutes, the oldest first; the last one is under way.
    pub fn hour(&self) -> Vec<Totals> {
        self.hour.slots.clone()
    }

    /// The last 96 quarters of an hour, the oldest first; the last one is under way.
    pub fn day(&self) -> Vec<Totals> {
        self.day.slots.clone()
    }
}

/// The newest slots of equal length.
#[derive(Debug)]
struct Ring {
    width: Duration,
    /// The number of the last slot, counted from the start of the process.
    current: u64,
    slots: Vec<Totals>,
}

impl Ring {
    fn new(width: Duration, slots: usize) -> Self {
        Self {
            width,
            current: 0,
            slots: vec![Totals::default(); slots],
        }
    }

    fn add(&mut self, new: Totals, now: Instant) {
        let width = u64::try_from(self.width.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let number = now.as_millis().checked_div(width).unwrap_or_default();
        let passed = usize::try_from(number.saturating_sub(self.current)).unwrap_or(usize::MAX);
        self.current = number.max(self.current);
        let passed = passed.min(self.slots.len());
        self.slots.rotate_left(passed);
        let kept = self.slots.len().saturating_sub(passed);
        for slot in self.slots.iter_mut().skip(kept) {
            *slot = Totals::default();
        }
        if let Some(last) = self.slots.last_mut() {
            *last = last.and(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accepted: u64) -> Totals {
        Totals {
            accepted,
            ..Totals::default()
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    #[test]
    fn each_minute_has_what_came_in_it() {
        let mut history = History::default();
        history.observe(accepted(3), at(10));
        history.observe(accepted(5), at(59));
        history.observe(accepted(6), at(60));
        history.observe(accepted(10), at(185));
        let hour: Vec<u64> = history.hour().iter().map(|slot| slot.accepted).collect();
        assert_eq!(hour.len(), 60);
        assert_eq!(hour[55..], [0, 5, 1, 0, 4]);
        let day = history.day();
        assert_eq!((day.len(), day[95].accepted), (96, 10));
    }

    #[test]
    fn what_is_older_is_forgotten() {
        let mut history = History::default();
        history.observe(accepted(3), at(0));
        history.observe(accepted(3), at(3_599));
        assert_eq!(history.hour()[0].accepted, 3);
        history.observe(accepted(3), at(3_600));
        assert!(history.hour().iter().all(|slot| slot.accepted == 0));
        history.observe(accepted(4), at(1_000_000_000));
        assert_eq!(history.day()[95].accepted, 1);
    }
}
