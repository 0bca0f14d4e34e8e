//! Tools on the control socket: limits for each user, and for a tool that does not read.

use chopar::engine::event::{Listener, Peer};
use chopar::limits::{FOLLOWER_BYTES_MAX, QUEUE_READERS_MAX, QUEUE_READERS_PER_USER_MAX};

use crate::slow_relay::{CLIENT, SlowRelay};

#[test]
fn a_follower_that_does_not_read_is_disconnected_and_one_that_reads_is_not() {
    let from = format!("{}@{}.example", "f".repeat(60), "e".repeat(60));
    for is_stalled in [true, false] {
        let mut relay = SlowRelay::new(&[("example.com", "")]);
        let tool = relay.stage.accept(Listener::Control, CLIENT.into());
        let tool = tool.expect("a tool");
        relay.stalled = is_stalled.then_some(tool);
        relay.say(tool, r#"{"do":"expect","recipient":"b@elsewhere.example"}"#);
        let conn = relay.connect(Listener::Submit, CLIENT);
        let (mut sent, mut told) = (0, 0);
        while told <= 2 * FOLLOWER_BYTES_MAX && !relay.closed.contains(&tool) {
            sent += 1;
            assert!(sent < 5_000, "the lines are shorter than was thought");
            let text = format!("MAIL FROM:<{from}>\r\nRCPT TO:<b@elsewhere.example>\r\nDATA\r\n");
            relay.feed(conn, text.as_bytes());
            let reply = relay.say(conn, "From: a@example.com\r\n\r\nshort\r\n.");
            assert!(reply.starts_with("250 2.0.0 "), "{reply}");
            told = relay.heard.get(&tool).map_or(0, String::len);
        }
        assert_eq!(relay.closed.contains(&tool), is_stalled);
        let heard = &relay.heard[&tool];
        assert_eq!(heard.contains("than could be kept"), is_stalled);
        if is_stalled {
            assert!(heard.len() <= FOLLOWER_BYTES_MAX * 5 / 4, "{}", heard.len());
        }
    }
}

#[test]
fn queue_tools_of_users_leave_connections_to_each_other_and_to_operators() {
    let mut relay = SlowRelay::new(&[]);
    let now = relay.stage.now;
    let engine = &mut relay.stage.engine;
    engine.set_operator(900);
    let open = |engine: &mut chopar::engine::Engine, uid: u32| {
        let is_admitted = engine.admits_tool(uid);
        if is_admitted {
            let peer = Peer::Process { uid };
            engine.accept(Listener::Control, peer, now).expect("a tool");
        }
        is_admitted
    };
    let tools = (0..10).filter(|_| open(engine, 1000)).count();
    assert_eq!(tools, QUEUE_READERS_PER_USER_MAX);
    let others = (1001..1100).filter(|uid| open(engine, *uid)).count();
    assert_eq!(others, QUEUE_READERS_MAX - QUEUE_READERS_PER_USER_MAX);
    for uid in [0, 900] {
        assert!((0..20).all(|_| open(engine, uid)), "{uid}");
    }
}

#[test]
fn a_user_may_send_one_request_per_connection_and_an_operator_any_number() {
    let mut relay = SlowRelay::new(&[]);
    let now = relay.stage.now;
    let list = "{\"do\":\"list\"}\n{\"do\":\"list\"}\n{\"do\":\"list\"}";
    for (uid, answers) in [(0, 3), (1000, 1)] {
        let peer = Peer::Process { uid };
        let tool = relay.stage.engine.accept(Listener::Control, peer, now);
        let answer = relay.say(tool.expect("a tool"), list);
        assert_eq!(
            answer.matches("\"kind\":\"end\"").count(),
            answers,
            "{answer}"
        );
    }
}
