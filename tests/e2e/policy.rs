//! Which clients may send which mail to which addresses.

use std::fs;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::process::PATIENCE;
use crate::relay::{CREDENTIAL, PASSWORD, Relay, Setup};

fn message(from: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: x@four.test\r\nSubject: x\r\n\r\nx\r\n").into_bytes()
}

#[test]
fn a_user_cannot_send_as_another_user() {
    let users = format!(
        "ann:{CREDENTIAL}\nbob:{CREDENTIAL}\napp:{CREDENTIAL}:send_as=*@shop.test,noreply@relay.test\n"
    );
    let aliases = "ann: ann@home.test\nbob: bob@home.test\nsales: ann\nteam: ann, bob\n*: ann\n";
    let relay = Setup {
        users,
        aliases: aliases.to_owned(),
        ..Setup::unauthenticated_clients()
    }
    .start();
    let to = &["x@four.test"];
    for (login, from, code) in [
        ("ann@relay.test", "ann@relay.test", 250),
        ("ann@relay.test", "Ann+shop@Relay.test", 250),
        ("ann@relay.test", "sales@relay.test", 250),
        ("bob@relay.test", "team@relay.test", 250),
        ("ann@relay.test", "bob@relay.test", 553),
        ("bob@relay.test", "sales@relay.test", 553),
        ("ann@relay.test", "anybody@relay.test", 553),
        ("ann@relay.test", "ann@four.test", 553),
        ("app@relay.test", "noreply@relay.test", 250),
        ("app@relay.test", "anything@shop.test", 250),
        ("app@relay.test", "ann@relay.test", 553),
    ] {
        let mut client = relay.user(login);
        let reply = client.transaction(from, to, &message(from));
        assert_eq!(reply.code, code, "{login} as {from}: {reply:?}");
        if code == 553 {
            assert!(
                reply.text.contains("5.7.1") && reply.text.contains("send_as"),
                "{reply:?}"
            );
            // The same address in From, with an allowed reverse-path.
            let reply = client.transaction(login, to, &message(from));
            assert_eq!(reply.code, 553, "{login} with From {from}: {reply:?}");
            let both = format!("{login}, {from}");
            assert_eq!(
                client.transaction(login, to, &message(&both)).code,
                553,
                "{both}"
            );
        }
    }
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 6);
}

#[test]
fn an_unauthenticated_client_cannot_relay_in_any_spelling() {
    let relay = Setup::unauthenticated_clients().start();
    let mut refused = 0;
    for to in [
        "x@four.test",
        "x%four.test@relay.test",
        "x%four.test",
        "\"x@four.test\"@relay.test",
        "\"x%four.test\"@relay.test",
        "four.test!x@relay.test",
        "four.test!x",
        "@relay.test:x@four.test",
        "@relay.test,@other.test:x@four.test",
        "x@four.test@relay.test",
        "x@[127.0.0.1]",
        "ann@[127.0.0.1]",
        "ann@[IPv6:::1]",
        "x@relay.test.four.test",
        "ann",
        "ann@",
        "nobody@relay.test",
        "x@mail.relay.test",
        "ann@relay.test\\@four.test",
    ] {
        let mut client = relay.client();
        assert_eq!(client.say("MAIL FROM:<spam@four.test>").code, 250);
        let reply = client.say(&format!("RCPT TO:<{to}>"));
        assert!((500..600).contains(&reply.code), "{to}: {reply:?}");
        assert_eq!(client.say("DATA").code / 100, 5);
        refused += 1;
    }
    assert!(refused > 0);
    let mut client = relay.client();
    let reply = client.transaction(
        "friend@four.test",
        &["ann@relay.test"],
        &message("friend@four.test"),
    );
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_eq!(relay.sink.wait(1)[0].to, ["ann@home.test"]);
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 1);
}

