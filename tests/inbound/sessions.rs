//! Sessions under load and changes: a slow disk, slow workers, a connection that does not drain, users who are added
//! and removed.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::clock::{Instant, Now};
use chopar::config::{Config, Folder, SystemDefaults};
use chopar::date::Timestamp;
use chopar::engine::event::{
    ConnId, Endpoint, Event, JobId, Listener, Lost, MessageReader, Peer, Reloaded, Work, WorkResult,
};
use chopar::limits::{
    DSNS_AT_WORK_MAX, FOLLOWER_BYTES_MAX, QUEUE_READERS_MAX, QUEUE_READERS_PER_USER_MAX,
};
use chopar::queue::{
    JournalCommand, JournalCompletion, JournalError, Location, Part, ReadContent, ReadError,
};
use chopar::queue_id::QueueId;
use ring::{digest, hmac, pbkdf2};

use crate::stage::{PENCIL, ROUTE, Scene, Stage, act};

/// What is held back until the test lets it go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slow {
    Nothing,
    Disk,
    Workers,
    Links,
    Reads,
}

struct Desk {
    stage: Stage,
    slow: Slow,
    heard: BTreeMap<ConnId, String>,
    log: Vec<String>,
    commands: Vec<JournalCommand>,
    works: Vec<(JobId, Work)>,
    undrained: Vec<ConnId>,
    /// One that never takes what it is sent.
    deaf: Option<ConnId>,
    closed: Vec<ConnId>,
    reads: VecDeque<(MessageReader, QueueId, Location, Part)>,
}

const TOML: &str = "hostname = \"mx.example.com\"\ndns.servers = [\"192.0.2.53\"]\n";
const SECOND: &str = "second:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                      wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

fn folder(users: &[(&str, &str)]) -> Folder {
    let mut folder = Folder::default();
    folder.insert_file("chopar.toml", format!("{TOML}{ROUTE}").into());
    for (domain, users) in users {
        folder.insert_file(&format!("domains/{domain}/users"), (*users).into());
    }
    folder
}

impl Desk {
    fn new(users: &[(&str, &str)]) -> Self {
        Self {
            stage: Stage::new("mx.example.com", &folder(users), 7),
            slow: Slow::Nothing,
            heard: BTreeMap::new(),
            log: Vec::new(),
            commands: Vec::new(),
            works: Vec::new(),
            undrained: Vec::new(),
            deaf: None,
            closed: Vec::new(),
            reads: VecDeque::new(),
        }
    }

    /// The operator changes the users and reloads.
    fn reload(&mut self, users: &[(&str, &str)]) {
        let defaults = SystemDefaults {
            hostname: "mx.example.com".into(),
            resolv_conf: String::new(),
        };
        let config = Config::parse(&folder(users), &defaults).expect("a configuration");
        let now = self.stage.now;
        self.stage.engine.handle(
            Event::Reloaded(Reloaded {
                config: Arc::new(config),
                conn: None,
                unchanged: Vec::new(),
            }),
            now,
        );
        self.act();
    }

    fn connect(&mut self, listener: Listener, address: impl Into<IpAddr>) -> ConnId {
        let conn = self
            .stage
            .accept(listener, address.into())
            .expect("a session");
        if listener == Listener::Submissions {
            self.stage.secure(conn);
        }
        self.act();
        self.say(conn, "EHLO client.example");
        conn
    }

    fn feed(&mut self, conn: ConnId, bytes: &[u8]) {
        self.stage.handle(Event::Bytes { conn, bytes });
        self.act();
    }

    /// Says a line; gives everything that was said to it, and lets a reply that is held back come.
    fn say(&mut self, conn: ConnId, line: &str) -> String {
        self.heard.remove(&conn);
        self.feed(conn, format!("{line}\r\n").as_bytes());
        self.heard.get(&conn).cloned().unwrap_or_default()
    }

    /// Lets time pass.
    fn pass(&mut self, seconds: u64) {
        let end = self
            .stage
            .now
            .instant
            .after(std::time::Duration::from_secs(seconds));
        while self.stage.wake(end) {
            self.act();
        }
        self.stage.advance_to(end);
    }

