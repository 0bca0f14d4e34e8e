//! The states of a session; each owns the data that exist only in that state.

use super::request::Transaction;
use super::settings::ServerSettings;

use crate::smtp::command::Greeting;
use crate::smtp::data::{BodyFault, Decoder};
use crate::smtp::reply::Reply;

/// The state of a session.
#[derive(Debug)]
pub(super) enum State {
    /// Before the banner is sent.
    Silent,
    /// Before EHLO.
    Connected,
    /// Between transactions.
    Greeted,
    /// A challenge was sent.
    Auth,
    /// The owner must answer a request.
    Waiting(Waiting),
    /// MAIL was accepted.
    Mail(Box<Transaction>),
    /// Inside DATA.
    Data(Box<Incoming>),
    /// Between chunks.
    Bdat(Box<Incoming>),
    /// Inside a chunk.
    Chunk(Box<Chunk>),
    /// No more input is read.
    Closed,
}

/// The answer of the owner that is awaited.
#[derive(Debug)]
pub(super) enum Waiting {
    Hello {
        /// The state to return to after a refusal.
        before: Box<State>,
        greeting: Greeting,
        name: Box<str>,
    },
    Sender(Box<Transaction>),
    Recipient(Box<Transaction>),
    Auth,
    Tls,
    Body(Box<Transaction>, Opening),
    Store,
}

/// The command that begins a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Opening {
    Data,
    Bdat(ChunkSize),
}

/// The size announced by BDAT.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkSize {
    pub(super) len: u64,
    pub(super) last: bool,
}

/// A message whose body arrives.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) transaction: Box<Transaction>,
    decoder: Decoder,
    /// Bytes of the body so far.
    size: u64,
}

/// A chunk that arrives.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The message that the chunk belongs to, or the reply that follows once the chunk is discarded.
    pub(super) message: Result<Box<Incoming>, Reply>,
    /// Bytes that have not arrived yet.
    pub(super) left: u64,
    pub(super) last: bool,
}

impl State {
    /// The transaction, from its accepted reverse-path until its body is complete.
    pub(super) fn transaction(&self) -> Option<&Transaction> {
        match self {
            Self::Mail(transaction)
            | Self::Waiting(Waiting::Recipient(transaction) | Waiting::Body(transaction, _)) => {
                Some(transaction)
            }
            Self::Data(incoming) | Self::Bdat(incoming) => Some(&incoming.transaction),
            Self::Chunk(chunk) => chunk
                .message
                .as_ref()
                .ok()
                .map(|incoming| &*incoming.transaction),
            _ => None,
        }
    }

    /// Whether the owner knows of a transaction that a command ends.
    pub(super) fn has_transaction(&self) -> bool {
        matches!(self, Self::Mail(_) | Self::Bdat(_))
    }

    /// Whether a body arrives.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Bdat(_) | Self::Chunk(_))
    }
}

impl Incoming {
    pub(super) fn new(transaction: Box<Transaction>, decoder: Decoder) -> Self {
        Self {
            transaction,
            decoder,
            size: 0,
        }
    }

    /// Consumes input; returns whether the end of the body was reached.
    pub(super) fn take(&mut self, input: &mut &[u8], body: &mut Vec<u8>) -> bool {
        let before = body.len();
        let is_whole = self.decoder.decode(input, body);
        self.count(body.len().saturating_sub(before));
        is_whole
    }

    /// Ends a body whose bytes contain no end.
    pub(super) fn finish(&mut self, body: &mut Vec<u8>) {
        let before = body.len();
        self.decoder.finish(body);
        self.count(body.len().saturating_sub(before));
    }

    fn count(&mut self, len: usize) {
        self.size = self.size.saturating_add(len as u64);
    }

    /// The refusal of the message for its content or its size.
    pub(super) fn refusal(&self, settings: &ServerSettings) -> Option<Reply> {
        match self.decoder.fault() {
            Some(fault) => Some(Reply::from(fault)),
            None if self.size > settings.message_bytes_max => Some(Reply::TOO_BIG),
            None => None,
        }
    }

    /// Whether the input after the body may be part of its text.
    pub(super) fn may_smuggle(&self) -> bool {
        matches!(
            self.decoder.fault(),
            Some(BodyFault::BareNewline | BodyFault::Nul)
        )
    }
}
