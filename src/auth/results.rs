//! Authentication-Results (RFC 8601): the results of the checks of a message, for mail systems behind this one.
//!
//! A value is built from typed results and written folded. Text that a client could influence is quoted unless it is a
//! token, and characters that could end a line or a string are removed. Existing fields of a message are read only as
//! far as [`claims_id`] needs: whether they claim our authserv-id (section 5).
//!
//! Invariant: a value has no line end other than CRLF followed by a tab, and no other control character.

use std::fmt::{self, Write as _};

use super::{arc, dkim, dmarc, spf};
use crate::address::Domain;
use crate::limits::RESULT_VALUE_BYTES_MAX;
use crate::workload::{Unit, count};

/// The results of one host: the value of Authentication-Results, and of ARC-Authentication-Results after `i=`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthenticationResults {
    id: String,
    results: Vec<MethodResult>,
}

/// The result of one method (section 2.2, `resinfo`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MethodResult {
    method: AuthMethod,
    result: &'static str,
    reason: Option<String>,
    properties: Vec<(&'static str, String)>,
}

/// A method of section 2.7, or of RFC 7489 and RFC 8617.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthMethod {
    /// The ARC chain.
    Arc,
    /// A successful AUTH of the client.
    Auth,
    /// One signature.
    Dkim,
    /// DMARC for the domain of From.
    Dmarc,
    /// SPF for the host that sent the message.
    Spf,
}

impl AuthenticationResults {
    /// The results of the host with the authserv-id `id`; none so far.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            results: Vec::new(),
        }
    }

    /// Adds a result.
    #[must_use]
    pub fn with(mut self, result: MethodResult) -> Self {
        self.results.push(result);
        self
    }

    /// The complete field with its line end.
    pub fn field(&self) -> String {
        format!("Authentication-Results: {self}\r\n")
    }
}

impl MethodResult {
    /// A result with a word that is registered for the method.
    pub const fn new(method: AuthMethod, result: &'static str) -> Self {
        Self {
            method,
            result,
            reason: None,
            properties: Vec::new(),
        }
    }

    /// SPF (section 2.7.2) for the sender in MAIL, without brackets; for the null one the HELO name is given.
    /// Decides RFC 8601 section 2.7.2.
    pub fn spf(outcome: spf::SpfResult, sender: &str, helo: &str) -> Self {
        let result = Self::new(AuthMethod::Spf, outcome.as_str());
        if sender.is_empty() {
            result.property("smtp.helo", helo)
        } else {
            result.property("smtp.mailfrom", sender)
        }
    }

    /// DKIM (section 2.7.1; `header.a` and `header.s` RFC 8601, `header.b` RFC 6008).
    pub fn dkim(verdict: &dkim::verdict::SignatureVerdict) -> Self {
        let mut result = Self::new(AuthMethod::Dkim, verdict.verdict().as_str());
        if let Err(failure) = verdict.outcome {
            result = result.reason(&failure.to_string());
        }
        if let Some(domain) = &verdict.domain {
            result = result.property("header.d", domain.as_str());
        }
        if let Some(selector) = &verdict.selector {
            result = result.property("header.s", selector);
        }
        if let Some(algorithm) = verdict.algorithm {
            result = result.property("header.a", algorithm.as_str());
        }
        match &verdict.b_start {
            Some(start) => result.property("header.b", start),
            None => result,
        }
    }

    /// DMARC (RFC 9989) for the domain of From.
    pub fn dmarc(outcome: dmarc::DmarcResult, author: &Domain) -> Self {
        Self::new(AuthMethod::Dmarc, outcome.as_str()).property("header.from", author.as_str())
    }

    /// ARC (RFC 8617 section 10.2).
    pub fn arc(verdict: &arc::ArcVerdict) -> Self {
        let result = Self::new(AuthMethod::Arc, verdict.status().as_str());
        match verdict.outcome {
            arc::ArcResult::None => result,
            arc::ArcResult::Pass { oldest_pass } => {
                result.property("header.oldest-pass", &oldest_pass.to_string())
            }
            arc::ArcResult::Fail(failure) => result.reason(&failure.to_string()),
        }
    }

