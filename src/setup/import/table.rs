//! Postfix's lookup tables as text, and the aliases file of sendmail (aliases(5)).

use super::main_cf::logical_lines;

/// A line of a table: a key, and its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableLine {
    pub key: String,
    /// The rest of the line.
    pub value: String,
    /// The line, from 1.
    pub line: usize,
}

/// Reads a table (`hash:` and its kin): a key, white space, a value. A line without a value has an empty one.
pub fn table(text: &str) -> Vec<TableLine> {
    logical_lines(text)
        .into_iter()
        .map(|(line, text)| {
            let (key, value) = match text.split_once(char::is_whitespace) {
                Some((key, value)) => (key.to_owned(), value.trim().to_owned()),
                None => (text, String::new()),
            };
            TableLine { key, value, line }
        })
        .collect()
}

/// Reads an aliases file: a name, a colon, a list. Lines of another form have an empty key.
pub fn aliases(text: &str) -> Vec<TableLine> {
    logical_lines(text)
        .into_iter()
        .map(|(line, text)| {
            let at = outside_quotes(&text, ':');
            match at.and_then(|at| Some((text.get(..at)?, text.get(at.checked_add(1)?..)?))) {
                Some((name, value)) => TableLine {
                    key: unquoted(name.trim()),
                    value: value.trim().to_owned(),
                    line,
                },
                None => TableLine {
                    key: String::new(),
                    value: text,
                    line,
                },
            }
        })
        .collect()
}

/// The targets of a list, each as it is written: commas in quotes are text.
pub fn targets(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = list;
    while let Some(at) = outside_quotes(rest, ',') {
        found.push(rest.get(..at).unwrap_or_default());
        rest = rest.get(at.saturating_add(1)..).unwrap_or_default();
    }
    found.push(rest);
    found
        .into_iter()
        .map(str::trim)
        .filter(|target| !target.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A text in quotes without them.
pub fn unquoted(text: &str) -> String {
    let inside = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let Some(inside) = inside else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(inside.len());
    let mut is_escaped = false;
    for c in inside.chars() {
        match c {
            '\\' if !is_escaped => is_escaped = true,
            c => {
                out.push(c);
                is_escaped = false;
            }
        }
    }
    out
}

fn outside_quotes(text: &str, sign: char) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.char_indices()
        .find(|(_, c)| {
            let escaped = std::mem::take(&mut is_escaped);
            match c {
                '\\' if !escaped => is_escaped = true,
                '"' if !escaped => is_quoted = !is_quoted,
                _ => {}
            }
            *c == sign && !is_quoted && !escaped
        })
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_tables_and_aliases_as_the_other_does() {
        let found = table("# x\na@b   c, d\n  e\nonly\n");
        assert_eq!(found[0].key, "a@b");
        assert_eq!(found[0].value, "c, d e");
        assert_eq!(
            (found[1].key.as_str(), found[1].value.as_str()),
            ("only", "")
        );
        let text = "postmaster:    root\n\"a b\": \"|/bin/x a,b\", c\n # comment\nlist: :include:/etc/list,\n\tme@x\nnonsense\n";
        let found = aliases(text);
        let shown: Vec<(&str, Vec<String>, usize)> = found
            .iter()
            .map(|entry| (entry.key.as_str(), targets(&entry.value), entry.line))
            .collect();
        let list =
            |items: &[&str]| -> Vec<String> { items.iter().map(|&item| item.to_owned()).collect() };
        assert_eq!(
            shown,
            [
                ("postmaster", list(&["root"]), 1),
                ("a b", list(&["\"|/bin/x a,b\"", "c"]), 2),
                ("list", list(&[":include:/etc/list", "me@x"]), 4),
                ("", list(&["nonsense"]), 6),
            ]
        );
        assert_eq!(unquoted("\"|/bin/x \\\"y\\\" \\\\\""), "|/bin/x \"y\" \\");
    }

    proptest! {
        #[test]
        fn no_file_is_too_odd(text in "[a-c:,\"\\\\ #\n|/@é]{0,80}") {
            for entry in aliases(&text).into_iter().chain(table(&text)) {
                for target in targets(&entry.value) {
                    prop_assert!(!target.is_empty());
                    let _ = unquoted(&target);
                }
            }
        }
    }
}
