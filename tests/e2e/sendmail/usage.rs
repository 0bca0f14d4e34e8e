//! Other names, flags, modes and limits of `sendmail`.

use super::*;

#[test]
fn usage_is_printed_under_each_name() {
    let relay = relay();
    for name in ["sendmail", "mailq", "newaliases"] {
        let text = run(relay.program(name).arg("--help"), b"").ok();
        assert!(text.starts_with("Usage: sendmail"), "{name}: {text}");
        assert!(text.contains("Example:\n  printf"), "{name}: {text}");
    }
}

#[test]
fn without_daemon_and_drop_folder_sendmail_exits_with_75() {
    let mut relay = relay();
    relay.stop();
    let drop = relay.spool().join("drop");
    fs::remove_dir(&drop).expect("an empty folder");
    fs::write(&drop, "in the way").expect("a file");
    let output = sendmail(&relay, &["a@four.test"], "Subject: x\n\nx\n");
    assert_eq!(output.code, 75, "{output:?}");
    assert!(output.stderr.contains("try again"), "{output:?}");
    assert_eq!(sendmail(&relay, &["-bs"], "QUIT\n").code, 75);
}

#[test]
fn invalid_calls_exit_with_codes_of_sysexits() {
    let relay = relay();
    let message = "Subject: x\n\nx\n";
    for (words, code) in [
        (&["-z", "a@four.test"][..], 64),
        (&["-bd"], 64),
        (&["-be", "${run{/bin/id}}"], 64),
        (&["-N", "sometimes", "a@four.test"], 64),
        (&["a@four.test\nRCPT TO:<b@four.test>"], 65),
        (
            &["-f", "x@relay.test>\r\nRCPT TO:<b@four.test", "a@four.test"],
            65,
        ),
        (&["-F", "x\nBcc: b@four.test", "a@four.test"], 65),
        (&["not an address@@", "a@four.test"], 65),
        (&["missing@relay.test"], 67),
        (&[], 66),
    ] {
        let output = sendmail(&relay, words, message);
        assert_eq!(output.code, code, "{words:?}: {output:?}");
        assert!(!output.stderr.trim().is_empty(), "{words:?}");
    }
    assert_eq!(relay.stats()["accepted"], 0);
}

#[test]
fn flags_with_file_names_create_no_file() {
    let relay = relay();
    let here = relay.folder().join("here");
    fs::create_dir(&here).expect("a folder");
    let mut command = relay.program("sendmail");
    command.current_dir(&here).args([
        "-X",
        "log",
        "-C",
        "evil.cf",
        "-oQqueue",
        "-OQueueDirectory=queue",
    ]);
    command.args(["-D", "debug", "-oAaliases", "a@four.test"]);
    run(&mut command, b"Subject: x\n\nx\n").ok();
    relay.sink.wait(1);
    assert_eq!(fs::read_dir(&here).expect("a folder").count(), 0);
    assert!(!Path::new("/tmp/evil.cf").exists());
}

#[test]
fn other_names_and_modes_work_as_documented() {
    let relay = relay();
    assert_eq!(run(&mut relay.program("newaliases"), b"").ok(), "");
    assert_eq!(sendmail(&relay, &["-bi"], "").ok(), "");
    assert!(run(&mut relay.program("mailq"), b"").ok().contains("empty"));
    let verified = sendmail(&relay, &["-bv", "ann@relay.test", "missing@relay.test"], "");
    assert_eq!(verified.code, 67);
    assert!(
        verified.stdout.contains("ann@relay.test... deliverable"),
        "{verified:?}"
    );
    assert!(
        verified
            .stdout
            .contains("missing@relay.test... undeliverable"),
        "{verified:?}"
    );

    sendmail(&relay, &["later@four.test"], "Subject: x\n\nx\n").ok();
    relay.wait_for_deferred(1);
    relay.sink.open();
    sendmail(&relay, &["-q"], "").ok();
    assert_eq!(relay.sink.wait(1)[0].to, ["later@four.test"]);
    assert!(
        relay.sink.message(1).text().contains("uid"),
        "{}",
        relay.sink.message(1).text()
    );
}

#[test]
fn a_local_program_over_its_limit_must_try_later_and_files_in_the_folder_wait() {
    let relay = Setup {
        tables: "[limits]\nmessages_per_uid_hour = 1\n".to_owned(),
        ..Setup::default()
    }
    .start();
    let words = ["-f", "ann@relay.test", "a@four.test"];
    // The tests run as root, or as the account of the relay.
    for _ in 0..10 {
        sendmail(&relay, &words, "Subject: x\n\nx\n").ok();
    }
    let output = sendmail(&relay, &words, "Subject: x\n\nx\n");
    assert_eq!(output.code, 75, "{output:?}");
    assert!(output.stderr.contains("451 4.7.1 "), "{output:?}");

    let drop = relay.spool().join("drop");
    let text = "chopar-drop 1\nMAIL FROM:<ann@relay.test>\nRCPT TO:<a@four.test>\n\nSubject: x\r\n\r\nx\r\n";
    fs::write(drop.join(".waits"), text).expect("a file");
    fs::rename(drop.join(".waits"), drop.join("waits.msg")).expect("a name");
    relay.cli(&["reload"]).ok();
    let line = relay.wait_for_log("event=drop-waits");
    assert!(line.contains("4.7.1"), "{line}");
    assert!(drop.join("waits.msg").exists());
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.wait(10).len(), 10);
}

#[test]
fn a_stopped_and_continued_call_still_gets_its_acknowledgement() {
    let relay = relay();
    let hook = relay.config().join("hooks/post-data");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    fs::write(&hook, "#!/bin/sh\nsleep 2\n").expect("a file");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    relay.cli(&["reload"]).ok();
    let mut command = relay.program("sendmail");
    command.args(["-f", "ann@relay.test", "a@four.test"]);
    let mut call = Guard::spawn(command.stdin(Stdio::piped()));
    let mut input = call.0.stdin.take().expect("an input");
    input
        .write_all(b"Subject: stopped\n\nx\n")
        .expect("a message");
    drop(input);
    let pid = Pid::from_child(&call.0);
    // The process sleeps in a read while the hook runs; each of these signals interrupts it there.
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(200));
        for signal in [Signal::STOP, Signal::CONT] {
            let _ = kill_process(pid, signal);
        }
    }
    assert_eq!(call.wait(PATIENCE), 0);
    assert_eq!(relay.sink.wait(1).len(), 1);
}
