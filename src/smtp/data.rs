//! The body of a message on the wire: dot transparency (RFC 5321 section 4.5.2) and line ends (section 2.3.8).
//!
//! Invariant: the output of a [`Decoder`] contains no bare CR, no bare LF and no NUL, and with [`LongLines::Refuse`] no
//! line over [`TEXT_LINE_BYTES_MAX`] bytes, however the input is divided. Under [`LineEnds::Strict`] and
//! [`LineEnds::Mended`] only CRLF "." CRLF ends the message. After a fault the decoder returns no more output, and
//! discards the input up to the true end.

use crate::limits::TEXT_LINE_BYTES_MAX;

/// Why a body is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyFault {
    /// A CR without LF, or a LF without CR, as used for SMTP smuggling.
    BareNewline,
    Nul,
    /// A line over [`TEXT_LINE_BYTES_MAX`] bytes.
    LongLine,
}

/// How a LF without CR is handled. A CR without LF is always a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineEnds {
    /// It is a fault.
    Strict,
    /// It counts as CRLF. A lone dot with a bare LF before or after it is a fault that ends the body at once: the
    /// client has used CRLF before, so the following bytes may be part of its text.
    Mended,
    /// It counts as CRLF, even around the final dot: the client uses bare LF everywhere.
    Any,
}

/// How a line of the body ended: with CRLF, or with a bare LF.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineEnd {
    /// With CRLF.
    CrLf,
    /// With a LF alone.
    Lf,
}

impl LineEnd {
    /// Its length in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::CrLf => 2,
            Self::Lf => 1,
        }
    }
}

/// How a line over [`TEXT_LINE_BYTES_MAX`] bytes is handled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LongLines {
    /// It is accepted.
    #[default]
    Take,
    /// It is a fault.
    Refuse,
}

/// Reads a body from the wire.
#[derive(Clone, Debug)]
pub struct Decoder {
    at: At,
    framing: Framing,
    line_ends: LineEnds,
    long_lines: LongLines,
    /// How the previous line ended.
    before: LineEnd,
    line_len: usize,
    fault: Option<BodyFault>,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// DATA: a line that is a single dot.
    Dot,
    /// BDAT: the caller counts the bytes.
    Counted,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    LineStart,
    Dot,
    DotCr,
    Middle,
    Cr,
    End,
}

impl Decoder {
    /// A decoder at the start of a body, with strict line ends.
    pub const fn new(framing: Framing, long_lines: LongLines) -> Self {
        Self::mending(framing, LineEnds::Strict, long_lines)
    }

    /// A decoder at the start of a body.
    pub const fn mending(framing: Framing, line_ends: LineEnds, long_lines: LongLines) -> Self {
        Self {
            at: At::LineStart,
            framing,
            line_ends,
            long_lines,
            before: LineEnd::CrLf,
            line_len: 0,
            fault: None,
        }
    }

    /// The fault of the body so far.
    pub const fn fault(&self) -> Option<BodyFault> {
        self.fault
    }

