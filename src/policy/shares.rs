//! Shares of scarce resources: sessions, memory, DNS questions, key derivations, verifications, and the rest.
//!
//! Each resource is a [`Pool`] of a number of units. Its users are [`Holder`]s with a [`TrustLevel`]. Two rules hold
//! for every pool:
//!
//! - **Reserve.** Each trust level has its own ceiling; the units above it are reserved for higher levels.
//!   Unauthenticated clients of port 25 have [`CLIENT_EIGHTHS`] of a pool, clients of the submission ports that have
//!   not logged in [`VISITOR_EIGHTHS`], addresses from which a user has logged in before [`KNOWN_EIGHTHS`]; users,
//!   local programs and hosts of `relay.networks` have all of it. What higher levels hold does not lower the ceiling of
//!   a lower level.
//! - **Share.** A holder may have at most a part of what is *free* for its level: an address a quarter, a site (a /24
//!   of IPv4, a /48 of IPv6) half, a network (a /16, a /32) as much as is left for all others. One address thus ends at
//!   a fifth of what its level can reach, a site at a third, a network at half, and each further holder reduces the
//!   shares of all (dynamic thresholds; Choudhury and Hahne, 1998). The first unit is always granted while one is free.
//!
//! What a pool hands out is a [`ResourceShare`], which gives its units back when it is dropped: no end of a session, a message or
//! a question can forget to. The pool and its shares use one account in turn, on the thread of the engine.
//!
//! Invariant: a pool never hands out more than its capacity, except by [`Pool::charge`], [`ResourceShare::resize`] and
//! [`ResourceShare::charge_to`], which record what is already in use.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::IpAddr;
use std::rc::Rc;

use super::ttl_map::Key;
use crate::address::Mailbox;
use crate::limits::{
    CLIENT_EIGHTHS, KNOWN_EIGHTHS, SHARE_OF_ADDRESS, SHARE_OF_NETWORK, SHARE_OF_SITE,
    SPILL_EIGHTHS, VISITOR_EIGHTHS, YIELD_EIGHTHS,
};

/// A scarce resource. The manual lists each with its shares (chopar-limits(7)).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Resource {
    /// Server sessions.
    Sessions,
    /// Bytes of buffers whose size a peer decides.
    Memory,
    /// Bytes of unfinished messages on the disk.
    Spool,
    /// DNS questions under way.
    Questions,
    /// Passwords that are derived or wait for it.
    Derivations,
    /// Messages that the hook judges or that wait for it.
    Hooks,
    /// Delivery sessions, by the holder that caused the mail.
    Deliveries,
}

/// How much of a pool is left for a standing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Room {
    /// More than [`SPILL_EIGHTHS`] of the reachable part is free.
    Enough,
    /// Less than that is free.
    Little,
    /// Less than [`YIELD_EIGHTHS`].
    Short,
}

/// The trust in a holder, from the least.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TrustLevel {
    /// An unauthenticated client of port 25, and mail that one caused.
    Client,
    /// A client of a submission port that has not logged in.
    Visitor,
    /// The same, from an address that has logged in before.
    Known,
    /// A user, a program of this machine, a host of `relay.networks`, and their mail.
    Trusted,
}

/// The user of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Holder {
    standing: TrustLevel,
    keys: Keys,
    /// Further names that are charged.
    also: [Option<Key>; 2],
}

/// One of those that take turns: a network, a user, a host of this machine or of `relay.networks`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Lane(Option<Key>);

/// Under which names the use is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keys {
    /// An address, its site, its network.
    Places([Key; 3]),
    /// One name: a login, a uid, a zone.
    Name(Key),
    /// No particular holder.
    None,
}

/// A scarce resource.
#[derive(Debug)]
pub struct Pool(Rc<RefCell<Account>>);

/// Units of a pool that a holder has until this is dropped.
#[derive(Debug)]
pub struct ResourceShare {
    account: Rc<RefCell<Account>>,
    holder: Holder,
    amount: u64,
}

/// The units of each holder.
#[derive(Debug)]
struct Account {
    capacity: u64,
    used: Used,
    held: BTreeMap<Key, u64>,
}

/// All pools.
#[derive(Debug)]
pub struct Shares {
    sessions: Pool,
    memory: Pool,
    spool: Pool,
    questions: Pool,
    derivations: Pool,
    hooks: Pool,
    deliveries: Pool,
}

/// The holder has its share, or nothing is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shortage;

