//! TLS as OpenSSL and testssl.sh see it, and certificates that change at run time.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::client::Client;
use crate::process::{Output, PATIENCE, program, run, run_within, wait_for};
use crate::relay::{PASSWORD, Relay, Setup};

/// Connects with OpenSSL and sends QUIT.
fn s_client(port: u16, words: &[&str]) -> Output {
    let mut command = Command::new(program("openssl"));
    command.args([
        "s_client",
        "-ign_eof",
        "-crlf",
        "-connect",
        &format!("127.0.0.1:{port}"),
    ]);
    run(command.args(words), b"QUIT\n")
}

#[test]
fn only_tls_1_2_and_1_3_are_offered_and_without_tickets() {
    let relay = Setup::unauthenticated_clients().start();
    let doors = [
        (relay.submissions(), &[][..]),
        (relay.submission(), &["-starttls", "smtp"]),
        (relay.smtp(), &["-starttls", "smtp"]),
    ];
    for (port, starttls) in doors {
        for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let said = s_client(port, &[starttls, &[version]].concat()).ok();
            assert!(said.contains(&format!("New, {name}")), "{said}");
            assert!(said.contains("221"), "{said}");
            assert!(
                !said.contains("New Session Ticket arrived")
                    && !said.contains("session ticket lifetime"),
                "{said}"
            );
            assert!(!said.contains("TLS session ticket:"), "{said}");
        }
        for version in ["-tls1", "-tls1_1"] {
            let old = [starttls, &[version, "-cipher", "ALL:@SECLEVEL=0"]].concat();
            let output = s_client(port, &old);
            assert!(
                output.code != 0 && output.stdout.contains("(NONE)"),
                "{output:?}"
            );
        }
    }
}

#[test]
fn testssl_finds_nothing_older_than_tls_1_2() {
    let relay = Setup::unauthenticated_clients().start();
    let report = relay.folder().join("report.csv");
    let mut command = Command::new(program("testssl"));
    command
        .args([
            "--quiet",
            "--warnings",
            "off",
            "--color",
            "0",
            "--protocols",
            "--csvfile",
        ])
        .arg(&report);
    command.args([
        "--starttls",
        "smtp",
        &format!("127.0.0.1:{}", relay.submission()),
    ]);
    let output = run_within(&mut command, b"", 4 * PATIENCE);
    let rows = fs::read_to_string(report).unwrap_or_default();
    let finding = |id: &str| {
        let row = rows
            .lines()
            .find(|line| line.starts_with(&format!("\"{id}\",")));
        row.map(str::to_owned)
            .unwrap_or_else(|| panic!("no {id} in {rows}\n{output:?}"))
    };
    for id in ["SSLv2", "SSLv3", "TLS1", "TLS1_1"] {
        assert!(finding(id).contains("not offered"), "{}", finding(id));
    }
    for id in ["TLS1_2", "TLS1_3"] {
        assert!(
            finding(id).contains("offered") && !finding(id).contains("not offered"),
            "{}",
            finding(id)
        );
    }
}

#[test]
fn only_smtp_is_accepted_in_alpn() {
    let relay = Setup::unauthenticated_clients().start();
    let said = s_client(relay.submissions(), &["-alpn", "smtp"]).ok();
    assert!(said.contains("ALPN protocol: smtp"), "{said}");
    for protocol in ["http/1.1", "h2", "imap"] {
        let output = s_client(relay.submissions(), &["-alpn", protocol]);
        assert_ne!(output.code, 0, "{output:?}");
        assert!(!output.stdout.contains("220 "), "{output:?}");
    }
}

/// The subject of the certificate that a client gets for `name`.
fn subject(relay: &Relay, name: &str) -> String {
    let said = s_client(relay.submissions(), &["-servername", name]).ok();
    let line = said.lines().find(|line| line.starts_with("subject="));
    line.unwrap_or_else(|| panic!("{said}")).replace(' ', "")
}

#[test]
fn the_certificate_is_chosen_by_name_and_changes_without_dropping_sessions() {
    let mut relay = Setup::unauthenticated_clients().start();
    relay.wait_for_log("event=self-signed");
    let mut client = relay.user("ann@relay.test");
    relay.install_certificate("mail.relay.test");
    relay.install_certificate("smtp.other.test");
    relay.signal(Signal::HUP);
    relay.wait_for_log("event=reloaded");
    assert_eq!(
        subject(&relay, "mail.relay.test"),
        "subject=CN=mail.relay.test"
    );
    assert_eq!(
        subject(&relay, "smtp.other.test"),
        "subject=CN=smtp.other.test"
    );

    let fingerprint = |relay: &Relay| {
        let said = s_client(relay.submissions(), &["-servername", "smtp.other.test"]).ok();
        let (_, rest) = said.split_once("BEGIN CERTIFICATE").expect("a certificate");
        rest.split("END CERTIFICATE")
            .next()
            .expect("its text")
            .to_owned()
    };
    let old = fingerprint(&relay);
    relay.install_certificate("smtp.other.test");
    relay.cli(&["reload"]).ok();
    assert_ne!(fingerprint(&relay), old);

    // An unusable certificate does not affect the others.
    fs::write(
        relay.config().join("tls/smtp.other.test/privkey.pem"),
        "no key\n",
    )
    .expect("a file");
    relay.signal(Signal::HUP);
    wait_for("the bad certificate to be named", PATIENCE, || {
        relay.log().contains("tls/smtp.other.test").then_some(())
    });
    assert_eq!(
        subject(&relay, "mail.relay.test"),
        "subject=CN=mail.relay.test"
    );

    let message = b"From: ann@relay.test\r\n\r\nx\r\n";
    assert_eq!(
        client
            .transaction("ann@relay.test", &["a@four.test"], message)
            .code,
        250
    );
    relay.sink.wait(1);
}

