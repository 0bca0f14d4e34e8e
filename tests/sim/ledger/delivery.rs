//! Delivery: what delivery sessions send, and what the journal records of it.

use chopar::engine::event::ConnId;
use chopar::queue::DeliveryResult;
use chopar::queue_id::QueueId;

use super::{About, Addressee, Copy, Ledger, Reporting, domain, is_dsn};
use crate::messages;
use crate::rule::{Broken, Rule, check};
use crate::unauthenticated_clients::{self, FORGED};

impl Ledger {
    /// A delivery session sent RCPT for a recipient.
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

    /// A delivery session sent RCPT for a recipient after MAIL with this reverse-path.
    pub(crate) fn sent_as(&mut self, id: QueueId, address: &str, path: &str) -> Result<(), Broken> {
        let disturbed = self.disturbed.contains(&id);
        let queued = &self.addressee(id, address)?.path;
        check(queued == path || disturbed, Rule::I2, || {
            format!("{id} is sent to {address} by <{path}>, and was queued by <{queued}>")
        })
    }

    /// A server accepted a message: it sent 250, or the connection was lost before it could.
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

    /// The message arrives unaltered and signed, with the same Message-ID at each attempt.
    fn compare(&mut self, id: QueueId, text: &[u8]) -> Result<(), Broken> {
        let Some(mail) = self.mails.get_mut(&id) else {
            return check(false, Rule::I2, || format!("{id} was invented"));
        };
        let whole = match &mail.about {
            About::ClientMessage(marker) => self
                .messages
                .get(marker)
                .is_some_and(|offer| text.ends_with(&offer.message.text)),
            About::Dsn(_) => is_dsn(text),
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

    /// The engine writes delivery results to the journal.
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

    /// Delivery results are durable.
    pub(crate) fn recorded(
        &mut self,
        id: QueueId,
        outcomes: &[(u32, DeliveryResult)],
        warned: bool,
        done: bool,
    ) -> Result<(), Broken> {
        if warned {
            self.check_reported(id, None)?;
            if let Some(mail) = self.mails.get_mut(&id) {
                mail.warned = true;
            }
        }
        for (at, outcome) in outcomes {
            if matches!(outcome, DeliveryResult::Failed { .. }) {
                self.check_reported(id, Some(*at as usize))?;
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

    /// A durable record says that the relay is done with a message.
    pub(crate) fn done(&mut self, id: QueueId) -> Result<(), Broken> {
        if self.removed.contains(&id) {
            // The relay records no more results for a removed message.
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

    /// I4: a durable DSN reports the failure of `recipient`, or a delay if `recipient` is `None`.
    fn check_reported(&self, id: QueueId, recipient: Option<usize>) -> Result<(), Broken> {
        let Some(mail) = self.mails.get(&id) else {
            return Ok(());
        };
        // The failure of a DSN is not reported.
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
            _ if mail.reporting == Reporting::Once => !dsn.failed.is_empty(),
            Some(address) => dsn.failed.contains(address),
            None => dsn.delayed,
        });
        check(told, Rule::I4, || {
            format!("no durable notification tells of {id} and {address:?}")
        })
    }

    /// A connection to a server ended. The relay may send again what it delivered there without reading the reply.
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
}
