//! Undeliverable mail: failures, deferrals and their DSNs.

use serde_json::Value;

use crate::client::Client;
use crate::dkim::dkimpy;
use crate::process::{PATIENCE, python, run, wait_for};
use crate::relay::{Relay, Setup, Signing};
use crate::world::Arrived;

const MESSAGE: &[u8] = b"From: ann@relay.test\r\nTo: x@four.test\r\nSubject: the original\r\nMessage-ID: <orig@relay.test>\r\n\
                         \r\nthe body of it\r\n";

fn relay() -> Relay {
    Setup {
        signing: Signing::Both,
        ..Setup::default()
    }
    .start()
}

/// Sends with these parameters of MAIL and RCPT.
fn send(client: &mut Client, from: &str, to: &[&str], mail: &str, rcpt: &str) {
    assert_eq!(
        client
            .say(format!("MAIL FROM:<{from}> {mail}").trim_end())
            .code,
        250
    );
    for to in to {
        assert_eq!(
            client.say(format!("RCPT TO:<{to}> {rcpt}").trim_end()).code,
            250
        );
    }
    assert_eq!(client.say("DATA").code, 354);
    assert_eq!(client.body(MESSAGE).code, 250);
}

/// A DSN as Python's email package reads it.
fn parse(bounce: &Arrived) -> Value {
    serde_json::from_str(&run(&mut python("notification.py"), &bounce.bytes).ok()).expect("JSON")
}

#[test]
fn a_refused_recipient_causes_a_signed_dsn_to_the_sender() {
    let relay = relay();
    let mut client = relay.client();
    send(
        &mut client,
        "ann@relay.test",
        &["gone@four.test"],
        "RET=FULL ENVID=QQ314159",
        "ORCPT=rfc822;Gone@four.test",
    );
    let bounce = relay.sink.wait(1).remove(0);
    // aiosmtpd writes the null reverse-path as an empty string or as <>.
    assert!(matches!(bounce.from.as_str(), "" | "<>"), "{}", bounce.from);
    assert_eq!(bounce.to, ["ann@home.test"]);
    let report = parse(&bounce);
    assert_eq!(report["type"], "multipart/report");
    assert_eq!(report["report-type"], "delivery-status");
    assert_eq!(
        report["parts"],
        serde_json::json!(["text/plain", "message/delivery-status", "message/rfc822"])
    );
    assert_eq!(report["auto-submitted"], "auto-replied");
    assert!(
        report["from"]
            .as_str()
            .expect("From")
            .contains("@relay.test"),
        "{report}"
    );
    let message = &report["status"][0];
    assert_eq!(message["reporting-mta"], "dns; mail.relay.test");
    assert_eq!(message["original-envelope-id"], "QQ314159");
    let recipient = &report["status"][1];
    assert_eq!(recipient["final-recipient"], "rfc822; gone@four.test");
    assert_eq!(recipient["original-recipient"], "rfc822;Gone@four.test");
    assert_eq!(
        (recipient["action"].as_str(), recipient["status"].as_str()),
        (Some("failed"), Some("5.1.1"))
    );
    assert!(
        recipient["diagnostic-code"]
            .as_str()
            .expect("a code")
            .contains("Nobody of that name"),
        "{report}"
    );
    assert!(
        report["original"]
            .as_str()
            .expect("a message")
            .contains("the body of it"),
        "{report}"
    );
    assert!(
        report["text"]
            .as_str()
            .expect("text")
            .contains("gone@four.test"),
        "{report}"
    );
    let verdicts = dkimpy(&relay, &[relay.sink.path(1)]).ok();
    assert_eq!(verdicts.matches("pass").count(), 2, "{verdicts}");
    relay.wait_for_empty_queue(PATIENCE);
}

#[test]
fn ret_hdrs_returns_the_header_alone() {
    let relay = relay();
    send(
        &mut relay.client(),
        "ann@relay.test",
        &["gone@four.test"],
        "RET=HDRS",
        "",
    );
    let report = parse(&relay.sink.wait(1)[0]);
    assert_eq!(report["parts"][2], "text/rfc822-headers");
    let original = report["original"].as_str().expect("a header");
    assert!(
        original.contains("Subject: the original") && !original.contains("the body of it"),
        "{report}"
    );
}

