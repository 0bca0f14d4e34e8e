//! The history of a world, and the invariants that it must keep.
//!
//! Everything that happens to a message is entered here when it happens, and checked at once: the run ends at the first
//! invalid entry. The ledger knows about the engine and the journal only what is visible from outside: commands and
//! their completions, replies to clients, messages that servers accepted, and messages that a start recovered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use chopar::date::Timestamp;
use chopar::destination::{Assigned, Destination};
use chopar::engine::event::ConnId;
use chopar::envelope::{MessageOrigin, Notify, Recipient};
use chopar::queue::{DeliveryResult, MessageRecord, Recovered};
use chopar::queue_id::QueueId;

use crate::local;
use crate::messages::{self, ClientMessage, Said};
use crate::unauthenticated_clients::{self, ExpectedDelivery, FORGED};

/// What must hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// What was acknowledged is delivered, bounced or queued, whatever happens.
    I1,
    /// Nothing is delivered that was not accepted; nothing is invented or altered.
    I2,
    /// What is durably done is never tried again; a copy comes twice only where a kill or a lost reply explains it.
    I3,
    /// A notification is durable before the recipient that it is about is closed.
    I4,
    /// A file whose sync failed is not written or synced again.
    I5,
    /// Any bytes in the spool: what is bad is set aside and told, the rest goes on.
    I6,
    /// What is counted on is synced, with the name of its file.
    I7,
    /// Tables and buffers stay below their ceilings.
    Bounds,
    /// A clock that jumps fails nothing untried.
    Clock,
    /// A tool is answered, and told what is so.
    Told,
    /// The configuration in force is the last one without a mistake.
    InForce,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.rule, self.text)
    }
}

/// Fails with `rule` unless `holds`.
pub(crate) fn check(holds: bool, rule: Rule, text: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds {
        return Ok(());
    }
    Err(Broken { rule, text: text() })
}

/// Everything that has happened to messages.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    messages: BTreeMap<String, Offer>,
    mails: BTreeMap<QueueId, Mail>,
    /// Copies that a session delivered and whose outcome is not durable.
    sessions: HashMap<ConnId, Vec<(QueueId, usize)>>,
    /// Messages that rot has touched: of them only I2 can be asked.
    disturbed: BTreeSet<QueueId>,
    /// Messages that an operator took out of the queue, or was about to: nothing is owed for them.
    removed: BTreeSet<QueueId>,
    /// How often the relay was killed or lost power.
    kills: usize,
    /// Domains that were tried since the clock jumped; `None` while it never did.
    tried: Option<BTreeSet<String>>,
}

/// A message whose final dot was sent to the relay.
#[derive(Debug)]
struct Offer {
    message: ClientMessage,
    said: Option<Said>,
    id: Option<QueueId>,
    /// Whether it was left in the drop folder.
    is_local: bool,
}

/// A message that the relay has given an id.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) about: About,
    pub(crate) recipients: Vec<Addressee>,
    durable: bool,
    warned: bool,
    /// What its sender is told of it.
    telling: Telling,
    message_id: Option<String>,
}

/// What a sender is told of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Telling {
    /// Each failure.
    All,
    /// The first failures.
    Once,
    /// Nothing.
    Nothing,
}

/// What a message is.
#[derive(Debug)]
pub(crate) enum About {
    /// The message with this marker.
    ClientMessage(String),
    /// A notification.
    Dsn(Dsn),
}

/// What a notification says.
#[derive(Clone, Debug)]
pub(crate) struct Dsn {
    pub(crate) about: QueueId,
    /// Recipients that failed.
    pub(crate) failed: Vec<String>,
    /// Whether it tells of a delay.
    pub(crate) delayed: bool,
    /// The statuses that it gives.
    pub(crate) statuses: Vec<String>,
    /// When it was made, in milliseconds of the world.
    pub(crate) at_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Addressee {
    pub(crate) address: String,
    /// The reverse-path that goes with it.
    path: String,
    /// Whether it is for nobody.
    discarded: bool,
    /// Whether a durable outcome says that nothing is owed.
    closed: bool,
    /// Copies that a server took.
    pub(crate) copies: u32,
    last: Option<Copy>,
}

/// How far the last copy of a message for a recipient is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Copy {
    /// A server has it; whether the relay knows is not known.
    Open(ConnId),
    /// The relay knows.
    Heard,
    /// The relay cannot know: the link was lost, or it was killed before it could record it.
    Excused,
    /// It is durably recorded.
    Recorded,
}

