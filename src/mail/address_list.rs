//! Lists of addresses in header fields (RFC 5322 section 3.4; UTF-8 RFC 6532).
//!
//! The parser understands groups, comments, quoted strings, source routes and empty elements (section 4.4). It skips
//! display names. A bare local part is completed with the domain that the caller gives.
//!
//! Wider than RFC 5322: dots in a display name, and an address in place of the display name of the same address (`a@b
//! <a@b>`). If the two differ, the list is refused, because readers would disagree about the author.

use std::fmt;

use crate::address::{AddressError, Domain, Mailbox, is_atext};
use crate::limits::ADDRESS_LIST_MAX;
use crate::mail::header::Header;
use crate::workload::{Unit, count};

/// Why a field value is not a list of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressListError {
    /// The value is not UTF-8.
    Encoding,
    /// A comment, quoted string or literal that begins at this byte does not end.
    Unterminated { at: usize },
    /// Something else was expected at this byte.
    Unexpected { at: usize },
    /// The address that ends at this byte is invalid.
    Address { at: usize, error: AddressError },
    /// More than [`ADDRESS_LIST_MAX`] addresses.
    TooMany,
}

/// Why a message has no author whose address can be checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FromError {
    /// There is no From field.
    Missing,
    /// There is more than one From field (RFC 5322 section 3.6): mail readers would disagree about which one counts.
    Duplicate,
    /// From names no author.
    Empty,
    /// From is not a list of addresses.
    Syntax(AddressListError),
}

/// The mailboxes of the From field, which must occur once and contain at least one. Its display names may be in the
/// character set of an old program: they may contain bytes that are not UTF-8, and so may a local part that cannot
/// exist.
pub fn from_mailboxes(header: &Header) -> Result<Vec<Mailbox>, FromError> {
    let mut fields = header.named("From");
    let field = fields.next().ok_or(FromError::Missing)?;
    if fields.next().is_some() {
        return Err(FromError::Duplicate);
    }
    let value = String::from_utf8_lossy(field.value());
    let mailboxes = address_list(value.as_bytes(), None).map_err(FromError::Syntax)?;
    if mailboxes.is_empty() {
        return Err(FromError::Empty);
    }
    Ok(mailboxes)
}

/// The mailboxes of a field value, including those in groups; a bare local part gets the domain of `local`.
pub fn address_list(
    value: &[u8],
    local: Option<&Domain>,
) -> Result<Vec<Mailbox>, AddressListError> {
    count(Unit::Byte, value.len());
    let text = std::str::from_utf8(value).map_err(|_| AddressListError::Encoding)?;
    let mut parser = Parser {
        text,
        at: 0,
        local,
        mailboxes: Vec::new(),
    };
    parser.list()?;
    Ok(parser.mailboxes)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    local: Option<&'a Domain>,
    mailboxes: Vec<Mailbox>,
}

/// The words before an address: a display name, a group's name or a local part.
#[derive(Default)]
struct Words {
    text: String,
    is_local_part: bool,
}

impl<'a> Parser<'a> {
    fn list(&mut self) -> Result<(), AddressListError> {
        let mut in_group = false;
        loop {
            self.skip_space()?;
            match self.peek() {
                None if in_group => return self.unexpected(),
                None => return Ok(()),
                Some(',') => self.advance(),
                Some(';') if in_group => {
                    self.advance();
                    in_group = false;
                    self.expect_separator()?;
                }
                _ => {
                    let words = self.words()?;
                    if self.peek() == Some(':') && !in_group {
                        self.advance();
                        in_group = true;
                    } else {
                        self.address(&words)?;
                        self.expect_separator()?;
                    }
                }
            }
        }
    }

    /// One address, after its display name or local part.
    fn address(&mut self, words: &Words) -> Result<(), AddressListError> {
        let mailbox = match self.peek() {
            Some('<') => self.angle_address()?,
            Some('@') if words.is_local_part => {
                let mailbox = self.domain_of(&words.text)?;
                if self.peek() == Some('<') && !self.angle_address()?.is_same(&mailbox) {
                    return self.unexpected();
                }
                mailbox
            }
            None | Some(',' | ';') if words.is_local_part => self.qualify(&words.text)?,
            _ => return self.unexpected(),
        };
        if self.mailboxes.len() >= ADDRESS_LIST_MAX {
            return Err(AddressListError::TooMany);
        }
        self.mailboxes.push(mailbox);
        Ok(())
    }

    /// `<` route local-part `@` domain `>`.
    fn angle_address(&mut self) -> Result<Mailbox, AddressListError> {
        self.advance();
        self.skip_space()?;
        if self.peek() == Some('@') {
            self.skip_route()?;
        }
        let words = self.words()?;
        if !words.is_local_part {
            return self.unexpected();
        }
        let mailbox = match self.peek() {
            Some('@') => self.domain_of(&words.text)?,
            _ => self.qualify(&words.text)?,
        };
        if self.peek() != Some('>') {
            return self.unexpected();
        }
        self.advance();
        self.skip_space()?;
        Ok(mailbox)
    }

