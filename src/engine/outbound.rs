//! Couriers: one client session each, from the look-up of a next hop to QUIT.
//!
//! ```text
//!   Searching --MX, addresses--> Connecting --> Talking --Ready--> Carrying --Done--> Recording --> Carrying …
//!       ^  next host                 | next address                                       '--> Idle --> QUIT
//!       '----------------------------'
//! ```
//!
//! A courier sets out without a message and takes the oldest that is due once it got through. Its outcome is
//! committed before it takes the next, so that a kill can repeat at most one message of each session.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::event::{Action, ConnId, Lost, Reader, TlsSession, TlsSide, Trust};
use super::log::{Level, Line};
use super::timers::Timer;
use super::{Conn, Engine};
use crate::address::Domain;
use crate::clock::{Instant, Now};
use crate::config::{Family, Scheme};
use crate::dns::{Answer, MailHosts, Question, RecordKind, Records, mail_hosts};
use crate::envelope::Envelope;
use crate::limits::{
    ADDRESSES_PER_HOST_MAX, CLIENT_IDLE_TIMEOUT, CLIENT_MESSAGES_MAX, CONNECT_TIMEOUT,
};
use crate::policy::retry;
use crate::policy::route::NextHop;
use crate::queue::{Content, HopId, Outcome, OutcomeRecord, Part, Phase, ReadError};
use crate::queue_id::QueueId;
use crate::smtp::client::{Fate, Login, Mail, Rcpt, Refusal, Request, Session, Tls};
use crate::status::EnhancedCode;

/// One session on its way or at work.
pub(super) struct Courier {
    hop: HopId,
    stage: Stage,
    /// Hosts that have not been looked up.
    hosts: VecDeque<Host>,
    /// Addresses that have not been tried.
    targets: VecDeque<Target>,
    /// Questions that are open.
    asked: Vec<Question>,
    found: Vec<IpAddr>,
    /// The host whose addresses are being looked up.
    looking_up: Option<Host>,
    /// Where it is connected or connecting.
    target: Option<Target>,
    session: Option<Session>,
    tls: Option<TlsSession>,
    load: Option<Box<Load>>,
    /// What kept it from getting through, last.
    trouble: Option<Trouble>,
    deadline: Option<Instant>,
    timer: Option<Instant>,
    arrived: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
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
struct Host {
    name: Domain,
    /// An address where the route names one.
    address: Option<IpAddr>,
    port: u16,
    tls: Tls,
    login: Option<Login>,
    /// Whether the configuration names it, so that loopback is meant.
    configured: bool,
}

/// An address to be tried.
#[derive(Clone)]
struct Target {
    host: Host,
    to: SocketAddr,
}

/// Why a courier did not get through.
#[derive(Clone, Debug)]
struct Trouble {
    status: EnhancedCode,
    text: String,
}

/// The message that a courier carries.
struct Load {
    id: QueueId,
    size: u64,
    /// Indices into the envelope's recipients.
    indices: Vec<u32>,
    /// Header fields to be sent before the body.
    fields: Vec<u8>,
    /// The body, where it is short and came with the envelope.
    body: Option<Vec<u8>>,
    sent: u64,
    reading: bool,
    dsn: Vec<bool>,
    arrived: crate::date::Timestamp,
}

impl Engine {
    /// Sets a courier out.
    pub(super) fn send_courier(&mut self, hop: HopId, name: &NextHop, now: Now) {
        self.courier_sessions += 1;
        let mut courier = Box::new(Courier {
            hop,
            stage: Stage::Searching,
            hosts: VecDeque::new(),
            targets: VecDeque::new(),
            asked: Vec::new(),
            found: Vec::new(),
            looking_up: None,
            target: None,
            session: None,
            tls: None,
            load: None,
            trouble: None,
            deadline: None,
            timer: None,
            arrived: false,
        });
        let conn = self.conns.reserve();
        match name {
            NextHop::Mx(domain) => {
                let question = Question {
                    name: domain.clone(),
                    kind: RecordKind::Mx,
                };
                match self.ask(conn, question.clone(), now) {
                    Some(answer) => return self.courier_mx(conn, courier, domain, &answer, now),
                    None => courier.asked.push(question),
                }
            }
            NextHop::Route { index } => {
                let route = self.config.routes.get(*index);
                let hosts = route.map(|route| (route.via.clone(), route.login.clone()));
                let (via, login) = hosts.unwrap_or_default();
                for via in via {
                    let tls = match via.scheme {
                        Scheme::Smtp => Tls::Opportunistic,
                        Scheme::SmtpStartTls => Tls::Required,
                        Scheme::Smtps => Tls::Active,
                    };
                    courier.hosts.push_back(Host {
                        name: via.host,
                        address: via.address,
                        port: via.port,
                        tls,
                        login: login.as_ref().map(|login| Login {
                            user: login.user.clone(),
                            password: login.password.clone(),
                        }),
                        configured: true,
                    });
                }
                return self.courier_next(conn, courier, now);
            }
        }
        self.courier_put(conn, courier);
    }

