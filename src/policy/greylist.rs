//! Greylisting (RFC 6647): the first attempt of an unknown client is deferred; a client that retries is a mail server.
//!
//! ```text
//!   first seen --delay--> may pass --window--> forgotten
//!                            '--retries--> passes, for its lifetime from the last time
//! ```
//!
//! An entry is a keyed hash of (network, sender, recipient), so that the table does not reveal who writes to whom. The
//! network is a /24 of IPv4 or a /64 of IPv6, which the hosts of one sender share. Once several entries of a network
//! have passed, the network is known to retry and is not deferred any more. The table has a ceiling, and each network a
//! share of it ([`super::ttl_map`]).
//!
//! The file in which the table survives a restart:
//!
//! | bytes | content |
//! | --- | --- |
//! | 16 | `chopar-greylist` and the version, 2 |
//! | 32 | the key |
//! | 4 | the number of entries |
//! | 25 each | hash (8), first seen (4), forgotten at (4), times passed (1), owner of the entry (8) |
//! | 4 | CRC-32 of everything before |
//!
//! Numbers are little-endian; times are seconds since 1970. Version 1, from 0.1.0, has no owner: each of its entries is
//! its own owner. Invariant: a file is loaded completely or not at all.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ring::hmac;

use super::ttl_map::{Entry, Key, Owner, TtlMap};
use crate::clock::{Instant, Now};
use crate::config::{Greylisting, Network};
use crate::entropy::Entropy;
use crate::limits::{GREYLIST_ENTRIES_MAX, GREYLIST_PASSES};

/// The recorded attempts.
pub struct Greylist {
    secret: [u8; KEY_BYTES],
    key: hmac::Key,
    /// The seconds since 1970 at which the monotonic clock began, so that a clock that is set moves nothing.
    began: u64,
    /// Attempts, which pass once at most, and networks, which pass more often.
    seen: TtlMap,
}

/// The decision about an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GreylistDecision {
    Passes,
    /// It is to come again after so long.
    PutOff(Duration),
}

/// Why a file is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ImageError {
    /// It is not a greylist file, or of another version.
    Foreign,
    /// It is too short, too long or damaged.
    Damaged,
}

impl fmt::Display for ImageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Foreign => "the file is of another kind or version",
            Self::Damaged => "the file is damaged",
        })
    }
}

impl std::error::Error for ImageError {}

impl Greylist {
    /// An empty greylist with a new key.
    pub fn new(entropy: &mut dyn Entropy, now: Now) -> Self {
        let mut secret = [0; KEY_BYTES];
        entropy.fill(&mut secret);
        Self::with_secret(secret, now)
    }

