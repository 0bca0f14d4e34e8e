//! What is remembered for a time, at most so much of it: what would be forgotten first makes room.
//!
//! Entries are kept in order, not hashed, so that a seed has one history.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Names one entry.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key(u128);

impl Key {
    /// A hash.
    pub(super) const fn of_hash(hash: u64) -> Self {
        Self(hash as u128)
    }

    /// A network of this prefix length, for IPv4 or IPv6 (up to 64), and what of it is meant.
    pub(super) fn of_network(what: u8, address: IpAddr, prefixes: (u8, u8)) -> Self {
        let (bits, prefix) = match address.to_canonical() {
            IpAddr::V4(address) => (u64::from(address.to_bits()) << 32, prefixes.0),
            IpAddr::V6(address) => ((address.to_bits() >> 64) as u64, prefixes.1),
        };
        let behind = u64::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let place = u128::from(what) << 80 | u128::from(prefix) << 64;
        Self(place | u128::from(bits & !behind))
    }

    /// One IPv4 address, or one /64 of IPv6, which is what one customer gets.
    pub(super) fn of_peer(what: u8, address: IpAddr) -> Self {
        Self::of_network(what, address, (32, 64))
    }

    /// The hash, where it is one.
    pub(super) const fn hash(self) -> u64 {
        self.0 as u64
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    /// When it is forgotten, on the clock of its owner.
    pub(super) end: u64,
    /// When it was first made, where that matters.
    pub(super) first: u32,
    /// How often it passed, where that matters.
    pub(super) passes: u8,
}

/// The entries.
#[derive(Debug)]
pub(super) struct Expiring {
    max: usize,
    entries: BTreeMap<Key, Entry>,
    by_end: BTreeSet<(u64, Key)>,
}

impl Expiring {
    /// None, of which there may be `max`.
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            entries: BTreeMap::new(),
            by_end: BTreeSet::new(),
        }
    }

    /// An entry that is not forgotten at `at`.
    pub(super) fn get(&self, key: Key, at: u64) -> Option<Entry> {
        self.entries
            .get(&key)
            .copied()
            .filter(|entry| entry.end > at)
    }

    /// Adds or replaces an entry.
    pub(super) fn put(&mut self, key: Key, entry: Entry) {
        if let Some(before) = self.entries.remove(&key) {
            self.by_end.remove(&(before.end, key));
        }
        while self.entries.len() >= self.max {
            let Some((_, next)) = self.by_end.pop_first() else {
                break;
            };
            self.entries.remove(&next);
        }
        self.entries.insert(key, entry);
        self.by_end.insert((entry.end, key));
    }

    /// Moves the end of an entry `share` later, to `most` at most; gives it.
    pub(super) fn raise(&mut self, key: Key, share: u64, most: u64, at: u64) -> u64 {
        let from = self.get(key, at).map_or(at, |entry| entry.end);
        let end = from.saturating_add(share).min(most);
        self.put(
            key,
            Entry {
                end,
                ..Entry::default()
            },
        );
        end
    }

    /// Forgets what ends by `at`.
    pub(super) fn sweep(&mut self, at: u64) {
        while let Some((end, key)) = self.by_end.first().copied() {
            if end > at {
                break;
            }
            self.by_end.pop_first();
            self.entries.remove(&key);
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, Entry)> {
        self.entries.iter().map(|(key, entry)| (*key, *entry))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.entries.len(), self.by_end.len());
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(end: u64) -> Entry {
        Entry {
            end,
            ..Entry::default()
        }
    }

    #[test]
    fn what_ends_first_makes_room() {
        let mut table = Expiring::new(2);
        let key = Key::of_hash;
        table.put(key(1), entry(30));
        table.put(key(2), entry(10));
        table.put(key(3), entry(20));
        assert_eq!((table.len(), table.get(key(2), 0)), (2, None));
        // Its end moved, it is not in its own way.
        table.put(key(3), entry(40));
        table.put(key(4), entry(35));
        assert_eq!(
            (table.get(key(1), 0), table.get(key(3), 0)),
            (None, Some(entry(40)))
        );
        assert_eq!(table.get(key(4), 35), None);
        table.sweep(35);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn an_end_is_raised_from_now_on_and_to_a_ceiling() {
        let mut table = Expiring::new(9);
        let key = Key::of_hash(1);
        assert_eq!(table.raise(key, 5, 100, 10), 15);
        assert_eq!(table.raise(key, 5, 100, 12), 20);
        assert_eq!(table.raise(key, 5, 100, 30), 35);
        assert_eq!(table.raise(key, 99, 100, 30), 100);
    }

    #[test]
    fn networks_are_told_apart_by_prefix_and_by_what_is_meant() {
        let of = |what, text: &str, prefixes| {
            Key::of_network(what, text.parse().expect("an address"), prefixes)
        };
        assert_eq!(
            of(1, "192.0.2.1", (24, 48)),
            of(1, "::ffff:192.0.2.9", (24, 48))
        );
        assert_eq!(
            of(1, "2001:db8::1", (32, 64)),
            of(1, "2001:db8::ffff:1", (32, 64))
        );
        let keys = [
            of(1, "192.0.2.0", (24, 48)),
            of(2, "192.0.2.0", (24, 48)),
            of(1, "192.0.2.0", (32, 64)),
            of(1, "192.0.3.0", (24, 48)),
            of(1, "2001:db8::", (32, 64)),
            of(1, "2001:db8::", (24, 48)),
            of(1, "2001:db8:0:1::", (32, 64)),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "{at}");
        }
    }
}
