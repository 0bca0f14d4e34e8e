//! Submits a message to our own relay, one SMTP command at a time (RFC 5321), and reports the result for each
//! recipient.
//!
//! ```text
//!   banner --> EHLO --> MAIL --> RCPT ... --> DATA --> message --> "." --> over, or MAIL for the recipients that are left
//!                         ^         '--> RSET, where none was taken ---------------'
//! ```
//!
//! Invariant: a recipient is [`Submitted::Taken`] only after a positive reply to the final dot of its transaction.

use crate::limits::RECIPIENTS_MAX;
use crate::smtp::data::Encoder;
use crate::smtp::reply::{RemoteReply, ReplyReader};
use crate::status::EnhancedCode;

/// The result for a recipient.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Submitted {
    /// The relay has taken the message for it.
    Taken,
    /// It refuses it for good.
    Refused(Reason),
    /// Later.
    Deferred(Reason),
}

/// Why: a status and the words for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reason {
    pub status: EnhancedCode,
    /// The reply on one line, or the error.
    pub text: String,
}

impl Reason {
    fn of(reply: &RemoteReply) -> Self {
        Self {
            status: reply.status(),
            text: reply.to_text(),
        }
    }
}

impl Submitted {
    /// The result for a reply that is not positive.
    fn of(reply: &RemoteReply) -> Self {
        if reply.is_permanent() {
            Self::Refused(Reason::of(reply))
        } else {
            Self::Deferred(Reason::of(reply))
        }
    }

    /// Something on this machine went wrong.
    pub(super) fn later(text: &str) -> Self {
        Self::Deferred(Reason {
            status: EnhancedCode::new(4, 3, 0),
            text: text.to_owned(),
        })
    }
}

/// The next step of a session.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this, then pass on the reply.
    Send(Vec<u8>),
    /// Send the message in the file, then pass on the reply.
    SendMessage,
    /// Wait for the reply, then pass it on.
    Wait,
    /// It is over; as many results as there are recipients.
    Over(Vec<Submitted>),
}

/// The message to submit.
#[derive(Debug)]
pub(super) struct Mail {
    /// The MAIL command.
    pub(super) mail: String,
    /// The RCPT commands.
    pub(super) rcpt: Vec<String>,
    /// Bytes of the message.
    pub(super) size: u64,
    /// The message, if it is not in the file.
    pub(super) own: Option<Vec<u8>>,
}

/// A session with our own relay.
#[derive(Debug)]
pub(super) struct Dialogue {
    mail: Mail,
    reader: ReplyReader,
    unread: Vec<u8>,
    stage: Stage,
    /// RCPTMAX of LIMITS (RFC 9422).
    recipients_max: usize,
    /// SIZE (RFC 1870).
    size_max: u64,
    /// The results for the recipients of earlier transactions, in their order.
    results: Vec<Submitted>,
    /// The recipients of this transaction so far; `None` for an accepted one.
    named: Vec<Option<Submitted>>,
}

/// The command that the next reply answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Banner,
    Ehlo,
    Mail,
    Rcpt,
    Rset,
    Data,
    Dot,
}

impl Dialogue {
    /// A session that is being opened.
    pub(super) fn new(mail: Mail) -> Self {
        Self {
            mail,
            reader: ReplyReader::default(),
            unread: Vec::new(),
            stage: Stage::Banner,
            recipients_max: RECIPIENTS_MAX,
            size_max: u64::MAX,
            results: Vec::new(),
            named: Vec::new(),
        }
    }

    /// Bytes came from the relay.
    pub(super) fn on_bytes(&mut self, bytes: &[u8]) -> Next {
        self.unread.extend_from_slice(bytes);
        let mut sent = Vec::new();
        loop {
            let unread = std::mem::take(&mut self.unread);
            let mut input = unread.as_slice();
            let reply = self.reader.read(&mut input);
            self.unread = input.to_vec();
            let next = match reply {
                Ok(Some(reply)) => self.on_reply(&reply),
                Ok(None) if sent.is_empty() => return Next::Wait,
                Ok(None) => return Next::Send(sent),
                Err(error) => return self.on_lost(&format!("{error:?}")),
            };
            match next {
                // A reply behind this one belongs to the bytes sent now: the relay gives its reason for ending the
                // session.
                Next::Send(bytes) => sent.extend_from_slice(&bytes),
                Next::Wait => {}
                next => return next,
            }
        }
    }

    /// The session is gone, or the relay is silent.
    pub(super) fn on_lost(&mut self, cause: &str) -> Next {
        self.over(Submitted::later(cause))
    }

