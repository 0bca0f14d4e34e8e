//! Connections: who has which id, and what each participant keeps of its own.
//!
//! Ids are small numbers that are used again under a new generation, so that the shell can index its tables by them.
//! There is one table of ids, [`Connections`], and one table of sessions a participant, [`Sessions`]: nobody can take the
//! session of another, and an id that is dead is found in neither.

use super::event::{ConnId, Lost, TlsSession};
use crate::clock::Instant;
use crate::dns::{Answer, Question};
use crate::queue::{ReadContent, ReadError};

/// What happens to a connection; its owner is told.
#[derive(Debug)]
pub(super) enum ConnEvent<'a> {
    /// It stands.
    Connected,
    /// Bytes came in.
    Bytes(&'a [u8]),
    /// All output is with the kernel.
    Drained,
    /// It is gone.
    Closed(Lost),
    /// The handshake is done.
    TlsReady(TlsSession),
    /// What was to be read was read.
    Read(Result<ReadContent, ReadError>),
    /// A file of the state was read, if it could be.
    Kept(Option<Vec<u8>>),
    /// The DNS has answered.
    Answer(&'a Question, &'a Answer),
    /// A timer that was set for this time has fired.
    Timeout(Instant),
    /// The daemon stops.
    Stop,
}

/// Which participant a connection belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    /// SMTP server sessions.
    Server,
    /// Questions to the hook.
    Hook,
    /// Delivery sessions.
    Delivery,
    /// Tools at the control socket.
    Control,
    /// Readers of a page.
    Page,
}

/// The ids in use, each with its owner.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    owner: Option<Owner>,
}

impl Connections {
    /// A table that does not move until it has this many.
    pub(super) fn with_capacity(connections: usize) -> Self {
        Self {
            slots: Vec::with_capacity(connections),
            free: Vec::with_capacity(connections),
        }
    }

    /// How many ids are in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new id.
    pub(super) fn reserve(&mut self, owner: Owner) -> ConnId {
        if let Some(slot) = self.free.pop()
            && let Some(entry) = self.slots.get_mut(slot as usize)
        {
            entry.generation = entry.generation.wrapping_add(1);
            entry.owner = Some(owner);
            return ConnId {
                slot,
                generation: entry.generation,
            };
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot {
            generation: 0,
            owner: Some(owner),
        });
        ConnId {
            slot,
            generation: 0,
        }
    }

    /// Frees an id; it may be free already.
    pub(super) fn release(&mut self, id: ConnId) {
        if let Some(slot) = self.slots.get_mut(id.slot as usize)
            && slot.generation == id.generation
            && slot.owner.take().is_some()
        {
            self.free.push(id.slot);
        }
    }

    /// Whose a connection is; `None` where the id is dead.
    pub(super) fn owner(&self, id: ConnId) -> Option<Owner> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.owner.filter(|_| slot.generation == id.generation)
    }

    /// Whether an id is in use.
    pub(super) fn is_live(&self, id: ConnId) -> bool {
        self.owner(id).is_some()
    }

    /// The ids in use, in the order of their slots.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let slots = (0..).zip(&self.slots);
        let live = slots.filter(|(_, slot)| slot.owner.is_some());
        live.map(|(at, slot)| ConnId {
            slot: at,
            generation: slot.generation,
        })
        .collect()
    }
}

/// The sessions of one participant. One that is taken out to be worked on is not there until it is put back.
#[derive(Debug)]
pub(super) struct Sessions<T> {
    /// By slot, with the generation of the id.
    slots: Vec<Option<(u32, T)>>,
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

impl<T> Sessions<T> {
    /// Takes one out to work on it.
    pub(super) fn take(&mut self, id: ConnId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        match slot {
            Some((generation, _)) if *generation == id.generation => {
                slot.take().map(|(_, session)| session)
            }
            _ => None,
        }
    }

    /// Puts one in, or back.
    pub(super) fn put(&mut self, id: ConnId, session: T) {
        let at = id.slot as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at.saturating_add(1), || None);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some((id.generation, session));
        }
    }

    /// Borrows one.
    pub(super) fn get(&self, id: ConnId) -> Option<&T> {
        let (generation, session) = self.slots.get(id.slot as usize)?.as_ref()?;
        (*generation == id.generation).then_some(session)
    }

    /// Borrows one mutably.
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let (generation, session) = self.slots.get_mut(id.slot as usize)?.as_mut()?;
        (*generation == id.generation).then_some(session)
    }

    /// Those that nobody is working on, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|(_, session)| session)
    }

    /// Those that are here in so many slots from this one on, round the table; and the slot behind them.
    pub(super) fn some(&self, from: usize, slots: usize) -> (Vec<(ConnId, &T)>, usize) {
        let all = self.slots.len();
        let from = if from < all { from } else { 0 };
        let places = (0..all).cycle().skip(from).take(slots.min(all));
        let here = places.filter_map(|at| {
            let (generation, session) = self.slots.get(at)?.as_ref()?;
            let id = ConnId {
                slot: u32::try_from(at).ok()?,
                generation: *generation,
            };
            Some((id, session))
        });
        (here.collect(), from.saturating_add(slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_dead_once_its_slot_is_used_again() {
        let (mut ids, mut table) = (Connections::default(), Sessions::default());
        let first = ids.reserve(Owner::Server);
        table.put(first, 'a');
        assert_eq!(table.take(first), Some('a'));
        ids.release(first);
        ids.release(first);
        let second = ids.reserve(Owner::Control);
        table.put(second, 'b');
        assert_eq!(
            (first.slot, table.get(first), table.get(second)),
            (second.slot, None, Some(&'b'))
        );
        assert_eq!(
            (ids.owner(first), ids.owner(second)),
            (None, Some(Owner::Control))
        );
        ids.release(first);
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn what_is_taken_is_not_there_and_keeps_its_id() {
        let (mut ids, mut table) = (Connections::default(), Sessions::default());
        let id = ids.reserve(Owner::Server);
        table.put(id, 'a');
        assert_eq!(
            (table.take(id), table.take(id), table.get(id)),
            (Some('a'), None, None)
        );
        assert!(ids.is_live(id));
        table.put(id, 'b');
        assert_eq!(table.get(id), Some(&'b'));
    }
}
