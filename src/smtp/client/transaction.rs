//! A message that is sent to a server: the data that the session needs, and its progress.

use std::collections::VecDeque;

use super::result::RecipientResult;
use crate::address::{Mailbox, ReversePath};
use crate::envelope::{BodyKind, DsnReturn, Notify};

/// One message as the session needs to know it.
#[derive(Clone, Debug)]
pub struct ClientMail {
    pub reverse_path: ReversePath,
    /// The recipients; the results have this order.
    pub recipients: Vec<Rcpt>,
    /// Bytes of the message.
    pub size: u64,
    pub body: BodyKind,
    /// Whether the message itself needs SMTPUTF8. The session checks the addresses itself.
    pub smtputf8: bool,
    /// RET.
    pub dsn_return: Option<DsnReturn>,
    /// ENVID.
    pub envelope_id: Option<Box<str>>,
}

/// One forward-path.
#[derive(Clone, Debug)]
pub struct Rcpt {
    pub mailbox: Mailbox,
    pub notify: Notify,
    /// ORCPT.
    pub original: Option<Box<str>>,
}

/// A transaction in progress.
pub(super) struct Sending {
    pub(super) mail: ClientMail,
    /// Commands that have no reply yet, oldest first.
    pub(super) awaited: VecDeque<Sent>,
    /// Commands that are not sent yet (without PIPELINING).
    pub(super) waiting: VecDeque<Sent>,
    pub(super) results: Vec<Option<RecipientResult>>,
    pub(super) accepted: usize,
    /// The refusal of MAIL or DATA, for all recipients.
    pub(super) refused: Option<RecipientResult>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sent {
    Rset,
    Mail,
    Rcpt(usize),
    Data,
}
