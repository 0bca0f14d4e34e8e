//! Addresses of the envelope (RFC 5321 section 4.1.2, RFC 6531 section 3.3 for UTF-8).
//!
//! A value of these types has been parsed, so no other code checks it again. The local part is kept byte for byte; the
//! domain is kept as it was written, together with the normal form that comparisons use.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::limits::{DOMAIN_BYTES_MAX, LABEL_BYTES_MAX, PATH_BYTES_MAX};

/// A domain in its normal form: lower case, A-labels, no final dot; or an address literal in brackets.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Domain(Box<str>);

/// A mailbox `local-part@domain`.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Mailbox {
    text: Box<str>,
    at: usize,
    domain: Domain,
}

/// The reverse-path of a transaction: the recipient of DSNs.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ReversePath {
    /// `<>`: no DSN is sent.
    Null,
    /// DSNs are sent to this mailbox.
    Mailbox(Mailbox),
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressError {
    /// The text is empty.
    Empty,
    /// There is no `@domain` after the local part.
    NoDomain,
    /// The local part is neither atoms with dots nor a quoted string.
    LocalPart {
        /// Offset of the first invalid byte.
        at: usize,
    },
    /// The domain is neither a sequence of labels nor an address literal.
    Domain,
    /// Longer than RFC 5321 section 4.5.3.1 allows.
    TooLong {
        /// The length that was found, in bytes.
        len: usize,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("expected an address, found nothing"),
            Self::NoDomain => out.write_str("expected local-part@domain, found no @domain"),
            Self::LocalPart { at } => write!(
                out,
                "the local part cannot have the character at offset {at}"
            ),
            Self::Domain => out.write_str("the domain is not a valid host name"),
            Self::TooLong { len } => write!(out, "the address is too long ({len} bytes)"),
        }
    }
}

impl std::error::Error for AddressError {}

impl Domain {
    /// Parses a domain name (labels of letters, digits, hyphens and underscores; U-labels are converted by UTS 46)
    /// or an address literal `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::TooLong { len: text.len() });
        }
        if text.starts_with('[') {
            return parse_literal(text).map(|literal| Self(literal.into()));
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text).map_err(|_| AddressError::Domain)?
        };
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if name.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::TooLong { len: name.len() });
        }
        if name.split('.').all(is_label) {
            Ok(Self(name.into()))
        } else {
            Err(AddressError::Domain)
        }
    }

    /// Parses a name that is only looked up and never part of an address: its labels may contain any printable ASCII
    /// (RFC 2181 section 11). A final dot is left out.
    pub fn parse_lookup(text: &str) -> Result<Self, AddressError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(AddressError::Empty);
        }
        if name.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::TooLong { len: name.len() });
        }
        let is_printable = |byte| matches!(byte, b' '..=b'~');
        let is_label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(is_printable)
        };
        if name.starts_with('[') || !name.split('.').all(is_label) {
            return Err(AddressError::Domain);
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an address literal.
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }

    /// The parent domain; `None` for a single label or an address literal.
    pub fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_once('.').filter(|_| !self.is_literal())?;
        Some(Self(parent.into()))
    }

    /// Whether this name means the local machine on every host: `localhost`, or a loopback address.
    pub fn is_loopback(&self) -> bool {
        let literal = self
            .0
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        match literal {
            None => matches!(&*self.0, "localhost" | "localhost.localdomain"),
            Some(literal) => {
                let lower = literal.to_ascii_lowercase();
                let address = lower.strip_prefix("ipv6:").unwrap_or(&lower);
                address
                    .parse()
                    .is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }

    /// Whether this is `parent` or a subdomain of it.
    pub fn is_under(&self, parent: &Self) -> bool {
        self.0
            .strip_suffix(parent.as_str())
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
    }
}

/// Lets a map with `Domain` keys be searched by a `&str`.
impl Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Mailbox {
    /// Parses `local-part@domain`; UTF-8 is accepted in both halves.
    ///
    /// Wider than RFC 5321 section 4.1.2: dots may occur anywhere in a local part, because such mailboxes exist. A
    /// local part may be as long as a path allows (section 4.5.3.1 asks servers not to refuse it for its length alone),
    /// because bulk senders write the recipient into it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(AddressError::TooLong { len: text.len() });
        }
        let at = local_part_len(text)?;
        let rest = text.get(at..).unwrap_or_default();
        let domain = match rest.strip_prefix('@') {
            Some(domain) => Domain::parse(domain)?,
            None if rest.is_empty() => return Err(AddressError::NoDomain),
            None => return Err(AddressError::LocalPart { at }),
        };
        // A final dot marks a name as complete (RFC 1034 section 3.1); addresses are written without it (RFC 5321
        // section 2.3.5).
        let text = text.strip_suffix('.').unwrap_or(text);
        Ok(Self {
            text: text.into(),
            at,
            domain,
        })
    }

    /// The mailbox of a local part at a domain; fails if the local part is invalid.
    pub fn new(local_part: &str, domain: &Domain) -> Result<Self, AddressError> {
        Self::parse(&format!("{local_part}@{domain}"))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part, as it was written, quotes included.
    pub fn local_part(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The local part in the form that served domains compare: without quoting, in lower case.
    pub fn local_key(&self) -> String {
        local_key(self.local_part())
    }

    /// The domain in its normal form.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether the next hop must support SMTPUTF8 to accept this address, because its local part is not ASCII. (The
    /// domain is then sent as A-labels.)
    pub fn needs_smtputf8(&self) -> bool {
        !self.local_part().is_ascii()
    }

    /// The form for a server without SMTPUTF8: the domain in A-labels.
    pub fn to_ascii_domain(&self) -> String {
        if self.text.is_ascii() {
            return self.text.to_string();
        }
        format!("{}@{}", self.local_part(), self.domain)
    }

    /// Whether both are the same address for every host: the case of the domain is ignored, that of the local part is
    /// not, because only its own host can interpret it.
    /// Decides RFC 5321 section 2.4.
    pub fn is_equal(&self, other: &Self) -> bool {
        self.domain == other.domain && self.local_part() == other.local_part()
    }

    /// Whether both name the same mailbox of a served domain (ignoring case and quoting).
    pub fn is_same(&self, other: &Self) -> bool {
        self.domain == other.domain && self.local_key() == other.local_key()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Mailbox({:?})", self.text)
    }
}

impl ReversePath {
    /// Parses the text between the angle brackets; empty is the null reverse-path.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            Ok(Self::Null)
        } else {
            Mailbox::parse(text).map(Self::Mailbox)
        }
    }

    /// The text between the angle brackets.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }

    /// The mailbox, if there is one.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// Whether this is `<>`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A local part in the form that served domains compare: without quoting, in lower case, composed.