impl Shares {
    /// Pools with these capacities.
    pub fn new(capacity: impl Fn(Resource) -> u64) -> Self {
        let pool = |resource| Pool::new(capacity(resource));
        Self {
            sessions: pool(Resource::Sessions),
            memory: pool(Resource::Memory),
            spool: pool(Resource::Spool),
            questions: pool(Resource::Questions),
            derivations: pool(Resource::Derivations),
            hooks: pool(Resource::Hooks),
            deliveries: pool(Resource::Deliveries),
        }
    }

    /// Changes the capacities.
    pub fn set_capacities(&self, capacity: impl Fn(Resource) -> u64) {
        for resource in Resource::ALL {
            self.of(resource).set_capacity(capacity(resource));
        }
    }

    /// Where units of a resource are taken. A share gives its units back by itself.
    pub const fn of(&self, resource: Resource) -> &Pool {
        match resource {
            Resource::Sessions => &self.sessions,
            Resource::Memory => &self.memory,
            Resource::Spool => &self.spool,
            Resource::Questions => &self.questions,
            Resource::Derivations => &self.derivations,
            Resource::Hooks => &self.hooks,
            Resource::Deliveries => &self.deliveries,
        }
    }
}

impl Resource {
    /// Every variant, in the order in which they are listed.
    pub const ALL: [Self; RESOURCES] = [
        Self::Sessions,
        Self::Memory,
        Self::Spool,
        Self::Questions,
        Self::Derivations,
        Self::Hooks,
        Self::Deliveries,
    ];

    /// Its name in the manual, the log and `queue stats`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Memory => "memory",
            Self::Spool => "spool",
            Self::Questions => "questions",
            Self::Derivations => "derivations",
            Self::Hooks => "hooks",
            Self::Deliveries => "deliveries",
        }
    }
}

impl TrustLevel {
    /// All of them, from the least.
    pub const ALL: [Self; 4] = [Self::Client, Self::Visitor, Self::Known, Self::Trusted];

    /// Its part of a pool, in eighths.
    const fn eighths(self) -> u64 {
        match self {
            Self::Client => CLIENT_EIGHTHS,
            Self::Visitor => VISITOR_EIGHTHS,
            Self::Known => KNOWN_EIGHTHS,
            Self::Trusted => 8,
        }
    }
}

impl Holder {
    /// A client at this address.
    pub fn at(standing: TrustLevel, address: IpAddr) -> Self {
        Self {
            standing,
            keys: Keys::Places(places(address)),
            also: [None; 2],
        }
    }

    /// A holder with this name, which may be a hash; `kind` separates names of different kinds.
    pub const fn named(standing: TrustLevel, kind: ShareKind, name: u64) -> Self {
        Self {
            standing,
            keys: Keys::Name(Key::of_name(NAME.wrapping_add(kind as u8), name)),
            also: [None; 2],
        }
    }

    /// A holder without a share of its own: only the reserve of the level applies.
    pub const fn nobody(standing: TrustLevel) -> Self {
        Self {
            standing,
            keys: Keys::None,
            also: [None; 2],
        }
    }

    /// The same, also charged to this name, which has the share of a site. There may be two of these.
    pub const fn and(self, kind: ShareKind, name: u64) -> Self {
        let key = Some(Key::of_name(NAME.wrapping_add(kind as u8), name));
        let also = match self.also {
            [None, _] => [key, None],
            [first, _] => [first, key],
        };
        Self { also, ..self }
    }

    /// The lane that it waits in.
    pub const fn lane(&self) -> Lane {
        match self.keys {
            Keys::Places([_, _, network]) => Lane(Some(network)),
            Keys::Name(name) => Lane(Some(name)),
            Keys::None => Lane(None),
        }
    }

    /// How much it is trusted.
    pub const fn standing(&self) -> TrustLevel {
        self.standing
    }

    /// Its names, each with the divisor of the free units that gives its share.
    fn shares(&self) -> impl Iterator<Item = (Key, u64)> {
        let (places, name) = match self.keys {
            Keys::Places(places) => (Some(places), None),
            Keys::Name(name) => (None, Some(name)),
            Keys::None => (None, None),
        };
        let parts = [SHARE_OF_ADDRESS, SHARE_OF_SITE, SHARE_OF_NETWORK];
        let places = places.into_iter().flatten().zip(parts);
        let also = self.also.into_iter().flatten();
        let also = also.map(|name| (name, SHARE_OF_SITE));
        (places.chain(name.map(|name| (name, SHARE_OF_NETWORK)))).chain(also)
    }
}