impl Ledger {
    /// A client has sent the final dot.
    pub(crate) fn offered(&mut self, message: ClientMessage) {
        let marker = message.marker.clone();
        let offer = Offer {
            message,
            said: None,
            id: None,
            is_local: false,
        };
        self.messages.insert(marker, offer);
    }

    /// A program has left a message in the drop folder, with exit 0.
    pub(crate) fn left(&mut self, message: ClientMessage) {
        let marker = message.marker.clone();
        let offer = Offer {
            message,
            said: Some(Said::Accepted),
            id: None,
            is_local: true,
        };
        self.messages.insert(marker, offer);
    }

    /// The hook was given a message.
    pub(crate) fn judged(&self, text: &[u8]) -> Result<(), Broken> {
        if is_dsn(text) {
            return Ok(());
        }
        let marker = messages::header(text, "Subject").unwrap_or_default();
        let offer = self.messages.get(&marker);
        let whole = offer.is_some_and(|offer| {
            offer.message.text == text && (offer.said.is_none() || offer.is_local)
        });
        check(whole, Rule::I2, || {
            format!("{marker} was altered on its way to the hook")
        })
    }

    /// Whether a message was acknowledged.
    pub(crate) fn is_accepted(&self, marker: &str) -> bool {
        let offer = self.messages.get(marker);
        offer.is_some_and(|offer| offer.said == Some(Said::Accepted))
    }

    /// A client was told something, or lost its link behind the dot.
    pub(crate) fn said(&mut self, marker: &str, said: Said) -> Result<(), Broken> {
        let Some(offer) = self.messages.get_mut(marker) else {
            // It was refused before its dot.
            return check(said == Said::Refused, Rule::I1, || {
                format!("{marker} was acknowledged before its dot")
            });
        };
        offer.said = Some(said);
        let mail = offer.id.and_then(|id| self.mails.get(&id));
        match said {
            Said::Accepted => check(mail.is_some_and(|mail| mail.durable), Rule::I1, || {
                format!("{marker} was acknowledged before it was durable")
            }),
            Said::Refused => check(!mail.is_some_and(|mail| mail.durable), Rule::I2, || {
                format!("{marker} was refused and is in the queue")
            }),
            Said::Unknown => Ok(()),
        }
    }

    /// The engine has a message written.
    pub(crate) fn stored(
        &mut self,
        record: &MessageRecord,
        text: &[u8],
        at_ms: u64,
    ) -> Result<(), Broken> {
        let id = record.id;
        // Where rot has hidden the highest id, it is given again.
        let fresh = !self.mails.contains_key(&id) || self.disturbed.contains(&id);
        check(fresh, Rule::I2, || format!("{id} is given twice"))?;
        let addressee = |recipient: &Recipient| Addressee {
            address: recipient.mailbox.to_string(),
            path: record
                .envelope
                .reverse_path_for(recipient)
                .as_str()
                .to_owned(),
            discarded: recipient.destination == Some(Assigned::Known(Destination::Discard)),
            closed: false,
            copies: 0,
            last: None,
        };
        let recipients: Vec<Addressee> = record.envelope.recipients.iter().map(addressee).collect();
        // The drop folder's own DSNs come as other mail of programs does.
        let is_return = matches!(record.envelope.origin, MessageOrigin::Process(_)) && is_dsn(text);
        let telling = match is_return {
            true => Telling::All,
            false => self.telling(record)?,
        };
        let about = match record.envelope.origin {
            MessageOrigin::Dsn(about) => {
                let dsn = messages::read_dsn(about, text, at_ms);
                let warned = self.mails.get(&about).is_some_and(|mail| mail.warned);
                check(
                    !(dsn.delayed && warned) || self.disturbed.contains(&about),
                    Rule::I4,
                    || format!("the sender of {about} is told of its delay twice"),
                )?;
                About::Dsn(dsn)
            }
            _ if is_return => {
                let nothing = QueueId::new(0);
                About::Dsn(messages::read_dsn(nothing, text, at_ms))
            }
            _ => {
                let at = record.envelope.arrived;
                About::ClientMessage(self.match_message(id, text, &recipients, at)?)
            }
        };
        let mail = Mail {
            about,
            recipients,
            durable: false,
            warned: false,
            telling,
            message_id: None,
        };
        self.mails.insert(id, mail);
        Ok(())
    }

