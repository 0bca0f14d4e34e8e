//! Blocks of bodies on their way to the disk. They are charged to the sender of the body until the disk has them, even
//! if the session ends before.

use std::collections::HashMap;

use crate::policy::shares::Holder;
use crate::queue_id::QueueId;

/// Blocks on their way to the disk, by message.
#[derive(Default)]
pub(super) struct Blocks {
    pub(super) by_message: HashMap<QueueId, (Holder, u64)>,
    pub(super) bytes: u64,
}

impl Blocks {
    /// Bytes of all blocks.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages with blocks on their way.
    pub(super) fn len(&self) -> usize {
        self.by_message.len()
    }

    pub(super) fn add(&mut self, id: QueueId, holder: Holder, bytes: u64) {
        let (_, sum) = self.by_message.entry(id).or_insert((holder, 0));
        *sum = sum.saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// This number of bytes has reached the disk, or all were lost; returns their holder and number.
    pub(super) fn take(&mut self, id: QueueId, bytes: Option<usize>) -> Option<(Holder, u64)> {
        let (holder, sum) = self.by_message.get_mut(&id)?;
        let taken = bytes.map_or(*sum, |bytes| (bytes as u64).min(*sum));
        *sum = sum.saturating_sub(taken);
        self.bytes = self.bytes.saturating_sub(taken);
        let holder = *holder;
        if *sum == 0 {
            self.by_message.remove(&id);
        }
        Some((holder, taken))
    }
}
