//! `sendmail` as real programs call it, with the daemon there and without.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Guard, Output, PATIENCE, program, run, wait_for};
use crate::relay::{CHOPAR, Relay, Setup, login};
use crate::world::Arrived;

/// A relay whose administrator reads mail at home.test.
fn relay() -> Relay {
    let keys = "admin = \"admin@home.test\"\n".to_owned();
    Setup {
        keys,
        networks: "",
        ..Setup::default()
    }
    .start()
}

fn sendmail(relay: &Relay, words: &[&str], input: &str) -> Output {
    run(relay.program("sendmail").args(words), input.as_bytes())
}

/// A call, and what has to come of it.
struct Call {
    who: &'static str,
    words: &'static [&'static str],
    input: &'static str,
    from: &'static str,
    to: &'static [&'static str],
    has: &'static [&'static str],
}

/// `LOGIN` stands for who runs the tests.
const CALLS: &[Call] = &[
    Call {
        who: "Debian's cron",
        words: &["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"],
        input: "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@mail> backup\nMIME-Version: 1.0\n\
                Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n\
                готово\n.\nstill here\n",
        from: "LOGIN@relay.test",
        to: &["admin@home.test"],
        has: &[
            "From: Cron Daemon <root@relay.test>",
            "готово\r\n.\r\nstill here\r\n",
        ],
    },
    Call {
        who: "cronie",
        words: &[
            "-FCronDaemon",
            "-i",
            "-odi",
            "-oem",
            "-oi",
            "-t",
            "-f",
            "root",
        ],
        input: "From: \"(Cron Daemon)\" <root>\nTo: root\nSubject: Cron\n\nx\n",
        from: "root@relay.test",
        to: &["admin@home.test"],
        has: &["<root@relay.test>"],
    },
    Call {
        who: "vixie-cron",
        words: &["-FCronDaemon", "-odi", "-oem", "-t"],
        input: "To: root\nSubject: Cron\n\nx\n.\nnot this\n",
        from: "LOGIN@relay.test",
        to: &["admin@home.test"],
        has: &["From: CronDaemon <LOGIN@relay.test>", "\r\n\r\nx\r\n"],
    },
    Call {
        who: "PHP's mail()",
        words: &["-t", "-i"],
        input: "To: a@four.test\nSubject: php\nX-PHP-Originating-Script: 33:x.php\n\n.\nx\n",
        from: "LOGIN@relay.test",
        to: &["a@four.test"],
        has: &["From: ", "Message-ID: <", "Date: ", "\r\n\r\n.\r\nx\r\n"],
    },
    Call {
        who: "PHP's mail() with its fifth argument",
        words: &["-t", "-i", "-fbounces@relay.test"],
        input: "To: a@four.test\r\nCc: b@four.test\r\nBcc: c@four.test\r\nSubject: php\r\n\r\nx\r\n",
        from: "bounces@relay.test",
        to: &["a@four.test", "b@four.test", "c@four.test"],
        has: &["Cc: b@four.test"],
    },
    Call {
        who: "PHPMailer and WordPress",
        words: &["-oi", "-fwordpress@relay.test", "-t"],
        input: "Date: Tue, 24 Nov 2026 10:00:00 +0000\nTo: a@four.test\nFrom: WordPress <wordpress@relay.test>\n\
                Message-ID: <x@relay.test>\n\nx\n",
        from: "wordpress@relay.test",
        to: &["a@four.test"],
        has: &[
            "From: WordPress <wordpress@relay.test>",
            "Message-ID: <x@relay.test>",
        ],
    },
    Call {
        who: "mutt",
        words: &[
            "-oem",
            "-oi",
            "-f",
            "ann@relay.test",
            "--",
            "-odd@four.test",
            "b@four.test",
        ],
        input: "From: ann@relay.test\nTo: -odd@four.test\n\n.\nx\n",
        from: "ann@relay.test",
        to: &["-odd@four.test", "b@four.test"],
        has: &["\r\n\r\n.\r\nx\r\n"],
    },
    Call {
        who: "atd",
        words: &["root"],
        input: "Subject: Output from your job 1\nTo: root\n\nx\n",
        from: "LOGIN@relay.test",
        to: &["admin@home.test"],
        has: &["Subject: Output from your job 1"],
    },
    Call {
        who: "atrun",
        words: &["-F", "Atrun Service", "-odi", "-oem", "root"],
        input: "Subject: at\n\nx\n",
        from: "LOGIN@relay.test",
        to: &["admin@home.test"],
        has: &["From: Atrun Service <LOGIN@relay.test>"],
    },
    Call {
        who: "fail2ban",
        words: &["-f", "fail2ban", "dest@four.test"],
        input: "Subject: [Fail2Ban] sshd: banned 192.0.2.1\nFrom: Fail2Ban <fail2ban>\nTo: dest@four.test\n\nHi,\n",
        from: "fail2ban@relay.test",
        to: &["dest@four.test"],
        has: &["From: Fail2Ban <fail2ban@relay.test>"],
    },
    Call {
        who: "GNU mailutils",
        words: &["-oi", "-f", "user@mail.relay.test", "a@four.test"],
        input: "To: <a@four.test>\nSubject: mailutils\nUser-Agent: mail (GNU Mailutils 3.15)\nFrom: user <user@mail.relay.test>\n\nx\n",
        from: "user@mail.relay.test",
        to: &["a@four.test"],
        has: &["From: user <user@mail.relay.test>"],
    },
    Call {
        who: "git send-email",
        words: &["-i", "a@four.test", "b@four.test"],
        input: "From: Ann <ann@relay.test>\nTo: a@four.test\nCc: b@four.test\nSubject: [PATCH] x\n\n---\n.\n",
        from: "LOGIN@relay.test",
        to: &["a@four.test", "b@four.test"],
        has: &["\r\n\r\n---\r\n.\r\n"],
    },
    Call {
        who: "logwatch, sudo and mdadm",
        words: &["-t"],
        input: "To: root\nFrom: logwatch@relay.test\nSubject: Logwatch\n\nx\n",
        from: "LOGIN@relay.test",
        to: &["admin@home.test"],
        has: &["From: logwatch@relay.test"],
    },
    Call {
        who: "fail2ban as Debian has it",
        words: &["-f", "Fail2Ban <root@localhost>", "root@localhost"],
        input: "Subject: [Fail2Ban] sshd: started\nFrom: Fail2Ban <root@localhost>\nTo: root@localhost\n\nHi,\n",
        from: "root@relay.test",
        to: &["admin@home.test"],
        has: &["From: Fail2Ban <root@relay.test>", "To: root@relay.test"],
    },
    Call {
        who: "a program that knows itself by address",
        words: &["-f", "daemon@mail.relay.test", "daemon@[127.0.0.1]"],
        input: "Subject: x\nFrom: daemon@relay.test\n\nx\n",
        from: "daemon@mail.relay.test",
        to: &["admin@home.test"],
        has: &["Subject: x"],
    },
    Call {
        who: "a program whose sender has a name",
        words: &["-f", "App <app@relay.test>", "a@four.test."],
        input: "Subject: x\nFrom: app@relay.test\n\nx\n",
        from: "app@relay.test",
        to: &["a@four.test"],
        has: &["Subject: x"],
    },
    Call {
        who: "a program with the line ends of the ARPANET",
        words: &["-ba", "a@four.test"],
        input: "Subject: x\r\n\r\nx\r\n",
        from: "LOGIN@relay.test",
        to: &["a@four.test"],
        has: &["\r\n\r\nx\r\n"],
    },
    Call {
        who: "a delivery agent with lines of mbox",
        words: &["-i", "a@four.test"],
        input: "From ann Thu Jan  1 00:00:00 1970\n>From bob Thu Jan  1 00:00:00 1970\nSubject: mbox\n\nx\n",
        from: "LOGIN@relay.test",
        to: &["a@four.test"],
        has: &["Subject: mbox\r\n", "\r\n\r\nx\r\n"],
    },
    Call {
        who: "somebody who knows Outlook",
        words: &["-t"],
        input: "To: a@four.test; \"B; b\" <b@four.test>;\nSubject: x\n\nx\n",
        from: "LOGIN@relay.test",
        to: &["a@four.test", "b@four.test"],
        has: &["Subject: x"],
    },
    Call {
        who: "a vacation program",
        words: &["-f", "<>", "a@four.test"],
        input: "From: ann@relay.test\nTo: a@four.test\n\naway\n",
        from: "",
        to: &["a@four.test"],
        has: &["away"],
    },
    Call {
        who: "a program with everything",
        words: &[
            "-om",
            "-os",
            "-odb",
            "-n",
            "-m",
            "-U",
            "-G",
            "-v",
            "-h",
            "5",
            "-L",
            "tag",
            "-N",
            "never",
            "-R",
            "hdrs",
            "-V",
            "id",
            "a@four.test",
        ],
        input: "Resent-To: z@four.test\nFrom: ann@relay.test\n\nx\n",
        from: "LOGIN@relay.test",
        to: &["a@four.test"],
        has: &["Resent-To: z@four.test"],
    },
    Call {
        who: "a program that resends",
        words: &["-t"],
        input: "Resent-To: z@four.test\nResent-Bcc: y@four.test\nTo: nobody@four.test\nFrom: ann@relay.test\n\nx\n",
        from: "LOGIN@relay.test",
        to: &["z@four.test", "y@four.test"],
        has: &["Resent-To: z@four.test", "To: nobody@four.test"],
    },
];

