//! The sample of the log in chopar-service(7), compared with a real log.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::client::Client;
use crate::process::{PATIENCE, wait_for};
use crate::relay::{Setup, Signing};

/// The log of a relay with events of all common kinds, written to a standard error that is the journal.
fn day() -> String {
    let mut relay = Setup {
        signing: Signing::Both,
        keys: "admin = \"you@home.test\"\n".to_owned(),
        ..Setup::unauthenticated_clients()
    }
    .start();
    relay.install_certificate("mail.relay.test");
    relay.stop();
    let users = relay.config().join("domains/relay.test/users");
    fs::set_permissions(users, Permissions::from_mode(0o600)).expect("a mode");
    let about = fs::metadata(relay.folder().join("log")).expect("a log");
    let stream = PathBuf::from(format!("{}:{}", about.dev(), about.ino()));
    relay.setup.environment.push(("JOURNAL_STREAM", stream));
    let before = relay.log().len();
    relay.run();

    let done = |count: usize| {
        wait_for("the end of a message", PATIENCE, || {
            let log = relay.log();
            let said = log.get(before..)?;
            (said.matches("event=done ").count() == count).then_some(())
        });
    };
    let message = |from: &str| format!("From: {from}\r\nSubject: hello\r\n\r\nhi\r\n");
    let (ann, kim) = ("ann@relay.test", "kim@home.test");
    let mut user = relay.user(ann);
    for (to, next) in [
        ("joe@home.test", "host"),
        ("later@home.test", "status"),
        ("gone@home.test", "status"),
    ] {
        let reply = user.transaction(ann, &[to], message(ann).as_bytes());
        assert_eq!(reply.code, 250, "{reply:?}");
        relay.wait_for_log(&format!(" to={to} {next}="));
        if next == "host" {
            done(1);
        }
    }
    drop(user);
    // Two more: the failed message, and its DSN.
    done(3);
    let mut guest = relay.client();
    let reply = guest.transaction(kim, &["bob@relay.test"], message(kim).as_bytes());
    assert_eq!(reply.code, 250, "{reply:?}");
    done(4);
    assert_eq!(guest.say("MAIL FROM:<kim@home.test>").code, 250);
    assert_eq!(guest.say("RCPT TO:<nobody@relay.test>").code, 550);
    drop(guest);
    let mut guesser = Client::connect_tls(relay.submissions());
    guesser.say("EHLO client.test");
    assert_eq!(guesser.auth_plain(ann, "wrong").code, 535);
    drop(guesser);
    relay.cli(&["reload"]).ok();
    relay.stop();
    relay.log().split_off(before)
}

/// The sample of the manual: each entry as one line, without the prefix of journalctl.
fn sample() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/chopar-service.7");
    let page = fs::read_to_string(path).expect("a manual page");
    let (_, page) = page.split_once(".Ss A day of the journal").expect("a part");
    let (_, text) = page.split_once(".Bd -literal\n").expect("its text");
    let (text, _) = text.split_once(".Ed\n").expect("its end");
    let text = text.replace("\n    ", " ").replace("\\&", "");
    let entries = text.lines().map(|line| {
        let (_, entry) = line.split_once("]: ").expect("a program and its process");
        entry.to_owned()
    });
    entries.collect()
}

/// A line without the parts that differ between machines and runs.
fn comparable(line: &str) -> String {
    let words = line.split(' ').filter(|word| *word != "from=systemd");
    let words = words.map(|word| match word.split_once('=') {
        Some((key @ ("id" | "about" | "size" | "on" | "peer" | "address"), _)) => {
            format!("{key}=")
        }
        Some(("origin", value)) if !value.contains('@') => "origin=".to_owned(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_sample_in_the_manual_matches_a_real_log() {
    let said = day();
    let mut lines = said.lines().map(|line| {
        let (priority, line) = line.split_once('>').unwrap_or_else(|| panic!("{line}"));
        let level = priority
            .strip_prefix('<')
            .and_then(|digit| digit.parse::<u8>().ok());
        assert!(level.is_some_and(|level| level <= 7), "{priority}: {line}");
        assert!(
            line.starts_with("event="),
            "a date, although the journal has one: {line}"
        );
        let names = [("relay.test", "example.com"), ("home.test", "example.net")];
        let line = names
            .into_iter()
            .fold(line.to_owned(), |line, (here, there)| {
                line.replace(here, there)
            });
        comparable(&line.replace("mx.four.test", "mx.example.net"))
    });
    for entry in sample() {
        let entry = comparable(&entry);
        assert!(
            lines.any(|line| line == entry),
            "not in the journal, or not in this order: {entry}\n{said}"
        );
    }
}
