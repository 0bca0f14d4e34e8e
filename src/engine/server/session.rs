//! A session of the SMTP server: its data, and the events that reach it. The decisions are in the files beside this
//! one.

use std::collections::HashMap;
use std::net::IpAddr;

use super::acceptance::Acceptance;
use super::blocks::Blocks;
use super::evictable::{Evictable, Places};
use super::examination::Verifications;
use super::guard::{Clients, Guard};
use super::holding::Holding;
use super::login::{Exchange, Logins};
use super::question::{Asking, Hooks};
use crate::address::Mailbox;
use crate::auth::srs::Rewriter;
use crate::clock::Instant;
use crate::config::Config;
use crate::dns::{Answer, Question};
use crate::engine::connections::{ConnEvent, Sessions};
use crate::engine::counters::ClientTables;
use crate::engine::effects::Effects;
use crate::engine::event::{ConnId, Listener, Peer, TlsSession};
use crate::engine::log::{Level, Line};
use crate::engine::note::CountedUses;
use crate::engine::timers::Timer;
use crate::limits::{BODY_IN_FLIGHT_BYTES_MAX, READ_TURN_BYTES_MAX, SESSION_KEPT_BYTES};
use crate::policy::authority::{ArrivalPort, Grants};
use crate::policy::rates::OpenSession;
use crate::policy::shares::{Holder, Resource};
use crate::proxy::HeaderReader;
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;
use crate::smtp::server::{ServerSettings, Session};

/// SMTP server sessions, and what is known about their clients.
pub(in crate::engine) struct Server {
    pub(super) settings: ServerSettings,
    pub(super) sessions: Sessions<Box<ServerSession>>,
    /// Questions to the hook.
    pub(super) askings: Sessions<Box<Asking>>,
    pub(super) hooks: Hooks,
    pub(super) logins: Logins,
    /// Rewrites the senders of forwarded mail.
    pub(super) rewriter: Rewriter,
    pub(super) clients: Clients,
    /// Sessions whose message is being streamed to the disk.
    pub(super) spilling: HashMap<QueueId, ConnId>,
    /// Blocks that are on their way there.
    pub(super) blocks: Blocks,
    /// Sessions that can make room.
    pub(super) evictable: Evictable,
    /// The connection from which on idle ones are looked for.
    pub(super) looked_at: usize,
    pub(super) verifications: Verifications,
}

/// How large the tables of the server are.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Sizes {
    pub(in crate::engine) verifications: usize,
    pub(in crate::engine) spilling: usize,
    pub(in crate::engine) blocks: usize,
    pub(in crate::engine) evictable: usize,
    pub(in crate::engine) hooks: usize,
    pub(in crate::engine) clients: ClientTables,
}

pub(super) struct ServerSession {
    pub(super) session: Session,
    pub(super) listener: Listener,
    pub(super) peer: Peer,
    /// The login, once AUTH succeeded.
    pub(super) login: Option<Mailbox>,
    pub(super) exchange: Option<Exchange>,
    pub(super) tls: Option<Box<TlsSession>>,
    pub(super) buffers: Buffers,
    /// The message on its way from its first byte to the disk.
    pub(super) acceptance: Acceptance,
    pub(super) envelope: Envelope,
    /// Refusals that have their line in the log, and are on their way to the client.
    pub(super) noted: Vec<Reply>,
    pub(super) pace: Pace,
    /// The scarce resources that it holds.
    pub(super) holding: Holding,
    /// Whether it holds more memory than its share, or there is little for its like.
    pub(super) is_over: bool,
    /// Its places among the sessions that can make room.
    pub(super) places: Places,
    pub(super) opening: Opening,
    /// The session among those of its address, if they are counted.
    pub(super) counted: Option<OpenSession>,
    /// What is known about a client on port 25.
    pub(super) guard: Option<Box<Guard>>,
}

/// Input and output of a session that wait.
#[derive(Default)]
pub(super) struct Buffers {
    /// Input that waits for an answer, or the front of a line.
    pub(super) kept: Vec<u8>,
    /// Whether output is so long that no input is read before it is sent.
    pub(super) is_full: bool,
    /// Bytes of the body that the session gave out in this turn.
    pub(super) body: Vec<u8>,
    /// Bytes of output that its peer has not taken.
    pub(super) pending: usize,
}

