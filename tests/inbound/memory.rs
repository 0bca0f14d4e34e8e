//! The memory limit: an attacker fills it, and the largest holders make room for everyone else.

use chopar::engine::event::{ConnId, Listener};

use crate::many_clients::{HONEST, MESSAGE, ManyClients, attacker};

#[test]
fn unfinished_bodies_leave_memory_to_others_and_stay_within_the_limit() {
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
fn the_largest_holder_of_memory_makes_room_and_small_holders_lose_nothing() {
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
    // Headers cannot be streamed to the disk: 200 networks send twenty times the memory for clients.
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
        // The session may have timed out meanwhile, but it lost nothing to others.
        assert!(!reply.starts_with("452"), "{reply}");
    }
}

#[test]
fn a_session_gets_the_reply_to_its_stored_message_before_it_is_closed_for_its_memory() {
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
    // The memory held by others puts this host over its share.
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
    // It is closed for what it holds, after it got its reply.
    assert!(heard.contains("\r\n421 "), "{heard}");
}

#[test]
fn a_long_header_counts_as_memory_while_it_is_kept() {
    let mut clients = ManyClients::new("");
    let conn = clients.connect(Listener::Smtp, HONEST).expect("a session");
    assert!(clients.begin(conn, "box@us.example"));
    let field = format!("X-Long: {}\r\n", "x".repeat(900));
    let header = format!("From: a@far.example\r\n{}\r\n", field.repeat(200));
    clients.feed(conn, header.as_bytes());
    // The part of it that is on the disk does not lower its memory.
    let line = "x".repeat(76) + "\r\n";
    for _ in 0..100 {
        clients.feed(conn, line.repeat(100).as_bytes());
    }
    let held = clients.stage.engine.load().0;
    assert!(held >= header.len(), "{held} bytes");
}

#[test]
fn recipients_count_as_memory_and_a_large_holder_may_add_fewer() {
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
