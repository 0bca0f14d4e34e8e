//! Signing a message (RFC 6376 section 5), relaxed/relaxed, over the whole body.
//!
//! `h=` names each field once more than the message has it ("oversigning", RFC 6376 section 8.15), so that nobody can
//! add one without breaking the signature. List-* and Resent-* fields are signed only if they are present: mailing
//! lists and resenders may add them later.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::canonical::{Canonicalization, append_field, append_relaxed};
use super::key::{Algorithm, SignError, SigningKey};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::digest::DIGEST_BYTES;
use crate::mail::header::{Field, Header};
use crate::workload::{Unit, count};

/// The signing domain, its key, and the time.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// `d=`.
    pub domain: &'a Domain,
    /// `s=`.
    pub selector: &'a str,
    /// `a=`.
    pub algorithm: Algorithm,
    /// `t=`.
    pub at: Timestamp,
}

/// A field that waits for its signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SigningInput {
    data: Vec<u8>,
    field_without_b: String,
}

impl SigningInput {
    /// Follows `data`, for a field whose value ends with `b=`.
    pub(in crate::auth) fn new(mut data: Vec<u8>, name: &str, value_without_b: String) -> Self {
        append_relaxed(&mut data, name, value_without_b.as_bytes());
        Self {
            data,
            field_without_b: format!("{name}:{value_without_b}"),
        }
    }

    /// The input of [`super::key::SigningKey::sign`].
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Signs, and returns the complete field.
    pub fn sign(self, key: &SigningKey) -> Result<Vec<u8>, SignError> {
        let signature = key.sign(&self.data)?;
        Ok(self.finish(&signature))
    }

    /// The complete field, folded, with its line end.
    pub fn finish(self, signature: &[u8]) -> Vec<u8> {
        let mut field = self.field_without_b;
        let mut column = 3_usize; // of "\tb="
        for c in STANDARD.encode(signature).chars() {
            if column >= LINE_CHARS {
                field.push_str("\r\n\t");
                column = 1;
            }
            field.push(c);
            column = column.saturating_add(1);
        }
        field.push_str("\r\n");
        field.into_bytes()
    }
}

/// Prepares the signature over a body, `prepended` and `header`, which is below `prepended` in the message.
///
/// `prepended` are complete fields, such as a Date that is added. Received may be missing, because it is not signed.
pub fn prepare(
    header: &Header,
    prepended: &[u8],
    body_hash: &[u8; DIGEST_BYTES],
    signer: &Signer<'_>,
) -> SigningInput {
    let prepended = Header::parse(prepended.to_vec()).unwrap_or_default();
    let fields: Vec<Field<'_>> = prepended.fields().chain(header.fields()).collect();
    prepare_as(&DKIM_SIGNATURE, &fields, body_hash, signer)
}

/// The differences between an ARC-Message-Signature and a DKIM-Signature (RFC 8617 section 4.1.2).
pub(in crate::auth) struct Style<'a> {
    /// The name of the field.
    pub(in crate::auth) name: &'static str,
    /// Its first tag.
    pub(in crate::auth) first: &'a str,
    /// Names, or prefixes of names, of fields that are signed if present and that others may add later.
    pub(in crate::auth) families: &'a [&'static str],
}

/// Prepares the signature over a body and `fields`, which are all fields of the message.
pub(in crate::auth) fn prepare_as(
    style: &Style<'_>,
    fields: &[Field<'_>],
    body_hash: &[u8; DIGEST_BYTES],
    signer: &Signer<'_>,
) -> SigningInput {
    let (names, data) = select(fields, style.families);
    SigningInput::new(
        data,
        style.name,
        tags(style.first, &names, body_hash, signer),
    )
}

/// The names of `h=` and the canonical fields that they select, in the same order.
/// Decides RFC 6376 section 5.4.
fn select(fields: &[Field<'_>], families: &[&str]) -> (Vec<String>, Vec<u8>) {
    // Each field is examined once, whatever the number of names.
    count(Unit::Field, fields.len());
    let mut by_name: BTreeMap<String, Vec<Field<'_>>> = BTreeMap::new();
    for field in fields {
        let name = field.name().to_ascii_lowercase();
        by_name.entry(name).or_default().push(*field);
    }
    let mut names: Vec<String> = Vec::new();
    let mut data = Vec::new();
    let mut add = |wanted: &str, extra: usize| {
        let present = by_name.get(wanted).map_or(&[][..], Vec::as_slice);
        count(Unit::Field, present.len());
        for field in present.iter().rev() {
            append_field(&mut data, *field, Canonicalization::Relaxed);
        }
        for _ in 0..present.len().saturating_add(extra) {
            names.push(wanted.to_owned());
        }
    };
    for name in ALWAYS {
        add(name, 1);
    }
    for name in WHERE_PRESENT {
        if by_name.contains_key(name) {
            add(name, 1);
        }
    }
    // RFC 5322 allows a semicolon in a field name, but it would end the tag.
    let is_plain = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_member =
        |name: &&String| families.iter().any(|family| name.starts_with(family)) && is_plain(name);
    for name in by_name.keys().filter(is_member) {
        add(name, 0);
    }
    (names, data)
}

/// The value up to `b=`.
fn tags(
    first: &str,
    names: &[String],
    body_hash: &[u8; DIGEST_BYTES],
    signer: &Signer<'_>,
) -> String {
    let mut field = format!(
        " {first}; a={}; c=relaxed/relaxed;\r\n\td={};\r\n\ts={}; t={};\r\n\th=",
        signer.algorithm,
        signer.domain,
        signer.selector,
        signer.at.seconds()
    );
    let mut column = 3_usize;
    for (nth, name) in names.iter().enumerate() {
        if nth > 0 {
            field.push(':');
            column = column.saturating_add(1);
            if name.len().saturating_add(column) >= LINE_CHARS {
                field.push_str("\r\n\t");
                column = 1;
            }
        }
        field.push_str(name);
        column = name.len().saturating_add(column);
    }
    field.push_str(";\r\n\tbh=");
    field.push_str(&STANDARD.encode(body_hash));
    field.push_str(";\r\n\tb=");
    field
}

const DKIM_SIGNATURE: Style<'static> = Style {
    name: "DKIM-Signature",
    first: "v=1",
    families: &["list-", "resent-"],
};
const LINE_CHARS: usize = 70; // a tab shows as up to eight columns, and 78 are wanted (RFC 5322 section 2.1.1)
const ALWAYS: [&str; 10] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
];
const WHERE_PRESENT: [&str; 3] = ["sender", "in-reply-to", "references"];
