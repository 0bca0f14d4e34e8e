//! The journal: records in, durable records out, many to one fdatasync.
//!
//! [`Journal::execute`] appends all records of a batch, syncs once, and only then completes them. Each segment begins
//! with a seal: the number of the segment before it and how much of that one counts. The seal is what makes failure
//! safe (I5). After a failed write or sync the batch is refused, the segment is left for good, and the next segment's
//! seal says that it ended before the batch; so a record whose client heard 451 is not delivered after a restart,
//! whether its bytes reached the disk or not. What earlier syncs made durable in that segment stays valid. A write
//! that only found no space is cut off again instead, and the segment goes on, for no sync of it has failed.
//! One gap is left, and cannot be closed: a disk that takes neither the batch nor the seal may keep the former. The
//! seal is tried again with each batch, and after [`JOURNAL_FAILURES_MAX`] failures in a row nothing is taken.
//!
//! Segments are deleted from the oldest upward, the folder synced after each, so that no outcome goes before the
//! message that it is about. An oldest segment that keeps the rest is copied forward: the journal asks for it by
//! [`Completion::Crowded`], and says [`Completion::Retirable`] when nothing in it is alive. The last segment always
//! stays; its seal remembers the highest id.
//!
//! Invariant: `Committed` is said only of records that a successful sync covers, in a file whose name is synced.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::limits::{JOURNAL_FAILURES_MAX, SEGMENT_BYTES, SPOOL_RESERVE_BYTES};
use crate::queue_id::QueueId;

use super::disk::{Disk, DiskError, SpoolFile, SpoolFolder};
use super::frame::{
    self, HEADER_BYTES, Header, Kind, Location, Place, Seal, put_copy, put_outcome, put_record,
    put_seal,
};
use super::reader::{ReadError, read_record};
use super::record::{Body, OutcomeRecord, Record};
use super::recovery::{OpenError, OpenReport, Recovered, recover};

/// Names a command in its completion.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// What the journal is asked to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Write a record. Answered by [`Completion::Committed`] or [`Completion::Failed`].
    Append {
        /// Named in the answer.
        ticket: Ticket,
        /// The record.
        record: Record,
    },
    /// Write the next piece of a large message. Answered by [`Completion::BodyWritten`] or [`Completion::BodyFailed`];
    /// it is durable only with the message record that names it.
    BodyAppend {
        /// The message that it will be.
        id: QueueId,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// Forget a large message that will not be. Not answered.
    BodyDiscard {
        /// The message that it would have been.
        id: QueueId,
    },
    /// Write a message again, at the end, with all that became of it. Answered as `Append` is.
    CopyForward {
        /// Named in the answer.
        ticket: Ticket,
        /// The message.
        id: QueueId,
        /// Everything that is known of its recipients.
        progress: OutcomeRecord,
    },
    /// Nobody reads from this segment any more. Not answered.
    Retire {
        /// The segment.
        segment: u32,
    },
}

/// What became of commands, and what the journal asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Completion {
    /// The record is durable.
    Committed {
        /// Of the command.
        ticket: Ticket,
        /// Where the message record is, if it was one.
        location: Option<Location>,
    },
    /// The record is not written, and will not be.
    Failed {
        /// Of the command.
        ticket: Ticket,
        /// Why.
        error: JournalError,
    },
    /// The piece was written.
    BodyWritten {
        /// The message.
        id: QueueId,
        /// Bytes of the piece.
        bytes: usize,
    },
    /// The piece was not written; the message cannot be completed any more.
    BodyFailed {
        /// The message.
        id: QueueId,
        /// Why.
        error: JournalError,
    },
    /// These few keep an old segment alive: copy them forward.
    Crowded {
        /// The messages.
        messages: Vec<QueueId>,
    },
    /// Nothing in the segment is alive; say [`Command::Retire`] once nobody reads from it.
    Retirable {
        /// The segment.
        segment: u32,
    },
    /// Bytes that are free on the disk; said when it is first known and when mail starts or ceases to be refused.
    Space {
        /// The bytes.
        free: u64,
    },
}

/// Why the journal refused something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JournalError {
    /// The disk is full, or keeps what is left for outcomes.
    NoSpace,
    /// The disk does not let us write.
    ReadOnly,
    /// The disk failed.
    Io,
    /// The disk failed too often; the journal takes nothing until it is opened again.
    Broken,
    /// The record is larger than a segment.
    TooLarge,
    /// The message's file was not written, or not to this length.
    NoBody,
    /// The message to be copied is not alive.
    NotFound,
    /// The message to be copied cannot be read.
    Damaged,
}

