//! The start of a session: whether the client is let in, its address as a proxy reports it, and the steps before the
//! banner.

use super::acceptance::Acceptance;
use super::evictable::Places;
use super::holding::Holding;
use super::session::{Buffers, Envelope, Opening, Pace, Server, ServerSession};
use crate::engine::connections::Owner;
use crate::engine::counters::count_up;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Listener, Peer, TlsSide};
use crate::engine::log::{Level, Line};
use crate::policy::relay::RelayClient;
use crate::policy::shares::{Holder, TrustLevel};
use crate::proxy::{HeaderReader, Origin};
use crate::smtp::reply::Reply;
use crate::smtp::server::{Encryption, PortRole, Session, Tolerance};

impl Server {
    /// A connection was accepted on an SMTP port; `Err` is the reply to its client.
    pub(in crate::engine) fn admit(
        &mut self,
        listener: Listener,
        peer: Peer,
        fx: &mut Effects,
    ) -> Result<ConnId, Reply> {
        let (role, encryption) = match listener {
            Listener::Smtp | Listener::Proxy => (PortRole::Relay, Encryption::Offered),
            Listener::Submission => (PortRole::Submission, Encryption::Offered),
            Listener::Submissions => (PortRole::Submission, Encryption::Active),
            Listener::Submit | Listener::Control | Listener::Status | Listener::Https => {
                (PortRole::Local, Encryption::Unavailable)
            }
        };
        let mut inbound = Box::new(ServerSession {
            session: Session::new(role, encryption),
            listener,
            peer,
            login: None,
            exchange: None,
            tls: None,
            buffers: Buffers::default(),
            acceptance: Acceptance::Idle,
            envelope: Envelope::default(),
            noted: Vec::new(),
            pace: Pace::new(fx.now.instant),
            holding: Holding::new(Holder::nobody(TrustLevel::Client), &fx.shares),
            is_over: false,
            places: Places::default(),
            opening: Opening::Over,
            counted: None,
            guard: None,
        });
        if listener == Listener::Proxy {
            self.admit_proxy(&mut inbound, fx)?;
        } else {
            self.admit_client(&mut inbound, fx)?;
        }
        count_up(&mut fx.counters.sessions, 1);
        let conn = fx.conns.reserve(Owner::Server);
        fx.debug(|| {
            let listener = format!("{listener:?}").to_lowercase();
            Line::new(Level::Debug, "connect")
                .with("listener", listener)
                .with("peer", inbound.peer_text())
        });
        if let Opening::Over = inbound.opening {
            self.open(conn, &mut inbound, fx);
        }
        self.put_back(conn, inbound, fx);
        Ok(conn)
    }

    /// Lets a client in, once its address is known.
    fn admit_client(&mut self, inbound: &mut ServerSession, fx: &mut Effects) -> Result<(), Reply> {
        if let Some(address) = inbound.address()
            && !self.is_trusted(inbound.door(), address, fx)
        {
            if inbound.is_relay_port() {
                self.admit_unauthenticated(address, fx)?;
            }
            let max = fx.config.limits.sessions_per_address;
            inbound.counted = self.logins.peers.open(address, max);
            if inbound.counted.is_none() {
                self.note_unadmitted(inbound, &Reply::TOO_MANY_SESSIONS, fx);
                return Err(Reply::TOO_MANY_SESSIONS);
            }
        }
        let holder = self.holder_of(inbound, fx);
        // A proxy's connection gives its place back before its client takes one.
        inbound.holding = Holding::new(holder, &fx.shares);
        let mut taken = inbound.holding.take_session();
        if taken.is_err() && self.retire_idle_session(holder.standing(), fx) {
            taken = inbound.holding.take_session();
        }
        if let Err(reply) = &taken {
            self.note_unadmitted(inbound, reply, fx);
        }
        taken
    }

    /// Logs that a client is not let in because there are too many.
    fn note_unadmitted(&mut self, inbound: &ServerSession, reply: &Reply, fx: &mut Effects) {
        fx.count_throttled(inbound.address());
        let line = Line::new(Level::Info, "reject")
            .with("peer", inbound.peer_text())
            .with("what", "connection")
            .with("code", reply.code())
            .with("why", reply.text());
        fx.log_refusal(fx.of_client(inbound.address(), line));
    }