    fn on_reply(&mut self, reply: &RemoteReply) -> Next {
        // Of the relay itself nothing is for good before there is a message.
        let later = || Submitted::Deferred(Reason::of(reply));
        match self.stage {
            Stage::Banner if !reply.is_positive() => self.over(later()),
            Stage::Banner => self.say(Stage::Ehlo, "EHLO localhost"),
            Stage::Ehlo if !reply.is_positive() => self.over(later()),
            Stage::Ehlo => self.on_greeting(reply),
            // A reply that refuses one message does not concern the next, but here the message is the same for all
            // remaining recipients.
            Stage::Mail if !reply.is_positive() => self.over(Submitted::of(reply)),
            Stage::Mail => self.name_next(),
            Stage::Rcpt => self.on_recipient(reply),
            Stage::Rset if !reply.is_positive() => self.over(Submitted::of(reply)),
            Stage::Rset => self.close(&Submitted::Taken),
            Stage::Data if reply.code != 354 => self.close(&Submitted::of(reply)),
            Stage::Data => self.hand_over(),
            Stage::Dot if reply.is_positive() => self.close(&Submitted::Taken),
            Stage::Dot => self.close(&Submitted::of(reply)),
        }
    }

    fn say(&mut self, stage: Stage, line: &str) -> Next {
        self.stage = stage;
        Next::Send(format!("{line}\r\n").into_bytes())
    }

    fn on_greeting(&mut self, greeting: &RemoteReply) -> Next {
        for line in &greeting.lines {
            let number = |text: &str| text.parse().ok();
            if let Some(most) = line.strip_prefix("LIMITS RCPTMAX=").and_then(number) {
                self.recipients_max = usize::try_from(most).unwrap_or(usize::MAX).max(1);
            } else if let Some(most @ 1..) = line.strip_prefix("SIZE ").and_then(number) {
                self.size_max = most;
            }
        }
        let (size, most) = (self.mail.size, self.size_max);
        if size > most {
            return self.over(Submitted::Refused(Reason {
                status: EnhancedCode::new(5, 3, 4),
                text: format!("the message has {size} bytes, and {most} is the limit"),
            }));
        }
        self.begin()
    }

    /// Begins a transaction for the recipients that are left.
    fn begin(&mut self) -> Next {
        self.named.clear();
        let mail = self.mail.mail.clone();
        self.say(Stage::Mail, &mail)
    }

    /// Names the next recipient, or ends the transaction.
    fn name_next(&mut self) -> Next {
        let next = self.results.len().saturating_add(self.named.len());
        match self.mail.rcpt.get(next) {
            Some(line) if self.named.len() < self.recipients_max => {
                let line = line.clone();
                self.say(Stage::Rcpt, &line)
            }
            _ => self.named_all(),
        }
    }

    fn on_recipient(&mut self, reply: &RemoteReply) -> Next {
        let taken = self.named.iter().any(Option::is_none);
        if reply.code == 452 && reply.status() == EnhancedCode::new(4, 5, 3) && taken {
            return self.named_all(); // the rest in another transaction (RFC 5321 section 4.5.3.1.10)
        }
        if reply.code == 421 {
            return self.over(Submitted::of(reply));
        }
        let refused = (!reply.is_positive()).then(|| Submitted::of(reply));
        self.named.push(refused);
        self.name_next()
    }

    fn named_all(&mut self) -> Next {
        if self.named.iter().any(Option::is_none) {
            return self.say(Stage::Data, "DATA");
        }
        self.say(Stage::Rset, "RSET")
    }

    fn hand_over(&mut self) -> Next {
        self.stage = Stage::Dot;
        let Some(own) = &self.mail.own else {
            return Next::SendMessage;
        };
        let (mut encoder, mut wire) = (Encoder::default(), Vec::new());
        encoder.encode(own, &mut wire);
        encoder.finish(&mut wire);
        Next::Send(wire)
    }

    /// The transaction is over, with this result for its accepted recipients.
    fn close(&mut self, result: &Submitted) -> Next {
        self.enter(result);
        match result {
            // A reason to defer one recipient defers the next as well.
            Submitted::Deferred(_) => self.over(result.clone()),
            _ if self.results.len() < self.mail.rcpt.len() => self.begin(),
            _ => Next::Over(std::mem::take(&mut self.results)),
        }
    }

    fn enter(&mut self, result: &Submitted) {
        let named = std::mem::take(&mut self.named).into_iter();
        self.results
            .extend(named.map(|one| one.unwrap_or_else(|| result.clone())));
    }

    /// The session is over, with this result for all recipients that have none yet.
    fn over(&mut self, rest: Submitted) -> Next {
        self.enter(&rest);
        let mut results = std::mem::take(&mut self.results);
        results.resize(self.mail.rcpt.len(), rest);
        Next::Over(results)
    }
}