    /// Consumes `input` up to the end of the body and appends the decoded bytes to `out`; returns whether the end was
    /// reached.
    pub fn decode(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> bool {
        while let Some((&byte, rest)) = input.split_first() {
            if self.at == At::Middle || self.at == At::LineStart && byte != b'.' && byte != b'\r' {
                self.plain_run(input, out);
                if input.is_empty() {
                    return false;
                }
                continue;
            }
            *input = rest;
            self.step(byte, out);
            if self.at == At::End {
                return true;
            }
        }
        false
    }

    /// Ends a counted body, and adds the final line end if it is missing: RFC 3030 section 2 does not require one, but
    /// DATA to the next hop does.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.at {
            At::LineStart | At::End => {}
            At::Cr | At::DotCr => self.set_fault(BodyFault::BareNewline),
            At::Dot | At::Middle => self.give(b"\r\n", out),
        }
        self.at = At::End;
    }

    /// Copies bytes that do not affect the line structure: all up to the next CR, LF or NUL.
    fn plain_run(&mut self, input: &mut &[u8], out: &mut Vec<u8>) {
        let len = input
            .iter()
            .position(|byte| matches!(byte, b'\r' | b'\n' | 0))
            .unwrap_or(input.len());
        let (run, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
        if !run.is_empty() {
            self.text(run, out);
        }
        *input = rest;
        match rest.split_first() {
            Some((b'\r', rest)) => {
                *input = rest;
                self.at = At::Cr;
            }
            Some((b'\n', rest)) if self.line_ends != LineEnds::Strict => {
                *input = rest;
                self.end_line(LineEnd::Lf, out);
            }
            Some((&byte, rest)) => {
                *input = rest;
                self.at = At::Middle;
                self.set_fault(if byte == 0 {
                    BodyFault::Nul
                } else {
                    BodyFault::BareNewline
                });
            }
            None => {}
        }
    }

    /// Takes text within a line and counts its length.
    /// Decides RFC 5321 section 4.5.3.1.6.
    fn text(&mut self, run: &[u8], out: &mut Vec<u8>) {
        self.at = At::Middle;
        self.line_len = self.line_len.saturating_add(run.len());
        if self.long_lines == LongLines::Refuse && self.line_len > TEXT_LINE_BYTES_MAX {
            self.set_fault(BodyFault::LongLine);
        }
        self.give(run, out);
    }

    /// Takes one byte where the line structure matters.
    /// Decides RFC 5321 section 2.3.8.
    /// Decides RFC 5321 section 4.5.2.
    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (self.at, byte) {
            (At::LineStart, b'.') if self.framing == Framing::Dot => self.at = At::Dot,
            (At::LineStart, b'.') => self.text(b".", out),
            (At::LineStart | At::Middle, b'\r') => self.at = At::Cr,
            (At::Dot, b'\r') => self.at = At::DotCr,
            (At::DotCr, b'\n') => self.end_body(self.before),
            (At::Dot, b'\n') if self.line_ends != LineEnds::Strict => self.end_body(LineEnd::Lf),
            (At::Cr, b'\n') => self.end_line(LineEnd::CrLf, out),
            (At::Cr | At::DotCr, b'\r') => {
                self.set_fault(BodyFault::BareNewline);
                self.at = At::Cr;
            }
            (At::Cr | At::DotCr, byte) => {
                self.set_fault(BodyFault::BareNewline);
                self.at = At::Middle;
                self.check(byte);
            }
            (_, byte) => {
                // After a dot at the start of a line: that dot was stuffing, and this byte is text.
                self.check(byte);
                self.text(&[byte], out);
            }
        }
    }

    fn end_line(&mut self, end: LineEnd, out: &mut Vec<u8>) {
        self.give(b"\r\n", out);
        self.line_len = 0;
        self.before = end;
        self.at = At::LineStart;
    }

    /// Handles a lone dot between two line ends; `end` is the shorter of them.
    fn end_body(&mut self, end: LineEnd) {
        if end == LineEnd::Lf && self.line_ends == LineEnds::Mended {
            self.set_fault(BodyFault::BareNewline);
        }
        self.at = At::End;
    }

    fn check(&mut self, byte: u8) {
        match byte {
            b'\n' => self.set_fault(BodyFault::BareNewline),
            0 => self.set_fault(BodyFault::Nul),
            _ => {}
        }
    }

    fn give(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.fault.is_none() {
            out.extend_from_slice(bytes);
        }
    }

    /// Keeps the worst fault: a long line must not hide a bare line end after it.
    fn set_fault(&mut self, fault: BodyFault) {
        if self.fault.is_none_or(|known| known == BodyFault::LongLine) {
            self.fault = Some(fault);
        }
    }
}

/// Writes a body to the wire: stuffs dots. The input is the output of a [`Decoder`], in any pieces.
#[derive(Clone, Debug)]
pub struct Encoder {
    line_start: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { line_start: true }
    }
}

impl Encoder {
    /// Appends `bytes` to `out` with dots stuffed.
    /// Decides RFC 5321 section 4.5.2.
    pub fn encode(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        out.reserve(bytes.len().saturating_add(8));
        while !bytes.is_empty() {
            if self.line_start && bytes.first() == Some(&b'.') {
                out.push(b'.');
            }
            let end = bytes
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(bytes.len(), |at| at.saturating_add(1));
            let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            out.extend_from_slice(line);
            self.line_start = line.ends_with(b"\n");
            bytes = rest;
        }
    }

