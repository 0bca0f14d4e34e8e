//! Passwords that wait for a worker: their order, and which of them share one key derivation.
//!
//! Clients from addresses that have logged in before go first, then those from addresses without recent failures, then
//! the rest. Within each rank, networks and users take turns. One turn in four goes to the lowest rank, so that no
//! client waits for as long as others keep coming: a guess from a new address costs an attacker nothing. All clients
//! that wait for the same password of the same login share one derivation, so an application that opens twenty sessions
//! at once pays for one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::Mailbox;
use crate::engine::event::ConnId;
use crate::limits::DERIVATIONS_AT_ONCE;
use crate::login::credential::{Credential, Password};
use crate::policy::fair_queue::{FairQueue, Turn};
use crate::policy::password_memory::Tag;
use crate::policy::shares::ResourceShare;

#[derive(Default)]
pub(super) struct Derivations {
    /// By rank, the highest rank first.
    waiting: [FairQueue<Check>; Rank::ALL.len()],
    running: BTreeMap<u64, Check>,
    begun: u64,
    turns: u8,
}

/// Credentials that wait for their key derivation, or that a worker derives.
pub(super) struct Check {
    /// The sessions that wait for it.
    pub(super) waiters: Vec<Waiter>,
    /// The user; `None` if there is no such user.
    pub(super) login: Option<Mailbox>,
    /// The login as the client wrote it.
    pub(super) shown: String,
    /// The credential to compare with.
    pub(super) credential: Arc<Credential>,
    pub(super) password: Password,
    /// Identifies login, credential and password.
    pub(super) tag: Tag,
    /// The rank in the queue.
    pub(super) rank: Rank,
    /// Charged to the first that asked.
    pub(super) share: ResourceShare,
}

/// A session that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    /// The session.
    pub(super) conn: ConnId,
    /// Its address, where it has one.
    pub(super) address: Option<IpAddr>,
}

/// The order of waiting derivations.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Rank {
    /// A user has logged in from the address before, without recent failures.
    Known,
    /// The same, with recent failures: an old password on one device does not lock out the others.
    Mistaken,
    /// Neither a recent failure nor a login from the address.
    Unknown,
    /// Recent failures, and no login.
    Failed,
}

impl Rank {
    const ALL: [Self; 4] = [Self::Known, Self::Mistaken, Self::Unknown, Self::Failed];
}

impl Derivations {
    /// Makes a session wait for a derivation that runs or waits already.
    pub(super) fn join(&mut self, tag: &Tag, waiter: Waiter, rank: Rank) -> bool {
        let mut running = self.running.values_mut();
        if let Some(check) = running.find(|check| check.tag == *tag) {
            check.waiters.push(waiter);
            return true;
        }
        let Some((line, turn)) = self.find(|check| check.tag == *tag) else {
            return false;
        };
        // A waiter with a higher rank promotes the others.
        let found = self.waiting.get_mut(line);
        let found = found.and_then(|waiting| match waiting.get_mut(turn) {
            Some(check) if check.rank <= rank => {
                check.waiters.push(waiter);
                None
            }
            _ => waiting.forget(turn),
        });
        if let Some(mut check) = found {
            check.waiters.push(waiter);
            check.rank = rank;
            self.put(check);
        }
        true
    }

    /// Adds credentials to the queue.
    pub(super) fn put(&mut self, check: Check) {
        if let Some(waiting) = self.waiting.get_mut(check.rank as usize) {
            waiting.put(check.share.holder().lane(), check);
        }
    }

    /// Takes the next credentials from the queue if a worker is free.
    pub(super) fn next(&mut self) -> Option<Check> {
        if self.running.len() >= DERIVATIONS_AT_ONCE {
            return None;
        }
        self.turns = self.turns.wrapping_add(1);
        let mut waiting = self.waiting.iter_mut().filter(|line| !line.is_empty());
        match self.turns.is_multiple_of(TURNS) {
            true => waiting.next_back()?.take(),
            false => waiting.next()?.take(),
        }
    }

    /// The position of the first credentials that satisfy the predicate: rank, and turn in it.
    fn find(&self, is_it: impl Fn(&Check) -> bool) -> Option<(usize, Turn)> {
        let mut lines = self.waiting.iter().enumerate();
        lines.find_map(|(at, line)| line.find(&is_it).map(|turn| (at, turn)))
    }

    /// A worker starts; returns the number of the derivation.
    pub(super) fn begin(&mut self, check: Check) -> u64 {
        self.begun = self.begun.wrapping_add(1);
        self.running.insert(self.begun, check);
        self.begun
    }

