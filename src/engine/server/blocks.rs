//! Blocks of bodies on their way to the disk. They are charged to the sender of the body until the disk has them, even
//! if the session ends before.

use std::collections::HashMap;

use crate::policy::shares::{Holder, Pool, ResourceShare};
use crate::queue_id::QueueId;

/// The memory of blocks on their way to the disk, by message.
#[derive(Default)]
pub(super) struct Blocks {
    by_message: HashMap<QueueId, ResourceShare>,
}

impl Blocks {
    /// Bytes of all blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.by_message.values().map(ResourceShare::amount).sum()
    }

    /// Messages with blocks on their way.
    pub(super) fn len(&self) -> usize {
        self.by_message.len()
    }

    /// A block of this size goes to the disk; the first block of a message decides which holder is charged.
    pub(super) fn add(&mut self, id: QueueId, holder: Holder, bytes: usize, memory: &Pool) {
        let share = (self.by_message.entry(id)).or_insert_with(|| memory.charge(holder, 0));
        share.resize(share.amount().saturating_add(bytes as u64));
    }

    /// This number of bytes has reached the disk; `None`: all were lost.
    pub(super) fn stored(&mut self, id: QueueId, bytes: Option<usize>) {
        let Some(share) = self.by_message.get_mut(&id) else {
            return;
        };
        share.give(bytes.map_or(u64::MAX, |bytes| bytes as u64));
        if share.amount() == 0 {
            self.by_message.remove(&id);
        }
    }
}
