//! Converts the input of a program to lines that can be sent, in pieces of any size.
//!
//! Invariant: whatever the input and however it was cut, the output has only CRLF line ends, no NUL and no line over
//! 998 bytes; less than one line of the input is held.

use super::flags::MessageEnd;
use crate::limits::TEXT_LINE_BYTES_MAX;

/// Converts every line end to CRLF, removes NULs and the mbox lines (`From `, `>From `) that some programs write first,
/// breaks lines that are too long, and stops at the dot if it ends the message.
#[derive(Debug)]
pub(super) struct Lines {
    end: MessageEnd,
    /// The bytes of the line that were not written yet.
    line: Vec<u8>,
    /// Bytes of the line that were read, including those written or left out.
    line_bytes: usize,
    so_far: LineState,
    first: bool,
    after_cr: bool,
    ended: bool,
}

/// The state of the current line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LineState {
    Held,
    /// A part of it was written.
    Broken,
    LeftOut,
}

impl LineState {
    /// Bytes of the line that may follow: behind a part there is a space in front of them.
    const fn room(self) -> usize {
        match self {
            Self::Broken => TEXT_LINE_BYTES_MAX.saturating_sub(1),
            Self::Held | Self::LeftOut => TEXT_LINE_BYTES_MAX,
        }
    }
}

impl Lines {
    /// At the start of a message that ends so.
    pub(super) const fn new(end: MessageEnd) -> Self {
        Self {
            end,
            line: Vec::new(),
            line_bytes: 0,
            so_far: LineState::Held,
            first: true,
            after_cr: false,
            ended: false,
        }
    }

    /// Whether the dot that ends the message was read.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes a piece of the input and appends the complete part of it to `out`.
    pub(super) fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        // CRLF, LF and a lone CR all end lines.
        if std::mem::take(&mut self.after_cr) {
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while !piece.is_empty() && !self.ended {
            let at = piece
                .iter()
                .position(|byte| matches!(byte, b'\r' | b'\n'))
                .unwrap_or(piece.len());
            let (text, end) = piece.split_at_checked(at).unwrap_or((piece, &[]));
            self.take_text(text, out);
            let skip = match end {
                [] => return,
                [b'\r'] => {
                    self.after_cr = true;
                    1
                }
                [b'\r', b'\n', ..] => 2,
                _ => 1,
            };
            self.end_line(out);
            piece = end.get(skip..).unwrap_or_default();
        }
    }

    /// Ends the last line, which may lack its end.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.line_bytes > 0 && !self.ended {
            self.end_line(out);
        }
    }

    fn take_text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.line_bytes = self.line_bytes.saturating_add(text.len());
        if self.so_far == LineState::LeftOut {
            return;
        }
        self.line.extend(text.iter().filter(|byte| **byte != 0));
        if self.line.len() <= self.so_far.room() {
            return;
        }
        if self.is_mbox_line() {
            self.line.clear();
            self.so_far = LineState::LeftOut;
            return;
        }
        let written = write_parts(&self.line, self.so_far, out);
        self.so_far = LineState::Broken;
        self.line.drain(..written);
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        let is_mbox_line = self.so_far == LineState::LeftOut || self.is_mbox_line();
        let is_dot = self.so_far == LineState::Held && self.line_bytes == 1 && self.line == b".";
        if is_mbox_line {
            // Nothing of it is a part of the message.
        } else if is_dot && self.end == MessageEnd::Dot {
            self.ended = true;
        } else {
            out.extend_from_slice(&self.line);
            out.extend_from_slice(b"\r\n");
        }
        self.line.clear();
        self.line_bytes = 0;
        self.so_far = LineState::Held;
        // A host that passed it on may have put its own in front of that of another.
        self.first &= is_mbox_line;
    }

    fn is_mbox_line(&self) -> bool {
        let first = self.line.iter().position(|&byte| byte != b'>');
        let behind = self.line.get(first.unwrap_or(0)..).unwrap_or_default();
        self.first && self.so_far == LineState::Held && behind.starts_with(b"From ")
    }
}

/// Writes a line, broken if it is too long.
pub(super) fn write_line(out: &mut Vec<u8>, line: &[u8]) {
    let written = write_parts(line, LineState::Held, out);
    out.extend_from_slice(line.get(written..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

/// Writes the parts that must be on lines of their own before the last part; returns their bytes in `line`.
fn write_parts(line: &[u8], so_far: LineState, out: &mut Vec<u8>) -> usize {
    let mut written: usize = 0;
    let mut room = so_far.room();
    while let Some(rest) = line.get(written..).filter(|rest| rest.len() > room) {
        // Before a character, not inside it; the space makes the next line a continuation if this is a field.
        let mut cut = TEXT_LINE_BYTES_MAX.saturating_sub(1);
        while cut > 1 && rest.get(cut).is_some_and(|byte| byte & 0xC0 == 0x80) {
            cut = cut.saturating_sub(1);
        }
        out.extend_from_slice(rest.get(..cut).unwrap_or_default());
        out.extend_from_slice(b"\r\n ");
        written = written.saturating_add(cut);
        room = LineState::Broken.room();
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaned(pieces: &[&[u8]], end: MessageEnd) -> Vec<u8> {
        let (mut lines, mut out) = (Lines::new(end), Vec::new());
        for piece in pieces {
            lines.feed(piece, &mut out);
            assert!(lines.line.len() <= TEXT_LINE_BYTES_MAX);
        }
        lines.finish(&mut out);
        out
    }

    #[test]
    fn a_dot_with_a_nul_behind_it_is_text() {
        assert_eq!(cleaned(&[b".\0\nx\n.\ny"], MessageEnd::Dot), b".\r\nx\r\n");
    }

    #[test]
    fn a_first_line_of_mbox_is_left_out_however_long_it_is() {
        let long = [
            b"From ".as_slice(),
            &[b'x'; 5_000],
            b"\n>From y\nz\nFrom w\n",
        ]
        .concat();
        assert_eq!(cleaned(&[&long], MessageEnd::Input), b"z\r\nFrom w\r\n");
    }

    #[test]
    fn a_line_is_broken_so_that_each_part_has_room() {
        for len in 900..3100 {
            let mut out = Vec::new();
            write_line(&mut out, &vec![b'x'; len]);
            let text = String::from_utf8(out).expect("ASCII");
            assert!(
                text.lines().all(|line| line.len() <= TEXT_LINE_BYTES_MAX),
                "{len}"
            );
            assert_eq!(text.matches('x').count(), len);
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            input in prop::collection::vec(prop::sample::select(b".\r\n\0a\xC3\xA9F".to_vec()), 0..60),
            long in 0usize..4_000,
            piece in 1usize..1_500,
        ) {
            let mut input = input;
            input.extend(std::iter::repeat_n(b'y', long));
            input.extend_from_slice(b"\r\n.\r\nz");
            for end in [MessageEnd::Dot, MessageEnd::Input] {
                let pieces: Vec<&[u8]> = input.chunks(piece).collect();
                prop_assert_eq!(cleaned(&pieces, end), cleaned(&[&input], end));
            }
        }
    }
}
