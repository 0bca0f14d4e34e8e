//! Sessions that come in: the SMTP server's end, with who is at the other side and what it may do.
//!
//! The session machine asks ([`Request`]), this file answers from policy at once, or later when a worker or the disk
//! has answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Exchange;
use super::event::{Action, ConnId, Listener, Lost, Peer, TlsSession, TlsSide, Work, WorkResult};
use super::intake::{Intake, Whole};
use super::log::{Level, Line};
use super::store::Committing;
use super::timers::Timer;
use super::{Conn, Control, Engine, JobOwner};
use crate::address::{Domain, Mailbox, ReversePath};
use crate::auth::dkim::sign::{Signer, SigningInput, prepare};
use crate::clock::{Instant, Now};
use crate::config::DkimKey;
use crate::envelope::{Envelope, Notify, Recipient};
use crate::limits::{
    BANNER_DELAY, BODY_IN_FLIGHT_BYTES_MAX, DATA_RATE_BYTES_MIN, HANDSHAKE_TIMEOUT,
    OUTPUT_BYTES_MAX, SESSION_TIMEOUT, SPOOL_RESERVE_BYTES,
};
use crate::mail::address_list::{FromError, from_mailboxes};
use crate::mail::header::Header;
use crate::mail::received::{Protocol, Received, Source};
use crate::mail::submission;
use crate::policy::relay::{self, Client};
use crate::policy::sender::may_send_as;
use crate::queue::{Body, Command, MessageRecord, Record};
use crate::queue_id::QueueId;
use crate::smtp::command::{ForwardPath, Greeting};
use crate::smtp::reply::Reply;
use crate::smtp::server::{Encryption, Request, Role, Session, Transaction};

/// One session.
pub(super) struct Inbound {
    pub(super) session: Session,
    listener: Listener,
    peer: Peer,
    /// The login, once AUTH succeeded.
    pub(super) login: Option<Mailbox>,
    pub(super) exchange: Option<Exchange>,
    tls: Option<Box<TlsSession>>,
    /// Input that waits for an answer, or the front of a line.
    kept: Vec<u8>,
    /// Bytes of the body that the session gave out in this turn.
    body: Vec<u8>,
    intake: Option<Box<Intake>>,
    signing: Option<Box<Signing>>,
    opened: Instant,
    body_began: Instant,
    body_bytes: u64,
    deadline: Option<Instant>,
    timer: Option<Instant>,
    /// Until when an answer to AUTH is held back.
    held_until: Option<Instant>,
    /// Bytes that the engine's account holds for this session.
    accounted: usize,
    /// Whether the banner is still held back.
    silent: bool,
    /// The address that the session is counted for.
    counted: Option<IpAddr>,
}

/// A message that waits for its signatures.
struct Signing {
    record: MessageRecord,
    size: u64,
    inputs: Vec<Option<SigningInput>>,
    signatures: Vec<Vec<u8>>,
    missing: usize,
}

impl Inbound {
    /// Whether bytes may be read for it now.
    pub(super) fn wants_input(&self) -> bool {
        let stalled = self
            .intake
            .as_ref()
            .is_some_and(|intake| intake.in_flight() > BODY_IN_FLIGHT_BYTES_MAX);
        self.silent || (self.session.wants_input() && !stalled)
    }

    /// Whether TLS was begun and is not there yet.
    fn is_handshaking(&self) -> bool {
        self.session.is_awaiting_tls()
            || self.listener == Listener::Submissions && self.tls.is_none()
    }

    /// The address of the peer, where it has one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.peer {
            Peer::Network { remote, .. } => Some(remote.ip().to_canonical()),
            Peer::Process { .. } => None,
        }
    }

    /// Lets the client wait for its answer until `at`.
    pub(super) fn hold_until(&mut self, at: Instant) {
        self.held_until = Some(at);
    }

    fn peer_text(&self) -> String {
        match self.peer {
            Peer::Network { remote, .. } => remote.ip().to_canonical().to_string(),
            Peer::Process { uid } => format!("uid={uid}"),
        }
    }

    fn memory(&self) -> usize {
        let intake = self.intake.as_ref().map_or(0, |intake| intake.memory());
        let signing = self
            .signing
            .as_ref()
            .map_or(0, |signing| match &signing.record.body {
                Body::Inline(bytes) => bytes.len(),
                Body::File { .. } => 0,
            });
        self.kept
            .capacity()
            .saturating_add(self.body.capacity())
            .saturating_add(intake)
            .saturating_add(signing)
    }
}

