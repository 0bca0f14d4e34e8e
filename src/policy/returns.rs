//! Counts the uses of each SRS return address. Uses are limited: otherwise anyone who learns such an address could
//! write to the sender behind it for as long as it is valid.
//!
//! A use is taken before the message is stored, so that concurrent sessions get no more uses than consecutive ones, and
//! given back if the message is not stored. The addresses themselves are not kept: each is represented by an id that a
//! client cannot choose ([`crate::auth::srs::Returned`]).
//!
//! The table has a ceiling. When it is full, the client network with the most entries makes room, with the address that
//! it used least. An entry is therefore never removed for a network that has more entries, and an address without uses
//! left is removed last. Invariant: an address in the table is used at most [`RETURN_USES_MAX`] times during its
//! validity.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::ttl_map::Key;
use crate::clock::Instant;
use crate::limits::{RETURN_TABLE_ENTRIES_MAX, RETURN_USES_MAX, SRS_DAYS_MAX};

/// The uses of all return addresses.
#[derive(Debug, Default)]
pub struct Returns {
    entries: BTreeMap<u64, Uses>,
    /// By the end of their validity.
    by_end: BTreeSet<(Instant, u64)>,
    /// The addresses of each network: the least used first, among equals the oldest.
    by_network: BTreeMap<Key, BTreeSet<(u32, Instant, u64)>>,
    /// The networks by their number of addresses.
    by_size: BTreeSet<(usize, Key)>,
}

#[derive(Clone, Copy, Debug)]
struct Uses {
    count: u32,
    /// When its validity ends.
    end: Instant,
    /// The network that used it first.
    network: Key,
}

impl Returns {
    /// Whether an address has no uses left.
    pub fn is_spent(&self, id: u64, now: Instant) -> bool {
        self.count(id, now) >= RETURN_USES_MAX
    }

    /// Takes one use of an address for a client; false if it has none left.
    pub fn take(&mut self, id: u64, client: IpAddr, now: Instant) -> bool {
        if self.is_spent(id, now) {
            return false;
        }
        let before = self.remove(id).filter(|uses| uses.end > now);
        let uses = before.unwrap_or_else(|| Uses {
            count: 0,
            end: now.after(LIFETIME),
            network: Key::of_network(0, client, NETWORK),
        });
        while self.entries.len() >= RETURN_TABLE_ENTRIES_MAX {
            let Some(id) = self.next_to_go() else { break };
            self.remove(id);
        }
        let count = uses.count.saturating_add(1);
        self.insert(id, Uses { count, ..uses });
        true
    }

    /// Gives a use back.
    pub fn give_back(&mut self, id: u64) {
        if let Some(uses) = self.remove(id)
            && uses.count > 1
        {
            let count = uses.count.saturating_sub(1);
            self.insert(id, Uses { count, ..uses });
        }
    }

    /// Forgets expired addresses.
    pub fn sweep(&mut self, now: Instant) {
        while let Some((end, id)) = self.by_end.first().copied()
            && end <= now
        {
            self.remove(id);
        }
    }

    /// How many addresses are counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn count(&self, id: u64, now: Instant) -> u32 {
        let uses = self.entries.get(&id).filter(|uses| uses.end > now);
        uses.map_or(0, |uses| uses.count)
    }

    /// The address to forget when room is needed.
    fn next_to_go(&self) -> Option<u64> {
        let (_, network) = self.by_size.last()?;
        let (_, _, id) = self.by_network.get(network)?.first()?;
        Some(*id)
    }

    fn insert(&mut self, id: u64, uses: Uses) {
        self.entries.insert(id, uses);
        self.by_end.insert((uses.end, id));
        let held = self.by_network.entry(uses.network).or_default();
        self.by_size.remove(&(held.len(), uses.network));
        held.insert((uses.count, uses.end, id));
        self.by_size.insert((held.len(), uses.network));
    }

    fn remove(&mut self, id: u64) -> Option<Uses> {
        let uses = self.entries.remove(&id)?;
        self.by_end.remove(&(uses.end, id));
        if let Some(held) = self.by_network.get_mut(&uses.network) {
            self.by_size.remove(&(held.len(), uses.network));
            held.remove(&(uses.count, uses.end, id));
            match held.len() {
                0 => drop(self.by_network.remove(&uses.network)),
                left => drop(self.by_size.insert((left, uses.network))),
            }
        }
        Some(uses)
    }
}

/// Longer than any address is valid: its days, the day on which it was made, and the day before.
const LIFETIME: Duration = Duration::from_secs((SRS_DAYS_MAX + 2) * 86_400);

/// The network of one site.
const NETWORK: (u8, u8) = (24, 48);

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> IpAddr {
        IpAddr::V4((0xC600_0000 + number).into())
    }

    fn day(day: u64) -> Instant {
        Instant::from_millis(day * 86_400_000)
    }

    #[test]
    fn an_address_is_used_a_bounded_number_of_times_in_its_days() {
        let mut returns = Returns::default();
        for number in 0..RETURN_USES_MAX {
            // Whoever comes with it, and however slowly.
            assert!(returns.take(1, client(number << 8), day(u64::from(number) % 22)));
        }
        assert!(!returns.take(1, client(0), day(22)));
        assert!(returns.is_spent(1, day(22)) && !returns.is_spent(2, day(22)));
        assert!(returns.take(2, client(0), day(22)));
        returns.sweep(day(23));
        assert_eq!(returns.len(), 1, "its days are over");
    }

    #[test]
    fn a_use_that_came_to_nothing_is_given_back() {
        let mut returns = Returns::default();
        for _ in 0..RETURN_USES_MAX {
            assert!(returns.take(1, client(0), day(0)));
        }
        returns.give_back(1);
        assert!(returns.take(1, client(0), day(0)) && !returns.take(1, client(0), day(0)));
        assert!(returns.take(2, client(0), day(0)));
        returns.give_back(2);
        returns.give_back(3);
        assert_eq!(returns.len(), 1);
    }

    #[test]
    fn a_network_that_fills_the_table_forgets_its_own() {
        let mut returns = Returns::default();
        let most = RETURN_TABLE_ENTRIES_MAX as u64;
        let honest = client(9 << 8);
        for _ in 0..RETURN_USES_MAX {
            returns.take(1, honest, day(0));
        }
        returns.take(2, honest, day(0));
        // One address of its own is used up, the others are used once.
        for _ in 0..RETURN_USES_MAX {
            returns.take(10, client(0), day(1));
        }
        for id in 11..most + 5_000 {
            assert!(returns.take(id, client(id as u32 & 0xFF), day(1)));
        }
        assert_eq!(returns.len(), RETURN_TABLE_ENTRIES_MAX);
        assert!(returns.is_spent(1, day(1)) && returns.is_spent(10, day(1)));
        assert_eq!(returns.count(2, day(1)), 1);
        // So going round among more addresses than there is room for wins no use of one that is spent.
        assert!(!returns.take(10, client(0), day(1)));
        returns.sweep(day(30));
        assert!(returns.is_empty() && returns.by_network.is_empty());
        assert!(returns.by_size.is_empty() && returns.by_end.is_empty());
    }

    #[test]
    fn many_networks_do_not_push_out_one_that_holds_less() {
        let mut returns = Returns::default();
        returns.take(1, client(0xFFFF << 8), day(0));
        for id in 10..RETURN_TABLE_ENTRIES_MAX as u64 * 2 {
            returns.take(id, client((id as u32 & 0xFF) << 8), day(0));
        }
        assert_eq!(returns.count(1, day(0)), 1);
        assert_eq!(returns.len(), RETURN_TABLE_ENTRIES_MAX);
    }
}
