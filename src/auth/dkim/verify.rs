//! Verifying signatures (RFC 6376 section 6; results RFC 8601 section 2.7.1).
//!
//! [`Verification::new`] reads the signatures of a header, [`Verification::on_body`] hashes the body as it streams
//! past, and [`Verification::resume`] asks for the keys and gives the verdicts. A signature whose body hash is wrong
//! costs no look-up.
//!
//! Stricter than RFC 6376: at most [`DKIM_SIGNATURES_MAX`] signatures are looked at, from the top; RSA keys outside
//! 1,024 to 4,096 bits and rsa-sha1 do not count (RFC 8301). `l=` is honoured and reported: what follows the signed
//! part could come from anybody. `q=` other than dns/txt is not served.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey,
};

use super::canonical::{BodyHash, BodyHasher, Form, append_field, append_relaxed};
use super::key::Algorithm;
use super::record::{KeyRecord, PublicKey, RecordError, record_name};
use super::tag::{TagList, TagListError, elements, is_space, without_space};
use crate::address::Domain;
use crate::auth::credential::{KEY_BYTES, sha256};
use crate::date::Timestamp;
use crate::dns::{Answer, Question, RecordKind, Records, Step};
use crate::limits::{DKIM_CLOCK_SKEW, DKIM_KEY_RECORDS_MAX, DKIM_SIGNATURES_MAX};
use crate::mail::header::{Field, Header};

/// The verification of one message.
pub struct Verification {
    slots: Vec<Slot>,
    bodies: Vec<Body>,
}

/// What came of one signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignatureVerdict {
    /// `d=`, where it could be read.
    pub domain: Option<Domain>,
    /// `s=`.
    pub selector: Option<Box<str>>,
    /// `a=`, where it is one that is known.
    pub algorithm: Option<Algorithm>,
    /// The first characters of `b=`, which tell signatures apart (RFC 6008).
    pub b_start: Option<Box<str>>,
    /// `t=y` of the key: the domain tests DKIM.
    pub testing: bool,
    /// `l=` left part of the body unsigned.
    pub partial: Option<Partial>,
    /// Whether it holds, or why not.
    pub outcome: Result<(), Failure>,
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
pub enum Verdict {
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
pub enum Failure {
    /// The field is no tag list.
    Tags(TagListError),
    /// A tag that has to be there is missing, or has a value that it cannot have.
    Tag {
        /// Its name.
        name: &'static str,
    },
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
    /// The key record gives no key for this signature.
    Key(RecordError),
    /// The key is of another type than `a=`.
    KeyType,
    /// The signature does not fit key and header.
    Signature,
}

struct Slot {
    field: usize, // among all fields of the header
    reported: Reported,
    state: Result<Signature, Failure>,
}

/// What is known of a signature whatever becomes of it.
#[derive(Clone, Default)]
struct Reported {
    domain: Option<Domain>,
    selector: Option<Box<str>>,
    algorithm: Option<Algorithm>,
    b_start: Option<Box<str>>,
}

struct Signature {
    domain: Domain,
    identity: Domain,
    question: Question,
    algorithm: Algorithm,
    header_form: Form,
    names: Vec<String>,
    signature: Vec<u8>,
    body_hash: [u8; KEY_BYTES],
    body: usize,
    limit: Option<u64>,
}

/// A body hash that one or more signatures need.
struct Body {
    form: Form,
    limit: u64,
    state: BodyState,
}

enum BodyState {
    Streaming(Box<BodyHasher>),
    Done(BodyHash),
}

impl Verification {
    /// Reads the signatures of a message that is verified at `at`.
    pub fn new(header: &Header, at: Timestamp) -> Self {
        let mut bodies = Vec::new();
        let slots = header
            .fields()
            .enumerate()
            .filter(|(_, field)| field.is(FIELD_NAME))
            .take(DKIM_SIGNATURES_MAX)
            .map(|(nth, field)| {
                let mut reported = Reported::default();
                let state = Signature::parse(field.value(), at, &mut reported, &mut bodies);
                Slot {
                    field: nth,
                    reported,
                    state,
                }
            })
            .collect();
        Self { slots, bodies }
    }

    /// Takes the next piece of the body.
    pub fn on_body(&mut self, chunk: &[u8]) {
        for body in &mut self.bodies {
            if let BodyState::Streaming(hasher) = &mut body.state {
                hasher.update(chunk);
            }
        }
    }

    /// The keys that may be needed; they can be looked up while the body still streams.
    pub fn questions(&self) -> Vec<Question> {
        let mut questions: Vec<Question> = self
            .slots
            .iter()
            .filter_map(|slot| slot.state.as_ref().ok())
            .map(|signature| signature.question.clone())
            .collect();
        questions.sort_unstable();
        questions.dedup();
        questions
    }

