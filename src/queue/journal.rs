//! The journal: takes records and makes them durable, many records per fdatasync.
//!
//! [`Journal::execute`] appends all records of a batch, syncs once, and only then completes them. Each segment begins
//! with a seal: the number of the previous segment, and how much of that segment is valid. The seal makes failures safe
//! (I5). After a failed write or sync, the journal refuses the batch and abandons the segment; the seal of the next
//! segment says that the abandoned one ended before the batch. A record whose client got 451 is therefore not delivered
//! after a restart, whether or not its bytes reached the disk. Records of that segment that earlier syncs made durable
//! stay valid. A write that failed only for lack of space is truncated instead, and the segment continues, because no
//! sync of it has failed. One gap remains and cannot be closed: a disk that accepts neither the batch nor the seal may
//! keep the batch. The journal retries the seal with each batch, and after [`JOURNAL_FAILURES_MAX`] consecutive
//! failures it accepts nothing.
//!
//! Segments form a chain: each names its predecessor, and `journal/tip` names the newest. The oldest is known from the
//! newest seal, and from a record that is durable before a segment is deleted. A start therefore notices every missing
//! segment. While one is missing, nothing is deleted.
//!
//! After each commit, the journal looks up the segment by its name once: a record in a folder that was removed or
//! replaced is not durable.
//!
//! Segments are deleted from the oldest upward, with a sync of the folder after each, so that no outcome is deleted
//! before the message that it belongs to. If the oldest segment keeps all others from being deleted, its live messages
//! are copied forward: the journal asks for that by [`JournalCompletion::Crowded`], and reports
//! [`JournalCompletion::Retirable`] when nothing in the segment is alive. The last segment always stays; its seal
//! records the highest id.
//!
//! Invariant: `Committed` is reported only for records that a successful sync covers, in a file whose name is synced.

mod bodies;
mod command;
mod commit;
mod owed;
mod segments;
mod state;

use std::collections::{BTreeMap, HashMap};

use super::disk::{Disk, DiskError, SpoolFile, SpoolFolder};
use super::frame::{
    self, Kind, LEN_UNKNOWN, Location, Place, Seal, put_copy, put_outcome, put_record,
};
use super::reader::read_record;
use super::record::{MessageBody, OutcomeRecord, Record};
use super::recovery::{OpenError, OpenReport, Recovered, put_told, recover};
use crate::limits::{ENVELOPE_RECIPIENTS_MAX, SEGMENT_BYTES};
use crate::queue_id::QueueId;
use state::{Effect, Extent, Live, MessageState, Pending, Retirement, Space, Tip};

pub use command::{JournalCommand, JournalCompletion, JournalError, Ticket};
pub use state::Journal;

impl<D: Disk> Journal<D> {
    /// Opens the spool, telling `sink` every message that is still owed, oldest record first.
    pub fn open(disk: D, sink: &mut dyn FnMut(Recovered)) -> Result<(Self, OpenReport), OpenError> {
        Self::open_sized(disk, SEGMENT_BYTES, sink)
    }

    /// [`Journal::open`] with segments of another size.
    pub fn open_sized(
        mut disk: D,
        segment_bytes: u64,
        sink: &mut dyn FnMut(Recovered),
    ) -> Result<(Self, OpenReport), OpenError> {
        let (found, report) = recover(&mut disk, sink)?;
        let (last, len) = found
            .segments
            .last_key_value()
            .map_or((0, 0), |(n, l)| (*n, *l));
        // The chain includes missing segments, so that the next start also finds them missing.
        let missing = report.missing.iter().map(|missing| missing.segment).max();
        let (last, len, holes) = match missing {
            Some(missing) if missing > last => (missing, LEN_UNKNOWN, Vec::new()),
            _ => (last, len, found.holes),
        };
        let mut journal = Self {
            disk,
            segment_bytes: segment_bytes.min(u64::from(u32::MAX)),
            current: None,
            seal: Seal {
                segment: last,
                len,
                holes,
                first: None,
            },
            buffer: Vec::new(),
            pending: Vec::new(),
            live: HashMap::with_capacity(found.live.len()),
            segments: BTreeMap::new(),
            bodies: HashMap::new(),
            highest: found.highest,
            failures: 0,
            displaced: false,
            space: Space::default(),
            extent: Extent {
                first: found.first,
                top: found.top,
                gap: !report.missing.is_empty(),
            },
            bodies_removed: true,
            tip: match found.tip {
                Some(_) => Tip::Usable,
                None => Tip::Unusable,
            },
            told: found.told,
            ids: QueueId::new(0),
        };
        for (number, len) in found.segments {
            let segment = journal.segment(number);
            segment.len = len;
            segment.kept = found.kept.contains(&number);
        }
        for (id, (location, held)) in found.live {
            let standing = if held {
                MessageState::Held
            } else {
                MessageState::Free
            };
            journal.enter(id, Live { location, standing });
        }
        debug_assert!(journal.is_consistent(), "what was recovered is counted");
        Ok((journal, report))
    }

    /// Executes all commands, makes their records durable together, and returns the completions.
    pub fn execute(&mut self, commands: Vec<JournalCommand>) -> Vec<JournalCompletion> {
        let mut out = Vec::with_capacity(commands.len().saturating_add(1));
        self.measure(&mut out);
        for command in commands {
            self.on_command(command, &mut out);
        }
        self.commit(&mut out);
        self.tend(&mut out);
        debug_assert!(self.is_consistent(), "the journal's accounts differ");
        out
    }