#[test]
fn every_caller_gets_its_mail_through_with_the_right_envelope() {
    let relay = relay();
    let login = login();
    for (call, number) in CALLS.iter().zip(1..) {
        let output = sendmail(&relay, call.words, call.input);
        assert_eq!(output.code, 0, "{}: {}", call.who, output.stderr);
        let arrived = relay.sink.wait(number).pop().expect("a message");
        let from = arrived.from.trim_matches(['<', '>']);
        assert_eq!(from, call.from.replace("LOGIN", &login), "{}", call.who);
        let to: BTreeSet<&str> = arrived.to.iter().map(String::as_str).collect();
        assert_eq!(to, call.to.iter().copied().collect(), "{}", call.who);
        let text = arrived.text();
        for part in call.has {
            assert!(
                text.contains(&part.replace("LOGIN", &login)),
                "{}: no {part:?} in\n{text}",
                call.who
            );
        }
        assert!(
            !text.to_lowercase().contains("bcc:"),
            "{}: {text}",
            call.who
        );
        for name in ["From:", "Date:", "Message-ID:"] {
            let count = text
                .lines()
                .take_while(|line| !line.is_empty())
                .filter(|line| line.starts_with(name))
                .count();
            assert_eq!(count, 1, "{}: {name} in\n{text}", call.who);
        }
    }
}