    /// The MX records are known, or known not to be.
    fn courier_mx(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        domain: &Domain,
        answer: &Answer,
        now: Now,
    ) {
        match mail_hosts(domain, answer, &self.config.hostname, &mut *self.entropy) {
            Ok(MailHosts { hosts, .. }) => {
                self.debug(|| {
                    let names: Vec<String> =
                        hosts.iter().map(|host| host.host.to_string()).collect();
                    Line::new(Level::Debug, "mx")
                        .with("domain", domain)
                        .with("hosts", names.join(","))
                });
                courier.hosts.extend(hosts.into_iter().map(|host| Host {
                    name: host.host,
                    address: None,
                    port: self.config.delivery.port,
                    tls: Tls::Opportunistic,
                    login: None,
                    configured: false,
                }));
                self.courier_next(conn, courier, now);
            }
            Err(nowhere) if nowhere.code().is_transient() => {
                courier.trouble = Some(Trouble {
                    status: nowhere.code(),
                    text: format!("{domain}: {nowhere}"),
                });
                self.courier_failed(conn, courier, now);
            }
            Err(nowhere) => {
                let text = format!("{domain}: {nowhere}");
                self.hop_refused(conn, courier, nowhere.code(), &text, now);
            }
        }
    }

    /// Tries the next address, or looks up the next host.
    fn courier_next(&mut self, conn: ConnId, mut courier: Box<Courier>, now: Now) {
        loop {
            if let Some(target) = courier.targets.pop_front() {
                return self.courier_connect(conn, courier, target, now);
            }
            let Some(host) = courier.hosts.pop_front() else {
                return self.courier_failed(conn, courier, now);
            };
            if let Some(address) = host.address {
                let to = SocketAddr::new(address, host.port);
                courier.targets.push_back(Target { host, to });
                continue;
            }
            let kinds: &[RecordKind] = match self.config.delivery.ip {
                Family::Any => &[RecordKind::Aaaa, RecordKind::A],
                Family::Ipv4 => &[RecordKind::A],
                Family::Ipv6 => &[RecordKind::Aaaa],
            };
            courier.looking_up = Some(host.clone());
            courier.found.clear();
            for kind in kinds {
                let question = Question {
                    name: host.name.clone(),
                    kind: *kind,
                };
                match self.ask(conn, question.clone(), now) {
                    Some(answer) => courier.take_addresses(&answer),
                    None => courier.asked.push(question),
                }
            }
            if !courier.asked.is_empty() {
                courier.stage = Stage::Searching;
                return self.courier_put(conn, courier);
            }
            courier.addresses_known();
        }
    }

    /// The DNS has answered.
    pub(super) fn courier_answer(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        question: &Question,
        answer: &Answer,
        now: Now,
    ) {
        let Some(at) = courier.asked.iter().position(|asked| asked == question) else {
            return self.courier_put(conn, courier);
        };
        courier.asked.swap_remove(at);
        if question.kind == RecordKind::Mx {
            return self.courier_mx(conn, courier, &question.name, answer, now);
        }
        courier.take_addresses(answer);
        if courier.asked.is_empty() {
            courier.addresses_known();
            return self.courier_next(conn, courier, now);
        }
        self.courier_put(conn, courier);
    }

    fn courier_connect(
        &mut self,
        old: ConnId,
        mut courier: Box<Courier>,
        target: Target,
        now: Now,
    ) {
        let address = target.to.ip();
        let astray = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        if astray && !target.host.configured && !self.config.delivery.loopback {
            let text = format!(
                "{} has the address {address}, which is no mail exchanger's",
                target.host.name
            );
            courier.trouble = Some(Trouble {
                status: EnhancedCode::new(4, 4, 4),
                text,
            });
            return self.courier_next(old, courier, now);
        }
        // Each connection has an id of its own: what still comes for the last one is not taken for this one's.
        let conn = self.courier_renumber(old, &courier);
        let from = match target.to {
            SocketAddr::V4(_) => self.config.delivery.bind4.map(IpAddr::V4),
            SocketAddr::V6(_) => self.config.delivery.bind6.map(IpAddr::V6),
        };
        courier.stage = Stage::Connecting;
        courier.deadline = Some(now.instant.after(CONNECT_TIMEOUT));
        courier.timer = None;
        self.actions.push_back(Action::Connect {
            conn,
            to: target.to,
            from,
        });
        courier.target = Some(target);
        self.courier_put(conn, courier);
    }

    fn courier_renumber(&mut self, old: ConnId, _courier: &Courier) -> ConnId {
        self.conns.remove(old);
        self.conns.reserve()
    }