pub fn local_key(local_part: &str) -> String {
    let Some(quoted) = local_part
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return composed(local_part.to_lowercase());
    };
    let mut key = String::with_capacity(quoted.len());
    let mut escaped = false;
    for c in quoted.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            key.push(c);
            escaped = false;
        }
    }
    composed(key.to_lowercase())
}

/// Some keyboards write é as a letter and a combining accent, others as one character; both mean the same (NFC; RFC
/// 6530 section 10.1).
fn composed(text: String) -> String {
    if text.is_ascii() {
        return text;
    }
    ComposingNormalizerBorrowed::new_nfc()
        .normalize(&text)
        .into_owned()
}

/// Whether `c` may occur in an atom (RFC 5322 section 3.2.3, RFC 6532 section 3.2).
pub fn is_atext(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '/' | '=' | '?' | '^' | '_'
        | '`' | '{' | '|' | '}' | '~' => true,
        c => !c.is_ascii() && !c.is_control(),
    }
}

/// Length of the local part at the front of `text`, in bytes.
/// Decides RFC 5321 section 4.1.2.
fn local_part_len(text: &str) -> Result<usize, AddressError> {
    if text.starts_with('"') {
        return quoted_len(text);
    }
    let ends = |c: char| c != '.' && !is_atext(c);
    let len = text.find(ends).unwrap_or(text.len());
    let (local_part, rest) = text.split_at_checked(len).unwrap_or((text, ""));
    let is_named = local_part.contains(|c| c != '.');
    if is_named && (rest.is_empty() || rest.starts_with('@')) {
        Ok(len)
    } else {
        Err(AddressError::LocalPart { at: len })
    }
}

/// Length of the quoted string at the front of `text`, quotes included (Quoted-string of RFC 5321 section 4.1.2).
fn quoted_len(text: &str) -> Result<usize, AddressError> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        let printable = (' '..='~').contains(&c) || (!c.is_ascii() && !c.is_control());
        if !printable || (escaped && !c.is_ascii()) {
            return Err(AddressError::LocalPart { at });
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(at.saturating_add(1)),
            _ => {}
        }
    }
    Err(AddressError::LocalPart { at: text.len() })
}

