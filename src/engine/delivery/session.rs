//! A delivery session: from the connection to its end. How it goes on is in the files beside this one.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::hops::{Hop, Hops};
use crate::address::Domain;
use crate::cause::{Cause, Place, Words};
use crate::clock::{Instant, Now};
use crate::dns::{NoRecords, Question};
use crate::engine::connections::{ConnEvent, Sessions};
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Endpoint, Lost, TlsSession, TlsSide, Trust};
use crate::engine::log::{Level, Line, Named};
use crate::engine::timers::Timer;
use crate::limits::{DELIVERY_ATTEMPT_TIMEOUT, DELIVERY_WALK_TIMEOUT};
use crate::metrics::Provider;
use crate::policy::shares::{Holder, Resource, Standing};
use crate::queue::{HopId, Location};
use crate::queue_id::QueueId;
use crate::smtp::client::{About, Fate, Login, NO_REPLY, Protocol, Refusal, Request, Session, Tls};
use crate::smtp::reply::RemoteReply;
use crate::status::EnhancedCode;

/// Next hops, what waits for them, and the sessions that deliver it.
#[derive(Default)]
pub(in crate::engine) struct Delivery {
    pub(super) hops: Hops,
    pub(super) sessions: Sessions<Box<DeliverySession>>,
}

/// One session on its way or at work.
pub(super) struct DeliverySession {
    pub(super) hop: HopId,
    /// Who is charged for it.
    pub(super) holder: Holder,
    /// Who was when it set out.
    pub(super) base: Holder,
    pub(super) stage: Stage,
    pub(super) search: Search,
    /// Where it is connected or connecting.
    pub(super) target: Option<Target>,
    pub(super) session: Option<Session>,
    pub(super) tls: Option<TlsSession>,
    pub(super) load: Option<Box<Load>>,
    /// What kept it from getting through, last.
    pub(super) trouble: Option<Trouble>,
    pub(super) pace: Pace,
    /// How far it got.
    pub(super) reach: Reach,
    /// Whether what it carries goes to the next host, once what is known of it is on the disk.
    pub(super) moving: bool,
    /// Whether it left a host that is well for a message that was refused there: the next message belongs to that one.
    pub(super) detour: bool,
}

/// The way to a next hop: what is left to look up and to try.
#[derive(Default)]
pub(super) struct Search {
    /// Hosts that have not been looked up.
    pub(super) hosts: VecDeque<Host>,
    /// Addresses that have not been tried.
    pub(super) targets: VecDeque<Target>,
    /// Questions that are open.
    pub(super) asked: Vec<Question>,
    pub(super) found: Vec<IpAddr>,
    /// Whether a question was not asked, because too much was being asked already.
    pub(super) is_unasked: bool,
    /// Why an address was not found.
    pub(super) in_vain: Option<NoRecords>,
    /// The host whose addresses are being looked up.
    pub(super) looking_up: Option<Host>,
}

/// When a delivery session began, and what it waits for.
pub(super) struct Pace {
    /// When it is too late for what the server owes.
    pub(super) deadline: Option<Instant>,
    /// The earliest timer that is set for it.
    pub(super) timer: Option<Instant>,
    /// How far the session was when its deadline was set.
    pub(super) progress: u64,
    /// When it set out.
    pub(super) began: Instant,
    /// From then on no other host is tried.
    pub(super) walk_until: Instant,
    /// From then on what it carries is deferred.
    pub(super) attempt_until: Instant,
}

impl Pace {
    /// That of a session which sets out now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            deadline: None,
            timer: None,
            progress: 0,
            began: now,
            walk_until: now.after(DELIVERY_WALK_TIMEOUT),
            attempt_until: now.after(DELIVERY_ATTEMPT_TIMEOUT),
        }
    }
}

/// How far a delivery session got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// No host has taken it in.
    Nowhere,
    /// A host has, which is not the one where it is now.
    Elsewhere,
    /// The host where it is now has.
    Here,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    Searching,
    Connecting,
    Handshake,
    Talking,
    Reading,
    Recording,
    Idle,
}

