//! Notes from one participant to another. The engine passes them on in order, before the next event.

use super::event::ConnId;
use crate::envelope::Envelope;
use crate::policy::rates::CountedMessage;
use crate::policy::shares::ResourceShare;
use crate::queue::{JournalError, Location, MessageRecord, OutcomeRecord};
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;

/// A note from one participant to another.
#[derive(Debug)]
pub(super) enum Note {
    /// To the spool: make this message durable.
    Append(Box<NewRecord>),
    /// To the spool: write the results of a delivery attempt; this delivery session waits for that.
    Record {
        record: OutcomeRecord,
        session: Option<ConnId>,
    },
    /// To the spool: nothing is owed for this message any more.
    Finished { id: QueueId },
    /// To the spool: this message is not in the queue any more.
    Forgotten { id: QueueId },
    /// To the spool: an operator holds or releases a message.
    Mark {
        id: QueueId,
        held: bool,
        tool: ConnId,
    },
    /// To the spool: an operator takes a message out of the queue.
    Remove { id: QueueId, removal: Removal },

    /// To the server: the message of this session is durable, or was refused; if refused, `claim` is given back.
    Stored {
        conn: ConnId,
        id: QueueId,
        result: Result<(), Reply>,
        /// If it was refused: what is to be given back.
        uses: CountedUses,
    },
    /// To the server: this number of bytes of a message body is on the disk, or all bytes on their way are lost.
    BodyWritten {
        id: QueueId,
        result: Result<usize, Reply>,
    },
    /// To the server: this number of bytes is free on the disk of the spool.
    Space { free: u64 },

    /// To the deliveries: a message is in the queue.
    Queued(Box<NewMessage>),
    /// To delivery: the results of an attempt are on the disk; this session waited for that.
    Recorded {
        record: OutcomeRecord,
        session: Option<ConnId>,
    },
    /// To delivery: the record that this session waits for will be on the disk later, or is no longer owed.
    GoOn { session: ConnId, id: QueueId },
    /// To the deliveries: the record by which a message is done is on the disk; an operator with this uid asked for it.
    Done { id: QueueId, by: Option<u32> },
    /// To the deliveries: a message is held or released.
    Marked { id: QueueId, held: bool },
    /// To the deliveries: an operator wants these tried now.
    Flush { ids: Vec<QueueId> },
    /// To the deliveries: the disk takes records again.
    DiskWorks,

    /// To the makers of DSNs: send a DSN, then record this.
    Notify(Unrecorded),

    /// To the queue tools: a change is on the disk, or was refused.
    Changed {
        tool: ConnId,
        id: QueueId,
        result: Result<(), JournalError>,
    },
    /// To the queue tools: a line about a message that this one follows.
    Followed { conn: ConnId, text: String },
}

/// A message to be made durable.
#[derive(Debug)]
pub(super) struct NewRecord {
    pub(super) record: MessageRecord,
    /// Bytes of the body.
    pub(super) size: u64,
    pub(super) owner: MessageOwner,
}

/// A message that is durable.
#[derive(Debug)]
pub(super) struct NewMessage {
    pub(super) id: QueueId,
    /// Bytes of the body.
    pub(super) size: u64,
    pub(super) envelope: Envelope,
    pub(super) location: Location,
}

/// The removal of a message from the queue by a tool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    /// The tool, which waits for it.
    pub(super) tool: ConnId,
    pub(super) uid: u32,
}

/// The originator of a message, which waits until it is on the disk.
#[derive(Debug)]
pub(super) enum MessageOwner {
    /// The client that sent it, and the charge for it.
    Client(ConnId, Box<Charge>),
    /// It reports damage with these names to `admin`.
    Damage(Vec<Box<str>>),
    /// It is a DSN, with the outcomes to record behind it.
    Dsn(Box<Unrecorded>),
}

/// What a message holds until it is on the disk.
#[derive(Debug)]
pub(super) struct Charge {
    /// Its bytes, until this is dropped.
    pub(super) _memory: ResourceShare,
    pub(super) uses: CountedUses,
}

/// The limits that a message was counted against. The uses are given back if the message is not stored.
#[derive(Debug, Default)]
pub(super) struct CountedUses {
    /// Messages of its submitter.
    pub(super) submitter: Option<CountedMessage>,
    /// Return addresses among its recipients.
    pub(super) return_addresses: Vec<u64>,
}

/// Outcomes that are not yet written, and the DSN that precedes them.
#[derive(Debug)]
pub(super) struct Unrecorded {
    /// The outcomes.
    pub(super) record: OutcomeRecord,
    /// Recipients handed to a host without DSN, whose sender asked for success DSNs.
    pub(super) relayed: Vec<u32>,
    /// The host that answered.
    pub(super) host: Option<String>,
    /// The delivery session that waits for it.
    pub(super) session: Option<ConnId>,
    /// The event with which the log will name the recipients, if they were not known before.
    pub(super) unlogged: Option<&'static str>,
}
