//! The dialogue with a remote host: many recipients of one message, several senders, and more next hops than delivery
//! sessions.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use chopar::config::{Config, Folder, SystemDefaults};
use chopar::engine::event::{ConnId, Endpoint, Event, Listener, Lost, MessageReader, Reloaded};
use chopar::limits::DELIVERY_TURN_MESSAGES;
use chopar::queue::{Location, Part, ReadContent, ReadError};
use chopar::queue_id::QueueId;

use crate::stage::{PENCIL, ROUTE, Scene, Stage, act};

/// The remote host's reply to RCPT, from: the address, earlier RCPT commands for it, recipients accepted in this
/// transaction.
type Answer = fn(&str, usize, usize) -> &'static str;

struct Post {
    stage: Stage,
    heard: String,
    greeting: &'static str,
    answer: Answer,
    /// Delivery sessions with the remote host.
    far: BTreeMap<ConnId, Far>,
    /// Number of RCPT commands for each address.
    asked: BTreeMap<String, usize>,
    /// Recipients of delivered messages.
    got: Vec<String>,
    /// Connections to addresses with this prefix stay unanswered.
    is_silent: Option<&'static str>,
    /// Connections that stay unanswered.
    silent: Vec<ConnId>,
    /// Established connections so far.
    connections: usize,
    /// Whether reads of the envelopes that new routes need fail.
    is_unreadable: bool,
}

#[derive(Default)]
struct Far {
    line: Vec<u8>,
    in_body: bool,
    recipients: Vec<String>,
}

fn folder(keys: &str, tables: &str) -> Folder {
    let mut folder = Folder::default();
    let toml = format!(
        "hostname = \"mx.us.example\"\ndns.servers = [\"192.0.2.53\"]\n{keys}\n{tables}\n\
         [relay]\nnetworks = [\"203.0.113.0/24\"]\n"
    );
    folder.insert_file("chopar.toml", toml.into());
    folder.insert_file("domains/us.example/users", PENCIL.into());
    for (domain, aliases) in [
        ("one.example", "a: a@far.example\n"),
        ("two.example", "b: b@far.example\n"),
    ] {
        folder.insert_file(&format!("domains/{domain}/aliases"), aliases.into());
    }
    folder
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const LATER: &str = "450 4.2.0 later\r\n";
const OK: &str = "250 ok\r\n";

impl Post {
    fn new(keys: &str, tables: &str, greeting: &'static str, answer: Answer) -> Self {
        Self {
            stage: Stage::new("mx.us.example", &folder(keys, tables), 7),
            heard: String::new(),
            greeting,
            answer,
            far: BTreeMap::new(),
            asked: BTreeMap::new(),
            got: Vec::new(),
            is_silent: None,
            silent: Vec::new(),
            connections: 0,
            is_unreadable: false,
        }
    }

    fn to_one_host(greeting: &'static str, answer: Answer) -> Self {
        Self::new("", ROUTE, greeting, answer)
    }

    fn act(&mut self) {
        act(self);
    }

    fn answer_connection(&mut self, conn: ConnId) {
        self.connections += 1;
        self.far.insert(conn, Far::default());
        self.stage.follow(Event::Connected { conn });
        self.stage.answer(conn, "220 far.example\r\n");
    }

    fn far_hears(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut reply = String::new();
        let far = self.far.get_mut(&conn).expect("a session");
        for &byte in bytes {
            far.line.push(byte);
            if !far.line.ends_with(b"\r\n") {
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut far.line)).expect("ASCII");
            if far.in_body {
                far.in_body = line != ".\r\n";
                if !far.in_body {
                    self.got.append(&mut far.recipients);
                    reply.push_str(OK);
                }
                continue;
            }
            match line.split([' ', ':', '\r']).next() {
                Some("EHLO") => reply.push_str(self.greeting),
                Some("RCPT") => {
                    let inner = line.split(['<', '>']).nth(1).expect("a path");
                    let asked = self.asked.entry(inner.to_owned()).or_default();
                    let answer = (self.answer)(inner, *asked, far.recipients.len());
                    *asked += 1;
                    assert!(*asked < 50, "{inner} is asked for over and over");
                    if answer == OK {
                        far.recipients.push(inner.to_owned());
                    }
                    reply.push_str(answer);
                }
                Some("DATA") if far.recipients.is_empty() => reply.push_str("554 nobody\r\n"),
                Some("DATA") => {
                    far.in_body = true;
                    reply.push_str("354 go\r\n");
                }
                Some("QUIT") => {}
                _ => {
                    far.recipients.clear();
                    reply.push_str(OK);
                }
            }
        }
        self.stage.answer(conn, reply);
    }

    fn pass(&mut self, span: Duration) {
        let end = self.stage.now.instant.after(span);
        while self.stage.wake(end) {
            self.act();
        }
        self.stage.advance_to(end);
    }

    fn say(&mut self, conn: ConnId, line: &str) -> String {
        self.heard.clear();
        let bytes = format!("{line}\r\n").into_bytes();
        self.stage.handle(Event::Bytes {
            conn,
            bytes: &bytes,
        });
        self.act();
        self.heard.clone()
    }

    /// Submits a message for these recipients.
    fn submit(&mut self, listener: Listener, from: &str, to: &[String]) {
        let conn = self.stage.accept(listener, CLIENT.into());
        let conn = conn.expect("a session");
        self.act();
        self.pass(Duration::from_millis(200));
        let reply = self.say(conn, "EHLO client.example");
        assert!(reply.contains("250 "), "{reply}");
        let mut lines = vec![format!("MAIL FROM:<{from}>")];
        lines.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        for line in lines {
            let reply = self.say(conn, &line);
            assert!(reply.starts_with("250 "), "{line}: {reply}");
        }
        self.say(conn, "DATA");
        let reply = self.say(conn, "From: pencil@us.example\r\n\r\nhello\r\n.");
        assert!(reply.contains("250 2.0.0 "), "{reply}");
        self.say(conn, "QUIT");
    }

    fn control(&mut self, request: &str) -> String {
        let tool = self.stage.accept(Listener::Control, CLIENT.into());
        let tool = tool.expect("a tool");
        self.say(tool, request)
    }

    /// Other routes are in force from now on.
    fn reload(&mut self, tables: &str) {
        let defaults = SystemDefaults {
            hostname: "mx.us.example".to_owned(),
            resolv_conf: String::new(),
        };
        let config = Config::parse(&folder("", tables), &defaults).expect("a configuration");
        self.stage.handle(Event::Reloaded(Reloaded {
            config: Arc::new(config),
            conn: None,
            unchanged: Vec::new(),
        }));
        self.act();
    }

    /// Number of recipients, and of RCPT commands for each if that is the same for all.
    fn times_asked(&self) -> (usize, Option<usize>) {
        let mut times = self.asked.values().copied();
        let first = times.next();
        (
            self.asked.len(),
            first.filter(|one| times.all(|other| other == *one)),
        )
    }
}

