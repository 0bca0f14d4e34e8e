//! Sessions that come in: the SMTP server's end, with who is at the other side and what it may do.
//!
//! The session machine asks ([`Request`]), this file answers from policy at once, or later when a worker or the disk
//! has answered.

mod abuse;
mod authentication;
mod holding;
mod hook;
mod message;
mod opening;
mod room;
mod verdict;
mod verification;

use std::net::IpAddr;
use std::time::Duration;

use super::auth::Exchange;
use super::event::{Action, ConnId, Listener, Lost, Peer, TlsSession, TlsSide};
use super::intake::Intake;
use super::log::{Level, Line};
use super::timers::Timer;
use super::{Conn, Engine};
use crate::address::{Mailbox, ReversePath};
use crate::clock::{Instant, Now};
use crate::dns::{Answer, Question};
use crate::envelope::Recipient;
use crate::limits::{
    BODY_IN_FLIGHT_BYTES_MAX, COMMAND_LINE_BYTES_MAX, DATA_RATE_BYTES_MIN, HANDSHAKE_TIMEOUT,
    OUTPUT_BYTES_MAX, READ_TURN_BYTES_MAX, REQUESTS_PER_TURN_MAX, SESSION_KEPT_BYTES,
    SESSION_TIMEOUT, UNAUTHENTICATED_SESSION_TIMEOUT,
};
use crate::policy::authority::{Door, Grant, Grants};
use crate::policy::rates::Claim;
use crate::policy::shares::{Holder, Resource};
use crate::queue::MessageRecord;
use crate::smtp::command::ForwardPath;
use crate::smtp::proxy::HeaderReader;
use crate::smtp::reply::Reply;
use crate::smtp::server::{Request, Session};

pub(super) use abuse::Strangers;
use abuse::{Guard, Verdict};
use authentication::Checking;
use holding::Holding;
use hook::Hooking;
pub(super) use hook::{Asking, Hooks};
pub(super) use room::Crowd;
use room::Places;
pub(super) use verification::Verifications;

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
    /// Whether there is so much output that no input is read before it is out.
    is_full: bool,
    /// Bytes of the body that the session gave out in this turn.
    body: Vec<u8>,
    intake: Option<Box<Intake>>,
    checking: Option<Box<Checking>>,
    hooking: Option<Box<Hooking>>,
    signing: Option<Box<Signing>>,
    /// What the recipients that were accepted rest on.
    grants: Grants,
    /// Return addresses of which the message has taken a use.
    used: Vec<u64>,
    /// The recipients as the client named them, where a hook is told.
    named: Vec<String>,
    /// Refusals that have their line in the log, and are on their way to the client.
    noted: Vec<Reply>,
    /// Bytes of the recipients of the message, until it is on the disk or given up.
    recipient_bytes: usize,
    opened: Instant,
    /// When it last did something: a command that ended, a piece of a body.
    touched: Instant,
    body_began: Instant,
    body_bytes: u64,
    deadline: Option<Instant>,
    timer: Option<Instant>,
    /// Until when an answer to AUTH is held back.
    held_until: Option<Instant>,
    /// What it holds of what is scarce.
    holding: Holding,
    /// Bytes of output that its peer has not taken.
    pending: usize,
    /// Its message was counted for whoever submits it, and is not on its way to the disk yet.
    claimed: Option<Claim>,
    /// Whether it holds more memory than its share, or there is little for its like.
    is_over: bool,
    /// Its places among those who can make room.
    places: Places,
    opening: Opening,
    /// The address that the session is counted for.
    counted: Option<IpAddr>,
    /// What is known of a stranger on port 25.
    guard: Option<Box<Guard>>,
}

/// What comes before the banner.
enum Opening {
    /// The proxy has to say who the client is.
    Proxy(HeaderReader),
    /// The banner is held back.
    Silent,
    /// It was sent, or waits for TLS.
    Over,
}

/// A recipient that is accepted, unless the client is refused for something else.
struct Accepted {
    /// Who gets the message.
    recipients: Vec<Recipient>,
    /// What they rest on.
    grant: Grant,
    /// The forward-path as it was named, where a hook is told.
    named: Option<String>,
}

impl Accepted {
    /// Bytes that it holds.
    fn memory(&self) -> usize {
        let recipients = self.recipients.iter().map(Recipient::memory);
        let named = self.named.as_ref().map_or(0, String::len);
        recipients.fold(named, usize::saturating_add)
    }
}

/// A message that waits for its signatures.
struct Signing {
    record: MessageRecord,
    size: u64,
}

impl Inbound {
    /// Whether bytes may be read for it now.
    pub(super) fn wants_input(&self) -> bool {
        let stalled = self
            .intake
            .as_ref()
            .is_some_and(|intake| intake.in_flight() > self.in_flight_max());
        !matches!(self.opening, Opening::Over)
            || (self.session.wants_input() && !stalled && !self.is_full)
    }