    /// What the sender of a message is told: nothing only where its domain disowns the host that brought it, and the
    /// first failures only where that domain does not vouch for it.
    fn telling(&self, record: &MessageRecord) -> Result<Telling, Broken> {
        let has = |notify: Notify| {
            let mut recipients = record.envelope.recipients.iter();
            recipients.any(|recipient: &Recipient| recipient.notify == notify)
        };
        let is_dsn = matches!(record.envelope.origin, MessageOrigin::Dsn(_));
        if !is_dsn && has(Notify::Once) {
            let fields = String::from_utf8_lossy(&record.fields);
            let open = fields.contains("\tspf=") && !fields.contains("\tspf=pass\r\n");
            check(open, Rule::I4, || {
                format!("{} is told of once: {fields}", record.id)
            })?;
            return Ok(Telling::Once);
        }
        if is_dsn || !has(Notify::Never) {
            return Ok(Telling::All);
        }
        let fields = String::from_utf8_lossy(&record.fields);
        let disowned = fields.contains("\tspf=fail\r\n") || fields.contains("\tspf=softfail\r\n");
        check(disowned, Rule::I4, || {
            format!("{} has been silenced: {fields}", record.id)
        })?;
        Ok(Telling::Nothing)
    }

    fn match_message(
        &mut self,
        id: QueueId,
        text: &[u8],
        recipients: &[Addressee],
        at: Timestamp,
    ) -> Result<String, Broken> {
        let marker = messages::header(text, "Subject").unwrap_or_default();
        let Some(offer) = self.messages.get_mut(&marker) else {
            return check(false, Rule::I2, || format!("{id} ({marker}) was invented"))
                .map(|()| marker);
        };
        let message = &offer.message;
        if offer.is_local {
            let fits = recipients.iter().all(|one| {
                one.path == message.from
                    && message.recipients.contains(&one.address)
                    && !local::is_refused(&one.address)
            });
            return check(fits, Rule::I2, || {
                format!("{marker} was left for others: {recipients:?}")
            })
            .map(|()| marker);
        }
        let expected = match message.unauthenticated {
            true => unauthenticated_clients::expected(&message.recipients, at).unwrap_or_default(),
            false => (message.recipients.iter())
                .map(|address| ExpectedDelivery {
                    address: address.clone(),
                    forwarder: None,
                })
                .collect(),
        };
        let is_for = |wanted: &ExpectedDelivery, addressee: &Addressee| {
            wanted.address == addressee.address
                && unauthenticated_clients::stands_for(
                    &addressee.path,
                    &message.from,
                    wanted.forwarder,
                    at,
                )
        };
        let fits = expected.len() == recipients.len()
            && expected
                .iter()
                .zip(recipients)
                .all(|(wanted, one)| is_for(wanted, one));
        check(offer.id.is_none() && fits, Rule::I2, || {
            format!("{marker} was offered for others, or once: {recipients:?}, not {expected:?}")
        })?;
        offer.id = Some(id);
        Ok(marker)
    }

    /// A message is durable.
    pub(crate) fn committed(&mut self, id: QueueId) {
        if let Some(mail) = self.mails.get_mut(&id) {
            mail.durable = true;
        }
    }

