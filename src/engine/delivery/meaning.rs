//! Turns a reply of a server into a reason for logs and DSNs.

use crate::cause::{FailureCause, FailurePlace, QuotedWords};
use crate::engine::event::{Lost, TlsSession};
use crate::smtp::client::{NO_REPLY, SessionRefusal};
use crate::smtp::reply::RemoteReply;
use crate::status::EnhancedCode;

/// The cause for a reply at a place. Our helper speaks LMTP for programs and mailboxes, so its replies are our own
/// words.
pub(super) fn cause_at(at: Option<FailurePlace>, words: QuotedWords) -> FailureCause {
    let words = match (&at, words) {
        (Some(FailurePlace::Program(_)), QuotedWords::Reply(text)) => QuotedWords::Ours(text),
        (_, words) => words,
    };
    FailureCause { at, words }
}

/// The status of the mail when a whole session is refused.
pub(super) fn meaning(refusal: &SessionRefusal) -> (EnhancedCode, QuotedWords) {
    let reply = |reply: &RemoteReply| QuotedWords::Reply(reply.to_text().into());
    match refusal {
        SessionRefusal::Reply(said) => (said.status(), reply(said)),
        // The reply to an unknown command does not concern the mail, whatever its text.
        SessionRefusal::Fallback(said) if matches!(said.code, 500..=504) => {
            (said.status().as_transient(), reply(said))
        }
        SessionRefusal::Fallback(said) => (said.status(), reply(said)),
        SessionRefusal::Parted(said) => (said.status().as_transient(), reply(said)),
        SessionRefusal::Login(said) => {
            let words = reply(said).as_str().to_owned();
            let words = format!("the login of the route is refused: {words}");
            (EnhancedCode::new(4, 7, 8), QuotedWords::ours(words))
        }
        SessionRefusal::NoTls(None) => (
            EnhancedCode::new(4, 7, 10),
            QuotedWords::ours("the TLS that is owed is not offered"),
        ),
        SessionRefusal::NoTls(Some(said)) => {
            let words = reply(said).as_str().to_owned();
            let words = format!("the TLS that is owed is refused: {words}");
            (EnhancedCode::new(4, 7, 10), QuotedWords::ours(words))
        }
        SessionRefusal::Protocol(_, said) if said.is_empty() => {
            (EnhancedCode::new(4, 5, 0), QuotedWords::ours(NO_REPLY))
        }
        SessionRefusal::Protocol(_, said) => {
            let words = format!("{NO_REPLY}: {said}");
            (EnhancedCode::new(4, 5, 0), QuotedWords::ours(words))
        }
        SessionRefusal::Injection => (EnhancedCode::new(4, 7, 5), QuotedWords::ours(INJECTED)),
        SessionRefusal::Ourselves => (
            EnhancedCode::new(5, 4, 6),
            QuotedWords::ours("it is this host, which does not take the mail: a loop"),
        ),
        SessionRefusal::NoAuth => (
            EnhancedCode::new(4, 7, 0),
            QuotedWords::ours("AUTH PLAIN or LOGIN is not offered"),
        ),
    }
}

/// The status of the mail when a connection ends.
pub(super) fn meaning_of_end(cause: &Lost) -> (EnhancedCode, String) {
    let (detail, what) = match cause {
        Lost::Eof => (2, "the server closed the connection"),
        Lost::Refused => (1, "connection refused"),
        Lost::Unreachable => (1, "the host cannot be reached"),
        Lost::Reset => (2, "the connection broke"),
        Lost::Tls(text) => return (EnhancedCode::new(4, 7, 5), format!("TLS failed: {text}")),
    };
    (EnhancedCode::new(4, 4, detail), what.to_owned())
}

pub(super) fn tls_text(tls: Option<&TlsSession>) -> String {
    match tls {
        None => "none".to_owned(),
        Some(tls) if tls.verified => format!("{}:{}:verified", tls.version, tls.cipher),
        Some(tls) => format!("{}:{}", tls.version, tls.cipher),
    }
}

pub(super) const INJECTED: &str = "the server sent bytes after its reply to STARTTLS";
