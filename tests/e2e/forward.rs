//! Forwarded mail of unauthenticated clients: the results of the next receiver, returned mail, and refusals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{program, python, run, wait_for};
use crate::relay::{CHOPAR, Relay, Setup, Signing};
use crate::world::Arrived;

/// Names of the author, of the relay as a sender, and of a host without permission to send.
const ZONE: &str = "
writer.test. MX 10 mx.four.test.
writer.test. TXT \"v=spf1 ip4:127.0.0.5 -all\"
_dmarc.writer.test. TXT \"v=DMARC1; p=reject\"
relay.test. TXT \"v=spf1 ip4:127.0.0.1 -all\"
";
const SENDER: &str = "ann@writer.test";
const MESSAGE: &str = "Authentication-Results: MAIL.relay.test (old); spf=pass smtp.mailfrom=forged@writer.test\r\n\
    Authentication-Results: other.test; spf=none\r\nFrom: Ann <ann@writer.test>\r\nTo: someone@relay.test\r\n\
    Subject: a message\r\nDate: Tue, 24 Nov 2026 14:00:00 +0000\r\nMessage-ID: <message@writer.test>\r\n\r\n\
    Hello,\r\n\r\n  this goes  far.\r\n";

/// An author with her own DKIM key.
struct Writer {
    folder: TempDir,
    zone: String,
}

impl Writer {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("domains/writer.test")).expect("a domain");
        fs::write(
            folder.path().join("chopar.toml"),
            "hostname = \"mx.writer.test\"\n",
        )
        .expect("a file");
        let mut keygen = Command::new(CHOPAR);
        keygen.arg("-C").arg(folder.path());
        keygen.args(["dkim", "keygen", "--selector", "s1", "writer.test"]);
        let zone = format!("{ZONE}{}", run(&mut keygen, b"").ok());
        Self { folder, zone }
    }

    /// The message with her signature, made by dkimpy.
    fn signed(&self, message: &str) -> PathBuf {
        let path = self.folder.path().join("plain");
        fs::write(&path, message).expect("a file");
        let mut sign = python("forward.py");
        sign.arg("sign").arg(&path).args(["writer.test", "s1"]);
        sign.arg(self.folder.path().join("domains/writer.test/dkim/s1.pem"));
        let signed = self.folder.path().join("signed");
        fs::write(&signed, run(&mut sign, b"").ok()).expect("a file");
        signed
    }
}

fn relay(writer: &Writer) -> Relay {
    Setup {
        zone: writer.zone.clone(),
        aliases: "ann: ann@home.test\n*: far@home.test\n".to_owned(),
        signing: Signing::Both,
        ..Setup::unauthenticated_clients()
    }
    .start()
}

/// Runs swaks from an address in 127.0.0.0/8; returns its exit code and output.
fn swaks(relay: &Relay, client: &str, sender: &str, to: &str, message: &Path) -> (i32, String) {
    let mut command = Command::new(program("swaks"));
    let server = format!("127.0.0.1:{}", relay.smtp());
    command.args(["--server", &server, "--local-interface", client]);
    command.args(["--helo", "out.writer.test", "--from", sender, "--to", to]);
    command.arg("--data").arg(format!("@{}", message.display()));
    let output = run(&mut command, b"");
    (output.code, output.stdout)
}

/// The results of authheaders for a message that arrived.
fn judged(relay: &Relay, number: usize, arrived: &Arrived) -> String {
    let mut judge = python("forward.py");
    judge
        .args(["judge", &relay.dns.port.to_string()])
        .arg(relay.sink.path(number));
    judge.args([&arrived.from, &arrived.helo]);
    run(&mut judge, b"").ok()
}