    /// `@one,@two:` (RFC 5322 section 4.4), which is obsolete and ignored.
    fn skip_route(&mut self) -> Result<(), AddressListError> {
        loop {
            self.skip_space()?;
            match self.peek() {
                Some('@' | ',' | '.') => self.advance(),
                Some(':') => {
                    self.advance();
                    return self.skip_space();
                }
                Some(c) if is_atext(c) => self.advance(),
                _ => return self.unexpected(),
            }
        }
    }

    /// Atoms, dots and quoted strings up to the first special. Together they are a local part if they are joined by
    /// dots, and a display name otherwise.
    fn words(&mut self) -> Result<Words, AddressListError> {
        let mut words = Words::default();
        let mut joined = true;
        loop {
            self.skip_space()?;
            match self.peek() {
                Some('"') => {
                    words.is_local_part = joined && (words.is_local_part || words.text.is_empty());
                    words.text.push_str(self.quoted()?);
                    joined = false;
                }
                Some('.') => {
                    self.advance();
                    words.text.push('.');
                    joined = true;
                }
                Some(c) if is_atext(c) => {
                    words.is_local_part = joined && (words.is_local_part || words.text.is_empty());
                    words.text.push_str(self.atom());
                    joined = false;
                }
                _ => return Ok(words),
            }
        }
    }

    /// `@domain` after a local part.
    fn domain_of(&mut self, local_part: &str) -> Result<Mailbox, AddressListError> {
        self.advance();
        let mut text = format!("{local_part}@");
        self.skip_space()?;
        if self.peek() == Some('[') {
            text.push_str(self.literal()?);
        } else {
            let mut joined = true;
            loop {
                match self.peek() {
                    Some('.') => {
                        self.advance();
                        text.push('.');
                        joined = true;
                    }
                    Some(c) if is_atext(c) && joined => {
                        text.push_str(self.atom());
                        joined = false;
                    }
                    _ => break,
                }
                self.skip_space()?;
            }
        }
        self.skip_space()?;
        self.mailbox(&text)
    }

    fn qualify(&self, local_part: &str) -> Result<Mailbox, AddressListError> {
        match self.local {
            Some(domain) => self.mailbox(&format!("{local_part}@{domain}")),
            None => self.mailbox(local_part),
        }
    }

    fn mailbox(&self, text: &str) -> Result<Mailbox, AddressListError> {
        Mailbox::parse(text).map_err(|error| AddressListError::Address { at: self.at, error })
    }

    fn expect_separator(&mut self) -> Result<(), AddressListError> {
        self.skip_space()?;
        match self.peek() {
            None | Some(',' | ';') => Ok(()),
            _ => self.unexpected(),
        }
    }

    fn atom(&mut self) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !is_atext(c)).unwrap_or(rest.len());
        self.take(len)
    }

    /// A quoted string with its quotes. `Mailbox::parse` refuses a folded one if it is a local part.
    fn quoted(&mut self) -> Result<&'a str, AddressListError> {
        self.delimited('"')
    }

    fn literal(&mut self) -> Result<&'a str, AddressListError> {
        self.delimited(']')
    }

    /// Everything up to the closing character, except one after a backslash.
    fn delimited(&mut self, close: char) -> Result<&'a str, AddressListError> {
        let mut escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == close => return Ok(self.take(at.saturating_add(c.len_utf8()))),
                _ => {}
            }
        }
        Err(AddressListError::Unterminated { at: self.at })
    }

    /// Skips white space, line ends and comments, nested ones too.
    fn skip_space(&mut self) -> Result<(), AddressListError> {
        let mut depth = 0_usize;
        let mut escaped = false;
        let begin = self.at;
        while let Some(c) = self.peek() {
            match c {
                _ if escaped => escaped = false,
                '\\' if depth > 0 => escaped = true,
                '(' => depth = depth.saturating_add(1),
                ')' if depth > 0 => depth = depth.saturating_sub(1),
                ' ' | '\t' | '\r' | '\n' => {}
                _ if depth > 0 => {}
                _ => break,
            }
            self.advance();
        }
        if depth > 0 {
            return Err(AddressListError::Unterminated { at: begin });
        }
        Ok(())
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self) {
        let len = self.peek().map_or(0, char::len_utf8);
        self.at = self.at.saturating_add(len);
    }

    fn take(&mut self, len: usize) -> &'a str {
        let taken = self.rest().get(..len).unwrap_or_default();
        self.at = self.at.saturating_add(taken.len());
        taken
    }

    fn unexpected<T>(&self) -> Result<T, AddressListError> {
        Err(AddressListError::Unexpected { at: self.at })
    }
}

impl fmt::Display for AddressListError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => out.write_str("the list of addresses is not UTF-8"),
            Self::Unterminated { at } => write!(
                out,
                "a comment, quoted string or literal at offset {at} has no end"
            ),
            Self::Unexpected { at } => write!(out, "expected an address at offset {at}"),
            Self::Address { at, error } => write!(out, "{error} (before offset {at})"),
            Self::TooMany => write!(out, "the list has more than {ADDRESS_LIST_MAX} addresses"),
        }
    }
}

