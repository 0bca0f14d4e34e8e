//! The sets in a header: which fields belong together, whether they form a chain (RFC 8617 sections 4.2 and 5.2, steps
//! 1 to 3), and the possible results.

use std::collections::BTreeMap;
use std::fmt;

use crate::address::Domain;
use crate::auth::dkim::tag::TagList;
use crate::auth::dkim::verdict::{DkimFailure as SignatureFailure, Partial};
use crate::auth::results::skip_cfws;
use crate::limits::ARC_SETS_MAX;
use crate::mail::header::{Field, Header};

/// The verdict on the chain of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArcVerdict {
    /// Whether the chain is valid, or the reason of its failure.
    pub outcome: ArcResult,
    /// The sets from 1 on, as far as they could be separated; empty if the fields do not form a chain.
    pub sets: Vec<SealedSet>,
    /// Whether `l=` of the newest message signature leaves part of the body unsigned.
    pub partial: Option<Partial>,
    /// The highest instance number of any field; 0 if there is none.
    pub(super) highest: u64,
}

/// The result of validation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArcResult {
    None,
    /// The chain is valid.
    Pass {
        /// The lowest instance from which on the message was unchanged; 0 if there is none (section 5.2, step 5).
        oldest_pass: u8,
    },
    /// The chain has failed permanently.
    Fail(ArcFailure),
}

/// A Chain Validation Status, the value of `cv=` (section 4.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChainValidation {
    /// There is no chain.
    None,
    /// The chain is valid.
    Pass,
    /// The chain has failed.
    Fail,
}

/// One set, and the results of its signatures that were verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealedSet {
    /// `i=`.
    pub instance: u8,
    /// `d=` of the seal, if it could be read: the domain that vouches for the set if the chain is valid.
    pub sealer: Option<Domain>,
    /// `s=` of the seal.
    pub selector: Option<Box<str>>,
    /// The results of the sealer: the value of ARC-Authentication-Results after `i=`, unfolded.
    pub results: String,
    /// The result of ARC-Message-Signature; `None` if it was not verified.
    pub message: Option<Result<(), SignatureFailure>>,
    /// The result of ARC-Seal; `None` if it was not verified.
    pub seal: Option<Result<(), SignatureFailure>>,
}

/// Why a chain fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArcFailure {
    /// A field has no valid instance number.
    Instance,
    /// There are more than [`ARC_SETS_MAX`] sets.
    TooMany,
    /// The newest seal says that the chain failed.
    Reported { instance: u8 },
    /// A field occurs twice in a set.
    Duplicate { instance: u8 },
    /// A set, or one of its fields, is missing.
    Missing { instance: u8 },
    /// `cv=` is not `none` in the first seal, or not `pass` in a later one.
    ChainValue { instance: u8 },
    /// The newest message signature is not valid.
    Message { instance: u8, why: SignatureFailure },
    /// A seal is not valid.
    Seal { instance: u8, why: SignatureFailure },
}

impl ArcVerdict {
    /// The value of `cv=` in a seal.
    /// Decides RFC 8617 section 4.4.
    pub const fn status(&self) -> ChainValidation {
        match self.outcome {
            ArcResult::None => ChainValidation::None,
            ArcResult::Pass { .. } => ChainValidation::Pass,
            ArcResult::Fail(_) => ChainValidation::Fail,
        }
    }
}

impl ChainValidation {
    /// The word in `cv=` and in Authentication-Results (RFC 8601).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for ChainValidation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for ArcFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance => out.write_str("a field has no instance number"),
            Self::TooMany => write!(out, "there are more than {ARC_SETS_MAX} sets"),
            Self::Reported { instance } => write!(out, "set {instance} says that it was broken"),
            Self::Duplicate { instance } => write!(out, "set {instance} has a field twice"),
            Self::Missing { instance } => write!(out, "set {instance} is not whole"),
            Self::ChainValue { instance } => write!(out, "cv= is wrong in seal {instance}"),
            Self::Message { instance, why } => write!(out, "message signature {instance}: {why}"),
            Self::Seal { instance, why } => write!(out, "seal {instance}: {why}"),
        }
    }
}

/// The fields of one set, by their indices among all fields of the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Set {
    pub(super) results: usize,
    pub(super) message: usize,
    pub(super) seal: usize,
}

/// All ARC fields of a header.
#[derive(Debug)]
pub(super) struct Chain {
    /// The highest instance number of any field.
    pub(super) highest: u64,
    /// The sets from 1 on; empty if there are none.
    pub(super) sets: Result<Vec<Set>, ArcFailure>,
}

