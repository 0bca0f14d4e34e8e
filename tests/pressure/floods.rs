//! Peers that guess passwords, and peers that send too much.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::cage::{Caged, MIB, caged};
use crate::client::{Client, Reply};
use crate::process::PATIENCE;
use crate::relay::{CREDENTIAL, PASSWORD, Relay, Setup};
use crate::resident::Resident;
use crate::scaled;

#[test]
fn a_user_logs_in_within_a_second_while_others_guess_passwords() {
    let (guessers, logins) = (scaled(20, 200), scaled(20, 100));
    // Each user logs in for the first time, so each password must be derived among those of the guessers.
    let setup = Setup {
        users: (0..logins)
            .map(|number| format!("user{number}:{CREDENTIAL}\n"))
            .collect(),
        ..Setup::unauthenticated_clients()
    };
    let mut caged = caged(setup, MIB);
    let relay: &Relay = &caged;
    let (guesses, over) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        for guesser in 0..guessers {
            scope.spawn(move || {
                for number in (guesser..).step_by(guessers) {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    // One in eight does not wait for the late reply. These alone would keep all processors busy, which
                    // the relay shares with its clients here.
                    let tries = if guesser % 8 == 0 { 0 } else { 3 };
                    guesses.fetch_add(guess(relay, number, tries), Ordering::Relaxed);
                }
            });
        }
        thread::sleep(Duration::from_secs(1));
        let waits = (0..logins)
            .map(|number| {
                thread::sleep(Duration::from_millis(20));
                let started = Instant::now();
                let login = format!("user{number}@relay.test");
                while !is_let_in(relay, &login) {}
                started.elapsed()
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        waits
    });
    waits.sort();
    let (p99, longest) = (
        waits[(waits.len() * 99).div_ceil(100) - 1],
        waits[waits.len() - 1],
    );
    println!(
        "beside {guessers} guessers with {} wrong passwords, each session from another address: {logins} users are in \
         after {:?}, p99 {p99:?}, at most {longest:?}; {}",
        guesses.load(Ordering::Relaxed),
        waits[waits.len() / 2],
        caged.peak()
    );
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    assert!(caged.is_alive());
}

/// A session that tries passwords and waits for this many replies; returns the number of tries.
fn guess(relay: &Relay, number: usize, answers: usize) -> usize {
    // Each time from another address, like a botnet.
    let [.., high, low] = (number + 256).to_be_bytes();
    let mut client = connect_from(Ipv4Addr::new(127, 1, high, low), relay.submissions());
    client.start_tls();
    if client.reply().code != 220 || client.say("EHLO guess.test").code != 250 {
        return 0;
    }
    if answers == 0 {
        client.send(b"AUTH PLAIN AHVzZXIwQHJlbGF5LnRlc3QAd3Jvbmc=\r\n");
        return 1;
    }
    (0..answers)
        .take_while(|_| client.auth_plain("user0@relay.test", "wrong").code == 535)
        .count()
}

/// Whether a user from another address can log in; the guessers' addresses may be locked.
fn is_let_in(relay: &Relay, login: &str) -> bool {
    let to = (Ipv6Addr::LOCALHOST, relay.submissions()).into();
    let mut user = Client::open_to(to).expect("a connection");
    user.start_tls();
    assert_eq!(user.reply().code, 220);
    assert_eq!(user.say("EHLO user.test").code, 250);
    let reply = user.auth_plain(login, PASSWORD);
    assert!(matches!(reply.code, 235 | 454), "{reply:?}");
    reply.code == 235
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

/// Whether the memory suffices for all that a flood wants.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Memory {
    Ample,
    /// Clients beyond the limit are deferred.
    Scarce,
}

impl Memory {
    /// Whether this reply defers a client for lack of memory, if that may happen.
    fn puts_off(self, reply: &Reply) -> bool {
        self == Self::Scarce && matches!(reply.code, 452 | 421 | 0)
    }
}

#[test]
fn excessive_input_is_refused_and_takes_no_memory() {
    flood(caged(Setup::default(), MIB), Memory::Ample, scaled(4, 20));
}

