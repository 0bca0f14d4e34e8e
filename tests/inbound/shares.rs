//! An attacker who knows the source fills one table after the other, from one address and from many networks, while
//! others continue: a user submits, an honest client delivers, queued mail is sent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::config::Folder;
use chopar::dns::SocketId;
use chopar::engine::event::{
    ConnId, Endpoint, Event, JobId, Listener, Lost, Peer, Work, WorkResult,
};
use chopar::limits::SPOOL_RESERVE_BYTES;
use chopar::queue::{JournalCommand, JournalCompletion, JournalError, Ticket};

use crate::stage::{PENCIL, Scene, Stage, act};

struct ManyClients {
    stage: Stage,
    heard: BTreeMap<ConnId, String>,
    /// Passwords that are to be derived, where the test holds them back.
    works: Vec<(JobId, Work)>,
    holds_works: bool,
    /// Messages on their way to the disk, where the test holds them back.
    stores: Vec<Ticket>,
    holds_stores: bool,
    /// Names that were asked for; nothing answers.
    asked: usize,
    /// Connections that were asked for, by address; nothing answers.
    connects: Vec<String>,
}

const HONEST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const USER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const MESSAGE: &str = "From: a@far.example\r\nSubject: x\r\n\r\nhello\r\n.\r\n";

/// An address of the attacker: of a network of its own for each number, or all of one.
fn attacker(number: u32, spread: bool) -> IpAddr {
    let base = 0x0A00_0000_u32;
    match spread {
        true => Ipv4Addr::from_bits(base + (number << 16) % 0x00FF_0000 + number % 251),
        false => Ipv4Addr::from_bits(base + number),
    }
    .into()
}

impl ManyClients {
    fn new(keys: &str) -> Self {
        Self::with(keys, Folder::default())
    }

    fn with_hook() -> Self {
        let mut folder = Folder::default();
        folder.insert_file("hooks/post-data", Vec::new());
        Self::with("", folder)
    }

    fn with(keys: &str, mut folder: Folder) -> Self {
        let toml = format!(
            "hostname = \"mx.us.example\"\ndns.servers = [\"192.0.2.53\"]\n{keys}\n[abuse]\nptr = false\n\
             connections_per_minute = 0\nmessages_per_minute = 0\n"
        );
        folder.insert_file("chopar.toml", toml.into());
        folder.insert_file(
            "domains/us.example/aliases",
            b"ann: ann@far.example\nbox: maildir:/var/mail/box\n".to_vec(),
        );
        folder.insert_file("domains/us.example/users", PENCIL.into());
        Self {
            stage: Stage::new("mx.us.example", &folder, 7),
            heard: BTreeMap::new(),
            works: Vec::new(),
            holds_works: false,
            stores: Vec::new(),
            holds_stores: false,
            asked: 0,
            connects: Vec::new(),
        }
    }

    fn act(&mut self) {
        act(self);
    }

    /// A session that has said hello, where one is to be had.
    fn connect(&mut self, listener: Listener, address: impl Into<IpAddr>) -> Option<ConnId> {
        let conn = self.stage.accept(listener, address.into()).ok()?;
        if listener == Listener::Submissions {
            self.stage.secure(conn);
        }
        self.act();
        self.pass(1);
        self.say(conn, "EHLO client.example");
        Some(conn)
    }

    fn say(&mut self, conn: ConnId, line: &str) -> String {
        self.heard.remove(&conn);
        self.feed(conn, format!("{line}\r\n").as_bytes());
        self.heard.get(&conn).cloned().unwrap_or_default()
    }

    fn feed(&mut self, conn: ConnId, bytes: &[u8]) {
        self.stage.handle(Event::Bytes { conn, bytes });
        self.act();
    }

    fn pass(&mut self, seconds: u64) {
        let span = std::time::Duration::from_secs(seconds);
        let end = self.stage.now.instant.after(span);
        while self.stage.wake(end) {
            self.act();
        }
        self.stage.advance_to(end);
    }

