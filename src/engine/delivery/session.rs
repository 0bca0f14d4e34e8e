//! A delivery session: its states, each of which owns its data, and the table of all sessions. The transitions are in
//! the files beside this one.

use std::mem;
use std::net::IpAddr;

use super::hops::{Hop, Hops};
use super::host::{Candidates, Host, Search, Target};
use super::load::Load;
use super::meaning::cause_at;
use crate::cause::{FailureCause, FailurePlace, QuotedWords};
use crate::clock::{Instant, Now};
use crate::engine::connections::{ConnEvent, Sessions};
use crate::engine::effects::Effects;
use crate::engine::event::{ConnId, TlsSession};
use crate::engine::timers::Timer;
use crate::limits::{DELIVERY_ATTEMPT_TIMEOUT, DELIVERY_WALK_TIMEOUT};
use crate::metrics::Provider;
use crate::policy::shares::{Holder, ResourceShare, ShareKind, TrustLevel, hash_of_address};
use crate::queue::HopId;
use crate::queue_id::QueueId;
use crate::smtp::client::{Session, TlsPolicy};
use crate::status::EnhancedCode;

/// Next hops, the messages that wait for them, and the sessions that deliver.
#[derive(Default)]
pub(in crate::engine) struct Delivery {
    pub(super) hops: Hops,
    pub(super) sessions: Sessions<Box<DeliverySession>>,
}

/// One session on its way or at work.
pub(super) struct DeliverySession {
    pub(super) hop: HopId,
    pub(super) share: ResourceShare,
    /// The holder when it started.
    pub(super) base: Holder,
    pub(super) state: State,
    pub(super) candidates: Candidates,
    /// The host that it has left, until it connects to another.
    pub(super) last: Option<Target>,
    /// The last reason why it did not reach a host.
    pub(super) trouble: Option<Trouble>,
    pub(super) pace: Pace,
    /// How far it got.
    pub(super) reach: Reach,
    /// Whether it left a host that is well for a message that was refused there: the next message belongs to that one.
    pub(super) detour: bool,
}

/// The state of a delivery session. The state owns the connection, and the message if one is carried.
#[derive(Default)]
pub(super) enum State {
    /// MX resolution; there is no connection.
    Searching {
        lookup: Search,
        load: Option<Box<Load>>,
    },
    /// A connection is being made.
    Connecting {
        link: Box<ServerLink>,
        load: Option<Box<Load>>,
        until: Instant,
    },
    /// TLS is being agreed on.
    Handshake {
        link: Box<ServerLink>,
        load: Option<Box<Load>>,
        until: Instant,
    },
    /// The server must reply, or the body is being sent.
    Talking {
        link: Box<ServerLink>,
        load: Option<Box<Load>>,
    },
    /// A message is read from the disk, to be offered.
    Reading {
        link: Box<ServerLink>,
        load: Box<Load>,
    },
    /// The delivery result is being committed. The server may have disconnected meanwhile; then the rest of the message
    /// goes to the next host.
    Recording {
        id: QueueId,
        link: Option<Box<ServerLink>>,
        left: Option<Box<Load>>,
    },
    /// It waits for another message.
    Idle {
        link: Box<ServerLink>,
        until: Instant,
    },
    /// It is over, or taken out for a step: an early exit leaves it here.
    #[default]
    Gone,
}

/// A connection to a host: made, or being made.
pub(super) struct ServerLink {
    pub(super) target: Target,
    pub(super) session: Session,
    pub(super) tls: Option<TlsSession>,
    /// Deadline for the server's next action.
    pub(super) until: Option<Instant>,
    /// How far the session was when that was set.
    progress: u64,
}

/// When a delivery session began, and how long it may take.
pub(super) struct Pace {
    /// The earliest timer that is set for it.
    pub(super) timer: Option<Instant>,
    /// When it set out.
    pub(super) began: Instant,
    /// From then on no other host is tried.
    pub(super) walk_until: Instant,
    /// After this time the carried message is deferred.
    pub(super) attempt_until: Instant,
}