#[test]
fn a_relay_with_very_little_memory_survives_floods() {
    let setup = Setup {
        keys: "max_memory = \"16 MiB\"\n".to_owned(),
        ..Setup::default()
    };
    flood(caged(setup, 64), Memory::Scarce, scaled(8, 40));
}

/// Memory of the process besides the buffers of `max_memory`.
const BESIDE_MIB: u64 = 16;

/// All kinds of excessive input, at once and from many clients.
fn flood(mut relay: Caged, memory: Memory, clients: usize) {
    drop(relay.client());
    let resident = Resident::of(&relay);
    let base = resident.kib();
    let inside: &Relay = &relay;
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| a_line_of_a_megabyte(inside));
            scope.spawn(|| a_hundred_thousand_recipients(inside, memory));
            scope.spawn(|| a_hundred_thousand_fields(inside, memory));
            scope.spawn(|| a_text_line_of_a_megabyte(inside, memory));
        }
        for _ in 0..clients.div_ceil(8) {
            scope.spawn(|| a_body_of_100_mb(inside, memory));
            scope.spawn(|| a_chunk_of_100_mb(inside, memory));
        }
        scope.spawn(|| a_body_of_100_mb_that_is_declared(inside, memory));
    });
    let peak = resident.peak_kib();
    println!(
        "{clients} times 1 MB of command, 1 MB of text line, 100,000 recipients and 100,000 fields, and {} times 100 MB of \
         body, at once: {base} KiB, peak {peak} KiB, {} KiB afterwards; {}",
        2 * clients.div_ceil(8) + 1,
        resident.kib(),
        relay.peak()
    );
    let most = match memory {
        Memory::Ample => (64 + BESIDE_MIB) * 1024,
        Memory::Scarce => (16 + BESIDE_MIB) * 1024,
    };
    assert!(peak <= most, "{peak} KiB");
    // Ordinary mail continues, and the heap of the floods is returned to the system.
    let mut client = relay.client();
    for _ in 0..40 {
        let reply = client.transaction("a@four.test", &["ann@relay.test"], b"X: y\r\n\r\nx\r\n");
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    drop(client);
    relay.wait_for_empty_queue(PATIENCE);
    println!("after 40 ordinary messages {} KiB", resident.kib());
    assert!(relay.is_alive());
}

/// A session after the 354 reply to DATA, or `None` for lack of memory.
fn in_data(relay: &Relay, memory: Memory) -> Option<Client> {
    let mut client = relay.client();
    for (line, code) in [
        ("MAIL FROM:<a@four.test>", 250),
        ("RCPT TO:<ann@relay.test>", 250),
        ("DATA", 354),
    ] {
        let reply = client.say(line);
        if memory.puts_off(&reply) {
            return None;
        }
        assert_eq!(reply.code, code, "{reply:?}");
    }
    Some(client)
}

#[track_caller]
fn assert_refused(reply: &Reply, code: u16, memory: Memory) {
    assert!(reply.code == code || memory.puts_off(reply), "{reply:?}");
}

fn a_line_of_a_megabyte(relay: &Relay) {
    let mut client = relay.client();
    client.send(&vec![b'x'; 1_000_000]);
    client.send(b"\r\n");
    assert_eq!(client.reply().code, 500);
}

fn a_text_line_of_a_megabyte(relay: &Relay, memory: Memory) {
    let Some(mut client) = in_data(relay, memory) else {
        return;
    };
    client.send(b"From: a@four.test\r\n\r\n");
    client.send(&vec![b'x'; 1_000_000]);
    // The line is streamed as it arrives, and not held in memory.
    assert_refused(&client.body(b"\r\n"), 250, memory);
}

