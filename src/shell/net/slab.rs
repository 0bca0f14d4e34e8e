//! A table with small, reused indices, which serve as tokens of the poll.

/// Values by a small index.
#[derive(Debug)]
pub(in crate::shell) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// An empty table with room for this many values.
    pub(in crate::shell) fn with_capacity(values: usize) -> Self {
        Self {
            slots: Vec::with_capacity(values),
            free: Vec::with_capacity(values),
        }
    }

    /// The index that the next [`Slab::insert`] will return.
    pub(in crate::shell) fn next_key(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    /// Adds a value.
    pub(in crate::shell) fn insert(&mut self, value: T) -> usize {
        let key = self.next_key();
        self.free.pop();
        match self.slots.get_mut(key) {
            Some(slot) => *slot = Some(value),
            None => self.slots.push(Some(value)),
        }
        key
    }

    /// Takes a value out; its index is used again.
    pub(in crate::shell) fn remove(&mut self, key: usize) -> Option<T> {
        let value = self.slots.get_mut(key)?.take()?;
        self.free.push(key);
        Some(value)
    }

    /// Returns a value.
    pub(in crate::shell) fn get(&self, key: usize) -> Option<&T> {
        self.slots.get(key)?.as_ref()
    }

    /// Returns a value for changes.
    pub(in crate::shell) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.slots.get_mut(key)?.as_mut()
    }

    /// How many values there are.
    pub(in crate::shell) fn len(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_key_is_the_one_that_insert_returns() {
        let mut slab = Slab::default();
        for value in 0..3 {
            assert_eq!(slab.next_key(), slab.insert(value));
        }
        assert_eq!(
            (slab.remove(1), slab.remove(1), slab.len()),
            (Some(1), None, 2)
        );
        assert_eq!((slab.next_key(), slab.insert(7)), (1, 1));
        assert_eq!(slab.get(1), Some(&7));
        assert_eq!(slab.get_mut(9), None);
    }
}
