//! The Sender Rewriting Scheme: an envelope sender for forwarded mail that belongs to the domain of the forwarder. SPF
//! passes at the next hop, and a bounce can be returned to the original sender.
//!
//! ```text
//! ann@source.example              forwarded by us.example:   SRS0=HHHHHHHH=DD=source.example=ann@us.example
//! SRS0=h=d=source.example=ann@a   forwarded by us.example:   SRS1=HHHHHHHHDD=a==h=d=source.example=ann@us.example
//! ```
//!
//! There is no RFC. The format is that of Shevek's paper and of libsrs2, which other forwarders can parse; only the
//! host that made an address reads the field after its tag. This page specifies ours.
//!
//! **Fields.** `DD` is the day (UTC, days since 1970, modulo 1,024) and `HHHHHHHH` a hash, both in base32 (RFC 4648
//! section 6). In SRS0, the domain and the local part of the sender follow. In SRS1, the domain of the first forwarder
//! follows, then the text behind the tag of the first forwarder's address, with its separator. A third forwarder can
//! therefore replace our field by its own, and an address grows once and not with each hop. An address that has the tag
//! of SRS and lacks these parts is rewritten like any other sender.
//!
//! **Hash.** The first forty bits of HMAC-SHA-256 over these texts, each preceded by its length: the tag, the
//! forwarder's domain, the number of the day (not modulo 1,024, so that an address does not become valid again after
//! three years), the domain and the local part. The key is HMAC-SHA-256 of a label under the operator's secret, so
//! nothing else that is signed with that secret can pass for a hash. An address of one tag, day or forwarder is not
//! valid under another.
//!
//! **Spelling.** Some hosts change the case of a local part, and quoting does not distinguish mailboxes (RFC 5321
//! section 4.1.2). ASCII case and quotes around the whole local part are therefore ignored, in the hash and everywhere
//! else. Every other change makes an address invalid.
//!
//! **Days.** An address is valid on its day, for [`SRS_DAYS_MAX`] days after it, and, because clocks differ, on the day
//! before.
//!
//! **Permission to use one.** Other modules decide: [`crate::policy::authority`] (the null reverse-path, or a sender
//! for which SPF or DKIM vouches) and [`crate::policy::returns`] (how often).
//!
//! **Wrapped addresses.** After a mail loop, SRS1 may contain another address of ours. It is unwrapped as often as it
//! was wrapped, up to [`SRS_UNWRAPS_MAX`] times, and each layer must be valid.
//!
//! **Addresses of 0.1.0.** The hash of 0.1.0 covered neither tag nor day nor forwarder, its SRS1 had no day, and any
//! client could have addresses of its choice made. These addresses are accepted until [`SRS_DAYS_MAX`] days after the
//! upgrade ([`Rewriter::honouring`]) and then never again. SRS0 must have a day no later than that of the upgrade, and
//! is valid for as long as its own day allows. SRS1 has no day and is valid until that end. [`Returned::maker`] tells
//! the two versions apart, because only the null reverse-path may use addresses of 0.1.0.
//!
//! Invariant: [`Rewriter::reverse`] returns an address only for what [`Rewriter::forward`] made with the same secret.

use std::fmt;

use ring::hmac;
use zeroize::Zeroizing;

use crate::address::{AddressError, Domain, Mailbox};
use crate::date::Timestamp;
use crate::limits::{SRS_DAYS_MAX, SRS_SECRET_BYTES_MIN, SRS_UNWRAPS_MAX};

/// Rewrites senders, and restores them.
pub struct Rewriter {
    /// The first key signs; all are tried for verification, so that the operator can change the secret without losing
    /// bounces.
    keys: Vec<Key>,
    /// The day of the upgrade from 0.1.0, if there was one.
    upgraded: Option<u64>,
}

