//! Pebble, Let's Encrypt's ACME server for tests, which refuses half of all nonces; and its setup.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Guard, Output, program, run, run_within, wait_for};
use crate::relay::{CHOPAR, Relay, Setup};
use crate::world::{certificate, free_port};

/// Time limit for an order on a slow machine, with half of the requests repeated.
pub(crate) const LONG: Duration = Duration::from_secs(90);

pub(crate) struct Pebble {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    pub(crate) http_port: u16,
    pub(crate) tls_port: u16,
    management: u16,
    dns_port: u16,
    server: Option<Guard>,
}

impl Pebble {
    /// Starts a CA that resolves names with this DNS server and validates challenges at ports of its own. `more` are
    /// keys of its configuration.
    pub(crate) fn start(dns_port: u16, more: &[(&str, Value)]) -> Self {
        Self::start_at([dns_port, free_port(), free_port()], more)
    }

    /// Starts another CA with the same name server and the same ports for challenges.
    pub(crate) fn start_beside(first: &Self) -> Self {
        Self::start_at([first.dns_port, first.http_port, first.tls_port], &[])
    }

    fn start_at(ports: [u16; 3], more: &[(&str, Value)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        certificate(folder.path(), "localhost");
        let [dns_port, http_port, tls_port] = ports;
        let mut pebble = Self {
            folder,
            port: free_port(),
            http_port,
            tls_port,
            management: free_port(),
            dns_port,
            server: None,
        };
        let mut keys = json!({
            "listenAddress": format!("127.0.0.1:{}", pebble.port),
            "managementListenAddress": format!("127.0.0.1:{}", pebble.management),
            "certificate": pebble.file("cert.pem"),
            "privateKey": pebble.file("key.pem"),
            "httpPort": pebble.http_port,
            "tlsPort": pebble.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        });
        for (key, value) in more {
            keys[*key] = value.clone();
        }
        let text = json!({ "pebble": keys }).to_string();
        fs::write(pebble.file("config.json"), text).expect("a file");
        pebble.run();
        pebble
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it; it keeps no data of earlier runs.
    pub(crate) fn run(&mut self) {
        let log = File::create(self.file("log")).expect("a file");
        let mut command = Command::new(program("pebble"));
        command
            .arg("-config")
            .arg(self.file("config.json"))
            .args(["-strict", "-dnsserver"])
            .arg(format!("127.0.0.1:{}", self.dns_port))
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "50")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        self.server = Some(Guard::spawn(&mut command));
        wait_for("pebble", LONG, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// Its root certificate in this run, in PEM.
    pub(crate) fn root(&self) -> String {
        let mut command = Command::new(program("curl"));
        command.args([
            "-sSk",
            &format!("https://127.0.0.1:{}/roots/0", self.management),
        ]);
        run(&mut command, b"").ok()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The table of chopar.toml that uses this CA.
    pub(crate) fn table(&self, more: &str) -> String {
        format!(
            "[acme]\ndirectory = \"https://localhost:{}/dir\"\nca_file = \"{}\"\nhttp_port = {}\ntls_port = {}\n{more}\n",
            self.port,
            self.file("cert.pem").display(),
            self.http_port,
            self.tls_port
        )
    }
}

/// Runs `chopar cert` with these words.
pub(crate) fn cert(relay: &Relay, words: &[&str]) -> Output {
    let mut command = Command::new(CHOPAR);
    command
        .arg("-C")
        .arg(relay.config())
        .arg("cert")
        .args(words);
    run_within(&mut command, b"", LONG)
}

/// A relay and a CA that resolves the relay's names. The relay uses the CA.
pub(crate) fn relay_with_ca(ca: &[(&str, Value)], table: &str, zone: &str) -> (Relay, Pebble) {
    let mut relay = Setup {
        zone: zone.to_owned(),
        ..Setup::default()
    }
    .start();
    let pebble = Pebble::start(relay.dns.port, ca);
    relay.setup.tables = pebble.table(table);
    relay.write_config();
    (relay, pebble)
}

/// The serial number and issuer of the certificate that the relay shows for this name.
pub(crate) fn shown(relay: &Relay, name: &str) -> String {
    let mut command = Command::new(program("openssl"));
    command.args([
        "s_client",
        "-connect",
        &format!("127.0.0.1:{}", relay.submissions()),
    ]);
    let said = run(command.args(["-servername", name]), b"QUIT\n").stdout;
    let mut command = Command::new(program("openssl"));
    command.args(["x509", "-noout", "-serial", "-issuer"]);
    run(&mut command, said.as_bytes()).ok()
}

pub(crate) fn list(relay: &Relay) -> Vec<Value> {
    serde_json::from_str(&cert(relay, &["list", "--json"]).ok()).expect("JSON")
}
