//! The Sender Rewriting Scheme: an envelope sender for forwarded mail that belongs to the domain that forwards, so that
//! SPF passes at the next hop, and through which a bounce finds the first sender.
//!
//! ```text
//! ann@source.example              forwarded by us.example:   SRS0=HASH=DD=source.example=ann@us.example
//! SRS0=h=d=source.example=ann@a   forwarded by us.example:   SRS1=HASH=a==h=d=source.example=ann@us.example
//! ```
//!
//! There is no RFC: the form is that of Shevek's paper and of libsrs2, which other forwarders read. `HASH` is an HMAC
//! over the rest, `DD` the day; without them anybody could bounce mail off the forwarder. Both are compared without
//! regard to case, since some hosts change that of a local part. An SRS1 address names the first forwarder, which
//! alone can check what is inside, so that an address grows once and not with each hop.
//!
//! Invariant: [`Rewriter::reverse`] gives an address only for what [`Rewriter::forward`] made with the same secret.

use std::fmt;

use ring::hmac;
use zeroize::Zeroizing;

use crate::address::{AddressError, Domain, Mailbox};
use crate::date::Timestamp;
use crate::limits::{SRS_DAYS_MAX, SRS_SECRET_BYTES_MIN};

/// Rewrites senders, and undoes it.
pub struct Rewriter {
    /// The first one signs; all are tried to verify, so that a secret can be changed without losing bounces.
    keys: Vec<hmac::Key>,
}

/// Why an address is not undone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReverseError {
    /// It is none of ours: it has no SRS form.
    NotRewritten,
    /// It has the form and lacks parts.
    Malformed,
    /// The hash is wrong: somebody else made it, or another secret.
    Forged,
    /// It is older than a bounce takes.
    Expired,
}

impl fmt::Display for ReverseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotRewritten => "the address is no rewritten sender",
            Self::Malformed => "the rewritten sender lacks parts",
            Self::Forged => "the rewritten sender was not made here",
            Self::Expired => "the rewritten sender is too old",
        })
    }
}

impl std::error::Error for ReverseError {}

/// A secret is too short.
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
    /// Signs with the first secret and believes all.
    pub fn new(secrets: &[Zeroizing<Vec<u8>>]) -> Result<Self, SecretTooShort> {
        let long = |secret: &Zeroizing<Vec<u8>>| secret.len() >= SRS_SECRET_BYTES_MIN;
        if secrets.is_empty() || !secrets.iter().all(long) {
            return Err(SecretTooShort);
        }
        let keys = secrets
            .iter()
            .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret))
            .collect();
        Ok(Self { keys })
    }

    /// The sender under which `forwarder` passes on what came from `sender`.
    pub fn forward(
        &self,
        sender: &Mailbox,
        forwarder: &Domain,
        at: Timestamp,
    ) -> Result<Mailbox, AddressError> {
        // The whole local part is quoted where this one was; what is inside the quotes does not change.
        let (quoted, local) = unquoted(sender.local_part());
        let domain = sender.domain();
        let inner = match Form::of(local) {
            // Another forwarder made it: what stands behind the tag is its own, the separator first, and goes back to it.
            Some((Form::First, _)) => local
                .get(TAG_BYTES..)
                .map(|behind| format!("{domain}={behind}")),
            Some((Form::Later, rest)) => rest.split_once('=').map(|(_, behind)| behind.to_owned()),
            None => None,
        };
        let text = match inner {
            Some(inner) => format!("SRS1={}={inner}", self.hash(&inner)),
            None => {
                let inner = format!("{}={domain}={local}", stamp(at));
                format!("SRS0={}={inner}", self.hash(&inner))
            }
        };
        let text = if quoted { format!("\"{text}\"") } else { text };
        Mailbox::new(&text, forwarder)
    }

    /// Where a bounce to `address` goes.
    pub fn reverse(&self, address: &Mailbox, now: Timestamp) -> Result<Mailbox, ReverseError> {
        let (quoted, local) = unquoted(address.local_part());
        let (form, rest) = Form::of(local).ok_or(ReverseError::NotRewritten)?;
        let (hash, inner) = rest.split_once('=').ok_or(ReverseError::Malformed)?;
        if !self.is_ours(hash, inner) {
            return Err(ReverseError::Forged);
        }
        let (local, domain) = match form {
            Form::First => {
                let (day, behind) = inner.split_once('=').ok_or(ReverseError::Malformed)?;
                let (domain, local) = behind.split_once('=').ok_or(ReverseError::Malformed)?;
                if age(day, now).ok_or(ReverseError::Malformed)? > SRS_DAYS_MAX {
                    return Err(ReverseError::Expired);
                }
                (local.to_owned(), domain)
            }
            Form::Later => {
                let (domain, behind) = inner.split_once('=').ok_or(ReverseError::Malformed)?;
                (format!("SRS0{}{behind}", separator(behind)), domain)
            }
        };
        let local = if quoted {
            format!("\"{local}\"")
        } else {
            local
        };
        let domain = Domain::parse(domain).map_err(|_| ReverseError::Malformed)?;
        Mailbox::new(&local, &domain).map_err(|_| ReverseError::Malformed)
    }

    fn hash(&self, inner: &str) -> String {
        self.keys
            .first()
            .map(|key| hash(key, inner))
            .unwrap_or_default()
    }

    fn is_ours(&self, found: &str, inner: &str) -> bool {
        let found = found.to_ascii_uppercase();
        // The tags themselves are compared by ring in constant time, over a key of their own.
        let compare = hmac::Key::new(hmac::HMAC_SHA256, b"compare");
        let tag = hmac::sign(&compare, found.as_bytes());
        self.keys
            .iter()
            .any(|key| hmac::verify(&compare, hash(key, inner).as_bytes(), tag.as_ref()).is_ok())
    }
}