/// The result of unwrapping an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Returned {
    /// The original sender, or the previous forwarder's address, which only that forwarder can unwrap.
    pub sender: Mailbox,
    /// The release that made the address; the oldest one, if the address was wrapped.
    pub maker: Maker,
    /// Identifies the address in tables, whatever its spelling and wrapping; a client cannot choose it.
    pub id: u64,
}

/// A release whose addresses are accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Maker {
    /// This release, or another one that makes the same addresses.
    Present,
    /// 0.1.0.
    Old,
}

/// Why an address cannot be unwrapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReverseError {
    /// It does not have the form of SRS.
    NotRewritten,
    /// It has the tag of SRS but lacks fields.
    Malformed,
    /// The hash is wrong: another host made it, or another secret was used.
    Forged,
    /// It is older than the time within which bounces arrive.
    Expired,
    /// It was wrapped too often.
    Deep,
}

impl fmt::Display for ReverseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotRewritten => "the address is not a rewritten sender",
            Self::Malformed => "the rewritten sender lacks parts",
            Self::Forged => "the rewritten sender was not made here",
            Self::Expired => "the rewritten sender is too old",
            Self::Deep => "the rewritten sender was rewritten too often",
        })
    }
}

impl std::error::Error for ReverseError {}

/// The secret for SRS is too short.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SecretTooShort;

impl fmt::Display for SecretTooShort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a secret has {SRS_SECRET_BYTES_MIN} bytes at least")
    }
}

impl std::error::Error for SecretTooShort {}

impl fmt::Debug for Rewriter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Rewriter({} secrets)", self.keys.len())
    }
}

impl Rewriter {
    /// Signs with the first secret, and verifies with all.
    pub fn new(secrets: &[Zeroizing<Vec<u8>>]) -> Result<Self, SecretTooShort> {
        let long = |secret: &Zeroizing<Vec<u8>>| secret.len() >= SRS_SECRET_BYTES_MIN;
        if secrets.is_empty() || !secrets.iter().all(long) {
            return Err(SecretTooShort);
        }
        let keys = secrets.iter().map(|secret| Key::new(secret)).collect();
        Ok(Self {
            keys,
            upgraded: None,
        })
    }

    /// Also accepts addresses of 0.1.0, which ran here until `upgraded`.
    #[must_use]
    pub fn honouring(mut self, upgraded: Timestamp) -> Self {
        self.upgraded = Some(upgraded.seconds() / DAY_S);
        self
    }