    /// A session named a recipient to a server.
    pub(crate) fn attempted(&mut self, id: QueueId, address: &str) -> Result<(), Broken> {
        self.note_try(address);
        let accepted = self.mails.get(&id).is_some_and(|mail| mail.durable);
        check(accepted && !self.is_refused(id), Rule::I2, || {
            format!("{id} is sent to {address} and was never accepted")
        })?;
        let disturbed = self.disturbed.contains(&id);
        let addressee = self.addressee(id, address)?;
        check(!addressee.closed || disturbed, Rule::I3, || {
            format!("{id} is tried again for {address}, whose outcome is durable")
        })
    }

    /// A session named a recipient under this reverse-path.
    pub(crate) fn sent_as(&mut self, id: QueueId, address: &str, path: &str) -> Result<(), Broken> {
        let disturbed = self.disturbed.contains(&id);
        let queued = &self.addressee(id, address)?.path;
        check(queued == path || disturbed, Rule::I2, || {
            format!("{id} is sent to {address} by <{path}>, and was queued by <{queued}>")
        })
    }

    /// A server took a message: it said, or meant to say, 250.
    pub(crate) fn taken(
        &mut self,
        conn: ConnId,
        id: QueueId,
        recipients: &[String],
        text: &[u8],
    ) -> Result<(), Broken> {
        let earlier = self.sessions.get(&conn).is_none_or(Vec::is_empty);
        check(earlier, Rule::I3, || {
            format!("a session sends {id} before the outcome of the last is durable")
        })?;
        self.compare(id, text)?;
        for address in recipients {
            self.attempted(id, address)?;
            let disturbed = self.disturbed.contains(&id);
            let addressee = self.addressee(id, address)?;
            let explained = matches!(addressee.last, None | Some(Copy::Excused));
            check(explained || disturbed, Rule::I3, || {
                format!("{id} came twice to {address}, and nothing explains it")
            })?;
            addressee.copies += 1;
            addressee.last = Some(Copy::Open(conn));
            let at = self.index(id, address)?;
            self.sessions.entry(conn).or_default().push((id, at));
        }
        Ok(())
    }

    /// What arrives is what was sent, signed, and the same each time.
    fn compare(&mut self, id: QueueId, text: &[u8]) -> Result<(), Broken> {
        let Some(mail) = self.mails.get_mut(&id) else {
            return check(false, Rule::I2, || format!("{id} was invented"));
        };
        let whole = match &mail.about {
            About::ClientMessage(marker) => self
                .messages
                .get(marker)
                .is_some_and(|offer| text.ends_with(&offer.message.text)),
            About::Dsn(_) => {
                messages::header(text, "Auto-Submitted").as_deref() == Some("auto-replied")
            }
        };
        check(whole, Rule::I2, || format!("{id} was altered on its way"))?;
        let unauthenticated = match &mail.about {
            About::ClientMessage(marker) => (self.messages.get(marker))
                .map(|offer| &offer.message)
                .filter(|message| message.unauthenticated),
            About::Dsn(_) => None,
        };
        let signature = unauthenticated.map_or("DKIM-Signature", |_| "ARC-Seal");
        check(
            messages::header(text, signature).is_some(),
            Rule::I2,
            || format!("{id} is not signed"),
        )?;
        if let Some(message) = unauthenticated {
            let added = text.len().saturating_sub(message.text.len());
            let added = String::from_utf8_lossy(&text[..added]).into_owned();
            check(!added.contains(FORGED), Rule::I2, || {
                format!("{id} holds findings that are not ours")
            })?;
            let failed = added.contains("dmarc=fail")
                && unauthenticated_clients::wants_refusal(&message.text);
            check(!failed, Rule::I2, || {
                format!("{id} goes on, and its author wants it refused: {added}")
            })?;
        }
        let message_id = messages::header(text, "Message-ID");
        let first = mail
            .message_id
            .get_or_insert_with(|| message_id.clone().unwrap_or_default());
        check(Some(&*first) == message_id.as_ref(), Rule::I3, || {
            format!("{id} has another Message-ID on a retry")
        })
    }

