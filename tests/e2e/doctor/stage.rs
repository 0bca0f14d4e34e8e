//! A machine of its own (a network namespace) beside a small Internet (another): knot for the zones, unbound as the machine's
//! resolver, aiosmtpd as the hosts that mail goes out to, a time server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Guard, Output, PATIENCE, program, run, run_within, wait_for};
use crate::relay::CHOPAR;
use crate::world::certificate;

/// The machine: where its files stand in for those of the system.
const MACHINE: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/resolv.conf" /etc/resolv.conf
ip link set lo up
touch "$1/machine"
exec sleep infinity
"#;

/// The Internet.
const INTERNET: &str = r#"
set -e
ip link set lo up
touch "$1/internet"
exec sleep infinity
"#;

pub(super) const NOBODY: u32 = 65_534;
pub(super) const V4: &str = "113.0.203.in-addr.arpa";
pub(super) const V6: &str = "8.b.d.0.1.0.0.2.ip6.arpa";
const LISTS: [&str; 4] = [
    "zen.spamhaus.org",
    "bl.spamcop.net",
    "b.barracudacentral.org",
    "psbl.surriel.com",
];
const PROVIDERS: [&str; 3] = ["gmail.com", "yahoo.com", "outlook.com"];

pub(super) struct Stage {
    pub(super) folder: TempDir,
    pub(super) machine: Guard,
    pub(super) internet: Guard,
    records: BTreeMap<String, Vec<String>>,
    names: Option<Guard>,
    resolver: Option<Guard>,
    pub(super) daemon: Option<Guard>,
    hosts: Option<Guard>,
}

/// What the doctor has said.
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) findings: Vec<Value>,
    pub(super) took: Duration,
}

impl Said {
    /// The ids of what is red: bad, or required and unknown.
    pub(super) fn red(&self) -> BTreeSet<&str> {
        let is_red = |finding: &&Value| match text(finding, "state") {
            "bad" => true,
            "unknown" => finding["required"] == true,
            _ => false,
        };
        let red = self.findings.iter().filter(is_red);
        red.map(|finding| text(finding, "id")).collect()
    }

    /// The ids of what is in a state.
    pub(super) fn of(&self, state: &str) -> BTreeSet<&str> {
        let found = self.findings.iter();
        let found = found.filter(|finding| text(finding, "state") == state);
        found.map(|finding| text(finding, "id")).collect()
    }
}

pub(super) fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().expect("a text")
}