impl Engine {
    /// A connection was accepted; `Err` is what to send before it is closed at once.
    pub fn accept(&mut self, listener: Listener, peer: Peer, now: Now) -> Result<ConnId, Vec<u8>> {
        let result = self.admit(listener, peer, now);
        self.settle(now);
        result.map_err(|reply| {
            let mut bytes = Vec::new();
            reply.write(&mut bytes);
            bytes
        })
    }

    fn admit(&mut self, listener: Listener, peer: Peer, now: Now) -> Result<ConnId, Reply> {
        if self.stopping {
            return Err(Reply::SHUTTING_DOWN);
        }
        if listener == Listener::Control {
            return Ok(self
                .conns
                .insert(Conn::Control(Box::new(Control::new(peer)))));
        }
        if self.inbound_sessions >= self.config.limits.sessions {
            return Err(Reply::SERVER_BUSY);
        }
        let (role, encryption) = match listener {
            Listener::Smtp => (Role::Relay, Encryption::Offered),
            Listener::Submission => (Role::Submission, Encryption::Offered),
            Listener::Submissions => (Role::Submission, Encryption::Active),
            Listener::Submit | Listener::Control => (Role::Local, Encryption::Unavailable),
        };
        let mut inbound = Box::new(Inbound {
            session: Session::new(role, encryption),
            listener,
            peer,
            login: None,
            exchange: None,
            tls: None,
            kept: Vec::new(),
            body: Vec::new(),
            intake: None,
            signing: None,
            opened: now.instant,
            body_began: now.instant,
            body_bytes: 0,
            deadline: None,
            timer: None,
            held_until: None,
            accounted: 0,
            silent: false,
            counted: None,
        });
        let address = inbound.address();
        let trusted = address.is_none_or(|address| self.is_trusted(address));
        if let (Some(address), false) = (address, trusted) {
            if !self
                .logins
                .peers
                .open(address, self.config.limits.sessions_per_address)
            {
                return Err(Reply::TOO_MANY_SESSIONS);
            }
            inbound.counted = Some(address);
        }
        self.inbound_sessions += 1;
        self.counters.sessions += 1;
        let conn = self.conns.reserve();
        let mut out = Vec::new();
        if listener == Listener::Submissions {
            self.actions.push_back(Action::StartTls {
                conn,
                side: TlsSide::Server,
            });
            inbound.deadline = Some(now.instant.after(HANDSHAKE_TIMEOUT));
        } else if listener == Listener::Smtp && !trusted {
            inbound.silent = true;
            inbound.deadline = Some(now.instant.after(BANNER_DELAY));
        } else {
            inbound.session.start(&self.settings, &mut out);
            self.set_deadline(&mut inbound, now);
        }
        self.debug(|| {
            let listener = format!("{listener:?}").to_lowercase();
            Line::new(Level::Debug, "connect")
                .with("listener", listener)
                .with("peer", inbound.peer_text())
        });
        self.send(conn, out);
        self.inbound_put(conn, inbound);
        Ok(conn)
    }

    /// Bytes came in.
    pub(super) fn inbound_bytes(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        bytes: &[u8],
        now: Now,
    ) {
        if inbound.silent {
            self.counters.refused += 1;
            self.log(
                Line::new(Level::Warning, "reject")
                    .with("peer", inbound.peer_text())
                    .with("why", "early-talker"),
            );
            return self.inbound_end(conn, inbound, &Reply::EARLY_TALKER);
        }
        if inbound.session.is_in_body() {
            inbound.body_bytes = inbound.body_bytes.saturating_add(bytes.len() as u64);
        }
        if inbound.kept.is_empty() {
            self.inbound_drive(conn, inbound, bytes, now);
        } else {
            let mut kept = std::mem::take(&mut inbound.kept);
            kept.extend_from_slice(bytes);
            self.inbound_drive(conn, inbound, &kept, now);
        }
    }

    /// Goes on with what was kept, once an answer is in.
    fn inbound_resume(&mut self, conn: ConnId, mut inbound: Box<Inbound>, out: Vec<u8>, now: Now) {
        let kept = std::mem::take(&mut inbound.kept);
        self.inbound_drive_with(conn, inbound, &kept, out, now);
    }

