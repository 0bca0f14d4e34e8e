//! A long queue, and the tools for it.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::load::smtp_source;
use crate::process::{PATIENCE, run, wait_for};
use crate::relay::Relay;

#[test]
fn a_reload_of_a_broken_configuration_fails_and_the_old_one_goes_on() {
    let relay = Relay::start();
    let toml = relay.config().join("chopar.toml");
    let good = fs::read_to_string(&toml).expect("a file");
    fs::write(&toml, format!("{good}\n[nonsense]\n")).expect("a file");
    // The command that the unit runs on `systemctl reload`.
    let reloaded = relay.cli(&["reload"]);
    assert_eq!(reloaded.code, 78, "{reloaded:?}");
    assert!(reloaded.stderr.contains("chopar.toml"), "{reloaded:?}");
    relay.wait_for_log("event=reload-failed");
    assert_eq!(relay.client().say("NOOP").code, 250);
    fs::write(&toml, good).expect("a file");
    relay.cli(&["reload"]).ok();
}

#[test]
fn ten_thousand_queued_messages_are_recovered_at_once_after_a_kill() {
    let mut relay = Relay::start();
    smtp_source(&relay, &["-d"], "b@dead.test", 10_000, 8);
    assert_eq!(relay.stats()["queued"], 10_000);
    relay.kill();
    let start = Instant::now();
    relay.run();
    let ready = start.elapsed();
    assert!(ready < Duration::from_secs(5), "{ready:?}");
    assert_eq!(relay.list().len(), 10_000);
    // An unreachable host costs one attempt, not ten thousand.
    let log = relay.log();
    assert!(log.matches("next-hop-paused").count() < 20 && log.matches("deferred").count() < 100);
    // It does not delay another domain.
    let mut client = relay.client();
    assert_eq!(
        client
            .transaction(
                "a@src.test",
                &["b@four.test"],
                b"From: a@src.test\r\n\r\nx\r\n"
            )
            .code,
        250
    );
    relay.sink.wait(1);
    // The message arrives before its delivery result is on the disk here.
    wait_for("the delivered message to leave the queue", PATIENCE, || {
        (relay.stats()["queued"] == 10_000).then_some(())
    });
    assert_eq!(
        relay.cli(&["queue", "remove", "--all"]).ok(),
        "10000 messages removed\n"
    );
    relay.wait_for_empty_queue(PATIENCE);
}

#[test]
fn stats_show_the_longest_turn_of_the_event_loop_and_its_time() {
    let (began, started) = (SystemTime::now(), Instant::now());
    let relay = Relay::start();
    smtp_source(&relay, &[], "b@dead.test", 20, 2);
    let stats = relay.stats();
    let number = |key: &str| stats[key].as_u64().expect("a number");
    let took = Duration::from_micros(number("longest_turn_us"));
    assert!(!took.is_zero() && took < started.elapsed(), "{stats}");
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs()
    };
    let at = number("longest_turn_at");
    assert!(
        (seconds(began)..=seconds(SystemTime::now())).contains(&at),
        "{stats}"
    );
    let text = relay.cli(&["queue", "stats"]).ok();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("longest_turn_at "));
    let date = line.expect("a line").trim();
    assert!(date.starts_with("20") && date.ends_with('Z'), "{text}");
}

