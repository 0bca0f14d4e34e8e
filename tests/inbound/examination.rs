//! An operator's tool probes this host: its attempts are not logged as incidents, but those of all others are.

use std::net::{IpAddr, Ipv4Addr};

use chopar::engine::event::{ConnId, Listener, Peer};

use crate::world::World;

/// An address of this host, and one of another.
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Tries to relay from an address; returns the number of refusals logged for it.
fn refusals(world: &mut World, from: Ipv4Addr) -> usize {
    world.connect_from(Listener::Smtp, from);
    assert!(world.say("MAIL FROM:<x@far.example>").starts_with("250 "));
    assert!(
        world
            .say("RCPT TO:<y@elsewhere.example>")
            .starts_with("550 ")
    );
    world.hang_up();
    let lines = std::mem::take(&mut world.logged);
    let begin = format!("event=reject peer={from} ");
    let refusals = lines.iter().filter(|line| line.starts_with(&begin));
    refusals.count()
}

/// A user sends a request on the control socket; the answer begins with `kind`.
fn announce(world: &mut World, uid: u32, kind: &str) -> ConnId {
    let (peer, now) = (Peer::Process { uid }, world.stage.now);
    let tool = world.stage.engine.accept(Listener::Control, peer, now);
    world.take_up(tool.expect("a tool"));
    let request = format!(
        "{{\"do\":\"examine\",\"addresses\":[\"{}\"]}}\n",
        IpAddr::V4(OWN)
    );
    world.feed(request.as_bytes());
    let answer = String::from_utf8(std::mem::take(&mut world.heard)).expect("text");
    assert!(answer.contains(kind), "{answer}");
    world.put_aside()
}

/// Number of counted refusals.
fn counted(world: &mut World) -> u64 {
    let (peer, now) = (Peer::Process { uid: 0 }, world.stage.now);
    let tool = world.stage.engine.accept(Listener::Control, peer, now);
    world.take_up(tool.expect("a tool"));
    world.feed(b"{\"do\":\"stats\"}\n");
    let answer = String::from_utf8(std::mem::take(&mut world.heard)).expect("text");
    world.hang_up();
    let first = answer.lines().next().expect("an answer");
    let stats: serde_json::Value = serde_json::from_str(first).expect("JSON");
    stats["refused"].as_u64().expect("a count")
}

#[test]
fn attempts_of_a_tool_are_not_logged_while_it_is_connected_but_those_of_others_are() {
    let mut world = World::new();
    assert_eq!(refusals(&mut world, OWN), 1);
    let tool = announce(&mut world, 0, "note");
    assert_eq!(refusals(&mut world, OWN), 0);
    assert_eq!(refusals(&mut world, OTHER), 1);
    world.take_up(tool);
    world.hang_up();
    assert_eq!(refusals(&mut world, OWN), 1);
}

#[test]
fn attempts_of_a_tool_are_not_counted_but_those_of_others_are() {
    let mut world = World::new();
    refusals(&mut world, OTHER);
    assert_eq!(counted(&mut world), 1);
    let tool = announce(&mut world, 0, "note");
    refusals(&mut world, OWN);
    // A command out of order, which the session itself reports.
    world.connect_from(Listener::Smtp, OWN);
    assert!(world.say("DATA").starts_with("503 "));
    world.hang_up();
    assert_eq!(counted(&mut world), 1);
    refusals(&mut world, OTHER);
    assert_eq!(counted(&mut world), 2);
    world.take_up(tool);
    world.hang_up();
    refusals(&mut world, OWN);
    assert_eq!(counted(&mut world), 3);
}

#[test]
fn unknown_recipients_of_a_tool_do_not_block_its_address() {
    let mut world = World::new();
    let tool = announce(&mut world, 0, "note");
    for _ in 0..50 {
        world.connect_from(Listener::Smtp, OWN);
        assert!(world.say("MAIL FROM:<x@far.example>").starts_with("250 "));
        assert!(
            world
                .say("RCPT TO:<nobody@example.com>")
                .starts_with("550 ")
        );
        world.hang_up();
    }
    world.take_up(tool);
    world.hang_up();
    world.connect_from(Listener::Smtp, OWN);
    assert!(world.say("MAIL FROM:<x@far.example>").starts_with("250 "));
}

#[test]
fn only_root_and_the_account_of_the_daemon_can_silence_the_log() {
    let mut world = World::new();
    announce(&mut world, 1000, "denied");
    assert_eq!(refusals(&mut world, OWN), 1);
}

#[test]
fn refusals_do_not_slow_a_tool_down() {
    let mut world = World::new();
    let tool = announce(&mut world, 0, "note");
    let begun = world.stage.now.instant;
    for _ in 0..200 {
        assert_eq!(refusals(&mut world, OWN), 0);
    }
    let took = world.stage.now.instant.since(begun);
    world.take_up(tool);
    world.hang_up();
    let begun = world.stage.now.instant;
    for _ in 0..20 {
        refusals(&mut world, OTHER);
    }
    // The tool's probes do not count against its address either.
    let others = world.stage.now.instant.since(begun);
    assert!(took / 200 <= others / 20, "{took:?} {others:?}");
}
