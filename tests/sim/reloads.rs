//! Reloads: routes, domains, aliases, users and listeners change while mail passes through, by a tool or by a signal,
//! and sometimes the folder is invalid. A client checks the active configuration from time to time: it must be the last
//! valid folder.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chopar::engine::event::{ConnId, Event, Listener, Lost, Peer, Reloaded};
use chopar::entropy::Entropy;

use crate::disk::hold;
use crate::hook;
use crate::rule::{Rule, check};
use crate::world::{End, Happening, World, folder_with, parse};

/// A configuration folder that an operator writes.
struct Shape {
    /// Keys before all tables.
    head: &'static str,
    tables: &'static str,
    files: &'static [(&'static str, &'static str)],
}

/// A user with a password (RFC 7677 section 3).
const USER: &str = "ann:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// Folders without an error. If they serve [`SHOP`], it lacks the mailbox that probes ask for.
const SHAPES: [Shape; 6] = [
    Shape {
        head: "",
        tables: "",
        files: &[],
    },
    Shape {
        head: "",
        tables: "[[route]]\ndomain = \"d0.example\"\nvia = [\"smtp://mx1.example:25\"]\n",
        files: &[("domains/shop.example/aliases", "sale: r0@d1.example\n")],
    },
    Shape {
        head: "",
        tables: "[[route]]\ndomain = \"d1.example\"\nvia = [\"smtp://mx2.example:25\", \"smtp://mx3.example:25\"]\n\
                 [domain.\"spare.example\"]\nreceive = false\n",
        files: &[("domains/spare.example/aliases", "a: r0@d1.example\n")],
    },
    Shape {
        head: "",
        tables: "[[route]]\ndomain = \"d0.example\"\nvia = [\"smtp://mx2.example:25\"]\n\
                 [[route]]\ndomain = \"d2.example\"\nvia = [\"smtp://mx3.example:25\"]\n",
        files: &[("domains/shop.example/users", USER)],
    },
    Shape {
        head: "listen.smtp = [\"127.0.0.1:2525\"]\nlisten.submission = [\"127.0.0.1:2587\"]\n",
        tables: "",
        files: &[
            (
                "domains/shop.example/aliases",
                "sale: r1@d2.example, far@d3.example\n",
            ),
            ("domains/shop.example/users", USER),
        ],
    },
    Shape {
        head: "listen.smtp = [\"127.0.0.1:2526\"]\n",
        tables: "",
        files: &[],
    },
];

/// Folders with an error.
const MISTAKES: [Shape; 4] = [
    Shape {
        head: "listen.smtp = [\"nowhere\"]\n",
        tables: "",
        files: &[],
    },
    Shape {
        head: "",
        tables: "[[route]]\ndomain = \"d0.example\"\nvia = [\"gopher://mx1.example\"]\n",
        files: &[],
    },
    Shape {
        head: "",
        tables: "",
        files: &[("domains/shop.example/aliases", "a: b\nb: a\n")],
    },
    Shape {
        head: "no_such_key = 1\n",
        tables: "",
        files: &[("domains/shop.example/aliases", "sale: r0@d1.example\n")],
    },
];

/// A domain that only some folders serve.
const SHOP: &str = "shop.example";
/// Upper limit of the delay before a probe.
const PROBE_DELAY_MS: u64 = 2_000;

/// A client that asks whether [`SHOP`] is served.
pub(crate) struct Prober {
    line: Vec<u8>,
    codes: Vec<u16>,
    /// Number of reloads when it asked.
    reloads: u64,
}

