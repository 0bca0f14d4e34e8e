//! Limits and checks for clients of port 25: look-ups about a client, refusals, and delays.
//!
//! They never apply to hosts of `relay.networks`, users and programs of this machine: only a session with a [`Guard`]
//! belongs to an unauthenticated client. The look-ups start when the client is let in; only a recipient waits for them,
//! and only for the block lists. A delayed reply is kept with its session and sent at its deadline. One line may wait
//! behind it; a client that sends more is disconnected. A delayed client therefore costs no more than an idle one.

use std::net::IpAddr;
use std::time::Duration;

use super::guard::{Accepted, Guard, Held, Verdict};
use super::session::{Server, ServerSession};
use crate::address::{Domain, Mailbox, ReversePath};
use crate::config::Toggle;
use crate::dns::{Answer, Question};
use crate::engine::counters::count_up;
use crate::engine::effects::Effects;
use crate::engine::event::{ConnId, Peer};
use crate::engine::log::{Level, Line};
use crate::limits::READ_TURN_BYTES_MAX;
use crate::policy::client_dns::ClientDnsCheck;
use crate::policy::client_rates::Rate;
use crate::policy::greylist::{Greylist, GreylistDecision};
use crate::policy::shares::Resource;
use crate::smtp::ehlo::{self, EhloFault};
use crate::smtp::reply::Reply;

impl ServerSession {
    /// The name of the client, if the DNS has confirmed it by now.
    pub(super) fn confirmed_name(&self) -> Option<&Domain> {
        self.guard.as_ref()?.client_dns.name()
    }

    /// Whether a reply is delayed.
    pub(super) fn is_slowed(&self) -> bool {
        let guard = self.guard.as_ref();
        guard.is_some_and(|guard| matches!(guard.held, Some(Held::Verdict { .. })))
    }

    /// Takes the delayed reply whose time has come.
    pub(super) fn take_held(&mut self) -> Option<Verdict> {
        let held = &mut self.guard.as_mut()?.held;
        match held.take() {
            Some(Held::Verdict { verdict, .. }) => Some(verdict),
            other => {
                *held = other;
                None
            }
        }
    }
}

impl Server {
    /// Whether a client may connect now.
    pub(super) fn admit_unauthenticated(
        &mut self,
        address: IpAddr,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        if fx.is_probe(address) {
            return Ok(());
        }
        let client_rates = &mut self.clients.client_rates;
        let reply = if client_rates.is_shut_out(address, fx.now.instant) {
            Reply::TOO_MANY_UNKNOWN
        } else if !client_rates.may(
            Rate::Connections,
            address,
            fx.config.abuse.connections_per_minute,
            fx.now.instant,
        ) {
            Reply::TOO_MANY_CONNECTIONS
        } else {
            return Ok(());
        };
        count_up(&mut fx.counters.throttled, 1);
        let line = Line::new(Level::Info, "reject")
            .with("peer", address)
            .with("what", "connection")
            .with("code", reply.code())
            .with("why", reply.text());
        fx.log_refusal(fx.of_client(Some(address), line));
        Err(reply)
    }

    /// Starts the look-ups for a client that was let in.
    pub(super) fn guard(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        address: IpAddr,
        fx: &mut Effects,
    ) {
        let abuse = &fx.config.abuse;
        if abuse.hello == Toggle::On {
            inbound.session.ask_about_ehlo();
        }
        let (client_dns, questions) = ClientDnsCheck::begin(address, &abuse.lists, abuse.ptr);
        inbound.guard = Some(Box::new(Guard {
            client_dns,
            unknown: 0,
            held: None,
        }));
        self.vet(conn, inbound, questions, fx);
    }

    /// Asks the questions that the vetting of a client needs.
    fn vet(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        mut questions: Vec<Question>,
        fx: &mut Effects,
    ) {
        while let Some(question) = questions.pop() {
            let holder = inbound.holding.holder();
            if let Some(answer) = fx.ask(conn, holder, question.clone()) {
                questions.append(&mut self.vet_answer(inbound, &question, &answer, fx));
            }
        }
    }

