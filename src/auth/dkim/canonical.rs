//! Canonical forms of header and body (RFC 6376 section 3.4).

use ring::digest::{Context, SHA256};

use crate::digest::DIGEST_BYTES;
use crate::mail::header::Field;
use crate::workload::{Unit, count};

/// The canonicalization, which determines the changes in transit that a signature tolerates.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Canonicalization {
    /// No changes.
    #[default]
    Simple,
    /// Changes of folding and white space, and of the case of field names.
    Relaxed,
}

/// Hashes a body in its canonical form as it arrives, in pieces of any size.
#[derive(Clone)]
pub struct BodyHasher {
    form: Canonicalization,
    hash: Context,
    length: u64,
    /// Lengths at which the hash is needed too, in order; the hashes of those before `passed` are known.
    cuts: Vec<Cut>,
    passed: usize,
    /// Line ends that are hashed only if text follows.
    line_ends: u64,
    /// The hash if the body ends here. It already contains line ends, so that a large number of them is not hashed in
    /// one later piece.
    settled: Option<Box<(Context, u64)>>,
    /// Relaxed: white space that is hashed, as one space, only if more text follows on the line.
    space: bool,
    /// The last byte was a CR; the next byte decides whether it ends a line.
    after_cr: bool,
}

/// The hash of the first bytes of a body (`l=`, RFC 6376 section 3.5).
#[derive(Clone, Copy)]
struct Cut {
    limit: u64,
    hash: [u8; DIGEST_BYTES],
}

/// The hash of a complete body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BodyHash {
    /// SHA-256 of the canonical body.
    pub hash: [u8; DIGEST_BYTES],
    /// Bytes of the canonical body.
    pub length: u64,
}

impl BodyHasher {
    /// For the whole body.
    pub fn new(form: Canonicalization) -> Self {
        Self {
            form,
            hash: Context::new(&SHA256),
            length: 0,
            cuts: Vec::new(),
            passed: 0,
            line_ends: 0,
            settled: None,
            space: false,
            after_cr: false,
        }
    }

    /// Hashes the first `limit` bytes of the canonical body too; call it before the first piece. The body is hashed
    /// once, whatever the number of such limits.
    pub(super) fn cut_at(&mut self, limit: u64) {
        if let Err(place) = self.cuts.binary_search_by_key(&limit, |cut| cut.limit) {
            let hash = [0; DIGEST_BYTES];
            self.cuts.insert(place, Cut { limit, hash });
        }
    }

    /// Takes the next piece of the body.
    pub fn update(&mut self, chunk: &[u8]) {
        count(Unit::Byte, chunk.len());
        let mut block = Block::default();
        let mut rest = chunk;
        while let Some((&byte, after)) = rest.split_first() {
            match byte {
                b'\n' if self.after_cr => {
                    self.after_cr = false;
                    self.space = false;
                    self.line_ends = self.line_ends.saturating_add(1);
                    if self.line_ends >= LINE_ENDS_HELD {
                        self.go_ahead(&mut block);
                    }
                    rest = after;
                }
                b'\r' => {
                    self.settle_cr(&mut block);
                    self.after_cr = true;
                    rest = after;
                }
                b' ' | b'\t' if self.form == Canonicalization::Relaxed => {
                    self.settle_cr(&mut block);
                    self.space = true;
                    rest = after;
                }
                _ => {
                    self.settle_cr(&mut block);
                    let text = self.run(rest);
                    self.text(&mut block, text);
                    rest = rest.get(text.len()..).unwrap_or_default();
                }
            }
        }
        self.flush(&mut block);
    }

    /// The hash, after the last piece.
    pub fn finish(mut self) -> BodyHash {
        self.end()
    }