    /// Up to the 354; false where that is not to be had.
    fn begin(&mut self, conn: ConnId, to: &str) -> bool {
        [
            "MAIL FROM:<a@far.example>",
            &format!("RCPT TO:<{to}>"),
            "DATA",
        ]
        .iter()
        .all(|line| matches!(self.say(conn, line).get(..1), Some("2" | "3")))
    }

    /// A user logs in and submits; gives the reply to the dot.
    fn user_submits(&mut self) -> String {
        let conn = self
            .connect(Listener::Submissions, USER)
            .expect("a session");
        let response = STANDARD.encode("\0pencil@us.example\0pencil");
        let reply = self.say(conn, &format!("AUTH PLAIN {response}"));
        assert!(reply.starts_with("235 "), "{reply}");
        for line in [
            "MAIL FROM:<pencil@us.example>",
            "RCPT TO:<friend@other.example>",
            "DATA",
        ] {
            let reply = self.say(conn, line);
            assert!(matches!(reply.get(..1), Some("2" | "3")), "{reply}");
        }
        self.say(conn, "From: pencil@us.example\r\n\r\nhello\r\n.")
    }

    /// An honest client of port 25 brings a message for a mailbox here; gives the reply to the dot.
    fn honest_delivers(&mut self) -> String {
        let conn = self.connect(Listener::Smtp, HONEST).expect("a session");
        assert!(self.begin(conn, "box@us.example"));
        self.heard.remove(&conn);
        self.feed(conn, MESSAGE.as_bytes());
        // The name server is silent for all: what it is asked is given up in time.
        self.pass(60);
        let reply = self.heard.get(&conn).cloned().unwrap_or_default();
        self.say(conn, "QUIT");
        reply
    }
}

impl Scene for ManyClients {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.heard.entry(conn).or_default().push_str(&text);
        self.stage.follow(Event::Drained { conn });
    }

    fn on_connect(&mut self, _: ConnId, to: &Endpoint) {
        self.connects.push(to.to_string());
    }

    fn on_store(&mut self, command: JournalCommand) {
        match command {
            JournalCommand::Append { ticket, .. } if self.holds_stores => self.stores.push(ticket),
            other => self.stage.store(other),
        }
    }

    fn on_query(&mut self, _: SocketId, _: SocketAddr, _: &[u8]) {
        self.asked += 1;
    }

    fn on_work(&mut self, job: JobId, work: Work) -> Option<WorkResult> {
        if self.holds_works {
            self.works.push((job, work));
            return None;
        }
        Some(work.perform())
    }
}

#[test]
fn sessions_are_left_for_others_however_many_an_attacker_opens() {
    for (spread, most) in [(false, 100), (true, 200)] {
        let mut clients =
            ManyClients::new("limits.sessions = 400\nlimits.sessions_per_address = 400");
        let taken = (0..2_000)
            .filter(|number| {
                let address = attacker(*number, spread);
                clients.stage.accept(Listener::Smtp, address).is_ok()
            })
            .count();
        clients.act();
        assert!((most / 2..=most).contains(&taken), "{taken} of 400");
        assert_eq!(clients.user_submits().get(..3), Some("250"));
        if spread {
            // All that there are for clients are taken: there is one again as soon as some have done nothing for a
            // while.
            assert!(clients.stage.accept(Listener::Smtp, HONEST.into()).is_err());
            clients.pass(11);
        }
        for _ in 0..20 {
            assert_eq!(clients.honest_delivers().get(..3), Some("250"));
        }
        let local = clients.stage.accept(Listener::Submit, HONEST.into());
        assert!(local.is_ok());
    }
}

