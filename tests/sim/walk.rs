//! One delivery attempt, all hosts: a remote host that fails in each way at each step, beside a working one.

use std::sync::Arc;
use std::time::Duration;

use chopar::engine::event::{Event, Reloaded};
use chopar::entropy::SeededEntropy;

use crate::disk::Sabotage;
use crate::dns::TWO_ADDRESSES;
use crate::messages::ClientMessage;
use crate::remote::{FAULTS, Fault, Mood};
use crate::world::{Faults, World, config};

/// Where a server can fail before it has the message.
const STAGES: [&str; 6] = ["banner", "ehlo", "mail", "rcpt", "data", "dot"];

/// Longer than the walk takes beside a silent host, shorter than any message waits for its second attempt.
const ATTEMPT: Duration = Duration::from_secs(20 * 60);

/// A world in which hosts have these moods, and one message goes to each of these recipients at once.
fn world(seed: u64, moods: &[(u8, Mood)], recipients: &[&str], lines: u64) -> World {
    let mut world = World::empty(seed, Faults::Calm, Sabotage::None);
    world.moods.extend(moods.iter().copied());
    let recipients = recipients.iter().map(|text| (*text).to_owned()).collect();
    let mut dots = SeededEntropy::new(seed);
    let message = ClientMessage::new("letter".to_owned(), recipients, lines, &mut dots);
    world.client(vec![message], Duration::ZERO);
    world
}

fn run(world: &mut World) {
    let end = world.now.instant.after(ATTEMPT);
    world.run_until(end);
}

/// The way in which a server fails that is temporary, of the whole host or of the recipient.
fn temporary() -> impl Iterator<Item = (Fault, &'static str)> {
    let lasting = |fault: &Fault| matches!(fault, Fault::Permanent | Fault::Delay);
    FAULTS.into_iter().filter(move |(fault, _)| !lasting(fault))
}

#[test]
fn whatever_one_host_does_for_now_the_next_one_gets_the_message_in_the_same_attempt() {
    let mut cells = 0;
    let stages = STAGES.into_iter().chain(["body"]);
    for (stage, (fault, kind)) in stages.flat_map(|stage| temporary().map(move |way| (stage, way)))
    {
        // A short message goes out with its dot in one write, a long one is read in pieces.
        for lines in [3, 1_000] {
            // A second MX, and a second address of the only one, whichever of the two is tried first.
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
                let (id, _) = world.ledger.mails().next().expect("a letter");
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
fn a_refusal_for_good_ends_the_walk() {
    for stage in ["mail", "rcpt", "data", "dot"] {
        let moods = [(0, Mood::Fails(stage, Fault::Permanent)), (20, Mood::Good)];
        let mut world = world(1, &moods, &["r0@d0.example"], 3);
        run(&mut world);
        let (id, _) = world.ledger.mails().next().expect("a letter");
        assert_eq!(world.ledger.dsns(id).count(), 1, "{stage}");
        assert_eq!(world.tally.delivered, 1, "{stage}: the notification alone");
    }
}

#[test]
fn a_recipient_that_one_host_refuses_for_now_goes_on_and_the_other_is_not_sent_twice() {
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
fn hosts_that_all_say_later_end_the_attempt_and_leave_the_message_queued() {
    let later = Mood::Refuses("451 4.7.1 later");
    let mut world = world(1, &[(0, later), (20, later)], &["r0@d0.example"], 3);
    let end = world.now.instant.after(Duration::from_secs(30));
    world.run_until(end);
    assert_eq!(world.engine.queue_len(), 1);
    assert_eq!(world.connects, 2, "each once");
}

#[test]
fn a_host_that_withholds_tls_and_wants_it_is_left_for_the_next_and_then_for_later() {
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
    let (id, _) = alone.ledger.mails().next().expect("a letter");
    assert_eq!(alone.ledger.dsns(id).count(), 0);
}

#[test]
fn bytes_behind_the_reply_to_starttls_are_a_handshake_that_failed() {
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
fn a_backup_that_is_dead_holds_up_one_message_and_not_each() {
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
fn what_is_under_way_when_routes_change_goes_the_new_way_afterwards() {
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
