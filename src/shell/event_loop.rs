//! One thread, one poll: readiness in, events to the engine, its actions performed.
//!
//! ```text
//!   poll --> mark what is ready --> hand in what came --> accept --> read --> expire --> poll
//!                                        |                 |         |         |
//!                                        '--------- settle: do actions, write, tell what came of it
//! ```
//!
//! The loop routes and sleeps; the engine decides. Each connection has a budget per turn; the rest is processed in the
//! next turn, which then starts without waiting. Invariants: the actions of an event are performed before the next
//! event is handled; no readiness edge is lost, because the stream stores it; the clock for decisions is read once per
//! turn. The duration of a turn is measured separately.

mod connections;
mod fixed;
mod periodic;
mod state;
mod world;

use std::io;
use std::time::Duration;

use mio::Events;
use mio::event::Event as Readiness;

use crate::engine::event::{Event, Listener, Peer};
use crate::engine::log::{Level, Line};
use crate::limits::STOP_TIMEOUT;
use crate::shell::net::stream::Socket;
use crate::shell::net::udp::Arrival;
use crate::shell::process::log;
use crate::shell::process::signals::SignalRequest;
use crate::shell::process::systemd::{self};
use crate::shell::run_error::RunError;
use crate::shell::spool::drop_runs::FromRun;
use crate::shell::spool::greylist_file;
use state::{Later, PeriodicCheck};

pub(super) use state::{EventLoop, LoopPaths, LoopState, TokenSource, waker};

impl EventLoop {
    /// Runs until it is asked to end.
    pub(super) fn run(mut self) -> Result<(), RunError> {
        for (index, port) in self.ports.iter_mut().enumerate() {
            port.register(self.poll.registry(), TokenSource::Port.token(index))
                .map_err(|error| RunError::System("poll", error))?;
        }
        self.helper
            .register(self.poll.registry(), TokenSource::Helper.token(0))
            .map_err(|error| RunError::System("poll", error))?;
        // Recovered messages wait to be sent.
        self.engine.expire(self.now);
        self.settle();
        self.say_certificates();
        log::flush();
        systemd::ready();
        self.report();
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while !self.is_over() {
            self.turn(&mut events)?;
        }
        for port in &self.ports {
            port.remove_file();
        }
        if let Some(image) = self.engine.greylist_image() {
            greylist_file::write(&self.paths.greylist, &image);
        }
        log::flush();
        let shut_down = self.journal.shut_down();
        shut_down.map_err(|_| RunError::Writer)?;
        self.state.stopped_by.map_or(Ok(()), Err)
    }