    fn inbound_drive(&mut self, conn: ConnId, inbound: Box<Inbound>, bytes: &[u8], now: Now) {
        self.inbound_drive_with(conn, inbound, bytes, Vec::new(), now);
    }

    fn inbound_drive_with(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        bytes: &[u8],
        mut out: Vec<u8>,
        now: Now,
    ) {
        let mut input = bytes;
        loop {
            let mut body = std::mem::take(&mut inbound.body);
            let request = inbound
                .session
                .advance(&mut input, &self.settings, &mut out, &mut body);
            if !body.is_empty() {
                self.intake_take(conn, &mut inbound, &mut body);
            }
            body.clear();
            inbound.body = if body.capacity() > KEPT_CAPACITY_BYTES_MAX {
                Vec::new()
            } else {
                body
            };
            let Some(request) = request else { break };
            match request {
                Request::Close => {
                    self.send(conn, out);
                    return self.inbound_close(conn, *inbound);
                }
                Request::StartTls => {
                    // What was sent behind STARTTLS was sent in clear, by whomever: it is dropped with `input`.
                    self.send(conn, std::mem::take(&mut out));
                    self.actions.push_back(Action::StartTls {
                        conn,
                        side: TlsSide::Server,
                    });
                    inbound.deadline = Some(now.instant.after(HANDSHAKE_TIMEOUT));
                    return self.inbound_put(conn, inbound);
                }
                request => self.inbound_request(conn, &mut inbound, request, &mut out, now),
            }
            if out.len() > OUTPUT_BYTES_MAX {
                break;
            }
        }
        inbound.kept = input.to_vec();
        if !out.is_empty() || inbound.session.is_in_body() || inbound.deadline.is_none() {
            self.set_deadline(&mut inbound, now);
        }
        if inbound.session.timeout().is_none() {
            inbound.deadline = inbound.held_until;
        }
        self.send(conn, out);
        if self.is_too_slow(&inbound, now) {
            return self.inbound_end(conn, inbound, &Reply::TIMEOUT);
        }
        if self.stopping && !inbound.session.is_busy() {
            return self.inbound_end(conn, inbound, &Reply::SHUTTING_DOWN);
        }
        self.inbound_put(conn, inbound);
    }

    fn is_too_slow(&self, inbound: &Inbound, now: Now) -> bool {
        let elapsed = now.instant.since(inbound.body_began);
        inbound.session.is_in_body()
            && elapsed > Duration::from_secs(60)
            && inbound.body_bytes < elapsed.as_secs().saturating_mul(DATA_RATE_BYTES_MIN)
    }

    fn set_deadline(&self, inbound: &mut Inbound, now: Now) {
        let end = inbound
            .opened
            .after(SESSION_TIMEOUT)
            .max(now.instant.after(Duration::from_secs(1)));
        inbound.deadline = inbound.session.timeout().map(|timeout| {
            let deadline = now.instant.after(timeout);
            if inbound.session.is_busy() {
                deadline
            } else {
                deadline.min(end)
            }
        });
    }

    /// Puts a session back with its timer and its memory accounted for.
    fn inbound_put(&mut self, conn: ConnId, mut inbound: Box<Inbound>) {
        if let Some(deadline) = inbound.deadline
            && inbound.timer.is_none_or(|timer| timer > deadline)
        {
            inbound.timer = Some(deadline);
            self.timers.set(deadline, Timer::Conn(conn));
        }
        let memory = inbound.memory();
        self.memory = self
            .memory
            .saturating_sub(inbound.accounted)
            .saturating_add(memory);
        inbound.accounted = memory;
        self.conns.put(conn, Conn::Inbound(inbound));
    }

    /// Says a last reply and closes; inside a handshake nothing can be said.
    fn inbound_end(&mut self, conn: ConnId, mut inbound: Box<Inbound>, reply: &Reply) {
        if inbound.is_handshaking() {
            self.actions.push_back(Action::Abort { conn });
            return self.inbound_forget(conn, *inbound);
        }
        let mut out = Vec::new();
        inbound.session.end(reply, &mut out);
        if inbound.silent {
            out.clear();
            reply.write(&mut out);
        }
        self.send(conn, out);
        self.inbound_close(conn, *inbound);
    }

    fn inbound_close(&mut self, conn: ConnId, inbound: Inbound) {
        self.actions.push_back(Action::Close { conn });
        self.inbound_forget(conn, inbound);
    }

