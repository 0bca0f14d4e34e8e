//! The layout of a record in a segment: a header of 48 bytes, then envelope, fields and body.
//!
//! ```text
//!  0 magic     C4 00 0D 01      24 body length       u64
//!  4 version   u8               32 envelope CRC-32   u32
//!  5 kind      u8               36 fields CRC-32     u32
//!  6 flags     u16              40 body CRC-32       u32
//!  8 queue id  u64              44 header CRC-32     u32, over bytes 0 to 43, segment and offset
//! 16 envelope length u32        48 envelope, fields, body (unless it is in a file of its own)
//! 20 fields length   u32
//! ```
//!
//! The layout of the header and its checksum are frozen for all versions, so that a record of a future version can be
//! distinguished from damage.
//!
//! Invariant: a message body cannot pass for a record. The magic contains a NUL and a bare CR, which no accepted
//! message has. The checksum covers the position, so bytes copied from elsewhere do not verify. Recovery may therefore
//! search for the next record inside damage without letting a sender forge one.

use crate::queue_id::QueueId;

use super::codec::{self, Input, put_u32, put_u64};
use super::record::{MessageBody, MessageRecord, OutcomeRecord, Record};

pub(super) const HEADER_BYTES: usize = 48;
pub(super) const MAGIC: [u8; 4] = [0xC4, 0x00, 0x0D, 0x01];
const SUMMED_BYTES: usize = 44;
const VERSION: u8 = 1;
const FLAG_BODY_IN_FILE: u16 = 1;

/// The location of a message record in a compact form, because readers of the journal keep one for each message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Location {
    segment: u32,
    offset: u32,
    envelope_len: u32,
    fields_len: u32,
    body: u64, // top bit: in a file of its own
}

const IN_FILE: u64 = 1 << 63;

impl Location {
    pub(super) const fn new(place: Place, header: &Header) -> Self {
        Self {
            segment: place.segment,
            offset: place.offset,
            envelope_len: header.envelope_len,
            fields_len: header.fields_len,
            body: header.body_len & !IN_FILE | if header.body_in_file { IN_FILE } else { 0 },
        }
    }

    /// The segment that holds the record.
    pub const fn segment(self) -> u32 {
        self.segment
    }

    /// Bytes of the fields that are added above the message.
    pub const fn fields_len(self) -> u32 {
        self.fields_len
    }

    /// Bytes of the message as it was received.
    pub const fn body_len(self) -> u64 {
        self.body & !IN_FILE
    }

    /// Whether the body is in a file of its own.
    pub const fn body_is_file(self) -> bool {
        self.body & IN_FILE != 0
    }

    /// No envelope of this length has more recipients.
    pub(super) const fn recipients_max(self) -> usize {
        self.envelope_len as usize / codec::RECIPIENT_BYTES_MIN
    }

    pub(super) const fn place(self) -> Place {
        Place {
            segment: self.segment,
            offset: self.offset,
        }
    }

    pub(super) const fn head_len(self) -> u64 {
        (HEADER_BYTES as u64)
            .saturating_add(self.envelope_len as u64)
            .saturating_add(self.fields_len as u64)
    }

    /// Bytes of the record in its segment.
    pub(super) const fn record_len(self) -> u64 {
        if self.body_is_file() {
            self.head_len()
        } else {
            self.head_len().saturating_add(self.body_len())
        }
    }
}

/// A point in the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Seal,
    Message,
    Outcome,
    Hold,
    Release,
    Done,
    /// Segments before this number were deleted on purpose.
    First,
}

const KINDS: [Kind; 7] = [
    Kind::Seal,
    Kind::Message,
    Kind::Outcome,
    Kind::Hold,
    Kind::Release,
    Kind::Done,
    Kind::First,
];

/// The front of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) body_in_file: bool,
    pub(super) id: QueueId,
    pub(super) envelope_len: u32,
    pub(super) fields_len: u32,
    pub(super) body_len: u64,
    pub(super) envelope_crc: u32,
    pub(super) fields_crc: u32,
    pub(super) body_crc: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeaderError {
    /// There is no valid header at this place.
    Damaged,
    /// The record is complete, but of an unknown version.
    Future { version: u8 },
}

