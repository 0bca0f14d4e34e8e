//! The only place that reads the clocks and the system's random numbers.

use std::time::{Duration, Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock::{Instant, Now};
use crate::date::Timestamp;
use crate::entropy::Entropy;

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: SystemInstant,
}

impl Clock {
    /// Clocks whose monotonic one starts now.
    pub fn start() -> Self {
        Self {
            started: SystemInstant::now(),
        }
    }

    /// The time since the start, more precise than [`Now`]: for measuring, never for deciding.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The current time of both.
    pub fn read(&self) -> Now {
        let elapsed = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now {
            instant: Instant::from_millis(elapsed),
            wall: wall(),
        }
    }
}

/// The wall clock.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_seconds(since.map_or(0, |since| since.as_secs()))
}

/// The system's random numbers.
#[derive(Debug)]
pub struct SystemEntropy(SystemRandom);

impl Default for SystemEntropy {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        // If getrandom(2) fails, there is no safe way to continue: ids and DNS ports would be guessable.
        if self.0.fill(bytes).is_err() {
            std::process::abort();
        }
    }
}