#[test]
fn unfinished_bodies_leave_memory_to_others_and_stay_under_the_ceiling() {
    for spread in [false, true] {
        let mut clients = ManyClients::new("max_memory = \"8 MiB\"");
        let piece = "x".repeat(76) + "\r\n";
        let mut bodies = Vec::new();
        for number in 0..300 {
            let conn = clients.connect(Listener::Smtp, attacker(number, spread));
            let Some(conn) = conn else { continue };
            if clients.begin(conn, "box@us.example") {
                clients.feed(conn, b"From: a@far.example\r\n\r\n");
                bodies.push(conn);
            }
        }
        assert!(bodies.len() > 20, "{}", bodies.len());
        for _ in 0..10 {
            for conn in &bodies {
                clients.feed(*conn, piece.repeat(200).as_bytes());
            }
            let held = clients.stage.engine.load().0;
            assert!(held <= 8 << 20, "{held} bytes");
        }
        assert_eq!(clients.user_submits().get(..3), Some("250"), "{spread}");
        assert_eq!(clients.honest_delivers().get(..3), Some("250"), "{spread}");
    }
}

#[test]
fn whoever_holds_most_makes_room_and_whoever_holds_little_loses_nothing() {
    let mut clients = ManyClients::new("max_memory = \"8 MiB\"");
    let field = format!("X-Long: {}\r\n", "x".repeat(900));
    let small: Vec<ConnId> = (0..20)
        .map(|number| {
            let conn = clients.connect(Listener::Smtp, attacker(number, true));
            let conn = conn.expect("a session");
            assert!(clients.begin(conn, "box@us.example"));
            clients.feed(conn, b"From: a@far.example\r\n");
            conn
        })
        .collect();
    // Headers cannot be streamed out: 200 networks bring twenty times what there is for clients.
    for number in 100..300 {
        let Some(conn) = clients.connect(Listener::Smtp, attacker(number, true)) else {
            continue;
        };
        if clients.begin(conn, "box@us.example") {
            for _ in 0..20 {
                clients.feed(conn, field.repeat(10).as_bytes());
            }
        }
        let held = clients.stage.engine.load().0;
        assert!(held <= 4 << 20, "{held} bytes");
        assert_eq!(clients.honest_delivers().get(..3), Some("250"), "{number}");
    }
    assert_eq!(clients.user_submits().get(..3), Some("250"));
    for conn in small {
        clients.heard.remove(&conn);
        clients.feed(conn, b"\r\nhello\r\n.\r\n");
        clients.pass(60);
        let reply = clients.heard.get(&conn).cloned().unwrap_or_default();
        // The session may have timed out meanwhile; nothing of it was lost to others.
        assert!(!reply.starts_with("452"), "{reply}");
    }
}

#[test]
fn a_session_whose_message_is_being_stored_hears_the_answer_whatever_else_it_has_sent() {
    let mut clients = ManyClients::new(&format!(
        "max_memory = \"8 MiB\"\nrelay.networks = [\"{HONEST}/32\"]"
    ));
    let sessions: Vec<ConnId> = (0..31)
        .map(|_| {
            let conn = clients.connect(Listener::Smtp, HONEST).expect("a session");
            assert!(clients.begin(conn, "friend@other.example"));
            conn
        })
        .collect();
    let (first, others) = sessions.split_first().expect("sessions");
    // The host has more than its share by what the others hold.
    let field = format!("X-Long: {}\r\n", "x".repeat(900));
    for conn in others {
        if clients.stage.engine.load().0 < 9 << 19 {
            clients.feed(*conn, field.repeat(170).as_bytes());
        }
    }
    let held = clients.stage.engine.load().0;
    assert!(held > 4 << 20, "{held} bytes");
    clients.heard.remove(first);
    let behind = "NOOP\r\n".repeat(1_000);
    clients.feed(*first, format!("{MESSAGE}{behind}").as_bytes());
    let heard = clients.heard.get(first).cloned().unwrap_or_default();
    assert!(heard.starts_with("250 2.0.0 "), "{heard}");
    // It goes for what it holds, once it has been told.
    assert!(heard.contains("\r\n421 "), "{heard}");
}

