//! Whose a message is by its From field (RFC 5322 section 3.6.2), for all who could show it.
//!
//! [`author_domains`] answers for every reader at once, and so is wider than [`super::address_list`]. A list that the
//! grammar takes names its own domains. Where readers could see more than the grammar does, and in every value that the
//! grammar refuses, each at sign counts, wherever it stands: with what follows it up to the first character that is
//! part of no name, and with what is left once white space and comments are taken out, which some readers do. Raw bytes
//! are read as UTF-8 and as ISO 8859-1, encoded words also decoded, full-width characters as what they stand for.
//!
//! Display names are not authors: RFC 9989 section 11.4 leaves them out, and mail that names somebody's address there is
//! common. So what stands in quotes or a comment of a list that the grammar takes does not count; encoded words do,
//! because readers are known that decode first and parse then.
//!
//! Invariant: what no domain can be made of is an error, and never nothing.

use std::fmt;

use super::encoded_word::{self, Undecodable};
use crate::address::Domain;
use crate::limits::{DMARC_AUTHORS_MAX, DOMAIN_BYTES_MAX, FROM_AT_SIGNS_MAX};
use crate::mail::address_list::address_list;
use crate::mail::header::Header;

/// Why a message has no author that could be held to anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthorError {
    /// There is no From field.
    Missing,
    /// There is more than one From field (RFC 5322 section 3.6): readers would disagree on which counts.
    Duplicate,
    /// From names no domain.
    Empty,
    /// What From shows cannot be told.
    Unreadable,
    /// From could show more than [`DMARC_AUTHORS_MAX`] domains.
    TooMany,
}

/// The domains that a reader could show as those of the authors, each once, in their order; never none.
pub fn author_domains(header: &Header) -> Result<Vec<Domain>, AuthorError> {
    let mut fields = header.named("From");
    let field = fields.next().ok_or(AuthorError::Missing)?;
    if fields.next().is_some() {
        return Err(AuthorError::Duplicate);
    }
    domains_shown(field.value())
}

/// The domains that a reader could show in this value of From.
pub fn domains_shown(value: &[u8]) -> Result<Vec<Domain>, AuthorError> {
    let mut found = Found::default();
    let views = Views::of(value)?;
    match address_list(value, None) {
        Ok(mailboxes) if !views.is_odd => {
            for mailbox in &mailboxes {
                found.add(mailbox.domain())?;
            }
            if let Some(decoded) = views.suspicious {
                found.look_at(&decoded)?;
            }
        }
        _ => {
            for text in views.raw.iter().chain(&views.decoded) {
                found.look_at(text)?;
            }
        }
    }
    if found.is_unreadable {
        return Err(AuthorError::Unreadable);
    }
    if found.domains.is_empty() {
        return Err(AuthorError::Empty);
    }
    Ok(found.domains)
}

/// A value as readers may see it.
struct Views {
    /// Whether the grammar alone cannot tell what readers see.
    is_odd: bool,
    raw: Vec<String>,
    decoded: Vec<String>,
    /// The decoded text, where what came out of encoded words has a meaning for the grammar.
    suspicious: Option<String>,
}

impl Views {
    fn of(value: &[u8]) -> Result<Self, AuthorError> {
        let mut raw = vec![folded(&mixed(value))];
        if std::str::from_utf8(value).is_err() {
            let latin1: String = value.iter().copied().map(char::from).collect();
            raw.push(folded(&latin1));
        }
        let mut decoded = Vec::new();
        let mut suspicious = None;
        for text in &raw {
            let words =
                encoded_word::decode(text).map_err(|Undecodable| AuthorError::Unreadable)?;
            let Some(words) = words else { continue };
            let whole = folded(&words.text);
            if folded(&words.words).contains(has_meaning) {
                suspicious = Some(whole.clone());
            }
            decoded.push(whole);
        }
        let plain = std::str::from_utf8(value).unwrap_or_default();
        let is_changed = raw.first().is_none_or(|text| text != plain);
        let is_control = |c: char| c.is_control() && !matches!(c, '\r' | '\n' | '\t');
        Ok(Self {
            is_odd: is_changed || plain.contains(is_control),
            raw,
            decoded,
            suspicious,
        })
    }
}

/// UTF-8 where it is that, and ISO 8859-1 between.
fn mixed(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().copied().map(char::from));
    }
    out
}

/// Full-width and small forms as the ASCII that they stand for (their compatibility mappings in Unicode).
pub(crate) fn folded(text: &str) -> String {
    let fold = |c: char| match c {
        '\u{FF01}'..='\u{FF5E}' => {
            let ascii = u32::from(c).saturating_sub(FULL_WIDTH_OFFSET);
            char::from_u32(ascii).unwrap_or(c)
        }
        '\u{FE50}' => ',',
        '\u{FE52}' => '.',
        '\u{FE54}' => ';',
        '\u{FE55}' => ':',
        '\u{FE59}' => '(',
        '\u{FE5A}' => ')',
        '\u{FE64}' => '<',
        '\u{FE65}' => '>',
        '\u{FE6B}' => '@',
        c => c,
    };
    text.chars().map(fold).collect()
}