impl Scene for Post {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.stage.follow(Event::Drained { conn });
        match self.far.contains_key(&conn) {
            true => self.far_hears(conn, &bytes),
            false => self.heard.push_str(&String::from_utf8_lossy(&bytes)),
        }
    }

    fn on_close(&mut self, conn: ConnId) {
        self.far.remove(&conn);
    }

    fn on_read(
        &mut self,
        reader: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        let is_rerouted = matches!(reader, MessageReader::Reroute(_));
        Some(match self.is_unreadable && is_rerouted {
            true => Err(ReadError::Damaged),
            false => self.stage.read(id, location, part),
        })
    }

    fn on_connect(&mut self, conn: ConnId, to: &Endpoint) {
        let to = to.to_string();
        match self.is_silent.is_some_and(|front| to.starts_with(front)) {
            true => self.silent.push(conn),
            false => self.answer_connection(conn),
        }
    }
}

fn recipients(count: usize) -> Vec<String> {
    let number = |number| format!("r{number:03}@far.example");
    (0..count).map(number).collect()
}

const PIPELINING: &str = "250-far.example\r\n250 PIPELINING\r\n";

#[test]
fn recipients_just_deferred_are_not_retried_with_those_beyond_the_transaction_limit() {
    let one = "250-far.example\r\n250 LIMITS RCPTMAX=1\r\n";
    for (greeting, count) in [(PIPELINING, 250), (one, 20)] {
        let mut post = Post::to_one_host(greeting, |_, asked, _| match asked {
            0 => LATER,
            _ => OK,
        });
        post.submit(Listener::Submit, "pencil@us.example", &recipients(count));
        post.pass(Duration::from_secs(20));
        assert_eq!(post.times_asked(), (count, Some(1)));
        assert!(post.got.is_empty());
        // They are retried when they are due, and once.
        post.pass(Duration::from_secs(7_200));
        assert_eq!(post.times_asked(), (count, Some(2)));
        assert_eq!(post.got.len(), count);
        assert_eq!(post.stage.engine.queue_len(), 0);
    }
}

#[test]
fn a_host_with_a_low_recipient_limit_gets_one_rcpt_for_each_deferred_recipient() {
    let mut post = Post::to_one_host(PIPELINING, |to, asked, taken| match (to, asked, taken) {
        ("r000@far.example" | "r007@far.example", 0, _) => LATER,
        (_, _, 0..3) => OK,
        _ => "452 4.5.3 too many\r\n",
    });
    post.submit(Listener::Submit, "pencil@us.example", &recipients(30));
    post.pass(Duration::from_secs(20));
    assert_eq!(post.got.len(), 28);
    assert_eq!(post.asked["r000@far.example"], 1);
    post.pass(Duration::from_secs(7_200));
    assert_eq!((post.got.len(), post.stage.engine.queue_len()), (30, 0));
}

