//! New connections: which participant gets them, and whether bytes may be read from one.

use super::Engine;
use super::connections::Owner;
use super::event::{ConnId, Listener, Peer};
use super::status::Door;
use crate::clock::Now;
use crate::smtp::reply::Reply;

impl Engine {
    /// A connection was accepted; `Err` is the reply to send before it is closed at once.
    pub fn accept(&mut self, listener: Listener, peer: Peer, now: Now) -> Result<ConnId, Vec<u8>> {
        self.begin(now);
        let result = self.admit(listener, peer);
        self.settle();
        result.map_err(|reply| {
            let mut bytes = Vec::new();
            reply.write(&mut bytes);
            bytes
        })
    }

    fn admit(&mut self, listener: Listener, peer: Peer) -> Result<ConnId, Reply> {
        let fx = &mut self.fx;
        if fx.stopping {
            return Err(Reply::SHUTTING_DOWN);
        }
        let client = match peer {
            Peer::Network { remote, .. } => Some(remote.ip()),
            Peer::Process { .. } => None,
        };
        match listener {
            Listener::Control => Ok(self.control.admit(peer, fx)),
            Listener::Status => Ok(self.visits.admit(Door::Status, None, fx)),
            Listener::Https => Ok(self.visits.admit(Door::Https, client, fx)),
            Listener::Smtp
            | Listener::Proxy
            | Listener::Submission
            | Listener::Submissions
            | Listener::Submit => self.server.admit(listener, peer, fx),
        }
    }

    /// Whether a tool of this user may connect: operators always may, other users as far as there is room for them.
    pub fn admits_tool(&mut self, uid: u32) -> bool {
        self.control.admits_tool(uid, &mut self.fx)
    }

    /// Whether bytes of this connection may be read now.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        match self.fx.conns.owner(conn) {
            Some(Owner::Server) => self.server.wants_input(conn),
            Some(Owner::Delivery | Owner::Hook) => true,
            Some(Owner::Control) => self.control.wants_input(conn),
            Some(Owner::Page) => self.visits.wants_input(conn),
            None => false,
        }
    }
}