/// A host to be tried.
#[derive(Clone)]
pub(super) struct Host {
    /// Its name; ours, where it is a program of this machine.
    pub(super) name: Domain,
    /// Where it is, if that is known without a look-up.
    pub(super) at: Option<Endpoint>,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) tls: Tls,
    pub(super) login: Option<Login>,
    /// How it is known.
    pub(super) origin: Origin,
}

/// How a host is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// The configuration names it: an address of this machine is meant.
    Configured,
    /// It is a mail exchanger.
    Exchanger,
    /// It is the domain itself, which has no mail exchanger.
    Implicit,
}

/// An address to be tried.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) to: Endpoint,
}

/// Why a delivery session did not get through.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) status: EnhancedCode,
    pub(super) why: Cause,
}

/// What was said of a recipient, and where.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) fate: Fate,
    pub(super) at: Option<Place>,
}

/// The message that a delivery session carries.
pub(super) struct Load {
    pub(super) id: QueueId,
    /// Where it was when it was taken.
    pub(super) location: Location,
    pub(super) size: u64,
    /// Indices into the envelope's recipients.
    pub(super) indices: Vec<u32>,
    /// Header fields to be sent before the body.
    pub(super) fields: Vec<u8>,
    /// The body, where it is short and came with the envelope.
    pub(super) body: Option<Vec<u8>>,
    pub(super) sent: u64,
    /// The sum of what was sent of the body.
    pub(super) sum: crc32fast::Hasher,
    pub(super) reading: bool,
    /// Recipients whose sender wants to hear of success.
    pub(super) dsn: Vec<u32>,
    /// Those that are offered, as the log names them.
    pub(super) names: BTreeMap<u32, Named>,
    /// What hosts before this one have said of recipients that are left.
    pub(super) earlier: BTreeMap<u32, Heard>,
    pub(super) arrived: crate::date::Timestamp,
    /// Since when it has been in the index of this process.
    pub(super) since: Instant,
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

    /// The disk takes records again: sending goes on.
    pub(in crate::engine) fn on_disk_works(&mut self) {
        self.hops.touch_waiting();
    }

