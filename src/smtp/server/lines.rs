//! Input lines on the server side: the end of a line, and the handling of overlong lines.

use super::settings::Tolerance;
use crate::smtp::data::LineEnd;

/// The progress within the current line.
#[derive(Debug)]
pub(super) struct Lines {
    /// Whether the line is too long and is discarded up to its end.
    pub(super) is_dropping: bool,
    /// How the last complete line ended.
    pub(super) last_end: LineEnd,
}

/// What stands at the front of the input.
pub(super) enum Front<'a> {
    /// A complete line.
    Line(&'a [u8]),
    /// The end of a line that was too long.
    TooLong,
    /// A part of an overlong line, of which this number of bytes was discarded.
    Dropped(usize),
    /// An incomplete line.
    Part,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self {
            is_dropping: false,
            last_end: LineEnd::CrLf,
        }
    }

    /// Takes the front off the input; a line may have `max` bytes with its CRLF.
    pub(super) fn take<'a>(
        &mut self,
        input: &mut &'a [u8],
        max: usize,
        tolerance: Tolerance,
    ) -> Front<'a> {
        match line_end(input, tolerance) {
            Some((len, end)) => {
                let (line, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
                *input = rest.get(end.bytes()..).unwrap_or_default();
                if self.is_dropping || len.saturating_add(2) > max {
                    self.is_dropping = false;
                    return Front::TooLong;
                }
                self.last_end = end;
                Front::Line(line)
            }
            None if input.len() > max || self.is_dropping => {
                // Keep a final CR: it may be the first half of a CRLF.
                let keep = usize::from(input.last() == Some(&b'\r'));
                let gone = input.len().saturating_sub(keep);
                *input = input.get(gone..).unwrap_or_default();
                self.is_dropping = true;
                Front::Dropped(gone)
            }
            None => Front::Part,
        }
    }
}

/// Length of the first line, and its line end. Only CRLF ends a line, unless the client's bare LF is tolerated.
/// Otherwise a line with a bare LF continues, and is refused as a whole.
/// Decides RFC 5321 section 2.3.8.
fn line_end(input: &[u8], tolerance: Tolerance) -> Option<(usize, LineEnd)> {
    if tolerance != Tolerance::LineEnds {
        let len = input.windows(2).position(|pair| pair == b"\r\n")?;
        return Some((len, LineEnd::CrLf));
    }
    let len = input.iter().position(|byte| *byte == b'\n')?;
    match input.get(..len)?.strip_suffix(b"\r") {
        Some(line) => Some((line.len(), LineEnd::CrLf)),
        None => Some((len, LineEnd::Lf)),
    }
}