impl Header {
    fn encode(&self, place: Place) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        let kind = KINDS.iter().position(|kind| *kind == self.kind);
        out.push(u8::try_from(kind.unwrap_or_default()).unwrap_or_default());
        let flags = if self.body_in_file {
            FLAG_BODY_IN_FILE
        } else {
            0
        };
        out.extend_from_slice(&flags.to_le_bytes());
        put_u64(self.id.number(), &mut out);
        put_u32(self.envelope_len, &mut out);
        put_u32(self.fields_len, &mut out);
        put_u64(self.body_len, &mut out);
        put_u32(self.envelope_crc, &mut out);
        put_u32(self.fields_crc, &mut out);
        put_u32(self.body_crc, &mut out);
        put_u32(sum(&out, place), &mut out);
        out.try_into().unwrap_or([0; HEADER_BYTES])
    }

    /// The header at the front of `bytes`, read from `place`.
    pub(super) fn decode(bytes: &[u8], place: Place) -> Result<Self, HeaderError> {
        let (summed, rest) = bytes
            .split_at_checked(SUMMED_BYTES)
            .ok_or(HeaderError::Damaged)?;
        let expected = Input(rest).u32().ok_or(HeaderError::Damaged)?;
        if !summed.starts_with(&MAGIC) || sum(summed, place) != expected {
            return Err(HeaderError::Damaged);
        }
        let mut input = Input(summed.get(MAGIC.len()..).unwrap_or_default());
        match input.u8() {
            Some(VERSION) => Self::fields(&mut input).ok_or(HeaderError::Damaged),
            Some(version) => Err(HeaderError::Future { version }),
            None => Err(HeaderError::Damaged),
        }
    }

    fn fields(input: &mut Input<'_>) -> Option<Self> {
        Some(Self {
            kind: *KINDS.get(usize::from(input.u8()?))?,
            body_in_file: input.u16()? & FLAG_BODY_IN_FILE != 0,
            id: QueueId::new(input.u64()?),
            envelope_len: input.u32()?,
            fields_len: input.u32()?,
            body_len: input.u64().filter(|len| len & IN_FILE == 0)?,
            envelope_crc: input.u32()?,
            fields_crc: input.u32()?,
            body_crc: input.u32()?,
        })
    }

    /// Bytes of the whole record in its segment.
    pub(super) fn record_len(&self) -> u64 {
        let head = (HEADER_BYTES as u64)
            .saturating_add(u64::from(self.envelope_len))
            .saturating_add(u64::from(self.fields_len));
        if self.body_in_file {
            head
        } else {
            head.saturating_add(self.body_len)
        }
    }

    /// The three parts of the record's payload; fails if one does not match its checksum.
    pub(super) fn parts<'a>(&self, payload: &'a [u8]) -> Option<Parts<'a>> {
        let (envelope, rest) = payload.split_at_checked(self.envelope_len as usize)?;
        let (fields, body) = rest.split_at_checked(self.fields_len as usize)?;
        let whole = crc32fast::hash(envelope) == self.envelope_crc
            && crc32fast::hash(fields) == self.fields_crc
            && (self.body_in_file || crc32fast::hash(body) == self.body_crc);
        whole.then_some(Parts { envelope, fields })
    }
}

/// The verified parts of a payload.
pub(super) struct Parts<'a> {
    pub(super) envelope: &'a [u8],
    pub(super) fields: &'a [u8],
}

/// The content of `journal/tip`, for segments that may be lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TipNote {
    /// The number of the newest segment.
    pub(super) newest: u32,
    /// No id above this one has been given to a message.
    pub(super) ids: QueueId,
}

/// A [`TipNote`] with its sum, all of it within one sector.
pub(super) fn put_tip(note: TipNote) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_u32(note.newest, &mut out);
    put_u64(note.ids.number(), &mut out);
    put_u32(crc32fast::hash(&out), &mut out);
    out
}

pub(super) fn tip(bytes: &[u8]) -> Option<TipNote> {
    let mut input = Input(bytes.get(MAGIC.len()..)?);
    let note = TipNote {
        newest: input.u32()?,
        ids: QueueId::new(input.u64()?),
    };
    (bytes == put_tip(note)).then_some(note)
}

fn sum(bytes: &[u8], place: Place) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.update(&place.segment.to_le_bytes());
    hasher.update(&place.offset.to_le_bytes());
    hasher.finalize()
}

/// Appends `record` to `out` in its form at `place`.
pub(super) fn put_record(record: &Record, place: Place, out: &mut Vec<u8>) -> Header {
    match record {
        Record::Message(message) => put_message(message, place, out),
        Record::Outcome(outcome) => put_outcome(outcome, place, out),
        Record::Hold(id) => put_bare(Kind::Hold, *id, place, out),
        Record::Release(id) => put_bare(Kind::Release, *id, place, out),
        Record::Done(id) => put_bare(Kind::Done, *id, place, out),
    }
}

fn put_message(message: &MessageRecord, place: Place, out: &mut Vec<u8>) -> Header {
    let start = out.len();
    out.resize(start.saturating_add(HEADER_BYTES), 0);
    codec::put_envelope(&message.envelope, out);
    let envelope = payload(out, start);
    let mut header = Header {
        kind: Kind::Message,
        body_in_file: false,
        id: message.id,
        envelope_len: len(envelope),
        fields_len: len(&message.fields),
        body_len: 0,
        envelope_crc: crc32fast::hash(envelope),
        fields_crc: crc32fast::hash(&message.fields),
        body_crc: 0,
    };
    out.extend_from_slice(&message.fields);
    match &message.body {
        MessageBody::Inline(bytes) => {
            header.body_len = bytes.len() as u64;
            header.body_crc = crc32fast::hash(bytes);
            out.extend_from_slice(bytes);
        }
        MessageBody::File { len, crc32 } => {
            header.body_in_file = true;
            header.body_len = *len;
            header.body_crc = *crc32;
        }
    }
    put_header(&header, place, start, out);
    header
}

