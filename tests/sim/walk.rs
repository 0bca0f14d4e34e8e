//! One delivery attempt tries all hosts: one host fails in each way at each step, next to a working one.

use std::sync::Arc;
use std::time::Duration;

use chopar::engine::event::{Event, Reloaded};
use chopar::entropy::SeededEntropy;

use crate::disk::Sabotage;
use crate::dns::TWO_ADDRESSES;
use crate::messages::ClientMessage;
use crate::remote::{FAULTS, Fault, Mood};
use crate::world::{Faults, World, config};

/// Stages at which a server can fail before it has accepted the message.
const STAGES: [&str; 6] = ["banner", "ehlo", "mail", "rcpt", "data", "dot"];

/// Longer than the attempt takes with a silent host, shorter than the wait for a second attempt.
const ATTEMPT: Duration = Duration::from_secs(20 * 60);

/// A world in which hosts have these moods, with one message for each of these recipients.
fn world(seed: u64, moods: &[(u8, Mood)], recipients: &[&str], lines: u64) -> World {
    let mut world = World::empty(seed, Faults::Calm, Sabotage::None);
    world.moods.extend(moods.iter().copied());
    let recipients = recipients.iter().map(|text| (*text).to_owned()).collect();
    let mut dots = SeededEntropy::new(seed);
    let message = ClientMessage::new("client".to_owned(), recipients, lines, &mut dots);
    world.client(vec![message], Duration::ZERO);
    world
}

fn run(world: &mut World) {
    let end = world.now.instant.after(ATTEMPT);
    world.run_until(end);
}

/// Temporary failures of the whole host or of the recipient.
fn temporary() -> impl Iterator<Item = (Fault, &'static str)> {
    let lasting = |fault: &Fault| matches!(fault, Fault::Permanent | Fault::Delay);
    FAULTS.into_iter().filter(move |(fault, _)| !lasting(fault))
}

