//! One signature that is being verified: its tags (RFC 6376 section 3.5), and the data that it covers (section 3.7).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bodies::{Bodies, HashSlot};
use super::canonical::{Canonicalization, append_field, append_relaxed};
use super::claim::{Reported, SignatureClaim, SignatureField};
use super::tag::{TagList, elements, is_space, without_space};
use super::verdict::{DkimFailure, Partial};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::digest::DIGEST_BYTES;
use crate::limits::DKIM_CLOCK_SKEW;
use crate::mail::header::{Field, Header};

/// The fields of a header, for all signatures of a message.
pub(in crate::auth) struct Fields<'a> {
    all: Vec<Field<'a>>,
    /// By their names in lower case, from top to bottom.
    by_name: BTreeMap<String, Vec<Field<'a>>>,
}

impl<'a> Fields<'a> {
    pub(in crate::auth) fn new(header: &'a Header) -> Self {
        let all: Vec<Field<'a>> = header.fields().collect();
        let mut by_name: BTreeMap<String, Vec<Field<'a>>> = BTreeMap::new();
        for field in &all {
            let name = field.name().to_ascii_lowercase();
            by_name.entry(name).or_default().push(*field);
        }
        Self { all, by_name }
    }

    /// All of them, from top to bottom.
    pub(in crate::auth) fn all(&self) -> &[Field<'a>] {
        &self.all
    }
}

/// A signature that could be read.
pub(in crate::auth) struct Signature {
    pub(in crate::auth) claim: SignatureClaim,
    header_form: Canonicalization,
    /// `h=`, in lower case. It is taken apart when it is needed: a header of names would fill memory as a list.
    names: String,
    body_hash: [u8; DIGEST_BYTES],
    body: HashSlot,
    limit: Option<u64>,
}

impl Signature {
    /// Reads the tags of a signature and checks the required ones.
    /// Decides RFC 6376 section 3.5.
    pub(in crate::auth) fn parse(
        value: &[u8],
        kind: SignatureField,
        at: Timestamp,
        reported: &mut Reported,
        bodies: &mut Bodies,
    ) -> Result<Self, DkimFailure> {
        let tags = TagList::parse(value).map_err(DkimFailure::Tags)?;
        let mut claim = SignatureClaim::parse(&tags, kind, reported)?;
        let body_hash = STANDARD
            .decode(without_space(tags.required("bh")?))
            .ok()
            .and_then(|hash| hash.try_into().ok())
            .ok_or(DkimFailure::Tag { name: "bh" })?;
        let (header_form, body_form) = forms(tags.value("c"))?;
        let names = signed_names(tags.required("h")?)?;
        if !tags
            .value("q")
            .is_none_or(|value| elements(value).any(|method| method == "dns/txt"))
        {
            return Err(DkimFailure::QueryMethod);
        }
        if kind == SignatureField::Dkim {
            claim.identity = identity(tags.value("i"), &claim.identity)?;
        }
        let limit = tags
            .value("l")
            .map(|value| decimal(value).ok_or(DkimFailure::Tag { name: "l" }))
            .transpose()?;
        check_dates(tags.value("t"), tags.value("x"), at)?;
        Ok(Self {
            claim,
            header_form,
            names,
            body_hash,
            body: bodies.place(body_form, limit),
            limit,
        })
    }

    /// Whether `h=` lists a field of this name.
    pub(in crate::auth) fn covers(&self, name: &str) -> bool {
        elements(&self.names).any(|other| other.eq_ignore_ascii_case(name))
    }

    pub(in crate::auth) fn check_body(&self, bodies: &Bodies) -> Result<(), DkimFailure> {
        let length = bodies.length(self.body).ok_or(DkimFailure::BodyHash)?;
        if self.limit.is_some_and(|limit| limit > length) {
            return Err(DkimFailure::BodyTooShort);
        }
        if bodies.hash(self.body) == Some(self.body_hash) {
            Ok(())
        } else {
            Err(DkimFailure::BodyHash)
        }
    }

    /// The range that `l=` covers, if it leaves something out.
    pub(in crate::auth) fn partial(&self, bodies: &Bodies) -> Option<Partial> {
        let signed = self.limit?;
        let total = bodies.length(self.body)?;
        (signed < total).then_some(Partial { signed, total })
    }

