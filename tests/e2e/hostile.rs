//! Malicious peers: the relay survives, keeps no resources of theirs, and serves the next client.

use std::net::Ipv6Addr;

use crate::client::Client;
use crate::process::PATIENCE;
use crate::relay::{Relay, Setup};

/// Checks that the relay is the same process, has an empty queue, and greets the next session.
#[track_caller]
fn check(relay: &mut Relay) {
    assert!(relay.is_alive(), "{}", relay.log());
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
    assert_eq!(relay.client().say("NOOP").code, 250);
    assert_eq!(relay.stats()["queued"], 0);
    assert_eq!(relay.sink.count(), 0);
}

/// A session after the 354 reply to DATA.
fn in_data(relay: &Relay) -> Client {
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@four.test>").code, 250);
    assert_eq!(client.say("RCPT TO:<ann@relay.test>").code, 250);
    assert_eq!(client.say("DATA").code, 354);
    client
}

#[test]
fn a_client_that_sends_before_the_banner_is_refused() {
    let mut relay = Setup::unauthenticated_clients().start();
    for hello in [
        &b"EHLO spammer.test\r\nMAIL FROM:<a@four.test>\r\nRCPT TO:<ann@relay.test>\r\nDATA\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-x\r\n",
        b"\0\0\0\0",
    ] {
        let mut client = Client::open(relay.smtp()).expect("a connection");
        client.send(hello);
        let said = client.rest();
        assert!(
            said.starts_with("554 ") || said.starts_with("421 "),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    check(&mut relay);
}

#[test]
fn other_protocols_and_garbage_end_the_session() {
    let mut relay = Setup::unauthenticated_clients().start();
    for (first, port) in [
        (
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.test>\r\n",
            relay.smtp(),
        ),
        ("POST / HTTP/1.1\r\n\r\nEHLO x\r\n", relay.submission()),
        ("CONNECT x:25 HTTP/1.1\r\n\r\n", relay.smtp()),
        ("\x16\x03\x01\x02\r\n", relay.smtp()),
    ] {
        let mut client = Client::connect(port);
        client.send(first.as_bytes());
        let reply = client.reply();
        assert!((400..600).contains(&reply.code), "{first:?}: {reply:?}");
        assert!(
            !first.contains("HTTP") || client.rest().is_empty(),
            "{first:?}"
        );
    }
    let mut client = relay.client();
    let mut last = 0;
    for _ in 0..30 {
        last = client.say("FROBNICATE \x01\x02").code;
        if last == 421 || last == 0 {
            break;
        }
    }
    assert!(last == 421 || last == 0);
    check(&mut relay);
}

#[test]
fn a_megabyte_without_a_line_end_gets_one_reply() {
    let mut relay = Setup::unauthenticated_clients().start();
    let mut client = relay.client();
    client.send(&vec![b'x'; 1_000_000]);
    client.send(b"\r\nNOOP\r\n");
    let reply = client.reply();
    assert_eq!(reply.code, 500, "{reply:?}");
    assert!(matches!(client.reply().code, 250 | 421 | 0));
    check(&mut relay);
}

#[test]
fn headers_without_end_are_refused() {
    let mut relay = Setup::unauthenticated_clients().start();
    for header in [
        "X: y\r\n".repeat(100_000),
        format!("X: y\r\n{}", " folded\r\n".repeat(100_000)),
        "Received: from a by b; Tue, 24 Nov 2026 14:00:00 +0000\r\n".repeat(150),
        "no field at all\r\n".to_owned(),
    ] {
        let mut client = in_data(&relay);
        let reply = client.body(format!("{header}From: a@four.test\r\n\r\nx\r\n").as_bytes());
        assert!(matches!(reply.code, 550 | 554), "{reply:?}");
        let reply = client.say("NOOP");
        assert!(matches!(reply.code, 250 | 0 | 421), "{reply:?}");
    }
    check(&mut relay);
}

#[test]
fn only_the_correct_final_dot_ends_a_message() {
    let mut relay = Setup::unauthenticated_clients().start();
    let hidden = "MAIL FROM:<evil@four.test>\r\nRCPT TO:<ann@relay.test>\r\nDATA\r\nFrom: evil@four.test\r\n\r\nevil\r\n.\r\nQUIT\r\n";
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\r\n\0.\r\n",
        "\n\n.\n\n",
        "\r\r\n.\r\r\n",
    ] {
        let text = format!("From: a@four.test\r\nSubject: x\r\n\r\nx{end}{hidden}");
        for piece in [text.len(), 1] {
            let mut client = in_data(&relay);
            for bytes in text.as_bytes().chunks(piece) {
                client.send(bytes);
            }
            let said = client.rest();
            assert!(said.starts_with('5'), "{end:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{end:?}: {said}");
        }
    }
    check(&mut relay);
}

#[test]
fn sessions_that_break_at_any_point_leave_nothing_behind() {
    let mut relay = Setup::unauthenticated_clients().start();
    let steps = [
        "EHLO x\r\n",
        "MAIL FROM:<a@four.test>\r\n",
        "RCPT TO:<ann@relay.test>\r\n",
        "DATA\r\n",
        "From: a@four.test\r\n\r\nx\r\n",
    ];
    for count in 0..=steps.len() {
        let mut client = Client::connect(relay.smtp());
        client.send(steps[..count].concat().as_bytes());
        client.abort();
        let mut client = Client::connect(relay.smtp());
        client.send(steps[..count].concat().as_bytes());
        drop(client);
    }
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@four.test>").code, 250);
    assert_eq!(client.say("RCPT TO:<ann@relay.test>").code, 250);
    client.send(b"BDAT 1000 LAST\r\nFrom: a@four.test\r\n\r\nnot a thousand bytes");
    client.abort();
    check(&mut relay);
}

/// Resident memory of the relay, in kilobytes.
fn resident(relay: &mut Relay) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).expect("a process");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a size");
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