    /// The connection is gone.
    pub(super) fn inbound_lost(&mut self, conn: ConnId, inbound: Inbound, cause: &Lost, _now: Now) {
        if let Lost::Tls(text) = cause {
            self.log(
                Line::new(Level::Info, "tls-failed")
                    .with("side", "server")
                    .with("peer", inbound.peer_text())
                    .with("why", text),
            );
        }
        self.inbound_forget(conn, inbound);
    }

    fn inbound_forget(&mut self, conn: ConnId, mut inbound: Inbound) {
        self.drop_body(&mut inbound);
        if let Some(address) = inbound.counted {
            self.logins.peers.close(address);
        }
        self.memory = self.memory.saturating_sub(inbound.accounted);
        self.inbound_sessions = self.inbound_sessions.saturating_sub(1);
        self.logins.forget(conn);
        self.conns.remove(conn);
    }

    /// Gives up a body, what was streamed out of it too.
    fn drop_body(&mut self, inbound: &mut Inbound) {
        if let Some(intake) = inbound.intake.take()
            && intake.is_spilled()
        {
            self.spilling.remove(&intake.id());
            self.store(Command::BodyDiscard { id: intake.id() });
        }
        if let Some(signing) = inbound.signing.take()
            && matches!(signing.record.body, Body::File { .. })
        {
            self.store(Command::BodyDiscard {
                id: signing.record.id,
            });
        }
    }

    /// The handshake is done.
    pub(super) fn inbound_tls(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        session: TlsSession,
        now: Now,
    ) {
        self.debug(|| {
            Line::new(Level::Debug, "tls")
                .with("side", "server")
                .with("peer", inbound.peer_text())
                .with("version", session.version)
                .with("cipher", &session.cipher)
        });
        inbound.tls = Some(Box::new(session));
        let mut out = Vec::new();
        if inbound.listener == Listener::Submissions {
            inbound.session.start(&self.settings, &mut out);
        } else {
            inbound.session.on_tls();
        }
        self.set_deadline(&mut inbound, now);
        self.send(conn, out);
        self.inbound_put(conn, inbound);
    }

    /// A deadline may have passed.
    pub(super) fn inbound_expired(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        at: Instant,
        now: Now,
    ) {
        if inbound.timer == Some(at) {
            inbound.timer = None;
        }
        match inbound.deadline {
            Some(deadline) if deadline <= now.instant => {}
            _ => return self.inbound_put(conn, inbound),
        }
        if inbound.silent {
            inbound.silent = false;
            let mut out = Vec::new();
            inbound.session.start(&self.settings, &mut out);
            self.set_deadline(&mut inbound, now);
            self.send(conn, out);
            return self.inbound_put(conn, inbound);
        }
        if let Some(step) = inbound.exchange.as_mut().and_then(Exchange::take_delayed) {
            inbound.held_until = None;
            return self.finish_auth(conn, inbound, step, now);
        }
        self.log(Line::new(Level::Info, "timeout").with("peer", inbound.peer_text()));
        self.inbound_end(conn, inbound, &Reply::TIMEOUT);
    }

    /// The daemon stops: a session that is not inside a message ends.
    pub(super) fn inbound_stop(&mut self, conn: ConnId, inbound: Box<Inbound>, _now: Now) {
        if inbound.session.is_busy() {
            return self.inbound_put(conn, inbound);
        }
        self.inbound_end(conn, inbound, &Reply::SHUTTING_DOWN);
    }

