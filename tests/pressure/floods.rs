//! Peers that guess, and peers that send too much.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::client::Client;
use crate::relay::{PASSWORD, Relay, Setup};
use crate::resident::{PEAK_KIB_MAX, Resident};
use crate::scaled;

#[test]
fn a_user_gets_in_within_a_second_while_others_guess_passwords() {
    let relay = Setup::strangers().start();
    let guessers = scaled(8, 40);
    let (guesses, over) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    let relay = &relay;
    let guess = |guesser: usize| {
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            // Each time from another address, as such networks of hosts do.
            let [.., high, low] = (number * guessers + guesser + 256).to_be_bytes();
            let from = Ipv4Addr::new(127, 1, high, low);
            let mut client = connect_from(from, relay.submissions());
            client.start_tls();
            if client.reply().code != 220 || client.say("EHLO guess.test").code != 250 {
                continue;
            }
            while !over.load(Ordering::Relaxed)
                && client.auth_plain("ann@relay.test", "wrong").code == 535
            {
                guesses.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let waits: Vec<Duration> = thread::scope(|scope| {
        for guesser in 0..guessers {
            scope.spawn(move || guess(guesser));
        }
        thread::sleep(Duration::from_secs(1));
        let waits = (0..10)
            .map(|_| {
                let started = Instant::now();
                // From another address: that of the guessers may have been told to wait.
                let to = (Ipv6Addr::LOCALHOST, relay.submissions()).into();
                let mut user = Client::open_to(to).expect("a connection");
                user.start_tls();
                assert_eq!(user.reply().code, 220);
                assert_eq!(user.say("EHLO user.test").code, 250);
                assert_eq!(user.auth_plain("ann@relay.test", PASSWORD).code, 235);
                started.elapsed()
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        waits
    });
    let longest = waits.iter().max().expect("a wait");
    println!(
        "beside {guessers} guessers with {} wrong passwords: a user is in after at most {longest:?}",
        guesses.load(Ordering::Relaxed)
    );
    assert!(*longest < Duration::from_secs(1), "{longest:?}");
}

/// A session from one address of loopback.
fn connect_from(from: Ipv4Addr, port: u16) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let (from, to) = (
        SocketAddr::from((from, 0)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    );
    socket.bind(&from.into()).expect("an address");
    socket.connect(&to.into()).expect("a connection");
    Client::over(socket.into()).expect("a client")
}

/// A session in front of DATA, its 354 read.
fn in_data(relay: &Relay) -> Client {
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@four.test>").code, 250);
    assert_eq!(client.say("RCPT TO:<ann@relay.test>").code, 250);
    assert_eq!(client.say("DATA").code, 354);
    client
}

#[test]
fn what_is_too_much_is_refused_and_takes_no_memory() {
    let mut relay = Relay::start();
    drop(relay.client());
    let resident = Resident::of(&relay);
    let base = resident.kib();
    let crowd = scaled(4, 20);
    thread::scope(|scope| {
        for _ in 0..crowd {
            scope.spawn(|| a_line_of_a_megabyte(&relay));
            scope.spawn(|| a_hundred_thousand_recipients(&relay));
            scope.spawn(|| a_hundred_thousand_fields(&relay));
        }
        scope.spawn(|| a_body_of_100_mb(&relay));
    });
    println!(
        "{crowd} times a line of 1 MB, 100,000 recipients and 100,000 fields, and 100 MB of body, at once: {base} KiB, \
         peak {} KiB, {} KiB afterwards",
        resident.peak_kib(),
        resident.kib()
    );
    assert!(resident.peak_kib() <= PEAK_KIB_MAX);
    resident.wait_for_at_most(base + 8 * 1024);
    assert!(relay.is_alive());
    assert_eq!(relay.client().say("NOOP").code, 250);
    assert_eq!(relay.stats()["queued"], 0);
}

fn a_line_of_a_megabyte(relay: &Relay) {
    let mut client = relay.client();
    client.send(&vec![b'x'; 1_000_000]);
    client.send(b"\r\n");
    assert_eq!(client.reply().code, 500);
}

fn a_hundred_thousand_recipients(relay: &Relay) {
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@four.test>").code, 250);
    let mut taken = 0;
    'all: for hundred in 0..1_000 {
        let commands: String = (0..100)
            .map(|number| format!("RCPT TO:<r{hundred}-{number}@four.test>\r\n"))
            .collect();
        client.send(commands.as_bytes());
        for _ in 0..100 {
            match client.reply().code {
                250 => taken += 1,
                // RFC 5321 section 4.5.3.1.10; then the session is ended.
                452 => {}
                421 | 0 => break 'all,
                code => panic!("{code} after {taken} recipients"),
            }
        }
    }
    assert_eq!(taken, 1_000);
}

fn a_hundred_thousand_fields(relay: &Relay) {
    let mut client = in_data(relay);
    let mut message = "X: y\r\n".repeat(100_000);
    message.push_str("\r\nx\r\n");
    assert_eq!(client.body(message.as_bytes()).code, 554);
}

fn a_body_of_100_mb(relay: &Relay) {
    let mut client = in_data(relay);
    client.send(b"From: a@four.test\r\n\r\n");
    let line = [b"x".repeat(70), b"\r\n".to_vec()].concat();
    let block = line.repeat(1_000);
    for _ in 0..100_000_000 / block.len() {
        client.send(&block);
    }
    client.send(b".\r\n");
    let code = client.reply().code;
    assert!(matches!(code, 552 | 0), "{code}");
}