#[test]
fn a_user_with_many_sessions_leaves_some_to_others() {
    let mut clients = ManyClients::new("limits.sessions = 40\nlimits.sessions_per_address = 400");
    let response = STANDARD.encode("\0pencil@us.example\0pencil");
    let mut refused = 0;
    for _ in 0..60 {
        let Some(conn) = clients.connect(Listener::Submissions, USER) else {
            break;
        };
        let reply = clients.say(conn, &format!("AUTH PLAIN {response}"));
        refused += usize::from(reply.starts_with("421 4.7.0 "));
        assert!(
            reply.starts_with("235 ") || reply.starts_with("421 "),
            "{reply}"
        );
    }
    assert!(refused > 0);
    assert!(
        clients
            .stage
            .accept(Listener::Submit, HONEST.into())
            .is_ok()
    );
    assert_eq!(clients.honest_delivers().get(..3), Some("250"));
}

#[test]
fn questions_are_left_for_others_and_what_could_not_be_asked_is_not_taken() {
    let mut clients = ManyClients::new("");
    let mut header = String::new();
    for number in 0..10 {
        header.push_str(&format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; d=d{number}.evil.test; s=s{number}; h=from; bh=47DEQpj8HBSa+/TImW\
             +5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n"
        ));
    }
    for number in 0..100 {
        let conn = clients.connect(Listener::Smtp, attacker(number, false));
        let Some(conn) = conn else { continue };
        if clients.begin(conn, "box@us.example") {
            // Other names each time.
            let header = header.replace("evil.test", &format!("evil{number}.test"));
            clients.feed(conn, format!("{header}{MESSAGE}").as_bytes());
        }
    }
    let (questions, _) = (clients.stage.engine.tables().questions, 0);
    assert!(questions <= 128, "{questions} of 256");
    assert_eq!(clients.user_submits().get(..3), Some("250"));
    // The honest client's message is examined while the attack lasts.
    assert_eq!(clients.honest_delivers().get(..3), Some("250"));
}

#[test]
fn what_was_not_asked_for_lack_of_room_is_put_off_and_never_taken() {
    let mut clients = ManyClients::new("");
    // From so many networks that every question of clients is taken.
    for number in 0..300 {
        let Some(conn) = clients.connect(Listener::Smtp, attacker(number, true)) else {
            continue;
        };
        if clients.begin(conn, "ann@us.example") {
            let message = MESSAGE.replace("far.example", &format!("far{number}.zone{number}"));
            clients.feed(conn, message.as_bytes());
        }
    }
    let before = clients.asked;
    let conn = clients.connect(Listener::Smtp, attacker(301, true));
    let conn = conn.expect("a session");
    if clients.begin(conn, "ann@us.example") {
        clients.heard.remove(&conn);
        clients.feed(conn, MESSAGE.replace("far.example", "bank.test").as_bytes());
        clients.pass(120);
        let reply = clients.heard.get(&conn).cloned().unwrap_or_default();
        assert!(
            reply.starts_with("451 ") || reply.starts_with("452 "),
            "{reply}"
        );
    }
    assert!(clients.asked >= before);
    assert_eq!(clients.user_submits().get(..3), Some("250"));
}