#[test]
fn forwarded_mail_passes_all_checks_at_the_next_receiver_and_its_bounce_reaches_the_author() {
    let writer = Writer::new();
    let relay = relay(&writer);
    let signed = writer.signed(MESSAGE);
    let (code, said) = swaks(&relay, "127.0.0.5", SENDER, "anything@relay.test", &signed);
    assert_eq!(code, 0, "{said}");
    let arrived = relay.sink.wait(1).remove(0);
    assert_eq!(arrived.to, ["far@home.test"]);
    assert!(
        arrived.from.starts_with("SRS0=") && arrived.from.ends_with("=writer.test=ann@relay.test"),
        "{}",
        arrived.from
    );
    let text = arrived.text();
    let found = judged(&relay, 1, &arrived);
    for result in ["spf=pass", "dkim=pass", "dmarc=pass", "arc=pass"] {
        assert!(found.contains(result), "{result}: {found}\n{text}");
    }
    assert!(
        found.contains("smtp.mailfrom=relay.test") || found.contains(&arrived.from),
        "{found}"
    );
    // The forged results are gone, the rest is unchanged, and our results are true. swaks ends its input with an empty
    // line.
    let sent = fs::read_to_string(&signed).expect("a file") + "\r\n";
    let forged = MESSAGE.lines().next().expect("a field").to_owned() + "\r\n";
    let added = arrived.added_to(sent.replace(&forged, "").as_bytes());
    let ours = added
        .split("Authentication-Results: mail.relay.test;")
        .last()
        .expect("ours");
    for result in ["spf=pass", "dkim=pass", "dmarc=pass", "arc=none"] {
        assert!(ours.contains(result), "{result}: {added}");
    }
    assert!(added.starts_with("ARC-Seal: i=1;"), "{added}");
    // A bounce to the address in another case.
    let bounce = writer.folder.path().join("bounce");
    fs::write(
        &bounce,
        "From: Mailer-Daemon@mx.four.test\r\nSubject: no\r\n\r\nNobody there.\r\n",
    )
    .expect("a file");
    let returned = arrived.from.to_ascii_lowercase();
    let (code, said) = swaks(&relay, "127.0.0.1", "<>", &returned, &bounce);
    assert_eq!(code, 0, "{said}");
    let bounced = relay.sink.wait(2).remove(1);
    assert_eq!(
        (bounced.from.as_str(), bounced.to.as_slice()),
        ("<>", &[SENDER.to_owned()][..])
    );
    let forged = returned.replace("writer.test=ann", "writer.test=bob");
    let (code, said) = swaks(&relay, "127.0.0.1", "<>", &forged, &bounce);
    assert!(code != 0 && said.contains("550 5.7.1"), "{said}");
}

#[test]
fn mail_that_the_policy_of_its_author_rejects_is_refused_in_the_session() {
    let writer = Writer::new();
    let relay = relay(&writer);
    let plain = writer.folder.path().join("spoof");
    fs::write(&plain, MESSAGE).expect("a file");
    let (code, said) = swaks(
        &relay,
        "127.0.0.6",
        "x@evil.test",
        "anything@relay.test",
        &plain,
    );
    assert!(
        code != 0 && said.contains("550 5.7.1") && said.contains("writer.test"),
        "{said}"
    );
    // Unsigned, from a host that SPF names: accepted.
    let (code, said) = swaks(&relay, "127.0.0.5", SENDER, "anything@relay.test", &plain);
    assert_eq!(code, 0, "{said}");
    // Signed, and changed in transit.
    let changed = fs::read_to_string(writer.signed(MESSAGE)).expect("a file");
    fs::write(&plain, changed.replace("this goes", "this went")).expect("a file");
    let (code, said) = swaks(
        &relay,
        "127.0.0.6",
        "x@evil.test",
        "anything@relay.test",
        &plain,
    );
    assert!(code != 0 && said.contains("550 5.7.1"), "{said}");
    // Signed, from any host.
    let signed = writer.signed(MESSAGE);
    let (code, said) = swaks(
        &relay,
        "127.0.0.6",
        "x@evil.test",
        "anything@relay.test",
        &signed,
    );
    assert_eq!(code, 0, "{said}");
    relay.sink.wait(2);
}

