//! What a client may do: whether there is room, which sender addresses it may use, and where its mail may go.

use std::net::IpAddr;

use super::session::{Server, ServerSession};
use crate::address::{Domain, Mailbox, ReversePath};
use crate::auth::srs::{Returned, ReverseError, is_rewritten};
use crate::destination::Assigned;
use crate::engine::counters::count_up;
use crate::engine::effects::Effects;
use crate::engine::event::Peer;
use crate::engine::log::{Level, Line};
use crate::engine::note::CountedUses;
use crate::envelope::{Notify, Recipient};
use crate::limits::{READ_TURN_BYTES_MAX, SPOOL_RESERVE_BYTES, USERS_RESERVE_BYTES};
use crate::mail::address_list::{FromError, from_mailboxes};
use crate::mail::authors::authors_in;
use crate::mail::header::{Field, Header};
use crate::policy::authenticity::Findings;
use crate::policy::authority::{ArrivalPort, AuthorityRefusal, Case, Grant, Released};
use crate::policy::relay::{self, ExpandedRecipient, RelayClient};
use crate::policy::sender::may_send_as;
use crate::policy::shares::{Holder, Resource, TrustLevel};
use crate::smtp::command::ForwardPath;
use crate::smtp::reply::Reply;
use crate::smtp::server::Transaction;

/// Whether the cause of a reply has a log event of its own: results of AUTH, early talkers, a missing proxy header, a
/// relay that stops.
fn is_told_apart(reply: &Reply) -> bool {
    const APART: [Reply; 6] = [
        Reply::AUTH_FAILED,
        Reply::AUTH_THROTTLED,
        Reply::TOO_MANY_SESSIONS_OF_USER,
        Reply::EARLY_TALKER,
        Reply::NOT_A_PROXY,
        Reply::SHUTTING_DOWN,
    ];
    APART.contains(reply)
}

impl Server {
    pub(super) fn note_refusal(
        &mut self,
        inbound: &mut ServerSession,
        what: &str,
        shown: &str,
        reply: Option<&Reply>,
        fx: &mut Effects,
    ) {
        let Some(reply) = reply else { return };
        inbound.noted.push(reply.clone());
        if let (Some(address), Some(_), true) =
            (inbound.address(), &inbound.guard, reply.is_permanent())
            && !fx.is_probe(address)
        {
            self.clients.client_rates.refused(address, fx.now.instant);
        }
        fx.count_refused(inbound.address(), 1);
        let line = Line::new(Level::Info, "reject")
            .with("peer", inbound.peer_text())
            .with_some("user", inbound.login.as_ref())
            .with("what", what)
            .with_some("address", (!shown.is_empty()).then_some(shown))
            .with("code", reply.code())
            .with_some("status", reply.enhanced())
            .with("why", reply.text());
        fx.log(fx.of_client(inbound.address(), line));
    }

    /// Logs the refusals that a session has sent, except those with a line of their own. Refusals of the session
    /// machine itself concern the form and the order of commands.
    pub(super) fn note_refusals(&mut self, inbound: &mut ServerSession, fx: &mut Effects) {
        for refused in inbound.session.take_refusals() {
            let mut times = refused.times;
            while times > 0
                && let Some(at) = inbound
                    .noted
                    .iter()
                    .position(|reply| *reply == refused.reply)
            {
                inbound.noted.swap_remove(at);
                times = times.saturating_sub(1);
            }
            if times == 0 || is_told_apart(&refused.reply) {
                continue;
            }
            fx.count_refused(inbound.address(), times.into());
            let line = Line::new(Level::Info, "reject")
                .with("peer", inbound.peer_text())
                .with_some("user", inbound.login.as_ref())
                .with("what", refused.what.as_str())
                .with_some("said", refused.said)
                .with("code", refused.reply.code())
                .with_some("status", refused.reply.enhanced())
                .with("why", refused.reply.text())
                .with_some("times", (times > 1).then_some(times));
            fx.log_refusal(fx.of_client(inbound.address(), line));
        }
    }

    /// Whether a host may relay without AUTH.
    pub(super) fn is_trusted(&self, door: ArrivalPort, address: IpAddr, fx: &Effects) -> bool {
        RelayClient::host(&fx.config, door, address).is_trusted()
    }

