//! The keys that sign for a domain, and their names.

use std::collections::BTreeSet;

use super::machine::ExistingDomain;
use super::step::{DomainStep, InitStep, PlanLine};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::setup::dkim_key::KeyKind;

/// Keys of both kinds, if they are missing.
pub fn keys(domain: &Domain, existing: &ExistingDomain, now: Timestamp) -> Vec<PlanLine> {
    let kinds = [
        (
            existing.has_rsa,
            "the RSA key",
            KeyKind::Rsa { bits: RSA_BITS },
            'r',
        ),
        (
            existing.has_ed25519,
            "the Ed25519 key",
            KeyKind::Ed25519,
            'e',
        ),
    ];
    kinds
        .into_iter()
        .map(|(is_there, what, kind, letter)| match is_there {
            true => PlanLine::Kept(format!("{what} that signs for {domain}")),
            false => PlanLine::Do(InitStep::Domain(DomainStep::Key {
                domain: domain.clone(),
                selector: selector(now, letter, &existing.selectors),
                kind,
            })),
        })
        .collect()
}

/// A name for a key by the month of its creation, so that a later one can be beside it.
fn selector(now: Timestamp, letter: char, taken: &BTreeSet<String>) -> String {
    let date = now.rfc3339().to_string();
    let month: String = date
        .chars()
        .take("2026-11".len())
        .filter(char::is_ascii_digit)
        .collect();
    let first = format!("{month}{letter}");
    let later = (2..).map(|number: u32| format!("{first}{number}"));
    std::iter::once(first.clone())
        .chain(later)
        .find(|name| !taken.contains(name))
        .unwrap_or(first)
}

const RSA_BITS: usize = 2048;
