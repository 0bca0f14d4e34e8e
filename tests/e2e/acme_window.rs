//! A CA that suggests renewal windows (RFC 9773): pebble behind a proxy that answers for the windows.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::pebble::{LONG, Pebble, cert, relay_with_ca};
use crate::process::{Guard, program, python, run, wait_for};
use crate::relay::Relay;
use crate::world::free_port;

/// The proxy that answers for the windows.
struct Windows {
    port: u16,
    folder: std::path::PathBuf,
    _server: Guard,
}

impl Windows {
    fn start(pebble: &Pebble) -> Self {
        let folder = pebble.file("windows");
        fs::create_dir(&folder).expect("a folder");
        for file in ["cert.pem", "key.pem"] {
            fs::copy(pebble.file(file), folder.join(file)).expect("a file");
        }
        fs::write(folder.join("log"), "").expect("a file");
        let port = free_port();
        let mut command = python("ari.py");
        command
            .args([port.to_string(), pebble.port.to_string()])
            .arg(&folder)
            .stdin(Stdio::null());
        let started = Self {
            port,
            folder,
            _server: Guard::spawn(&mut command),
        };
        started.answer(json!({"status": 404}));
        wait_for("the proxy", LONG, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        started
    }

    /// Sets the answer from now on.
    fn answer(&self, answer: Value) {
        let path = self.folder.join("answer.json");
        let beside = self.folder.join("next.json");
        fs::write(&beside, answer.to_string()).expect("a file");
        fs::rename(beside, path).expect("a file");
    }

    /// The lines of its log that begin with this word, without the word. A request repeated for a new nonce counts
    /// once.
    fn noted(&self, word: &str) -> Vec<String> {
        let log = fs::read_to_string(self.folder.join("log")).expect("a file");
        let lines = log.lines().filter_map(|line| line.strip_prefix(word));
        let mut noted: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
        if word == "replaces " {
            noted.dedup();
        }
        noted
    }
}

fn window(start: &str, end: &str) -> Value {
    json!({"suggestedWindow": {"start": start, "end": end}, "explanationURL": "https://ca.test/why"})
}

/// The certificate identifier of RFC 9773 section 4.1, as read by openssl.
fn id_of(relay: &Relay, name: &str) -> String {
    let path = relay.folder().join("state/acme/certificates").join(name);
    let ask = |words: &[&str]| {
        let mut command = Command::new(program("openssl"));
        command
            .args(["x509", "-noout", "-in"])
            .arg(path.join("fullchain.pem"));
        run(command.args(words), b"").ok()
    };
    let serial = ask(&["-serial"]);
    let serial = serial
        .trim()
        .strip_prefix("serial=")
        .expect("a serial")
        .to_owned();
    let authority = ask(&["-ext", "authorityKeyIdentifier"]);
    let authority = authority.lines().last().expect("a key").trim();
    let authority = authority.trim_start_matches("keyid:").replace(':', "");
    // An INTEGER with the first bit set has a leading zero.
    let front = if serial.as_bytes()[0] >= b'8' {
        "00"
    } else {
        ""
    };
    format!(
        "{}.{}",
        base64url(&authority),
        base64url(&format!("{front}{serial}"))
    )
}

fn base64url(hex: &str) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn serial(folder: &Path) -> String {
    let mut command = Command::new(program("openssl"));
    command
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(folder.join("fullchain.pem"));
    run(&mut command, b"").ok()
}

/// A relay with a certificate from a CA with renewal windows.
fn world() -> (Relay, Pebble, Windows) {
    let (mut relay, pebble) = relay_with_ca(&[], "", "");
    let windows = Windows::start(&pebble);
    relay.setup.tables = pebble.table("").replace(
        &format!("localhost:{}/dir", pebble.port),
        &format!("localhost:{}/dir", windows.port),
    );
    relay.write_config();
    let said = cert(&relay, &["obtain", "--agree"]);
    assert_eq!(said.code, 0, "{said:?}");
    (relay, pebble, windows)
}

#[test]
fn the_window_of_the_ca_decides_the_renewal_and_an_invalid_one_leaves_it_to_the_lifetime() {
    let (relay, _pebble, windows) = world();
    assert_eq!(windows.noted("replaces "), Vec::<String>::new());
    let folder = relay
        .folder()
        .join("state/acme/certificates/mail.relay.test");
    let first = serial(&folder);
    let renew = || {
        let said = cert(&relay, &["renew", "mail.relay.test"]);
        assert_eq!(said.code, 0, "{said:?}");
        said.stderr
    };
    let id = id_of(&relay, "mail.relay.test");
    windows.answer(json!({
        "headers": {"Retry-After": "21600"},
        "body": window("2027-03-01T00:00:00Z", "2027-03-02T00:00:00Z"),
    }));
    assert!(
        renew().contains("to be renewed at 2027-03-01T"),
        "within the window"
    );
    assert_eq!(windows.noted("window ").last(), Some(&id));

    // The certificate is valid for five years; a third of them is left in 2030.
    let own = |answer: Value| {
        windows.answer(answer.clone());
        let said = renew();
        let years = ["2029", "2030"];
        let due = |year: &str| said.contains(&format!("to be renewed at {year}"));
        assert!(years.into_iter().any(due), "{answer}: {said}");
    };
    for status in [404, 500, 503, 301] {
        own(json!({"status": status, "body": "{}"}));
    }
    let turned = window("2027-03-02T00:00:00Z", "2027-03-01T00:00:00Z");
    for body in [
        json!("{\"suggestedWindow\":"),
        json!(""),
        json!({}),
        json!({"suggestedWindow": {"start": 1, "end": []}}),
        window("yesterday", "tomorrow"),
        turned,
    ] {
        own(json!({"headers": {"Retry-After": "soon"}, "body": body}));
    }
    // A window after the expiry would leave the relay without a certificate.
    windows.answer(json!({"body": window("2090-01-01T00:00:00Z", "2091-01-01T00:00:00Z")}));
    let late = renew();
    assert!(late.contains("to be renewed at 203"), "{late}");
    assert_eq!(serial(&folder), first);

    // Mass revocation: the window is in the past. The order names the certificate that it replaces.
    windows.answer(json!({"body": window("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")}));
    assert!(renew().contains("obtained a certificate"));
    assert_ne!(serial(&folder), first);
    assert_eq!(windows.noted("replaces "), [id]);
    // If the CA refuses because it knows another replacement, the order is repeated without it.
    let second = serial(&folder);
    let id = id_of(&relay, "mail.relay.test");
    windows.answer(json!({
        "refuse": true,
        "body": window("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
    }));
    assert!(renew().contains("obtained a certificate"));
    assert_ne!(serial(&folder), second);
    assert_eq!(windows.noted("replaces ").last(), Some(&id));
}

#[test]
fn the_daemon_renews_once_when_the_ca_asks_for_it() {
    let (mut relay, pebble, windows) = world();
    relay.stop();
    let folder = relay
        .folder()
        .join("state/acme/certificates/mail.relay.test");
    let first = serial(&folder);
    let id = id_of(&relay, "mail.relay.test");
    windows.answer(json!({
        "headers": {"Retry-After": "1"},
        "body": window("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
    }));
    relay.run();
    let waits = |what: &str| {
        wait_for(what, LONG, || relay.log().contains(what).then_some(()));
    };
    waits("event=certificate-renewal name=mail.relay.test until=");
    assert_ne!(serial(&folder), first);
    assert_eq!(windows.noted("replaces "), [id]);
    // The new certificate would be due at once, too. The relay logs that and waits, across a restart.
    waits("the certificate that was just obtained would be due for renewal already");
    let asked = windows.noted("window ").len();
    let second = serial(&folder);
    relay.stop();
    relay.run();
    wait_for("the question after the restart", LONG, || {
        (windows.noted("window ").len() > asked).then_some(())
    });
    wait_for("the line after the restart", LONG, || {
        let log = relay.log();
        (log.matches("would be due for renewal already").count() == 2).then_some(())
    });
    assert_eq!(serial(&folder), second);
    assert_eq!(windows.noted("replaces ").len(), 1);
    // However soon the CA wants the next request, the relay does not send one each second (RFC 9773 section 4.3).
    assert!(
        windows.noted("window ").len() <= 4,
        "{:?}",
        windows.noted("window ")
    );
    relay.stop();
    drop(pebble);
}
