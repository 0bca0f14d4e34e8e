//! HTTP clients that read the status page, or what domains publish over HTTPS: one request, one response, then the end.
//!
//! ```text
//!   Reading --head is whole, or refused--> answered, closed
//!      |  '--a file of the state is asked for--> Waiting --it is read--> answered, closed
//!      '--too slow, or evicted--> closed without a word
//! ```
//!
//! Each of the two listeners serves a few clients at a time; for one more, the oldest connection is closed. On the
//! listener that faces the Internet, it is the oldest of the site that has most connections ([`EvictionQueue`]), and one
//! client may have only a few: no client can have all others disconnected.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::figures::{figures, reported};
use super::page;
use super::report::status;
use crate::clock::Instant;
use crate::engine::connections::{ConnEvent, Owner, Sessions};
use crate::engine::delivery::Delivery;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, StateFile, TlsSide};
use crate::engine::timers::Timer;
use crate::http::{ContentKind, HttpMethod, HttpRefusal, HttpRequest, HttpResponse, RequestReader};
use crate::limits::{
    STATUS_INTERVAL, STATUS_TIMEOUT, STATUS_VISITS_MAX, WEB_VISITS_MAX, WEB_VISITS_OF_CLIENT_MAX,
};
use crate::policy::eviction::EvictionQueue;
use crate::policy::published::{self, AUTODISCOVER_PATH, PublishedFile};

/// The listener of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Door {
    /// The status page.
    Status,
    /// Pages that domains publish.
    Https,
}

#[derive(Default)]
pub(in crate::engine) struct Visits {
    sessions: Sessions<Box<Visit>>,
    /// The oldest connection in front.
    status: VecDeque<ConnId>,
    https: EvictionQueue<ConnId>,
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
    /// Admits a connection; returns the one that it replaces.
    fn enter(&mut self, conn: ConnId, door: Door, client: Option<IpAddr>) -> Option<ConnId> {
        match door {
            Door::Status => {
                self.status.push_back(conn);
                let is_full = self.status.len() > STATUS_VISITS_MAX;
                is_full.then(|| self.status.pop_front())?
            }
            Door::Https => {
                self.https.enter(conn, client);
                let of_client = client.map_or(0, |client| self.https.len_of_client(client));
                // The new connection is the surplus one: the others may be about to end.
                if of_client > WEB_VISITS_OF_CLIENT_MAX {
                    return self.https.refuse();
                }
                let is_full = self.https.len() > WEB_VISITS_MAX;
                is_full.then(|| self.https.make_room())?
            }
        }
    }

    fn leave(&mut self, conn: ConnId) {
        self.status.retain(|one| *one != conn);
        self.https.retain(|one| *one != conn);
    }
}

/// One connection.
struct Visit {
    door: Door,
    stage: Stage,
    /// When it is closed, at any progress.
    deadline: Instant,
}

enum Stage {
    /// The request comes in.
    Reading(RequestReader),
    /// A file is being read for a request with this method.
    Waiting(HttpMethod, With),
}

/// The use of a file that is read.
#[derive(Clone, Copy)]
enum With {
    /// It is the answer.
    Nothing,
    /// Its figures follow those of the relay.
    Figures,
}

enum Answer {
    /// This.
    Now(HttpResponse),
    /// A file of the state, once it is read.
    Kept(StateFile, With),
}

impl Visits {
    /// Admits a connection.
    pub(in crate::engine) fn admit(
        &mut self,
        door: Door,
        client: Option<IpAddr>,
        fx: &mut Effects,
    ) -> ConnId {
        let deadline = fx.now.instant.after(STATUS_TIMEOUT);
        let reader = match door {
            Door::Status => RequestReader::default(),
            Door::Https => RequestReader::with_posts(),
        };
        let visit = Visit {
            door,
            stage: Stage::Reading(reader),
            deadline,
        };
        let conn = fx.conns.reserve(Owner::Page);
        self.sessions.put(conn, Box::new(visit));
        fx.timers.set(deadline, Timer::Conn(conn));
        if door == Door::Https {
            let side = TlsSide::HttpsServer;
            fx.actions.push_back(Action::StartTls { conn, side });
        }
        if let Some(other) = self.enter(conn, door, client) {
            self.sessions.take(other);
            fx.conns.release(other);
            fx.actions.push_back(Action::Abort { conn: other });
        }
        conn
    }

