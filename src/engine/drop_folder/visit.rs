//! The handling of one file, from its opening to its removal: what is sent to the relay, who gets a DSN, and which
//! recipients remain.
//!
//! ```text
//!   Playing --all results--> Telling, where recipients are refused --DSN taken, or nobody takes it--> Settle
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use super::DropRules;
use super::dialogue::{Dialogue, Mail, Next, Reason, Submitted};
use super::form::DroppedFile;
use super::returned::{self, Dsn};
use crate::address::{Mailbox, ReversePath};
use crate::date::Timestamp;
use crate::engine::log::{Level, Line};
use crate::entropy::Entropy;
use crate::envelope::Recipient;
use crate::queue_id::QueueId;

/// The next step for a file.
#[derive(Debug)]
#[must_use]
pub enum VisitStep {
    /// Open a session with the relay, as a process of this user: `on_bytes` with its output, or `on_lost`.
    Connect(u32),
    /// Send this: `on_bytes` is next, or `on_lost`.
    Send(Vec<u8>),
    /// Send the message in the file, with its dots stuffed, and the final dot: `on_bytes` is next. If the file cannot
    /// be read, or has changed, send nothing more; `on_lost` is next.
    SendMessage,
    /// `on_bytes` or `on_lost` is next.
    Wait,
    /// All sessions are over; settle the file like this.
    Settle(Settlement),
}

/// How a file is settled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Settlement {
    /// Nothing is owed for it: it is removed.
    Remove,
    /// Something is owed to some of its recipients: a file with these lines in place of its envelope takes its place.
    Replace(Vec<String>),
    /// It stays as it is, for later.
    Wait { cause: String },
}

/// A file that is being sent.
#[derive(Debug)]
pub struct Visit {
    name: String,
    form: DroppedFile,
    rules: Arc<DropRules>,
    began: Timestamp,
    dialogue: Dialogue,
    stage: Stage,
    results: Vec<Submitted>,
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Stage {
    /// The message is handed over.
    Playing,
    /// A DSN is handed over.
    Telling(Telling),
    /// Everything is.
    Over,
}

#[derive(Debug)]
struct Telling {
    /// The id of the message in the DSN.
    id: QueueId,
    /// The recipients of the DSN in order, each with whether the header is included; the first is being tried.
    ways: VecDeque<(Mailbox, bool)>,
    /// Why the last one was refused.
    last: Option<String>,
}

/// Whether everyone who must be notified has been.
type Told = Result<(), String>;

impl Visit {
    /// Begins with a file that was checked; `name` is for the log.
    pub fn new(
        name: String,
        form: DroppedFile,
        rules: Arc<DropRules>,
        now: Timestamp,
    ) -> (Self, VisitStep) {
        let mail = Mail {
            mail: form.envelope.mail.clone(),
            rcpt: (form.envelope.rcpt.iter())
                .map(|(line, _)| line.clone())
                .collect(),
            size: form.size,
            own: None,
        };
        let step = VisitStep::Connect(form.uid);
        let visit = Self {
            name,
            form,
            rules,
            began: now,
            dialogue: Dialogue::new(mail),
            stage: Stage::Playing,
            results: Vec::new(),
            lines: Vec::new(),
        };
        (visit, step)
    }

    /// The parsed front of the file: its envelope, its size, and the offset of the message.
    pub const fn form(&self) -> &DroppedFile {
        &self.form
    }

    /// The relay said something.
    pub fn on_bytes(&mut self, bytes: &[u8], entropy: &mut dyn Entropy) -> VisitStep {
        let next = self.dialogue.on_bytes(bytes);
        self.go_on(next, entropy)
    }

    /// The session is gone, silent, or cannot be opened; or the message cannot be read.
    pub fn on_lost(&mut self, cause: &str, entropy: &mut dyn Entropy) -> VisitStep {
        let next = self.dialogue.on_lost(cause);
        self.go_on(next, entropy)
    }

    /// Takes the log lines so far.
    pub fn take_lines(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }

    /// The line about a file that was taken.
    pub fn taken_line(&self) -> Line {
        let count = |is: fn(&Submitted) -> bool| self.results.iter().filter(|one| is(one)).count();
        self.line(Level::Info, "drop-taken")
            .with("uid", self.form.uid)
            .with("rcpts", count(|one| *one == Submitted::Taken))
            .with("refused", count(|one| matches!(one, Submitted::Refused(_))))
            .with("later", count(|one| matches!(one, Submitted::Deferred(_))))
    }

    fn line(&self, level: Level, event: &'static str) -> Line {
        Line::new(level, event).with("file", &self.name)
    }

    fn go_on(&mut self, next: Next, entropy: &mut dyn Entropy) -> VisitStep {
        match next {
            Next::Send(bytes) => VisitStep::Send(bytes),
            Next::SendMessage => VisitStep::SendMessage,
            Next::Wait => VisitStep::Wait,
            Next::Over(results) => self.on_results(results, entropy),
        }
    }

    fn on_results(&mut self, results: Vec<Submitted>, entropy: &mut dyn Entropy) -> VisitStep {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Playing => {
                self.results = self.give_up(results);
                self.tell(entropy)
            }
            Stage::Telling(telling) => self.on_told(telling, results.into_iter().next(), entropy),
            Stage::Over => self.settle(&Ok(())),
        }
    }