/// How far a delivery session got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// No host has taken it in.
    Nowhere,
    /// A host was reached, but not the current one.
    Elsewhere,
    /// The current host was reached.
    Here,
}

/// Why a delivery session did not get through.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) status: EnhancedCode,
    pub(super) why: FailureCause,
}

impl Delivery {
    /// A next hop.
    pub(in crate::engine) fn hop(&self, id: HopId) -> Option<&Hop> {
        self.hops.get(id)
    }

    /// How many next hops there are.
    pub(in crate::engine) fn hops(&self) -> usize {
        self.hops.len()
    }

    /// The disk takes records again: sending continues.
    pub(in crate::engine) fn on_disk_works(&mut self) {
        self.hops.touch_waiting();
    }

    /// An operator wants these messages tried now, which ends the pauses of their next hops.
    pub(in crate::engine) fn on_flush(&mut self, ids: &[QueueId], fx: &mut Effects) {
        self.hops.resume_all();
        for id in ids {
            let hops = fx.index.get(*id).map(|entry| entry.waiting_hops());
            for hop in hops.unwrap_or_default() {
                self.message_due(*id, hop, fx);
            }
        }
    }

    /// Something has happened to a delivery session.
    pub(in crate::engine) fn on_session(
        &mut self,
        conn: ConnId,
        event: ConnEvent<'_>,
        fx: &mut Effects,
    ) {
        let Some(delivery) = self.sessions.take(conn) else {
            return;
        };
        match event {
            ConnEvent::Connected => self.on_connected(conn, delivery, fx),
            ConnEvent::Bytes(bytes) => self.on_bytes(conn, delivery, bytes, fx),
            ConnEvent::Drained => self.on_drained(conn, delivery, fx),
            ConnEvent::Closed(cause) => self.on_closed(conn, delivery, &cause, fx),
            ConnEvent::TlsReady(session) => self.on_tls(conn, delivery, session, fx),
            ConnEvent::Read(id, result) => self.on_read(conn, delivery, id, result, fx),
            ConnEvent::Answer(question, answer) => {
                self.on_answer(conn, delivery, question, answer, fx);
            }
            ConnEvent::Timeout(at) => self.on_timeout(conn, delivery, at, fx),
            ConnEvent::Stop => self.on_stop(conn, delivery, fx),
            // Nothing of the kind was asked for.
            ConnEvent::Kept(_) => self.sessions.put(conn, delivery),
        }
    }

    pub(super) fn put_back(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        if let Some(deadline) = delivery.state.deadline()
            && delivery.pace.timer.is_none_or(|timer| timer > deadline)
        {
            delivery.pace.timer = Some(deadline);
            fx.timers.set(deadline, Timer::Conn(conn));
        }
        self.sessions.put(conn, delivery);
    }
}

impl State {
    /// The state of a session that is to take its next candidate.
    pub(super) fn between_hosts(load: Option<Box<Load>>) -> Self {
        let lookup = Search::Done;
        Self::Searching { lookup, load }
    }

    /// The connection, if there is one or is to be one.
    pub(super) fn link(&self) -> Option<&ServerLink> {
        match self {
            Self::Connecting { link, .. }
            | Self::Handshake { link, .. }
            | Self::Talking { link, .. }
            | Self::Reading { link, .. }
            | Self::Idle { link, .. } => Some(link),
            Self::Recording { link, .. } => link.as_deref(),
            Self::Searching { .. } | Self::Gone => None,
        }
    }

    /// The same, for changes.
    pub(super) fn link_mut(&mut self) -> Option<&mut ServerLink> {
        match self {
            Self::Connecting { link, .. }
            | Self::Handshake { link, .. }
            | Self::Talking { link, .. }
            | Self::Reading { link, .. }
            | Self::Idle { link, .. } => Some(link),
            Self::Recording { link, .. } => link.as_deref_mut(),
            Self::Searching { .. } | Self::Gone => None,
        }
    }

