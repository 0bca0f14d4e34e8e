//! Which connection is closed on a listener that serves only a few unauthenticated clients at a time.
//!
//! Invariant: no client is disconnected for a new one while another site has more connections on this listener. A
//! client with many connections, from many addresses of few sites (a /24 of IPv4, a /48 of IPv6), therefore displaces
//! only its own. Among sites with equally many connections, the address with the most connections loses one: first a
//! connection that has not proved itself yet, then the oldest.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::IpAddr;

use super::shares;
use super::ttl_map::Key;

/// The connections of a listener.
#[derive(Debug)]
pub struct EvictionQueue<T> {
    /// In the order in which they were accepted.
    there: VecDeque<Visitor<T>>,
}

#[derive(Debug)]
struct Visitor<T> {
    who: T,
    place: Option<Place>,
    is_settled: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    client: Key,
    site: Key,
}

impl Place {
    fn of(address: IpAddr) -> Self {
        let [client, site, _] = shares::places(address);
        Self { client, site }
    }
}

impl<T> Default for EvictionQueue<T> {
    fn default() -> Self {
        Self {
            there: VecDeque::new(),
        }
    }
}

impl<T> EvictionQueue<T> {
    /// Adds a connection, with its address if it has one.
    pub fn enter(&mut self, who: T, address: Option<IpAddr>) {
        self.there.push_back(Visitor {
            who,
            place: address.map(Place::of),
            is_settled: false,
        });
    }

    /// Keeps only the connections for which `stays` is true.
    pub fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        self.there.retain(|one| stays(&one.who));
    }

    /// Marks a connection as proved: its client has done something that costs effort.
    pub fn settle(&mut self, is_it: impl Fn(&T) -> bool) {
        for one in &mut self.there {
            one.is_settled |= is_it(&one.who);
        }
    }

    /// The number of connections.
    pub fn len(&self) -> usize {
        self.there.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// The number of connections of this client: an IPv4 address, or a /64 of IPv6.
    pub fn len_of_client(&self, address: IpAddr) -> usize {
        self.of_client(Some(Place::of(address)))
    }

    /// Removes the newest connection and returns it.
    pub fn refuse(&mut self) -> Option<T> {
        self.there.pop_back().map(|one| one.who)
    }

    /// Removes one connection to make room for the newest, and returns it.
    pub fn make_room(&mut self) -> Option<T> {
        let before = self.there.len().saturating_sub(1);
        let others = self.there.iter().enumerate().take(before);
        let (index, _) = others.max_by_key(|(index, one)| {
            let (site, client) = (self.of_site(one.place), self.of_client(one.place));
            (site, client, !one.is_settled, Reverse(*index))
        })?;
        self.there.remove(index).map(|one| one.who)
    }

    fn of_site(&self, place: Option<Place>) -> usize {
        let site = |place: Option<Place>| place.map(|place| place.site);
        let same = self
            .there
            .iter()
            .filter(|one| site(one.place) == site(place));
        same.count()
    }

    fn of_client(&self, place: Option<Place>) -> usize {
        let same = self.there.iter().filter(|one| one.place == place);
        same.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets these in, where there is room for so many, and tells who had to go.
    fn gone(most: usize, addresses: &[&str]) -> Vec<String> {
        let mut connections = EvictionQueue::default();
        let mut gone = Vec::new();
        for address in addresses {
            connections.enter((*address).to_owned(), address.parse().ok());
            if connections.len() > most {
                gone.extend(connections.make_room());
            }
        }
        gone
    }

    #[test]
    fn whoever_has_most_makes_room() {
        assert_eq!(
            gone(
                3,
                &["192.0.2.1", "198.51.100.1", "198.51.100.2", "203.0.113.1"]
            ),
            ["198.51.100.1"]
        );
        assert_eq!(
            gone(
                3,
                &["192.0.2.1", "198.51.100.1", "198.51.100.2", "198.51.100.3"]
            ),
            ["198.51.100.1"]
        );
        // One customer's /60 is one site, and so is any address as its IPv6 form.
        assert_eq!(
            gone(
                3,
                &[
                    "192.0.2.1",
                    "2001:db8:0:1::1",
                    "2001:db8:0:2::1",
                    "2001:db8:0:3::1"
                ]
            ),
            ["2001:db8:0:1::1"]
        );
        assert_eq!(
            gone(2, &["192.0.2.1", "198.51.100.1", "::ffff:198.51.100.2"]),
            ["198.51.100.1"]
        );
        // Of a site the client that has most, though another of it has been there longer.
        assert_eq!(
            gone(3, &["192.0.2.1", "192.0.2.2", "192.0.2.2", "198.51.100.1"]),
            ["192.0.2.2"]
        );
    }

    #[test]
    fn many_clients_of_few_sites_sends_nobody_else_away() {
        let mut connections = EvictionQueue::default();
        connections.enter(0, "192.0.2.1".parse().ok());
        for number in 1..1_000_u32 {
            let site = u8::try_from(number % 9).expect("small");
            let host = u8::try_from(number % 250).expect("small");
            connections.enter(number, Some([10, 0, site, host].into()));
            if connections.len() > 64 {
                assert_ne!(connections.make_room(), Some(0));
            }
        }
        assert_eq!(connections.len(), 64);
        assert_eq!(connections.len_of_client([192, 0, 2, 1].into()), 1);
    }

    #[test]
    fn where_all_have_as_many_those_go_who_have_done_nothing_yet() {
        let mut connections = EvictionQueue::default();
        for number in 0..3_u8 {
            connections.enter(number, Some([10, 0, number, 1].into()));
        }
        connections.settle(|number| *number == 0);
        assert_eq!(connections.make_room(), Some(1));
        connections.enter(3, Some([10, 0, 3, 1].into()));
        assert_eq!(connections.make_room(), Some(2));
        connections.enter(4, Some([10, 0, 4, 1].into()));
        connections.settle(|number| *number == 3);
        // The newest is not sent away for itself.
        assert_eq!(connections.make_room(), Some(0));
        assert_eq!(
            (connections.refuse(), connections.make_room()),
            (Some(4), None)
        );
        connections.retain(|_| false);
        assert!(connections.is_empty());
    }
}
