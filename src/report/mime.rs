//! The attachments of a message (RFC 2045, RFC 2046), as far as reports use them.
//!
//! Lines end with LF or CRLF. The name of an attachment decides only whether a message is meant as a report, because
//! senders write names in many ways. Invariant: no more than [`REPORT_PARTS_MAX`] parts, no deeper than
//! [`REPORT_PARTS_DEPTH_MAX`].

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::limits::{HEADER_BYTES_MAX, REPORT_PARTS_DEPTH_MAX, REPORT_PARTS_MAX};
use crate::mail::encoded_word;

/// The parts of a message.
#[derive(Debug, Default)]
pub(super) struct Mime {
    /// Its parts that hold no other, decoded.
    pub(super) leaves: Vec<Leaf>,
    /// Whether its fields say that it is a report.
    pub(super) is_claimed: bool,
    parts: usize,
}

/// One part.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Its type without parameters, in lower case.
    kind: String,
    has_name: bool,
    /// The content.
    pub(super) bytes: Vec<u8>,
}

impl Leaf {
    /// Whether it is text that a reader of mail shows, and not an attachment.
    pub(super) fn is_shown(&self) -> bool {
        self.kind == "text/html" || self.kind == "text/plain" && !self.has_name
    }
}

impl Mime {
    pub(super) fn read(message: &[u8]) -> Self {
        let mut mime = Self::default();
        mime.part(message, 0);
        mime
    }

    fn part(&mut self, bytes: &[u8], depth: usize) {
        self.parts = self.parts.saturating_add(1);
        if self.parts > REPORT_PARTS_MAX || depth > REPORT_PARTS_DEPTH_MAX {
            return;
        }
        let (fields, body) = fields(bytes);
        let value = |name: &str| {
            let found = fields.iter().find(|(found, _)| found == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let kind = value("content-type");
        let plain = kind.split(';').next().unwrap_or_default().trim();
        let plain = plain.to_ascii_lowercase();
        let disposition = value("content-disposition");
        self.is_claimed |= is_subject(value("subject"))
            || plain.starts_with("application/tlsrpt")
            || parameter(kind, "report-type")
                .is_some_and(|kind| kind.eq_ignore_ascii_case("tlsrpt"))
            || [kind, disposition].into_iter().any(is_report_name);
        if plain.starts_with("multipart/")
            && let Some(boundary) = parameter(kind, "boundary").filter(|text| !text.is_empty())
        {
            for part in parts(body, &boundary) {
                self.part(part, depth.saturating_add(1));
            }
            return;
        }
        if plain == "message/rfc822" {
            // A forwarded report is for the reader.
            return;
        }
        let has_name = [kind, disposition].iter().any(|value| {
            let value = value.to_ascii_lowercase();
            value.contains("name=") || value.contains("name*")
        });
        self.leaves.push(Leaf {
            kind: plain,
            has_name,
            bytes: decoded(body, value("content-transfer-encoding")),
        });
    }
}

/// The relevant fields of a part, names in lower case and values unfolded, and the rest of the part.
fn fields(bytes: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = bytes;
    let mut is_kept = false;
    while let Some((line, after)) = line(rest) {
        if line.is_empty() || bytes.len().saturating_sub(after.len()) > HEADER_BYTES_MAX {
            return (found, after);
        }
        rest = after;
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            if let Some((_, value)) = found.last_mut().filter(|_| is_kept) {
                value.push_str(&text);
            }
            continue;
        }
        let Some((name, value)) = text.split_once(':') else {
            is_kept = false;
            continue;
        };
        let name = name.trim().to_ascii_lowercase();
        // Of two the first counts.
        is_kept = NAMES.contains(&name.as_str()) && !found.iter().any(|(other, _)| *other == name);
        if is_kept {
            found.push((name, value.trim().to_owned()));
        }
    }
    (found, &[])
}

/// The first line without its end, and the rest.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = match end {
        Some(end) => (bytes.get(..end)?, bytes.get(end.saturating_add(1)..)?),
        None => (bytes, &[][..]),
    };
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

