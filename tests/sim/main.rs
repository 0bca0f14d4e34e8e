//! Whole mail trips in a world made from a seed: the real engine and the real journal over an in-memory network, disk,
//! DNS and clock.
//!
//! Clients send, remote servers take, refuse, stall and hang up, the power fails. At the end of every run: a message
//! that was answered with 250 is delivered, bounced or still queued; none is invented or altered; one comes twice only
//! where a reply was lost or the power failed; every session has ended and every buffer is empty.
//!
//! A run that fails prints its seed: `CHOPAR_SEEDS=FIRST..LAST cargo test --test sim` runs just those.

mod dns;
mod remote;
mod sender;
mod world;

use world::{Faults, World};

/// Seeds of each kind of world in an ordinary run.
const SEEDS: u64 = 200;

fn seeds() -> std::ops::Range<u64> {
    let range = std::env::var("CHOPAR_SEEDS").ok().and_then(|text| {
        let (first, last) = text.split_once("..")?;
        Some(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
    });
    range.unwrap_or(0..SEEDS)
}

fn run_all(faults: Faults) {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(|| World::new(seed, faults).run());
        if let Err(panic) = outcome {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            panic!(
                "seed {seed}, {faults:?}: {text}\nreplay: CHOPAR_SEEDS={seed}..{seed} cargo test --test sim"
            );
        }
    }
}

#[test]
fn in_a_calm_world_everything_arrives_once() {
    run_all(Faults::Calm);
}

#[test]
fn in_a_rough_network_nothing_is_lost() {
    run_all(Faults::Network);
}

#[test]
fn when_the_power_fails_nothing_that_was_acknowledged_is_lost() {
    run_all(Faults::Power);
}
