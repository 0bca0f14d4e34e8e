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
    pub(super) sessions: Sessions<Box<Courier>>,
}

/// One session on its way or at work.
pub(super) struct Courier {
    pub(super) hop: HopId,
    /// Who is charged for it.
    pub(super) holder: Holder,
    /// Who was when it set out.
    pub(super) base: Holder,
    pub(super) stage: Stage,
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
    /// Where it is connected or connecting.
    pub(super) target: Option<Target>,
    pub(super) session: Option<Session>,
    pub(super) tls: Option<TlsSession>,
    pub(super) load: Option<Box<Load>>,
    /// What kept it from getting through, last.
    pub(super) trouble: Option<Trouble>,
    pub(super) deadline: Option<Instant>,
    pub(super) timer: Option<Instant>,
    /// How far it got.
    pub(super) reach: Reach,
    /// Whether what it carries goes to the next host, once what is known of it is on the disk.
    pub(super) moving: bool,
    /// Whether it left a host that is well for a message that was refused there: the next message belongs to that one.
    pub(super) detour: bool,
    /// How far the session was when its deadline was set.
    pub(super) progress: u64,
    /// When it set out.
    pub(super) began: Instant,
    /// From then on no other host is tried.
    pub(super) walk_until: Instant,
    /// From then on what it carries is deferred.
    pub(super) attempt_until: Instant,
}

/// How far a courier got.
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

/// Why a courier did not get through.
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

