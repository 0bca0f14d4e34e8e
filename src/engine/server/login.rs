//! Which clients may try to log in, which have tried and which succeeded; and AUTH exchanges in progress.

use std::sync::Arc;

use super::derivations::Derivations;
use crate::address::Mailbox;
use crate::clock::Instant;
use crate::digest::DIGEST_BYTES;
use crate::engine::event::ConnId;
use crate::entropy::Entropy;
use crate::login::credential::Credential;
use crate::login::scram::ScramChallenge;
use crate::policy::password_memory::PasswordMemory;
use crate::policy::rates::{Peers, Users};
use crate::smtp::reply::Reply;
use crate::smtp::server::AuthStep;

/// Attempts and results of logins.
pub(super) struct Logins {
    /// Sessions and failures by address.
    pub(super) peers: Peers,
    /// Messages by user.
    pub(super) users: Users,
    pub(super) memory: PasswordMemory,
    pub(super) decoy_secret: [u8; DIGEST_BYTES],
    pub(super) derivations: Derivations,
    /// Sessions whose address was locked while they waited, and that still need their reply; no more than may wait.
    pub(super) locked_out: Vec<ConnId>,
}

/// A user, and the credential at the start of the exchange.
pub(super) struct User {
    pub(super) login: Mailbox,
    pub(super) credential: Arc<Credential>,
}

/// Whether a login unambiguously names a mailbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Meant {
    /// It does.
    Surely,
    /// It could also name another one.
    Perhaps,
}

/// An AUTH exchange in progress.
pub(super) enum Exchange {
    /// PLAIN without an initial response.
    Plain,
    /// LOGIN before its login.
    LoginName,
    /// LOGIN before its password.
    LoginPassword(String),
    /// SCRAM before its first message.
    ScramFirst,
    /// SCRAM before its proof.
    ScramFinal(Box<ScramChallenge>, Option<User>),
    /// SCRAM after a valid proof, before the client's empty response.
    ScramDone(User),
    /// A worker derives the key.
    Checking,
    /// The reply is delayed.
    Delayed { step: AuthStep, until: Instant },
}

impl Exchange {
    /// It failed, and the client hears of that at `until`.
    pub(super) const fn failed(until: Instant) -> Self {
        let step = AuthStep::Failure(Reply::AUTH_FAILED);
        Self::Delayed { step, until }
    }

    /// The delayed reply.
    pub(super) fn take_delayed(&mut self) -> Option<AuthStep> {
        match std::mem::replace(self, Self::Checking) {
            Self::Delayed { step, .. } => Some(step),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Logins {
    pub(super) fn new(entropy: &mut dyn Entropy) -> Self {
        let mut decoy_secret = [0; DIGEST_BYTES];
        entropy.fill(&mut decoy_secret);
        Self {
            peers: Peers::default(),
            users: Users::default(),
            memory: PasswordMemory::new(entropy),
            decoy_secret,
            derivations: Derivations::default(),
            locked_out: Vec::new(),
        }
    }

    /// Removes old entries.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.peers.sweep(now);
        self.users.sweep(now);
        self.memory.sweep(now);
    }
}
