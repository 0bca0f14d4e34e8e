//! The messages of the scenes.

use std::path::Path;

use crate::judge::{Due, History};
use crate::sink::Arrived;
use crate::spool::{self, Standing};

/// A message, and its state so far.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    name: &'static str,
    pub(crate) to: Vec<String>,
    pub(crate) bytes: Vec<u8>,
    /// The reply code that its sender got; 0 for none.
    pub(crate) answer: u16,
    written: bool,
    due: Due,
    excused_copies: usize,
    excused_dsns: usize,
}

/// The sender of all messages.
pub(crate) const SENDER: &str = "a@src.test";

impl Mail {
    /// To one recipient that exists, with the message's name.
    pub(crate) fn new(name: &'static str, body_bytes: usize) -> Self {
        let to = format!("{}@four.test", name.to_lowercase());
        let line = "sixty bytes of text that say nothing at all, one line of it\r\n";
        let text = format!(
            "From: {SENDER}\r\nTo: {to}\r\nDate: Tue, 24 Nov 2026 14:00:00 +0000\r\n\
             Message-ID: <{name}.faults@src.test>\r\nSubject: {name}\r\n\r\n{}",
            line.repeat(body_bytes / line.len() + 1)
        );
        Self {
            name,
            to: vec![to],
            bytes: text.into_bytes(),
            answer: 0,
            written: false,
            due: Due::Copy,
            excused_copies: 0,
            excused_dsns: 0,
        }
    }

    /// Also to a recipient that the sink refuses.
    pub(crate) fn and_to_nobody(mut self) -> Self {
        self.to
            .push(format!("gone-{}@four.test", self.name.to_lowercase()));
        self.due = Due::CopyAndDsn;
        self
    }

    /// Also to a recipient that the relay itself refuses.
    pub(crate) fn and_to_a_refused_recipient(mut self) -> Self {
        self.to
            .push(format!("gone-{}@relay.test", self.name.to_lowercase()));
        self.due = Due::CopyAndDsn;
        self
    }

    /// The relay refuses the whole message.
    pub(crate) fn refused(mut self) -> Self {
        self.due = Due::Dsn;
        self
    }

    /// The message was accepted and is on the disk.
    pub(crate) fn accepted(mut self) -> Self {
        (self.answer, self.written) = (250, true);
        self
    }

    /// Whether its sender got an acknowledgement.
    pub(crate) fn is_accepted(&self) -> bool {
        self.answer == 250
    }

    /// Its state in the spool.
    pub(crate) fn standing(&self, spool: &Path) -> Standing {
        spool::standing(spool, &self.to[0])
    }

    /// The relay has ended: records what the disk still says about the message.
    pub(crate) fn after_fault(&mut self, spool: &Path, arrived: &[Arrived]) {
        let standing = self.standing(spool);
        // A refused message is void, even if its bytes are still in the journal.
        self.written |= standing.written && matches!(self.answer, 0 | 250);
        let is_open = standing.written && !standing.recorded;
        self.excused_copies += usize::from(is_open && self.copies(arrived) > 0);
        // A DSN on the disk without the record of the failure that it reports is made once more. It is also a message
        // of its own, and may be duplicated like any other.
        let dsns = spool::dsns(spool, SENDER);
        let is_made_again = is_open && dsns.written;
        let is_sent_again = self.dsns(arrived) > 0 && !dsns.recorded;
        if self.due.has_dsn() {
            self.excused_dsns += usize::from(is_made_again) + usize::from(is_sent_again);
        }
    }

    /// The relay submitted it and its file is still in the drop folder: it will be submitted once more.
    pub(crate) fn left_in_drop(&mut self) {
        self.excused_copies += usize::from(self.written);
        // The file does not show whether its DSN is on the disk already.
        self.excused_dsns += usize::from(self.due.has_dsn());
        self.written = true;
    }

    /// The disk took no more writes, not even of the refusal.
    pub(crate) fn excuse_arrival(&mut self) {
        self.written = true;
    }

    /// The relay could not store the result, or lost its peer: it may send the message once more.
    pub(crate) fn excuse_another(&mut self) {
        self.excused_copies += 1;
        self.excused_dsns += usize::from(self.due.has_dsn());
    }

    /// Copies that have arrived.
    pub(crate) fn copies(&self, arrived: &[Arrived]) -> usize {
        arrived
            .iter()
            .filter(|one| one.to.contains(&self.to[0]))
            .count()
    }

    /// DSNs about it that have arrived.
    pub(crate) fn dsns(&self, arrived: &[Arrived]) -> usize {
        // Not by Message-ID: if the disk lost the message, the DSN still names the recipient.
        let is_one = |one: &&Arrived| {
            let is_about = |to: &String| {
                let field = format!("rfc822; {to}\r\n");
                String::from_utf8_lossy(&one.bytes).contains(&field)
            };
            let refused = self.to.get(usize::from(self.due.has_copy()));
            one.from.is_empty() && one.to == [SENDER] && refused.is_some_and(is_about)
        };
        arrived.iter().filter(is_one).count()
    }

    /// Whether everything that the relay owes for it has arrived.
    pub(crate) fn is_complete(&self, arrived: &[Arrived]) -> bool {
        (!self.due.has_copy() || self.copies(arrived) > 0)
            && (!self.due.has_dsn() || self.dsns(arrived) > 0)
    }

    pub(crate) fn history(&self, arrived: &[Arrived]) -> History {
        let is_altered =
            |one: &&Arrived| one.to.contains(&self.to[0]) && !one.bytes.ends_with(&self.bytes);
        History {
            name: self.name.to_owned(),
            told: self.is_accepted(),
            written: self.written,
            due: self.due,
            copies: self.copies(arrived),
            altered: arrived.iter().filter(is_altered).count(),
            dsns: self.dsns(arrived),
            excused_copies: self.excused_copies,
            excused_dsns: self.excused_dsns,
        }
    }
}
