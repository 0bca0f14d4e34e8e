//! Macros (RFC 7208 section 7).

use std::fmt::Write as _;
use std::net::IpAddr;

use super::record::{DomainSpec, Macro, Piece};
use crate::date::Timestamp;
use crate::limits::SPF_NAME_BYTES_MAX;

/// The values of the macro letters.
pub(super) struct Facts {
    pub(super) local_part: String,
    pub(super) sender_domain: String,
    /// Of the record.
    pub(super) domain: String,
    pub(super) address: IpAddr,
    pub(super) helo: String,
    /// A name of the client that leads back to it, or `unknown`.
    pub(super) validated: String,
    pub(super) receiver: String,
    pub(super) at: Timestamp,
}

/// The name that a domain-spec expands to; if it is too long, its end (section 7.3).
/// Decides RFC 7208 section 7.3.
pub(super) fn expand(spec: &DomainSpec, facts: &Facts) -> String {
    let mut name = write(spec, facts);
    while name.trim_end_matches('.').len() > SPF_NAME_BYTES_MAX {
        match name.split_once('.') {
            Some((_, rest)) => name = rest.to_owned(),
            None => break,
        }
    }
    name
}

/// The explanation of a fail: characters that are not printable ASCII become `?`.
pub(super) fn expand_explanation(spec: &DomainSpec, facts: &Facts) -> String {
    let text = write(spec, facts);
    text.chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect()
}

fn write(spec: &DomainSpec, facts: &Facts) -> String {
    let mut out = String::new();
    for piece in &spec.0 {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Macro(wanted) => {
                let value = transform(&value(wanted.letter, facts), wanted);
                if wanted.escaped {
                    escape(&mut out, &value);
                } else {
                    out.push_str(&value);
                }
            }
        }
    }
    out
}

fn value(letter: char, facts: &Facts) -> String {
    match letter {
        's' => format!("{}@{}", facts.local_part, facts.sender_domain),
        'l' => facts.local_part.clone(),
        'o' => facts.sender_domain.clone(),
        'd' => facts.domain.clone(),
        'i' => dotted(facts.address),
        'p' => facts.validated.clone(),
        'v' if facts.address.is_ipv4() => "in-addr".to_owned(),
        'v' => "ip6".to_owned(),
        'h' => facts.helo.clone(),
        'c' => facts.address.to_string(),
        'r' => facts.receiver.clone(),
        't' => facts.at.seconds().to_string(),
        _ => String::new(),
    }
}

/// An address in parts: octets, or nibbles. Their letters are as in the published tests; names do not mind.
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let digits = format!("{:032X}", address.to_bits());
            let mut out = String::with_capacity(63);
            for digit in digits.chars() {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push(digit);
            }
            out
        }
    }
}

fn transform(value: &str, wanted: &Macro) -> String {
    let plain = wanted.parts == 0 && !wanted.reversed && wanted.delimiters.is_empty();
    if plain {
        return value.to_owned();
    }
    let divides = |c: char| match wanted.delimiters.as_str() {
        "" => c == '.',
        delimiters => delimiters.contains(c),
    };
    let mut parts: Vec<&str> = value.split(divides).collect();
    if wanted.reversed {
        parts.reverse();
    }
    let kept = match wanted.parts {
        0 => parts.len(),
        most => most.min(parts.len()),
    };
    let from = parts.len().saturating_sub(kept);
    parts.get(from..).unwrap_or_default().join(".")
}

/// Everything but the unreserved characters of RFC 3986 as `%XX`.
fn escape(out: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => {
                let _ = write!(out, "%{byte:02X}"); // a String takes everything
            }
        }
    }
}