/// Data of a transaction besides the text of the message.
#[derive(Default)]
pub(super) struct Envelope {
    /// Grants of the accepted recipients.
    pub(super) grants: Grants,
    /// The recipients as the client named them, if a hook needs them.
    pub(super) named: Vec<String>,
    /// Bytes of the recipients of the message, until it is on the disk or given up.
    pub(super) recipient_bytes: usize,
    /// What the message was counted for, until it is on its way to the disk.
    pub(super) uses: CountedUses,
}

/// When a session began, when it was last active, and its deadline.
pub(super) struct Pace {
    pub(super) opened: Instant,
    /// When it last did something: a command that ended, a piece of a body.
    pub(super) touched: Instant,
    pub(super) body_began: Instant,
    pub(super) body_bytes: u64,
    /// Since when it waits for its client.
    pub(super) since: Instant,
    /// The earliest timer that is set for it.
    pub(super) timer: Option<Instant>,
}

impl Pace {
    /// That of a session which begins now.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            opened: now,
            touched: now,
            body_began: now,
            body_bytes: 0,
            since: now,
            timer: None,
        }
    }
}

/// What comes before the banner.
pub(super) enum Opening {
    /// The proxy must send the client's address.
    Proxy(HeaderReader),
    /// The banner is held back.
    Silent,
    /// It was sent, or waits for TLS.
    Over,
}

impl ServerSession {
    /// Whether bytes may be read for it now.
    pub(super) fn wants_input(&self) -> bool {
        let stalled = match &self.acceptance {
            Acceptance::Receiving(intake) => intake.in_flight() > self.in_flight_max(),
            _ => false,
        };
        !matches!(self.opening, Opening::Over)
            || (self.session.wants_input() && !stalled && !self.buffers.is_full)
    }

    /// Bytes of a streamed body that may be on their way to the disk.
    pub(super) fn in_flight_max(&self) -> usize {
        match self.is_over {
            true => READ_TURN_BYTES_MAX,
            false => BODY_IN_FLIGHT_BYTES_MAX,
        }
    }

    /// Bytes of input and output that wait.
    pub(super) fn waits_with(&self) -> usize {
        self.buffers.kept.len().saturating_add(self.buffers.pending)
    }

    /// Whether nothing can be sent: during a TLS handshake, or before the client is known.
    pub(super) fn is_mute(&self) -> bool {
        matches!(self.opening, Opening::Proxy(_)) || self.is_in_handshake()
    }

    /// The address of the peer, if it has one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.peer {
            Peer::Network { remote, .. } => Some(remote.ip().to_canonical()),
            Peer::Process { .. } => None,
        }
    }

    /// The holder that is charged.
    pub(super) const fn holder(&self) -> Holder {
        self.holding.holder()
    }

    /// The address of the client, if sessions of the address are counted.
    pub(super) fn counted_address(&self) -> Option<IpAddr> {
        self.counted.as_ref().and_then(|_| self.address())
    }

    /// The port by which the client came.
    pub(super) fn door(&self) -> ArrivalPort {
        match self.listener {
            Listener::Proxy => ArrivalPort::Proxy,
            _ => ArrivalPort::Direct,
        }
    }

    /// Whether this is a session of port 25.
    pub(super) fn is_relay_port(&self) -> bool {
        matches!(self.listener, Listener::Smtp | Listener::Proxy)
    }

    /// Whether TLS is being negotiated.
    pub(super) fn is_in_handshake(&self) -> bool {
        let is_implicit = self.listener == Listener::Submissions && self.tls.is_none();
        is_implicit || self.session.is_awaiting_tls()
    }

    pub(super) fn peer_text(&self) -> String {
        match self.peer {
            Peer::Network { remote, .. } => remote.ip().to_canonical().to_string(),
            Peer::Process { uid } => format!("uid={uid}"),
        }
    }

    /// Bytes that it can stream out.
    pub(super) fn can_stream(&self) -> usize {
        self.acceptance.can_stream()
    }

    /// Bytes that it can lose: nothing while its message is stored.
    pub(super) fn can_lose(&self) -> usize {
        let is_stored = self.session.timeout().is_none() && !self.acceptance.is_judged();
        if is_stored { 0 } else { self.memory() }
    }

    /// Whether its message is on its way to the disk: it may be queued even if the session ends, so the client must get
    /// the reply.
    pub(super) fn awaits_disk(&self) -> bool {
        matches!(self.acceptance, Acceptance::Storing(_))
    }

    /// Bytes that it holds, without those on their way to the disk.
    pub(super) fn memory(&self) -> usize {
        self.buffers
            .kept
            .capacity()
            .saturating_add(self.acceptance.memory())
            .saturating_add(self.buffers.body.capacity())
            .saturating_add(self.envelope.recipient_bytes)
            .saturating_add(self.buffers.pending)
    }
}

