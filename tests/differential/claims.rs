//! Forged results in our name: no mail reader takes the authserv-id of an Authentication-Results field that stays in a
//! message for that of this host.

use std::collections::BTreeMap;

use chopar::auth::results::claims_id;
use mail_parser::{HeaderName, MessageParser};

use crate::chance::Chance;
use crate::from::{inputs, python_share};
use crate::hostile;
use crate::python::Python;

#[test]
fn no_reader_takes_remaining_results_for_ours() {
    let inputs = inputs();
    let mut python = Python::new();
    let mut asked: Vec<Vec<u8>> = Vec::new();
    let mut chance = Chance::new(SEED);
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut escaped = Vec::new();
    for number in 0..inputs {
        let value = hostile::results(ID, &mut chance);
        if claims_id(&value, ID) {
            *counts.entry("taken out").or_default() += 1;
        } else {
            *counts.entry("left").or_default() += 1;
            let mut shown = lenient(&String::from_utf8_lossy(&value));
            shown.extend(lenient(&by_mail_parser(&value)));
            note(&value, &shown, &mut escaped);
            // Python's readers are slow.
            if number % python_share(inputs) == 0 {
                python.ask(b'a', &value);
                asked.push(value);
            }
        }
        if asked.len() >= BATCH || number + 1 == inputs {
            let answers = python.answers();
            for (value, shown) in asked.drain(..).zip(answers) {
                *counts.entry("left and read by Python").or_default() += 1;
                note(&value, &shown, &mut escaped);
            }
        }
        assert!(escaped.len() < SHOWN, "{}", escaped.join("\n"));
    }
    println!("Authentication-Results: {inputs} values: {counts:?}");
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
    assert!(counts["left"] > inputs / 20 && counts["taken out"] > inputs / 20);
}

/// The test proves nothing unless its generator makes such fields.
#[test]
fn forged_results_in_our_name_are_detected() {
    let mut python = Python::new();
    for value in [
        "mx.us.example; spf=pass",
        "\u{a0}mx.us.example\u{3000}; spf=pass",
        "=?utf-8?q?mx.us.example?=; spf=pass",
        "(c) MX.us.example. 1; spf=pass",
    ] {
        python.ask(b'a', value.as_bytes());
        let shown = python.answers().remove(0);
        let mut escaped = Vec::new();
        note(value.as_bytes(), &shown, &mut escaped);
        assert_eq!(escaped.len(), 1, "{value}: {shown:?}");
    }
    for value in ["mx.us.example; x", " =?utf-8?q?mx.us.example?=\r\n\t; x"] {
        let mut escaped = Vec::new();
        let shown = lenient(&by_mail_parser(value.as_bytes()));
        note(value.as_bytes(), &shown, &mut escaped);
        assert_eq!(escaped.len(), 1, "{value}: {shown:?}");
    }
}

fn note(value: &[u8], shown: &[String], escaped: &mut Vec<String>) {
    let is_ours = |id: &String| id.trim_matches('.').eq_ignore_ascii_case(ID);
    if shown.iter().any(is_ours) {
        escaped.push(format!("{}: {shown:?}", value.escape_ascii()));
    }
}

/// The IDs that a lenient reader could see, with or without knowledge of comments and quotes: the first word, and all
/// text together.
fn lenient(text: &str) -> Vec<String> {
    let mut shown = Vec::new();
    let head = text.split(';').next().unwrap_or_default();
    let (mut bare, mut depth) = (String::new(), 0_usize);
    for c in head.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    for head in [head, &bare] {
        let is_space =
            |c: char| c.is_whitespace() || c.is_control() || "\u{200b}\u{feff}".contains(c);
        let words = head.split(is_space).filter(|word| !word.is_empty());
        let cleaned = |word: &str| {
            let clean = |c: &char| !"\"'<>,()\\\u{ad}".contains(*c);
            word.chars().filter(clean).collect::<String>()
        };
        shown.extend(words.clone().take(1).map(cleaned));
        shown.push(words.map(cleaned).collect());
    }
    shown
}

/// The value as mail-parser shows a text, with encoded words decoded.
fn by_mail_parser(value: &[u8]) -> String {
    let message = [b"Subject: ", value, b"\r\n\r\n"].concat();
    let message = MessageParser::new()
        .header_text(HeaderName::Subject)
        .parse(&message);
    let text = message.as_ref().and_then(|message| message.subject());
    text.unwrap_or_default().to_owned()
}

const ID: &str = "mx.us.example";
const SEED: u64 = 20_261_130;
const BATCH: usize = 4_000;
const SHOWN: usize = 12;
