//! Large messages, which have files of their own, and the room on the disk.
//!
//! A body is written while it arrives, and synced just before the record that names it. Room is looked up from time to
//! time; a part is kept free of new mail, so that outcomes can always be written.

use std::time::Duration;

use super::super::disk::{Disk, DiskError, SpoolFile, SpoolFolder};
use super::command::{JournalCompletion, JournalError};
use super::state::{Journal, OpenBody};
use crate::limits::{SPACE_INTERVAL, SPACE_SHORT_INTERVAL, SPOOL_RESERVE_BYTES};
use crate::queue_id::QueueId;

impl<D: Disk> Journal<D> {
    /// Writes the next piece of a large message.
    pub(super) fn body_append(&mut self, id: QueueId, bytes: &[u8]) -> Result<(), JournalError> {
        self.brokenness()?;
        if self.live.contains_key(&id) {
            return Err(JournalError::NoBody); // it is accepted: its file is not touched again
        }
        if !self.bodies.contains_key(&id) {
            if self.space.is_short() {
                return Err(JournalError::NoSpace);
            }
            self.disk.create(SpoolFile::Draft(id))?;
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
            self.disk.write_at(SpoolFile::Draft(id), body.len, bytes)
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

    /// Makes a large message's file durable under its name, before the record that names it; returns its sum. A file
    /// that keeps its draft's name was never promised to anybody.
    pub(super) fn body_seal(&mut self, id: QueueId, len: u64) -> Result<u32, JournalError> {
        let body = self.bodies.remove(&id).ok_or(JournalError::NoBody)?;
        let synced = match body.failed {
            Some(error) => Err(error),
            None if body.len != len => Err(JournalError::NoBody),
            None => self
                .disk
                .sync_data(SpoolFile::Draft(id))
                .and_then(|()| self.disk.rename(SpoolFile::Draft(id), SpoolFile::Body(id)))
                .and_then(|()| self.disk.sync_folder(SpoolFolder::Body))
                .and_then(|()| self.disk.check_place(SpoolFile::Body(id)))
                .map_err(JournalError::from),
        };
        if synced.is_err() {
            self.remove_body(id);
        }
        synced.map(|()| body.hasher.finalize())
    }

    /// Forgets a large message that will not be.
    pub(super) fn body_discard(&mut self, id: QueueId) {
        // Also after a refused record, whose body is sealed already; never of an accepted message.
        let pending = self.pending.iter().any(|pending| pending.id == id);
        self.bodies.remove(&id);
        if !pending && !self.live.contains_key(&id) {
            self.remove_body(id);
        }
    }

    /// Removes the file of a message that is not owed. Where this fails the next recovery does it.
    pub(super) fn remove_body(&mut self, id: QueueId) {
        let _ = self.disk.remove(SpoolFile::Draft(id));
        let _ = self.disk.remove(SpoolFile::Body(id));
        self.bodies_removed = true;
    }

    /// Measures the free space of the disk, unless it is known well enough.
    pub(super) fn measure(&mut self, out: &mut Vec<JournalCompletion>) {
        self.space.age = self.space.age.saturating_add(1);
        if self.space.known && !self.space.is_near_short() && self.space.age < SPACE_BATCHES {
            return;
        }
        out.extend(self.look_at_space());
    }

    /// Measures the free space and reports it, if it has changed: other programs take room and give it back, also
    /// while nothing is written here. Due every [`Journal::space_interval`] in which there was no batch.
    pub fn look_at_space(&mut self) -> Option<JournalCompletion> {
        // Unknown is not full: writes will tell.
        let free = self.disk.free_bytes().ok()?;
        let told = self.space.told.replace(free);
        self.space.free = free;
        self.space.age = 0;
        self.space.known = true;
        (told != Some(free)).then_some(JournalCompletion::Space { free })
    }

    /// How soon to look at the room again.
    pub fn space_interval(&self) -> Duration {
        if self.space.known && self.space.is_near_short() {
            SPACE_SHORT_INTERVAL
        } else {
            SPACE_INTERVAL
        }
    }
}

/// Batches for which the last look at the disk is believed.
pub(super) const SPACE_BATCHES: u32 = 16;
