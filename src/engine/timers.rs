//! One table of deadlines for everything that waits.
//!
//! A deadline that moves later is not moved in the heap: the old entry fires, its owner looks at its own deadline and
//! asks again. So a session that is busy costs nothing here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::event::ConnId;
use crate::clock::Instant;
use crate::queue::HopId;
use crate::queue_id::QueueId;

/// Whose time has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Timer {
    /// A connection may have waited long enough.
    Conn(ConnId),
    /// The pause of a next hop is over.
    Hop(HopId),
    /// A message is due for a next hop.
    Due(QueueId, HopId),
    /// The sender of a message is to be told of its delay.
    Warn(QueueId),
    /// Outcomes that the disk refused are to be written again.
    Record,
    /// Tables are to be swept.
    Sweep,
    /// Log lines that came again are to be told of.
    Repeats,
}

/// All deadlines.
#[derive(Debug)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    /// A table that does not move until it has this many.
    pub(super) fn with_capacity(timers: usize) -> Self {
        Self {
            heap: BinaryHeap::with_capacity(timers),
        }
    }

    /// Lets `timer` fire at `at`.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// How many there are, those whose owner is gone too.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops those whose owner is gone.
    pub(super) fn retain(&mut self, mut is_alive: impl FnMut(Timer) -> bool) {
        self.heap.retain(|Reverse((_, timer))| is_alive(*timer));
    }

    /// When the next one fires.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out one that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
