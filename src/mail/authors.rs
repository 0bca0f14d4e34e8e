//! The domains of the authors of a message (RFC 5322 section 3.6.2), as any mail reader could display them.
//!
//! [`super::address_list`] parses a From field by the grammar. Mail readers accept more than the grammar, each in its
//! own way. A message of an unauthenticated client is judged by the domains that are found here, so this parser accepts
//! only what all mail readers interpret alike:
//!
//! - elements separated by `,`, `;` and `:`, each with at most one address: alone, or in angle brackets after words;
//! - in an address one at sign, nothing between its parts, and a domain that is a DNS name, up to `>`, white space, a
//!   comment, a separator or the end;
//! - words with any content (8-bit, dots, brackets, encoded words), but no at sign outside quotes and comments.
//!
//! Each at sign therefore either belongs to an address whose domain is found, or is hidden in quotes, a comment or an
//! encoded word. DMARC does not judge display names (RFC 9989 section 11.4). But a mail reader could mistake a display
//! name with an at sign for the address. Readers that search for angle brackets or commas first could do so, so the
//! domain of such a name is found too. Readers that fail at unusual syntax around it could do so too, so the rest of
//! the field must then follow the grammar exactly.
//!
//! Stricter than RFC 5322: comments and white space inside an address, routes, address literals and backslashes outside
//! quotes are refused, because mail readers combine the parts differently.
//!
//! Invariant: an input from which no domain can be read is an error, never an empty result.

use std::fmt;

use crate::address::Domain;
use crate::limits::{DMARC_AUTHORS_MAX, FROM_ADDRESSES_MAX};
use crate::mail::address_list::address_list;
use crate::mail::encoded_word::may_hold_at_sign;
use crate::mail::header::Header;
use crate::workload::{Unit, count};

/// Why the authors of a message cannot be determined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthorsError {
    /// There is no From field.
    Missing,
    /// There is more than one From field (RFC 5322 section 3.6): mail readers would disagree about which one counts.
    Duplicate,
    /// Another From field follows a line that is not a field: mail readers would disagree about it.
    Disputed,
    /// From contains no address.
    Empty,
    /// Mail readers would disagree about the byte at this position.
    Ambiguous {
        /// Its offset in the value.
        at: usize,
    },
    /// More than [`FROM_ADDRESSES_MAX`] addresses or [`DMARC_AUTHORS_MAX`] domains.
    TooMany,
}

/// The domains of the authors, each once, in their order; never empty.
pub fn authors(header: &Header) -> Result<Vec<Domain>, AuthorsError> {
    if header.disputed("From").next().is_some() {
        return Err(AuthorsError::Disputed);
    }
    let mut fields = header.named("From");
    let field = fields.next().ok_or(AuthorsError::Missing)?;
    if fields.next().is_some() {
        return Err(AuthorsError::Duplicate);
    }
    authors_in(field.value())
}

/// The domains of the authors in a value of From.
pub fn authors_in(value: &[u8]) -> Result<Vec<Domain>, AuthorsError> {
    count(Unit::Byte, value.len());
    let mut reader = Reader {
        value,
        at: 0,
        shape: Shape::Blank,
        found: Found {
            is_utf8: std::str::from_utf8(value).is_ok(),
            ..Found::default()
        },
        finds_hidden: false,
        hides_at_sign: may_hold_at_sign(value),
        is_odd: false,
    };
    reader.value()?;
    let may_escape = match (reader.finds_hidden, reader.hides_at_sign) {
        (false, false) => false,
        (true, true) => true,
        _ => reader.is_odd || address_list(value, None).is_err(),
    };
    if may_escape {
        return Err(AuthorsError::Ambiguous { at: 0 });
    }
    if reader.found.addresses == 0 {
        return Err(AuthorsError::Empty);
    }
    Ok(reader.found.domains)
}

struct Reader<'a> {
    value: &'a [u8],
    at: usize,
    shape: Shape<'a>,
    found: Found,
    /// Whether quotes or a comment contain an at sign, and the domain after it was found.
    finds_hidden: bool,
    /// Whether quotes, a comment or an encoded word contain an at sign, and the domain after it is not searched for.
    hides_at_sign: bool,
    /// Whether mail readers are known to disagree about the extent of a display name.
    is_odd: bool,
}

