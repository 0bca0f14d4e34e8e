//! The holder of a session's resources, and the limits that follow from it.

use super::session::{Server, ServerSession};
use crate::address::Mailbox;
use crate::engine::effects::Effects;
use crate::engine::event::Peer;
use crate::policy::shares::{
    Holder, Resource, ShareKind, Shortage, TrustLevel, hash_of, hash_of_address,
};
use crate::smtp::reply::Reply;
use crate::smtp::server::AuthStep;

impl Server {
    /// The holder of a session, as far as it is known.
    pub(super) fn holder_of(&self, inbound: &ServerSession, fx: &Effects) -> Holder {
        let named = |kind, name| Holder::named(TrustLevel::Trusted, kind, name);
        match (inbound.peer, &inbound.login, inbound.address()) {
            (Peer::Process { uid }, ..) => named(ShareKind::Uid, uid.into()),
            (_, Some(login), _) => named(ShareKind::Login, hash_of(login)),
            (_, None, Some(address)) if self.is_trusted(inbound.door(), address, fx) => {
                named(ShareKind::Host, hash_of_address(address))
            }
            (_, None, Some(address)) => {
                let standing = if inbound.is_relay_port() {
                    TrustLevel::Client
                } else if self.logins.peers.is_known(address, fx.now.instant) {
                    TrustLevel::Known
                } else {
                    TrustLevel::Visitor
                };
                Holder::at(standing, address)
            }
            (_, None, None) => Holder::nobody(TrustLevel::Client),
        }
    }

    /// Updates the memory of a session; returns whether any is left for its holder.
    pub(super) fn has_memory(&mut self, inbound: &mut ServerSession, fx: &mut Effects) -> bool {
        self.account(inbound, fx);
        let standing = inbound.holding.holder().standing();
        fx.shares.of(Resource::Memory).free(standing) > 0
    }

    /// Makes a session a user's, unless the user has too many.
    pub(super) fn let_in(
        &mut self,
        inbound: &mut ServerSession,
        login: Mailbox,
        fx: &mut Effects,
    ) -> AuthStep {
        if let Some(address) = inbound.address() {
            self.logins.peers.succeeded(address, &login, fx.now.instant);
        }
        inbound.login = Some(login.clone());
        let holder = self.holder_of(inbound, fx);
        let passed = inbound.holding.pass(holder);
        let (result, step) = match passed {
            Ok(()) => ("ok", AuthStep::Success),
            Err(Shortage) => {
                inbound.login = None;
                let reply = Reply::TOO_MANY_SESSIONS_OF_USER;
                ("too-many-sessions", AuthStep::End(reply))
            }
        };
        self.log_auth(inbound.address(), result, login.as_str(), fx);
        step
    }
}
