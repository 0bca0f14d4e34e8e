//! A message before, during and after its examination, and the queue of messages whose signatures wait for a worker.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::intake::Whole;
use crate::address::Domain;
use crate::auth::arc;
use crate::auth::results::AuthenticationResults;
use crate::config::DkimKey;
use crate::dns::Question;
use crate::engine::event::{ConnId, JobId};
use crate::hook::Fact;
use crate::policy::authenticity::{Examination, MessageContext, Verified, Verifying};
use crate::policy::authority::Released;
use crate::policy::fair_queue::{FairQueue, Turn};
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;
use crate::smtp::server::Transaction;

/// A message that is being examined.
pub(super) struct Checking {
    pub(super) id: QueueId,
    pub(super) whole: Whole,
    pub(super) transaction: Transaction,
    pub(super) known: MessageContext,
    pub(super) examination: Box<Examination>,
    /// Questions without an answer yet.
    pub(super) asked: Vec<Question>,
    /// Questions that wait for those.
    pub(super) unasked: Vec<Question>,
    /// Its place in the queue for a worker, once it has one.
    pub(super) turn: Option<Turn>,
}

/// An examined message that is accepted.
pub(super) struct Checked {
    pub(super) id: QueueId,
    pub(super) whole: Whole,
    /// Without its recipients, which are in `released`.
    pub(super) transaction: Transaction,
    /// The permission to queue it.
    pub(super) released: Released,
    /// Header fields with the findings.
    pub(super) fields: Vec<u8>,
    /// The findings, for the hook.
    pub(super) facts: Vec<(Fact, String)>,
    /// Header fields that the hook adds.
    pub(super) hooked: Vec<u8>,
    /// The ARC seal that will be added.
    pub(super) seal: Option<Box<Seal>>,
}

/// An ARC seal to be made.
pub(super) struct Seal {
    pub(super) domain: Domain,
    pub(super) key: Arc<DkimKey>,
    pub(super) results: AuthenticationResults,
    pub(super) chain: arc::ArcVerdict,
}

impl Checking {
    pub(super) fn id(&self) -> QueueId {
        self.id
    }

    /// Whether its body was streamed to the disk.
    pub(super) fn is_spilled(&self) -> bool {
        self.whole.spilled
    }

    /// Bytes that are held: the message, its header, and the input for verifying the signatures, which is about as
    /// long.
    pub(super) fn memory(&self) -> usize {
        let header = self.whole.header.as_bytes().len();
        let rest = self.whole.rest.capacity();
        rest.saturating_add(header.saturating_mul(2))
            .saturating_add(self.examination.memory())
    }

    /// Bytes that can be streamed to the disk.
    pub(super) fn can_stream(&self) -> usize {
        self.whole.rest.len()
    }

    /// Returns the bytes in memory, to be streamed to the disk.
    pub(super) fn stream_out(&mut self) -> Vec<u8> {
        self.whole.spilled = true;
        let block = std::mem::take(&mut self.whole.rest);
        self.whole.in_flight = self.whole.in_flight.saturating_add(block.len());
        block
    }

    /// Its place in the queue for a worker.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.turn
    }

    /// A worker has verified its signatures.
    pub(super) fn on_verified(&mut self, verified: Verified) {
        self.examination.on_verified(verified);
    }

    /// A block is on the disk, or was lost; if lost, storing the message will fail too.
    pub(super) fn on_written(&mut self, result: Result<usize, Reply>) {
        let bytes = result.unwrap_or(usize::MAX);
        self.whole.in_flight = self.whole.in_flight.saturating_sub(bytes);
    }
}

/// Messages whose signatures are being verified, or wait for that.
#[derive(Default)]
pub(super) struct Verifications {
    /// Jobs of workers.
    pub(super) running: BTreeSet<JobId>,
    pub(super) waiting: FairQueue<(ConnId, QueueId, Box<Verifying>)>,
}

impl Verifications {
    /// Number of waiting messages.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Removes a message from the queue.
    pub(super) fn forget(&mut self, turn: Turn) {
        self.waiting.forget(turn);
    }
}
