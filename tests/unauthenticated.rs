//! Unauthenticated clients on port 25, with all abuse checks turned on and a DNS that lies: generated from a seed,
//! without sockets.
//!
//! Whatever the block lists answer, late or never, and however the clients behave: each command gets its reply, in
//! order, until the session is closed with 421 or 554; no client waits longer than look-ups and delayed replies take;
//! and when all have gone, nothing is left but the counts about them. A seed always gives the same run.

#[allow(
    dead_code,
    reason = "shared with the tests of mail that is taken, which use more of it"
)]
mod stage;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use chopar::clock::Instant;
use chopar::config::Folder;
use chopar::dns::SocketId;
use chopar::engine::event::{ConnId, Event, Listener, Lost};
use chopar::entropy::{Entropy, SeededEntropy};
use chopar::limits::{COMMAND_TIMEOUT, DNS_QUESTION_TIMEOUT, TARPIT_DELAY_MAX};
use chopar::queue::JournalCommand;

use stage::query::Query;
use stage::{Scene, Stage, act};

const TOML: &str = "hostname = \"mx.example.com\"\nadmin = \"a@far.example\"\n\
    listen.proxy = [\"127.0.0.1:2525\"]\nproxy.networks = [\"10.0.0.1\"]\ndns.servers = [\"192.0.2.53\"]\n\
    [abuse]\ngreylist = true\ngreylist_delay = \"1m\"\nunknown_recipients = 6\nconnections_per_minute = 5\n\
    messages_per_minute = 4\nrecipients_per_minute = 6\ndnsbl_threshold = 2\n\
    dnsbl = [{ zone = \"a.bl.example\" }, { zone = \"b.bl.example\", weight = 2, replies = [\"127.0.0.2-9\"] }]\n";

/// One unauthenticated client's session.
struct Client {
    /// Commands without a reply yet.
    awaited: u32,
    /// Commands that are to be sent.
    commands: VecDeque<&'static str>,
    heard: Vec<u8>,
    /// Start of the wait for a reply.
    since: Instant,
    last_code: u16,
}