#[test]
fn the_names_of_this_machine_are_its_own_to_local_programs_by_pipe_and_by_smtp() {
    let relay = Setup {
        keys: "admin = \"admin@home.test\"\n".to_owned(),
        ..Setup::default()
    }
    .start();
    let mut number = 0;
    // Every system has an account daemon; ann has an alias.
    for (name, owner) in [
        ("root", "admin@home.test"),
        ("daemon", "admin@home.test"),
        ("ann", "ann@home.test"),
    ] {
        for host in [
            "localhost",
            "LocalHost.localdomain",
            "mail.relay.test",
            "[127.0.0.1]",
            "[IPv6:::1]",
        ] {
            let to = format!("{name}@{host}");
            sendmail(&relay, &["-f", "x@relay.test", &to], "Subject: x\n\nx\n").ok();
            let text = b"From: x@relay.test\r\nSubject: x\r\n\r\nx\r\n";
            let mut client = relay.client();
            let reply = client.transaction("x@relay.test", &[&to], text);
            assert_eq!(reply.code, 250, "{to}: {}", reply.text);
            number += 2;
            for arrived in relay.sink.wait(number).drain(number - 2..) {
                assert_eq!(arrived.to, [owner], "{to}");
            }
        }
    }
    let output = sendmail(&relay, &["nobody-here@localhost"], "Subject: x\n\nx\n");
    assert_eq!(output.code, 67, "{output:?}");
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<x@relay.test>").code, 250);
    assert_eq!(client.say("RCPT TO:<nobody-here@localhost>").code, 550);
}

