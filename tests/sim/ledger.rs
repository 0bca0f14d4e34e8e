//! The history of a world, checked against its invariants.
//!
//! The world enters each event of a message here when it happens, and the ledger checks it at once: the run ends at the
//! first invalid entry. The ledger sees of the engine and the journal only what is visible from outside: commands and
//! their completions, replies to clients, messages that servers accepted, and messages that recovery found.

mod delivery;
mod intake;
mod settlement;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chopar::engine::event::ConnId;
use chopar::queue::{DeliveryResult, Recovered};
use chopar::queue_id::QueueId;

use crate::messages::{self, ClientMessage, Said};
use crate::rule::{Broken, Rule, check};

/// The history of all messages of a world.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By marker.
    messages: BTreeMap<String, Offer>,
    mails: BTreeMap<QueueId, Mail>,
    /// Copies that a delivery session delivered and whose result is not durable yet: message and index of the
    /// recipient.
    sessions: HashMap<ConnId, Vec<(QueueId, usize)>>,
    /// Messages with damaged records. Only I2 applies to them.
    disturbed: BTreeSet<QueueId>,
    /// Messages that an operator removed, or whose removal is on its way to the disk. Nobody is owed a delivery or a
    /// DSN for them.
    removed: BTreeSet<QueueId>,
    /// Kills and power losses of the relay.
    kills: usize,
    /// Domains that the relay has tried since the clock jumped; `None` if it never jumped.
    tried: Option<BTreeSet<String>>,
}

/// A message whose final dot a client sent, or that a program left in the drop folder.
#[derive(Debug)]
struct Offer {
    message: ClientMessage,
    said: Option<Said>,
    id: Option<QueueId>,
    /// Whether a local program left it in the drop folder.
    is_local: bool,
}

/// A message with a queue ID.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) about: About,
    pub(crate) recipients: Vec<Addressee>,
    durable: bool,
    warned: bool,
    /// Which failures its sender gets DSNs of.
    reporting: Reporting,
    message_id: Option<String>,
}

/// Which failures of a message its sender gets DSNs of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reporting {
    All,
    /// One DSN, with the recipients that fail first.
    Once,
    Nothing,
}

/// The origin of a queued message.
#[derive(Debug)]
pub(crate) enum About {
    /// A client sent it, with this marker.
    ClientMessage(String),
    Dsn(Dsn),
}

/// The content of a DSN.
#[derive(Clone, Debug)]
pub(crate) struct Dsn {
    /// The message that it reports.
    pub(crate) about: QueueId,
    /// Recipients with `Action: failed`.
    pub(crate) failed: Vec<String>,
    /// Whether a recipient has `Action: delayed`.
    pub(crate) delayed: bool,
    /// Values of its `Status` fields.
    pub(crate) statuses: Vec<String>,
    /// Time of its creation, in milliseconds of the world.
    pub(crate) at_ms: u64,
}

/// One recipient of a queued message.
#[derive(Debug)]
pub(crate) struct Addressee {
    pub(crate) address: String,
    /// The reverse-path under which the relay sends to it.
    path: String,
    /// Whether its destination is `discard:`.
    discarded: bool,
    /// Whether a final delivery result is durable.
    closed: bool,
    /// Copies that servers accepted.
    pub(crate) copies: u32,
    last: Option<Copy>,
}

/// State of the last copy for a recipient.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Copy {
    /// A server accepted it; the relay may or may not have read the reply.
    Open(ConnId),
    /// The relay has read the reply.
    Heard,
    /// The relay cannot know: the connection was lost, or the relay was killed before it recorded the result.
    Excused,
    /// The result is durable.
    Recorded,
}

impl Ledger {
    /// The durable DSNs that report a message.
    pub(crate) fn dsns(&self, id: QueueId) -> impl Iterator<Item = &Dsn> {
        self.mails
            .values()
            .filter_map(move |mail| match &mail.about {
                About::Dsn(dsn) if mail.durable && dsn.about == id => Some(dsn),
                _ => None,
            })
    }

    /// The relay was killed. Returns the number of delivery sessions between a final dot and a durable result.
    pub(crate) fn killed(&mut self) -> usize {
        self.kills += 1;
        let sessions = self.sessions.drain().filter(|(_, open)| !open.is_empty());
        let standing = sessions.count();
        for mail in self.mails.values_mut() {
            for addressee in &mut mail.recipients {
                if matches!(addressee.last, Some(Copy::Open(_) | Copy::Heard)) {
                    addressee.last = Some(Copy::Excused);
                }
            }
        }
        standing
    }

    /// Records of these messages were damaged on the disk.
    pub(crate) fn disturb(&mut self, ids: impl IntoIterator<Item = QueueId>) {
        self.disturbed.extend(ids);
    }

    /// An operator's removal of a message is on its way to the disk.
    pub(crate) fn remove(&mut self, id: QueueId) {
        self.removed.insert(id);
    }

