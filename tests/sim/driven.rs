//! The simulator as the engine's world: performs actions on simulated connections, servers, disk and name servers.

use std::net::{IpAddr, SocketAddr};

use chopar::dns::SocketId;
use chopar::engine::Engine;
use chopar::engine::driver::{self, Unsent};
use chopar::engine::event::{
    ConnId, Endpoint, Event, JobId, Lost, MessageReader, StateFile, TlsSession, TlsSide, Work,
    WorkResult,
};
use chopar::engine::log::Line;
use chopar::queue::{
    JournalCommand, Location, Part, ReadContent, ReadError, read, read_unfinished,
};
use chopar::queue_id::QueueId;

use crate::disk::Sabotage;
use crate::world::{End, Happening, World};

impl driver::World for World {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.relay_sends(conn, bytes);
    }

    fn close(&mut self, conn: ConnId) {
        self.relay_closes(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.forget(conn);
        self.stalled.remove(&conn);
    }

    fn start_tls(&mut self, conn: ConnId, _: TlsSide) {
        if self.mishap(3) {
            self.tally.fault("tls", "handshake fails");
            self.forget(conn);
            let cause = Lost::Tls("handshake failure".into());
            return self.follows(Event::Closed { conn, cause });
        }
        if let Some(End::Remote(remote)) = self.ends.get_mut(&conn) {
            remote.tls_on();
        }
        let session = TlsSession {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            verified: false,
        };
        self.follows(Event::TlsReady { conn, session });
    }

    fn connect(&mut self, conn: ConnId, to: Endpoint, _: Option<IpAddr>) -> Result<(), Lost> {
        if self.helper_is_gone && matches!(to, Endpoint::Helper(_)) {
            self.tally.fault("helper", "cannot be reached");
            return Err(Lost::Refused);
        }
        self.relay_connects(conn, &to);
        Ok(())
    }

    fn store(&mut self, command: JournalCommand) {
        self.relay_stores(command);
    }

    fn read(
        &mut self,
        reader: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        if let MessageReader::Conn { conn, .. } = reader {
            self.carrying.insert(conn, id);
        }
        let result = read(&mut self.disk.clone(), location, id, part);
        self.read_later(reader, id, result)
    }

    fn read_body(
        &mut self,
        _: ConnId,
        id: QueueId,
        offset: u64,
        len: u32,
    ) -> Option<Result<ReadContent, ReadError>> {
        Some(read_unfinished(&mut self.disk.clone(), id, offset, len))
    }

    fn dns_send(&mut self, socket: SocketId, to: SocketAddr, bytes: Vec<u8>) -> Result<(), Unsent> {
        self.ask_by_datagram(socket, to, &bytes);
        Ok(())
    }

    fn dns_connect(
        &mut self,
        socket: SocketId,
        _: SocketAddr,
        bytes: Vec<u8>,
    ) -> Result<(), Unsent> {
        self.ask_by_stream(socket, &bytes);
        Ok(())
    }

    fn dns_close(&mut self, _: SocketId) {}

    fn work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        let result = work.perform();
        self.soon(Happening::Work(job, result));
        None
    }

    fn reload(&mut self, conn: Option<ConnId>) {
        let event = self.reloaded(conn);
        self.follows(event);
    }

    fn read_kept(&mut self, _: StateFile) -> Option<Vec<u8>> {
        None
    }

    fn log(&mut self, line: Line) {
        // An attempt whose look-up is answered from the cache counts too.
        if let Some(rest) = line.text.strip_prefix("event=next-hop-paused hop=") {
            let domain = rest.split(' ').next().unwrap_or_default();
            self.ledger.note_try(domain);
        }
    }

    fn follows(&mut self, event: Event<'static>) {
        self.following.push_back(event);
    }

    /// Delivers the next event; if there is none, lets the engine read held-back input that it wants now.
    fn tell(&mut self) -> bool {
        if let Some(event) = self.following.pop_front() {
            self.engine.handle(event, self.now);
            return true;
        }
        if self.disk.sabotage == Sabotage::EarlyExit {
            return false;
        }
        let engine = &self.engine;
        let wanted = |conn: &&ConnId| engine.wants_input(**conn);
        let Some(conn) = self.stalled.keys().find(wanted).copied() else {
            return false;
        };
        let bytes = self.stalled.remove(&conn).unwrap_or_default();
        let bytes = &bytes;
        self.engine.handle(Event::Bytes { conn, bytes }, self.now);
        true
    }
}
