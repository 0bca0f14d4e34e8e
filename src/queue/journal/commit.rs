//! One batch: buffered, written, synced, then completed or refused; and the segment that it is written to.
//!
//! The seal of a segment says how much of the previous one is valid: see [`super`].

use super::super::disk::{Disk, DiskError, SpoolFile, SpoolFolder};
use super::super::frame::{HEADER_BYTES, Header, Place, Seal, TipNote, put_seal, put_tip};
use super::command::{JournalCompletion, JournalError};
use super::state::{Current, Effect, Journal, Pending, Tip};
use crate::limits::{SEGMENT_NUMBER_MAX, SEGMENT_TRIES_MAX};
use crate::queue_id::QueueId;

impl<D: Disk> Journal<D> {
    /// Lets `write` append to the buffer; starts a new segment if the current one has no room.
    pub(super) fn put(
        &mut self,
        out: &mut Vec<JournalCompletion>,
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
            // The record that will be read back is the intended one.
            debug_assert_eq!(
                Header::decode(self.buffer.get(start..).unwrap_or_default(), place).ok(),
                Some(header)
            );
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
            // A failed commit may have left it already.
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

    /// Writes the buffer, syncs, and completes its commands.
    pub(super) fn commit(&mut self, out: &mut Vec<JournalCompletion>) {
        let Some(current) = self.current.filter(|_| !self.pending.is_empty()) else {
            return;
        };
        debug_assert!(!self.buffer.is_empty(), "what is pending is in the buffer");
        let file = SpoolFile::Segment(current.number);
        let outcome = match self.disk.write_at(file, current.committed, &self.buffer) {
            Ok(()) => match self.disk.sync_data(file) {
                Ok(()) => self
                    .disk
                    .check_place(file)
                    .inspect_err(|error| match error {
                        DiskError::Displaced => self.on_displaced(),
                        // The folder cannot be verified: the batch is refused, as after a failed sync.
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
                // The refusal is reported only after the seal that makes it final, if the disk accepts a seal.
                if self.current.is_none() {
                    let _ = self.roll();
                }
                let error = error.into();
                out.extend(pending.into_iter().filter_map(|pending| {
                    self.on_refused(&pending, error);
                    let ticket = pending.ticket?;
                    Some(JournalCompletion::Failed { ticket, error })
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

    /// After a failed write: truncates the segment if that is proven to work, otherwise leaves the segment.
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

    /// The batch is durable in a folder that the next start will not read. It is truncated there, so that it cannot
    /// return with the folder, and nothing is accepted until a start has decided which folder is valid.
    fn on_displaced(&mut self) {
        if let Some(current) = self.current {
            let file = SpoolFile::Segment(current.number);
            let cut = self.disk.truncate(file, current.committed);
            let _ = cut.and_then(|()| self.disk.sync_data(file));
        }
        self.displaced = true;
        self.leave();
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

    /// Starts the next segment: its seal and its name are durable before anything else is written to it. A file that
    /// already has the name is left alone, and the next number is used: the seal names the previous segment.
    fn roll(&mut self) -> Result<Current, JournalError> {
        self.brokenness()?;
        let mut number = self.extent.top.max(self.seal.segment);
        let made = loop {
            number = number.saturating_add(1);
            if number > SEGMENT_NUMBER_MAX {
                return Err(JournalError::Broken);
            }
            match self.disk.create(SpoolFile::Segment(number)) {
                Err(DiskError::Exists)
                    if number < self.extent.top.saturating_add(SEGMENT_TRIES_MAX) => {}
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
                // Everything after the seal is void: this frees the space and removes a failed batch for good.
                let before = self.segments.get(&self.seal.segment);
                if before.is_some_and(|before| !before.kept) {
                    let before = SpoolFile::Segment(self.seal.segment);
                    let _ = self.disk.truncate(before, self.seal.len);
                }
                let current = Current { number, committed };
                self.extent.top = number;
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
            first: Some(self.extent.first),
            ..self.seal.clone()
        };
        put_seal(&seal, self.highest, number, &mut bytes);
        self.disk.write_at(file, 0, &bytes)?;
        self.disk.sync_data(file)?;
        self.disk.sync_folder(SpoolFolder::Journal)?;
        Ok(bytes.len() as u64)
    }

    /// Writes the number of the newest segment and the highest id that may occur in it, before any record in it is
    /// promised. If the disk refuses this note, a loss could go unreported, but no message is lost: the next segment
    /// writes it again.
    pub(super) fn write_tip(&mut self, number: u32) {
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
                // The next process must not trust this file either.
                let _ = self.disk.remove(SpoolFile::Tip);
                Tip::Unusable
            }
        };
    }

    /// The note gets its name once it is complete: a power cut leaves none, never half of one that looks like damage.
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

const SEAL_ROOM_BYTES: u64 = HEADER_BYTES as u64 + 16;

/// The ids may advance by this number before the tip is written again: those of 18 hours, at 16 million per second.
const IDS_NOTED_AHEAD: u64 = 1 << 40;

const BUFFER_KEPT_BYTES: usize = 512 * 1_024;