    /// The reverse-path with which `forwarder` forwards mail of `sender`.
    pub fn forward(
        &self,
        sender: &Mailbox,
        forwarder: &Domain,
        at: Timestamp,
    ) -> Result<Mailbox, AddressError> {
        // The whole local part is quoted if the original was; the quoted text does not change.
        let (quoted, local) = unquoted(sender.local_part());
        let day = at.seconds() / DAY_S;
        let sign = |parts: &Parts<'_>| {
            let key = self.keys.first();
            key.map(|key| key.hash(parts)).unwrap_or_default()
        };
        let text = match Wrapped::of(local, sender.domain()) {
            Some(Wrapped { host, behind }) => {
                let hash = sign(&Parts {
                    tag: Tag::Later,
                    forwarder,
                    day,
                    host,
                    behind,
                });
                format!("SRS1={hash}{}={host}={behind}", stamp(day))
            }
            None => {
                let host = sender.domain().as_str();
                let hash = sign(&Parts {
                    tag: Tag::First,
                    forwarder,
                    day,
                    host,
                    behind: local,
                });
                format!("SRS0={hash}={}={host}={local}", stamp(day))
            }
        };
        let text = if quoted { format!("\"{text}\"") } else { text };
        Mailbox::new(&text, forwarder)
    }

    /// The original sender, to which a bounce to `address` is returned.
    pub fn reverse(&self, address: &Mailbox, now: Timestamp) -> Result<Mailbox, ReverseError> {
        self.open(address, now).map(|returned| returned.sender)
    }

    /// Unwraps an address, and repeats that while `ours` accepts the result.
    pub fn unwrap(
        &self,
        address: &Mailbox,
        ours: impl Fn(&Domain) -> bool,
        now: Timestamp,
    ) -> Result<Returned, ReverseError> {
        let mut returned = self.open(address, now)?;
        for _ in 0..SRS_UNWRAPS_MAX {
            if !ours(returned.sender.domain()) || !is_rewritten(&returned.sender) {
                return Ok(returned);
            }
            // The id is that of the innermost address of ours, because a client can have it wrapped again each day.
            let inner = self.open(&returned.sender, now)?;
            let maker = match returned.maker {
                Maker::Old => Maker::Old,
                Maker::Present => inner.maker,
            };
            returned = Returned { maker, ..inner };
        }
        Err(ReverseError::Deep)
    }

    /// Removes one layer.
    fn open(&self, address: &Mailbox, now: Timestamp) -> Result<Returned, ReverseError> {
        let (quoted, local) = unquoted(address.local_part());
        let (tag, rest) = Tag::of(local).ok_or(ReverseError::NotRewritten)?;
        // A maker of ours writes no other separator.
        let is_plain = local.as_bytes().get(TAG_BYTES) == Some(&b'=');
        let (field, inner) = rest.split_once('=').ok_or(ReverseError::Malformed)?;
        let forwarder = address.domain();
        let today = now.seconds() / DAY_S;
        let claim = match tag {
            Tag::First => Claim::first(field, inner, today)?,
            Tag::Later => Claim::later(field, inner, today)?,
        };
        let age = claim.day.map_or(0, |day| today.saturating_sub(day));
        let maker = if is_plain && self.is_ours(&claim, forwarder) {
            Maker::Present
        } else if self.is_old(&claim, inner, today) {
            Maker::Old
        } else {
            return Err(ReverseError::Forged);
        };
        if age > SRS_DAYS_MAX {
            return Err(ReverseError::Expired);
        }
        let behind = match tag {
            Tag::First => claim.behind.to_owned(),
            Tag::Later => format!("SRS0{}{}", separator(claim.behind), claim.behind),
        };
        let behind = match quoted {
            true => format!("\"{behind}\""),
            false => behind,
        };
        let domain = Domain::parse(claim.host).map_err(|_| ReverseError::Malformed)?;
        let sender = Mailbox::new(&behind, &domain).map_err(|_| ReverseError::Malformed)?;
        let id = match maker {
            Maker::Present => self.id(local, address.domain().as_str()),
            // Its hash does not cover the tag, separator and domain of ours around it.
            Maker::Old => self.id(inner, ""),
        };
        Ok(Returned { sender, maker, id })
    }

    fn is_ours(&self, claim: &Claim<'_>, forwarder: &Domain) -> bool {
        let Some(day) = claim.day else {
            return false;
        };
        let parts = Parts {
            tag: claim.tag,
            forwarder,
            day,
            host: claim.host,
            behind: claim.behind,
        };
        let mut keys = self.keys.iter();
        keys.any(|key| is_same(&key.hash(&parts), claim.hash))
    }

    /// Whether 0.1.0 made the address while it ran here.
    fn is_old(&self, claim: &Claim<'_>, inner: &str, today: u64) -> bool {
        let Some(upgraded) = self.upgraded else {
            return false;
        };
        let in_time = today <= upgraded.saturating_add(SRS_DAYS_MAX);
        // An address without a day is an SRS1 of that release; one of this release has the day in its field.
        let is_dated_so = match (claim.tag, claim.day) {
            (Tag::First, Some(day)) => day <= upgraded,
            (Tag::Later, None) => true,
            _ => false,
        };
        let mut keys = self.keys.iter();
        in_time && is_dated_so && keys.any(|key| is_same(&key.old_hash(inner), claim.hash))
    }

    /// The identifier of an address in tables, from the parts that distinguish it.
    fn id(&self, local: &str, domain: &str) -> u64 {
        let Some(key) = self.keys.first() else {
            return 0;
        };
        let mut context = hmac::Context::with_key(&key.table);
        put(&mut context, &local.to_ascii_lowercase());
        put(&mut context, domain);
        let tag = context.sign();
        let front = tag.as_ref().first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(front)
    }
}