    /// Lets a proxy in, which must send the client's address at once.
    fn admit_proxy(&mut self, inbound: &mut ServerSession, fx: &mut Effects) -> Result<(), Reply> {
        if !inbound
            .address()
            .is_some_and(|address| fx.config.trust.proxies.contains(address))
        {
            self.note_proxy(inbound, "not a proxy", fx);
            return Err(Reply::NOT_A_PROXY);
        }
        if let Err(reply) = inbound.holding.take_session() {
            self.note_unadmitted(inbound, &reply, fx);
            return Err(reply);
        }
        inbound.opening = Opening::Proxy(HeaderReader::default());
        Ok(())
    }

    /// Starts the session of a client that was let in: with the banner, TLS, or silence.
    fn open(&mut self, conn: ConnId, inbound: &mut ServerSession, fx: &mut Effects) {
        inbound.pace.since = fx.now.instant;
        inbound.session.tolerate(self.tolerance(inbound, fx));
        if inbound.listener == Listener::Submissions {
            fx.actions.push_back(Action::StartTls {
                conn,
                side: TlsSide::Server,
            });
        } else if let (Some(address), true) = (inbound.counted_address(), inbound.is_relay_port()) {
            self.guard(conn, inbound, address, fx);
            inbound.opening = Opening::Silent;
        } else {
            self.greet(conn, inbound, fx);
        }
    }

    /// Errors that are tolerated: hosts of `relay.networks` may deviate in the form of commands, and in line ends if
    /// the network is configured so.
    fn tolerance(&self, inbound: &ServerSession, fx: &Effects) -> Tolerance {
        let RelayClient::Network { address } = self.client(inbound, fx) else {
            return Tolerance::None;
        };
        match fx.config.trust.mended.contains(address) {
            true => Tolerance::LineEnds,
            false => Tolerance::Form,
        }
    }

    /// Sends the banner.
    pub(super) fn greet(&mut self, conn: ConnId, inbound: &mut ServerSession, fx: &mut Effects) {
        inbound.opening = Opening::Over;
        let mut out = Vec::new();
        inbound.session.start(&self.settings, &mut out);
        inbound.pace.since = fx.now.instant;
        self.answer(conn, inbound, out, fx);
    }

    /// Bytes of a proxy header arrived.
    pub(super) fn proxy_bytes(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        bytes: &[u8],
        fx: &mut Effects,
    ) {
        let mut input = bytes;
        let Opening::Proxy(reader) = &mut inbound.opening else {
            return self.put_back(conn, inbound, fx);
        };
        match reader.read(&mut input) {
            Ok(None) => return self.put_back(conn, inbound, fx),
            Ok(Some(Origin::Client { remote, local })) => {
                fx.debug(|| {
                    Line::new(Level::Debug, "connect")
                        .with("listener", "proxy")
                        .with("proxy", inbound.peer_text())
                        .with("peer", remote.ip())
                });
                inbound.peer = Peer::Network { remote, local };
            }
            Ok(Some(Origin::Proxy)) => {}
            Err(error) => {
                self.note_proxy(&inbound, &error.to_string(), fx);
                return self.end_session(conn, inbound, &Reply::NOT_A_PROXY, fx);
            }
        }
        inbound.opening = Opening::Over;
        if let Err(reply) = self.admit_client(&mut inbound, fx) {
            inbound.noted.push(reply.clone());
            return self.end_session(conn, inbound, &reply, fx);
        }
        self.open(conn, &mut inbound, fx);
        if input.is_empty() {
            self.put_back(conn, inbound, fx);
        } else {
            self.on_bytes(conn, inbound, input, fx);
        }
    }

    fn note_proxy(&mut self, inbound: &ServerSession, why: &str, fx: &mut Effects) {
        fx.count_refused(inbound.address(), 1);
        fx.log_refusal(
            Line::new(Level::Warning, "reject")
                .with("peer", inbound.peer_text())
                .with("what", "proxy")
                .with("why", why),
        );
    }

    pub(super) fn refuse_early_talker(
        &mut self,
        conn: ConnId,
        inbound: Box<ServerSession>,
        fx: &mut Effects,
    ) {
        fx.count_refused(inbound.address(), 1);
        if let Some(address) = inbound.counted_address() {
            self.clients.client_rates.refused(address, fx.now.instant);
        }
        fx.log_refusal(
            Line::new(Level::Warning, "reject")
                .with("peer", inbound.peer_text())
                .with("why", "early-talker"),
        );
        self.end_session(conn, inbound, &Reply::EARLY_TALKER, fx)
    }
}
