//! Messages in the drop folder: left while the daemon is down, examined by a hook, and returned.

use super::*;

#[test]
fn messages_left_while_the_daemon_is_down_are_sent_when_it_is_back() {
    let mut relay = relay();
    relay.stop();
    let message =
        "From: ann@relay.test\nTo: a@four.test\nBcc: b@four.test\nSubject: dropped\n\n.\nx\n";
    for _ in 0..3 {
        sendmail(&relay, &["-t", "-i", "-f", "ann@relay.test"], message).ok();
    }
    let drop = relay.spool().join("drop");
    assert_eq!(
        fs::metadata(&drop).expect("a folder").permissions().mode() & 0o7777,
        0o1733
    );
    assert_eq!(fs::read_dir(&drop).expect("a folder").count(), 3);
    let listed = relay.cli(&["queue", "list"]);
    assert_eq!(listed.code, 69, "{listed:?}");
    assert!(
        listed.stderr.contains("3 messages wait for it in"),
        "{listed:?}"
    );
    assert_eq!(listed.stdout.matches("<ann@relay.test>").count(), 3);
    assert_eq!(listed.stdout.matches("waiting <b@four.test>").count(), 3);
    // Other files in the folder are not messages.
    fs::write(drop.join("garbage.msg"), "no message\n").expect("a file");
    std::os::unix::fs::symlink("/etc/passwd", drop.join("link.msg")).expect("a link");
    fs::create_dir(drop.join("folder.msg")).expect("a folder");
    relay.run();
    for arrived in relay.sink.wait(3) {
        assert_eq!(arrived.from, "ann@relay.test");
        assert_eq!(arrived.to.len(), 2);
        assert!(
            arrived
                .text()
                .ends_with("Subject: dropped\r\n\r\n.\r\nx\r\n"),
            "{}",
            arrived.text()
        );
    }
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 3);
    assert!(relay.is_alive());
}

#[test]
fn exit_0_while_the_daemon_is_down_means_delivery_for_each_recipient() {
    let mut relay = relay();
    let hook = relay.config().join("hooks/post-data");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    let script =
        "#!/bin/sh\nif grep -q '^Subject: virus'; then echo 'no virus here'; exit 20; fi\n";
    fs::write(&hook, script).expect("a file");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    relay.stop();
    let ann = ["-f", "ann@relay.test"];
    for (words, input) in [
        (
            &["good@four.test", "missing@relay.test"][..],
            "Subject: one\n\nx\n",
        ),
        (&["c@four.test"], "Subject: virus\n\nx\n"),
    ] {
        sendmail(&relay, &[&ann[..], words].concat(), input).ok();
    }
    sendmail(
        &relay,
        &["-f", "<>", "missing@relay.test"],
        "Subject: null\n\nx\n",
    )
    .ok();
    relay.run();
    let arrived = relay.sink.wait(4);
    let to = |to: &str| {
        let found = arrived
            .iter()
            .filter(|message| message.to.contains(&to.to_owned()));
        found.map(|message| message.text()).collect::<Vec<_>>()
    };
    assert_eq!(to("good@four.test").len(), 1);
    assert!(to("good@four.test")[0].contains("Subject: one"));
    let mut dsns = to("ann@home.test");
    dsns.sort_by_key(|text| text.contains("no virus here"));
    assert_eq!(dsns.len(), 2, "{dsns:?}");
    for (dsn, final_recipient) in dsns.iter().zip(["missing@relay.test", "c@four.test"]) {
        let field = format!("Final-Recipient: rfc822; {final_recipient}\r\n");
        assert!(
            dsn.contains(&field) && dsn.contains("Action: failed"),
            "{dsn}"
        );
    }
    // The hook also refuses a DSN that contains the refused text.
    assert!(dsns[1].contains("no virus here") && !dsns[1].contains("Subject: virus"));
    // It has no sender, so the administrator is informed.
    let told = to("admin@home.test");
    assert!(
        told.len() == 1 && told[0].contains("Subject: null"),
        "{told:?}"
    );
    assert_nothing_left(&relay);
}

