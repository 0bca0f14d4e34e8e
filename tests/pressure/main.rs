//! Pressure: many peers, slow peers, guessing peers and peers that send too much, at the binary that users run.
//!
//! The short form is part of `cargo test`; `CHOPAR_PRESSURE=long`, which `make pressure` sets, makes the crowds as
//! large as they come. What is measured is printed, so that it shows with `--nocapture`. The bounds that are asserted
//! leave room for a debug build on a busy machine. Invariant of all: the process lives, inside a memory cgroup of 128
//! MiB where one can be made, and serves the next client. What is left of memory when its peers are gone is printed,
//! not asserted.

mod cage;
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
#[path = "../e2e/client.rs"]
mod client;
mod disk;
mod floods;
mod idle;
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
#[path = "../e2e/process.rs"]
mod process;
mod queue;
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
#[path = "../e2e/relay.rs"]
mod relay;
mod resident;
mod shares;
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
#[path = "../e2e/world.rs"]
mod world;

/// The smaller number, or the larger one in the long form.
fn scaled(short: usize, long: usize) -> usize {
    match std::env::var("CHOPAR_PRESSURE").as_deref() {
        Ok("long") => long,
        _ => short,
    }
}
