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
    /// By the memory that closing them would free.
    pub(super) holding: BTreeSet<(Place, ConnId)>,
    /// By the bytes that they can stream to the disk.
    pub(super) streaming: BTreeSet<(Place, ConnId)>,
}

/// The places of one session in the lists.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Places {
    pub(super) holding: Option<Place>,
    pub(super) streaming: Option<Place>,
}

/// The order in which sessions make room: the greatest goes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) class: u32,
    pub(super) standing: Reverse<TrustLevel>,
    pub(super) since: Reverse<Instant>,
}

impl Place {
    /// The place of a session that has held this many bytes since then; none if that is at most `least`.
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
    /// Sets the places of a session.
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

/// The session that makes room for one of this trust level: never one of a higher level. Users rarely hold much, so few
/// are skipped.
pub(super) fn first(list: &BTreeSet<(Place, ConnId)>, standing: TrustLevel) -> Option<ConnId> {
    let mut looked = list.iter().rev().take(LOOKS_MAX);
    let found = looked.find(|(place, _)| place.standing.0 <= standing);
    found.map(|(_, conn)| *conn)
}

/// Sessions that are examined to find one that makes room.
pub(super) const LOOKS_MAX: usize = 64;
