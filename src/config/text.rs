//! Decoding of configuration files, whichever editor wrote them.

/// The text without the byte order mark that some editors put in front (U+FEFF; RFC 3629 section 6).
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The offset of the first `wanted` outside of a quoted string, or the end.
pub(super) fn outside_quotes(text: &str, wanted: char) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return at,
            _ => {}
        }
    }
    text.len()
}