    fn turn(&mut self, events: &mut Events) -> Result<(), RunError> {
        match self.poll.poll(events, self.timeout()) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(RunError::System("poll", error));
            }
            _ => {}
        }
        let began = self.clock.elapsed();
        self.now = self.clock.read();
        for readiness in events.iter() {
            self.route(readiness);
        }
        self.settle();
        self.collect();
        self.accept_all();
        self.serve_ready();
        self.expire();
        self.report();
        let engine = &self.engine;
        self.state
            .streams
            .wake_stalled(|conn| engine.wants_input(conn));
        log::flush();
        let took = self.clock.elapsed().saturating_sub(began);
        self.engine.handle(Event::TurnOver(took), self.now);
        self.state.failed.take().map_or(Ok(()), Err)
    }

    /// How long to sleep; `None` means until an event.
    fn timeout(&self) -> Option<Duration> {
        let state = &self.state;
        let accepting = state.accept_again.is_none() && self.ports.iter().any(|port| port.ready);
        let unfinished = !state.later.is_empty() || state.streams.has_unwritten();
        if state.streams.ready_len() > 0 || unfinished || accepting {
            return Some(Duration::ZERO);
        }
        let next = [
            self.engine.deadline(),
            state.streams.deadline(),
            state.accept_again,
            state.stop_by,
            state.looks.iter().map(|(_, at)| *at).min(),
            self.supervisor.deadline(),
        ];
        let next = next.into_iter().flatten().min()?;
        // The clock counts whole milliseconds: a wake-up just before one would cause a second wake-up.
        let wait = next.since(self.now.instant);
        Some(if wait.is_zero() {
            wait
        } else {
            wait.saturating_add(Duration::from_millis(1))
        })
    }

    /// Marks ready sockets.
    fn route(&mut self, readiness: &Readiness) {
        match TokenSource::of(readiness.token()) {
            (TokenSource::Signals, _) => self.on_signals(),
            (TokenSource::Waker, _) => {}
            (TokenSource::Port, index) => {
                if let Some(port) = self.ports.get_mut(index) {
                    port.ready = true;
                }
            }
            (TokenSource::Stream, key) => {
                let (readable, writable) = (readiness.is_readable(), readiness.is_writable());
                let ended = readiness.is_read_closed() || readiness.is_error();
                if let Some(stream) = self.state.streams.get_mut(key) {
                    stream.on_ready(readable, writable || readiness.is_error(), ended);
                    self.state.streams.make_ready(key);
                }
            }
            (TokenSource::Dns, key) => self.on_dns(key),
            (TokenSource::Helper, _) => {
                let ended = readiness.is_read_closed() || readiness.is_error();
                if ended && self.state.stop_by.is_none() {
                    let line = Line::new(Level::Error, "helper");
                    let line = line.with("cause", "it has ended");
                    log::write(&line.with("cure", "the relay stops; start it again"));
                    self.state.stopped_by = Some(RunError::Helper);
                    self.stop();
                }
            }
        }
    }

    fn on_signals(&mut self) {
        for asked in self.signals.take() {
            match asked {
                SignalRequest::Reload => self.state.later.push_back(Later::Reload(None)),
                SignalRequest::Stop if self.state.stop_by.is_none() => self.stop(),
                SignalRequest::Stop => {}
            }
        }
    }

    fn stop(&mut self) {
        systemd::stopping();
        log::write(&Line::new(Level::Info, "stopping"));
        self.state.stop_by = Some(self.now.instant.after(STOP_TIMEOUT));
        for port in std::mem::take(&mut self.ports) {
            port.remove_file();
        }
        self.engine.handle(Event::Stop, self.now);
        self.settle();
    }

    fn is_over(&self) -> bool {
        self.state.stop_by.is_some_and(|by| {
            by <= self.now.instant || (self.engine.is_stopped() && self.state.streams.len() == 0)
        })
    }

    fn on_dns(&mut self, key: usize) {
        let mut scratch = std::mem::take(&mut self.state.scratch);
        loop {
            let arrival = self.state.dns.receive(key, &mut scratch);
            let bytes = |len| scratch.get(..len).unwrap_or_default();
            let event = match arrival {
                Arrival::Nothing => break,
                Arrival::Datagram(socket, from, len) => Event::DnsDatagram {
                    socket,
                    from,
                    bytes: bytes(len),
                },
                Arrival::Bytes(socket, len) => Event::DnsBytes {
                    socket,
                    bytes: bytes(len),
                },
                Arrival::Failed(socket) => Event::DnsFailed { socket },
            };
            self.engine.handle(event, self.now);
            self.settle();
        }
        self.state.scratch = scratch;
    }

    /// Passes on the results of other threads.
    fn collect(&mut self) {
        while let Some(completion) = self.journal.next_completion() {
            self.engine.handle(Event::Stored(completion), self.now);
            self.settle();
        }
        while let Some(took) = self.journal.next_batch() {
            self.engine.handle(Event::Synced(took), self.now);
        }
        self.reader.forget_removed();
        while let Some((job, result)) = self.workers.result() {
            self.engine.handle(Event::Worked { job, result }, self.now);
            self.settle();
        }
        if self.renewals.take_lines() {
            self.look(PeriodicCheck::Certificates);
        }
        while let Some(said) = self.drops.next() {
            match said {
                FromRun::Log(line) => log::write(&line),
                FromRun::SetAside(what) => self.drops.note(what),
                FromRun::Connect(stream, uid) => {
                    let stream = mio::net::UnixStream::from_std(stream);
                    self.admit(
                        Listener::Submit,
                        Socket::Unix(stream),
                        Peer::Process { uid },
                    );
                }
            }
        }
    }

    /// Notifies systemd that the loop runs, with its status. A loop that hangs, or one whose journal has ended, sends
    /// nothing.
    fn report(&mut self) {
        let now = self.now.instant;
        if self.supervisor.deadline().is_some_and(|at| at <= now) && self.journal.is_alive() {
            self.supervisor.report(&self.engine, now);
        }
    }

    fn expire(&mut self) {
        let now = self.now.instant;
        if self
            .engine
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.engine.expire(self.now);
            self.settle();
        }
        self.state.streams.expire(now);
        for (look, at) in &mut self.state.looks {
            if *at <= now {
                *at = now.after(look.interval());
                let look = *look;
                return self.look(look);
            }
        }
    }
}

const EVENTS_PER_TURN: usize = 1_024;
