//! Deadlines of server sessions: what gives a client more time and what does not, and the end of a client that sends too
//! much while its reply is delayed.

use chopar::engine::event::{ConnId, Listener};
use chopar::limits::{
    COMMAND_LINE_BYTES_MAX, COMMAND_TIMEOUT, DATA_BLOCK_TIMEOUT, PROXY_TIMEOUT, SESSION_TIMEOUT,
    TARPIT_REFUSALS, UNAUTHENTICATED_TIMEOUT,
};

use crate::many_clients::{HONEST, ManyClients, USER};

/// Whether the relay has closed a session for its timeout.
fn is_timed_out(clients: &ManyClients, conn: ConnId) -> bool {
    let heard = clients.heard.get(&conn);
    heard.is_some_and(|heard| heard.contains("421 4.4.2 "))
}

#[test]
fn the_front_of_a_line_gives_a_client_no_more_time() {
    for (listener, timeout) in [
        (Listener::Smtp, COMMAND_TIMEOUT),
        (Listener::Submissions, UNAUTHENTICATED_TIMEOUT),
    ] {
        let mut clients = ManyClients::new("");
        let conn = clients.connect(listener, USER).expect("a session");
        for _ in 1..timeout.as_secs() {
            assert!(!is_timed_out(&clients, conn));
            clients.feed(conn, b"x");
            clients.pass(1);
        }
        clients.pass(1);
        assert!(is_timed_out(&clients, conn));
    }
}

#[test]
fn the_front_of_a_proxy_header_gives_a_proxy_no_more_time() {
    let mut clients = ManyClients::new(&format!("[proxy]\nnetworks = [\"{HONEST}/32\"]"));
    let conn = clients.stage.accept(Listener::Proxy, HONEST.into());
    let conn = conn.expect("a proxy");
    for byte in b"PROXY TCP"
        .iter()
        .take(PROXY_TIMEOUT.as_secs() as usize - 1)
    {
        clients.pass(1);
        assert_eq!(clients.stage.engine.tables().connections, 1);
        clients.feed(conn, &[*byte]);
    }
    clients.pass(1);
    assert_eq!(clients.stage.engine.tables().connections, 0);
}

#[test]
fn an_active_session_ends_after_its_whole_time_but_not_inside_of_a_message() {
    let mut clients = ManyClients::new("");
    let active = clients.connect(Listener::Smtp, HONEST).expect("a session");
    let sender = clients.connect(Listener::Smtp, HONEST).expect("a session");
    assert!(clients.begin(sender, "box@us.example"));
    let pause = SESSION_TIMEOUT / 30;
    assert!(pause < DATA_BLOCK_TIMEOUT && pause < COMMAND_TIMEOUT);
    let piece = ("x".repeat(900) + "\r\n").repeat(200);
    for _ in 0..30 {
        assert!(!is_timed_out(&clients, active));
        clients.feed(active, b"NOOP\r\n");
        clients.feed(sender, piece.as_bytes());
        clients.pass(pause.as_secs());
    }
    clients.pass(2);
    assert!(is_timed_out(&clients, active));
    assert!(!is_timed_out(&clients, sender));
}

#[test]
fn a_delayed_client_that_has_sent_too_much_is_ended_as_soon_as_the_block_lists_have_answered() {
    let mut clients =
        ManyClients::with_abuse("dnsbl = [{ zone = \"bl.example\" }]\nunknown_recipients = 0\n");
    // Refusals, until the replies to this address are delayed.
    for _ in 0..2 {
        let conn = clients.connect(Listener::Smtp, HONEST).expect("a session");
        clients.say(conn, "MAIL FROM:<a@far.example>");
        for _ in 0..=TARPIT_REFUSALS / 2 {
            clients.say(conn, "RCPT TO:<b@other.example>");
        }
    }
    let conn = clients.connect(Listener::Smtp, HONEST).expect("a session");
    clients.pass(1);
    clients.say(conn, "MAIL FROM:<a@far.example>");
    clients.pass(1);
    let behind = "NOOP\r\n".repeat(COMMAND_LINE_BYTES_MAX / 5);
    let heard = clients.say(conn, &format!("RCPT TO:<box@us.example>\r\n{behind}"));
    assert_eq!(heard, "", "the recipient waits for the block list");
    clients.pass(20);
    let heard = &clients.heard[&conn];
    assert_eq!(heard, "421 4.7.0 Too many errors\r\n");
}