    /// The connection stands.
    pub(super) fn courier_connected(&mut self, conn: ConnId, now: Now) {
        let mut courier = match self.conns.take(conn) {
            Some(Conn::Courier(courier)) => courier,
            Some(other) => return self.conns.put(conn, other),
            None => return,
        };
        let Some(target) = courier.target.clone() else {
            return self.courier_put(conn, courier);
        };
        if target.host.tls == Tls::Active {
            self.start_tls(conn, &mut courier, &target, now);
            return self.courier_put(conn, courier);
        }
        self.begin_session(&mut courier, &target, now);
        self.courier_put(conn, courier);
    }

    fn begin_session(&self, courier: &mut Courier, target: &Target, now: Now) {
        let session = Session::new(
            self.config.hostname.as_str(),
            target.host.tls,
            target.host.login.clone(),
        );
        courier.session = Some(session);
        courier.stage = Stage::Talking;
        courier.wait(now);
    }

    fn start_tls(&mut self, conn: ConnId, courier: &mut Courier, target: &Target, now: Now) {
        courier.stage = Stage::Handshake;
        courier.deadline = Some(now.instant.after(crate::limits::HANDSHAKE_TIMEOUT));
        // A route with a password must lead where the configuration says; an MX found in the DNS is anybody's word.
        let trust = if target.host.login.is_some() {
            Trust::Verified
        } else {
            Trust::Any
        };
        let side = TlsSide::Client {
            name: target.host.name.clone(),
            trust,
        };
        self.actions.push_back(Action::StartTls { conn, side });
    }

    /// The handshake is done.
    pub(super) fn courier_tls(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        tls: TlsSession,
        now: Now,
    ) {
        courier.tls = Some(tls);
        let mut out = Vec::new();
        match (&mut courier.session, courier.target.clone()) {
            (Some(session), _) => session.on_tls(&mut out),
            (None, Some(target)) => self.begin_session(&mut courier, &target, now),
            (None, None) => {}
        }
        courier.stage = Stage::Talking;
        courier.wait(now);
        self.send(conn, out);
        self.courier_put(conn, courier);
    }

    /// The server has said something.
    pub(super) fn courier_bytes(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        bytes: &[u8],
        now: Now,
    ) {
        let mut out = Vec::new();
        if let Some(session) = &mut courier.session {
            session.on_bytes(bytes, &mut out);
        }
        self.courier_requests(conn, courier, out, now);
    }

    /// Does what the session wants.
    fn courier_requests(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        mut out: Vec<u8>,
        now: Now,
    ) {
        courier.wait(now);
        while let Some(request) = courier.session.as_mut().and_then(Session::next_request) {
            match request {
                Request::StartTls => {
                    self.send(conn, std::mem::take(&mut out));
                    if let Some(target) = courier.target.clone() {
                        self.start_tls(conn, &mut courier, &target, now);
                    }
                }
                Request::Ready => {
                    self.send(conn, std::mem::take(&mut out));
                    if !courier.arrived {
                        self.courier_arrived(&mut courier);
                    }
                    if courier.stage != Stage::Recording {
                        return self.courier_pick(conn, courier, now);
                    }
                }
                Request::Body => self.courier_body(conn, &mut courier, &mut out),
                Request::Done(fates) => self.courier_done(conn, &mut courier, fates, now),
                Request::Refused(refusal) => {
                    self.send(conn, out);
                    return self.courier_refused(conn, courier, &refusal, now);
                }
                Request::Close => {
                    self.send(conn, out);
                    self.actions.push_back(Action::Close { conn });
                    return self.courier_over(conn, courier, now);
                }
            }
        }
        self.send(conn, out);
        self.courier_put(conn, courier);
    }

    fn courier_arrived(&mut self, courier: &mut Courier) {
        courier.arrived = true;
        self.hops.proved(courier.hop);
        let mut line = Line::new(Level::Debug, "connected");
        if let Some(target) = &courier.target {
            line = line
                .with("host", &target.host.name)
                .with("address", target.to);
        }
        self.log(line.with("tls", tls_text(courier.tls.as_ref())));
    }

    /// Takes the next message that is due, or waits for one, or goes home.
    fn courier_pick(&mut self, conn: ConnId, mut courier: Box<Courier>, now: Now) {
        let sent = courier.session.as_ref().map_or(0, Session::messages);
        if self.stopping || sent >= CLIENT_MESSAGES_MAX || self.is_recording_stuck() {
            return self.courier_quit(conn, courier, now);
        }
        while let Some(id) = self.hops.pop_ready(courier.hop) {
            let Some(entry) = self.index.get_mut(id) else {
                continue;
            };
            if entry.held {
                continue;
            }
            let indices: Vec<usize> = entry.waiting_for(courier.hop).collect();
            if indices.is_empty() {
                continue;
            }
            for at in &indices {
                if let Some(state) = entry.recipients.get_mut(*at) {
                    state.phase = Phase::InFlight;
                }
            }
            let location = entry.location;
            // What is short is read whole, and goes out with its dot in one write.
            let short = !location.body_is_file() && entry.size <= u64::from(BLOCK_BYTES);
            let part = if short { Part::Whole } else { Part::Head };
            courier.load = Some(Box::new(Load {
                id,
                size: entry.size,
                indices: indices
                    .into_iter()
                    .filter_map(|at| u32::try_from(at).ok())
                    .collect(),
                fields: Vec::new(),
                body: None,
                sent: 0,
                reading: true,
                dsn: Vec::new(),
                arrived: entry.arrived,
            }));
            courier.stage = Stage::Reading;
            courier.deadline = None;
            self.actions.push_back(Action::Read {
                reader: Reader::Conn(conn),
                id,
                location,
                part,
            });
            return self.courier_put(conn, courier);
        }
        courier.stage = Stage::Idle;
        courier.deadline = Some(now.instant.after(CLIENT_IDLE_TIMEOUT));
        if let Some(hop) = self.hops.get_mut(courier.hop) {
            hop.idle.push(conn);
        }
        self.courier_put(conn, courier);
    }