    /// Frees the unused space of the current segment, so that the next start has less to search.
    pub fn close(mut self) {
        if let Some(current) = self.current {
            let file = SpoolFile::Segment(current.number);
            let _ = self.disk.truncate(file, current.committed);
        }
    }

    fn on_command(&mut self, command: JournalCommand, out: &mut Vec<JournalCompletion>) {
        match command {
            JournalCommand::Append { ticket, record } => {
                let id = record.id();
                let is_message = matches!(record, Record::Message(_));
                if let Err(error) = self.append(ticket, record, out) {
                    // Its client is told that it is not accepted: its streamed part must not occupy space.
                    if is_message {
                        self.body_discard(id);
                    }
                    out.push(JournalCompletion::Failed { ticket, error });
                }
            }
            JournalCommand::BodyAppend { id, bytes } => {
                out.push(match self.body_append(id, &bytes) {
                    Ok(()) => JournalCompletion::BodyWritten {
                        id,
                        bytes: bytes.len(),
                    },
                    Err(error) => JournalCompletion::BodyFailed { id, error },
                })
            }
            JournalCommand::BodyDiscard { id } => self.body_discard(id),
            JournalCommand::CopyForward {
                ticket,
                id,
                progress,
            } => {
                if let Err(error) = self.copy_forward(ticket, id, &progress, out) {
                    self.on_copy_failed(id, error);
                    out.push(JournalCompletion::Failed { ticket, error });
                }
            }
            JournalCommand::Told { names } => self.tell(names),
            JournalCommand::Retire { segment } => {
                if let Some(segment) = self.segments.get_mut(&segment) {
                    segment.retirement = Retirement::Granted;
                }
            }
        }
    }

    fn append(
        &mut self,
        ticket: Ticket,
        mut record: Record,
        out: &mut Vec<JournalCompletion>,
    ) -> Result<(), JournalError> {
        self.brokenness()?;
        let id = record.id();
        if let Record::Message(message) = &mut record {
            if message.envelope.recipients.len() > ENVELOPE_RECIPIENTS_MAX {
                return Err(JournalError::TooLarge);
            }
            if self.space.is_short() {
                return Err(JournalError::NoSpace);
            }
            if let MessageBody::File { len, crc32 } = &mut message.body {
                *crc32 = self.body_seal(id, *len)?;
            }
        }
        self.highest = self.highest.max(id);
        let (header, place) = self.put(out, &|place, buffer| put_record(&record, place, buffer))?;
        if self.highest > self.ids {
            self.write_tip(place.segment);
        }
        let effect = match record {
            Record::Message(_) => Effect::Accept(Location::new(place, &header)),
            Record::Outcome(outcome) if outcome.done => Effect::Done,
            Record::Outcome(_) => Effect::None,
            Record::Hold(_) => Effect::Hold,
            Record::Release(_) => Effect::Release,
            Record::Done(_) => Effect::Done,
        };
        let ticket = Some(ticket);
        self.pending.push(Pending { ticket, id, effect });
        Ok(())
    }

    fn copy_forward(
        &mut self,
        ticket: Ticket,
        id: QueueId,
        progress: &OutcomeRecord,
        out: &mut Vec<JournalCompletion>,
    ) -> Result<(), JournalError> {
        self.brokenness()?;
        // A copy behind a done record would bring the message back to life.
        let ended = |pending: &Pending| pending.id == id && pending.effect == Effect::Done;
        if self.pending.iter().any(ended) || progress.id != id {
            return Err(JournalError::NotFound);
        }
        // A hold that is not committed yet must be known before the copy repeats it.
        if self.pending.iter().any(|pending| pending.id == id) {
            self.commit(out);
        }
        let live = *self.live.get(&id).ok_or(JournalError::NotFound)?;
        let (header, payload) = read_record(&mut self.disk, live.location, id)?;
        header.parts(&payload).ok_or(JournalError::Damaged)?;
        let (_, place) = self.put(out, &|place, buffer| {
            let start = buffer.len();
            put_copy(&header, &payload, place, buffer);
            put_outcome(progress, behind(place, buffer, start), buffer);
            if live.standing == MessageState::Held {
                frame::put_bare(Kind::Hold, id, behind(place, buffer, start), buffer);
            }
            header
        })?;
        let effect = if progress.done {
            Effect::Done
        } else {
            Effect::Move(Location::new(place, &header))
        };
        let ticket = Some(ticket);
        self.pending.push(Pending { ticket, id, effect });
        Ok(())
    }

    /// Records which damage was reported to `admin`. If this fails, it is reported again at the next start.
    fn tell(&mut self, names: Vec<Box<str>>) {
        self.told.extend(names);
        let bytes = put_told(&self.told);
        let file = SpoolFile::Told;
        let made = match self.disk.create(file) {
            Ok(()) | Err(DiskError::Exists) => Ok(()),
            Err(error) => Err(error),
        };
        let written = made
            .and_then(|()| self.disk.truncate(file, bytes.len() as u64))
            .and_then(|()| self.disk.write_at(file, 0, &bytes))
            .and_then(|()| self.disk.sync_data(file))
            .and_then(|()| self.disk.sync_folder(SpoolFolder::Damaged));
        if written.is_err() {
            let _ = self.disk.remove(file);
        }
    }
}

/// The place of the next record in the buffer, when `place` is that of the byte at `start`.
fn behind(place: Place, buffer: &[u8], start: usize) -> Place {
    let written = u32::try_from(buffer.len().saturating_sub(start)).unwrap_or(u32::MAX);
    Place {
        offset: place.offset.saturating_add(written),
        ..place
    }
}

#[cfg(test)]
mod tests;
