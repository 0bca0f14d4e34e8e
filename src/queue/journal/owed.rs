//! Which messages are still in the queue, and which segment holds each of them. Each segment counts its live messages.

use super::super::disk::Disk;
use super::super::frame::Location;
use super::command::{JournalCompletion, JournalError};
use super::state::{Effect, Journal, Live, MessageState, Pending, Retirement};
use crate::queue_id::QueueId;

impl<D: Disk> Journal<D> {
    /// A record is durable: applies it.
    pub(super) fn apply(&mut self, pending: Pending) -> Option<JournalCompletion> {
        let id = pending.id;
        let mut location = None;
        match pending.effect {
            Effect::Accept(at) => {
                location = Some(at);
                let standing = MessageState::Free;
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
            Effect::Hold => self.set_standing(id, MessageState::Held),
            Effect::Release => self.set_standing(id, MessageState::Free),
            Effect::Done => self.forget(id),
            Effect::First(first) => self.extent.first = first,
            Effect::None => {}
        }
        let ticket = pending.ticket?;
        Some(JournalCompletion::Committed { ticket, location })
    }

    /// A message could not be copied forward: the copy is requested again, unless it cannot succeed.
    pub(super) fn on_copy_failed(&mut self, id: QueueId, error: JournalError) {
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        if matches!(error, JournalError::Damaged | JournalError::TooLarge) {
            live.standing = MessageState::Unreadable;
        } else if let Some(segment) = self.segments.get_mut(&live.location.segment()) {
            segment.asked = false;
        }
    }

    fn set_standing(&mut self, id: QueueId, standing: MessageState) {
        if let Some(live) = self.live.get_mut(&id) {
            live.standing = standing;
        }
    }

    /// Records that the message is live in this segment, and in no other.
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
        debug_assert!(
            segment.live > 0 && segment.live_bytes >= location.record_len(),
            "what leaves a segment was counted there"
        );
        segment.live = segment.live.saturating_sub(1);
        segment.live_bytes = segment.live_bytes.saturating_sub(location.record_len());
    }
}
