//! The authors of a message: chopar judges every domain that a mail reader displays for an accepted From.

use std::collections::BTreeMap;

use chopar::address::Domain;
use chopar::mail::authors::{authors, authors_in};
use chopar::mail::header::HeaderScanner;
use mail_parser::{HeaderName, MessageParser};

use crate::chance::Chance;
use crate::hostile;
use crate::python::Python;

#[test]
fn chopar_judges_every_author_that_a_reader_shows() {
    let inputs = inputs();
    let mut python = Python::new();
    let mut asked: Vec<(Vec<u8>, Vec<Domain>)> = Vec::new();
    let mut chance = Chance::new(SEED);
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut escaped = Vec::new();
    for number in 0..inputs {
        let value = hostile::from(&mut chance);
        if let Ok(judged) = authors_in(&value) {
            *counts.entry("taken").or_default() += 1;
            let mut shown = lenient(&value);
            shown.extend(by_mail_parser(&value));
            note(&value, &judged, &shown, &mut counts, &mut escaped);
            // The new parser of Python is slow.
            let is_for_both = number % python_share(inputs) == 0;
            python.ask(if is_for_both { b'F' } else { b'f' }, &value);
            asked.push((value, judged));
        } else {
            *counts.entry("refused").or_default() += 1;
        }
        if asked.len() >= BATCH || number + 1 == inputs {
            let answers = python.answers();
            for ((value, judged), shown) in asked.drain(..).zip(answers) {
                *counts.entry("taken and shown by Python").or_default() += 1;
                note(&value, &judged, &shown, &mut counts, &mut escaped);
            }
        }
        assert!(escaped.len() < SHOWN, "{}", escaped.join("\n"));
    }
    println!("From: {inputs} values: {counts:?}");
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
    assert!(counts["taken"] > inputs / 10 && counts["shown"] > inputs / 10);
}

#[test]
fn chopar_judges_every_author_that_a_reader_shows_after_the_end_of_the_header() {
    const LINES: [&str; 14] = [
        "From: a@evil.test",
        "From: b@bank.test",
        "from : b@bank.test",
        "X: y",
        "no field",
        " folded",
        "\t",
        "",
        "From x@mbox.test Thu Jan  1 00:00:00 1970",
        ">From: b@bank.test",
        "\u{feff}From: b@bank.test",
        ": From: b@bank.test",
        "Subject: x",
        "To: c@d.test",
    ];
    let inputs = inputs();
    let mut python = Python::new();
    let mut asked: Vec<(Vec<u8>, Vec<Domain>)> = Vec::new();
    let mut chance = Chance::new(SEED);
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut escaped = Vec::new();
    for number in 0..inputs {
        let count = 1 + chance.below(6);
        let lines: Vec<&str> = (0..count).map(|_| chance.word(&LINES)).collect();
        let message = format!("{}\r\n", lines.join("\r\n")).into_bytes();
        let mut scanner = HeaderScanner::default();
        let _ = scanner.on_bytes(&message).expect("it is short");
        let front = scanner.finish().expect("it is short");
        let is_continued =
            front.header.as_bytes().is_empty() && matches!(front.text.first(), Some(b' ' | b'\t'));
        match authors(&front.header) {
            Ok(judged) if !is_continued => {
                *counts.entry("taken").or_default() += 1;
                // The message as chopar sends it on: without the envelope line, after a field of ours.
                let rest = message.get(front.envelope_line..).unwrap_or_default();
                let sent = [b"Received: by mx.test\r\n", rest].concat();
                let parser = MessageParser::new().header_address(HeaderName::From);
                let parsed = parser.parse(&sent);
                let from = parsed.as_ref().and_then(|message| message.from());
                let addresses = from.into_iter().flat_map(|from| from.iter());
                let shown = addresses.filter_map(|one| one.address());
                let shown: Vec<String> = shown.map(str::to_owned).collect();
                note(&sent, &judged, &shown, &mut counts, &mut escaped);
                python.ask(b'm', &sent);
                asked.push((sent, judged));
            }
            _ => *counts.entry("refused").or_default() += 1,
        }
        if asked.len() >= BATCH || number + 1 == inputs {
            for ((sent, judged), shown) in asked.drain(..).zip(python.answers()) {
                note(&sent, &judged, &shown, &mut counts, &mut escaped);
            }
        }
        assert!(escaped.len() < SHOWN, "{}", escaped.join("\n"));
    }
    println!("headers: {inputs}: {counts:?}");
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
    assert!(counts["taken"] > inputs / 20 && counts["shown"] > inputs / 20);
}

