//! The sessions that can be closed when memory is short, ordered by the memory that they hold.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::intake::SCARCE_BYTES;
use crate::clock::Instant;
use crate::engine::event::ConnId;
use crate::policy::shares::TrustLevel;

/// Sessions that can make room.
#[derive(Default)]
pub(super) struct Evictable {
    /// By all that would be free if they lost it.
    pub(super) holding: BTreeSet<(Place, ConnId)>,
    /// By what they can stream out.
    pub(super) streaming: BTreeSet<(Place, ConnId)>,
}

/// The places of one session in the lists.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Places {
    pub(super) holding: Option<Place>,
    pub(super) streaming: Option<Place>,
}

/// How soon somebody makes room: the greatest goes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) class: u32,
    pub(super) standing: Reverse<TrustLevel>,
    pub(super) since: Reverse<Instant>,
}

impl Place {
    /// The place of one who has held so much since then; none where that is at most `least`.
    pub(super) fn of(
        bytes: usize,
        least: usize,
        standing: TrustLevel,
        since: Instant,
    ) -> Option<Self> {
        let class = (bytes / SCARCE_BYTES)
            .checked_ilog2()
            .map_or(0, |log| log.saturating_add(1));
        (bytes > least).then_some(Self {
            class,
            standing: Reverse(standing),
            since: Reverse(since),
        })
    }
}

impl Evictable {
    /// A session has these places from now on.
    pub(super) fn put(&mut self, conn: ConnId, before: &mut Places, after: Places) {
        let lists = [
            (&mut self.holding, before.holding, after.holding),
            (&mut self.streaming, before.streaming, after.streaming),
        ];
        for (list, before, after) in lists {
            if before != after {
                if let Some(place) = before {
                    list.remove(&(place, conn));
                }
                list.extend(after.map(|place| (place, conn)));
            }
        }
        *before = after;
    }

    /// How many sessions are in the lists.
    pub(super) fn len(&self) -> usize {
        self.holding.len().max(self.streaming.len())
    }
}

/// Who makes room for somebody of this standing: nobody better. Users hold much rarely: few are passed over.
pub(super) fn first(list: &BTreeSet<(Place, ConnId)>, standing: TrustLevel) -> Option<ConnId> {
    let mut looked = list.iter().rev().take(LOOKS_MAX);
    let found = looked.find(|(place, _)| place.standing.0 <= standing);
    found.map(|(_, conn)| *conn)
}

/// Sessions that are looked at for one to make room.
pub(super) const LOOKS_MAX: usize = 64;
