//! A map whose entries expire, with a ceiling and a share for each owner.
//!
//! Each entry belongs to an owner. An owner with as many entries as there are free places replaces its own entry that
//! expires first. When the map is full, the owner with the most entries loses one to an owner without any. Therefore
//! one network fills at most half of a map, and an owner with only a few entries never loses them to others.
//!
//! Entries are ordered, not hashed, so that every run of the simulator with the same seed is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Identifies one entry.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key(u128);

impl Key {
    pub(super) const fn of_hash(hash: u64) -> Self {
        Self(hash as u128)
    }

    /// The key of a name, with the kind of entry.
    pub(super) const fn of_name(what: u8, name: u64) -> Self {
        Self((what as u128) << 80 | name as u128)
    }

    /// The key of a network with this prefix length for IPv4 or IPv6 (up to 64), with the kind of entry.
    pub(super) fn of_network(what: u8, address: IpAddr, prefixes: (u8, u8)) -> Self {
        let (bits, prefix) = match address.to_canonical() {
            IpAddr::V4(address) => (u64::from(address.to_bits()) << 32, prefixes.0),
            IpAddr::V6(address) => ((address.to_bits() >> 64) as u64, prefixes.1),
        };
        let behind = u64::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let place = u128::from(what) << 80 | u128::from(prefix) << 64;
        Self(place | u128::from(bits & !behind))
    }

    /// One IPv4 address, or one /64 of IPv6, which is the network of one customer.
    pub(super) fn of_peer(what: u8, address: IpAddr) -> Self {
        Self::of_network(what, address, (32, 64))
    }

    /// The hash of a key made by [`Key::of_name`].
    pub(super) const fn hash(self) -> u64 {
        self.0 as u64
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    /// When the entry expires, on the clock of the map's user.
    pub(super) end: u64,
    /// When the entry was first made, if its user needs that.
    pub(super) first: u32,
    /// How often it passed, if its user needs that.
    pub(super) passes: u8,
}

/// The owner that is charged for an entry: a network (a /16 of IPv4, a /32 of IPv6), or a login.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Owner(u64);

impl Owner {
    /// The network of an address.
    pub(super) fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits() >> 16)),
            IpAddr::V6(address) => Self(1 << 32 | (address.to_bits() >> 96) as u64),
        }
    }

    /// An owner from its bits in a file.
    pub(super) const fn of_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits to store in a file.
    pub(super) const fn bits(self) -> u64 {
        self.0
    }
}

/// The entries.
#[derive(Debug)]
pub(super) struct TtlMap {
    max: usize,
    entries: BTreeMap<Key, (Owner, Entry)>,
    by_owner: BTreeMap<Owner, BTreeSet<(u64, Key)>>,
    by_count: BTreeSet<(usize, Owner)>,
}

