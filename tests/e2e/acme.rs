//! Certificates from pebble, Let's Encrypt's ACME server for tests, which refuses half of all nonces.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::pebble::{LONG, cert, list, relay_with_ca, shown};
use crate::process::{run_within, wait_for};
use crate::relay::{CHOPAR, Relay};
use crate::world::free_port;

#[test]
fn a_certificate_is_obtained_by_http_and_by_tls_and_served_at_once() {
    let (relay, _pebble) = relay_with_ca(
        &[],
        "",
        "b.relay.test. A 127.0.0.1\nc.relay.test. A 127.0.0.1",
    );
    let refused = cert(&relay, &["obtain"]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains("--agree"), "{refused:?}");
    assert!(list(&relay).is_empty(), "what was not obtained is not kept");

    let said = cert(&relay, &["obtain", "--agree"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stderr
            .contains("obtained a certificate for mail.relay.test"),
        "{said:?}"
    );
    let first = shown(&relay, "mail.relay.test");
    assert!(first.contains("Pebble"), "{first}");
    let folder = relay
        .folder()
        .join("state/acme/certificates/mail.relay.test");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(
        (mode(&folder), mode(&folder.join("privkey.pem"))),
        (0o700, 0o600)
    );

    // The account exists now. Two names, by the other challenge.
    let words = [
        "obtain",
        "b.relay.test",
        "c.relay.test",
        "--challenge",
        "tls-alpn-01",
    ];
    let said = cert(&relay, &words);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(shown(&relay, "b.relay.test").contains("Pebble"));

    // The key stays unless the command asks for a new one, and a certificate that is not due stays too.
    let key = || fs::read_to_string(folder.join("privkey.pem")).expect("a key");
    let before = key();
    let said = cert(&relay, &["renew", "mail.relay.test"]);
    assert!(
        said.code == 0 && said.stderr.contains("--force renews it now"),
        "{said:?}"
    );
    assert_eq!(shown(&relay, "mail.relay.test"), first);
    assert_eq!(
        cert(&relay, &["renew", "mail.relay.test", "--force"]).code,
        0
    );
    assert_ne!(shown(&relay, "mail.relay.test"), first);
    assert_eq!(key(), before);
    assert_eq!(cert(&relay, &["obtain", "--new-key"]).code, 0);
    assert_ne!(key(), before);

    let rows = list(&relay);
    let folders: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["folder"].as_str())
        .collect();
    assert_eq!(
        folders,
        [
            "acme/certificates/b.relay.test",
            "acme/certificates/mail.relay.test"
        ]
    );
    assert_eq!(rows[0]["names"], json!(["b.relay.test", "c.relay.test"]));
    assert!(
        rows[0]["served_for"]
            .as_array()
            .expect("names")
            .contains(&"b.relay.test".into())
    );
    assert_eq!(rows[1]["error"], Value::Null);

    let said = cert(
        &relay,
        &["revoke", "b.relay.test", "--reason", "superseded"],
    );
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(list(&relay).len(), 1);
    assert_eq!(cert(&relay, &["revoke", "b.relay.test"]).code, 66);

    // The last certificate can be revoked too. A revoked certificate is not served, and after a restart there is none.
    let said = cert(&relay, &["revoke", "mail.relay.test"]);
    assert_eq!(said.code, 0, "{said:?}");
    wait_for("another certificate", LONG, || {
        (!shown(&relay, "mail.relay.test").contains("Pebble")).then_some(())
    });
    let left = relay.folder().join("state/tls-last-good");
    let left = fs::read_dir(left).map_or(0, |left| left.count());
    assert_eq!(left, 0);

    // An earlier version was interrupted and left an order, but nothing to revoke.
    fs::create_dir(&folder).expect("a folder");
    fs::write(
        folder.join("order.json"),
        r#"{"names":["mail.relay.test"],"agreed":true}"#,
    )
    .expect("a file");
    let said = cert(&relay, &["revoke", "mail.relay.test"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("no certificate"), "{said:?}");
    assert!(!folder.exists());
}

#[test]
fn each_failure_of_the_ca_is_reported_with_a_remedy() {
    let (relay, mut pebble) =
        relay_with_ca(&[("domainBlocklist", json!(["bad.relay.test"]))], "", "");
    pebble.stop();
    let down = cert(&relay, &["obtain", "--agree"]);
    assert_eq!(down.code, 69, "{down:?}");
    assert!(
        down.stderr.contains("refused") && down.stderr.contains("acme.directory"),
        "{down:?}"
    );
    pebble.run();

    // The CA connects to another port than the one with the challenge.
    let right = relay.setup.tables.clone();
    let config = |table: &str| {
        let path = relay.config().join("chopar.toml");
        let text = fs::read_to_string(&path).expect("a file");
        let (front, _) = text.split_once("[acme]").expect("the table");
        fs::write(path, format!("{front}{table}")).expect("a file");
    };
    config(&right.replace(
        &format!("http_port = {}", pebble.http_port),
        &format!("http_port = {}", free_port()),
    ));
    let elsewhere = cert(&relay, &["obtain", "--agree"]);
    assert_eq!(elsewhere.code, 69, "{elsewhere:?}");
    assert!(
        elsewhere.stderr.contains("mail.relay.test by http-01")
            && elsewhere.stderr.contains("port 80"),
        "{elsewhere:?}"
    );

    config(&right);
    let blocked = cert(&relay, &["obtain", "--agree", "bad.relay.test"]);
    assert_eq!(blocked.code, 78, "{blocked:?}");
    assert!(
        blocked.stderr.contains("does not issue for this name"),
        "{blocked:?}"
    );

    // Another process has the port.
    let taken =
        std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, pebble.http_port)).expect("a port");
    let refused = cert(&relay, &["obtain", "--agree"]);
    assert!(
        refused.code == 69 && refused.stderr.contains("taken by another program"),
        "{refused:?}"
    );
    drop(taken);

    // The certificate of the CA is not trusted.
    config(&right.replace("ca_file", "#"));
    let unknown = cert(&relay, &["obtain", "--agree"]);
    assert!(
        unknown.code == 69 && unknown.stderr.contains("acme.ca_file"),
        "{unknown:?}"
    );
    assert!(list(&relay).is_empty());
}

