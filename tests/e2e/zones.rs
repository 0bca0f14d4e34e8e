//! `chopar dns` with a real authoritative server (knot) that loads its output.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Guard, Output, PATIENCE, program, run, run_within, wait_for};
use crate::relay::CHOPAR;
use crate::world::free_port;

/// Authoritative zones, each with the records that follow its SOA.
pub(crate) struct Zones {
    /// Its port, on 127.0.0.1.
    pub(crate) port: u16,
    folder: TempDir,
    server: Option<Guard>,
    /// The access rules for updates, in knot's syntax.
    updates: String,
}

impl Zones {
    /// Answers for these zones: names, and records with full names.
    pub(crate) fn start(zones: &[(&str, &str)]) -> Self {
        let here = "acl:\n  - id: writers\n    address: 127.0.0.0/8\n    action: update\n";
        Self::start_for(zones, here.to_owned())
    }

    /// The same, and accepts updates signed with this key only.
    pub(crate) fn start_with_key(zones: &[(&str, &str)], name: &str, secret: &str) -> Self {
        let keyed = format!(
            "key:\n  - id: {name}\n    algorithm: hmac-sha256\n    secret: {secret}\nacl:\n  - id: writers\n    key: {name}\n    \
             action: update\n"
        );
        Self::start_for(zones, keyed)
    }

    fn start_for(zones: &[(&str, &str)], updates: String) -> Self {
        let mut started = Self {
            updates,
            port: free_port(),
            folder: tempfile::tempdir().expect("a folder"),
            server: None,
        };
        started.serve(zones);
        started
    }

    /// Answers for these zones from now on.
    pub(crate) fn serve(&mut self, zones: &[(&str, &str)]) {
        self.server = None;
        let folder = self.folder.path();
        // knot needs this folder to change zones.
        fs::create_dir_all(folder.join("db")).expect("a folder");
        let mut text = format!(
            "server:\n    listen: 127.0.0.1@{}\n    rundir: {folder}\n\
             database:\n    storage: {folder}/db\n{updates}log:\n  - target: stderr\n    any: warning\nzone:\n",
            self.port,
            updates = self.updates,
            folder = folder.display()
        );
        for (zone, records) in zones {
            let file = folder.join(format!("{zone}.zone"));
            let front = format!(
                "{zone}. 60 IN SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 60\n{zone}. 60 IN NS ns.{zone}.\n"
            );
            let glue = match zone.ends_with(".arpa") {
                true => String::new(),
                false => format!("ns.{zone}. 60 IN A 127.0.0.1\n"),
            };
            let front = match zone.ends_with(".arpa") {
                true => front.replace(&format!("NS ns.{zone}."), &format!("NS ns.{}.", zones[0].0)),
                false => front,
            };
            fs::write(&file, format!("{front}{glue}{records}\n")).expect("a file");
            text.push_str(&format!(
                "  - domain: {zone}\n    file: {}\n    acl: writers\n",
                file.display()
            ));
        }
        let configuration = folder.join("knot.conf");
        fs::write(&configuration, text).expect("a file");
        let log = folder.join("log");
        let mut command = Command::new(program("knotd"));
        command
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file"));
        let mut guard = Guard::spawn(&mut command);
        let port = self.port;
        wait_for("knotd", PATIENCE, || {
            assert!(
                guard.is_alive(),
                "knotd does not start: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .is_ok()
                .then_some(())
        });
        self.server = Some(guard);
    }
}

fn configure(folder: &Path) {
    fs::create_dir_all(folder.join("domains/example.test/dkim")).expect("a folder");
    fs::write(
        folder.join("chopar.toml"),
        "hostname = \"mail.example.test\"\n",
    )
    .expect("a file");
    let words = [
        "dkim",
        "keygen",
        "--algorithm",
        "ed25519",
        "--selector",
        "s1",
        "example.test",
    ];
    let keygen = run(Command::new(CHOPAR).arg("-C").arg(folder).args(words), b"");
    keygen.ok();
}

/// Runs `chopar dns` with only these zones for DNS.
fn dns(folder: &Path, zones: &Zones, words: &[&str]) -> Output {
    let mut command = Command::new(CHOPAR);
    command.arg("-C").arg(folder).args(["dns", "example.test"]);
    command.args(["--address", "192.0.2.1", "--address", "2001:db8::1"]);
    command
        .arg("--dns")
        .arg(format!("127.0.0.1:{}", zones.port));
    command.arg("--zone-port").arg(zones.port.to_string());
    run_within(command.args(words), b"", Duration::from_secs(60))
}

const V6: &str = "0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";

#[test]
fn an_empty_zone_becomes_complete_with_the_printed_records() {
    let folder = tempfile::tempdir().expect("a folder");
    configure(folder.path());
    let mut zones = Zones::start(&[("example.test", ""), ("2.0.192.in-addr.arpa", ""), (V6, "")]);
    let before = dns(folder.path(), &zones, &[]).ok();
    assert!(
        before.contains("example.test: 0 of 8 required records are there"),
        "{before}"
    );
    assert!(
        before.contains("name in the panel of example.test: s1._domainkey"),
        "{before}"
    );
    let given_up = dns(folder.path(), &zones, &["--watch", "--within", "0s"]);
    assert_eq!(given_up.code, 75);

    let printed = dns(folder.path(), &zones, &["--format", "zone"]).ok();
    let (here, elsewhere) = printed
        .split_once("; not in this zone:\n")
        .expect("pointers");
    let pointers = |zone: &str| -> String {
        let lines = elsewhere.lines().filter_map(|line| line.strip_prefix("; "));
        lines
            .filter(|line| line.contains(zone))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let (four, six) = (pointers("in-addr"), pointers("ip6"));
    zones.serve(&[
        ("example.test", here),
        ("2.0.192.in-addr.arpa", &four),
        (V6, &six),
    ]);
    let watched = dns(folder.path(), &zones, &["--watch", "--within", "20s"]).ok();
    assert!(
        watched.contains("8 of 8 required records are there"),
        "{watched}"
    );
    assert!(
        watched.contains("all required records are there after"),
        "{watched}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&dns(folder.path(), &zones, &["--json"]).ok()).expect("JSON");
    for row in json.as_array().expect("a list") {
        assert_eq!(row["state"], "there", "{row}");
    }
}

#[test]
fn a_silent_name_server_is_reported_as_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    configure(folder.path());
    let mut command = Command::new(CHOPAR);
    command
        .arg("-C")
        .arg(folder.path())
        .args(["dns", "example.test"]);
    command.args(["--address", "192.0.2.1", "--dns"]);
    command.arg(format!("127.0.0.1:{}", free_port()));
    let output = run_within(&mut command, b"", Duration::from_secs(60));
    assert_eq!(output.code, 69, "{}", output.stderr);
    assert!(output.stderr.contains("--dns"), "{}", output.stderr);
}

#[test]
fn a_domain_that_is_not_served_is_reported_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    configure(folder.path());
    for command in ["dns", "doctor"] {
        let mut chopar = Command::new(CHOPAR);
        chopar.arg("-C").arg(folder.path());
        let output = run(chopar.args([command, "other.test"]), b"");
        let expected =
            "chopar: other.test is not served; `chopar domain add other.test` serves it\n";
        assert_eq!((output.code, output.stderr.as_str()), (64, expected));
        assert_eq!(output.stdout, "");
    }
}
