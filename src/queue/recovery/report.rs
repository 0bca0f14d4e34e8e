//! What the daemon reports about the spool after a start.

use std::fmt;

use super::super::disk::{DiskError, SpoolFile, SpoolFolder};
use super::super::frame::Location;
use super::super::ids::IdSource;
use super::super::record::DeliveryResult;
use crate::date::Timestamp;
use crate::envelope::Envelope;
use crate::queue_id::QueueId;

/// A message that is still owed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recovered {
    pub id: QueueId,
    pub location: Location,
    pub envelope: Envelope,
    /// Bytes of the message as it came.
    pub body_len: u64,
    /// The last known delivery result of each recipient of the envelope.
    pub results: Vec<Option<DeliveryResult>>,
    /// Whether the operator holds it back.
    pub held: bool,
    /// Whether a delay DSN was sent.
    pub warned: bool,
    /// When the last outcome was recorded.
    pub last_outcome: Option<Timestamp>,
}

/// What a start found besides messages.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// Messages that are still owed.
    pub messages: usize,
    /// Segments of the journal.
    pub segments: usize,
    /// Tails that a crash left and that were cut.
    pub torn: Vec<Torn>,
    /// Data that recovery did not understand; at most [`DAMAGED_REGIONS_MAX`](crate::limits::DAMAGED_REGIONS_MAX)
    /// pieces.
    pub damage: Vec<Damage>,
    /// How many more there are; their segments are kept whole.
    pub more_damage: usize,
    /// Missing segments; at most [`SEGMENTS_MISSING_MAX`](crate::limits::SEGMENTS_MISSING_MAX). Until they are back, or
    /// an empty file in the place of each says that they are lost, nothing is deleted.
    pub missing: Vec<Missing>,
    /// Files with a segment's name that no segment of the chain refers to; they are left alone.
    pub strays: Vec<u32>,
    /// Whether the number of the newest segment is known, so that the loss of the last ones would be noticed.
    pub tip: TipState,
    /// Damage that was not reported to `admin` yet.
    pub untold: Vec<Aside>,
    /// Names that are not ours.
    pub foreign: Vec<(SpoolFolder, Box<str>)>,
    /// Files of large messages that were never acknowledged, or are done; they were removed.
    pub orphan_bodies: usize,
    /// The highest id of the spool.
    pub highest: Option<QueueId>,
}

impl OpenReport {
    /// Whether something is missing or cannot be read.
    pub(super) fn has_losses(&self) -> bool {
        !self.missing.is_empty()
            || !self.damage.is_empty()
            || !self.torn.is_empty()
            || self.tip == TipState::Damaged
    }

    /// A source of ids that the spool has not seen.
    pub fn ids(&self) -> IdSource {
        IdSource::above(self.highest.unwrap_or(QueueId::new(0)))
    }
}

/// A tail that a crash left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Torn {
    pub segment: u32,
    /// Where it was cut.
    pub offset: u32,
    /// Bytes that went.
    pub len: u64,
}

/// A segment that is not where it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Missing {
    /// Its number.
    pub segment: u32,
    /// Its present number, if it was found under another one.
    pub found_as: Option<u32>,
}

/// The knowledge about the newest segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TipState {
    /// Its number.
    Known(u32),
    /// There is no note: the spool is new, or of 0.1.0, or the note was lost.
    #[default]
    Absent,
    /// The note cannot be read.
    Damaged,
}

/// Something that the operator must know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aside {
    /// A part of a segment, in `damaged/`.
    Region {
        segment: u32,
        /// Its original offset.
        offset: u32,
        /// Bytes.
        len: u64,
        /// The message, if it can be read.
        id: Option<QueueId>,
    },
    /// A part of a segment that is not in `damaged/`: the disk does not have it, or did not take it.
    Lost {
        segment: u32,
        offset: u32,
        /// Bytes.
        len: u64,
        /// The message, if it can be read.
        id: Option<QueueId>,
    },
    /// The file of a large message, in `damaged/`.
    Body {
        id: QueueId,
        /// Bytes.
        len: u64,
    },
    /// A whole segment, in `damaged/`.
    Segment(u32),
    /// A segment that is missing.
    Missing(Missing),
}

impl Aside {
    /// The name of the file in `damaged/`; if there is none, a unique name.
    pub fn name(&self) -> Box<str> {
        match *self {
            Self::Region {
                segment, offset, ..
            } => SpoolFile::Damaged { segment, offset }.to_string(),
            Self::Lost {
                segment, offset, ..
            } => format!("{segment:08}-{offset:08}.lost"),
            Self::Body { id, .. } => SpoolFile::DamagedBody(id).to_string(),
            Self::Segment(number) => SpoolFile::DamagedSegment(number).to_string(),
            Self::Missing(Missing { segment, .. }) => format!("{segment:08}.missing"),
        }
        .into()
    }
}

/// Bytes that make no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The segment that contains them.
    pub segment: u32,
    pub offset: u32,
    pub len: u64,
    /// The message, if it can be read.
    pub id: Option<QueueId>,
    pub kind: DamageKind,
    /// Whether they are safe in `damaged/`; if not, the disk did not take them.
    pub kept: bool,
}

/// The damage of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DamageKind {
    /// No header can be read.
    Header,
    /// The header is valid, the rest is not.
    Payload,
    /// The record is whole, and its file is missing or of another length.
    BodyFile,
}

/// Why the journal could not be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenError {
    /// The disk failed.
    Disk(DiskError),
    /// A newer chopar wrote here.
    FutureVersion { segment: u32, version: u8 },
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(out, "the spool cannot be opened: {error}"),
            Self::FutureVersion { segment, version } => write!(
                out,
                "journal segment {segment} has format {version}, which this chopar does not know: run the newer one that wrote it until its queue is empty"
            ),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}