impl fmt::Display for JournalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoSpace => "the spool has no space left",
            Self::ReadOnly => "the spool is read-only",
            Self::Io => "the disk of the spool reports an error",
            Self::Broken => "the disk of the spool has failed too often: mend it and restart",
            Self::TooLarge => "the message is too large for the journal",
            Self::NoBody => "the message's own file is not complete",
            Self::NotFound => "the message is not in the queue",
            Self::Damaged => "the message is damaged on the disk",
        })
    }
}

impl std::error::Error for JournalError {}

impl From<DiskError> for JournalError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::NoSpace => Self::NoSpace,
            DiskError::ReadOnly => Self::ReadOnly,
            _ => Self::Io,
        }
    }
}

impl From<ReadError> for JournalError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Disk(error) => error.into(),
            ReadError::Damaged | ReadError::TooLarge => Self::Damaged,
        }
    }
}

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
    space: Space,
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
    ticket: Ticket,
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
    None,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    location: Location,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Free,
    Held,
    /// It could not be copied forward: it is not asked for again.
    Unreadable,
}

#[derive(Debug, Default)]
struct Segment {
    len: u64,
    live: u32,
    live_bytes: u64,
    asked: bool,
    retirement: Retirement,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Retirement {
    /// No message was moved out of it: nobody can be reading from it once it is empty.
    #[default]
    Silent,
    /// Messages were moved out: readers may not know yet.
    Moved,
    Announced,
    Granted,
}

/// A large message on its way.
#[derive(Debug)]
struct OpenBody {
    len: u64,
    hasher: crc32fast::Hasher,
    failed: Option<JournalError>,
}

#[derive(Debug, Default)]
struct Space {
    free: u64,
    age: u32, // batches since it was read
    known: bool,
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
        let mut journal = Self {
            disk,
            segment_bytes: segment_bytes.min(u64::from(u32::MAX)),
            current: None,
            seal: Seal {
                segment: last,
                len,
                holes: found.holes,
            },
            buffer: Vec::new(),
            pending: Vec::new(),
            live: HashMap::with_capacity(found.live.len()),
            segments: BTreeMap::new(),
            bodies: HashMap::new(),
            highest: found.highest,
            failures: 0,
            space: Space::default(),
        };
        for (number, len) in found.segments {
            journal.segment(number).len = len;
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
        self.failures >= JOURNAL_FAILURES_MAX
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
                if let Err(error) = self.append(ticket, record, out) {
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
            Command::Retire { segment } => {
                if let Some(segment) = self.segments.get_mut(&segment) {
                    segment.retirement = Retirement::Granted;
                }
            }
        }
    }

    // Records.

    fn append(
        &mut self,
        ticket: Ticket,
        mut record: Record,
        out: &mut Vec<Completion>,
    ) -> Result<(), JournalError> {
        if self.is_broken() {
            return Err(JournalError::Broken);
        }
        let id = record.id();
        if let Record::Message(message) = &mut record {
            if self.space.known && self.space.free < SPOOL_RESERVE_BYTES {
                return Err(JournalError::NoSpace);
            }
            if let Body::File { len, crc32 } = &mut message.body {
                *crc32 = self.body_seal(id, *len)?;
            }
        }
        let (header, place) = self.put(out, &|place, buffer| put_record(&record, place, buffer))?;
        let effect = match record {
            Record::Message(_) => Effect::Accept(Location::new(place, &header)),
            Record::Outcome(outcome) if outcome.done => Effect::Done,
            Record::Outcome(_) => Effect::None,
            Record::Hold(_) => Effect::Hold,
            Record::Release(_) => Effect::Release,
            Record::Done(_) => Effect::Done,
        };
        self.highest = self.highest.max(id);
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
        if self.is_broken() {
            return Err(JournalError::Broken);
        }
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
        self.pending.push(Pending { ticket, id, effect });
        Ok(())
    }

