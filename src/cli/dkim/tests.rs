//! The commands on temporary folders, with the DNS as a function.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::dns::{NoRecords, Records};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const MESSAGE: &str = "From: Alice <alice@example.com>\nTo: bob@example.org\n\nHello\n";

fn served() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("domains/example.com")).expect("a domain");
    folder
}

fn keygen(folder: &Path, selector: &str, algorithm: KeyType) -> Result<String, DkimError> {
    let mut output = Vec::new();
    let command = Keygen {
        domain: "example.com".to_owned(),
        selector: selector.to_owned(),
        algorithm,
        bits: 2048,
    };
    command.run(folder, &mut output)?;
    Ok(String::from_utf8(output).expect("text"))
}

fn record(folder: &Path, json: bool) -> String {
    let mut output = Vec::new();
    let domain = "example.com".to_owned();
    Record { domain, json }
        .run(folder, &mut output)
        .expect("records");
    String::from_utf8(output).expect("text")
}

const SIGN: Sign = Sign {
    file: None,
    domain: None,
    selector: None,
    key: None,
};

fn sign(command: &Sign, folder: &Path, message: &str) -> Result<Vec<u8>, DkimError> {
    let mut output = Vec::new();
    command.run(folder, &mut message.as_bytes(), &mut output, NOW)?;
    Ok(output)
}

/// Verifies with the records that `folder` publishes.
fn verify(folder: &Path, message: &[u8]) -> (Result<(), DkimError>, String) {
    let domain = Domain::parse("example.com").expect("a domain");
    let mut lookup = |question: &Question| {
        let keys = domain_keys(folder, &domain, None).expect("keys");
        let text = keys
            .iter()
            .find(|(selector, _)| record_name(selector, &domain) == question.name.as_str())
            .map(|(_, key)| Arc::new(Records::Txt(vec![record_text(key).into_bytes()])));
        Answer {
            records: text.ok_or(NoRecords::NoDomain),
            authentic: false,
            ttl: Duration::ZERO,
        }
    };
    let mut output = Vec::new();
    let command = Verify {
        file: None,
        dns: None,
    };
    let result = command.run(&mut &message[..], &mut output, NOW, &mut lookup);
    (result, String::from_utf8(output).expect("text"))
}

#[test]
fn both_kinds_of_new_keys_sign_what_verifies() {
    let folder = served();
    let rsa = keygen(folder.path(), "s1", KeyType::Rsa).expect("a key");
    let ed = keygen(folder.path(), "S2", KeyType::Ed25519).expect("a key");
    assert!(rsa.starts_with("s1._domainkey.example.com. IN TXT (\n\t\"v=DKIM1; k=rsa; p="));
    assert!(ed.starts_with("s2._domainkey.example.com. IN TXT \"v=DKIM1; k=ed25519; p="));
    assert_eq!(record(folder.path(), false), rsa + &ed);
    let json: serde_json::Value = serde_json::from_str(&record(folder.path(), true)).expect("JSON");
    assert_eq!(json[1]["selector"], "s2");
    assert_eq!(json[0]["bits"], 2048);

    let signed = sign(&SIGN, folder.path(), MESSAGE).expect("a message");
    assert!(signed.ends_with(MESSAGE.replace('\n', "\r\n").as_bytes()));
    let (result, text) = verify(folder.path(), &signed);
    assert!(result.is_ok(), "{text}");
    assert_eq!(
        text,
        "pass d=example.com s=s1 a=rsa-sha256\npass d=example.com s=s2 a=ed25519-sha256\n"
    );
    let lf = String::from_utf8(signed)
        .expect("text")
        .replace("\r\n", "\n");
    assert!(verify(folder.path(), lf.as_bytes()).0.is_ok());
    let (result, text) = verify(folder.path(), lf.replace("Hello", "Hallo").as_bytes());
    assert_eq!(result.expect_err("changed").exit_code(), 65);
    assert!(text.starts_with("fail d=example.com s=s1 a=rsa-sha256 (the body was changed)\n"));
}

