//! Questions to the DNS, and answers.
//!
//! A check that needs the DNS (MX order, DKIM keys, …) is a resumable pure function. It returns a [`Step`]: its
//! verdict, or the next question. The caller calls it again with the [`Answer`]. The function never waits.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::address::Domain;

/// The record types that a relay asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RecordKind {
    /// IPv4 addresses (RFC 1035).
    A,
    /// IPv6 addresses (RFC 3596).
    Aaaa,
    /// Mail exchangers (RFC 1035; null MX RFC 7505).
    Mx,
    /// Texts (RFC 1035).
    Txt,
    /// Names of an address (RFC 1035).
    Ptr,
    /// Certificate associations (RFC 6698).
    Tlsa,
}

/// One question: the records of a kind at a name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Question {
    /// The owner name, absolute.
    pub name: Domain,
    pub kind: RecordKind,
}

impl Question {
    /// The zone that the name probably belongs to ([`zone_of`]).
    pub fn zone(&self) -> &str {
        zone_of(self.name.as_str())
    }
}

/// The probable zone of a name: its last two labels; for the reverse name of an address (RFC 1035 section 3.5), the
/// last four.
pub fn zone_of(name: &str) -> &str {
    let labels: usize = if name.ends_with(".arpa") { 4 } else { 2 };
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    match dots.nth(labels.saturating_sub(1)) {
        Some(at) => name.get(at.saturating_add(1)..).unwrap_or(name),
        None => name,
    }
}

/// A mail exchanger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mx {
    /// Lower values are tried first.
    pub preference: u16,
    /// The host; `None` is the root name, which alone makes a null MX (RFC 7505).
    pub host: Option<Domain>,
}

/// A certificate association (RFC 6698 section 2.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tlsa {
    /// Certificate usage.
    pub usage: u8,
    /// Selector: 0 the whole certificate, 1 its public key.
    pub selector: u8,
    /// Matching type: 0 the bytes themselves, 1 SHA-256, 2 SHA-512.
    pub matching: u8,
    /// The data that is compared.
    pub data: Vec<u8>,
}

/// The records of an answer; never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Records {
    /// Of [`RecordKind::A`].
    A(Vec<Ipv4Addr>),
    /// Of [`RecordKind::Aaaa`].
    Aaaa(Vec<Ipv6Addr>),
    /// Of [`RecordKind::Mx`].
    Mx(Vec<Mx>),
    /// Of [`RecordKind::Txt`]: the character-strings of each record, joined.
    Txt(Vec<Vec<u8>>),
    /// Of [`RecordKind::Ptr`].
    Ptr(Vec<Domain>),
    /// Of [`RecordKind::Tlsa`].
    Tlsa(Vec<Tlsa>),
}

/// Why there are no records.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum NoRecords {
    /// The name does not exist (NXDOMAIN): permanent.
    NoDomain,
    /// The name exists without records of this kind (NODATA): permanent.
    NoData,
    /// A server reported a failure, or its answer was malformed or lame (SERVFAIL, REFUSED): try again later.
    ServerFailure,
    /// No server answered in time: try again later.
    Timeout,
    /// The question was not sent, because too many questions are open: try again later.
    NoRoom,
}

impl NoRecords {
    /// Whether a later attempt may succeed.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::ServerFailure | Self::Timeout | Self::NoRoom)
    }
}

/// The answer to a [`Question`]. Cheap to clone: the cache and all recipients share the records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The records, or the reason for which there are none.
    pub records: Result<Arc<Records>, NoRecords>,
    /// Whether a trusted validating resolver set the AD bit (accepted from loopback, or with `trust-ad`).
    pub authentic: bool,
    /// How long the answer may be cached.
    pub ttl: Duration,
}

impl Answer {
    /// Bytes that its records take.
    pub fn bytes(&self) -> usize {
        let names = |names: &mut dyn Iterator<Item = &Domain>| -> usize {
            names
                .map(|name| name.as_str().len().saturating_add(32))
                .sum()
        };
        match self.records.as_deref() {
            Err(_) => 0,
            Ok(Records::A(list)) => list.len().saturating_mul(4),
            Ok(Records::Aaaa(list)) => list.len().saturating_mul(16),
            Ok(Records::Mx(list)) => names(&mut list.iter().filter_map(|mx| mx.host.as_ref())),
            Ok(Records::Ptr(list)) => names(&mut list.iter()),
            Ok(Records::Txt(list)) => list.iter().map(|text| text.len().saturating_add(24)).sum(),
            Ok(Records::Tlsa(list)) => list
                .iter()
                .map(|tlsa| tlsa.data.len().saturating_add(32))
                .sum(),
        }
    }
}

/// Calls a check with the answers so far and asks its questions, until it returns its verdict.
pub fn verdict<Verdict>(
    ask: &mut dyn FnMut(&Question) -> Answer,
    mut check: impl FnMut(&[(Question, Answer)]) -> Step<Verdict>,
) -> Verdict {
    let mut answers: Vec<(Question, Answer)> = Vec::new();
    loop {
        match check(&answers) {
            Step::Done(verdict) => return verdict,
            Step::Ask(questions) => answers.extend(questions.into_iter().map(|question| {
                let answer = ask(&question);
                (question, answer)
            })),
        }
    }
}

/// The result of a resumable check: its verdict, or the question whose answer it needs.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Step<Verdict> {
    /// Answer this question, and call again with all answers.
    Ask(Vec<Question>),
    /// The verdict; do not call again.
    Done(Verdict),
}
