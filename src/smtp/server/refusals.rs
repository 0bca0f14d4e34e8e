//! The refusals that a session has sent, kept until the owner of the session logs them, so that none is missing in the
//! log.

use std::mem;

use crate::limits::{REFUSALS_KEPT_MAX, SAID_CHARS_MAX};
use crate::smtp::reply::Reply;

/// A refusal that the session has sent: every reply of 4xx and 5xx, of the session or its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SentRefusal {
    pub reply: Reply,
    /// The subject that it answers.
    pub what: RefusalSubject,
    /// The command of the client, if it cannot contain a secret.
    pub said: Option<Box<str>>,
    /// How often it was sent in a row.
    pub times: u32,
}

/// The part of the dialogue that a refusal answers.
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
    /// Keeps a reply if it is a refusal. A repetition, or one that there is no room for, is counted at the last.
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

    /// How many there are: a mark for [`Refusals::answered`].
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

    /// The part of a line that may be shown. A password may occur in AUTH, or out of turn as a command of its own.
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
