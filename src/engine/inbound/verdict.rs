//! What a client may do: whether there is room, who it may be, where its mail may go.

use std::net::IpAddr;

use super::Inbound;
use crate::address::{Domain, Mailbox, ReversePath};
use crate::auth::srs::{ReverseError, is_rewritten};
use crate::clock::Now;
use crate::engine::Engine;
use crate::engine::event::Peer;
use crate::engine::log::{Level, Line};
use crate::envelope::{Notify, Recipient};
use crate::limits::{INLINE_BODY_BYTES_MAX, SPOOL_RESERVE_BYTES};
use crate::mail::address_list::{FromError, from_mailboxes};
use crate::mail::header::Header;
use crate::policy::relay::{self, Client, Goal};
use crate::policy::sender::may_send_as;
use crate::smtp::command::ForwardPath;
use crate::smtp::reply::Reply;

impl Engine {
    pub(super) fn note_refusal(
        &mut self,
        inbound: &Inbound,
        what: &str,
        shown: &str,
        reply: Option<&Reply>,
        now: Now,
    ) {
        let Some(reply) = reply else { return };
        if let (Some(address), Some(_), true) =
            (inbound.address(), &inbound.guard, reply.is_permanent())
        {
            self.strangers.conduct.refused(address, now.instant);
        }
        self.counters.refused += 1;
        self.log(
            Line::new(Level::Info, "reject")
                .with("peer", inbound.peer_text())
                .with_some("user", inbound.login.as_ref())
                .with("what", what)
                .with_some("address", (!shown.is_empty()).then_some(shown))
                .with("code", reply.code())
                .with_some("status", reply.enhanced())
                .with("why", reply.text()),
        );
    }

    /// Whether a host may relay without AUTH.
    pub(super) fn is_trusted(&self, address: IpAddr) -> bool {
        self.config.relay.contains(address)
    }

    /// Whether there is room for a message of `size` bytes, on the disk and in memory.
    pub(super) fn room_verdict(&self, size: Option<u64>) -> Result<(), Reply> {
        let needed = size.unwrap_or(0).saturating_add(SPOOL_RESERVE_BYTES);
        if self.free_space.is_some_and(|free| free < needed) {
            return Err(Reply::NO_SPACE);
        }
        // A message that is begun has to find room to be held until it is long enough to be streamed out.
        let held = self.memory.saturating_add(INLINE_BODY_BYTES_MAX) as u64;
        if held > self.config.max_memory {
            return Err(Reply::NO_MEMORY);
        }
        Ok(())
    }

    pub(super) fn sender_verdict(
        &mut self,
        inbound: &Inbound,
        from: &ReversePath,
        size: Option<u64>,
        now: Now,
    ) -> Result<(), Reply> {
        self.room_verdict(size)?;
        let Some(login) = &inbound.login else {
            return Ok(());
        };
        if let Some(mailbox) = from.mailbox()
            && !may_send_as(&self.config, login, mailbox)
        {
            return Err(Reply::SENDER_NOT_YOURS);
        }
        if !self.logins.users.may_send(
            login,
            self.config.limits.messages_per_user_hour,
            now.instant,
        ) {
            return Err(Reply::RATE_EXCEEDED);
        }
        Ok(())
    }

    pub(super) fn client(&self, inbound: &Inbound) -> Client {
        match (inbound.peer, &inbound.login, inbound.address()) {
            (Peer::Process { uid }, ..) => Client::Local { uid },
            (_, Some(login), _) => Client::User {
                login: login.clone(),
            },
            (Peer::Network { .. }, None, Some(address)) if self.is_trusted(address) => {
                Client::Network { address }
            }
            (Peer::Network { remote, .. }, ..) => Client::Anonymous {
                address: remote.ip(),
            },
        }
    }

