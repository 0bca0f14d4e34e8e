//! What is known about the unauthenticated clients of port 25: about all together and about each.

use crate::clock::{Instant, Now};
use crate::entropy::Entropy;
use crate::envelope::Recipient;
use crate::policy::authority::Grant;
use crate::policy::conduct::Conduct;
use crate::policy::greylist::Greylist;
use crate::policy::returns::Returns;
use crate::policy::vetting::Vetting;
use crate::smtp::reply::Reply;

/// What is known of all clients.
pub(super) struct Clients {
    pub(super) conduct: Conduct,
    pub(super) greylist: Greylist,
    /// How often return addresses were used.
    pub(super) returns: Returns,
    /// When a list last gave an odd answer that was logged.
    pub(super) odd_at: Option<Instant>,
}

/// What is known of one.
pub(super) struct Guard {
    pub(super) vetting: Vetting,
    /// Quarters of recipients that he named and who do not exist: one of a bounce is a quarter.
    pub(super) unknown: u32,
    pub(super) held: Option<Held>,
}

/// What the client waits for.
pub(super) enum Held {
    /// The lists, before it is said whether these may be sent to.
    Lists { shown: String, accepted: Accepted },
    /// Time.
    Verdict(Verdict),
}

/// What a session is to be told.
pub(super) enum Verdict {
    Hello(Result<(), Reply>),
    /// Of a reverse-path.
    Sender(Result<(), Reply>),
    /// Of a forward-path.
    Recipient(Result<Accepted, Reply>),
    /// That it is over.
    Close(Reply),
}

impl Clients {
    pub(super) fn new(entropy: &mut dyn Entropy, now: Now) -> Self {
        Self {
            conduct: Conduct::default(),
            greylist: Greylist::new(entropy, now),
            returns: Returns::default(),
            odd_at: None,
        }
    }

    /// Sweeps out what is too old.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.conduct.sweep(now);
        self.greylist.sweep(now);
        self.returns.sweep(now);
    }
}

/// A recipient that is accepted, unless the client is refused for something else.
pub(super) struct Accepted {
    /// Who gets the message.
    pub(super) recipients: Vec<Recipient>,
    /// What they rest on.
    pub(super) grant: Grant,
    /// The forward-path as it was named, where a hook is told.
    pub(super) named: Option<String>,
}

impl Accepted {
    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        let recipients = self.recipients.iter().map(Recipient::memory);
        let named = self.named.as_ref().map_or(0, String::len);
        recipients.fold(named, usize::saturating_add)
    }
}
