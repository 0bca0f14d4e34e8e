//! What a server said, as a reason that people are told.

use crate::cause::{Cause, Place, Words};
use crate::engine::event::{Lost, TlsSession};
use crate::smtp::client::{NO_REPLY, Refusal};
use crate::smtp::reply::RemoteReply;
use crate::status::EnhancedCode;

/// What was said at a place. Our helper speaks LMTP for programs and mailboxes: its replies are our words.
pub(super) fn cause_at(at: Option<Place>, words: Words) -> Cause {
    let words = match (&at, words) {
        (Some(Place::Program(_)), Words::Reply(text)) => Words::Ours(text),
        (_, words) => words,
    };
    Cause { at, words }
}

/// What a refusal of a whole session means for the mail.
pub(super) fn meaning(refusal: &Refusal) -> (EnhancedCode, Words) {
    let reply = |reply: &RemoteReply| Words::Reply(reply.to_text().into());
    match refusal {
        Refusal::Reply(said) => (said.status(), reply(said)),
        // A command that it does not know says nothing of the mail, however it is put.
        Refusal::Fallback(said) if matches!(said.code, 500..=504) => {
            (said.status().as_transient(), reply(said))
        }
        Refusal::Fallback(said) => (said.status(), reply(said)),
        Refusal::Parted(said) => (said.status().as_transient(), reply(said)),
        Refusal::Login(said) => {
            let words = reply(said).as_str().to_owned();
            let words = format!("the login of the route is refused: {words}");
            (EnhancedCode::new(4, 7, 8), Words::ours(words))
        }
        Refusal::NoTls(None) => (
            EnhancedCode::new(4, 7, 10),
            Words::ours("the TLS that is owed is not offered"),
        ),
        Refusal::NoTls(Some(said)) => {
            let words = reply(said).as_str().to_owned();
            let words = format!("the TLS that is owed is refused: {words}");
            (EnhancedCode::new(4, 7, 10), Words::ours(words))
        }
        Refusal::Protocol(_, said) if said.is_empty() => {
            (EnhancedCode::new(4, 5, 0), Words::ours(NO_REPLY))
        }
        Refusal::Protocol(_, said) => {
            let words = format!("{NO_REPLY}: {said}");
            (EnhancedCode::new(4, 5, 0), Words::ours(words))
        }
        Refusal::Injection => (EnhancedCode::new(4, 7, 5), Words::ours(INJECTED)),
        Refusal::Ourselves => (
            EnhancedCode::new(5, 4, 6),
            Words::ours("it is this host, which does not take the mail: a loop"),
        ),
        Refusal::NoAuth => (
            EnhancedCode::new(4, 7, 0),
            Words::ours("AUTH PLAIN or LOGIN is not offered"),
        ),
    }
}

/// What the end of a connection means for the mail.
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

pub(super) const INJECTED: &str = "the server sent bytes behind its reply to STARTTLS";
