//! Commands to the journal, their completions, and the reasons for a refusal.

use std::fmt;

use super::super::disk::DiskError;
use super::super::frame::Location;
use super::super::reader::ReadError;
use super::super::record::{OutcomeRecord, Record};
use crate::queue_id::QueueId;

/// Names a command in its completion.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// A command to the journal; [`JournalCompletion`] answers it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JournalCommand {
    /// Write a record. Answered by [`JournalCompletion::Committed`] or [`JournalCompletion::Failed`].
    Append {
        /// Identifies the command in the answer.
        ticket: Ticket,
        record: Record,
    },
    /// Write the next piece of a large message. Answered by [`JournalCompletion::BodyWritten`] or
    /// [`JournalCompletion::BodyFailed`]; it is durable only with the message record that names it.
    BodyAppend {
        /// The id of the message.
        id: QueueId,
        bytes: Vec<u8>,
    },
    /// Remove the body of a message that was not accepted. Not answered.
    BodyDiscard {
        /// The id that it had.
        id: QueueId,
    },
    /// Copy a message forward to the end of the journal, with the results of its recipients. Answered like `Append`.
    CopyForward {
        /// Identifies the command in the answer.
        ticket: Ticket,
        id: QueueId,
        /// The state of its recipients.
        progress: OutcomeRecord,
    },
    /// These damaged pieces were reported to `admin`; do not report them again. Not answered.
    Told {
        /// Their names, from [`Aside::name`](super::super::Aside::name).
        names: Vec<Box<str>>,
    },
    /// No reader uses this segment any more: delete it. Not answered.
    Retire { segment: u32 },
}

/// The result of a command, or a request of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JournalCompletion {
    /// The record is durable.
    Committed {
        /// Of the command.
        ticket: Ticket,
        /// The location of the message record, if it was one.
        location: Option<Location>,
    },
    /// The record was not written, and will not be.
    Failed {
        /// Of the command.
        ticket: Ticket,
        error: JournalError,
    },
    /// The piece was written.
    BodyWritten {
        id: QueueId,
        /// Bytes of the piece.
        bytes: usize,
    },
    /// The piece was not written; the message cannot be completed any more.
    BodyFailed { id: QueueId, error: JournalError },
    /// These few messages keep an old segment from being deleted: copy them forward.
    Crowded { messages: Vec<QueueId> },
    /// The segment contains no live message; send [`JournalCommand::Retire`] once no reader uses it.
    Retirable { segment: u32 },
    /// Free bytes on the disk; sent when they are first known, and when the journal starts or stops refusing mail.
    Space {
        /// The bytes.
        free: u64,
    },
}

/// Why the journal refused a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JournalError {
    /// The disk is full, or the remaining space is reserved for delivery results.
    NoSpace,
    /// The disk is read-only, or writing is not permitted.
    ReadOnly,
    /// The disk failed.
    Io,
    /// The disk failed too often; the journal accepts nothing until it is opened again.
    Broken,
    /// The folder of the spool was removed or replaced: records written now would not be found again.
    Displaced,
    /// The record is larger than a segment.
    TooLarge,
    /// The file of the message was not written, or has another length.
    NoBody,
    /// The message to copy is no longer queued.
    NotFound,
    /// The message to copy cannot be read.
    Damaged,
}

impl fmt::Display for JournalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoSpace => "the spool has no space left",
            Self::ReadOnly => "the spool is read-only",
            Self::Io => "the disk of the spool reports an error",
            Self::Broken => "the disk of the spool has failed too often: repair it and restart",
            Self::Displaced => {
                "the folder of the spool was removed or replaced: put it back and restart, or restart to begin an empty one"
            }
            Self::TooLarge => "the message is too large for the journal",
            Self::NoBody => "the message's own file is not complete",
            Self::NotFound => "the message is not in the queue",
            Self::Damaged => "the message is damaged on the disk",
        })
    }
}

impl std::error::Error for JournalError {}

impl From<DiskError> for JournalError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::NoSpace => Self::NoSpace,
            DiskError::ReadOnly => Self::ReadOnly,
            DiskError::Displaced => Self::Displaced,
            _ => Self::Io,
        }
    }
}

impl From<ReadError> for JournalError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Disk(error) => error.into(),
            ReadError::Damaged | ReadError::TooLarge => Self::Damaged,
        }
    }
}