pub(super) fn put_outcome(outcome: &OutcomeRecord, place: Place, out: &mut Vec<u8>) -> Header {
    let start = out.len();
    out.resize(start.saturating_add(HEADER_BYTES), 0);
    codec::put_outcome(outcome, out);
    close(Kind::Outcome, outcome.id, place, start, out)
}

pub(super) fn put_bare(kind: Kind, id: QueueId, place: Place, out: &mut Vec<u8>) -> Header {
    let start = out.len();
    out.resize(start.saturating_add(HEADER_BYTES), 0);
    close(kind, id, place, start, out)
}

/// Appends a verified record, read from elsewhere, in its form at `place`.
pub(super) fn put_copy(header: &Header, payload: &[u8], place: Place, out: &mut Vec<u8>) {
    out.extend_from_slice(&header.encode(place));
    out.extend_from_slice(payload);
}

/// The record that segments before `first` were deleted on purpose; it is written before they are deleted.
pub(super) fn put_first(first: u32, highest: QueueId, place: Place, out: &mut Vec<u8>) -> Header {
    let start = out.len();
    out.resize(start.saturating_add(HEADER_BYTES), 0);
    put_u32(first, out);
    close(Kind::First, highest, place, start, out)
}

pub(super) fn first(envelope: &[u8]) -> Option<u32> {
    Input(envelope).u32()
}

/// The first record of a segment: how much of the previous segment is valid, and the highest id so far. Its fields,
/// which 0.1.0 did not write, name the oldest segment.
pub(super) fn put_seal(seal: &Seal, highest: QueueId, segment: u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start.saturating_add(HEADER_BYTES), 0);
    put_u32(seal.segment, out);
    put_u64(seal.len, out);
    for hole in &seal.holes {
        put_u32(*hole, out);
    }
    let place = Place { segment, offset: 0 };
    let mut header = close(Kind::Seal, highest, place, start, out);
    if let Some(first) = seal.first {
        let fields = first.to_le_bytes();
        header.fields_len = len(&fields);
        header.fields_crc = crc32fast::hash(&fields);
        out.extend_from_slice(&fields);
        put_header(&header, place, start, out);
    }
}

/// What a segment states about the previous one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Seal {
    /// The number of the previous segment; 0 if there is none.
    pub(super) segment: u32,
    /// Its valid bytes, or [`LEN_UNKNOWN`].
    pub(super) len: u64,
    /// Offsets of records among them that a crash interrupted: their envelopes may verify, but they do not count.
    pub(super) holes: Vec<u32>, // in order
    /// The oldest segment; earlier ones were deleted, and none from it on.
    pub(super) first: Option<u32>,
}

/// The previous segment was missing when this one was sealed: if it returns, it is read like a segment without a seal.
pub(super) const LEN_UNKNOWN: u64 = u64::MAX;

pub(super) fn seal(parts: &Parts<'_>) -> Option<Seal> {
    let mut input = Input(parts.envelope);
    let mut seal = Seal {
        segment: input.u32()?,
        len: input.u64()?,
        holes: Vec::new(),
        first: Input(parts.fields).u32(),
    };
    while let Some(hole) = input.u32() {
        seal.holes.push(hole);
    }
    seal.holes.sort_unstable();
    Some(seal)
}

fn close(kind: Kind, id: QueueId, place: Place, start: usize, out: &mut [u8]) -> Header {
    let envelope = payload(out, start);
    let header = Header {
        kind,
        body_in_file: false,
        id,
        envelope_len: len(envelope),
        fields_len: 0,
        body_len: 0,
        envelope_crc: crc32fast::hash(envelope),
        fields_crc: 0,
        body_crc: 0,
    };
    put_header(&header, place, start, out);
    header
}

fn put_header(header: &Header, place: Place, start: usize, out: &mut [u8]) {
    if let Some(slot) = out
        .get_mut(start..)
        .and_then(|rest| rest.first_chunk_mut::<HEADER_BYTES>())
    {
        *slot = header.encode(place);
    }
}

fn payload(out: &[u8], start: usize) -> &[u8] {
    out.get(start.saturating_add(HEADER_BYTES)..)
        .unwrap_or_default()
}

fn len(bytes: &[u8]) -> u32 {
    // A record that long is refused by the journal before it is written.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_small() {
        assert!(size_of::<Location>() <= 24);
    }

    #[test]
    fn a_record_verifies_only_where_it_was_written() {
        let place = Place {
            segment: 3,
            offset: 99,
        };
        let mut out = Vec::new();
        let header = put_bare(Kind::Done, QueueId::new(7), place, &mut out);
        assert_eq!(Header::decode(&out, place), Ok(header));
        let elsewhere = Place {
            offset: 98,
            ..place
        };
        assert_eq!(Header::decode(&out, elsewhere), Err(HeaderError::Damaged));
    }

    #[test]
    fn the_magic_cannot_stand_in_a_message() {
        assert!(MAGIC.contains(&0) && MAGIC.windows(2).all(|pair| pair != b"\r\n"));
    }
}