impl Server {
    pub(in crate::engine) fn new(rewriter: Rewriter, fx: &mut Effects) -> Self {
        Self {
            settings: settings(&fx.config),
            sessions: Sessions::default(),
            askings: Sessions::default(),
            hooks: Hooks::default(),
            logins: Logins::new(&mut *fx.entropy),
            rewriter,
            clients: Clients::new(&mut *fx.entropy, fx.now),
            spilling: HashMap::new(),
            blocks: Blocks::default(),
            evictable: Evictable::default(),
            looked_at: 0,
            verifications: Verifications::default(),
        }
    }

    /// The configuration has changed.
    pub(in crate::engine) fn reconfigure(&mut self, fx: &Effects) {
        self.settings = settings(&fx.config);
    }

    /// How large the tables are.
    pub(in crate::engine) fn sizes(&self) -> Sizes {
        Sizes {
            verifications: self.verifications.waiting(),
            spilling: self.spilling.len(),
            blocks: self.blocks.len(),
            evictable: self.evictable.len(),
            hooks: self.hooks.len(),
            clients: ClientTables {
                client_rates: self.clients.client_rates.len(),
                greylist: self.clients.greylist.len(),
                returns: self.clients.returns.len(),
            },
        }
    }

    /// Removes old entries.
    pub(in crate::engine) fn sweep(&mut self, fx: &Effects) {
        self.logins.sweep(fx.now.instant);
        self.clients.sweep(fx.now.instant);
    }

    /// Whether bytes of a session may be read now.
    pub(in crate::engine) fn wants_input(&self, conn: ConnId) -> bool {
        self.sessions
            .get(conn)
            .is_some_and(|inbound| inbound.wants_input())
    }

    /// This number of bytes is free on the disk of the spool.
    pub(in crate::engine) fn on_space(&mut self, free: u64, fx: &mut Effects) {
        fx.disk.free = Some(free);
        let unfinished = fx.shares.of(Resource::Spool).used();
        let written = unfinished.saturating_sub(self.blocks.bytes());
        fx.disk.free_without_unfinished = Some(free.saturating_add(written));
        fx.size_pools();
    }

    /// Something has happened to a session.
    pub(in crate::engine) fn on_session(
        &mut self,
        conn: ConnId,
        event: ConnEvent<'_>,
        fx: &mut Effects,
    ) {
        let Some(inbound) = self.sessions.take(conn) else {
            return;
        };
        match event {
            ConnEvent::Bytes(bytes) => self.on_bytes(conn, inbound, bytes, fx),
            ConnEvent::Drained => self.on_drained(conn, inbound, fx),
            ConnEvent::Closed(cause) => self.on_closed(conn, *inbound, &cause, fx),
            ConnEvent::TlsReady(session) => self.on_tls(conn, inbound, session, fx),
            ConnEvent::Answer(question, answer) => {
                self.on_answer(conn, inbound, question, answer, fx);
            }
            ConnEvent::Timeout(at) => self.on_timeout(conn, inbound, at, fx),
            ConnEvent::Stop => self.on_stop(conn, inbound, fx),
            // Nothing of the kind was asked for.
            ConnEvent::Connected | ConnEvent::Read(..) | ConnEvent::Kept(_) => {
                self.sessions.put(conn, inbound);
            }
        }
    }