#[test]
fn a_hundred_megabytes_in_one_line_flow_at_constant_memory() {
    let mut relay = Setup::unauthenticated_clients().start();
    let before = resident(&mut relay);
    let mut client = in_data(&relay);
    client.send(b"From: a@four.test\r\n\r\n");
    let block = vec![b'x'; 1024 * 1024];
    for _ in 0..100 {
        client.send(&block);
    }
    let during = resident(&mut relay);
    client.send(b"\r\n.\r\n");
    assert!(matches!(client.reply().code, 421 | 552 | 554 | 0));
    assert!(
        during < before + 16 * 1024,
        "{before} KiB grew to {during} KiB"
    );
    check(&mut relay);
}

#[test]
fn hundreds_of_idle_sessions_use_little_memory_and_delay_no_client() {
    let tables =
        "[limits]\nsessions_per_address = 2000\n[abuse]\nconnections_per_minute = 0\n".to_owned();
    let mut relay = Setup {
        tables,
        ..Setup::unauthenticated_clients()
    }
    .start();
    let before = resident(&mut relay);
    let idle: Vec<Client> = (0..400)
        .map(|_| Client::open(relay.smtp()).expect("a connection"))
        .collect();
    let start = std::time::Instant::now();
    assert_eq!(relay.client().say("NOOP").code, 250);
    assert!(
        start.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    let each = resident(&mut relay).saturating_sub(before) / 400;
    assert!(each < 16, "{each} KiB a session");
    drop(idle);
    check(&mut relay);
}

#[test]
fn one_address_may_open_only_a_limited_number_of_sessions() {
    let tables = "[limits]\nsessions_per_address = 5\n".to_owned();
    let relay = Setup {
        tables,
        ..Setup::unauthenticated_clients()
    }
    .start();
    let mut clients: Vec<Client> = (0..5).map(|_| relay.client()).collect();
    let mut sixth = Client::open(relay.smtp()).expect("a connection");
    assert_eq!(sixth.reply().code, 421);
    // Another address is another client.
    let mut other =
        Client::open_to((Ipv6Addr::LOCALHOST, relay.smtp()).into()).expect("a connection");
    assert_eq!(other.reply().code, 220);
    assert_eq!(clients.pop().expect("a client").say("QUIT").code, 221);
    crate::process::wait_for("room for another", PATIENCE, || {
        (Client::open(relay.smtp())
            .expect("a connection")
            .reply()
            .code
            == 220)
            .then_some(())
    });
}