#[test]
fn aliases_forward_to_other_hosts_and_the_catch_all_gets_the_rest() {
    let deep: String = (0..20).map(|n| format!("d{n}: d{}\n", n + 1)).collect();
    let aliases = format!(
        "ann: ann@home.test, ann2@home.test\ninfo: ann\n{deep}d20: ann\n*: rest@home.test\n"
    );
    let keys = "admin = \"admin@home.test\"\n".to_owned();
    let relay = Setup {
        aliases,
        keys,
        ..Setup::unauthenticated_clients()
    }
    .start();
    for (to, targets) in [
        ("ann@relay.test", &["ann2@home.test", "ann@home.test"][..]),
        ("ANN+news@Relay.Test", &["ann2@home.test", "ann@home.test"]),
        ("info@relay.test", &["ann2@home.test", "ann@home.test"]),
        ("whoever@relay.test", &["rest@home.test"]),
        ("postmaster", &["admin@home.test"]),
        ("Postmaster@relay.test", &["admin@home.test"]),
        ("abuse@relay.test", &["admin@home.test"]),
    ] {
        let before = relay.sink.count();
        let reply =
            relay
                .client()
                .transaction("friend@four.test", &[to], &message("friend@four.test"));
        assert_eq!(reply.code, 250, "{to}: {reply:?}");
        let mut found = relay.sink.wait(before + 1)[before].to.clone();
        found.sort();
        assert_eq!(found, targets, "{to}");
    }
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<>").code, 250);
    assert_eq!(client.say("RCPT TO:<d0@relay.test>").code, 550);

    // All of them came from an unauthenticated client and were forwarded with a rewritten sender.
    assert_eq!(relay.stats()["forwarded"], 10);
    let text = relay.cli(&["queue", "stats"]).ok();
    for line in [
        "forwarded       10\n",
        "dmarc_failed    0\n",
        "dmarc_refused   0\n",
        "hook_deferred   0\n",
    ] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
}

#[test]
fn a_reload_refuses_an_alias_loop_and_the_old_aliases_stay() {
    let relay = Setup::unauthenticated_clients().start();
    let path = relay.config().join("domains/relay.test/aliases");
    fs::write(&path, "ann: a@home.test\nloop: loop2\nloop2: loop\n").expect("a file");
    let output = relay.cli(&["reload"]);
    assert_eq!(output.code, 78, "{output:?}");
    for line in [2, 3] {
        let place = format!("domains/relay.test/aliases:{line}:1:");
        assert!(output.stderr.contains(&place), "{output:?}");
    }
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<>").code, 250);
    assert_eq!(client.say("RCPT TO:<loop@relay.test>").code, 550);
}

#[test]
fn mail_for_a_domain_with_receive_false_is_sent_to_its_mx() {
    let mut relay = Relay::start();
    relay.cli(&["domain", "add", "--bare", "four.test"]).ok();
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code, 250);
    assert_eq!(client.say("RCPT TO:<whoever@four.test>").code, 550);
    relay.setup.tables = "[domain.\"four.test\"]\nreceive = false\n".to_owned();
    relay.write_config();
    relay.cli(&["reload"]).ok();
    assert_eq!(client.say("RCPT TO:<whoever@four.test>").code, 250);
    assert_eq!(client.say("DATA").code, 354);
    assert_eq!(client.body(&message("a@src.test")).code, 250);
    assert_eq!(relay.sink.wait(1)[0].to, ["whoever@four.test"]);
}

#[test]
fn auth_needs_tls_and_is_never_offered_on_port_25() {
    let relay = Setup::unauthenticated_clients().start();
    let mut client = Client::connect(relay.submission());
    let hello = client.say("EHLO client.test");
    assert!(
        hello.text.contains("STARTTLS") && !hello.text.contains("AUTH"),
        "{hello:?}"
    );
    assert_eq!(client.auth_plain("ann@relay.test", PASSWORD).code, 538);
    assert_eq!(client.say("AUTH LOGIN").code, 538);
    assert_eq!(client.say("MAIL FROM:<ann@relay.test>").code, 530);

    let mut client = relay.client();
    assert!(!client.say("EHLO client.test").text.contains("AUTH"));
    assert_eq!(client.auth_plain("ann@relay.test", PASSWORD).code / 100, 5);
    let mut client = relay.client();
    assert_eq!(client.say("STARTTLS").code, 220);
    client.start_tls();
    assert!(!client.say("EHLO client.test").text.contains("AUTH"));
    assert_eq!(client.auth_plain("ann@relay.test", PASSWORD).code, 502);

    let mut client = Client::connect_tls(relay.submissions());
    assert!(
        client
            .say("EHLO client.test")
            .text
            .contains("AUTH PLAIN LOGIN SCRAM-SHA-256")
            || client.say("EHLO client.test").text.contains("AUTH ")
    );
    assert_eq!(client.say("MAIL FROM:<ann@relay.test>").code, 530);
    assert_eq!(client.say("AUTH PLAIN").code, 334);
    assert_eq!(client.say("*").code, 501);
    assert_eq!(client.say("AUTH PLAIN !!!").code, 501);
    assert_eq!(client.say("AUTH CRAM-MD5").code, 504);
}

#[test]
fn three_failures_end_a_session() {
    let relay = Setup::unauthenticated_clients().start();
    let mut client = Client::connect_tls(relay.submissions());
    client.say("EHLO client.test");
    assert_eq!(client.auth_plain("ann@relay.test", "wrong").code, 535);
    assert_eq!(client.auth_plain("ann@relay.test", "wrong").code, 535);
    let last = client.auth_plain("ann@relay.test", "wrong");
    let rest = client.rest();
    assert!(
        last.code == 421 || rest.starts_with("421"),
        "{last:?} {rest}"
    );
    assert!(!relay.log().contains("wrong"), "{}", relay.log());
}

