//! The end of a session: by the client, by a deadline, for lack of resources, or because the daemon stops.

use super::login::Exchange;
use super::session::{Opening, Server, ServerSession};
use crate::clock::Instant;
use crate::engine::counters::count_up;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Lost};
use crate::engine::log::{Level, Line};
use crate::limits::SESSION_KEPT_BYTES;
use crate::smtp::reply::Reply;

impl Server {
    /// Closes a session to make room for others.
    pub(super) fn evict(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        reply: &Reply,
        fx: &mut Effects,
    ) {
        count_up(&mut fx.counters.throttled, 1);
        fx.log(
            Line::new(Level::Info, "reject")
                .with("peer", inbound.peer_text())
                .with_some("user", inbound.login.as_ref())
                .with("what", "session")
                .with("code", reply.code())
                .with("why", reply.text()),
        );
        inbound.noted.push(reply.clone());
        // A little output may be a reply that was just given: it is written before the end. More is output that the
        // peer does not read.
        if inbound.buffers.pending <= SESSION_KEPT_BYTES {
            return self.end_session(conn, inbound, reply, fx);
        }
        fx.actions.push_back(Action::Abort { conn });
        self.forget_session(conn, *inbound, fx);
    }

    /// Sends a last reply and closes; during a handshake nothing can be sent.
    pub(super) fn end_session(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        reply: &Reply,
        fx: &mut Effects,
    ) {
        if inbound.is_mute() {
            fx.actions.push_back(Action::Abort { conn });
            return self.forget_session(conn, *inbound, fx);
        }
        let mut out = Vec::new();
        inbound.session.end(reply, &mut out);
        self.answer(conn, &mut inbound, out, fx);
        self.close_session(conn, *inbound, fx);
    }

    pub(super) fn close_session(&mut self, conn: ConnId, inbound: ServerSession, fx: &mut Effects) {
        fx.actions.push_back(Action::Close { conn });
        self.forget_session(conn, inbound, fx);
    }

    /// The connection is gone.
    pub(super) fn on_closed(
        &mut self,
        conn: ConnId,
        inbound: ServerSession,
        cause: &Lost,
        fx: &mut Effects,
    ) {
        if let Lost::Tls(text) = cause {
            let line = Line::new(Level::Info, "tls-failed")
                .with("side", "server")
                .with("peer", inbound.peer_text())
                .with("why", text);
            fx.log(fx.of_client(inbound.address(), line));
        }
        self.forget_session(conn, inbound, fx);
    }

    pub(super) fn forget_session(
        &mut self,
        conn: ConnId,
        mut inbound: ServerSession,
        fx: &mut Effects,
    ) {
        self.drop_body(&mut inbound, fx);
        self.leave_evictable(conn, &mut inbound);
        self.logins.derivations.forget(conn);
        fx.conns.release(conn);
    }

    /// A deadline may have passed.
    pub(super) fn on_timeout(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        at: Instant,
        fx: &mut Effects,
    ) {
        if inbound.pace.timer == Some(at) {
            inbound.pace.timer = None;
        }
        match inbound.deadline() {
            Some(deadline) if deadline <= fx.now.instant => {}
            _ => return self.put_back(conn, inbound, fx),
        }
        if let Opening::Silent = inbound.opening {
            self.greet(conn, &mut inbound, fx);
            return self.put_back(conn, inbound, fx);
        }
        if let Some(verdict) = inbound.take_held() {
            let mut out = Vec::new();
            self.tell_now(&mut inbound, verdict, &mut out);
            return self.resume(conn, inbound, out, fx);
        }
        if let Some(step) = inbound.exchange.as_mut().and_then(Exchange::take_delayed) {
            return self.finish_auth(conn, inbound, step, fx);
        }
        fx.log(Line::new(Level::Info, "timeout").with("peer", inbound.peer_text()));
        inbound.noted.push(Reply::TIMEOUT);
        self.end_session(conn, inbound, &Reply::TIMEOUT, fx);
    }

    /// The daemon stops: a session that is not inside a message ends.
    pub(super) fn on_stop(&mut self, conn: ConnId, inbound: Box<ServerSession>, fx: &mut Effects) {
        if inbound.session.is_busy() {
            return self.put_back(conn, inbound, fx);
        }
        self.end_session(conn, inbound, &Reply::SHUTTING_DOWN, fx);
    }
}
