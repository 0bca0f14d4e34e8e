//! What is known about the unauthenticated clients of port 25: about all together and about each.

use crate::clock::{Instant, Now};
use crate::entropy::Entropy;
use crate::envelope::Recipient;
use crate::policy::authority::Grant;
use crate::policy::client_dns::ClientDnsCheck;
use crate::policy::client_rates::ClientRates;
use crate::policy::greylist::Greylist;
use crate::policy::returns::Returns;
use crate::smtp::reply::Reply;

/// What is known about all clients.
pub(super) struct Clients {
    pub(super) client_rates: ClientRates,
    pub(super) greylist: Greylist,
    /// Uses of return addresses.
    pub(super) returns: Returns,
    /// When an odd answer of a block list was last logged.
    pub(super) odd_at: Option<Instant>,
}

/// What is known about one client.
pub(super) struct Guard {
    pub(super) client_dns: ClientDnsCheck,
    /// Quarters of unknown recipients that the client named: a recipient of a bounce counts one quarter.
    pub(super) unknown: u32,
    pub(super) held: Option<Held>,
}

/// What a delayed reply waits for.
pub(super) enum Held {
    /// The block lists, before the recipient is accepted.
    Lists { shown: String, accepted: Accepted },
    /// The time at which it is sent.
    Verdict { verdict: Verdict, until: Instant },
}

/// A reply to a client.
pub(super) enum Verdict {
    Hello(Result<(), Reply>),
    /// To MAIL.
    Sender(Result<(), Reply>),
    /// To RCPT.
    Recipient(Result<Accepted, Reply>),
    /// The session ends.
    Close(Reply),
}

impl Clients {
    pub(super) fn new(entropy: &mut dyn Entropy, now: Now) -> Self {
        Self {
            client_rates: ClientRates::default(),
            greylist: Greylist::new(entropy, now),
            returns: Returns::default(),
            odd_at: None,
        }
    }

    /// Removes old entries.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.client_rates.sweep(now);
        self.greylist.sweep(now);
        self.returns.sweep(now);
    }
}

/// An accepted recipient, unless the client is refused for another reason.
pub(super) struct Accepted {
    /// The recipients of the message.
    pub(super) recipients: Vec<Recipient>,
    /// The permission to send to them.
    pub(super) grant: Grant,
    /// The forward-path as the client named it, if a hook needs it.
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