#[test]
fn external_account_binding_uses_an_account_that_the_ca_knows() {
    let mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let ca = [
        ("externalAccountBindingRequired", json!(true)),
        ("externalAccountMACKeys", json!({"kid-1": mac})),
    ];
    let (mut relay, pebble) = relay_with_ca(&ca, "", "");
    let refused = cert(&relay, &["obtain", "--agree"]);
    assert!(
        refused.code == 78 && refused.stderr.contains("eab_kid"),
        "{refused:?}"
    );
    let secrets = relay.config().join("secrets");
    fs::create_dir(&secrets).expect("a folder");
    fs::write(secrets.join("eab"), format!("{mac}\n")).expect("a file");
    fs::set_permissions(secrets.join("eab"), fs::Permissions::from_mode(0o640)).expect("a mode");
    relay.setup.tables = pebble.table("eab_kid = \"kid-1\"\neab_key_file = \"secrets/eab\"");
    relay.write_config();
    let said = cert(&relay, &["obtain", "--agree"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", pebble.log());
}

#[test]
fn the_daemon_renews_without_failed_sessions_while_the_ca_restarts_without_its_data() {
    // A lifetime so short that the certificate is renewed every few seconds.
    let life = [("certificateValidityPeriod", json!(16))];
    let (mut relay, mut pebble) = relay_with_ca(&life, "enabled = true", "");
    relay.stop();
    relay.run();
    let lines = |relay: &Relay, has_cause: bool| {
        let log = relay.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("event=certificate-renewal"));
        lines
            .filter(|line| line.contains("cause=") == has_cause)
            .count()
    };
    let renewals = |relay: &Relay| lines(relay, false);
    let failures = |relay: &Relay| lines(relay, true);
    let wait_until = |relay: &Relay, count: usize| {
        wait_for("renewals", LONG, || {
            (renewals(relay) >= count).then_some(())
        });
    };
    let over = Arc::new(AtomicBool::new(false));
    let sessions = Arc::new(AtomicUsize::new(0));
    let port = relay.submission();
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (over, sessions) = (Arc::clone(&over), Arc::clone(&sessions));
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut client = Client::connect(port);
                    assert_eq!(client.say("EHLO client.test").code, 250);
                    assert_eq!(client.say("STARTTLS").code, 220);
                    client.start_tls();
                    assert_eq!(client.say("EHLO client.test").code, 250, "TLS failed");
                    assert_eq!(client.say("QUIT").code, 221);
                    sessions.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            })
        })
        .collect();
    wait_until(&relay, 3);
    let key = fs::read_to_string(
        relay
            .folder()
            .join("state/acme/certificates/mail.relay.test/privkey.pem"),
    );
    // The CA is down for longer than the lifetime of a certificate, and has lost our account when it returns.
    pebble.stop();
    wait_for("a failure", LONG, || (failures(&relay) > 0).then_some(()));
    pebble.run();
    let before = renewals(&relay);
    wait_until(&relay, before + 2);
    // Our half of the account is lost, too.
    let account = fs::read_dir(relay.folder().join("state/acme")).expect("a folder");
    let account = account
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some());
    fs::remove_file(account.expect("a key")).expect("a file");
    let before = renewals(&relay);
    wait_until(&relay, before + 2);
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("every session works");
    }
    assert!(sessions.load(Ordering::Relaxed) > 50, "{sessions:?}");
    let after = fs::read_to_string(
        relay
            .folder()
            .join("state/acme/certificates/mail.relay.test/privkey.pem"),
    );
    assert_eq!(after.expect("a key"), key.expect("a key"), "the key stays");
    // The same cause is logged once.
    assert_eq!(failures(&relay), 1, "{}", relay.log());
    assert!(shown(&relay, "mail.relay.test").contains("Pebble"));
    relay.stop();
}

#[test]
fn a_command_of_root_works_as_the_account_and_leaves_its_files_to_it() {
    if !rustix::process::geteuid().is_root() {
        return; // the test cannot change to another account
    }
    let (relay, pebble) = relay_with_ca(&[], "", "");
    // The account must be able to read the roots of the CA, which are in a folder of root's.
    fs::set_permissions(pebble.folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = relay.config().join("chopar.toml");
    let text = fs::read_to_string(&path).expect("a file");
    let text = text.replace("user = \"root\"", "user = \"nobody\"");
    fs::write(path, text.replace("/state\"", "/other\"")).expect("a file");
    let mut command = Command::new(CHOPAR);
    command
        .arg("-C")
        .arg(relay.config())
        .args(["cert", "obtain", "--agree"]);
    let said = run_within(&mut command, b"", LONG);
    assert_eq!(said.code, 0, "{said:?}");
    let root = relay.folder().join("other/acme");
    let files = [
        "",
        "lock",
        "certificates",
        "certificates/mail.relay.test",
        "certificates/mail.relay.test/privkey.pem",
    ];
    for file in files {
        let about = fs::metadata(root.join(file)).expect("a file");
        assert_eq!((about.uid(), about.mode() & 0o077), (65_534, 0), "{file}");
    }
}
