//! Whole mail trips in a world made from a seed: the real engine and the real journal over an in-memory network, disk,
//! DNS and clock.
//!
//! Clients send, remote servers take, refuse, stall and hang up, the power fails. At the end of every run: a message
//! that was answered with 250 is delivered, bounced or still queued; none is invented or altered; one comes twice only
//! where a reply was lost or the power failed; every session has ended and every buffer is empty.
//!
//! A run that fails prints its seed: `CHOPAR_SEEDS=FIRST..LAST cargo test --test sim` runs just those.

mod disk;
mod dns;
mod remote;
mod sender;
mod world;

use std::ops::RangeInclusive;

use disk::Sabotage;
use world::{Faults, World};

/// Seeds of each kind of world in an ordinary run.
const SEEDS: RangeInclusive<u64> = 0..=499;

fn seeds() -> RangeInclusive<u64> {
    let named = std::env::var("CHOPAR_SEEDS").ok().and_then(|text| {
        let (first, last) = text.split_once("..")?;
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    named.unwrap_or(SEEDS)
}

/// Runs one world; gives what was wrong with it.
fn run(seed: u64, faults: Faults, sabotage: Sabotage) -> Result<(), String> {
    std::panic::catch_unwind(|| World::new(seed, faults, sabotage).run()).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

fn all_hold(faults: Faults) {
    for seed in seeds() {
        if let Err(text) = run(seed, faults, Sabotage::None) {
            panic!(
                "seed {seed}, {faults:?}: {text}\nreplay: CHOPAR_SEEDS={seed}..{seed} cargo test --test sim"
            );
        }
    }
}

/// The simulator is worth something only if it finds what is wrong on purpose.
fn is_found(faults: Faults, sabotage: Sabotage) {
    let mut worlds = SEEDS;
    let found = worlds.find(|seed| run(*seed, faults, sabotage).is_err());
    assert!(
        found.is_some(),
        "{sabotage:?} was not found within {SEEDS:?}"
    );
}

#[test]
fn in_a_calm_world_everything_arrives_once() {
    all_hold(Faults::Calm);
}

#[test]
fn in_a_rough_network_nothing_is_lost() {
    all_hold(Faults::Network);
}

#[test]
fn when_the_power_fails_nothing_that_was_acknowledged_is_lost() {
    all_hold(Faults::Power);
}

#[test]
fn when_the_disk_fails_nothing_that_was_acknowledged_is_lost() {
    all_hold(Faults::Disk);
}

#[test]
fn an_acknowledgement_before_the_commit_is_found() {
    is_found(Faults::Power, Sabotage::EarlyAcknowledgement);
}

#[test]
fn an_outcome_that_is_forgotten_is_found() {
    is_found(Faults::Power, Sabotage::ForgottenOutcome);
}

#[test]
fn a_failed_sync_that_is_tried_again_is_found() {
    is_found(Faults::Disk, Sabotage::RetriedSync);
}