/// The part of an element that was read.
#[derive(Clone, Copy, Debug)]
enum Shape<'a> {
    /// Nothing but white space and comments.
    Blank,
    Words,
    /// An address without brackets: its domain.
    Bare(&'a [u8]),
    Angle,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Result<(), AuthorsError> {
        if let Some(at) = control(self.value) {
            return Err(AuthorsError::Ambiguous { at });
        }
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.advance(1),
                b',' => self.divide(),
                b';' => {
                    self.is_odd = true;
                    self.divide();
                }
                b':' if matches!(self.shape, Shape::Blank | Shape::Words) => {
                    self.is_odd = true;
                    self.divide();
                }
                b'(' => self.comment()?,
                b'"' => self.quoted()?,
                b'<' => self.angle()?,
                b'>' | b')' | b'\\' | b':' => return self.ambiguous(),
                _ => self.word()?,
            }
        }
        Ok(())
    }

    fn divide(&mut self) {
        self.shape = Shape::Blank;
        self.advance(1);
    }

    fn comment(&mut self) -> Result<(), AuthorsError> {
        let len = comment_len(self.rest());
        let Some(text) = len.and_then(|len| self.rest().get(..len)) else {
            return self.ambiguous();
        };
        let opened = text.iter().filter(|byte| **byte == b'(').count();
        self.is_odd |= opened > 1 || text.contains(&b'"');
        self.take_hidden(text)
    }

    fn quoted(&mut self) -> Result<(), AuthorsError> {
        let Some(text) = quoted_len(self.rest()).and_then(|len| self.rest().get(..len)) else {
            return self.ambiguous();
        };
        match self.shape {
            Shape::Blank if self.rest().get(text.len()) == Some(&b'@') => {
                let len = address_len(self.rest(), text.len());
                return self.bare(len);
            }
            Shape::Blank | Shape::Words => self.shape = Shape::Words,
            Shape::Bare(_) | Shape::Angle => return self.ambiguous(),
        }
        self.is_odd |= text.contains(&b'\\') || !is_balanced(text);
        self.take_hidden(text)
    }

    /// Takes a quoted string or a comment.
    fn take_hidden(&mut self, text: &[u8]) -> Result<(), AuthorsError> {
        let divides = text.iter().any(|byte| b"<>,;".contains(byte));
        match (text.contains(&b'@'), divides) {
            (true, true) => self.find_hidden(text)?,
            (true, false) => self.hides_at_sign = true,
            (false, true) => self.is_odd = true,
            (false, false) => {}
        }
        self.advance(text.len());
        Ok(())
    }

    /// Finds the domains after all at signs of a text.
    fn find_hidden(&mut self, text: &[u8]) -> Result<(), AuthorsError> {
        let has_bracket = text.contains(&b'<') || text.contains(&b'>');
        let ends = |byte: Option<&u8>| match byte {
            None | Some(b'>' | b',' | b';' | b'"' | b')') => true,
            Some(b' ' | b'\t') => !has_bracket,
            _ => false,
        };
        for behind in text.split(|byte| *byte == b'@').skip(1) {
            let is_part = |byte: &u8| is_plain(*byte) || !byte.is_ascii();
            let len = behind.iter().position(|byte| !is_part(byte));
            let (domain, rest) = behind.split_at(len.unwrap_or(behind.len()));
            if !ends(rest.first()) || text.contains(&b'\\') {
                return self.ambiguous();
            }
            self.found.add(domain, self.at)?;
        }
        self.finds_hidden = true;
        Ok(())
    }

    fn angle(&mut self) -> Result<(), AuthorsError> {
        let rest = self.rest();
        let end = rest.iter().position(|byte| *byte == b'>');
        let Some(inner) = end.and_then(|end| rest.get(1..end)) else {
            return self.ambiguous();
        };
        if inner.is_empty() && matches!(self.shape, Shape::Blank | Shape::Words) {
            self.shape = Shape::Words;
            self.advance(2);
            return Ok(());
        }
        let Some((local, domain)) = address(trimmed(inner)) else {
            return self.ambiguous();
        };
        match self.shape {
            Shape::Blank | Shape::Words => {}
            Shape::Bare(before)
                if before.eq_ignore_ascii_case(domain) && inner.is_ascii() && before.is_ascii() =>
            {
                self.found.add_glued(domain, local)?;
            }
            Shape::Bare(_) | Shape::Angle => return self.ambiguous(),
        }
        self.found.add_address(domain, self.at)?;
        self.shape = Shape::Angle;
        self.is_odd |= is_odd(local, domain);
        self.advance(inner.len().saturating_add(2));
        Ok(())
    }

    /// Characters of a display name or an address, up to the next special one.
    fn word(&mut self) -> Result<(), AuthorsError> {
        let len = address_len(self.rest(), 0);
        let word = self.rest().get(..len).unwrap_or_default();
        if word.contains(&b'@') {
            return self.bare(len);
        }
        match self.shape {
            Shape::Blank | Shape::Words => self.shape = Shape::Words,
            Shape::Bare(_) | Shape::Angle => return self.ambiguous(),
        }
        // Some mail readers end a display name there, and take it for the address.
        self.is_odd |= word.iter().any(|byte| b"[]".contains(byte));
        self.advance(len);
        Ok(())
    }

    /// An address of this length without brackets.
    fn bare(&mut self, len: usize) -> Result<(), AuthorsError> {
        let text = self.rest().get(..len).unwrap_or_default();
        match (self.shape, address(text)) {
            (Shape::Blank, Some((local, domain))) => {
                self.found.add_address(domain, self.at)?;
                self.is_odd |= is_odd(local, domain);
                self.shape = Shape::Bare(domain);
                self.advance(len);
                Ok(())
            }
            _ => self.ambiguous(),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.value.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, len: usize) {
        self.at = self.at.saturating_add(len);
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn ambiguous<T>(&self) -> Result<T, AuthorsError> {
        Err(AuthorsError::Ambiguous { at: self.at })
    }
}

#[derive(Default)]
struct Found {
    domains: Vec<Domain>,
    addresses: usize,
    /// Whether the whole value is UTF-8. If not, mail readers decode it differently, and see other U-labels.
    is_utf8: bool,
}

impl Found {
    fn add_address(&mut self, domain: &[u8], at: usize) -> Result<(), AuthorsError> {
        self.addresses = self.addresses.saturating_add(1);
        if self.addresses > FROM_ADDRESSES_MAX {
            return Err(AuthorsError::TooMany);
        }
        self.add(domain, at)
    }

    fn add(&mut self, text: &[u8], at: usize) -> Result<(), AuthorsError> {
        let domain = plain_domain(text).filter(|_| self.is_utf8 || text.is_ascii());
        let domain = domain.ok_or(AuthorsError::Ambiguous { at })?;
        self.insert(domain)?;
        // Some mail readers stop at the first non-ASCII byte.
        let len = text.iter().take_while(|byte| byte.is_ascii()).count();
        let front = text.get(..len).filter(|_| len < text.len());
        let front = front.and_then(|front| std::str::from_utf8(front).ok());
        let front = front.unwrap_or_default().trim_end_matches(['.', '-']);
        match Domain::parse(front) {
            Ok(domain) if front.contains('.') => self.insert(domain),
            _ => Ok(()),
        }
    }

    /// Some mail readers join `a@b <c@b>` to `a@bc@b`.
    fn add_glued(&mut self, domain: &[u8], local: &[u8]) -> Result<(), AuthorsError> {
        let more = local.iter().take_while(|byte| is_plain(**byte));
        let glued: Vec<u8> = domain.iter().chain(more).copied().collect();
        let glued = String::from_utf8_lossy(&glued);
        match Domain::parse(glued.trim_end_matches(['.', '-'])) {
            Ok(domain) => self.insert(domain),
            Err(_) => Ok(()),
        }
    }

    fn insert(&mut self, domain: Domain) -> Result<(), AuthorsError> {
        if self.domains.contains(&domain) {
            return Ok(());
        }
        if self.domains.len() >= DMARC_AUTHORS_MAX {
            return Err(AuthorsError::TooMany);
        }
        self.domains.push(domain);
        Ok(())
    }
}

/// Position of a control character or a line separator in a value, where some mail readers end the field.
fn control(value: &[u8]) -> Option<usize> {
    let fold = |at: usize| {
        let around = value.get(at.saturating_sub(1)..).unwrap_or_default();
        value
            .get(at..)
            .is_some_and(|rest| rest.starts_with(b"\r\n"))
            || at > 0 && around.starts_with(b"\r\n")
    };
    let bytes = value.iter().enumerate();
    let ascii = bytes
        .filter(|(at, byte)| match byte {
            b'\r' | b'\n' => !fold(*at),
            byte => byte.is_ascii_control() && **byte != b'\t',
        })
        .map(|(at, _)| at);
    let separators = ["\u{85}", "\u{2028}", "\u{2029}"];
    let unicode = separators.iter().filter_map(|separator| {
        let mut windows = value.windows(separator.len());
        windows.position(|window| window == separator.as_bytes())
    });
    ascii.chain(unicode).min()
}

/// Length of the comment at the front, including nested ones; `None` if it does not end or contains a backslash.
fn comment_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\\' => return None,
            b'(' => depth = depth.saturating_add(1),
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at.checked_add(1);
        }
    }
    None
}

