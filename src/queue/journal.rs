//! The journal: records in, durable records out, many to one fdatasync.
//!
//! [`Journal::execute`] appends all records of a batch, syncs once, and only then completes them. Each segment begins
//! with a seal: the number of the segment before it and how much of that one counts. The seal is what makes failure
//! safe (I5). After a failed write or sync the batch is refused, the segment is left for good, and the next segment's
//! seal says that it ended before the batch; so a record whose client heard 451 is not delivered after a restart,
//! whether its bytes reached the disk or not. What earlier syncs made durable in that segment stays valid. A write
//! that only found no space is cut off again instead, and the segment goes on, for no sync of it has failed.
//! One hole is left, and cannot be closed: a disk that takes neither the batch nor the seal may keep the former. The
//! seal is tried again with each batch, and after [`JOURNAL_FAILURES_MAX`] failures in a row nothing is taken.
//!
//! Segments form a chain: each names its predecessor, `journal/tip` names the newest, and the oldest is known from the
//! newest seal and from a record that is durable before a segment is deleted. So a start notices every segment that is
//! missing. While one is, nothing is deleted.
//!
//! After each commit the segment is looked for under its name, once: in a folder that was removed or replaced a record is
//! durable for nobody.
//!
//! Segments are deleted from the oldest upward, the folder synced after each, so that no outcome goes before the
//! message that it is about. An oldest segment that keeps the rest is copied forward: the journal asks for it by
//! [`Completion::Crowded`], and says [`Completion::Retirable`] when nothing in it is alive. The last segment always
//! stays; its seal remembers the highest id.
//!
//! Invariant: `Committed` is said only of records that a successful sync covers, in a file whose name is synced.

mod bodies;
mod command;
mod segments;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::limits::{
    ENVELOPE_RECIPIENTS_MAX, JOURNAL_FAILURES_MAX, SEGMENT_BYTES, SEGMENT_NUMBER_MAX,
    SEGMENT_TRIES_MAX,
};
use crate::queue_id::QueueId;

use super::disk::{Disk, DiskError, SpoolFile, SpoolFolder};
use super::frame::{
    self, HEADER_BYTES, Header, Kind, LEN_UNKNOWN, Location, Place, Seal, TipNote, put_copy,
    put_outcome, put_record, put_seal, put_tip,
};
use super::reader::read_record;
use super::record::{Body, OutcomeRecord, Record};
use super::recovery::{OpenError, OpenReport, Recovered, put_told, recover};
use bodies::{OpenBody, Space};
use segments::{Live, Retirement, Segment, Standing};

pub use command::{Command, Completion, JournalError, Ticket};

/// The journal of one spool.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    segment_bytes: u64,
    current: Option<Current>,
    seal: Seal, // of the segment before the next one, while there is no current one
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    live: HashMap<QueueId, Live>,
    segments: BTreeMap<u32, Segment>,
    bodies: HashMap<QueueId, OpenBody>,
    highest: QueueId,
    failures: u32,
    displaced: bool,
    space: Space,
    first: u32,           // the oldest segment that counts
    top: u32,             // no segment of the chain has a higher number
    gap: bool,            // segments are missing: nothing is deleted
    bodies_removed: bool, // and the folder not synced since
    tip: Tip,
    ids: QueueId, // no message gets a higher id before the tip says so
    told: BTreeSet<Box<str>>,
}

/// Whether `journal/tip` may be written to as it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tip {
    Usable,
    /// It is not there, or a sync of it failed: it is made anew.
    Unusable,
}

/// The segment that is written.
#[derive(Clone, Copy, Debug)]
struct Current {
    number: u32,
    committed: u64,
}

