//! Limits over time: sessions and failed AUTH by client address, messages by user and by local uid.
//!
//! An address is one IPv4 address or one IPv6 /64, which a provider assigns to one customer. Every table has a ceiling.
//! Each network has a share of the table of failures, so that an attacker with many addresses cannot displace other
//! counts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::shares;
use super::ttl_map::{Entry, Key, Owner, TtlMap};
use crate::address::Mailbox;
use crate::clock::Instant;
use crate::config::Network;
use crate::limits::{
    AUTH_FAILURE_ENTRIES_MAX, AUTH_FAILURE_WINDOW, AUTH_FAILURES_PER_PEER_MAX,
    AUTH_FAILURES_PER_SITE_MAX, KNOWN_ADDRESS_LIFETIME, KNOWN_ADDRESSES_MAX,
    PEER_TABLE_ENTRIES_MAX, UIDS_COUNTED_MAX,
};

/// A session among those of its address, until it is dropped.
#[derive(Debug)]
pub struct OpenSession {
    all: Rc<RefCell<HashMap<Network, usize>>>,
    peer: Network,
}

/// Sessions and failures of AUTH by address.
#[derive(Debug)]
pub struct Peers {
    /// Open sessions by address.
    sessions: Rc<RefCell<HashMap<Network, usize>>>,
    /// Until when the failures of an address count. Each failure adds its share of the window, so the remaining time
    /// gives their number.
    failed: TtlMap,
    /// Addresses with a successful login, charged to the login.
    known: TtlMap,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            sessions: Rc::default(),
            failed: TtlMap::new(AUTH_FAILURE_ENTRIES_MAX),
            known: TtlMap::new(KNOWN_ADDRESSES_MAX),
        }
    }
}

impl Peers {
    /// Counts a session; returns `None` (and counts nothing) if the address has `max` already.
    pub fn open(&self, address: IpAddr, max: usize) -> Option<OpenSession> {
        let peer = peer_of(address);
        let mut sessions = self.sessions.borrow_mut();
        let open = sessions.get(&peer).copied().unwrap_or(0);
        let is_full = open == 0 && sessions.len() >= PEER_TABLE_ENTRIES_MAX;
        if open >= max || is_full {
            return None;
        }
        sessions.insert(peer, open.saturating_add(1));
        Some(OpenSession {
            all: Rc::clone(&self.sessions),
            peer,
        })
    }

    /// Whether AUTH from this address is refused without a check: the address has failed too often, or no login has
    /// succeeded from it and its site (a /24 of IPv4, a /48 of IPv6), which one attacker may own, has failed too often.
    pub fn is_locked(&self, address: IpAddr, now: Instant) -> bool {
        self.failures(address, now) >= AUTH_FAILURES_PER_PEER_MAX
            || !self.is_known(address, now)
                && self.failures_of(Counted::Site, address, now) >= AUTH_FAILURES_PER_SITE_MAX
    }

    /// Counts a failure of AUTH, and returns the number of failures. A success does not reset the count, because the
    /// owner of one account could otherwise guess passwords of others without limit.
    pub fn failed(&mut self, address: IpAddr, now: Instant) -> u32 {
        let most = now.after(AUTH_FAILURE_WINDOW).as_millis();
        let owner = Owner::of_address(address);
        for counted in [Counted::Site, Counted::Address] {
            let (key, share) = (counted.key(address), counted.share());
            self.failed.raise(owner, key, share, most, now.as_millis());
        }
        self.failures(address, now)
    }

    /// Failures of AUTH that count against an address.
    pub fn failures(&self, address: IpAddr, now: Instant) -> u32 {
        self.failures_of(Counted::Address, address, now)
    }

    fn failures_of(&self, counted: Counted, address: IpAddr, now: Instant) -> u32 {
        self.count(counted.key(address), counted.share(), now)
    }

    fn count(&self, key: Key, share: u64, now: Instant) -> u32 {
        let Some(entry) = self.failed.get(key, now.as_millis()) else {
            return 0;
        };
        let left = entry.end.saturating_sub(now.as_millis());
        u32::try_from(left.div_ceil(share)).unwrap_or(u32::MAX)
    }

