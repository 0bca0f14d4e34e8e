//! Every listener for submission, used by real mail programs; and routes to the next hop.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chopar::engine::log::{Level, Line};

use crate::client::Client;
use crate::process::{PATIENCE, program, python, run};
use crate::relay::{PASSWORD, Relay, Setup};
use crate::world::{Arrived, Manners, Sink};

const MESSAGE: &str = "From: Ann <ann@relay.test>\nTo: bob@four.test\nSubject: hello\n\
                       Date: Tue, 24 Nov 2026 14:00:00 +0000\nMessage-ID: <1@relay.test>\n\nHello\n.\nBob\n";

/// The message as it must arrive.
fn wire() -> String {
    MESSAGE.replace('\n', "\r\n")
}

#[track_caller]
fn check(arrived: &Arrived) {
    assert_eq!(
        (arrived.from.as_str(), arrived.to.as_slice()),
        ("ann@relay.test", &["bob@four.test".to_owned()][..])
    );
    assert_eq!(arrived.helo, "mail.relay.test");
    let added = arrived.added_to(wire().as_bytes());
    assert!(
        added.contains("Received:") && added.contains("with ESMTPSA"),
        "{added}"
    );
    // The address of a user stays private.
    assert!(
        !added.contains("127.0.0.1") && !added.contains("client.test"),
        "{added}"
    );
}

#[test]
fn swaks_submits_by_starttls_and_by_tls_with_plain_and_login() {
    let relay = Setup::unauthenticated_clients().start();
    let file = relay.folder().join("message");
    // swaks appends a line end to its input.
    fs::write(&file, MESSAGE.trim_end()).expect("a file");
    let mut count = 0;
    for (port, tls) in [
        (relay.submission(), "--tls"),
        (relay.submissions(), "--tls-on-connect"),
    ] {
        for mechanism in ["PLAIN", "LOGIN"] {
            let mut swaks = Command::new(program("swaks"));
            swaks.args([
                "--server",
                &format!("127.0.0.1:{port}"),
                tls,
                "--auth",
                mechanism,
            ]);
            swaks.args([
                "--auth-user",
                "ann@relay.test",
                "--auth-password",
                PASSWORD,
                "--helo",
                "client.test",
            ]);
            swaks
                .args([
                    "--from",
                    "ann@relay.test",
                    "--to",
                    "bob@four.test",
                    "--data",
                ])
                .arg(format!("@{}", file.display()));
            let output = run(&mut swaks, b"");
            assert_eq!(
                output.code, 0,
                "{tls} {mechanism}: {}{}",
                output.stdout, output.stderr
            );
            count += 1;
            let text = relay.sink.wait(count).pop().expect("a message");
            check(&text);
        }
    }
}

#[test]
fn msmtp_submits_with_plain_login_and_scram() {
    let relay = Setup::unauthenticated_clients().start();
    let mut count = 0;
    for (port, starttls) in [(relay.submission(), "on"), (relay.submissions(), "off")] {
        for mechanism in ["plain", "login", "scram-sha-256"] {
            let mut msmtp = Command::new(program("msmtp"));
            msmtp
                .env("HOME", relay.folder())
                .args(["--host=127.0.0.1", &format!("--port={port}")]);
            msmtp.args([
                &format!("--auth={mechanism}"),
                "--user=ann@relay.test",
                "--passwordeval=echo pencil",
            ]);
            msmtp.args([
                "--tls=on",
                &format!("--tls-starttls={starttls}"),
                "--tls-certcheck=off",
            ]);
            msmtp.args([
                "--from=ann@relay.test",
                "--domain=client.test",
                "--set-from-header=off",
                "bob@four.test",
            ]);
            let output = run(&mut msmtp, MESSAGE.as_bytes());
            assert_eq!(output.code, 0, "{mechanism}: {}", output.stderr);
            count += 1;
            check(&relay.sink.wait(count).pop().expect("a message"));
        }
    }
}

#[test]
fn curl_submits_by_smtp_and_smtps() {
    let relay = Setup::unauthenticated_clients().start();
    let urls = [
        format!("smtp://127.0.0.1:{}/client.test", relay.submission()),
        format!("smtps://127.0.0.1:{}/client.test", relay.submissions()),
    ];
    for (url, count) in urls.iter().zip(1..) {
        let mut curl = Command::new(program("curl"));
        curl.args([
            "--silent",
            "--show-error",
            "--ssl-reqd",
            "--insecure",
            "--url",
            url,
        ]);
        curl.args([
            "--user",
            "ann@relay.test:pencil",
            "--mail-from",
            "ann@relay.test",
            "--mail-rcpt",
            "bob@four.test",
        ]);
        let output = run(curl.args(["--upload-file", "-"]), wire().as_bytes());
        assert_eq!(output.code, 0, "{url}: {}", output.stderr);
        check(&relay.sink.wait(count).pop().expect("a message"));
    }
}