    /// An operator wants these tried now, and what they wait for with them.
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
            ConnEvent::Read(result) => self.on_read(conn, delivery, result, fx),
            ConnEvent::Answer(question, answer) => {
                self.on_answer(conn, delivery, question, answer, fx);
            }
            ConnEvent::Timeout(at) => self.on_timeout(conn, delivery, at, fx),
            ConnEvent::Stop => self.on_stop(conn, delivery, fx),
            // Nothing of the kind was asked for.
            ConnEvent::Kept(_) => self.sessions.put(conn, delivery),
        }
    }

    /// The connection stands.
    pub(super) fn on_connected(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let Some(target) = delivery.target.clone() else {
            return self.put_back(conn, delivery, fx);
        };
        if target.host.tls == Tls::Active {
            self.start_tls(conn, &mut delivery, &target, fx);
            return self.put_back(conn, delivery, fx);
        }
        self.begin_session(&mut delivery, &target, fx);
        self.put_back(conn, delivery, fx);
    }

    pub(super) fn begin_session(
        &self,
        delivery: &mut DeliverySession,
        target: &Target,
        fx: &Effects,
    ) {
        let session = Session::new(
            fx.config.hostname.as_str(),
            target.host.tls,
            target.host.login.clone(),
        )
        .speaking(target.host.protocol);
        let session = match target.is_on_this_machine() {
            true => session.on_this_machine(),
            false => session,
        };
        delivery.session = Some(session);
        delivery.stage = Stage::Talking;
        delivery.begins_to_wait(fx.now);
    }

    pub(super) fn start_tls(
        &mut self,
        conn: ConnId,
        delivery: &mut DeliverySession,
        target: &Target,
        fx: &mut Effects,
    ) {
        delivery.stage = Stage::Handshake;
        delivery.pace.deadline = Some(fx.now.instant.after(crate::limits::HANDSHAKE_TIMEOUT));
        // A route with a password must lead where the configuration says; an MX found in the DNS is anybody's word.
        // What may be told in clear may be told to any key.
        let in_clear = target.is_on_this_machine() && target.host.tls == Tls::Opportunistic;
        let trust = if target.host.login.is_some() && !in_clear {
            Trust::Verified
        } else {
            Trust::Any
        };
        let side = TlsSide::Client {
            name: target.host.name.clone(),
            trust,
        };
        fx.actions.push_back(Action::StartTls { conn, side });
    }

    /// The handshake is done.
    pub(super) fn on_tls(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        tls: TlsSession,
        fx: &mut Effects,
    ) {
        delivery.tls = Some(tls);
        let mut out = Vec::new();
        match (&mut delivery.session, delivery.target.clone()) {
            (Some(session), _) => session.on_tls(&mut out),
            (None, Some(target)) => self.begin_session(&mut delivery, &target, fx),
            (None, None) => {}
        }
        delivery.stage = Stage::Talking;
        delivery.begins_to_wait(fx.now);
        fx.send(conn, out);
        self.put_back(conn, delivery, fx);
    }

    /// The server has said something.
    pub(super) fn on_bytes(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        bytes: &[u8],
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        if let Some(session) = &mut delivery.session {
            session.on_bytes(bytes, &mut out);
        }
        self.serve_requests(conn, delivery, out, fx);
    }

    /// Does what the session wants.
    pub(super) fn serve_requests(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        mut out: Vec<u8>,
        fx: &mut Effects,
    ) {
        // A message is taken only when nothing else stands behind `Ready`: a server may end the session in one breath
        // with its reply.
        let mut ready = false;
        while let Some(request) = delivery.session.as_mut().and_then(Session::next_request) {
            match request {
                Request::StartTls => {
                    fx.send(conn, std::mem::take(&mut out));
                    if let Some(target) = delivery.target.clone() {
                        self.start_tls(conn, &mut delivery, &target, fx);
                    }
                }
                Request::Ready => {
                    fx.send(conn, std::mem::take(&mut out));
                    ready = delivery.stage != Stage::Recording;
                }
                Request::Body => self.send_body(conn, &mut delivery, &mut out, fx),
                Request::Done(fates) => self.on_transaction_done(conn, &mut delivery, fates, fx),
                Request::Refused(refusal) => {
                    fx.send(conn, out);
                    return self.on_refused(conn, delivery, &refusal, fx);
                }
                Request::Parted(reply) => {
                    fx.send(conn, out);
                    let refusal = Refusal::Parted(reply);
                    return self.on_refused(conn, delivery, &refusal, fx);
                }
                Request::Close => {
                    fx.send(conn, out);
                    let status = EnhancedCode::new(4, 4, 2);
                    let words = Words::ours("the server ended the session");
                    return self.turned_away(conn, delivery, status, &words, fx);
                }
            }
        }
        fx.send(conn, out);
        delivery.wait(fx.now);
        if ready {
            if delivery.reach != Reach::Here {
                self.arrived(&mut delivery, fx);
            }
            return self.next_step(conn, delivery, fx);
        }
        self.put_back(conn, delivery, fx);
    }

    /// Nothing is under way: goes on with what it carries, or takes the next message.
    pub(super) fn next_step(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        match (&delivery.load, &delivery.session) {
            (Some(_), Some(_)) if !delivery.moving => self.read_message(conn, delivery, fx),
            (Some(_), _) => self.move_on(conn, delivery, fx),
            (None, Some(_)) => self.take_next_message(conn, delivery, fx),
            (None, None) => self.end_session(conn, delivery, fx),
        }
    }

    /// Leaves this host, and carries what is left to the next.
    pub(super) fn move_on(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        if let Some(mut session) = delivery.session.take() {
            if session.is_ready() {
                let mut out = Vec::new();
                session.quit(&mut out);
                fx.send(conn, out);
                delivery.detour = true;
            }
            fx.actions.push_back(Action::Close { conn });
        }
        delivery.tls = None;
        self.try_next(conn, delivery, fx);
    }

    pub(super) fn arrived(&mut self, delivery: &mut DeliverySession, fx: &mut Effects) {
        if std::mem::replace(&mut delivery.reach, Reach::Here) == Reach::Nowhere {
            self.hops.proved(delivery.hop);
        }
        let mut line = Line::new(Level::Debug, "connected");
        if let Some(target) = &delivery.target {
            line = line
                .with("host", &target.host.name)
                .with("address", &target.to);
        }
        fx.log(line.with("tls", tls_text(delivery.tls.as_ref())));
    }

    /// Sends an idle delivery session home to make room.
    pub(super) fn dismiss(&mut self, conn: ConnId, fx: &mut Effects) {
        if let Some(delivery) = self.sessions.take(conn) {
            self.quit(conn, delivery, fx);
        }
    }

    /// The server cannot be used.
    pub(super) fn on_refused(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        refusal: &Refusal,
        fx: &mut Effects,
    ) {
        // As a handshake that fails.
        if *refusal == Refusal::Injection {
            let (status, what) = (EnhancedCode::new(4, 7, 5), INJECTED);
            fx.actions.push_back(Action::Close { conn });
            self.settle_broken(conn, &mut delivery, status, &Words::ours(what), fx);
            delivery.stage = Stage::Handshake;
            return self.try_elsewhere(conn, delivery, status, what, fx);
        }
        let (status, words) = meaning(refusal);
        self.turned_away(conn, delivery, status, &words, fx);
    }

    /// The session is over. What it carries goes to the next host, as a delivery session does that did not get through.
    pub(super) fn turned_away(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        status: EnhancedCode,
        words: &Words,
        fx: &mut Effects,
    ) {
        fx.actions.push_back(Action::Close { conn });
        self.leave_host(conn, delivery, status, words, fx);
    }

    /// The same where the connection is gone already.
    pub(super) fn leave_host(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        status: EnhancedCode,
        words: &Words,
        fx: &mut Effects,
    ) {
        self.settle_broken(conn, &mut delivery, status, words, fx);
        let why = delivery.cause(words.clone());
        delivery.note(status, why);
        self.advance(conn, delivery, fx);
    }

    /// The connection is gone: on to the next host, with what is left of the message, or home.
    pub(super) fn advance(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        delivery.session = None;
        delivery.tls = None;
        if delivery.load.is_none() && delivery.reach != Reach::Nowhere {
            return self.end_session(conn, delivery, fx);
        }
        if delivery.stage == Stage::Recording {
            // What is known of the message is on its way to the disk, and comes first.
            delivery.pace.deadline = None;
            return self.put_back(conn, delivery, fx);
        }
        self.try_next(conn, delivery, fx);
    }

    /// The connection is gone, or never stood.
    pub(super) fn on_closed(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        cause: &Lost,
        fx: &mut Effects,
    ) {
        // Between two hosts there is no connection: this one was left already, and its end says nothing of the next.
        if delivery.stage == Stage::Searching {
            return self.put_back(conn, delivery, fx);
        }
        // What came before the end decides, where it was a refusal.
        if let Some(refusal) = delivery.session.as_mut().and_then(Session::on_end) {
            let (status, words) = meaning(&refusal);
            return self.leave_host(conn, delivery, status, &words, fx);
        }
        let (status, what) = match cause {
            Lost::Eof => (
                EnhancedCode::new(4, 4, 2),
                "the server closed the connection".to_owned(),
            ),
            Lost::Refused => (EnhancedCode::new(4, 4, 1), "connection refused".to_owned()),
            Lost::Unreachable => (
                EnhancedCode::new(4, 4, 1),
                "the host cannot be reached".to_owned(),
            ),
            Lost::Reset => (
                EnhancedCode::new(4, 4, 2),
                "the connection broke".to_owned(),
            ),
            Lost::Tls(text) => (EnhancedCode::new(4, 7, 5), format!("TLS failed: {text}")),
        };
        self.settle_broken(conn, &mut delivery, status, &Words::ours(what.as_str()), fx);
        self.try_elsewhere(conn, delivery, status, &what, fx);
    }

    /// Tries the same host in clear where its handshake failed, or goes on to the next.
    pub(super) fn try_elsewhere(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        status: EnhancedCode,
        what: &str,
        fx: &mut Effects,
    ) {
        let begun = delivery.stage == Stage::Handshake || delivery.tls.is_some();
        let address = delivery.target.as_ref().and_then(|target| target.to.ip());
        if delivery.stage == Stage::Connecting
            && let Some((hop, address)) = self.hops.get_mut(delivery.hop).zip(address)
        {
            hop.note_dead(address, fx.now.instant);
        }
        match delivery.target.take() {
            // RFC 7435: what cannot be had encrypted is sent in clear, as it would be had TLS not been offered. A host
            // may also hang up or fall silent at the hello, or refuse once the client holds the handshake done.
            Some(mut target)
                if begun
                    && delivery.reach != Reach::Here
                    && target.host.tls == Tls::Opportunistic =>
            {
                let line = Line::new(Level::Info, "tls-failed")
                    .with("side", "client")
                    .with("host", &target.host.name);
                fx.log(line.with("why", what));
                target.host.tls = Tls::Avoided;
                delivery.search.targets.push_front(target);
            }
            target => {
                delivery.target = target;
                let why = delivery.cause(Words::ours(what));
                delivery.note(status, why);
            }
        }
        self.advance(conn, delivery, fx);
    }

    /// The session is of no more use: what was under way in it gets its fate.
    pub(super) fn settle_broken(
        &mut self,
        conn: ConnId,
        delivery: &mut DeliverySession,
        status: EnhancedCode,
        words: &Words,
        fx: &mut Effects,
    ) {
        let mut fates = None;
        if let Some(session) = delivery.session.as_mut() {
            session.on_lost(words.as_str());
            while let Some(request) = session.next_request() {
                if let Request::Done(done) = request {
                    fates = Some(done);
                }
            }
        }
        delivery.session = None;
        match (fates, delivery.load.as_mut()) {
            (Some(fates), _) => self.on_transaction_done(conn, delivery, fates, fx),
            (None, Some(load)) => {
                // Nothing of it was said here.
                let at = delivery.target.as_ref().map(Target::place);
                for index in &load.indices {
                    load.earlier.entry(*index).or_insert_with(|| Heard {
                        fate: Fate::Deferred {
                            about: About::Host,
                            status: status.as_transient(),
                            words: words.clone(),
                        },
                        at: at.clone(),
                    });
                }
            }
            (None, None) => {}
        }
    }

    /// A deadline may have passed.
    pub(super) fn on_timeout(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        at: Instant,
        fx: &mut Effects,
    ) {
        if delivery.pace.timer == Some(at) {
            delivery.pace.timer = None;
        }
        match delivery.pace.deadline {
            Some(deadline) if deadline <= fx.now.instant => {}
            _ => return self.put_back(conn, delivery, fx),
        }
        match delivery.stage {
            Stage::Idle => self.quit(conn, delivery, fx),
            Stage::Searching | Stage::Reading | Stage::Recording => {
                delivery.pace.deadline = None;
                self.put_back(conn, delivery, fx);
            }
            Stage::Connecting | Stage::Handshake | Stage::Talking => {
                fx.actions.push_back(Action::Abort { conn });
                let (status, what) = (EnhancedCode::new(4, 4, 2), "no answer in time");
                self.settle_broken(conn, &mut delivery, status, &Words::ours(what), fx);
                self.try_elsewhere(conn, delivery, status, what, fx);
            }
        }
    }

    /// Says QUIT and does not wait for the answer.
    pub(super) fn quit(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        if let Some(session) = delivery.session.as_mut() {
            session.quit(&mut out);
        }
        fx.send(conn, out);
        fx.actions.push_back(Action::Close { conn });
        self.end_session(conn, delivery, fx);
    }

    /// The daemon stops: what is being sent may finish, the rest goes home.
    pub(super) fn on_stop(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        match delivery.stage {
            // Only behind the dot would a cut leave open whether the message is there.
            Stage::Talking if delivery.session.as_ref().is_some_and(Session::is_past_dot) => {
                self.put_back(conn, delivery, fx);
            }
            Stage::Reading | Stage::Recording => self.put_back(conn, delivery, fx),
            Stage::Idle => self.quit(conn, delivery, fx),
            Stage::Searching => self.give_up_for_now(conn, delivery, fx),
            Stage::Connecting | Stage::Handshake | Stage::Talking => {
                fx.actions.push_back(Action::Abort { conn });
                self.give_up_for_now(conn, delivery, fx);
            }
        }
    }

    /// Gives up for now: what it carries is deferred with what the hosts have said.
    pub(super) fn give_up_for_now(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        self.defer_message(&mut delivery, fx);
        self.end_session(conn, delivery, fx);
    }

    /// A delivery session is done, whatever the reason; its connection is closed already.
    pub(super) fn end_session(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        debug_assert!(delivery.load.is_none(), "what is carried has an outcome");
        fx.conns.release(conn);
        fx.shares
            .of_mut(Resource::Deliveries)
            .give(delivery.holder, 1);
        let arriving = delivery.reach == Reach::Nowhere;
        self.hops.session_gone(delivery.hop, conn, arriving);
    }

    pub(super) fn put_back(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        if let Some(deadline) = delivery.pace.deadline
            && delivery.pace.timer.is_none_or(|timer| timer > deadline)
        {
            delivery.pace.timer = Some(deadline);
            fx.timers.set(deadline, Timer::Conn(conn));
        }
        self.sessions.put(conn, delivery);
    }
}

