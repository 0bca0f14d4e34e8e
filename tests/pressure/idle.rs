//! Peers that do nothing, or almost nothing.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cage::{MIB, caged};
use crate::client::Client;
use crate::process::{PATIENCE, wait_for};
use crate::relay::{Relay, Setup};
use crate::resident::{PEAK_KIB_MAX, Resident};
use crate::scaled;

/// Raises the limit of descriptors of this process, as root beyond the hard limit; returns the limit.
fn lift_descriptor_limit() -> usize {
    let many = Rlimit {
        current: Some(65_536),
        maximum: Some(65_536),
    };
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, many).is_err() {
        let current = limit.maximum;
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("a limit");
    }
    let lifted = getrlimit(Resource::Nofile).current;
    lifted.map_or(usize::MAX, |most| usize::try_from(most).expect("a number"))
}

/// Opens sessions one after the other and prints the memory for each; then closes them and prints what remains in use.
#[track_caller]
fn idle(relay: &Relay, kind: &str, count: usize, kib_max: f64, open: impl Fn() -> Client) {
    let count = count.min(lift_descriptor_limit().saturating_sub(500));
    // The first sessions make the tables grow.
    drop((0..20).map(|_| open()).collect::<Vec<_>>());
    let resident = Resident::of(relay);
    let (base, descriptors) = (resident.kib(), resident.descriptors());
    let mut clients: Vec<Client> = (0..count)
        .map(|_| {
            let mut client = open();
            assert_eq!(client.say("EHLO client.test").code, 250);
            client
        })
        .collect();
    let full = resident.kib();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = full.saturating_sub(base) as f64 / count as f64;
    for client in clients.iter_mut().step_by(97) {
        assert_eq!(client.say("NOOP").code, 250);
    }
    drop(clients);
    wait_for("the descriptors to be closed", PATIENCE, || {
        (resident.descriptors() <= descriptors).then_some(())
    });
    let gone = resident.kib();
    println!(
        "{count} idle {kind} sessions: {base} KiB, {full} KiB, {gone} KiB when they have gone; {each:.1} KiB a session"
    );
    assert!(each <= kib_max, "{each} KiB a session");
    assert!(resident.peak_kib() <= PEAK_KIB_MAX);
}

#[test]
fn idle_plain_sessions_use_little_memory_and_leave_nothing() {
    let mut relay = caged(Setup::default(), MIB);
    let port = relay.smtp();
    idle(&relay, "plain", scaled(2_000, 10_000), 4.0, || {
        Client::connect(port)
    });
    assert!(relay.is_alive());
}

#[test]
fn idle_tls_sessions_use_little_memory_and_leave_nothing() {
    let mut relay = caged(Setup::default(), MIB);
    let port = relay.submissions();
    idle(&relay, "TLS", scaled(500, 3_000), 24.0, || {
        Client::connect_tls(port)
    });
    assert!(relay.is_alive());
}

#[test]
fn a_client_without_a_free_descriptor_is_deferred_and_accepted_later() {
    let mut relay = caged(Setup::default(), MIB);
    drop(relay.client());
    let resident = Resident::of(&relay);
    let few = u64::try_from(resident.descriptors()).expect("a number") + 20;
    let before = resident.limit_descriptors(Rlimit {
        current: Some(few),
        maximum: getrlimit(Resource::Nofile).maximum,
    });
    let mut inside = Vec::new();
    let refused = loop {
        let mut client = Client::open(relay.smtp()).expect("a connection");
        let reply = client.reply();
        match reply.code {
            220 => inside.push(client),
            _ => break reply,
        }
        assert!(inside.len() <= 40, "more than there are descriptors for");
    };
    assert_eq!(refused.code, 421, "{refused:?}");
    for client in &mut inside {
        assert_eq!(client.say("NOOP").code, 250);
    }
    drop(inside);
    let released = Instant::now();
    wait_for("a descriptor", PATIENCE, || {
        let mut client = Client::open(relay.smtp()).ok()?;
        (client.reply().code == 220).then_some(())
    });
    let took = released.elapsed();
    println!(
        "out of descriptors: 421, and {took:?} after they came free the next client is served"
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
    resident.limit_descriptors(before);
    assert!(relay.is_alive());
    assert_eq!(relay.client().say("NOOP").code, 250);
}

/// Input of slow clients before they become slow, and the input that they then send one byte at a time.
const STAGES: [(&str, &str); 5] = [
    ("", "EHLO a-very-slow-client.test"),
    (
        "EHLO slow.test\r\n",
        "MAIL FROM:<someone-who-takes-long@four.test>",
    ),
    (
        "EHLO slow.test\r\nMAIL FROM:<a@four.test>\r\n",
        "RCPT TO:<ann@relay.test> SOMETHING=LONG",
    ),
    (
        "EHLO slow.test\r\nMAIL FROM:<a@four.test>\r\nRCPT TO:<ann@relay.test>\r\nDATA\r\n",
        "Subject: a field that does not come to its end\r\n\r\nand a body\r\n..\r\n",
    ),
    (
        "EHLO slow.test\r\nMAIL FROM:<a@four.test>\r\nRCPT TO:<ann@relay.test>\r\nBDAT 100000\r\n",
        "From: a@four.test\r\n\r\nand a chunk that does not come to its end either",
    ),
];

#[test]
fn an_honest_client_does_not_wait_for_slow_ones() {
    let mut relay = caged(Setup::default(), MIB);
    let port = relay.smtp();
    lift_descriptor_limit();
    let clients = scaled(200, 2_000);
    let sockets: Vec<(TcpStream, &[u8])> = (0..clients)
        .zip(STAGES.iter().cycle())
        .map(|(_, (before, slowly))| {
            let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
            // A client in the relay's networks may send before the banner.
            socket.write_all(before.as_bytes()).expect("written");
            socket.set_nodelay(true).expect("an option");
            (socket, slowly.as_bytes())
        })
        .collect();
    let over = AtomicBool::new(false);
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0.. {
                for (socket, slowly) in &sockets {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let at = at % slowly.len();
                    // The relay may close the connection after too many errors.
                    drop({ socket }.write_all(&slowly[at..=at]));
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let message = b"From: honest@four.test\r\nSubject: in time\r\n\r\nhello\r\n";
        let waits = (0..100)
            .map(|_| {
                let started = Instant::now();
                let reply =
                    relay
                        .client()
                        .transaction("honest@four.test", &["ann@relay.test"], message);
                assert_eq!(reply.code, 250, "{reply:?}");
                started.elapsed()
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        waits
    });
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    println!(
        "an honest client beside {clients} slow ones: a session with a message in {:?}, p99 {p99:?}",
        waits[waits.len() / 2]
    );
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    drop(sockets);
    assert!(relay.is_alive());
}
