//! Connections, clients and servers of the world, and the name server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use chopar::dns::SocketId;
use chopar::engine::event::{ConnId, Endpoint, Event, Listener, Lost, Peer};
use chopar::entropy::Entropy;
use chopar::hook::HOOK;

use crate::client::{News, Sender};
use crate::disk::hold;
use crate::dns::{self, LIES, Lie};
use crate::messages::{self, ClientMessage, Said};
use crate::remote::{Mood, Move, Remote, Taken};
use crate::unauthenticated_clients;
use crate::world::{End, Faults, Happening, World};

impl World {
    pub(crate) fn populate(&mut self) {
        if self.faults == Faults::UnauthenticatedClients {
            self.populate_with_unauthenticated_clients();
        }
        let clients = match self.faults {
            Faults::UnauthenticatedClients => 1,
            _ => 1 + self.entropy.below(5),
        };
        for client in 0..clients {
            let messages = (0..1 + self.entropy.below(4))
                .map(|number| self.message(client, number))
                .collect();
            let at = self.entropy.below(20_000);
            self.client(messages, Duration::from_millis(at));
        }
    }

    /// Plans a client that connects after a delay.
    pub(crate) fn client(&mut self, messages: Vec<ClientMessage>, after: Duration) {
        self.clients.push(Sender::new(messages));
        self.plan(after, Happening::Arrive(self.clients.len() - 1));
    }

    fn message(&mut self, client: u64, number: u64) -> ClientMessage {
        let mut recipients: Vec<String> = (0..1 + self.entropy.below(4))
            .map(|_| {
                let domain = match self.entropy.below(24) {
                    0 => dns::NULL_MX,
                    1 => dns::NO_DOMAIN,
                    2 => dns::BROKEN,
                    3 | 4 => dns::IMPLICIT,
                    _ => self.entropy.below(dns::DOMAINS.into()) as u8,
                };
                let domain = if self.faults == Faults::Calm {
                    domain % dns::DOMAINS
                } else {
                    domain
                };
                format!("r{}@d{domain}.example", self.entropy.below(3))
            })
            .collect();
        recipients.sort();
        recipients.dedup();
        let lines = match self.entropy.below(12) {
            0 => 6_000, // too large to be kept in memory
            1 => 0,
            2 => 1_000, // read in several pieces
            _ => self.entropy.below(40),
        };
        let marker = format!("client-{client}-{number}");
        ClientMessage::new(marker, recipients, lines, &mut self.entropy)
    }

