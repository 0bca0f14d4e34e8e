//! When a delivery is tried again, and when it has been tried long enough (RFC 5321 section 4.5.4.1).
//!
//! 1, 5, 15, 30 minutes, 1, 2, 4 hours, then every 4 hours; each with up to a tenth more or less, so that what failed
//! together is not tried together.

use std::time::Duration;

use crate::entropy::Entropy;

/// The longest wait that [`delay`] returns.
pub const DELAY_MAX: Duration = Duration::from_secs(LAST_S + LAST_S / 10);

/// How long to wait after so many failed attempts.
pub fn delay(attempts: u32, entropy: &mut dyn Entropy) -> Duration {
    let step = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let seconds = STEPS_S.get(step).copied().unwrap_or(LAST_S);
    let tenth = seconds.saturating_mul(1_000) / 10;
    let jitter = entropy.below(tenth.saturating_mul(2).saturating_add(1));
    let millis = seconds
        .saturating_mul(1_000)
        .saturating_sub(tenth)
        .saturating_add(jitter);
    Duration::from_millis(millis)
}

/// Whether a message is given up: it is too old, and the attempt that has just failed was its last chance. Age alone
/// says nothing, since a wall clock can jump; so what has not been tried is never given up.
pub fn is_expired(age: Duration, attempts: u32, give_up_after: Duration) -> bool {
    attempts > 0 && age > give_up_after
}

/// Whether its sender is told that a message is late: it is old enough, has been tried, and will not be given up
/// before anybody could read the warning.
pub fn is_warning_due(
    age: Duration,
    attempts: u32,
    warn_after: Duration,
    give_up_after: Duration,
) -> bool {
    attempts > 0 && age >= warn_after && age <= give_up_after
}

/// Waits after the first failed attempts, in seconds.
const STEPS_S: [u64; 6] = [60, 300, 900, 1_800, 3_600, 7_200];
/// The wait after every later one.
const LAST_S: u64 = 14_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn waits_grow_to_four_hours_with_a_tenth_of_jitter() {
        let minutes = [1, 5, 15, 30, 60, 120, 240, 240, 240];
        let mut entropy = SeededEntropy::new(5);
        for (attempts, minutes) in (1..).zip(minutes) {
            let exact = Duration::from_secs(minutes * 60);
            let mut different = std::collections::BTreeSet::new();
            for _ in 0..200 {
                let delay = delay(attempts, &mut entropy);
                assert!(delay >= exact * 9 / 10 && delay <= exact * 11 / 10);
                assert!(delay <= DELAY_MAX);
                different.insert(delay);
            }
            assert!(different.len() > 100);
        }
        assert!(delay(0, &mut entropy) <= Duration::from_secs(66));
        assert!(delay(u32::MAX, &mut entropy) <= DELAY_MAX);
    }

    #[test]
    fn a_clock_that_jumps_gives_up_nothing_untried() {
        let day = Duration::from_secs(86_400);
        assert!(!is_expired(day * 1_000, 0, day * 4));
        assert!(is_expired(day * 5, 1, day * 4));
        assert!(!is_expired(day * 4, 9, day * 4));
        let hour = Duration::from_secs(3_600);
        assert!(is_warning_due(hour * 4, 6, hour * 4, day * 4));
        assert!(!is_warning_due(hour * 4, 0, hour * 4, day * 4));
        assert!(!is_warning_due(hour * 3, 6, hour * 4, day * 4));
        assert!(!is_warning_due(day * 5, 6, hour * 4, day * 4));
    }
}