    /// Takes the end of the body.
    /// Decides RFC 6376 section 3.4.4.
    pub(super) fn end(&mut self) -> BodyHash {
        let mut block = Block::default();
        self.settle_cr(&mut block);
        if let Some(settled) = self.settled.take() {
            (self.hash, self.length) = *settled;
            self.passed = self.cuts.partition_point(|cut| cut.limit <= self.length);
        }
        // RFC 6376 section 3.4.3: in the simple form an empty body is one CRLF. Section 3.4.4: in the relaxed form it
        // is empty. Any other body ends with exactly one CRLF.
        let has_text = self.length > 0 || block.len > 0;
        if has_text || self.form == Canonicalization::Simple {
            self.put(&mut block, b"\r\n");
        }
        self.flush(&mut block);
        BodyHash {
            hash: self.so_far(),
            length: self.length,
        }
    }

    /// The hash of the first `limit` bytes, if it was requested and the body is long enough.
    pub(super) fn hash_at(&self, limit: u64) -> Option<[u8; DIGEST_BYTES]> {
        let known = self.cuts.get(..self.passed)?;
        known
            .iter()
            .find(|cut| cut.limit == limit)
            .map(|cut| cut.hash)
    }

    fn so_far(&self) -> [u8; DIGEST_BYTES] {
        let mut hash = [0; DIGEST_BYTES];
        for (to, from) in hash.iter_mut().zip(self.hash.clone().finish().as_ref()) {
            *to = *from;
        }
        hash
    }

    /// The front of `rest` that is hashed unchanged; in the relaxed form, as far as single spaces separate the words.
    /// The first byte is such text.
    fn run<'a>(&self, rest: &'a [u8]) -> &'a [u8] {
        let is_relaxed = self.form == Canonicalization::Relaxed;
        let end = rest.windows(2).position(|pair| match pair {
            [_, b'\r'] => true,
            [_, b'\t'] | [b' ', b' '] => is_relaxed,
            _ => false,
        });
        let run = end.and_then(|at| rest.get(..=at)).unwrap_or(rest);
        match run.strip_suffix(b" ") {
            Some(text) if is_relaxed => text,
            _ => run,
        }
    }

    /// A CR without LF is text like any other.
    fn settle_cr(&mut self, block: &mut Block) {
        if self.after_cr {
            self.after_cr = false;
            self.text(block, b"\r");
        }
    }

    /// Hashes the line ends that were held back, because text follows.
    fn go_ahead(&mut self, block: &mut Block) {
        self.flush(block);
        if self.settled.is_none() {
            self.settled = Some(Box::new((self.hash.clone(), self.length)));
        }
        self.put_line_ends(block);
    }

    fn put_line_ends(&mut self, block: &mut Block) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.put(block, b"\r\n");
        }
    }

    fn text(&mut self, block: &mut Block, text: &[u8]) {
        self.settled = None;
        self.put_line_ends(block);
        if self.space {
            self.space = false;
            self.put(block, b" ");
        }
        self.put(block, text);
    }

    /// Collects small pieces, because each call of the hash has a cost of its own.
    fn put(&mut self, block: &mut Block, bytes: &[u8]) {
        for piece in bytes.chunks(BLOCK_BYTES) {
            if !block.append(piece) {
                self.flush(block);
                block.append(piece);
            }
        }
    }

    fn flush(&mut self, block: &mut Block) {
        let mut bytes = block.bytes.get(..block.len).unwrap_or_default();
        while let Some(limit) = self.cuts.get(self.passed).map(|cut| cut.limit) {
            let wanted = usize::try_from(limit.saturating_sub(self.length));
            let Some((before, after)) = wanted.ok().and_then(|len| bytes.split_at_checked(len))
            else {
                break;
            };
            self.put_in(before);
            bytes = after;
            let hash = self.so_far();
            if let Some(cut) = self.cuts.get_mut(self.passed) {
                cut.hash = hash;
            }
            self.passed = self.passed.saturating_add(1);
        }
        self.put_in(bytes);
        block.len = 0;
    }

    fn put_in(&mut self, bytes: &[u8]) {
        count(Unit::Byte, bytes.len());
        self.hash.update(bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
    }
}

