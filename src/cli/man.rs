//! `chopar man`: the manual pages that the binary contains.

use std::io::{IsTerminal as _, Write};
use std::process::{Command, Stdio};

use argh::FromArgs;

use super::failure::Failure;
use super::output;
use super::sysexits::NO_INPUT;
use crate::escape::Escaped;
use crate::setup::carried::{self, ALSO};

/// Show a manual page, or list the pages; print its source to a pipe or file.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "man")]
pub struct Man {
    /// the page, such as sendmail or chopar.toml (default: list the pages)
    #[argh(positional)]
    page: Option<String>,
}

impl Man {
    /// Shows the page with man(1) or mandoc(1) if there is one, otherwise as plain text.
    pub fn run(&self, output: &mut dyn Write) -> Result<(), Failure> {
        let Some(wanted) = &self.page else {
            return output::print(output, &list());
        };
        let Some(page) = page(wanted) else {
            let shown = Escaped(wanted.as_bytes());
            let text = format!("no manual page {shown}; `chopar man` lists the pages");
            return Err(Failure::new(NO_INPUT, text));
        };
        if !std::io::stdout().is_terminal() {
            return output::printed(&page, output);
        }
        // BusyBox does not know -l: it prints its usage and fails.
        let is_shown = [("man", ["-l", "-"].as_slice()), ("mandoc", &["-a"])]
            .into_iter()
            .any(|(program, words)| shown_by(program, words, &page));
        match is_shown {
            true => Ok(()),
            false => output::print(output, &plain(&page)),
        }
    }
}

/// Each page with its description.
fn list() -> String {
    let pages = carried::pages().into_iter().map(|(name, section, text)| {
        let about = text.lines().find_map(|line| line.strip_prefix(".Nd "));
        let name = format!("{name}({section})");
        format!("{name:20} {}\n", about.unwrap_or_default())
    });
    pages.collect()
}

/// The names by which pages are asked for.
pub(super) fn names() -> Vec<&'static str> {
    let pages = carried::pages().into_iter().map(|(name, ..)| name);
    pages.chain(ALSO.map(|(name, ..)| name)).collect()
}

/// The page of a name: `chopar.toml`, `chopar.toml.5`, `chopar.toml(5)`, and `limits` for chopar-limits.
fn page(wanted: &str) -> Option<String> {
    let wanted = wanted.trim_end_matches(')').replace('(', ".");
    let also = ALSO
        .iter()
        .find(|(name, _, section)| wanted == *name || wanted == format!("{name}.{section}"));
    let wanted = also.map_or(wanted.as_str(), |(_, other, _)| other);
    let is_named = |name: &str, section: &str| {
        let short = name
            .strip_prefix("chopar-")
            .or(name.strip_prefix("chopar."));
        wanted == name || wanted == format!("{name}.{section}") || short == Some(wanted)
    };
    let mut pages = carried::pages().into_iter();
    pages.find_map(|(name, section, text)| is_named(name, section).then_some(text))
}

fn shown_by(program: &str, words: &[&str], page: &str) -> bool {
    let child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return false;
    };
    if let Some(mut pipe) = child.stdin.take() {
        // A pager that is closed before the end reads no more.
        drop(pipe.write_all(page.as_bytes()));
    }
    child.wait().is_ok_and(|status| status.success())
}

/// A page as plain text, for a machine without a program that sets it.
fn plain(page: &str) -> String {
    let mut text = String::new();
    for line in page.lines() {
        let Some(rest) = line.strip_prefix('.') else {
            text.push_str(&unescaped(line));
            text.push('\n');
            continue;
        };
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let set = set(name, rest);
        match name {
            "Dd" | "Dt" | "Os" | "Bl" | "Bd" | "\\\"" => {}
            "El" | "Ed" | "Pp" => text.push('\n'),
            "Sh" => text.push_str(&format!("\n{set}\n\n")),
            "Ss" => text.push_str(&format!("\n  {set}\n\n")),
            "It" => text.push_str(&format!("\n{set}\n")),
            "Nd" => text.push_str(&format!("- {set}\n")),
            "Nm" if set.is_empty() => text.push_str("chopar\n"),
            _ => text.push_str(&format!("{set}\n")),
        }
    }
    output::text(&text)
}

/// The words behind a macro, without the macros among them.
fn set(first: &str, words: &str) -> String {
    let mut found = String::new();
    let (mut flag, mut is_tight) = (first == "Fl", true);
    let mut words = words.split_ascii_whitespace().peekable();
    let mut names_page = first == "Xr";
    while let Some(word) = words.next() {
        match word {
            "Fl" => flag = true,
            "Xr" => names_page = true,
            "Ns" => is_tight = true,
            "Oo" => found.push_str(" ["),
            "Oc" => found.push(']'),
            "Ar" | "Ic" | "Li" | "Pa" | "Ql" | "Pq" | "Op" | "Sy" | "Cm" | "Dv" | "Ev" | "Nm"
            | "Sx" | "Dq" | "Po" | "Pc" => {}
            "," | "." | ";" | ":" => found.push_str(word),
            word => {
                let is_open = found.is_empty() || found.ends_with('[');
                if !is_open && !is_tight {
                    found.push(' ');
                }
                is_tight = false;
                if std::mem::take(&mut flag) {
                    found.push('-');
                }
                found.push_str(&unescaped(word.trim_matches('"')));
                if std::mem::take(&mut names_page)
                    && let Some(section) = words.next()
                {
                    found.push_str(&format!("({section})"));
                }
            }
        }
    }
    found
}

fn unescaped(text: &str) -> String {
    text.replace("\\&", "")
        .replace("\\-", "-")
        .replace("\\(em", "-")
        .replace("\\e", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_by_each_of_its_names() {
        for name in ["chopar.toml", "chopar.toml.5", "chopar.toml(5)", "toml"] {
            let page = page(name).expect("a page");
            assert!(page.contains(".Dt CHOPAR.TOML 5"), "{name}");
        }
        assert_eq!(page("mailq"), page("sendmail"));
        assert!(page("chopar").is_some_and(|page| page.contains(".Dt CHOPAR 8")));
        assert_eq!(page("exim"), None);
        assert_eq!(page(""), None);
    }

    #[test]
    fn without_a_program_that_sets_it_a_page_is_plain_text() {
        for (line, expected) in [
            (".Xr chopar.toml 5 .", "chopar.toml(5).\n"),
            (".It Fl C , -config Ar folder", "\n-C, --config folder\n"),
            (".Ql \\&a\\eb", "a\\b\n"),
            ("a line", "a line\n"),
        ] {
            let expected = expected.replace("--config", "-config");
            assert_eq!(plain(line), expected, "{line}");
        }
        for (name, _, page) in carried::pages() {
            let text = plain(&page);
            let is_macro = |line: &&str| {
                let second = line.strip_prefix('.').and_then(|rest| rest.chars().next());
                second.is_some_and(char::is_uppercase)
            };
            assert_eq!(text.lines().find(is_macro), None, "{name}");
        }
    }
}