    fn on_copy_failed(&mut self, id: QueueId, error: JournalError) {
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        if matches!(error, JournalError::Damaged | JournalError::TooLarge) {
            live.standing = Standing::Unreadable;
        } else if let Some(segment) = self.segments.get_mut(&live.location.segment()) {
            segment.asked = false;
        }
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
            Ok(()) => self.disk.sync_data(file).inspect_err(|_| self.abandon()),
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
                out.extend(pending.into_iter().map(|pending| self.apply(pending)));
            }
            Err(error) => {
                // The refusal is told only after the seal that makes it true, where the disk takes one.
                if self.current.is_none() {
                    let _ = self.roll();
                }
                let error = error.into();
                out.extend(pending.into_iter().map(|pending| {
                    self.on_refused(&pending, error);
                    Completion::Failed {
                        ticket: pending.ticket,
                        error,
                    }
                }));
            }
        }
    }

    fn on_refused(&mut self, pending: &Pending, error: JournalError) {
        match pending.effect {
            Effect::Accept(location) if location.body_is_file() => {
                let _ = self.disk.remove(SpoolFile::Body(pending.id));
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
            };
        }
    }

    /// Starts the next segment: its seal and its name are durable before anything else is written to it.
    fn roll(&mut self) -> Result<Current, JournalError> {
        if self.is_broken() {
            return Err(JournalError::Broken);
        }
        let last = self
            .segments
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        let number = last
            .max(self.seal.segment)
            .checked_add(1)
            .ok_or(JournalError::Broken)?;
        match self.start_segment(number) {
            Ok(committed) => {
                // What is past the seal is dead: the room goes back, and a failed batch is gone for good.
                let before = SpoolFile::Segment(self.seal.segment);
                let _ = self.disk.truncate(before, self.seal.len);
                let current = Current { number, committed };
                self.segment(number).len = committed;
                self.current = Some(current);
                Ok(current)
            }
            Err(error) => {
                let _ = self.disk.remove(SpoolFile::Segment(number));
                if error != DiskError::NoSpace {
                    self.failures = self.failures.saturating_add(1);
                }
                Err(error.into())
            }
        }
    }

    fn start_segment(&mut self, number: u32) -> Result<u64, DiskError> {
        let file = SpoolFile::Segment(number);
        match self.disk.create(file) {
            // Left by a try that failed, and could not be removed: nothing in it was ever promised.
            Err(DiskError::Exists) => {
                self.disk.remove(file)?;
                self.disk.create(file)?;
            }
            outcome => outcome?,
        }
        self.disk.preallocate(file, self.segment_bytes)?;
        let mut bytes = Vec::with_capacity(SEAL_ROOM_BYTES as usize);
        put_seal(&self.seal, self.highest, number, &mut bytes);
        self.disk.write_at(file, 0, &bytes)?;
        self.disk.sync_data(file)?;
        self.disk.sync_folder(SpoolFolder::Journal)?;
        Ok(bytes.len() as u64)
    }

    // What is alive.

    fn apply(&mut self, pending: Pending) -> Completion {
        let id = pending.id;
        let mut location = None;
        match pending.effect {
            Effect::Accept(at) => {
                location = Some(at);
                let standing = Standing::Free;
                self.enter(
                    id,
                    Live {
                        location: at,
                        standing,
                    },
                );
            }
            Effect::Move(at) => {
                location = Some(at);
                if let Some(live) = self.live.get(&id).copied() {
                    self.segment(live.location.segment()).retirement = Retirement::Moved;
                    self.enter(
                        id,
                        Live {
                            location: at,
                            ..live
                        },
                    );
                }
            }
            Effect::Hold => self.set_standing(id, Standing::Held),
            Effect::Release => self.set_standing(id, Standing::Free),
            Effect::Done => self.forget(id),
            Effect::None => {}
        }
        Completion::Committed {
            ticket: pending.ticket,
            location,
        }
    }

    fn set_standing(&mut self, id: QueueId, standing: Standing) {
        if let Some(live) = self.live.get_mut(&id) {
            live.standing = standing;
        }
    }

    fn enter(&mut self, id: QueueId, live: Live) {
        let segment = self.segment(live.location.segment());
        segment.live = segment.live.saturating_add(1);
        segment.live_bytes = segment
            .live_bytes
            .saturating_add(live.location.record_len());
        if let Some(before) = self.live.insert(id, live) {
            self.leave_segment(before.location);
        }
    }

    fn forget(&mut self, id: QueueId) {
        if let Some(live) = self.live.remove(&id) {
            self.leave_segment(live.location);
            if live.location.body_is_file() {
                // Where this fails the next recovery removes it.
                let _ = self.disk.remove(SpoolFile::Body(id));
            }
        }
    }

    fn leave_segment(&mut self, location: Location) {
        let segment = self.segment(location.segment());
        segment.live = segment.live.saturating_sub(1);
        segment.live_bytes = segment.live_bytes.saturating_sub(location.record_len());
    }

    fn segment(&mut self, number: u32) -> &mut Segment {
        self.segments.entry(number).or_default()
    }

    /// Deletes dead segments from the oldest upward; asks for what keeps the oldest when most of the rest is dead.
    fn tend(&mut self, out: &mut Vec<Completion>) {
        while self.segments.len() > 1 {
            let Some((number, segment)) = self.segments.first_key_value() else {
                return;
            };
            let number = *number;
            if segment.live > 0 {
                self.ask_for_room(number, out);
                return;
            }
            match segment.retirement {
                Retirement::Silent | Retirement::Granted => {}
                Retirement::Announced => return,
                Retirement::Moved => {
                    self.segment(number).retirement = Retirement::Announced;
                    out.push(Completion::Retirable { segment: number });
                    return;
                }
            }
            let gone = match self.disk.remove(SpoolFile::Segment(number)) {
                Ok(()) | Err(DiskError::Missing) => self.disk.sync_folder(SpoolFolder::Journal),
                Err(error) => Err(error),
            };
            if gone.is_err() {
                return; // the next batch tries again
            }
            self.segments.remove(&number);
        }
    }

    fn ask_for_room(&mut self, oldest: u32, out: &mut Vec<Completion>) {
        let (mut total, mut live) = (0_u64, 0_u64);
        for segment in self.segments.values() {
            total = total.saturating_add(segment.len);
            live = live.saturating_add(segment.live_bytes);
        }
        let crowded = self.segments.len() >= SEGMENTS_WORTH_COPYING
            && live.saturating_mul(2) < total
            && self
                .segments
                .get(&oldest)
                .is_some_and(|oldest| !oldest.asked);
        if !crowded {
            return;
        }
        let mut messages: Vec<QueueId> = self
            .live
            .iter()
            .filter(|(_, live)| {
                live.location.segment() == oldest && live.standing != Standing::Unreadable
            })
            .map(|(id, _)| *id)
            .collect();
        if messages.is_empty() {
            return;
        }
        messages.sort_unstable();
        self.segment(oldest).asked = true;
        out.push(Completion::Crowded { messages });
    }

    // Large messages.

    fn body_append(&mut self, id: QueueId, bytes: &[u8]) -> Result<(), JournalError> {
        if self.is_broken() {
            return Err(JournalError::Broken);
        }
        if self.live.contains_key(&id) {
            return Err(JournalError::NoBody); // it is accepted: its file is not touched again
        }
        if !self.bodies.contains_key(&id) {
            if self.space.known && self.space.free < SPOOL_RESERVE_BYTES {
                return Err(JournalError::NoSpace);
            }
            self.disk.create(SpoolFile::Body(id))?;
            self.bodies.insert(
                id,
                OpenBody {
                    len: 0,
                    hasher: crc32fast::Hasher::new(),
                    failed: None,
                },
            );
        }
        let Some(body) = self.bodies.get_mut(&id) else {
            return Err(JournalError::NoBody);
        };
        if let Some(error) = body.failed {
            return Err(error);
        }
        let full = self.space.known
            && self.space.free.saturating_sub(bytes.len() as u64) < SPOOL_RESERVE_BYTES;
        let outcome = if full {
            Err(DiskError::NoSpace)
        } else {
            self.disk.write_at(SpoolFile::Body(id), body.len, bytes)
        };
        match outcome {
            Ok(()) => {
                self.space.free = self.space.free.saturating_sub(bytes.len() as u64);
                body.len = body.len.saturating_add(bytes.len() as u64);
                body.hasher.update(bytes);
                Ok(())
            }
            Err(error) => {
                body.failed = Some(error.into());
                Err(error.into())
            }
        }
    }

    /// Makes a large message's file durable, before the record that names it; returns its sum.
    fn body_seal(&mut self, id: QueueId, len: u64) -> Result<u32, JournalError> {
        let body = self.bodies.remove(&id).ok_or(JournalError::NoBody)?;
        let synced = match body.failed {
            Some(error) => Err(error),
            None if body.len != len => Err(JournalError::NoBody),
            None => self
                .disk
                .sync_data(SpoolFile::Body(id))
                .and_then(|()| self.disk.sync_folder(SpoolFolder::Body))
                .map_err(JournalError::from),
        };
        if synced.is_err() {
            let _ = self.disk.remove(SpoolFile::Body(id));
        }
        synced.map(|()| body.hasher.finalize())
    }

    fn body_discard(&mut self, id: QueueId) {
        // Also after a refused record, whose body is sealed already; never of an accepted message.
        let pending = self.pending.iter().any(|pending| pending.id == id);
        self.bodies.remove(&id);
        if !pending && !self.live.contains_key(&id) {
            let _ = self.disk.remove(SpoolFile::Body(id));
        }
    }

    // Space.

    fn measure(&mut self, out: &mut Vec<Completion>) {
        self.space.age = self.space.age.saturating_add(1);
        let near = self.space.free < SPOOL_RESERVE_BYTES.saturating_mul(4);
        if self.space.known && !near && self.space.age < SPACE_BATCHES {
            return;
        }
        let Ok(free) = self.disk.free_bytes() else {
            return; // unknown is not full: writes will tell
        };
        let was_short = self.space.free < SPOOL_RESERVE_BYTES;
        let tell = !self.space.known || was_short != (free < SPOOL_RESERVE_BYTES);
        self.space = Space {
            free,
            age: 0,
            known: true,
        };
        if tell {
            out.push(Completion::Space { free });
        }
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

const SEAL_ROOM_BYTES: u64 = HEADER_BYTES as u64 + 12;
const BUFFER_KEPT_BYTES: usize = 512 * 1_024;
const SEGMENTS_WORTH_COPYING: usize = 3;
const SPACE_BATCHES: u32 = 16;

#[cfg(test)]
mod tests;