/// The parts between these boundaries.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    let mut start = None;
    let mut rest = body;
    while let Some((text, after)) = line(rest) {
        let at = body.len().saturating_sub(rest.len());
        rest = after;
        let mark = text.strip_prefix(b"--");
        let mark = mark.and_then(|text| text.strip_prefix(boundary.as_bytes()));
        let Some(mark) = mark.map(<[u8]>::trim_ascii_end) else {
            continue;
        };
        if !mark.is_empty() && mark != b"--" {
            continue;
        }
        if let Some(from) = start.take() {
            found.push(body.get(from..at).unwrap_or_default());
        }
        if !mark.is_empty() || found.len() >= REPORT_PARTS_MAX {
            return found;
        }
        start = Some(body.len().saturating_sub(rest.len()));
    }
    // A truncated part has no end.
    found.extend(start.and_then(|from| body.get(from..)));
    found
}

fn decoded(body: &[u8], encoding: &str) -> Vec<u8> {
    match encoding.trim().to_ascii_lowercase().as_str() {
        "base64" => {
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
            let digits: Vec<u8> = body.iter().copied().filter(is_part).collect();
            BASE64.decode(digits).unwrap_or_default()
        }
        "quoted-printable" => quoted_printable(body),
        _ => body.to_vec(),
    }
}

fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((text, after)) = line(rest) {
        rest = after;
        let mut text = text.trim_ascii_end();
        let is_soft = text.ends_with(b"=");
        text = text.strip_suffix(b"=").unwrap_or(text);
        while let Some((byte, behind)) = text.split_first() {
            let hex = behind.get(..2).filter(|_| *byte == b'=');
            let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
            let value = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
            out.push(value.unwrap_or(*byte));
            let skip = if value.is_some() { 2 } else { 0 };
            text = behind.get(skip..).unwrap_or_default();
        }
        if !is_soft {
            out.push(b'\n');
        }
    }
    out
}

/// The value of a parameter (RFC 2045 section 5.1).
fn parameter(value: &str, name: &str) -> Option<String> {
    let (_, mut rest) = value.split_once(';')?;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (found, behind) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut text = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next()? {
                        (at, '"') => break at,
                        (_, '\\') => text.push(chars.next()?.1),
                        (_, c) => text.push(c),
                    }
                };
                (text, quoted.get(end.saturating_add(1)..)?)
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after.get(..end)?.trim().to_owned(), after.get(end..)?)
            }
        };
        if key
            .trim()
            .trim_start_matches(';')
            .trim()
            .eq_ignore_ascii_case(name)
        {
            return Some(found);
        }
        rest = behind.split_once(';').map_or("", |(_, rest)| rest);
    }
}

/// `Report Domain: … Submitter: … Report-ID: …` (RFC 7489 section 7.2.1.1, RFC 8460 section 5.3).
fn is_subject(value: &str) -> bool {
    let text = encoded_word::decode(value).to_ascii_lowercase();
    text.starts_with("report domain:") && text.contains("submitter:")
}

/// `RECEIVER!DOMAIN!BEGIN!END.xml.gz` (RFC 7489 section 7.2.1.1) and the like, however it is encoded.
fn is_report_name(value: &str) -> bool {
    let text = encoded_word::decode(value).to_ascii_lowercase();
    let text = text.replace("%21", "!");
    let marks = text.bytes().filter(|byte| *byte == b'!').count();
    marks >= 3
        && [".xml", ".zip", ".gz", ".json"]
            .iter()
            .any(|end| text.contains(end))
}

const NAMES: &[&str] = &[
    "content-type",
    "content-disposition",
    "content-transfer-encoding",
    "subject",
];

/// Padding is removed before, and excess bits are ignored.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
