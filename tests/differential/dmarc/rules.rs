//! How to read policy records if mail-auth reads them differently.

use super::Case;
use crate::tally::Rule;

pub(super) const RULES: &[Rule<Case>] = &[
    Rule {
        name: "version",
        text: "RFC 9989 section 4.7: the value of v= MUST match precisely; if it does not or it is absent, the entire \
            record MUST be ignored",
        applies: |case| case.agrees_after(&[exact_version]),
    },
    Rule {
        name: "duplicate tag",
        text: "RFC 9989 section 4.7 takes the tag-value syntax of DKIM, and RFC 6376 section 3.2: if a tag name does \
            occur more than once, the entire tag-list is invalid",
        applies: |case| case.agrees_after(&[different_names]),
    },
    Rule {
        name: "several records",
        text: "RFC 9989 section 4.10: if multiple DMARC Policy Records are returned, they are all discarded",
        applies: |case| case.agrees_after(&[one_record]),
    },
    Rule {
        name: "syntax error in the remainder",
        text: "RFC 9989 section 4.7: syntax errors in the remainder of the record MUST be discarded in favor of default \
            values (if any) or ignored outright",
        applies: |case| case.agrees_after(&[without_errors]),
    },
    Rule {
        name: "policy that is none",
        text: "RFC 9989 section 4.10.1: if a record does not contain a valid p=, or contains an sp= or np= that is not \
            valid, it is p=none where rua= has a valid URI (any, by section 4.7); otherwise no DMARC processing is applied",
        applies: |case| case.agrees_after(&[valid_policies]),
    },
    Rule {
        name: "pct=0",
        text: "RFC 9989 appendix A.6: t=y means what pct=0 did; RFC 7489 section 6.6.4: reject is quarantine for those \
            that pct= leaves out",
        applies: |case| case.agrees_after(&[tests_for_pct]),
    },
    Rule {
        name: "case of tag names",
        text: "RFC 6376 section 3.2, by RFC 9989 section 4.7: tags MUST be interpreted in a case-sensitive manner",
        applies: |case| case.agrees_after(&[lower_names]),
    },
    Rule {
        name: "more than one of these",
        text: "the sentences above, together",
        applies: |case| {
            case.agrees_after(&[
                exact_version,
                different_names,
                one_record,
                lower_names,
                valid_policies,
                without_errors,
                tests_for_pct,
            ])
        },
    },
];

/// The names and elements of a record, without white space.
fn elements(text: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(text)
        .split(';')
        .map(|element| match element.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), value.trim().to_owned()),
            None => (String::new(), element.to_owned()),
        })
        .filter(|(name, value)| !name.is_empty() || !value.trim().is_empty())
        .collect()
}

fn joined(elements: &[(String, String)]) -> Vec<u8> {
    let tags: Vec<String> = elements
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    tags.join(";").into_bytes()
}

fn is_record(text: &[u8]) -> bool {
    let elements = elements(text);
    elements.first() == Some(&("v".to_owned(), "DMARC1".to_owned()))
}

fn exact_version(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    texts.into_iter().filter(|text| is_record(text)).collect()
}

fn different_names(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let twice = |text: &Vec<u8>| {
        let elements = elements(text);
        let mut names: Vec<&String> = elements.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
            .windows(2)
            .any(|pair| pair[0] == pair[1] && !pair[0].is_empty())
    };
    texts.into_iter().filter(|text| !twice(text)).collect()
}

fn one_record(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    match texts.iter().filter(|text| is_record(text)).count() {
        0 | 1 => texts,
        _ => vec![b"none".to_vec()],
    }
}

fn without_errors(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let holds = |(name, value): &(String, String)| {
        let lower = value.to_ascii_lowercase();
        let words: &[&str] = match name.as_str() {
            "adkim" | "aspf" => &["r", "s"],
            "t" => &["y", "n"],
            "psd" => &["y", "n", "u"],
            "fo" => &["0", "1", "d", "s", "d:s", "s:d"],
            _ => return value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !name.is_empty(),
        };
        words.contains(&lower.as_str())
    };
    let repaired = |text: Vec<u8>| {
        let mut elements = elements(&text);
        elements.retain(holds);
        joined(&elements)
    };
    texts.into_iter().map(repaired).collect()
}

fn valid_policies(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let repaired = |text: Vec<u8>| {
        let mut elements = elements(&text);
        let is_policy = |name: &str| ["p", "sp", "np"].contains(&name);
        let valid = |value: &str| {
            ["none", "quarantine", "reject"].contains(&value.to_ascii_lowercase().as_str())
        };
        let wrong = elements
            .iter()
            .any(|(name, value)| is_policy(name) && !valid(value))
            || elements.iter().all(|(name, _)| name != "p");
        let asks = elements
            .iter()
            .any(|(name, value)| name == "rua" && value.contains(':'));
        if wrong && is_record(&text) {
            elements.retain(|(name, _)| !is_policy(name));
            if asks {
                elements.push(("p".to_owned(), "none".to_owned()));
            }
        }
        joined(&elements)
    };
    texts.into_iter().map(repaired).collect()
}

fn tests_for_pct(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let repaired = |text: Vec<u8>| {
        let mut elements = elements(&text);
        if elements.iter().all(|(name, _)| name != "t") {
            for element in &mut elements {
                if *element == ("pct".to_owned(), "0".to_owned()) {
                    *element = ("t".to_owned(), "y".to_owned());
                }
            }
        }
        joined(&elements)
    };
    texts.into_iter().map(repaired).collect()
}

fn lower_names(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let repaired = |text: Vec<u8>| {
        let mut elements = elements(&text);
        elements.retain(|(name, _)| *name == name.to_ascii_lowercase());
        joined(&elements)
    };
    texts.into_iter().map(repaired).collect()
}
