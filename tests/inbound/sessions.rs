//! Sessions and DSNs while the disk or a connection is slow.

use std::time::Duration;

use chopar::clock::{Instant, Now};
use chopar::date::Timestamp;
use chopar::engine::event::{Event, Listener};
use chopar::limits::DSNS_AT_WORK_MAX;
use chopar::queue::{JournalCommand, JournalCompletion, JournalError};

use crate::slow_relay::{CLIENT, Held, SlowRelay};

const MAIL: &[u8] = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@elsewhere.example>\r\nDATA\r\n";

#[test]
fn a_long_body_on_a_full_disk_is_refused_and_the_session_goes_on() {
    let mut relay = SlowRelay::new(&[("example.com", "")]);
    let conn = relay.connect(Listener::Submit, CLIENT);
    relay.held = Held::Disk;
    relay.feed(conn, MAIL);
    relay.feed(conn, b"From: a@example.com\r\n\r\n");
    let block = b"0123456789abcdef012345678\r\n".repeat(2_400);
    while relay.stage.engine.wants_input(conn) {
        relay.feed(conn, &block);
    }
    let blocks: Vec<_> = std::mem::take(&mut relay.commands);
    let ids: Vec<_> = blocks
        .iter()
        .map(|command| match command {
            JournalCommand::BodyAppend { id, .. } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(ids.len() > 1, "several are on their way");
    for id in ids {
        let error = JournalError::NoSpace;
        let completion = JournalCompletion::BodyFailed { id, error };
        relay.stage.handle(Event::Stored(completion));
        relay.act();
    }
    assert!(
        relay.stage.engine.wants_input(conn),
        "the session is read again"
    );
    relay.feed(conn, &block);
    relay.held = Held::Nothing;
    assert!(relay.say(conn, ".").starts_with("452 4.3.1 "));
    relay.feed(conn, MAIL);
    let reply = relay.say(conn, "From: a@example.com\r\n\r\nshort\r\n.");
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    assert_eq!(relay.stage.engine.load().0, 0);
}

#[test]
fn input_held_back_by_pending_output_is_read_once_the_output_drains() {
    let mut relay = SlowRelay::new(&[("example.com", "")]);
    let conn = relay.connect(Listener::Submit, CLIENT);
    relay.held = Held::Links;
    let mut input = b"MAIL FROM:<a@example.com>\r\n".to_vec();
    input.extend(b"RCPT TO:<b@c.example>\r\n".repeat(30_000));
    input.extend(b"VRFY a\r\n");
    relay.feed(conn, &input);
    assert!(
        !relay.stage.engine.wants_input(conn),
        "too much is on its way"
    );
    let mut turns = 0;
    while let Some(conn) = relay.undrained.pop() {
        relay.stage.handle(Event::Drained { conn });
        relay.act();
        turns += 1;
        assert!(turns < 400, "it comes to an end");
    }
    assert!(turns > 2, "a portion at a time goes out: {turns} turns");
    let heard = relay.heard[&conn].clone();
    let ok = heard.matches("250 2.1.5").count();
    assert_eq!(ok, 30_000, "{ok} recipients were answered");
    assert!(
        heard
            .trim_end()
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("252 "))
    );
    assert!(relay.stage.engine.wants_input(conn));
}

#[test]
fn a_message_removed_while_its_dsn_is_made_delays_no_other() {
    let mut relay = SlowRelay::new(&[("example.com", "")]);
    let conn = relay.connect(Listener::Submit, CLIENT);
    relay.held = Held::Reads;
    // One more than the engine works on at a time.
    let messages = DSNS_AT_WORK_MAX + 1;
    for _ in 0..messages {
        relay.feed(
            conn,
            b"MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<b@elsewhere.example>\r\nDATA\r\n",
        );
        let reply = relay.say(conn, "From: a@example.com\r\n\r\nshort\r\n.");
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    }
    assert_eq!(relay.stage.engine.queue_len(), messages);
    assert_eq!(
        relay.reads.len(),
        DSNS_AT_WORK_MAX,
        "each reads its envelope"
    );
    let ids: Vec<String> = relay
        .reads
        .iter()
        .map(|(_, id, ..)| id.to_string())
        .collect();
    relay.read(DSNS_AT_WORK_MAX);
    assert_eq!(relay.reads.len(), DSNS_AT_WORK_MAX, "and then its header");
    let tool = relay.stage.accept(Listener::Control, CLIENT.into());
    let tool = tool.expect("a tool");
    let which = serde_json::json!({ "do": "remove", "which": { "ids": ids } });
    let answer = relay.say(tool, &which.to_string());
    assert!(answer.contains("\"errors\":[]"), "{answer}");
    assert_eq!(relay.stage.engine.queue_len(), 1);
    relay.read(usize::MAX);
    let dropped = "why=\"the message was taken out of the queue\"";
    assert_eq!(relay.logged(dropped), DSNS_AT_WORK_MAX, "{:#?}", relay.log);
    assert_eq!(relay.logged("event=dsn "), 1, "{:#?}", relay.log);
    let tables = relay.stage.engine.tables();
    assert_eq!((tables.dsns.at_work, tables.dsns.waiting), (0, 0));
}

#[test]
fn a_message_removed_while_the_disk_refuses_its_dsn_does_not_stop_deliveries() {
    let mut relay = SlowRelay::new(&[("example.com", "")]);
    let conn = relay.connect(Listener::Submit, CLIENT);
    let submit = |relay: &mut SlowRelay| {
        relay.feed(
            conn,
            b"MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<b@elsewhere.example>\r\nDATA\r\n",
        );
        let reply = relay.say(conn, "From: a@example.com\r\n\r\nshort\r\n.");
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    };
    relay.held = Held::Reads;
    submit(&mut relay);
    relay.read(1);
    // The envelope has been read; the DSN is then written to a full disk.
    relay.held = Held::Disk;
    relay.read(1);
    let commands = std::mem::take(&mut relay.commands);
    let [JournalCommand::Append { ticket, .. }] = commands[..] else {
        panic!("{commands:?}");
    };
    let error = JournalError::NoSpace;
    let completion = JournalCompletion::Failed { ticket, error };
    relay.stage.handle(Event::Stored(completion));
    relay.act();
    relay.held = Held::Nothing;
    let tool = relay.stage.accept(Listener::Control, CLIENT.into());
    let tool = tool.expect("a tool");
    let answer = relay.say(tool, r#"{"do":"remove","which":"all"}"#);
    assert!(answer.contains("\"count\":1"), "{answer}");
    relay.pass(5);
    assert_eq!(relay.stage.engine.queue_len(), 0);
    let failed = relay.logged("event=failed ");
    submit(&mut relay);
    assert!(relay.logged("event=failed ") > failed, "{:#?}", relay.log);
}

#[test]
fn the_longest_turn_is_reported_with_the_time_when_it_began() {
    let mut engine = SlowRelay::new(&[]).stage.engine;
    assert_eq!(engine.stats().longest_turn_us, 0);
    for (second, took) in [(1, 300), (2, 700), (3, 700), (4, 20)] {
        let now = Now {
            instant: Instant::from_millis(second * 1_000),
            wall: Timestamp::from_seconds(second),
        };
        engine.handle(Event::TurnOver(Duration::from_micros(took)), now);
    }
    let stats = engine.stats();
    assert_eq!((stats.longest_turn_us, stats.longest_turn_at), (700, 2));
}