    /// Bytes of a streamed body that may be on their way to the disk.
    fn in_flight_max(&self) -> usize {
        match self.is_over {
            true => READ_TURN_BYTES_MAX,
            false => BODY_IN_FLIGHT_BYTES_MAX,
        }
    }

    /// Bytes of input and output that wait for somebody.
    fn waits_with(&self) -> usize {
        self.kept.len().saturating_add(self.pending)
    }

    /// Whether nothing can be said: TLS was begun and is not there yet, or who is there is not known.
    fn is_mute(&self) -> bool {
        matches!(self.opening, Opening::Proxy(_))
            || self.session.is_awaiting_tls()
            || self.listener == Listener::Submissions && self.tls.is_none()
    }

    /// The address of the peer, where it has one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.peer {
            Peer::Network { remote, .. } => Some(remote.ip().to_canonical()),
            Peer::Process { .. } => None,
        }
    }

    /// Who is charged for what it uses.
    pub(super) const fn holder(&self) -> Holder {
        self.holding.holder()
    }

    /// The port by which the client came.
    fn door(&self) -> Door {
        match self.listener {
            Listener::Proxy => Door::Proxy,
            _ => Door::Direct,
        }
    }

    /// Whether this is a session of port 25.
    fn is_relay_port(&self) -> bool {
        matches!(self.listener, Listener::Smtp | Listener::Proxy)
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

    /// Bytes that it can stream out.
    fn can_stream(&self) -> usize {
        let intake = self.intake.as_ref().map(|intake| intake.can_stream());
        let checking = || self.checking.as_ref().map(|checking| checking.can_stream());
        intake.or_else(checking).unwrap_or(0)
    }

    /// Bytes that it can lose: nothing while its message is stored.
    fn can_lose(&self) -> usize {
        let is_stored =
            self.session.timeout().is_none() && self.checking.is_none() && self.hooking.is_none();
        if is_stored { 0 } else { self.memory() }
    }

    /// Whether its message is on its way to the disk: it may be queued whatever becomes of the session, so that its client
    /// has to hear the answer.
    fn awaits_disk(&self) -> bool {
        let is_still_here = self.intake.is_some()
            || self.checking.is_some()
            || self.hooking.is_some()
            || self.signing.is_some();
        self.session.is_busy() && self.session.timeout().is_none() && !is_still_here
    }

    /// Bytes that it holds, without those on their way to the disk.
    fn memory(&self) -> usize {
        let intake = self.intake.as_ref().map_or(0, |intake| intake.memory());
        let signing = self.signing.as_ref();
        let signing = signing.map_or(0, |signing| signing.record.held());
        let checking = self
            .checking
            .as_ref()
            .map_or(0, |checking| checking.memory());
        let hooking = self.hooking.as_ref().map_or(0, |hooking| hooking.memory());
        self.kept
            .capacity()
            .saturating_add(checking)
            .saturating_add(hooking)
            .saturating_add(self.body.capacity())
            .saturating_add(intake)
            .saturating_add(signing)
            .saturating_add(self.recipient_bytes)
            .saturating_add(self.pending)
    }
}

impl Engine {
    /// Bytes came in.
    pub(super) fn inbound_bytes(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        bytes: &[u8],
        now: Now,
    ) {
        match inbound.opening {
            Opening::Proxy(_) => return self.proxy_bytes(conn, inbound, bytes, now),
            Opening::Silent => return self.refuse_early_talker(conn, inbound, now),
            Opening::Over => {}
        }
        if inbound.session.is_in_body() {
            inbound.body_bytes = inbound.body_bytes.saturating_add(bytes.len() as u64);
        }
        if inbound.kept.is_empty() {
            self.inbound_drive(conn, inbound, bytes, now);
        } else {
            let mut kept = zeroize::Zeroizing::new(std::mem::take(&mut inbound.kept));
            kept.extend_from_slice(bytes);
            self.inbound_drive(conn, inbound, &kept, now);
        }
    }

    /// The DNS has answered.
    pub(super) fn inbound_answer(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        question: &Question,
        answer: &Answer,
        now: Now,
    ) {
        let mut out = Vec::new();
        self.stranger_answer(conn, &mut inbound, question, answer, &mut out, now);
        if inbound.checking.is_some() {
            return self.examination_answer(conn, inbound, question, answer, now);
        }
        if out.is_empty() && inbound.held_until.is_none() {
            return self.inbound_put(conn, inbound);
        }
        self.inbound_resume(conn, inbound, out, now);
    }

