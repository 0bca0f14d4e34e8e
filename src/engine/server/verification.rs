//! Workers verify the signatures of examined messages: of a few messages at a time, so that signing and passwords get
//! their turn. The other messages wait; a session has at most one. Networks and users take turns, so one that brings
//! many messages waits behind its own, and no other waits behind them.

use super::session::{Server, ServerSession};
use crate::engine::effects::{Effects, JobOwner};
use crate::engine::event::{ConnId, JobId, Work, WorkResult};
use crate::engine::log::{Level, Line};
use crate::limits::VERIFICATIONS_AT_ONCE_MAX;
use crate::policy::authenticity::Verifying;
use crate::policy::fair_queue::Turn;
use crate::policy::shares::Lane;
use crate::queue_id::QueueId;

impl Server {
    /// Lets a message wait for a worker.
    pub(super) fn verify(
        &mut self,
        conn: ConnId,
        id: QueueId,
        lane: Lane,
        verifying: Box<Verifying>,
        fx: &mut Effects,
    ) -> Turn {
        let turn = (self.verifications.waiting).put(lane, (conn, id, verifying));
        self.verify_next(fx);
        turn
    }

    fn verify_next(&mut self, fx: &mut Effects) {
        while self.verifications.running.len() < VERIFICATIONS_AT_ONCE_MAX {
            let Some((conn, id, verifying)) = self.verifications.waiting.take() else {
                return;
            };
            let job = fx.work(JobOwner::Verify { conn, id }, Work::Verify(verifying));
            self.verifications.running.insert(job);
        }
    }

    /// A worker has verified. The result is dropped if the session is gone, or if it has dropped that message and
    /// examines another.
    pub(in crate::engine) fn on_verified(
        &mut self,
        job: JobId,
        (conn, id): (ConnId, QueueId),
        result: WorkResult,
        fx: &mut Effects,
    ) {
        self.verifications.running.remove(&job);
        self.verify_next(fx);
        let Some(mut inbound) = self.sessions.take(conn) else {
            return;
        };
        let checking = inbound.acceptance.examining();
        let checking = checking.filter(|checking| checking.id() == id);
        if let (Some(checking), WorkResult::Verified(verified)) = (checking, result) {
            let cost = verified.cost;
            checking.on_verified(*verified);
            fx.debug(|| {
                Line::new(Level::Debug, "verified")
                    .with("id", id)
                    .with("checks", cost.checks)
                    .with("bytes", cost.bytes)
            });
        }
        self.examination_goes_on(conn, inbound, fx);
    }

    /// Continues the examination of a message, if there is one.
    pub(super) fn examination_goes_on(
        &mut self,
        conn: ConnId,
        mut inbound: Box<ServerSession>,
        fx: &mut Effects,
    ) {
        match self.examine_on(conn, &mut inbound, fx) {
            Ok(()) => self.put_back(conn, inbound, fx),
            Err(reply) => self.message_refused(conn, inbound, &reply, fx),
        }
    }
}