    /// Records a successful login, which makes the address a known one.
    pub fn succeeded(&mut self, address: IpAddr, login: &Mailbox, now: Instant) {
        let end = now.after(KNOWN_ADDRESS_LIFETIME).as_millis();
        let entry = Entry {
            end,
            ..Entry::default()
        };
        let owner = Owner::of_bits(shares::hash_of(login));
        self.known.put(owner, Key::of_peer(0, address), entry);
        self.known.put(owner, of_user(address, login), entry);
    }

    /// Counts a failure of AUTH for a login that has succeeded from this address before; [`Self::failed`] counts it
    /// too.
    pub fn failed_as(&mut self, address: IpAddr, login: &Mailbox, now: Instant) {
        let key = of_user(address, login);
        if self.known.get(key, now.as_millis()).is_some() {
            let most = now.after(AUTH_FAILURE_WINDOW).as_millis();
            let (owner, share) = (Owner::of_address(address), Counted::Address.share());
            self.failed.raise(owner, key, share, most, now.as_millis());
        }
    }

    /// Whether AUTH for this login is refused without a check. A locked address does not lock out logins that have
    /// succeeded from it before, because many people may share the address. Each of those logins is locked by its own
    /// failures.
    pub fn is_locked_for(&self, address: IpAddr, login: Option<&Mailbox>, now: Instant) -> bool {
        let Some(login) = login.filter(|_| self.is_locked(address, now)) else {
            return self.is_locked(address, now);
        };
        let key = of_user(address, login);
        let is_known = self.known.get(key, now.as_millis()).is_some();
        !is_known || self.count(key, Counted::Address.share(), now) >= AUTH_FAILURES_PER_PEER_MAX
    }

    /// Whether a login has succeeded from an address before.
    pub fn is_known(&self, address: IpAddr, now: Instant) -> bool {
        let key = Key::of_peer(0, address);
        self.known.get(key, now.as_millis()).is_some()
    }

    /// The numbers of entries: failures, and known addresses.
    pub fn counts(&self) -> (usize, usize) {
        (self.failed.len(), self.known.len())
    }

    /// Forgets failures that no longer count, and known addresses that have expired.
    pub fn sweep(&mut self, now: Instant) {
        self.failed.sweep(now.as_millis());
        self.known.sweep(now.as_millis());
    }
}

fn of_user(address: IpAddr, login: &Mailbox) -> Key {
    let place = Key::of_peer(0, address).hash();
    Key::of_name(
        2,
        shares::hash_of(login).wrapping_add(place.wrapping_mul(ODD)),
    )
}

/// Spreads the bits of an address (2^64 divided by the golden ratio).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The scope in which failures of AUTH are counted.
#[derive(Clone, Copy, Debug)]
enum Counted {
    Address,
    Site,
}

impl Counted {
    fn key(self, address: IpAddr) -> Key {
        match self {
            Self::Address => Key::of_peer(0, address),
            Self::Site => Key::of_network(1, address, (24, 48)),
        }
    }

    /// The part of the window, in milliseconds, that one failure adds to the end of the count.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "both ceilings are constants, and not zero"
    )]
    const fn share(self) -> u64 {
        let most = match self {
            Self::Address => AUTH_FAILURES_PER_PEER_MAX,
            Self::Site => AUTH_FAILURES_PER_SITE_MAX,
        };
        AUTH_FAILURE_WINDOW.as_secs() * 1_000 / most as u64
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        let mut all = self.all.borrow_mut();
        match all.get_mut(&self.peer) {
            Some(open) if *open > 1 => *open = open.saturating_sub(1),
            _ => drop(all.remove(&self.peer)),
        }
    }
}

/// The submitter that a message is counted for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Submitter {
    /// A user, by the login however it is spelled.
    User(String),
    /// The processes of a local uid that has an account.
    Uid(u32),
    /// The processes of all other local uids together: an account with a range of uids has one more count for the whole
    /// range, not one for each uid.
    OtherUids,
}