    fn with_secret(secret: [u8; KEY_BYTES], now: Now) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            secret,
            began: now
                .wall
                .seconds()
                .saturating_sub(now.instant.as_millis() / 1_000),
            seen: TtlMap::new(GREYLIST_ENTRIES_MAX),
        }
    }

    /// Judges an attempt to send from `sender` to `recipient`.
    pub fn judge(
        &mut self,
        rules: &Greylisting,
        address: IpAddr,
        (sender, recipient): (&str, &str),
        now: Instant,
    ) -> GreylistDecision {
        let at = self.seconds(now);
        let network = network_of(address);
        let owner = Owner::of_address(address);
        let network_key = self.key(&[&network.to_string()]);
        let known = self.live(network_key, at).map_or(0, |seen| seen.passes);
        let forgotten = at.saturating_add(rules.lifetime.as_secs());
        if known >= GREYLIST_PASSES {
            self.put(owner, network_key, at, forgotten, known);
            return GreylistDecision::Passes;
        }
        let key = self.key(&[
            &network.to_string(),
            &steady(sender),
            &recipient.to_lowercase(),
        ]);
        let Some(seen) = self.live(key, at) else {
            let end = at.saturating_add(rules.window.as_secs());
            self.put(owner, key, at, end, 0);
            return GreylistDecision::PutOff(rules.delay);
        };
        if seen.passes == 0 {
            let due = u64::from(seen.first).saturating_add(rules.delay.as_secs());
            if due > at {
                return GreylistDecision::PutOff(Duration::from_secs(due.saturating_sub(at)));
            }
            self.put(owner, network_key, at, forgotten, known.saturating_add(1));
        }
        self.put(owner, key, seen.first.into(), forgotten, 1);
        GreylistDecision::Passes
    }

    /// How much is remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets old entries.
    pub fn sweep(&mut self, now: Instant) {
        self.seen.sweep(self.seconds(now));
    }

    /// Encodes the list for the file that the next run reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(
            IMAGE_BYTES_MAX.min(
                HEAD_BYTES
                    .saturating_add(self.seen.len().saturating_mul(ENTRY_BYTES))
                    .saturating_add(4),
            ),
        );
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.secret);
        let count = u32::try_from(self.seen.len()).unwrap_or(0);
        bytes.extend_from_slice(&count.to_le_bytes());
        for (owner, key, seen) in self.seen.iter() {
            bytes.extend_from_slice(&key.hash().to_le_bytes());
            bytes.extend_from_slice(&seen.first.to_le_bytes());
            bytes.extend_from_slice(&seconds32(seen.end).to_le_bytes());
            bytes.push(seen.passes);
            bytes.extend_from_slice(&owner.bits().to_le_bytes());
        }
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the file.
    pub fn parse(bytes: &[u8], now: Now) -> Result<Self, ImageError> {
        let (is_old, rest) = match bytes.strip_prefix(MAGIC) {
            Some(rest) => (false, rest),
            None => (
                true,
                bytes.strip_prefix(OLD_MAGIC).ok_or(ImageError::Foreign)?,
            ),
        };
        let (body, sum) = bytes.split_last_chunk().ok_or(ImageError::Damaged)?;
        if bytes.len() > IMAGE_BYTES_MAX || crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(ImageError::Damaged);
        }
        let (secret, rest) = rest.split_first_chunk().ok_or(ImageError::Damaged)?;
        let (count, rest) = rest.split_first_chunk().ok_or(ImageError::Damaged)?;
        let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        let entry_bytes = if is_old { OLD_ENTRY_BYTES } else { ENTRY_BYTES };
        if count.checked_mul(entry_bytes) != rest.len().checked_sub(sum.len()) {
            return Err(ImageError::Damaged);
        }
        let mut list = Self::with_secret(*secret, now);
        let at = list.seconds(now.instant);
        for entry in rest.chunks_exact(entry_bytes).take(count) {
            let read = || {
                let (hash, rest) = entry.split_first_chunk()?;
                let (first, rest) = rest.split_first_chunk()?;
                let (end, rest) = rest.split_first_chunk()?;
                let (passes, rest) = rest.split_first()?;
                let owner = rest.first_chunk().unwrap_or(hash);
                Some((*hash, *first, *end, *passes, *owner))
            };
            let (hash, first, end, passes, owner) = read().ok_or(ImageError::Damaged)?;
            let owner = Owner::of_bits(u64::from_le_bytes(owner));
            let key = Key::of_hash(u64::from_le_bytes(hash));
            let end = u32::from_le_bytes(end).into();
            if end > at {
                // After the clock has been set back, past times are in the future.
                let first = at.min(u32::from_le_bytes(first).into());
                list.put(owner, key, first, end, passes);
            }
        }
        Ok(list)
    }

    fn live(&self, key: Key, at: u64) -> Option<Entry> {
        self.seen.get(key, at)
    }

    fn put(&mut self, owner: Owner, key: Key, first: u64, end: u64, passes: u8) {
        let entry = Entry {
            end,
            first: seconds32(first),
            passes,
        };
        self.seen.put(owner, key, entry);
    }

    fn seconds(&self, now: Instant) -> u64 {
        self.began.saturating_add(now.as_millis() / 1_000)
    }

    /// 64 bits of an HMAC: enough to avoid chance collisions in a table of this size, and nobody can cause one without
    /// the key.
    fn key(&self, parts: &[&str]) -> Key {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        let tag = context.sign();
        let front = tag.as_ref().first_chunk();
        Key::of_hash(front.map_or(0, |front| u64::from_le_bytes(*front)))
    }
}

/// A sender without the parts that change with each message: numbers become `#` (VERP, BATV, SRS).
fn steady(sender: &str) -> String {
    let mut text = String::with_capacity(sender.len());
    for c in sender.chars() {
        let c = if c.is_ascii_digit() {
            '#'
        } else {
            c.to_ascii_lowercase()
        };
        if c != '#' || !text.ends_with('#') {
            text.push(c);
        }
    }
    text
}

fn network_of(address: IpAddr) -> Network {
    let address = address.to_canonical();
    Network::of(address, if address.is_ipv4() { 24 } else { 64 })
}

