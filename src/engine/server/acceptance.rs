//! A message on its way from its first byte to the disk: one state at a time, which owns all its data.
//!
//! ```text
//!   Idle --body begins--> Receiving --dot--> Examining --findings--> AtHook --verdict--> Signing --signatures--> Storing
//!     ^                       |  '---------- nothing to examine ------^  ^                  ^  '- no key -----------^
//!     |                       |                                       '--'--- no hook ------'                       |
//!     '------------ refused, given up: drop_body ---------------------------------------- the disk has answered ----'
//! ```

use super::examination::Checking;
use super::intake::Intake;
use super::question::Hooking;
use crate::queue::MessageRecord;
use crate::queue_id::QueueId;

/// The state of a message.
#[derive(Default)]
pub(super) enum Acceptance {
    /// There is no message.
    #[default]
    Idle,
    /// The body is being received.
    Receiving(Box<Intake>),
    /// The message is complete; sender authentication is in progress.
    Examining(Box<Checking>),
    /// The message is at the hook, or waits for it.
    AtHook(Box<Hooking>),
    /// Workers sign the message.
    Signing(Box<Signing>),
    /// The message is on its way to the disk: it may be queued even if its session ends.
    Storing(QueueId),
}

/// A message that waits for its signatures.
pub(super) struct Signing {
    pub(super) record: MessageRecord,
    /// Bytes of its body.
    pub(super) size: u64,
}

impl Acceptance {
    /// The message whose body is being received.
    pub(super) fn receiving(&mut self) -> Option<&mut Intake> {
        match self {
            Self::Receiving(intake) => Some(intake),
            _ => None,
        }
    }

    /// The message that is being examined.
    pub(super) fn examining(&mut self) -> Option<&mut Checking> {
        match self {
            Self::Examining(checking) => Some(checking),
            _ => None,
        }
    }

    /// The message that the hook judges.
    pub(super) fn at_hook(&mut self) -> Option<&mut Hooking> {
        match self {
            Self::AtHook(hooking) => Some(hooking),
            _ => None,
        }
    }

    /// The message that is being signed.
    pub(super) fn signing(&mut self) -> Option<&mut Signing> {
        match self {
            Self::Signing(signing) => Some(signing),
            _ => None,
        }
    }

    /// Takes out the message whose body is being received.
    pub(super) fn take_receiving(&mut self) -> Option<Box<Intake>> {
        match std::mem::take(self) {
            Self::Receiving(intake) => Some(intake),
            other => self.keep(other),
        }
    }

    /// Takes out the message that is being examined.
    pub(super) fn take_examining(&mut self) -> Option<Box<Checking>> {
        match std::mem::take(self) {
            Self::Examining(checking) => Some(checking),
            other => self.keep(other),
        }
    }

    /// Takes out the message that the hook judges.
    pub(super) fn take_at_hook(&mut self) -> Option<Box<Hooking>> {
        match std::mem::take(self) {
            Self::AtHook(hooking) => Some(hooking),
            other => self.keep(other),
        }
    }

    /// Takes out the message that was signed: the disk reports on it next.
    pub(super) fn take_signed(&mut self) -> Option<Box<Signing>> {
        match std::mem::take(self) {
            Self::Signing(signing) => {
                *self = Self::Storing(signing.record.id);
                Some(signing)
            }
            other => self.keep(other),
        }
    }

    fn keep<T>(&mut self, state: Self) -> Option<T> {
        *self = state;
        None
    }

    /// The id of the message.
    pub(super) fn id(&self) -> Option<QueueId> {
        match self {
            Self::Idle => None,
            Self::Receiving(intake) => Some(intake.id()),
            Self::Examining(checking) => Some(checking.id()),
            Self::AtHook(hooking) => Some(hooking.checked.id),
            Self::Signing(signing) => Some(signing.record.id),
            Self::Storing(id) => Some(*id),
        }
    }

    /// Whether this message is on its way to the disk.
    pub(super) fn is_storing(&self, message: QueueId) -> bool {
        matches!(self, Self::Storing(id) if *id == message)
    }

    /// Whether the message is complete and its verdict is still open.
    pub(super) const fn is_judged(&self) -> bool {
        matches!(self, Self::Examining(_) | Self::AtHook(_))
    }

    /// Bytes that it holds, without those on their way to the disk.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Idle | Self::Storing(_) => 0,
            Self::Receiving(intake) => intake.memory(),
            Self::Examining(checking) => checking.memory(),
            Self::AtHook(hooking) => hooking.memory(),
            Self::Signing(signing) => signing.record.held(),
        }
    }

    /// Bytes that can be streamed to the disk.
    pub(super) fn can_stream(&self) -> usize {
        match self {
            Self::Receiving(intake) => intake.can_stream(),
            Self::Examining(checking) => checking.can_stream(),
            Self::Idle | Self::AtHook(_) | Self::Signing(_) | Self::Storing(_) => 0,
        }
    }

    /// Returns the bytes that can be streamed to the disk.
    pub(super) fn stream_out(&mut self) -> Option<(QueueId, Vec<u8>)> {
        match self {
            Self::Receiving(intake) => Some((intake.id(), intake.stream_out())),
            Self::Examining(checking) => Some((checking.id(), checking.stream_out())),
            Self::Idle | Self::AtHook(_) | Self::Signing(_) | Self::Storing(_) => None,
        }
    }
}