/// Length of the quoted string at the front; `None` if it does not end.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at.checked_add(1),
            _ => {}
        }
    }
    None
}

/// Whether the parentheses of a text are balanced, so that no mail reader takes text after it for part of a comment.
fn is_balanced(text: &[u8]) -> bool {
    let mut depth = 0_usize;
    for byte in text {
        match byte {
            b'(' => depth = depth.saturating_add(1),
            b')' if depth == 0 => return false,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth == 0
}

/// Length of the characters at the front, from `start` on, that may be part of an address or a word.
fn address_len(text: &[u8], start: usize) -> usize {
    let ends = |byte: &u8| b" \t\r\n,;:()\"<>\\".contains(byte);
    let rest = text.get(start..).unwrap_or_default();
    let len = rest.iter().position(ends).unwrap_or(rest.len());
    start.saturating_add(len)
}

/// The local part and the domain of an address; `None` if mail readers could disagree about the local part.
fn address(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = match text.first()? {
        b'"' => quoted_len(text)?,
        _ => text.iter().position(|byte| *byte == b'@')?,
    };
    let (local, rest) = text.split_at_checked(len)?;
    let domain = rest.strip_prefix(b"@")?;
    let refused: &[u8] = match local.first()? {
        b'"' => b"@<>\\",
        _ => b" \t\r\n()<>[]:;@\\,\"",
    };
    let is_plain = !local.iter().any(|byte| refused.contains(byte)) && !has_encoded_word(local);
    is_plain.then_some((local, domain))
}

/// Whether some mail readers do not accept the address, although its domain is plain.
fn is_odd(local: &[u8], domain: &[u8]) -> bool {
    local.starts_with(b"\"") || !local.is_ascii() || !domain.is_ascii() || domain.ends_with(b".")
}

/// A domain that all mail readers interpret alike: a DNS name in ASCII, or the normal form of its U-labels (RFC 5890
/// section 2.3.2.1).
fn plain_domain(text: &[u8]) -> Option<Domain> {
    let text = std::str::from_utf8(text).ok()?;
    let domain = Domain::parse(text).ok().filter(|one| !one.is_literal())?;
    if text.is_ascii() {
        return text.bytes().all(is_plain).then_some(domain);
    }
    let (shown, result) = idna::domain_to_unicode(domain.as_str());
    let is_normal = result.is_ok() && shown == text.to_lowercase();
    is_normal.then_some(domain)
}

/// Whether a byte may be part of a domain in ASCII.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Whether an encoded word (RFC 2047) could begin in a text.
fn has_encoded_word(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair == b"=?")
}

/// Without spaces around it.
fn trimmed(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let [b' ' | b'\t', after @ ..] | [after @ .., b' ' | b'\t'] = rest {
        rest = after;
    }
    rest
}

impl fmt::Display for AuthorsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str("expected a From field, found none"),
            Self::Duplicate => out.write_str("expected one From field, found more"),
            Self::Disputed => {
                out.write_str("expected From before a line that is not a field, found it after")
            }
            Self::Empty => out.write_str("expected an address in From, found none"),
            Self::Ambiguous { at } => {
                write!(out, "From can be read in more than one way at offset {at}")
            }
            Self::TooMany => write!(
                out,
                "From has more than {FROM_ADDRESSES_MAX} addresses or {DMARC_AUTHORS_MAX} domains"
            ),
        }
    }
}

