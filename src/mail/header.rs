//! The header block of a message (RFC 5322 section 2.2; UTF-8 in values RFC 6532).
//!
//! The bytes are kept as they arrived, because signatures cover them; an index of the fields is kept beside them. A
//! field name may have white space before its colon (RFC 5322 section 4.5), which is not part of the name.
//!
//! If the header is followed by a line that is neither a field nor empty, that line ends the header and is the first
//! line of the body. Some mail readers skip such a line and continue to read fields, so later fields that decisions
//! depend on are kept as [`Header::disputed`]. An mbox envelope line at the very start (`From `, with or without `>`
//! before it) is not part of the message.
//!
//! Not supported: MIME structure. Invariant: the indexed fields, one after the other, are the whole block.

use std::fmt;

use crate::limits::{HEADER_BYTES_MAX, HEADER_FIELDS_MAX};
use crate::workload::{Unit, count};

/// A parsed header block: every field with its line ends, without the empty line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Header {
    bytes: Vec<u8>,
    fields: Vec<Span>,
    disputed: Vec<Disputed>,
}

/// A line after the header that a lenient mail reader would take for one of the fields in [`COUNTING`].
#[derive(Clone, Debug, Eq, PartialEq)]
struct Disputed {
    name: &'static str,
    value: Vec<u8>,
}

/// The front of a message, up to its first empty line or its end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Front {
    /// Bytes of the envelope line of an mbox before the header.
    pub envelope_line: usize,
    pub header: Header,
    /// The text that follows the header without an empty line: the first lines of the body, up to the first empty line.
    pub text: Vec<u8>,
}

/// A header field exactly as in the message: name, value and folding untouched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<'a> {
    raw: &'a [u8],
    name: &'a str,
    value: &'a [u8],
}

/// Why a block is not a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderError {
    /// Over [`HEADER_BYTES_MAX`].
    TooLong,
    /// Over [`HEADER_FIELDS_MAX`].
    TooManyFields,
    /// The line at this offset is neither a field nor the continuation of one.
    NotAField {
        /// Offset of the line in bytes.
        at: usize,
    },
}

/// The end of a header block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderEnd {
    /// An empty line follows the block.
    EmptyLine {
        /// Length of the block, and offset of the empty line.
        at: usize,
        /// Offset of the body.
        body: usize,
    },
    /// A line that is not a field follows; a lenient reader takes it for the first of the body.
    NotAField {
        /// Length of the block, and offset of the line.
        at: usize,
    },
    /// There are only fields: no body, or more is to come.
    Open,
}

/// The state of a scanner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Scan {
    /// More bytes are needed, or the message ends without a body.
    Open,
    /// The header is complete.
    Complete {
        /// Bytes of the chunk that belong to the header or the empty line; the rest is the body.
        taken: usize,
    },
}

/// Collects a header that arrives in pieces.
#[derive(Debug, Default)]
pub struct HeaderScanner {
    bytes: Vec<u8>,
    line: usize, // offset of the line that is under way
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Span {
    start: usize,
    name_end: usize,
    value: usize,
    end: usize,
}

impl Header {
    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        let fields = self.fields.capacity().saturating_mul(size_of::<Span>());
        let disputed = self.disputed.iter().map(|one| {
            let value = one.value.capacity();
            value.saturating_add(size_of::<Disputed>())
        });
        disputed
            .fold(self.bytes.capacity(), usize::saturating_add)
            .saturating_add(fields)
    }

