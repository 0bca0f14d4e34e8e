//! The relay with Postfix, Exim and OpenSMTPD: mail in both directions, over STARTTLS and byte for byte.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use crate::client::{Client, Reply};
use crate::far_end::{FarEnd, Kind, may_start};
use crate::relay::{Relay, Setup};
use crate::world::{Manners, Sink};

const KINDS: [Kind; 3] = [Kind::Postfix, Kind::Exim, Kind::OpenSmtpd];
const LIMIT: Duration = Duration::from_secs(60);
/// Maximum message size of the other servers and of the relay.
const FAR_BYTES_MAX: u64 = 600_000;

const FIELDS: &str = "From: a@src.test\r\nTo: b@far.test\r\nDate: Tue, 24 Nov 2026 14:00:00 +0000\r\n\
                      Message-ID: <1@src.test>\r\nSubject: shapes\r\n";

/// Nine forms of bodies.
fn shapes() -> Vec<Vec<u8>> {
    let long = "x".repeat(990);
    vec![
        format!("{FIELDS}\r\nhello\r\n").into(),
        format!("{FIELDS}\r\n").into(),
        format!("{FIELDS}\r\n\r\n\r\n\r\n").into(),
        format!("{FIELDS}\r\ntext\r\n\r\n\r\n").into(),
        format!("{FIELDS}\r\n.\r\n..\r\n...\r\n.x\r\n").into(),
        format!("{FIELDS}\r\n{long}\r\n.{long}\r\n").into(),
        format!("{FIELDS}\r\n \t \r\ntrailing  \t\r\n\tleading\r\nFrom here on\r\n").into(),
        format!("{FIELDS}Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nпривет ☕\r\n").into(),
        [FIELDS.as_bytes(), b"\r\n", &b"a line of an ordinary length, some seventy octets\r\n".repeat(8_000)].concat(),
    ]
}

