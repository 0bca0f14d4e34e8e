//! Leaves a host: because it refuses, disconnects or times out, or because the session has nothing more to send there.

use super::load::Heard;
use super::meaning::{INJECTED, meaning, meaning_of_end};
use super::session::{Delivery, DeliverySession, Reach, State};
use crate::cause::QuotedWords;
use crate::clock::Instant;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Lost};
use crate::engine::log::{Level, Line};
use crate::smtp::client::{
    ClientRequest, RecipientResult, RefusalScope, Session, SessionRefusal, TlsPolicy,
};
use crate::status::EnhancedCode;

impl Delivery {
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
        refusal: &SessionRefusal,
        fx: &mut Effects,
    ) {
        // As a handshake that fails.
        if *refusal == SessionRefusal::Injection {
            let (status, what) = (EnhancedCode::new(4, 7, 5), INJECTED);
            fx.actions.push_back(Action::Close { conn });
            self.settle_broken(conn, &mut delivery, status, &QuotedWords::ours(what), fx);
            return self.try_elsewhere(conn, delivery, Broken::Handshake, (status, what), fx);
        }
        let (status, words) = meaning(refusal);
        self.turned_away(conn, delivery, status, &words, fx);
    }

    /// The server refused the session. The carried message goes to the next host, as if this one had not been reached.
    pub(super) fn turned_away(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        status: EnhancedCode,
        words: &QuotedWords,
        fx: &mut Effects,
    ) {
        fx.actions.push_back(Action::Close { conn });
        self.leave_host(conn, delivery, status, words, fx);
    }

    /// The same if the connection is gone already.
    fn leave_host(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        status: EnhancedCode,
        words: &QuotedWords,
        fx: &mut Effects,
    ) {
        self.settle_broken(conn, &mut delivery, status, words, fx);
        let why = delivery.cause(words.clone());
        delivery.note(status, why);
        self.advance(conn, delivery, fx);
    }

    /// The connection is gone: continues with the next host and the rest of the message, or ends.
    fn advance(&mut self, conn: ConnId, mut delivery: Box<DeliverySession>, fx: &mut Effects) {
        let recording = match delivery.state {
            State::Recording { id, .. } => Some(id),
            _ => None,
        };
        let load = delivery.leave();
        if load.is_none() && delivery.reach != Reach::Nowhere {
            return self.end_session(conn, delivery, fx);
        }
        if let Some(id) = recording {
            // The results so far are on their way to the disk, and come first.
            delivery.state = State::Recording {
                id,
                link: None,
                left: load,
            };
            return self.put_back(conn, delivery, fx);
        }
        delivery.state = State::between_hosts(load);
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
        // Between two hosts there is no connection: this one was left already, and its end does not concern the next.
        let Some(link) = delivery.state.link_mut() else {
            return self.put_back(conn, delivery, fx);
        };
        // A refusal before the end decides.
        if let Some(refusal) = link.session.on_end() {
            let (status, words) = meaning(&refusal);
            return self.leave_host(conn, delivery, status, &words, fx);
        }
        let (status, what) = meaning_of_end(cause);
        let broken = Broken::of(&delivery.state);
        self.settle_broken(
            conn,
            &mut delivery,
            status,
            &QuotedWords::ours(what.as_str()),
            fx,
        );
        self.try_elsewhere(conn, delivery, broken, (status, &what), fx);
    }

    /// Tries the same host without TLS if its handshake failed, or continues with the next.
    fn try_elsewhere(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        broken: Broken,
        (status, what): (EnhancedCode, &str),
        fx: &mut Effects,
    ) {
        let address = delivery.target().and_then(|target| target.to.ip());
        if broken == Broken::Connecting
            && let Some((hop, address)) = self.hops.get_mut(delivery.hop).zip(address)
        {
            hop.note_dead(address, fx.now.instant);
        }
        let has_tls = broken == Broken::Handshake || delivery.tls().is_some();
        match delivery.target() {
            // RFC 7435: if encryption fails, the message is sent in clear, as if TLS had not been offered. A host may
            // also disconnect or time out after the ClientHello, or refuse when the client considers the handshake
            // complete.
            Some(target)
                if has_tls
                    && delivery.reach != Reach::Here
                    && target.host.tls == TlsPolicy::Opportunistic =>
            {
                let line = Line::new(Level::Info, "tls-failed")
                    .with("side", "client")
                    .with("host", &target.host.name);
                fx.log(line.with("why", what));
                let mut target = target.clone();
                target.host.tls = TlsPolicy::Avoided;
                delivery.candidates.targets.push_front(target);
            }
            _ => {
                let why = delivery.cause(QuotedWords::ours(what));
                delivery.note(status, why);
            }
        }
        self.advance(conn, delivery, fx);
    }

    /// The session can no longer be used: records a result for the transaction in progress.
    fn settle_broken(
        &mut self,
        conn: ConnId,
        delivery: &mut DeliverySession,
        status: EnhancedCode,
        words: &QuotedWords,
        fx: &mut Effects,
    ) {
        let link = delivery.state.link_mut();
        if let Some(results) = link.and_then(|link| last_results(&mut link.session, words)) {
            return self.on_transaction_done(conn, delivery, results, fx);
        }
        let at = delivery.place();
        if let Some(load) = delivery.state.load_mut() {
            // Nothing of it was said here.
            for index in &load.indices {
                load.earlier.entry(*index).or_insert_with(|| Heard {
                    result: RecipientResult::Deferred {
                        about: RefusalScope::Host,
                        status: status.as_transient(),
                        words: words.clone(),
                    },
                    at: at.clone(),
                });
            }
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
        match delivery.state.deadline() {
            Some(deadline) if deadline <= fx.now.instant => {}
            _ => return self.put_back(conn, delivery, fx),
        }
        match delivery.state {
            State::Idle { .. } => self.quit(conn, delivery, fx),
            State::Searching { .. }
            | State::Reading { .. }
            | State::Recording { .. }
            | State::Gone => self.put_back(conn, delivery, fx),
            State::Connecting { .. } | State::Handshake { .. } | State::Talking { .. } => {
                fx.actions.push_back(Action::Abort { conn });
                let (status, what) = (EnhancedCode::new(4, 4, 2), "no answer in time");
                let broken = Broken::of(&delivery.state);
                self.settle_broken(conn, &mut delivery, status, &QuotedWords::ours(what), fx);
                self.try_elsewhere(conn, delivery, broken, (status, what), fx);
            }
        }
    }

    /// Sends QUIT and does not wait for the reply.
    pub(super) fn quit(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        let mut out = Vec::new();
        if let Some(link) = delivery.state.link_mut() {
            link.session.quit(&mut out);
        }
        fx.send(conn, out);
        fx.actions.push_back(Action::Close { conn });
        self.end_session(conn, delivery, fx);
    }

    /// The daemon stops: a message that is being sent may finish, other sessions end.
    pub(super) fn on_stop(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        match &delivery.state {
            // Only after the dot would a cut leave open whether the message was accepted.
            State::Talking { link, .. } if link.session.is_past_dot() => {
                self.put_back(conn, delivery, fx);
            }
            State::Reading { .. } | State::Recording { .. } | State::Gone => {
                self.put_back(conn, delivery, fx);
            }
            State::Idle { .. } => self.quit(conn, delivery, fx),
            State::Searching { .. } => self.give_up_for_now(conn, delivery, fx),
            State::Connecting { .. } | State::Handshake { .. } | State::Talking { .. } => {
                fx.actions.push_back(Action::Abort { conn });
                self.give_up_for_now(conn, delivery, fx);
            }
        }
    }

    /// Gives up for now: the carried message is deferred with the replies of the hosts.
    pub(super) fn give_up_for_now(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        self.defer_message(&mut delivery, fx);
        self.end_session(conn, delivery, fx);
    }

    /// Ends a delivery session for any reason; its connection is closed already.
    pub(super) fn end_session(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        debug_assert!(
            delivery.state.load().is_none(),
            "what is carried has a delivery result"
        );
        fx.conns.release(conn);
        self.hops.session_gone(delivery.hop, conn);
    }
}

/// How far a connection was when it broke.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Broken {
    /// It never stood.
    Connecting,
    /// TLS was being agreed on.
    Handshake,
    /// Later.
    Open,
}

impl Broken {
    fn of(state: &State) -> Self {
        match state {
            State::Connecting { .. } => Self::Connecting,
            State::Handshake { .. } => Self::Handshake,
            State::Searching { .. }
            | State::Talking { .. }
            | State::Reading { .. }
            | State::Recording { .. }
            | State::Idle { .. }
            | State::Gone => Self::Open,
        }
    }
}

/// The results of the transaction in progress, for a session whose connection is gone or that is left.
fn last_results(session: &mut Session, words: &QuotedWords) -> Option<Vec<RecipientResult>> {
    session.on_lost(words.as_str());
    let requests = std::iter::from_fn(|| session.next_request());
    requests
        .filter_map(|request| match request {
            ClientRequest::Done(results) => Some(results),
            _ => None,
        })
        .last()
}