    /// Parses a block, which ends at its last field; a last line without CRLF is taken.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, HeaderError> {
        let front = Self::parse_front(bytes)?;
        match front.text.is_empty() {
            true => Ok(front),
            false => Err(HeaderError::NotAField {
                at: front.header.bytes.len(),
            }),
        }
        .map(|front| front.header)
    }

    /// Parses a block as far as there are fields.
    fn parse_front(mut bytes: Vec<u8>) -> Result<Front, HeaderError> {
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(HeaderError::TooLong);
        }
        count(Unit::Byte, bytes.len());
        let mut fields: Vec<Span> = Vec::new();
        let mut header_end = bytes.len();
        for (at, line) in lines(&bytes) {
            let end = at.saturating_add(line.len());
            match (classify(line), fields.last_mut()) {
                (Line::Continuation, Some(field)) => field.end = end,
                (Line::Field { name, value }, _) => {
                    if fields.len() >= HEADER_FIELDS_MAX {
                        return Err(HeaderError::TooManyFields);
                    }
                    fields.push(Span {
                        start: at,
                        name_end: at.saturating_add(name),
                        value: at.saturating_add(value),
                        end,
                    });
                }
                _ => {
                    header_end = at;
                    break;
                }
            }
        }
        let text = bytes.split_off(header_end);
        let disputed = disputed(&text)?;
        Ok(Front {
            envelope_line: 0,
            header: Self {
                bytes,
                fields,
                disputed,
            },
            text,
        })
    }

    /// The block as it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The fields from top to bottom; reversible, as DKIM needs it.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = Field<'_>> + ExactSizeIterator {
        count(Unit::Field, self.fields.len());
        self.fields.iter().map(|span| self.field(span))
    }

    /// The fields of this name (case does not count) from top to bottom.
    pub fn named(&self, name: &str) -> impl DoubleEndedIterator<Item = Field<'_>> {
        self.fields().filter(move |field| field.is(name))
    }

    /// The values of fields with this name behind the end of the header, where some mail readers still look for fields.
    /// The name is one of [`COUNTING`]; for any other there are none.
    pub fn disputed(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let disputed = self.disputed.iter();
        let named = disputed.filter(move |one| one.name.eq_ignore_ascii_case(name));
        named.map(|one| one.value.as_slice())
    }

    /// How many fields have this name.
    pub fn count(&self, name: &str) -> usize {
        self.named(name).count()
    }

    /// Whether a field has this name.
    pub fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    fn field(&self, span: &Span) -> Field<'_> {
        let slice = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        Field {
            raw: slice(span.start, span.end),
            name: std::str::from_utf8(slice(span.start, span.name_end)).unwrap_or_default(),
            value: slice(span.value, span.end),
        }
    }
}

impl<'a> Field<'a> {
    /// The whole field with its line ends.
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// The name as it was written.
    pub const fn name(self) -> &'a str {
        self.name
    }

    /// Whether it has this name; case does not count.
    pub const fn is(self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The text after the colon, with its folding, without the last line end.
    pub fn value(self) -> &'a [u8] {
        self.value.strip_suffix(b"\r\n").unwrap_or(self.value)
    }

    /// The value with its line ends taken out, and no white space around it.
    pub fn unfolded(self) -> Vec<u8> {
        count(Unit::Byte, self.value.len());
        let mut out = Vec::with_capacity(self.value.len());
        for (_, line) in lines(self.value) {
            out.extend_from_slice(line.strip_suffix(b"\r\n").unwrap_or(line));
        }
        out.trim_ascii().to_vec()
    }
}

impl HeaderScanner {
    /// Takes the next piece of the message.
    pub fn on_bytes(&mut self, chunk: &[u8]) -> Result<Scan, HeaderError> {
        count(Unit::Byte, chunk.len());
        let before = self.bytes.len();
        self.bytes.extend_from_slice(chunk);
        // Only new bytes are searched, so that a line in many small pieces costs no more than one in a single piece.
        let mut search = before.saturating_sub(1).max(self.line);
        while let Some(len) = line_len(self.bytes.get(search..).unwrap_or_default()) {
            let end = search.saturating_add(len);
            if end.saturating_sub(self.line) == 2 {
                self.bytes.truncate(self.line);
                return self.within_bounds(Scan::Complete {
                    taken: end.saturating_sub(before),
                });
            }
            self.line = end;
            search = end;
        }
        self.within_bounds(Scan::Open)
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// The front of the message: after [`Scan::Complete`], or at the end of a message without an empty line.
    pub fn finish(mut self) -> Result<Front, HeaderError> {
        let envelope_line = envelope_line_len(&self.bytes);
        self.bytes.drain(..envelope_line);
        let front = Header::parse_front(self.bytes)?;
        Ok(Front {
            envelope_line,
            ..front
        })
    }

    fn within_bounds(&mut self, scan: Scan) -> Result<Scan, HeaderError> {
        if self.bytes.len() > HEADER_BYTES_MAX {
            self.bytes = Vec::new();
            return Err(HeaderError::TooLong);
        }
        Ok(scan)
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(out, "the header is longer than {HEADER_BYTES_MAX} bytes"),
            Self::TooManyFields => {
                write!(out, "the header has more than {HEADER_FIELDS_MAX} fields")
            }
            Self::NotAField { at } => write!(
                out,
                "expected a header field or an empty line at offset {at} of the message"
            ),
        }
    }
}