    /// A worker has finished.
    pub(super) fn end(&mut self, number: u64) -> Option<Check> {
        self.running.remove(&number)
    }

    /// A session is gone: drops credentials that only it waits for.
    pub(super) fn forget(&mut self, conn: ConnId) {
        let waits = |check: &Check| check.waiters.iter().any(|waiter| waiter.conn == conn);
        let Some((line, turn)) = self.find(waits) else {
            return;
        };
        if let Some(line) = self.waiting.get_mut(line)
            && let Some(check) = line.get_mut(turn)
        {
            check.waiters.retain(|waiter| waiter.conn != conn);
            if check.waiters.is_empty() {
                line.forget(turn);
            }
        }
    }
}

/// One turn in this number goes to the lowest rank.
const TURNS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DIGEST_BYTES;
    use crate::engine::connections::{Connections, Owner};
    use crate::policy::shares::{Holder, Pool, TrustLevel};

    fn check(conns: &mut Connections, tag: u8, rank: Rank) -> Check {
        Check {
            waiters: vec![Waiter {
                conn: conns.reserve(Owner::Server),
                address: None,
            }],
            login: None,
            shown: tag.to_string(),
            credential: Arc::new(Credential::decoy(&[0; DIGEST_BYTES], "x")),
            password: Password::new("secret".to_owned()).expect("a password"),
            tag: [tag; DIGEST_BYTES],
            rank,
            share: Pool::new(1).charge(Holder::nobody(TrustLevel::Visitor), 1),
        }
    }

    #[test]
    fn known_addresses_go_first_and_those_that_failed_last() {
        let mut conns = Connections::with_capacity(9);
        let mut line = Derivations::default();
        for (tag, rank) in [
            (1, Rank::Failed),
            (2, Rank::Unknown),
            (3, Rank::Known),
            (4, Rank::Unknown),
            (5, Rank::Known),
        ] {
            line.put(check(&mut conns, tag, rank));
        }
        let order: Vec<u8> = std::iter::from_fn(|| line.next())
            .map(|check| check.tag[0])
            .collect();
        assert_eq!(order, [3, 5, 2, 1, 4]);
    }

    #[test]
    fn who_failed_has_a_turn_while_others_keep_coming() {
        let mut conns = Connections::with_capacity(9);
        let mut line = Derivations::default();
        line.put(check(&mut conns, 1, Rank::Failed));
        line.put(check(&mut conns, 2, Rank::Mistaken));
        for _ in 0..4 {
            line.put(check(&mut conns, 9, Rank::Unknown));
        }
        let order: Vec<u8> = (0..4)
            .filter_map(|_| {
                line.put(check(&mut conns, 9, Rank::Unknown));
                line.next().map(|check| check.tag[0])
            })
            .collect();
        assert_eq!(order, [2, 9, 9, 1]);
    }

    #[test]
    fn who_waits_for_the_same_password_waits_for_one_derivation() {
        let mut conns = Connections::with_capacity(9);
        let mut line = Derivations::default();
        line.put(check(&mut conns, 1, Rank::Failed));
        line.put(check(&mut conns, 2, Rank::Unknown));
        let waiter = Waiter {
            conn: conns.reserve(Owner::Server),
            address: None,
        };
        assert!(line.join(&[1; DIGEST_BYTES], waiter, Rank::Known));
        assert!(!line.join(&[3; DIGEST_BYTES], waiter, Rank::Known));
        let first = line.next().expect("one waits");
        assert_eq!((first.tag[0], first.waiters.len()), (1, 2));
        let number = line.begin(first);
        assert!(line.join(&[1; DIGEST_BYTES], waiter, Rank::Known));
        assert_eq!(line.end(number).expect("it runs").waiters.len(), 3);
    }

    #[test]
    fn what_nobody_waits_for_is_not_derived() {
        let mut conns = Connections::with_capacity(9);
        let mut line = Derivations::default();
        let pool = Pool::new(1);
        let mut one = check(&mut conns, 1, Rank::Unknown);
        one.share = pool.charge(Holder::nobody(TrustLevel::Visitor), 1);
        let first = one.waiters[0].conn;
        line.put(one);
        let other = conns.reserve(Owner::Server);
        let waiter = Waiter {
            conn: other,
            address: None,
        };
        assert!(line.join(&[1; DIGEST_BYTES], waiter, Rank::Unknown));
        line.forget(first);
        assert_eq!(pool.used(), 1);
        line.forget(other);
        assert_eq!(pool.used(), 0);
        assert!(line.next().is_none());
    }
}
