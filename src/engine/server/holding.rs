//! The scarce resources that a session holds: its place, memory, and room on the disk for unfinished messages.
//!
//! The [`Holder`] of a session is an address, and a user after login. When the holder changes, everything that the
//! session holds is charged to the new one.

use crate::policy::shares::{Holder, Resource, ResourceShare, Shares, Shortage};
use crate::smtp::reply::Reply;

/// The resources that one session holds.
pub(super) struct Holding {
    session: ResourceShare,
    memory: ResourceShare,
    spool: ResourceShare,
}

impl Holding {
    /// Nothing, for this holder.
    pub(super) fn new(holder: Holder, shares: &Shares) -> Self {
        let none = |resource| shares.of(resource).charge(holder, 0);
        Self {
            session: none(Resource::Sessions),
            memory: none(Resource::Memory),
            spool: none(Resource::Spool),
        }
    }

    /// The holder that is charged.
    pub(super) const fn holder(&self) -> Holder {
        self.session.holder()
    }

    /// Counts it as a session.
    pub(super) fn take_session(&mut self) -> Result<(), Reply> {
        self.session.take(1).map_err(|_| Reply::SERVER_BUSY)
    }

    /// Sets the bytes of memory; returns whether that is more than its share.
    pub(super) fn set_memory(&mut self, bytes: usize) -> bool {
        self.memory.resize(bytes as u64);
        self.memory.is_over()
    }

    /// Adds bytes of an unfinished message on the disk.
    pub(super) fn take_spool(&mut self, bytes: u64) -> Result<(), Reply> {
        self.spool.take(bytes).map_err(|_| Reply::NO_SPACE)
    }

    /// The message is finished, or dropped.
    pub(super) fn give_spool(&mut self) {
        self.spool.resize(0);
    }

    /// Transfers everything to another holder, if that may have one more session. The other resources are never
    /// refused.
    pub(super) fn pass(&mut self, to: Holder) -> Result<(), Shortage> {
        self.session.pass(to)?;
        self.memory.charge_to(to);
        self.spool.charge_to(to);
        Ok(())
    }
}
