//! The result of a signature in the terms of RFC 8601 section 2.7.1, and the reason.

use std::fmt;

use super::key::Algorithm;
use super::record::KeyRecordError;
use super::tag::{TagList, TagListError};
use crate::address::Domain;

/// The result of one signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignatureVerdict {
    /// `d=`, if it could be read.
    pub domain: Option<Domain>,
    /// `s=`.
    pub selector: Option<Box<str>>,
    /// `a=`, if it is a known one.
    pub algorithm: Option<Algorithm>,
    /// The first characters of `b=`, which distinguish signatures (RFC 6008).
    pub b_start: Option<Box<str>>,
    /// `t=y` of the key: the domain tests DKIM.
    pub testing: bool,
    /// `l=` left part of the body unsigned.
    pub partial: Option<Partial>,
    /// Whether it holds, or why not.
    pub outcome: Result<(), DkimFailure>,
}

/// How much of the body `l=` covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partial {
    /// Bytes of the canonical body that are signed.
    pub signed: u64,
    /// Bytes of the canonical body.
    pub total: u64,
}

/// A result of RFC 8601 section 2.7.1.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DkimResult {
    /// The signature holds.
    Pass,
    /// It does not: the message was changed, or never signed by that key.
    Fail,
    /// It cannot be read or is of a kind that is not known here.
    Neutral,
    /// The key could not be had for now.
    TempError,
    /// The key cannot be had, or does not fit the signature.
    PermError,
    /// It is not acceptable, whether it holds or not.
    Policy,
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DkimFailure {
    /// The field is not a tag list.
    Tags(TagListError),
    /// A required tag is missing, or a tag has an invalid value.
    Tag { name: &'static str },
    /// `a=` is none that is known here.
    UnknownAlgorithm,
    /// `a=rsa-sha1` (RFC 8301 section 3.1).
    RetiredAlgorithm,
    /// `q=` does not list dns/txt.
    QueryMethod,
    /// `h=` does not list From.
    FromNotSigned,
    /// `i=` is not within `d=`, or the key forbids subdomains (`t=s`).
    Identity,
    /// `x=` has passed.
    Expired,
    /// `t=` is to come.
    Future,
    /// `l=` is more than there is.
    BodyTooShort,
    /// `bh=` is not the hash of the body.
    BodyHash,
    /// The DNS gave no answer for now.
    KeyUnavailable,
    /// There is no key record.
    NoKey,
    /// The key record has no key for this signature.
    Key(KeyRecordError),
    /// The key is of another type than `a=`.
    KeyType,
    /// The signature does not fit key and header.
    Signature,
    /// Other signatures of the message have used up the computation allowed for one ([`super::cost`]).
    TooMuch,
}

impl<'a> TagList<'a> {
    /// The value of a required tag.
    pub(super) fn required(&self, name: &'static str) -> Result<&'a str, DkimFailure> {
        self.value(name).ok_or(DkimFailure::Tag { name })
    }
}

impl SignatureVerdict {
    /// The result of RFC 8601.
    pub fn verdict(&self) -> DkimResult {
        self.outcome
            .err()
            .map_or(DkimResult::Pass, DkimFailure::verdict)
    }
}

impl DkimFailure {
    /// The result of RFC 8601 for this cause.
    /// Decides RFC 8601 section 2.7.1.
    pub const fn verdict(self) -> DkimResult {
        match self {
            Self::Tags(_) | Self::Tag { .. } | Self::UnknownAlgorithm | Self::QueryMethod => {
                DkimResult::Neutral
            }
            Self::RetiredAlgorithm
            | Self::Expired
            | Self::Future
            | Self::Key(KeyRecordError::Size { .. } | KeyRecordError::Exponent)
            | Self::TooMuch => DkimResult::Policy,
            Self::FromNotSigned
            | Self::Identity
            | Self::NoKey
            | Self::Key(_)
            | Self::KeyType
            | Self::BodyTooShort => DkimResult::PermError,
            Self::KeyUnavailable => DkimResult::TempError,
            Self::BodyHash | Self::Signature => DkimResult::Fail,
        }
    }
}

impl DkimResult {
    /// The word of RFC 8601.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
            Self::Policy => "policy",
        }
    }
}

impl fmt::Display for DkimResult {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for DkimFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Tags(TagListError::Duplicate) => "a tag is there twice",
            Self::Tags(_) => "the field is not a list of tags",
            Self::Tag { name } => return write!(out, "the tag {name}= is missing or wrong"),
            Self::UnknownAlgorithm => "the algorithm is not known",
            Self::RetiredAlgorithm => "rsa-sha1 is retired",
            Self::QueryMethod => "the key is not in the DNS",
            Self::FromNotSigned => "From is not signed",
            Self::Identity => "i= is not within d=",
            Self::Expired => "the signature has expired",
            Self::Future => "the signature is from the future",
            Self::BodyTooShort => "the body is shorter than what was signed",
            Self::BodyHash => "the body was changed",
            Self::KeyUnavailable => "the key could not be looked up",
            Self::NoKey => "there is no key record",
            Self::Key(KeyRecordError::Revoked) => "the key was revoked",
            Self::Key(KeyRecordError::Size { bits }) => {
                return write!(out, "the RSA key has {bits} bits");
            }
            Self::Key(KeyRecordError::Exponent) => "the exponent of the RSA key is not a usual one",
            Self::Key(KeyRecordError::Service) => "the key is not for mail",
            Self::Key(KeyRecordError::Hash) => "the key is not for sha256",
            Self::Key(_) => "the key record cannot be read",
            Self::KeyType => "the key is of another type",
            Self::Signature => "the signature does not fit the header",
            Self::TooMuch => "the message asks for more computation than one message may",
        };
        out.write_str(text)
    }
}
