//! An attacker who knows the source code fills one table after the other, from one address and from many networks.
//! Meanwhile a user submits, an honest client delivers, and queued mail is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::engine::event::{ConnId, Event, Listener, Lost, Peer};
use chopar::limits::SPOOL_RESERVE_BYTES;
use chopar::queue::{JournalCompletion, JournalError};

use crate::many_clients::{HONEST, MESSAGE, ManyClients, USER, attacker};

#[test]
fn an_attacker_leaves_sessions_to_others() {
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
            // All sessions for clients are in use. One is free again as soon as some have been idle for a while.
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
fn an_attacker_leaves_dns_queries_to_others_and_a_message_without_them_is_not_accepted() {
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
            // Different names each time.
            let header = header.replace("evil.test", &format!("evil{number}.test"));
            clients.feed(conn, format!("{header}{MESSAGE}").as_bytes());
        }
    }
    let (questions, _) = (clients.stage.engine.tables().questions, 0);
    assert!(questions <= 128, "{questions} of 256");
    assert_eq!(clients.user_submits().get(..3), Some("250"));
    // The honest client's message is verified during the attack.
    assert_eq!(clients.honest_delivers().get(..3), Some("250"));
}

#[test]
fn a_message_without_room_for_its_dns_queries_is_deferred_and_never_accepted() {
    let mut clients = ManyClients::new("");
    // So many networks that all queries for clients are in use.
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
fn twenty_first_logins_of_one_user_need_one_derivation_and_guesses_leave_room() {
    let mut clients = ManyClients::new("limits.sessions_per_address = 1000");
    clients.holds_works = true;
    // Attackers in one network, each with different passwords.
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
    // Everything that waits is derived, in turn.
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

    // From now on the address is known: its next password has room, and is derived before all guesses.
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
fn messages_per_hour_are_counted_on_acceptance_across_sessions() {
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
    // A refused message no longer counts.
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
fn messages_of_local_programs_are_counted_by_uid_and_system_uids_may_send_more() {
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
    // Uids in a range without accounts share one count, and use no other's.
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
fn a_message_that_the_disk_refuses_does_not_count_for_its_user_even_after_a_disconnect() {
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
fn unfinished_messages_count_once_for_disk_space() {
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
    // 22 MiB are left for others: bytes already written are not counted against them a second time.
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
    // Once the message is queued it counts for no session, but its bytes stay in use.
    clients.heard.remove(&conn);
    clients.feed(conn, b".\r\n");
    let reply = clients.heard.get(&conn).cloned().unwrap_or_default();
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(may_bring(&mut clients, 20));
    assert!(!may_bring(&mut clients, 23));
}

#[test]
fn guesses_begun_before_the_lock_are_ignored_and_no_session_waits_forever() {
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
    // The same applies to input that waits for a worker; no worker has it now.
    let guess = STANDARD.encode("\0pencil@us.example\0guess");
    assert!(clients.say(begun, &guess).starts_with("421 "));
}

#[test]
fn clients_leave_the_hook_to_users() {
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
    // The hook never answers; the user's message waits for it and is not refused.
    assert_eq!(clients.user_submits(), "");
    assert_eq!(clients.stage.engine.tables().hooks, asked + 1);
}