#[test]
fn a_key_is_private_whole_and_never_overwritten() {
    let folder = served();
    keygen(folder.path(), "s1", KeyType::Ed25519).expect("a key");
    let keys = folder.path().join("domains/example.com/dkim");
    let path = keys.join("s1.pem");
    let before = fs::read(&path).expect("a file");
    let mode = fs::metadata(&path).expect("a file").mode() & 0o777;
    assert!(matches!(mode, 0o600 | 0o640), "{mode:o}");
    let error = keygen(folder.path(), "s1", KeyType::Ed25519).expect_err("exists");
    assert_eq!(error.exit_code(), 73);
    assert!(matches!(error, DkimError::Exists(_)), "{error}");
    assert_eq!(fs::read(&path).expect("a file"), before);
    assert_eq!(
        fs::read_dir(&keys).expect("a folder").count(),
        1,
        "nothing is left over"
    );
}

#[test]
fn what_cannot_be_made_is_refused_with_its_exit_code() {
    let folder = served();
    for selector in ["", "..", "../x", "a/b", "a b", "-a", "é", "x\n"] {
        let error = keygen(folder.path(), selector, KeyType::Ed25519).expect_err(selector);
        assert_eq!(error.exit_code(), 64, "{selector:?}");
    }
    let mut command = Keygen {
        domain: "example.com".to_owned(),
        selector: "s".to_owned(),
        algorithm: KeyType::Rsa,
        bits: 1024,
    };
    let run = |command: &Keygen| {
        let error = command.run(folder.path(), &mut Vec::new());
        error.expect_err("refused").exit_code()
    };
    assert_eq!(run(&command), 64);
    command.algorithm = KeyType::Ed25519;
    command.domain = "example.org".to_owned();
    assert_eq!(run(&command), 78);
    command.domain = "../example.org".to_owned();
    assert_eq!(run(&command), 64);
    assert_eq!("dsa".parse::<KeyType>(), Err(BadKeyType));
}

#[test]
fn signs_with_a_key_elsewhere_and_for_another_domain() {
    let folder = served();
    let key = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/dkim/ed25519.pem"
    ));
    let command = Sign {
        domain: Some("example.net".to_owned()),
        key: Some(key),
        ..SIGN
    };
    let signed = sign(&command, folder.path(), MESSAGE).expect("a message");
    let text = String::from_utf8(signed).expect("text");
    assert!(text.contains("d=example.net;\r\n\ts=ed25519;"), "{text}");
    let command = Sign {
        selector: Some("other".to_owned()),
        ..command
    };
    let signed = sign(&command, folder.path(), MESSAGE).expect("a message");
    assert!(
        String::from_utf8(signed)
            .expect("text")
            .contains("s=other;")
    );
}

#[test]
fn what_cannot_be_signed_is_refused_with_its_exit_code() {
    let folder = served();
    let code = |message: &str| {
        sign(&SIGN, folder.path(), message)
            .expect_err(message)
            .exit_code()
    };
    assert_eq!(code(MESSAGE), 78, "no keys");
    assert_eq!(code("Subject: x\n\n"), 65, "nobody");
    assert_eq!(code("hello\n"), 65, "no header");
}

#[test]
fn a_message_without_signatures_is_said_to_have_none() {
    let folder = served();
    let (result, text) = verify(folder.path(), MESSAGE.as_bytes());
    assert_eq!(result.expect_err("none").exit_code(), 65);
    assert!(text.starts_with("none"));
}

#[test]
fn arguments_are_taken_as_the_manual_spells_them() {
    let parse = |words: &[&str]| Dkim::from_args(&["chopar", "dkim"], words);
    assert!(
        parse(&[
            "keygen",
            "example.com",
            "--selector",
            "s",
            "--algorithm",
            "rsa",
            "--bits",
            "2048"
        ])
        .is_ok()
    );
    assert!(parse(&["record", "example.com", "--json"]).is_ok());
    assert!(
        parse(&[
            "sign",
            "--domain",
            "d",
            "--selector",
            "s",
            "--key",
            "k",
            "file"
        ])
        .is_ok()
    );
    assert!(parse(&["verify", "--dns", "127.0.0.1:5353"]).is_ok());
    assert!(parse(&["verify", "--dns", "localhost"]).is_err());
    assert!(
        parse(&[
            "keygen",
            "example.com",
            "--selector",
            "s",
            "--algorithm",
            "dsa"
        ])
        .is_err()
    );
}