/// Sends a message in a new session to a port; returns the reply to its final dot.
fn send(port: u16, to: &[&str], message: &[u8]) -> Reply {
    let mut client = Client::connect(port);
    assert_eq!(client.say("EHLO client.test").code, 250);
    let body = if message.is_ascii() {
        ""
    } else {
        " BODY=8BITMIME"
    };
    assert_eq!(
        client.say(&format!("MAIL FROM:<a@src.test>{body}")).code,
        250
    );
    for to in to {
        let reply = client.say(&format!("RCPT TO:<{to}>"));
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    assert_eq!(client.say("DATA").code, 354);
    client.body(message)
}

/// A relay that sends mail for far.test to a server, which sends it on to a sink.
fn towards(kind: Kind) -> (Relay, FarEnd, Sink) {
    let sink = Sink::start(Manners::StartTls);
    let far = FarEnd::start(kind, sink.port, FAR_BYTES_MAX);
    let relay = Setup {
        tables: format!(
            "[[route]]\ndomain = \"far.test\"\nvia = [\"smtp://127.0.0.1:{}\"]\n",
            far.port
        ),
        zone: "src.test. MX 10 mx.sink.test.\n".to_owned(),
        ..Setup::default()
    };
    (relay.start(), far, sink)
}

/// A server that sends all mail to a relay, which sends it to a sink.
fn from(kind: Kind, setup: Setup) -> (Relay, FarEnd) {
    let zone = "far.test. MX 10 mx.sink.test.\nsrc.test. MX 10 mx.sink.test.\n".to_owned();
    let relay = Setup { zone, ..setup }.start();
    let far = FarEnd::start(kind, relay.smtp(), FAR_BYTES_MAX);
    (relay, far)
}

/// Runs a test for all servers at once.
fn each(test: impl Fn(Kind) + Sync) {
    if !may_start() {
        return;
    }
    thread::scope(|scope| {
        for kind in KINDS {
            let test = &test;
            thread::Builder::new()
                .name(format!("{kind:?}"))
                .spawn_scoped(scope, move || test(kind))
                .expect("a thread");
        }
    });
}

#[test]
fn mail_from_the_relay_arrives_unchanged_through_each_server() {
    each(|kind| {
        let (relay, far, sink) = towards(kind);
        for (message, number) in shapes().iter().zip(1..) {
            let reply = send(relay.smtp(), &["b@far.test"], message);
            assert_eq!(reply.code, 250, "{kind:?} {number}: {reply:?}");
            sink.wait_within(number, LIMIT);
            let trace = sink.message(number).added_to(message);
            assert!(trace.contains("mail.relay.test"), "{trace}");
            assert!(trace.contains("mx.far.test"), "{trace}");
        }
        relay.wait_for_empty_queue(LIMIT);
        // OpenSMTPD of Debian 12 offers STARTTLS, but every handshake fails (its keys and OpenSSL 3), so it gets its
        // mail in cleartext.
        let log = relay.log();
        let tls = log
            .lines()
            .filter(|line| line.contains("event=delivered") && line.contains("tls=TLS"))
            .count();
        let expected = if kind == Kind::OpenSmtpd {
            0
        } else {
            shapes().len()
        };
        assert_eq!(tls, expected, "{kind:?}: {log}\n{}", far.log());
    });
}

#[test]
fn mail_from_each_server_arrives_unchanged_through_the_relay() {
    each(|kind| {
        let (relay, far) = from(kind, Setup::default());
        for (message, number) in shapes().iter().zip(1..) {
            let reply = send(far.port, &["b@far.test"], message);
            assert_eq!(reply.code, 250, "{kind:?} {number}: {reply:?}");
            relay.sink.wait_within(number, LIMIT);
            let trace = relay.sink.message(number).added_to(message);
            assert!(
                trace.contains("by mail.relay.test") && trace.contains("TLS"),
                "{trace}"
            );
        }
    });
}

#[test]
fn five_hundred_recipients_get_one_message_each_through_each_server() {
    let names: Vec<String> = (0..500)
        .map(|number| format!("r{number}@far.test"))
        .collect();
    let to: Vec<&str> = names.iter().map(String::as_str).collect();
    let message = format!("{FIELDS}\r\nto all\r\n");
    let has_all = |sink: &Sink| {
        crate::process::wait_for("500 recipients", LIMIT, || {
            let all: Vec<String> = sink
                .messages()
                .into_iter()
                .flat_map(|message| message.to)
                .collect();
            (all.len() >= 500).then_some(all)
        })
    };
    each(|kind| {
        let (relay, _far, sink) = towards(kind);
        assert_eq!(send(relay.smtp(), &to, message.as_bytes()).code, 250);
        let all = has_all(&sink);
        assert_eq!(
            (all.len(), all.iter().collect::<BTreeSet<_>>().len()),
            (500, 500),
            "{kind:?}"
        );
        relay.wait_for_empty_queue(LIMIT);
        let (relay, far) = from(kind, Setup::default());
        assert_eq!(send(far.port, &to, message.as_bytes()).code, 250);
        let all = has_all(&relay.sink);
        assert_eq!(
            (all.len(), all.iter().collect::<BTreeSet<_>>().len()),
            (500, 500),
            "{kind:?}"
        );
    });
}

#[test]
fn a_message_too_large_for_a_server_causes_a_dsn() {
    let long = [
        FIELDS.as_bytes(),
        b"\r\n",
        &b"a line of fifty octets or so, to make it long\r\n".repeat(14_000),
    ]
    .concat();
    let fits = [
        FIELDS.as_bytes(),
        b"\r\n",
        &b"a line of fifty octets or so, to make it long\r\n".repeat(6_000),
    ]
    .concat();
    each(|kind| {
        // Refused by the server's SIZE, before any byte is sent.
        let (relay, _far, _sink) = towards(kind);
        assert_eq!(send(relay.smtp(), &["b@far.test"], &long).code, 250);
        relay.sink.wait_within(1, LIMIT);
        let dsn = relay.sink.message(1);
        assert_eq!(
            (dsn.from.as_str(), dsn.to[0].as_str()),
            ("<>", "a@src.test")
        );
        assert!(dsn.text().contains("Status: 5.3.4"), "{}", dsn.text());
        // Refused by ours: the other server sends its sender a DSN, through us.
        let setup = Setup {
            keys: "max_message_size = \"200 KiB\"".to_owned(),
            ..Setup::default()
        };
        let (relay, far) = from(kind, setup);
        assert_eq!(send(far.port, &["b@far.test"], &fits).code, 250);
        if kind == Kind::OpenSmtpd {
            // The DSN contains the whole message, so it is too large for us as well.
            crate::process::wait_for("its word", LIMIT, || {
                far.log()
                    .contains("message too large for peer")
                    .then_some(())
            });
            return;
        }
        relay.sink.wait_within(1, LIMIT);
        let dsn = relay.sink.message(1);
        assert_eq!(
            (dsn.from.as_str(), dsn.to[0].as_str()),
            ("<>", "a@src.test"),
            "{}",
            far.log()
        );
        assert!(
            dsn.text().to_lowercase().contains("b@far.test"),
            "{}",
            dsn.text()
        );
    });
}

#[test]
fn a_recipient_that_the_other_side_refuses_is_reported_in_a_dsn() {
    each(|kind| {
        let (relay, far) = from(kind, Setup::default());
        let message = format!("{FIELDS}\r\nhello\r\n");
        assert_eq!(
            send(
                far.port,
                &["nosuch@relay.test", "b@far.test"],
                message.as_bytes()
            )
            .code,
            250
        );
        relay.sink.wait_within(2, LIMIT);
        let messages = relay.sink.messages();
        let dsn = messages
            .iter()
            .find(|message| message.from == "<>")
            .expect("a DSN");
        assert!(dsn.text().contains("nosuch@relay.test"), "{}", dsn.text());
        assert!(messages.iter().any(|message| message.to == ["b@far.test"]));
    });
}

#[test]
fn greylisting_defers_each_server_once_and_then_accepts_the_message() {
    each(|kind| {
        let setup = Setup {
            tables: "[abuse]\nptr = false\ngreylist = true\ngreylist_delay = \"1s\"\n".to_owned(),
            aliases: "box: box@far.test\n".to_owned(),
            ..Setup::unauthenticated_clients()
        };
        let (relay, far) = from(kind, setup);
        let message = format!("{FIELDS}\r\nhello\r\n");
        assert_eq!(
            send(far.port, &["box@relay.test"], message.as_bytes()).code,
            250
        );
        if kind == Kind::OpenSmtpd {
            // Its retry schedule begins with minutes, so the test checks only that it defers the message.
            crate::process::wait_for("a recipient that is put off", LIMIT, || {
                (relay.stats()["greylisted"] == 1).then_some(())
            });
            return;
        }
        relay.sink.wait_within(1, LIMIT);
        assert!(relay.log().contains("451"), "{}", relay.log());
        assert_eq!(relay.sink.count(), 1, "{}", far.log());
    });
}