struct World {
    stage: Stage,
    chance: SeededEntropy,
    sessions: BTreeMap<ConnId, Client>,
    /// Datagrams on their way back.
    answers: VecDeque<(Instant, SocketId, SocketAddr, Vec<u8>)>,
    /// Hash of all replies and their times.
    history: u64,
    codes: BTreeMap<u16, u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut folder = Folder::default();
        folder.insert_file("chopar.toml", TOML.into());
        folder.insert_file(
            "domains/example.com/aliases",
            b"ann: a@far.example\n".to_vec(),
        );
        Self {
            stage: Stage::new("mx.example.com", &folder, seed),
            chance: SeededEntropy::new(seed),
            sessions: BTreeMap::new(),
            answers: VecDeque::new(),
            history: 0,
            codes: BTreeMap::new(),
        }
    }

    fn run(mut self) -> (u64, BTreeMap<u16, u32>) {
        for _ in 0..120 {
            self.arrive();
            let step = self.chance.below(3_000);
            self.pass(Duration::from_millis(step));
        }
        // The timeouts of the last clients, and of the DNS.
        self.pass(Duration::from_secs(600) + COMMAND_TIMEOUT);
        let tables = self.stage.engine.tables();
        assert!(
            self.sessions.is_empty(),
            "{} sessions are left",
            self.sessions.len()
        );
        assert_eq!(
            (tables.connections, tables.memory, tables.questions),
            (0, 0, 0)
        );
        self.pass(Duration::from_secs(40 * 86_400));
        let tables = self.stage.engine.tables();
        assert_eq!(
            (tables.clients.client_rates, tables.clients.greylist),
            (0, 0)
        );
        (self.history, self.codes)
    }

    fn arrive(&mut self) {
        let host = self.chance.below(6) as u8;
        let address = match self.chance.below(4) {
            0 => IpAddr::from([0x2001, 0xDB8, 0, 0, 0, 0, 0, u16::from(host)]),
            _ => Ipv4Addr::new(203, 0, 113, host).into(),
        };
        let proxied = self.chance.below(4) == 0;
        let (listener, from) = match proxied {
            true => (Listener::Proxy, IpAddr::from([10, 0, 0, 1])),
            false => (Listener::Smtp, address),
        };
        let conn = match self.stage.accept(listener, from) {
            Ok(conn) => conn,
            Err(reply) => {
                assert!(reply.starts_with(b"421 4.7.0 "), "{reply:?}");
                *self.codes.entry(421).or_default() += 1;
                return;
            }
        };
        let before: &[&str] = match self.chance.below(4) {
            0 => &[],
            _ => &["EHLO client.example", "MAIL FROM:<b@far.example>"],
        };
        let behind: Vec<&str> = (0..self.chance.below(14)).map(|_| self.command()).collect();
        let commands = before.iter().copied().chain(behind).collect();
        let client = Client {
            awaited: 1, // the banner
            commands,
            heard: Vec::new(),
            since: self.stage.now.instant,
            last_code: 0,
        };
        self.sessions.insert(conn, client);
        self.act();
        if proxied {
            let family = if address.is_ipv4() { 4 } else { 6 };
            let header = format!("PROXY TCP{family} {address} {address} 40000 25\r\n");
            for piece in header.as_bytes().chunks(7) {
                self.stage.handle(Event::Bytes { conn, bytes: piece });
                self.act();
            }
        }
    }

    fn command(&mut self) -> &'static str {
        const COMMANDS: [&str; 12] = [
            "EHLO client.example",
            "EHLO client.example",
            "EHLO 1.2.3.4",
            "HELO mx.example.com",
            "MAIL FROM:<b@far.example>",
            "MAIL FROM:<c@far.example>",
            "RCPT TO:<ann@example.com>",
            "RCPT TO:<ann@example.com>",
            "RCPT TO:<nobody@example.com>",
            "RCPT TO:<postmaster@example.com>",
            "RCPT TO:<x@elsewhere.example>",
            "RSET",
        ];
        COMMANDS[self.chance.below(COMMANDS.len() as u64) as usize]
    }

    /// Lets time pass, from one event to the next.
    fn pass(&mut self, span: Duration) {
        let end = self.stage.now.instant.after(span);
        loop {
            let next = [
                self.stage.engine.deadline(),
                self.answers.front().map(|(at, ..)| *at),
            ];
            let Some(next) = next.into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.stage.advance_to(next);
            while let Some((_, socket, from, bytes)) =
                self.answers.pop_front_if(|(at, ..)| *at <= next)
            {
                let bytes = bytes.as_slice();
                self.stage.handle(Event::DnsDatagram {
                    socket,
                    from,
                    bytes,
                });
                self.act();
            }
            self.stage.engine.expire(self.stage.now);
            self.act();
        }
        self.stage.advance_to(end);
    }

    fn act(&mut self) {
        act(self);
        self.speak();
    }

    fn hear(&mut self, conn: ConnId, bytes: &[u8]) {
        for &byte in bytes {
            self.history = self.history.wrapping_mul(31).wrapping_add(byte.into());
        }
        self.history ^= self.stage.now.instant.as_millis();
        let client = self.sessions.get_mut(&conn).expect("a session");
        client.heard.extend_from_slice(bytes);
        while let Some(end) = client.heard.windows(2).position(|pair| pair == b"\r\n") {
            let line: Vec<u8> = client.heard.drain(..end + 2).collect();
            if line[3] == b'-' {
                continue;
            }
            let code = std::str::from_utf8(&line[..3])
                .expect("ASCII")
                .parse()
                .expect("a code");
            *self.codes.entry(code).or_default() += 1;
            client.last_code = code;
            // A final 421 needs no command.
            assert!(client.awaited > 0 || code == 421, "{line:?}");
            client.awaited = client.awaited.saturating_sub(1);
            let waited = self.stage.now.instant.since(client.since);
            assert!(
                code == 421
                    || waited <= DNS_QUESTION_TIMEOUT + TARPIT_DELAY_MAX + Duration::from_secs(1),
                "{waited:?} for {line:?}"
            );
            client.since = self.stage.now.instant;
        }
    }

    /// Clients that have all their replies send more commands, several at once, or disconnect.
    fn speak(&mut self) {
        let ready = |client: &Client| client.awaited == 0 && !client.commands.is_empty();
        while let Some(conn) = self
            .sessions
            .iter()
            .find(|(_, client)| ready(client))
            .map(|(conn, _)| *conn)
        {
            let many = 1 + self.chance.below(5) as usize;
            let hangs_up = self.chance.below(20) == 0;
            let client = self.sessions.get_mut(&conn).expect("a session");
            let many = many.min(client.commands.len());
            let mut wire = String::new();
            for command in client.commands.drain(..many) {
                wire.push_str(command);
                wire.push_str("\r\n");
            }
            client.awaited = many as u32;
            client.since = self.stage.now.instant;
            let bytes = wire.as_bytes();
            self.stage.handle(Event::Bytes { conn, bytes });
            if hangs_up {
                self.sessions.remove(&conn);
                self.stage.lose(conn, Lost::Reset);
                act(self);
            } else {
                self.act();
            }
        }
    }

    /// Answers a query truthfully, with a lie, or not at all.
    fn look_up(&mut self, socket: SocketId, server: SocketAddr, query: &[u8]) {
        let late = Duration::from_millis(self.chance.below(4_000));
        let Some(bytes) = answer(query, self.chance.below(10)) else {
            return;
        };
        self.answers
            .push_back((self.stage.now.instant.after(late), socket, server, bytes));
        self.answers
            .make_contiguous()
            .sort_by_key(|(at, socket, ..)| (*at, socket.0));
    }
}