#[test]
fn a_flush_tries_each_recipient_once_more() {
    let mut post = Post::to_one_host(PIPELINING, |_, asked, _| match asked {
        0 | 1 => LATER,
        _ => OK,
    });
    post.submit(Listener::Submit, "pencil@us.example", &recipients(250));
    post.pass(Duration::from_secs(20));
    assert_eq!(post.times_asked(), (250, Some(1)));
    let answer = post.control(r#"{"do":"flush","which":"all"}"#);
    assert!(answer.contains("\"count\":1"), "{answer}");
    post.pass(Duration::from_secs(20));
    assert_eq!(post.times_asked(), (250, Some(2)));
    post.pass(Duration::from_secs(7_200));
    assert_eq!(post.times_asked(), (250, Some(3)));
    assert_eq!((post.got.len(), post.stage.engine.queue_len()), (250, 0));
}

#[test]
fn a_deferred_recipient_does_not_delay_recipients_under_another_sender() {
    // Each forwarding domain has a sender of its own, and so a transaction of its own.
    let mut post = Post::to_one_host(PIPELINING, |to, asked, _| match (to, asked) {
        ("a@far.example", 0) => LATER,
        _ => OK,
    });
    let to = ["a@one.example".to_owned(), "b@two.example".to_owned()];
    post.submit(Listener::Smtp, "sender@else.example", &to);
    post.pass(Duration::from_secs(20));
    assert_eq!(post.got, ["b@far.example"]);
    assert_eq!(post.asked["a@far.example"], 1);
    post.pass(Duration::from_secs(7_200));
    assert_eq!((post.got.len(), post.stage.engine.queue_len()), (2, 0));
}

#[test]
fn a_freed_session_goes_to_a_next_hop_with_due_mail_whatever_waits_before_it() {
    let names: Vec<String> = (0..40).map(|number| format!("h{number}.example")).collect();
    let others = ["busy.example".to_owned(), "last.example".to_owned()];
    let routes: Vec<String> = (names.iter().chain(&others))
        .map(|name| format!("[[route]]\ndomain = \"{name}\"\nvia = [\"smtp://203.0.113.25\"]\n"))
        .collect();
    let keys = "delivery.sessions = 1";
    let mut post = Post::new(keys, &routes.concat(), PIPELINING, |to, _, _| {
        match to.starts_with('h') {
            true => LATER,
            false => OK,
        }
    });
    let sender = "pencil@us.example";
    // Each of these next hops has a message that waits for its second attempt.
    for name in &names {
        post.submit(Listener::Submit, sender, &[format!("h@{name}")]);
    }
    assert_eq!(post.times_asked().0, names.len());
    let deferred = post.stage.engine.queue_ids();
    // The only session is busy. Each next hop gets another message, which waits, and a last next hop gets one after
    // them.
    post.is_silent = Some("203.0.113.25");
    post.submit(Listener::Submit, sender, &["b@busy.example".to_owned()]);
    let busy = post.silent.pop().expect("a connection");
    for name in &names {
        post.submit(Listener::Submit, sender, &[format!("h@{name}")]);
    }
    post.submit(Listener::Submit, sender, &["l@last.example".to_owned()]);
    // An operator removes the added messages of the first next hops.
    let queued = post.stage.engine.queue_ids();
    let added = queued.iter().filter(|id| !deferred.contains(id));
    let added: Vec<String> = added.map(ToString::to_string).collect();
    let remove = &added[1..added.len() - 1];
    assert_eq!(remove.len(), names.len());
    let which = serde_json::json!({ "do": "remove", "which": { "ids": remove } });
    let answer = post.control(&which.to_string());
    assert!(answer.contains("\"errors\":[]"), "{answer}");
    post.is_silent = None;
    assert!(post.got.is_empty() && post.silent.is_empty());
    post.stage.lose(busy, Lost::Refused);
    post.act();
    assert_eq!(post.got, ["l@last.example"]);
}

#[test]
fn mail_of_clients_without_a_free_session_ends_no_session_of_users() {
    let route = |name: &str, host: usize| {
        format!("[[route]]\ndomain = \"{name}\"\nvia = [\"smtp://192.0.2.{host}\"]\n")
    };
    let clients: Vec<String> = (0..12).map(|number| format!("c{number}.example")).collect();
    let routes: Vec<String> = (clients.iter().zip(100..))
        .map(|(name, host)| route(name, host))
        .collect();
    let routes = [routes.concat(), route("user.example", 9), route("*", 8)];
    let mut post = Post::new(
        "delivery.sessions = 16",
        &routes.concat(),
        PIPELINING,
        |to, _, _| match to.starts_with("bad") {
            true => "550 5.1.1 nobody\r\n",
            false => OK,
        },
    );
    post.submit(
        Listener::Submit,
        "pencil@us.example",
        &["u@user.example".to_owned()],
    );
    assert_eq!((post.got.len(), post.far.len()), (1, 1));
    // DSNs, which mail of any client may cause, go to hosts that do not answer.
    post.is_silent = Some("192.0.2.1");
    for name in &clients {
        let bad = ["bad@far.example".to_owned()];
        post.submit(Listener::Submit, &format!("a@{name}"), &bad);
    }
    assert_eq!(post.silent.len(), 8, "half is for them");
    assert_eq!(post.far.len(), 2, "the others wait for the next message");
}

#[test]
fn a_session_that_has_used_its_turn_yields_only_to_another_next_hop() {
    let turn = usize::try_from(DELIVERY_TURN_MESSAGES).expect("small");
    let names = ["busy.example", "last.example"];
    let routes: Vec<String> = (names.iter())
        .map(|name| format!("[[route]]\ndomain = \"{name}\"\nvia = [\"smtp://203.0.113.25\"]\n"))
        .collect();
    for (others_wait, connections) in [(true, 3), (false, 1)] {
        let keys = "delivery.sessions = 1";
        let mut post = Post::new(keys, &routes.concat(), PIPELINING, |_, _, _| OK);
        // The only session is slow to connect; meanwhile mail arrives for its next hop, and for another.
        post.is_silent = Some("203.0.113.25");
        for number in 0..3 * turn {
            let to = [format!("b{number}@busy.example")];
            post.submit(Listener::Submit, "pencil@us.example", &to);
        }
        let last = "l@last.example".to_owned();
        if others_wait {
            post.submit(
                Listener::Submit,
                "pencil@us.example",
                std::slice::from_ref(&last),
            );
        }
        post.is_silent = None;
        let busy = post.silent.pop().expect("a connection");
        post.answer_connection(busy);
        post.act();
        post.pass(Duration::from_secs(60));
        let all = 3 * turn + usize::from(others_wait);
        assert_eq!((post.got.len(), post.connections), (all, connections));
        let place = post.got.iter().position(|to| *to == last);
        assert_eq!(place, others_wait.then_some(turn));
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_held_message_is_neither_tried_nor_given_up_however_long_its_next_hop_is_unreachable() {
    for is_dead_before in [true, false] {
        let mut post = Post::to_one_host(PIPELINING, |_, _, _| OK);
        post.is_silent = Some("203.0.113.25");
        post.submit(
            Listener::Submit,
            "pencil@us.example",
            &["held@far.example".to_owned()],
        );
        // The message waits at its next hop, which is either untried or known to be unreachable.
        if is_dead_before {
            post.pass(Duration::from_secs(3_600));
        }
        let answer = post.control(r#"{"do":"hold","which":"all"}"#);
        assert!(answer.contains("\"count\":1"), "{answer}");
        post.pass(Duration::from_secs(3_600));
        let tried = post.silent.len();
        assert!(tried > 0);
        post.pass(6 * DAY);
        assert_eq!((post.silent.len(), post.got.len()), (tried, 0));
        assert_eq!(post.stage.engine.queue_len(), 1);
        assert_eq!(post.stage.engine.counters().failed, 0);
        // It is delivered once it is released.
        post.is_silent = None;
        let answer = post.control(r#"{"do":"release","which":"all"}"#);
        assert!(answer.contains("\"count\":1"), "{answer}");
        post.pass(Duration::from_secs(60));
        assert_eq!(post.got, ["held@far.example"]);
        assert_eq!(post.stage.engine.queue_len(), 0);
    }
}

#[test]
fn a_held_message_is_not_given_up_when_its_new_route_cannot_be_worked_out() {
    let mut post = Post::to_one_host(PIPELINING, |_, _, _| OK);
    post.is_silent = Some("203.0.113.25");
    let to = ["held@far.example".to_owned()];
    post.submit(Listener::Submit, "pencil@us.example", &to);
    post.control(r#"{"do":"hold","which":"all"}"#);
    post.pass(6 * DAY);
    post.is_unreadable = true;
    post.reload("[[route]]\ndomain = \"*\"\nvia = [\"smtp://203.0.113.26\"]\n");
    post.pass(DAY);
    assert_eq!(post.stage.engine.queue_len(), 1);
    assert_eq!(post.stage.engine.counters().failed, 0);
    post.is_unreadable = false;
    post.control(r#"{"do":"release","which":"all"}"#);
    post.pass(Duration::from_secs(60));
    assert_eq!(post.got, to);
    assert_eq!(post.stage.engine.queue_len(), 0);
}
