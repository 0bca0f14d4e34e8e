//! The beginning of a session: whether a client is let in, who a proxy says that it is, and what comes before the banner.

use super::holding::Holding;
use super::room::Places;
use super::{Inbound, Opening};
use crate::clock::Now;
use crate::engine::event::{Action, ConnId, Listener, Peer, TlsSide};
use crate::engine::log::{Level, Line};
use crate::engine::status::Door;
use crate::engine::{Conn, Control, Engine};
use crate::limits::{BANNER_DELAY, HANDSHAKE_TIMEOUT, PROXY_TIMEOUT};
use crate::policy::authority::Grants;
use crate::policy::relay::Client;
use crate::policy::shares::{Holder, Standing};
use crate::smtp::proxy::{HeaderReader, Origin};
use crate::smtp::reply::Reply;
use crate::smtp::server::{Encryption, Role, Session, Tolerance};

impl Engine {
    /// A connection was accepted; `Err` is what to send before it is closed at once.
    pub fn accept(&mut self, listener: Listener, peer: Peer, now: Now) -> Result<ConnId, Vec<u8>> {
        self.observed.set_time(now.wall);
        let result = self.admit(listener, peer, now);
        self.settle(now);
        result.map_err(|reply| {
            let mut bytes = Vec::new();
            reply.write(&mut bytes);
            bytes
        })
    }

    fn admit(&mut self, listener: Listener, peer: Peer, now: Now) -> Result<ConnId, Reply> {
        if self.stopping {
            return Err(Reply::SHUTTING_DOWN);
        }
        if listener == Listener::Control {
            return Ok(self
                .conns
                .insert(Conn::Control(Box::new(Control::new(peer)))));
        }
        match listener {
            Listener::Status => return Ok(self.admit_visit(Door::Status, None, now)),
            Listener::Https => {
                let client = match peer {
                    Peer::Network { remote, .. } => Some(remote.ip()),
                    Peer::Process { .. } => None,
                };
                return Ok(self.admit_visit(Door::Https, client, now));
            }
            _ => {}
        }
        let (role, encryption) = match listener {
            Listener::Smtp | Listener::Proxy => (Role::Relay, Encryption::Offered),
            Listener::Submission => (Role::Submission, Encryption::Offered),
            Listener::Submissions => (Role::Submission, Encryption::Active),
            Listener::Submit | Listener::Control | Listener::Status | Listener::Https => {
                (Role::Local, Encryption::Unavailable)
            }
        };
        let mut inbound = Box::new(Inbound {
            session: Session::new(role, encryption),
            listener,
            peer,
            login: None,
            exchange: None,
            tls: None,
            kept: Vec::new(),
            is_full: false,
            body: Vec::new(),
            intake: None,
            checking: None,
            hooking: None,
            signing: None,
            grants: Grants::default(),
            used: Vec::new(),
            named: Vec::new(),
            noted: Vec::new(),
            recipient_bytes: 0,
            opened: now.instant,
            touched: now.instant,
            body_began: now.instant,
            body_bytes: 0,
            deadline: None,
            timer: None,
            held_until: None,
            holding: Holding::new(Holder::nobody(Standing::Client)),
            pending: 0,
            claimed: None,
            is_over: false,
            places: Places::default(),
            opening: Opening::Over,
            counted: None,
            guard: None,
        });
        if listener == Listener::Proxy {
            self.admit_proxy(&mut inbound, now)?;
        } else {
            self.admit_client(&mut inbound, now)?;
        }
        self.counters.sessions += 1;
        let conn = self.conns.reserve();
        self.debug(|| {
            let listener = format!("{listener:?}").to_lowercase();
            Line::new(Level::Debug, "connect")
                .with("listener", listener)
                .with("peer", inbound.peer_text())
        });
        if let Opening::Over = inbound.opening {
            self.open(conn, &mut inbound, now);
        }
        self.inbound_put(conn, inbound);
        Ok(conn)
    }

    /// Lets a client in, once it is known who it is.
    fn admit_client(&mut self, inbound: &mut Inbound, now: Now) -> Result<(), Reply> {
        if let Some(address) = inbound.address()
            && !self.is_trusted(inbound.door(), address)
        {
            if inbound.is_relay_port() {
                self.admit_stranger(address, now)?;
            }
            let max = self.config.limits.sessions_per_address;
            if !self.logins.peers.open(address, max) {
                self.note_unadmitted(inbound, &Reply::TOO_MANY_SESSIONS);
                return Err(Reply::TOO_MANY_SESSIONS);
            }
            inbound.counted = Some(address);
        }
        let holder = self.holder_of(inbound, now.instant);
        inbound.holding.give_all(&mut self.shares);
        inbound.holding = Holding::new(holder);
        let mut taken = inbound.holding.take_session(&mut self.shares);
        if taken.is_err() && self.retire_idle_session(holder.standing(), now) {
            taken = inbound.holding.take_session(&mut self.shares);
        }
        if taken.is_err()
            && let Some(address) = inbound.counted.take()
        {
            self.logins.peers.close(address);
        }
        if let Err(reply) = &taken {
            self.note_unadmitted(inbound, reply);
        }
        taken
    }