fn ids(relay: &Relay) -> Vec<String> {
    relay
        .list()
        .iter()
        .map(|message| message["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn messages_are_listed_shown_held_released_flushed_and_removed() {
    let relay = Relay::start();
    let mut client = relay.client();
    for name in ["later1", "later2", "later3"] {
        let message = format!("From: a@src.test\r\nSubject: {name}\r\n\r\nsecret text\r\n");
        assert_eq!(
            client
                .transaction(
                    "a@src.test",
                    &[&format!("{name}@four.test")],
                    message.as_bytes()
                )
                .code,
            250
        );
    }
    relay.wait_for_deferred(3);
    let ids = ids(&relay);
    let [one, two, three] = ids.as_slice() else {
        panic!("{ids:?}")
    };

    let text = relay.cli(&["queue", "list"]).ok();
    assert!(
        text.contains("later1@four.test") && text.contains("4.2.1") && text.contains("Not yet"),
        "{text}"
    );
    assert!(text.contains("in 3 messages"), "{text}");
    assert_eq!(run(&mut relay.program("mailq"), b"").ok(), text);
    assert_eq!(run(relay.program("sendmail").arg("-bp"), b"").ok(), text);

    let shown = relay.cli(&["queue", "show", one]).ok();
    assert!(
        shown.contains("<a@src.test>") && shown.contains("Subject: later1"),
        "{shown}"
    );
    assert!(!shown.contains("secret text"), "{shown}");
    let json = relay.cli(&["queue", "show", one, "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("one document");
    assert_eq!(json["id"], one.as_str());
    let header = json["header"].as_str().expect("a header");
    assert!(header.contains("Subject: later1\r\n"), "{json}");
    let lines = relay.cli(&["queue", "list", "--jsonl"]).ok();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document a line"))
        .collect();
    assert_eq!(lines, relay.list());
    let both = relay.cli(&["queue", "list", "--json", "--jsonl"]);
    assert_eq!((both.code, both.stdout.as_str()), (64, ""), "{both:?}");

    assert_eq!(relay.cli(&["queue", "hold", one]).ok(), "1 message held\n");
    assert_eq!(relay.stats()["held"], 1);
    relay.sink.open();
    relay.cli(&["queue", "flush", two]).ok();
    assert_eq!(relay.sink.wait(1)[0].to, ["later2@four.test"]);
    relay.cli(&["queue", "flush"]).ok();
    assert_eq!(relay.sink.wait(2)[1].to, ["later3@four.test"]);
    wait_for("one to be left", PATIENCE, || {
        (relay.stats()["queued"] == 1).then_some(())
    });
    assert_eq!(relay.sink.count(), 2);
    assert!(relay.cli(&["queue", "list"]).ok().contains('!'));

    assert_eq!(
        relay.cli(&["queue", "release", one]).ok(),
        "1 message released\n"
    );
    relay.cli(&["queue", "flush"]).ok();
    assert_eq!(relay.sink.wait(3)[2].to, ["later1@four.test"]);
    relay.wait_for_empty_queue(PATIENCE);
    assert!(relay.cli(&["queue", "list"]).ok().contains("empty"));
    assert_eq!(relay.cli(&["queue", "list", "--json"]).ok(), "[]\n");
    assert_eq!(relay.cli(&["queue", "list", "--jsonl"]).ok(), "");

    let output = relay.cli(&["queue", "show", three]);
    assert_eq!(output.code, 66, "{output:?}");
    assert_eq!(relay.cli(&["queue", "remove"]).code, 64);
    assert_eq!(relay.cli(&["queue", "hold", "no such id"]).code, 66);
}

#[test]
fn a_list_ends_silently_when_its_reader_exits() {
    let relay = Relay::start();
    smtp_source(&relay, &["-d"], "b@dead.test", 2_000, 8);
    let mailq = relay.folder().join("bin/mailq");
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "{ \"$0\"; echo $? >&2; } | head -1"]);
    command.arg(mailq).env("CHOPAR_CONFIG", relay.config());
    let output = run(&mut command, b"");
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
    // 128 plus the number of SIGPIPE.
    assert_eq!(output.stderr, "141\n", "{output:?}");
}

#[test]
fn a_held_message_stays_held_over_a_kill() {
    let mut relay = Relay::start();
    let mut client = relay.client();
    assert_eq!(
        client
            .transaction(
                "a@src.test",
                &["later@four.test"],
                b"From: a@src.test\r\n\r\nx\r\n"
            )
            .code,
        250
    );
    relay.wait_for_deferred(1);
    relay.cli(&["queue", "hold", "--all"]).ok();
    relay.kill();
    relay.run();
    relay.sink.open();
    relay.cli(&["queue", "flush"]).ok();
    assert_eq!(
        (
            relay.stats()["queued"].as_u64(),
            relay.stats()["held"].as_u64()
        ),
        (Some(1), Some(1))
    );
    relay.cli(&["queue", "release", "--all"]).ok();
    relay.sink.wait(1);
}

#[test]
fn without_a_daemon_the_tools_explain_what_to_do() {
    let mut relay = Relay::start();
    relay.stop();
    for words in [&["queue", "list"][..], &["queue", "stats"], &["reload"]] {
        let output = relay.cli(words);
        assert_eq!(output.code, 69, "{output:?}");
        assert!(
            output.stderr.contains("start it with `chopar run`"),
            "{output:?}"
        );
        let socket = relay.folder().join("run/control.sock");
        assert!(
            output.stderr.contains(&socket.display().to_string()),
            "{output:?}"
        );
    }
}

#[test]
fn a_reload_reports_what_needs_a_restart_and_succeeds() {
    let relay = Relay::start();
    let path = relay.config().join("chopar.toml");
    let before = std::fs::read_to_string(&path).expect("a file");
    let quiet = relay.cli(&["reload"]);
    let said = "the daemon has read its configuration again\n";
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, said));
    let after = before.replacen("127.0.0.1:", "127.0.0.2:", 1);
    assert_ne!(before, after, "an address to listen at has changed");
    std::fs::write(&path, after).expect("a file");
    let output = relay.cli(&["reload"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(
        output.stderr.contains("listen.")
            && output.stderr.contains("takes effect at the next restart"),
        "{output:?}"
    );
    assert_eq!(output.stdout, "");
    assert_eq!(relay.client().say("NOOP").code, 250);
}