impl Target {
    /// As people are told of it.
    pub(super) fn place(&self) -> Place {
        match &self.to {
            Endpoint::Tcp(to) => Place::Host {
                name: self.host.name.as_str().into(),
                address: Some(to.ip()),
            },
            Endpoint::Unix(path) => Place::Socket(path.display().to_string().into()),
            Endpoint::Helper(target) => Place::Program(target.clone()),
        }
    }

    /// Whether nothing leaves this machine on the way there.
    pub(super) fn is_on_this_machine(&self) -> bool {
        self.to.ip().is_none_or(|ip| ip.is_loopback())
    }

    /// The host that has a message now, and tells or does not tell what becomes of it; a program of this machine is none,
    /// also where it takes LMTP on a port.
    pub(super) fn remote_host(&self) -> Option<String> {
        let here = |ip: &IpAddr| self.host.protocol == Protocol::Lmtp && ip.is_loopback();
        let ip = self.to.ip().filter(|ip| !here(ip));
        ip.map(|_| self.host.name.to_string())
    }
}

impl DeliverySession {
    /// Whose host it is at, or goes to.
    pub(super) fn provider(&self) -> Provider {
        match &self.target {
            Some(target) if target.is_on_this_machine() => Provider::Here,
            Some(target) => Provider::of_host(target.host.name.as_str()),
            None => Provider::Other,
        }
    }

