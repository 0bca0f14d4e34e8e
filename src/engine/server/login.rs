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
use crate::policy::shares::Holder;
use crate::smtp::server::AuthStep;

/// Who may try, who has tried, who got in.
pub(super) struct Logins {
    /// Sessions and failures of each address.
    pub(super) peers: Peers,
    /// Messages of each user.
    pub(super) users: Users,
    pub(super) memory: PasswordMemory,
    pub(super) decoy_secret: [u8; DIGEST_BYTES],
    pub(super) derivations: Derivations,
    /// Sessions whose address was locked while they waited, and that are to be told; as many as may wait at most.
    pub(super) locked_out: Vec<ConnId>,
}

/// A user, and the credential that an exchange began with.
pub(super) struct User {
    pub(super) login: Mailbox,
    pub(super) credential: Arc<Credential>,
}

/// Whether a login stands for a mailbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Meant {
    /// It does.
    Surely,
    /// It may as well stand for another.
    Perhaps,
}

/// An exchange under way.
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
    /// SCRAM after its proof was right, before the client's empty word.
    ScramDone(User),
    /// A worker has it.
    Checking,
    /// The answer is held back.
    Delayed(AuthStep),
}

impl Exchange {
    /// The answer that was held back.
    pub(super) fn take_delayed(&mut self) -> Option<AuthStep> {
        match std::mem::replace(self, Self::Checking) {
            Self::Delayed(step) => Some(step),
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

    /// A session is gone: what waited for it alone need not be derived. Gives who was charged for that.
    pub(super) fn forget(&mut self, conn: ConnId) -> Option<Holder> {
        self.derivations.forget(conn)
    }

    /// Sweeps out what is too old.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.peers.sweep(now);
        self.users.sweep(now);
        self.memory.sweep(now);
    }
}