    /// The engine has the outcome of an attempt written.
    pub(crate) fn heard(
        &mut self,
        id: QueueId,
        outcomes: &[(u32, DeliveryResult)],
    ) -> Result<(), Broken> {
        for (at, outcome) in outcomes {
            let tried = &self.tried;
            let disturbed = self.disturbed.contains(&id);
            let Some(addressee) = self
                .mails
                .get_mut(&id)
                .and_then(|mail| mail.recipients.get_mut(*at as usize))
            else {
                return check(disturbed, Rule::I2, || {
                    format!("{id} has no recipient {at}")
                });
            };
            match outcome {
                DeliveryResult::Delivered => {
                    let known = matches!(
                        addressee.last,
                        Some(Copy::Open(_) | Copy::Heard | Copy::Excused)
                    );
                    check(known || addressee.discarded || disturbed, Rule::I1, || {
                        format!(
                            "{id} is noted as delivered to {}, which is not so",
                            addressee.address
                        )
                    })?;
                    if !addressee.discarded {
                        addressee.last = Some(Copy::Heard);
                    }
                }
                DeliveryResult::Failed { why, .. } if why.text().starts_with("given up") => {
                    let domain = domain(&addressee.address);
                    check(
                        tried.as_ref().is_none_or(|tried| tried.contains(domain)),
                        Rule::Clock,
                        || format!("{id} was given up for {domain} untried since the clock jumped"),
                    )?;
                }
                DeliveryResult::Failed { .. } | DeliveryResult::Deferred { .. } => {}
            }
        }
        Ok(())
    }

    /// The outcome of an attempt is durable.
    pub(crate) fn recorded(
        &mut self,
        id: QueueId,
        outcomes: &[(u32, DeliveryResult)],
        warned: bool,
        done: bool,
    ) -> Result<(), Broken> {
        if warned {
            self.owe_nothing_unsaid(id, None)?;
            if let Some(mail) = self.mails.get_mut(&id) {
                mail.warned = true;
            }
        }
        for (at, outcome) in outcomes {
            if matches!(outcome, DeliveryResult::Failed { .. }) {
                self.owe_nothing_unsaid(id, Some(*at as usize))?;
            }
            if matches!(outcome, DeliveryResult::Deferred { .. }) {
                continue;
            }
            for open in self.sessions.values_mut() {
                open.retain(|copy| *copy != (id, *at as usize));
            }
            if let Some(addressee) = self
                .mails
                .get_mut(&id)
                .and_then(|mail| mail.recipients.get_mut(*at as usize))
            {
                addressee.closed = true;
                addressee.last = addressee.last.map(|_| Copy::Recorded);
            }
        }
        if done { self.done(id) } else { Ok(()) }
    }

    /// A durable record says that nothing is owed for a message.
    pub(crate) fn done(&mut self, id: QueueId) -> Result<(), Broken> {
        if self.removed.contains(&id) {
            // What became of a copy of it is not recorded any more.
            for open in self.sessions.values_mut() {
                open.retain(|(open, _)| *open != id);
            }
        }
        let open = self.mails.get(&id).and_then(|mail| {
            let mut open = mail.recipients.iter().filter(|addressee| !addressee.closed);
            open.next()
        });
        check(open.is_none() || self.is_excused(id), Rule::I1, || {
            format!("{id} is noted as done, and {open:?} is open")
        })
    }

    /// I4: a durable notification tells of the failure (or of the delay, where no recipient is named).
    fn owe_nothing_unsaid(&self, id: QueueId, recipient: Option<usize>) -> Result<(), Broken> {
        let Some(mail) = self.mails.get(&id) else {
            return Ok(());
        };
        // Nobody is told of a notification's own failure.
        if matches!(mail.about, About::Dsn(_)) || self.is_excused(id) {
            return Ok(());
        }
        if self.is_without_sender(mail) {
            return Ok(());
        }
        let address = recipient
            .and_then(|at| mail.recipients.get(at))
            .map(|addressee| &addressee.address);
        let told = self.dsns(id).any(|dsn| match address {
            _ if mail.telling == Telling::Once => !dsn.failed.is_empty(),
            Some(address) => dsn.failed.contains(address),
            None => dsn.delayed,
        });
        check(told, Rule::I4, || {
            format!("no durable notification tells of {id} and {address:?}")
        })
    }

