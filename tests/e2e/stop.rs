//! How the relay stops, and how it behaves when its disk fails.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::Client;
use crate::process::{PATIENCE, program, run, wait_for};
use crate::relay::{CHOPAR, Relay, Setup};
use crate::world::free_port;

const FIELDS: &str = "From: a@src.test\r\nTo: b@four.test\r\n";

#[test]
fn a_stop_waits_for_a_message_that_is_being_sent() {
    let mut relay = Relay::start();
    let (mut busy, mut idle) = (relay.client(), relay.client());
    assert_eq!(busy.say("MAIL FROM:<a@src.test>").code, 250);
    assert_eq!(busy.say("RCPT TO:<later@four.test>").code, 250);
    assert_eq!(busy.say("DATA").code, 354);
    busy.send(format!("{FIELDS}Subject: half\r\n").as_bytes());
    let start = Instant::now();
    relay.signal(Signal::TERM);
    assert_eq!(idle.reply().code, 421);
    let port = relay.smtp();
    wait_for(
        "new sessions to be refused",
        PATIENCE,
        || match Client::open(port) {
            Err(_) => Some(()),
            Ok(mut client) => (client.reply().code != 220).then_some(()),
        },
    );
    busy.send(b"X-Other: half\r\n\r\nbody\r\n.\r\n");
    let reply = busy.reply();
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_eq!(relay.wait(Duration::from_secs(12)), 0, "{}", relay.log());
    assert!(start.elapsed() < Duration::from_secs(11));
    relay.sink.open();
    relay.run();
    relay.flush_all();
    assert!(
        relay.sink.wait(1)[0]
            .text()
            .ends_with("Subject: half\r\nX-Other: half\r\n\r\nbody\r\n")
    );
}

/// A server that accepts MAIL and then stays silent; reports when it has got there.
fn silent_behind_mail() -> (u16, Receiver<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = channel();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a session");
        socket.write_all(b"220 mx ESMTP\r\n").expect("a banner");
        for line in BufReader::new(socket.try_clone().expect("a socket")).lines() {
            let Ok(line) = line else { return };
            if line.starts_with("EHLO") {
                socket.write_all(b"250 mx\r\n").expect("a reply");
            } else {
                let _ = tell.send(());
            }
        }
    });
    (port, told)
}

#[test]
fn a_next_hop_that_is_silent_before_the_final_dot_does_not_delay_a_stop() {
    let (port, told) = silent_behind_mail();
    let mut relay = Setup {
        tables: format!(
            "[[route]]\ndomain = \"silent.test\"\nvia = [\"smtp://127.0.0.1:{port}\"]\n"
        ),
        ..Setup::default()
    }
    .start();
    let message = FIELDS.replace("four.test", "silent.test");
    let mut client = relay.client();
    let reply = client.transaction("a@src.test", &["b@silent.test"], message.as_bytes());
    assert_eq!(reply.code, 250, "{reply:?}");
    told.recv_timeout(PATIENCE).expect("MAIL");
    let start = Instant::now();
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait(PATIENCE), 0, "{}", relay.log());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    relay.run();
    assert_eq!(relay.stats()["queued"], 1, "it waits for the next attempt");
}

#[test]
fn a_stalled_client_delays_a_stop_by_ten_seconds_at_most() {
    let mut relay = Relay::start();
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code, 250);
    assert_eq!(client.say("RCPT TO:<b@four.test>").code, 250);
    assert_eq!(client.say("DATA").code, 354);
    client.send(FIELDS.as_bytes());
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait(Duration::from_secs(13)), 0, "{}", relay.log());
    relay.run();
    assert_eq!(relay.stats()["queued"], 0);
}

#[test]
fn a_second_relay_on_the_same_spool_is_refused_with_a_sentence() {
    let relay = Relay::start();
    let config = relay.folder().join("second");
    fs::create_dir_all(config.join("domains/relay.test")).expect("a folder");
    let mut text = fs::read_to_string(relay.config().join("chopar.toml")).expect("a file");
    for port in [relay.smtp(), relay.submission(), relay.submissions()] {
        text = text.replace(&port.to_string(), &free_port().to_string());
    }
    text = text.replace("/run\"", "/run2\"");
    fs::write(config.join("chopar.toml"), text).expect("a file");
    let output = run(Command::new(CHOPAR).arg("-C").arg(config).arg("run"), b"");
    assert_eq!(output.code, 73, "{output:?}");
    assert!(
        output.stderr.contains("in use by another chopar"),
        "{output:?}"
    );
    // A conflict of ports is reported as clearly.
    let output = run(
        Command::new(CHOPAR)
            .arg("-C")
            .arg(relay.config())
            .arg("run"),
        b"",
    );
    assert_eq!(output.code, 73, "{output:?}");
    assert!(output.stderr.contains("in use"), "{output:?}");
    assert_eq!(
        relay
            .client()
            .transaction("a@src.test", &["b@four.test"], FIELDS.as_bytes())
            .code,
        250
    );
    relay.sink.wait(1);
}

/// Starts a relay with occasional failures of system calls, sends messages, and compares the replies with what arrives.
fn through_a_failing_disk(inject: &str, refusal: u16) {
    let strace = program("strace").display().to_string();
    let call = inject.split(':').next().unwrap_or_default();
    let words = [
        "-f",
        "-D",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={inject}"),
    ];
    let wrapper = std::iter::once(strace)
        .chain(words.iter().map(|word| (*word).to_owned()))
        .collect();
    let mut relay = Setup {
        wrapper,
        ..Setup::default()
    }
    .start();
    let mut client = relay.client();
    let mut replies = BTreeMap::new();
    let mut odd = Vec::new();
    for number in 0..60 {
        let message = format!("{FIELDS}X-Number: {number}\r\n\r\nx\r\n");
        let reply = client.transaction("a@src.test", &["b@four.test"], message.as_bytes());
        replies.insert(number, reply.code);
        if reply.code != 250 && reply.code != refusal {
            odd.push(reply);
            client = relay.client();
        }
    }
    let count = |code: u16| replies.values().filter(|&&reply| reply == code).count();
    assert!(count(refusal) > 0, "{replies:?}");
    assert!(count(250) > 20, "{replies:?}");
    assert!(odd.is_empty(), "{odd:?}");
    relay.sink.wait_within(count(250), 2 * PATIENCE);
    relay.flush_all();
    assert!(relay.is_alive());
    let mut copies: BTreeMap<i32, usize> = BTreeMap::new();
    for message in relay.sink.messages() {
        let text = message.text();
        let (_, rest) = text.split_once("X-Number: ").expect("a number");
        let number = rest
            .lines()
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number");
        *copies.entry(number).or_default() += 1;
    }
    // Refused messages did not arrive, and accepted ones arrived once.
    for (number, code) in &replies {
        let expected = usize::from(*code == 250);
        assert_eq!(
            copies.get(number).copied().unwrap_or_default(),
            expected,
            "message {number}: {code}"
        );
    }
    // After a kill, only the data on the disk is left.
    relay.kill();
    relay.setup.wrapper.clear();
    relay.run();
    assert_eq!(relay.stats()["queued"], 0);
}

#[test]
fn a_failed_sync_gets_451_and_loses_nothing() {
    through_a_failing_disk("fdatasync:error=EIO:when=5+7", 451);
}

#[test]
fn a_full_disk_gets_452_and_loses_nothing() {
    through_a_failing_disk("pwrite64:error=ENOSPC:when=9+11", 452);
}
