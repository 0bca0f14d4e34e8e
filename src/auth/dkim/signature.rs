//! One signature as it is verified: its tags (RFC 6376 section 3.5), what it covers (section 3.7), and whether a key
//! fits it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey,
};

use super::canonical::{Form, append_field, append_relaxed};
use super::key::Algorithm;
use super::record::{KeyRecord, PublicKey, RecordError, record_name};
use super::tag::{TagList, elements, is_space, without_space};
use super::verdict::Failure;
use super::verify::{Body, body_at};
use crate::address::Domain;
use crate::auth::credential::{KEY_BYTES, sha256};
use crate::date::Timestamp;
use crate::dns::{Answer, Question, RecordKind, Records};
use crate::limits::{DKIM_CLOCK_SKEW, DKIM_KEY_RECORDS_MAX};
use crate::mail::header::{Field, Header};

/// A signature that could be read.
pub(super) struct Signature {
    domain: Domain,
    identity: Domain,
    pub(super) question: Question,
    algorithm: Algorithm,
    header_form: Form,
    names: Vec<String>,
    signature: Vec<u8>,
    body_hash: [u8; KEY_BYTES],
    pub(super) body: usize,
    pub(super) limit: Option<u64>,
}

/// What is known of a signature whatever becomes of it.
#[derive(Clone, Default)]
pub(super) struct Reported {
    pub(super) domain: Option<Domain>,
    pub(super) selector: Option<Box<str>>,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) b_start: Option<Box<str>>,
}

impl Signature {
    pub(super) fn parse(
        value: &[u8],
        at: Timestamp,
        reported: &mut Reported,
        bodies: &mut Vec<Body>,
    ) -> Result<Self, Failure> {
        let tags = TagList::parse(value).map_err(Failure::Tags)?;
        let required = |name: &'static str| tags.value(name).ok_or(Failure::Tag { name });

        let b = without_space(required("b")?);
        let signature = STANDARD
            .decode(&b)
            .map_err(|_| Failure::Tag { name: "b" })?;
        reported.b_start = b.get(..8).map(Into::into);
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

    pub(super) fn check_body(&self, bodies: &[Body]) -> Result<(), Failure> {
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
    pub(super) fn data(&self, header: &Header, own: usize) -> Vec<u8> {
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
    pub(super) fn verify(&self, answer: &Answer, data: &[u8]) -> Result<KeyRecord, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_b_is_taken_out_with_its_space() {
        assert_eq!(without_b(b" v=1; b = a\r\n\t b ; bh=x"), b" v=1; b =; bh=x");
        assert_eq!(without_b(b"bh=b;b=x="), b"bh=b;b=");
    }
}
