//! A question to the hook, and the queue of questions that wait.

use std::collections::BTreeSet;
use std::ops::Range;

use super::examination::Checked;
use crate::clock::{Instant, Now};
use crate::engine::event::ConnId;
use crate::hook::Hook;
use crate::limits::{HOOK_GRACE, HOOK_TIMEOUT};
use crate::policy::fair_queue::{FairQueue, Turn};
use crate::policy::shares::ResourceShare;
use crate::queue_id::QueueId;

/// A message that the hook is to judge.
pub(super) struct Hooking {
    pub(super) checked: Checked,
    /// Bytes on their way to the disk, without which it cannot be read back.
    pub(super) unwritten: usize,
    /// The connection that asks.
    pub(super) asking: Option<ConnId>,
}

/// A question to the hook: one connection to the helper.
pub(super) struct Asking {
    /// The session that has the message.
    pub(super) owner: ConnId,
    /// Its place among those of its holder, until this is dropped.
    pub(super) _share: ResourceShare,
    pub(super) id: QueueId,
    pub(super) hook: Option<Hook>,
    /// The range that is still to be read back and sent.
    pub(super) unread: Range<u64>,
    pub(super) reading: bool,
    /// Nothing while it waits for its turn.
    pub(super) deadline: Option<Instant>,
    /// Its place in the line.
    pub(super) turn: Option<Turn>,
}

/// The questions of all sessions.
#[derive(Default)]
pub(super) struct Hooks {
    /// Running questions.
    pub(super) running: BTreeSet<ConnId>,
    pub(super) waiting: FairQueue<ConnId>,
}

impl Hooking {
    /// Bytes that are held, without those on their way to the disk.
    pub(super) fn memory(&self) -> usize {
        let whole = &self.checked.whole;
        whole.rest.capacity().saturating_add(whole.header.memory())
    }
}

impl Hooks {
    pub(super) fn len(&self) -> usize {
        self.running.len().saturating_add(self.waiting.len())
    }
}

impl Asking {
    /// Starts the time limit for the helper to take the output and to answer.
    pub(super) fn wait(&mut self, now: Now) -> Instant {
        let deadline = now.instant.after(HOOK_TIMEOUT.saturating_add(HOOK_GRACE));
        *self.deadline.insert(deadline)
    }
}
