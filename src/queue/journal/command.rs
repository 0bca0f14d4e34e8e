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

/// What the journal is asked for; [`JournalCompletion`] answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JournalCommand {
    /// Write a record. Answered by [`JournalCompletion::Committed`] or [`JournalCompletion::Failed`].
    Append {
        /// Named in the answer.
        ticket: Ticket,
        record: Record,
    },
    /// Write the next piece of a large message. Answered by [`JournalCompletion::BodyWritten`] or
    /// [`JournalCompletion::BodyFailed`]; it is durable only with the message record that names it.
    BodyAppend {
        /// The message that it will be.
        id: QueueId,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// Forget a large message that will not be. Not answered.
    BodyDiscard {
        /// The message that it would have been.
        id: QueueId,
    },
    /// Write a message again, at the end, with all that became of it. Answered as `Append` is.
    CopyForward {
        /// Named in the answer.
        ticket: Ticket,
        id: QueueId,
        /// Everything that is known of its recipients.
        progress: OutcomeRecord,
    },
    /// These pieces of damage were reported to `admin`, and are not reported again. Not answered.
    Told {
        /// Their names, from [`Aside::name`](super::super::Aside::name).
        names: Vec<Box<str>>,
    },
    /// No reader uses this segment any more. Not answered.
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
    /// The record is not written, and will not be.
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
    /// These few keep an old segment alive: copy them forward.
    Crowded { messages: Vec<QueueId> },
    /// Nothing in the segment is alive; send [`JournalCommand::Retire`] once no reader uses it.
    Retirable { segment: u32 },
    /// Bytes that are free on the disk; said when it is first known and when mail starts or ceases to be refused.
    Space {
        /// The bytes.
        free: u64,
    },
}

/// Why the journal refused something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JournalError {
    /// The disk is full, or the rest is reserved for outcomes.
    NoSpace,
    /// The disk does not let us write.
    ReadOnly,
    /// The disk failed.
    Io,
    /// The disk failed too often; the journal takes nothing until it is opened again.
    Broken,
    /// The folder of the spool was removed or replaced: records written now would not be found again.
    Displaced,
    /// The record is larger than a segment.
    TooLarge,
    /// The message's file was not written, or not to this length.
    NoBody,
    /// The message to be copied is not alive.
    NotFound,
    /// The message to be copied cannot be read.
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