    pub(crate) fn arrive(&mut self, client: usize) {
        let address = match self.clients[client].is_unauthenticated() {
            true => unauthenticated_clients::address(client),
            false => Ipv4Addr::new(198, 51, 100, client as u8).into(),
        };
        let remote = SocketAddr::new(address, 40_000);
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 25);
        let peer = Peer::Network { remote, local };
        match self.engine.accept(Listener::Smtp, peer, self.now) {
            Ok(conn) => drop(self.ends.insert(conn, End::Client(client))),
            Err(_) => self.clients[client].lost(),
        }
        self.hear_client(client);
    }

    /// Sends bytes to the relay in several pieces, in order.
    pub(crate) fn send_to_relay(&mut self, conn: ConnId, bytes: &[u8], after: Duration) {
        let earliest = self.now.instant.after(after);
        let last = self.last_arrival.get(&conn).copied();
        let mut at = last.map_or(earliest, |last| last.max(earliest));
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = match self.entropy.below(3) {
                0 => 1 + self.entropy.below(7) as usize,
                _ => 1 + self.entropy.below(20_000) as usize,
            };
            let (piece, behind) = rest.split_at(len.min(rest.len()));
            if !behind.is_empty() && !piece.ends_with(b"\n") {
                self.tally.fault("link", "split line");
            }
            at = at.after(Duration::from_millis(1 + self.entropy.below(3)));
            self.plan_at(at, Happening::ToRelay(conn, piece.to_vec()));
            rest = behind;
        }
        self.last_arrival.insert(conn, at);
    }

    pub(crate) fn bytes_arrive(&mut self, conn: ConnId, bytes: &[u8]) {
        if !self.ends.contains_key(&conn) {
            return;
        }
        let is_local = matches!(
            self.ends.get(&conn),
            Some(End::Operator(_) | End::Prober(_) | End::Drop(_))
        );
        if !is_local && self.mishap(400) {
            self.tally.fault("link", "reset");
            return self.lost(conn, Lost::Reset);
        }
        let mut stalled = self.stalled.remove(&conn).unwrap_or_default();
        stalled.extend_from_slice(bytes);
        if self.engine.wants_input(conn) {
            let bytes = &stalled;
            self.engine.handle(Event::Bytes { conn, bytes }, self.now);
        } else {
            self.stalled.insert(conn, stalled);
        }
    }

    /// The relay sends. Its output arrives in order and in one piece; only its input is split.
    pub(crate) fn relay_sends(&mut self, conn: ConnId, bytes: Vec<u8>) {
        *self.undrained.entry(conn).or_default() += 1;
        let to_server = matches!(self.ends.get(&conn), Some(End::Remote(_) | End::Hook(_)));
        if to_server && !self.blocked.contains(&conn) && self.mishap(250) {
            self.tally.fault("link", "window zero");
            self.blocked.insert(conn);
        }
        if self.blocked.contains(&conn) {
            return;
        }
        self.plan(Duration::from_millis(3), Happening::FromRelay(conn, bytes));
        self.plan(Duration::from_millis(3), Happening::Drained(conn));
    }

    /// The kernel has taken a piece of output. The engine gets `Drained` only for the last piece.
    pub(crate) fn drained(&mut self, conn: ConnId) {
        if let Some(left) = self.undrained.get_mut(&conn) {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.undrained.remove(&conn);
        }
        self.engine.handle(Event::Drained { conn }, self.now);
    }

    pub(crate) fn bytes_leave(&mut self, conn: ConnId, bytes: &[u8]) {
        match self.ends.get_mut(&conn) {
            Some(End::Client(client)) => {
                let client = *client;
                let waited = self.clients[client].waits_behind_a_dot();
                let answer = self.clients[client].on_bytes(bytes);
                self.hear_client(client);
                self.send_to_relay(conn, &answer, Duration::ZERO);
                let sender = &self.clients[client];
                if !waited && sender.waits_behind_a_dot() && sender.is_unauthenticated() {
                    self.perhaps_leave(conn);
                }
            }
            Some(End::Remote(remote)) => {
                let next = remote.on_bytes(bytes);
                self.hear_remote(conn);
                self.remote_moves(conn, next);
            }
            Some(End::Hook(_)) => {
                let next = self.hook_hears(conn, bytes);
                self.remote_moves(conn, next);
            }
            Some(End::Operator(_)) => self.operator_hears(conn, bytes),
            Some(End::Prober(_)) => self.prober_hears(conn, bytes),
            Some(End::Drop(name)) => {
                let name = name.clone();
                self.drop_hears(name, conn, bytes);
            }
            Some(End::Attacker) | None => {}
        }
    }

    /// Enters the events of a client into the ledger.
    fn hear_client(&mut self, client: usize) {
        for code in std::mem::take(&mut self.clients[client].codes) {
            match code {
                550 => self
                    .tally
                    .fault("unauthenticated", "refused behind its dot"),
                451 => self
                    .tally
                    .fault("unauthenticated", "put off behind its dot"),
                _ => {}
            }
        }
        for news in std::mem::take(&mut self.clients[client].news) {
            match news {
                News::Dot(message) => {
                    for name in message
                        .recipients
                        .iter()
                        .filter(|_| message.unauthenticated)
                    {
                        self.tally
                            .fault("alias", unauthenticated_clients::kind_of(name));
                    }
                    self.ledger.offered(message);
                }
                News::Said(marker, said) => {
                    self.tally.accepted += u64::from(said == Said::Accepted);
                    if said == Said::Refused && marker.starts_with("forged") {
                        self.tally.fault("return", "forged and refused");
                    }
                    if said == Said::Unknown {
                        self.tally.fault("link", "lost behind a client's dot");
                    }
                    hold(self.ledger.said(&marker, said));
                }
            }
        }
    }

    /// Enters into the ledger what a server was asked for and accepted.
    fn hear_remote(&mut self, conn: ConnId) {
        let Some(End::Remote(remote)) = self.ends.get_mut(&conn) else {
            return;
        };
        let asked = std::mem::take(&mut remote.asked);
        let taken = std::mem::take(&mut remote.taken);
        for (place, kind) in std::mem::take(&mut remote.faults) {
            self.tally.fault(place, kind);
        }
        if asked.is_empty() && taken.is_empty() {
            return;
        }
        let id = *self
            .carrying
            .get(&conn)
            .expect("a session carries what it has read");
        for (path, address) in asked {
            hold(self.ledger.attempted(id, &address));
            hold(self.ledger.sent_as(id, &address, &path));
        }
        for message in taken {
            self.tally.delivered += message.recipients.len() as u64;
            let (recipients, text) = (&message.recipients, &message.text);
            hold(self.ledger.taken(conn, id, recipients, text));
            if self.faults == Faults::UnauthenticatedClients {
                self.unauthenticated_mail_taken(&message);
            }
        }
    }

    fn unauthenticated_mail_taken(&mut self, message: &Taken) {
        if message.path.starts_with("SRS0=") {
            self.tally.fault("forward", "rewritten sender");
        }
        let subject = messages::header(&message.text, "Subject").unwrap_or_default();
        match subject.split('-').next() {
            Some("return") => self.tally.fault("return", "reached the first sender"),
            Some("outside") if message.path.is_empty() => self.tally.fault("forward", "null path"),
            _ => {}
        }
        if messages::header(&message.text, "X-Spam-Flag").is_some() {
            self.tally.fault("forward", "marked");
        }
        self.perhaps_return(&message.path);
    }

    fn remote_moves(&mut self, conn: ConnId, next: Move) {
        self.send_to_relay(conn, &next.bytes, next.after);
        if let Some(cause) = next.end {
            let last = self.last_arrival.get(&conn).copied();
            let at = last.unwrap_or(self.now.instant).max(self.now.instant);
            let pause = self.entropy.below(500);
            self.plan_at(
                at.after(Duration::from_millis(pause)),
                Happening::Lost(conn, cause),
            );
        }
    }

    pub(crate) fn connected(&mut self, conn: ConnId) {
        if let Some(End::Hook(_)) = self.ends.get(&conn) {
            return self.engine.handle(Event::Connected { conn }, self.now);
        }
        if let Some(End::Remote(remote)) = self.ends.get_mut(&conn) {
            let banner = remote.banner();
            self.hear_remote(conn);
            self.engine.handle(Event::Connected { conn }, self.now);
            self.remote_moves(conn, banner);
        }
    }

    /// A connection ends from outside.
    pub(crate) fn lost(&mut self, conn: ConnId, cause: Lost) {
        self.forget(conn);
        self.stalled.remove(&conn);
        self.engine.handle(Event::Closed { conn, cause }, self.now);
    }

    /// The relay closes a connection: the other end still gets the output, and its answer is lost.
    pub(crate) fn relay_closes(&mut self, conn: ConnId) {
        for number in self.pending_sends(conn) {
            if let Some(Happening::FromRelay(_, bytes)) = self.happenings.remove(&number) {
                self.happenings
                    .insert(number, Happening::FromRelay(conn, Vec::new()));
                match self.ends.get_mut(&conn) {
                    Some(End::Client(client)) => {
                        let client = *client;
                        drop(self.clients[client].on_bytes(&bytes));
                        self.hear_client(client);
                    }
                    Some(End::Remote(remote)) => {
                        drop(remote.on_bytes(&bytes));
                        self.hear_remote(conn);
                    }
                    Some(End::Operator(_)) => self.operator_hears(conn, &bytes),
                    Some(End::Prober(_)) => self.prober_hears(conn, &bytes),
                    Some(End::Drop(name)) => {
                        let name = name.clone();
                        self.drop_hears(name, conn, &bytes);
                    }
                    Some(End::Hook(_) | End::Attacker) | None => {}
                }
            }
        }
        self.forget(conn);
        self.stalled.remove(&conn);
    }

    fn pending_sends(&self, conn: ConnId) -> Vec<u64> {
        let sent = |happening: &Happening| matches!(happening, Happening::FromRelay(other, _) if *other == conn);
        let mut numbers: Vec<u64> = self
            .happenings
            .iter()
            .filter(|(_, happening)| sent(happening))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// The other end learns that the connection is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.last_arrival.remove(&conn);
        self.blocked.remove(&conn);
        self.undrained.remove(&conn);
        self.domains.remove(&conn);
        match self.ends.remove(&conn) {
            Some(End::Client(client)) => {
                if !self.clients[client].over {
                    self.clients[client].lost();
                }
                self.hear_client(client);
            }
            Some(End::Remote(_)) => {
                self.carrying.remove(&conn);
                self.ledger.session_over(conn);
            }
            Some(End::Drop(name)) => self.drop_lost(name, conn),
            Some(End::Hook(_) | End::Operator(_) | End::Prober(_) | End::Attacker) | None => {}
        }
    }

    pub(crate) fn relay_connects(&mut self, conn: ConnId, to: &Endpoint) {
        if *to == Endpoint::Helper(HOOK.into()) {
            return self.connect_hook(conn);
        }
        let Endpoint::Tcp(to) = to else {
            panic!("there are no programs in this world: {to}");
        };
        self.connects += 1;
        let host = dns::host_at(to.ip());
        assert!(
            !dns::is_trap(host),
            "an MX look-up that failed led to the address of the domain: {to}"
        );
        self.ledger.note_try(&dns::domain_of(host));
        self.domains.insert(conn, dns::domain_of(host));
        if to.is_ipv6() {
            self.tally.fault("connect", "IPv6 unreachable");
            return self.soon(Happening::Lost(conn, Lost::Unreachable));
        }
        let reliable = matches!(host, dns::SENDER_HOST | dns::OUTSIDE_HOST);
        if !reliable && !self.moods.contains_key(&host) && self.mishap(6) {
            let kind = match self.entropy.below(3) {
                0 => {
                    self.soon(Happening::Lost(conn, Lost::Refused));
                    "refused"
                }
                1 => {
                    self.soon(Happening::Lost(conn, Lost::Unreachable));
                    "unreachable"
                }
                _ => "timeout",
            };
            return self.tally.fault("connect", kind);
        }
        let mood = self.moods.get(&host).copied().unwrap_or(
            match (self.faults, (u64::from(host) + self.seed) % 4) {
                (Faults::Calm, _) | (_, 0) => Mood::Good,
                _ if reliable => Mood::Good,
                _ => Mood::Bad,
            },
        );
        if mood == Mood::Dead {
            // The relay must notice this by its timeout.
            return;
        }
        let seed = self.entropy.next_u64();
        self.ends
            .insert(conn, End::Remote(Box::new(Remote::new(mood, seed))));
        self.soon(Happening::Connected(conn));
    }

    fn lie(&mut self) -> Lie {
        if !self.mishap(5) {
            return Lie::None;
        }
        let (lie, kind) = LIES[self.entropy.below(LIES.len() as u64) as usize];
        self.tally.fault("dns", kind);
        lie
    }

    pub(crate) fn ask_by_datagram(&mut self, socket: SocketId, to: SocketAddr, query: &[u8]) {
        if let Some(name) = dns::name(query) {
            self.ledger.note_try(&name);
            match name.as_str() {
                "d5.example" => self.tally.fault("dns", "null MX"),
                "d6.example" => self.tally.fault("dns", "NXDOMAIN"),
                "d7.example" => self.tally.fault("dns", "no MX"),
                _ => {}
            }
        }
        if let Some(name) = dns::name(query).filter(|_| dns::asks_for_texts(query))
            && let Some(kind) = unauthenticated_clients::kind_of_text(&name)
        {
            self.tally.fault("texts", kind);
        }
        let lie = self.lie();
        // A forged answer comes first, from another address or with a guessed ID; the relay must ignore it.
        if lie == Lie::None && self.mishap(8) {
            self.tally.fault("dns", "forged");
            let elsewhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66)), 53);
            if let Some(forged) = dns::reply(query, Lie::ServFail) {
                self.plan(Duration::ZERO, Happening::Answer(socket, elsewhere, forged));
            }
            if let Some(guess) = dns::reply(query, Lie::WrongId) {
                self.plan(Duration::ZERO, Happening::Answer(socket, to, guess));
            }
        }
        if let Some(reply) = dns::reply(query, lie) {
            if self.faults == Faults::UnauthenticatedClients && self.mishap(6) {
                self.tally.fault("dns", "slow");
                let delay = Duration::from_millis(self.entropy.below(9_000));
                return self.plan(delay, Happening::Answer(socket, to, reply));
            }
            self.soon(Happening::Answer(socket, to, reply));
        }
    }

    pub(crate) fn ask_by_stream(&mut self, socket: SocketId, query: &[u8]) {
        if self.mishap(4) {
            self.tally.fault("dns", "stream fails");
            return self.soon(Happening::StreamAnswer(socket, None));
        }
        if let Some(reply) = query
            .get(2..)
            .and_then(|query| dns::reply(query, Lie::None))
        {
            self.tally.fault("dns", "asked by stream");
            let mut bytes = (reply.len() as u16).to_be_bytes().to_vec();
            bytes.extend_from_slice(&reply);
            self.soon(Happening::StreamAnswer(socket, Some(bytes)));
        }
    }
}
