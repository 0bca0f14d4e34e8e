//! The table of connections: slots that are used again under a new generation.

use super::event::ConnId;

/// Connections by their id.
#[derive(Debug)]
pub struct Connections<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    live: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    held: Held<T>,
}

#[derive(Debug)]
enum Held<T> {
    Free,
    /// Its owner is working on it.
    Taken,
    Here(T),
}

impl<T> Default for Connections<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            live: 0,
        }
    }
}

impl<T> Connections<T> {
    /// A table that does not move until it has this many.
    pub fn with_capacity(connections: usize) -> Self {
        Self {
            slots: Vec::with_capacity(connections),
            free: Vec::with_capacity(connections),
            live: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Those that nobody is working on, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match &slot.held {
            Held::Here(value) => Some(value),
            Held::Free | Held::Taken => None,
        })
    }

    /// Adds one.
    pub fn insert(&mut self, value: T) -> ConnId {
        let id = self.reserve();
        self.put(id, value);
        id
    }

    /// An id for a connection that is still being made; [`Connections::put`] fills it.
    pub fn reserve(&mut self) -> ConnId {
        self.live = self.live.saturating_add(1);
        if let Some(slot) = self.free.pop()
            && let Some(entry) = self.slots.get_mut(slot as usize)
        {
            entry.generation = entry.generation.wrapping_add(1);
            entry.held = Held::Taken;
            return ConnId {
                slot,
                generation: entry.generation,
            };
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot {
            generation: 0,
            held: Held::Taken,
        });
        ConnId {
            slot,
            generation: 0,
        }
    }

    /// Takes one out to work on it; its id stays reserved until [`Connections::put`] or [`Connections::remove`].
    pub fn take(&mut self, id: ConnId) -> Option<T> {
        let slot = self.slot_mut(id)?;
        match std::mem::replace(&mut slot.held, Held::Taken) {
            Held::Here(value) => Some(value),
            held => {
                slot.held = held;
                None
            }
        }
    }

    /// Puts back what was taken.
    pub fn put(&mut self, id: ConnId, value: T) {
        if let Some(slot) = self.slot_mut(id) {
            slot.held = Held::Here(value);
        }
    }

    /// Looks at one.
    pub fn get(&self, id: ConnId) -> Option<&T> {
        let slot = self.slots.get(id.slot as usize)?;
        match &slot.held {
            Held::Here(value) if slot.generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// Looks at one, to change it.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        match &mut self.slot_mut(id)?.held {
            Held::Here(value) => Some(value),
            _ => None,
        }
    }

    /// Frees an id, whether its value is here or taken.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        let slot = self.slot_mut(id)?;
        let held = std::mem::replace(&mut slot.held, Held::Free);
        self.free.push(id.slot);
        self.live = self.live.saturating_sub(1);
        match held {
            Held::Here(value) => Some(value),
            _ => None,
        }
    }

    /// Whether an id is in use.
    pub fn is_live(&self, id: ConnId) -> bool {
        self.slots.get(id.slot as usize).is_some_and(|slot| {
            slot.generation == id.generation && !matches!(slot.held, Held::Free)
        })
    }

    /// Those that are here in so many slots from this one on, round the table; and the slot behind them.
    pub fn some(&self, from: usize, slots: usize) -> (Vec<(ConnId, &T)>, usize) {
        let all = self.slots.len();
        let from = if from < all { from } else { 0 };
        let places = (0..all).cycle().skip(from).take(slots.min(all));
        let here = places.filter_map(|at| match self.slots.get(at) {
            Some(Slot {
                generation,
                held: Held::Here(value),
            }) => {
                let slot = u32::try_from(at).ok()?;
                Some((
                    ConnId {
                        slot,
                        generation: *generation,
                    },
                    value,
                ))
            }
            _ => None,
        });
        (here.collect(), from.saturating_add(slots))
    }

    /// The ids in use.
    pub fn ids(&self) -> Vec<ConnId> {
        let live = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !matches!(slot.held, Held::Free));
        live.filter_map(|(at, slot)| {
            Some(ConnId {
                slot: u32::try_from(at).ok()?,
                generation: slot.generation,
            })
        })
        .collect()
    }

    fn slot_mut(&mut self, id: ConnId) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        (slot.generation == id.generation && !matches!(slot.held, Held::Free)).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_dead_once_its_slot_is_used_again() {
        let mut table = Connections::default();
        let first = table.insert('a');
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b');
        assert_eq!(
            (first.slot, table.get(first), table.get(second)),
            (second.slot, None, Some(&'b'))
        );
        assert_eq!((table.remove(first), table.len()), (None, 1));
    }

    #[test]
    fn what_is_taken_keeps_its_id() {
        let mut table = Connections::default();
        let id = table.insert('a');
        assert_eq!(
            (table.take(id), table.take(id), table.get(id)),
            (Some('a'), None, None)
        );
        table.put(id, 'b');
        assert_eq!(table.get(id), Some(&'b'));
    }
}