/// The kind of a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShareKind {
    Login = 0,
    /// The uid of a local program.
    Uid = 1,
    /// A zone of the DNS.
    Zone = 2,
    /// The address of a next hop.
    NextHop = 3,
    /// A host of `relay.networks`.
    Host = 4,
}

/// Units that are handed out, by standing.
#[derive(Clone, Copy, Debug)]
struct Used {
    client: u64,
    visitor: u64,
    known: u64,
    trusted: u64,
}

impl Used {
    const fn of_mut(&mut self, standing: TrustLevel) -> &mut u64 {
        match standing {
            TrustLevel::Client => &mut self.client,
            TrustLevel::Visitor => &mut self.visitor,
            TrustLevel::Known => &mut self.known,
            TrustLevel::Trusted => &mut self.trusted,
        }
    }

    /// Units of this level and of lower ones.
    const fn up_to(&self, standing: TrustLevel) -> u64 {
        let known = match standing {
            TrustLevel::Client => return self.client,
            TrustLevel::Visitor => return self.client.saturating_add(self.visitor),
            TrustLevel::Known | TrustLevel::Trusted => self
                .client
                .saturating_add(self.visitor)
                .saturating_add(self.known),
        };
        match standing {
            TrustLevel::Trusted => known.saturating_add(self.trusted),
            _ => known,
        }
    }
}

impl Pool {
    /// A pool of free units.
    pub fn new(capacity: u64) -> Self {
        Self(Rc::new(RefCell::new(Account {
            capacity,
            used: Used {
                client: 0,
                visitor: 0,
                known: 0,
                trusted: 0,
            },
            held: BTreeMap::new(),
        })))
    }

    /// Changes the number of units; units in use stay in use.
    pub fn set_capacity(&self, capacity: u64) {
        self.0.borrow_mut().capacity = capacity;
    }

    /// Hands out `amount` units, if the holder may have as many.
    pub fn take(&self, holder: Holder, amount: u64) -> Result<ResourceShare, Shortage> {
        let mut share = self.charge(holder, 0);
        share.take(amount)?;
        Ok(share)
    }

    /// Records that a holder has `amount` units: units already in use are not refused, and [`ResourceShare::is_over`] says
    /// whether they are too many.
    pub fn charge(&self, holder: Holder, amount: u64) -> ResourceShare {
        self.0.borrow_mut().add(holder, amount);
        ResourceShare {
            account: Rc::clone(&self.0),
            holder,
            amount,
        }
    }

    /// Whether [`Pool::take`] would hand out `amount` units.
    pub fn has_room(&self, holder: Holder, amount: u64) -> bool {
        self.0.borrow().has_room(holder, amount)
    }

    /// Units that are handed out.
    pub fn used(&self) -> u64 {
        self.0.borrow().used()
    }

    /// Units that there are.
    pub fn capacity(&self) -> u64 {
        self.0.borrow().capacity
    }

    /// Units that a standing can still reach.
    pub fn free(&self, standing: TrustLevel) -> u64 {
        self.0.borrow().free(standing)
    }

    /// Units that a standing could reach if all were free.
    pub fn reach(&self, standing: TrustLevel) -> u64 {
        self.0.borrow().reach(standing)
    }

    /// How much is left for a standing.
    pub fn room(&self, standing: TrustLevel) -> Room {
        let (free, reach) = (self.free(standing), self.reach(standing));
        let is_less = |eighths| free.saturating_mul(8) < reach.saturating_mul(eighths);
        if is_less(YIELD_EIGHTHS) {
            Room::Short
        } else if is_less(SPILL_EIGHTHS) {
            Room::Little
        } else {
            Room::Enough
        }
    }

    /// Names that hold something.
    pub fn holders(&self) -> usize {
        self.0.borrow().held.len()
    }
}

impl ResourceShare {
    /// The holder that is charged.
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// Units that it holds.
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes `amount` units more, if the holder may have as many.
    pub fn take(&mut self, amount: u64) -> Result<(), Shortage> {
        let mut account = self.account.borrow_mut();
        if !account.has_room(self.holder, amount) {
            return Err(Shortage);
        }
        account.add(self.holder, amount);
        debug_assert!(account.used() <= account.capacity, "no more than there is");
        self.amount = self.amount.saturating_add(amount);
        Ok(())
    }

    /// Gives `amount` units back before the rest.
    pub fn give(&mut self, amount: u64) {
        self.resize(self.amount.saturating_sub(amount));
    }