    /// The signed data: the fields of `h=`, each name taken from the bottom up, then the signature field itself without
    /// the value of `b=`.
    /// Decides RFC 6376 section 3.7.
    pub(in crate::auth) fn data(&self, fields: &Fields<'_>, own: usize) -> Vec<u8> {
        let mut data = Vec::new();
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for name in elements(&self.names) {
            let Some(named) = fields.by_name.get(name) else {
                continue;
            };
            let nth = taken.entry(name).or_default();
            if let Some(field) = named.iter().rev().nth(*nth) {
                append_field(&mut data, *field, self.header_form);
                *nth = nth.saturating_add(1);
            }
        }
        if let Some(field) = fields.all.get(own) {
            let value = without_b(field.value());
            match self.header_form {
                Canonicalization::Relaxed => append_relaxed(&mut data, field.name(), &value),
                Canonicalization::Simple => {
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
}

/// `c=`: header and body form; the body's is simple if omitted.
fn forms(value: Option<&str>) -> Result<(Canonicalization, Canonicalization), DkimFailure> {
    let form = |text: &str| match text {
        "simple" => Ok(Canonicalization::Simple),
        "relaxed" => Ok(Canonicalization::Relaxed),
        _ => Err(DkimFailure::Tag { name: "c" }),
    };
    let Some(value) = value else {
        return Ok((Canonicalization::Simple, Canonicalization::Simple));
    };
    match value.split_once('/') {
        Some((header, body)) => Ok((form(header)?, form(body)?)),
        None => Ok((form(value)?, Canonicalization::Simple)),
    }
}

/// `h=` in lower case; it must contain From.
/// Decides RFC 6376 section 6.1.1.
fn signed_names(value: &str) -> Result<String, DkimFailure> {
    let names = value.to_ascii_lowercase();
    if elements(&names).any(str::is_empty) {
        return Err(DkimFailure::Tag { name: "h" });
    }
    if elements(&names).all(|name| name != "from") {
        return Err(DkimFailure::FromNotSigned);
    }
    Ok(names)
}

/// The domain of `i=`, which must be within `d=`.
fn identity(value: Option<&str>, domain: &Domain) -> Result<Domain, DkimFailure> {
    let Some(value) = value else {
        return Ok(domain.clone());
    };
    let (local_part, identity) = value
        .rsplit_once('@')
        .ok_or(DkimFailure::Tag { name: "i" })?;
    // RFC 5321 section 4.1.2: only in quotes may a local part contain an @.
    if local_part.contains('@') && !local_part.starts_with('"') {
        return Err(DkimFailure::Tag { name: "i" });
    }
    let identity = Domain::parse(identity).map_err(|_| DkimFailure::Tag { name: "i" })?;
    if identity.is_under(domain) {
        Ok(identity)
    } else {
        Err(DkimFailure::Identity)
    }
}

/// Whether `t=` and `x=` let the signature count at this time.
/// Decides RFC 6376 section 3.5.
fn check_dates(t: Option<&str>, x: Option<&str>, at: Timestamp) -> Result<(), DkimFailure> {
    let seconds = |value: Option<&str>, name| {
        value
            .map(|value| decimal(value).ok_or(DkimFailure::Tag { name }))
            .transpose()
    };
    let (signed, expires) = (seconds(t, "t")?, seconds(x, "x")?);
    if let (Some(signed), Some(expires)) = (signed, expires)
        && expires <= signed
    {
        return Err(DkimFailure::Tag { name: "x" });
    }
    if signed.is_some_and(|signed| signed > at.after(DKIM_CLOCK_SKEW).seconds()) {
        return Err(DkimFailure::Future);
    }
    let expired = |expires| Timestamp::from_seconds(expires).after(DKIM_CLOCK_SKEW) < at;
    if expires.is_some_and(expired) {
        return Err(DkimFailure::Expired);
    }
    Ok(())
}

/// A number of up to 76 digits (RFC 6376 section 3.5); a number past `u64` saturates.
fn decimal(value: &str) -> Option<u64> {
    let valid = (1..=76).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| value.parse().unwrap_or(u64::MAX))
}

/// A signature's value with that of its `b=` taken out, white space included.
pub(in crate::auth) fn without_b(value: &[u8]) -> Vec<u8> {
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