impl Submitter {
    /// The user who has logged in, from any address.
    pub fn user(login: &Mailbox) -> Self {
        Self::User(format!("{}@{}", login.local_key(), login.domain()))
    }
}

/// A counted message: [`Users::give_back`] uncounts it if it is not accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CountedMessage {
    who: Submitter,
    at: Instant,
}

/// Messages by user and by local uid within the last hour, in slots of ten minutes.
#[derive(Debug, Default)]
pub struct Users {
    /// Only configured logins occur, so this is at most as large as the configuration.
    by_login: HashMap<String, Sent>,
    /// Uids with an account, and one count for all others. The ceiling holds even if the machine has more accounts.
    by_uid: HashMap<u32, Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    /// The slot of the last message, counted from the start.
    last: u64,
    counts: [u32; SLOTS],
}

impl Users {
    /// Whether a submitter may submit a message, if `per_hour` are allowed (0: no limit).
    pub fn may_send(&mut self, who: &Submitter, per_hour: u32, now: Instant) -> bool {
        if per_hour == 0 {
            return true;
        }
        match self.counted(who) {
            None => true,
            Some(sent) => {
                sent.turn_to(slot_of(now));
                sent.sum() < per_hour
            }
        }
    }

    /// Counts a message of a submitter; [`Users::give_back`] takes the returned value if the message is not accepted.
    pub fn sent(&mut self, who: Submitter, now: Instant) -> CountedMessage {
        if self.by_uid.len() >= UIDS_COUNTED_MAX {
            self.sweep(now);
        }
        let sent = match &who {
            Submitter::User(login) => self.by_login.entry(login.clone()).or_default(),
            Submitter::Uid(uid) => {
                let uid = self.counted_as(*uid);
                self.by_uid.entry(uid).or_default()
            }
            Submitter::OtherUids => self.by_uid.entry(OTHER_UIDS).or_default(),
        };
        let slot = slot_of(now);
        sent.turn_to(slot);
        if let Some(count) = sent.counts.get_mut(index_of(slot)) {
            *count = count.saturating_add(1);
        }
        CountedMessage { who, at: now }
    }

    /// Uncounts a message that was not accepted.
    pub fn give_back(&mut self, claim: &CountedMessage) {
        let slot = slot_of(claim.at);
        if let Some(sent) = self.counted(&claim.who)
            && sent.has_slot(slot)
            && let Some(count) = sent.counts.get_mut(index_of(slot))
        {
            *count = count.saturating_sub(1);
        }
    }

    /// Forgets submitters without messages for an hour.
    pub fn sweep(&mut self, now: Instant) {
        let slot = slot_of(now);
        let has_sent = |sent: &mut Sent| {
            sent.turn_to(slot);
            sent.sum() > 0
        };
        self.by_login.retain(|_, sent| has_sent(sent));
        self.by_uid.retain(|_, sent| has_sent(sent));
    }

    /// Entries of the tables: users, and local uids.
    pub fn counts(&self) -> (usize, usize) {
        (self.by_login.len(), self.by_uid.len())
    }

    fn counted(&mut self, who: &Submitter) -> Option<&mut Sent> {
        match who {
            Submitter::User(login) => self.by_login.get_mut(login),
            Submitter::Uid(uid) => {
                let uid = self.counted_as(*uid);
                self.by_uid.get_mut(&uid)
            }
            Submitter::OtherUids => self.by_uid.get_mut(&OTHER_UIDS),
        }
    }

    /// The uid that a message of `uid` counts for.
    fn counted_as(&self, uid: u32) -> u32 {
        match self.by_uid.contains_key(&uid) || self.by_uid.len() < UIDS_COUNTED_MAX {
            true => uid,
            false => OTHER_UIDS,
        }
    }
}

