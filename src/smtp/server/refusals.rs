//! The refusals that a session has sent, kept until the session's owner logs them, so that the log contains all of
//! them.

use std::mem;

use crate::limits::{REFUSALS_KEPT_MAX, SAID_CHARS_MAX};
use crate::smtp::reply::Reply;

/// A refusal that was sent: a 4xx or 5xx reply of the session or of its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SentRefusal {
    pub reply: Reply,
    pub what: RefusalSubject,
    /// The client's command, unless it may contain a secret.
    pub said: Option<Box<str>>,
    /// How often in a row it was sent.
    pub times: u32,
}

/// The part of the session that a refusal concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusalSubject {
    /// EHLO and HELO.
    Hello,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA, BDAT and the following input.
    Message,
    /// AUTH and the following input.
    Auth,
    /// STARTTLS.
    Tls,
    /// Anything else.
    Command,
    /// The session as a whole.
    Session,
}

/// Refusals that the owner has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kept: Vec<SentRefusal>,
}

impl Refusals {
    /// Keeps a reply if it is a refusal. A repetition, or a refusal beyond the limit, only increases the count of the
    /// last one.
    pub(super) fn keep(&mut self, reply: &Reply, what: RefusalSubject) {
        if reply.code() < 400 {
            return;
        }
        let is_full = self.kept.len() >= REFUSALS_KEPT_MAX;
        if let Some(last) = self.kept.last_mut()
            && (is_full || last.said.is_none() && last.reply == *reply && last.what == what)
        {
            last.times = last.times.saturating_add(1);
            return;
        }
        self.kept.push(SentRefusal {
            reply: reply.clone(),
            what,
            said: None,
            times: 1,
        });
    }

    /// The number of refusals, as a mark for [`Refusals::answered`].
    pub(super) fn mark(&self) -> usize {
        self.kept.len()
    }

    /// Adds the client's command to the refusals after a mark.
    pub(super) fn answered(&mut self, mark: usize, what: RefusalSubject, line: &[u8]) {
        if let Some(said) = what.shown(line) {
            let new = self.kept.iter_mut().skip(mark);
            new.for_each(|refused| refused.said = Some(said.clone()));
        }
    }

    /// Takes all of them.
    pub(super) fn take(&mut self) -> Vec<SentRefusal> {
        mem::take(&mut self.kept)
    }
}

impl RefusalSubject {
    /// The subject of a line, by its verb.
    pub(super) fn of(line: &[u8]) -> Self {
        let verb = line.split(|byte| matches!(byte, b' ' | b'\t')).next();
        let verb = verb.unwrap_or_default().to_ascii_uppercase();
        match verb.as_slice() {
            b"EHLO" | b"HELO" => Self::Hello,
            b"MAIL" => Self::Sender,
            b"RCPT" => Self::Recipient,
            b"DATA" | b"BDAT" => Self::Message,
            b"AUTH" => Self::Auth,
            b"STARTTLS" => Self::Tls,
            _ => Self::Command,
        }
    }

    /// As the log names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Message => "message",
            Self::Auth => "auth",
            Self::Tls => "starttls",
            Self::Command => "command",
            Self::Session => "session",
        }
    }

    /// The part of a line that may be logged. A password may occur in AUTH, or as a misplaced line of its own.
    fn shown(self, line: &[u8]) -> Option<Box<str>> {
        match self {
            Self::Hello | Self::Sender | Self::Recipient => {
                let text = String::from_utf8_lossy(line);
                Some(text.chars().take(SAID_CHARS_MAX).collect())
            }
            Self::Message | Self::Auth | Self::Tls | Self::Command | Self::Session => None,
        }
    }
}
