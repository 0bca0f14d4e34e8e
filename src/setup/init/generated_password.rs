//! Generated passwords, for people who may have to type them.

use zeroize::Zeroizing;

use crate::entropy::Entropy;

/// A password of 20 letters and digits in groups of four: 99 bits, without characters that look alike.
pub fn password(entropy: &mut dyn Entropy) -> Zeroizing<String> {
    let mut made = Zeroizing::new(String::with_capacity(LENGTH + LENGTH / GROUP));
    let mut drawn = 0;
    while drawn < LENGTH {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        entropy.fill(&mut *bytes);
        for byte in bytes.iter() {
            // A byte past the last whole round would favour the first letters.
            let is_fair = usize::from(*byte) < ROUNDS * LETTERS.len();
            let letter = LETTERS.get(usize::from(*byte) % LETTERS.len());
            let Some(letter) = letter.filter(|_| is_fair && drawn < LENGTH) else {
                continue;
            };
            if drawn > 0 && drawn % GROUP == 0 {
                made.push('-');
            }
            made.push(char::from(*letter));
            drawn += 1;
        }
    }
    made
}

/// Without i, l, o, 0 and 1.
const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
const ROUNDS: usize = 256 / LETTERS.len();
const LENGTH: usize = 20;
const GROUP: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn a_password_can_be_typed_and_every_letter_is_as_likely() {
        let mut entropy = SeededEntropy::new(7);
        let mut counts: BTreeMap<char, usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for _ in 0..2_000 {
            let made = password(&mut entropy);
            let groups: Vec<&str> = made.split('-').collect();
            assert_eq!(groups.len(), 5, "{groups:?}");
            assert!(groups.iter().all(|group| group.len() == 4), "{groups:?}");
            for letter in made.chars().filter(|c| *c != '-') {
                *counts.entry(letter).or_default() += 1;
            }
            assert!(seen.insert(made.to_string()), "twice the same");
        }
        assert_eq!(counts.len(), LETTERS.len());
        let mean = 2_000 * LENGTH / LETTERS.len();
        for (letter, count) in counts {
            assert!(
                count.abs_diff(mean) < mean / 6,
                "{letter}: {count} of {mean}"
            );
        }
    }
}