    pub(super) fn recipient_verdict(
        &self,
        inbound: &Inbound,
        to: &ForwardPath,
        notify: Notify,
        original: Option<Box<str>>,
        now: Now,
    ) -> Result<Vec<Recipient>, Reply> {
        let client = self.client(inbound);
        let returned = self.returned(to, now)?;
        let goals = match &returned {
            Some(mailbox) => self.goals_of_return(mailbox)?,
            None => relay::recipient(&self.config, &client, to).map_err(refusal_reply)?,
        };
        let asked = match to {
            ForwardPath::Mailbox(mailbox) => Some(mailbox),
            _ => None,
        };
        let expanded = asked.filter(|asked| {
            goals.len() > 1 || goals.first().is_none_or(|goal| goal.mailbox != **asked)
        });
        // RFC 3461 section 5.2.7.1: what is expanded keeps the address that the sender knows.
        let original = original.or_else(|| expanded.map(|asked| format!("rfc822;{asked}").into()));
        let sender = inbound
            .session
            .reverse_path()
            .and_then(ReversePath::mailbox);
        Ok(goals
            .into_iter()
            .map(|goal| Recipient {
                destination: goal.destination.map(|to| to.to_string().into()),
                reverse_path: sender
                    .zip(goal.forwarder)
                    .and_then(|(sender, forwarder)| {
                        self.rewritten(&client, sender, &forwarder, now)
                    })
                    .map(Box::new),
                ..Recipient::new(goal.mailbox, notify, original.clone())
            })
            .collect())
    }

    /// Whom a rewritten sender of ours stands for (SRS).
    fn returned(&self, to: &ForwardPath, now: Now) -> Result<Option<Mailbox>, Reply> {
        let ForwardPath::Mailbox(mailbox) = to else {
            return Ok(None);
        };
        let Some(served) = self.config.receiving(mailbox.domain()) else {
            return Ok(None);
        };
        let key = self.config.names.key(&mailbox.local_key());
        // Somebody may be called so.
        if !is_rewritten(mailbox) || served.aliases.contains_key(&key) {
            return Ok(None);
        }
        match self.rewriter.reverse(mailbox, now.wall) {
            Ok(sender) => Ok(Some(sender)),
            Err(ReverseError::NotRewritten) => Ok(None),
            Err(ReverseError::Expired) => Err(Reply::RETURN_EXPIRED),
            Err(ReverseError::Malformed | ReverseError::Forged | ReverseError::Deep) => {
                Err(Reply::RETURN_FORGED)
            }
        }
    }

    /// A first sender gets what comes back as it is. A served address is not rewritten, but a domain may have come to
    /// be served since.
    fn goals_of_return(&self, mailbox: &Mailbox) -> Result<Vec<Goal>, Reply> {
        match self.config.receiving(mailbox.domain()) {
            Some(_) => relay::expand(&self.config, mailbox).map_err(refusal_reply),
            None => Ok(vec![Goal {
                mailbox: mailbox.clone(),
                destination: None,
                forwarder: None,
            }]),
        }
    }

    /// The sender under which a served domain forwards, where the sender's own would fail SPF: not for senders of
    /// served domains, and never for our own users, who may send under addresses of elsewhere.
    fn rewritten(
        &self,
        client: &Client,
        sender: &Mailbox,
        forwarder: &Domain,
        now: Now,
    ) -> Option<Mailbox> {
        let own = matches!(client, Client::User { .. } | Client::Local { .. })
            || self.config.domains.contains_key(sender.domain())
            || *sender.domain() == self.config.hostname;
        if own {
            return None;
        }
        // A sender that is too long to be rewritten keeps its name, and takes its chance.
        self.rewriter.forward(sender, forwarder, now.wall).ok()
    }

    /// What a header must hold to be taken from this client.
    pub(super) fn header_verdict(&self, inbound: &Inbound, header: &Header) -> Result<(), Reply> {
        let Some(login) = &inbound.login else {
            return Ok(());
        };
        let authors = from_mailboxes(header).map_err(|error| match error {
            FromError::Missing | FromError::Duplicate | FromError::Empty | FromError::Syntax(_) => {
                Reply::FROM_MALFORMED
            }
        })?;
        if authors
            .iter()
            .all(|author| may_send_as(&self.config, login, author))
        {
            Ok(())
        } else {
            Err(Reply::FROM_NOT_YOURS)
        }
    }
}

fn refusal_reply(refusal: relay::Refusal) -> Reply {
    match refusal {
        relay::Refusal::RelayDenied => Reply::RELAY_DENIED,
        relay::Refusal::Routed => Reply::ROUTED_ADDRESS,
        relay::Refusal::NoDomain => Reply::NO_DOMAIN,
        relay::Refusal::Literal => Reply::LITERAL_ADDRESS,
        relay::Refusal::Unknown => Reply::UNKNOWN_RECIPIENT,
        relay::Refusal::Loop => Reply::ALIAS_LOOP,
        relay::Refusal::TooWide => Reply::ALIAS_TOO_WIDE,
    }
}