    /// The verdicts, in the order of the fields, or the keys that are missing. The body must have been taken whole;
    /// `header` is the one of [`Verification::new`].
    pub fn resume(
        &mut self,
        header: &Header,
        answers: &[(Question, Answer)],
    ) -> Step<Vec<SignatureVerdict>> {
        self.finish_bodies();
        let answer = |question: &Question| {
            answers
                .iter()
                .find(|(other, _)| other == question)
                .map(|(_, answer)| answer)
        };
        let mut missing: Vec<Question> = self
            .slots
            .iter()
            .filter_map(|slot| slot.state.as_ref().ok())
            .map(|signature| &signature.question)
            .filter(|question| answer(question).is_none())
            .cloned()
            .collect();
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            return Step::Ask(missing);
        }
        let verdicts = self
            .slots
            .iter()
            .map(|slot| {
                let mut testing = false;
                let outcome = slot.state.as_ref().map_err(|failure| *failure);
                let outcome = outcome.and_then(|signature| {
                    let answer = answer(&signature.question).ok_or(Failure::KeyUnavailable)?;
                    let data = signature.data(header, slot.field);
                    let record = signature.verify(answer, &data)?;
                    testing = record.testing;
                    Ok(())
                });
                slot.verdict(&self.bodies, outcome, testing)
            })
            .collect();
        Step::Done(verdicts)
    }

    fn finish_bodies(&mut self) {
        for body in &mut self.bodies {
            if let BodyState::Streaming(hasher) = &body.state {
                body.state = BodyState::Done(hasher.as_ref().clone().finish());
            }
        }
        for slot in &mut self.slots {
            if let Ok(signature) = &slot.state
                && let Err(failure) = signature.check_body(&self.bodies)
            {
                slot.state = Err(failure);
            }
        }
    }
}

impl Slot {
    fn verdict(
        &self,
        bodies: &[Body],
        outcome: Result<(), Failure>,
        testing: bool,
    ) -> SignatureVerdict {
        let partial = self.state.as_ref().ok().and_then(|signature| {
            let signed = signature.limit?;
            let total = bodies.get(signature.body)?.hash()?.length;
            (signed < total).then_some(Partial { signed, total })
        });
        let reported = self.reported.clone();
        SignatureVerdict {
            domain: reported.domain,
            selector: reported.selector,
            algorithm: reported.algorithm,
            b_start: reported.b_start,
            testing,
            partial,
            outcome,
        }
    }
}

impl Body {
    const fn hash(&self) -> Option<BodyHash> {
        match self.state {
            BodyState::Done(hash) => Some(hash),
            BodyState::Streaming(_) => None,
        }
    }
}

impl Signature {
    fn parse(
        value: &[u8],
        at: Timestamp,
        reported: &mut Reported,
        bodies: &mut Vec<Body>,
    ) -> Result<Self, Failure> {
        let tags = TagList::parse(value).map_err(Failure::Tags)?;
        let required = |name: &'static str| tags.value(name).ok_or(Failure::Tag { name });

        let b = without_space(required("b")?);
        reported.b_start = b.get(..8).map(Into::into);
        let signature = STANDARD
            .decode(&b)
            .map_err(|_| Failure::Tag { name: "b" })?;
        let domain = Domain::parse(required("d")?)
            .ok()
            .filter(|domain| !domain.is_literal())
            .ok_or(Failure::Tag { name: "d" })?;
        reported.domain = Some(domain.clone());
        let selector = required("s")?;
        let name = Domain::parse(&record_name(selector, &domain))
            .map_err(|_| Failure::Tag { name: "s" })?;
        reported.selector = Some(selector.into());
        if required("v")? != "1" {
            return Err(Failure::Tag { name: "v" });
        }
        let algorithm = match required("a")? {
            "rsa-sha256" => Algorithm::RsaSha256,
            "ed25519-sha256" => Algorithm::Ed25519Sha256,
            "rsa-sha1" => return Err(Failure::RetiredAlgorithm),
            _ => return Err(Failure::UnknownAlgorithm),
        };
        reported.algorithm = Some(algorithm);
        let body_hash = STANDARD
            .decode(without_space(required("bh")?))
            .ok()
            .and_then(|hash| hash.try_into().ok())
            .ok_or(Failure::Tag { name: "bh" })?;
        let (header_form, body_form) = forms(tags.value("c"))?;
        let names = signed_names(required("h")?)?;
        if !tags
            .value("q")
            .is_none_or(|value| elements(value).any(|method| method == "dns/txt"))
        {
            return Err(Failure::QueryMethod);
        }
        let identity = identity(tags.value("i"), &domain)?;
        check_dates(tags.value("t"), tags.value("x"), at)?;
        let limit = tags
            .value("l")
            .map(|value| decimal(value).ok_or(Failure::Tag { name: "l" }))
            .transpose()?;
        Ok(Self {
            domain,
            identity,
            question: Question {
                name,
                kind: RecordKind::Txt,
            },
            algorithm,
            header_form,
            names,
            signature,
            body_hash,
            body: body_at(bodies, body_form, limit.unwrap_or(u64::MAX)),
            limit,
        })
    }