/// Nothing is stored, read or computed in this world.
impl Scene for World {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        // A disconnected client gets no output.
        if self.sessions.contains_key(&conn) {
            self.hear(conn, &bytes);
        }
    }

    fn on_close(&mut self, conn: ConnId) {
        if let Some(client) = self.sessions.remove(&conn) {
            assert!(
                matches!(client.last_code, 421 | 554 | 221),
                "closed behind {}",
                client.last_code
            );
        }
    }

    fn on_store(&mut self, command: JournalCommand) {
        panic!("nobody gets to a message: {command:?}");
    }

    fn on_query(&mut self, socket: SocketId, to: SocketAddr, query: &[u8]) {
        self.look_up(socket, to, query);
    }

    fn on_dns_connect(&mut self, _: SocketId) -> bool {
        false
    }

    fn on_dns_close(&mut self, socket: SocketId) {
        self.answers.retain(|(_, other, ..)| *other != socket);
    }
}

/// The reply to a query for A, AAAA or PTR.
fn answer(query: &[u8], mood: u64) -> Option<Vec<u8>> {
    let query = Query::new(query);
    let (code, data): (u8, &[u8]) = match (query.kind(), mood) {
        (_, 0) => return None,
        (_, 1) => return Some(b"\xff\x00\xc0\x0c".to_vec()),
        (_, 2) => (2, b""),
        (_, 3) => (3, b""),
        (12, _) => (0, b"\x04host\x06client\x07example\0"),
        (28, _) => (0, b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"),
        (_, 4) => (0, &[127, 255, 255, 254]),
        (_, 5) => (0, &[198, 51, 100, 1]),
        (_, 6) => (0, &[127, 0, 0, 2]),
        (_, 7) => (0, &[127, 0, 0, 10]),
        _ => (0, &[203, 0, 113, 1]),
    };
    Some(query.reply(code, Some(data).filter(|data| !data.is_empty())))
}

#[test]
fn every_unauthenticated_client_gets_its_replies_and_leaves_nothing_behind() {
    let mut codes: BTreeMap<u16, u32> = BTreeMap::new();
    for seed in 0..100 {
        let run = || std::panic::catch_unwind(|| World::new(seed).run());
        let (history, heard) = run().unwrap_or_else(|_| panic!("seed {seed}"));
        if seed < 5 {
            let (again, _) = run().expect("the same as before");
            assert_eq!(history, again, "seed {seed} has two histories");
        }
        for (code, count) in heard {
            *codes.entry(code).or_default() += count;
        }
    }
    // All of these must occur: closed, deferred, over a limit, refused, listed.
    for code in [421, 450, 451, 501, 550, 554] {
        assert!(codes.get(&code) >= Some(&20), "{code}: {codes:?}");
    }
}