    /// Bytes came in.
    pub(super) fn on_bytes(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        bytes: &[u8],
        fx: &mut Effects,
    ) {
        match inbound.opening {
            Opening::Proxy(_) => return self.proxy_bytes(conn, inbound, bytes, fx),
            Opening::Silent => return self.refuse_early_talker(conn, inbound, fx),
            Opening::Over => {}
        }
        if inbound.session.is_in_body() {
            inbound.pace.body_bytes = inbound.pace.body_bytes.saturating_add(bytes.len() as u64);
        }
        if inbound.buffers.kept.is_empty() {
            self.drive(conn, inbound, bytes, fx);
        } else {
            let mut kept = zeroize::Zeroizing::new(std::mem::take(&mut inbound.buffers.kept));
            kept.extend_from_slice(bytes);
            self.drive(conn, inbound, &kept, fx);
        }
    }

    /// The DNS has answered.
    pub(super) fn on_answer(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        question: &Question,
        answer: &Answer,
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        self.on_client_answer(conn, &mut inbound, question, answer, &mut out, fx);
        if inbound.acceptance.examining().is_some() {
            return self.examination_answer(conn, inbound, question, answer, fx);
        }
        // A reply that is delayed from now on ends a session that has already sent too much.
        if out.is_empty() && !inbound.is_slowed() {
            return self.put_back(conn, inbound, fx);
        }
        self.resume(conn, inbound, out, fx);
    }

    /// All output was sent: input that was kept because of too much output is processed.
    pub(super) fn on_drained(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        fx: &mut Effects,
    ) {
        inbound.buffers.pending = 0;
        if std::mem::take(&mut inbound.buffers.is_full) {
            return self.resume(conn, inbound, Vec::new(), fx);
        }
        self.put_back(conn, inbound, fx);
    }

    /// Puts a session back with its timer and its memory accounted for.
    pub(super) fn put_back(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        fx: &mut Effects,
    ) {
        if let Some(deadline) = inbound.deadline()
            && inbound.pace.timer.is_none_or(|timer| timer > deadline)
        {
            inbound.pace.timer = Some(deadline);
            fx.timers.set(deadline, Timer::Conn(conn));
        }
        let is_over = self.account(&mut inbound, fx);
        if is_over && inbound.waits_with() > SESSION_KEPT_BYTES && !inbound.awaits_disk() {
            return self.evict(conn, inbound, &Reply::NO_ROOM_FOR_SESSION, fx);
        }
        self.join_evictable(conn, &mut inbound);
        self.sessions.put(conn, inbound);
    }

    /// Output that is sent and has not been taken counts as the session's.
    pub(super) fn answer(
        &mut self,
        conn: ConnId,
        inbound: &mut ServerSession,
        out: Vec<u8>,
        fx: &mut Effects,
    ) {
        self.note_refusals(inbound, fx);
        inbound.buffers.pending = inbound.buffers.pending.saturating_add(out.len());
        fx.send(conn, out);
    }

    /// The handshake is done.
    pub(super) fn on_tls(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        session: TlsSession,
        fx: &mut Effects,
    ) {
        fx.debug(|| {
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
        inbound.pace.since = fx.now.instant;
        self.answer(conn, &mut inbound, out, fx);
        self.put_back(conn, inbound, fx);
    }

    /// Replies to an AUTH exchange and continues.
    pub(super) fn finish_auth(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        step: crate::smtp::server::AuthStep,
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        inbound.exchange = None;
        inbound.session.on_auth(step, &mut out);
        self.resume(conn, inbound, out, fx);
    }
}

/// Capacity that a session keeps between two pieces of a body.
pub(super) const KEPT_CAPACITY_BYTES_MAX: usize = 0;

pub(super) fn settings(config: &Config) -> ServerSettings {
    ServerSettings {
        hostname: config.hostname.as_str().into(),
        message_bytes_max: config.limits.message_bytes,
        recipients_max: config.limits.recipients,
        long_lines: config.content.long_lines,
    }
}
