//! One table of deadlines for everything that waits.
//!
//! A deadline that moves later is not moved in the heap. The old entry fires, its owner looks at its own deadline and
//! sets a new entry. A busy session therefore costs nothing here.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::event::ConnId;
use crate::clock::Instant;
use crate::queue::HopId;
use crate::queue_id::QueueId;

/// The owner or purpose of a deadline.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Timer {
    /// A connection may have waited long enough.
    Conn(ConnId),
    /// The pause of a next hop is over.
    Hop(HopId),
    /// A message is due for a next hop.
    Due(QueueId, HopId),
    /// The delay DSN of a message is due.
    Warn(QueueId),
    /// Refused outcomes are to be written again.
    Record,
    /// Old table entries are to be swept.
    Sweep,
    /// Repeated log lines are to be reported.
    Repeats,
}

/// All deadlines.
#[derive(Debug)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Entries left after the last search for entries without owner.
    kept: usize,
}

impl Timers {
    /// A table that does not move until it has this many.
    pub(super) fn with_capacity(timers: usize) -> Self {
        Self {
            heap: BinaryHeap::with_capacity(timers),
            kept: 0,
        }
    }

    /// Lets `timer` fire at `at`.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// Number of entries, including those whose owner is gone.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether enough entries were added to search for those without owner. Each added entry pays for a bounded number
    /// of steps of that search.
    pub(super) fn have_grown(&self) -> bool {
        self.heap.len() > self.kept.saturating_mul(2).saturating_add(TIMERS_SPARE)
    }

    /// Removes entries whose owner is gone. Of the entries that make a message due for one next hop, only the first is
    /// kept: a recipient that is deferred then gets a new one.
    pub(super) fn retain(&mut self, mut is_alive: impl FnMut(Timer) -> bool) {
        let mut first: HashMap<(QueueId, HopId), Instant> = HashMap::new();
        for Reverse((at, timer)) in &self.heap {
            if let Timer::Due(id, hop) = timer {
                let first = first.entry((*id, *hop)).or_insert(*at);
                *first = (*first).min(*at);
            }
        }
        let mut is_first = |at, timer| match timer {
            // Taken out, so that of two at one time one is kept.
            Timer::Due(id, hop) => match first.get(&(id, hop)) {
                Some(first_at) if *first_at == at => first.remove(&(id, hop)).is_some(),
                _ => false,
            },
            _ => true,
        };
        self.heap
            .retain(|Reverse((at, timer))| is_alive(*timer) && is_first(*at, *timer));
        self.kept = self.heap.len();
    }

    /// When the next one fires.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Removes and returns an entry that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        let popped = self.heap.pop().map(|Reverse(entry)| entry);
        self.kept = self.kept.min(self.heap.len());
        popped
    }
}

/// Timers that may be left behind before they are looked for.
const TIMERS_SPARE: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: usize) -> Instant {
        Instant::from_millis(millis as u64)
    }

    #[test]
    fn however_many_next_hops_a_message_has_its_timers_are_not_looked_through_at_each_event() {
        let mut timers = Timers::with_capacity(0);
        let (all, mut looked_at) = (100_000, 0);
        for number in 0..all {
            let hop = HopId(u32::try_from(number).expect("small"));
            timers.set(at(number), Timer::Due(QueueId::new(1), hop));
            if timers.have_grown() {
                looked_at += timers.len();
                timers.retain(|_| true);
            }
        }
        assert_eq!(timers.len(), all);
        assert!(looked_at <= 4 * all, "{looked_at}");
    }

    #[test]
    fn a_message_that_is_tried_before_its_time_over_and_over_keeps_the_first_of_its_timers() {
        let mut timers = Timers::with_capacity(0);
        let due = Timer::Due(QueueId::new(1), HopId(1));
        timers.set(at(500), Timer::Warn(QueueId::new(1)));
        for number in (0..50_000).rev() {
            // Two at the same time.
            timers.set(at(1_000 + number / 2), due);
            if timers.have_grown() {
                timers.retain(|_| true);
            }
            assert!(timers.len() <= TIMERS_SPARE + 8, "{}", timers.len());
        }
        assert_eq!(
            timers.pop(at(500)),
            Some((at(500), Timer::Warn(QueueId::new(1))))
        );
        assert_eq!(timers.pop(at(1_000)), Some((at(1_000), due)));
    }
}
