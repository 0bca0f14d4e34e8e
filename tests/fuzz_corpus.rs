//! The inputs in the fuzzers' corpora, and thousands of variants of them, against the properties of `tests/fuzz/src`.
//!
//! A variant depends only on its number, so a failure repeats in the next run.

#[path = "fuzz/src/lib.rs"]
pub mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use chopar::entropy::{Entropy, SeededEntropy};

use targets::{TARGETS, Target};

/// Variants of each file.
const VARIANTS: u64 = 400;
/// Tokens that have a meaning in several grammars.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b".",
    b"\r\n.\r\n",
    b":",
    b";",
    b",",
    b"<",
    b">",
    b"@",
    b"\"",
    b"\\",
    b"(",
    b")",
    b"=",
    b" ",
    b"\t",
    b"\xFF",
    b"\xC3\xA9",
    b"\x80",
    b"0",
    b"99999999999999999999",
    b"-1",
    b"[",
    b"]",
    b"#",
    b"\xC0\x0C",
];

type Seeds = Vec<(String, Vec<u8>)>;

fn corpus(target: &str) -> Seeds {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let mut seeds: Seeds = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (name, fs::read(path).expect("a seed"))
        })
        .collect();
    seeds.sort_unstable();
    assert!(!seeds.is_empty(), "{target} has no corpus");
    seeds
}

/// Checks the property of a target for `bytes`; panics with the input if it is violated.
fn hold(name: &str, target: Target, seed: &str, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!("{name}, made of {seed}: b\"{}\"", bytes.escape_ascii());
        resume_unwind(panic);
    }
}

#[test]
fn every_property_holds_for_the_corpora() {
    for (name, target) in TARGETS {
        hold(name, *target, "nothing", b"");
        for (seed, bytes) in corpus(name) {
            hold(name, *target, &seed, &bytes);
        }
    }
}

/// If the steps of the corpus changed their meaning, it might no longer reach these events.
#[test]
fn the_corpus_of_events_has_mail_accepted_sent_deferred_and_returned() {
    let all: Vec<_> = corpus("events")
        .iter()
        .map(|(_, bytes)| targets::counted(bytes))
        .collect();
    for (what, count) in [
        ("accepted", all.iter().map(|one| one.accepted).sum::<u64>()),
        ("refused", all.iter().map(|one| one.refused).sum()),
        ("delivered", all.iter().map(|one| one.delivered).sum()),
        ("deferred", all.iter().map(|one| one.deferred).sum()),
        ("failed", all.iter().map(|one| one.failed).sum()),
        ("DSNs", all.iter().map(|one| one.dsns).sum()),
    ] {
        assert!(count > 0, "none {what}");
    }
}

#[test]
fn every_property_holds_for_variants_of_the_corpora() {
    for (name, target) in TARGETS {
        let seeds = corpus(name);
        let mut chance = SeededEntropy::new(1);
        for (seed, bytes) in &seeds {
            for _ in 0..VARIANTS {
                let mut variant = bytes.clone();
                for _ in 0..=chance.below(4) {
                    alter(&mut variant, &seeds, &mut chance);
                }
                hold(name, *target, seed, &variant);
            }
        }
    }
}

/// Applies one change: bits, a byte, a token, a part removed or repeated, or a part of another seed.
fn alter(bytes: &mut Vec<u8>, seeds: &Seeds, chance: &mut SeededEntropy) {
    let at = below(bytes.len() + 1, chance);
    let end = (at + below(16, chance)).min(bytes.len());
    match chance.below(6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        1 if at < bytes.len() => bytes[at] = chance.next_u64() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        4 => {
            let other = &seeds[below(seeds.len(), chance)].1;
            let from = below(other.len() + 1, chance);
            bytes.splice(at..end, other[from..].iter().copied());
        }
        _ => {
            let token = TOKENS[below(TOKENS.len(), chance)];
            bytes.splice(at..at, token.iter().copied());
        }
    }
}

fn below(bound: usize, chance: &mut SeededEntropy) -> usize {
    chance.below(bound as u64) as usize
}
