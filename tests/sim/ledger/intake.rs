//! Acceptance: the messages that clients and local programs send, and the replies that they get.

use chopar::date::Timestamp;
use chopar::destination::{Assigned, Destination};
use chopar::envelope::{MessageOrigin, Notify, Recipient};
use chopar::queue::MessageRecord;
use chopar::queue_id::QueueId;

use super::{About, Addressee, Ledger, Mail, Offer, Reporting, is_dsn};
use crate::local;
use crate::messages::{self, ClientMessage, Said};
use crate::rule::{Broken, Rule, check};
use crate::unauthenticated_clients::{self, ExpectedDelivery};

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

    /// A local program left a message in the drop folder, and `sendmail` exited with 0.
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

    /// The relay gave a message to the hook.
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

    /// Whether the relay acknowledged a message.
    pub(crate) fn is_accepted(&self, marker: &str) -> bool {
        let offer = self.messages.get(marker);
        offer.is_some_and(|offer| offer.said == Some(Said::Accepted))
    }

    /// A client got the reply to its message, or lost its connection after the final dot.
    pub(crate) fn said(&mut self, marker: &str, said: Said) -> Result<(), Broken> {
        let Some(offer) = self.messages.get_mut(marker) else {
            // The client never sent the final dot.
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

    /// The engine writes a message to the journal.
    pub(crate) fn stored(
        &mut self,
        record: &MessageRecord,
        text: &[u8],
        at_ms: u64,
    ) -> Result<(), Broken> {
        let id = record.id;
        // If damage has hidden the highest ID, the relay assigns it again.
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
        // DSNs of the drop folder arrive like other mail of local programs.
        let is_return = matches!(record.envelope.origin, MessageOrigin::Process(_)) && is_dsn(text);
        let reporting = match is_return {
            true => Reporting::All,
            false => self.reporting(record)?,
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
            reporting,
            message_id: None,
        };
        self.mails.insert(id, mail);
        Ok(())
    }

    /// Which failures the sender gets DSNs of. `Nothing` needs SPF fail or softfail; `Once` needs an SPF result other
    /// than pass.
    fn reporting(&self, record: &MessageRecord) -> Result<Reporting, Broken> {
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
            return Ok(Reporting::Once);
        }
        if is_dsn || !has(Notify::Never) {
            return Ok(Reporting::All);
        }
        let fields = String::from_utf8_lossy(&record.fields);
        let disowned = fields.contains("\tspf=fail\r\n") || fields.contains("\tspf=softfail\r\n");
        check(disowned, Rule::I4, || {
            format!("{} has been silenced: {fields}", record.id)
        })?;
        Ok(Reporting::Nothing)
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
}