#[test]
fn twenty_first_logins_of_one_user_are_one_derivation_and_guesses_leave_room() {
    let mut clients = ManyClients::new("limits.sessions_per_address = 1000");
    clients.holds_works = true;
    // Guessers of one network, each with passwords of its own.
    for number in 0..400 {
        let Some(conn) = clients.connect(Listener::Submissions, attacker(number, false)) else {
            continue;
        };
        let guess = STANDARD.encode(format!("\0pencil@us.example\0guess{number}"));
        clients.say(conn, &format!("AUTH PLAIN {guess}"));
    }
    let sessions: Vec<ConnId> = (0..20)
        .filter_map(|_| clients.connect(Listener::Submissions, USER))
        .collect();
    assert_eq!(sessions.len(), 20);
    let response = STANDARD.encode("\0pencil@us.example\0pencil");
    for conn in &sessions {
        let reply = clients.say(*conn, &format!("AUTH PLAIN {response}"));
        assert_eq!(reply, "", "it is not turned away");
    }
    // All that waits is derived, in turn.
    let mut derived = 0;
    while let Some((job, work)) = clients.works.pop() {
        derived += 1;
        let result = work.perform();
        clients.stage.handle(Event::Worked { job, result });
        clients.act();
    }
    for conn in &sessions {
        let reply = clients.heard.get(conn).cloned().unwrap_or_default();
        assert!(reply.starts_with("235 "), "{reply}");
    }
    assert!((30..=260).contains(&derived), "{derived}");

    // From now on the address is known: there is room for its next password whoever guesses, and before all guesses.
    for number in 1_000..1_400 {
        let Some(conn) = clients.connect(Listener::Submissions, attacker(number, true)) else {
            continue;
        };
        let guess = STANDARD.encode(format!("\0pencil@us.example\0again{number}"));
        clients.say(conn, &format!("AUTH PLAIN {guess}"));
    }
    clients.stage.now.instant = clients
        .stage
        .now
        .instant
        .after(std::time::Duration::from_secs(7_200));
    let conn = clients
        .connect(Listener::Submissions, USER)
        .expect("a session");
    clients.say(conn, &format!("AUTH PLAIN {response}"));
    let mut turns = 0;
    while clients
        .heard
        .get(&conn)
        .is_none_or(|heard| !heard.contains("235 "))
    {
        let (job, work) = clients.works.remove(0);
        let result = work.perform();
        clients.stage.handle(Event::Worked { job, result });
        clients.act();
        turns += 1;
        assert!(turns <= 4, "it waits behind guesses");
    }
}

#[test]
fn the_messages_of_an_hour_are_counted_when_they_are_taken_however_many_sessions_begin_one() {
    let mut clients = ManyClients::new("limits.messages_per_user_hour = 5");
    let response = STANDARD.encode("\0pencil@us.example\0pencil");
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let conn = clients.connect(Listener::Submissions, USER);
        let conn = conn.expect("a session");
        let reply = clients.say(conn, &format!("AUTH PLAIN {response}"));
        assert!(reply.starts_with("235 "), "{reply}");
        for line in [
            "MAIL FROM:<pencil@us.example>",
            "RCPT TO:<friend@other.example>",
            "DATA",
        ] {
            let reply = clients.say(conn, line);
            assert!(matches!(reply.get(..1), Some("2" | "3")), "{reply}");
        }
        sessions.push(conn);
    }
    // What is refused is counted out again.
    let refused = sessions.pop().expect("a session");
    let reply = clients.say(refused, "From: boss@bank.example\r\n\r\nhello\r\n.");
    assert!(reply.starts_with("553 "), "{reply}");
    let taken = sessions
        .into_iter()
        .filter(|conn| {
            let reply = clients.say(*conn, "From: pencil@us.example\r\n\r\nhello\r\n.");
            assert!(
                reply.starts_with("250 ") || reply.starts_with("45"),
                "{reply}"
            );
            reply.starts_with("250 ")
        })
        .count();
    assert_eq!(taken, 5);
}

#[test]
fn the_messages_of_local_programs_are_counted_by_uid_and_the_system_may_send_more() {
    let mut clients = ManyClients::new("limits.messages_per_uid_hour = 2");
    let submit = |clients: &mut ManyClients, uid: u32| {
        let (peer, now) = (Peer::Process { uid }, clients.stage.now);
        let conn = clients.stage.engine.accept(Listener::Submit, peer, now);
        let conn = conn.expect("a session");
        clients.act();
        clients.say(conn, "EHLO localhost");
        let reply = clients.say(conn, "MAIL FROM:<ann@us.example>");
        if !reply.starts_with("250 ") {
            return reply;
        }
        assert!(
            clients
                .say(conn, "RCPT TO:<friend@other.example>")
                .starts_with("250 ")
        );
        assert!(clients.say(conn, "DATA").starts_with("354 "));
        clients.say(conn, "From: ann@us.example\r\n\r\nhello\r\n.")
    };
    for _ in 0..2 {
        assert_eq!(submit(&mut clients, 1_000).get(..3), Some("250"));
    }
    assert_eq!(submit(&mut clients, 1_000).get(..10), Some("451 4.7.1 "));
    assert_eq!(submit(&mut clients, 1_001).get(..3), Some("250"));
    assert_eq!(clients.user_submits().get(..3), Some("250"));
    for _ in 0..20 {
        assert_eq!(submit(&mut clients, 0).get(..3), Some("250"));
    }
    assert_eq!(submit(&mut clients, 0).get(..10), Some("451 4.7.1 "));
    // A range of uids that no account has is one submitter, and takes no other's count.
    for uid in [100_000, 165_535] {
        assert_eq!(submit(&mut clients, uid).get(..3), Some("250"));
    }
    for uid in 100_000..100_020 {
        assert_eq!(submit(&mut clients, uid).get(..10), Some("451 4.7.1 "));
    }
    assert_eq!(submit(&mut clients, 1_001).get(..3), Some("250"));
    clients.pass(3_600);
    assert_eq!(submit(&mut clients, 1_000).get(..3), Some("250"));
    assert_eq!(submit(&mut clients, 100_000).get(..3), Some("250"));
}

