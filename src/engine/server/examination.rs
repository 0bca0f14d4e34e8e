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
use crate::policy::authenticity::{Circumstances, Examination, Verified, Verifying};
use crate::policy::authority::Released;
use crate::policy::turns::{Turn, Turns};
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;
use crate::smtp::server::Transaction;

/// A message that is being examined.
pub(super) struct Checking {
    pub(super) id: QueueId,
    pub(super) whole: Whole,
    pub(super) transaction: Transaction,
    pub(super) known: Circumstances,
    pub(super) examination: Box<Examination>,
    /// Questions that are open.
    pub(super) asked: Vec<Question>,
    /// Questions that wait for those.
    pub(super) unasked: Vec<Question>,
    /// Its place among those that wait for a worker, from when on it has one.
    pub(super) turn: Option<Turn>,
}

/// A message that is wanted.
pub(super) struct Checked {
    pub(super) id: QueueId,
    pub(super) whole: Whole,
    /// Without its recipients, which are released.
    pub(super) transaction: Transaction,
    /// What allows it to be queued.
    pub(super) released: Released,
    /// Fields that say what was found out.
    pub(super) fields: Vec<u8>,
    /// The same, for the hook.
    pub(super) facts: Vec<(Fact, String)>,
    /// Fields that the hook adds.
    pub(super) hooked: Vec<u8>,
    /// Who seals it, and what is said by that.
    pub(super) seal: Option<Box<Seal>>,
}

/// A seal that is to be set.
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

    /// Whether its body was streamed out.
    pub(super) fn is_spilled(&self) -> bool {
        self.whole.spilled
    }

    /// Bytes that are held: the message, its header, and what the signatures are verified from, which is about as long.
    pub(super) fn memory(&self) -> usize {
        let header = self.whole.header.as_bytes().len();
        let rest = self.whole.rest.capacity();
        rest.saturating_add(header.saturating_mul(2))
            .saturating_add(self.examination.memory())
    }

    /// Bytes that can be streamed out.
    pub(super) fn can_stream(&self) -> usize {
        self.whole.rest.len()
    }

    /// Gives what it holds, to be streamed out.
    pub(super) fn stream_out(&mut self) -> Vec<u8> {
        self.whole.spilled = true;
        let block = std::mem::take(&mut self.whole.rest);
        self.whole.in_flight = self.whole.in_flight.saturating_add(block.len());
        block
    }

    /// Its place among those that wait for a worker.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.turn
    }

    /// A worker has verified its signatures.
    pub(super) fn on_verified(&mut self, verified: Verified) {
        self.examination.on_verified(verified);
    }

    /// A block of it is on the disk; or was lost, and then the disk says so again when the message is to be stored.
    pub(super) fn on_written(&mut self, result: Result<usize, Reply>) {
        let bytes = result.unwrap_or(usize::MAX);
        self.whole.in_flight = self.whole.in_flight.saturating_sub(bytes);
    }
}

/// Messages whose signatures are verified, or wait for it.
#[derive(Default)]
pub(super) struct Verifications {
    /// What workers are at.
    pub(super) running: BTreeSet<JobId>,
    pub(super) waiting: Turns<(ConnId, QueueId, Box<Verifying>)>,
}

impl Verifications {
    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, turn: Turn) {
        self.waiting.forget(turn);
    }
}