/// Whether an address has the form of a rewritten sender.
pub fn is_rewritten(address: &Mailbox) -> bool {
    Tag::of(unquoted(address.local_part()).1).is_some()
}

/// The keys derived from one secret.
struct Key {
    /// For the hashes of addresses.
    address: hmac::Key,
    /// For [`Returned::id`].
    table: hmac::Key,
    /// The secret itself, as 0.1.0 used it.
    old: hmac::Key,
}

impl Key {
    fn new(secret: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = |label: &str| {
            let key = hmac::sign(&root, label.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
        };
        Self {
            address: derived(ADDRESS_LABEL),
            table: derived(TABLE_LABEL),
            old: root,
        }
    }

    fn hash(&self, parts: &Parts<'_>) -> String {
        let mut context = hmac::Context::with_key(&self.address);
        put(&mut context, parts.tag.as_str());
        put(&mut context, parts.forwarder.as_str());
        put(&mut context, &parts.day.to_string());
        put(&mut context, &parts.host.to_ascii_lowercase());
        put(&mut context, &parts.behind.to_ascii_lowercase());
        shown(&context.sign())
    }

    fn old_hash(&self, inner: &str) -> String {
        let text = inner.to_ascii_lowercase();
        shown(&hmac::sign(&self.old, text.as_bytes()))
    }
}

/// A text after its length.
fn put(context: &mut hmac::Context, text: &str) {
    context.update(&(text.len() as u64).to_be_bytes());
    context.update(text.as_bytes());
}

/// The data that a hash covers.
struct Parts<'a> {
    tag: Tag,
    forwarder: &'a Domain,
    day: u64,
    host: &'a str,
    behind: &'a str,
}

/// The fields of an address.
struct Claim<'a> {
    tag: Tag,
    hash: &'a str,
    /// `None` if it has none.
    day: Option<u64>,
    host: &'a str,
    behind: &'a str,
}

impl<'a> Claim<'a> {
    fn first(hash: &'a str, inner: &'a str, today: u64) -> Result<Self, ReverseError> {
        let (stamp, rest) = inner.split_once('=').ok_or(ReverseError::Malformed)?;
        let (host, behind) = rest.split_once('=').ok_or(ReverseError::Malformed)?;
        Ok(Self {
            tag: Tag::First,
            hash,
            day: Some(day_of(stamp, today).ok_or(ReverseError::Malformed)?),
            host,
            behind,
        })
    }

    fn later(field: &'a str, inner: &'a str, today: u64) -> Result<Self, ReverseError> {
        let (host, behind) = inner.split_once('=').ok_or(ReverseError::Malformed)?;
        let (hash, stamp) = field.split_at_checked(HASH_CHARS).unwrap_or((field, ""));
        let day = match stamp {
            "" => None,
            stamp => Some(day_of(stamp, today).ok_or(ReverseError::Malformed)?),
        };
        Ok(Self {
            tag: Tag::Later,
            hash,
            day,
            host,
            behind,
        })
    }
}

/// The address of another forwarder that is wrapped in one of ours.
struct Wrapped<'a> {
    /// The first forwarder.
    host: &'a str,
    /// The text after the tag of its address, beginning with the separator.
    behind: &'a str,
}

