//! Duration histograms with fixed buckets.

use std::time::Duration;

/// The kind of duration, which determines the bounds of the buckets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timing {
    /// Disk operations: from 100 microseconds to 10 seconds.
    Disk,
    /// Waits of clients and receivers: from a millisecond to five days.
    Mail,
}

impl Timing {
    /// The upper bounds of all buckets but the last one, which has none; in microseconds.
    pub const fn bounds(self) -> &'static [u64] {
        match self {
            Self::Disk => &DISK,
            Self::Mail => &MAIL,
        }
    }
}

/// Counts of durations by bucket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Histogram {
    timing: Timing,
    /// Counts per bucket, not cumulated; the last one is above all bounds.
    counts: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    /// Nothing has been counted.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            counts: vec![0; timing.bounds().len().saturating_add(1)],
            sum: Duration::ZERO,
        }
    }

    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = self
            .timing
            .bounds()
            .partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.sum = self.sum.saturating_add(took);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The bounds in microseconds, each with how many were at most that long.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let sums = self.counts.iter().scan(0_u64, |sum, count| {
            *sum = sum.saturating_add(*count);
            Some(*sum)
        });
        self.timing.bounds().iter().copied().zip(sums)
    }

    /// The bound that this percentage did not exceed; `None` if nothing was counted, or if it lies above all bounds.
    pub fn percentile(&self, hundredths: u64) -> Option<Duration> {
        let count = self.count();
        // Rounded up: the hundredth of three is the first.
        let rank = count.saturating_mul(hundredths).div_ceil(100).max(1);
        if count == 0 {
            return None;
        }
        let mut cumulative = self.cumulative();
        let (bound, _) = cumulative.find(|(_, upto)| *upto >= rank)?;
        Some(Duration::from_micros(bound))
    }
}

const DISK: [u64; 16] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

const MAIL: [u64; 20] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    7_200_000_000,
    86_400_000_000,
    432_000_000_000,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::new(Timing::Disk);
        histogram.observe(Duration::from_micros(100));
        histogram.observe(Duration::from_micros(101));
        histogram.observe(Duration::from_secs(11));
        let upto: Vec<u64> = histogram.cumulative().map(|(_, upto)| upto).collect();
        assert_eq!(
            (upto[0], upto[1], upto[15], histogram.count()),
            (1, 2, 2, 3)
        );
        assert_eq!(histogram.percentile(50), Some(Duration::from_micros(200)));
        assert_eq!(histogram.percentile(99), None);
    }

    proptest! {
        #[test]
        fn a_percentile_bounds_its_share(
            micros in prop::collection::vec(0_u64..20_000_000, 1..50),
            hundredths in 1_u64..=100,
        ) {
            let mut histogram = Histogram::new(Timing::Disk);
            for one in &micros {
                histogram.observe(Duration::from_micros(*one));
            }
            prop_assert_eq!(histogram.count(), micros.len() as u64);
            if let Some(bound) = histogram.percentile(hundredths) {
                let upto = micros.iter().filter(|one| u128::from(**one) <= bound.as_micros()).count();
                prop_assert!(upto as u64 * 100 >= hundredths * micros.len() as u64);
            }
        }
    }
}