    /// AUTH (section 2.7.4): the login.
    /// Decides RFC 8601 section 2.7.4.
    pub fn auth(login: &str) -> Self {
        Self::new(AuthMethod::Auth, "pass").property("smtp.auth", login)
    }

    /// Adds the reason.
    #[must_use]
    pub fn reason(mut self, text: &str) -> Self {
        self.reason = Some(bounded(text));
        self
    }

    /// Adds a property, `ptype.property` and its value.
    #[must_use]
    pub fn property(mut self, name: &'static str, value: &str) -> Self {
        self.properties.push((name, bounded(value)));
        self
    }
}

impl AuthMethod {
    /// The word of the registry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arc => "arc",
            Self::Auth => "auth",
            Self::Dkim => "dkim",
            Self::Dmarc => "dmarc",
            Self::Spf => "spf",
        }
    }
}

/// The value, folded, without a line end behind it.
impl fmt::Display for AuthenticationResults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&quoted(&self.id))?;
        if self.results.is_empty() {
            return out.write_str("; none");
        }
        for result in &self.results {
            write!(out, ";\r\n\t{}={}", result.method.as_str(), result.result)?;
            if let Some(reason) = &result.reason {
                write!(out, " reason={}", quoted(reason))?;
            }
            for (name, value) in &result.properties {
                write!(out, "\r\n\t{name}={}", quoted_address(value))?;
            }
        }
        Ok(())
    }
}

/// Whether a mail reader could attribute the value of an Authentication-Results field to the host with the authserv-id
/// `id`. Such a field is removed from incoming messages, because readers would trust it as ours (section 5).
///
/// More is recognised than the grammar allows. Case is ignored, and so are dots around the name, comments, quotes,
/// backslashes, white space and all other characters that cannot be part of a name, around it and inside it; text in a
/// comment counts too. A field with an uncertain id claims any name: its quotes or comments do not end or overlap, it
/// has no name, or a control character, an encoded word or non-ASCII occurs before its first semicolon. This costs
/// others only results under an id that no host has.
/// Decides RFC 8601 section 5.
pub fn claims_id(value: &[u8], id: &str) -> bool {
    count(Unit::Byte, value.len());
    let Some(head) = Head::of(value) else {
        return true;
    };
    let is_odd = !head.raw.iter().all(is_plain)
        || head.raw.contains(&b';')
        || head.raw.windows(2).any(|pair| pair == b"=?");
    let id = id.trim_matches('.').bytes();
    let id: Vec<u8> = id.filter(is_part).collect();
    is_odd
        || !head.bare.iter().any(is_part)
        || holds_name(head.raw, &id)
        || holds_name(&head.bare, &id)
}

/// Whether a text contains a name, possibly with characters inside that cannot be part of a name.
fn holds_name(text: &[u8], name: &[u8]) -> bool {
    let mut is_inside = false;
    text.iter().enumerate().any(|(at, byte)| {
        let begins = !is_inside && is_part(byte);
        // Leading dots are not part of a name.
        is_inside = is_part(byte) && (is_inside || *byte != b'.');
        begins && begins_with_name(text.get(at..).unwrap_or_default(), name)
    })
}

fn begins_with_name(text: &[u8], name: &[u8]) -> bool {
    let mut rest = text;
    for expected in name {
        let Some(at) = rest.iter().position(is_part) else {
            return false;
        };
        let Some((byte, after)) = rest.get(at..).and_then(<[u8]>::split_first) else {
            return false;
        };
        if !byte.eq_ignore_ascii_case(expected) {
            return false;
        }
        rest = after;
    }
    count(Unit::Byte, text.len().saturating_sub(rest.len()));
    let dots = rest.iter().take_while(|byte| **byte == b'.').count();
    !rest.get(dots).is_some_and(is_part)
}

