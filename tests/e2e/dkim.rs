//! DKIM signatures, verified by other software: dkimpy, OpenDKIM, and our own verifier over the DNS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Output, PATIENCE, program, python, run_within};
use crate::relay::{CHOPAR, Relay, Setup, Signing};
use crate::world::unbound_configuration;

fn signing() -> Relay {
    Setup {
        signing: Signing::Both,
        ..Setup::default()
    }
    .start()
}

/// Verifies both signatures of messages with dkimpy.
pub(crate) fn dkimpy(relay: &Relay, files: &[PathBuf]) -> Output {
    let mut command = python("verify.py");
    run_within(
        command.arg(relay.dns.port.to_string()).args(files),
        b"",
        2 * PATIENCE,
    )
}

/// Verifies messages with OpenDKIM. It uses the resolver of the system, so it gets a network namespace and a
/// resolv.conf of its own.
fn opendkim(relay: &Relay, files: &[PathBuf]) -> Output {
    let configuration = relay.folder().join("opendkim-unbound.conf");
    fs::write(
        &configuration,
        unbound_configuration(relay.folder(), 53, &relay.zone),
    )
    .expect("a file");
    let mut command = Command::new(program("unshare"));
    command
        .args(["--user", "--map-root-user", "--mount", "--net"])
        .arg(program("python3"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/opendkim.py"));
    command
        .arg(program("unbound"))
        .arg(configuration)
        .arg(program("opendkim-testmsg"))
        .args(files);
    run_within(&mut command, b"", 3 * PATIENCE)
}

const FIELDS: &str = "From: Ann <ann@relay.test>\r\nTo: b@four.test\r\nDate: Tue, 24 Nov 2026 14:00:00 +0000\r\n\
                      Message-ID: <1@relay.test>\r\nSubject: signed\r\n";

#[test]
fn every_message_is_signed_twice_and_verified_by_dkimpy_opendkim_and_chopar() {
    let relay = signing();
    let long = "x".repeat(998);
    let messages: Vec<Vec<u8>> = vec![
        format!("{FIELDS}\r\nhello\r\n").into(),
        format!("{FIELDS}\r\n").into(),
        FIELDS.into(),
        format!("{FIELDS}\r\n\r\n\r\n").into(),
        format!("{FIELDS}\r\ntext\r\n\r\n\r\n").into(),
        format!("{FIELDS}\r\n.\r\n..\r\n.x\r\n").into(),
        format!("{FIELDS}\r\n{long}\r\n").into(),
        format!("{FIELDS}X-Fold: one\r\n two\r\n\t three  \r\nx-FOLD: again\r\nReply-To:  a@relay.test \r\n\r\nx \t\r\n").into(),
        format!("{FIELDS}MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n \t \r\na  b\t c \r\n\r\n").into(),
        format!("{FIELDS}X-Name: Привет\r\n\r\nSalom, дунё ☕\r\n").into(),
        [FIELDS.as_bytes(), b"\r\n\x80\xff\xfe\r\n"].concat(),
        [FIELDS.as_bytes(), b"\r\n", &b"0123456789abcdef\r\n".repeat(60_000)].concat(), // stored in a file
    ];
    let mut client = relay.client();
    for (message, number) in messages.iter().zip(1..) {
        assert_eq!(
            client
                .say("MAIL FROM:<ann@relay.test> BODY=8BITMIME SMTPUTF8")
                .code,
            250
        );
        assert_eq!(client.say("RCPT TO:<b@four.test>").code, 250);
        assert_eq!(client.say("DATA").code, 354);
        assert_eq!(client.body(message).code, 250, "message {number}");
        relay.sink.wait_within(number, PATIENCE);
        let added = relay.sink.message(number).added_to(message);
        assert_eq!(added.matches("DKIM-Signature:").count(), 2, "{added}");
        assert!(
            added.contains("a=rsa-sha256") && added.contains("a=ed25519-sha256"),
            "{added}"
        );
        assert!(!added.contains("l="), "{added}");
    }
    let files: Vec<PathBuf> = (1..=messages.len())
        .map(|number| relay.sink.path(number))
        .collect();

    let verdicts = dkimpy(&relay, &files).ok();
    assert_eq!(
        verdicts.matches("pass rsa-sha256").count(),
        files.len(),
        "{verdicts}"
    );
    assert_eq!(
        verdicts.matches("pass ed25519-sha256").count(),
        files.len(),
        "{verdicts}"
    );

    for file in &files {
        let mut command = Command::new(CHOPAR);
        command
            .args([
                "dkim",
                "verify",
                "--dns",
                &format!("127.0.0.1:{}", relay.dns.port),
            ])
            .arg(file);
        let verdicts = run_within(&mut command, b"", PATIENCE).ok();
        assert_eq!(
            verdicts
                .lines()
                .filter(|line| line.starts_with("pass d=relay.test"))
                .count(),
            2,
            "{verdicts}"
        );
    }

    let verdicts = opendkim(&relay, &files).ok();
    assert_eq!(verdicts.matches("pass").count(), files.len(), "{verdicts}");
}

#[test]
fn a_changed_message_fails_with_every_verifier() {
    let relay = signing();
    let mut client = relay.client();
    let message = format!("{FIELDS}\r\nhello\r\n");
    assert_eq!(
        client
            .transaction("ann@relay.test", &["b@four.test"], message.as_bytes())
            .code,
        250
    );
    let text = relay.sink.wait(1)[0].text();
    let tampered = [
        text.replace("hello", "Hello"),
        text.replace("Subject: signed", "Subject: resigned"),
        text.replace(
            "Subject: signed\r\n",
            "Subject: signed\r\nReply-To: eve@evil.test\r\n",
        ),
        text.replace(
            "Subject: signed\r\n",
            "Subject: signed\r\nFrom: eve@evil.test\r\n",
        ),
        text.replace(
            "Subject: signed\r\n",
            "Subject: signed\r\nContent-Type: text/html\r\n",
        ),
    ];
    let mut files = Vec::new();
    for (text, number) in tampered.iter().zip(1..) {
        let file = relay.folder().join(format!("tampered-{number}"));
        fs::write(&file, text).expect("a file");
        let dns = format!("127.0.0.1:{}", relay.dns.port);
        let output = relay.cli(&["dkim", "verify", "--dns", &dns, &file.display().to_string()]);
        assert_eq!(output.code, 65, "{number}: {}", output.stdout);
        files.push(file);
    }
    let verdicts = dkimpy(&relay, &files).stdout;
    assert!(!verdicts.contains("pass"), "{verdicts}");
    let verdicts = opendkim(&relay, &files).stdout;
    assert!(!verdicts.contains("pass"), "{verdicts}");
}

#[test]
fn mail_of_another_domain_is_not_signed() {
    let relay = signing();
    let mut client = relay.client();
    let message = b"From: a@src.test\r\n\r\nx\r\n";
    assert_eq!(
        client
            .transaction("ann@relay.test", &["b@four.test"], message)
            .code,
        250
    );
    assert!(!relay.sink.wait(1)[0].text().contains("DKIM-Signature"));
}
