//! `spool/drop/`: handles the messages that `sendmail` left as files while the relay was down.
//!
//! ```text
//! chopar-drop 1
//! OWNER 1000 1790000000               only in files of the relay's own: whose the message is, and since when
//! MAIL FROM:<a@example.com> SIZE=42
//! RCPT TO:<b@example.org>
//!                                     an empty line, then the message, lines ending in CRLF, dots not stuffed
//! ```
//!
//! The relay submits each file to itself, as a process of the file's owner would. `sendmail` has exited 0, so each
//! recipient must get the message, or the sender a DSN:
//!
//! ```text
//!                            .--> queued, or returned to the sender: removed once it is on the disk
//!   opened --> checked --> played --> some of it deferred: replaced by a file for these recipients alone
//!      |          |          '--> all of it deferred: waits, longer each time, and is returned after give_up_after
//!      '----------'--> not in this form: set aside in spool/damaged/ with one line in the log
//! ```
//!
//! The shell opens the files and the sessions. Everything else is decided here: [`DropTurns`] chooses the user whose
//! file is next, [`DroppedFile`] checks whether the file is a message, and [`Visit`] decides what to send to the relay
//! and what to do with the file.
//!
//! Invariants: a file of this form is never set aside, and a file of another form is never read twice. A file is
//! removed only after everything that is owed for it is on the disk. If removing a file fails, this process does not
//! send it again.

mod dialogue;
mod form;
mod returned;
mod turns;
mod visit;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::address::{Domain, Mailbox};
use crate::config::Config;

pub use dialogue::{Reason, Submitted};
pub use form::{About, DroppedFile, Lines, Rejected};
pub use turns::{DropEntry, DropTurns, Task, name_of};
pub use visit::{Settlement, Visit, VisitStep};

/// The first line of a file.
pub const FORMAT: &str = "chopar-drop 1";
/// The end of the name of a file that is complete.
pub const COMPLETE: &str = ".msg";

/// Whether a file of this name is complete: the name of an incomplete file begins with a dot.
pub fn is_complete(name: &[u8]) -> bool {
    !name.starts_with(b".") && name.ends_with(COMPLETE.as_bytes())
}

/// Settings for files in the drop folder.
#[derive(Clone, Debug)]
pub struct DropRules {
    pub hostname: Domain,
    pub served: BTreeSet<Domain>,
    /// The recipient of DSNs that cannot be delivered otherwise.
    pub admin: Option<Mailbox>,
    /// Upper limit for one message, in bytes.
    pub max_message_size: u64,
    /// How long a message is tried.
    pub give_up_after: Duration,
}

impl DropRules {
    /// The settings in a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            hostname: config.hostname.clone(),
            served: config.domains.keys().cloned().collect(),
            admin: config.admin.clone(),
            max_message_size: config.limits.message_bytes,
            give_up_after: config.delivery.give_up_after,
        }
    }
}

#[cfg(test)]
mod tests;