/// Whether a byte may be part of a name.
fn is_part(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// Whether all mail readers interpret a byte alike.
fn is_plain(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')
}

/// Whether results say that DMARC passed for this author. Only a complete result counts, because anyone could have
/// written text in quotes or in a comment. A result without a domain, or with two, does not count.
pub fn says_dmarc_passed(results: &str, author: &Domain) -> bool {
    count(Unit::Byte, results.len());
    let mut rest = results.as_bytes();
    let mut first = true;
    while let Some(segment) = next_result(&mut rest) {
        let is_id = std::mem::take(&mut first);
        if !is_id && is_dmarc_pass(segment).is_some() && is_about(segment, author) {
            return true;
        }
    }
    false
}

fn is_dmarc_pass(segment: &[u8]) -> Option<()> {
    let word = |value: &mut &[u8], expected: &[u8]| {
        *value = skip_cfws(value)?;
        let (front, rest) = value.split_at_checked(expected.len())?;
        *value = rest;
        front.eq_ignore_ascii_case(expected).then_some(())
    };
    let mut rest = segment;
    word(&mut rest, b"dmarc")?;
    word(&mut rest, b"=")?;
    word(&mut rest, b"pass")?;
    let ends = rest
        .first()
        .is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    ends.then_some(())
}

/// Whether the one `header.from` of a result is this domain.
fn is_about(segment: &[u8], author: &Domain) -> bool {
    let Some(words) = words(segment) else {
        return false;
    };
    let mut authors = words.windows(3).filter_map(|words| match words {
        [name, equals, value] if equals == "=" && name.eq_ignore_ascii_case("header.from") => {
            Some(value.rsplit('@').next().unwrap_or_default())
        }
        _ => None,
    });
    let named = authors.next().map(Domain::parse);
    authors.next().is_none() && named.is_some_and(|named| named.as_ref() == Ok(author))
}

/// The words of a result, its equals signs and its quoted strings, without comments.
fn words(segment: &[u8]) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = skip_cfws(segment)?;
    while let Some((byte, after)) = rest.split_first() {
        let after = match byte {
            b'"' => {
                let (text, after) = quoted_string(after)?;
                // An equals sign in quotes is ignored.
                words.push(if text == "=" { String::new() } else { text });
                after
            }
            b'=' => {
                words.push("=".to_owned());
                after
            }
            _ => {
                let ends = |byte: &u8| b" \t\r\n(\"=;".contains(byte);
                let len = rest.iter().position(ends).unwrap_or(rest.len()).max(1);
                let (word, after) = rest.split_at_checked(len)?;
                words.push(String::from_utf8_lossy(word).into_owned());
                after
            }
        };
        rest = skip_cfws(after)?;
    }
    Some(words)
}

/// The text before the next semicolon outside quotes and comments; `None` at the end, or if a quote or a comment does
/// not end.
fn next_result<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let whole = *rest;
    let mut left = whole;
    loop {
        left = skip_cfws(left)?;
        match left.split_first() {
            None => {
                *rest = &[];
                return Some(whole);
            }
            Some((b';', after)) => {
                *rest = after;
                let len = whole.len().saturating_sub(left.len());
                return whole.get(..len);
            }
            Some((b'"', after)) => left = quoted_string(after)?.1,
            Some((_, after)) => left = after,
        }
    }
}

/// The text before the first semicolon outside quotes and comments.
struct Head<'a> {
    raw: &'a [u8],
    /// The same without its comments.
    bare: Vec<u8>,
}

impl<'a> Head<'a> {
    /// `None` if its end is uncertain.
    fn of(value: &'a [u8]) -> Option<Self> {
        let mut rest = value;
        let mut bare = Vec::new();
        loop {
            rest = skip_cfws(rest)?;
            match rest.split_first() {
                None | Some((b';', _)) => {
                    let len = value.len().saturating_sub(rest.len());
                    let raw = value.get(..len)?;
                    return Some(Self { raw, bare });
                }
                Some((b'"', after)) => {
                    let (text, after) = quoted_string(after)?;
                    // Readers disagree about a comment in quotes and quotes in a comment.
                    if text.contains(['(', ')']) {
                        return None;
                    }
                    bare.push(b'"');
                    bare.extend_from_slice(text.as_bytes());
                    bare.push(b'"');
                    rest = after;
                }
                Some(_) => {
                    let ends = |byte: &u8| {
                        matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'(' | b'"' | b';')
                    };
                    let len = rest.iter().position(ends).unwrap_or(rest.len()).max(1);
                    let (word, after) = rest.split_at_checked(len)?;
                    bare.extend_from_slice(word);
                    bare.push(b' ');
                    rest = after;
                }
            }
        }
    }
}

