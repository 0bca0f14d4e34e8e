//! What is alive, in which segment, and when a segment goes.
//!
//! A segment counts its live messages. From the oldest upward those that have none are deleted; where a message was
//! moved out of one, readers are asked first.

use super::super::disk::{Disk, DiskError, SpoolFile, SpoolFolder};
use super::super::frame::{Location, put_first};
use super::command::{Completion, JournalError};
use super::{Effect, Journal, Pending};
use crate::queue_id::QueueId;

/// A message that is owed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) location: Location,
    pub(super) standing: Standing,
}

/// Whether a message is tried, and whether it can be moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    Free,
    Held,
    /// It could not be copied forward: it is not asked for again.
    Unreadable,
}

/// What is known of a segment.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) len: u64,
    live: u32,
    live_bytes: u64,
    asked: bool,
    /// Damage in it could not be set aside: the whole segment is, in the end.
    pub(super) kept: bool,
    pub(super) retirement: Retirement,
}

/// Whether readers know that a segment goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Retirement {
    /// No message was moved out of it: nobody can be reading from it once it is empty.
    #[default]
    Silent,
    /// Messages were moved out: readers may not know yet.
    Moved,
    Announced,
    Granted,
}

impl<D: Disk> Journal<D> {
    /// A record is durable: what it says holds from now on.
    pub(super) fn apply(&mut self, pending: Pending) -> Option<Completion> {
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
            Effect::First(first) => self.first = first,
            Effect::None => {}
        }
        let ticket = pending.ticket?;
        Some(Completion::Committed { ticket, location })
    }

    /// A message could not be moved: it is asked for again, unless that is in vain.
    pub(super) fn on_copy_failed(&mut self, id: QueueId, error: JournalError) {
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        if matches!(error, JournalError::Damaged | JournalError::TooLarge) {
            live.standing = Standing::Unreadable;
        } else if let Some(segment) = self.segments.get_mut(&live.location.segment()) {
            segment.asked = false;
        }
    }

    fn set_standing(&mut self, id: QueueId, standing: Standing) {
        if let Some(live) = self.live.get_mut(&id) {
            live.standing = standing;
        }
    }

    /// A message is alive here, and nowhere else.
    pub(super) fn enter(&mut self, id: QueueId, live: Live) {
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
                self.remove_body(id);
            }
        }
    }

    fn leave_segment(&mut self, location: Location) {
        let segment = self.segment(location.segment());
        segment.live = segment.live.saturating_sub(1);
        segment.live_bytes = segment.live_bytes.saturating_sub(location.record_len());
    }

    /// What is known of a segment.
    pub(super) fn segment(&mut self, number: u32) -> &mut Segment {
        self.segments.entry(number).or_default()
    }

    /// Deletes dead segments from the oldest upward; asks for what keeps the oldest when most of the rest is dead.
    pub(super) fn tend(&mut self, out: &mut Vec<Completion>) {
        if self.gap {
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
                    out.push(Completion::Retirable { segment: number });
                    return;
                }
            }
            if self.delete(number, out).is_err() {
                return; // the next batch tries again
            }
            self.segments.remove(&number);
        }
    }

    /// Deletes the oldest segment. Before, the journal says durably that it is gone for good, so that a start tells it
    /// from one that was lost; and the files of messages whose end it may tell are durably gone.
    fn delete(&mut self, number: u32, out: &mut Vec<Completion>) -> Result<(), JournalError> {
        if std::mem::take(&mut self.bodies_removed)
            && let Err(error) = self.disk.sync_folder(SpoolFolder::Body)
        {
            self.bodies_removed = true;
            return Err(error.into());
        }
        let next = self.segments.range(number.saturating_add(1)..).next();
        let first = next.map_or(number.saturating_add(1), |(next, _)| *next);
        if first > self.first {
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

    fn say_first(&mut self, first: u32, out: &mut Vec<Completion>) -> Result<(), JournalError> {
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
        if self.first == first {
            Ok(())
        } else {
            Err(JournalError::Io)
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
}

/// Fewer segments than these are not worth moving anything for.
const SEGMENTS_WORTH_COPYING: usize = 3;