    fn vet_answer(
        &mut self,
        inbound: &mut ServerSession,
        question: &Question,
        answer: &Answer,
        fx: &mut Effects,
    ) -> Vec<Question> {
        let Some(guard) = inbound.guard.as_mut() else {
            return Vec::new();
        };
        let mut odd = None;
        let further = guard
            .client_dns
            .on_answer(question, answer, &mut |reply| odd = Some(reply));
        // A list that refuses our resolver would fill the log.
        if let Some(odd) = odd
            && self
                .clients
                .odd_at
                .is_none_or(|at| fx.now.instant.since(at) >= ODD_INTERVAL)
        {
            self.clients.odd_at = Some(fx.now.instant);
            fx.log(
                Line::new(Level::Warning, "dnsbl")
                    .with("zone", odd.zone)
                    .with("reply", odd.reply),
            );
        }
        further
    }

    /// A DNS answer arrived: continues the vetting, and the recipient that waits for it.
    pub(super) fn on_client_answer(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        question: &Question,
        answer: &Answer,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let questions = self.vet_answer(inbound, question, answer, fx);
        self.vet(conn, inbound, questions, fx);
        let Some(guard) = inbound.guard.as_mut() else {
            return;
        };
        if guard.client_dns.waits_for_lists() {
            return;
        }
        match guard.held.take() {
            Some(Held::Lists { shown, accepted }) => {
                let verdict = self.vetted(inbound, &shown, accepted, fx);
                self.recipient_answer(inbound, &shown, verdict, out, fx);
            }
            held => guard.held = held,
        }
    }

    /// Judges the EHLO of a client.
    pub(super) fn ehlo_request(
        &mut self,
        inbound: &mut ServerSession,
        name: &str,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let Peer::Network { remote, local } = inbound.peer else {
            return self.tell(inbound, Verdict::Hello(Ok(())), out, fx);
        };
        // A program of this machine has our name, and connected over the network.
        let is_here = remote.ip().to_canonical().is_loopback() || remote.ip() == local.ip();
        let verdict = match ehlo::judge(name, &fx.config.hostname, local.ip()) {
            Err(EhloFault::Syntax) => Err(Reply::BAD_HELLO),
            Err(EhloFault::Ours) if !is_here => Err(Reply::OUR_HELLO),
            _ => Ok(()),
        };
        self.note_refusal(inbound, "hello", name, verdict.as_ref().err(), fx);
        if verdict.is_ok() {
            self.drop_body(inbound, fx);
        }
        self.tell(inbound, Verdict::Hello(verdict), out, fx);
    }

    /// Whether a client may begin one more message.
    pub(super) fn may_begin(
        &mut self,
        inbound: &ServerSession,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        let limit = fx.config.abuse.messages_per_minute;
        self.may(inbound, Rate::Messages, limit, Reply::TOO_MANY_MESSAGES, fx)
    }

    fn may(
        &mut self,
        inbound: &ServerSession,
        rate: Rate,
        per_minute: u32,
        refusal: Reply,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        let (Some(address), Some(_)) = (inbound.address(), &inbound.guard) else {
            return Ok(());
        };
        if fx.is_probe(address) {
            return Ok(());
        }
        if self
            .clients
            .client_rates
            .may(rate, address, per_minute, fx.now.instant)
        {
            return Ok(());
        }
        count_up(&mut fx.counters.throttled, 1);
        Err(refusal)
    }