/// The text after white space and comments (CFWS, RFC 5322 section 3.2.2); `None` if a comment does not end.
pub(super) fn skip_cfws(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    let mut depth = 0_usize;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'(' => {
                depth = depth.saturating_add(1);
                after
            }
            b')' if depth > 0 => {
                depth = depth.saturating_sub(1);
                after
            }
            b'\\' if depth > 0 => after.get(1..).unwrap_or_default(),
            b' ' | b'\t' | b'\r' | b'\n' => after,
            _ if depth > 0 => after,
            _ => return Some(rest),
        };
    }
    (depth == 0).then_some(rest)
}

/// The text of a quoted string whose first quote has been taken, and the rest.
fn quoted_string(value: &[u8]) -> Option<(String, &[u8])> {
    let mut text = Vec::new();
    let mut rest = value;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = match byte {
            b'"' => return Some((String::from_utf8_lossy(&text).into_owned(), after)),
            b'\\' => {
                let (&escaped, after) = after.split_first()?;
                text.push(escaped);
                after
            }
            b'\r' | b'\n' => after,
            _ => {
                text.push(byte);
                after
            }
        };
    }
}

/// Cuts a text so that it fits in a line once quoted. A cut text ends with dots, so that it cannot be mistaken for a
/// complete name.
fn bounded(text: &str) -> String {
    if text.len() <= RESULT_VALUE_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(RESULT_VALUE_BYTES_MAX);
    format!("{}...", text.get(..end).unwrap_or_default())
}

/// `value` of RFC 2045: a token unchanged, anything else in quotes.
fn quoted(text: &str) -> String {
    if is_token(text) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                let _ = write!(out, "\\{c}");
            }
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A `pvalue`: an address may be written without quotes if its halves are dot-atoms.
/// Decides RFC 8601 section 2.2.
fn quoted_address(text: &str) -> String {
    let is_domain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    };
    match text.rsplit_once('@') {
        Some((local, domain)) if (local.is_empty() || is_token(local)) && is_domain(domain) => {
            text.to_owned()
        }
        _ => quoted(text),
    }
}

