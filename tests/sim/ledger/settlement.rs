//! The check at the end: each accepted message was delivered, or its sender got a DSN.

use chopar::queue_id::QueueId;

use super::{About, Ledger, Mail, Offer, Reporting};
use crate::messages::Said;
use crate::rule::{Broken, Rule, check};

impl Ledger {
    /// The queue is empty at the end: each acknowledged message was delivered, or its sender got a DSN.
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
                    || mail.reporting == Reporting::Once
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

    /// Each recipient of a message in the drop folder got it or was reported. The relay may have queued it once for
    /// each start.
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
            // The drop folder returned it; such a DSN names no ID.
            let is_returned = || self.is_bounced(QueueId::new(0), address);
            let settled = copies.iter().any(is_settled) || is_returned();
            check(settled, Rule::I1, || {
                format!("{marker} to {address} was left with exit 0 and is lost")
            })?;
        }
        Ok(())
    }

    /// In a world without faults, the relay accepts each message and delivers it exactly once.
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

    /// Whether a DSN that reports the failure has reached the sender.
    fn is_bounced(&self, id: QueueId, address: &str) -> bool {
        self.mails.iter().any(|(own, mail)| match &mail.about {
            About::Dsn(dsn) => {
                let rotten = self.is_excused(*own);
                dsn.about == id
                    && dsn.failed.iter().any(|failed| failed == address)
                    && mail.recipients.iter().all(|sender| {
                        // A clock jump may expire the DSN itself, which is not reported.
                        sender.copies > 0 || rotten || (self.tried.is_some() && sender.closed)
                    })
            }
            About::ClientMessage(_) => false,
        })
    }
}