    fn inbound_request(
        &mut self,
        conn: ConnId,
        inbound: &mut Inbound,
        request: Request,
        out: &mut Vec<u8>,
        now: Now,
    ) {
        match request {
            Request::Sender { from, size } => {
                let verdict = self.sender_verdict(inbound, &from, size, now);
                self.note_refusal(inbound, "sender", from.as_str(), verdict.as_ref().err());
                inbound.session.on_sender(verdict, out);
            }
            Request::Recipient {
                to,
                notify,
                original,
            } => {
                let shown = match &to {
                    ForwardPath::Mailbox(mailbox) | ForwardPath::SourceRoute(mailbox) => {
                        mailbox.to_string()
                    }
                    ForwardPath::Bare(local) => local.to_string(),
                };
                let verdict = self.recipient_verdict(inbound, &to, notify, original);
                self.note_refusal(inbound, "recipient", &shown, verdict.as_ref().err());
                inbound.session.on_recipient(verdict, out);
            }
            Request::Authenticate { mechanism, initial } => {
                self.begin_auth(conn, inbound, &mechanism, initial, out, now);
            }
            Request::Respond(response) => self.continue_auth(conn, inbound, response, out, now),
            Request::BeginBody => {
                let verdict = self.room_verdict(None);
                if verdict.is_ok() {
                    inbound.intake = Some(Box::new(Intake::new(self.ids.next(now.wall))));
                    inbound.body_began = now.instant;
                    inbound.body_bytes = 0;
                }
                inbound.session.on_body_ready(verdict, out);
            }
            Request::Store(transaction) => {
                if let Err(reply) = self.message_whole(conn, inbound, *transaction, now) {
                    self.note_refusal(inbound, "message", "", Some(&reply));
                    self.drop_body(inbound);
                    inbound.session.on_stored(&reply, out);
                }
            }
            Request::Forget => self.drop_body(inbound),
            // Both are handled by the caller, who owns the connection.
            Request::Close | Request::StartTls => {}
        }
    }

    /// Whether a host may relay without AUTH.
    fn is_trusted(&self, address: IpAddr) -> bool {
        self.config.relay.contains(address)
    }

