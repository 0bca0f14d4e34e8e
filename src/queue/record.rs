//! Journal records as values.

use std::sync::Arc;

use crate::cause::FailureCause;
use crate::date::Timestamp;
use crate::envelope::Envelope;
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;

/// One record of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// A message was accepted.
    Message(MessageRecord),
    /// Something became of some of its recipients.
    Outcome(OutcomeRecord),
    /// The operator holds it back.
    Hold(QueueId),
    /// The operator lets it go on.
    Release(QueueId),
    /// Nothing is owed for it any more.
    Done(QueueId),
}

impl Record {
    /// The message that the record is about.
    pub const fn id(&self) -> QueueId {
        match self {
            Self::Message(message) => message.id,
            Self::Outcome(outcome) => outcome.id,
            Self::Hold(id) | Self::Release(id) | Self::Done(id) => *id,
        }
    }
}

/// An accepted message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageRecord {
    pub id: QueueId,
    pub envelope: Envelope,
    /// Header fields that go in front of it, each ended by CRLF.
    pub fields: Vec<u8>,
    /// The message as it came: header and body, lines ended by CRLF.
    pub body: MessageBody,
}

impl MessageRecord {
    /// Bytes of the message that it holds in memory.
    pub fn held(&self) -> usize {
        let body = match &self.body {
            MessageBody::Inline(bytes) => bytes.len(),
            MessageBody::File { .. } => 0,
        };
        self.fields.len().saturating_add(body)
    }
}

/// The location of a message's bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MessageBody {
    /// In the record.
    Inline(Vec<u8>),
    /// In `body/ID`, written by [`Command::BodyAppend`](super::JournalCommand::BodyAppend).
    File {
        /// Bytes of the file; must equal the appended number.
        len: u64,
        /// Their CRC-32. The journal sums them itself and fills this in.
        crc32: u32,
    },
}

/// The delivery results of some recipients of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutcomeRecord {
    pub id: QueueId,
    /// When it happened.
    pub at: Timestamp,
    /// Index of the recipient in the envelope, and its delivery result; a later record overrides an earlier one.
    pub recipients: Vec<(u32, DeliveryResult)>,
    /// Whether a delay DSN was sent.
    pub warned: bool,
    /// Whether nothing is owed for the message any more.
    pub done: bool,
}

/// The delivery result of one recipient. Texts are cut to [`REPLY_TEXT_CHARS_MAX`](crate::limits::REPLY_TEXT_CHARS_MAX)
/// characters when they are written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeliveryResult {
    /// The next hop has accepted it, or it was expanded to others.
    Delivered,
    /// It will never be delivered.
    Failed {
        /// Why, in code.
        status: EnhancedCode,
        /// The reason in words, with its source.
        why: Arc<FailureCause>,
    },
    /// It will be tried again.
    Deferred {
        /// Attempts so far.
        attempts: u16,
        /// When the next attempt is due.
        until: Timestamp,
        /// Why, in code.
        status: Option<EnhancedCode>,
        /// The reason in words, with its source.
        why: Arc<FailureCause>,
    },
}