impl TtlMap {
    /// An empty map of at most `max` entries.
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            entries: BTreeMap::new(),
            by_owner: BTreeMap::new(),
            by_count: BTreeSet::new(),
        }
    }

    /// The entry, unless it has expired at `at`.
    pub(super) fn get(&self, key: Key, at: u64) -> Option<Entry> {
        self.entries
            .get(&key)
            .map(|(_, entry)| *entry)
            .filter(|entry| entry.end > at)
    }

    /// Adds or replaces an entry. An owner that has as many as are free, or more, makes room among its own.
    pub(super) fn put(&mut self, owner: Owner, key: Key, entry: Entry) {
        self.remove(key);
        let free = self.max.saturating_sub(self.entries.len());
        let held = self.by_owner.get(&owner).map_or(0, BTreeSet::len);
        if held > 0 && held >= free {
            self.forget_first_of(owner);
        } else if free == 0
            && let Some((_, largest)) = self.by_count.last().copied()
        {
            self.forget_first_of(largest);
        }
        self.entries.insert(key, (owner, entry));
        let own = self.by_owner.entry(owner).or_default();
        let before = own.len();
        own.insert((entry.end, key));
        let now = own.len();
        self.recount(owner, before, now);
    }

    /// Extends an entry by `share`, at most to `most`; returns its new end.
    pub(super) fn raise(&mut self, owner: Owner, key: Key, share: u64, most: u64, at: u64) -> u64 {
        let from = self.get(key, at).map_or(at, |entry| entry.end);
        let end = from.saturating_add(share).min(most);
        self.put(
            owner,
            key,
            Entry {
                end,
                ..Entry::default()
            },
        );
        end
    }

    /// Shortens an entry by `share`, or removes it; returns whether there was one.
    pub(super) fn lower(&mut self, key: Key, share: u64, at: u64) -> bool {
        let Some((owner, entry)) = self.entries.get(&key).copied() else {
            return false;
        };
        let is_live = entry.end > at;
        let end = entry.end.saturating_sub(share);
        if end > at {
            self.put(owner, key, Entry { end, ..entry });
        } else {
            self.remove(key);
        }
        is_live
    }

    /// Removes entries that end by `at`.
    pub(super) fn sweep(&mut self, at: u64) {
        let due: Vec<Key> = (self.by_owner.values())
            .flat_map(|own| own.iter().take_while(|(end, _)| *end <= at))
            .map(|(_, key)| *key)
            .collect();
        for key in due {
            self.remove(key);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Owner, Key, Entry)> {
        (self.entries.iter()).map(|(key, (owner, entry))| (*owner, *key, *entry))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets an entry.
    pub(super) fn remove(&mut self, key: Key) {
        let Some((owner, entry)) = self.entries.remove(&key) else {
            return;
        };
        let Some(own) = self.by_owner.get_mut(&owner) else {
            return;
        };
        let before = own.len();
        own.remove(&(entry.end, key));
        let now = own.len();
        if now == 0 {
            self.by_owner.remove(&owner);
        }
        self.recount(owner, before, now);
    }

    fn forget_first_of(&mut self, owner: Owner) {
        let first = self.by_owner.get(&owner).and_then(BTreeSet::first);
        if let Some((_, key)) = first.copied() {
            self.remove(key);
        }
    }

    fn recount(&mut self, owner: Owner, before: usize, now: usize) {
        self.by_count.remove(&(before, owner));
        if now > 0 {
            self.by_count.insert((now, owner));
        }
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

    const ONE: Owner = Owner::of_bits(1);

    #[test]
    fn what_ends_first_makes_room_among_what_is_its_owners() {
        let mut table = TtlMap::new(4);
        let key = Key::of_hash;
        table.put(ONE, key(1), entry(30));
        table.put(ONE, key(2), entry(10));
        table.put(ONE, key(3), entry(20));
        assert_eq!((table.len(), table.get(key(2), 0)), (2, None));
        // Its end moved, it is not in its own way.
        table.put(ONE, key(3), entry(40));
        table.put(ONE, key(4), entry(35));
        assert_eq!(
            (table.get(key(1), 0), table.get(key(3), 0)),
            (None, Some(entry(40)))
        );
        assert_eq!(table.get(key(4), 35), None);
        table.sweep(35);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn no_number_of_owners_drives_out_one_that_has_a_single_entry() {
        let mut table = TtlMap::new(100);
        let honest = Key::of_hash(u64::MAX);
        table.put(ONE, honest, entry(1));
        for number in 0..10_000 {
            let owner = Owner::of_bits(2 + number % 40);
            table.put(owner, Key::of_hash(number), entry(1_000 + number));
            assert!(table.len() <= 100);
        }
        assert_eq!(table.get(honest, 0), Some(entry(1)));
        // And the one that comes to a full table gets in.
        let late = Owner::of_bits(1_000);
        table.put(late, Key::of_hash(u64::MAX - 1), entry(5));
        assert!(table.get(Key::of_hash(u64::MAX - 1), 0).is_some());
        table.sweep(u64::MAX);
        assert!(table.by_owner.is_empty() && table.by_count.is_empty());
    }

    #[test]
    fn an_end_is_raised_from_now_on_and_to_a_ceiling() {
        let mut table = TtlMap::new(9);
        let key = Key::of_hash(1);
        assert_eq!(table.raise(ONE, key, 5, 100, 10), 15);
        assert_eq!(table.raise(ONE, key, 5, 100, 12), 20);
        assert_eq!(table.raise(ONE, key, 5, 100, 30), 35);
        assert_eq!(table.raise(ONE, key, 99, 100, 30), 100);
        assert!(table.lower(key, 60, 30));
        assert_eq!(table.get(key, 30), Some(entry(40)));
        assert!(table.lower(key, 10, 30) && !table.lower(key, 10, 30));
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
