//! The SMTP dialogue with a server: from the connection to the next request of the session machine.

use std::mem;

use super::meaning::tls_text;
use super::session::{Delivery, DeliverySession, Reach, ServerLink, State};
use crate::cause::QuotedWords;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, CertificateTrust, ConnId, TlsSession, TlsSide};
use crate::engine::log::{Level, Line};
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::smtp::client::{ClientRequest, SessionRefusal, TlsPolicy};
use crate::status::EnhancedCode;

impl Delivery {
    /// The connection is established.
    pub(super) fn on_connected(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        match mem::take(&mut delivery.state) {
            State::Connecting { link, load, .. } => {
                let has_tls = link.target.host.tls == TlsPolicy::Active;
                delivery.state = State::Talking { link, load };
                match has_tls {
                    true => self.start_tls(conn, &mut delivery, fx),
                    false => delivery.begins_to_wait(fx.now),
                }
            }
            other => delivery.state = other,
        }
        self.put_back(conn, delivery, fx);
    }

    /// Begins a handshake.
    fn start_tls(&mut self, conn: ConnId, delivery: &mut DeliverySession, fx: &mut Effects) {
        let (link, load) = delivery.state.end();
        let Some(link) = link else {
            delivery.state = State::between_hosts(load);
            return;
        };
        let side = tls_side(&link);
        let until = fx.now.instant.after(HANDSHAKE_TIMEOUT);
        delivery.state = State::Handshake { link, load, until };
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
        match mem::take(&mut delivery.state) {
            State::Handshake { mut link, load, .. } => {
                link.tls = Some(tls);
                let mut out = Vec::new();
                // Before the greeting, the server speaks first.
                if link.target.host.tls != TlsPolicy::Active {
                    link.session.on_tls(&mut out);
                }
                delivery.state = State::Talking { link, load };
                delivery.begins_to_wait(fx.now);
                fx.send(conn, out);
            }
            other => delivery.state = other,
        }
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
        if let Some(session) = delivery.state.hears() {
            session.on_bytes(bytes, &mut out);
        }
        self.serve_requests(conn, delivery, out, fx);
    }

    /// Handles the requests of the session machine.
    pub(super) fn serve_requests(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        mut out: Vec<u8>,
        fx: &mut Effects,
    ) {
        // A message is taken only if no other request follows `Ready`: a server may end the session together with its
        // reply.
        let mut ready = false;
        while let Some(request) = next_request(&mut delivery) {
            match request {
                ClientRequest::StartTls => {
                    fx.send(conn, mem::take(&mut out));
                    self.start_tls(conn, &mut delivery, fx);
                }
                ClientRequest::Ready => {
                    fx.send(conn, mem::take(&mut out));
                    ready = !matches!(delivery.state, State::Recording { .. });
                }
                ClientRequest::Body => self.send_body(conn, &mut delivery, &mut out, fx),
                ClientRequest::Done(results) => {
                    self.on_transaction_done(conn, &mut delivery, results, fx)
                }
                ClientRequest::Refused(refusal) => {
                    fx.send(conn, out);
                    return self.on_refused(conn, delivery, &refusal, fx);
                }
                ClientRequest::Parted(reply) => {
                    fx.send(conn, out);
                    let refusal = SessionRefusal::Parted(reply);
                    return self.on_refused(conn, delivery, &refusal, fx);
                }
                ClientRequest::Close => {
                    fx.send(conn, out);
                    let status = EnhancedCode::new(4, 4, 2);
                    let words = QuotedWords::ours("the server ended the session");
                    return self.turned_away(conn, delivery, status, &words, fx);
                }
            }
        }
        fx.send(conn, out);
        delivery.wait(fx.now);
        match ready {
            true => self.on_ready(conn, delivery, fx),
            false => self.put_back(conn, delivery, fx),
        }
    }

    /// The server can take a message: the carried one, or the next. Open recipients go to the next host.
    fn on_ready(&mut self, conn: ConnId, mut delivery: Box<DeliverySession>, fx: &mut Effects) {
        if delivery.reach != Reach::Here {
            self.arrived(conn, &mut delivery, fx);
            if let Some(load) = delivery.state.take_load() {
                delivery.carry(load);
                return self.read_message(conn, delivery, fx);
            }
        }
        self.next_step(conn, delivery, fx);
    }

    /// A transaction is over: the open recipients go to the next host, or the next message is taken.
    pub(super) fn next_step(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        match (delivery.state.load(), delivery.state.link()) {
            (Some(_), _) => self.move_on(conn, delivery, fx),
            (None, Some(_)) => self.take_next_message(conn, delivery, fx),
            (None, None) => self.end_session(conn, delivery, fx),
        }
    }

    /// Leaves this host, and carries the rest to the next.
    fn move_on(&mut self, conn: ConnId, mut delivery: Box<DeliverySession>, fx: &mut Effects) {
        if let Some(link) = delivery.state.link_mut() {
            if link.session.is_ready() {
                let mut out = Vec::new();
                link.session.quit(&mut out);
                fx.send(conn, out);
                delivery.detour = true;
            }
            fx.actions.push_back(Action::Close { conn });
        }
        delivery.state = State::between_hosts(delivery.leave());
        self.try_next(conn, delivery, fx);
    }

    fn arrived(&mut self, conn: ConnId, delivery: &mut DeliverySession, fx: &mut Effects) {
        if mem::replace(&mut delivery.reach, Reach::Here) == Reach::Nowhere {
            self.hops.proved(delivery.hop, conn);
        }
        let mut line = Line::new(Level::Debug, "connected");
        if let Some(target) = delivery.target() {
            line = line
                .with("host", &target.host.name)
                .with("address", &target.to);
        }
        fx.log(line.with("tls", tls_text(delivery.tls())));
    }
}

fn next_request(delivery: &mut DeliverySession) -> Option<ClientRequest> {
    delivery.state.link_mut()?.session.next_request()
}

/// Our side of a handshake. A route with a password must lead to the configured host; an MX record from the DNS proves
/// nothing. A message that could be sent in clear may be sent to any key.
fn tls_side(link: &ServerLink) -> TlsSide {
    let target = &link.target;
    let in_clear = target.is_on_this_machine() && target.host.tls == TlsPolicy::Opportunistic;
    let trust = if target.host.login.is_some() && !in_clear {
        CertificateTrust::Verified
    } else {
        CertificateTrust::Any
    };
    TlsSide::Client {
        name: target.host.name.clone(),
        trust,
    }
}