    /// Whether there is room for a message of `size` bytes, on the disk and in memory.
    pub(super) fn room_verdict(
        &self,
        holder: Holder,
        size: Option<u64>,
        fx: &Effects,
    ) -> Result<(), Reply> {
        // The last reserve is for outcomes and DSNs, the one before it for users.
        let reserve = match holder.standing() {
            TrustLevel::Trusted => SPOOL_RESERVE_BYTES,
            _ => SPOOL_RESERVE_BYTES.saturating_add(USERS_RESERVE_BYTES),
        };
        let needed = size.unwrap_or(0).saturating_add(reserve);
        if fx.disk.free.is_some_and(|free| free < needed) {
            return Err(Reply::NO_SPACE);
        }
        // A new message must find room for its header and for its blocks on their way to the disk.
        let memory = fx.shares.of(Resource::Memory);
        if !memory.has_room(holder, READ_TURN_BYTES_MAX as u64) {
            return Err(Reply::NO_MEMORY);
        }
        let spool = fx.shares.of(Resource::Spool);
        match size {
            Some(size) if !spool.has_room(holder, size) => Err(Reply::NO_SPACE),
            _ => Ok(()),
        }
    }

    pub(super) fn sender_verdict(
        &mut self,
        inbound: &ServerSession,
        from: &ReversePath,
        size: Option<u64>,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        self.room_verdict(inbound.holding.holder(), size, fx)?;
        if let (Some(login), Some(mailbox)) = (&inbound.login, from.mailbox())
            && !may_send_as(&fx.config, login, mailbox)
        {
            return Err(Reply::SENDER_NOT_YOURS);
        }
        self.rate_verdict(inbound, fx)
    }

    pub(super) fn client(&self, inbound: &ServerSession, fx: &Effects) -> RelayClient {
        match (inbound.peer, &inbound.login) {
            (Peer::Process { uid }, _) => RelayClient::Local { uid },
            (_, Some(login)) => RelayClient::User {
                login: login.clone(),
            },
            (Peer::Network { remote, .. }, None) => {
                RelayClient::host(&fx.config, inbound.door(), remote.ip())
            }
        }
    }

    /// The recipients of a forward-path with their grant, or the refusal.
    /// Decides RFC 3461 section 5.2.7.1.
    pub(super) fn recipient_verdict(
        &self,
        inbound: &ServerSession,
        to: &ForwardPath,
        notify: Notify,
        original: Option<Box<str>>,
        fx: &Effects,
    ) -> Result<(Grant, Vec<Recipient>), Reply> {
        let client = self.client(inbound, fx);
        let (grant, targets) = self.way(inbound, &client, to, fx)?;
        inbound
            .envelope
            .grants
            .may_add(&grant)
            .map_err(|refusal| Reply::from(&refusal))?;
        let asked = match to {
            ForwardPath::Mailbox(mailbox) => Some(mailbox),
            _ => None,
        };
        let expanded = asked.filter(|asked| {
            targets.len() > 1
                || targets
                    .first()
                    .is_none_or(|target| target.mailbox != **asked)
        });
        // RFC 3461 section 5.2.7.1: an expanded address keeps the address that the sender knows.
        let original = original.or_else(|| expanded.map(|asked| format!("rfc822;{asked}").into()));
        let sender = inbound
            .session
            .reverse_path()
            .and_then(ReversePath::mailbox);
        let recipients = targets.into_iter().map(|target| Recipient {
            destination: target.destination.map(Assigned::Known),
            reverse_path: sender
                .zip(target.forwarder)
                .and_then(|(sender, forwarder)| self.rewritten(&client, sender, &forwarder, fx))
                .map(Box::new),
            ..Recipient::new(target.mailbox, notify, original.clone())
        });
        Ok((grant, recipients.collect()))
    }

    /// Where mail for a forward-path goes, and the grant for it.
    fn way(
        &self,
        inbound: &ServerSession,
        client: &RelayClient,
        to: &ForwardPath,
        fx: &Effects,
    ) -> Result<(Grant, Vec<ExpandedRecipient>), Reply> {
        let config = &fx.config;
        let Some((through, returned)) = self.returned(to, fx)? else {
            let sender = inbound.session.reverse_path();
            let sender = sender.unwrap_or(&ReversePath::Null);
            let expanded = relay::recipient(config, client, to)
                .or_else(|refusal| relay::returned(config, sender, to, refusal))
                .map_err(|refusal| match (refusal, client) {
                    (relay::RecipientRefusal::RelayDenied, RelayClient::Anonymous { address })
                        if address.to_canonical().is_loopback() =>
                    {
                        Reply::RELAY_DENIED_LOCALLY
                    }
                    _ => refusal_reply(refusal),
                })?;
            return Ok((Grant::new(config, client, to, &expanded), expanded));
        };
        let expanded = self.expand_return(&returned.sender, through, fx)?;
        let sender = inbound.session.reverse_path();
        let sender = sender.unwrap_or(&ReversePath::Null);
        let grant = Grant::of_return(config, client, sender, to, &returned, &expanded)
            .map_err(|refusal| Reply::from(&refusal))?;
        match grant.returned() {
            Some(id) if self.clients.returns.is_spent(id, fx.now.instant) => {
                Err(Reply::RETURN_SPENT)
            }
            _ => Ok((grant, expanded)),
        }
    }