impl std::error::Error for AddressListError {}

impl fmt::Display for FromError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str("expected a From field, found none"),
            Self::Duplicate => out.write_str("expected one From field, found more"),
            Self::Empty => out.write_str("expected an address in From, found none"),
            Self::Syntax(error) => write!(out, "From: {error}"),
        }
    }
}

impl std::error::Error for FromError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Result<Vec<String>, AddressListError> {
        address_list(text.as_bytes(), None).map(|mailboxes| {
            mailboxes
                .iter()
                .map(|mailbox| mailbox.as_str().to_owned())
                .collect()
        })
    }

    mod rfc5322_appendix_a {
        use super::*;

        #[test]
        fn examples_parse() {
            let cases: [(&str, &[&str]); 9] = [
                ("John Doe <jdoe@machine.example>", &["jdoe@machine.example"]),
                (
                    "\"Joe Q. Public\" <john.q.public@example.com>",
                    &["john.q.public@example.com"],
                ),
                (
                    "Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
                    &["mary@x.test", "jdoe@example.org", "one@y.test"],
                ),
                (
                    "<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
                    &["boss@nil.test", "sysservices@example.net"],
                ),
                (
                    "A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
                    &["c@a.test", "joe@where.test", "jdoe@one.test"],
                ),
                ("Undisclosed recipients:;", &[]),
                (
                    "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
                    &["pete@silly.test"],
                ),
                (
                    "Joe Q. Public <john.q.public@example.com>",
                    &["john.q.public@example.com"],
                ),
                (
                    "Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
                    &["mary@example.net", "jdoe@test.example"],
                ),
            ];
            for (text, mailboxes) in cases {
                let found = list(text).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(found, mailboxes, "{text}");
            }
        }
    }

    #[test]
    fn takes_what_senders_write() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[]),
            (" a@b\r\n\t, c@d ", &["a@b", "c@d"]),
            ("=?utf-8?Q?J=C3=BCrgen?= <j@x.example>", &["j@x.example"]),
            (
                "Jürgen Groß <jürgen@bücher.example>",
                &["jürgen@bücher.example"],
            ),
            ("a@b <A@B>", &["a@b"]),
            ("\"x y\"@[192.0.2.1] (who)", &["\"x y\"@[192.0.2.1]"]),
            ("a@b.", &["a@b"]),
        ];
        for (text, mailboxes) in cases {
            let found = list(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found, mailboxes, "{text}");
        }
    }

    #[test]
    fn rejects_what_readers_would_disagree_on() {
        for text in [
            "a@b <c@d>",
            "a@b c@d",
            "<a@b> c",
            "<a@b",
            "<>",
            "a b@c",
            "a@b@c",
            "g: a@b",
            "g: h: a@b;;",
            "a@b;",
            "a@b (c",
            "\"a@b",
            "a@[1.2.3.4",
            "@b",
            "a@",
            "\0@b",
            "a@b\0",
            "<a@b>>",
        ] {
            assert!(list(text).is_err(), "{text:?}: {:?}", list(text));
        }
        assert_eq!(
            address_list(b"\xff@b", None),
            Err(AddressListError::Encoding)
        );
    }

    #[test]
    fn qualifies_bare_names_only_where_told() {
        let domain = Domain::parse("example.com").expect("a domain");
        let found = address_list(b"root, Post Master <postmaster>, a@b", Some(&domain));
        let found: Vec<String> = found
            .expect("a list")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["root@example.com", "postmaster@example.com", "a@b"]);
        assert!(matches!(
            list("root"),
            Err(AddressListError::Address {
                error: AddressError::NoDomain,
                ..
            })
        ));
        assert!(address_list(b"two words", Some(&domain)).is_err());
    }

    #[test]
    fn from_must_be_there_once_and_name_somebody() {
        let from = |text: &str| from_mailboxes(&Header::parse(text.into()).expect("a header"));
        assert_eq!(from("To: a@b\r\n"), Err(FromError::Missing));
        assert_eq!(
            from("From: a@b\r\nfrom: a@b\r\n"),
            Err(FromError::Duplicate)
        );
        assert_eq!(from("From: g:;\r\n"), Err(FromError::Empty));
        let latin = Header::parse(b"From: B\xfcro <a@b>\r\n".to_vec()).expect("a header");
        assert_eq!(from_mailboxes(&latin).map(|found| found.len()), Ok(1));
        assert!(matches!(from("From: a\r\n"), Err(FromError::Syntax(_))));
        assert_eq!(
            from("From: A <a@b>,\r\n c@d\r\n").map(|found| found.len()),
            Ok(2)
        );
    }

    #[test]
    fn holds_its_bound() {
        let many = "a@b,".repeat(ADDRESS_LIST_MAX + 1);
        assert_eq!(list(&many), Err(AddressListError::TooMany));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[a@<>(),:;\\.\\\\\" \\[\\]é\r\n]{0,40}") {
            let _ = list(&text);
        }
    }
}