    /// Judges the client of a recipient, after relaying was judged.
    pub(super) fn recipient_request(
        &mut self,
        inbound: &mut ServerSession,
        shown: String,
        verdict: Result<Accepted, Reply>,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let limit = fx.config.abuse.recipients_per_minute;
        let verdict = verdict
            .and_then(|accepted| self.has_room_for_recipient(inbound, fx).map(|()| accepted));
        let verdict = verdict.and_then(|accepted| {
            self.may(
                inbound,
                Rate::Recipients,
                limit,
                Reply::TOO_MANY_RECIPIENTS_NOW,
                fx,
            )
            .map(|()| accepted)
        });
        let verdict = match (verdict, inbound.guard.as_mut()) {
            (Ok(accepted), Some(guard)) if guard.client_dns.waits_for_lists() => {
                guard.held = Some(Held::Lists { shown, accepted });
                return;
            }
            (Ok(accepted), Some(_)) => self.vetted(inbound, &shown, accepted, fx),
            (verdict, _) => verdict,
        };
        self.recipient_answer(inbound, &shown, verdict, out, fx);
    }

    /// Whether there is memory for one more recipient. There may be many, and an alias may make a hundred of one, so
    /// the second and later ones leave room for the messages of others.
    fn has_room_for_recipient(
        &mut self,
        inbound: &mut ServerSession,
        fx: &mut Effects,
    ) -> Result<(), Reply> {
        if !self.has_memory(inbound, fx) {
            return Err(Reply::NO_MEMORY);
        }
        let memory = fx.shares.of(Resource::Memory);
        let is_first = inbound.session.recipients() == 0;
        match is_first || memory.has_room(inbound.holding.holder(), RECIPIENT_ROOM_BYTES) {
            true => Ok(()),
            false => Err(Reply::NO_MEMORY),
        }
    }

    /// The verdict of the block lists and the greylist.
    fn vetted(
        &mut self,
        inbound: &ServerSession,
        shown: &str,
        accepted: Accepted,
        fx: &mut Effects,
    ) -> Result<Accepted, Reply> {
        let (Some(guard), Some(address)) = (&inbound.guard, inbound.address()) else {
            return Ok(accepted);
        };
        // A client that is listed by mistake can still write to the postmaster, who can allow it.
        if let Some(zone) = guard.client_dns.listed()
            && !is_for_complaints(shown)
        {
            count_up(&mut fx.counters.listed, 1);
            return Err(Reply::listed(address, zone.as_str()));
        }
        if let Some(rules) = &fx.config.abuse.greylist {
            let sender = inbound
                .session
                .reverse_path()
                .map_or("", |sender| sender.as_str());
            // Forms of one address with different suffixes count as one.
            let steady = Mailbox::parse(shown).map(|mailbox| {
                let key = fx.config.names.key(&mailbox.local_key());
                format!(
                    "{}@{}",
                    fx.config.names.without_suffix(&key),
                    mailbox.domain()
                )
            });
            let pair = (sender, steady.as_deref().unwrap_or(shown));
            let greylist = &mut self.clients.greylist;
            if let GreylistDecision::PutOff(_) =
                greylist.judge(rules, address, pair, fx.now.instant)
            {
                count_up(&mut fx.counters.greylisted, 1);
                return Err(Reply::GREYLISTED);
            }
        }
        Ok(accepted)
    }

    /// Replies to RCPT, and ends a session that only guesses names.
    fn recipient_answer(
        &mut self,
        inbound: &mut ServerSession,
        shown: &str,
        verdict: Result<Accepted, Reply>,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        self.note_refusal(inbound, "recipient", shown, verdict.as_ref().err(), fx);
        let limit = fx.config.abuse.unknown_recipients;
        let address = inbound.address();
        let is_unknown = verdict.as_ref().err() == Some(&Reply::UNKNOWN_RECIPIENT);
        if let (true, Some(address), Some(guard)) = (is_unknown, address, inbound.guard.as_mut())
            && limit > 0
            && !fx.is_probe(address)
        {
            let is_bounce = inbound.session.reverse_path() == Some(&ReversePath::Null);
            let quarters = if is_bounce { 1 } else { 4 };
            guard.unknown = guard.unknown.saturating_add(quarters);
            let ends = guard.unknown >= limit.saturating_mul(4);
            let client_rates = &mut self.clients.client_rates;
            client_rates.unknown(address, limit, is_bounce, fx.now.instant);
            if ends || client_rates.is_shut_out(address, fx.now.instant) {
                count_up(&mut fx.counters.throttled, 1);
                let reply = Reply::TOO_MANY_UNKNOWN;
                self.note_refusal(inbound, "session", "", Some(&reply), fx);
                return self.tell(inbound, Verdict::Close(reply), out, fx);
            }
        }
        self.tell(inbound, Verdict::Recipient(verdict), out, fx);
    }

