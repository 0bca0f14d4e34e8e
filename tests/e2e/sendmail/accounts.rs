//! Accounts without privileges, and their view of the queue.

use super::*;

/// `sendmail` as an account without privileges, or as the account that runs the tests if that is not root.
fn as_nobody(relay: &Relay, words: &[&str]) -> (Command, u32) {
    chopar_as_nobody(relay, &[&["sendmail"], words].concat())
}

/// The same for any command.
fn chopar_as_nobody(relay: &Relay, words: &[&str]) -> (Command, u32) {
    let me = rustix::process::getuid();
    if !me.is_root() {
        let mut command = Command::new(CHOPAR);
        command.args(words).env("CHOPAR_CONFIG", relay.config());
        return (command, me.as_raw());
    }
    // The binary may be in a folder that other accounts cannot enter.
    let binary = relay.folder().join("bin/chopar");
    if !binary.exists() {
        // Copied by another process: a test that starts a program at this moment would inherit a writable descriptor of
        // the file.
        run(Command::new("cp").arg(CHOPAR).arg(&binary), b"").ok();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let mut command = Command::new(program("setpriv"));
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(binary).args(words);
    command
        .env("CHOPAR_CONFIG", relay.config())
        .current_dir("/");
    (command, 65_534)
}

#[test]
fn an_account_without_rights_sends_through_the_socket_and_through_the_folder() {
    let mut relay = relay();
    let words = ["-f", "web@relay.test", "a@four.test"];
    let (mut command, uid) = as_nobody(&relay, &words);
    run(&mut command, b"Subject: socket\n\nx\n").ok();
    let arrived = relay.sink.wait(1).remove(0);
    assert_eq!(arrived.from, "web@relay.test");
    assert!(
        arrived.text().contains(&format!("uid {uid}")),
        "{}",
        arrived.text()
    );
    relay.stop();
    run(&mut as_nobody(&relay, &words).0, b"Subject: folder\n\nx\n").ok();
    relay.run();
    let arrived = relay.sink.wait(2).remove(1);
    assert!(
        arrived.text().contains("Subject: folder"),
        "{}",
        arrived.text()
    );
    assert!(
        arrived.text().contains(&format!("uid {uid}")),
        "{}",
        arrived.text()
    );
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn a_caller_that_cannot_read_the_configuration_uses_the_right_name_or_fails() {
    if !rustix::process::geteuid().is_root() {
        return; // the account that runs the relay can read it
    }
    let mut relay = relay();
    let words = ["-i", "root", "a@four.test"];
    set_mode(&relay.config().join("domains"), 0o700);
    run(&mut as_nobody(&relay, &words).0, b"Subject: up\n\nx\n").ok();
    relay.stop();
    run(&mut as_nobody(&relay, &words).0, b"Subject: down\n\nx\n").ok();
    relay.run();
    // Each message goes to two hosts.
    let mut to = Vec::new();
    for arrived in relay.sink.wait(4) {
        assert_eq!(arrived.from, "nobody@relay.test");
        let text = arrived.text();
        let from = text.lines().find(|line| line.starts_with("From: "));
        assert!(
            from.is_some_and(|from| from.contains("nobody@relay.test")),
            "{text}"
        );
        to.extend(arrived.to);
    }
    to.sort();
    assert_eq!(
        to,
        [
            "a@four.test",
            "a@four.test",
            "admin@home.test",
            "admin@home.test"
        ]
    );
    // The caller cannot read chopar.toml, and its path is not that of a default installation.
    set_mode(&relay.config().join("chopar.toml"), 0o600);
    let output = run(&mut as_nobody(&relay, &words).0, b"Subject: x\n\nx\n");
    assert_eq!(output.code, 75, "{output:?}");
    assert!(
        output
            .stderr
            .contains("config/chopar.toml: Permission denied"),
        "{output:?}"
    );
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 4);
}

#[test]
fn a_user_sees_only_messages_that_the_user_submitted() {
    if !rustix::process::geteuid().is_root() {
        return; // there is only one user
    }
    let relay = relay();
    let send = |command: &mut Command, subject: &str| {
        run(command, format!("Subject: {subject}\n\nx\n").as_bytes()).ok();
    };
    send(&mut as_nobody(&relay, &["own@dead.test"]).0, "own");
    // A message does not become a user's by naming the user as its sender.
    let words = ["-f", "nobody@relay.test", "foreign@dead.test"];
    send(relay.program("sendmail").args(words), "foreign");
    wait_for_next_attempt(&relay, 2);
    let id_of = |to: &str| {
        let list = relay.list();
        let found = list
            .iter()
            .find(|message| message["recipients"][0]["to"] == to);
        found.expect("a message")["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let (own, foreign) = (id_of("own@dead.test"), id_of("foreign@dead.test"));

    let as_user = |words: &[&str]| run(&mut chopar_as_nobody(&relay, words).0, b"");
    for words in [&["sendmail", "-bp"][..], &["queue", "list"]] {
        let text = as_user(words).ok();
        assert!(
            text.contains(&own) && text.contains("<own@dead.test>"),
            "{text}"
        );
        assert!(text.contains(", next attempt 20"), "{text}");
        assert!(
            !text.contains(&foreign) && !text.contains("foreign"),
            "{text}"
        );
        assert!(text.contains("in 1 message\n"), "{text}");
    }
    let shown = as_user(&["queue", "show", &own]).ok();
    assert!(shown.contains("Subject: own"), "{shown}");
    // A message of another user looks like one that does not exist.
    let output = as_user(&["queue", "show", &foreign]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (66, ""),
        "{output:?}"
    );
    assert!(output.stderr.contains("is not in the queue"), "{output:?}");
    for words in [
        &["queue", "hold", &own][..],
        &["queue", "release", "--all"],
        &["queue", "remove", &own],
        &["queue", "remove", "--all"],
        &["queue", "flush"],
        &["queue", "stats"],
        &["reload"],
        &["sendmail", "-q"],
    ] {
        let output = as_user(words);
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (77, ""),
            "{words:?} {output:?}"
        );
        assert!(output.stderr.contains("only root"), "{words:?} {output:?}");
    }
    relay.wait_for_log("event=reject peer=uid=65534 what=remove why=");
    assert_eq!(relay.stats()["queued"], 2);
    assert_eq!(relay.stats()["held"], 0);
    // The log names the user who removes it.
    relay.cli(&["queue", "remove", &own]).ok();
    relay.wait_for_log(&format!("event=removed id={own} by=uid=0"));
    assert!(!relay.log().contains(&format!("event=done id={own}")));
    assert!(as_user(&["sendmail", "-bp"]).ok().contains("empty"));
}