/// `token` of RFC 2045 section 5.1: an apostrophe and a percent sign are allowed, a semicolon is not.
fn is_token(text: &str) -> bool {
    let special = |byte: u8| b"()<>@,;:\\\"/[]?=".contains(&byte);
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !special(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::dkim::key::Algorithm;
    use crate::auth::dkim::verdict::{DkimFailure, SignatureVerdict};
    use crate::limits::TEXT_LINE_BYTES_MAX;

    #[test]
    fn only_a_whole_result_says_that_dmarc_passed() {
        for (results, passed) in [
            ("a.example; dmarc=pass header.from=b.example", true),
            (
                "a.example; spf=fail; DMARC (x) = pass action=none Header.From = B.example.",
                true,
            ),
            (
                "a.example 1;dmarc=pass(p=none)header.from=\"b.example\"",
                true,
            ),
            (
                "a.example; dmarc=pass header.from=c.example; dmarc=pass header.from=b.example",
                true,
            ),
            ("dmarc=pass header.from=b.example; spf=pass", false),
            ("a.example; dmarc=passed header.from=b.example", false),
            ("a.example; dmarc=fail header.from=b.example", false),
            (
                "a.example; spf=pass reason=\"; dmarc=pass header.from=b.example\"",
                false,
            ),
            (
                "a.example; spf=pass (; dmarc=pass header.from=b.example)",
                false,
            ),
            (
                "a.example; spf=pass \"x; dmarc=pass header.from=b.example",
                false,
            ),
            ("a.example; xdmarc=pass header.from=b.example", false),
            ("", false),
            // It has to say for whom.
            ("a.example; dmarc=pass", false),
            (
                "a.example; dmarc=pass; spf=pass header.from=b.example",
                false,
            ),
            ("a.example; dmarc=pass header.from=c.example", false),
            ("a.example; dmarc=pass header.from=sub.b.example", false),
            (
                "a.example; dmarc=pass header.from=c.example header.from=b.example",
                false,
            ),
            (
                "a.example; dmarc=pass reason=\"header.from=b.example\"",
                false,
            ),
            ("a.example; dmarc=pass (header.from=b.example)", false),
            (
                "a.example; dmarc=pass header.from=c.example,b.example",
                false,
            ),
        ] {
            let author = Domain::parse("b.example").expect("a domain");
            assert_eq!(says_dmarc_passed(results, &author), passed, "{results}");
        }
    }

    #[test]
    fn writes_results_one_below_the_other() {
        let author = Domain::parse("example.com").expect("a domain");
        let signature = SignatureVerdict {
            domain: Some(author.clone()),
            selector: Some("s1".into()),
            algorithm: Some(Algorithm::RsaSha256),
            b_start: Some("ab/cd+e=".into()),
            testing: false,
            partial: None,
            outcome: Err(DkimFailure::BodyHash),
        };
        let results = AuthenticationResults::new("mail.example.net")
            .with(MethodResult::auth("ann@example.com"))
            .with(MethodResult::spf(
                spf::SpfResult::Pass,
                "a+b@example.com",
                "h",
            ))
            .with(MethodResult::spf(spf::SpfResult::None, "", "[192.0.2.1]"))
            .with(MethodResult::dkim(&signature))
            .with(MethodResult::dmarc(dmarc::DmarcResult::Fail, &author));
        assert_eq!(
            results.field(),
            "Authentication-Results: mail.example.net;\r\n\tauth=pass\r\n\tsmtp.auth=ann@example.com;\
             \r\n\tspf=pass\r\n\tsmtp.mailfrom=a+b@example.com;\r\n\tspf=none\r\n\tsmtp.helo=\"[192.0.2.1]\";\
             \r\n\tdkim=fail reason=\"the body was changed\"\r\n\theader.d=example.com\r\n\theader.s=s1\
             \r\n\theader.a=rsa-sha256\r\n\theader.b=\"ab/cd+e=\";\r\n\tdmarc=fail\r\n\theader.from=example.com\r\n"
        );
    }

    #[test]
    fn nothing_found_out_is_none() {
        let results = AuthenticationResults::new("mail.example.net");
        assert_eq!(
            results.field(),
            "Authentication-Results: mail.example.net; none\r\n"
        );
    }

    #[test]
    fn what_is_no_token_is_quoted_and_control_characters_do_not_get_through() {
        for (text, expected) in [
            ("a@b.example", "a@b.example"),
            ("@b.example", "@b.example"),
            ("\"a b\"@b.example", r#""\"a b\"@b.example""#),
            ("a;dkim=pass@b.example", r#""a;dkim=pass@b.example""#),
            ("a\r\nX: y", r#""a??X: y""#),
            ("a\0\u{85}", r#""a??""#),
            ("", r#""""#),
            ("back\\", r#""back\\""#),
            ("юзер@b.example", r#""юзер@b.example""#),
            ("a@(c)", r#""a@(c)""#),
        ] {
            assert_eq!(quoted_address(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_value_is_cut_so_that_its_line_can_be_sent_and_it_is_seen() {
        let results = AuthenticationResults::new("mail.example.net")
            .with(MethodResult::auth(&"\"".repeat(2_000)))
            .with(MethodResult::spf(
                spf::SpfResult::None,
                "",
                &"a".repeat(2_000),
            ));
        let field = results.field();
        assert!(
            field.lines().all(|line| line.len() <= TEXT_LINE_BYTES_MAX),
            "{field}"
        );
        assert!(field.ends_with("aa...\r\n"), "{field}");
    }

    #[test]
    fn recognises_its_own_id_however_it_is_written() {
        for value in [
            "mail.example.com; spf=pass",
            " mail.example.com;spf=pass",
            "MAIL.Example.COM; none",
            "mail.example.com. ; none",
            "mail.example.com 1; none",
            "mail.example.com\r\n\t1 ; none",
            "mail.example.com",
            "\"mail.example.com\"; none",
            "\"mail\\.example.com\" 1; none",
            "\"mail\r\n.example.com\"; none",
            "(a comment (in one)) mail.example.com (v) 1 (w); none",
            "(\\)) mail.example.com; none",
            " mail(comment).example.com ; none",
            " mail .example.com ; none",
            "mail.\"example\".com; none",
            "(does not end mail.example.com; none",
            "\"does not end mail.example.com; none",
            "(mail.example.com) other.example; none",
            "(;) mail.example.com; none",
            "\";\" mail.example.com; none",
            "mail\\.example.com; none",
            "\\mail.example.com; none",
            "<mail.example.com>; none",
            "mail.example.com/1; none",
            "mail.example.com, 1; none",
            "1 mail.example.com; none",
            "mail.exa,mple.com..; none",
            "mail.<example.com>; none",
            "mail.exam(ple.com); none",
            "\"mail.(c)example.com\"; none",
            "mail.example(.com; ) none",
            "; mail.example.com; none",
            "",
            "; none",
            "(mail.example.com",
        ] {
            assert!(claims_id(value.as_bytes(), "mail.example.com"), "{value:?}");
        }
    }

    #[test]
    fn an_id_that_is_not_plain_ascii_claims_any_name() {
        for value in [
            "\u{c}mail.example.com; none",
            "mail.example.com\u{b}; none",
            "\u{1f}mail.example.com\u{1f}1; none",
            "mail\0.example.com; none",
            "\u{a0}mail.example.com; none",
            "mail.example.com\u{3000}; none",
            "\u{85}mail.example.com\u{85}; none",
            "mail\u{200b}.exam\u{ad}ple.com; none",
            "\u{feff}mail.example.com; none",
            "\u{ff4d}ail\u{ff0e}example\u{3002}com; none",
            "=?utf-8?q?mail=2Eexample=2Ecom?=; none",
            "=?utf-8?b?bWFpbC5leGFtcGxlLmNvbQ==?= ; none",
            "(=?utf-8?q?mail.example.com?=) x.example; none",
        ] {
            assert!(claims_id(value.as_bytes(), "mail.example.com"), "{value:?}");
        }
        assert!(claims_id(b"mail.example.com\xa0; none", "mail.example.com"));
    }

    #[test]
    fn only_what_is_in_front_of_the_semicolon_is_the_id() {
        for value in [
            "other.example; spf=pass smtp.mailfrom=j\u{fc}rgen@b\u{fc}cher.example",
            "other.example; dkim=pass reason=\"=?utf-8?q?x?=\"",
            "other.example 1; spf=pass smtp.helo=mail.example.com",
        ] {
            assert!(
                !claims_id(value.as_bytes(), "mail.example.com"),
                "{value:?}"
            );
        }
    }

    #[test]
    fn leaves_the_ids_of_others() {
        for value in [
            "example.com; spf=pass",
            "other.example; spf=pass (mail.example.com)",
            "xmail.example.com; none",
            "mail.example.com.evil.example; none",
            "other.example; x=\"mail.example.com\"",
            "mail.example.comm (v1) 1; none",
        ] {
            assert!(
                !claims_id(value.as_bytes(), "mail.example.com"),
                "{value:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_value_breaks_out_of_its_field(text in any::<String>(), id in "[a-z.]{1,20}") {
            let result = MethodResult::auth(&text).reason(&text);
            let results = AuthenticationResults::new(&id).with(result);
            let field = results.field();
            let header = crate::mail::header::Header::parse(field.clone().into_bytes()).expect("a field");
            prop_assert_eq!(header.fields().len(), 1);
            let unfolded = field.replace("\r\n\t", " ");
            prop_assert!(unfolded.trim_end_matches("\r\n").chars().all(|c| !c.is_control()));
            prop_assert!(claims_id(results.to_string().as_bytes(), &id));
        }

        #[test]
        fn any_id_is_recognised_as_it_is_written(id in "\\PC{1,20}") {
            let value = AuthenticationResults::new(&id).to_string();
            prop_assert!(claims_id(value.as_bytes(), &id), "{value}");
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = claims_id(&bytes, "mail.example.com");
        }
    }
}