    fn check_body(&self, bodies: &[Body]) -> Result<(), Failure> {
        let found = bodies.get(self.body).and_then(Body::hash);
        let found = found.ok_or(Failure::BodyHash)?;
        if self.limit.is_some_and(|limit| limit > found.length) {
            return Err(Failure::BodyTooShort);
        }
        if found.hash == self.body_hash {
            Ok(())
        } else {
            Err(Failure::BodyHash)
        }
    }

    /// What was signed (RFC 6376 section 3.7): the fields of `h=`, each name taken from the bottom up, then the
    /// signature field itself without the value of `b=`.
    fn data(&self, header: &Header, own: usize) -> Vec<u8> {
        let mut by_name: BTreeMap<String, Vec<Field<'_>>> = BTreeMap::new();
        for field in header.fields() {
            by_name
                .entry(field.name().to_ascii_lowercase())
                .or_default()
                .push(field);
        }
        let mut data = Vec::new();
        for name in &self.names {
            if let Some(field) = by_name.get_mut(name).and_then(Vec::pop) {
                append_field(&mut data, field, self.header_form);
            }
        }
        if let Some(field) = header.fields().nth(own) {
            let value = without_b(field.value());
            match self.header_form {
                Form::Relaxed => append_relaxed(&mut data, field.name(), &value),
                Form::Simple => {
                    let front = field.raw().len().saturating_sub(
                        field
                            .value()
                            .len()
                            .saturating_add(line_end_len(field.raw())),
                    );
                    data.extend_from_slice(field.raw().get(..front).unwrap_or_default());
                    data.extend_from_slice(&value);
                }
            }
        }
        data
    }

    /// The record whose key the signature fits. Where there are several, one that fits is enough.
    fn verify(&self, answer: &Answer, data: &[u8]) -> Result<KeyRecord, Failure> {
        let texts = match &answer.records {
            Ok(records) => match records.as_ref() {
                Records::Txt(texts) => texts.as_slice(),
                _ => &[],
            },
            Err(reason) if reason.is_temporary() => return Err(Failure::KeyUnavailable),
            Err(_) => &[],
        };
        let mut failure = Failure::NoKey;
        for text in texts.iter().take(DKIM_KEY_RECORDS_MAX) {
            match self.verify_with(text, data) {
                Ok(record) => return Ok(record),
                // A record that could be read says more than one that is something else.
                Err(Failure::Key(RecordError::Syntax)) if failure != Failure::NoKey => {}
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }

    fn verify_with(&self, text: &[u8], data: &[u8]) -> Result<KeyRecord, Failure> {
        let record = KeyRecord::parse(text).map_err(Failure::Key)?;
        if record.key.algorithm() != self.algorithm {
            return Err(Failure::KeyType);
        }
        if record.strict && self.identity != self.domain {
            return Err(Failure::Identity);
        }
        let fits = match &record.key {
            PublicKey::Rsa { der, bits } if *bits < 2_048 => {
                UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, der)
                    .verify(data, &self.signature)
            }
            PublicKey::Rsa { der, .. } => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der)
                .verify(data, &self.signature),
            PublicKey::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(&sha256(data), &self.signature)
            }
        };
        fits.map(|()| record).map_err(|_| Failure::Signature)
    }
}

impl SignatureVerdict {
    /// The result of RFC 8601.
    pub fn verdict(&self) -> Verdict {
        self.outcome.err().map_or(Verdict::Pass, Failure::verdict)
    }
}

impl Failure {
    /// The result of RFC 8601 that this cause stands under.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Tags(_) | Self::Tag { .. } | Self::UnknownAlgorithm | Self::QueryMethod => {
                Verdict::Neutral
            }
            Self::RetiredAlgorithm
            | Self::Expired
            | Self::Future
            | Self::Key(RecordError::Size { .. }) => Verdict::Policy,
            Self::FromNotSigned
            | Self::Identity
            | Self::NoKey
            | Self::Key(_)
            | Self::KeyType
            | Self::BodyTooShort => Verdict::PermError,
            Self::KeyUnavailable => Verdict::TempError,
            Self::BodyHash | Self::Signature => Verdict::Fail,
        }
    }
}