    /// The message that is carried.
    pub(super) fn load(&self) -> Option<&Load> {
        match self {
            Self::Searching { load, .. }
            | Self::Connecting { load, .. }
            | Self::Handshake { load, .. }
            | Self::Talking { load, .. }
            | Self::Recording { left: load, .. } => load.as_deref(),
            Self::Reading { load, .. } => Some(load),
            Self::Idle { .. } | Self::Gone => None,
        }
    }

    /// The same, for changes.
    pub(super) fn load_mut(&mut self) -> Option<&mut Load> {
        match self {
            Self::Searching { load, .. }
            | Self::Connecting { load, .. }
            | Self::Handshake { load, .. }
            | Self::Talking { load, .. }
            | Self::Recording { left: load, .. } => load.as_deref_mut(),
            Self::Reading { load, .. } => Some(load),
            Self::Idle { .. } | Self::Gone => None,
        }
    }

    /// The message that is being read from the journal.
    pub(super) fn reads(&self) -> Option<QueueId> {
        match self {
            Self::Reading { load, .. } => Some(load.id),
            Self::Talking {
                load: Some(load), ..
            } => load.reading.then_some(load.id),
            Self::Searching { .. }
            | Self::Connecting { .. }
            | Self::Handshake { .. }
            | Self::Talking { load: None, .. }
            | Self::Recording { .. }
            | Self::Idle { .. }
            | Self::Gone => None,
        }
    }

    /// The session with a server that may speak now.
    pub(super) fn hears(&mut self) -> Option<&mut Session> {
        match self {
            Self::Talking { link, .. } | Self::Reading { link, .. } | Self::Idle { link, .. } => {
                Some(&mut link.session)
            }
            Self::Recording { link, .. } => link.as_mut().map(|link| &mut link.session),
            // After STARTTLS this is an injection, which the session reports; before a greeting it means nothing.
            Self::Handshake { link, .. } if link.target.host.tls != TlsPolicy::Active => {
                Some(&mut link.session)
            }
            Self::Searching { .. }
            | Self::Connecting { .. }
            | Self::Handshake { .. }
            | Self::Gone => None,
        }
    }

    /// Takes out the message that is carried.
    pub(super) fn take_load(&mut self) -> Option<Box<Load>> {
        match self {
            Self::Searching { load, .. }
            | Self::Connecting { load, .. }
            | Self::Handshake { load, .. }
            | Self::Talking { load, .. }
            | Self::Recording { left: load, .. } => load.take(),
            Self::Reading { .. } => {
                let (link, load) = self.end();
                *self = link.map_or(Self::Gone, |link| Self::Talking { link, load: None });
                load
            }
            Self::Idle { .. } | Self::Gone => None,
        }
    }

    /// Ends any state: its data are returned or dropped.
    pub(super) fn end(&mut self) -> (Option<Box<ServerLink>>, Option<Box<Load>>) {
        match mem::take(self) {
            Self::Searching { load, .. } => (None, load),
            Self::Connecting { link, load, .. }
            | Self::Handshake { link, load, .. }
            | Self::Talking { link, load } => (Some(link), load),
            Self::Reading { link, load } => (Some(link), Some(load)),
            Self::Recording { link, left, .. } => (link, left),
            Self::Idle { link, .. } => (Some(link), None),
            Self::Gone => (None, None),
        }
    }

    /// The deadline of the current wait.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Connecting { until, .. }
            | Self::Handshake { until, .. }
            | Self::Idle { until, .. } => Some(*until),
            Self::Talking { link, .. } => link.until,
            // The resolver and the disk have deadlines of their own.
            Self::Searching { .. } | Self::Reading { .. } | Self::Recording { .. } | Self::Gone => {
                None
            }
        }
    }
}

impl ServerLink {
    /// A new connection; `hostname` is our name in EHLO.
    pub(super) fn to(target: Target, hostname: &str) -> Box<Self> {
        let Host {
            tls,
            login,
            protocol,
            ..
        } = &target.host;
        let session = Session::new(hostname, *tls, login.clone()).speaking(*protocol);
        let session = match target.is_on_this_machine() {
            true => session.on_this_machine(),
            false => session,
        };
        Box::new(Self {
            target,
            session,
            tls: None,
            until: None,
            progress: 0,
        })
    }
}

