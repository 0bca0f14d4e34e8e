//! The whole relay as one state machine: events in, actions out.
//!
//! ```text
//!            Event                                             Action
//!              |                                                 ^
//!           Engine: routes, hands notes on                       |
//!              |                                                 |
//!   server --Append--> spool --Queued--> delivery --Record--> spool
//!      ^                 |                  | '--Notify--> dsn --Append, Record--> spool
//!      '-----Stored------'                  |
//!                               control, status: look at all of it
//! ```
//!
//! | participant | what it owns |
//! | --- | --- |
//! | `server` | SMTP server sessions: acceptance of a message, sender authentication, AUTH, limits for clients, the hook |
//! | `spool` | what is on its way to the disk, and who waits for it |
//! | `delivery` | next hops, what waits for them, delivery sessions and their results |
//! | `dsn` | DSNs that are being made |
//! | `control` | the queue tools |
//! | `status` | readers of the page, and what is counted for it |
//!
//! A participant owns its tables. It gets `effects::Effects` with each event and informs another participant by a
//! `note::Note`; it cannot name the state of another. Its requests to the world leave as actions, which `driver` alone
//! interprets and has a world perform. This file decides nothing. Decisions are made below, in `smtp`, `policy`, `dns`,
//! `mail` and `queue`. Invariants: no 250 before `Committed`; one delivery session at a time tries a recipient, and no
//! other tries it before its delivery result is committed; every table has a ceiling.

mod admission;
mod answers;
mod connections;
pub mod control;
mod counters;
pub mod damage;
mod deadlines;
mod delivery;
pub mod driver;
pub mod drop_folder;
mod dsn;
mod effects;
pub mod event;
mod following;
mod inspection;
pub mod log;
mod lookups;
mod note;
mod repeats;
mod server;
mod shares;
mod signing;
mod spool;
mod start;
mod stats;
pub mod status;
mod timers;

use std::sync::Arc;

use crate::clock::Now;
use crate::limits::LOG_REPEAT_INTERVAL;
use crate::workload::{self, Workload};

use connections::{ConnEvent, Owner};
use control::Control;
pub use counters::{ClientTables, Counters, DsnTables, Tables};
use delivery::Delivery;
use dsn::Dsns;
use effects::Effects;
use event::{Action, ConnId, Event, Reloaded};
use log::{Level, Line};
use note::Note;
use server::Server;
use spool::Spool;
pub use start::EngineStart;
use status::Visits;
use timers::Timer;

/// The relay.
pub struct Engine {
    fx: Effects,
    server: Server,
    delivery: Delivery,
    spool: Spool,
    dsns: Dsns,
    control: Control,
    visits: Visits,
    /// The greatest counts of one turn.
    heaviest: Workload,
}

impl Engine {
    /// Something happened.
    pub fn handle(&mut self, event: Event<'_>, now: Now) {
        self.begin(now);
        let is_settled_later = matches!(
            event,
            Event::Recovered(_) | Event::TurnOver(_) | Event::Synced(_) | Event::Certificates(_)
        );
        let ((), done) = workload::during(|| {
            self.route(event);
            match is_settled_later {
                // Of what recovery finds nothing is sent before it is over: until then it is not known which ids are free.
                true => self.hand_on(),
                false => self.settle(),
            }
        });
        self.heaviest = self.heaviest.max(done);
    }

    fn begin(&mut self, now: Now) {
        self.fx.now = now;
        self.fx.observed.set_time(now.wall);
    }

    fn route(&mut self, event: Event<'_>) {
        let fx = &mut self.fx;
        let now = fx.now.instant;
        match event {
            Event::Connected { conn } => self.tell(conn, ConnEvent::Connected),
            Event::Bytes { conn, bytes } => self.tell(conn, ConnEvent::Bytes(bytes)),
            Event::Drained { conn } => self.tell(conn, ConnEvent::Drained),
            Event::Closed { conn, cause } => self.tell(conn, ConnEvent::Closed(cause)),
            Event::TlsReady { conn, session } => self.tell(conn, ConnEvent::TlsReady(session)),
            Event::Kept { conn, bytes } => self.tell(conn, ConnEvent::Kept(bytes)),
            Event::Stored(completion) => self.spool.on_stored(completion, fx),
            Event::Read { reader, result } => self.read(reader, result),
            Event::DnsDatagram {
                socket,
                from,
                bytes,
            } => fx
                .lookups
                .on_datagram(socket, from, bytes, now, &mut *fx.entropy),
            Event::DnsBytes { socket, bytes } => {
                fx.lookups
                    .on_stream_bytes(socket, bytes, now, &mut *fx.entropy);
            }
            Event::DnsFailed { socket } => fx.lookups.on_failed(socket, now, &mut *fx.entropy),
            Event::Worked { job, result } => self.worked(job, result),
            Event::Reloaded(reloaded) => self.reconfigure(&reloaded),
            Event::ReloadFailed { conn, errors } => {
                let delivery = &self.delivery;
                self.control.on_reload_failed(conn, &errors, delivery, fx);
            }
            Event::Recovered(recovered) => self.delivery.on_recovered(*recovered, fx),
            Event::RecoveryOver { ids, untold } => {
                fx.ids = ids;
                damage::report_damage(&untold, fx);
            }
            Event::SetAside(lines) => damage::report_set_aside(&lines, fx),
            Event::Greylist(image) => self.server.restore_greylist(&image, fx),
            Event::DnsServers(servers) => fx.lookups.set_servers(servers),
            Event::Synced(took) => fx.observed.synced(took),
            Event::Certificates(certificates) => fx.observed.certificates(certificates),
            Event::TurnOver(took) => fx.observed.turn_over(took),
            Event::Stop => self.stop(),
        }
    }

