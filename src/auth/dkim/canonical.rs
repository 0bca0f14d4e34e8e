//! Canonical forms of header and body (RFC 6376 section 3.4).

use ring::digest::{Context, SHA256};

use crate::auth::credential::KEY_BYTES;
use crate::mail::header::Field;

/// How much change on the way a signature stands.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Form {
    /// None at all.
    #[default]
    Simple,
    /// White space may be refolded, and field names change case.
    Relaxed,
}

/// Hashes a body in its canonical form while it streams past, in pieces of any size.
#[derive(Clone)]
pub struct BodyHasher {
    form: Form,
    hash: Context,
    /// `l=`: how much is hashed; `length` counts on beyond it.
    limit: u64,
    length: u64,
    /// Line ends that are hashed only if something comes after them.
    line_ends: u64,
    /// Relaxed: white space that is hashed, as one space, only if the line goes on after it.
    space: bool,
    /// A CR was the last byte; only the next one tells whether it ends a line.
    after_cr: bool,
}

/// The hash of a whole body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BodyHash {
    /// SHA-256 of the canonical body, or of its first `l=` bytes.
    pub hash: [u8; KEY_BYTES],
    /// Bytes of the canonical body.
    pub length: u64,
}

impl BodyHasher {
    /// For the whole body.
    pub fn new(form: Form) -> Self {
        Self::with_limit(form, u64::MAX)
    }

    /// For the first `limit` bytes of the canonical body (`l=`, RFC 6376 section 3.5).
    pub fn with_limit(form: Form, limit: u64) -> Self {
        Self {
            form,
            hash: Context::new(&SHA256),
            limit,
            length: 0,
            line_ends: 0,
            space: false,
            after_cr: false,
        }
    }

    /// Takes the next piece of the body.
    pub fn update(&mut self, chunk: &[u8]) {
        let mut block = Block::default();
        let mut rest = chunk;
        while let Some((&byte, after)) = rest.split_first() {
            match byte {
                b'\n' if self.after_cr => {
                    self.after_cr = false;
                    self.space = false;
                    self.line_ends = self.line_ends.saturating_add(1);
                    rest = after;
                }
                b'\r' => {
                    self.settle_cr(&mut block);
                    self.after_cr = true;
                    rest = after;
                }
                b' ' | b'\t' if self.form == Form::Relaxed => {
                    self.settle_cr(&mut block);
                    self.space = true;
                    rest = after;
                }
                _ => {
                    self.settle_cr(&mut block);
                    let len = after.iter().position(|&byte| self.breaks(byte));
                    let (text, next) = rest
                        .split_at_checked(len.map_or(rest.len(), |len| len.saturating_add(1)))
                        .unwrap_or((rest, &[]));
                    self.text(&mut block, text);
                    rest = next;
                }
            }
        }
        self.flush(&mut block);
    }

    /// The hash, after the last piece.
    pub fn finish(mut self) -> BodyHash {
        let mut block = Block::default();
        self.settle_cr(&mut block);
        // RFC 6376 section 3.4.3: an empty body is one CRLF in the simple form. Section 3.4.4: it is nothing in the
        // relaxed one. Anything else ends with exactly one CRLF.
        let has_text = self.length > 0 || block.len > 0;
        if has_text || self.form == Form::Simple {
            self.put(&mut block, b"\r\n");
        }
        self.flush(&mut block);
        let mut hash = [0; KEY_BYTES];
        for (to, from) in hash.iter_mut().zip(self.hash.finish().as_ref()) {
            *to = *from;
        }
        BodyHash {
            hash,
            length: self.length,
        }
    }

    fn breaks(&self, byte: u8) -> bool {
        match byte {
            b'\r' => true,
            b' ' | b'\t' => self.form == Form::Relaxed,
            _ => false,
        }
    }

    /// A CR that no LF follows is text like any other.
    fn settle_cr(&mut self, block: &mut Block) {
        if self.after_cr {
            self.after_cr = false;
            self.text(block, b"\r");
        }
    }

    fn text(&mut self, block: &mut Block, text: &[u8]) {
        for _ in 0..self.line_ends {
            self.put(block, b"\r\n");
        }
        self.line_ends = 0;
        if self.space {
            self.space = false;
            self.put(block, b" ");
        }
        self.put(block, text);
    }

    /// Small pieces are gathered, since each call of the hash costs more than the bytes in it.
    fn put(&mut self, block: &mut Block, bytes: &[u8]) {
        for piece in bytes.chunks(BLOCK_BYTES) {
            if !block.append(piece) {
                self.flush(block);
                block.append(piece);
            }
        }
    }

    fn flush(&mut self, block: &mut Block) {
        let bytes = block.bytes.get(..block.len).unwrap_or_default();
        let wanted = usize::try_from(self.limit.saturating_sub(self.length)).unwrap_or(usize::MAX);
        self.hash.update(bytes.get(..wanted).unwrap_or(bytes));
        self.length = self.length.saturating_add(bytes.len() as u64);
        block.len = 0;
    }
}