    /// The durable notifications about a message.
    pub(crate) fn dsns(&self, id: QueueId) -> impl Iterator<Item = &Dsn> {
        self.mails
            .values()
            .filter_map(move |mail| match &mail.about {
                About::Dsn(dsn) if mail.durable && dsn.about == id => Some(dsn),
                _ => None,
            })
    }

    /// A connection to a server is over: what it took last and the relay has not noted may be sent again.
    pub(crate) fn session_over(&mut self, conn: ConnId) {
        for (id, at) in self.sessions.remove(&conn).unwrap_or_default() {
            if let Some(addressee) = self
                .mails
                .get_mut(&id)
                .and_then(|mail| mail.recipients.get_mut(at))
                && addressee.last == Some(Copy::Open(conn))
            {
                addressee.last = Some(Copy::Excused);
            }
        }
    }

    /// The relay was killed. Gives how many sessions stood between a dot and a durable outcome.
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

    /// Rot has touched records of these messages.
    pub(crate) fn disturb(&mut self, ids: impl IntoIterator<Item = QueueId>) {
        self.disturbed.extend(ids);
    }

    /// An operator's removal of a message is on its way to the disk.
    pub(crate) fn remove(&mut self, id: QueueId) {
        self.removed.insert(id);
    }

    /// Whether nothing need be owed for a message: rot has touched it, or an operator removed it.
    fn is_excused(&self, id: QueueId) -> bool {
        self.disturbed.contains(&id) || self.removed.contains(&id)
    }

    /// A tool was told that a message is queued, with these addresses.
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