    /// What happened, or was said, where it is.
    pub(super) fn cause(&self, words: Words) -> Cause {
        cause_at(self.target.as_ref().map(Target::place), words)
    }

    /// That of who is charged for it.
    pub(super) fn standing(&self) -> Standing {
        self.holder.standing()
    }

    /// Waits as long as the session says, if it has moved on since.
    pub(super) fn wait(&mut self, now: Now) {
        let progress = self.session.as_ref().map_or(0, Session::progress);
        if progress != self.pace.progress {
            self.begins_to_wait(now);
        }
    }

    /// Waits as long as the session says from now on, and no longer than an attempt may take.
    pub(super) fn begins_to_wait(&mut self, now: Now) {
        self.pace.progress = self.session.as_ref().map_or(0, Session::progress);
        let timeout = self.session.as_ref().and_then(Session::timeout);
        self.pace.deadline =
            timeout.map(|timeout| now.instant.after(timeout).min(self.pace.attempt_until));
    }

    /// Begins an attempt.
    pub(super) fn begins_attempt(&mut self, now: Now) {
        self.pace.walk_until = now.instant.after(DELIVERY_WALK_TIMEOUT);
        self.pace.attempt_until = now.instant.after(DELIVERY_ATTEMPT_TIMEOUT);
    }
}

