//! Who looks at the status: one request and its response, then the end.
//!
//! ```text
//!   accepted --head is whole, or refused--> answered --> closed
//!       '--too slow, or crowded out--> closed without a word
//! ```
//!
//! Few are served at a time; for one more, the one who has been there longest has to go.

use std::net::IpAddr;

use super::figures::figures;
use super::page;
use crate::clock::{Instant, Now};
use crate::engine::event::{Action, ConnId};
use crate::engine::timers::Timer;
use crate::engine::{Conn, Engine};
use crate::http::{Kind, Method, Request, RequestReader, Response};
use crate::limits::{STATUS_TIMEOUT, STATUS_VISITS_MAX};

/// One connection.
pub(in crate::engine) struct Visit {
    reader: RequestReader,
    /// Until when its request has to have come.
    deadline: Instant,
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
            reader: RequestReader::default(),
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
        let (method, response) = match visit.reader.read(bytes) {
            Ok(None) => return self.conns.put(conn, Conn::Visit(visit)),
            Ok(Some(request)) => (request.method, self.respond_to(&request, now)),
            Err(refusal) => (Method::Get, Response::refused(refusal)),
        };
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

    fn respond_to(&mut self, request: &Request, now: Now) -> Response {
        if !self.is_name_of_ours(request.host.as_deref()) {
            return Response::other((421, "Misdirected Request"), MISDIRECTED);
        }
        if let Some(file) = page::file(&request.path) {
            return file;
        }
        match request.path.as_str() {
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
        }
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
