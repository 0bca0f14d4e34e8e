//! The journal's state between two commands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::disk::Disk;
use super::super::frame::{Location, Seal};
use super::command::{JournalError, Ticket};
use crate::limits::{JOURNAL_FAILURES_MAX, SPOOL_RESERVE_BYTES};
use crate::queue_id::QueueId;

/// The journal of one spool.
#[derive(Debug)]
pub struct Journal<D> {
    pub(super) disk: D,
    pub(super) segment_bytes: u64,
    pub(super) current: Option<Current>,
    pub(super) seal: Seal, // of the segment before the next one, while there is no current one
    pub(super) buffer: Vec<u8>,
    pub(super) pending: Vec<Pending>,
    pub(super) live: HashMap<QueueId, Live>,
    pub(super) segments: BTreeMap<u32, Segment>,
    pub(super) bodies: HashMap<QueueId, OpenBody>,
    pub(super) highest: QueueId,
    pub(super) failures: u32,
    pub(super) displaced: bool,
    pub(super) space: Space,
    pub(super) extent: Extent,
    pub(super) bodies_removed: bool, // and the folder not synced since
    pub(super) tip: Tip,
    pub(super) ids: QueueId, // no message gets a higher id before the tip says so
    pub(super) told: BTreeSet<Box<str>>,
}

/// The segments that count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// The oldest of them.
    pub(super) first: u32,
    /// None of them has a higher number.
    pub(super) top: u32,
    /// Whether some are missing: then nothing is deleted.
    pub(super) gap: bool,
}

impl<D: Disk> Journal<D> {
    /// Whether the disk failed so often that the journal accepts nothing any more.
    pub fn is_broken(&self) -> bool {
        self.displaced || self.failures >= JOURNAL_FAILURES_MAX
    }

    /// The error of a journal that accepts nothing any more.
    pub(super) fn brokenness(&self) -> Result<(), JournalError> {
        match self.displaced {
            true => Err(JournalError::Displaced),
            false if self.is_broken() => Err(JournalError::Broken),
            false => Ok(()),
        }
    }

    /// Queued messages.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no message is queued.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    /// Whether the counts agree with each other, as they do between two commands.
    pub(super) fn is_consistent(&self) -> bool {
        let segments = self.segments.values();
        let counted = segments.map(|segment| u64::from(segment.live)).sum::<u64>();
        let is_written = match self.current {
            Some(current) => {
                current.number == self.extent.top
                    && current.committed <= self.segment_bytes
                    && self.segments.contains_key(&current.number)
            }
            None => self.pending.is_empty() && self.buffer.is_empty(),
        };
        is_written
            && self.pending.is_empty() == self.buffer.is_empty()
            && counted == self.live.len() as u64
            && (self.live.len() > COUNTED_WHOLE_MAX || self.segments_are_counted())
    }

    /// Whether the live counts of the segments are correct and complete.
    fn segments_are_counted(&self) -> bool {
        let mut found: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        for live in self.live.values() {
            let (count, bytes) = found.entry(live.location.segment()).or_default();
            *count = count.saturating_add(1);
            *bytes = bytes.saturating_add(live.location.record_len());
        }
        let is_counted = |(number, segment): (&u32, &Segment)| {
            let found = found.get(number).copied().unwrap_or_default();
            found == (segment.live, segment.live_bytes)
        };
        self.segments.iter().all(is_counted)
            && found.keys().all(|number| *number >= self.extent.first)
    }

    /// The data of a segment.
    pub(super) fn segment(&mut self, number: u32) -> &mut Segment {
        self.segments.entry(number).or_default()
    }
}

/// Whether `journal/tip` may be overwritten in place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tip {
    Usable,
    /// The file is missing, or a sync of it failed: it must be created anew.
    Unusable,
}

/// The segment that is being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) number: u32,
    pub(super) committed: u64,
}

/// A command whose records are in the buffer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Option<Ticket>, // none: nobody asked
    pub(super) id: QueueId,
    pub(super) effect: Effect,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    Accept(Location),
    Move(Location),
    Hold,
    Release,
    Done,
    First(u32),
    None,
}

/// A large message that is being received.
#[derive(Debug)]
pub(super) struct OpenBody {
    pub(super) len: u64,
    pub(super) hasher: crc32fast::Hasher,
    pub(super) failed: Option<JournalError>,
}

/// The free space of the disk.
#[derive(Debug, Default)]
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) age: u32, // batches since it was read
    pub(super) known: bool,
    pub(super) told: Option<u64>,
}

impl Space {
    /// Whether there is no space for new mail.
    pub(super) fn is_short(&self) -> bool {
        self.known && self.free < SPOOL_RESERVE_BYTES
    }

    /// Whether the space may soon be too low for new mail.
    pub(super) fn is_near_short(&self) -> bool {
        self.free < SPOOL_RESERVE_BYTES.saturating_mul(4)
    }
}

/// A queued message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) location: Location,
    pub(super) standing: MessageState,
}

/// Whether delivery of a message is attempted, and whether it can be copied forward.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MessageState {
    Free,
    Held,
    /// It could not be copied forward: no copy is requested again.
    Unreadable,
}

/// The data of a segment.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) len: u64,
    pub(super) live: u32,
    pub(super) live_bytes: u64,
    pub(super) asked: bool,
    /// Damage in it could not be set aside piece by piece: the whole segment is set aside when it is retired.
    pub(super) kept: bool,
    pub(super) retirement: Retirement,
}

/// Whether readers must be told before a segment is deleted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Retirement {
    /// No message was moved out of it: no reader can use it once it has no live message.
    #[default]
    Silent,
    /// Messages were moved out: readers may still have the old location.
    Moved,
    Announced,
    Granted,
}

/// Up to this number, messages are counted one by one whenever the accounts are compared.
const COUNTED_WHOLE_MAX: usize = 256;