    /// The relay has started again and found these.
    pub(crate) fn restarted(&mut self, found: &[Recovered]) -> Result<(), Broken> {
        for recovered in found {
            let id = recovered.id;
            let Some(mail) = self.mails.get_mut(&id) else {
                return check(false, Rule::I2, || format!("{id} was invented by recovery"));
            };
            mail.durable = true; // if it was not, nobody was told so
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
        // What never got there is gone, and its id may be given again.
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
                // It was on its way to the disk at the kill, and got there.
                let outcome = [(u32::try_from(at).expect("few"), result.clone())];
                self.recorded(id, &outcome, false, false)?;
            }
        }
        Ok(())
    }

    /// The wall clock was set; these domains are being tried just now.
    pub(crate) fn clock_jumped(&mut self, under_way: impl IntoIterator<Item = String>) {
        self.tried = Some(under_way.into_iter().collect());
    }

    /// Somebody set out for the domain of an address.
    pub(crate) fn note_try(&mut self, address: &str) {
        if let Some(tried) = &mut self.tried {
            tried.insert(domain(address).to_owned());
        }
    }

    /// The world has come to rest with an empty queue: what was acknowledged is delivered, or its sender was told.
    pub(crate) fn settled(&self) -> Result<(), Broken> {
        for (marker, offer) in &self.messages {
            if offer.is_local {
                self.settled_local(marker, offer)?;
                continue;
            }
            let Some((id, mail)) = offer.id.and_then(|id| Some((id, self.mails.get(&id)?))) else {
                let lost = offer.said == Some(Said::Accepted);
                check(!lost, Rule::I1, || {
                    format!("{marker} was acknowledged and lost")
                })?;
                continue;
            };
            if offer.said != Some(Said::Accepted) || self.is_excused(id) {
                continue;
            }
            for addressee in &mail.recipients {
                let untold = addressee.discarded || self.is_without_sender(mail);
                let settled = addressee.copies > 0
                    || untold && addressee.closed
                    || mail.telling == Telling::Once
                        && addressee.closed
                        && self.dsns(id).next().is_some()
                    || self.is_bounced(id, &addressee.address);
                check(settled, Rule::I1, || {
                    format!(
                        "{marker} to {} was acknowledged and lost",
                        addressee.address
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Each recipient of a message that was left is accounted for, and has it once for each life of the relay at most.
    fn settled_local(&self, marker: &str, offer: &Offer) -> Result<(), Broken> {
        for address in &offer.message.recipients {
            let is_for = |mail: &Mail| mail.recipients.iter().any(|one| one.address == *address);
            let copies = self.mails().filter(|(_, mail)| {
                matches!(&mail.about, About::ClientMessage(about) if about == marker)
                    && is_for(mail)
            });
            let copies: Vec<(QueueId, &Mail)> = copies.collect();
            check(copies.len() <= 1 + self.kills, Rule::I3, || {
                format!("{marker} was taken too often for {address}")
            })?;
            let is_settled = |(id, mail): &(QueueId, &Mail)| {
                let untold = self.is_without_sender(mail);
                let mut own = mail.recipients.iter().filter(|one| one.address == *address);
                own.any(|one| one.copies > 0 || untold && one.closed)
                    || self.is_bounced(*id, address)
            };
            // Its sender was told by the drop folder, which knows of no id.
            let is_returned = || self.is_bounced(QueueId::new(0), address);
            let settled = copies.iter().any(is_settled) || is_returned();
            check(settled, Rule::I1, || {
                format!("{marker} to {address} was left with exit 0 and is lost")
            })?;
        }
        Ok(())
    }

    /// In a calm world everything is taken, and arrives exactly once.
    pub(crate) fn settled_calmly(&self) -> Result<(), Broken> {
        for (marker, offer) in &self.messages {
            let mail = offer.id.and_then(|id| self.mails.get(&id));
            let once = mail.is_some_and(|mail| {
                mail.recipients
                    .iter()
                    .all(|addressee| addressee.copies == 1)
            });
            check(once && offer.said == Some(Said::Accepted), Rule::I1, || {
                format!("{marker} did not arrive once: {:?}, {mail:?}", offer.said)
            })?;
        }
        Ok(())
    }

    /// Whether a notification of the failure has reached the sender.
    fn is_bounced(&self, id: QueueId, address: &str) -> bool {
        self.mails.iter().any(|(own, mail)| match &mail.about {
            About::Dsn(dsn) => {
                let rotten = self.is_excused(*own);
                dsn.about == id
                    && dsn.failed.iter().any(|failed| failed == address)
                    && mail.recipients.iter().all(|sender| {
                        // A clock that jumps may end a notification's own time, and nobody is told of that.
                        sender.copies > 0 || rotten || (self.tried.is_some() && sender.closed)
                    })
            }
            About::ClientMessage(_) => false,
        })
    }

    /// Whether there is nobody to be told.
    fn is_without_sender(&self, mail: &Mail) -> bool {
        match &mail.about {
            About::ClientMessage(_) if mail.telling == Telling::Nothing => true,
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

    fn index(&self, id: QueueId, address: &str) -> Result<usize, Broken> {
        let at = self.mails.get(&id).and_then(|mail| {
            let mut addresses = mail.recipients.iter();
            addresses.position(|addressee| addressee.address == address)
        });
        at.ok_or_else(|| Broken {
            rule: Rule::I2,
            text: format!("{id} is sent to {address}, who was not named"),
        })
    }

    fn addressee(&mut self, id: QueueId, address: &str) -> Result<&mut Addressee, Broken> {
        let at = self.index(id, address)?;
        let mail = self.mails.get_mut(&id).expect("the index was found in it");
        Ok(&mut mail.recipients[at])
    }

    /// Messages that are durable, notifications among them.
    pub(crate) fn mails(&self) -> impl Iterator<Item = (QueueId, &Mail)> {
        let durable = self.mails.iter().filter(|(_, mail)| mail.durable);
        durable.map(|(id, mail)| (*id, mail))
    }
}

/// Whether a message is a DSN.
fn is_dsn(text: &[u8]) -> bool {
    messages::header(text, "Auto-Submitted").as_deref() == Some("auto-replied")
}

fn domain(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