/// What was said at a place. Our helper speaks LMTP for programs and mailboxes: its replies are our words.
pub(super) fn cause_at(at: Option<Place>, words: Words) -> Cause {
    let words = match (&at, words) {
        (Some(Place::Program(_)), Words::Reply(text)) => Words::Ours(text),
        (_, words) => words,
    };
    Cause { at, words }
}

/// What a refusal of a whole session means for the mail.
pub(super) fn meaning(refusal: &Refusal) -> (EnhancedCode, Words) {
    let reply = |reply: &RemoteReply| Words::Reply(reply.to_text().into());
    match refusal {
        Refusal::Reply(said) => (said.status(), reply(said)),
        // A command that it does not know says nothing of the mail, however it is put.
        Refusal::Fallback(said) if matches!(said.code, 500..=504) => {
            (said.status().as_transient(), reply(said))
        }
        Refusal::Fallback(said) => (said.status(), reply(said)),
        Refusal::Parted(said) => (said.status().as_transient(), reply(said)),
        Refusal::Login(said) => {
            let words = reply(said).as_str().to_owned();
            let words = format!("the login of the route is refused: {words}");
            (EnhancedCode::new(4, 7, 8), Words::ours(words))
        }
        Refusal::NoTls(None) => (
            EnhancedCode::new(4, 7, 10),
            Words::ours("the TLS that is owed is not offered"),
        ),
        Refusal::NoTls(Some(said)) => {
            let words = reply(said).as_str().to_owned();
            let words = format!("the TLS that is owed is refused: {words}");
            (EnhancedCode::new(4, 7, 10), Words::ours(words))
        }
        Refusal::Protocol(_, said) if said.is_empty() => {
            (EnhancedCode::new(4, 5, 0), Words::ours(NO_REPLY))
        }
        Refusal::Protocol(_, said) => {
            let words = format!("{NO_REPLY}: {said}");
            (EnhancedCode::new(4, 5, 0), Words::ours(words))
        }
        Refusal::Injection => (EnhancedCode::new(4, 7, 5), Words::ours(INJECTED)),
        Refusal::Ourselves => (
            EnhancedCode::new(5, 4, 6),
            Words::ours("it is this host, which does not take the mail: a loop"),
        ),
        Refusal::NoAuth => (
            EnhancedCode::new(4, 7, 0),
            Words::ours("AUTH PLAIN or LOGIN is not offered"),
        ),
    }
}

pub(super) fn tls_text(tls: Option<&TlsSession>) -> String {
    match tls {
        None => "none".to_owned(),
        Some(tls) if tls.verified => format!("{}:{}:verified", tls.version, tls.cipher),
        Some(tls) => format!("{}:{}", tls.version, tls.cipher),
    }
}

pub(super) const INJECTED: &str = "the server sent bytes behind its reply to STARTTLS";

/// Bytes of a body that are read and sent at a time.
pub(super) const BLOCK_BYTES: u32 = 64 * 1024;
