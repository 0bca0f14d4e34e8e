//! Peer bytes made fit to be shown: in logs, replies, DSNs and error sentences.

use std::fmt;

/// Shows bytes as ASCII with everything else escaped (`\r`, `\n`, `\xNN`), cut after [`ESCAPED_BYTES_MAX`] bytes.
///
/// ```
/// # use chopar::escape::Escaped;
/// assert_eq!(Escaped(b"RCPT\r\n\x00\xff").to_string(), "RCPT\\r\\n\\x00\\xff");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

/// Bytes of one peer-supplied value that are shown; the rest becomes `...`.
pub const ESCAPED_BYTES_MAX: usize = 256;

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.iter().take(ESCAPED_BYTES_MAX) {
            write!(out, "{}", std::ascii::escape_default(byte))?;
        }
        if self.0.len() > ESCAPED_BYTES_MAX {
            out.write_str("...")?;
        }
        Ok(())
    }
}