impl Sent {
    /// Empties the slots between the last message and now.
    fn turn_to(&mut self, slot: u64) {
        let steps = slot.saturating_sub(self.last).min(SLOTS as u64);
        for step in 0..steps {
            if let Some(count) = self.counts.get_mut(index_of(slot.saturating_sub(step))) {
                *count = 0;
            }
        }
        self.last = self.last.max(slot);
    }

    /// Whether the count in a slot is still valid: the slot has not been reused.
    const fn has_slot(&self, slot: u64) -> bool {
        slot <= self.last && self.last.saturating_sub(slot) < SLOTS as u64
    }

    fn sum(&self) -> u32 {
        self.counts.iter().copied().fold(0, u32::saturating_add)
    }
}

/// The prefix that counts as one address.
fn peer_of(address: IpAddr) -> Network {
    let address = address.to_canonical();
    let prefix = if address.is_ipv4() { 32 } else { 64 };
    Network::of(address, prefix)
}

fn slot_of(now: Instant) -> u64 {
    // The first slots stay free, so that a table that was just made is empty.
    (now.as_millis() / SLOT_MS).saturating_add(SLOTS as u64)
}

#[expect(clippy::arithmetic_side_effects, reason = "there are slots")]
fn index_of(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or(0)
}

const SLOTS: usize = 6;
/// Not a valid uid: chown uses it for "unchanged".
const OTHER_UIDS: u32 = u32::MAX;
const SLOT_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn user(login: &str) -> Submitter {
        Submitter::user(&Mailbox::parse(login).expect("a mailbox"))
    }

    #[test]
    fn sessions_are_counted_by_address_and_by_64_of_ipv6() {
        let peers = Peers::default();
        let (one, same, other): (IpAddr, IpAddr, IpAddr) = (
            "2001:db8::1".parse().expect("an address"),
            "2001:db8::ffff:1".parse().expect("an address"),
            "2001:db8:0:1::1".parse().expect("an address"),
        );
        let [first, second] = [one, same].map(|address| peers.open(address, 2));
        assert!(first.is_some() && second.is_some() && peers.open(one, 2).is_none());
        assert!(peers.open(other, 2).is_some());
        drop(second);
        let third = peers.open(one, 2);
        assert!(third.is_some() && peers.open(same, 2).is_none());
        let mapped = "::ffff:0.0.0.9".parse().expect("an address");
        let mapped_and_not = [v4(9), mapped].map(|address| peers.open(address, 1).is_some());
        assert_eq!(mapped_and_not, [true, true]);
        let kept = peers.open(v4(9), 1);
        assert!(kept.is_some() && peers.open(mapped, 1).is_none());
        drop((first, third, kept));
        assert!(peers.sessions.borrow().is_empty());
        assert!(peers.open(one, 0).is_none() && peers.sessions.borrow().is_empty());
    }

    #[test]
    fn failures_lock_an_address_and_are_forgotten_one_by_one() {
        let mut peers = Peers::default();
        for failures in 1..=AUTH_FAILURES_PER_PEER_MAX {
            assert!(!peers.is_locked(v4(1), at(0)));
            assert_eq!(peers.failed(v4(1), at(0)), failures);
        }
        assert!(peers.is_locked(v4(1), at(44)) && !peers.is_locked(v4(2), at(0)));
        peers.failed(v4(1), at(0));
        assert_eq!(peers.failures(v4(1), at(0)), AUTH_FAILURES_PER_PEER_MAX);
        assert!(!peers.is_locked(v4(1), at(45)));
        assert_eq!(peers.failures(v4(1), at(900)), 0);
        peers.sweep(at(899));
        assert_eq!(peers.failed.len(), 1);
        peers.sweep(at(900));
        assert_eq!(peers.failed.len(), 0);
    }

    #[test]
    fn a_site_that_guesses_from_many_addresses_waits_but_for_who_has_logged_in() {
        let mut peers = Peers::default();
        let at_home = |host: u32| -> IpAddr {
            let text = format!("2001:db8:1:{host:x}::1");
            text.parse().expect("an address")
        };
        let login = Mailbox::parse("u@us.example").expect("a mailbox");
        peers.succeeded(at_home(7), &login, at(0));
        for host in 0..AUTH_FAILURES_PER_SITE_MAX {
            assert!(!peers.is_locked(at_home(host), at(0)), "{host}");
            peers.failed(at_home(host), at(0));
        }
        assert!(peers.is_locked(at_home(60_000), at(0)));
        assert!(!peers.is_locked(at_home(7), at(0)));
        let elsewhere = "2001:db8:2::1".parse().expect("an address");
        assert!(!peers.is_locked(elsewhere, at(0)));
        assert!(!peers.is_locked(at_home(60_000), at(12)));
    }

    #[test]
    fn a_flood_of_addresses_does_not_wash_out_a_count() {
        let mut peers = Peers::default();
        for _ in 0..3 {
            peers.failed(v4(1), at(0));
        }
        let flood = u32::try_from(PEER_TABLE_ENTRIES_MAX * 2).expect("small");
        for number in 2..flood {
            peers.failed(v4(number), at(1));
        }
        assert!(peers.failed.len() > AUTH_FAILURE_ENTRIES_MAX / 2);
        assert!(peers.failed.len() <= AUTH_FAILURE_ENTRIES_MAX);
        assert_eq!(peers.failures(v4(1), at(1)), 3);
    }

    #[test]
    fn messages_are_counted_over_the_last_hour() {
        let mut users = Users::default();
        let (ann, same) = (user("Ann@example.com"), user("ann@EXAMPLE.com"));
        let bob = user("bob@example.com");
        for _ in 0..10 {
            assert!(users.may_send(&ann, 10, at(5)));
            users.sent(ann.clone(), at(5));
        }
        assert!(!users.may_send(&same, 10, at(3_000)));
        assert!(users.may_send(&same, 11, at(3_000)) && users.may_send(&same, 0, at(3_000)));
        assert!(users.may_send(&bob, 1, at(3_000)));
        assert!(users.may_send(&ann, 10, at(3_600)));
        users.sweep(at(3_600));
        assert_eq!(users.counts(), (0, 0));
    }

    #[test]
    fn messages_leave_the_count_as_they_age() {
        let mut users = Users::default();
        let ann = user("ann@example.com");
        for minute in 0..59 {
            users.sent(ann.clone(), at(minute * 60));
        }
        let last = users.sent(ann.clone(), at(59 * 60));
        assert!(!users.may_send(&ann, 60, at(3_599)));
        users.give_back(&last);
        assert!(users.may_send(&ann, 60, at(3_599)));
        users.sent(ann.clone(), at(3_599));
        assert!(users.may_send(&ann, 51, at(3_600)));
        assert!(!users.may_send(&ann, 50, at(3_600)));
        assert!(users.may_send(&ann, 1, at(40_000)));
    }

    #[test]
    fn what_is_given_back_late_is_taken_from_no_other_count() {
        let mut users = Users::default();
        let ann = user("ann@example.com");
        let old = users.sent(ann.clone(), at(5));
        for _ in 0..3 {
            users.sent(ann.clone(), at(3_700));
        }
        // Its slot is that of the new ones by now.
        users.give_back(&old);
        assert!(!users.may_send(&ann, 3, at(3_700)));
    }

    #[test]
    fn however_many_uids_a_process_takes_on_the_table_is_bounded_and_they_are_counted() {
        let mut users = Users::default();
        let uid = |number: usize| Submitter::Uid(u32::try_from(number).expect("small"));
        let first = users.sent(uid(7), at(1));
        for number in 1_000..1_000 + 2 * UIDS_COUNTED_MAX {
            users.sent(uid(number), at(1));
        }
        assert_eq!(users.counts(), (0, UIDS_COUNTED_MAX + 1));
        assert!(!users.may_send(&uid(999_999), 100, at(2)));
        assert!(!users.may_send(&uid(7), 1, at(2)));
        users.give_back(&first);
        assert!(users.may_send(&uid(7), 1, at(2)));
        assert!(users.may_send(&user("ann@example.com"), 1, at(2)));
    }
}