/// Whether a character could change where an address is.
fn has_meaning(c: char) -> bool {
    c.is_control() || matches!(c, '@' | '<' | '>' | '"' | '\\' | '(' | ')' | ':')
}

#[derive(Default)]
struct Found {
    domains: Vec<Domain>,
    at_signs: usize,
    /// Whether something follows an at sign that no domain can be made of.
    is_unreadable: bool,
}

impl Found {
    fn add(&mut self, domain: &Domain) -> Result<(), AuthorError> {
        if domain.is_literal() || self.domains.contains(domain) {
            return Ok(());
        }
        if self.domains.len() >= DMARC_AUTHORS_MAX {
            return Err(AuthorError::TooMany);
        }
        self.domains.push(domain.clone());
        Ok(())
    }

    /// Takes what follows each at sign.
    fn look_at(&mut self, text: &str) -> Result<(), AuthorError> {
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once('@') {
            self.at_signs = self.at_signs.saturating_add(1);
            if self.at_signs > FROM_AT_SIGNS_MAX {
                return Err(AuthorError::TooMany);
            }
            let tight = tight(behind);
            let joined = joined(behind);
            for name in [&tight, &joined].into_iter().flatten() {
                match domain(name) {
                    Some(domain) => self.add(&domain)?,
                    None => self.is_unreadable |= Some(name) == tight.as_ref(),
                }
            }
            self.is_unreadable |= joined.is_none();
            rest = behind;
        }
        Ok(())
    }
}

/// What follows an at sign up to the first character that is part of no name; `None` where there is nothing.
fn tight(behind: &str) -> Option<String> {
    let is_before = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | '.' | '"');
    let behind = behind.trim_start_matches(is_before);
    let name: String = behind
        .chars()
        .take_while(|c| is_name(*c))
        .take(NAME_CHARS_MAX)
        .collect();
    (!name.is_empty()).then_some(name)
}

/// What follows an at sign without white space, controls and comments, up to the first character that ends an atom;
/// `None` where that is too much to look through.
fn joined(behind: &str) -> Option<String> {
    let mut name = String::new();
    let mut depth = 0_usize;
    for (count, c) in behind.chars().enumerate() {
        if count >= JOINED_CHARS_MAX {
            return None;
        }
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' if depth > 0 => depth = depth.saturating_sub(1),
            _ if depth > 0 || c.is_whitespace() || is_invisible(c) => {}
            '<' | '>' | '@' | ',' | ';' | ':' | '"' | '[' | ']' | '\\' | ')' => break,
            c => name.push(c),
        }
    }
    Some(name)
}

/// Whether a character may be part of a name as somebody shows it.
fn is_name(c: char) -> bool {
    match c {
        c if c.is_ascii() => c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
        c => !c.is_whitespace(),
    }
}

/// Whether a character shows nothing.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}')
}

/// The domain that a name is, with dots that divide nothing taken out.
fn domain(name: &str) -> Option<Domain> {
    let is_dot = |c: char| matches!(c, '.' | '\u{3002}' | '\u{FF61}');
    let shown = name.chars().filter(|c| !is_invisible(*c));
    let shown: String = shown.collect();
    let labels: Vec<&str> = shown
        .split(is_dot)
        .filter(|label| !label.is_empty())
        .collect();
    Domain::parse(&labels.join(".")).ok()
}

impl fmt::Display for AuthorError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str("expected a From field, found none"),
            Self::Duplicate => out.write_str("expected one From field, found more"),
            Self::Empty => out.write_str("expected a domain in From, found none"),
            Self::Unreadable => {
                out.write_str("expected an address in From, found what could be any")
            }
            Self::TooMany => write!(out, "From has more than {DMARC_AUTHORS_MAX} domains"),
        }
    }
}

impl std::error::Error for AuthorError {}