    /// Appends the final dot, behind a line end if the body lacks one.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.line_start {
            b".\r\n"
        } else {
            b"\r\n.\r\n"
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `wire` cut into pieces of `piece` bytes; returns the body, the fault and the bytes after the end.
    fn decode(wire: &[u8], piece: usize) -> (Vec<u8>, Option<BodyFault>, Option<Vec<u8>>) {
        decode_as(LineEnds::Strict, wire, piece)
    }

    fn decode_as(
        line_ends: LineEnds,
        wire: &[u8],
        piece: usize,
    ) -> (Vec<u8>, Option<BodyFault>, Option<Vec<u8>>) {
        let mut decoder = Decoder::mending(Framing::Dot, line_ends, LongLines::Refuse);
        let mut out = Vec::new();
        let mut at = 0;
        while at < wire.len() {
            let end = (at + piece).min(wire.len());
            let mut input = &wire[at..end];
            if decoder.decode(&mut input, &mut out) {
                let left = [input, &wire[end..]].concat();
                return (out, decoder.fault(), Some(left));
            }
            at = end;
        }
        (out, decoder.fault(), None)
    }

    #[test]
    fn undoes_dot_stuffing() {
        let (body, fault, left) = decode(b"a\r\n..b\r\n...\r\n.c\r\n\r\n.\r\nQUIT\r\n", 1000);
        assert_eq!(body, b"a\r\n.b\r\n..\r\nc\r\n\r\n");
        assert_eq!((fault, left), (None, Some(b"QUIT\r\n".to_vec())));
    }

    #[test]
    fn a_dot_alone_is_an_empty_body() {
        assert_eq!(decode(b".\r\n", 1), (vec![], None, Some(vec![])));
    }

    #[test]
    fn only_crlf_dot_crlf_ends_data() {
        for false_end in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r\n.\r",
            "\r.\r\n",
            "\n\n.\r\n",
            "\r\n\0.\r\n",
            "\r\r\n.\r\n\0",
        ] {
            let wire = format!("x{false_end}MAIL FROM:<evil@x>\r\nRCPT\r\n.\r\nQUIT");
            let whole = decode(wire.as_bytes(), wire.len());
            if !false_end.starts_with("\r\r\n.\r\n") {
                assert_eq!(whole.2.as_deref(), Some(&b"QUIT"[..]), "{false_end:?}");
            }
            assert!(
                whole.1.is_some_and(|fault| fault != BodyFault::LongLine),
                "{false_end:?}"
            );
            for piece in 1..8 {
                assert_eq!(
                    decode(wire.as_bytes(), piece),
                    whole,
                    "{false_end:?} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn takes_lines_of_998_bytes_and_no_longer() {
        let line = |len: usize| [&vec![b'a'; len][..], b"\r\n.\r\n"].concat();
        assert_eq!(decode(&line(998), 7).1, None);
        assert_eq!(decode(&line(999), 7).1, Some(BodyFault::LongLine));
    }

    #[test]
    fn a_long_line_is_given_out_where_that_is_asked_for() {
        let mut decoder = Decoder::new(Framing::Counted, LongLines::Take);
        let mut out = Vec::new();
        let line = [&[b'a'; 20_000][..], b"\r\n"].concat();
        decoder.decode(&mut &line[..], &mut out);
        assert_eq!((out, decoder.fault()), (line, None));
    }

    #[test]
    fn a_lone_lf_is_mended_where_that_is_asked_for() {
        let body = b"a\r\n\r\n.b\r\nc\r\n".to_vec();
        for (line_ends, wire) in [
            (LineEnds::Any, &b"a\n\n..b\nc\n.\nQUIT"[..]),
            (LineEnds::Any, b"a\n\n..b\nc\n.\r\nQUIT"),
            (LineEnds::Any, b"a\r\n\n..b\r\nc\r\n.\nQUIT"),
            (LineEnds::Mended, b"a\n\n..b\nc\r\n.\r\nQUIT"),
        ] {
            for piece in 1..20 {
                let expected = (body.clone(), None, Some(b"QUIT".to_vec()));
                assert_eq!(decode_as(line_ends, wire, piece), expected);
            }
        }
    }

    #[test]
    fn a_client_that_knows_crlf_does_not_end_its_text_with_less() {
        for wire in ["a\n.\nMAIL", "a\n.\r\nMAIL", "a\r\n.\nMAIL"] {
            for piece in 1..8 {
                let (_, fault, left) = decode_as(LineEnds::Mended, wire.as_bytes(), piece);
                assert_eq!(fault, Some(BodyFault::BareNewline), "{wire:?}");
                assert_eq!(left.as_deref(), Some(&b"MAIL"[..]), "{wire:?}");
            }
        }
    }

    #[test]
    fn a_counted_body_has_no_dots_and_ends_with_a_line_end() {
        let mut decoder = Decoder::new(Framing::Counted, LongLines::Refuse);
        let mut out = Vec::new();
        assert!(!decoder.decode(&mut &b".\r\n..a\r\n."[..], &mut out));
        decoder.finish(&mut out);
        assert_eq!(
            (out.as_slice(), decoder.fault()),
            (&b".\r\n..a\r\n.\r\n"[..], None)
        );
        let mut decoder = Decoder::new(Framing::Counted, LongLines::Refuse);
        decoder.decode(&mut &b"a\r"[..], &mut out);
        decoder.finish(&mut out);
        assert_eq!(decoder.fault(), Some(BodyFault::BareNewline));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(lines in prop::collection::vec("[.a\u{e9}]{0,4}", 0..8), piece in 1usize..9) {
            let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let mut wire = Vec::new();
            let mut encoder = Encoder::default();
            for bytes in body.as_bytes().chunks(piece) {
                encoder.encode(bytes, &mut wire);
            }
            encoder.finish(&mut wire);
            prop_assert_eq!(decode(&wire, piece), (body.into_bytes(), None, Some(vec![])));
        }

        #[test]
        fn pieces_do_not_matter_and_no_bare_line_end_comes_out(
            wire in prop::collection::vec(prop::sample::select(b".\r\n\0ab".to_vec()), 0..40),
            piece in 1usize..6,
            line_ends in prop::sample::select(vec![LineEnds::Strict, LineEnds::Mended, LineEnds::Any]),
        ) {
            let whole = decode_as(line_ends, &wire, wire.len().max(1));
            let pieces = decode_as(line_ends, &wire, piece);
            prop_assert_eq!(&pieces, &whole);
            if whole.1.is_none() {
                let body = &whole.0;
                for (at, &byte) in body.iter().enumerate() {
                    prop_assert!(byte != 0);
                    prop_assert!(byte != b'\n' || at > 0 && body[at - 1] == b'\r');
                    prop_assert!(byte != b'\r' || body.get(at + 1).is_none_or(|next| *next == b'\n'));
                }
            }
        }
    }
}