    /// Something has happened to a visit.
    pub(in crate::engine) fn on_visit(
        &mut self,
        conn: ConnId,
        event: ConnEvent<'_>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        match event {
            ConnEvent::Bytes(bytes) => self.on_bytes(conn, bytes, delivery, fx),
            ConnEvent::TlsReady(_) => self.on_tls(conn),
            ConnEvent::Kept(bytes) => self.on_kept(conn, bytes, delivery, fx),
            ConnEvent::Timeout(_) => self.on_timeout(conn, fx),
            ConnEvent::Closed(_) => self.on_closed(conn, fx),
            ConnEvent::Stop => self.stop(conn, fx),
            // The response is its last action; other events were not requested.
            ConnEvent::Drained
            | ConnEvent::Connected
            | ConnEvent::Read(..)
            | ConnEvent::Answer(..) => {}
        }
    }

    /// The handshake is done.
    fn on_tls(&mut self, conn: ConnId) {
        self.https.settle(|one| *one == conn);
    }

    /// Whether bytes of a visit may be read now.
    pub(in crate::engine) fn wants_input(&self, conn: ConnId) -> bool {
        let visit = self.sessions.get(conn);
        visit.is_some_and(|visit| matches!(visit.stage, Stage::Reading(_)))
    }

    /// Something of a request has come.
    fn on_bytes(&mut self, conn: ConnId, bytes: &[u8], delivery: &Delivery, fx: &mut Effects) {
        let Some(visit) = self.sessions.get_mut(conn) else {
            return;
        };
        let Stage::Reading(reader) = &mut visit.stage else {
            return;
        };
        let (method, answer) = match reader.read(bytes) {
            Ok(None) => return,
            Ok(Some(request)) => match visit.door {
                Door::Status => (request.method, self.respond_to(&request, delivery, fx)),
                Door::Https => (request.method, Answer::Now(self.publish(&request, fx))),
            },
            Err(refusal) => (HttpMethod::Get, Answer::Now(HttpResponse::refused(refusal))),
        };
        match answer {
            Answer::Now(response) => self.answer(conn, method, response, fx),
            Answer::Kept(kept, with) => {
                if let Some(visit) = self.sessions.get_mut(conn) {
                    visit.stage = Stage::Waiting(method, with);
                }
                fx.actions.push_back(Action::ReadKept { conn, kept });
            }
        }
    }

    /// The file that was asked for is read.
    fn on_kept(
        &mut self,
        conn: ConnId,
        bytes: Option<Vec<u8>>,
        delivery: &Delivery,
        fx: &mut Effects,
    ) {
        let (method, with) = match self.sessions.get(conn).map(|visit| &visit.stage) {
            Some(Stage::Waiting(method, with)) => (*method, *with),
            // It has gone, or has asked for nothing.
            Some(Stage::Reading(_)) | None => return,
        };
        let response = match (with, bytes) {
            (With::Figures, bytes) => {
                let mut text = self.snapshot(delivery, fx).figures.clone();
                let served = fx.config.domains.keys();
                text.extend(reported(bytes.as_deref(), served).into_bytes());
                HttpResponse::ok(ContentKind::Metrics, text)
            }
            (With::Nothing, Some(bytes)) => HttpResponse::ok(ContentKind::Json, bytes),
            (With::Nothing, None) => HttpResponse::not_found(),
        };
        self.answer(conn, method, response, fx);
    }

    fn answer(
        &mut self,
        conn: ConnId,
        method: HttpMethod,
        response: HttpResponse,
        fx: &mut Effects,
    ) {
        fx.send(conn, response.into_bytes(method));
        self.on_closed(conn, fx);
        fx.actions.push_back(Action::Close { conn });
    }

    /// Its time is over, unless it was another's timer.
    fn on_timeout(&mut self, conn: ConnId, fx: &mut Effects) {
        let visit = self.sessions.get(conn);
        if visit.is_some_and(|visit| visit.deadline <= fx.now.instant) {
            self.stop(conn, fx);
        }
    }

    /// Closes it without a response.
    fn stop(&mut self, conn: ConnId, fx: &mut Effects) {
        self.on_closed(conn, fx);
        fx.actions.push_back(Action::Abort { conn });
    }

    /// Forgets it.
    fn on_closed(&mut self, conn: ConnId, fx: &mut Effects) {
        self.sessions.take(conn);
        fx.conns.release(conn);
        self.leave(conn);
    }

    fn respond_to(
        &mut self,
        request: &HttpRequest,
        delivery: &Delivery,
        fx: &mut Effects,
    ) -> Answer {
        if !self.is_name_of_ours(request.host.as_deref(), fx) {
            return Answer::Now(HttpResponse::other(
                (421, "Misdirected Request"),
                MISDIRECTED,
            ));
        }
        if let Some(file) = page::file(&request.path) {
            return Answer::Now(file);
        }
        Answer::Now(match request.path.as_str() {
            "/doctor.json" => return Answer::Kept(StateFile::Checklist, With::Nothing),
            "/reports.json" => return Answer::Kept(StateFile::Reports, With::Nothing),
            "/metrics" => return Answer::Kept(StateFile::Reports, With::Figures),
            "/status.json" => {
                HttpResponse::ok(ContentKind::Json, self.snapshot(delivery, fx).json.clone())
            }
            "/health" if !fx.disk.is_stuck => HttpResponse::ok(ContentKind::Text, "ok\n"),
            "/health" => HttpResponse::other(
                (503, "Service Unavailable"),
                "The disk does not take records: nothing is sent until it does.",
            ),
            _ => HttpResponse::not_found(),
        })
    }

    /// The state of the relay, which is looked at once a second at most: with a long queue that takes a while, in which
    /// no mail is served.
    fn snapshot(&mut self, delivery: &Delivery, fx: &mut Effects) -> &Snapshot {
        let known = self.snapshot.take();
        let is_fresh = |snapshot: &Snapshot| fx.now.instant.since(snapshot.at) < STATUS_INTERVAL;
        let snapshot = known.filter(is_fresh).unwrap_or_else(|| {
            let status = status(delivery, fx);
            Snapshot {
                at: fx.now.instant,
                figures: figures(&status, &fx.observed).into_bytes(),
                json: serde_json::to_vec(&status).unwrap_or_default(),
            }
        });
        self.snapshot.insert(snapshot)
    }

    /// The response for a page that a domain publishes.
    fn publish(&self, request: &HttpRequest, fx: &Effects) -> HttpResponse {
        let host = request.host.as_deref().unwrap_or_default();
        let is_post = request.method == HttpMethod::Post;
        let takes_posts = request.path.eq_ignore_ascii_case(AUTODISCOVER_PATH);
        if is_post && !takes_posts {
            return HttpResponse::refused(HttpRefusal::Method);
        }
        match published::look(&fx.config, host, &request.path) {
            Some(PublishedFile::Policy(text)) => HttpResponse::ok(ContentKind::Text, text),
            Some(PublishedFile::Settings(text)) => HttpResponse::ok(ContentKind::Xml, text),
            None => HttpResponse::not_found(),
        }
    }

    /// Whether the requested host can only be this machine. A page on the Internet can have a name lead to this
    /// machine, and its script could read this page (DNS rebinding); it cannot do that with an address, or with our own
    /// name.
    fn is_name_of_ours(&self, host: Option<&str>, fx: &Effects) -> bool {
        let Some(host) = host else { return true };
        host.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host == fx.config.hostname.as_str()
            || host.ends_with(".localhost")
    }
}