    /// Something is due for the hop that an idle courier is at.
    pub(super) fn courier_wake(&mut self, conn: ConnId, now: Now) {
        match self.conns.take(conn) {
            Some(Conn::Courier(courier)) => self.courier_pick(conn, courier, now),
            Some(other) => self.conns.put(conn, other),
            None => {}
        }
    }

    /// Sends an idle courier home to make room.
    pub(super) fn courier_dismiss(&mut self, conn: ConnId, now: Now) {
        match self.conns.take(conn) {
            Some(Conn::Courier(courier)) => self.courier_quit(conn, courier, now),
            Some(other) => self.conns.put(conn, other),
            None => {}
        }
    }

    /// A piece of the message was read.
    pub(super) fn courier_read(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        result: Result<Content, ReadError>,
        now: Now,
    ) {
        let mut out = Vec::new();
        match result {
            Ok(Content::Head { envelope, fields }) => {
                self.courier_begin(&mut courier, &envelope, fields, None, &mut out)
            }
            Ok(Content::Whole {
                envelope,
                fields,
                body,
            }) => {
                self.courier_begin(&mut courier, &envelope, fields, Some(body), &mut out);
            }
            Ok(Content::Body { bytes, .. }) => {
                let Some(load) = courier.load.as_mut() else {
                    return self.courier_put(conn, courier);
                };
                load.reading = false;
                load.sent = load.sent.saturating_add(bytes.len() as u64);
                let last = load.sent >= load.size || bytes.is_empty();
                if let Some(session) = courier.session.as_mut() {
                    session.on_body(&bytes, &mut out);
                    // The dot goes with the last block: one segment, no wait for an acknowledgement.
                    if last {
                        session.on_body_end(&mut out);
                    }
                }
            }
            Err(error) => return self.courier_unreadable(conn, courier, error, now),
        }
        self.courier_requests(conn, courier, out, now);
    }

    fn courier_begin(
        &mut self,
        courier: &mut Courier,
        envelope: &Envelope,
        fields: Vec<u8>,
        body: Option<Vec<u8>>,
        out: &mut Vec<u8>,
    ) {
        let (Some(load), Some(session)) = (courier.load.as_mut(), courier.session.as_mut()) else {
            return;
        };
        load.reading = false;
        let recipients: Vec<Rcpt> = load
            .indices
            .iter()
            .filter_map(|at| envelope.recipients.get(*at as usize))
            .map(|recipient| Rcpt {
                mailbox: recipient.mailbox.clone(),
                notify: recipient.notify,
                original: recipient.original.clone(),
            })
            .collect();
        load.dsn = recipients
            .iter()
            .map(|recipient| recipient.notify.wants_success())
            .collect();
        let size = load.size.saturating_add(fields.len() as u64);
        load.fields = fields;
        load.body = body;
        courier.stage = Stage::Talking;
        let mail = Mail {
            reverse_path: envelope.reverse_path.clone(),
            recipients,
            size,
            body: envelope.body,
            smtputf8: envelope.smtputf8,
            dsn_return: envelope.dsn_return,
            envelope_id: envelope.envelope_id.clone(),
        };
        session.begin(mail, out);
    }

    /// The message cannot be read: it stays queued, and an operator is told.
    fn courier_unreadable(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        error: ReadError,
        now: Now,
    ) {
        let line = Line::new(Level::Error, "unreadable")
            .with_some("id", courier.load.as_ref().map(|load| load.id))
            .with("why", error);
        self.log(line);
        if let Some(load) = courier.load.take() {
            let fate = Fate::Deferred {
                status: EnhancedCode::new(4, 3, 0),
                text: "the message cannot be read".to_owned(),
            };
            let fates = vec![fate; load.indices.len()];
            self.courier_outcome(None, &courier, *load, fates, now);
        }
        // Half a body may be out: the connection is cut, not closed in order.
        self.actions.push_back(Action::Abort { conn });
        self.courier_over(conn, courier, now);
    }