    /// What has been said after a while.
    fn wait(&mut self, conn: ConnId) -> String {
        let end = self
            .stage
            .now
            .instant
            .after(std::time::Duration::from_secs(20));
        while !self.heard.contains_key(&conn) && self.stage.wake(end) {
            self.act();
        }
        self.heard.get(&conn).cloned().unwrap_or_default()
    }

    fn act(&mut self) {
        act(self);
    }

    /// The workers catch up.
    fn work(&mut self) {
        while !self.works.is_empty() {
            let (job, work) = self.works.remove(0);
            let result = work.perform();
            self.stage.handle(Event::Worked { job, result });
            self.act();
        }
    }

    /// The disk answers so many reads at most.
    fn read(&mut self, reads: usize) {
        for _ in 0..reads {
            let Some((reader, id, location, part)) = self.reads.pop_front() else {
                return;
            };
            let result = self.stage.read(id, location, part);
            self.stage.handle(Event::Read { reader, result });
            self.act();
        }
    }

    fn logged(&self, text: &str) -> usize {
        self.log.iter().filter(|line| line.contains(text)).count()
    }
}

/// The host that has all mail wants none of it.
impl Scene for Desk {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.heard.entry(conn).or_default().push_str(&text);
        if self.slow == Slow::Links || self.deaf == Some(conn) {
            self.undrained.push(conn);
        } else {
            self.stage.follow(Event::Drained { conn });
        }
    }

    fn on_close(&mut self, conn: ConnId) {
        self.closed.push(conn);
    }

    fn on_connect(&mut self, conn: ConnId, _: &Endpoint) {
        self.stage.follow(Event::Connected { conn });
        self.stage.answer(conn, "554 5.7.1 Not for you\r\n");
    }

    fn on_store(&mut self, command: JournalCommand) {
        match self.slow {
            Slow::Disk => self.commands.push(command),
            _ => self.stage.store(command),
        }
    }

    fn on_read(
        &mut self,
        reader: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    ) -> Option<Result<ReadContent, ReadError>> {
        if self.slow == Slow::Reads && matches!(reader, MessageReader::Dsn(_)) {
            self.reads.push_back((reader, id, location, part));
            return None;
        }
        Some(self.stage.read(id, location, part))
    }

    fn on_work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        if self.slow == Slow::Workers {
            self.works.push((job, work));
            return None;
        }
        Some(work.perform())
    }

    fn on_log(&mut self, text: String) {
        self.log.push(text);
    }
}

fn plain(login: &str, password: &str) -> String {
    format!(
        "AUTH PLAIN {}",
        STANDARD.encode(format!("\0{login}\0{password}"))
    )
}

const MAIL: &[u8] = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@elsewhere.example>\r\nDATA\r\n";