#[test]
fn python_submits_with_every_mechanism() {
    let relay = Setup::unauthenticated_clients().start();
    let cases = [
        ("587", "PLAIN"),
        ("587", "LOGIN"),
        ("587", "SCRAM-SHA-256"),
        ("465", "PLAIN"),
        ("465", "SCRAM-SHA-256"),
    ];
    for ((door, mechanism), count) in cases.into_iter().zip(1..) {
        let port = if door == "587" {
            relay.submission()
        } else {
            relay.submissions()
        };
        let mut script = python("submit.py");
        script.args([
            door,
            &port.to_string(),
            mechanism,
            "ann@relay.test",
            PASSWORD,
            "ann@relay.test",
            "bob@four.test",
        ]);
        let output = run(&mut script, wire().as_bytes());
        assert_eq!(output.code, 0, "{door} {mechanism}: {}", output.stderr);
        check(&relay.sink.wait(count).pop().expect("a message"));
    }
}

#[test]
fn a_submission_gets_a_missing_date_and_message_id_and_loses_its_bcc() {
    let relay = Setup::unauthenticated_clients().start();
    let mut client = relay.user("ann@relay.test");
    let [top, bcc, rest] = [
        &b"From: ann@relay.test\r\nTo: bob@four.test\r\n"[..],
        b"Bcc: eve@four.test\r\n",
        b"Subject: x\r\n\r\nx\r\n",
    ];
    let message = [top, bcc, rest].concat();
    assert_eq!(
        client
            .transaction("ann@relay.test", &["bob@four.test"], &message)
            .code,
        250
    );
    let arrived = relay.sink.wait(1).remove(0);
    let added = arrived.added_to(&[top, rest].concat()); // without Bcc
    for name in ["Date: ", "Message-ID: <", "Received: "] {
        assert_eq!(
            added.matches(&format!("\r\n{name}")).count() + usize::from(added.starts_with(name)),
            1,
            "{added}"
        );
    }
    assert!(
        added.to_ascii_lowercase().contains("@relay.test>") || added.contains("@mail.relay.test>"),
        "{added}"
    );
}

#[test]
fn delivery_uses_mx_over_ipv4_and_ipv6_and_skips_an_unreachable_host() {
    let relay = Relay::start();
    let message = b"From: a@src.test\r\n\r\nx\r\n";
    let mut client = relay.client();
    for (domain, peers) in [
        ("four.test", &["127.0.0.1"][..]),
        ("six.test", &["::1"]),
        ("both.test", &["127.0.0.1", "::1"]),
        ("implicit.test", &["127.0.0.1"]),
    ] {
        let to = format!("b@{domain}");
        assert_eq!(client.transaction("a@src.test", &[&to], message).code, 250);
        let arrived = relay.sink.wait_to(&to);
        assert!(
            peers.contains(&arrived.peer.as_str()),
            "{domain}: {}",
            arrived.peer
        );
        assert!(!arrived.tls);
    }
}

#[test]
fn delivery_uses_starttls_if_offered_even_with_an_unknown_certificate() {
    let relay = Setup::default().start_with(Manners::StartTls);
    let mut client = relay.client();
    for to in ["b@four.test", "b@six.test"] {
        assert_eq!(
            client
                .transaction("a@src.test", &[to], b"From: a@src.test\r\n\r\nx\r\n")
                .code,
            250
        );
        assert!(relay.sink.wait_to(to).tls);
    }
    assert!(
        relay.log().contains("tls=") && relay.log().contains("TLSv1.3"),
        "{}",
        relay.log()
    );
}

