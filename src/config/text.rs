//! The text of a file of the configuration, whatever editor wrote it.

/// The text without the byte order mark that some editors put in front (U+FEFF; RFC 3629 section 6).
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