/// A pair made by openssl for mail.relay.test, with this kind of key.
fn make_pair(relay: &Relay, folder: &str, kind: &[&str]) {
    let folder = relay.config().join("tls").join(folder);
    fs::create_dir_all(&folder).expect("a folder");
    let mut command = Command::new(program("openssl"));
    command.args([
        "req",
        "-x509",
        "-nodes",
        "-days",
        "90",
        "-subj",
        "/CN=mail.relay.test",
        "-addext",
    ]);
    command
        .args(["subjectAltName=DNS:mail.relay.test", "-newkey"])
        .args(kind);
    command.arg("-keyout").arg(folder.join("privkey.pem"));
    run(command.arg("-out").arg(folder.join("fullchain.pem")), b"").ok();
}

#[test]
fn of_two_pairs_for_a_name_a_client_gets_the_one_that_it_can_verify() {
    let relay = Setup::unauthenticated_clients().start();
    make_pair(&relay, "ec", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    make_pair(&relay, "rsa", &["rsa:2048"]);
    let aliases = relay.config().join("domains/relay.test/aliases");
    fs::write(aliases, "postmaster: new@home.test\n").expect("a file");
    let said = relay.cli(&["check"]).ok();
    assert!(
        said.contains("mail.relay.test: clients are shown tls/ec (ECDSA"),
        "{said}"
    );
    assert!(
        said.contains("those that cannot verify ECDSA tls/rsa (RSA"),
        "{said}"
    );
    relay.cli(&["reload"]).ok();
    let bits = |words: &[&str]| {
        let said = s_client(relay.submissions(), words).ok();
        let (_, rest) = said.split_once("Server public key is ").expect("a key");
        rest.split(' ').next().expect("a number").to_owned()
    };
    let rsa = "RSA-PSS+SHA256:RSA+SHA256";
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(bits(&[version]), "256", "{version}");
        assert_eq!(bits(&[version, "-sigalgs", rsa]), "2048", "{version}");
        assert_eq!(
            bits(&[version, "-sigalgs", "ECDSA+SHA256"]),
            "256",
            "{version}"
        );
    }
    // In TLS 1.2 the cipher suites count as well.
    assert_eq!(
        bits(&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]),
        "2048"
    );
}

#[test]
fn an_expired_pair_yields_to_another_of_its_name() {
    let relay = Setup::unauthenticated_clients().start();
    let write = |folder: &str, organization: &str, year: i32| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut made =
            rcgen::CertificateParams::new(vec!["mail.relay.test".into()]).expect("a name");
        made.distinguished_name
            .push(rcgen::DnType::CommonName, organization);
        made.not_before = rcgen::date_time_ymd(2020, 1, 1);
        made.not_after = rcgen::date_time_ymd(year, 1, 1);
        let made = made.self_signed(&key).expect("a certificate");
        let folder = relay.config().join("tls").join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("fullchain.pem"), made.pem()).expect("a file");
        fs::write(folder.join("privkey.pem"), key.serialize_pem()).expect("a file");
    };
    // As certbot leaves them.
    write("mail.relay.test", "old", 2021);
    write("mail.relay.test-0001", "new", 2100);
    relay.cli(&["reload"]).ok();
    assert_eq!(subject(&relay, "mail.relay.test"), "subject=CN=new");
    let log = relay.wait_for_log("clients are shown that of tls/mail.relay.test-0001");
    assert!(!log.contains("clients that verify it refuse it"), "{log}");
}

