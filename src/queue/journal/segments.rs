//! When a segment is deleted.
//!
//! Segments without live messages are deleted from the oldest upward. If a message was moved out of a segment, the
//! journal asks the readers of that segment first.

use super::super::disk::{Disk, DiskError, SpoolFile, SpoolFolder};
use super::super::frame::put_first;
use super::command::{JournalCompletion, JournalError};
use super::state::{Effect, Journal, MessageState, Pending, Retirement};
use crate::queue_id::QueueId;

impl<D: Disk> Journal<D> {
    /// Deletes segments without live messages from the oldest upward. When most of the others are dead, requests copies
    /// of the live messages in the oldest.
    pub(super) fn tend(&mut self, out: &mut Vec<JournalCompletion>) {
        if self.extent.gap {
            return; // what is missing may yet be put back
        }
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
                    out.push(JournalCompletion::Retirable { segment: number });
                    return;
                }
            }
            debug_assert!(
                segment.live_bytes == 0 && self.current.is_none_or(|it| it.number != number),
                "a segment that goes holds nothing and is not written"
            );
            if self.delete(number, out).is_err() {
                return; // the next batch tries again
            }
            self.segments.remove(&number);
        }
    }

    /// Deletes the oldest segment. Before that, a durable record says that the segment was deleted on purpose, so that
    /// a start can distinguish it from a lost one, and the body files of messages that end in it are durably removed.
    fn delete(
        &mut self,
        number: u32,
        out: &mut Vec<JournalCompletion>,
    ) -> Result<(), JournalError> {
        if std::mem::take(&mut self.bodies_removed)
            && let Err(error) = self.disk.sync_folder(SpoolFolder::Body)
        {
            self.bodies_removed = true;
            return Err(error.into());
        }
        let next = self.segments.range(number.saturating_add(1)..).next();
        let first = next.map_or(number.saturating_add(1), |(next, _)| *next);
        if first > self.extent.first {
            self.say_first(first, out)?;
        }
        let kept = self.segment(number).kept;
        let file = SpoolFile::Segment(number);
        let gone = if kept {
            let aside = SpoolFile::DamagedSegment(number);
            self.disk
                .rename(file, aside)
                .and_then(|()| self.disk.sync_folder(SpoolFolder::Damaged))
        } else {
            self.disk.remove(file)
        };
        match gone {
            Ok(()) | Err(DiskError::Missing) => Ok(self.disk.sync_folder(SpoolFolder::Journal)?),
            Err(error) => Err(error.into()),
        }
    }

    fn say_first(
        &mut self,
        first: u32,
        out: &mut Vec<JournalCompletion>,
    ) -> Result<(), JournalError> {
        let highest = self.highest;
        self.put(out, &|place, buffer| {
            put_first(first, highest, place, buffer)
        })?;
        self.pending.push(Pending {
            ticket: None,
            id: highest,
            effect: Effect::First(first),
        });
        self.commit(out);
        if self.extent.first == first {
            Ok(())
        } else {
            Err(JournalError::Io)
        }
    }

    fn ask_for_room(&mut self, oldest: u32, out: &mut Vec<JournalCompletion>) {
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
                live.location.segment() == oldest && live.standing != MessageState::Unreadable
            })
            .map(|(id, _)| *id)
            .collect();
        if messages.is_empty() {
            return;
        }
        messages.sort_unstable();
        self.segment(oldest).asked = true;
        out.push(JournalCompletion::Crowded { messages });
    }
}

/// Fewer segments than these are not worth moving anything for.
const SEGMENTS_WORTH_COPYING: usize = 3;
