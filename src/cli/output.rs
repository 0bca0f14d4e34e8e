//! Output of commands: standard output, and sentences on standard error. Nothing else in `cli` writes to either.
//!
//! Invariants: if the reader goes away, the command ends quietly and never succeeds for that; no terminal control
//! sequence is written; if the locale is not UTF-8, only ASCII is written.

use std::env;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use super::failure::Failure;
use super::sysexits::IO_ERROR;
use crate::escape::{Ascii, Escaped, is_shown};
use crate::shell::process::signals::end_by_pipe;

/// Standard output.
#[derive(Debug)]
pub struct Output(io::Stdout);

impl Output {
    /// That of this process.
    pub fn new() -> Self {
        Self(io::stdout())
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_end(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_end(self.0.flush())
    }
}

fn or_end<T>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => end_by_pipe(),
        result => result,
    }
}

/// Writes lines to the output of a command, escaped for people, and flushes.
pub(super) fn print(output: &mut dyn Write, lines: &str) -> Result<(), Failure> {
    written(
        output
            .write_all(text(lines).as_bytes())
            .and_then(|()| output.flush()),
    )
}

pub(super) fn printed(text: &str, output: &mut dyn Write) -> Result<(), Failure> {
    written(output.write_all(text.as_bytes()))
}

/// The result of a command whose output cannot be written.
pub(super) fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::new(IO_ERROR, format!("cannot write: {error}")))
}

/// Writes a sentence to standard error, as a line of its own.
pub fn say(sentence: impl fmt::Display) {
    ask(format_args!("{sentence}\n"));
}

/// Writes a prompt to standard error; the answer follows on the same line.
pub fn ask(prompt: impl fmt::Display) {
    let text = text(&prompt.to_string());
    // If it cannot be written, the exit code remains.
    drop(io::stderr().write_all(text.as_bytes()));
}

/// A value from a peer, for people: escaped, and in ASCII if the locale is not UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct EscapedValue<'a>(pub &'a [u8]);

impl fmt::Display for EscapedValue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match has_utf8() {
            true => Escaped(self.0).fmt(out),
            false => Ascii(self.0).fmt(out),
        }
    }
}

/// Lines, as they are shown to people; line ends and tabs stay.
pub fn text(lines: &str) -> String {
    text_for(lines, has_utf8())
}

fn text_for(lines: &str, utf8: bool) -> String {
    let mut shown = String::with_capacity(lines.len());
    for c in lines.chars() {
        if matches!(c, '\n' | '\t') || is_shown(c) && (utf8 || c.is_ascii()) {
            shown.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                shown.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
    shown
}

fn has_utf8() -> bool {
    static HAS_UTF8: OnceLock<bool> = OnceLock::new();
    *HAS_UTF8.get_or_init(|| is_utf8(|name| env::var(name).ok()))
}

/// Whether a locale is UTF-8 (locale(7)): the first of these variables that is set decides.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let locale = set.filter_map(variable).find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let with = |set: &[(&str, &str)]| {
            is_utf8(|name| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(!with(&[]));
    }

    #[test]
    fn lines_keep_their_ends_and_nothing_moves_the_terminal() {
        assert_eq!(text_for("für\n\u{1b}[2J\tx", true), "für\n\\x1b[2J\tx");
        assert_eq!(text_for("für", false), "f\\xc3\\xbcr");
    }
}
