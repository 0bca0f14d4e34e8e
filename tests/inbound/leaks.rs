//! Once all sessions have ended, in whatever way, no resource is held.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::config::{Config, Folder, SystemDefaults};
use chopar::dns::SocketId;
use chopar::engine::event::{
    ConnId, Endpoint, Event, JobId, Listener, Lost, Reloaded, Work, WorkResult,
};
use chopar::entropy::{Entropy as _, SeededEntropy};

use crate::stage::query::Query;
use crate::stage::{PENCIL, Scene, Stage, act, secured};

/// Clients, hosts, name servers, helpers and workers that act at random.
struct ManyClients {
    stage: Stage,
    chance: SeededEntropy,
    open: Vec<ConnId>,
    works: Vec<(JobId, Work)>,
    has_hook: bool,
    /// Whether hosts and name servers stay silent.
    is_silent: bool,
}

const LISTENERS: [Listener; 5] = [
    Listener::Smtp,
    Listener::Smtp,
    Listener::Submission,
    Listener::Submissions,
    Listener::Submit,
];

fn folder(sessions: u32, has_hook: bool) -> Folder {
    let mut folder = Folder::default();
    let toml = format!(
        "hostname = \"mx.us.example\"\ndns.servers = [\"192.0.2.53\"]\nmax_memory = \"8 MiB\"\n\
         limits.sessions = {sessions}\ndelivery.sessions = {}\n[abuse]\ndnsbl = [{{ zone = \"bl.example\" }}]\n",
        sessions / 4,
    );
    folder.insert_file("chopar.toml", toml.into());
    if has_hook {
        folder.insert_file("hooks/post-data", Vec::new());
    }
    folder.insert_file(
        "domains/us.example/aliases",
        b"ann: ann@far.example\nbox: maildir:/var/mail/box\n".to_vec(),
    );
    folder.insert_file("domains/us.example/users", PENCIL.into());
    folder
}

impl ManyClients {
    fn new(seed: u64) -> Self {
        let has_hook = seed.is_multiple_of(2);
        Self {
            has_hook,
            stage: Stage::new("mx.us.example", &folder(64, has_hook), seed),
            chance: SeededEntropy::new(seed),
            open: Vec::new(),
            works: Vec::new(),
            is_silent: false,
        }
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.chance.below(count) == 0
    }

    fn pick(&mut self, len: usize) -> usize {
        usize::try_from(self.chance.below(len as u64)).expect("small")
    }

    fn act(&mut self) {
        act(self);
    }

    fn step(&mut self) {
        match self.chance.below(16) {
            0..4 => {
                let listener = LISTENERS[self.pick(LISTENERS.len())];
                let address =
                    Ipv4Addr::from_bits(0x0A00_0000 + (self.pick(8) << 16 | self.pick(3)) as u32);
                if let Ok(conn) = self.stage.accept(listener, IpAddr::V4(address)) {
                    self.open.push(conn);
                }
            }
            4 if !self.open.is_empty() => {
                let at = self.pick(self.open.len());
                let conn = self.open.swap_remove(at);
                self.stage.lose(conn, Lost::Reset);
            }
            5 if !self.works.is_empty() => {
                let at = self.pick(self.works.len());
                let (job, work) = self.works.swap_remove(at);
                let result = work.perform();
                self.stage.handle(Event::Worked { job, result });
            }
            6 => {
                let span = self.chance.below(20_000);
                self.pass(Duration::from_millis(span));
            }
            7 if self.one_in(8) => {
                let defaults = SystemDefaults {
                    hostname: "mx.us.example".into(),
                    resolv_conf: String::new(),
                };
                let sessions = [8, 64, 200][self.pick(3)];
                let config = Config::parse(&folder(sessions, self.has_hook), &defaults)
                    .expect("a configuration");
                let now = self.stage.now;
                let config = Arc::new(config);
                self.stage.engine.handle(
                    Event::Reloaded(Reloaded {
                        config,
                        conn: None,
                        unchanged: Vec::new(),
                    }),
                    now,
                );
            }
            _ if !self.open.is_empty() => {
                let at = self.pick(self.open.len());
                let conn = self.open[at];
                let bytes = self.words();
                for bytes in bytes.chunks(20_000) {
                    if self.stage.engine.wants_input(conn) {
                        self.stage.handle(Event::Bytes { conn, bytes });
                        self.act();
                    }
                }
            }
            _ => {}
        }
        self.act();
    }

