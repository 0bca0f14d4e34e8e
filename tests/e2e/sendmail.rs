//! `sendmail` as real programs call it, with the daemon running and without.

mod accounts;
mod left;
mod usage;

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

/// Waits until this many messages are queued and their next attempts are known.
fn wait_for_next_attempt(relay: &Relay, count: usize) {
    wait_for("a plan for the next attempt", PATIENCE, || {
        let list = relay.list();
        let planned = list
            .iter()
            .filter(|message| message["recipients"][0]["next"].is_u64());
        (planned.count() == count).then_some(())
    });
}

/// A call of `sendmail`, and its expected result.
struct Call {
    who: &'static str,
    words: &'static [&'static str],
    input: &'static str,
    from: &'static str,
    to: &'static [&'static str],
    has: &'static [&'static str],
}

/// `LOGIN` stands for the account that runs the tests.
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
fn mail_of_every_caller_is_delivered_with_the_right_envelope() {
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
fn host_names_of_the_machine_are_local_for_programs_by_pipe_and_by_smtp() {
    let relay = Setup {
        keys: "admin = \"admin@home.test\"\n".to_owned(),
        ..Setup::default()
    }
    .start();
    let mut number = 0;
    // Every system has a `daemon` account; ann has an alias.
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

/// Runs `sendmail` on a terminal and types these lines one by one; returns its exit code, or `None` if it waits for
/// more input.
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
fn a_lone_dot_ends_a_message_on_a_terminal_unless_a_flag_forbids_it() {
    let relay = relay();
    let lines = "Subject: typed\n\nhello\n.\n";
    assert_eq!(on_a_terminal(&relay, &["a@four.test"], lines), Some(0));
    let arrived = relay.sink.wait(1).remove(0).text();
    assert!(arrived.ends_with("\r\n\r\nhello\r\n"), "{arrived}");
    assert_eq!(on_a_terminal(&relay, &["-i", "a@four.test"], lines), None);
    // Control-D always ends the message.
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

/// Peak memory of a process so far, in KiB.
fn memory_peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[test]
fn two_gigabytes_stop_at_the_limit_and_are_never_held_in_memory() {
    let keys = "max_message_size = \"1 MiB\"\n".to_owned();
    let mut relay = Setup {
        keys,
        ..Setup::default()
    }
    .start();
    let nowhere = relay.folder().join("nowhere");
    // The limit of chopar.toml, and the limit of a command without chopar.toml and daemon.
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
fn a_message_larger_than_the_memory_limit_arrives_whole() {
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
fn eight_thousand_recipients_are_split_into_several_messages() {
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

#[test]
fn output_is_utf8_in_a_utf8_locale() {
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
