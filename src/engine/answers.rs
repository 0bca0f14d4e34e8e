//! Answers of the disk and of the workers: each goes to the participant that asked.

use super::Engine;
use super::connections::ConnEvent;
use super::effects::JobOwner;
use super::event::{JobId, MessageReader, WorkResult};
use crate::queue::{ReadContent, ReadError};

impl Engine {
    /// A part of a queued message was read.
    pub(super) fn read(&mut self, reader: MessageReader, result: Result<ReadContent, ReadError>) {
        let fx = &mut self.fx;
        match reader {
            MessageReader::Conn { conn, id } => self.tell(conn, ConnEvent::Read(id, result)),
            MessageReader::Dsn(dsn) => self.dsns.on_read(dsn, result, &self.delivery, fx),
            MessageReader::Reroute(id) => self.delivery.reroute_read(id, result, fx),
            MessageReader::Untried { id, hop } => self.delivery.waiting_read(id, hop, result, fx),
        }
    }

    /// A worker is done.
    pub(super) fn worked(&mut self, job: JobId, result: WorkResult) {
        let fx = &mut self.fx;
        match fx.jobs.end(job) {
            Some(JobOwner::Sign { conn, id }) => self.server.on_signed(conn, id, result, fx),
            Some(JobOwner::SignDsn { dsn }) => self.dsns.on_signed(dsn, result, fx),
            Some(JobOwner::Verify { conn, id }) => {
                self.server.on_verified(job, (conn, id), result, fx);
            }
            Some(JobOwner::Password { number }) => self.server.password_checked(number, result, fx),
            None => {}
        }
    }
}
