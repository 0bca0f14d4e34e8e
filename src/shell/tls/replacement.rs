//! Which pairs of a folder stay when a new one is put there.
//!
//! A pair is dropped when newer pairs, each of which clients accept no less, have all of its wanted names: the
//! hostname, and the published names. Otherwise the wrong file in a folder would take the name of the relay away. An
//! invalid pair is not kept for its names. The wanted names bound the number of pairs that stay.

use std::mem;

use super::{Served, Tls};
use crate::address::Domain;
use crate::date::Timestamp;

/// The names that certificates are wanted for.
pub(super) fn wanted(hostname: &Domain, further: &[Domain]) -> Vec<Domain> {
    let mut wanted = vec![hostname.clone()];
    wanted.extend_from_slice(further);
    wanted
}

/// How valuable a pair is for the next start, compared to others of its folder.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct PairRank {
    is_valid: bool,
    names: usize,
    is_trusted: bool,
    /// The files do not have it any more.
    is_replaced: bool,
}

impl Tls {
    /// Serves a pair, and keeps the pairs of its folder that it does not replace.
    pub(super) fn replace(&mut self, new: Served, now: Timestamp) {
        let (before, others): (Vec<_>, Vec<_>) = mem::take(&mut self.served)
            .into_iter()
            .partition(|served| served.name == new.name);
        let mut staying = vec![new];
        for mut served in before {
            if !self.is_spare(&served, &staying, now) {
                served.is_replaced = true;
                staying.push(served);
            }
        }
        self.served = others;
        self.served.append(&mut staying);
    }

    /// Whether nothing is lost without a pair beside these.
    fn is_spare(&self, served: &Served, staying: &[Served], now: Timestamp) -> bool {
        let standing = served.certificate.standing(now);
        let replacing = || {
            let others = staying.iter();
            others.filter(|other| other.certificate.standing(now).may_replace(standing))
        };
        let mut names = self.names_of(served).filter(|_| standing.is_valid);
        replacing().next().is_some()
            && names.all(|name| replacing().any(|other| other.is_for(name)))
    }

    /// The names of a pair that a certificate is wanted for.
    fn names_of<'a>(&'a self, served: &'a Served) -> impl Iterator<Item = &'a Domain> {
        self.wanted.iter().filter(|name| served.is_for(name))
    }

    /// See [`PairRank`].
    pub(super) fn worth(&self, served: &Served, now: Timestamp) -> PairRank {
        let standing = served.certificate.standing(now);
        PairRank {
            is_valid: standing.is_valid,
            names: self.names_of(served).count(),
            is_trusted: standing.is_trusted,
            is_replaced: served.is_replaced,
        }
    }

    /// Names that a certificate is wanted for, that this pair lacks, and that one which was read before from its folder
    /// has.
    pub(super) fn lacking(&self, served: &Served, now: Timestamp) -> Vec<Domain> {
        let is_before = |other: &&Served| {
            other.is_replaced
                && other.name == served.name
                && other.certificate.standing(now).is_valid
        };
        let before: Vec<&Served> = self.served.iter().filter(is_before).collect();
        let lacks =
            |name: &&Domain| !served.is_for(name) && before.iter().any(|other| other.is_for(name));
        self.wanted.iter().filter(lacks).cloned().collect()
    }
}

impl Served {
    fn is_for(&self, name: &Domain) -> bool {
        self.certificate.has_name(name.as_str())
    }
}