/// The test proves nothing unless it can see an author that is not judged.
#[test]
fn an_author_that_is_not_judged_is_detected() {
    for value in [
        "x@evil.test, b@bank.test",
        "\"<b@bank.test>\" <x@evil.test>",
        "x@evil.test (c) b@bank.test",
        "\"c \\\" b@bank.test \" <x@evil.test>",
        "\"c, b@bank.test\" <x@evil.test>",
    ] {
        let judged = [Domain::parse("evil.test").expect("a domain")];
        let mut escaped = Vec::new();
        let shown = lenient(value.as_bytes());
        note(
            value.as_bytes(),
            &judged,
            &shown,
            &mut BTreeMap::new(),
            &mut escaped,
        );
        assert_eq!(escaped.len(), 1, "{value}: {shown:?}");
    }
}

pub(crate) fn inputs() -> usize {
    std::env::var("CHOPAR_FUZZ_INPUTS").map_or(20_000, |count| count.parse().expect("a number"))
}

/// One value in this many goes to a reader that takes a thousand times as long as the others.
pub(crate) fn python_share(inputs: usize) -> usize {
    8 + inputs / 100_000
}

/// Compares the displayed domains with the judged ones.
fn note(
    value: &[u8],
    judged: &[Domain],
    shown: &[String],
    counts: &mut BTreeMap<&'static str, usize>,
    escaped: &mut Vec<String>,
) {
    let domains = shown.iter().flat_map(|address| domains(address));
    for domain in domains {
        *counts.entry("shown").or_default() += 1;
        if !judged.contains(&domain) {
            let value = value.escape_ascii();
            escaped.push(format!("{value}: {domain} of {shown:?}, not of {judged:?}"));
            return;
        }
    }
}

/// The domains that a reader could see in an address: the text after each at sign, up to the next at sign, up to the
/// end of a domain name, and up to the first non-ASCII character.
fn domains(address: &str) -> Vec<Domain> {
    let mut found = Vec::new();
    for behind in address.split('@').skip(1) {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || !c.is_ascii();
        let behind = behind.trim_start();
        let name: String = behind.chars().take_while(|c| is_part(*c)).collect();
        let ascii: String = name.chars().take_while(char::is_ascii).collect();
        found.extend(Domain::parse(&name));
        found.extend(Domain::parse(behind.trim_end()));
        let ascii = ascii.trim_end_matches(['.', '-']);
        if ascii.len() < name.len() && ascii.contains('.') {
            found.extend(Domain::parse(ascii));
        }
    }
    found
}

fn by_mail_parser(value: &[u8]) -> Vec<String> {
    let message = [b"From: ", value, b"\r\n\r\n"].concat();
    let parser = MessageParser::new().header_address(HeaderName::From);
    let Some(message) = parser.parse(&message) else {
        return Vec::new();
    };
    let Some(addresses) = message.from() else {
        return Vec::new();
    };
    let addresses = addresses.iter().filter_map(|one| one.address());
    addresses.map(str::to_owned).collect()
}

/// The output of readers that look only for angle brackets, or only for at signs outside of quotes and comments, or
/// that split at commas first.
fn lenient(value: &[u8]) -> Vec<String> {
    let mut shown = Vec::new();
    // Valid UTF-8 is UTF-8 (RFC 6532). An invalid label has no policy, however it is displayed.
    let mut texts = vec![String::from_utf8_lossy(value).into_owned()];
    if std::str::from_utf8(value).is_err() {
        texts.push(value.iter().copied().map(char::from).collect());
    }
    for text in texts {
        for part in text.split('<').skip(1) {
            if let Some((inner, _)) = part.split_once('>') {
                shown.push(inner.to_owned());
            }
        }
        let quotes_first = without_comments(&without_quotes(&text, true));
        let unescaped = without_comments(&without_quotes(&text, false));
        let comments_first = without_quotes(&without_comments(&text), true);
        let commas_first = text
            .split([',', ';'])
            .map(|part| without_comments(&without_quotes(part, true)));
        shown.extend(commas_first);
        shown.extend([quotes_first, unescaped, comments_first]);
    }
    shown
}

/// A text without its quoted strings; an unclosed one stays.
fn without_quotes(text: &str, escapes: bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((front, behind)) = rest.split_once('"') {
        let mut escaped = false;
        let end = behind.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = escapes && *c == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else { break };
        out.push_str(front);
        out.push(' ');
        rest = &behind[end + 1..];
    }
    out + rest
}

/// A text without its comments; an unclosed one stays.
fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((front, behind)) = rest.split_once('(') {
        let mut depth = 1_usize;
        let end = behind.char_indices().find(|(_, c)| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let Some((end, _)) = end else { break };
        out.push_str(front);
        out.push(' ');
        rest = &behind[end + 1..];
    }
    out + rest
}

const SEED: u64 = 20_261_129;
const BATCH: usize = 4_000;
const SHOWN: usize = 12;
