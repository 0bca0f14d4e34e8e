//! What a client may do: whether there is room, who it may be, where its mail may go.

use std::net::IpAddr;

use super::Inbound;
use crate::address::ReversePath;
use crate::clock::Now;
use crate::engine::Engine;
use crate::engine::event::Peer;
use crate::engine::log::{Level, Line};
use crate::envelope::{Notify, Recipient};
use crate::limits::{INLINE_BODY_BYTES_MAX, SPOOL_RESERVE_BYTES};
use crate::mail::address_list::{FromError, from_mailboxes};
use crate::mail::header::Header;
use crate::policy::relay::{self, Client};
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
    ) -> Result<Vec<Recipient>, Reply> {
        let targets =
            relay::recipient(&self.config, &self.client(inbound), to).map_err(refusal_reply)?;
        let forwarded = match to {
            ForwardPath::Mailbox(mailbox)
                if targets.first() != Some(mailbox) || targets.len() > 1 =>
            {
                Some(mailbox)
            }
            _ => None,
        };
        // RFC 3461 section 5.2.7.1: what is expanded keeps the address that the sender knows.
        let original =
            original.or_else(|| forwarded.map(|mailbox| format!("rfc822;{mailbox}").into()));
        let recipient = |mailbox| Recipient {
            mailbox,
            notify,
            original: original.clone(),
        };
        Ok(targets.into_iter().map(recipient).collect())
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
