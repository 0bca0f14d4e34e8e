//! Limits for unauthenticated clients: events per minute, and refusals in the last hour.
//!
//! A count is stored as the moment at which it has drained (a leaky bucket): one number, which needs no regular update.
//! An address is one IPv4 address or one IPv6 /64. All counts share one table with a ceiling, in which each network has
//! a share ([`super::ttl_map`]).

use std::net::IpAddr;
use std::time::Duration;

use super::ttl_map::{Key, Owner, TtlMap};
use crate::clock::Instant;
use crate::limits::{
    ABUSE_NETWORK_FACTOR, ABUSE_TABLE_ENTRIES_MAX, MISDEED_WINDOW, TARPIT_DELAY_MAX,
    TARPIT_REFUSALS, TARPIT_STEP, UNKNOWN_SESSIONS,
};

/// An event that is limited per minute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rate {
    Connections,
    Messages,
    Recipients,
}

/// Counts of unauthenticated clients.
#[derive(Debug)]
pub struct ClientRates {
    /// Counts by kind and client; an entry ends when it has drained.
    counts: TtlMap,
}

impl Default for ClientRates {
    fn default() -> Self {
        Self {
            counts: TtlMap::new(ABUSE_TABLE_ENTRIES_MAX),
        }
    }
}

impl ClientRates {
    /// Counts one more event, if the limits of the address and of its network allow it; a `per_minute` of 0 means no
    /// limit.
    pub fn may(&mut self, rate: Rate, address: IpAddr, per_minute: u32, now: Instant) -> bool {
        if per_minute == 0 {
            return true;
        }
        let what = rate as u8;
        let per_network = per_minute.saturating_mul(ABUSE_NETWORK_FACTOR);
        let shares = [
            (Key::of_peer(what, address), share(MINUTE, per_minute)),
            (network(what, address), share(MINUTE, per_network)),
        ];
        if shares
            .iter()
            .any(|(key, share)| self.level(*key, now).saturating_add(*share) > MINUTE)
        {
            return false;
        }
        for (key, share) in shares {
            self.raise(address, key, share, MINUTE, now);
        }
        true
    }

    /// Counts a refusal to this address.
    pub fn refused(&mut self, address: IpAddr, now: Instant) {
        let key = Key::of_peer(REFUSALS, address);
        self.raise(address, key, REFUSAL_SHARE, MISDEED_WINDOW, now);
    }

    /// The delay of replies to this address.
    pub fn tarpit(&self, address: IpAddr, now: Instant) -> Duration {
        let level = self.level(Key::of_peer(REFUSALS, address), now);
        let refusals = u32::try_from(level.as_millis().div_ceil(REFUSAL_SHARE.as_millis()));
        let past = refusals.unwrap_or(u32::MAX).saturating_sub(TARPIT_REFUSALS);
        TARPIT_STEP.saturating_mul(past).min(TARPIT_DELAY_MAX)
    }

