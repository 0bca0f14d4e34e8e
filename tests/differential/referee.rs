//! A second implementation of the canonical forms of RFC 6376 section 3.4, written for clarity rather than speed. The
//! signatures here use them, and they decide if two implementations disagree about a body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::auth::dkim::canonical::Canonicalization;
use chopar::auth::dkim::record::{KeyRecord, PublicKey};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use crate::message::name_of;

pub(crate) fn field(name: &str, value: &[u8], raw: &[u8], form: Canonicalization) -> Vec<u8> {
    match form {
        Canonicalization::Simple => raw.to_vec(),
        Canonicalization::Relaxed => [relaxed(name, value).as_slice(), b"\r\n"].concat(),
    }
}

/// A field in relaxed form, without the line end.
pub(crate) fn relaxed(name: &str, value: &[u8]) -> Vec<u8> {
    let unfolded: Vec<u8> = value
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    let mut out = name.trim().to_ascii_lowercase().into_bytes();
    out.push(b':');
    let value = squeezed(&unfolded);
    let value = value.strip_prefix(b" ").unwrap_or(&value);
    out.extend(value.strip_suffix(b" ").unwrap_or(value));
    out
}

pub(crate) fn body(body: &[u8], form: Canonicalization) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = lines(body)
        .into_iter()
        .map(|line| match form {
            Canonicalization::Simple => line.to_vec(),
            Canonicalization::Relaxed => {
                let mut line = squeezed(line);
                line.truncate(line.len() - usize::from(line.ends_with(b" ")));
                line
            }
        })
        .collect();
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    match (form, lines.is_empty()) {
        (Canonicalization::Simple, true) => b"\r\n".to_vec(),
        _ => lines
            .into_iter()
            .flat_map(|line| [line, b"\r\n".to_vec()].concat())
            .collect(),
    }
}

/// Replaces each run of white space with one space.
fn squeezed(text: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for &byte in text {
        match byte {
            b' ' | b'\t' if out.ends_with(b" ") => {}
            b' ' | b'\t' => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

/// The fields that names select, each from the bottom up (RFC 6376 section 5.4.2).
pub(crate) fn selected(fields: &[Vec<u8>], names: &[String], form: Canonicalization) -> Vec<u8> {
    let mut rest: Vec<&Vec<u8>> = fields.iter().collect();
    let mut data = Vec::new();
    for name in names {
        let place = rest
            .iter()
            .rposition(|field| name_of(field).trim().eq_ignore_ascii_case(name));
        if let Some(place) = place {
            let raw = rest.remove(place);
            let written = name_of(raw);
            let value = &raw[written.len() + 1..];
            data.extend(field(&written, value, raw, form));
        }
    }
    data
}

/// Whether the signature in the field at `own` is valid for the header and the key.
pub(crate) fn signature_holds(fields: &[Vec<u8>], own: usize, key: &KeyRecord) -> bool {
    let raw = fields[own].strip_suffix(b"\r\n").unwrap_or(&fields[own]);
    let written = name_of(raw);
    let value = &raw[written.len() + 1..];
    let tags = tags(value);
    let tag = |wanted: &str| {
        let tag = tags.iter().find(|(name, _)| name == wanted);
        tag.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let form = if tag("c").starts_with("relaxed") {
        Canonicalization::Relaxed
    } else {
        Canonicalization::Simple
    };
    let names: Vec<String> = tag("h")
        .split(':')
        .map(|name| name.trim().to_owned())
        .collect();
    let text = String::from_utf8_lossy(value);
    let without_b: Vec<String> = text
        .split(';')
        .map(|element| match element.split_once('=') {
            Some((name, _)) if name.trim() == "b" => format!("{name}="),
            _ => element.to_owned(),
        })
        .collect();
    let without_b = without_b.join(";");
    let mut data = selected(fields, &names, form);
    match form {
        Canonicalization::Simple => data.extend(format!("{written}:{without_b}").into_bytes()),
        Canonicalization::Relaxed => data.extend(relaxed(&written, without_b.as_bytes())),
    }
    let signature: String = tag("b").split_ascii_whitespace().collect();
    let signature = STANDARD.decode(signature).unwrap_or_default();
    match &key.key {
        PublicKey::Rsa { der, .. } => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der)
            .verify(&data, &signature)
            .is_ok(),
        PublicKey::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key)
            .verify(digest(&SHA256, &data).as_ref(), &signature)
            .is_ok(),
    }
}

/// The tags of a list, as far as they can be separated.
pub(crate) fn tags(value: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(value)
        .split(';')
        .filter_map(|element| element.split_once('='))
        .map(|(name, value)| {
            (
                name.trim_matches(FOLDING).to_owned(),
                value.trim_matches(FOLDING).to_owned(),
            )
        })
        .collect()
}

/// RFC 6376 section 3.2, with UTF-8 in values (RFC 8616 section 3).
pub(crate) fn is_tag_list(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let text = text.trim_matches(FOLDING);
    let text = text.strip_suffix(';').unwrap_or(text);
    text.split(';').all(|element| {
        element.split_once('=').is_some_and(|(name, value)| {
            let name = name.trim_matches(FOLDING);
            name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && value
                    .chars()
                    .all(|c| !c.is_control() || "\r\n\t".contains(c))
        })
    })
}

/// Folding white space.
const FOLDING: [char; 4] = [' ', '\t', '\r', '\n'];

#[test]
fn the_examples_of_rfc_6376_section_3_4_5() {
    let text = b" C \r\nD \t E\r\n\r\n\r\n";
    assert_eq!(body(text, Canonicalization::Relaxed), b" C\r\nD E\r\n");
    assert_eq!(body(text, Canonicalization::Simple), b" C \r\nD \t E\r\n");
    assert_eq!(body(b"", Canonicalization::Simple), b"\r\n");
    assert_eq!(body(b" \r\n", Canonicalization::Relaxed), b"");
    assert_eq!(relaxed("B ", b" Y\t\r\n\tZ  "), b"b:Y Z");
    assert_eq!(relaxed("B", b" \x0c Y \x0c"), b"b:\x0c Y \x0c");
}