impl Verdict {
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

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Tags(TagListError::Duplicate) => "a tag is there twice",
            Self::Tags(_) => "the field is no list of tags",
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
            Self::Key(RecordError::Revoked) => "the key was revoked",
            Self::Key(RecordError::Size { bits }) => {
                return write!(out, "the RSA key has {bits} bits");
            }
            Self::Key(RecordError::Service) => "the key is not for mail",
            Self::Key(RecordError::Hash) => "the key is not for sha256",
            Self::Key(_) => "the key record cannot be read",
            Self::KeyType => "the key is of another type",
            Self::Signature => "the signature does not fit the header",
        };
        out.write_str(text)
    }
}

/// `c=`: header and body form; the body's is simple where it is left out.
fn forms(value: Option<&str>) -> Result<(Form, Form), Failure> {
    let form = |text: &str| match text {
        "simple" => Ok(Form::Simple),
        "relaxed" => Ok(Form::Relaxed),
        _ => Err(Failure::Tag { name: "c" }),
    };
    let Some(value) = value else {
        return Ok((Form::Simple, Form::Simple));
    };
    match value.split_once('/') {
        Some((header, body)) => Ok((form(header)?, form(body)?)),
        None => Ok((form(value)?, Form::Simple)),
    }
}

/// `h=` in lower case; From has to be there (RFC 6376 section 6.1.1).
fn signed_names(value: &str) -> Result<Vec<String>, Failure> {
    let names: Vec<String> = elements(value).map(str::to_ascii_lowercase).collect();
    if names.iter().any(String::is_empty) {
        return Err(Failure::Tag { name: "h" });
    }
    if names.iter().all(|name| name != "from") {
        return Err(Failure::FromNotSigned);
    }
    Ok(names)
}

/// The domain of `i=`, which has to be within `d=`.
fn identity(value: Option<&str>, domain: &Domain) -> Result<Domain, Failure> {
    let Some(value) = value else {
        return Ok(domain.clone());
    };
    let (_, identity) = value.rsplit_once('@').ok_or(Failure::Tag { name: "i" })?;
    let identity = Domain::parse(identity).map_err(|_| Failure::Tag { name: "i" })?;
    if identity.is_under(domain) {
        Ok(identity)
    } else {
        Err(Failure::Identity)
    }
}

fn check_dates(t: Option<&str>, x: Option<&str>, at: Timestamp) -> Result<(), Failure> {
    let seconds = |value: Option<&str>, name| {
        value
            .map(|value| decimal(value).ok_or(Failure::Tag { name }))
            .transpose()
    };
    let (signed, expires) = (seconds(t, "t")?, seconds(x, "x")?);
    if let (Some(signed), Some(expires)) = (signed, expires)
        && expires <= signed
    {
        return Err(Failure::Tag { name: "x" });
    }
    if signed.is_some_and(|signed| signed > at.after(DKIM_CLOCK_SKEW).seconds()) {
        return Err(Failure::Future);
    }
    let expired = |expires| Timestamp::from_seconds(expires).after(DKIM_CLOCK_SKEW) < at;
    if expires.is_some_and(expired) {
        return Err(Failure::Expired);
    }
    Ok(())
}

/// A number of up to 76 digits (RFC 6376 section 3.5); what is past `u64` saturates.
fn decimal(value: &str) -> Option<u64> {
    let valid = (1..=76).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| value.parse().unwrap_or(u64::MAX))
}

/// The place of a body hash of this form and limit, which is added if nobody needed it so far.
fn body_at(bodies: &mut Vec<Body>, form: Form, limit: u64) -> usize {
    let found = bodies
        .iter()
        .position(|body| body.form == form && body.limit == limit);
    found.unwrap_or_else(|| {
        bodies.push(Body {
            form,
            limit,
            state: BodyState::Streaming(Box::new(BodyHasher::with_limit(form, limit))),
        });
        bodies.len().saturating_sub(1)
    })
}

/// A signature's value with that of its `b=` taken out, white space included.
fn without_b(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for (nth, element) in value.split(|&byte| byte == b';').enumerate() {
        if nth > 0 {
            out.push(b';');
        }
        let name_end = element.iter().position(|&byte| byte == b'=');
        let (name, _) = element.split_at(name_end.unwrap_or(0));
        let is_b = name
            .iter()
            .filter(|&&byte| !is_space(char::from(byte)))
            .eq(b"b");
        if is_b {
            out.extend_from_slice(name);
            out.push(b'=');
        } else {
            out.extend_from_slice(element);
        }
    }
    out
}

fn line_end_len(raw: &[u8]) -> usize {
    if raw.ends_with(b"\r\n") { 2 } else { 0 }
}

const FIELD_NAME: &str = "DKIM-Signature";

#[cfg(test)]
mod tests;