const BLOCK_BYTES: usize = 1_024;

struct Block {
    bytes: [u8; BLOCK_BYTES],
    len: usize,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            bytes: [0; BLOCK_BYTES],
            len: 0,
        }
    }
}

impl Block {
    /// Whether there was room.
    fn append(&mut self, piece: &[u8]) -> bool {
        let end = self.len.saturating_add(piece.len());
        match self.bytes.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(piece);
                self.len = end;
                true
            }
            None => false,
        }
    }
}

/// Appends a field in its canonical form, with its line end.
pub fn append_field(out: &mut Vec<u8>, field: Field<'_>, form: Form) {
    match form {
        Form::Simple => {
            out.extend_from_slice(field.raw());
            if !field.raw().ends_with(b"\r\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
        Form::Relaxed => {
            append_relaxed(out, field.name(), field.value());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// `name:value` in the relaxed form, without a line end (RFC 6376 section 3.4.2).
pub(in crate::auth) fn append_relaxed(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
    out.push(b':');
    let words = value
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .filter(|word| !word.is_empty());
    for (nth, word) in words.enumerate() {
        if nth > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::credential::sha256;
    use crate::mail::header::Header;

    fn hash(form: Form, body: &[u8]) -> BodyHash {
        let mut hasher = BodyHasher::new(form);
        hasher.update(body);
        hasher.finish()
    }

    fn is_canonical(form: Form, body: &str, canonical: &str) {
        let expected = BodyHash {
            hash: sha256(canonical.as_bytes()),
            length: canonical.len() as u64,
        };
        assert_eq!(hash(form, body.as_bytes()), expected, "{form:?} {body:?}");
    }

    mod rfc6376_3_4_5 {
        use super::*;

        const BODY: &str = " C \r\nD \t E\r\n\r\n\r\n";

        #[test]
        fn relaxed_example() {
            is_canonical(Form::Relaxed, BODY, " C\r\nD E\r\n");
            let header = Header::parse(b"A: X\r\nB : Y\t\r\n\tZ  \r\n".to_vec()).expect("a header");
            let mut out = Vec::new();
            for field in header.fields() {
                append_field(&mut out, field, Form::Relaxed);
            }
            assert_eq!(out, b"a:X\r\nb:Y Z\r\n");
        }

        #[test]
        fn simple_example() {
            is_canonical(Form::Simple, BODY, " C \r\nD \t E\r\n");
            let bytes = b"A: X\r\nB : Y\t\r\n\tZ  \r\n";
            let header = Header::parse(bytes.to_vec()).expect("a header");
            let mut out = Vec::new();
            for field in header.fields() {
                append_field(&mut out, field, Form::Simple);
            }
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn empty_bodies_and_trailing_lines() {
        for body in ["", "\r\n", "\r\n\r\n\r\n"] {
            is_canonical(Form::Simple, body, "\r\n");
            is_canonical(Form::Relaxed, body, "");
        }
        is_canonical(Form::Relaxed, " \t\r\n  \r\n", "");
        is_canonical(Form::Simple, " \r\n\r\n", " \r\n");
        is_canonical(Form::Relaxed, "a", "a\r\n");
        is_canonical(Form::Simple, "a", "a\r\n");
        is_canonical(Form::Relaxed, "\r\n\r\na\r\n", "\r\n\r\na\r\n");
        is_canonical(Form::Relaxed, "a \r\n \r\n", "a\r\n");
        is_canonical(Form::Relaxed, "a\rb\r \rc\r", "a\rb\r \rc\r\r\n");
    }

    #[test]
    fn a_limit_hashes_the_front_and_counts_the_whole() {
        let mut hasher = BodyHasher::with_limit(Form::Simple, 3);
        hasher.update(b"abcdef\r\n");
        assert_eq!(
            hasher.finish(),
            BodyHash {
                hash: sha256(b"abc"),
                length: 8
            }
        );
    }

    proptest! {
        #[test]
        fn pieces_hash_like_the_whole(
            body in "(a|bc| |\t|\r\n|\r|\n|.{1,50}){0,60}",
            size in 1_usize..9,
        ) {
            for form in [Form::Simple, Form::Relaxed] {
                let mut hasher = BodyHasher::new(form);
                for piece in body.as_bytes().chunks(size) {
                    hasher.update(piece);
                }
                prop_assert_eq!(hasher.finish(), hash(form, body.as_bytes()));
            }
        }

        #[test]
        fn what_is_canonical_stays_so(lines in proptest::collection::vec("[a-z]{1,5}( [a-z]{1,5}){0,400}", 1..5)) {
            let body = lines.join("\r\n") + "\r\n";
            is_canonical(Form::Relaxed, &body, &body);
            is_canonical(Form::Simple, &body, &body);
        }
    }
}