#[test]
fn a_disk_that_fills_while_a_long_body_is_on_its_way_refuses_it_and_the_session_goes_on() {
    let mut desk = Desk::new(&[("example.com", "")]);
    let conn = desk.connect(Listener::Submit, CLIENT);
    desk.slow = Slow::Disk;
    desk.feed(conn, MAIL);
    desk.feed(conn, b"From: a@example.com\r\n\r\n");
    let block = b"0123456789abcdef012345678\r\n".repeat(2_400);
    while desk.stage.engine.wants_input(conn) {
        desk.feed(conn, &block);
    }
    let blocks: Vec<_> = std::mem::take(&mut desk.commands);
    let ids: Vec<_> = blocks
        .iter()
        .map(|command| match command {
            JournalCommand::BodyAppend { id, .. } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(ids.len() > 1, "several are on their way");
    for id in ids {
        let error = JournalError::NoSpace;
        let completion = JournalCompletion::BodyFailed { id, error };
        desk.stage.handle(Event::Stored(completion));
        desk.act();
    }
    assert!(
        desk.stage.engine.wants_input(conn),
        "the session is read again"
    );
    desk.feed(conn, &block);
    desk.slow = Slow::Nothing;
    assert!(desk.say(conn, ".").starts_with("452 4.3.1 "));
    desk.feed(conn, MAIL);
    let reply = desk.say(conn, "From: a@example.com\r\n\r\nshort\r\n.");
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    assert_eq!(desk.stage.engine.load().0, 0);
}

#[test]
fn what_was_kept_behind_too_much_output_is_read_once_that_is_out() {
    let mut desk = Desk::new(&[("example.com", "")]);
    let conn = desk.connect(Listener::Submit, CLIENT);
    desk.slow = Slow::Links;
    let mut input = b"MAIL FROM:<a@example.com>\r\n".to_vec();
    input.extend(b"RCPT TO:<b@c.example>\r\n".repeat(30_000));
    input.extend(b"VRFY a\r\n");
    desk.feed(conn, &input);
    assert!(
        !desk.stage.engine.wants_input(conn),
        "too much is on its way"
    );
    let mut turns = 0;
    while let Some(conn) = desk.undrained.pop() {
        desk.stage.handle(Event::Drained { conn });
        desk.act();
        turns += 1;
        assert!(turns < 400, "it comes to an end");
    }
    assert!(turns > 2, "a portion at a time goes out: {turns} turns");
    let heard = desk.heard[&conn].clone();
    let ok = heard.matches("250 2.1.5").count();
    assert_eq!(ok, 30_000, "{ok} recipients were answered");
    assert!(
        heard
            .trim_end()
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("252 "))
    );
    assert!(desk.stage.engine.wants_input(conn));
}

#[test]
fn a_guess_counts_whatever_becomes_of_its_session() {
    let mut desk = Desk::new(&[("example.com", PENCIL)]);
    desk.slow = Slow::Workers;
    let mut derived = 0;
    for guess in 0..78 {
        let conn = desk.connect(Listener::Submissions, CLIENT);
        desk.say(conn, &plain("pencil@example.com", &format!("guess{guess}")));
        desk.stage.lose(conn, Lost::Reset);
        desk.act();
        derived += desk.works.len();
        desk.work();
    }
    assert_eq!(
        derived, 20,
        "as many as one address may try in a while are derived, and no more"
    );
    let conn = desk.connect(Listener::Submissions, CLIENT);
    let reply = desk.say(conn, &plain("pencil@example.com", "pencil"));
    assert!(
        reply.contains("4.7.0 Too many authentication failures"),
        "{reply}"
    );
    assert_eq!(desk.stage.engine.tables().jobs, 0);
    assert!(desk.logged("result=failed user=pencil@example.com peer=203.0.113.7") > 0);
}

#[test]
fn a_locked_address_keeps_nobody_out_who_has_logged_in_from_there() {
    let mut desk = Desk::new(&[("example.com", PENCIL)]);
    let say = |desk: &mut Desk, login: &str, password: &str| {
        let conn = desk.connect(Listener::Submissions, CLIENT);
        let reply = desk.say(conn, &plain(login, password));
        desk.stage.lose(conn, Lost::Reset);
        desk.act();
        reply
    };
    assert!(say(&mut desk, "pencil@example.com", "pencil").contains("235 "));
    for guess in 0..30 {
        say(&mut desk, "eve@example.com", &format!("guess{guess}"));
    }
    let refused = "4.7.0 Too many authentication failures";
    let reply = say(&mut desk, "eve@example.com", "guess");
    assert!(reply.contains(refused), "{reply}");
    // Also once the password is remembered no longer.
    for minutes in [0, 11] {
        desk.pass(minutes * 60);
        for _ in 0..30 {
            say(&mut desk, "eve@example.com", "guess");
        }
        let reply = say(&mut desk, "pencil@example.com", "pencil");
        assert!(reply.contains("235 "), "{reply}");
    }
    // The login's own failures lock it, there.
    for guess in 0..21 {
        say(&mut desk, "pencil@example.com", &format!("guess{guess}"));
    }
    let reply = say(&mut desk, "pencil@example.com", "pencil");
    assert!(reply.contains(refused), "{reply}");
}

#[test]
fn a_session_of_an_address_that_is_locked_is_closed_and_its_equal_lines_are_counted() {
    let mut desk = Desk::new(&[("example.com", PENCIL)]);
    let open: Vec<ConnId> = (0..40)
        .map(|_| desk.connect(Listener::Submissions, CLIENT))
        .collect();
    for guess in 0..20 {
        let conn = desk.connect(Listener::Submissions, CLIENT);
        desk.say(conn, &plain("pencil@example.com", &format!("guess{guess}")));
        desk.stage.lose(conn, Lost::Reset);
        desk.act();
    }
    desk.log.clear();
    for conn in open {
        // Whatever is said in one go, there is one answer.
        let many = format!("{}\r\n", plain("pencil@example.com", "pencil")).repeat(5_000);
        let reply = desk.say(conn, &many);
        assert_eq!(
            reply,
            "421 4.7.0 Too many authentication failures, try again later\r\n"
        );
        assert!(desk.closed.contains(&conn));
    }
    let throttled = "event=auth result=throttled peer=203.0.113.7";
    assert_eq!(desk.log, [throttled]);
    desk.pass(60);
    let told = format!("event=repeated times=39 line=\"{throttled}\"");
    assert!(desk.log.contains(&told), "{:?}", desk.log);
    desk.log.clear();
    desk.pass(600);
    assert!(desk.log.is_empty(), "nothing came again: {:?}", desk.log);
}

#[test]
fn guesses_that_wait_when_their_address_is_locked_are_not_derived() {
    let mut desk = Desk::new(&[("example.com", PENCIL)]);
    desk.slow = Slow::Workers;
    let conns: Vec<ConnId> = (0..36)
        .map(|guess| {
            let conn = desk.connect(Listener::Submissions, CLIENT);
            desk.say(conn, &plain("pencil@example.com", &format!("guess{guess}")));
            conn
        })
        .collect();
    let mut derived = 0;
    while !desk.works.is_empty() {
        let (job, work) = desk.works.remove(0);
        let result = work.perform();
        derived += 1;
        desk.stage.handle(Event::Worked { job, result });
        desk.act();
    }
    // Those that workers had at the moment of the lock are counted too.
    assert!((20..=21).contains(&derived), "{derived} were derived");
    let mut refused = 0;
    for conn in conns {
        let reply = desk.wait(conn);
        assert!(!reply.is_empty(), "each is answered");
        refused += usize::from(reply.contains("4.7.0 Too many authentication failures"));
    }
    assert_eq!(refused + derived, 36);
}

#[test]
fn a_right_password_of_a_session_that_is_gone_is_not_remembered() {
    let mut desk = Desk::new(&[("example.com", PENCIL)]);
    desk.slow = Slow::Workers;
    for _ in 0..2 {
        let conn = desk.connect(Listener::Submissions, CLIENT);
        desk.say(conn, &plain("pencil@example.com", "pencil"));
        assert_eq!(desk.works.len(), 1, "it is derived");
        desk.stage.lose(conn, Lost::Reset);
        desk.work();
    }
    assert_eq!(desk.logged("result=ok"), 0);
    assert!(desk.logged("result=abandoned user=pencil@example.com") > 0);
}

/// What a user's entry may have become while an exchange was open.
const CHANGES: [&str; 2] = [
    "",
    "pencil:{SCRAM-SHA-256}4096,AAAAAAAAAAAAAAAAAAAAAA==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
     wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
];

#[test]
fn a_password_is_judged_by_the_users_at_the_end_of_its_derivation() {
    for users in CHANGES {
        let mut desk = Desk::new(&[("example.com", PENCIL)]);
        desk.slow = Slow::Workers;
        let conn = desk.connect(Listener::Submissions, CLIENT);
        desk.say(conn, &plain("pencil@example.com", "pencil"));
        desk.heard.remove(&conn);
        desk.reload(&[("example.com", users)]);
        desk.work();
        let reply = desk.wait(conn);
        assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    }
    // An unrelated change does no harm.
    let mut desk = Desk::new(&[("example.com", PENCIL)]);
    desk.slow = Slow::Workers;
    let conn = desk.connect(Listener::Submissions, CLIENT);
    desk.say(conn, &plain("pencil@example.com", "pencil"));
    desk.heard.remove(&conn);
    desk.reload(&[("example.com", &format!("{PENCIL}\n{SECOND}"))]);
    desk.work();
    assert!(desk.wait(conn).starts_with("235 "));
}

/// The server's first message: its salt, and the whole of it.
fn challenge(desk: &mut Desk, conn: ConnId, login: &str) -> (String, String) {
    let login = login.replace('=', "=3D").replace(',', "=2C");
    let first = STANDARD.encode(format!("n,,n={login},r=client"));
    let reply = desk.say(conn, &format!("AUTH SCRAM-SHA-256 {first}"));
    let text = reply.strip_prefix("334 ").expect("a challenge").trim_end();
    let text = String::from_utf8(STANDARD.decode(text).expect("base64")).expect("ASCII");
    let salt = text.split(',').find_map(|part| part.strip_prefix("s="));
    (salt.expect("a salt").to_owned(), text)
}

/// The client's final message (RFC 5802 section 3).
fn proof(login: &str, password: &str, server_first: &str) -> String {
    let part = |key: &str| {
        let found = server_first
            .split(',')
            .find_map(|part| part.strip_prefix(key));
        found.expect("a part").to_owned()
    };
    let salt = STANDARD.decode(part("s=")).expect("base64");
    let iterations = part("i=").parse().expect("a number");
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let mac = |key: &[u8], text: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
            .as_ref()
            .to_vec()
    };
    let client_key = mac(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let bare = format!("c=biws,r={}", part("r="));
    let signed = format!("n={login},r=client,{server_first},{bare}");
    let signature = mac(stored_key.as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(one, other)| one ^ other)
        .collect();
    STANDARD.encode(format!("{bare},p={}", STANDARD.encode(proof)))
}

#[test]
fn an_open_scram_exchange_is_judged_by_the_users_at_its_end() {
    let login = "pencil@example.com";
    for users in [Some(""), Some(CHANGES[1]), None] {
        // The users change before the proof, or before the client's last word.
        for late in [false, true] {
            let mut desk = Desk::new(&[("example.com", PENCIL)]);
            let conn = desk.connect(Listener::Submissions, CLIENT);
            let (_, first) = challenge(&mut desk, conn, login);
            let change = |desk: &mut Desk| {
                if let Some(users) = users {
                    desk.reload(&[("example.com", users)]);
                }
            };
            if !late {
                change(&mut desk);
            }
            let mut reply = desk.say(conn, &proof(login, "pencil", &first));
            if late {
                assert!(reply.starts_with("334 "), "{reply}");
                change(&mut desk);
            }
            if reply.starts_with("334 ") {
                reply = desk.say(conn, "");
            }
            if reply.is_empty() {
                reply = desk.wait(conn);
            }
            let expected = users.map_or("235 ", |_| "535 5.7.8 ");
            assert!(
                reply.starts_with(expected),
                "{users:?}, late {late}: {reply}"
            );
        }
    }
}

/// Ways to write one login: case, quotes, and without the domain.
fn spellings(name: &str, domain: &str) -> Vec<String> {
    let capital = name.to_uppercase();
    vec![
        format!("{name}@{domain}"),
        format!("{capital}@{domain}"),
        format!("{name}@{}", domain.to_uppercase()),
        format!("\"{name}\"@{domain}"),
        name.to_owned(),
        capital,
    ]
}

#[test]
fn the_salt_of_a_login_does_not_tell_whether_it_exists() {
    let both = format!("{PENCIL}\n{SECOND}");
    let mut desk = Desk::new(&[
        ("example.com", PENCIL),
        ("example.net", SECOND),
        ("example.org", &both),
    ]);
    let domains = ["example.com", "example.net", "example.org"];
    let mut salts = |login: &str| {
        let conn = desk.connect(Listener::Submissions, CLIENT);
        let (salt, _) = challenge(&mut desk, conn, login);
        desk.stage.lose(conn, Lost::Eof);
        desk.act();
        salt
    };
    for name in ["pencil", "second", "nobody", "b\u{fc}cher", "nob.ody+x"] {
        let mut bare = Vec::new();
        let mut whole = Vec::new();
        for domain in domains {
            let of: Vec<String> = spellings(name, domain)
                .iter()
                .map(|login| salts(login))
                .collect();
            let (with_domain, without) = of.split_at(4);
            assert!(
                with_domain.iter().all(|salt| *salt == with_domain[0]),
                "{name}@{domain} has several salts"
            );
            whole.push(with_domain[0].clone());
            bare.extend_from_slice(without);
        }
        assert!(
            bare.iter().all(|salt| *salt == bare[0]),
            "{name} has several salts"
        );
        assert!(
            whole.contains(&bare[0]),
            "{name} has a salt that it has at no domain"
        );
    }
}

#[test]
fn a_message_that_is_removed_while_its_dsn_is_made_holds_up_no_other() {
    let mut desk = Desk::new(&[("example.com", "")]);
    let conn = desk.connect(Listener::Submit, CLIENT);
    desk.slow = Slow::Reads;
    // One more than are made at a time.
    let messages = DSNS_AT_WORK_MAX + 1;
    for _ in 0..messages {
        desk.feed(
            conn,
            b"MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<b@elsewhere.example>\r\nDATA\r\n",
        );
        let reply = desk.say(conn, "From: a@example.com\r\n\r\nshort\r\n.");
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    }
    assert_eq!(desk.stage.engine.queue_len(), messages);
    assert_eq!(
        desk.reads.len(),
        DSNS_AT_WORK_MAX,
        "each reads its envelope"
    );
    let ids: Vec<String> = desk
        .reads
        .iter()
        .map(|(_, id, ..)| id.to_string())
        .collect();
    desk.read(DSNS_AT_WORK_MAX);
    assert_eq!(desk.reads.len(), DSNS_AT_WORK_MAX, "and then its header");
    let tool = desk.stage.accept(Listener::Control, CLIENT.into());
    let tool = tool.expect("a tool");
    let which = serde_json::json!({ "do": "remove", "which": { "ids": ids } });
    let answer = desk.say(tool, &which.to_string());
    assert!(answer.contains("\"errors\":[]"), "{answer}");
    assert_eq!(desk.stage.engine.queue_len(), 1);
    desk.read(usize::MAX);
    let dropped = "why=\"the message was taken out of the queue\"";
    assert_eq!(desk.logged(dropped), DSNS_AT_WORK_MAX, "{:#?}", desk.log);
    assert_eq!(desk.logged("event=dsn "), 1, "{:#?}", desk.log);
    let tables = desk.stage.engine.tables();
    assert_eq!((tables.dsns.at_work, tables.dsns.waiting), (0, 0));
}

#[test]
fn a_tool_that_does_not_read_what_it_follows_is_cut_off_and_one_that_reads_is_not() {
    let from = format!("{}@{}.example", "f".repeat(60), "e".repeat(60));
    for is_deaf in [true, false] {
        let mut desk = Desk::new(&[("example.com", "")]);
        let tool = desk.stage.accept(Listener::Control, CLIENT.into());
        let tool = tool.expect("a tool");
        desk.deaf = is_deaf.then_some(tool);
        desk.say(tool, r#"{"do":"expect","recipient":"b@elsewhere.example"}"#);
        let conn = desk.connect(Listener::Submit, CLIENT);
        let (mut sent, mut told) = (0, 0);
        while told <= 2 * FOLLOWER_BYTES_MAX && !desk.closed.contains(&tool) {
            sent += 1;
            assert!(sent < 5_000, "the lines are shorter than was thought");
            let text = format!("MAIL FROM:<{from}>\r\nRCPT TO:<b@elsewhere.example>\r\nDATA\r\n");
            desk.feed(conn, text.as_bytes());
            let reply = desk.say(conn, "From: a@example.com\r\n\r\nshort\r\n.");
            assert!(reply.starts_with("250 2.0.0 "), "{reply}");
            told = desk.heard.get(&tool).map_or(0, String::len);
        }
        assert_eq!(desk.closed.contains(&tool), is_deaf);
        let heard = &desk.heard[&tool];
        assert_eq!(heard.contains("than could be kept"), is_deaf);
        if is_deaf {
            assert!(heard.len() <= FOLLOWER_BYTES_MAX * 5 / 4, "{}", heard.len());
        }
    }
}

#[test]
fn queue_tools_of_users_leave_room_for_each_other_and_for_operators() {
    let mut desk = Desk::new(&[]);
    let now = desk.stage.now;
    let engine = &mut desk.stage.engine;
    engine.set_operator(900);
    let open = |engine: &mut chopar::engine::Engine, uid: u32| {
        let is_admitted = engine.admits_tool(uid);
        if is_admitted {
            let peer = Peer::Process { uid };
            engine.accept(Listener::Control, peer, now).expect("a tool");
        }
        is_admitted
    };
    let tools = (0..10).filter(|_| open(engine, 1000)).count();
    assert_eq!(tools, QUEUE_READERS_PER_USER_MAX);
    let others = (1001..1100).filter(|uid| open(engine, *uid)).count();
    assert_eq!(others, QUEUE_READERS_MAX - QUEUE_READERS_PER_USER_MAX);
    for uid in [0, 900] {
        assert!((0..20).all(|_| open(engine, uid)), "{uid}");
    }
}

#[test]
fn a_user_asks_once_a_connection_and_an_operator_as_often_as_wanted() {
    let mut desk = Desk::new(&[]);
    let now = desk.stage.now;
    let list = "{\"do\":\"list\"}\n{\"do\":\"list\"}\n{\"do\":\"list\"}";
    for (uid, answers) in [(0, 3), (1000, 1)] {
        let peer = Peer::Process { uid };
        let tool = desk.stage.engine.accept(Listener::Control, peer, now);
        let answer = desk.say(tool.expect("a tool"), list);
        assert_eq!(
            answer.matches("\"kind\":\"end\"").count(),
            answers,
            "{answer}"
        );
    }
}

#[test]
fn a_message_that_is_removed_while_the_disk_refuses_its_dsn_does_not_stop_the_deliveries() {
    let mut desk = Desk::new(&[("example.com", "")]);
    let conn = desk.connect(Listener::Submit, CLIENT);
    let submit = |desk: &mut Desk| {
        desk.feed(
            conn,
            b"MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<b@elsewhere.example>\r\nDATA\r\n",
        );
        let reply = desk.say(conn, "From: a@example.com\r\n\r\nshort\r\n.");
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    };
    desk.slow = Slow::Reads;
    submit(&mut desk);
    desk.read(1);
    // Its envelope is known; the DSN comes to a disk that is full.
    desk.slow = Slow::Disk;
    desk.read(1);
    let commands = std::mem::take(&mut desk.commands);
    let [JournalCommand::Append { ticket, .. }] = commands[..] else {
        panic!("{commands:?}");
    };
    let error = JournalError::NoSpace;
    let completion = JournalCompletion::Failed { ticket, error };
    desk.stage.handle(Event::Stored(completion));
    desk.act();
    desk.slow = Slow::Nothing;
    let tool = desk.stage.accept(Listener::Control, CLIENT.into());
    let tool = tool.expect("a tool");
    let answer = desk.say(tool, r#"{"do":"remove","which":"all"}"#);
    assert!(answer.contains("\"count\":1"), "{answer}");
    desk.pass(5);
    assert_eq!(desk.stage.engine.queue_len(), 0);
    let failed = desk.logged("event=failed ");
    submit(&mut desk);
    assert!(desk.logged("event=failed ") > failed, "{:#?}", desk.log);
}

#[test]
fn the_longest_turn_stays_with_the_time_when_it_began() {
    let mut engine = Desk::new(&[]).stage.engine;
    assert_eq!(engine.stats().longest_turn_us, 0);
    for (second, took) in [(1, 300), (2, 700), (3, 700), (4, 20)] {
        let now = Now {
            instant: Instant::from_millis(second * 1_000),
            wall: Timestamp::from_seconds(second),
        };
        engine.handle(Event::TurnOver(Duration::from_micros(took)), now);
    }
    let stats = engine.stats();
    assert_eq!((stats.longest_turn_us, stats.longest_turn_at), (700, 2));
}