/// A command whose records are in the buffer.
#[derive(Debug)]
struct Pending {
    ticket: Option<Ticket>, // none: nobody asked
    id: QueueId,
    effect: Effect,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    Accept(Location),
    Move(Location),
    Hold,
    Release,
    Done,
    First(u32),
    None,
}

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
        // The chain goes through what is missing, so that the next start misses it, too.
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
            first: found.first,
            top: found.top,
            gap: !report.missing.is_empty(),
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
            let standing = if held { Standing::Held } else { Standing::Free };
            journal.enter(id, Live { location, standing });
        }
        Ok((journal, report))
    }

    /// Does all commands, makes what they wrote durable together, and says what became of them.
    pub fn execute(&mut self, commands: Vec<Command>) -> Vec<Completion> {
        let mut out = Vec::with_capacity(commands.len().saturating_add(1));
        self.measure(&mut out);
        for command in commands {
            self.on_command(command, &mut out);
        }
        self.commit(&mut out);
        self.tend(&mut out);
        out
    }

    /// Gives back the room that the current segment has not used; the next start has less to look through.
    pub fn close(mut self) {
        if let Some(current) = self.current {
            let file = SpoolFile::Segment(current.number);
            let _ = self.disk.truncate(file, current.committed);
        }
    }

    /// Whether the disk has failed so often that nothing is taken any more.
    pub fn is_broken(&self) -> bool {
        self.displaced || self.failures >= JOURNAL_FAILURES_MAX
    }

    /// What is said of a journal that takes nothing any more.
    fn brokenness(&self) -> Result<(), JournalError> {
        match self.displaced {
            true => Err(JournalError::Displaced),
            false if self.is_broken() => Err(JournalError::Broken),
            false => Ok(()),
        }
    }

    /// Messages that are still owed.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    fn on_command(&mut self, command: Command, out: &mut Vec<Completion>) {
        match command {
            Command::Append { ticket, record } => {
                let id = record.id();
                let is_message = matches!(record, Record::Message(_));
                if let Err(error) = self.append(ticket, record, out) {
                    // Its sender hears that it is not taken: what was streamed of it takes up no room.
                    if is_message {
                        self.body_discard(id);
                    }
                    out.push(Completion::Failed { ticket, error });
                }
            }
            Command::BodyAppend { id, bytes } => out.push(match self.body_append(id, &bytes) {
                Ok(()) => Completion::BodyWritten {
                    id,
                    bytes: bytes.len(),
                },
                Err(error) => Completion::BodyFailed { id, error },
            }),
            Command::BodyDiscard { id } => self.body_discard(id),
            Command::CopyForward {
                ticket,
                id,
                progress,
            } => {
                if let Err(error) = self.copy_forward(ticket, id, &progress, out) {
                    self.on_copy_failed(id, error);
                    out.push(Completion::Failed { ticket, error });
                }
            }
            Command::Told { names } => self.tell(names),
            Command::Retire { segment } => {
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
        out: &mut Vec<Completion>,
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
            if let Body::File { len, crc32 } = &mut message.body {
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
        out: &mut Vec<Completion>,
    ) -> Result<(), JournalError> {
        self.brokenness()?;
        // A copy behind a done record would bring the message back to life.
        let ended = |pending: &Pending| pending.id == id && pending.effect == Effect::Done;
        if self.pending.iter().any(ended) || progress.id != id {
            return Err(JournalError::NotFound);
        }
        // A hold that is not committed yet has to be known before the copy repeats it.
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
            if live.standing == Standing::Held {
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

    /// Lets `write` append to the buffer; starts a new segment where this one has no room for it.
    fn put(
        &mut self,
        out: &mut Vec<Completion>,
        write: &dyn Fn(Place, &mut Vec<u8>) -> Header,
    ) -> Result<(Header, Place), JournalError> {
        for _ in 0..2 {
            let current = match self.current {
                Some(current) => current,
                None => self.roll()?,
            };
            let start = self.buffer.len();
            let at = current.committed.saturating_add(start as u64);
            let place = Place {
                segment: current.number,
                offset: u32::try_from(at).map_err(|_| JournalError::TooLarge)?,
            };
            let header = write(place, &mut self.buffer);
            let end = current.committed.saturating_add(self.buffer.len() as u64);
            if end <= self.segment_bytes {
                return Ok((header, place));
            }
            self.buffer.truncate(start);
            let len = end.saturating_sub(at);
            if len > self.segment_bytes.saturating_sub(SEAL_ROOM_BYTES) {
                return Err(JournalError::TooLarge);
            }
            self.commit(out);
            // A commit that failed may have left it already.
            if self
                .current
                .is_some_and(|after| after.number == current.number)
            {
                self.leave();
            }
        }
        // Only a seal full of holes leaves so little room.
        Err(JournalError::TooLarge)
    }

    /// Writes the buffer, syncs, and completes what it holds.
    fn commit(&mut self, out: &mut Vec<Completion>) {
        let Some(current) = self.current.filter(|_| !self.pending.is_empty()) else {
            return;
        };
        let file = SpoolFile::Segment(current.number);
        let outcome = match self.disk.write_at(file, current.committed, &self.buffer) {
            Ok(()) => match self.disk.sync_data(file) {
                Ok(()) => self
                    .disk
                    .check_place(file)
                    .inspect_err(|error| match error {
                        DiskError::Displaced => self.on_displaced(),
                        // Whether it is where it should be cannot be told: this batch is refused, as after a failed sync.
                        _ => self.abandon(),
                    }),
                Err(error) => {
                    self.abandon();
                    Err(error)
                }
            },
            Err(error) => {
                self.undo(error);
                Err(error)
            }
        };
        let written = self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        let pending = std::mem::take(&mut self.pending);
        match outcome {
            Ok(()) => {
                let committed = current.committed.saturating_add(written);
                self.current = Some(Current {
                    committed,
                    ..current
                });
                self.segment(current.number).len = committed;
                self.failures = 0;
                out.extend(
                    pending
                        .into_iter()
                        .filter_map(|pending| self.apply(pending)),
                );
            }
            Err(error) => {
                // The refusal is told only after the seal that makes it true, where the disk takes one.
                if self.current.is_none() {
                    let _ = self.roll();
                }
                let error = error.into();
                out.extend(pending.into_iter().filter_map(|pending| {
                    self.on_refused(&pending, error);
                    let ticket = pending.ticket?;
                    Some(Completion::Failed { ticket, error })
                }));
            }
        }
    }

    fn on_refused(&mut self, pending: &Pending, error: JournalError) {
        match pending.effect {
            Effect::Accept(location) if location.body_is_file() => {
                self.remove_body(pending.id);
            }
            Effect::Move(_) => self.on_copy_failed(pending.id, error),
            _ => {}
        }
    }

    /// After a write that failed: cut it off where that is proven to work, else leave the segment.
    fn undo(&mut self, error: DiskError) {
        let Some(current) = self.current else {
            return;
        };
        let file = SpoolFile::Segment(current.number);
        let undone = error == DiskError::NoSpace
            && self.disk.truncate(file, current.committed).is_ok()
            && self.disk.sync_data(file).is_ok();
        if !undone {
            self.abandon();
        }
    }

    /// What was written is durable where nobody will look for it. It is cut off there, lest it come back with the folder,
    /// and nothing is taken until a start has decided which folder counts.
    fn on_displaced(&mut self) {
        if let Some(current) = self.current {
            let file = SpoolFile::Segment(current.number);
            let cut = self.disk.truncate(file, current.committed);
            let _ = cut.and_then(|()| self.disk.sync_data(file));
        }
        self.displaced = true;
        self.leave();
    }

    /// Remembers of which damage `admin` has been told. Where this fails it is told again at the next start.
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

    fn abandon(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.leave();
    }

    /// Ends the current segment at its last commit; the next segment's seal will say so.
    fn leave(&mut self) {
        if let Some(current) = self.current.take() {
            self.seal = Seal {
                segment: current.number,
                len: current.committed,
                holes: Vec::new(),
                first: None,
            };
        }
    }

    /// Starts the next segment: its seal and its name are durable before anything else is written to it. Something that
    /// has its name already is left alone, and the next number is taken: the seal says which segment comes before.
    fn roll(&mut self) -> Result<Current, JournalError> {
        self.brokenness()?;
        let mut number = self.top.max(self.seal.segment);
        let made = loop {
            number = number.saturating_add(1);
            if number > SEGMENT_NUMBER_MAX {
                return Err(JournalError::Broken);
            }
            match self.disk.create(SpoolFile::Segment(number)) {
                Err(DiskError::Exists) if number < self.top.saturating_add(SEGMENT_TRIES_MAX) => {}
                made => break made,
            }
        };
        let started = made.and_then(|()| {
            self.start_segment(number).inspect_err(|_| {
                let _ = self.disk.remove(SpoolFile::Segment(number));
            })
        });
        match started {
            Ok(committed) => {
                // What is past the seal is dead: the room goes back, and a failed batch is gone for good.
                let before = self.segments.get(&self.seal.segment);
                if before.is_some_and(|before| !before.kept) {
                    let before = SpoolFile::Segment(self.seal.segment);
                    let _ = self.disk.truncate(before, self.seal.len);
                }
                let current = Current { number, committed };
                self.top = number;
                self.segment(number).len = committed;
                self.current = Some(current);
                self.write_tip(number);
                Ok(current)
            }
            Err(error) => {
                if error != DiskError::NoSpace {
                    self.failures = self.failures.saturating_add(1);
                }
                Err(error.into())
            }
        }
    }

    fn start_segment(&mut self, number: u32) -> Result<u64, DiskError> {
        let file = SpoolFile::Segment(number);
        self.disk.preallocate(file, self.segment_bytes)?;
        let mut bytes = Vec::with_capacity(SEAL_ROOM_BYTES as usize);
        let seal = Seal {
            first: Some(self.first),
            ..self.seal.clone()
        };
        put_seal(&seal, self.highest, number, &mut bytes);
        self.disk.write_at(file, 0, &bytes)?;
        self.disk.sync_data(file)?;
        self.disk.sync_folder(SpoolFolder::Journal)?;
        Ok(bytes.len() as u64)
    }

    /// Notes which segment is the newest and how far ids may come in it, before anything in it is promised. A disk that
    /// does not take the note costs the notice of a loss, not a message: it is made again with the next segment.
    fn write_tip(&mut self, number: u32) {
        self.ids = QueueId::new(self.highest.number().saturating_add(IDS_NOTED_AHEAD));
        let note = put_tip(TipNote {
            newest: number,
            ids: self.ids,
        });
        let written = match self.tip {
            Tip::Usable => self
                .disk
                .write_at(SpoolFile::Tip, 0, &note)
                .and_then(|()| self.disk.sync_data(SpoolFile::Tip)),
            Tip::Unusable => self.make_tip(&note),
        };
        self.tip = match written {
            Ok(()) => Tip::Usable,
            Err(_) => {
                // The next process must not trust it either.
                let _ = self.disk.remove(SpoolFile::Tip);
                Tip::Unusable
            }
        };
    }

    /// The note gets its name once it is whole: a power cut leaves none, never half of one that looks like damage.
    fn make_tip(&mut self, note: &[u8]) -> Result<(), DiskError> {
        let draft = SpoolFile::TipDraft;
        let _ = self.disk.remove(draft);
        self.disk.create(draft)?;
        self.disk
            .write_at(draft, 0, note)
            .and_then(|()| self.disk.sync_data(draft))
            .and_then(|()| self.disk.rename(draft, SpoolFile::Tip))
            .and_then(|()| self.disk.sync_folder(SpoolFolder::Journal))
            .inspect_err(|_| {
                let _ = self.disk.remove(draft);
            })
    }
}

/// The place of what comes next in the buffer, when `place` is that of the byte at `start`.
fn behind(place: Place, buffer: &[u8], start: usize) -> Place {
    let written = u32::try_from(buffer.len().saturating_sub(start)).unwrap_or(u32::MAX);
    Place {
        offset: place.offset.saturating_add(written),
        ..place
    }
}

const SEAL_ROOM_BYTES: u64 = HEADER_BYTES as u64 + 16;
/// So far the ids may go before the tip is written again: those of 18 hours, at 16 million a second.
const IDS_NOTED_AHEAD: u64 = 1 << 40;
const BUFFER_KEPT_BYTES: usize = 512 * 1_024;

#[cfg(test)]
mod tests;