    /// The original sender of a rewritten address of ours (SRS), and its domain.
    fn returned<'a>(
        &self,
        to: &'a ForwardPath,
        fx: &Effects,
    ) -> Result<Option<(&'a Domain, Returned)>, Reply> {
        let ForwardPath::Mailbox(mailbox) = to else {
            return Ok(None);
        };
        let domain = mailbox.domain();
        let key = fx.config.names.key(&mailbox.local_key());
        let served = fx.config.receiving(domain);
        // A real mailbox may have such a name.
        let is_alias = served.is_some_and(|served| served.aliases.contains_key(&key));
        if !self.forwards_for(domain, fx) || !is_rewritten(mailbox) || is_alias {
            return Ok(None);
        }
        let ours = |domain: &Domain| self.forwards_for(domain, fx);
        match self.rewriter.unwrap(mailbox, ours, fx.now.wall) {
            Ok(returned) => Ok(Some((domain, returned))),
            Err(ReverseError::NotRewritten) => Ok(None),
            Err(ReverseError::Expired) => Err(Reply::RETURN_EXPIRED),
            Err(ReverseError::Malformed | ReverseError::Forged | ReverseError::Deep) => {
                Err(Reply::RETURN_FORGED)
            }
        }
    }

    /// Whether mail is forwarded under the name of this domain.
    fn forwards_for(&self, domain: &Domain, fx: &Effects) -> bool {
        *domain == fx.config.hostname || fx.config.receiving(domain).is_some()
    }

    /// Recipients of mail returned to an original sender, under the name of the domain that it comes back through. A
    /// served address is never rewritten, but a domain may have become served since.
    fn expand_return(
        &self,
        mailbox: &Mailbox,
        through: &Domain,
        fx: &Effects,
    ) -> Result<Vec<ExpandedRecipient>, Reply> {
        if mailbox.domain().is_literal() {
            return Err(Reply::LITERAL_ADDRESS);
        }
        match fx.config.receiving(mailbox.domain()) {
            Some(_) => relay::expand(&fx.config, mailbox).map_err(refusal_reply),
            None => Ok(vec![ExpandedRecipient {
                mailbox: mailbox.clone(),
                destination: None,
                forwarder: Some(through.clone()),
            }]),
        }
    }

    /// Releases a complete message to its recipients, or returns the reply to the client.
    pub(super) fn release(
        &mut self,
        inbound: &ServerSession,
        transaction: &mut Transaction,
        findings: Option<&Findings>,
        fx: &mut Effects,
    ) -> Result<Released, Reply> {
        let client = self.client(inbound, fx);
        let case = Case {
            config: &fx.config,
            client: &client,
            grants: &inbound.envelope.grants,
            findings,
        };
        let recipients = std::mem::take(&mut transaction.recipients);
        case.release(transaction.reverse_path.clone(), recipients)
            .map_err(|refusal| {
                count_up(
                    &mut fx.counters.dmarc_refused,
                    u64::from(matches!(refusal, AuthorityRefusal::Dmarc(_))),
                );
                Reply::from(&refusal)
            })
    }

    /// Takes a use of each return address in the recipients, before the message is stored.
    pub(super) fn use_returns(
        &mut self,
        inbound: &mut ServerSession,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        let Some(address) = inbound.address() else {
            return Ok(());
        };
        for id in inbound.envelope.grants.returned() {
            if !self.clients.returns.take(id, address, fx.now.instant) {
                return Err(Reply::RETURN_SPENT);
            }
            inbound.envelope.uses.return_addresses.push(id);
        }
        Ok(())
    }

    /// Gives back the uses of a message that was not stored.
    pub(super) fn give_back(&mut self, uses: CountedUses) {
        if let Some(counted) = uses.submitter {
            self.logins.users.give_back(&counted);
        }
        for id in uses.return_addresses {
            self.clients.returns.give_back(id);
        }
    }

    /// The rewritten sender under which a served domain forwards, if SPF would fail for the sender's own. Senders of
    /// served domains are not rewritten, and neither are our own users, who may send from foreign addresses.
    fn rewritten(
        &self,
        client: &RelayClient,
        sender: &Mailbox,
        forwarder: &Domain,
        fx: &Effects,
    ) -> Option<Mailbox> {
        let own = matches!(client, RelayClient::User { .. } | RelayClient::Local { .. })
            || fx.config.domains.contains_key(sender.domain())
            || *sender.domain() == fx.config.hostname;
        if own {
            return None;
        }
        // A sender that is too long to be rewritten keeps its name, and takes its chance.
        self.rewriter.forward(sender, forwarder, fx.now.wall).ok()
    }

    /// Whether this client may use the authors in a header. If there are none, returns the one to add: the user, or the
    /// sender of a trusted host or process.
    /// Decides RFC 6409 section 8.1.
    pub(super) fn author_verdict(
        &self,
        inbound: &ServerSession,
        header: &Header,
        sender: Option<&Mailbox>,
        fx: &Effects,
    ) -> Result<Option<Mailbox>, Reply> {
        let found = from_mailboxes(header);
        let is_missing = matches!(found, Err(FromError::Missing | FromError::Empty));
        match &inbound.login {
            Some(login) if is_missing => Ok(Some(login.clone())),
            Some(login) => {
                let authors = match found {
                    Ok(authors) => authors,
                    Err(_) => vec![sole_author(header).ok_or(Reply::FROM_MALFORMED)?],
                };
                if !is_read_alike(header, &authors) {
                    return Err(Reply::FROM_MALFORMED);
                }
                let mut authors = authors.iter();
                match authors.all(|author| may_send_as(&fx.config, login, author)) {
                    true => Ok(None),
                    false => Err(Reply::FROM_NOT_YOURS),
                }
            }
            None if is_missing && self.client(inbound, fx).is_trusted() => Ok(sender.cloned()),
            None => Ok(None),
        }
    }
}

