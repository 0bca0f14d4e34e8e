//! An attacker who knows the limits exhausts each resource, from one network and from many, and all at once. Meanwhile
//! a user submits, an honest client of port 25 delivers, and queued mail is sent.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::cage::{MIB, caged};
use crate::client::Client;
use crate::relay::{CREDENTIAL, PASSWORD, Relay, Setup};
use crate::resident::Resident;
use crate::scaled;

/// The resource that the attacker exhausts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Attack {
    /// Sessions that stay open in silence.
    Sessions,
    /// Bodies without an end.
    Bodies,
    /// Headers without an end.
    Headers,
    /// Wrong passwords.
    Passwords,
    /// Messages whose signatures name domains that no name server answers for.
    Questions,
    /// Unknown recipients.
    Recipients,
}

const ATTACKS: [Attack; 6] = [
    Attack::Sessions,
    Attack::Bodies,
    Attack::Headers,
    Attack::Passwords,
    Attack::Questions,
    Attack::Recipients,
];

/// An address of the attacker: each in another /16 if `spread`, otherwise all in one.
fn address(number: usize, spread: bool) -> Ipv4Addr {
    let [.., high, low] = number.to_be_bytes();
    match spread {
        true => Ipv4Addr::new(127, 2 + low % 200, high, 1 + low % 250),
        false => Ipv4Addr::new(127, 1, high, low.max(1)),
    }
}

fn open_from(from: Ipv4Addr, port: u16) -> Option<Client> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect(&to.into()).ok()?;
    Client::over(socket.into()).ok()
}

/// An accepted session on port 25, after EHLO.
fn client_from(from: Ipv4Addr, relay: &Relay) -> Option<Client> {
    let mut client = open_from(from, relay.smtp())?;
    (client.reply().code == 220 && client.say("EHLO client.far.test").code == 250).then_some(client)
}

/// Runs one attack; adds sessions that must stay open to `kept`.
fn strike(attack: Attack, relay: &Relay, number: usize, spread: bool, kept: &mut Vec<Client>) {
    let from = address(number, spread);
    if attack == Attack::Passwords {
        let Some(mut client) = open_from(from, relay.submissions()) else {
            return;
        };
        client.start_tls();
        if client.reply().code == 220 && client.say("EHLO guess.test").code == 250 {
            client.auth_plain("user@relay.test", &format!("guess{number}"));
        }
        return;
    }
    let Some(mut client) = client_from(from, relay) else {
        return;
    };
    if attack == Attack::Recipients {
        if client.say("MAIL FROM:<x@far.test>").code == 250 {
            let commands: String = (0..50)
                .map(|at| format!("RCPT TO:<n{number}x{at}@relay.test>\r\n"))
                .collect();
            client.send(commands.as_bytes());
            while client.reply().code >= 500 {}
        }
        return;
    }
    let begins = attack != Attack::Sessions
        && ["MAIL FROM:<x@far.test>", "RCPT TO:<box@relay.test>", "DATA"]
            .iter()
            .all(|line| matches!(client.say(line).code, 250 | 354));
    match attack {
        Attack::Bodies if begins => {
            client.send(b"From: x@far.test\r\n\r\n");
            client.send(&b"and so on and so on and so on\r\n".repeat(7_000));
        }
        Attack::Headers if begins => {
            client.send(&b"X-And-So-On: and so on and so on and so on and so on\r\n".repeat(1_900));
        }
        Attack::Questions if begins => {
            let signatures: String = (0..10)
                .map(|at| {
                    format!(
                        "DKIM-Signature: v=1; a=ed25519-sha256; d=d{at}.silent{number}.test; s=s; h=from; \
                         bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n"
                    )
                })
                .collect();
            client.send(format!("{signatures}From: x@far.test\r\n\r\nx\r\n.\r\n").as_bytes());
        }
        _ => {}
    }
    if kept.len() < 400 {
        kept.push(client);
    }
}

/// A user's session with one message; returns the time from connect to the reply to the final dot.
fn user_submits(relay: &Relay) -> Duration {
    let started = Instant::now();
    let to = (Ipv6Addr::LOCALHOST, relay.submissions()).into();
    let mut user = Client::open_to(to).expect("a connection");
    user.start_tls();
    assert_eq!(user.reply().code, 220);
    assert_eq!(user.say("EHLO user.test").code, 250);
    let reply = user.auth_plain("user@relay.test", PASSWORD);
    assert_eq!(reply.code, 235, "{reply:?}");
    let message = b"From: user@relay.test\r\nSubject: in time\r\n\r\nhello\r\n";
    let reply = user.transaction("user@relay.test", &["friend@four.test"], message);
    assert_eq!(reply.code, 250, "{reply:?}");
    started.elapsed()
}