/// A relay that sends mail for elsewhere.test to a smarthost that requires a login.
fn with_smarthost(smarthost: &Sink, environment: Vec<(&'static str, PathBuf)>) -> Relay {
    let tables = format!(
        "[[route]]\ndomain = \"elsewhere.test\"\nvia = [\"smtp+starttls://mx.sink.test:{}\"]\nauth = \"secrets/ses\"\n",
        smarthost.port
    );
    Setup {
        tables,
        environment,
        secret: Some(("ses", "key\nhunter-2\n")),
        ..Setup::default()
    }
    .start()
}

#[test]
fn a_route_with_starttls_and_a_login_replaces_the_mx() {
    let smarthost = Sink::start(Manners::Login("key:hunter-2"));
    let relay = with_smarthost(&smarthost, vec![("SSL_CERT_FILE", smarthost.certificate())]);
    let mut client = relay.client();
    for to in ["b@elsewhere.test", "b@four.test"] {
        assert_eq!(
            client
                .transaction("a@src.test", &[to], b"From: a@src.test\r\n\r\nx\r\n")
                .code,
            250
        );
    }
    let arrived = smarthost.wait(1).remove(0);
    assert!(arrived.tls);
    assert_eq!(arrived.login.as_deref(), Some("key"));
    assert_eq!(arrived.to, ["b@elsewhere.test"]);
    relay.sink.wait_to("b@four.test");
    assert!(!relay.log().contains("hunter-2"), "{}", relay.log());
    relay.wait_for_empty_queue(PATIENCE);
}

#[test]
fn a_login_is_not_sent_to_a_host_without_a_valid_certificate() {
    let smarthost = Sink::start(Manners::Login("key:hunter-2"));
    let relay = with_smarthost(&smarthost, Vec::new());
    let mut client = relay.client();
    let message = b"From: a@src.test\r\n\r\nx\r\n";
    assert_eq!(
        client
            .transaction("a@src.test", &["b@elsewhere.test"], message)
            .code,
        250
    );
    relay.wait_for_log("TLS failed");
    assert_eq!(
        (smarthost.count(), relay.stats()["queued"].as_u64()),
        (0, Some(1))
    );
}

#[test]
fn a_refused_login_at_the_smarthost_defers_the_mail() {
    let smarthost = Sink::start(Manners::Login("key:another"));
    let relay = with_smarthost(&smarthost, vec![("SSL_CERT_FILE", smarthost.certificate())]);
    let reply = relay.client().transaction(
        "a@src.test",
        &["b@elsewhere.test"],
        b"From: a@src.test\r\n\r\nx\r\n",
    );
    assert_eq!(reply.code, 250);
    let line = relay.wait_for_log("event=next-hop-paused");
    assert!(line.contains("the login of the route is refused"), "{line}");
    let stats = relay.stats();
    assert_eq!(
        (stats["queued"].as_u64(), stats["failed"].as_u64()),
        (Some(1), Some(0))
    );
}

/// Number of lines of a log that the filter finds, as Debian's fail2ban reads it.
fn found_by_fail2ban(folder: &Path, log: &str) -> usize {
    // common.conf stands beside it.
    let filters = folder.join("filter.d");
    fs::create_dir_all(&filters).expect("a folder");
    fs::copy(
        "/etc/fail2ban/filter.d/common.conf",
        filters.join("common.conf"),
    )
    .expect("a file");
    let filter = filters.join("chopar.conf");
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/setup/fail2ban/filter.conf");
    fs::copy(installed, &filter).expect("a copy");
    let file = folder.join("log-to-search");
    fs::write(&file, log).expect("a file");
    let mut command = Command::new(program("fail2ban-regex"));
    let said = run(command.arg(&file).arg(&filter), b"").ok();
    let total = said
        .lines()
        .find_map(|line| line.strip_prefix("Failregex: "));
    let total = total.unwrap_or_else(|| panic!("{said}"));
    let number = total.split(' ').next().unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("{said}"))
}

#[test]
fn the_filter_of_fail2ban_finds_wrong_passwords_and_nothing_else() {
    let relay = Relay::start();
    // Login names with which an attacker tries to get another host banned.
    let names = [
        "ann@relay.test",
        "x peer=192.0.2.1",
        "x\" peer=192.0.2.1",
        "x peer=192.0.2.1\nevent=auth result=failed user=x peer=192.0.2.1",
    ];
    for name in names {
        let mut client = Client::connect_tls(relay.submissions());
        assert_eq!(client.say("EHLO client.test").code, 250);
        assert_ne!(client.auth_plain(name, "wrong").code, 235, "{name}");
    }
    relay.user("ann@relay.test");
    relay.wait_for_log("event=auth result=ok");
    let log = relay.log();
    let failed = log.matches(" event=auth result=failed ").count();
    assert!((2..=names.len()).contains(&failed), "{log}");
    assert_eq!(found_by_fail2ban(relay.folder(), &log), failed, "{log}");
    // As in the journal, including lines that count repetitions.
    let line = log
        .lines()
        .find(|line| line.contains("result=failed user=\""))
        .expect("a line");
    let (_, event) = line.split_once(' ').expect("a date");
    let repeated = Line::new(Level::Warning, "repeated")
        .with("times", 3)
        .with("line", event);
    let journal: String = [
        event,
        &repeated.text,
        "event=repeated times=2 line=\"event=reject peer=192.0.2.1\"",
    ]
    .map(|event| format!("Nov 29 12:00:00 mail chopar[123]: {event}\n"))
    .concat();
    assert_eq!(found_by_fail2ban(relay.folder(), &journal), 2, "{journal}");
}

#[test]
fn an_ambiguous_login_without_domain_is_refused_and_the_log_says_why() {
    let relay = Setup::unauthenticated_clients().start();
    let log_in = |name: &str| {
        let mut client = Client::connect_tls(relay.submissions());
        client.say("EHLO client.test");
        client.auth_plain(name, PASSWORD).code
    };
    assert_eq!(log_in("ann"), 235);
    let domains = relay.config().join("domains");
    fs::create_dir(domains.join("other.test")).expect("a folder");
    fs::copy(
        domains.join("relay.test/users"),
        domains.join("other.test/users"),
    )
    .expect("a file");
    relay.cli(&["reload"]).ok();
    assert_eq!(log_in("ann"), 535);
    relay.wait_for_log(
        "result=failed user=ann cause=\"users of several domains have this name; log in with the whole address\" peer=",
    );
    assert_eq!(log_in("ann@other.test"), 235);
}