    fn courier_body(&mut self, conn: ConnId, courier: &mut Courier, out: &mut Vec<u8>) {
        let Some(load) = courier.load.as_mut() else {
            return;
        };
        let fields = std::mem::take(&mut load.fields);
        let Some(session) = courier.session.as_mut() else {
            return;
        };
        session.on_body(&fields, out);
        if let Some(body) = load.body.take() {
            session.on_body(&body, out);
            return session.on_body_end(out);
        }
        let (id, sent) = (load.id, load.sent);
        load.reading = true;
        let Some(location) = self.index.get(id).map(|entry| entry.location) else {
            return;
        };
        let part = Part::Body {
            offset: sent,
            len: BLOCK_BYTES,
        };
        self.send(conn, std::mem::take(out));
        self.actions.push_back(Action::Read {
            reader: Reader::Conn(conn),
            id,
            location,
            part,
        });
    }

    /// All output is out: the next block of the body can be read.
    pub(super) fn courier_drained(&mut self, conn: ConnId, mut courier: Box<Courier>, now: Now) {
        let wants = courier.session.as_ref().is_some_and(Session::wants_body);
        if let Some(load) = courier.load.as_mut()
            && wants
            && !load.reading
            && load.sent > 0
            && let Some(entry) = self.index.get(load.id)
        {
            load.reading = true;
            let part = Part::Body {
                offset: load.sent,
                len: BLOCK_BYTES,
            };
            let (id, location) = (load.id, entry.location);
            self.actions.push_back(Action::Read {
                reader: Reader::Conn(conn),
                id,
                location,
                part,
            });
            courier.wait(now);
        }
        self.courier_put(conn, courier);
    }

    /// The transaction is over.
    fn courier_done(&mut self, conn: ConnId, courier: &mut Courier, fates: Vec<Fate>, now: Now) {
        let Some(load) = courier.load.take() else {
            return;
        };
        courier.stage = Stage::Recording;
        if !self.courier_outcome(Some(conn), courier, *load, fates, now) {
            courier.stage = Stage::Talking;
        }
    }

    /// Turns fates into outcomes and has them written; says whether the courier has to wait for that.
    fn courier_outcome(
        &mut self,
        conn: Option<ConnId>,
        courier: &Courier,
        load: Load,
        fates: Vec<Fate>,
        now: Now,
    ) -> bool {
        let mut recipients: Vec<(u32, Outcome)> = Vec::new();
        let mut relayed: Vec<u32> = Vec::new();
        let mut again = false;
        let host = courier
            .target
            .as_ref()
            .map(|target| target.host.name.to_string());
        for (nth, (index, fate)) in load.indices.iter().zip(fates).enumerate() {
            let outcome = match fate {
                Fate::Again => {
                    again = true;
                    continue;
                }
                Fate::Delivered { text, dsn } => {
                    self.counters.delivered += 1;
                    self.log_fate("delivered", &load, *index, courier, &text, None);
                    if !dsn && load.dsn.get(nth) == Some(&true) {
                        relayed.push(*index);
                    }
                    Outcome::Delivered
                }
                Fate::Failed { status, text } => {
                    self.log_fate("failed", &load, *index, courier, &text, Some(status));
                    self.counters.failed += 1;
                    Outcome::Failed {
                        status,
                        text: text.into(),
                    }
                }
                Fate::Deferred { status, text } => {
                    self.deferral(&load, *index, courier, status, &text, now)
                }
                Fate::Unknown { text } => {
                    let text =
                        format!("{text} behind the final dot: the message may be there already");
                    self.deferral(
                        &load,
                        *index,
                        courier,
                        EnhancedCode::new(4, 4, 2),
                        &text,
                        now,
                    )
                }
            };
            recipients.push((*index, outcome));
        }
        if again {
            self.try_again(&load, &recipients, courier.hop);
        }
        if recipients.is_empty() {
            return false;
        }
        self.settle_outcomes(load.id, recipients, &relayed, host, conn, now)
    }

    /// Recipients that the server had no room for wait for another transaction, at once.
    fn try_again(&mut self, load: &Load, decided: &[(u32, Outcome)], hop: HopId) {
        if let Some(entry) = self.index.get_mut(load.id) {
            for index in load
                .indices
                .iter()
                .filter(|index| !decided.iter().any(|(at, _)| at == *index))
            {
                if let Some(state) = entry.recipients.get_mut(*index as usize) {
                    state.phase = Phase::Waiting;
                }
            }
        }
        self.make_ready(load.id, hop);
    }