impl std::error::Error for HeaderError {}

/// Finds the end of the header of `message`.
pub fn header_end(message: &[u8]) -> HeaderEnd {
    let mut has_field = false;
    for (at, line) in lines(message) {
        if line == b"\r\n" {
            let body = at.saturating_add(line.len());
            return HeaderEnd::EmptyLine { at, body };
        }
        match classify(line) {
            Line::Field { .. } => has_field = true,
            Line::Continuation if has_field => {}
            _ => return HeaderEnd::NotAField { at },
        }
    }
    HeaderEnd::Open
}

/// The bytes of the header and of the body of a message. A header that runs into text ends there; a message without an
/// empty line is all header.
pub fn split(message: &[u8]) -> (&[u8], &[u8]) {
    let (end, body) = match header_end(message) {
        HeaderEnd::EmptyLine { at, body } => (at, body),
        HeaderEnd::NotAField { at } => (at, at),
        HeaderEnd::Open => (message.len(), message.len()),
    };
    (
        message.get(..end).unwrap_or_default(),
        message.get(body..).unwrap_or_default(),
    )
}

/// The header, parsed, and the body of a message; a message without an empty line has no body.
pub fn header_and_body(message: &[u8]) -> Result<(Header, &[u8]), HeaderError> {
    let (header, body) = match header_end(message) {
        HeaderEnd::EmptyLine { at, body } => (
            message.get(..at).unwrap_or_default(),
            message.get(body..).unwrap_or_default(),
        ),
        HeaderEnd::Open => (message, &[][..]),
        HeaderEnd::NotAField { at } => return Err(HeaderError::NotAField { at }),
    };
    Ok((Header::parse(header.to_vec())?, body))
}

enum Line {
    Field { name: usize, value: usize },
    Continuation,
    Other,
}

fn classify(line: &[u8]) -> Line {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Line::Continuation;
    }
    let name = line
        .iter()
        .position(|&byte| byte == b':' || !byte.is_ascii_graphic())
        .unwrap_or(line.len());
    let rest = line.get(name..).unwrap_or_default();
    let space = rest
        .iter()
        .position(|&byte| byte != b' ' && byte != b'\t')
        .unwrap_or(rest.len());
    match rest.get(space) {
        Some(b':') if name > 0 => Line::Field {
            name,
            value: name.saturating_add(space).saturating_add(1),
        },
        _ => Line::Other,
    }
}

/// Length of an envelope line of an mbox at the front, with its line end.
fn envelope_line_len(bytes: &[u8]) -> usize {
    let Some((_, line)) = lines(bytes).next() else {
        return 0;
    };
    let quoted = line.iter().take_while(|byte| **byte == b'>').count();
    let is_envelope = line.get(quoted..).unwrap_or_default().starts_with(b"From ");
    match classify(line) {
        Line::Other if is_envelope => line.len(),
        _ => 0,
    }
}

/// The fields of [`COUNTING`] that a mail reader could find in a text after skipping a line that is not a field.
fn disputed(text: &[u8]) -> Result<Vec<Disputed>, HeaderError> {
    let mut found: Vec<Disputed> = Vec::new();
    let mut is_open = false;
    for (_, line) in lines(text) {
        if let Line::Continuation = classify(line)
            && is_open
            && let Some(last) = found.last_mut()
        {
            last.value.extend_from_slice(line);
            continue;
        }
        is_open = false;
        // Anything may surround the name, even another colon before it: a mail reader may drop it.
        let letters = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        let start = line.iter().position(letters).unwrap_or(line.len());
        let line = line.get(start..).unwrap_or_default();
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let name: Vec<u8> = name.iter().copied().filter(letters).collect();
        let is_same = |known: &&str| known.as_bytes().eq_ignore_ascii_case(&name);
        if let Some(name) = COUNTING.into_iter().find(is_same) {
            if found.len() >= HEADER_FIELDS_MAX {
                return Err(HeaderError::TooManyFields);
            }
            let value = value.to_vec();
            found.push(Disputed { name, value });
            is_open = true;
        }
    }
    Ok(found)
}