    /// Records that it is `amount` units now: units already in use are not refused.
    pub fn resize(&mut self, amount: u64) {
        let mut account = self.account.borrow_mut();
        match amount.checked_sub(self.amount) {
            Some(more) => account.add(self.holder, more),
            None => account.give(self.holder, self.amount.saturating_sub(amount)),
        }
        self.amount = amount;
    }

    /// Transfers it to another holder, if that may have as many units more. Its own are free for that.
    pub fn pass(&mut self, to: Holder) -> Result<(), Shortage> {
        let mut account = self.account.borrow_mut();
        account.give(self.holder, self.amount);
        let may = account.has_room(to, self.amount);
        if may {
            self.holder = to;
        }
        account.add(self.holder, self.amount);
        if may { Ok(()) } else { Err(Shortage) }
    }

    /// Transfers it to another holder, which is not refused.
    pub fn charge_to(&mut self, to: Holder) {
        let mut account = self.account.borrow_mut();
        account.give(self.holder, self.amount);
        account.add(to, self.amount);
        self.holder = to;
    }

    /// Whether its holder has more than it may, or all holders have more than there is for its trust level.
    pub fn is_over(&self) -> bool {
        self.account.borrow().is_over(self.holder)
    }
}

impl Drop for ResourceShare {
    fn drop(&mut self) {
        self.account.borrow_mut().give(self.holder, self.amount);
    }
}

impl Account {
    fn has_room(&self, holder: Holder, amount: u64) -> bool {
        let free = self.free(holder.standing);
        amount <= free
            && holder.shares().all(|(key, divisor)| {
                let held = self.held(key);
                // The first unit needs no share: there is one.
                let share = free.checked_div(divisor).unwrap_or(0);
                held == 0 && amount <= share.max(1) || held.saturating_add(amount) <= share
            })
    }

    fn is_over(&self, holder: Holder) -> bool {
        let free = self.free(holder.standing);
        holder
            .shares()
            .any(|(key, divisor)| self.held(key) > free.checked_div(divisor).unwrap_or(0))
            || free == 0
    }

    fn used(&self) -> u64 {
        self.used.up_to(TrustLevel::Trusted)
    }

    fn free(&self, standing: TrustLevel) -> u64 {
        let ceiling = self.reach(standing);
        let lesser = self.used.up_to(standing);
        let all = self.capacity.saturating_sub(self.used());
        ceiling.saturating_sub(lesser).min(all)
    }

    const fn reach(&self, standing: TrustLevel) -> u64 {
        self.capacity.saturating_mul(standing.eighths()).div_ceil(8)
    }

    fn held(&self, key: Key) -> u64 {
        self.held.get(&key).copied().unwrap_or(0)
    }

    fn add(&mut self, holder: Holder, amount: u64) {
        if amount == 0 {
            return;
        }
        let used = self.used.of_mut(holder.standing);
        *used = used.saturating_add(amount);
        for (key, _) in holder.shares() {
            let held = self.held.entry(key).or_insert(0);
            *held = held.saturating_add(amount);
        }
    }

    fn give(&mut self, holder: Holder, amount: u64) {
        if amount == 0 {
            return;
        }
        let used = self.used.of_mut(holder.standing);
        debug_assert!(*used >= amount, "a share gives back what it took");
        *used = used.saturating_sub(amount);
        for (key, _) in holder.shares() {
            if let Some(held) = self.held.get_mut(&key) {
                debug_assert!(
                    *held >= amount,
                    "a share gives back to the account of its holder"
                );
                *held = held.saturating_sub(amount);
                if *held == 0 {
                    self.held.remove(&key);
                }
            }
        }
    }
}

/// A client, its site and its network, by an address.
pub(super) fn places(address: IpAddr) -> [Key; 3] {
    let key = |level, prefixes| Key::of_network(level, address, prefixes);
    [
        key(ADDRESS, (32, 64)),
        key(SITE, (24, 48)),
        key(NETWORK, (16, 32)),
    ]
}

/// A hash of a login, independent of its spelling; users are configured, so clients cannot choose it.
pub fn hash_of(login: &Mailbox) -> u64 {
    hash(&(login.local_key(), login.domain()))
}

/// Represents a text in tables.
pub fn hash_of_text(name: &str) -> u64 {
    hash(&name)
}

/// A hash of a host's address.
pub fn hash_of_address(address: IpAddr) -> u64 {
    hash(&address.to_canonical())
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

const RESOURCES: usize = 7;
const ADDRESS: u8 = 1;
const SITE: u8 = 2;
const NETWORK: u8 = 3;
/// The first of the kinds of names.
const NAME: u8 = 16;

#[cfg(test)]
mod tests;