    /// Counts an unknown recipient named by this address; `per_session` are tolerated in one session. Each accepted
    /// message of the address offsets one. A `bounce` counts a quarter, because its sender did not choose the
    /// recipient.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "what it is divided by is a constant, and not zero"
    )]
    pub fn unknown(&mut self, address: IpAddr, per_session: u32, bounce: bool, now: Instant) {
        if self.earn(address, now) {
            return;
        }
        let key = Key::of_peer(UNKNOWN, address);
        let forgiven = per_session.saturating_mul(UNKNOWN_SESSIONS).max(1);
        let whole = share(MISDEED_WINDOW, forgiven);
        let share = if bounce {
            whole / BOUNCES_AS_ONE
        } else {
            whole
        };
        let level = self.raise(address, key, share, MISDEED_WINDOW, now);
        if level.saturating_add(share) > MISDEED_WINDOW {
            let shut = Key::of_peer(SHUT_OUT, address);
            self.raise(address, shut, MISDEED_WINDOW, MISDEED_WINDOW, now);
            // The count restarts at half of the tolerated number, not at zero.
            let at = now.after(MISDEED_WINDOW).as_millis();
            let half = Instant::START.after(MISDEED_WINDOW / 2).as_millis();
            self.counts.remove(key);
            self.counts
                .raise(Owner::of_address(address), key, half, u64::MAX, at);
        }
    }

    /// Counts an accepted message of this address.
    pub fn good(&mut self, address: IpAddr, now: Instant) {
        let key = Key::of_peer(GOOD, address);
        self.raise(address, key, GOOD_SHARE, GOOD_WINDOW, now);
    }

    /// Uses up one accepted message, if the address has one.
    fn earn(&mut self, address: IpAddr, now: Instant) -> bool {
        let share = Instant::START.after(GOOD_SHARE).as_millis();
        let key = Key::of_peer(GOOD, address);
        self.counts.lower(key, share, now.as_millis())
    }

    /// Whether this address is refused because it named too many unknown recipients.
    pub fn is_shut_out(&self, address: IpAddr, now: Instant) -> bool {
        !self.level(Key::of_peer(SHUT_OUT, address), now).is_zero()
    }

    /// How many counts there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets drained counts.
    pub fn sweep(&mut self, now: Instant) {
        self.counts.sweep(now.as_millis());
    }

    fn level(&self, key: Key, now: Instant) -> Duration {
        let end = self
            .counts
            .get(key, now.as_millis())
            .map_or(0, |entry| entry.end);
        Instant::from_millis(end).since(now)
    }

    /// Raises a count by a share, at most to `max`, and returns its new value.
    fn raise(
        &mut self,
        address: IpAddr,
        key: Key,
        share: Duration,
        max: Duration,
        now: Instant,
    ) -> Duration {
        let share = Instant::START.after(share).as_millis();
        let most = now.after(max).as_millis();
        let owner = Owner::of_address(address);
        let end = self.counts.raise(owner, key, share, most, now.as_millis());
        Instant::from_millis(end).since(now)
    }
}

/// The share of one event, if `count` of them fill `window`.
fn share(window: Duration, count: u32) -> Duration {
    window
        .checked_div(count)
        .unwrap_or(window)
        .max(Duration::from_millis(1))
}

/// The network of one site: a /24 of IPv4, a /48 of IPv6.
fn network(what: u8, address: IpAddr) -> Key {
    Key::of_network(what, address, (24, 48))
}

/// The kind of count for all refusals, besides those of [`Rate`].
const REFUSALS: u8 = 8;
/// Unknown recipients.
const UNKNOWN: u8 = 9;
/// That an address is refused for now.
const SHUT_OUT: u8 = 10;
/// Accepted messages.
const GOOD: u8 = 11;

/// Bounces to unknown recipients that count as one recipient.
const BOUNCES_AS_ONE: u32 = 4;
/// How long an accepted message counts for its address.
const GOOD_WINDOW: Duration = Duration::from_secs(86_400);
/// The share of one accepted message: at most a hundred count.
const GOOD_SHARE: Duration = Duration::from_millis(GOOD_WINDOW.as_millis() as u64 / 100);

const MINUTE: Duration = Duration::from_secs(60);

