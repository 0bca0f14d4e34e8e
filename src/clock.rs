//! Time as the engine sees it: an argument, never a system call.
//!
//! The shell (or the simulator) reads the clocks; everything below gets a [`Now`]. Timers use the monotonic
//! [`Instant`], so that setting the clock moves no timer. Dates in header fields and in the journal are wall-clock
//! [`Timestamp`]s.

use std::time::Duration;

use crate::date::Timestamp;

/// A point on the monotonic clock, in milliseconds since the process (or the simulation) started.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instant(u64);

impl Instant {
    /// The start of the process.
    pub const START: Self = Self(0);

    /// The instant `ms` milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This point moved later by `span`; saturates at the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// How long after `earlier` this point is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks, read together once for each turn of the loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// For timers and deadlines.
    pub instant: Instant,
    /// For dates that leave the process: header fields, the journal, logs.
    pub wall: Timestamp,
}