    /// The outcome of an attempt that was put off: another, later; or none, if it has lasted too long.
    fn deferral(
        &mut self,
        load: &Load,
        index: u32,
        courier: &Courier,
        status: EnhancedCode,
        text: &str,
        now: Now,
    ) -> Outcome {
        let state = self
            .index
            .get(load.id)
            .and_then(|entry| entry.recipients.get(index as usize));
        let attempts = state.map_or(0, |state| state.attempts).saturating_add(1);
        if now.wall.since(load.arrived) > self.config.delivery.give_up_after {
            self.counters.failed += 1;
            self.log_fate("expired", load, index, courier, text, Some(status));
            let status = expired_status(status);
            return Outcome::Failed {
                status,
                text: format!("given up after too long: {text}").into(),
            };
        }
        self.counters.deferred += 1;
        self.log_fate("deferred", load, index, courier, text, Some(status));
        let until = now.wall.after(retry::delay(attempts, &mut *self.entropy));
        Outcome::Deferred {
            attempts,
            until,
            status: Some(status),
            text: Arc::from(text),
        }
    }

    fn log_fate(
        &mut self,
        event: &str,
        load: &Load,
        index: u32,
        courier: &Courier,
        text: &str,
        status: Option<EnhancedCode>,
    ) {
        let level = if event == "delivered" {
            Level::Info
        } else {
            Level::Warning
        };
        let mut line = Line::new(level, event)
            .with("id", load.id)
            .with("rcpt", index)
            .with_some("status", status);
        if let Some(target) = &courier.target {
            line = line
                .with("host", &target.host.name)
                .with("address", target.to.ip());
        }
        self.log(
            line.with("tls", tls_text(courier.tls.as_ref()))
                .with("reply", text),
        );
    }

    /// The outcome is on the disk (or waits for the disk): the courier may go on.
    pub(super) fn courier_recorded(&mut self, conn: ConnId, now: Now) {
        let mut courier = match self.conns.take(conn) {
            Some(Conn::Courier(courier)) => courier,
            Some(other) => return self.conns.put(conn, other),
            None => return,
        };
        if courier.stage == Stage::Recording {
            courier.stage = Stage::Talking;
            return self.courier_pick(conn, courier, now);
        }
        self.courier_put(conn, courier);
    }

    /// The server, before any message: it cannot be used.
    fn courier_refused(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        refusal: &Refusal,
        now: Now,
    ) {
        let host = courier
            .target
            .as_ref()
            .map_or_else(String::new, |target| target.host.name.to_string());
        let (status, text) = match refusal {
            Refusal::Reply(reply) => (reply.status(), format!("{host}: {}", reply.to_text())),
            Refusal::NoTls => (
                EnhancedCode::new(4, 7, 10),
                format!("{host} does not offer the TLS that is owed"),
            ),
            Refusal::Protocol(_) => (
                EnhancedCode::new(4, 5, 0),
                format!("{host} sent something that is no SMTP reply"),
            ),
            Refusal::Injection => (
                EnhancedCode::new(4, 7, 5),
                format!("{host} sent bytes behind its reply to STARTTLS"),
            ),
            Refusal::Ourselves => (
                EnhancedCode::new(5, 4, 6),
                format!("{host} is this host, which does not take the mail: a loop"),
            ),
            Refusal::NoAuth => (
                EnhancedCode::new(4, 7, 0),
                format!("{host} does not offer AUTH PLAIN or LOGIN"),
            ),
        };
        courier.trouble = Some(Trouble { status, text });
        self.actions.push_back(Action::Close { conn });
        courier.session = None;
        courier.tls = None;
        self.courier_next(conn, courier, now);
    }

    /// The connection is gone, or never stood.
    pub(super) fn courier_lost(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        cause: &Lost,
        now: Now,
    ) {
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
        self.courier_broken(conn, &mut courier, status, &what, now);
        if courier.arrived {
            return self.courier_over(conn, courier, now);
        }
        let retry_in_clear = match (&courier.target, cause) {
            (Some(target), Lost::Tls(_)) => target.host.tls == Tls::Opportunistic,
            _ => false,
        };
        courier.session = None;
        courier.tls = None;
        if retry_in_clear && let Some(mut target) = courier.target.take() {
            // RFC 7435: what cannot be had encrypted is sent in clear, as it would be had TLS not been offered.
            let line = Line::new(Level::Info, "tls-failed")
                .with("side", "client")
                .with("host", &target.host.name);
            self.log(line.with("why", &what));
            target.host.tls = Tls::Avoided;
            courier.targets.push_front(target);
        } else {
            let place = courier.target.as_ref().map_or_else(String::new, |target| {
                format!("{} [{}]: ", target.host.name, target.to.ip())
            });
            courier.trouble = Some(Trouble {
                status,
                text: format!("{place}{what}"),
            });
        }
        self.courier_next(conn, courier, now);
    }

    /// Gives the message that was under way its fate.
    fn courier_broken(
        &mut self,
        _conn: ConnId,
        courier: &mut Courier,
        status: EnhancedCode,
        what: &str,
        now: Now,
    ) {
        if let Some(session) = courier.session.as_mut() {
            session.on_lost(what);
            while let Some(request) = session.next_request() {
                if let (Request::Done(fates), Some(load)) = (request, courier.load.take()) {
                    self.courier_outcome(None, courier, *load, fates, now);
                    return;
                }
            }
        }
        if let Some(load) = courier.load.take() {
            // It was taken, and nothing of it was said.
            let fate = Fate::Deferred {
                status,
                text: what.to_owned(),
            };
            let fates = vec![fate; load.indices.len()];
            self.courier_outcome(None, courier, *load, fates, now);
        }
    }