/// A label of letters, digits and inner hyphens. Wider than RFC 5321 section 4.1.2: an underscore is accepted too,
/// because the DNS contains such names and senders use them.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Parses the text between the brackets of an address literal.
/// Decides RFC 5321 section 4.1.3.
fn parse_literal(text: &str) -> Result<String, AddressError> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or(AddressError::Domain)?;
    let valid = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner
            .get(5..)
            .is_some_and(|rest| rest.parse::<std::net::Ipv6Addr>().is_ok()),
        _ => inner.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    if valid {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(AddressError::Domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_dot_behind_the_domain_is_no_part_of_the_address() {
        let mailbox = Mailbox::parse("a@Example.com.").expect("a mailbox");
        assert_eq!(mailbox.as_str(), "a@Example.com");
        assert!(mailbox.is_equal(&Mailbox::parse("a@example.com").expect("a mailbox")));
        assert_eq!(Mailbox::parse("a@example.com.."), Err(AddressError::Domain));
    }

    #[test]
    fn what_names_the_machine_itself_is_known_in_every_spelling() {
        for text in [
            "localhost",
            "LOCALHOST.localdomain.",
            "[127.1.2.3]",
            "[IPv6:::1]",
        ] {
            assert!(
                Domain::parse(text).expect("a domain").is_loopback(),
                "{text}"
            );
        }
        for text in ["localhost.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"] {
            assert!(
                !Domain::parse(text).expect("a domain").is_loopback(),
                "{text}"
            );
        }
    }

    #[test]
    fn keeps_the_local_part_byte_for_byte() {
        for text in [
            "User.Name+tag@Example.COM",
            "\"a b\\\"@c\"@example.org",
            "jürgen@bücher.example",
            "!#$%&'*+-/=?^_`{|}~@x",
        ] {
            assert_eq!(mailbox(text).as_str(), text);
        }
        assert_eq!(
            mailbox("\"a b\\\"@c\"@example.org").local_part(),
            "\"a b\\\"@c\""
        );
    }

    #[test]
    fn compares_domains_in_normal_form() {
        assert_eq!(mailbox("a@EXAMPLE.com.").domain().as_str(), "example.com");
        assert_eq!(
            mailbox("a@bücher.example").domain().as_str(),
            "xn--bcher-kva.example"
        );
        assert_eq!(
            mailbox("a@bücher.example").to_ascii_domain(),
            "a@xn--bcher-kva.example"
        );
        assert_eq!(
            mailbox("a@[IPv6:2001:DB8::1]").domain().as_str(),
            "[ipv6:2001:db8::1]"
        );
    }

    #[test]
    fn compares_local_parts_without_case_and_quoting() {
        assert!(mailbox("\"Al\\ice\"@Example.com").is_same(&mailbox("alice@example.com")));
        assert!(!mailbox("alice@example.com").is_same(&mailbox("bob@example.com")));
    }

    #[test]
    fn rejects_what_is_no_mailbox() {
        let cases = [
            ("", AddressError::Empty),
            ("alice", AddressError::NoDomain),
            (".@b", AddressError::LocalPart { at: 1 }),
            ("...", AddressError::LocalPart { at: 3 }),
            ("@b", AddressError::LocalPart { at: 0 }),
            ("a b@c", AddressError::LocalPart { at: 1 }),
            ("a\r\n@c", AddressError::LocalPart { at: 1 }),
            ("a\0@c", AddressError::LocalPart { at: 1 }),
            ("\"a\n\"@c", AddressError::LocalPart { at: 2 }),
            ("\"a@c", AddressError::LocalPart { at: 4 }),
            ("\"a\"b@c", AddressError::LocalPart { at: 3 }),
            ("a@", AddressError::Empty),
            ("a@b@c", AddressError::Domain),
            ("a@-b", AddressError::Domain),
            ("a@b..c", AddressError::Domain),
            ("a@[1.2.3]", AddressError::Domain),
            ("a@b>c", AddressError::Domain),
            ("a@b c", AddressError::Domain),
        ];
        for (text, error) in cases {
            assert_eq!(Mailbox::parse(text), Err(error), "{text:?}");
        }
        assert!(Domain::parse(&"a.".repeat(150)).is_err());
    }

    #[test]
    fn takes_the_dots_and_lengths_that_mailboxes_have() {
        for text in [
            "na..me@docomo.example",
            "name.@a.example",
            ".name@a.example",
        ] {
            assert_eq!(mailbox(text).as_str(), text);
        }
        let of = |len: usize| format!("{}@b", "a".repeat(len));
        assert_eq!(mailbox(&of(200)).local_part().len(), 200);
        assert_eq!(
            mailbox(&of(PATH_BYTES_MAX - 2)).as_str().len(),
            PATH_BYTES_MAX
        );
        let long = Mailbox::parse(&of(PATH_BYTES_MAX - 1));
        assert_eq!(
            long,
            Err(AddressError::TooLong {
                len: PATH_BYTES_MAX + 1
            })
        );
    }

    #[test]
    fn a_subdomain_is_under_its_parent_only_at_a_dot() {
        let domain = |text: &str| Domain::parse(text).expect("a domain");
        assert!(domain("a.example.com").is_under(&domain("example.com")));
        assert!(domain("example.com").is_under(&domain("Example.com")));
        assert!(!domain("badexample.com").is_under(&domain("example.com")));
    }
}
