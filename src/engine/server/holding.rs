//! The scarce resources that a session holds: its place, memory, and room on the disk for unfinished messages.
//!
//! The [`Holder`] of a session is an address, and a user after login. When the holder changes, everything that the
//! session holds is charged to the new one.

use crate::policy::shares::{Holder, Resource, Shares, Shortage};
use crate::smtp::reply::Reply;

/// The resources that one session holds.
pub(super) struct Holding {
    pub(super) holder: Holder,
    pub(super) sessions: u64,
    pub(super) memory: u64,
    pub(super) spool: u64,
}

impl Holding {
    /// Nothing, for this holder.
    pub(super) const fn new(holder: Holder) -> Self {
        Self {
            holder,
            sessions: 0,
            memory: 0,
            spool: 0,
        }
    }

    /// Who is charged.
    pub(super) const fn holder(&self) -> Holder {
        self.holder
    }

    /// Counts it as a session.
    pub(super) fn take_session(&mut self, shares: &mut Shares) -> Result<(), Reply> {
        let taken = shares.of_mut(Resource::Sessions).take(self.holder, 1);
        taken.map_err(|_| Reply::SERVER_BUSY)?;
        self.sessions = 1;
        Ok(())
    }

    /// Sets the bytes of memory; returns whether that is more than its share.
    pub(super) fn set_memory(&mut self, shares: &mut Shares, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let pool = shares.of_mut(Resource::Memory);
        pool.resize(self.holder, self.memory, bytes);
        self.memory = bytes;
        pool.is_over(self.holder)
    }

    /// Adds bytes of an unfinished message on the disk.
    pub(super) fn take_spool(&mut self, shares: &mut Shares, bytes: u64) -> Result<(), Reply> {
        let taken = shares.of_mut(Resource::Spool).take(self.holder, bytes);
        taken.map_err(|_| Reply::NO_SPACE)?;
        self.spool = self.spool.saturating_add(bytes);
        Ok(())
    }

    /// The message is finished, or dropped.
    pub(super) fn give_spool(&mut self, shares: &mut Shares) {
        let pool = shares.of_mut(Resource::Spool);
        pool.give(self.holder, std::mem::take(&mut self.spool));
    }

    /// Transfers everything to another holder, if that may have one more session. The other resources are never
    /// refused.
    pub(super) fn pass(&mut self, shares: &mut Shares, to: Holder) -> Result<(), Shortage> {
        let pool = shares.of_mut(Resource::Sessions);
        pool.give(self.holder, self.sessions);
        let may = pool.has_room(to, self.sessions);
        pool.resize(self.holder, 0, self.sessions);
        if !may {
            return Err(Shortage);
        }
        for (resource, amount) in [
            (Resource::Sessions, self.sessions),
            (Resource::Memory, self.memory),
            (Resource::Spool, self.spool),
        ] {
            let pool = shares.of_mut(resource);
            pool.give(self.holder, amount);
            pool.resize(to, 0, amount);
        }
        self.holder = to;
        Ok(())
    }

    /// Gives back everything at the end of the session.
    pub(super) fn give_all(&mut self, shares: &mut Shares) {
        for (resource, amount) in [
            (Resource::Sessions, &mut self.sessions),
            (Resource::Memory, &mut self.memory),
            (Resource::Spool, &mut self.spool),
        ] {
            shares
                .of_mut(resource)
                .give(self.holder, std::mem::take(amount));
        }
    }
}