#[test]
fn mail_of_local_users_is_forwarded_with_their_own_addresses_signed_and_sealed() {
    let writer = Writer::new();
    let relay = relay(&writer);
    let plain = b"From: ann@relay.test\r\nSubject: x\r\n\r\nx\r\n";
    let mut client = relay.user("ann@relay.test");
    let reply = client.transaction("ann@relay.test", &["bob@relay.test"], plain);
    assert_eq!(reply.code, 250, "{reply:?}");
    let reply = client.transaction("ann@relay.test", &["bob@home.test"], plain);
    assert_eq!(reply.code, 250, "{reply:?}");
    let arrived = relay.sink.wait(2);
    let forwarded = arrived.iter().position(|one| one.to == ["far@home.test"]);
    let forwarded = forwarded.expect("what an alias sends on");
    for (at, message) in arrived.iter().enumerate() {
        assert_eq!(message.from, "ann@relay.test");
        let found = judged(&relay, at + 1, message);
        assert!(
            found.contains("dkim=pass") && found.contains("spf=pass"),
            "{found}"
        );
        let sealed = message.text().contains("ARC-Seal: i=1;");
        assert_eq!(sealed, at == forwarded, "{}", message.text());
        assert_eq!(found.contains("arc=pass"), sealed, "{found}");
    }
    let text = arrived[forwarded].text();
    assert!(
        text.contains("auth=pass\r\n\tsmtp.auth=ann@relay.test"),
        "{text}"
    );
}

const MESSAGES: usize = 100;

#[test]
fn a_hundred_messages_in_a_loop_of_two_relays_cause_one_dsn_each() {
    let lifted = "[abuse]\ntarpit = false\nconnections_per_minute = 0\nmessages_per_minute = 0\nrecipients_per_minute = 0\n";
    let zone = "writer.test. MX 10 mx.four.test.\n";
    let mut first = Setup {
        zone: zone.to_owned(),
        tables: lifted.to_owned(),
        aliases: "loop: loop@loop.test\n".to_owned(),
        // Its own DSNs return to it, and own-domain spoofing needs authentication.
        signing: Signing::Both,
        ..Setup::unauthenticated_clients()
    }
    .start();
    let second = Setup {
        zone: zone.to_owned(),
        keys: "admin = \"admin@writer.test\"\n".to_owned(),
        tables: format!(
            "{lifted}[[route]]\ndomain = \"relay.test\"\nvia = [\"smtp://127.0.0.1:{}\"]\n",
            first.smtp()
        ),
        ..Setup::unauthenticated_clients()
    }
    .start();
    // A relay takes a host with its own name for itself, so the second relay gets another name.
    let toml = second.config().join("chopar.toml");
    let text = fs::read_to_string(&toml).expect("a file");
    fs::write(&toml, text.replace("mail.relay.test", "mail.loop.test")).expect("a file");
    second
        .cli(&["domain", "remove", "--force", "relay.test"])
        .ok();
    second.cli(&["domain", "add", "--bare", "loop.test"]).ok();
    second
        .cli(&["alias", "add", "loop@loop.test", "loop@relay.test"])
        .ok();
    first.setup.tables = format!(
        "{lifted}[[route]]\ndomain = \"loop.test\"\nvia = [\"smtp://127.0.0.1:{}\"]\n",
        second.smtp()
    );
    first.write_config();
    // Without the RSA key, messages are not sealed in each of fifty rounds. The Ed25519 key still signs DSNs.
    fs::remove_file(first.config().join("domains/relay.test/dkim/rsa.pem")).expect("a key");
    first.cli(&["reload"]).ok();
    let mut client = first.client();
    for number in 0..MESSAGES {
        let message =
            format!("From: ann@writer.test\r\nSubject: {number}\r\n\r\nround and round\r\n");
        let reply = client.transaction(SENDER, &["loop@relay.test"], message.as_bytes());
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    drop(client);
    let patience = Duration::from_secs(120);
    wait_for("a notification of each", patience, || {
        let count = first.sink.count() + second.sink.count();
        (count >= MESSAGES).then_some(())
    });
    first.wait_for_empty_queue(patience);
    second.wait_for_empty_queue(patience);
    let arrived: Vec<Arrived> = first
        .sink
        .messages()
        .into_iter()
        .chain(second.sink.messages())
        .collect();
    assert_eq!(arrived.len(), MESSAGES);
    for notification in &arrived {
        assert_eq!(
            (notification.from.as_str(), notification.to.as_slice()),
            ("<>", &[SENDER.to_owned()][..])
        );
        assert!(
            notification.text().contains("5.4.6"),
            "{}",
            notification.text()
        );
    }
}