    fn note_refusal(&mut self, inbound: &Inbound, what: &str, shown: &str, reply: Option<&Reply>) {
        let Some(reply) = reply else { return };
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

    /// Whether there is room for a message of `size` bytes, on the disk and in memory.
    fn room_verdict(&self, size: Option<u64>) -> Result<(), Reply> {
        let needed = size.unwrap_or(0).saturating_add(SPOOL_RESERVE_BYTES);
        if self.free_space.is_some_and(|free| free < needed) {
            return Err(Reply::NO_SPACE);
        }
        if self.memory as u64 >= self.config.max_memory {
            return Err(Reply::NO_MEMORY);
        }
        Ok(())
    }

    fn sender_verdict(
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

    fn client(&self, inbound: &Inbound) -> Client {
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

    fn recipient_verdict(
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

    fn intake_take(&mut self, conn: ConnId, inbound: &mut Inbound, body: &mut Vec<u8>) {
        let Some(mut intake) = inbound.intake.take() else {
            return;
        };
        let block = intake.take(body, &mut |header| self.header_verdict(inbound, header));
        if let Some(bytes) = block {
            self.spilling.insert(intake.id(), conn);
            self.store(Command::BodyAppend {
                id: intake.id(),
                bytes,
            });
        }
        if self.memory.saturating_add(intake.memory()) as u64 > self.config.max_memory {
            intake.refuse(Reply::NO_MEMORY);
        }
        inbound.intake = Some(intake);
    }

    /// What a header must hold to be taken from this client.
    fn header_verdict(&self, inbound: &Inbound, header: &Header) -> Result<(), Reply> {
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

    /// The body has ended: adds the fields, asks for the signatures or stores at once.
    fn message_whole(
        &mut self,
        conn: ConnId,
        inbound: &mut Inbound,
        transaction: Transaction,
        now: Now,
    ) -> Result<(), Reply> {
        let intake = inbound.intake.take().ok_or(Reply::STORE_FAILED)?;
        let id = intake.id();
        let spilled = intake.is_spilled();
        self.spilling.remove(&id);
        let whole = intake
            .finish(&mut |header| self.header_verdict(inbound, header))
            .inspect_err(|_| {
                if spilled {
                    self.actions
                        .push_back(Action::Store(Command::BodyDiscard { id }));
                }
            })?;
        let client = self.client(inbound);
        let trusted = !matches!(client, Client::Anonymous { .. });
        let mut added = Vec::new();
        if trusted {
            let hostname = &self.config.hostname;
            added = submission::missing_fields(
                &whole.header,
                id,
                hostname,
                now.wall,
                &mut *self.entropy,
            );
        }
        let signers = if trusted {
            self.signing_keys(&whole.header)
        } else {
            Vec::new()
        };
        let inputs: Vec<SigningInput> = signers
            .iter()
            .map(|(domain, key)| {
                let signer = Signer {
                    domain,
                    selector: &key.selector,
                    algorithm: key.key.algorithm(),
                    at: now.wall,
                };
                prepare(&whole.header, &added, &whole.body_hash, &signer)
            })
            .collect();
        let mut fields = self.received_field(inbound, id, &transaction, now);
        fields.append(&mut added);
        let record = self.message_record(inbound, id, transaction, fields, &whole, now);
        let Whole {
            size,
            rest,
            spilled,
            ..
        } = whole;
        let record = MessageRecord {
            body: match spilled {
                false => Body::Inline(rest),
                true => {
                    if !rest.is_empty() {
                        self.store(Command::BodyAppend { id, bytes: rest });
                    }
                    Body::File {
                        len: size,
                        crc32: 0,
                    }
                }
            },
            ..record
        };
        self.debug(|| {
            Line::new(Level::Debug, "accepted")
                .with("id", id)
                .with("size", size)
                .with("keys", signers.len())
        });
        for (at, ((_, key), input)) in signers.iter().zip(&inputs).enumerate() {
            let work = Work::Sign {
                key: Arc::clone(&key.key),
                data: input.data().to_vec(),
            };
            self.work(JobOwner::Sign { conn, key: at }, work);
        }
        let missing = inputs.len();
        let signing = Signing {
            record,
            size,
            signatures: vec![Vec::new(); missing],
            inputs: inputs.into_iter().map(Some).collect(),
            missing,
        };
        inbound.signing = Some(Box::new(signing));
        if missing == 0 {
            self.message_signed(conn, inbound);
        }
        Ok(())
    }

    fn message_record(
        &self,
        inbound: &Inbound,
        id: QueueId,
        transaction: Transaction,
        fields: Vec<u8>,
        whole: &Whole,
        now: Now,
    ) -> MessageRecord {
        let Transaction {
            reverse_path,
            parameters,
            recipients,
            ..
        } = transaction;
        // SMTPUTF8 is owed to the next hop only where something needs it (RFC 6531 section 3.4 lets us see).
        let needed = !reverse_path.as_str().is_ascii()
            || recipients
                .iter()
                .any(|recipient| recipient.mailbox.needs_smtputf8())
            || parameters.smtputf8 && !whole.header.as_bytes().is_ascii();
        MessageRecord {
            id,
            envelope: Envelope {
                reverse_path,
                recipients,
                envelope_id: parameters.envelope_id,
                dsn_return: parameters.dsn_return,
                body: parameters.body,
                smtputf8: parameters.smtputf8 && needed,
                arrived: now.wall,
                origin: match &inbound.login {
                    Some(login) => login.as_str().into(),
                    None => inbound.peer_text().into(),
                },
            },
            fields,
            body: Body::Inline(Vec::new()),
        }
    }

    /// The keys that sign a message: those of the domain of From, if it is served.
    fn signing_keys(&self, header: &Header) -> Vec<(Domain, Arc<DkimKey>)> {
        let Some(author) = from_mailboxes(header)
            .ok()
            .and_then(|authors| authors.into_iter().next())
        else {
            return Vec::new();
        };
        self.keys_of(author.domain())
    }

    /// The keys of a served domain.
    pub(super) fn keys_of(&self, domain: &Domain) -> Vec<(Domain, Arc<DkimKey>)> {
        self.config
            .signing_keys(domain)
            .iter()
            .map(|key| (domain.clone(), Arc::clone(key)))
            .collect()
    }

    fn received_field(
        &self,
        inbound: &Inbound,
        id: QueueId,
        transaction: &Transaction,
        now: Now,
    ) -> Vec<u8> {
        let (greeting, name) = inbound
            .session
            .greeting()
            .unwrap_or((Greeting::Ehlo, "unknown"));
        let protocol = match greeting {
            Greeting::Helo => Protocol::Smtp,
            Greeting::Ehlo => Protocol::Esmtp {
                tls: inbound.tls.is_some(),
                auth: inbound.login.is_some(),
                utf8: transaction.parameters.smtputf8,
            },
        };
        let source = match (inbound.peer, &inbound.login) {
            (Peer::Process { uid }, _) => Source::Local { uid },
            (Peer::Network { .. }, Some(_)) => Source::Authenticated { protocol },
            (Peer::Network { remote, .. }, None) => Source::Peer {
                hello: name.as_bytes(),
                address: remote.ip().to_canonical(),
                protocol,
            },
        };
        let single = match transaction.recipients.as_slice() {
            [only] if only.original.is_none() => Some(&only.mailbox),
            _ => None,
        };
        let tls = inbound
            .tls
            .as_ref()
            .map(|tls| format!("{} {}", tls.version, tls.cipher));
        let by = &self.config.hostname;
        Received {
            source,
            by,
            tls: tls.as_deref(),
            id,
            recipient: single,
            at: now.wall,
        }
        .to_bytes()
    }

    /// A worker made one of the signatures.
    pub(super) fn inbound_signed(
        &mut self,
        conn: ConnId,
        key: usize,
        result: WorkResult,
        now: Now,
    ) {
        let mut inbound = match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => inbound,
            Some(other) => return self.conns.put(conn, other),
            None => return,
        };
        let Some(signing) = inbound.signing.as_mut() else {
            return self.inbound_put(conn, inbound);
        };
        let WorkResult::Signed(Ok(signature)) = result else {
            self.log(Line::new(Level::Error, "signing-failed").with("id", signing.record.id));
            self.drop_body(&mut inbound);
            return self.inbound_stored(conn, inbound, &Reply::SIGNING_FAILED, now);
        };
        let input = signing.inputs.get_mut(key).and_then(Option::take);
        if let (Some(input), Some(slot)) = (input, signing.signatures.get_mut(key)) {
            *slot = input.finish(&signature);
            signing.missing = signing.missing.saturating_sub(1);
        }
        if signing.missing == 0 {
            self.message_signed(conn, &mut inbound);
        }
        self.inbound_put(conn, inbound);
    }

    /// All signatures are there: the message goes to the disk.
    fn message_signed(&mut self, conn: ConnId, inbound: &mut Inbound) {
        let Some(signing) = inbound.signing.take() else {
            return;
        };
        let Signing {
            mut record,
            size,
            signatures,
            ..
        } = *signing;
        let id = record.id;
        if !signatures.is_empty() {
            self.debug(|| {
                Line::new(Level::Debug, "signed")
                    .with("id", id)
                    .with("signatures", signatures.len())
            });
        }
        let mut fields = signatures.concat();
        fields.append(&mut record.fields);
        record.fields = fields;
        let committing = Committing::message(&record, size, Some(conn));
        let ticket = self.ticket(committing);
        self.store(Command::Append {
            ticket,
            record: Record::Message(record),
        });
    }

    /// The disk has answered.
    pub(super) fn inbound_committed(
        &mut self,
        conn: ConnId,
        result: Result<QueueId, Reply>,
        now: Now,
    ) {
        let inbound = match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => inbound,
            Some(other) => return self.conns.put(conn, other),
            None => return, // the client did not wait: the message is queued all the same
        };
        if let (Ok(_), Some(login)) = (&result, &inbound.login) {
            self.logins.users.sent(login, now.instant);
        }
        let reply = result.map_or_else(|reply| reply, Reply::queued);
        self.inbound_stored(conn, inbound, &reply, now);
    }

    fn inbound_stored(&mut self, conn: ConnId, mut inbound: Box<Inbound>, reply: &Reply, now: Now) {
        let mut out = Vec::new();
        inbound.session.on_stored(reply, &mut out);
        self.inbound_resume(conn, inbound, out, now);
    }

    /// A block of a body is on the disk, or could not be written.
    pub(super) fn body_written(&mut self, id: QueueId, result: Result<usize, Reply>, now: Now) {
        let Some(conn) = self.spilling.get(&id).copied() else {
            return;
        };
        let mut inbound = match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => inbound,
            Some(other) => return self.conns.put(conn, other),
            None => return,
        };
        if let Some(intake) = inbound.intake.as_mut() {
            match result {
                Ok(bytes) => intake.on_written(bytes),
                Err(reply) => intake.refuse(reply),
            }
        }
        self.inbound_resume(conn, inbound, Vec::new(), now);
    }

    /// Answers an exchange of AUTH and goes on.
    pub(super) fn finish_auth(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        step: crate::smtp::server::AuthStep,
        now: Now,
    ) {
        let mut out = Vec::new();
        inbound.exchange = None;
        inbound.session.on_auth(step, &mut out);
        self.inbound_resume(conn, inbound, out, now);
    }

    /// Lets a session wait for its answer to AUTH until `at`.
    pub(super) fn delay_auth(&mut self, conn: ConnId, mut inbound: Box<Inbound>, at: Instant) {
        inbound.hold_until(at);
        inbound.deadline = Some(at);
        self.inbound_put(conn, inbound);
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

/// Capacity that a session keeps between two pieces of a body.
const KEPT_CAPACITY_BYTES_MAX: usize = 0;