impl<'a> Wrapped<'a> {
    fn of(local: &'a str, domain: &'a Domain) -> Option<Self> {
        let found = match Tag::of(local)? {
            (Tag::First, _) => Self {
                host: domain.as_str(),
                behind: local.get(TAG_BYTES..)?,
            },
            (Tag::Later, rest) => {
                let (_, inner) = rest.split_once('=')?;
                let (host, behind) = inner.split_once('=')?;
                Self { host, behind }
            }
        };
        let is_host = Domain::parse(found.host)
            .is_ok_and(|host| !host.is_literal() && host.as_str().contains('.'));
        // Three more fields: a hash, a day, a domain; then the local part.
        let is_whole = separator(found.behind).is_empty() && found.behind.matches('=').count() >= 3;
        (is_host && is_whole).then_some(found)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tag {
    /// `SRS0`.
    First,
    /// `SRS1`.
    Later,
}

impl Tag {
    /// The tag and the text after it. `+` and `-` are accepted in place of `=`, because other implementations write
    /// them.
    fn of(local: &str) -> Option<(Self, &str)> {
        let (tag, rest) = local.split_at_checked(TAG_BYTES)?;
        let rest = rest.strip_prefix(['=', '+', '-'])?;
        match tag.to_ascii_uppercase().as_str() {
            "SRS0" => Some((Self::First, rest)),
            "SRS1" => Some((Self::Later, rest)),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::First => "SRS0",
            Self::Later => "SRS1",
        }
    }
}

/// An SRS1 address contains the text after the tag of the first one, including its separator, which some forwarders
/// omit.
fn separator(behind: &str) -> &'static str {
    if behind.starts_with(['=', '+', '-']) {
        ""
    } else {
        "="
    }
}

fn unquoted(local_part: &str) -> (bool, &str) {
    let inside = local_part
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(inside) => (true, inside),
        None => (false, local_part),
    }
}

/// The first forty bits of a tag, in eight characters.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "eight places of five bits are less than 64 bits"
)]
fn shown(tag: &hmac::Tag) -> String {
    let front = tag.as_ref().iter().take(HASH_BYTES);
    let bits = front.fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (0..HASH_BYTES * 8 / 5)
        .rev()
        .map(|place| digit(bits >> (place * 5)))
        .collect()
}

/// Whether two hashes are equal, in constant time.
fn is_same(hash: &str, found: &str) -> bool {
    let pairs = hash.bytes().zip(found.bytes());
    let differing = pairs.fold(0, |all, (one, other)| {
        all | (one ^ other.to_ascii_uppercase())
    });
    hash.len() == found.len() && differing == 0
}

/// A day modulo 1,024, in two characters.
fn stamp(day: u64) -> String {
    [digit(day >> 5), digit(day)].iter().collect()
}

/// The last day with this value modulo 1,024, up to tomorrow; `None` if there is none.
fn day_of(stamp: &str, today: u64) -> Option<u64> {
    let mut days = 0;
    let mut chars = 0_usize;
    for c in stamp.chars() {
        let value = DIGITS
            .iter()
            .position(|known| known.eq_ignore_ascii_case(&c))?;
        days = (days << 5 | value as u64) & DAYS_MASK;
        chars = chars.saturating_add(1);
    }
    if chars != 2 {
        return None;
    }
    let tomorrow = today.saturating_add(1);
    tomorrow.checked_sub(tomorrow.wrapping_sub(days) & DAYS_MASK)
}

fn digit(bits: u64) -> char {
    let index = usize::try_from(bits & 31).unwrap_or_default();
    DIGITS.get(index).copied().unwrap_or('A')
}

/// Base32 (RFC 4648 section 6).
const DIGITS: [char; 32] = [
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S',
    'T', 'U', 'V', 'W', 'X', 'Y', 'Z', '2', '3', '4', '5', '6', '7',
];
const TAG_BYTES: usize = 4;
const HASH_BYTES: usize = 5;
const HASH_CHARS: usize = 8;
const DAY_S: u64 = 86_400;
const DAYS_MASK: u64 = 1_023;
const ADDRESS_LABEL: &str = "chopar: return addresses, 2";
const TABLE_LABEL: &str = "chopar: return addresses in tables, 2";

#[cfg(test)]
mod tests;