/// The author in a From that the grammar refuses for its display name, as devices write it: it holds one at sign, in
/// angle brackets, and all readers show its domain.
fn sole_author(header: &Header) -> Option<Mailbox> {
    let mut fields = header.named("From").map(Field::value);
    let (Some(value), None) = (fields.next(), fields.next()) else {
        return None;
    };
    if value.iter().filter(|byte| **byte == b'@').count() != 1 {
        return None;
    }
    let (_, behind) = std::str::from_utf8(value).ok()?.split_once('<')?;
    let (address, _) = behind.split_once('>')?;
    let author = Mailbox::parse(address.trim()).ok()?;
    let domains = authors_in(value).ok()?;
    (domains == [author.domain().clone()]).then_some(author)
}

/// Whether mail readers agree on the domains of these authors. If From is not UTF-8, each may decode it differently.
fn is_read_alike(header: &Header, authors: &[Mailbox]) -> bool {
    let mut fields = header.named("From").map(Field::value);
    fields.all(|value| {
        let known = |domain: &Domain| authors.iter().any(|author| author.domain() == domain);
        std::str::from_utf8(value).is_ok()
            || authors_in(value).is_ok_and(|domains| domains.iter().all(known))
    })
}

impl From<&AuthorityRefusal> for Reply {
    fn from(refusal: &AuthorityRefusal) -> Self {
        match refusal {
            AuthorityRefusal::Withdrawn => Self::NO_LONGER_TRUSTED,
            AuthorityRefusal::Unexamined | AuthorityRefusal::Open => Self::AUTHENTICITY_UNKNOWN,
            AuthorityRefusal::Ambiguous => Self::FROM_MALFORMED,
            AuthorityRefusal::Dmarc(author) => {
                Self::dmarc(author.as_ref().map_or("", Domain::as_str))
            }
            AuthorityRefusal::OwnDomainSpoofed(domain) => Self::spoofing(domain.as_str()),
            AuthorityRefusal::Unvouched => Self::RETURN_UNVOUCHED,
            AuthorityRefusal::NullSenderOnly => Self::RETURN_FOR_NULL,
            AuthorityRefusal::ManyReturns => Self::TOO_MANY_RECIPIENTS,
        }
    }
}

fn refusal_reply(refusal: relay::RecipientRefusal) -> Reply {
    match refusal {
        relay::RecipientRefusal::RelayDenied => Reply::RELAY_DENIED,
        relay::RecipientRefusal::Routed => Reply::ROUTED_ADDRESS,
        relay::RecipientRefusal::NoDomain => Reply::NO_DOMAIN,
        relay::RecipientRefusal::Literal => Reply::LITERAL_ADDRESS,
        relay::RecipientRefusal::Unknown => Reply::UNKNOWN_RECIPIENT,
        relay::RecipientRefusal::Loop => Reply::ALIAS_LOOP,
        relay::RecipientRefusal::TooWide => Reply::ALIAS_TOO_WIDE,
    }
}
