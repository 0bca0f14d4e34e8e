//! Comments must add information: a public item has a doc, and no doc only repeats the name of its item.
//!
//! Fields and variants whose name and type say everything need none; the other docs give a unit, a bound, a reason or a
//! section. Docs of command lines are the text of `--help` and are left alone.

use std::collections::BTreeSet;

use super::{before_tests, source_files};

/// Docs that say nothing on any item.
const EMPTY: &[&str] = &[
    "what is there",
    "what there is to know",
    "why",
    "nothing",
    "which",
    "where",
    "who is there",
    "who asks",
    "all of them",
    "how many there are",
    "what it is",
    "what it is for",
    "what it says",
    "what is in it",
    "what happened",
    "what became of it",
    "what is to be done",
    "how it ended",
];

/// Words without content.
const SMALL: &[&str] = &[
    "a", "all", "an", "and", "are", "as", "at", "by", "for", "from", "has", "have", "how", "in",
    "is", "it", "its", "no", "not", "of", "on", "one", "or", "that", "the", "there", "this", "to",
    "was", "were", "what", "whether", "which", "who", "whose", "with",
];

/// Items that need a doc if they are public.
const ITEMS: &[&str] = &[
    "fn ",
    "const fn ",
    "struct ",
    "enum ",
    "trait ",
    "type ",
    "const ",
    "static ",
];

/// The lines of a file of `src/`, counted from 1, that lack a comment or whose comments say nothing.
pub(crate) fn faults(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = before_tests(text).lines().collect();
    let mut faults = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim();
        if let Some(doc) = line.strip_prefix("/// ") {
            let alone = !doc_at(&lines, at.wrapping_sub(1)) && !doc_at(&lines, at + 1);
            let (item, is_argument) = item_after(&lines, at);
            if alone && !is_argument && repeats(doc, item) {
                faults.push((at + 1, format!("`{doc}` says no more than `{item}`")));
            }
        } else if let Some(item) = line.strip_prefix("pub ")
            && ITEMS.iter().any(|kind| item.starts_with(kind))
            && !item.contains('$')
            && !has_doc(&lines, at)
        {
            faults.push((at + 1, format!("`{line}` is public and has no doc")));
        }
    }
    faults
}

fn doc_at(lines: &[&str], at: usize) -> bool {
    lines
        .get(at)
        .is_some_and(|line| line.trim_start().starts_with("///"))
}

/// The item below a doc, and whether it is an argument of a command line.
fn item_after<'a>(lines: &[&'a str], at: usize) -> (&'a str, bool) {
    let mut is_argument = false;
    for line in lines.iter().skip(at + 1) {
        let line = line.trim();
        if !line.starts_with("#[") {
            return (line, is_argument);
        }
        is_argument |= line.contains("argh");
    }
    ("", is_argument)
}

/// Whether a doc stands above the attributes of an item.
fn has_doc(lines: &[&str], at: usize) -> bool {
    lines[..at]
        .iter()
        .rev()
        .map(|line| line.trim())
        .find(|line| !is_attribute(line))
        .is_some_and(|line| line.starts_with("///"))
}

/// Whether a line belongs to an attribute, which may span several lines.
fn is_attribute(line: &str) -> bool {
    line.starts_with("#[")
        || line.ends_with(")]")
        || line.starts_with("reason = ")
        || line.starts_with("clippy::")
}

fn repeats(doc: &str, item: &str) -> bool {
    let said = words(doc);
    if EMPTY.contains(&said.join(" ").as_str()) {
        return true;
    }
    let tells = doc.contains(|c: char| c.is_ascii_digit() || c == '`') || doc.starts_with("Bytes ");
    let known: BTreeSet<String> = words(item).iter().map(|word| stem(word)).collect();
    let mut content = said
        .iter()
        .filter(|word| !SMALL.contains(&word.as_str()))
        .peekable();
    !tells
        && said.len() <= 6
        && content.peek().is_some()
        && content.all(|word| known.contains(&stem(word)))
}

/// Words in lower case; `QueueId` and `queue_id` are two words.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for c in text.chars() {
        let ends = !c.is_ascii_alphabetic() || (c.is_ascii_uppercase() && was_lower);
        if ends && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        was_lower = c.is_ascii_lowercase();
        word.extend(c.is_ascii_alphabetic().then(|| c.to_ascii_lowercase()));
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

fn stem(word: &str) -> String {
    ["ies", "ing", "ed", "es", "s"]
        .iter()
        .filter_map(|end| word.strip_suffix(end))
        .find(|stem| stem.len() >= 3)
        .unwrap_or(word)
        .to_owned()
}

#[test]
fn a_doc_that_repeats_the_name_is_found() {
    for text in [
        "/// The reverse-path.\npub reverse_path: ReversePath,",
        "/// What is there.\ntext: String,",
        "    /// Listed recipient.\n    #[serde(flatten)]\n    pub struct ListedRecipient {",
        "pub fn unexplained() {}",
        "mod a;\n#[cfg(test)]\nmod tests;\n\npub fn unexplained() {}",
    ] {
        assert_eq!(faults(text).len(), 1, "{text}");
    }
    for text in [
        "/// Bytes of the body, at most 64.\npub body: Vec<u8>,",
        "/// As `sendmail` has it.\nsendmail: bool,",
        "/// the address\n#[argh(positional)]\naddress: String,",
        "pub body: Vec<u8>,",
        "/// Why the peer was refused.\n#[allow(\n    clippy::x,\n    reason = \"y\"\n)]\npub fn why() {}",
    ] {
        assert_eq!(faults(text), Vec::new(), "{text}");
    }
}

#[test]
fn public_items_are_explained_and_no_doc_repeats_a_name() {
    let mut report = String::new();
    for (path, text) in source_files() {
        if path.ends_with("tests.rs") || path.contains("/tests/") {
            continue;
        }
        for (line, fault) in faults(&text) {
            report.push_str(&format!("src/{path}:{line}: {fault}\n"));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}