    /// All output is out: what was kept because there was too much of it is read.
    pub(super) fn inbound_drained(&mut self, conn: ConnId, mut inbound: Box<Inbound>, now: Now) {
        inbound.pending = 0;
        if std::mem::take(&mut inbound.is_full) {
            return self.inbound_resume(conn, inbound, Vec::new(), now);
        }
        self.inbound_put(conn, inbound);
    }

    /// Goes on with what was kept, once an answer is in.
    fn inbound_resume(&mut self, conn: ConnId, mut inbound: Box<Inbound>, out: Vec<u8>, now: Now) {
        let kept = zeroize::Zeroizing::new(std::mem::take(&mut inbound.kept));
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
        let mut requests = 0_usize;
        loop {
            let mut body = std::mem::take(&mut inbound.body);
            let request = inbound
                .session
                .advance(&mut input, &self.settings, &mut out, &mut body);
            if !body.is_empty() {
                inbound.touched = now.instant;
                self.intake_take(conn, &mut inbound, &mut body, now);
            }
            body.clear();
            inbound.body = if body.capacity() > KEPT_CAPACITY_BYTES_MAX {
                Vec::new()
            } else {
                body
            };
            let Some(request) = request else { break };
            inbound.touched = now.instant;
            match request {
                Request::Close => {
                    self.answer(conn, &mut inbound, out);
                    return self.inbound_close(conn, *inbound);
                }
                Request::RefuseAndClose(reply) => {
                    self.note_refusal(&mut inbound, "message", "", Some(&reply), now);
                    self.answer(conn, &mut inbound, out);
                    return self.inbound_close(conn, *inbound);
                }
                Request::StartTls => {
                    // What was sent behind STARTTLS was sent in clear, by whomever: it is dropped with `input`.
                    self.answer(conn, &mut inbound, std::mem::take(&mut out));
                    self.actions.push_back(Action::StartTls {
                        conn,
                        side: TlsSide::Server,
                    });
                    inbound.deadline = Some(now.instant.after(HANDSHAKE_TIMEOUT));
                    return self.inbound_put(conn, inbound);
                }
                request => self.inbound_request(conn, &mut inbound, request, &mut out, now),
            }
            requests = requests.saturating_add(1);
            // The rest has its turn once these replies are out.
            let is_long = requests >= REQUESTS_PER_TURN_MAX && !out.is_empty();
            if is_long || out.len() > OUTPUT_BYTES_MAX {
                inbound.is_full = true;
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
        self.answer(conn, &mut inbound, out);
        if inbound.is_slowed() && inbound.kept.len() > COMMAND_LINE_BYTES_MAX {
            return self.inbound_end(conn, inbound, &Reply::TOO_MANY_ERRORS);
        }
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
        let whole = match inbound.listener {
            Listener::Submission | Listener::Submissions if inbound.login.is_none() => {
                UNAUTHENTICATED_SESSION_TIMEOUT
            }
            _ => SESSION_TIMEOUT,
        };
        let end = inbound
            .opened
            .after(whole)
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
        let is_over = self.account(&mut inbound);
        if is_over && inbound.waits_with() > SESSION_KEPT_BYTES && !inbound.awaits_disk() {
            return self.inbound_crowded_out(conn, inbound, &Reply::NO_ROOM_FOR_SESSION);
        }
        self.join_crowd(conn, &mut inbound);
        self.conns.put(conn, Conn::Inbound(inbound));
    }

    /// Output that is sent and has not been taken counts as the session's.
    fn answer(&mut self, conn: ConnId, inbound: &mut Inbound, out: Vec<u8>) {
        self.note_refusals(inbound);
        inbound.pending = inbound.pending.saturating_add(out.len());
        self.send(conn, out);
    }

    /// A session has to go, to make room for others.
    fn inbound_crowded_out(&mut self, conn: ConnId, mut inbound: Box<Inbound>, reply: &Reply) {
        self.counters.throttled += 1;
        self.log(
            Line::new(Level::Info, "reject")
                .with("peer", inbound.peer_text())
                .with_some("user", inbound.login.as_ref())
                .with("what", "session")
                .with("code", reply.code())
                .with("why", reply.text()),
        );
        inbound.noted.push(reply.clone());
        // A little may be an answer that was given just now: it is written before the end. More is what its peer does not
        // take.
        if inbound.pending <= SESSION_KEPT_BYTES {
            return self.inbound_end(conn, inbound, reply);
        }
        self.actions.push_back(Action::Abort { conn });
        self.inbound_forget(conn, *inbound);
    }

    /// Says a last reply and closes; inside a handshake nothing can be said.
    fn inbound_end(&mut self, conn: ConnId, mut inbound: Box<Inbound>, reply: &Reply) {
        if inbound.is_mute() {
            self.actions.push_back(Action::Abort { conn });
            return self.inbound_forget(conn, *inbound);
        }
        let mut out = Vec::new();
        inbound.session.end(reply, &mut out);
        self.answer(conn, &mut inbound, out);
        self.inbound_close(conn, *inbound);
    }

    fn inbound_close(&mut self, conn: ConnId, inbound: Inbound) {
        self.actions.push_back(Action::Close { conn });
        self.inbound_forget(conn, inbound);
    }

    /// The connection is gone.
    pub(super) fn inbound_lost(&mut self, conn: ConnId, inbound: Inbound, cause: &Lost, _now: Now) {
        if let Lost::Tls(text) = cause {
            let line = Line::new(Level::Info, "tls-failed")
                .with("side", "server")
                .with("peer", inbound.peer_text())
                .with("why", text);
            self.log(self.of_client(inbound.address(), line));
        }
        self.inbound_forget(conn, inbound);
    }

    fn inbound_forget(&mut self, conn: ConnId, mut inbound: Inbound) {
        self.drop_body(&mut inbound);
        self.leave_crowd(conn, &mut inbound);
        if let Some(address) = inbound.counted {
            self.logins.peers.close(address);
        }
        inbound.holding.give_all(&mut self.shares);
        if let Some(holder) = self.logins.forget(conn) {
            self.shares.of_mut(Resource::Derivations).give(holder, 1);
        }
        self.conns.remove(conn);
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
        self.answer(conn, &mut inbound, out);
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
        if let Opening::Silent = inbound.opening {
            self.greet(conn, &mut inbound, now);
            return self.inbound_put(conn, inbound);
        }
        if let Some(verdict) = inbound.take_held() {
            inbound.held_until = None;
            let mut out = Vec::new();
            self.tell_now(&mut inbound, verdict, &mut out);
            return self.inbound_resume(conn, inbound, out, now);
        }
        if let Some(step) = inbound.exchange.as_mut().and_then(Exchange::take_delayed) {
            inbound.held_until = None;
            return self.finish_auth(conn, inbound, step, now);
        }
        self.log(Line::new(Level::Info, "timeout").with("peer", inbound.peer_text()));
        inbound.noted.push(Reply::TIMEOUT);
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
            Request::Hello { name } => self.hello_request(inbound, &name, out, now),
            Request::Sender { from, size } => {
                inbound.body_began = now.instant;
                inbound.grants = Grants::default();
                inbound.named.clear();
                inbound.recipient_bytes = 0;
                let verdict = self
                    .sender_verdict(inbound, &from, size, now)
                    .and_then(|()| self.may_begin(inbound, now));
                let refusal = verdict.as_ref().err();
                self.note_refusal(inbound, "sender", from.as_str(), refusal, now);
                self.tell(inbound, Verdict::Sender(verdict), out, now);
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
                let verdict = self
                    .recipient_verdict(inbound, &to, notify, original, now)
                    .map(|(grant, recipients)| Accepted {
                        recipients,
                        grant,
                        named: self.config.hook.then(|| shown.clone()),
                    });
                self.recipient_request(inbound, shown, verdict, out, now);
            }
            Request::Authenticate { mechanism, initial } => {
                self.begin_auth(conn, inbound, &mechanism, initial, out, now);
            }
            Request::Respond(response) => self.continue_auth(conn, inbound, response, out, now),
            Request::BeginBody => {
                let verdict = self.room_verdict(inbound.holding.holder(), None);
                if verdict.is_ok() {
                    let sender = inbound.session.reverse_path();
                    let sender = sender.and_then(ReversePath::mailbox).cloned();
                    let id = self.ids.next(now.wall);
                    inbound.intake = Some(Box::new(Intake::new(id, sender)));
                    inbound.body_began = now.instant;
                    inbound.body_bytes = 0;
                }
                self.note_refusal(inbound, "message", "", verdict.as_ref().err(), now);
                inbound.session.on_body_ready(verdict, &self.settings, out);
            }
            Request::Store(transaction) => {
                if let Err(reply) = self.message_whole(conn, inbound, *transaction, now) {
                    self.note_refusal(inbound, "message", "", Some(&reply), now);
                    self.drop_body(inbound);
                    self.settle_returns(inbound, &reply);
                    inbound.session.on_stored(&reply, out);
                }
            }
            Request::Forget => self.drop_body(inbound),
            Request::Refuse(reply) => {
                self.note_refusal(inbound, "message", "", Some(&reply), now);
                self.drop_body(inbound);
            }
            // They are handled by the caller, who owns the connection.
            Request::Close | Request::RefuseAndClose(_) | Request::StartTls => {}
        }
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

/// Capacity that a session keeps between two pieces of a body.
const KEPT_CAPACITY_BYTES_MAX: usize = 0;
