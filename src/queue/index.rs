//! The queue in memory: the location of each message in the journal, and the state of each recipient.
//!
//! Addresses, header and body stay on the disk and are read when they are needed. An entry with one recipient takes
//! about 150 bytes.
//!
//! | phase | meaning | leaves by |
//! | --- | --- | --- |
//! | `Waiting` | due later, or held | a delivery session takes it: `InFlight` |
//! | `InFlight` | a delivery session has it, or its result is on the way to the disk | result committed: `Closed`; deferral committed or session lost: `Waiting` |
//! | `Closed` | durably delivered or failed | the message is done when all recipients are |

use std::collections::HashMap;
use std::sync::Arc;

use super::Location;
use crate::cause::FailureCause;
use crate::clock::Instant;
use crate::date::Timestamp;
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;

/// Names a next hop in the engine's table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HopId(pub u32);

/// Whether the sender of a message was told of its delay.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Warned {
    No,
    /// A delay DSN is being made, or none is owed: the message has a null reverse-path.
    Begun,
    /// The delay DSN is on the disk.
    Recorded,
}

/// One queued message.
#[derive(Clone, Debug)]
pub struct Queued {
    pub location: Location,
    /// Bytes of the message as it came.
    pub size: u64,
    /// When it was accepted.
    pub arrived: Timestamp,
    /// Since when it has been in this index.
    pub since: Instant,
    /// Whether an operator holds it.
    pub held: bool,
    pub warned: Warned,
    /// Whether an unauthenticated client caused it: then it may not use what is reserved for users.
    pub by_client: bool,
    /// The user of this machine whose process submitted it.
    pub submitter: Option<u32>,
    /// Its recipients, in the order of the envelope.
    pub recipients: Box<[RecipientState]>,
}

/// The index's data about one recipient: whether it is closed, and when it is tried next.
#[derive(Clone, Debug)]
pub struct RecipientState {
    /// Its next hop.
    pub hop: HopId,
    pub phase: Phase,
    /// Attempts that were made.
    pub attempts: u16,
    /// Status of the last attempt.
    pub status: Option<EnhancedCode>,
    /// The result of the last attempt; shared by all that were deferred for the same reason.
    pub why: Option<Arc<FailureCause>>,
    /// When the next attempt is due, after a deferral.
    pub until: Timestamp,
    /// Whether that attempt is to be made as soon as the next hop is available: `until` is over, or an operator asked
    /// for it.
    pub due: bool,
}

/// How far a recipient is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// To be tried.
    Waiting,
    /// Being tried, or its outcome is being written.
    InFlight,
    /// Done: it is not tried again.
    Closed,
}

/// All queued messages.
#[derive(Debug, Default)]
pub struct Index {
    entries: HashMap<QueueId, Queued>,
}

impl Index {
    /// How many messages are queued.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One message.
    pub fn get(&self, id: QueueId) -> Option<&Queued> {
        self.entries.get(&id)
    }

    /// One message, to be changed.
    pub fn get_mut(&mut self, id: QueueId) -> Option<&mut Queued> {
        self.entries.get_mut(&id)
    }

    /// Adds a message.
    pub fn insert(&mut self, id: QueueId, entry: Queued) {
        debug_assert!(!entry.recipients.is_empty(), "a message is for somebody");
        let before = self.entries.insert(id, entry);
        debug_assert!(before.is_none(), "an id is one message's");
    }

    /// Forgets a message that is done.
    pub fn remove(&mut self, id: QueueId) -> Option<Queued> {
        self.entries.remove(&id)
    }

    /// The ids, oldest first.
    pub fn ids(&self) -> Vec<QueueId> {
        let mut ids: Vec<QueueId> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// All messages, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (QueueId, &Queued)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }
}

impl RecipientState {
    /// A recipient that has not been tried.
    pub const fn new(hop: HopId) -> Self {
        Self {
            hop,
            phase: Phase::Waiting,
            attempts: 0,
            status: None,
            why: None,
            until: Timestamp::from_seconds(0),
            due: true,
        }
    }

    fn is_waiting_for(&self, hop: HopId) -> bool {
        self.hop == hop && self.phase == Phase::Waiting
    }
}

impl Queued {
    /// Indices of the recipients for a next hop that are to be tried now. Recipients that were just deferred are not
    /// among them, however many others of the message are still to be offered.
    pub fn due_for(&self, hop: HopId) -> impl Iterator<Item = usize> {
        self.recipients
            .iter()
            .enumerate()
            .filter(move |(_, state)| state.is_waiting_for(hop) && state.due)
            .map(|(index, _)| index)
    }

    /// Makes all recipients due that wait for a next hop.
    pub fn make_due(&mut self, hop: HopId) {
        let waiting = self.recipients.iter_mut();
        for state in waiting.filter(|state| state.is_waiting_for(hop)) {
            state.due = true;
        }
    }

    /// The hops of the recipients that are not closed, each once.
    pub fn open_hops(&self) -> Vec<HopId> {
        let open = self
            .recipients
            .iter()
            .filter(|state| state.phase != Phase::Closed);
        let mut hops: Vec<HopId> = open.map(|state| state.hop).collect();
        hops.sort_unstable();
        hops.dedup();
        hops
    }

    /// Whether no recipient is left.
    pub fn is_done(&self) -> bool {
        self.recipients
            .iter()
            .all(|state| state.phase == Phase::Closed)
    }

    /// The next hops that recipients still wait for, each once.
    pub fn waiting_hops(&self) -> Vec<HopId> {
        let mut hops: Vec<HopId> = self
            .recipients
            .iter()
            .filter(|state| state.phase == Phase::Waiting)
            .map(|state| state.hop)
            .collect();
        hops.sort_unstable();
        hops.dedup();
        hops
    }
}