impl Pace {
    /// That of a session which sets out now.
    fn new(now: Instant) -> Self {
        Self {
            timer: None,
            began: now,
            walk_until: now.after(DELIVERY_WALK_TIMEOUT),
            attempt_until: now.after(DELIVERY_ATTEMPT_TIMEOUT),
        }
    }
}

impl DeliverySession {
    /// A delivery session that has not set out.
    pub(super) fn new(hop: HopId, share: ResourceShare, now: Instant) -> Self {
        Self {
            hop,
            base: share.holder(),
            share,
            state: State::between_hosts(None),
            candidates: Candidates::default(),
            last: None,
            trouble: None,
            pace: Pace::new(now),
            reach: Reach::Nowhere,
            detour: false,
        }
    }

    /// The current host, or the next or last one.
    pub(super) fn target(&self) -> Option<&Target> {
        let here = self.state.link().map(|link| &link.target);
        here.or(self.last.as_ref())
    }

    /// The same, for people.
    pub(super) fn place(&self) -> Option<FailurePlace> {
        self.target().map(Target::place)
    }

    /// The negotiated TLS parameters with the current host.
    pub(super) fn tls(&self) -> Option<&TlsSession> {
        self.state.link().and_then(|link| link.tls.as_ref())
    }

    /// The mail provider of the current host.
    pub(super) fn provider(&self) -> Provider {
        match self.target() {
            Some(target) if target.is_on_this_machine() => Provider::Here,
            Some(target) => Provider::of_host(target.host.name.as_str()),
            None => Provider::Other,
        }
    }

    /// The cause for an event or reply at the current host.
    pub(super) fn cause(&self, words: QuotedWords) -> FailureCause {
        cause_at(self.place(), words)
    }

    /// Keeps the reason why it does not reach a host. A temporary reason outweighs a permanent one: mail fails only if
    /// every host says so.
    pub(super) fn note(&mut self, status: EnhancedCode, why: FailureCause) {
        let known = self
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.status.is_transient());
        if status.is_transient() || !known {
            self.trouble = Some(Trouble { status, why });
        }
    }

    /// The trust level of its holder.
    pub(super) fn standing(&self) -> TrustLevel {
        self.share.holder().standing()
    }

    /// Charges it to its destination address, which several next hops may share; returns whether there is room.
    pub(super) fn may_connect(&mut self, address: IpAddr) -> bool {
        let at = (self.base).and(ShareKind::NextHop, hash_of_address(address));
        self.share.pass(at).is_ok()
    }

    /// Leaves the current host; the carried message is returned.
    pub(super) fn leave(&mut self) -> Option<Box<Load>> {
        let (link, load) = self.state.end();
        if let Some(link) = link {
            self.last = Some(link.target);
        }
        load
    }

    /// Requests the message from the journal, to offer it to the current host.
    pub(super) fn carry(&mut self, load: Box<Load>) {
        self.state = match self.state.end() {
            (Some(link), _) => State::Reading { link, load },
            (None, _) => State::between_hosts(Some(load)),
        };
    }

    /// Sets the deadline that the session asks for, if it has made progress.
    pub(super) fn wait(&mut self, now: Now) {
        let link = self.state.link();
        if link.is_some_and(|link| link.session.progress() != link.progress) {
            self.begins_to_wait(now);
        }
    }

    /// Restarts the deadline that the session asks for, limited by the time of an attempt.
    pub(super) fn begins_to_wait(&mut self, now: Now) {
        if let Some(link) = self.state.link_mut() {
            link.progress = link.session.progress();
            let timeout = link.session.timeout();
            link.until =
                timeout.map(|timeout| now.instant.after(timeout).min(self.pace.attempt_until));
        }
    }

    pub(super) fn begins_attempt(&mut self, now: Now) {
        self.pace.walk_until = now.instant.after(DELIVERY_WALK_TIMEOUT);
        self.pace.attempt_until = now.instant.after(DELIVERY_ATTEMPT_TIMEOUT);
    }
}