    /// Whether the relay may lose a message: its records are damaged, or an operator removed it.
    fn is_excused(&self, id: QueueId) -> bool {
        self.disturbed.contains(&id) || self.removed.contains(&id)
    }

    /// The relay told a tool that a message is queued, with these addresses.
    pub(crate) fn listed(&self, id: QueueId, from: &str, to: &[&str]) -> Result<(), Broken> {
        let Some(mail) = self.mails.get(&id) else {
            return check(false, Rule::Told, || format!("{id} is listed and unknown"));
        };
        let addressees = mail.recipients.iter();
        let own = addressees
            .clone()
            .map(|one| one.address.as_str())
            .eq(to.iter().copied())
            && addressees.clone().all(|one| one.path == from);
        check(own || self.disturbed.contains(&id), Rule::Told, || {
            format!(
                "{id} is listed as from {from} to {to:?}, and is {:?}",
                mail.recipients
            )
        })
    }

    pub(crate) fn is_disturbed(&self, id: QueueId) -> bool {
        self.disturbed.contains(&id)
    }

    /// The relay has restarted and recovered these messages.
    pub(crate) fn restarted(&mut self, found: &[Recovered]) -> Result<(), Broken> {
        for recovered in found {
            let id = recovered.id;
            let Some(mail) = self.mails.get_mut(&id) else {
                return check(false, Rule::I2, || format!("{id} was invented by recovery"));
            };
            // It may not have been durable before; then the relay has not acknowledged it.
            mail.durable = true;
            mail.warned |= recovered.warned;
            check(!self.is_refused(id), Rule::I2, || {
                format!("{id} was refused and is recovered")
            })?;
        }
        let ids: BTreeSet<QueueId> = found.iter().map(|recovered| recovered.id).collect();
        for (id, mail) in &self.mails {
            let open = mail.recipients.iter().any(|addressee| !addressee.closed);
            let kept = !mail.durable || !open || ids.contains(id) || self.is_excused(*id);
            check(kept, Rule::I1, || format!("{id} was durable and is lost"))?;
        }
        // A message that was not durable is gone, and the relay may assign its ID again.
        self.mails.retain(|_, mail| mail.durable);
        for offer in self.messages.values_mut() {
            offer.id = offer.id.filter(|id| self.mails.contains_key(id));
        }
        for recovered in found {
            self.compare_results(recovered)?;
        }
        Ok(())
    }

    fn compare_results(&mut self, recovered: &Recovered) -> Result<(), Broken> {
        let id = recovered.id;
        let disturbed = self.disturbed.contains(&id);
        for (at, result) in recovered.results.iter().enumerate() {
            let closed = matches!(
                result,
                Some(DeliveryResult::Delivered | DeliveryResult::Failed { .. })
            );
            let known = self.mails.get(&id).and_then(|mail| mail.recipients.get(at));
            let was_closed = known.is_some_and(|addressee| addressee.closed);
            check(!was_closed || closed || disturbed, Rule::I3, || {
                format!("the durable outcome of recipient {at} of {id} is lost")
            })?;
            if let (Some(result), true, false) = (result, closed, was_closed) {
                // The result was on its way to the disk at the kill, and arrived there.
                let outcome = [(u32::try_from(at).expect("few"), result.clone())];
                self.recorded(id, &outcome, false, false)?;
            }
        }
        Ok(())
    }

    /// The wall clock was set while delivery sessions to these domains were open.
    pub(crate) fn clock_jumped(&mut self, under_way: impl IntoIterator<Item = String>) {
        self.tried = Some(under_way.into_iter().collect());
    }

    /// The relay begins an attempt for the domain of an address.
    pub(crate) fn note_try(&mut self, address: &str) {
        if let Some(tried) = &mut self.tried {
            tried.insert(domain(address).to_owned());
        }
    }

    /// Whether no sender must get a DSN.
    fn is_without_sender(&self, mail: &Mail) -> bool {
        match &mail.about {
            About::ClientMessage(_) if mail.reporting == Reporting::Nothing => true,
            About::ClientMessage(marker) => (self.messages.get(marker)).is_some_and(|offer| {
                (offer.message.unauthenticated || offer.is_local) && offer.message.from.is_empty()
            }),
            About::Dsn(_) => true,
        }
    }

    fn is_refused(&self, id: QueueId) -> bool {
        match self.mails.get(&id).map(|mail| &mail.about) {
            Some(About::ClientMessage(marker)) => self
                .messages
                .get(marker)
                .is_some_and(|offer| offer.said == Some(Said::Refused)),
            _ => false,
        }
    }

    /// Durable messages, including DSNs.
    pub(crate) fn mails(&self) -> impl Iterator<Item = (QueueId, &Mail)> {
        let durable = self.mails.iter().filter(|(_, mail)| mail.durable);
        durable.map(|(id, mail)| (*id, mail))
    }
}

fn is_dsn(text: &[u8]) -> bool {
    messages::header(text, "Auto-Submitted").as_deref() == Some("auto-replied")
}

fn domain(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}