/// As the file has them: until 2106.
fn seconds32(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

const MAGIC: &[u8; 16] = b"chopar-greylist2";
const OLD_MAGIC: &[u8; 16] = b"chopar-greylist1";
const KEY_BYTES: usize = 32;
const ENTRY_BYTES: usize = 25;
const OLD_ENTRY_BYTES: usize = 17;
const HEAD_BYTES: usize = MAGIC.len() + KEY_BYTES + 4;

/// Bytes of the longest file.
pub const IMAGE_BYTES_MAX: usize = HEAD_BYTES + GREYLIST_ENTRIES_MAX * ENTRY_BYTES + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::date::Timestamp;
    use crate::entropy::SeededEntropy;

    const RULES: Greylisting = Greylisting {
        delay: Duration::from_secs(300),
        window: Duration::from_secs(86_400),
        lifetime: Duration::from_secs(36 * 86_400),
    };

    fn now(seconds: u64) -> Now {
        Now {
            instant: Instant::from_millis(seconds * 1_000),
            wall: Timestamp::from_seconds(1_790_000_000 + seconds),
        }
    }

    fn list() -> Greylist {
        Greylist::new(&mut SeededEntropy::new(1), now(0))
    }

    fn try_from(
        list: &mut Greylist,
        address: &str,
        pair: (&str, &str),
        seconds: u64,
    ) -> GreylistDecision {
        let address = address.parse().expect("an address");
        list.judge(&RULES, address, pair, Instant::from_millis(seconds * 1_000))
    }

    const PAIR: (&str, &str) = ("a@far.example", "b@example.com");

    fn put_off(seconds: u64) -> GreylistDecision {
        GreylistDecision::PutOff(Duration::from_secs(seconds))
    }

    #[test]
    fn who_comes_again_in_time_passes_and_is_remembered() {
        let mut list = list();
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 10), put_off(300));
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 20), put_off(290));
        // Another host of the same network, which is how large senders try again.
        assert_eq!(
            try_from(&mut list, "192.0.2.99", PAIR, 310),
            GreylistDecision::Passes
        );
        let later = 310 + 35 * 86_400;
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, later),
            GreylistDecision::Passes
        );
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, later + 35 * 86_400),
            GreylistDecision::Passes
        );
    }

    #[test]
    fn who_comes_too_late_begins_again() {
        let mut list = list();
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 0), put_off(300));
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 86_400), put_off(300));
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, 86_800),
            GreylistDecision::Passes
        );
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, 86_800 + 37 * 86_400),
            put_off(300)
        );
    }

    #[test]
    fn network_sender_and_recipient_all_count() {
        let mut list = list();
        for (address, pair) in [
            ("192.0.2.1", PAIR),
            ("192.0.3.1", PAIR),
            ("192.0.2.1", ("other@far.example", PAIR.1)),
            ("192.0.2.1", (PAIR.0, "other@example.com")),
            ("2001:db8::1", PAIR),
            ("2001:db8:0:1::1", PAIR),
        ] {
            assert_eq!(
                try_from(&mut list, address, pair, 0),
                put_off(300),
                "{address} {pair:?}"
            );
        }
        for (address, pair) in [
            ("2001:db8::ffff", PAIR),
            ("::ffff:192.0.2.7", PAIR),
            ("192.0.2.1", ("A@Far.Example", "B@example.com")),
        ] {
            assert_eq!(
                try_from(&mut list, address, pair, 300),
                GreylistDecision::Passes,
                "{address} {pair:?}"
            );
        }
    }

    #[test]
    fn numbers_in_a_sender_do_not_make_another() {
        let mut list = list();
        let one = ("bounce-123-7@far.example", PAIR.1);
        let other = ("bounce-99-1234@far.example", PAIR.1);
        assert_eq!(try_from(&mut list, "192.0.2.1", one, 0), put_off(300));
        assert_eq!(
            try_from(&mut list, "192.0.2.1", other, 300),
            GreylistDecision::Passes
        );
    }

    #[test]
    fn a_network_that_comes_again_is_not_put_off() {
        let mut list = list();
        for number in 0..GREYLIST_PASSES {
            let sender = format!("{}@far.example", char::from(b'a' + number));
            let pair = (sender.as_str(), PAIR.1);
            assert_eq!(try_from(&mut list, "192.0.2.1", pair, 0), put_off(300));
            assert_eq!(
                try_from(&mut list, "192.0.2.1", pair, 300),
                GreylistDecision::Passes
            );
        }
        assert_eq!(
            try_from(&mut list, "192.0.2.200", ("new@far.example", PAIR.1), 400),
            GreylistDecision::Passes
        );
        assert_eq!(
            try_from(&mut list, "192.0.3.200", ("new@far.example", PAIR.1), 400),
            put_off(300)
        );
    }

    #[test]
    fn the_table_has_a_ceiling_and_is_swept() {
        let mut list = list();
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 0), put_off(300));
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, 300),
            GreylistDecision::Passes
        );
        for number in 0..GREYLIST_ENTRIES_MAX + 10 {
            let address = std::net::Ipv4Addr::from_bits(
                0x0A00_0000 + (u32::try_from(number).expect("small") << 8),
            );
            let _ = list.judge(&RULES, address.into(), PAIR, Instant::from_millis(400_000));
        }
        assert!(list.len() > GREYLIST_ENTRIES_MAX * 9 / 10);
        // First attempts of others do not drive out what has passed.
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, 500),
            GreylistDecision::Passes
        );
        list.sweep(Instant::from_millis(400_000 + 86_400_000));
        assert_eq!(list.len(), 2);
        list.sweep(Instant::from_millis(u64::MAX));
        assert!(list.is_empty());
    }

    #[test]
    fn the_file_carries_everything_to_the_next_run() {
        let mut list = list();
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 0), put_off(300));
        let other = ("other@far.example", PAIR.1);
        assert_eq!(try_from(&mut list, "192.0.2.1", other, 100), put_off(300));
        let bytes = list.to_bytes();
        // The next run's clock begins anew.
        let next = Now {
            instant: Instant::from_millis(5_000),
            wall: Timestamp::from_seconds(1_790_000_000 + 305),
        };
        let mut list = Greylist::parse(&bytes, next).expect("a list");
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, 5),
            GreylistDecision::Passes
        );
        assert_eq!(try_from(&mut list, "192.0.2.1", other, 5), put_off(95));
        assert!(bytes.len() <= IMAGE_BYTES_MAX);
    }

    #[test]
    fn the_file_of_the_first_release_is_read() {
        let mut list = list();
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 0), put_off(300));
        let bytes = list.to_bytes();
        let mut old = OLD_MAGIC.to_vec();
        old.extend_from_slice(&bytes[MAGIC.len()..HEAD_BYTES + OLD_ENTRY_BYTES]);
        let sum = crc32fast::hash(&old).to_le_bytes();
        old.extend_from_slice(&sum);
        let mut list = Greylist::parse(&old, now(300)).expect("a list");
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, 300),
            GreylistDecision::Passes
        );
    }

    #[test]
    fn one_network_cannot_make_another_be_forgotten() {
        let mut list = list();
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 0), put_off(300));
        for number in 0..GREYLIST_ENTRIES_MAX * 2 {
            let recipient = format!("r{number}@example.com");
            let pair = ("x@evil.example", recipient.as_str());
            let address = format!("10.1.{}.1", number % 256);
            assert_eq!(try_from(&mut list, &address, pair, 1), put_off(300));
        }
        assert!(list.len() <= GREYLIST_ENTRIES_MAX / 2 + 1);
        assert_eq!(
            try_from(&mut list, "192.0.2.1", PAIR, 300),
            GreylistDecision::Passes
        );
    }

    #[test]
    fn what_is_old_is_not_taken_from_the_file() {
        let mut list = list();
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 0), put_off(300));
        let bytes = list.to_bytes();
        assert!(
            Greylist::parse(&bytes, now(86_400))
                .expect("a list")
                .is_empty()
        );
        let back = Now {
            instant: Instant::START,
            wall: Timestamp::from_seconds(1_700_000_000),
        };
        let mut list = Greylist::parse(&bytes, back).expect("a list");
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 0), put_off(300));
    }

    #[test]
    fn a_file_that_was_changed_anywhere_is_refused() {
        let mut list = list();
        assert_eq!(try_from(&mut list, "192.0.2.1", PAIR, 0), put_off(300));
        let bytes = list.to_bytes();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let error = if at < MAGIC.len() {
                ImageError::Foreign
            } else {
                ImageError::Damaged
            };
            assert_eq!(
                Greylist::parse(&bad, now(0)).err(),
                Some(error),
                "byte {at}"
            );
            assert!(
                Greylist::parse(&bytes[..at], now(0)).is_err(),
                "cut at {at}"
            );
        }
        let mut long = bytes.clone();
        long.extend_from_slice(&[0; ENTRY_BYTES]);
        assert_eq!(
            Greylist::parse(&long, now(0)).err(),
            Some(ImageError::Damaged)
        );
        // A count that lies, with a right sum.
        let mut lie = bytes[..bytes.len() - 4].to_vec();
        lie[HEAD_BYTES - 4] = 9;
        let sum = crc32fast::hash(&lie).to_le_bytes();
        lie.extend_from_slice(&sum);
        assert_eq!(
            Greylist::parse(&lie, now(0)).err(),
            Some(ImageError::Damaged)
        );
    }
}
