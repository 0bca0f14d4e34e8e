//! The requests of the session to its owner, and their data.

use crate::address::ReversePath;
use crate::envelope::{Notify, Recipient};
use crate::smtp::command::{ForwardPath, MailParameters};
use crate::smtp::reply::Reply;

/// A transaction in progress, from MAIL to the end of the body or RSET.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub reverse_path: ReversePath,
    pub parameters: MailParameters,
    /// The recipients, as the owner resolved the forward-paths.
    pub recipients: Vec<Recipient>,
    /// The number of accepted forward-paths.
    pub accepted: usize,
}

impl Transaction {
    /// Adds the recipients that a forward-path expands to. A mailbox that occurs twice in one transaction gets the
    /// message once for each destination.
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
    /// The body is complete; answer with `Session::on_stored`.
    Store(Box<Transaction>),
    /// The transaction has ended without a message; drop any stored part of its body. Needs no answer.
    Forget,
    /// The message was refused for its content or its size, with this reply; drop any stored part of its body. Needs no
    /// answer.
    Refuse(Reply),
    /// As `Refuse`, and the session has ended: send the pending output, then close.
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
    /// The credentials are wrong; send this reply. It counts towards the session's limit of failures.
    Failure(Reply),
    /// AUTH is not possible now: send this temporary reply. It does not count as a failure.
    Refusal(Reply),
    /// AUTH is refused for the whole session, which ends with this reply.
    End(Reply),
}
