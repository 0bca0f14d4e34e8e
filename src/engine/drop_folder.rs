//! `spool/drop/`: what becomes of the messages that `sendmail` left as files while the relay was down.
//!
//! ```text
//! chopar-drop 1
//! OWNER 1000 1790000000               only in files of the relay's own: whose the message is, and since when
//! MAIL FROM:<a@example.com> SIZE=42
//! RCPT TO:<b@example.org>
//!                                     an empty line, then the message, lines ending in CRLF, dots not stuffed
//! ```
//!
//! Each file is spoken to the relay's own submission, as a process of its owner would. `sendmail` has exited 0 for it, so
//! each recipient gets the message, or its sender a DSN:
//!
//! ```text
//!                            .--> queued, or returned to the sender: removed once it is on the disk
//!   opened --> checked --> played --> some of it deferred: replaced by a file for these recipients alone
//!      |          |          '--> all of it deferred: waits, longer each time, and is returned after give_up_after
//!      '----------'--> not in this form: set aside in spool/damaged/ with one line in the log
//! ```
//!
//! The shell opens the files and the sessions; everything else is decided here: [`DropTurns`] says whose file is next,
//! [`DroppedFile`] whether it is a message, [`Visit`] what is said to the relay and what becomes of the file.
//!
//! Invariants: nothing that is in this form is set aside, and nothing that is not is looked at twice. A file is removed
//! only after all that is owed for it is on the disk. One whose removal fails is not sent again in the life of the
//! process.

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

/// Whether a file of this name is complete: one that is being written begins with a dot.
pub fn is_complete(name: &[u8]) -> bool {
    !name.starts_with(b".") && name.ends_with(COMPLETE.as_bytes())
}

/// What the configuration says of files in the drop folder.
#[derive(Clone, Debug)]
pub struct DropRules {
    pub hostname: Domain,
    pub served: BTreeSet<Domain>,
    /// Who gets a DSN that nobody else takes.
    pub admin: Option<Mailbox>,
    /// Upper limit for one message, in bytes.
    pub max_message_size: u64,
    /// How long a message is tried.
    pub give_up_after: Duration,
}

impl DropRules {
    /// Those of a configuration.
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
