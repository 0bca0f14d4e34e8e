//! Reads a queued message back and verifies it before it is used.

use std::fmt;

use crate::envelope::Envelope;
use crate::queue_id::QueueId;

use super::codec;
use super::disk::{DiskError, DiskRead, SpoolFile};
use super::frame::{HEADER_BYTES, Header, Kind, Location};

/// Which part of a message is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The envelope and the fields that go in front of the message.
    Head,
    /// A complete message that has no file of its own, with its body verified against the checksum.
    Whole,
    /// A piece of the message as it was received; shorter than `len` only at its end. The answer has the checksum of
    /// the whole: a caller that reads all pieces in order compares it.
    Body {
        /// Offset of the piece.
        offset: u64,
        /// Bytes wanted.
        len: u32,
    },
}

/// The part of a message that was asked for, verified against its checksum.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadContent {
    /// Answers [`Part::Head`].
    Head {
        envelope: Envelope,
        /// Fields that go in front of the message.
        fields: Vec<u8>,
    },
    /// Answers [`Part::Whole`].
    Whole {
        envelope: Envelope,
        /// Fields that go in front of the message.
        fields: Vec<u8>,
        /// The message as it came.
        body: Vec<u8>,
    },
    /// Answers [`Part::Body`].
    Body {
        /// The piece.
        bytes: Vec<u8>,
        /// CRC-32 of the whole body.
        crc32: u32,
    },
}

/// Why a message could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadError {
    /// The disk failed.
    Disk(DiskError),
    /// The bytes there are not the message, or not as it was written.
    Damaged,
    /// [`Part::Whole`] of a message that has a file of its own.
    TooLarge,
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(out, "the message cannot be read: {error}"),
            Self::Damaged => out.write_str("the message is damaged on the disk"),
            Self::TooLarge => out.write_str("the message is read in pieces only"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Reads a part of message `id`, which the journal put at `location`.
pub fn read<D: DiskRead + ?Sized>(
    disk: &mut D,
    location: Location,
    id: QueueId,
    part: Part,
) -> Result<ReadContent, ReadError> {
    match part {
        Part::Head => {
            let (envelope, fields) = read_head(disk, location, id)?;
            Ok(ReadContent::Head { envelope, fields })
        }
        Part::Whole if location.body_is_file() => Err(ReadError::TooLarge),
        Part::Whole => {
            let (header, mut payload) = read_record(disk, location, id)?;
            let parts = header.parts(&payload).ok_or(ReadError::Damaged)?;
            let envelope = codec::envelope(parts.envelope).ok_or(ReadError::Damaged)?;
            let fields = parts.fields.to_vec();
            let head = parts.envelope.len().saturating_add(fields.len());
            payload.drain(..head.min(payload.len()));
            Ok(ReadContent::Whole {
                envelope,
                fields,
                body: payload,
            })
        }
        Part::Body { offset, len } => read_piece(disk, location, id, offset, len),
    }
}

/// The whole record with its header, as in its segment; the payload is not verified yet.
pub(super) fn read_record<D: DiskRead + ?Sized>(
    disk: &mut D,
    location: Location,
    id: QueueId,
) -> Result<(Header, Vec<u8>), ReadError> {
    let len = usize::try_from(location.record_len()).map_err(|_| ReadError::Damaged)?;
    let mut bytes = read_segment(disk, location, len)?;
    let header = verified(&bytes, location, id)?;
    bytes.drain(..HEADER_BYTES.min(bytes.len()));
    Ok((header, bytes))
}

fn read_head<D: DiskRead + ?Sized>(
    disk: &mut D,
    location: Location,
    id: QueueId,
) -> Result<(Envelope, Vec<u8>), ReadError> {
    let len = usize::try_from(location.head_len()).map_err(|_| ReadError::Damaged)?;
    let bytes = read_segment(disk, location, len)?;
    let header = verified(&bytes, location, id)?;
    let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let (envelope, fields) = payload
        .split_at_checked(header.envelope_len as usize)
        .ok_or(ReadError::Damaged)?;
    if crc32fast::hash(envelope) != header.envelope_crc
        || crc32fast::hash(fields) != header.fields_crc
    {
        return Err(ReadError::Damaged);
    }
    let envelope = codec::envelope(envelope).ok_or(ReadError::Damaged)?;
    Ok((envelope, fields.to_vec()))
}

fn read_piece<D: DiskRead + ?Sized>(
    disk: &mut D,
    location: Location,
    id: QueueId,
    offset: u64,
    len: u32,
) -> Result<ReadContent, ReadError> {
    let header = verified(&read_segment(disk, location, HEADER_BYTES)?, location, id)?;
    let left = header.body_len.saturating_sub(offset);
    let len = usize::try_from(left.min(u64::from(len))).map_err(|_| ReadError::Damaged)?;
    let mut bytes = vec![0; len];
    let (file, at) = if header.body_in_file {
        (SpoolFile::Body(id), offset)
    } else {
        let place = location.place();
        let start = u64::from(place.offset).saturating_add(location.head_len());
        (
            SpoolFile::Segment(place.segment),
            start.saturating_add(offset),
        )
    };
    if disk.read_at(file, at, &mut bytes)? != len {
        return Err(ReadError::Damaged);
    }
    Ok(ReadContent::Body {
        bytes,
        crc32: header.body_crc,
    })
}

/// Reads a piece of a large message that no record names yet, and that must be completely written. Its checksum is
/// unknown.
pub fn read_unfinished<D: DiskRead + ?Sized>(
    disk: &mut D,
    id: QueueId,
    offset: u64,
    len: u32,
) -> Result<ReadContent, ReadError> {
    let mut bytes = vec![0; len as usize];
    match disk.read_at(SpoolFile::Draft(id), offset, &mut bytes)? {
        read if read == bytes.len() => Ok(ReadContent::Body { bytes, crc32: 0 }),
        _ => Err(ReadError::Damaged),
    }
}

fn read_segment<D: DiskRead + ?Sized>(
    disk: &mut D,
    location: Location,
    len: usize,
) -> Result<Vec<u8>, ReadError> {
    let place = location.place();
    let mut bytes = vec![0; len];
    let file = SpoolFile::Segment(place.segment);
    if disk.read_at(file, u64::from(place.offset), &mut bytes)? != len {
        return Err(ReadError::Damaged);
    }
    Ok(bytes)
}

/// The header at the front of `bytes`, if it is that of message `id` at `location`.
fn verified(bytes: &[u8], location: Location, id: QueueId) -> Result<Header, ReadError> {
    let header = Header::decode(bytes, location.place()).map_err(|_| ReadError::Damaged)?;
    let same = header.kind == Kind::Message
        && header.id == id
        && Location::new(location.place(), &header) == location;
    same.then_some(header).ok_or(ReadError::Damaged)
}