#[test]
fn a_restart_keeps_the_certificate_that_was_shown_before() {
    let mut relay = Setup::unauthenticated_clients().start();
    let shown = |relay: &Relay| {
        let said = s_client(relay.submissions(), &["-servername", "mail.relay.test"]).ok();
        let (_, rest) = said.split_once("BEGIN CERTIFICATE").expect("a certificate");
        rest.split("END CERTIFICATE")
            .next()
            .expect("its text")
            .to_owned()
    };
    // A pair that the relay generated stays the same after a reload and a restart.
    let made = shown(&relay);
    assert_eq!(
        subject(&relay, "mail.relay.test"),
        "subject=CN=mail.relay.test"
    );
    relay.cli(&["reload"]).ok();
    assert_eq!(shown(&relay), made);
    relay.stop();
    relay.run();
    assert_eq!(shown(&relay), made);
    // So does a pair whose renewal failed in between.
    relay.install_certificate("mail.relay.test");
    relay.cli(&["reload"]).ok();
    let good = shown(&relay);
    assert_ne!(good, made);
    relay.stop();
    let key = relay.config().join("tls/mail.relay.test/privkey.pem");
    fs::write(&key, "half a key\n").expect("a file");
    relay.run();
    assert_eq!(shown(&relay), good);
    assert!(
        relay
            .log()
            .contains("the pair that was read before stays in force")
    );
    let check = relay.cli(&["check"]);
    assert!(
        check.code == 78 && check.stderr.contains("stays in force"),
        "{check:?}"
    );
}

#[test]
fn the_manual_lists_the_files_of_the_state_folder() {
    let relay = Setup::unauthenticated_clients().start();
    relay.install_certificate("mail.relay.test");
    relay.cli(&["reload"]).ok();
    let manual = include_str!("../../man/chopar.8");
    let (_, files) = manual.split_once(".Sh FILES").expect("a section");
    let (files, _) = files.split_once(".Sh").expect("its end");
    let state = relay.folder().join("state");
    for (folder, page) in [
        (state.clone(), "/var/lib/chopar"),
        (state.join("spool"), "/var/lib/chopar/spool"),
        (relay.folder().join("run"), "/run/chopar"),
    ] {
        for entry in fs::read_dir(folder).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let path = format!("{page}/{}", name.to_string_lossy());
            assert!(
                files.contains(&format!(".It Pa {path}")),
                "{path} is not in FILES"
            );
        }
    }
}

#[test]
fn bytes_after_starttls_are_discarded() {
    let relay = Setup::unauthenticated_clients().start();
    for port in [relay.smtp(), relay.submission()] {
        let mut client = Client::connect(port);
        assert_eq!(client.say("EHLO before.test").code, 250);
        client.send(b"STARTTLS\r\nEHLO injected.test\r\nMAIL FROM:<injected@four.test>\r\nRCPT TO:<ann@relay.test>\r\n");
        assert_eq!(client.reply().code, 220);
        client.start_tls();
        // One command gets one reply, and the relay has forgotten all plaintext input.
        let reply = client.say("RCPT TO:<ann@relay.test>");
        assert_eq!(reply.code / 100, 5, "{reply:?}");
        let hello = client.say("EHLO after.test");
        assert!(
            hello.code == 250 && !hello.text.contains("STARTTLS"),
            "{hello:?}"
        );
        assert_eq!(client.say("RCPT TO:<ann@relay.test>").code / 100, 5);
        assert_eq!(client.say("NOOP").code, 250);
        assert_eq!(client.say("QUIT").code, 221);
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn an_invalid_configuration_is_refused_with_its_place_and_the_old_one_stays() {
    let mut relay = Setup::unauthenticated_clients().start();
    let mut client = relay.user("ann@relay.test");
    let path = relay.config().join("chopar.toml");
    let good = fs::read_to_string(&path).expect("a file");
    fs::write(&path, format!("{good}\n[limit]\nx = 1\n")).expect("a file");
    let output = relay.cli(&["reload"]);
    assert_eq!(output.code, 78, "{output:?}");
    let line = good.lines().count() + 2;
    assert!(
        output.stderr.contains(&format!("chopar.toml:{line}:")) && output.stderr.contains("limit"),
        "{output:?}"
    );
    assert_eq!(relay.cli(&["check"]).code, 78);
    relay.signal(Signal::HUP);
    wait_for("a second refusal", PATIENCE, || {
        (relay.log().matches("reload-failed").count() >= 2).then_some(())
    });
    assert_eq!(client.say("NOOP").code, 250);

    fs::write(&path, good).expect("a file");
    let aliases = relay.config().join("domains/relay.test/aliases");
    fs::write(aliases, "new: new@home.test\npostmaster: new@home.test\n").expect("a file");
    relay.cli(&["reload"]).ok();
    assert_eq!(relay.cli(&["check"]).code, 0);
    let message = b"From: ann@relay.test\r\n\r\nx\r\n";
    assert_eq!(
        client
            .transaction("ann@relay.test", &["new@relay.test"], message)
            .code,
        250
    );
    assert_eq!(relay.sink.wait(1)[0].to, ["new@home.test"]);
    let mut client = Client::connect_tls(relay.submissions());
    client.say("EHLO client.test");
    assert_eq!(client.auth_plain("ann@relay.test", PASSWORD).code, 235);
}