/// The same for an unauthenticated client of port 25.
fn client_delivers(relay: &Relay) -> Duration {
    let started = Instant::now();
    let mut client = client_from(Ipv4Addr::new(127, 250, 0, 9), relay).expect("a session");
    let message = b"From: honest@four.test\r\nSubject: in time\r\n\r\nhello\r\n";
    let reply = client.transaction("honest@four.test", &["box@relay.test"], message);
    assert_eq!(reply.code, 250, "{reply:?}");
    started.elapsed()
}

/// Ends an attack when dropped, also if the honest clients fail.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn p99(mut waits: Vec<Duration>) -> (Duration, Duration) {
    waits.sort();
    let last = waits.len().saturating_sub(1);
    (waits[last / 2], waits[last * 99 / 100])
}

/// Attacks while the honest clients run their rounds; returns their times.
fn attacked(relay: &Relay, attacks: &[Attack], spread: bool, rounds: usize) -> [Vec<Duration>; 2] {
    let (over, strokes) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    thread::scope(|scope| {
        for (at, attack) in attacks.iter().copied().enumerate() {
            let threads = scaled(2, 8);
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for number in (at * 10_000 + thread..).step_by(threads) {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        strike(attack, relay, number, spread, &mut kept);
                        strokes.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        let _end = End(over);
        thread::sleep(Duration::from_secs(2));
        let mut waits = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            waits[0].push(user_submits(relay));
            waits[1].push(client_delivers(relay));
            thread::sleep(Duration::from_millis(20));
        }
        println!("{} strokes", strokes.load(Ordering::Relaxed));
        waits
    })
}

#[test]
fn an_attacker_that_fills_a_table_leaves_room_for_users_and_honest_clients() {
    let setup = Setup {
        users: format!("user:{CREDENTIAL}\n"),
        aliases: "box: discard:\n".to_owned(),
        // The banner comes at once, as for known clients; the rest is measured.
        tables: "[abuse]\nconnections_per_minute = 0\nmessages_per_minute = 0\ntarpit = false\n"
            .to_owned(),
        ..Setup::unauthenticated_clients()
    };
    let mut caged = caged(setup, MIB);
    let relay: &Relay = &caged;
    user_submits(relay);
    let resident = Resident::of(relay);
    let rounds = scaled(3, 50);
    let mut scenes: Vec<(Vec<Attack>, bool)> = vec![(vec![], false)];
    for spread in [false, true] {
        // One after the other in the long form. The short form runs beside other tests, which it would slow down.
        if scaled(0, 1) > 0 {
            scenes.extend(ATTACKS.iter().map(|attack| (vec![*attack], spread)));
            scenes.push((ATTACKS.to_vec(), spread));
        } else if spread {
            scenes.push((ATTACKS.to_vec(), spread));
        }
    }
    for (attacks, spread) in scenes {
        let [user, client] = attacked(relay, &attacks, spread, rounds);
        let ((user, user99), (client, client99)) = (p99(user), p99(client));
        let what = match (attacks.as_slice(), spread) {
            ([], _) => "quiet, nobody attacks".to_owned(),
            (_, true) => format!("{attacks:?} from many networks"),
            (_, false) => format!("{attacks:?} from one /16"),
        };
        println!(
            "{what}: a user {user:?}, p99 {user99:?}; an honest client {client:?}, p99 {client99:?}; {} KiB",
            resident.kib()
        );
        // Debug build, shared processors: the target of one second applies to `make pressure` on a quiet machine.
        assert!(user99 < Duration::from_secs(5), "{attacks:?}: {user99:?}");
    }
    // The user's queued mail was delivered during the attack.
    relay.wait_for_empty_queue(Duration::from_secs(60));
    let most = (64 + 16) * 1024;
    println!("peak {} KiB; {}", resident.peak_kib(), caged.peak());
    assert!(resident.peak_kib() <= most, "{} KiB", resident.peak_kib());
    assert!(caged.is_alive());
}