    /// Random input of a client or a host.
    fn words(&mut self) -> Vec<u8> {
        let plain = |password: &str| STANDARD.encode(format!("\0pencil@us.example\0{password}"));
        let first = STANDARD.encode("n,,n=pencil@us.example,r=abc");
        let log_in = format!("EHLO a.example\r\nAUTH PLAIN {}\r\n", plain("pencil"));
        let guess = self.chance.below(3);
        let number = self.chance.below(40);
        let mail = format!(
            "EHLO a.example\r\nMAIL FROM:<a@n{number}.far.example>\r\nRCPT TO:<{}@us.example>\r\nDATA\r\n",
            ["ann", "box"][self.pick(2)]
        );
        let header = "From: a@far.example\r\nDKIM-Signature: v=1; a=ed25519-sha256; d=d.far.example; s=s; h=from; \
                      bh=47DEQpj8HBSa+/TImW5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n\r\n";
        let line = "x".repeat(76) + "\r\n";
        let length = [1, 10, 600, 6_000][self.pick(4)];
        let text = match self.chance.below(18) {
            0 => "EHLO a.example\r\n".into(),
            1 => "RSET\r\n".into(),
            2 => "STARTTLS\r\n".into(),
            3 => "QUIT\r\n".into(),
            4 => log_in,
            5 => format!("AUTH PLAIN {}\r\n", plain(&format!("guess{guess}"))),
            6 => "AUTH PLAIN\r\n".into(),
            7 => format!("{}\r\n", plain("wrong")),
            8 => format!("AUTH SCRAM-SHA-256 {first}\r\n"),
            9 => "*\r\n".into(),
            10..13 => mail,
            13 => format!("{header}{}", line.repeat(length)),
            14 => format!("{mail}{header}{}.\r\n", line.repeat(length)),
            15 => ".\r\n".into(),
            16 => [
                "250 ok\r\n",
                "250 ok\r\n250 ok\r\n354 go\r\n",
                "452 later\r\n",
            ][self.pick(3)]
            .into(),
            _ => format!(
                "MAIL FROM:<pencil@us.example>\r\nRCPT TO:<x@far.example>\r\nDATA\r\nFrom: pencil@us.example\r\n\r\n{}.\r\n",
                line.repeat(length)
            ),
        };
        text.into_bytes()
    }

    fn pass(&mut self, span: Duration) {
        let end = self.stage.now.instant.after(span);
        while self.stage.wake(end) {
            self.act();
        }
        self.stage.advance_to(end);
    }
}

impl Scene for ManyClients {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, _: Vec<u8>) {
        if !self.one_in(8) {
            self.stage.follow(Event::Drained { conn });
        }
    }

    fn on_close(&mut self, conn: ConnId) {
        self.open.retain(|open| *open != conn);
    }

    fn on_start_tls(&mut self, conn: ConnId) {
        match self.chance.below(4) {
            0 => {
                let cause = Lost::Tls("no".into());
                self.stage.follow(Event::Closed { conn, cause });
            }
            1 => {}
            _ => self.stage.follow(secured(conn)),
        }
    }

    fn on_connect(&mut self, conn: ConnId, to: &Endpoint) {
        if self.is_silent {
            return;
        }
        match self.chance.below(4) {
            0 => {
                let cause = Lost::Refused;
                self.stage.follow(Event::Closed { conn, cause });
            }
            1 => {}
            _ => {
                self.stage.follow(Event::Connected { conn });
                let bytes: &[u8] = match (to, self.chance.below(3)) {
                    (Endpoint::Tcp(_), 0) => b"554 no\r\n",
                    (Endpoint::Tcp(_), _) => b"220 far.example\r\n",
                    (_, 0) => b"?\n",
                    _ => b"",
                };
                self.stage.answer(conn, bytes);
                self.open.push(conn);
            }
        }
    }

    fn on_query(&mut self, socket: SocketId, to: SocketAddr, query: &[u8]) {
        if self.is_silent || self.one_in(3) {
            return;
        }
        let query = Query::new(query);
        let address = [203, 0, 113, 25];
        let is_host = query.kind() == 1 && query.name().ends_with("far.example");
        let reply = match is_host {
            true => query.reply(0, Some(&address)),
            false => query.reply(3, None),
        };
        self.stage.resolve(socket, to, reply);
    }

    fn on_work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        self.works.push((job, work));
        None
    }
}

#[test]
fn nothing_is_held_once_all_sessions_are_gone() {
    let mut most = [0; 7];
    for seed in 0..24 {
        let mut clients = ManyClients::new(seed);
        for _ in 0..1_500 {
            clients.step();
            for (most, (_, used, _)) in most.iter_mut().zip(clients.stage.engine.held()) {
                *most = used.max(*most);
            }
        }
        for conn in std::mem::take(&mut clients.open) {
            clients.stage.lose(conn, Lost::Eof);
        }
        clients.act();
        while let Some((job, work)) = clients.works.pop() {
            let result = work.perform();
            clients.stage.handle(Event::Worked { job, result });
            clients.act();
        }
        // From here on all answers stay out, and no delivery begins.
        clients.is_silent = true;
        let now = clients.stage.now;
        clients.stage.engine.handle(Event::Stop, now);
        clients.act();
        clients.pass(Duration::from_secs(7_200));
        for (resource, used, holders) in clients.stage.engine.held() {
            assert_eq!((used, holders), (0, 0), "{resource:?}, seed {seed}");
        }
        let tables = clients.stage.engine.tables();
        let left = (
            tables.connections,
            tables.questions,
            tables.spilling,
            tables.jobs,
            tables.verifications,
            tables.hooks,
            tables.commits,
        );
        assert_eq!(left, (0, 0, 0, 0, 0, 0, 0), "{tables:?}, seed {seed}");
    }
    // Every resource must have been held at some time.
    assert!(most.iter().all(|most| *most > 0), "{most:?}");
}
