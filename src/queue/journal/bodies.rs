//! Large messages, which have their own files, and the free space on the disk.
//!
//! A body is written while it arrives, and synced just before the record that names it. The free space is read from
//! time to time. Part of it is reserved for delivery results: new mail cannot use it.

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

    /// Makes the file of a large message durable under its final name, before the record that names it; returns its
    /// checksum. A file that keeps its draft's name belongs to a message that was never accepted.
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

    /// Removes the body of a message that was not accepted.
    pub(super) fn body_discard(&mut self, id: QueueId) {
        // Also after a refused record, whose body has its final name already; never for an accepted message.
        let pending = self.pending.iter().any(|pending| pending.id == id);
        self.bodies.remove(&id);
        if !pending && !self.live.contains_key(&id) {
            self.remove_body(id);
        }
    }

    /// Removes the file of a message that is no longer queued. If this fails, the next recovery does it.
    pub(super) fn remove_body(&mut self, id: QueueId) {
        let _ = self.disk.remove(SpoolFile::Draft(id));
        let _ = self.disk.remove(SpoolFile::Body(id));
        self.bodies_removed = true;
    }

    /// Reads the free space, if it is not known accurately enough.
    pub(super) fn measure(&mut self, out: &mut Vec<JournalCompletion>) {
        self.space.age = self.space.age.saturating_add(1);
        if self.space.known && !self.space.is_near_short() && self.space.age < SPACE_BATCHES {
            return;
        }
        out.extend(self.look_at_space());
    }

    /// Reads the free space and reports it if it has changed: other programs use and free space, even while nothing is
    /// written here. Due after every [`Journal::space_interval`] without a batch.
    pub fn look_at_space(&mut self) -> Option<JournalCompletion> {
        // An unknown free space does not count as full: the next write will show it.
        let free = self.disk.free_bytes().ok()?;
        let told = self.space.told.replace(free);
        self.space.free = free;
        self.space.age = 0;
        self.space.known = true;
        (told != Some(free)).then_some(JournalCompletion::Space { free })
    }

    /// When to read the free space again.
    pub fn space_interval(&self) -> Duration {
        if self.space.known && self.space.is_near_short() {
            SPACE_SHORT_INTERVAL
        } else {
            SPACE_INTERVAL
        }
    }
}

/// Batches for which the last reading of the free space is relied on.
pub(super) const SPACE_BATCHES: u32 = 16;