#[test]
fn notify_never_and_the_null_sender_cause_no_dsn() {
    let relay = relay();
    let mut client = relay.client();
    send(
        &mut client,
        "ann@relay.test",
        &["gone1@four.test"],
        "",
        "NOTIFY=NEVER",
    );
    send(
        &mut client,
        "ann@relay.test",
        &["gone2@four.test"],
        "",
        "NOTIFY=SUCCESS",
    );
    send(&mut client, "", &["gone3@four.test"], "", "");
    wait_for("three failures", PATIENCE, || {
        (relay.stats()["failed"] == 3).then_some(())
    });
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(
        (relay.sink.count(), relay.stats()["dsns"].as_u64()),
        (0, Some(0))
    );
}

#[test]
fn each_of_two_recipients_has_its_own_result() {
    let relay = relay();
    send(
        &mut relay.client(),
        "ann@relay.test",
        &["here@four.test", "gone@four.test"],
        "",
        "",
    );
    assert_eq!(relay.sink.wait_to("here@four.test").to, ["here@four.test"]);
    let report = parse(&relay.sink.wait_to("ann@home.test"));
    assert_eq!(
        report["status"].as_array().map(Vec::len),
        Some(2),
        "{report}"
    );
    assert_eq!(
        report["status"][1]["final-recipient"],
        "rfc822; gone@four.test"
    );
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 2);
}

#[test]
fn a_refusal_after_the_final_dot_fails_only_that_message() {
    let relay = relay();
    send(
        &mut relay.client(),
        "ann@relay.test",
        &["full@four.test"],
        "",
        "",
    );
    let report = parse(&relay.sink.wait_to("ann@home.test"));
    assert_eq!(report["status"][1]["status"], "5.2.2");
    relay.wait_for_empty_queue(PATIENCE);
}

#[test]
fn a_nonexistent_domain_and_a_null_mx_fail_at_once() {
    let relay = relay();
    let mut client = relay.client();
    for (to, status) in [
        ("x@missing.test", "5.1.2"),
        ("x@nullmx.test", "5.1.10"),
        ("x@hostless.test", "5.1.2"),
    ] {
        let before = relay.sink.count();
        send(&mut client, "ann@relay.test", &[to], "", "");
        let report = parse(&relay.sink.wait(before + 1)[before]);
        assert_eq!(report["status"][1]["status"], status, "{report}");
    }
}

#[test]
fn a_deferred_message_arrives_later_and_only_once() {
    let relay = relay();
    send(
        &mut relay.client(),
        "ann@relay.test",
        &["later@four.test", "here@four.test"],
        "",
        "",
    );
    relay.sink.wait_to("here@four.test");
    let line = relay.wait_for_log("event=deferred");
    assert!(line.contains("4.2.1"), "{line}");
    relay.sink.open();
    relay.flush_all();
    assert_eq!(
        relay.sink.wait_to("later@four.test").to,
        ["later@four.test"]
    );
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 2);
    assert_eq!(relay.stats()["dsns"], 0);
}

#[test]
fn a_message_not_delivered_in_time_is_given_up_with_a_dsn() {
    let relay = Setup {
        delivery: "give_up_after = \"1s\"\n".to_owned(),
        ..Setup::default()
    }
    .start();
    send(
        &mut relay.client(),
        "ann@relay.test",
        &["later@four.test"],
        "",
        "",
    );
    relay.wait_for_deferred(1);
    let report = wait_for("a report", PATIENCE, || {
        relay.cli(&["queue", "flush"]).ok();
        (relay.sink.count() > 0).then(|| parse(&relay.sink.message(1)))
    });
    let status = report["status"][1]["status"].as_str().expect("a status");
    assert!(status.starts_with("5.") || status == "4.4.7", "{report}");
    relay.wait_for_empty_queue(PATIENCE);
}

#[test]
fn a_sender_gets_one_delay_dsn_and_attempts_go_on() {
    let relay = Setup {
        delivery: "warn_after = \"1s\"\n".to_owned(),
        ..Setup::default()
    }
    .start();
    send(
        &mut relay.client(),
        "ann@relay.test",
        &["later@four.test"],
        "",
        "",
    );
    let report = parse(&relay.sink.wait_to("ann@home.test"));
    assert_eq!(report["auto-submitted"], "auto-replied", "{report}");
    let recipient = &report["status"][1];
    assert_eq!(recipient["action"], "delayed", "{report}");
    assert!(
        recipient["status"]
            .as_str()
            .expect("a status")
            .starts_with("4."),
        "{report}"
    );
    assert!(recipient["will-retry-until"].is_string(), "{report}");
    // The delay DSN is sent once, even across a restart.
    let mut relay = relay;
    relay.kill();
    relay.run();
    relay.sink.open();
    relay.flush_all();
    relay.sink.wait_to("later@four.test");
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(
        (relay.sink.count(), relay.stats()["dsns"].as_u64()),
        (2, Some(0))
    );
}