const BLOCK_BYTES: usize = 1_024;
/// Line ends at the end of the input so far, held back.
const LINE_ENDS_HELD: u64 = 512;

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
pub fn append_field(out: &mut Vec<u8>, field: Field<'_>, form: Canonicalization) {
    match form {
        Canonicalization::Simple => {
            count(Unit::Byte, field.raw().len());
            out.extend_from_slice(field.raw());
            if !field.raw().ends_with(b"\r\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
        Canonicalization::Relaxed => {
            append_relaxed(out, field.name(), field.value());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// `name:value` in the relaxed form, without a line end.
/// Decides RFC 6376 section 3.4.2.
pub(in crate::auth) fn append_relaxed(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    count(Unit::Byte, name.len().saturating_add(value.len()));
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
    use crate::digest::sha256;
    use crate::mail::header::Header;
    use crate::workload;

    fn hash(form: Canonicalization, body: &[u8]) -> BodyHash {
        let mut hasher = BodyHasher::new(form);
        hasher.update(body);
        hasher.finish()
    }

    fn is_canonical(form: Canonicalization, body: &str, canonical: &str) {
        let expected = BodyHash {
            hash: sha256(canonical.as_bytes()),
            length: canonical.len() as u64,
        };
        assert_eq!(hash(form, body.as_bytes()), expected, "{form:?} {body:?}");
    }

    proptest! {
        #[test]
        fn the_beginning_of_a_body_hashes_as_a_body_of_its_own(
            body in "(a| b|\t|\r\n){0,40}",
            piece in 1_usize..9,
            limits in proptest::collection::vec(0_usize..90, 0..5),
        ) {
            let mut hasher = BodyHasher::new(Canonicalization::Simple);
            limits.iter().for_each(|limit| hasher.cut_at(*limit as u64));
            body.as_bytes().chunks(piece).for_each(|piece| hasher.update(piece));
            let whole = hasher.end();
            let text = format!("{}\r\n", body.trim_end_matches("\r\n"));
            prop_assert_eq!(whole.hash, sha256(text.as_bytes()));
            for limit in limits {
                let beginning = text.as_bytes().get(..limit).map(sha256);
                prop_assert_eq!(hasher.hash_at(limit as u64), beginning);
            }
        }
    }

    mod rfc6376_3_4_5 {
        use super::*;

        const BODY: &str = " C \r\nD \t E\r\n\r\n\r\n";

        #[test]
        fn relaxed_example() {
            is_canonical(Canonicalization::Relaxed, BODY, " C\r\nD E\r\n");
            let header = Header::parse(b"A: X\r\nB : Y\t\r\n\tZ  \r\n".to_vec()).expect("a header");
            let mut out = Vec::new();
            for field in header.fields() {
                append_field(&mut out, field, Canonicalization::Relaxed);
            }
            assert_eq!(out, b"a:X\r\nb:Y Z\r\n");
        }

        #[test]
        fn simple_example() {
            is_canonical(Canonicalization::Simple, BODY, " C \r\nD \t E\r\n");
            let bytes = b"A: X\r\nB : Y\t\r\n\tZ  \r\n";
            let header = Header::parse(bytes.to_vec()).expect("a header");
            let mut out = Vec::new();
            for field in header.fields() {
                append_field(&mut out, field, Canonicalization::Simple);
            }
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn empty_bodies_and_trailing_lines() {
        for body in ["", "\r\n", "\r\n\r\n\r\n"] {
            is_canonical(Canonicalization::Simple, body, "\r\n");
            is_canonical(Canonicalization::Relaxed, body, "");
        }
        is_canonical(Canonicalization::Relaxed, " \t\r\n  \r\n", "");
        is_canonical(Canonicalization::Simple, " \r\n\r\n", " \r\n");
        is_canonical(Canonicalization::Relaxed, "a", "a\r\n");
        is_canonical(Canonicalization::Simple, "a", "a\r\n");
        is_canonical(Canonicalization::Relaxed, "\r\n\r\na\r\n", "\r\n\r\na\r\n");
        is_canonical(Canonicalization::Relaxed, "a \r\n \r\n", "a\r\n");
        is_canonical(
            Canonicalization::Relaxed,
            "a\rb\r \rc\r",
            "a\rb\r \rc\r\r\n",
        );
    }

    #[test]
    fn empty_lines_are_hashed_as_they_come_and_count_only_if_something_follows() {
        let empty = "\r\n".repeat(5 * LINE_ENDS_HELD as usize + 3);
        for front in ["", "a", "a\r\n"] {
            for form in [Canonicalization::Simple, Canonicalization::Relaxed] {
                let ends = if front.is_empty() && form == Canonicalization::Relaxed {
                    ""
                } else {
                    &format!("{}\r\n", front.trim_end())
                };
                is_canonical(form, &format!("{front}{empty}"), ends);
                let goes_on = format!("{front}{empty}b\r\n");
                is_canonical(form, &goes_on, &goes_on);
            }
        }
        // A signature whose length ends at them does not cover them.
        let mut hasher = BodyHasher::new(Canonicalization::Simple);
        for limit in [0, 3, 5, 900] {
            hasher.cut_at(limit);
        }
        hasher.update(format!("abc{empty}").as_bytes());
        assert_eq!(hasher.end().length, 5);
        let hashes = [0, 3, 5, 900].map(|limit| hasher.hash_at(limit));
        let expected = [&b""[..], b"abc", b"abc\r\n"].map(|front| Some(sha256(front)));
        assert_eq!(hashes[..3], expected);
        assert_eq!(hashes[3], None);
    }

    #[test]
    fn a_piece_costs_what_it_is_long_however_many_empty_lines_came_before() {
        let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
        for _ in 0..100 {
            hasher.update("\r\n".repeat(8_192).as_bytes());
        }
        let ((), spent) = workload::during(|| hasher.update(b"x"));
        assert!(spent.bytes < 2 * 2 * LINE_ENDS_HELD, "{spent:?}");
        let (ended, spent) = workload::during(|| hasher.end());
        assert_eq!(ended.length, 100 * 2 * 8_192 + 3);
        assert!(spent.bytes < 16, "{spent:?}");
    }

    #[test]
    fn a_limit_hashes_the_front_and_counts_the_whole() {
        let mut hasher = BodyHasher::new(Canonicalization::Simple);
        hasher.cut_at(3);
        hasher.update(b"abcdef\r\n");
        let whole = BodyHash {
            hash: sha256(b"abcdef\r\n"),
            length: 8,
        };
        assert_eq!(hasher.end(), whole);
        assert_eq!(hasher.hash_at(3), Some(sha256(b"abc")));
        assert_eq!(hasher.hash_at(4), None);
    }

    /// The rules of RFC 6376 section 3.4.4, one after the other over the whole body.
    fn relaxed(body: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        for line in body.split("\r\n") {
            let mut text = String::new();
            for c in line.chars() {
                match c {
                    ' ' | '\t' if text.ends_with(' ') => {}
                    ' ' | '\t' => text.push(' '),
                    _ => text.push(c),
                }
            }
            lines.push(text.trim_end_matches(' ').to_owned());
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.iter().map(|line| format!("{line}\r\n")).collect()
    }

    proptest! {
        #[test]
        fn a_body_is_relaxed_by_the_rules(body in "(a|bc| |  |\t|\r\n|\r|\n| [a-z]{1,5}){0,60}") {
            is_canonical(Canonicalization::Relaxed, &body, &relaxed(&body));
        }

        #[test]
        fn pieces_hash_like_the_whole(
            body in "(a|bc| |\t|\r\n|\r|\n|.{1,50}){0,60}",
            size in 1_usize..9,
        ) {
            for form in [Canonicalization::Simple, Canonicalization::Relaxed] {
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
            is_canonical(Canonicalization::Relaxed, &body, &body);
            is_canonical(Canonicalization::Simple, &body, &body);
        }
    }
}