    /// Sends a verdict to a client: at once, or delayed if its address had many refusals.
    pub(super) fn tell(
        &mut self,
        inbound: &mut ServerSession,
        verdict: Verdict,
        out: &mut Vec<u8>,
        fx: &mut Effects,
    ) {
        let delay = match (inbound.address(), fx.config.abuse.tarpit) {
            (Some(address), Toggle::On) if !fx.is_probe(address) => {
                self.clients.client_rates.tarpit(address, fx.now.instant)
            }
            _ => Duration::ZERO,
        };
        if !delay.is_zero()
            && let Some(guard) = inbound.guard.as_mut()
        {
            let until = fx.now.instant.after(delay);
            guard.held = Some(Held::Verdict { verdict, until });
            count_up(&mut fx.counters.slowed, 1);
            return;
        }
        self.tell_now(inbound, verdict, out);
    }

    /// Sends a verdict at once.
    pub(super) fn tell_now(
        &mut self,
        inbound: &mut ServerSession,
        verdict: Verdict,
        out: &mut Vec<u8>,
    ) {
        match verdict {
            Verdict::Hello(verdict) => inbound.session.on_ehlo(verdict, &self.settings, out),
            Verdict::Sender(verdict) => inbound.session.on_sender(verdict, out),
            Verdict::Recipient(Ok(accepted)) => {
                // Only here is the recipient accepted: one that was deferred or refused before does not affect the
                // rest.
                let bytes = accepted.memory();
                inbound.envelope.recipient_bytes =
                    inbound.envelope.recipient_bytes.saturating_add(bytes);
                inbound.session.on_recipient(Ok(accepted.recipients), out);
                let recipients = inbound.session.recipients();
                inbound.envelope.grants.add(accepted.grant, recipients);
                inbound.envelope.named.extend(accepted.named);
            }
            Verdict::Recipient(Err(reply)) => inbound.session.on_recipient(Err(reply), out),
            Verdict::Close(reply) => inbound.session.end(&reply, out),
        }
    }

    /// Loads the greylist of an earlier run; a damaged file is ignored.
    pub(crate) fn restore_greylist(&mut self, image: &[u8], fx: &mut Effects) {
        match Greylist::parse(image, fx.now) {
            Ok(greylist) => {
                let line = Line::new(Level::Info, "greylist").with("entries", greylist.len());
                self.clients.greylist = greylist;
                fx.log(line);
            }
            Err(error) => fx.log(Line::new(Level::Warning, "greylist").with("why", error)),
        }
    }

    /// The greylist, to be kept until the next run.
    pub(crate) fn greylist_image(&self) -> Option<Vec<u8>> {
        let greylist = &self.clients.greylist;
        (!greylist.is_empty()).then(|| greylist.to_bytes())
    }
}

/// Whether an address is one that a domain must keep for complaints (RFC 2142 sections 2 and 5).
fn is_for_complaints(shown: &str) -> bool {
    let local = shown.split('@').next().unwrap_or_default();
    ["postmaster", "abuse"]
        .iter()
        .any(|role| local.eq_ignore_ascii_case(role))
}

/// Interval at which odd answers of block lists are logged.
const ODD_INTERVAL: Duration = Duration::from_secs(60);

/// Memory that must be free for a second recipient: four times the need of a message that begins.
const RECIPIENT_ROOM_BYTES: u64 = 4 * READ_TURN_BYTES_MAX as u64;
