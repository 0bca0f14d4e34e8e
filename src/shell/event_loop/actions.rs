//! What the engine wants, done, and what came of it, told.

use super::state::{EventLoop, Later, Source};
use crate::engine::event::{Action, Event, Reader};
use crate::limits::CONSEQUENCES_PER_TURN_MAX;
use crate::queue::{self};
use crate::shell::files::plain_file;
use crate::shell::net::stream::lost;
use crate::shell::process::log;
use crate::shell::run_error::RunError;

impl EventLoop {
    /// Does what the engine wants and tells it what came of that, until there is nothing or enough for this turn.
    pub(super) fn settle(&mut self) {
        for _ in 0..CONSEQUENCES_PER_TURN_MAX {
            while let Some(action) = self.engine.next_action() {
                self.perform(action);
            }
            while let Some(key) = self.state.streams.next_unwritten() {
                self.write(key);
            }
            self.state.streams.make_room();
            match self.state.later.pop_front() {
                Some(later) => self.tell(later),
                None => return,
            }
        }
        while let Some(action) = self.engine.next_action() {
            self.perform(action);
        }
    }

    fn tell(&mut self, later: Later) {
        let event = match later {
            // It was out; more has been sent since, and that is told of in its turn.
            Later::Drained(conn) if self.state.streams.has_output(conn) => return,
            Later::Drained(conn) => Event::Drained { conn },
            Later::Closed(conn, cause) => Event::Closed { conn, cause },
            Later::Read(reader, result) => Event::Read { reader, result },
            Later::DnsFailed(socket) => Event::DnsFailed { socket },
            Later::Reload(conn) => return self.reload(conn),
            Later::Kept(conn, bytes) => Event::Kept { conn, bytes },
        };
        self.engine.handle(event, self.now);
    }

    fn perform(&mut self, action: Action) {
        let state = &mut self.state;
        match action {
            Action::Send { conn, bytes } => {
                if let Some(key) = state.streams.key(conn)
                    && let Some(stream) = state.streams.get_mut(key)
                {
                    stream.send(bytes);
                    state.streams.make_unwritten(key);
                }
            }
            Action::Close { conn } => {
                if let Some(key) = state.streams.forget(conn) {
                    state.streams.close(key);
                }
            }
            Action::Abort { conn } => {
                if let Some(key) = state.streams.forget(conn) {
                    state.streams.remove(key);
                }
            }
            Action::StartTls { conn, side } => {
                if let Some(key) = state.streams.key(conn)
                    && let Some(stream) = state.streams.get_mut(key)
                {
                    stream.start_tls(side);
                    state.streams.make_unwritten(key);
                }
            }
            Action::Connect { conn, to, from } => {
                if let Err(error) = self.connect(conn, to, from) {
                    self.state
                        .later
                        .push_back(Later::Closed(conn, lost(&error)));
                }
            }
            Action::Store(command) => {
                if self.journal.send(command).is_err() {
                    state.failed = Some(RunError::Writer);
                }
            }
            Action::Read {
                reader,
                id,
                location,
                part,
            } => {
                let result = queue::read(&mut self.reader, location, id, part);
                state.later.push_back(Later::Read(reader, result));
            }
            Action::ReadBody {
                conn,
                id,
                offset,
                len,
            } => {
                let result = queue::read_unfinished(&mut self.reader, id, offset, len);
                let reader = Reader::Conn(conn);
                state.later.push_back(Later::Read(reader, result));
            }
            Action::DnsSend { socket, to, bytes } => {
                let registry = self.poll.registry();
                let sent = state
                    .dns
                    .send(socket, to, &bytes, registry, |key| Source::Dns.token(key));
                state
                    .later
                    .extend(sent.is_err().then_some(Later::DnsFailed(socket)));
            }
            Action::DnsConnect { socket, to, bytes } => {
                let registry = self.poll.registry();
                let sent = state
                    .dns
                    .connect(socket, to, bytes, registry, |key| Source::Dns.token(key));
                state
                    .later
                    .extend(sent.is_err().then_some(Later::DnsFailed(socket)));
            }
            Action::DnsClose { socket } => state.dns.close(socket),
            Action::Work { job, work } => self.workers.give(job, work),
            Action::Reload { conn } => state.later.push_back(Later::Reload(conn)),
            Action::ReadKept { conn, kept } => {
                let path = state.fixed.state_dir().join(kept.file());
                let bytes = plain_file::bytes(&path).ok();
                state.later.push_back(Later::Kept(conn, bytes));
            }
            Action::Log(line) => log::put(&line),
        }
    }
}
