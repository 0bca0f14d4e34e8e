//! ARC chains that chopar and dkimpy seal in turns. Both must judge them alike.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Output, python, run_within};
use crate::relay::CHOPAR;
use crate::world::Dns;

const DOMAIN: &str = "seal.test";
const PATIENCE: Duration = Duration::from_secs(60);
const MESSAGE: &str = "Received: from a by b; Tue, 24 Nov 2026 14:00:00 +0000\r\nFrom: Ann <ann@src.test>\r\n\
    To: b@seal.test\r\nDate: Tue, 24 Nov 2026 14:00:00 +0000\r\nMessage-ID: <1@src.test>\r\nSubject: a\r\n  fold\r\n\
    List-Id: <l.src.test>\r\nX-Odd:   spaces \t and\r\n\ttabs  \r\n\r\nHello  world \r\n.\r\n\r\n\r\n";

/// A host with an RSA key of its own, whose record is in the DNS.
struct Sealer {
    folder: TempDir,
    dns: Dns,
}

#[derive(Clone, Copy, Debug)]
enum By {
    Chopar,
    Dkimpy,
}

impl Sealer {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("domains").join(DOMAIN)).expect("a domain");
        fs::write(
            folder.path().join("chopar.toml"),
            "hostname = \"mx.seal.test\"\nadmin = \"ann@seal.test\"\n",
        )
        .expect("a file");
        let mut keygen = Command::new(CHOPAR);
        keygen.arg("-C").arg(folder.path());
        keygen.args(["dkim", "keygen", "--selector", "s1", DOMAIN]);
        let zone = run_within(&mut keygen, b"", PATIENCE).ok();
        let dns = Dns::start(&zone);
        Self { folder, dns }
    }

    fn chopar(&self, words: &[&str], message: &[u8]) -> Output {
        let mut command = Command::new(CHOPAR);
        command.arg("-C").arg(self.folder.path()).args(words);
        command.args(["--dns", &format!("127.0.0.1:{}", self.dns.port)]);
        run_within(&mut command, message, PATIENCE)
    }

    fn dkimpy(&self, verb: &str, message: &[u8]) -> Output {
        let path = self.folder.path().join("message");
        fs::write(&path, message).expect("a file");
        let mut command = python("arc.py");
        command.args([verb, &self.dns.port.to_string()]).arg(path);
        if verb == "seal" {
            command.args([DOMAIN, "s1"]).arg(self.key());
        }
        run_within(&mut command, b"", PATIENCE)
    }

    fn key(&self) -> PathBuf {
        let keys = self.folder.path().join("domains").join(DOMAIN).join("dkim");
        keys.join("s1.pem")
    }

    fn seal(&self, by: By, message: &str) -> String {
        let output = match by {
            By::Chopar => self.chopar(&["arc", "seal", "--domain", DOMAIN], message.as_bytes()),
            By::Dkimpy => self.dkimpy("seal", message.as_bytes()),
        };
        output.ok()
    }

    /// Verifies a message with both; returns chopar's exit code and output, and dkimpy's result.
    fn verify(&self, message: &str) -> (i32, String, String) {
        let ours = self.chopar(&["arc", "verify"], message.as_bytes());
        let theirs = self.dkimpy("verify", message.as_bytes());
        let word = theirs.stdout.split_whitespace().next();
        let word = word.unwrap_or(&theirs.stderr);
        (ours.code, ours.stdout, word.to_owned())
    }

    #[track_caller]
    fn both_pass(&self, message: &str, sets: usize) {
        let (code, text, theirs) = self.verify(message);
        assert_eq!((code, theirs.as_str()), (0, "pass"), "{text}\n{message}");
        let lines: Vec<&str> = text.lines().collect();
        for (nth, line) in lines.iter().take(sets).enumerate() {
            let expected = format!("i={} d=seal.test s=s1 seal=pass message=pass", nth + 1);
            assert_eq!(*line, expected);
        }
        assert_eq!(lines.get(sets), Some(&"pass oldest-pass=0"), "{text}");
    }

    #[track_caller]
    fn both_fail(&self, message: &str) {
        let (code, text, theirs) = self.verify(message);
        assert_eq!((code, theirs.as_str()), (65, "fail"), "{text}\n{message}");
        assert!(
            text.lines().any(|line| line.starts_with("fail (")),
            "{text}"
        );
    }
}

/// Replaces the first occurrence, which must exist.
#[track_caller]
fn altered(message: &str, from: &str, to: &str) -> String {
    assert!(message.contains(from), "{from:?} in {message}");
    message.replacen(from, to, 1)
}