    /// A deadline may have passed.
    pub(super) fn courier_expired(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        at: Instant,
        now: Now,
    ) {
        if courier.timer == Some(at) {
            courier.timer = None;
        }
        match courier.deadline {
            Some(deadline) if deadline <= now.instant => {}
            _ => return self.courier_put(conn, courier),
        }
        match courier.stage {
            Stage::Idle => self.courier_quit(conn, courier, now),
            Stage::Searching | Stage::Reading | Stage::Recording => {
                courier.deadline = None;
                self.courier_put(conn, courier);
            }
            Stage::Connecting | Stage::Handshake | Stage::Talking => {
                self.actions.push_back(Action::Abort { conn });
                let (status, what) = (EnhancedCode::new(4, 4, 2), "no answer in time");
                self.courier_broken(conn, &mut courier, status, what, now);
                if courier.arrived {
                    return self.courier_over(conn, courier, now);
                }
                let place = courier.target.as_ref().map_or_else(String::new, |target| {
                    format!("{} [{}]: ", target.host.name, target.to.ip())
                });
                courier.trouble = Some(Trouble {
                    status: EnhancedCode::new(4, 4, 1),
                    text: format!("{place}{what}"),
                });
                courier.session = None;
                courier.tls = None;
                self.courier_next(conn, courier, now);
            }
        }
    }

    /// Says QUIT and does not wait for the answer.
    fn courier_quit(&mut self, conn: ConnId, mut courier: Box<Courier>, now: Now) {
        let mut out = Vec::new();
        if let Some(session) = courier.session.as_mut() {
            session.quit(&mut out);
        }
        self.send(conn, out);
        self.actions.push_back(Action::Close { conn });
        self.courier_over(conn, courier, now);
    }

    /// The daemon stops: what is being sent may finish, the rest goes home.
    pub(super) fn courier_stop(&mut self, conn: ConnId, courier: Box<Courier>, now: Now) {
        match courier.stage {
            Stage::Talking if courier.load.is_some() => self.courier_put(conn, courier),
            Stage::Reading | Stage::Recording => self.courier_put(conn, courier),
            Stage::Idle => self.courier_quit(conn, courier, now),
            Stage::Searching => self.courier_over(conn, courier, now),
            Stage::Connecting | Stage::Handshake | Stage::Talking => {
                self.actions.push_back(Action::Abort { conn });
                self.courier_over(conn, courier, now);
            }
        }
    }

    /// A courier is done, whatever the reason; its connection is closed already.
    fn courier_over(&mut self, conn: ConnId, courier: Box<Courier>, _now: Now) {
        self.conns.remove(conn);
        self.courier_sessions = self.courier_sessions.saturating_sub(1);
        self.hops.courier_gone(courier.hop, conn, !courier.arrived);
        if self.courier_sessions.saturating_add(1) >= self.config.delivery.sessions {
            self.hops.touch_waiting();
        }
    }

    /// No host could be used.
    fn courier_failed(&mut self, conn: ConnId, courier: Box<Courier>, now: Now) {
        let trouble = courier.trouble.clone().unwrap_or_else(|| Trouble {
            status: EnhancedCode::new(4, 4, 1),
            text: "no address of the next hop is known".to_owned(),
        });
        if !trouble.status.is_transient() {
            return self.hop_refused(conn, courier, trouble.status, &trouble.text, now);
        }
        let hop = courier.hop;
        self.courier_over(conn, courier, now);
        self.pause_hop(hop, &trouble.text, now);
    }

    /// The next hop will never take anything, or has refused us as a whole: fails the oldest message that waits, and
    /// the others as they come up.
    fn hop_refused(
        &mut self,
        conn: ConnId,
        courier: Box<Courier>,
        status: EnhancedCode,
        text: &str,
        now: Now,
    ) {
        let hop = courier.hop;
        self.courier_over(conn, courier, now);
        while let Some(id) = self.hops.pop_ready(hop) {
            let Some(entry) = self.index.get_mut(id) else {
                continue;
            };
            if entry.held {
                continue;
            }
            let recipients = close_waiting(entry, hop, status, text);
            if recipients.is_empty() {
                continue;
            }
            self.counters.failed += recipients.len() as u64;
            self.log(
                Line::new(Level::Warning, "failed")
                    .with("id", id)
                    .with("status", status)
                    .with("why", text),
            );
            self.settle_outcomes(id, recipients, &[], None, None, now);
            return;
        }
    }