/// The reply to a first failure, and its delay.
fn first_failure(relay: &Relay, login: &str) -> (String, Duration) {
    let mut client = Client::connect_tls(relay.submissions());
    client.say("EHLO client.test");
    let start = Instant::now();
    let reply = client.auth_plain(login, "guess");
    (reply.text, start.elapsed())
}

#[test]
fn an_unknown_user_and_a_wrong_password_get_the_same_reply_after_the_same_time() {
    let relays = [
        Setup::unauthenticated_clients().start(),
        Setup::unauthenticated_clients().start(),
    ];
    for relay in &relays {
        relay
            .cli_with(&["user", "add", "eve@relay.test"], b"the right password\n")
            .ok();
    }
    let (unknown, unknown_time) = first_failure(&relays[0], "nobody@relay.test");
    let (wrong, wrong_time) = first_failure(&relays[1], "eve@relay.test");
    assert_eq!(unknown, wrong);
    assert!(unknown.starts_with("535"), "{unknown}");
    let (least, most) = (unknown_time.min(wrong_time), unknown_time.max(wrong_time));
    assert!(
        most < 3 * least,
        "unknown {unknown_time:?}, wrong {wrong_time:?}"
    );
    assert_eq!(
        relays[1]
            .cli_with(
                &["user", "verify", "eve@relay.test"],
                b"the right password\n"
            )
            .code,
        0
    );
    assert_eq!(
        relays[1]
            .cli_with(
                &["user", "verify", "eve@relay.test"],
                b"the wrong password\n"
            )
            .code,
        77
    );
}

#[test]
fn users_can_be_added_and_removed_while_the_relay_runs() {
    let relay = Setup::unauthenticated_clients().start();
    let mut client = Client::connect_tls(relay.submissions());
    client.say("EHLO client.test");
    relay
        .cli_with(
            &["user", "add", "eve@relay.test", "--send-as", "*@shop.test"],
            b"first password\n",
        )
        .ok();
    assert_eq!(
        relay
            .cli_with(&["user", "add", "eve@relay.test"], b"again\n")
            .code,
        73
    );
    assert!(
        relay
            .cli(&["user", "list"])
            .ok()
            .contains("eve@relay.test send_as=*@shop.test")
    );
    assert_eq!(
        client.auth_plain("eve@relay.test", "first password").code,
        235
    );
    assert_eq!(
        client
            .transaction("x@shop.test", &["a@four.test"], &message("x@shop.test"))
            .code,
        250
    );

    relay
        .cli_with(&["user", "passwd", "eve@relay.test"], b"second password\n")
        .ok();
    assert!(
        relay
            .cli(&["user", "list"])
            .ok()
            .contains("send_as=*@shop.test")
    );
    let mut client = Client::connect_tls(relay.submissions());
    client.say("EHLO client.test");
    assert_eq!(
        client.auth_plain("eve@relay.test", "first password").code,
        535
    );
    assert_eq!(
        client.auth_plain("eve@relay.test", "second password").code,
        235
    );

    relay.cli(&["user", "remove", "eve@relay.test"]).ok();
    // A user removed during a session may send no more.
    assert_eq!(client.say("MAIL FROM:<eve@relay.test>").code, 553);
    assert_eq!(relay.cli(&["user", "remove", "eve@relay.test"]).code, 67);

    relay.cli(&["domain", "add", "--bare", "new.test"]).ok();
    relay
        .cli_with(&["user", "add", "ann@new.test"], b"a password\n")
        .ok();
    assert!(relay.cli(&["domain", "list"]).ok().contains("new.test"));
    let mut client = Client::connect_tls(relay.submissions());
    client.say("EHLO client.test");
    assert_eq!(client.auth_plain("ann@new.test", "a password").code, 235);
}

#[test]
fn messages_per_hour_of_a_user_are_limited() {
    let tables = "[limits]\nmessages_per_user_hour = 3\n".to_owned();
    let relay = Setup {
        tables,
        ..Setup::unauthenticated_clients()
    }
    .start();
    let mut client = relay.user("ann@relay.test");
    for number in 1..=4 {
        let reply = client.transaction(
            "ann@relay.test",
            &["x@four.test"],
            &message("ann@relay.test"),
        );
        assert_eq!(
            reply.code,
            if number < 4 { 250 } else { 451 },
            "{number}: {reply:?}"
        );
    }
    let mut client = relay.user("bob@relay.test");
    let reply = client.transaction(
        "bob@relay.test",
        &["x@four.test"],
        &message("bob@relay.test"),
    );
    assert_eq!(reply.code, 250, "{reply:?}");
}
