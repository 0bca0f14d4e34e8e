//! A long queue with an unreachable domain in it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cage::{Caged, MIB, caged};
use crate::process::{Guard, PATIENCE, program, run_within, wait_for};
use crate::relay::Setup;
use crate::resident::Resident;
use crate::scaled;
use crate::world::free_port;

/// Memory limit of a relay with 100,000 queued messages.
const QUEUE_KIB_MAX: u64 = 48 * 1024;
/// Time limit for such a relay to be ready after a kill.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Long enough for all of it on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs smtp-source to send this many messages.
fn queue(relay: &Caged, to: &str, count: usize) {
    let mut source = Command::new(program("smtp-source"));
    source.args(["-d", "-s", "20", "-l", "2048", "-M", "source.test"]);
    source.args(["-m", &count.to_string(), "-f", "load@src.test", "-t", to]);
    source.arg(format!("127.0.0.1:{}", relay.smtp()));
    let output = run_within(&mut source, b"", LIMIT);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
}

fn smtp_sink(port: u16) -> Guard {
    let mut sink = Command::new(program("smtp-sink"));
    // smtp-source stays root only if a flag says so.
    if rustix::process::getuid().is_root() {
        sink.args(["-u", "root"]);
    }
    sink.args([&format!("127.0.0.1:{port}"), "256"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let sink = Guard::spawn(&mut sink);
    wait_for("smtp-sink", PATIENCE, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    });
    sink
}

/// Starts the host for this many queued messages; returns the number of deliveries per second.
#[track_caller]
fn delivered_per_second(relay: &Caged, port: u16, count: usize) -> f64 {
    let delivered = || relay.stats()["delivered"].as_u64().expect("a number");
    let wanted = delivered() + u64::try_from(count).expect("a number");
    let _sink = smtp_sink(port);
    let started = Instant::now();
    relay.cli(&["queue", "flush"]).ok();
    wait_for(&format!("{count} messages to be delivered"), LIMIT, || {
        thread::sleep(Duration::from_millis(20));
        (delivered() >= wanted).then_some(())
    });
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = count as f64;
    count / started.elapsed().as_secs_f64()
}

#[test]
fn an_unreachable_domain_does_not_delay_a_long_queue() {
    let (good, dead) = (scaled(1_000, 40_000), scaled(1_000, 60_000));
    let port = free_port();
    // It accepts connections and never sends anything: the worst kind of unreachable host.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let silent_port = silent.local_addr().expect("an address").port();
    let route = |domain, port| {
        format!("[[route]]\ndomain = \"{domain}\"\nvia = [\"smtp://127.0.0.1:{port}\"]\n")
    };
    let setup = Setup {
        tables: route("good.test", port) + &route("silent.test", silent_port),
        ..Setup::default()
    };
    let mut relay = caged(setup, MIB);
    let resident = Resident::of(&relay);
    let base = resident.kib();
    queue(&relay, "b@good.test", good);
    let alone = delivered_per_second(&relay, port, good);

    queue(&relay, "b@silent.test", dead);
    queue(&relay, "b@good.test", good);
    let (queued, count) = (resident.kib(), good + dead);
    relay.kill();
    let started = Instant::now();
    relay.run();
    let ready = started.elapsed();
    assert_eq!(relay.stats()["queued"].as_u64(), u64::try_from(count).ok());
    let again = Resident::of(&relay).kib();
    println!(
        "{count} queued: {queued} KiB, from {base} KiB; after a kill ready within {ready:?} and at {again} KiB"
    );
    assert!(queued.max(again) <= QUEUE_KIB_MAX);
    assert!(ready < READY_WITHIN, "{ready:?}");

    let beside = delivered_per_second(&relay, port, good);
    println!(
        "{good} messages go out at {alone:.0} a second alone, at {beside:.0} beside {dead} for a domain that is dead; {}",
        relay.peak()
    );
    // Both are timed on a busy machine: a factor of two is the noise of a short run.
    let least = alone / if scaled(0, 1) > 0 { 2.0 } else { 4.0 };
    assert!(beside > least, "{beside:.0} of {alone:.0} a second");
    assert_eq!(relay.stats()["queued"].as_u64(), u64::try_from(dead).ok());
    assert!(relay.is_alive());
}