const MISDIRECTED: &str =
    "This page is shown under an address, localhost, or the hostname of the relay.";

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 0,
        }
    }

    #[test]
    fn one_client_has_few_visits_and_its_next_is_the_one_that_goes() {
        let mut visits = Visits::default();
        let client: IpAddr = [192, 0, 2, 1].into();
        for slot in 0..20 {
            let gone = visits.enter(conn(slot), Door::Https, Some(client));
            let is_over = slot as usize >= WEB_VISITS_OF_CLIENT_MAX;
            assert_eq!(gone, is_over.then(|| conn(slot)));
        }
    }

    #[test]
    fn many_clients_of_few_sites_keep_nobody_out() {
        for of_site in [
            |number: u32| IpAddr::from([10, 0, (number % 9) as u8, 1]),
            // Sixteen networks of one customer.
            |number: u32| {
                let network = 0x2001_0db8_0000_0000_u128 | u128::from(number % 16);
                IpAddr::V6((network << 64 | 1).into())
            },
        ] {
            let mut visits = Visits::default();
            let reader = visits.enter(conn(0), Door::Https, Some([192, 0, 2, 1].into()));
            assert_eq!(reader, None);
            for number in 1..1_000 {
                let gone = visits.enter(conn(number), Door::Https, Some(of_site(number)));
                assert_ne!(gone, Some(conn(0)));
            }
            assert_eq!(visits.https.len(), WEB_VISITS_MAX);
            let gone = visits.enter(conn(1_000), Door::Https, Some([192, 0, 3, 1].into()));
            assert!(gone.is_some_and(|gone| gone != conn(0) && gone != conn(1_000)));
        }
    }
}