/// The fields that decisions depend on: the author of a message, and claimed authentication results.
const COUNTING: [&str; 2] = ["From", "Authentication-Results"];

/// Length of the first line with its CRLF; `None` if no line has ended.
fn line_len(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .map(|at| at.saturating_add(2))
}

/// The lines of `bytes` with their CRLF and their offsets; the last may lack it.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0_usize;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let len = line_len(rest).unwrap_or(rest.len());
        let start = at;
        at = at.saturating_add(len);
        Some((start, rest.get(..len).unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(text: &str) -> Header {
        Header::parse(text.as_bytes().to_vec()).expect("a header")
    }

    #[test]
    fn keeps_bytes_and_finds_fields_without_case() {
        let header = header("From: a@b\r\nSUBJECT : one\r\n\ttwo\r\nX:\r\nfrom:c@d\r\n");
        assert_eq!(header.count("FROM"), 2);
        let subject = header.named("subject").next().expect("a subject");
        assert_eq!(subject.name(), "SUBJECT");
        assert_eq!(subject.raw(), b"SUBJECT : one\r\n\ttwo\r\n");
        assert_eq!(subject.value(), b" one\r\n\ttwo");
        assert_eq!(subject.unfolded(), b"one\ttwo");
        assert_eq!(header.named("x").next().map(Field::value), Some(&b""[..]));
        let last = header.named("From").next_back().map(Field::value);
        assert_eq!(last, Some(&b"c@d"[..]));
        let whole: Vec<u8> = header.fields().flat_map(Field::raw).copied().collect();
        assert_eq!(whole, header.as_bytes());
    }

    #[test]
    fn takes_a_last_line_without_its_end() {
        assert_eq!(
            header("A: b").named("a").next().map(Field::value),
            Some(&b" b"[..])
        );
        assert_eq!(header("").fields().len(), 0);
    }

    #[test]
    fn rejects_what_is_no_field() {
        let cases = [
            (" folded first\r\n", 0),
            ("A: b\r\nhello world\r\n", 6),
            (": no name\r\n", 0),
            ("A b: c\r\n", 0),
            ("Ä: c\r\n", 0),
            ("A: b\r\n\r\nC: d\r\n", 6),
        ];
        for (text, at) in cases {
            assert_eq!(
                Header::parse(text.as_bytes().to_vec()),
                Err(HeaderError::NotAField { at }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn holds_its_bounds() {
        let many = "A:\r\n".repeat(HEADER_FIELDS_MAX + 1);
        assert_eq!(
            Header::parse(many.into_bytes()),
            Err(HeaderError::TooManyFields)
        );
        let long = vec![b'a'; HEADER_BYTES_MAX + 1];
        assert_eq!(Header::parse(long.clone()), Err(HeaderError::TooLong));
        assert_eq!(
            HeaderScanner::default().on_bytes(&long),
            Err(HeaderError::TooLong)
        );
    }

    #[test]
    fn finds_the_end() {
        let end = |at| HeaderEnd::EmptyLine { at, body: at + 2 };
        assert_eq!(header_end(b"\r\nbody"), end(0));
        assert_eq!(header_end(b"A: b\r\n\r\nbody"), end(6));
        assert_eq!(header_end(b"A: b\r\n c\r\n\r\n"), end(10));
        assert_eq!(header_end(b"A: b\r\n"), HeaderEnd::Open);
        assert_eq!(header_end(b""), HeaderEnd::Open);
        assert_eq!(header_end(b"hello\r\n"), HeaderEnd::NotAField { at: 0 });
        assert_eq!(
            header_end(b"A: b\r\nhi there\r\n\r\n"),
            HeaderEnd::NotAField { at: 6 }
        );
        for (message, header, body) in [
            ("A: b\r\n\r\nbody", "A: b\r\n", "body"),
            ("A: b\r\nhi there\r\n", "A: b\r\n", "hi there\r\n"),
            ("A: b\r\n", "A: b\r\n", ""),
        ] {
            let parts = (header.as_bytes(), body.as_bytes());
            assert_eq!(split(message.as_bytes()), parts);
        }
    }

    fn front(message: &str) -> Front {
        let mut scanner = HeaderScanner::default();
        let _ = scanner.on_bytes(message.as_bytes()).expect("short");
        scanner.finish().expect("a front")
    }

    #[test]
    fn a_line_that_is_no_field_ends_the_header() {
        for (message, header, text) in [
            (
                "A: b\r\nhi there\r\nC: d\r\n\r\nbody",
                "A: b\r\n",
                "hi there\r\nC: d\r\n",
            ),
            ("hello\r\n", "", "hello\r\n"),
            (" hello\r\n\r\n", "", " hello\r\n"),
            ("A: b\r\n c\r\nFrom x\r\n", "A: b\r\n c\r\n", "From x\r\n"),
            ("A: b\r\n", "A: b\r\n", ""),
        ] {
            let front = front(message);
            assert_eq!(front.header.as_bytes(), header.as_bytes(), "{message:?}");
            assert_eq!(front.text, text.as_bytes(), "{message:?}");
            assert_eq!(front.envelope_line, 0, "{message:?}");
        }
    }

    #[test]
    fn an_envelope_line_of_an_mbox_is_no_part_of_the_message() {
        for line in [
            "From a@b Thu Jan  1 00:00:00 1970\r\n",
            ">From a@b\r\n",
            "From \r\n",
        ] {
            let front = front(&format!("{line}From: c@d\r\n\r\nbody"));
            assert_eq!(front.envelope_line, line.len(), "{line:?}");
            assert_eq!(front.header.as_bytes(), b"From: c@d\r\n", "{line:?}");
            assert_eq!(front.header.disputed("from").count(), 0, "{line:?}");
        }
        for line in ["From : a@b\r\n", "Frome a\r\n", "X: a\r\nFrom a@b\r\n"] {
            assert_eq!(front(line).envelope_line, 0, "{line:?}");
        }
    }

    #[test]
    fn what_counts_behind_a_line_that_is_no_field_is_found_however_it_is_written() {
        for line in [
            "From: a@b",
            "from : a@b",
            "\u{feff}From: a@b",
            "(x) From\0: a@b",
            ">From: a@b",
            ": :From: a@b",
        ] {
            let message = format!("From: c@d\r\nodd\r\n{}\r\n\r\n", line.replace("(x) ", " "));
            let front = front(&message);
            assert_eq!(front.header.disputed("FROM").count(), 1, "{line:?}");
        }
        let message =
            "odd\r\nAuthentication-Results:\r\n mx; none\r\nTo: x\r\n y\r\n\r\nFrom: a@b\r\n";
        let front = front(message);
        let results: Vec<&[u8]> = front.header.disputed("Authentication-Results").collect();
        assert_eq!(results, [b"\r\n mx; none\r\n"]);
        assert_eq!(front.header.disputed("From").count(), 0);
    }

    fn scan(message: &[u8], cuts: &[usize]) -> (Result<Front, HeaderError>, Option<usize>) {
        let mut scanner = HeaderScanner::default();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (message.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(message.len());
        let mut from = 0;
        for cut in cuts {
            if let Scan::Complete { taken } = scanner.on_bytes(&message[from..cut]).expect("short")
            {
                return (scanner.finish(), Some(from + taken));
            }
            from = cut;
        }
        (scanner.finish(), None)
    }

    proptest! {
        #[test]
        fn scanning_in_pieces_finds_what_the_whole_holds(
            message in "(A: b\r\n|C: d\r\n e\r\n|\r\n|x|\r|\n){0,8}",
            cuts in proptest::collection::vec(0_usize..64, 0..6),
        ) {
            prop_assert_eq!(scan(message.as_bytes(), &cuts), scan(message.as_bytes(), &[]));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(header) = Header::parse(bytes.clone()) {
                let whole: Vec<u8> = header.fields().flat_map(Field::raw).copied().collect();
                prop_assert_eq!(whole, bytes);
            }
        }
    }
}