    /// Refuses recipients that were tried for too long.
    fn give_up(&self, results: Vec<Submitted>) -> Vec<Submitted> {
        if self.began.since(self.form.since) < self.rules.give_up_after {
            return results;
        }
        let give_up = |result| match result {
            Submitted::Deferred(reason) => Submitted::Refused(reason),
            result => result,
        };
        results.into_iter().map(give_up).collect()
    }

    /// The recipients whose sender must get a failure DSN.
    fn untold(&self) -> Vec<(&Recipient, &Reason)> {
        let rows = self.form.envelope.rcpt.iter().zip(&self.results);
        rows.filter_map(|((_, recipient), result)| match result {
            Submitted::Refused(reason) if recipient.notify.wants_failure() => {
                Some((recipient, reason))
            }
            _ => None,
        })
        .collect()
    }

    /// Sends the DSN about the refusals.
    fn tell(&mut self, entropy: &mut dyn Entropy) -> VisitStep {
        if self.untold().is_empty() {
            return self.settle(&Ok(()));
        }
        // Mail of the null sender is not returned (RFC 5321 section 6.1), but the administrator must be informed.
        let sender = match &self.form.envelope.from {
            ReversePath::Mailbox(mailbox) => Some(mailbox),
            ReversePath::Null => None,
        };
        // A hook that refuses the message for its header refuses a DSN that shows it.
        let ways = sender.into_iter().chain(self.rules.admin.as_ref());
        let ways = ways.flat_map(|to| [(to.clone(), true), (to.clone(), false)]);
        let telling = Telling {
            id: QueueId::new(entropy.next_u64()),
            ways: ways.collect(),
            last: None,
        };
        self.tell_next(telling, entropy)
    }

    fn tell_next(&mut self, telling: Telling, entropy: &mut dyn Entropy) -> VisitStep {
        let Some((to, with_header)) = telling.ways.front() else {
            return self.untellable(telling);
        };
        let dsn = Dsn {
            rules: &self.rules,
            id: telling.id,
            now: self.began,
        };
        let header = match with_header {
            true => self.form.header.as_slice(),
            false => &[],
        };
        let rows = self.untold();
        let message = returned::build(&self.form, &rows, header, to, &dsn, entropy);
        let mut mail = format!("MAIL FROM:<> SIZE={}", message.bytes.len());
        mail.push_str(if message.eight_bit {
            " BODY=8BITMIME"
        } else {
            ""
        });
        mail.push_str(if message.smtputf8 { " SMTPUTF8" } else { "" });
        self.dialogue = Dialogue::new(Mail {
            mail,
            rcpt: vec![format!("RCPT TO:<{to}> NOTIFY=NEVER")],
            size: message.bytes.len() as u64,
            own: Some(message.bytes),
        });
        self.stage = Stage::Telling(telling);
        // As the sender, so that the limits of the sender apply to the DSNs that it causes, too.
        VisitStep::Connect(self.form.uid)
    }

    fn on_told(
        &mut self,
        mut telling: Telling,
        result: Option<Submitted>,
        entropy: &mut dyn Entropy,
    ) -> VisitStep {
        match result {
            Some(Submitted::Taken) => {
                let rows = self.untold();
                let line = self.line(Level::Info, "drop-returned");
                let line = line.with("id", telling.id);
                let line = line.with_some("to", telling.ways.front().map(|(to, _)| to));
                let line = line.with("rcpts", rows.len());
                let cause = rows.first().map(|(_, reason)| reason.text.as_str());
                let line = line.with_some("cause", cause);
                self.lines.push(line);
                self.settle(&Ok(()))
            }
            Some(Submitted::Refused(reason)) => {
                telling.ways.pop_front();
                telling.last = Some(reason.text);
                self.tell_next(telling, entropy)
            }
            Some(Submitted::Deferred(reason)) => self.settle(&Err(reason.text)),
            None => self.settle(&Err(String::new())),
        }
    }

    /// While no DSN can be delivered, the message is not deleted.
    fn untellable(&mut self, telling: Telling) -> VisitStep {
        let line = self.line(Level::Error, "drop-unreturned");
        let line = line.with("id", telling.id);
        let line = line.with("rcpts", self.untold().len());
        let line = line.with_some("cause", telling.last.as_deref());
        self.lines.push(line);
        let nobody = || "nobody can be notified; set admin in chopar.toml".to_owned();
        self.settle(&Err(telling.last.unwrap_or_else(nobody)))
    }

    fn settle(&mut self, told: &Told) -> VisitStep {
        self.stage = Stage::Over;
        let rows = self.form.envelope.rcpt.iter().zip(&self.results);
        let later: Vec<String> = rows
            .filter(|(_, result)| match result {
                Submitted::Taken => false,
                Submitted::Refused(_) => told.is_err(),
                Submitted::Deferred(_) => true,
            })
            .map(|((line, _), _)| line.clone())
            .collect();
        let deferred = self.results.iter().find_map(|result| match result {
            Submitted::Deferred(reason) => Some(reason.text.clone()),
            _ => None,
        });
        let cause = told.as_ref().err().cloned().or(deferred);
        VisitStep::Settle(if later.is_empty() {
            Settlement::Remove
        } else if later.len() == self.results.len() {
            let cause = cause.unwrap_or_default();
            Settlement::Wait { cause }
        } else {
            let since = self.form.since.seconds();
            let mut lines = vec![
                format!("OWNER {} {since}", self.form.uid),
                self.form.envelope.mail.clone(),
            ];
            lines.extend(later);
            Settlement::Replace(lines)
        })
    }
}