/// The message that a courier carries.
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
        let Some(courier) = self.sessions.take(conn) else {
            return;
        };
        match event {
            ConnEvent::Connected => self.courier_connected(conn, courier, fx),
            ConnEvent::Bytes(bytes) => self.courier_bytes(conn, courier, bytes, fx),
            ConnEvent::Drained => self.courier_drained(conn, courier, fx),
            ConnEvent::Closed(cause) => self.courier_lost(conn, courier, &cause, fx),
            ConnEvent::TlsReady(session) => self.courier_tls(conn, courier, session, fx),
            ConnEvent::Read(result) => self.courier_read(conn, courier, result, fx),
            ConnEvent::Answer(question, answer) => {
                self.courier_answer(conn, courier, question, answer, fx);
            }
            ConnEvent::Timeout(at) => self.courier_expired(conn, courier, at, fx),
            ConnEvent::Stop => self.courier_stop(conn, courier, fx),
            // Nothing of the kind was asked for.
            ConnEvent::Kept(_) => self.sessions.put(conn, courier),
        }
    }

    /// The connection stands.
    pub(super) fn courier_connected(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        fx: &mut Effects,
    ) {
        let Some(target) = courier.target.clone() else {
            return self.courier_put(conn, courier, fx);
        };
        if target.host.tls == Tls::Active {
            self.start_tls(conn, &mut courier, &target, fx);
            return self.courier_put(conn, courier, fx);
        }
        self.begin_session(&mut courier, &target, fx);
        self.courier_put(conn, courier, fx);
    }

    pub(super) fn begin_session(&self, courier: &mut Courier, target: &Target, fx: &Effects) {
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
        courier.session = Some(session);
        courier.stage = Stage::Talking;
        courier.begins_to_wait(fx.now);
    }

    pub(super) fn start_tls(
        &mut self,
        conn: ConnId,
        courier: &mut Courier,
        target: &Target,
        fx: &mut Effects,
    ) {
        courier.stage = Stage::Handshake;
        courier.deadline = Some(fx.now.instant.after(crate::limits::HANDSHAKE_TIMEOUT));
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
    pub(super) fn courier_tls(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        tls: TlsSession,
        fx: &mut Effects,
    ) {
        courier.tls = Some(tls);
        let mut out = Vec::new();
        match (&mut courier.session, courier.target.clone()) {
            (Some(session), _) => session.on_tls(&mut out),
            (None, Some(target)) => self.begin_session(&mut courier, &target, fx),
            (None, None) => {}
        }
        courier.stage = Stage::Talking;
        courier.begins_to_wait(fx.now);
        fx.send(conn, out);
        self.courier_put(conn, courier, fx);
    }

    /// The server has said something.
    pub(super) fn courier_bytes(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        bytes: &[u8],
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        if let Some(session) = &mut courier.session {
            session.on_bytes(bytes, &mut out);
        }
        self.courier_requests(conn, courier, out, fx);
    }

    /// Does what the session wants.
    pub(super) fn courier_requests(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        mut out: Vec<u8>,
        fx: &mut Effects,
    ) {
        // A message is taken only when nothing else stands behind `Ready`: a server may end the session in one breath
        // with its reply.
        let mut ready = false;
        while let Some(request) = courier.session.as_mut().and_then(Session::next_request) {
            match request {
                Request::StartTls => {
                    fx.send(conn, std::mem::take(&mut out));
                    if let Some(target) = courier.target.clone() {
                        self.start_tls(conn, &mut courier, &target, fx);
                    }
                }
                Request::Ready => {
                    fx.send(conn, std::mem::take(&mut out));
                    ready = courier.stage != Stage::Recording;
                }
                Request::Body => self.courier_body(conn, &mut courier, &mut out, fx),
                Request::Done(fates) => self.courier_done(conn, &mut courier, fates, fx),
                Request::Refused(refusal) => {
                    fx.send(conn, out);
                    return self.courier_refused(conn, courier, &refusal, fx);
                }
                Request::Parted(reply) => {
                    fx.send(conn, out);
                    let refusal = Refusal::Parted(reply);
                    return self.courier_refused(conn, courier, &refusal, fx);
                }
                Request::Close => {
                    fx.send(conn, out);
                    let status = EnhancedCode::new(4, 4, 2);
                    let words = Words::ours("the server ended the session");
                    return self.courier_turned_away(conn, courier, status, &words, fx);
                }
            }
        }
        fx.send(conn, out);
        courier.wait(fx.now);
        if ready {
            if courier.reach != Reach::Here {
                self.courier_arrived(&mut courier, fx);
            }
            return self.courier_free(conn, courier, fx);
        }
        self.courier_put(conn, courier, fx);
    }

    /// Nothing is under way: goes on with what it carries, or takes the next message.
    pub(super) fn courier_free(&mut self, conn: ConnId, courier: Box<Courier>, fx: &mut Effects) {
        match (&courier.load, &courier.session) {
            (Some(_), Some(_)) if !courier.moving => self.courier_read_load(conn, courier, fx),
            (Some(_), _) => self.courier_move_on(conn, courier, fx),
            (None, Some(_)) => self.courier_pick(conn, courier, fx),
            (None, None) => self.courier_over(conn, courier, fx),
        }
    }

    /// Leaves this host, and carries what is left to the next.
    pub(super) fn courier_move_on(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        fx: &mut Effects,
    ) {
        if let Some(mut session) = courier.session.take() {
            if session.is_ready() {
                let mut out = Vec::new();
                session.quit(&mut out);
                fx.send(conn, out);
                courier.detour = true;
            }
            fx.actions.push_back(Action::Close { conn });
        }
        courier.tls = None;
        self.courier_next(conn, courier, fx);
    }

    pub(super) fn courier_arrived(&mut self, courier: &mut Courier, fx: &mut Effects) {
        if std::mem::replace(&mut courier.reach, Reach::Here) == Reach::Nowhere {
            self.hops.proved(courier.hop);
        }
        let mut line = Line::new(Level::Debug, "connected");
        if let Some(target) = &courier.target {
            line = line
                .with("host", &target.host.name)
                .with("address", &target.to);
        }
        fx.log(line.with("tls", tls_text(courier.tls.as_ref())));
    }

    /// Sends an idle courier home to make room.
    pub(super) fn courier_dismiss(&mut self, conn: ConnId, fx: &mut Effects) {
        if let Some(courier) = self.sessions.take(conn) {
            self.courier_quit(conn, courier, fx);
        }
    }

    /// The server cannot be used.
    pub(super) fn courier_refused(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        refusal: &Refusal,
        fx: &mut Effects,
    ) {
        // As a handshake that fails.
        if *refusal == Refusal::Injection {
            let (status, what) = (EnhancedCode::new(4, 7, 5), INJECTED);
            fx.actions.push_back(Action::Close { conn });
            self.courier_broken(conn, &mut courier, status, &Words::ours(what), fx);
            courier.stage = Stage::Handshake;
            return self.courier_elsewhere(conn, courier, status, what, fx);
        }
        let (status, words) = meaning(refusal);
        self.courier_turned_away(conn, courier, status, &words, fx);
    }

    /// The session is over. What it carries goes to the next host, as a courier does that did not get through.
    pub(super) fn courier_turned_away(
        &mut self,
        conn: ConnId,
        courier: Box<Courier>,
        status: EnhancedCode,
        words: &Words,
        fx: &mut Effects,
    ) {
        fx.actions.push_back(Action::Close { conn });
        self.courier_left(conn, courier, status, words, fx);
    }

    /// The same where the connection is gone already.
    pub(super) fn courier_left(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        status: EnhancedCode,
        words: &Words,
        fx: &mut Effects,
    ) {
        self.courier_broken(conn, &mut courier, status, words, fx);
        let why = courier.cause(words.clone());
        courier.note(status, why);
        self.courier_advance(conn, courier, fx);
    }

    /// The connection is gone: on to the next host, with what is left of the message, or home.
    pub(super) fn courier_advance(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        fx: &mut Effects,
    ) {
        courier.session = None;
        courier.tls = None;
        if courier.load.is_none() && courier.reach != Reach::Nowhere {
            return self.courier_over(conn, courier, fx);
        }
        if courier.stage == Stage::Recording {
            // What is known of the message is on its way to the disk, and comes first.
            courier.deadline = None;
            return self.courier_put(conn, courier, fx);
        }
        self.courier_next(conn, courier, fx);
    }

    /// The connection is gone, or never stood.
    pub(super) fn courier_lost(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        cause: &Lost,
        fx: &mut Effects,
    ) {
        // Between two hosts there is no connection: this one was left already, and its end says nothing of the next.
        if courier.stage == Stage::Searching {
            return self.courier_put(conn, courier, fx);
        }
        // What came before the end decides, where it was a refusal.
        if let Some(refusal) = courier.session.as_mut().and_then(Session::on_end) {
            let (status, words) = meaning(&refusal);
            return self.courier_left(conn, courier, status, &words, fx);
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
        self.courier_broken(conn, &mut courier, status, &Words::ours(what.as_str()), fx);
        self.courier_elsewhere(conn, courier, status, &what, fx);
    }

    /// Tries the same host in clear where its handshake failed, or goes on to the next.
    pub(super) fn courier_elsewhere(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        status: EnhancedCode,
        what: &str,
        fx: &mut Effects,
    ) {
        let begun = courier.stage == Stage::Handshake || courier.tls.is_some();
        let address = courier.target.as_ref().and_then(|target| target.to.ip());
        if courier.stage == Stage::Connecting
            && let Some((hop, address)) = self.hops.get_mut(courier.hop).zip(address)
        {
            hop.note_dead(address, fx.now.instant);
        }
        match courier.target.take() {
            // RFC 7435: what cannot be had encrypted is sent in clear, as it would be had TLS not been offered. A host
            // may also hang up or fall silent at the hello, or refuse once the client holds the handshake done.
            Some(mut target)
                if begun
                    && courier.reach != Reach::Here
                    && target.host.tls == Tls::Opportunistic =>
            {
                let line = Line::new(Level::Info, "tls-failed")
                    .with("side", "client")
                    .with("host", &target.host.name);
                fx.log(line.with("why", what));
                target.host.tls = Tls::Avoided;
                courier.targets.push_front(target);
            }
            target => {
                courier.target = target;
                let why = courier.cause(Words::ours(what));
                courier.note(status, why);
            }
        }
        self.courier_advance(conn, courier, fx);
    }

    /// The session is of no more use: what was under way in it gets its fate.
    pub(super) fn courier_broken(
        &mut self,
        conn: ConnId,
        courier: &mut Courier,
        status: EnhancedCode,
        words: &Words,
        fx: &mut Effects,
    ) {
        let mut fates = None;
        if let Some(session) = courier.session.as_mut() {
            session.on_lost(words.as_str());
            while let Some(request) = session.next_request() {
                if let Request::Done(done) = request {
                    fates = Some(done);
                }
            }
        }
        courier.session = None;
        match (fates, courier.load.as_mut()) {
            (Some(fates), _) => self.courier_done(conn, courier, fates, fx),
            (None, Some(load)) => {
                // Nothing of it was said here.
                let at = courier.target.as_ref().map(Target::place);
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
    pub(super) fn courier_expired(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        at: Instant,
        fx: &mut Effects,
    ) {
        if courier.timer == Some(at) {
            courier.timer = None;
        }
        match courier.deadline {
            Some(deadline) if deadline <= fx.now.instant => {}
            _ => return self.courier_put(conn, courier, fx),
        }
        match courier.stage {
            Stage::Idle => self.courier_quit(conn, courier, fx),
            Stage::Searching | Stage::Reading | Stage::Recording => {
                courier.deadline = None;
                self.courier_put(conn, courier, fx);
            }
            Stage::Connecting | Stage::Handshake | Stage::Talking => {
                fx.actions.push_back(Action::Abort { conn });
                let (status, what) = (EnhancedCode::new(4, 4, 2), "no answer in time");
                self.courier_broken(conn, &mut courier, status, &Words::ours(what), fx);
                self.courier_elsewhere(conn, courier, status, what, fx);
            }
        }
    }

    /// Says QUIT and does not wait for the answer.
    pub(super) fn courier_quit(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        if let Some(session) = courier.session.as_mut() {
            session.quit(&mut out);
        }
        fx.send(conn, out);
        fx.actions.push_back(Action::Close { conn });
        self.courier_over(conn, courier, fx);
    }

    /// The daemon stops: what is being sent may finish, the rest goes home.
    pub(super) fn courier_stop(&mut self, conn: ConnId, courier: Box<Courier>, fx: &mut Effects) {
        match courier.stage {
            // Only behind the dot would a cut leave open whether the message is there.
            Stage::Talking if courier.session.as_ref().is_some_and(Session::is_past_dot) => {
                self.courier_put(conn, courier, fx);
            }
            Stage::Reading | Stage::Recording => self.courier_put(conn, courier, fx),
            Stage::Idle => self.courier_quit(conn, courier, fx),
            Stage::Searching => self.courier_home(conn, courier, fx),
            Stage::Connecting | Stage::Handshake | Stage::Talking => {
                fx.actions.push_back(Action::Abort { conn });
                self.courier_home(conn, courier, fx);
            }
        }
    }

    /// Gives up for now: what it carries is deferred with what the hosts have said.
    pub(super) fn courier_home(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        fx: &mut Effects,
    ) {
        self.courier_settle(&mut courier, fx);
        self.courier_over(conn, courier, fx);
    }

    /// A courier is done, whatever the reason; its connection is closed already.
    pub(super) fn courier_over(&mut self, conn: ConnId, courier: Box<Courier>, fx: &mut Effects) {
        debug_assert!(courier.load.is_none(), "what is carried has an outcome");
        fx.conns.release(conn);
        fx.shares
            .of_mut(Resource::Deliveries)
            .give(courier.holder, 1);
        let arriving = courier.reach == Reach::Nowhere;
        self.hops.courier_gone(courier.hop, conn, arriving);
    }

    pub(super) fn courier_put(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        fx: &mut Effects,
    ) {
        if let Some(deadline) = courier.deadline
            && courier.timer.is_none_or(|timer| timer > deadline)
        {
            courier.timer = Some(deadline);
            fx.timers.set(deadline, Timer::Conn(conn));
        }
        self.sessions.put(conn, courier);
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

impl Courier {
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
        if progress != self.progress {
            self.begins_to_wait(now);
        }
    }

    /// Waits as long as the session says from now on, and no longer than an attempt may take.
    pub(super) fn begins_to_wait(&mut self, now: Now) {
        self.progress = self.session.as_ref().map_or(0, Session::progress);
        let timeout = self.session.as_ref().and_then(Session::timeout);
        self.deadline = timeout.map(|timeout| now.instant.after(timeout).min(self.attempt_until));
    }

    /// Begins an attempt.
    pub(super) fn begins_attempt(&mut self, now: Now) {
        self.walk_until = now.instant.after(DELIVERY_WALK_TIMEOUT);
        self.attempt_until = now.instant.after(DELIVERY_ATTEMPT_TIMEOUT);
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