#[test]
fn what_the_disk_refuses_is_not_counted_for_its_user_though_the_client_has_left() {
    let mut clients = ManyClients::new("limits.messages_per_user_hour = 1");
    let conn = clients
        .connect(Listener::Submissions, USER)
        .expect("a session");
    let response = STANDARD.encode("\0pencil@us.example\0pencil");
    assert!(
        clients
            .say(conn, &format!("AUTH PLAIN {response}"))
            .starts_with("235 ")
    );
    for line in [
        "MAIL FROM:<pencil@us.example>",
        "RCPT TO:<friend@other.example>",
        "DATA",
    ] {
        assert!(matches!(clients.say(conn, line).get(..1), Some("2" | "3")));
    }
    clients.holds_stores = true;
    assert_eq!(
        clients.say(conn, "From: pencil@us.example\r\n\r\nhello\r\n."),
        ""
    );
    clients.stage.lose(conn, Lost::Reset);
    clients.act();
    clients.holds_stores = false;
    let ticket = clients
        .stores
        .pop()
        .expect("a message on its way to the disk");
    let error = JournalError::NoSpace;
    clients
        .stage
        .handle(Event::Stored(JournalCompletion::Failed { ticket, error }));
    clients.act();
    assert_eq!(clients.user_submits().get(..3), Some("250"));
}

#[test]
fn what_is_written_of_unfinished_messages_takes_up_room_on_the_disk_once() {
    let mut clients = ManyClients::new(&format!(
        "max_message_size = \"40 MiB\"\nrelay.networks = [\"{HONEST}/32\", \"{USER}/32\"]"
    ));
    let free = SPOOL_RESERVE_BYTES + (40 << 20);
    clients.stage.disk.set_free(free);
    let conn = clients.connect(Listener::Smtp, HONEST).expect("a session");
    assert!(clients.begin(conn, "friend@other.example"));
    clients.feed(conn, b"From: a@far.example\r\n\r\n");
    let piece = format!("{}\r\n", "x".repeat(76)).repeat(800);
    let mut written = 0;
    while written < 18 << 20 {
        clients.feed(conn, piece.as_bytes());
        written += piece.len() as u64;
        clients.stage.disk.set_free(free - written);
    }
    // 22 MiB are left for others: what is written is not taken from them a second time.
    let other = clients.connect(Listener::Smtp, USER).expect("a session");
    let may_bring = |clients: &mut ManyClients, mib: u64| {
        let reply = clients.say(
            other,
            &format!("MAIL FROM:<a@far.example> SIZE={}", mib << 20),
        );
        clients.say(other, "RSET");
        reply.starts_with("250 ")
    };
    assert!(may_bring(&mut clients, 10));
    // Once it is queued nobody holds it any more, and its bytes stay taken.
    clients.heard.remove(&conn);
    clients.feed(conn, b".\r\n");
    let reply = clients.heard.get(&conn).cloned().unwrap_or_default();
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(may_bring(&mut clients, 20));
    assert!(!may_bring(&mut clients, 23));
}