/// The parts of the DSN about a recipient, as one line of words.
fn dsn_about(arrived: &[Arrived], recipient: &str) -> String {
    let field = format!("Final-Recipient: rfc822; {recipient}\r\n");
    let mut found = arrived.iter().filter(|one| one.text().contains(&field));
    let dsn = found
        .next()
        .unwrap_or_else(|| panic!("no DSN about {recipient}"));
    assert!(found.next().is_none(), "two DSNs about {recipient}");
    assert!(dsn.text().contains("Action: failed"), "{}", dsn.text());
    dsn.text()
}

fn assert_nothing_left(relay: &Relay) {
    for folder in ["drop", "damaged"] {
        wait_for(&format!("an empty {folder}"), PATIENCE, || {
            let left = fs::read_dir(relay.spool().join(folder)).expect("a folder");
            (left.count() == 0).then_some(())
        });
    }
}

#[test]
fn messages_left_while_the_daemon_was_down_are_returned_if_refused() {
    let mut relay = relay();
    relay.stop();
    let ann = |to: &'static str| ["-i", "-f", "ann@relay.test", to];
    let line = format!("{}\n", "y".repeat(70));
    let long = format!("Subject: long\n\n{}", line.repeat(1_000));
    let looping = "Received: from a by b; Tue, 24 Nov 2026 10:00:00 +0000\n".repeat(101);
    for (to, input) in [
        ("long@four.test", long.as_str()),
        ("loop@four.test", &format!("{looping}Subject: loop\n\nx\n")),
        ("good@four.test", "Subject: good\n\nx\n"),
    ] {
        sendmail(&relay, &ann(to), input).ok();
    }
    // Within the limit when it was left, too large when the relay is back.
    relay.setup.keys.push_str("max_message_size = \"64 KiB\"\n");
    relay.write_config();
    relay.run();
    let arrived = relay.sink.wait(3);
    let good = arrived.iter().filter(|one| one.to == ["good@four.test"]);
    assert_eq!(good.count(), 1);
    let dsn = dsn_about(&arrived, "long@four.test");
    assert!(
        dsn.contains("Status: 5.3.4") && dsn.contains("Subject: long"),
        "{dsn}"
    );
    let dsn = dsn_about(&arrived, "loop@four.test");
    assert!(dsn.contains("Status: 5.4.6"), "{dsn}");
    for dsn in arrived
        .iter()
        .filter(|one| one.text().contains("Action: failed"))
    {
        assert_eq!(dsn.to, ["ann@home.test"]);
    }
    assert_nothing_left(&relay);
}

#[test]
fn a_file_that_is_not_a_message_is_set_aside_whole_and_reported_to_the_administrator() {
    let relay = relay();
    let leave = |name: &str| {
        let folder = relay.spool().join("drop");
        fs::write(folder.join(format!(".{name}")), "no message\n").expect("a file");
        fs::rename(folder.join(format!(".{name}")), folder.join(name)).expect("a file");
        // The relay visits the folder at once, and again after it has set a file aside.
        relay.cli(&["reload"]).ok();
        relay.wait_for_log(&format!("event=drop-refused file={name}"));
        relay.cli(&["reload"]).ok();
    };
    leave("first.msg");
    let told = relay.sink.wait(1).remove(0);
    assert_eq!(told.to, ["admin@home.test"]);
    assert!(
        told.text().contains("\r\n  first.msg: no first line"),
        "{}",
        told.text()
    );
    let aside = relay.spool().join("damaged/first.msg");
    assert_eq!(fs::read_to_string(aside).expect("a file"), "no message\n");
    // More such files cause one message an hour.
    leave("second.msg");
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 1);
}

#[test]
fn a_local_program_may_use_any_author_with_the_daemon_up_and_down() {
    let mut relay = relay();
    // Without a login there are no permitted addresses: any From is valid, including a null one and two addresses.
    const AUTHORS: [&str; 3] = [
        "From: boss@far.test\n",
        "From: nonsense <\n",
        "From: a@far.test\nFrom: b@far.test\n",
    ];
    for (at, author) in AUTHORS.iter().enumerate() {
        let input = format!("{author}Subject: author\n\nx\n");
        let words = ["-f", "ann@relay.test", "a@four.test"];
        let code = sendmail(&relay, &words, &input).code;
        relay.stop();
        assert_eq!(sendmail(&relay, &words, &input).code, code, "{author}");
        relay.run();
        assert_eq!(code, 0, "{author}");
        assert_eq!(relay.sink.wait(2 * at + 2).len(), 2 * at + 2, "{author}");
    }
    assert_nothing_left(&relay);
}

