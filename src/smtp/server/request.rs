//! The requests of the session to its owner, and the data that come with them.

use crate::address::ReversePath;
use crate::envelope::{Notify, Recipient};
use crate::smtp::command::{ForwardPath, MailParameters};
use crate::smtp::reply::Reply;

/// A transaction that is being built: it lives from MAIL to the end of the body, or to RSET.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub reverse_path: ReversePath,
    pub parameters: MailParameters,
    /// The recipients, as the owner resolved the forward-paths.
    pub recipients: Vec<Recipient>,
    /// How many forward-paths were accepted.
    pub accepted: usize,
}

impl Transaction {
    /// Adds the mailboxes that a forward-path leads to. A mailbox that occurs twice in one transaction gets the message
    /// once by each destination.
    pub(super) fn add(&mut self, recipients: Vec<Recipient>) {
        for recipient in recipients {
            let same = |known: &Recipient| {
                known.mailbox == recipient.mailbox && known.destination == recipient.destination
            };
            if !self.recipients.iter().any(same) {
                self.recipients.push(recipient);
            }
        }
        self.accepted = self.accepted.saturating_add(1);
    }
}

/// A request of the session to its owner.
#[must_use]
#[derive(Debug)]
pub enum ServerRequest {
    /// Judge an EHLO or HELO; answer with `Session::on_ehlo`. Only if `Session::ask_about_ehlo` was called.
    Hello {
        /// The name that the client gives.
        name: Box<str>,
    },
    /// Decide on a reverse-path; answer with `Session::on_sender`.
    Sender {
        from: ReversePath,
        /// SIZE, if given.
        size: Option<u64>,
    },
    /// Decide on a forward-path; answer with `Session::on_recipient`.
    Recipient {
        to: ForwardPath,
        notify: Notify,
        /// ORCPT.
        original: Option<Box<str>>,
    },
    /// Begin an exchange of AUTH; answer with `Session::on_auth`.
    Authenticate {
        /// The mechanism, in capitals.
        mechanism: Box<str>,
        /// The initial response, decoded.
        initial: Option<Vec<u8>>,
    },
    /// A response of the exchange, decoded; answer with `Session::on_auth`.
    Respond(Vec<u8>),
    /// Send the pending output, then start TLS; answer with `Session::on_tls`. Drop the input behind it.
    StartTls,
    /// A body begins; its bytes follow in the `body` argument of `Session::advance`. Answer with
    /// `Session::on_body_ready`.
    BeginBody,
    /// The body is whole; answer with `Session::on_stored`.
    Store(Box<Transaction>),
    /// The transaction is over without a message; any stored part of its body can be dropped. Needs no answer.
    Forget,
    /// The message is refused for its bytes or its size, and the client got this reply; any stored part of its body can
    /// be dropped. Needs no answer.
    Refuse(Reply),
    /// The same, and the session is over: send the pending output, then close.
    RefuseAndClose(Reply),
    /// Send the pending output, then close. Needs no answer.
    Close,
}

/// The next step of an AUTH exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthStep {
    /// Send this challenge.
    Challenge(Vec<u8>),
    /// The client is authenticated.
    Success,
    /// The credentials are wrong; the reply gives the reason. Counts towards the session's end.
    Failure(Reply),
    /// Not now; the reply is temporary and no failure is counted.
    Refusal(Reply),
    /// Not in this session, which ends with the reply.
    End(Reply),
}