/// What lies between ASCII and its full-width forms.
const FULL_WIDTH_OFFSET: u32 = 0xFEE0;
const NAME_CHARS_MAX: usize = DOMAIN_BYTES_MAX;
const JOINED_CHARS_MAX: usize = 4 * DOMAIN_BYTES_MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: &[u8]) -> Result<Vec<String>, AuthorError> {
        let domains = domains_shown(value)?;
        Ok(domains.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_domain_is_found_however_it_is_spelled() {
        for value in [
            &b"Boss <b@bank.example>"[..],
            b"B\xF6ss <b@bank.example>",
            b"[Boss] <b@bank.example>",
            b"Boss, The <b@bank.example>",
            b"b..ss@bank.example",
            b".b@bank.example",
            b"Boss <b@bank.example",
            b"b@bank.example (no end",
            b"\"no end b@bank.example",
            b"b\0@bank.example",
            b"b@\x01bank.example",
            b"b@bank\x1f.example",
            b"b@bank.example.",
            b"b@.bank..example",
            b"b@bank . exa mple",
            b"b@(x)bank(y).example",
            b"b @ BANK.example",
            b"b@b\r\n ank.example",
            b"<@a.example:b@bank.example>",
            b"g: b@bank.example",
            b"=?utf-8?q?b=40bank.example?= <>",
            b"=?utf-8?b?YkBiYW5rLmV4YW1wbGU=?= <x@evil.example>",
            b"=?utf-8?q?b=40ba?= =?utf-8?q?nk.example?= <x@evil.example>",
            b"=?utf-8?q?=22?= \"b@bank.example\" <x@evil.example>",
            b"x@evil.example b@bank.example",
            b"x@evil.example <b@bank.example>",
            b"<x@evil.example> <b@bank.example>",
            b"x@evil.example@bank.example",
            "b＠bank．example".as_bytes(),
            "b﹫bank。example <x@evil.example>".as_bytes(),
            "b@bank.exam\u{200B}ple".as_bytes(),
            "b@ｂank.example".as_bytes(),
        ] {
            let found = shown(value);
            let is_found = found
                .as_ref()
                .is_ok_and(|domains| domains.iter().any(|one| one == "bank.example"));
            assert!(is_found, "{}: {found:?}", value.escape_ascii());
        }
        let long = format!("{}@bank.example", "b".repeat(65));
        assert_eq!(shown(long.as_bytes()), Ok(vec!["bank.example".to_owned()]));
    }

    #[test]
    fn names_of_elsewhere_are_found_in_both_readings_of_their_bytes() {
        let expected = Ok(vec!["xn--bcher-kva.example".to_owned()]);
        for value in [
            &b"b@b\xFCcher.example"[..],
            "b@bücher.example".as_bytes(),
            "B <b@BÜCHER.example>".as_bytes(),
            b"=?iso-8859-1?q?b=40b=FCcher.example?= <@>",
        ] {
            assert_eq!(shown(value), expected, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_display_name_is_not_an_author() {
        for value in [
            "\"b@bank.example via us\" <x@list.example>",
            "x@list.example (b@bank.example)",
            "=?utf-8?q?M=C3=BCller=2C_J=C3=B6rg?= <x@list.example>",
            "J\u{f6}rg M\u{fc}ller <x@list.example>",
            "Ann. B. <x@list.example>",
        ] {
            let expected = Ok(vec!["list.example".to_owned()]);
            assert_eq!(shown(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn what_shows_no_domain_or_too_many_is_an_error() {
        for (value, error) in [
            ("", AuthorError::Empty),
            ("root", AuthorError::Empty),
            ("undisclosed: ;", AuthorError::Empty),
            ("a@[192.0.2.1]", AuthorError::Empty),
            ("b@", AuthorError::Empty),
            (
                "=?utf-7?q?b+AEA-bank.example?= <x@a.example>",
                AuthorError::Unreadable,
            ),
            ("b@ba\u{f8ff}nk.example,", AuthorError::Unreadable),
            ("a@a.b,a@b.b,a@c.b,a@d.b,a@e.b", AuthorError::TooMany),
            ("[] a@a.b,a@b.b,a@c.b,a@d.b,a@e.b", AuthorError::TooMany),
        ] {
            assert_eq!(shown(value.as_bytes()), Err(error), "{value}");
        }
        let many = format!("[] {}", "@".repeat(FROM_AT_SIGNS_MAX + 1));
        assert_eq!(shown(many.as_bytes()), Err(AuthorError::TooMany));
        let far = format!("[] b@{}bank.example", " ".repeat(JOINED_CHARS_MAX));
        assert_eq!(shown(far.as_bytes()), Err(AuthorError::Unreadable));
    }

    #[test]
    fn from_has_to_be_there_once() {
        let domains = |text: &str| author_domains(&Header::parse(text.into()).expect("a header"));
        assert_eq!(domains("To: a@b\r\n"), Err(AuthorError::Missing));
        let twice = domains("From: a@b\r\nfrom: a@b\r\n");
        assert_eq!(twice, Err(AuthorError::Duplicate));
        assert_eq!(domains("From: a@b\r\n").map(|found| found.len()), Ok(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(domains) = domains_shown(&value) {
                prop_assert!(!domains.is_empty() && domains.len() <= DMARC_AUTHORS_MAX);
            }
        }
    }
}