/// The message without the field that begins with `start`.
#[track_caller]
fn without(message: &str, start: &str) -> String {
    let at = message.find(start).expect("a field");
    let rest = &message[at..];
    let fields = rest.match_indices("\r\n");
    let end = fields
        .map(|(end, _)| end + 2)
        .find(|end| !rest[*end..].starts_with([' ', '\t']))
        .expect("an end");
    format!("{}{}", &message[..at], &rest[end..])
}

#[test]
fn both_report_none_for_a_message_without_a_chain() {
    let sealer = Sealer::start();
    let (code, text, theirs) = sealer.verify(MESSAGE);
    assert_eq!(
        (code, text.as_str(), theirs.as_str()),
        (65, "none\n", "none")
    );
}

#[test]
fn chains_of_one_two_and_three_sets_sealed_in_turns_pass_with_both() {
    let sealer = Sealer::start();
    for order in [
        [By::Chopar, By::Dkimpy, By::Chopar],
        [By::Dkimpy, By::Chopar, By::Dkimpy],
        [By::Chopar, By::Chopar, By::Dkimpy],
    ] {
        let mut message = MESSAGE.to_owned();
        for (by, sets) in order.into_iter().zip(1..) {
            message = sealer.seal(by, &message);
            assert!(message.ends_with(MESSAGE), "{message}");
            sealer.both_pass(&message, sets);
        }
    }
}

#[test]
fn broken_chains_fail_with_both() {
    let sealer = Sealer::start();
    let one = sealer.seal(By::Chopar, MESSAGE);
    for by in [By::Chopar, By::Dkimpy] {
        let two = sealer.seal(by, &one);
        for (from, to) in [
            ("Hello  world", "Hallo world"),
            ("Subject: a", "Subject: b"),
            ("From: Ann", "From: Eve"),
            ("cv=pass", "cv=none"),
            ("cv=none", "cv=pass"),
            ("cv=none", "cv=fail"),
            ("cv=pass", "cv=fail"),
            ("arc=none", "arc=pass"),
            ("arc=pass", "arc=none"),
            ("cv=pass;", "cv=pass; h=from;"),
            ("s=s1;", "s=s2;"),
        ] {
            // Authentication-Results itself is not signed, so the change must be in the set's copy.
            let at = two.rfind("ARC-Authentication-Results").unwrap_or(0);
            let changed = if from == "arc=none" {
                format!("{}{}", &two[..at], altered(&two[at..], from, to))
            } else {
                altered(&two, from, to)
            };
            sealer.both_fail(&changed);
        }
        for field in [
            "ARC-Seal: i=1",
            "ARC-Seal: i=2",
            "ARC-Message-Signature: i=1",
            "ARC-Message-Signature: i=2",
            "ARC-Authentication-Results: i=1",
            "ARC-Authentication-Results: i=2",
        ] {
            sealer.both_fail(&without(&two, field));
        }
    }
}

#[test]
fn a_broken_chain_is_sealed_as_failed_and_not_sealed_again() {
    let sealer = Sealer::start();
    let broken = altered(
        &sealer.seal(By::Dkimpy, MESSAGE),
        "Subject: a",
        "Subject: b",
    );
    let sealed = sealer.seal(By::Chopar, &broken);
    assert!(
        sealed.starts_with("ARC-Seal: i=2; a=rsa-sha256;"),
        "{sealed}"
    );
    assert!(sealed.contains("cv=fail"), "{sealed}");
    sealer.both_fail(&sealed);
    let again = sealer.chopar(&["arc", "seal", "--domain", DOMAIN], sealed.as_bytes());
    assert_eq!((again.code, again.stdout.as_str()), (65, ""));
    assert!(
        again.stderr.contains("says itself that it is broken"),
        "{}",
        again.stderr
    );
}

#[test]
fn results_in_our_name_are_replaced_and_those_of_others_stay() {
    let sealer = Sealer::start();
    let message = format!(
        "Authentication-Results: \"MX.seal.test\" 1; dkim=pass header.d=bank.test\r\n\
         Authentication-Results: mx.src.test; spf=pass\r\n{MESSAGE}"
    );
    let sealed = sealer.seal(By::Chopar, &message);
    assert!(!sealed.contains("bank.test"), "{sealed}");
    assert!(sealed.contains("Authentication-Results: mx.src.test; spf=pass\r\n"));
    assert!(sealed.contains("\r\nAuthentication-Results: mx.seal.test;\r\n\tarc=none\r\n"));
    sealer.both_pass(&sealed, 1);
}