fn a_hundred_thousand_recipients(relay: &Relay, memory: Memory) {
    let mut client = relay.client();
    let reply = client.say("MAIL FROM:<a@four.test>");
    if memory.puts_off(&reply) {
        return;
    }
    assert_eq!(reply.code, 250, "{reply:?}");
    let mut taken = 0;
    'all: for hundred in 0..1_000 {
        let commands: String = (0..100)
            .map(|number| format!("RCPT TO:<r{hundred}-{number}@four.test>\r\n"))
            .collect();
        client.send(commands.as_bytes());
        for _ in 0..100 {
            match client.reply().code {
                250 => taken += 1,
                // RFC 5321 section 4.5.3.1.10; then the session is closed.
                452 => {}
                421 | 0 => break 'all,
                code => panic!("{code} after {taken} recipients"),
            }
        }
    }
    assert!(
        taken == 1_000 || (memory == Memory::Scarce && taken < 1_000),
        "{taken}"
    );
}

fn a_hundred_thousand_fields(relay: &Relay, memory: Memory) {
    let Some(mut client) = in_data(relay, memory) else {
        return;
    };
    let mut message = "X: y\r\n".repeat(100_000);
    message.push_str("\r\nx\r\n");
    assert_refused(&client.body(message.as_bytes()), 554, memory);
}

fn send_100_mb(client: &mut Client) {
    let line = [b"x".repeat(78), b"\r\n".to_vec()].concat();
    let block = line.repeat(1_250);
    for _ in 0..1_000 {
        client.send(&block);
    }
}

fn a_body_of_100_mb(relay: &Relay, memory: Memory) {
    let Some(mut client) = in_data(relay, memory) else {
        return;
    };
    client.send(b"From: a@four.test\r\n\r\n");
    send_100_mb(&mut client);
    client.send(b".\r\n");
    let reply = client.reply();
    assert!(
        matches!(reply.code, 552 | 0) || memory.puts_off(&reply),
        "{reply:?}"
    );
}

fn a_body_of_100_mb_that_is_declared(relay: &Relay, memory: Memory) {
    let reply = relay.client().say("MAIL FROM:<a@four.test> SIZE=100000000");
    assert_refused(&reply, 552, memory);
}

fn a_chunk_of_100_mb(relay: &Relay, memory: Memory) {
    let mut client = relay.client();
    for line in ["MAIL FROM:<a@four.test>", "RCPT TO:<ann@relay.test>"] {
        let reply = client.say(line);
        if memory.puts_off(&reply) {
            return;
        }
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    // RFC 3030 section 2: the relay reads the chunk, or closes the connection.
    client.send(b"BDAT 100000000 LAST\r\n");
    send_100_mb(&mut client);
    let reply = client.reply();
    assert!(
        matches!(reply.code, 552 | 0) || memory.puts_off(&reply),
        "{reply:?}"
    );
}

/// Large bodies within the maximum size.
#[test]
fn bodies_of_100_mb_are_accepted_without_being_held_in_memory() {
    let setup = Setup {
        keys: "max_message_size = \"128 MiB\"\n".to_owned(),
        ..Setup::default()
    };
    let mut relay = caged(setup, MIB);
    drop(relay.client());
    let resident = Resident::of(&relay);
    let (base, bodies) = (resident.kib(), scaled(2, 8));
    let inside: &Relay = &relay;
    thread::scope(|scope| {
        for _ in 0..bodies {
            scope.spawn(|| {
                let mut client = relay_client_to_the_dead(inside);
                client.send(b"From: a@four.test\r\n\r\n");
                send_100_mb(&mut client);
                client.send(b".\r\n");
                let reply = client.reply();
                assert_eq!(reply.code, 250, "{reply:?}");
            });
        }
    });
    println!(
        "{bodies} bodies of 100 MB that are taken, at once: {base} KiB, peak {} KiB, {} KiB afterwards; {}",
        resident.peak_kib(),
        resident.kib(),
        relay.peak()
    );
    assert!(resident.peak_kib() <= base + 16 * 1024);
    assert_eq!(relay.stats()["queued"].as_u64(), u64::try_from(bodies).ok());
    assert!(relay.is_alive());
}

/// A session after DATA, with a recipient at an unreachable host.
fn relay_client_to_the_dead(relay: &Relay) -> Client {
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@four.test>").code, 250);
    assert_eq!(client.say("RCPT TO:<b@dead.test>").code, 250);
    assert_eq!(client.say("DATA").code, 354);
    client
}
