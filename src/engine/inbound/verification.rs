//! Workers verify the signatures of messages that are examined: of a few at a time, so that signing and passwords get
//! their turn. The others wait in the order in which they came; a session has one at most.

use std::collections::BTreeMap;

use super::Inbound;
use crate::clock::Now;
use crate::engine::event::{ConnId, Work, WorkResult};
use crate::engine::log::{Level, Line};
use crate::engine::{Conn, Engine, JobOwner};
use crate::limits::VERIFICATIONS_AT_ONCE_MAX;
use crate::policy::authenticity::Verifying;

/// Messages whose signatures are verified, or wait for it.
#[derive(Default)]
pub(in crate::engine) struct Verifications {
    /// How many workers are at it.
    running: usize,
    waiting: BTreeMap<Turn, (ConnId, Box<Verifying>)>,
    next: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Turn(u64);

impl Verifications {
    /// How many messages wait.
    pub(in crate::engine) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, turn: Turn) {
        self.waiting.remove(&turn);
    }
}

impl Engine {
    /// Lets a message wait for a worker.
    pub(super) fn verify(&mut self, conn: ConnId, verifying: Box<Verifying>) -> Turn {
        let verifications = &mut self.verifications;
        let turn = Turn(verifications.next);
        verifications.next = verifications.next.wrapping_add(1);
        verifications.waiting.insert(turn, (conn, verifying));
        self.verify_next();
        turn
    }

    fn verify_next(&mut self) {
        while self.verifications.running < VERIFICATIONS_AT_ONCE_MAX {
            let Some((_, (conn, verifying))) = self.verifications.waiting.pop_first() else {
                return;
            };
            self.verifications.running = self.verifications.running.saturating_add(1);
            self.work(JobOwner::Verify { conn }, Work::Verify(verifying));
        }
    }

    /// A worker has verified. Where the session is gone, nobody wants to know.
    pub(in crate::engine) fn inbound_verified(
        &mut self,
        conn: ConnId,
        result: WorkResult,
        now: Now,
    ) {
        self.verifications.running = self.verifications.running.saturating_sub(1);
        self.verify_next();
        let mut inbound = match self.conns.take(conn) {
            Some(Conn::Inbound(inbound)) => inbound,
            Some(other) => return self.conns.put(conn, other),
            None => return,
        };
        if let (Some(checking), WorkResult::Verified(verified)) = (&mut inbound.checking, result) {
            let (id, effort) = (checking.id(), verified.effort);
            checking.on_verified(*verified);
            self.debug(|| {
                Line::new(Level::Debug, "verified")
                    .with("id", id)
                    .with("checks", effort.checks)
                    .with("bytes", effort.bytes)
            });
        }
        self.examination_goes_on(conn, inbound, now);
    }

    /// Goes on with the examination of a message, if there is one.
    pub(super) fn examination_goes_on(
        &mut self,
        conn: ConnId,
        mut inbound: Box<Inbound>,
        now: Now,
    ) {
        match self.examine_on(conn, &mut inbound, now) {
            Ok(()) => self.inbound_put(conn, inbound),
            Err(reply) => self.message_refused(conn, inbound, &reply, now),
        }
    }
}