    fn reconfigure(&mut self, reloaded: &Reloaded) {
        let Reloaded {
            config,
            conn,
            unchanged,
        } = reloaded;
        let fx = &mut self.fx;
        fx.lookups.set_servers(config.dns.servers.clone());
        let rerouted = fx.config.routes != config.routes;
        fx.config = Arc::clone(config);
        self.server.reconfigure(fx);
        fx.size_pools();
        if rerouted {
            self.delivery.reroute(fx);
        }
        fx.log(Line::new(Level::Info, "reloaded"));
        if let Some(conn) = *conn {
            self.control.tell_restart_needed(conn, unchanged, fx);
            self.control.on_reloaded(conn, &[], &self.delivery, fx);
        }
    }

    fn stop(&mut self) {
        self.fx.stopping = true;
        for conn in self.fx.conns.ids() {
            self.tell(conn, ConnEvent::Stop);
            self.hand_on();
        }
    }

    /// Passes an event to the owner of a connection. An event of a dead id is dropped.
    fn tell(&mut self, conn: ConnId, event: ConnEvent<'_>) {
        let fx = &mut self.fx;
        match fx.conns.owner(conn) {
            Some(Owner::Server) => self.server.on_session(conn, event, fx),
            Some(Owner::Hook) => self.server.on_hook(conn, event, fx),
            Some(Owner::Delivery) => self.delivery.on_session(conn, event, fx),
            Some(Owner::Control) => self.control.on_tool(conn, event, &self.delivery, fx),
            Some(Owner::Page) => self.visits.on_visit(conn, event, &self.delivery, fx),
            None => {}
        }
    }

    /// Hands notes to their participants, until none are left.
    fn hand_on(&mut self) {
        while let Some(note) = self.fx.notes.pop_front() {
            self.hand(note);
        }
    }

    fn hand(&mut self, note: Note) {
        let fx = &mut self.fx;
        match note {
            Note::Append(new) => self.spool.append(*new, fx),
            Note::Record { record, session } => self.spool.record(record, session, fx),
            Note::Finished { id } => self.spool.finish(id, fx),
            Note::Forgotten { id } => self.spool.forget(id),
            Note::Mark { id, held, tool } => self.spool.mark(id, held, tool, fx),
            Note::Remove { id, removal } => self.spool.remove(id, removal, fx),
            Note::Stored {
                conn,
                id,
                result,
                uses,
            } => self.server.on_stored(conn, id, result, uses, fx),
            Note::BodyWritten { id, result } => self.server.body_written(id, result, fx),
            Note::Space { free } => self.server.on_space(free, fx),
            Note::Queued(message) => self.delivery.on_queued(*message, fx),
            Note::Recorded { record, session } => {
                let id = record.id;
                self.delivery.on_recorded(record, fx);
                if let Some(session) = session {
                    self.delivery.go_on(session, id, fx);
                }
            }
            Note::GoOn { session, id } => self.delivery.go_on(session, id, fx),
            Note::Done { id, by } => self.delivery.on_done(id, by, fx),
            Note::Marked { id, held } => self.delivery.on_marked(id, held, fx),
            Note::Flush { ids } => self.delivery.on_flush(&ids, fx),
            Note::DiskWorks => self.delivery.on_disk_works(),
            Note::Notify(unrecorded) => self.dsns.notify(unrecorded, fx),
            Note::Changed { tool, id, result } => {
                self.control
                    .on_changed(tool, (id, result), &self.delivery, fx);
            }
            Note::Followed { conn, text } => self.control.on_followed(conn, text, fx),
        }
    }

    /// Ends a turn: hands on notes and answers, and starts what can be sent.
    fn settle(&mut self) {
        self.hand_on();
        self.server.make_room(&mut self.fx);
        self.prune_timers();
        if self.fx.logging.repeats.plan() {
            let end = self.fx.now.instant.after(LOG_REPEAT_INTERVAL);
            self.fx.timers.set(end, Timer::Repeats);
        }
        loop {
            self.hand_on();
            let answered = self.hand_out_answers();
            let dispatched = self.delivery.dispatch_hops(&mut self.fx);
            if !answered && !dispatched && self.fx.notes.is_empty() {
                break;
            }
        }
        self.server.start_hooks(&mut self.fx);
    }

    /// Hands out the answers of the resolver; returns whether there were any.
    fn hand_out_answers(&mut self) -> bool {
        let mut any = false;
        while let Some(answered) = self.fx.next_answer() {
            any = true;
            for conn in answered.conns {
                self.tell(
                    conn,
                    ConnEvent::Answer(&answered.question, &answered.answer),
                );
            }
        }
        any
    }

    /// The next action, for `driver`.
    fn next_action(&mut self) -> Option<Action> {
        self.fx.actions.pop_front()
    }
}