    /// Gives up what waits of a message for a hop.
    pub(super) fn give_up(&mut self, id: QueueId, hop: HopId, why: &str, now: Now) {
        let Some(entry) = self.index.get_mut(id) else {
            return;
        };
        let text = format!("given up after too long: {why}");
        let recipients = close_waiting(entry, hop, EnhancedCode::new(5, 4, 7), &text);
        self.counters.failed += recipients.len() as u64;
        self.log(
            Line::new(Level::Warning, "expired")
                .with("id", id)
                .with("why", why),
        );
        if !recipients.is_empty() {
            self.settle_outcomes(id, recipients, &[], None, None, now);
        }
    }

    /// Has outcomes written: behind a notification, where one is owed. Says whether a courier has to wait.
    pub(super) fn settle_outcomes(
        &mut self,
        id: QueueId,
        recipients: Vec<(u32, Outcome)>,
        relayed: &[u32],
        host: Option<String>,
        courier: Option<ConnId>,
        now: Now,
    ) -> bool {
        let done = self.closes(id, &recipients);
        let record = OutcomeRecord {
            id,
            at: now.wall,
            recipients,
            warned: false,
            done,
        };
        let failed = record
            .recipients
            .iter()
            .any(|(_, outcome)| matches!(outcome, Outcome::Failed { .. }));
        if failed || !relayed.is_empty() {
            self.notify(record, relayed, host, now);
            return false; // the notification takes the time it takes; the courier goes on
        }
        self.record_outcome(record, courier);
        true
    }

    fn courier_put(&mut self, conn: ConnId, mut courier: Box<Courier>) {
        if let Some(deadline) = courier.deadline
            && courier.timer.is_none_or(|timer| timer > deadline)
        {
            courier.timer = Some(deadline);
            self.timers.set(deadline, Timer::Conn(conn));
        }
        self.conns.put(conn, Conn::Courier(courier));
    }
}

impl Courier {
    /// Waits as long as the session says from now on.
    fn wait(&mut self, now: Now) {
        self.deadline = self
            .session
            .as_ref()
            .and_then(Session::timeout)
            .map(|timeout| now.instant.after(timeout));
    }

    fn take_addresses(&mut self, answer: &Answer) {
        match &answer.records {
            Ok(records) => match records.as_ref() {
                Records::A(addresses) => {
                    self.found.extend(addresses.iter().copied().map(IpAddr::V4))
                }
                Records::Aaaa(addresses) => {
                    self.found.extend(addresses.iter().copied().map(IpAddr::V6))
                }
                _ => {}
            },
            Err(error) => {
                if let Some(host) = &self.looking_up {
                    let text = format!("{} has no address: {error:?}", host.name);
                    let status = if error.is_temporary() {
                        EnhancedCode::new(4, 4, 3)
                    } else {
                        EnhancedCode::new(4, 4, 4)
                    };
                    self.trouble = Some(Trouble { status, text });
                }
            }
        }
    }

    /// All addresses of the host are known: both families take turns, IPv6 first.
    fn addresses_known(&mut self) {
        let Some(host) = self.looking_up.take() else {
            return;
        };
        let found = std::mem::take(&mut self.found);
        let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv6);
        let (mut six, mut four) = (six.into_iter(), four.into_iter());
        let mut room = ADDRESSES_PER_HOST_MAX;
        loop {
            let pair = [six.next(), four.next()];
            if pair.iter().all(Option::is_none) || room == 0 {
                return;
            }
            for address in pair.into_iter().flatten() {
                if room > 0 {
                    room = room.saturating_sub(1);
                    let to = SocketAddr::new(address, host.port);
                    self.targets.push_back(Target {
                        host: host.clone(),
                        to,
                    });
                }
            }
        }
    }
}

/// Closes what waits of a message for a hop with one failure for all.
fn close_waiting(
    entry: &mut crate::queue::Queued,
    hop: HopId,
    status: EnhancedCode,
    text: &str,
) -> Vec<(u32, Outcome)> {
    let mut recipients = Vec::new();
    for (at, state) in entry.recipients.iter_mut().enumerate() {
        if state.hop == hop && state.phase == Phase::Waiting {
            state.phase = Phase::InFlight;
            let outcome = Outcome::Failed {
                status: status.as_permanent(),
                text: text.into(),
            };
            recipients.push((u32::try_from(at).unwrap_or(u32::MAX), outcome));
        }
    }
    recipients
}

/// What a transient status becomes once it has lasted too long: 4.4.7 says "delivery time expired".
fn expired_status(status: EnhancedCode) -> EnhancedCode {
    let plain = status == EnhancedCode::new(4, 0, 0) || status == EnhancedCode::new(4, 4, 1);
    if plain {
        EnhancedCode::new(5, 4, 7)
    } else {
        status.as_permanent()
    }
}

fn tls_text(tls: Option<&TlsSession>) -> String {
    match tls {
        None => "none".to_owned(),
        Some(tls) if tls.verified => format!("{}:{}:verified", tls.version, tls.cipher),
        Some(tls) => format!("{}:{}", tls.version, tls.cipher),
    }
}

/// Bytes of a body that are read and sent at a time.
const BLOCK_BYTES: u32 = 64 * 1024;