#[test]
fn after_any_temporary_failure_of_one_host_the_next_gets_the_message_in_the_same_attempt() {
    let mut cells = 0;
    let stages = STAGES.into_iter().chain(["body"]);
    for (stage, (fault, kind)) in stages.flat_map(|stage| temporary().map(move |way| (stage, way)))
    {
        // A short message is sent in one write with its final dot, a long one is read in pieces.
        for lines in [3, 1_000] {
            // A second MX host, and a second address of a single MX host, whichever is tried first.
            for (bad, well, domain) in [
                (0, 20, 0),
                (TWO_ADDRESSES, TWO_ADDRESSES + 1, TWO_ADDRESSES),
                (TWO_ADDRESSES + 1, TWO_ADDRESSES, TWO_ADDRESSES),
            ] {
                let what = format!("{kind} at {stage}, {lines} lines, host {bad} beside {well}");
                let moods = [(bad, Mood::Fails(stage, fault)), (well, Mood::Good)];
                let to = format!("r0@d{domain}.example");
                let mut world = world(cells, &moods, &[&to], lines);
                run(&mut world);
                assert_eq!(world.engine.queue_len(), 0, "{what}");
                let (id, _) = world.ledger.mails().next().expect("a message");
                assert_eq!(world.ledger.dsns(id).count(), 0, "{what}");
                assert!(world.connects <= 2, "{what}: {} tries", world.connects);
                assert!(world.tally.delivered >= 1, "{what}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 7 * 6 * 6);
}

#[test]
fn a_permanent_refusal_ends_the_attempt() {
    for stage in ["mail", "rcpt", "data", "dot"] {
        let moods = [(0, Mood::Fails(stage, Fault::Permanent)), (20, Mood::Good)];
        let mut world = world(1, &moods, &["r0@d0.example"], 3);
        run(&mut world);
        let (id, _) = world.ledger.mails().next().expect("a message");
        assert_eq!(world.ledger.dsns(id).count(), 1, "{stage}");
        assert_eq!(world.tally.delivered, 1, "{stage}: the notification alone");
    }
}

#[test]
fn a_recipient_that_one_host_defers_goes_to_the_next_host_and_the_other_is_not_sent_twice() {
    let moods = [
        (0, Mood::RefusesOne("r1@", "450 4.2.0 busy")),
        (20, Mood::Good),
    ];
    let mut world = world(1, &moods, &["r0@d0.example", "r1@d0.example"], 3);
    run(&mut world);
    assert_eq!(world.engine.queue_len(), 0);
    assert_eq!(world.tally.delivered, 2, "once each");
    assert_eq!(world.connects, 2);
}

#[test]
fn an_attempt_that_all_hosts_defer_leaves_the_message_queued() {
    let later = Mood::Refuses("451 4.7.1 later");
    let mut world = world(1, &[(0, later), (20, later)], &["r0@d0.example"], 3);
    let end = world.now.instant.after(Duration::from_secs(30));
    world.run_until(end);
    assert_eq!(world.engine.queue_len(), 1);
    assert_eq!(world.connects, 2, "each once");
}

#[test]
fn a_host_that_requires_tls_but_does_not_begin_it_is_skipped_and_then_retried_later() {
    let mut other = world(
        1,
        &[(0, Mood::WithholdsTls), (20, Mood::Good)],
        &["r0@d0.example"],
        3,
    );
    run(&mut other);
    assert_eq!(other.tally.delivered, 1);
    assert_eq!(other.engine.queue_len(), 0);

    let moods = [(0, Mood::WithholdsTls), (20, Mood::WithholdsTls)];
    let mut alone = world(1, &moods, &["r0@d0.example"], 3);
    run(&mut alone);
    assert_eq!(alone.engine.queue_len(), 1, "it waits, and is not returned");
    alone.moods = [(0, Mood::Good), (20, Mood::Good)].into();
    let end = alone.now.instant.after(Duration::from_secs(6 * 3_600));
    alone.run_until(end);
    assert_eq!(alone.engine.queue_len(), 0);
    let (id, _) = alone.ledger.mails().next().expect("a message");
    assert_eq!(alone.ledger.dsns(id).count(), 0);
}

#[test]
fn bytes_after_the_reply_to_starttls_fail_the_handshake() {
    for moods in [
        [(0, Mood::Injects), (20, Mood::Good)],
        [(0, Mood::Injects), (20, Mood::Injects)],
    ] {
        let mut world = world(1, &moods, &["r0@d0.example"], 3);
        run(&mut world);
        assert_eq!(world.tally.delivered, 1, "{moods:?}");
        assert_eq!(world.engine.queue_len(), 0, "{moods:?}");
    }
}

#[test]
fn an_unreachable_backup_host_delays_one_message_and_not_each() {
    let later = Mood::Refuses("451 4.7.1 greylisted");
    let mut world = world(1, &[(0, later), (20, Mood::Dead)], &["r0@d0.example"], 3);
    let mut dots = SeededEntropy::new(2);
    for number in 0..3 {
        let marker = format!("after-{number}");
        let to = vec![format!("r{}@d0.example", number % 3)];
        let message = ClientMessage::new(marker, to, 3, &mut dots);
        world.client(vec![message], Duration::from_secs(40 + number));
    }
    let end = world.now.instant.after(Duration::from_secs(55));
    world.run_until(end);
    assert_eq!(world.engine.queue_len(), 4);
    assert_eq!(
        world.connects, 5,
        "each to the first host, one to the second"
    );
}

#[test]
fn messages_in_delivery_when_routes_change_take_the_new_route_afterwards() {
    for fault in [
        Fault::Temporary,
        Fault::Reset,
        Fault::HangUp,
        Fault::Silence,
    ] {
        for stage in STAGES {
            let bad = Mood::Fails(stage, fault);
            let mut world = world(1, &[(0, bad), (20, bad)], &["r0@d0.example"], 3);
            let soon = world.now.instant.after(Duration::from_millis(70));
            world.run_until(soon);
            let route = "[[route]]\ndomain = \"d0.example\"\nvia = [\"smtp://mx1.example:25\"]\n";
            world.config = config(route, false);
            let config = Arc::clone(&world.config);
            world.engine.handle(
                Event::Reloaded(Reloaded {
                    config,
                    conn: None,
                    unchanged: Vec::new(),
                }),
                world.now,
            );
            let end = world.now.instant.after(Duration::from_secs(3 * 3_600));
            world.run_until(end);
            assert_eq!(world.engine.queue_len(), 0, "{fault:?} at {stage}");
            assert!(world.tally.delivered >= 1, "{fault:?} at {stage}");
        }
    }
}