impl std::error::Error for AuthorsError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(value: &[u8]) -> Result<Vec<String>, AuthorsError> {
        let domains = authors_in(value)?;
        Ok(domains.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn takes(value: &[u8], expected: &[&str]) {
        let found = found(value);
        let shown = value.escape_ascii();
        let found = found.unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(found, expected, "{shown}");
    }

    #[test]
    fn what_the_grammar_refuses_and_senders_write_is_judged_by_its_domain() {
        for value in [
            &b"B\xF6ss <b@bank.example>"[..],
            b"B\xF6ss M\x92 (\xE9) <b@bank.example>",
            b"[Boss] <b@bank.example>",
            b"[Boss <b@bank.example>",
            b"Boss, The <b@bank.example>",
            b"Boss; The <b@bank.example>",
            b"Re: Boss: The <b@bank.example>",
            b"Boss. The. 2nd <b@bank.example>",
            b"Boss<b@bank.example>",
            b"\"Boss\"<b@bank.example>",
            b"b..ss@bank.example",
            b"<b..ss.@bank.example>",
            b".b@bank.example",
            b"\"b ss\"@bank.example",
            b"b\xF6ss@bank.example",
            b"< b@bank.example >",
            b"b@BANK.example.",
            b"b@bank.example (Boss)",
            b"(Boss) b@bank.example",
            b"b@bank.example <B@bank.example>,",
            b"\r\n\t Boss\r\n <b@bank.example> (x)\r\n\t",
            b"=?iso-2022-jp?b?GyRCQEAbKEI=?= <b..ss@bank.example>",
            b"=?utf-8?q?B=C3=B6ss?=, The [1] <b@bank.example>",
            b"staff: b@bank.example, Ann <a@bank.example>;",
        ] {
            let found = found(value).unwrap_or_else(|error| {
                panic!("{}: {error}", value.escape_ascii());
            });
            assert_eq!(found[0], "bank.example", "{}", value.escape_ascii());
        }
        let long = format!("{}@bank.example", "b".repeat(65));
        takes(long.as_bytes(), &["bank.example"]);
        takes(b"a..b@docomo.ne.jp", &["docomo.ne.jp"]);
    }

    #[test]
    fn ordinary_fields_are_taken() {
        for value in [
            "Ann <ann@a.example>",
            "\"Smith, Ann\" <ann@a.example>",
            "\"Ann \\\"the\\\" Smith\" <ann@a.example>",
            "Ann (Sales (EU)) <ann@a.example>",
            "=?utf-8?q?J=C3=BCrgen?= =?utf-8?b?R3Jvw58=?= <ann@a.example>",
            "\"=?utf-8?q?J=C3=BCrgen?=\" <ann@a.example>",
            "=?utf-8?q?ann=40b.example_via_List?= <list@a.example>",
            "J\u{fc}rgen Gro\u{df} <j\u{fc}rgen@a.example>",
            "\"ann@b.example via List\" <list@a.example>",
            "\"ann@b.example (JIRA)\" <jira@a.example>",
            "\"'ann@b.example'\" <ann@a.example>",
            "list@a.example (ann@b.example)",
            "root@a.example (Cron Daemon)",
            "O'Neil <ann@a.example>",
            "Mailer-Daemon@a.example",
            "bounce+x=b.example@a.example",
        ] {
            takes(value.as_bytes(), &["a.example"]);
        }
    }

    #[test]
    fn every_author_is_found_once() {
        takes(
            b"a@a.example, \"B\" <b@b.example>;c@A.example,",
            &["a.example", "b.example"],
        );
        takes(b"Ann <ann@localhost>", &["localhost"]);
    }

    #[test]
    fn a_display_name_that_could_be_taken_for_an_address_is_judged_too() {
        let both = ["bank.example", "evil.example"];
        takes(b"\"Boss <b@bank.example>\" <x@evil.example>", &both);
        takes(b"\"Boss, b@bank.example\" <x@evil.example>", &both);
        takes(
            b"x@evil.example (<b@bank.example>)",
            &["evil.example", "bank.example"],
        );
        takes(b"m@bank.co <m@bank.co>", &["bank.co", "bank.com"]);
    }

    #[test]
    fn a_name_of_elsewhere_is_judged_by_its_a_labels() {
        takes(
            "b@b\u{fc}cher.example".as_bytes(),
            &["xn--bcher-kva.example"],
        );
        takes(
            "B <b@B\u{dc}CHER.example>".as_bytes(),
            &["xn--bcher-kva.example"],
        );
        // Some mail readers stop before non-ASCII text.
        takes(
            "b@bank.example\u{e9}.fr".as_bytes(),
            &["bank.xn--example-hya.fr", "bank.example"],
        );
    }

    #[test]
    fn what_readers_would_disagree_on_is_refused() {
        for value in [
            &b"Boss <b@bank.example"[..],
            b"b@bank.example (no end",
            b"\"no end b@bank.example",
            b"b\0@bank.example",
            b"b@\x01bank.example",
            b"B\x0c <b@bank.example>",
            b"B\r <b@bank.example>",
            "B\u{85} <b@bank.example>".as_bytes(),
            "B\u{2028} <b@bank.example>".as_bytes(),
            b"b@.bank..example",
            b"b@bank . example",
            b"b@bank.exam ple",
            b"b@(x)bank.example",
            b"b@bank.exam(x)ple",
            b"b @bank.example",
            b"<b(x)@bank.example>",
            b"<b@b\r\n ank.example>",
            b"<@a.example:b@bank.example>",
            b"<<b@bank.example>>",
            b"<b@bank.example> Boss",
            b"Boss b@bank.example",
            b"x@evil.example <b@bank.example>",
            b"x@evil.example b@bank.example",
            b"<x@evil.example> <b@bank.example>",
            b"x@evil.example@bank.example",
            b"\\\"Boss <b@bank.example>",
            b"b@bank.example <>",
            b"\"b@bank.example\" <>",
            b"Boss <root>",
            b"b@[192.0.2.1]",
            b"=?utf-8?q?b=40bank.example?= (x), x@evil.example",
            b"\"b@bank.example\" (x), x@evil.example",
            b"=?utf-8?q?b=40bank.example?=@evil.example",
            b"(\") \"b@bank.example (\" <x@evil.example>",
            b"\"b@bank.example \\\" \" <x@evil.example>",
            b"(x (b@bank.example)) <x@evil.example>",
            b"\"b@bank.example\" [Boss] <x@evil.example>",
            b"=?utf-8?q?b=40bank.example?= [Boss] <x@evil.example>",
            b"Boss, =?utf-8?q?b=40bank.example?= <x@evil.example>",
            b"\"a(b\"@evil.example (b@bank.example)",
            b"\"Boss, The\" \"b@bank.example\" <x@evil.example>",
            b"\"<b@bank.exam\\ple>\" <x@evil.example>",
            b"\"<b@bank. example>\" <x@evil.example>",
            b"\"<b@bank.example>\"x <\"a b\"@evil.example>",
            b"\"<b@bank.example>\"x, <x@evil.example>",
            "b@bank.example <\u{e9}b@bank.example>".as_bytes(),
            "b\u{ff20}bank.example, x@b\u{ff41}nk.example".as_bytes(),
            "b@bank\u{3002}example".as_bytes(),
            "b@bank\u{200b}.example".as_bytes(),
            b"b@b\xFCcher.example",
            b"B\xF6ss <b@b\xC3\xBCcher.example>",
            b"b@-bank.example",
        ] {
            let found = found(value);
            assert!(
                matches!(found, Err(AuthorsError::Ambiguous { .. })),
                "{}: {found:?}",
                value.escape_ascii()
            );
        }
    }

    #[test]
    fn a_field_without_an_address_is_refused() {
        for value in [
            "",
            " ",
            "root",
            "Boss, The",
            "undisclosed:;",
            ",,",
            "<>",
            "Mail <>",
        ] {
            assert_eq!(found(value.as_bytes()), Err(AuthorsError::Empty), "{value}");
        }
        assert_eq!(found(b"=?utf-8?q?Boss?="), Err(AuthorsError::Empty));
        let encoded = found(b"=?utf-8?q?b=40bank.example?=");
        assert!(matches!(encoded, Err(AuthorsError::Ambiguous { .. })));
    }

    #[test]
    fn holds_its_bounds() {
        let many = "a@b,".repeat(FROM_ADDRESSES_MAX.saturating_add(1));
        assert_eq!(found(many.as_bytes()), Err(AuthorsError::TooMany));
        let domains = "a@a.b,a@b.b,a@c.b,a@d.b,a@e.b";
        assert_eq!(found(domains.as_bytes()), Err(AuthorsError::TooMany));
    }

    #[test]
    fn from_has_to_be_there_once() {
        let of = |text: &str| authors(&Header::parse(text.into()).expect("a header"));
        assert_eq!(of("To: a@b\r\n"), Err(AuthorsError::Missing));
        let twice = of("From: a@b\r\nfrom : a@b\r\n");
        assert_eq!(twice, Err(AuthorsError::Duplicate));
        assert_eq!(of("From: a@b\r\n").map(|found| found.len()), Ok(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(domains) = authors_in(&value) {
                prop_assert!(!domains.is_empty() && domains.len() <= DMARC_AUTHORS_MAX);
            }
        }
    }
}