/// Whether an address has the form of a rewritten sender.
pub fn is_rewritten(address: &Mailbox) -> bool {
    Form::of(unquoted(address.local_part()).1).is_some()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// `SRS0`.
    First,
    /// `SRS1`.
    Later,
}

impl Form {
    /// The form and what stands behind its tag. `+` and `-` are taken for `=` there, as others write them.
    fn of(local: &str) -> Option<(Self, &str)> {
        let (tag, rest) = local.split_at_checked(TAG_BYTES)?;
        let rest = rest.strip_prefix(['=', '+', '-'])?;
        match tag.to_ascii_uppercase().as_str() {
            "SRS0" => Some((Self::First, rest)),
            "SRS1" => Some((Self::Later, rest)),
            _ => None,
        }
    }
}

/// An SRS1 address holds what stood behind the tag of the first one, its separator included; some leave that out.
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

/// Forty bits of an HMAC over the text in lower case, in eight characters.
fn hash(key: &hmac::Key, inner: &str) -> String {
    let tag = hmac::sign(key, inner.to_ascii_lowercase().as_bytes());
    let front = tag.as_ref().iter().take(HASH_BYTES);
    let bits = front.fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (0..HASH_CHARS)
        .rev()
        .map(|place| digit(bits >> (place * 5)))
        .collect()
}

/// The day, modulo 1,024, in two characters.
fn stamp(at: Timestamp) -> String {
    let day = at.seconds() / DAY_S;
    [digit(day >> 5), digit(day)].iter().collect()
}

