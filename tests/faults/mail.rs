//! The messages of the scenes.

use std::path::Path;

use crate::judge::{Due, History};
use crate::sink::Arrived;
use crate::spool::{self, Standing};

/// A message, and what is known of it so far.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    name: &'static str,
    pub(crate) to: Vec<String>,
    pub(crate) bytes: Vec<u8>,
    /// What its sender was answered; 0 for nothing.
    pub(crate) answer: u16,
    written: bool,
    due: Due,
    excused_copies: usize,
    excused_dsns: usize,
}

/// Who sends all of them.
pub(crate) const SENDER: &str = "a@src.test";

impl Mail {
    /// To one recipient that lives, by the message's name.
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

    /// And to one that is refused.
    pub(crate) fn and_to_nobody(mut self) -> Self {
        self.to
            .push(format!("gone-{}@four.test", self.name.to_lowercase()));
        self.due = Due::CopyAndDsn;
        self
    }

    /// And to one that the relay itself refuses.
    pub(crate) fn and_to_a_unauthenticated(mut self) -> Self {
        self.to
            .push(format!("gone-{}@relay.test", self.name.to_lowercase()));
        self.due = Due::CopyAndDsn;
        self
    }

    /// The relay refuses it as a whole.
    pub(crate) fn refused(mut self) -> Self {
        self.due = Due::Dsn;
        self
    }

    /// It was accepted, and that is on the disk.
    pub(crate) fn accepted(mut self) -> Self {
        (self.answer, self.written) = (250, true);
        self
    }

    /// Whether its sender was told that it is accepted.
    pub(crate) fn is_accepted(&self) -> bool {
        self.answer == 250
    }

    /// What the spool knows of it.
    pub(crate) fn standing(&self, spool: &Path) -> Standing {
        spool::standing(spool, &self.to[0])
    }

    /// The relay has ended: the disk shows what it can still know.
    pub(crate) fn after_fault(&mut self, spool: &Path, arrived: &[Arrived]) {
        let standing = self.standing(spool);
        // What was refused is void, even where its bytes are still to be seen.
        self.written |= standing.written && matches!(self.answer, 0 | 250);
        let is_open = standing.written && !standing.recorded;
        self.excused_copies += usize::from(is_open && self.copies(arrived) > 0);
        // A notification that is on the disk while what it tells of is not is made once more; and it is a message of
        // its own, with a window of its own.
        let dsns = spool::dsns(spool, SENDER);
        let is_made_again = is_open && dsns.written;
        let is_sent_again = self.dsns(arrived) > 0 && !dsns.recorded;
        if self.due.has_dsn() {
            self.excused_dsns += usize::from(is_made_again) + usize::from(is_sent_again);
        }
    }

    /// It was taken out of the drop folder and its file is still there: it will be taken once more.
    pub(crate) fn left_in_drop(&mut self) {
        self.excused_copies += usize::from(self.written);
        // Whether its DSN is on the disk already cannot be told from the file.
        self.excused_dsns += usize::from(self.due.has_dsn());
        self.written = true;
    }

    /// The disk took nothing any more, not even that it was refused.
    pub(crate) fn excuse_arrival(&mut self) {
        self.written = true;
    }

    /// What the relay learnt about it could not be kept, or its peer was cut off: it may be sent once more.
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

    /// Notifications of it that have arrived.
    pub(crate) fn dsns(&self, arrived: &[Arrived]) -> usize {
        // Not by its Message-ID: of a message that the disk does not give any more, the recipient is still named.
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

    /// Whether everything that it leads to has arrived.
    pub(crate) fn is_complete(&self, arrived: &[Arrived]) -> bool {
        (!self.due.has_copy() || self.copies(arrived) > 0)
            && (!self.due.has_dsn() || self.dsns(arrived) > 0)
    }

    /// What became of it.
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
