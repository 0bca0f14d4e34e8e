//! When a delivery is tried again (RFC 5321 section 4.5.4.1).
//!
//! After 1, 5, 15, 30 minutes, 1, 2, 4 hours, then every 4 hours. Each delay varies by up to a tenth, so that messages
//! that failed together are not all tried again together.

use std::time::Duration;

use crate::entropy::Entropy;

/// The longest wait that [`delay`] returns.
pub const DELAY_MAX: Duration = Duration::from_secs(LAST_S + LAST_S / 10);

/// The delay after this number of failed attempts.
/// Decides RFC 5321 section 4.5.4.1.
pub fn delay(attempts: u16, entropy: &mut dyn Entropy) -> Duration {
    let step = usize::from(attempts.saturating_sub(1));
    let seconds = STEPS_S.get(step).copied().unwrap_or(LAST_S);
    let tenth = seconds.saturating_mul(1_000) / 10;
    let jitter = entropy.below(tenth.saturating_mul(2).saturating_add(1));
    let millis = seconds
        .saturating_mul(1_000)
        .saturating_sub(tenth)
        .saturating_add(jitter);
    Duration::from_millis(millis)
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
        assert!(delay(u16::MAX, &mut entropy) <= DELAY_MAX);
    }
}