impl Chain {
    /// Collects and checks the sets.
    pub(super) fn collect(header: &Header) -> Self {
        let mut found: BTreeMap<u8, [Places; 3]> = BTreeMap::new();
        let mut highest = 0;
        let mut failure = None;
        let mut reported = (0, false);
        for (place, field) in header.fields().enumerate() {
            let Some(role) = NAMES.iter().position(|name| field.is(name)) else {
                continue;
            };
            let number = instance(field);
            highest = highest.max(number.unwrap_or(0));
            let number = number.and_then(|number| u8::try_from(number).ok());
            let Some(number) = number.filter(|number| (1..=ARC_SETS_MAX).contains(number)) else {
                failure = Some(ArcFailure::Instance);
                continue;
            };
            if role == SEAL_ROLE && number >= reported.0 {
                let again = reported.1 && number == reported.0;
                reported = (
                    number,
                    again || chain_value_is(field, ChainValidation::Fail),
                );
            }
            if let Some(places) = found.entry(number).or_default().get_mut(role) {
                places.push(place);
            }
        }
        if highest > u64::from(ARC_SETS_MAX) {
            failure = Some(ArcFailure::TooMany);
        } else if reported.1 && u64::from(reported.0) == highest {
            failure = Some(ArcFailure::Reported {
                instance: reported.0,
            });
        }
        let sets = failure.map_or_else(|| whole_sets(&found), Err);
        let sets = sets.and_then(|sets| check_chain_values(header, sets));
        Self { highest, sets }
    }
}

/// Section 5.2 step 3, A and B: each field occurs once in each set, and the sets are numbered without gaps.
/// Decides RFC 8617 section 5.2.
fn whole_sets(found: &BTreeMap<u8, [Places; 3]>) -> Result<Vec<Set>, ArcFailure> {
    let mut sets = Vec::new();
    for ((&number, roles), instance) in found.iter().zip(1..) {
        if number != instance {
            return Err(ArcFailure::Missing { instance });
        }
        match roles.each_ref().map(Vec::as_slice) {
            [[results], [message], [seal]] => sets.push(Set {
                results: *results,
                message: *message,
                seal: *seal,
            }),
            roles if roles.iter().any(|places| places.len() > 1) => {
                return Err(ArcFailure::Duplicate { instance });
            }
            _ => return Err(ArcFailure::Missing { instance }),
        }
    }
    Ok(sets)
}

/// Section 5.2 step 3, C: the first seal says `none`, all others `pass`.
fn check_chain_values(header: &Header, sets: Vec<Set>) -> Result<Vec<Set>, ArcFailure> {
    let mut expected = ChainValidation::None;
    for (set, instance) in sets.iter().zip(1..) {
        let seal = header.fields().nth(set.seal);
        if !seal.is_some_and(|seal| chain_value_is(seal, expected)) {
            return Err(ArcFailure::ChainValue { instance });
        }
        expected = ChainValidation::Pass;
    }
    Ok(sets)
}

fn chain_value_is(seal: Field<'_>, status: ChainValidation) -> bool {
    TagList::parse(seal.value()).is_ok_and(|tags| {
        tags.value("cv")
            .is_some_and(|value| value.eq_ignore_ascii_case(status.as_str()))
    })
}

/// The instance number of an ARC field; a number past `u64` saturates.
fn instance(field: Field<'_>) -> Option<u64> {
    if field.is(RESULTS) {
        return split_results(field.value()).map(|(instance, _)| instance);
    }
    let tags = TagList::parse(field.value()).ok()?;
    let digits = tags.value("i")?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().unwrap_or(u64::MAX))
        .filter(|_| !digits.is_empty())
}

/// The instance number of an ARC-Authentication-Results field and the text after its semicolon (section 4.1.1, which
/// allows comments anywhere).
/// Decides RFC 8617 section 4.1.1.
pub(super) fn split_results(value: &[u8]) -> Option<(u64, &[u8])> {
    let rest = skip_cfws(value)?;
    let rest = rest
        .strip_prefix(b"i")
        .or_else(|| rest.strip_prefix(b"I"))?;
    let rest = skip_cfws(rest)?.strip_prefix(b"=")?;
    let rest = skip_cfws(rest)?;
    let len = rest
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, rest) = rest.split_at_checked(len)?;
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| !digits.is_empty())?;
    let payload = skip_cfws(rest)?.strip_prefix(b";")?;
    Some((digits.parse().unwrap_or(u64::MAX), payload))
}

type Places = Vec<usize>;

pub(super) const RESULTS: &str = "ARC-Authentication-Results";
pub(super) const MESSAGE: &str = "ARC-Message-Signature";
pub(super) const SEAL: &str = "ARC-Seal";
const NAMES: [&str; 3] = [RESULTS, MESSAGE, SEAL];
const SEAL_ROLE: usize = 2;
