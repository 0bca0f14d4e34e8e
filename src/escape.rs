//! Makes bytes from a peer safe to show in logs, replies, DSNs and error sentences. They are kept as received and
//! escaped once, on output.

use std::fmt::{self, Write as _};

/// Shows bytes as text: UTF-8 as it is, but for what moves a terminal or turns the direction of writing; that, and what
/// is no UTF-8, is escaped (`\r`, `\n`, `\xNN`, `\u{N}`). Cut after [`ESCAPED_BYTES_MAX`] bytes.
///
/// ```
/// # use chopar::escape::Escaped;
/// assert_eq!(Escaped("it's für\r\n\u{202e}".as_bytes()).to_string(), "it's für\\r\\n\\u{202e}");
/// assert_eq!(Escaped(b"\x00\xff").to_string(), "\\x00\\xff");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

/// The same with what is not ASCII escaped too, for where only that may stand.
///
/// ```
/// # use chopar::escape::Ascii;
/// assert_eq!(Ascii("it's für".as_bytes()).to_string(), "it's f\\xc3\\xbcr");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ascii<'a>(pub &'a [u8]);

/// The same as [`Escaped`] in quotes, with those in it and backslashes escaped.
///
/// ```
/// # use chopar::escape::Quoted;
/// assert_eq!(Quoted(b"a \"b\" \\").to_string(), "\"a \\\"b\\\" \\\\\"");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a [u8]);

/// Bytes of one peer-supplied value that are shown; the rest becomes `...`.
pub const ESCAPED_BYTES_MAX: usize = 1_024;

/// The text on one line: each character that cannot be shown unchanged becomes a space.
pub fn one_line(text: &str) -> String {
    text.replace(|c: char| !is_shown(c), " ")
}

/// Whether a character can be shown unchanged: it does not move the cursor, does not change the direction of writing,
/// and is visible.
pub fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
        )
}

fn write_char(out: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        c if is_shown(c) => out.write_char(c),
        '\r' => out.write_str("\\r"),
        '\n' => out.write_str("\\n"),
        '\t' => out.write_str("\\t"),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)),
    }
}

/// Writes a value in pieces: characters, and bytes that are not part of one.
fn write_pieces(
    bytes: &[u8],
    out: &mut fmt::Formatter<'_>,
    each: impl Fn(&mut fmt::Formatter<'_>, char) -> fmt::Result,
) -> fmt::Result {
    let mut left = ESCAPED_BYTES_MAX;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let Some(rest) = left.checked_sub(c.len_utf8()) else {
                return out.write_str("...");
            };
            left = rest;
            each(out, c)?;
        }
        for byte in chunk.invalid() {
            let Some(rest) = left.checked_sub(1) else {
                return out.write_str("...");
            };
            left = rest;
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pieces(self.0, out, write_char)
    }
}

impl fmt::Display for Ascii<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pieces(self.0, out, |out, c| match c.is_ascii() {
            true => write_char(out, c),
            false => {
                let mut bytes = [0; 4];
                let bytes = c.encode_utf8(&mut bytes).bytes();
                bytes
                    .into_iter()
                    .try_for_each(|byte| write!(out, "\\x{byte:02x}"))
            }
        })
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_char('"')?;
        write_pieces(self.0, out, |out, c| match c {
            '"' | '\\' => write!(out, "\\{c}"),
            c => write_char(out, c),
        })?;
        out.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let text = "é".repeat(ESCAPED_BYTES_MAX);
        let shown = Escaped(text.as_bytes()).to_string();
        assert_eq!(shown, format!("{}...", "é".repeat(ESCAPED_BYTES_MAX / 2)));
    }

    #[test]
    fn nothing_that_moves_a_terminal_or_turns_the_writing_gets_out() {
        let bytes: Vec<u8> = (0..=255).collect();
        let odd = "\u{85}\u{9b}\u{200f}\u{202a}\u{2066}\u{feff}\u{2028}";
        for value in [&bytes[..], odd.as_bytes()] {
            for shown in [
                Escaped(value).to_string(),
                Ascii(value).to_string(),
                Quoted(value).to_string(),
            ] {
                assert!(shown.chars().all(is_shown), "{shown}");
            }
        }
        assert_eq!(one_line("a\r\nb\u{202e}c"), "a  b c");
    }
}
