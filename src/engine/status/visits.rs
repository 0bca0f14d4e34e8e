//! Who looks at the status: one request and its response, then the end.
//!
//! ```text
//!   Reading --head is whole, or refused--> answered, closed
//!      |  '--a file of the state is asked for--> Waiting --it is read--> answered, closed
//!      '--too slow, or crowded out--> closed without a word
//! ```
//!
//! Few are served at a time; for one more, the one who has been there longest has to go.

use std::net::IpAddr;

use super::figures::figures;
use super::page;
use crate::clock::{Instant, Now};
use crate::engine::event::{Action, ConnId, Kept};
use crate::engine::timers::Timer;
use crate::engine::{Conn, Engine};
use crate::http::{Kind, Method, Request, RequestReader, Response};
use crate::limits::{STATUS_TIMEOUT, STATUS_VISITS_MAX};

/// One connection.
pub(in crate::engine) struct Visit {
    stage: Stage,
    /// When it is closed, whatever it has got.
    deadline: Instant,
}

enum Stage {
    /// The request comes in.
    Reading(RequestReader),
    /// A file is being read for whoever asked with this method.
    Waiting(Method),
}

/// What is answered.
enum Answer {
    /// This.
    Now(Response),
    /// A file of the state, once it is read.
    Kept(Kept),
}

impl Visit {
    pub(in crate::engine) const fn wants_input(&self) -> bool {
        matches!(self.stage, Stage::Reading(_))
    }
}

impl Engine {
    /// Lets somebody in who wants to see the status.
    pub(in crate::engine) fn admit_visit(&mut self, now: Now) -> ConnId {
        while self.visits.len() >= STATUS_VISITS_MAX {
            if let Some(oldest) = self.visits.pop_front()
                && let Some(Conn::Visit(_)) = self.conns.take(oldest)
            {
                self.conns.remove(oldest);
                self.actions.push_back(Action::Abort { conn: oldest });
            }
        }
        let deadline = now.instant.after(STATUS_TIMEOUT);
        let visit = Visit {
            stage: Stage::Reading(RequestReader::default()),
            deadline,
        };
        let conn = self.conns.insert(Conn::Visit(Box::new(visit)));
        self.timers.set(deadline, Timer::Conn(conn));
        self.visits.push_back(conn);
        conn
    }

    /// Something of a request has come.
    pub(in crate::engine) fn visit_bytes(
        &mut self,
        conn: ConnId,
        mut visit: Box<Visit>,
        bytes: &[u8],
        now: Now,
    ) {
        let Stage::Reading(reader) = &mut visit.stage else {
            return self.conns.put(conn, Conn::Visit(visit));
        };
        let (method, answer) = match reader.read(bytes) {
            Ok(None) => return self.conns.put(conn, Conn::Visit(visit)),
            Ok(Some(request)) => (request.method, self.respond_to(&request, now)),
            Err(refusal) => (Method::Get, Answer::Now(Response::refused(refusal))),
        };
        match answer {
            Answer::Now(response) => self.visit_answer(conn, method, response),
            Answer::Kept(kept) => {
                visit.stage = Stage::Waiting(method);
                self.conns.put(conn, Conn::Visit(visit));
                self.actions.push_back(Action::ReadKept { conn, kept });
            }
        }
    }

    /// The file that was asked for is read.
    pub(in crate::engine) fn visit_kept(
        &mut self,
        conn: ConnId,
        visit: &Visit,
        bytes: Option<Vec<u8>>,
    ) {
        let method = match visit.stage {
            Stage::Waiting(method) => method,
            Stage::Reading(_) => Method::Get,
        };
        let response =
            bytes.map_or_else(Response::not_found, |bytes| Response::ok(Kind::Json, bytes));
        self.visit_answer(conn, method, response);
    }

    fn visit_answer(&mut self, conn: ConnId, method: Method, response: Response) {
        self.send(conn, response.into_bytes(method));
        self.visit_over(conn);
        self.actions.push_back(Action::Close { conn });
    }

    /// Its time is over, unless it was another's timer.
    pub(in crate::engine) fn visit_expired(&mut self, conn: ConnId, visit: Box<Visit>, now: Now) {
        if visit.deadline > now.instant {
            return self.conns.put(conn, Conn::Visit(visit));
        }
        self.visit_over(conn);
        self.actions.push_back(Action::Abort { conn });
    }

    /// Forgets it.
    pub(in crate::engine) fn visit_over(&mut self, conn: ConnId) {
        self.conns.remove(conn);
        self.visits.retain(|one| *one != conn);
    }

    fn respond_to(&mut self, request: &Request, now: Now) -> Answer {
        if !self.is_name_of_ours(request.host.as_deref()) {
            return Answer::Now(Response::other((421, "Misdirected Request"), MISDIRECTED));
        }
        if let Some(file) = page::file(&request.path) {
            return Answer::Now(file);
        }
        Answer::Now(match request.path.as_str() {
            "/doctor.json" => return Answer::Kept(Kept::Checklist),
            "/reports.json" => return Answer::Kept(Kept::Reports),
            "/metrics" => {
                let status = self.status(now);
                Response::ok(Kind::Metrics, figures(&status, &self.observed))
            }
            "/status.json" => {
                let status = self.status(now);
                Response::ok(Kind::Json, serde_json::to_vec(&status).unwrap_or_default())
            }
            "/health" if self.records_reach_disk() => Response::ok(Kind::Text, "ok\n"),
            "/health" => Response::other(
                (503, "Service Unavailable"),
                "The disk does not take records: nothing is sent until it does.",
            ),
            _ => Response::not_found(),
        })
    }

    /// Whether the host that is asked for can be nobody else's. A page of the Internet can have a name lead to this machine,
    /// and its script would read what stands here (DNS rebinding); it cannot do that by an address, by a name that nobody
    /// can register, or by ours.
    fn is_name_of_ours(&self, host: Option<&str>) -> bool {
        let Some(host) = host else { return true };
        host.parse::<IpAddr>().is_ok()
            || !host.contains('.')
            || host == self.config.hostname.as_str()
            || host.ends_with(".localhost")
    }
}

const MISDIRECTED: &str =
    "This page is shown under an address, a name without a dot, or the hostname of the relay.";
