//! The ports of a mail server, and their replacements when only one folder is set up.

use std::collections::BTreeSet;

/// A port that needs no root, and is free.
pub fn high_port(port: u16, taken: &BTreeSet<u16>) -> u16 {
    candidates(port)
        .find(|port| !taken.contains(port))
        .unwrap_or(port)
}

/// The ports that are tried in the place of a low one: 2525, 12525, 22525 and so on.
pub fn candidates(port: u16) -> impl Iterator<Item = u16> {
    let first = match port {
        25 => 2525,
        port => port.saturating_add(2_000),
    };
    (0..6_u16).map(move |step| step.saturating_mul(10_000).saturating_add(first))
}

/// smtp, submission, submissions.
pub const PORTS: [u16; 3] = [25, 587, 465];
