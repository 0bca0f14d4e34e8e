//! Pressure: many peers, slow peers, peers that guess and peers that send too much, against the binary that users run.
//!
//! The short form is part of `cargo test`; `CHOPAR_PRESSURE=long`, which `make pressure` sets, uses the largest numbers
//! of clients. Measurements are printed and shown with `--nocapture`. The asserted bounds leave room for a debug build
//! on a busy machine. Invariant of all tests: the process survives, inside a memory cgroup of 128 MiB if one can be
//! made, and serves the next client. The memory that remains in use after its peers are gone is printed, not asserted.

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