/// Days since a stamp, or nothing where it is none. A stamp of tomorrow is a clock that differs.
fn age(stamp: &str, now: Timestamp) -> Option<u64> {
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
    let age = (now.seconds() / DAY_S).wrapping_sub(days) & DAYS_MASK;
    Some(if age == DAYS_MASK { 0 } else { age })
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
const HASH_CHARS: u32 = 8;
const DAY_S: u64 = 86_400;
const DAYS_MASK: u64 = 1_023;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

    fn rewriter(secret: &str) -> Rewriter {
        Rewriter::new(&[Zeroizing::new(secret.repeat(4).into_bytes())]).expect("a secret")
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("an address")
    }

    fn us() -> Domain {
        Domain::parse("us.example").expect("a domain")
    }

    fn days(count: u64) -> std::time::Duration {
        std::time::Duration::from_secs(count * DAY_S)
    }

    #[test]
    fn a_sender_is_rewritten_once_and_found_again() {
        let rewriter = rewriter("0123");
        let sender = mailbox("ann@source.example");
        let forwarded = rewriter.forward(&sender, &us(), NOW).expect("an address");
        let text = forwarded.to_string();
        assert!(text.starts_with("SRS0="), "{text}");
        assert!(text.ends_with("=source.example=ann@us.example"), "{text}");
        assert_eq!(rewriter.reverse(&forwarded, NOW), Ok(sender));
    }

    #[test]
    fn what_another_forwarder_made_goes_back_through_it() {
        let (first, second, third) = (rewriter("aaaa"), rewriter("bbbb"), rewriter("cccc"));
        let at = |name: &str| Domain::parse(name).expect("a domain");
        let sender = mailbox("ann@source.example");
        let one = first
            .forward(&sender, &at("one.example"), NOW)
            .expect("SRS0");
        let two = second.forward(&one, &at("two.example"), NOW).expect("SRS1");
        // Whoever rewrites it again puts SRS0 before what follows the name of the first forwarder.
        let behind_tag = one.local_part().strip_prefix("SRS0").expect("SRS0");
        assert!(
            two.as_str().starts_with("SRS1=")
                && two
                    .local_part()
                    .ends_with(&format!("=one.example={behind_tag}")),
            "{two}"
        );
        let three = third
            .forward(&two, &at("three.example"), NOW)
            .expect("SRS1");
        // It does not grow, and it leads to the first forwarder, not to the second.
        assert_eq!(three.as_str().len(), two.as_str().len() + 2);
        assert_eq!(third.reverse(&three, NOW), Ok(one.clone()));
        assert_eq!(second.reverse(&two, NOW), Ok(one.clone()));
        assert_eq!(first.reverse(&one, NOW), Ok(sender));
    }

    #[test]
    fn hosts_that_change_the_case_break_nothing() {
        let rewriter = rewriter("0123");
        let forwarded = rewriter
            .forward(&mailbox("Ann.B@source.example"), &us(), NOW)
            .expect("an address");
        for text in [
            forwarded.as_str().to_ascii_lowercase(),
            forwarded.as_str().to_ascii_uppercase(),
        ] {
            let back = rewriter.reverse(&mailbox(&text), NOW).expect("ours");
            assert!(back.is_same(&mailbox("ann.b@source.example")), "{back}");
        }
    }

    #[test]
    fn forged_expired_and_malformed_ones_are_refused() {
        let (ours, others) = (rewriter("0123"), rewriter("4567"));
        let sender = mailbox("ann@source.example");
        let forwarded = ours.forward(&sender, &us(), NOW).expect("an address");
        let reverse = |text: &str| ours.reverse(&mailbox(text), NOW);
        assert_eq!(others.reverse(&forwarded, NOW), Err(ReverseError::Forged));
        let altered = forwarded.as_str().replace("=ann@", "=bob@");
        assert_eq!(reverse(&altered), Err(ReverseError::Forged));
        let later = NOW.after(days(SRS_DAYS_MAX));
        assert!(ours.reverse(&forwarded, later).is_ok());
        let late = NOW.after(days(SRS_DAYS_MAX + 1));
        assert_eq!(ours.reverse(&forwarded, late), Err(ReverseError::Expired));
        // A clock that goes a day wrong expires nothing.
        let before = ours
            .forward(&sender, &us(), NOW.after(days(1)))
            .expect("an address");
        assert!(ours.reverse(&before, NOW).is_ok());
        assert_eq!(reverse("SRS0=x@us.example"), Err(ReverseError::Malformed));
        assert_eq!(reverse("SRS0=x=y@us.example"), Err(ReverseError::Forged));
        assert_eq!(reverse("ann@us.example"), Err(ReverseError::NotRewritten));
        assert_eq!(reverse("SRS0@us.example"), Err(ReverseError::NotRewritten));
    }

    #[test]
    fn a_secret_can_be_changed_without_losing_bounces() {
        let forwarded = rewriter("0123")
            .forward(&mailbox("ann@source.example"), &us(), NOW)
            .expect("an address");
        let secrets = ["4567", "0123"].map(|text| Zeroizing::new(text.repeat(4).into_bytes()));
        let both = Rewriter::new(&secrets).expect("secrets");
        assert!(both.reverse(&forwarded, NOW).is_ok());
        assert_eq!(
            Rewriter::new(&[Zeroizing::new(b"short".to_vec())]).err(),
            Some(SecretTooShort)
        );
    }

    #[test]
    fn a_long_sender_is_rewritten_although_the_result_is_longer_than_a_local_part() {
        let rewriter = rewriter("0123");
        let sender = mailbox(&format!(
            "{}@a-rather-long-name.source.example",
            "x".repeat(64)
        ));
        let forwarded = rewriter.forward(&sender, &us(), NOW).expect("an address");
        assert!(forwarded.local_part().len() > 64);
        // As it comes back in RCPT.
        let read = mailbox(forwarded.as_str());
        assert_eq!(rewriter.reverse(&read, NOW), Ok(sender));
    }

    proptest! {
        #[test]
        fn every_sender_comes_back(
            local in "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,40}",
            quoted in any::<bool>(),
            day in 0_u64..40_000,
        ) {
            let rewriter = rewriter("0123");
            let local = if quoted { format!("\"{local} x\"") } else { local };
            let sender = mailbox(&format!("{local}@source.example"));
            let at = Timestamp::from_seconds(day * DAY_S);
            let forwarded = rewriter.forward(&sender, &us(), at).expect("an address");
            prop_assert!(is_rewritten(&forwarded));
            let read = Mailbox::parse(forwarded.as_str()).expect("an address");
            prop_assert_eq!(rewriter.reverse(&read, at), Ok(sender));
        }
    }
}