/// The share of one refusal: three times the tolerated number fill the window.
const REFUSAL_SHARE: Duration =
    Duration::from_millis(MISDEED_WINDOW.as_millis() as u64 / (TARPIT_REFUSALS as u64 * 3));

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4((0xC600_0000 + number).into())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_minute_has_so_many_and_they_come_back_one_by_one() {
        let mut client_rates = ClientRates::default();
        let mut may = |at| client_rates.may(Rate::Messages, v4(1), 6, at);
        for _ in 0..6 {
            assert!(may(at(0)));
        }
        assert!(!may(at(0)) && !may(at(9)));
        assert!(may(at(10)) && !may(at(10)));
        assert!(may(at(70)));
    }

    #[test]
    fn rates_are_apart_and_one_that_is_lifted_counts_nothing() {
        let mut client_rates = ClientRates::default();
        assert!(client_rates.may(Rate::Messages, v4(1), 1, at(0)));
        assert!(!client_rates.may(Rate::Messages, v4(1), 1, at(0)));
        assert!(client_rates.may(Rate::Recipients, v4(1), 1, at(0)));
        let len = client_rates.len();
        for _ in 0..100 {
            assert!(client_rates.may(Rate::Connections, v4(2), 0, at(0)));
        }
        assert_eq!(client_rates.len(), len);
    }

    #[test]
    fn a_network_may_more_than_an_address_and_not_without_end() {
        let mut client_rates = ClientRates::default();
        let may = |client_rates: &mut ClientRates, number| {
            (0..100)
                .filter(|_| client_rates.may(Rate::Connections, v4(number), 10, at(0)))
                .count()
        };
        let counts: Vec<usize> = (0..6)
            .map(|number| may(&mut client_rates, number))
            .collect();
        assert_eq!(counts, [10, 10, 10, 10, 0, 0]);
        assert_eq!(may(&mut client_rates, 256), 10);
        let six = |text: &str| -> IpAddr { text.parse().expect("an address") };
        assert!(client_rates.may(Rate::Connections, six("2001:db8::1"), 1, at(0)));
        assert!(!client_rates.may(Rate::Connections, six("2001:db8::ffff:1"), 1, at(0)));
        assert!(client_rates.may(Rate::Connections, six("2001:db8:0:1::1"), 1, at(0)));
    }

    #[test]
    fn replies_slow_down_with_refusals_and_recover() {
        let mut client_rates = ClientRates::default();
        for _ in 0..TARPIT_REFUSALS {
            client_rates.refused(v4(1), at(0));
        }
        assert_eq!(client_rates.tarpit(v4(1), at(0)), Duration::ZERO);
        client_rates.refused(v4(1), at(0));
        client_rates.refused(v4(1), at(0));
        assert_eq!(client_rates.tarpit(v4(1), at(0)), TARPIT_STEP * 2);
        for _ in 0..1_000 {
            client_rates.refused(v4(1), at(0));
        }
        assert_eq!(client_rates.tarpit(v4(1), at(0)), TARPIT_DELAY_MAX);
        assert_eq!(client_rates.tarpit(v4(2), at(0)), Duration::ZERO);
        assert_eq!(client_rates.tarpit(v4(1), at(3_600)), Duration::ZERO);
        client_rates.sweep(at(3_600));
        assert!(client_rates.is_empty());
    }

    #[test]
    fn a_dictionary_shuts_an_address_out_for_an_hour() {
        let mut client_rates = ClientRates::default();
        for _ in 0..49 {
            client_rates.unknown(v4(1), 10, false, at(0));
            assert!(!client_rates.is_shut_out(v4(1), at(0)));
        }
        client_rates.unknown(v4(1), 10, false, at(0));
        assert!(client_rates.is_shut_out(v4(1), at(3_599)));
        assert!(!client_rates.is_shut_out(v4(1), at(3_600)));
        assert!(!client_rates.is_shut_out(v4(2), at(0)));
        // The next one does not shut it out for another hour.
        client_rates.unknown(v4(1), 10, false, at(3_600));
        assert!(!client_rates.is_shut_out(v4(1), at(3_601)));
    }

    #[test]
    fn a_provider_that_brings_good_mail_and_bounces_is_not_shut_out() {
        let mut client_rates = ClientRates::default();
        for second in 0..200 {
            client_rates.good(v4(1), at(second * 10));
            client_rates.unknown(v4(1), 10, true, at(second * 10));
            assert!(!client_rates.is_shut_out(v4(1), at(second * 10)));
        }
        // Credit ends, and bounces alone count a quarter.
        let mut client_rates = ClientRates::default();
        let mut named = 0;
        while !client_rates.is_shut_out(v4(2), at(0)) {
            client_rates.unknown(v4(2), 10, true, at(0));
            named += 1;
        }
        assert_eq!(named, 200);
        let mut client_rates = ClientRates::default();
        for _ in 0..1_000 {
            client_rates.good(v4(3), at(0));
        }
        for _ in 0..100 {
            client_rates.unknown(v4(3), 10, false, at(0));
        }
        assert!(!client_rates.is_shut_out(v4(3), at(0)));
        for _ in 0..50 {
            client_rates.unknown(v4(3), 10, false, at(0));
        }
        assert!(client_rates.is_shut_out(v4(3), at(0)));
    }

    #[test]
    fn a_flood_of_addresses_does_not_wash_out_a_misdeed() {
        let mut client_rates = ClientRates::default();
        for _ in 0..50 {
            client_rates.unknown(v4(1), 10, false, at(0));
        }
        let flood = u32::try_from(ABUSE_TABLE_ENTRIES_MAX + 1_000).expect("small");
        for number in 2..flood {
            client_rates.may(Rate::Connections, v4(number << 8), 10, at(1));
        }
        assert!(client_rates.len() > ABUSE_TABLE_ENTRIES_MAX * 9 / 10);
        assert!(client_rates.is_shut_out(v4(1), at(1)));
    }
}