#[test]
fn a_slow_hook_for_one_left_message_delays_no_other() {
    let mut relay = relay();
    let hook = relay.config().join("hooks/post-data");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    // The hook finishes the slow message after the others have been delivered.
    let gate = relay.folder().join("gate");
    let script = format!(
        "#!/bin/sh\ngrep -q '^Subject: slow' || exit 0\n\
         n=0; while [ ! -e {} ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done\nexit 0\n",
        gate.display()
    );
    fs::write(&hook, script).expect("a file");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    relay.stop();
    let words = ["-f", "ann@relay.test", "a@four.test"];
    for subject in ["slow", "one", "two", "three"] {
        sendmail(&relay, &words, &format!("Subject: {subject}\n\nx\n")).ok();
    }
    relay.run();
    let first = relay.sink.wait(3);
    assert!(
        first
            .iter()
            .all(|one| !one.text().contains("Subject: slow")),
        "{first:?}"
    );
    fs::write(&gate, "").expect("a file");
    let all = relay.sink.wait(4);
    assert!(all.iter().any(|one| one.text().contains("Subject: slow")));
    assert_nothing_left(&relay);
}

#[test]
fn a_left_message_that_a_hook_defers_waits_and_is_delivered() {
    let mut relay = relay();
    let hook = relay.config().join("hooks/post-data");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    let gate = relay.folder().join("gate");
    let script = format!("#!/bin/sh\n[ -e {} ] || exit 75\nexit 0\n", gate.display());
    fs::write(&hook, script).expect("a file");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    relay.stop();
    let words = ["-f", "ann@relay.test", "a@four.test"];
    sendmail(&relay, &words, "Subject: later\n\nx\n").ok();
    relay.run();
    relay.wait_for_log("event=drop-waits");
    fs::write(&gate, "").expect("a file");
    assert_eq!(relay.sink.wait(1)[0].to, ["a@four.test"]);
    assert_nothing_left(&relay);
}

#[test]
fn a_dsn_of_another_host_to_an_account_without_an_alias_reaches_the_administrator() {
    let relay = relay();
    let far = |from: &str, to: &str| {
        let mut client = relay.client();
        assert_eq!(client.say(&format!("MAIL FROM:<{from}>")).code, 250);
        let reply = client.say(&format!("RCPT TO:<{to}>"));
        if reply.code != 250 {
            return reply.code;
        }
        assert_eq!(client.say("DATA").code, 354);
        let text = "From: MAILER-DAEMON@far.test\r\nTo: www-data@relay.test\r\nSubject: failed\r\n\
                    Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@far.test>\r\n\r\nx\r\n";
        client.body(text.as_bytes()).code
    };
    // Every system has these accounts: no unauthenticated client may be forwarded through them, but a DSN may.
    assert_eq!(far("", "daemon@relay.test"), 250);
    let dsn = relay.sink.wait(1).remove(0);
    assert_eq!(dsn.to, ["admin@home.test"]);
    assert!(dsn.text().contains("Subject: failed"), "{}", dsn.text());
    assert_eq!(far("x@far.test", "daemon@relay.test"), 550);
    assert_eq!(far("", "no-such-account@relay.test"), 550);
    assert_eq!(far("", "daemon@far.test"), 550);
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 1);
}

#[test]
fn a_dsn_to_an_account_without_an_alias_reaches_the_administrator() {
    let relay = relay();
    for (from, number) in [("www-data@relay.test", 1), ("www-data@mail.relay.test", 2)] {
        let words = ["-f", from, "x@nullmx.test"];
        sendmail(&relay, &words, "Subject: app\n\nx\n").ok();
        let dsn = relay.sink.wait(number).pop().expect("a message");
        assert_eq!(dsn.to, ["admin@home.test"], "{from}");
        assert!(
            dsn.text().contains(&format!("To: <{from}>")),
            "{}",
            dsn.text()
        );
    }
    relay.wait_for_empty_queue(PATIENCE);
    assert!(!relay.log().contains("dsn-dropped"));
}