#[test]
fn guesses_that_began_before_an_address_was_locked_are_not_looked_at_and_nobody_waits_for_ever() {
    let mut clients = ManyClients::new("limits.sessions_per_address = 1000");
    let guesser = attacker(1, false);
    let first = STANDARD.encode("n,,n=pencil@us.example,r=abc");
    let proofs: Vec<ConnId> = (0..30)
        .filter_map(|_| clients.connect(Listener::Submissions, guesser))
        .collect();
    for conn in &proofs {
        let reply = clients.say(*conn, &format!("AUTH SCRAM-SHA-256 {first}"));
        assert!(reply.starts_with("334 "), "{reply}");
    }
    let begun = clients.connect(Listener::Submissions, guesser);
    let begun = begun.expect("a session");
    assert!(clients.say(begun, "AUTH PLAIN").starts_with("334"));
    let proof = STANDARD.encode("c=biws,r=abcx,p=AAAA");
    let refused = (proofs.iter())
        .filter(|conn| clients.say(**conn, &proof).starts_with("421 "))
        .count();
    assert_eq!(refused, 10, "20 guesses are looked at");
    // The same holds of what waits for a worker, which none of them occupies now.
    let guess = STANDARD.encode("\0pencil@us.example\0guess");
    assert!(clients.say(begun, &guess).starts_with("421 "));
}

#[test]
fn a_long_header_counts_as_memory_as_long_as_it_is_kept() {
    let mut clients = ManyClients::new("");
    let conn = clients.connect(Listener::Smtp, HONEST).expect("a session");
    assert!(clients.begin(conn, "box@us.example"));
    let field = format!("X-Long: {}\r\n", "x".repeat(900));
    let header = format!("From: a@far.example\r\n{}\r\n", field.repeat(200));
    clients.feed(conn, header.as_bytes());
    // What has gone to the disk of it is no less in memory.
    let line = "x".repeat(76) + "\r\n";
    for _ in 0..100 {
        clients.feed(conn, line.repeat(100).as_bytes());
    }
    let held = clients.stage.engine.load().0;
    assert!(held >= header.len(), "{held} bytes");
}

#[test]
fn the_hook_is_left_for_users_however_many_messages_clients_bring() {
    let mut clients = ManyClients::with_hook();
    for number in 0..300 {
        let address = attacker(number, true);
        let Some(conn) = clients.connect(Listener::Smtp, address) else {
            continue;
        };
        if clients.begin(conn, "box@us.example") {
            clients.feed(conn, MESSAGE.as_bytes());
        }
        if number == 150 {
            clients.pass(21);
        }
    }
    clients.pass(21);
    let asked = clients.stage.engine.tables().hooks;
    assert!((10..=40).contains(&asked), "{asked} of 80");
    // It is silent to all; the user's message waits for it and is not turned away.
    assert_eq!(clients.user_submits(), "");
    assert_eq!(clients.stage.engine.tables().hooks, asked + 1);
}

#[test]
fn recipients_count_as_memory_and_whoever_holds_much_brings_fewer_at_a_time() {
    let mut clients = ManyClients::new("max_memory = \"8 MiB\"");
    let mut taken = 0;
    for number in 0..40 {
        let Some(conn) = clients.connect(Listener::Smtp, attacker(number, true)) else {
            continue;
        };
        if clients
            .say(conn, "MAIL FROM:<a@far.example>")
            .starts_with("452 ")
        {
            continue;
        }
        let original = "x".repeat(400);
        for number in 0..1_000 {
            let to = format!(
                "RCPT TO:<box+{number}@us.example> ORCPT=rfc822;{original}{number}@far.example"
            );
            let reply = clients.say(conn, &to);
            if !reply.starts_with("250 ") {
                assert!(reply.starts_with("452 "), "{reply}");
                break;
            }
            taken += 1;
        }
        let held = clients.stage.engine.load().0;
        assert!((taken * 400..8 << 20).contains(&held), "{held} bytes");
    }
    assert!((1_000..20_000).contains(&taken), "{taken}");
    assert_eq!(clients.user_submits().get(..3), Some("250"));
    assert_eq!(clients.honest_delivers().get(..3), Some("250"));
}