/// Whether such machines can be made here.
pub(super) fn may_stage() -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can make a network namespace: nothing is tested");
        return false;
    }
    let script = "ip link add v0 type veth peer name v1";
    let mut command = Command::new(program("unshare"));
    let made = run(command.args(["--net", "--mount", "sh", "-c", script]), b"");
    if made.code != 0 {
        eprintln!(
            "no pair of interfaces can be made here ({}): nothing is tested",
            made.stderr
        );
    }
    made.code == 0
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        fs::write(path.join("hosts"), "127.0.0.1 localhost\n").expect("a file");
        fs::write(path.join("resolv.conf"), "nameserver 127.0.0.1\n").expect("a file");
        fs::write(path.join("offset"), "0").expect("a file");
        let spawn = |command: &mut Command, script: &str, mark: &str| {
            let guard = Guard::spawn(
                command
                    .args(["sh", "-c", script, "sh"])
                    .arg(path)
                    .stdin(Stdio::null()),
            );
            wait_for(mark, PATIENCE, || path.join(mark).exists().then_some(()));
            guard
        };
        let mut command = Command::new(program("unshare"));
        let machine = spawn(command.args(["--net", "--mount"]), MACHINE, "machine");
        let mut command = Command::new(program("unshare"));
        let internet = spawn(command.arg("--net"), INTERNET, "internet");
        let mut records = BTreeMap::new();
        for zone in [
            "test",
            "example.test",
            V4,
            V6,
            "far.test",
            "pool.ntp.org",
            "org",
        ] {
            records.insert(zone.to_owned(), Vec::new());
        }
        let stage = &mut records;
        let mut put = |zone: &str, record: String| {
            stage.entry(zone.to_owned()).or_default().push(record);
        };
        put("far.test", "far.test. 60 IN MX 10 mx.far.test.".to_owned());
        put("far.test", "mx.far.test. 60 IN A 203.0.113.25".to_owned());
        put(
            "far.test",
            "mx.far.test. 60 IN AAAA 2001:db8::25".to_owned(),
        );
        put(
            "pool.ntp.org",
            "pool.ntp.org. 60 IN A 203.0.113.1".to_owned(),
        );
        for provider in PROVIDERS {
            put(provider, format!("{provider}. 60 IN MX 10 mx.far.test."));
        }
        for list in LISTS {
            put(list, format!("2.0.0.127.{list}. 60 IN A 127.0.0.2"));
        }
        let mut stage = Self {
            folder,
            machine,
            internet,
            records,
            names: None,
            resolver: None,
            daemon: None,
            hosts: None,
        };
        stage.connect();
        stage.serve();
        stage.resolver = Some(stage.start_resolver());
        stage.hosts = Some(stage.start_hosts());
        stage
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program on the machine, or on the Internet.
    pub(super) fn on(&self, side: &Guard, program_path: &Path) -> Command {
        let mut command = Command::new(program("nsenter"));
        command.args(["--target", &side.0.id().to_string(), "--net"]);
        if side.0.id() == self.machine.0.id() {
            command.arg("--mount");
        }
        command.arg("--").arg(program_path);
        command
    }

    pub(super) fn ip(&self, side: &Guard, words: &str) {
        let mut command = self.on(side, &program("ip"));
        run(command.args(words.split(' ')), b"").ok();
    }

    fn connect(&self) {
        let internet = self.internet.0.id();
        let link = format!("link add v0 type veth peer name v1 netns {internet}");
        self.ip(&self.machine, &link);
        for words in [
            "addr add 203.0.113.7/24 dev v0",
            "-6 addr add 2001:db8::7/64 dev v0 nodad",
            "link set v0 up",
        ] {
            self.ip(&self.machine, words);
        }
        for words in [
            "addr add 203.0.113.1/24 dev v1",
            "addr add 203.0.113.25/24 dev v1",
            "addr add 203.0.113.99/24 dev v1",
            "-6 addr add 2001:db8::1/64 dev v1 nodad",
            "-6 addr add 2001:db8::25/64 dev v1 nodad",
            "link set v1 up",
        ] {
            self.ip(&self.internet, words);
        }
        self.ip(&self.machine, "route add default via 203.0.113.1");
        self.ip(&self.machine, "-6 route add default via 2001:db8::1");
    }

    /// Answers for the records as they are now.
    pub(super) fn serve(&mut self) {
        self.names = None;
        let folder = self.folder.path();
        let mut conf = format!(
            "server:\n    listen: 203.0.113.1@53\n    rundir: {0}\ndatabase:\n    storage: {0}/db\n\
             log:\n  - target: stderr\n    any: warning\nzone:\n",
            folder.display()
        );
        for (zone, records) in &self.records {
            let file = folder.join(format!("{zone}.zone"));
            let front = format!(
                "{zone}. 60 IN SOA ns.far.test. hostmaster.far.test. 1 3600 600 86400 60\n{zone}. 60 IN NS ns.far.test.\n"
            );
            let glue = match zone == "far.test" {
                true => "ns.far.test. 60 IN A 203.0.113.1\n",
                false => "",
            };
            fs::write(&file, format!("{front}{glue}{}\n", records.join("\n"))).expect("a file");
            conf += &format!("  - domain: {zone}\n    file: {}\n", file.display());
        }
        let path = folder.join("knot.conf");
        fs::write(&path, conf).expect("a file");
        let log = File::create(folder.join("knot.log")).expect("a file");
        let mut command = self.on(&self.internet, &program("knotd"));
        let command = command.arg("-c").arg(path).stdin(Stdio::null());
        let mut guard = Guard::spawn(command.stdout(Stdio::null()).stderr(log));
        self.wait_for_port(&mut guard, &self.internet, "203.0.113.1", 53);
        self.names = Some(guard);
    }

    pub(super) fn wait_for_port(&self, guard: &mut Guard, side: &Guard, host: &str, port: u16) {
        let script = format!("exec 3<>/dev/tcp/{host}/{port}");
        wait_for(&format!("port {port} of {host}"), PATIENCE, || {
            assert!(guard.is_alive(), "it does not start: {}", self.logs());
            let mut command = self.on(side, Path::new("/bin/bash"));
            let tried = run(command.args(["-c", &script]), b"");
            (tried.code == 0).then_some(())
        });
    }

    fn logs(&self) -> String {
        ["knot.log", "unbound.log", "hosts.log", "chopar.log"]
            .iter()
            .map(|name| fs::read_to_string(self.path(name)).unwrap_or_default())
            .collect()
    }

    fn start_resolver(&self) -> Guard {
        let mut conf = format!(
            "server:\n interface: 127.0.0.1@53\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n directory: \"{}\"\n \
             pidfile: \"\"\n use-syslog: no\n num-threads: 1\n module-config: \"iterator\"\n cache-max-ttl: 0\n \
             cache-max-negative-ttl: 0\n infra-host-ttl: 0\n local-zone: \"test.\" nodefault\n local-zone: \"{V4}.\" nodefault\n \
             local-zone: \"{V6}.\" nodefault\n",
            self.folder.path().display()
        );
        conf += "remote-control:\n control-enable: no\n";
        for zone in self.records.keys() {
            conf += &format!("stub-zone:\n name: \"{zone}\"\n stub-addr: 203.0.113.1\n");
        }
        let path = self.path("unbound.conf");
        fs::write(&path, conf).expect("a file");
        let log = File::create(self.path("unbound.log")).expect("a file");
        let mut command = self.on(&self.machine, &program("unbound"));
        let command = command.args(["-d", "-c"]).arg(path).stdin(Stdio::null());
        let mut guard = Guard::spawn(command.stdout(Stdio::null()).stderr(log));
        self.wait_for_port(&mut guard, &self.machine, "127.0.0.1", 53);
        guard
    }

    fn start_hosts(&self) -> Guard {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/doctor/world.py");
        let log = File::create(self.path("hosts.log")).expect("a file");
        let mut command = self.on(&self.internet, &program("python3"));
        let command = command.arg(script).arg(self.folder.path());
        let command = command.args(["203.0.113.25", "2001:db8::25"]);
        let mut guard = Guard::spawn(command.stdin(Stdio::null()).stderr(log));
        wait_for("aiosmtpd", PATIENCE, || {
            assert!(guard.is_alive(), "it does not start: {}", self.logs());
            self.path("ready").exists().then_some(())
        });
        guard
    }

    /// `chopar` on the machine.
    pub(super) fn chopar(&self) -> Command {
        let mut command = self.on(&self.machine, Path::new(CHOPAR));
        command.env("SSL_CERT_FILE", self.path("roots.pem"));
        command.arg("-C").arg(self.path("config"));
        command
    }

    pub(super) fn start_daemon(&mut self) {
        self.daemon = None;
        let log = File::create(self.path("chopar.log")).expect("a file");
        let mut command = self.chopar();
        let command = command.arg("run").stdin(Stdio::null());
        let mut guard = Guard::spawn(command.stdout(Stdio::null()).stderr(log));
        self.wait_for_port(&mut guard, &self.machine, "203.0.113.7", 25);
        self.daemon = Some(guard);
    }

    pub(super) fn stop_daemon(&mut self) {
        self.daemon = None;
        wait_for("the end of the daemon", PATIENCE, || {
            let mut command = self.on(&self.machine, Path::new("/bin/bash"));
            let tried = run(command.args(["-c", "exec 3<>/dev/tcp/203.0.113.7/25"]), b"");
            (tried.code != 0).then_some(())
        });
    }

    pub(super) fn doctor(&self) -> Said {
        let started = Instant::now();
        let mut command = self.chopar();
        let Output {
            code,
            stdout,
            stderr,
        } = run_within(
            command.args(["doctor", "--json"]),
            b"",
            Duration::from_secs(60),
        );
        let json: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| {
            panic!("{error}: {stdout}{stderr}");
        });
        assert_eq!(json["ok"], code == 0, "{stdout}");
        Said {
            code,
            findings: json["findings"].as_array().expect("a list").clone(),
            took: started.elapsed(),
        }
    }

    /// The zone that a name is in.
    fn zone_of(&self, name: &str) -> String {
        let zones = self.records.keys();
        let above = zones.filter(|zone| name == *zone || name.ends_with(&format!(".{zone}")));
        let zone = above.max_by_key(|zone| zone.len());
        zone.unwrap_or_else(|| panic!("no zone for {name}")).clone()
    }

    /// Puts a record, as `NAME. TYPE DATA`, into its zone; those of the same name and type go, where it takes their place.
    pub(super) fn put(&mut self, record: &str, in_place: bool) {
        let (name, rest) = record.split_once(". ").expect("a name");
        let (kind, data) = rest.split_once(' ').expect("a type");
        let zone = self.zone_of(name);
        let records = self.records.get_mut(&zone).expect("a zone");
        let front = format!("{name}. 60 IN {kind} ");
        if in_place {
            records.retain(|record| !record.starts_with(&front));
        }
        records.push(format!("{front}{data}"));
    }

    /// Takes records out that begin so; gives them.
    pub(super) fn take(&mut self, zone: &str, begin: &str) -> Vec<String> {
        let records = self.records.get_mut(zone).expect("a zone");
        let (gone, left): (Vec<String>, Vec<String>) = records
            .drain(..)
            .partition(|record| record.starts_with(begin));
        assert!(!gone.is_empty(), "nothing begins with {begin}");
        *records = left;
        gone
    }

    pub(super) fn configuration(&self) -> String {
        fs::read_to_string(self.path("config/chopar.toml")).expect("a file")
    }

    pub(super) fn configure(&self, text: &str) {
        fs::write(self.path("config/chopar.toml"), text).expect("a file");
    }

    pub(super) fn reload(&self) {
        run(self.chopar().arg("reload"), b"").ok();
    }

    pub(super) fn certify(&self, made: &str) {
        let pair = self.path("config/tls/mail");
        fs::create_dir_all(&pair).expect("a folder");
        for (from, to, mode) in [
            ("cert.pem", "fullchain.pem", 0o644),
            ("key.pem", "privkey.pem", 0o600),
        ] {
            fs::copy(self.path(made).join(from), pair.join(to)).expect("a file");
            fs::set_permissions(pair.join(to), fs::Permissions::from_mode(mode)).expect("a mode");
            chown(pair.join(to), Some(NOBODY), Some(NOBODY)).expect("an owner");
        }
    }
}

/// A machine with nothing but a name that is none, and a domain.
pub(super) fn bare() -> Stage {
    let stage = Stage::new();
    for (made, name) in [("made", "mail.example.test"), ("other", "www.example.test")] {
        fs::create_dir(stage.path(made)).expect("a folder");
        certificate(&stage.path(made), name);
    }
    fs::copy(stage.path("made/cert.pem"), stage.path("roots.pem")).expect("a file");
    fs::create_dir(stage.path("config")).expect("a folder");
    for name in ["state", "run"] {
        fs::create_dir(stage.path(name)).expect("a folder");
        chown(stage.path(name), Some(NOBODY), Some(NOBODY)).expect("an owner");
    }
    stage.configure(&format!(
        "hostname = \"mail\"\nuser = \"nobody\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n\
         [abuse]\ntarpit = false\nconnections_per_minute = 0\nmessages_per_minute = 0\n",
        stage.folder.path().display()
    ));
    let mut command = stage.chopar();
    run(
        command.args(["domain", "add", "--bare", "example.test"]),
        b"",
    )
    .ok();
    stage
}