    /// A client is not let in, for there are enough.
    fn note_unadmitted(&mut self, inbound: &Inbound, reply: &Reply) {
        self.count_throttled(inbound.address());
        let line = Line::new(Level::Info, "reject")
            .with("peer", inbound.peer_text())
            .with("what", "connection")
            .with("code", reply.code())
            .with("why", reply.text());
        self.log_refusal(self.of_client(inbound.address(), line));
    }

    /// Lets a proxy in: it has to say at once for whom it comes.
    fn admit_proxy(&mut self, inbound: &mut Inbound, now: Now) -> Result<(), Reply> {
        if !inbound
            .address()
            .is_some_and(|address| self.config.proxies.contains(address))
        {
            self.note_proxy(inbound, "not a proxy");
            return Err(Reply::NOT_A_PROXY);
        }
        inbound.holding = Holding::new(Holder::nobody(Standing::Client));
        if let Err(reply) = inbound.holding.take_session(&mut self.shares) {
            self.note_unadmitted(inbound, &reply);
            return Err(reply);
        }
        inbound.opening = Opening::Proxy(HeaderReader::default());
        inbound.deadline = Some(now.instant.after(PROXY_TIMEOUT));
        Ok(())
    }

    /// Begins the session of a client that was let in: with the banner, TLS, or silence.
    fn open(&mut self, conn: ConnId, inbound: &mut Inbound, now: Now) {
        inbound.session.tolerate(self.tolerance(inbound));
        if inbound.listener == Listener::Submissions {
            self.actions.push_back(Action::StartTls {
                conn,
                side: TlsSide::Server,
            });
            inbound.deadline = Some(now.instant.after(HANDSHAKE_TIMEOUT));
        } else if let (Some(address), true) = (inbound.counted, inbound.is_relay_port()) {
            self.guard(conn, inbound, address, now);
            inbound.opening = Opening::Silent;
            inbound.deadline = Some(now.instant.after(BANNER_DELAY));
        } else {
            self.greet(conn, inbound, now);
        }
    }

    /// What a client may get wrong: a host of `relay.networks` the form of commands, and line ends where its network says so.
    fn tolerance(&self, inbound: &Inbound) -> Tolerance {
        let Client::Network { address } = self.client(inbound) else {
            return Tolerance::None;
        };
        match self.config.mended.contains(address) {
            true => Tolerance::LineEnds,
            false => Tolerance::Form,
        }
    }

    /// Sends the banner.
    pub(super) fn greet(&mut self, conn: ConnId, inbound: &mut Inbound, now: Now) {
        inbound.opening = Opening::Over;
        let mut out = Vec::new();
        inbound.session.start(&self.settings, &mut out);
        self.set_deadline(inbound, now);
        self.answer(conn, inbound, out);
    }

    /// A proxy says who its client is.
    pub(super) fn proxy_bytes(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        bytes: &[u8],
        now: Now,
    ) {
        let mut input = bytes;
        let Opening::Proxy(reader) = &mut inbound.opening else {
            return self.inbound_put(conn, inbound);
        };
        match reader.read(&mut input) {
            Ok(None) => return self.inbound_put(conn, inbound),
            Ok(Some(Origin::Client { remote, local })) => {
                self.debug(|| {
                    Line::new(Level::Debug, "connect")
                        .with("listener", "proxy")
                        .with("proxy", inbound.peer_text())
                        .with("peer", remote.ip())
                });
                inbound.peer = Peer::Network { remote, local };
            }
            Ok(Some(Origin::Proxy)) => {}
            Err(error) => {
                self.note_proxy(&inbound, &error.to_string());
                return self.inbound_end(conn, inbound, &Reply::NOT_A_PROXY);
            }
        }
        inbound.opening = Opening::Over;
        if let Err(reply) = self.admit_client(&mut inbound, now) {
            inbound.noted.push(reply.clone());
            return self.inbound_end(conn, inbound, &reply);
        }
        self.open(conn, &mut inbound, now);
        if input.is_empty() {
            self.inbound_put(conn, inbound);
        } else {
            self.inbound_bytes(conn, inbound, input, now);
        }
    }

    fn note_proxy(&mut self, inbound: &Inbound, why: &str) {
        self.count_refused(inbound.address(), 1);
        self.log_refusal(
            Line::new(Level::Warning, "reject")
                .with("peer", inbound.peer_text())
                .with("what", "proxy")
                .with("why", why),
        );
    }

    pub(super) fn refuse_early_talker(&mut self, conn: ConnId, inbound: Box<Inbound>, now: Now) {
        self.count_refused(inbound.address(), 1);
        if let Some(address) = inbound.counted {
            self.strangers.conduct.refused(address, now.instant);
        }
        self.log_refusal(
            Line::new(Level::Warning, "reject")
                .with("peer", inbound.peer_text())
                .with("why", "early-talker"),
        );
        self.inbound_end(conn, inbound, &Reply::EARLY_TALKER)
    }
}
