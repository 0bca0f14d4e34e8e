//! Scenarios of several days, and clock jumps with mail in the queue.

use std::time::Duration;

use chopar::entropy::SeededEntropy;
use chopar::queue::SpoolFile;

use crate::disk::Sabotage;
use crate::messages::ClientMessage;
use crate::remote::Mood;
use crate::world::{Faults, Happening, World};

const HOUR: Duration = Duration::from_secs(3_600);

/// A world without faults in which the hosts of `d0.example` send `reply` to RCPT, with this many messages for them.
fn refusing(reply: &'static str, messages: u64, lines: u64) -> World {
    with_mood(Mood::Refuses(reply), messages, lines)
}

/// A world without faults in which the hosts of `d0.example` have this mood, with this many messages for them.
fn with_mood(mood: Mood, messages: u64, lines: u64) -> World {
    let mut world = World::empty(1, Faults::Calm, Sabotage::None);
    world.moods.extend([(0, mood), (20, mood)]);
    let message = |number| {
        let recipients = vec!["r0@d0.example".to_owned()];
        ClientMessage::new(
            format!("client-{number}"),
            recipients,
            lines,
            &mut SeededEntropy::new(number),
        )
    };
    world.client((0..messages).map(message).collect(), Duration::ZERO);
    world
}

/// The DSNs about the first message: time in hours, whether it reports a delay, and its statuses.
fn told(world: &World) -> Vec<(u64, bool, Vec<String>)> {
    let (id, _) = world.ledger.mails().next().expect("a message");
    let dsns = world.ledger.dsns(id);
    dsns.map(|dsn| {
        let hours = dsn.at_ms / 3_600_000;
        (hours, dsn.delayed, dsn.statuses.clone())
    })
    .collect()
}

#[test]
fn four_days_of_deferrals_cause_one_delay_dsn_after_four_hours_and_one_failure_dsn() {
    // A DSN keeps a meaningful status (RFC 3463 section 3.5, X.4.7); a generic one becomes 5.4.7.
    for (reply, late, status) in [
        ("451 later", "4.0.0", "5.4.7"),
        ("450 4.2.1 mailbox is locked", "4.2.1", "5.2.1"),
    ] {
        let mut world = refusing(reply, 1, 3);
        let end = world.now.instant.after(HOUR * 24 * 6);
        world.run_until(end);
        let said = told(&world);
        let [(first, true, delayed), (last, false, failed)] = said.as_slice() else {
            panic!("{said:?}");
        };
        assert_eq!((*first, delayed.as_slice()), (4, &[late.to_owned()][..]));
        // The relay gives up at the first failed attempt after four days, so within one retry interval.
        assert!((96..=101).contains(last), "{last} h");
        assert_eq!(failed.as_slice(), [status.to_owned()]);
        assert_eq!(world.engine.queue_len(), 0);
    }
}

#[test]
fn a_clock_jump_of_ten_years_causes_no_burst_of_attempts_and_gives_up_no_untried_message() {
    let mut world = refusing("451 later", 300, 3);
    let later = world.now.instant.after(HOUR);
    world.run_until(later);
    let attempts = |world: &World| world.connects;
    let before = attempts(&world);
    let jump = Duration::from_secs(10 * 365 * 86_400);
    world.plan(Duration::ZERO, Happening::ClockJump(jump.as_secs() as i64));
    let later = world.now.instant.after(Duration::from_secs(60));
    world.run_until(later);
    let at_once = attempts(&world) - before;
    assert!(
        at_once <= 16,
        "{at_once} connections in the minute after the jump"
    );
    let end = world.now.instant.after(HOUR * 24);
    world.run_until(end);
    assert_eq!(
        world.engine.queue_len(),
        0,
        "all are given up after one more attempt"
    );
}

#[test]
fn a_damaged_body_never_gets_its_final_dot_and_its_sender_gets_a_dsn() {
    // Short bodies are read whole. Long ones are read in pieces, and only the last piece can be held back.
    for lines in [10, 1_000] {
        let mut world = refusing("451 later", 1, lines);
        let later = world.now.instant.after(Duration::from_secs(30));
        world.run_until(later);
        let segment = SpoolFile::Segment(1);
        let mut bytes = world.disk.memory.bytes(segment).expect("a segment");
        let place = bytes
            .windows(7)
            .position(|window| window == b"line 5 ")
            .expect("a line");
        bytes[place] ^= 1;
        world.disk.memory.set_bytes(segment, bytes);
        world.moods.clear();
        let end = world.now.instant.after(HOUR * 24 * 6);
        world.run_until(end);
        let said = told(&world);
        assert!(
            matches!(said.as_slice(), [(4, true, _), (96..=101, false, _)]),
            "{said:?}"
        );
        assert_eq!(
            world.tally.delivered, 2,
            "the two notifications and nothing else"
        );
    }
}

#[test]
fn a_server_that_disconnects_after_ehlo_is_tried_as_rarely_as_one_that_is_down() {
    let mut world = with_mood(Mood::Leaves, 20, 3);
    let end = world.now.instant.after(HOUR * 24 * 6);
    world.run_until(end);
    assert_eq!(world.engine.queue_len(), 0, "all are given up");
    let attempts = world.connects;
    assert!(attempts < 2_000, "{attempts} connections");
}
