//! Who reads a page, of the status or of what domains publish over HTTPS: one request and its response, then the end.
//!
//! ```text
//!   Reading --head is whole, or refused--> answered, closed
//!      |  '--a file of the state is asked for--> Waiting --it is read--> answered, closed
//!      '--too slow, or crowded out--> closed without a word
//! ```
//!
//! Few are served at a time at either door; for one more, the one who has been there longest has to go. The door to the
//! Internet lets few of one client in at a time, so that nobody can have all others sent away.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};

use super::figures::figures;
use super::page;
use crate::clock::{Instant, Now};
use crate::engine::event::{Action, ConnId, Kept, TlsSide};
use crate::engine::timers::Timer;
use crate::engine::{Conn, Engine};
use crate::http::{Kind, Method, Refusal, Request, RequestReader, Response};
use crate::limits::{
    STATUS_INTERVAL, STATUS_TIMEOUT, STATUS_VISITS_MAX, WEB_VISITS_MAX, WEB_VISITS_OF_CLIENT_MAX,
};
use crate::policy::published::{self, AUTODISCOVER_PATH, Published};

/// What a connection was accepted on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Door {
    /// The status page.
    Status,
    /// What domains publish.
    Https,
}

/// Who is there, at either door the one who came first in front.
#[derive(Debug, Default)]
pub(in crate::engine) struct Visits {
    status: VecDeque<ConnId>,
    https: VecDeque<(ConnId, Option<IpAddr>)>,
    snapshot: Option<Snapshot>,
}

/// The state of the relay, as it was shown last.
#[derive(Debug)]
struct Snapshot {
    at: Instant,
    figures: Vec<u8>,
    json: Vec<u8>,
}

impl Visits {
    /// Lets one in; whom it takes the place of.
    fn enter(&mut self, conn: ConnId, door: Door, client: Option<IpAddr>) -> Option<ConnId> {
        match door {
            Door::Status => {
                self.status.push_back(conn);
                let is_full = self.status.len() > STATUS_VISITS_MAX;
                is_full.then(|| self.status.pop_front())?
            }
            Door::Https => {
                self.https.push_back((conn, client));
                let mut of_client = self
                    .https
                    .iter()
                    .filter(|(_, other)| *other == client && client.is_some());
                // The one who is too many is the new one: those who were there may be about to end.
                if of_client.nth(WEB_VISITS_OF_CLIENT_MAX).is_some() {
                    return self.https.pop_back().map(|(conn, _)| conn);
                }
                let is_full = self.https.len() > WEB_VISITS_MAX;
                is_full
                    .then(|| self.https.pop_front())?
                    .map(|(conn, _)| conn)
            }
        }
    }

    fn leave(&mut self, conn: ConnId) {
        self.status.retain(|one| *one != conn);
        self.https.retain(|(one, _)| *one != conn);
    }
}

/// One connection.
pub(in crate::engine) struct Visit {
    door: Door,
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
    /// Lets somebody in.
    pub(in crate::engine) fn admit_visit(
        &mut self,
        door: Door,
        client: Option<IpAddr>,
        now: Now,
    ) -> ConnId {
        let deadline = now.instant.after(STATUS_TIMEOUT);
        let reader = match door {
            Door::Status => RequestReader::default(),
            Door::Https => RequestReader::with_posts(),
        };
        let visit = Visit {
            door,
            stage: Stage::Reading(reader),
            deadline,
        };
        let conn = self.conns.insert(Conn::Visit(Box::new(visit)));
        self.timers.set(deadline, Timer::Conn(conn));
        if door == Door::Https {
            let side = TlsSide::HttpsServer;
            self.actions.push_back(Action::StartTls { conn, side });
        }
        if let Some(other) = self.visits.enter(conn, door, client.map(network)) {
            self.conns.remove(other);
            self.actions.push_back(Action::Abort { conn: other });
        }
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
            Ok(Some(request)) => match visit.door {
                Door::Status => (request.method, self.respond_to(&request, now)),
                Door::Https => (request.method, Answer::Now(self.publish(&request))),
            },
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
        self.visits.leave(conn);
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
            "/metrics" => Response::ok(Kind::Metrics, self.snapshot(now).figures.clone()),
            "/status.json" => Response::ok(Kind::Json, self.snapshot(now).json.clone()),
            "/health" if self.records_reach_disk() => Response::ok(Kind::Text, "ok\n"),
            "/health" => Response::other(
                (503, "Service Unavailable"),
                "The disk does not take records: nothing is sent until it does.",
            ),
            _ => Response::not_found(),
        })
    }

    /// The state of the relay, which is looked at once a second at most: with a long queue that takes a while, in which no
    /// mail is served.
    fn snapshot(&mut self, now: Now) -> &Snapshot {
        let known = self.visits.snapshot.take();
        let is_fresh = |snapshot: &Snapshot| now.instant.since(snapshot.at) < STATUS_INTERVAL;
        let snapshot = known.filter(is_fresh).unwrap_or_else(|| {
            let status = self.status(now);
            Snapshot {
                at: now.instant,
                figures: figures(&status, &self.observed).into_bytes(),
                json: serde_json::to_vec(&status).unwrap_or_default(),
            }
        });
        self.visits.snapshot.insert(snapshot)
    }

    /// What a domain tells the world.
    fn publish(&self, request: &Request) -> Response {
        let host = request.host.as_deref().unwrap_or_default();
        let is_post = request.method == Method::Post;
        let takes_posts = request.path.eq_ignore_ascii_case(AUTODISCOVER_PATH);
        if is_post && !takes_posts {
            return Response::refused(Refusal::Method);
        }
        match published::look(&self.config, host, &request.path) {
            Some(Published::Policy(text)) => Response::ok(Kind::Text, text),
            Some(Published::Settings(text)) => Response::ok(Kind::Xml, text),
            None => Response::not_found(),
        }
    }

    /// Whether the host that is asked for can be nobody else's. A page of the Internet can have a name lead to this machine,
    /// and its script would read what stands here (DNS rebinding); it cannot do that by an address, or by our own name.
    fn is_name_of_ours(&self, host: Option<&str>) -> bool {
        let Some(host) = host else { return true };
        host.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host == self.config.hostname.as_str()
            || host.ends_with(".localhost")
    }
}

/// What counts as one client: an address, or the IPv6 network of a customer.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address => address,
    }
}

const MISDIRECTED: &str =
    "This page is shown under an address, localhost, or the hostname of the relay.";