impl World {
    /// Reads the configuration again; returns the event for the engine.
    pub(crate) fn reloaded(&mut self, conn: Option<ConnId>) -> Event<'static> {
        self.reloads += 1;
        let after = Duration::from_millis(self.entropy.below(PROBE_DELAY_MS));
        self.plan(after, Happening::Probe);
        let shapes: &[Shape] = match self.entropy.below(6) {
            0 => &MISTAKES,
            _ => &SHAPES,
        };
        let shape = &shapes[self.entropy.below(shapes.len() as u64) as usize];
        let mut folder = folder_with(shape.head, "1 MiB", shape.tables, hook::is_there(self.seed));
        for (path, text) in shape.files {
            folder.insert_file(path, (*text).into());
        }
        match parse(&folder) {
            Err(errors) => {
                self.tally.fault("operator", "reload fails");
                self.mistakes.extend(errors.iter().cloned());
                Event::ReloadFailed { conn, errors }
            }
            Ok(config) => {
                let unchanged = match config.listen == self.config.listen {
                    true => Vec::new(),
                    false => vec!["listen.smtp"],
                };
                self.config = config;
                let config = Arc::clone(&self.config);
                Event::Reloaded(Reloaded {
                    config,
                    conn,
                    unchanged,
                })
            }
        }
    }

    /// SIGHUP.
    pub(crate) fn hang_up_signal(&mut self) {
        self.tally.fault("operator", "signal");
        let event = self.reloaded(None);
        self.engine.handle(event, self.now);
    }

    /// A client connects to find out which configuration is in force.
    pub(crate) fn probe(&mut self) {
        self.operators += 1;
        let remote = SocketAddr::new(Ipv4Addr::new(198, 51, 100, 200).into(), 40_000);
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 25);
        let peer = Peer::Network { remote, local };
        if let Ok(conn) = self.engine.accept(Listener::Smtp, peer, self.now) {
            let prober = Prober {
                line: Vec::new(),
                codes: Vec::new(),
                reloads: 0,
            };
            self.ends.insert(conn, End::Prober(Box::new(prober)));
        }
    }

    /// A probing client reads a reply.
    pub(crate) fn prober_hears(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(End::Prober(prober)) = self.ends.get_mut(&conn) else {
            return;
        };
        let before = prober.codes.len();
        for &byte in bytes {
            prober.line.push(byte);
            if byte == b'\n' {
                let line = std::mem::take(&mut prober.line);
                let text = String::from_utf8(line).expect("replies are ASCII");
                if text.as_bytes()[3] == b' ' {
                    prober.codes.push(text[..3].parse().expect("a code"));
                }
            }
        }
        let codes = prober.codes.clone();
        match codes[..] {
            [220] if before == 0 => {
                prober.reloads = self.reloads;
                let talk = format!(
                    "EHLO probe.sender.example\r\nMAIL FROM:<p@sender.example>\r\nRCPT TO:<probe@{SHOP}>\r\nQUIT\r\n"
                );
                self.send_to_relay(conn, talk.as_bytes(), Duration::ZERO);
            }
            [220, 250, 250, code @ (250 | 550), ..]
                if before < 4 && prober.reloads == self.reloads =>
            {
                self.judge_probe(code);
            }
            _ => {}
        }
        if codes.len() >= 5 || codes.last() == Some(&421) {
            self.soon(Happening::Lost(conn, Lost::Eof));
        }
    }

    fn judge_probe(&mut self, code: u16) {
        let is_served = self.config.domains.keys().any(|name| name.as_str() == SHOP);
        self.tally.fault(
            "operator",
            match is_served {
                true => "served domain asked for",
                false => "other domain asked for",
            },
        );
        let is_known = code == 250;
        hold(check(is_known != is_served, Rule::InForce, || {
            format!(
                "{SHOP} is served: {is_served}, and a recipient without a mailbox there got {code}"
            )
        }));
    }

    /// The helper ends: its connections break, and new ones fail until it is back.
    pub(crate) fn helper_dies(&mut self) {
        self.tally.fault("helper", "died");
        self.helper_is_gone = true;
        let is_hook = |(conn, end): (&ConnId, &End)| matches!(end, End::Hook(_)).then_some(*conn);
        let talking: Vec<ConnId> = self.ends.iter().filter_map(is_hook).collect();
        for conn in talking {
            self.tally
                .fault("helper", "died in the midst of a question");
            self.lost(conn, Lost::Reset);
        }
        let pause = Duration::from_millis(1 + self.entropy.below(20_000));
        self.plan(pause, Happening::HelperIsBack);
    }

    /// A new helper runs. The relay restarts to use it, or gets an event.
    pub(crate) fn helper_is_back(&mut self) {
        self.helper_is_gone = false;
        if self.entropy.below(2) == 0 {
            self.kill();
        }
    }
}