/// Runs `sendmail` on a terminal, writes these lines to it one by one, and gives how it ended; `None` where it waits for
/// more.
fn on_a_terminal(relay: &Relay, words: &[&str], lines: &str) -> Option<i32> {
    let script = "import os, pty, select, sys, time\n\
        pid, terminal = pty.fork()\n\
        if pid == 0: os.execv(sys.argv[1], sys.argv[1:])\n\
        for line in sys.stdin:\n    os.write(terminal, line.encode()); time.sleep(0.05)\n\
        end = time.time() + 3\n\
        while time.time() < end:\n\
        \x20   select.select([terminal], [], [], 0.05)[0] and time.sleep(0.05)\n\
        \x20   done, status = os.waitpid(pid, os.WNOHANG)\n\
        \x20   if done: print(os.waitstatus_to_exitcode(status)); sys.exit()\n\
        print('waits'); os.kill(pid, 9)\n";
    let mut command = Command::new(program("python3"));
    command.args(["-c", script]);
    command.arg(relay.folder().join("bin/sendmail")).args(words);
    command.env("CHOPAR_CONFIG", relay.config());
    run(&mut command, lines.as_bytes()).ok().trim().parse().ok()
}

#[test]
fn a_lone_dot_ends_a_message_on_a_terminal_unless_it_may_not() {
    let relay = relay();
    let lines = "Subject: typed\n\nhello\n.\n";
    assert_eq!(on_a_terminal(&relay, &["a@four.test"], lines), Some(0));
    let arrived = relay.sink.wait(1).remove(0).text();
    assert!(arrived.ends_with("\r\n\r\nhello\r\n"), "{arrived}");
    assert_eq!(on_a_terminal(&relay, &["-i", "a@four.test"], lines), None);
    // Control-D does in any case.
    let more = lines.to_owned() + "\u{4}";
    assert_eq!(
        on_a_terminal(&relay, &["-i", "a@four.test"], &more),
        Some(0)
    );
    let arrived = relay.sink.wait(2).remove(1).text();
    assert!(arrived.ends_with("\r\n\r\nhello\r\n.\r\n"), "{arrived}");
}

#[test]
fn laravel_and_swift_speak_smtp_through_the_pipe() {
    let relay = relay();
    let dialogue = "EHLO [127.0.0.1]\nMAIL FROM:<app@relay.test>\nRCPT TO:<a@four.test>\nDATA\n\
                    From: app@relay.test\nTo: a@four.test\nSubject: x\n\n..\nx\n.\nQUIT\n";
    for (words, number) in [(&["-bs"][..], 1), (&["-bs", "-i"], 2)] {
        for text in [dialogue.to_owned(), dialogue.replace('\n', "\r\n")] {
            let said = sendmail(&relay, words, &text).ok();
            let codes: Vec<&str> = said
                .lines()
                .filter(|line| line.get(3..4) != Some("-"))
                .filter_map(|line| line.get(..3))
                .collect();
            assert_eq!(
                codes,
                ["220", "250", "250", "250", "354", "250", "221"],
                "{said}"
            );
        }
        let arrived = relay.sink.wait(2 * number).pop().expect("a message");
        assert_eq!(arrived.from, "app@relay.test");
        assert!(
            arrived.text().ends_with("\r\n\r\n.\r\nx\r\n"),
            "{}",
            arrived.text()
        );
    }
}

#[test]
fn what_is_left_while_the_daemon_is_down_goes_out_when_it_is_back() {
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
    // What else lies there is no message, whatever it is.
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
fn exit_0_while_the_daemon_is_down_is_kept_for_each_recipient() {
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
    // The hook refuses a DSN that shows what it has refused, too.
    assert!(dsns[1].contains("no virus here") && !dsns[1].contains("Subject: virus"));
    // Nobody sent it; the administrator is told.
    let told = to("admin@home.test");
    assert!(
        told.len() == 1 && told[0].contains("Subject: null"),
        "{told:?}"
    );
    assert_nothing_left(&relay);
}

/// The parts of a message that a DSN is about, as these words of it.
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
fn what_the_relay_refuses_of_what_was_left_while_it_was_down_is_returned() {
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
    // What was in order when it was taken is too long by the time the relay is back.
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
fn a_file_that_is_not_a_message_is_set_aside_whole_and_the_administrator_is_told() {
    let relay = relay();
    let leave = |name: &str| {
        let folder = relay.spool().join("drop");
        fs::write(folder.join(format!(".{name}")), "no message\n").expect("a file");
        fs::rename(folder.join(format!(".{name}")), folder.join(name)).expect("a file");
        // It looks at once, and a second time after it has set something aside.
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
    // Whoever leaves more of them causes one message an hour.
    leave("second.msg");
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 1);
}

#[test]
fn whom_a_local_program_names_as_author_is_its_own_affair_with_the_daemon_up_and_down() {
    let mut relay = relay();
    // There is no login whose addresses these could be: a From of anybody, of nobody, and two of them.
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
fn a_hook_that_takes_long_over_one_message_holds_up_no_other_that_was_left() {
    let mut relay = relay();
    let hook = relay.config().join("hooks/post-data");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    // It lets the slow one go once the others have come through.
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
fn what_a_hook_defers_of_what_was_left_waits_and_is_delivered() {
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
    // Every system has these: nobody may forward from outside by them, a DSN has one way.
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

/// Memory that a process had at most so far, in KiB.
fn memory_peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[test]
fn two_gigabytes_end_at_the_limit_and_never_in_memory() {
    let keys = "max_message_size = \"1 MiB\"\n".to_owned();
    let mut relay = Setup {
        keys,
        ..Setup::default()
    }
    .start();
    let nowhere = relay.folder().join("nowhere");
    // What chopar.toml says, and what no command exceeds where there is neither that nor a daemon.
    for (config, limit) in [(relay.config(), 1 << 20), (nowhere, 256 << 20)] {
        let mut command = relay.program("sendmail");
        command
            .arg("a@four.test")
            .env("CHOPAR_CONFIG", config)
            .env("TMPDIR", relay.folder())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut guard = Guard::spawn(&mut command);
        let mut stdin = guard.0.stdin.take().expect("a pipe");
        let piece = b"all work and no play\n".repeat(50_000);
        let (mut written, mut peak) = (0, 0);
        while written < 2 << 30 && stdin.write_all(&piece).is_ok() {
            written += piece.len();
            peak = memory_peak(guard.0.id()).unwrap_or(0).max(peak);
        }
        let code = guard.wait(PATIENCE);
        let mut said = String::new();
        let mut stderr = guard.0.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut said).expect("text");
        assert_eq!(code, 65, "{said}");
        assert!(
            said.contains(&format!("{limit} bytes is the limit")),
            "{said}"
        );
        assert!(written < limit + (3 << 20), "{written} bytes were taken");
        assert!(peak < 16 << 10, "{peak} KiB in memory");
        println!("limit {limit}: {written} bytes taken, {peak} KiB in memory");
    }
    assert_eq!(
        fs::read_dir(relay.spool().join("drop"))
            .expect("a folder")
            .count(),
        0
    );
    assert!(relay.is_alive());
}

#[test]
fn a_message_that_is_longer_than_memory_arrives_whole() {
    let relay = relay();
    let mut text = String::from("To: a@four.test\nSubject: long\n\n");
    for number in 0..200_000 {
        text.push_str(&format!("line {number}\n"));
    }
    sendmail(&relay, &["-t", "-i"], &text).ok();
    let arrived = relay.sink.wait(1).remove(0).text();
    let (_, body) = text.split_once("\n\n").expect("a body");
    assert!(arrived.ends_with(&body.replace('\n', "\r\n")));
}

#[test]
fn eight_thousand_recipients_are_several_messages() {
    let mut relay = relay();
    let recipients: BTreeSet<String> = (0..8_000).map(|at| format!("r{at}@four.test")).collect();
    let list: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let message = format!("To: {}\nSubject: many\n\nx\n", list.join(",\n "));
    let arrived = |relay: &Relay, from: usize| {
        let mut all = BTreeSet::new();
        let mut count = from;
        while all.len() < recipients.len() {
            count += 1;
            let to = relay.sink.wait(count).remove(count - 1).to;
            for to in to {
                assert!(all.insert(to.clone()), "{to} twice");
            }
        }
        assert_eq!(all, recipients);
        count
    };
    sendmail(&relay, &["-t", "-f", "ann@relay.test"], &message).ok();
    let count = arrived(&relay, 0);
    relay.wait_for_empty_queue(PATIENCE);
    relay.stop();
    sendmail(&relay, &["-t", "-f", "ann@relay.test"], &message).ok();
    let drop = relay.spool().join("drop");
    assert_eq!(fs::read_dir(&drop).expect("a folder").count(), 8);
    relay.run();
    arrived(&relay, count);
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(fs::read_dir(&drop).expect("a folder").count(), 0);
}

/// `sendmail` as an account without rights; as whoever runs the tests, where that is not root.
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
    // The binary may lie where others cannot go.
    let binary = relay.folder().join("bin/chopar");
    if !binary.exists() {
        // By another process: a test beside this one that starts a program would hold a file open that is written here.
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
fn a_caller_who_cannot_read_the_configuration_writes_in_the_right_name_or_not_at_all() {
    if !rustix::process::geteuid().is_root() {
        return; // whoever runs the relay can read it
    }
    let mut relay = relay();
    let words = ["-i", "root", "a@four.test"];
    set_mode(&relay.config().join("domains"), 0o700);
    run(&mut as_nobody(&relay, &words).0, b"Subject: up\n\nx\n").ok();
    relay.stop();
    run(&mut as_nobody(&relay, &words).0, b"Subject: down\n\nx\n").ok();
    relay.run();
    // Each goes to two hosts.
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
    // Of this file nothing is known but its name: it is no relay of the usual place.
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

/// Waits until so many messages are queued and it is known when they are tried again.
fn wait_for_next_attempt(relay: &Relay, count: usize) {
    wait_for("a plan for the next attempt", PATIENCE, || {
        let list = relay.list();
        let planned = list
            .iter()
            .filter(|message| message["recipients"][0]["next"].is_u64());
        (planned.count() == count).then_some(())
    });
}

#[test]
fn a_user_sees_the_messages_that_the_user_has_submitted_and_no_others() {
    if !rustix::process::geteuid().is_root() {
        return; // there is one user only
    }
    let relay = relay();
    let send = |command: &mut Command, subject: &str| {
        run(command, format!("Subject: {subject}\n\nx\n").as_bytes()).ok();
    };
    send(&mut as_nobody(&relay, &["own@dead.test"]).0, "own");
    // Not even who names another user as the sender.
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
    // What is somebody else's looks as what is not there.
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
    // Whoever removes it is named.
    relay.cli(&["queue", "remove", &own]).ok();
    relay.wait_for_log(&format!("event=removed id={own} by=uid=0"));
    assert!(!relay.log().contains(&format!("event=done id={own}")));
    assert!(as_user(&["sendmail", "-bp"]).ok().contains("empty"));
}

#[test]
fn what_people_read_is_utf8_where_their_locale_is() {
    let relay = relay();
    let words = ["-f", "jörg@relay.test", "b@dead.test"];
    sendmail(&relay, &words, "Subject: x\n\nit's für\n").ok();
    wait_for_next_attempt(&relay, 1);
    for (locale, shown) in [
        ("C.UTF-8", "<jörg@relay.test>"),
        ("C", "<j\\xc3\\xb6rg@relay.test>"),
    ] {
        let text = run(relay.program("mailq").env("LC_ALL", locale), b"").ok();
        assert!(text.contains(shown), "{locale}: {text}");
        let output = run(
            relay
                .program("sendmail")
                .args(["-f", "jörg <", "b@dead.test"])
                .env("LC_ALL", locale),
            b"",
        );
        assert_eq!(output.code, 65, "{output:?}");
        assert_eq!(output.stderr.is_ascii(), locale == "C", "{output:?}");
    }
}

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
fn a_message_that_can_be_left_nowhere_is_tried_again_later() {
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
fn what_cannot_be_meant_is_refused_with_the_code_of_sysexits() {
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
fn flags_that_name_files_make_none() {
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
fn the_other_names_and_modes_do_what_they_say() {
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
fn a_local_program_over_its_limit_is_told_to_try_later_and_what_is_left_in_the_folder_waits() {
    let relay = Setup {
        tables: "[limits]\nmessages_per_uid_hour = 1\n".to_owned(),
        ..Setup::default()
    }
    .start();
    let words = ["-f", "ann@relay.test", "a@four.test"];
    // Who runs the tests is root, or the account that the relay runs as.
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
fn a_call_that_is_stopped_and_goes_on_hears_that_its_message_is_queued() {
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
    // It sleeps in its read as long as the hook takes; each of these interrupts it there.
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(200));
        for signal in [Signal::STOP, Signal::CONT] {
            let _ = kill_process(pid, signal);
        }
    }
    assert_eq!(call.wait(PATIENCE), 0);
    assert_eq!(relay.sink.wait(1).len(), 1);
}
