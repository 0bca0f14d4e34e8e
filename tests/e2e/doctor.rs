//! `chopar doctor` on a machine of its own (a network namespace) beside a small Internet (another): knot for the zones, unbound
//! as the machine's resolver, aiosmtpd as the hosts that mail goes out to, a time server.
//!
//! Nothing here knows more than what `doctor` prints: the machine is set up by doing what it says.

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

const NOBODY: u32 = 65_534;
const V4: &str = "113.0.203.in-addr.arpa";
const V6: &str = "8.b.d.0.1.0.0.2.ip6.arpa";
const LISTS: [&str; 4] = [
    "zen.spamhaus.org",
    "bl.spamcop.net",
    "b.barracudacentral.org",
    "psbl.surriel.com",
];
const PROVIDERS: [&str; 3] = ["gmail.com", "yahoo.com", "outlook.com"];

struct Stage {
    folder: TempDir,
    machine: Guard,
    internet: Guard,
    records: BTreeMap<String, Vec<String>>,
    names: Option<Guard>,
    resolver: Option<Guard>,
    daemon: Option<Guard>,
    hosts: Option<Guard>,
}

/// What the doctor has said.
struct Said {
    code: i32,
    findings: Vec<Value>,
    took: Duration,
}

impl Said {
    /// The ids of what is red: bad, or required and unknown.
    fn red(&self) -> BTreeSet<&str> {
        let is_red = |finding: &&Value| match text(finding, "state") {
            "bad" => true,
            "unknown" => finding["required"] == true,
            _ => false,
        };
        let red = self.findings.iter().filter(is_red);
        red.map(|finding| text(finding, "id")).collect()
    }

    /// The ids of what is in a state.
    fn of(&self, state: &str) -> BTreeSet<&str> {
        let found = self.findings.iter();
        let found = found.filter(|finding| text(finding, "state") == state);
        found.map(|finding| text(finding, "id")).collect()
    }
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().expect("a text")
}

/// Whether such machines can be made here.
fn may_stage() -> bool {
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program on the machine, or on the Internet.
    fn on(&self, side: &Guard, program_path: &Path) -> Command {
        let mut command = Command::new(program("nsenter"));
        command.args(["--target", &side.0.id().to_string(), "--net"]);
        if side.0.id() == self.machine.0.id() {
            command.arg("--mount");
        }
        command.arg("--").arg(program_path);
        command
    }

    fn ip(&self, side: &Guard, words: &str) {
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
    fn serve(&mut self) {
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

    fn wait_for_port(&self, guard: &mut Guard, side: &Guard, host: &str, port: u16) {
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
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/doctor_world.py");
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
    fn chopar(&self) -> Command {
        let mut command = self.on(&self.machine, Path::new(CHOPAR));
        command.env("SSL_CERT_FILE", self.path("roots.pem"));
        command.arg("-C").arg(self.path("config"));
        command
    }

    fn start_daemon(&mut self) {
        self.daemon = None;
        let log = File::create(self.path("chopar.log")).expect("a file");
        let mut command = self.chopar();
        let command = command.arg("run").stdin(Stdio::null());
        let mut guard = Guard::spawn(command.stdout(Stdio::null()).stderr(log));
        self.wait_for_port(&mut guard, &self.machine, "203.0.113.7", 25);
        self.daemon = Some(guard);
    }

    fn stop_daemon(&mut self) {
        self.daemon = None;
        wait_for("the end of the daemon", PATIENCE, || {
            let mut command = self.on(&self.machine, Path::new("/bin/bash"));
            let tried = run(command.args(["-c", "exec 3<>/dev/tcp/203.0.113.7/25"]), b"");
            (tried.code != 0).then_some(())
        });
    }

    fn doctor(&self) -> Said {
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
    fn put(&mut self, record: &str, in_place: bool) {
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
    fn take(&mut self, zone: &str, begin: &str) -> Vec<String> {
        let records = self.records.get_mut(zone).expect("a zone");
        let (gone, left): (Vec<String>, Vec<String>) = records
            .drain(..)
            .partition(|record| record.starts_with(begin));
        assert!(!gone.is_empty(), "nothing begins with {begin}");
        *records = left;
        gone
    }

    fn configuration(&self) -> String {
        fs::read_to_string(self.path("config/chopar.toml")).expect("a file")
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("config/chopar.toml"), text).expect("a file");
    }

    fn reload(&self) {
        run(self.chopar().arg("reload"), b"").ok();
    }

    fn certify(&self, made: &str) {
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

    /// Does what a finding says; or nothing, where it says to do something else first.
    fn mend(&mut self, mend: &str) -> bool {
        let is_up = self.daemon.is_some();
        let record = mend
            .strip_prefix("publish")
            .and_then(|rest| Some((rest.contains("in place of what"), rest.split_once(": ")?.1)));
        if let Some((in_place, record)) = record {
            self.put(record, in_place);
        } else if let Some(rest) = mend.strip_prefix("set the reverse name (PTR) of ") {
            let words: Vec<&str> = rest.split(' ').collect();
            let (address, host) = (words[0].parse().expect("an address"), words[2]);
            let name = chopar::dns::reverse_name(address);
            self.put(&format!("{name}. PTR {host}."), true);
        } else if let Some(rest) = mend.strip_prefix("chopar dkim ") {
            let mut command = self.chopar();
            run(command.arg("dkim").args(rest.split(' ')), b"").ok();
            let key = self.path("config/domains/example.test/dkim/s1.pem");
            chown(key, Some(NOBODY), Some(NOBODY)).expect("an owner");
            self.reload_if(is_up);
        } else if mend.starts_with("set hostname in chopar.toml") {
            let text = self
                .configuration()
                .replace("\"mail\"", "\"mail.example.test\"");
            self.configure(&text);
            if is_up {
                self.start_daemon();
            }
        } else if mend.starts_with("set admin") {
            let text = self.configuration();
            if !text.contains("admin") {
                self.configure(&format!("admin = \"ann@far.test\"\n{text}"));
                self.reload_if(is_up);
            }
        } else if mend.starts_with("systemctl start chopar") {
            if !is_up {
                self.start_daemon();
            }
        } else if mend.starts_with("obtain a certificate for mail.example.test") {
            self.certify("made");
            self.reload_if(is_up);
        } else {
            return false;
        }
        true
    }

    fn reload_if(&self, is_up: bool) {
        if is_up {
            self.reload();
        }
    }
}

/// A machine with nothing but a name that is none, and a domain.
fn bare() -> Stage {
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

/// Does what the doctor says until it is content; gives how often it was asked.
fn follow(stage: &mut Stage) -> usize {
    for round in 1..=12 {
        let said = stage.doctor();
        if said.code == 0 {
            return round;
        }
        let mut mends: Vec<&str> = said
            .findings
            .iter()
            .filter(|finding| matches!(text(finding, "state"), "bad" | "unknown" | "warning"))
            .map(|finding| text(finding, "mend"))
            .collect();
        let mut seen = BTreeSet::new();
        mends.retain(|mend| seen.insert(*mend));
        let mut done = 0;
        for mend in &mends {
            done += usize::from(stage.mend(mend));
            // All records are about the name.
            if mend.starts_with("set hostname") {
                break;
            }
        }
        stage.serve();
        assert!(done > 0, "nothing more to do: {:#?}", said.findings);
    }
    panic!("it is never content: {:#?}", stage.doctor().red());
}

/// A way to break one thing, what is red then, and the way back.
struct Break {
    name: &'static str,
    harm: fn(&mut Stage),
    red: &'static [&'static str],
    heal: fn(&mut Stage),
}

/// Takes records out for as long as a test lasts.
fn without(stage: &mut Stage, zone: &str, begin: &str) {
    let gone = stage.take(zone, begin);
    fs::write(stage.path("gone"), gone.join("\n")).expect("a file");
    stage.serve();
}

/// And puts them back.
fn back(stage: &mut Stage) {
    let gone = fs::read_to_string(stage.path("gone")).expect("a file");
    for record in gone.lines() {
        stage.put(&record.replacen(" 60 IN ", " ", 1), false);
    }
    stage.serve();
}

const BREAKS: &[Break] = &[
    Break {
        name: "no A record",
        harm: |stage| without(stage, "example.test", "mail.example.test. 60 IN A "),
        red: &["dns-address", "dns-spf", "spf"],
        heal: back,
    },
    Break {
        name: "no reverse name",
        harm: |stage| without(stage, V4, "7."),
        red: &["dns-ptr"],
        heal: back,
    },
    Break {
        name: "no MX record",
        harm: |stage| without(stage, "example.test", "example.test. 60 IN MX "),
        red: &["dns-mx"],
        heal: back,
    },
    Break {
        name: "no SPF record",
        harm: |stage| without(stage, "example.test", "example.test. 60 IN TXT "),
        red: &["dns-spf", "spf"],
        heal: back,
    },
    Break {
        name: "no DKIM key in the DNS",
        harm: |stage| without(stage, "example.test", "s1._domainkey"),
        red: &["dkim-signature", "dmarc", "dns-dkim"],
        heal: back,
    },
    Break {
        name: "no DMARC record",
        harm: |stage| without(stage, "example.test", "_dmarc"),
        red: &["dmarc", "dns-dmarc"],
        heal: back,
    },
    Break {
        name: "port 25 is closed by IPv4",
        harm: |stage| stage.ip(&stage.internet, "addr del 203.0.113.25/24 dev v1"),
        red: &["outbound-v4"],
        heal: |stage| {
            // What listened there is bound to an address that was gone.
            stage.ip(&stage.internet, "addr add 203.0.113.25/24 dev v1");
        },
    },
    Break {
        name: "port 25 is closed by IPv6",
        harm: |stage| stage.ip(&stage.internet, "-6 addr del 2001:db8::25/64 dev v1"),
        red: &["outbound-v6"],
        heal: |stage| stage.ip(&stage.internet, "-6 addr add 2001:db8::25/64 dev v1 nodad"),
    },
    Break {
        name: "no route by IPv6",
        harm: |stage| stage.ip(&stage.machine, "-6 route del default"),
        red: &["ipv6-route"],
        heal: |stage| stage.ip(&stage.machine, "-6 route add default via 2001:db8::1"),
    },
    Break {
        name: "mail leaves from another address",
        harm: |stage| {
            stage.ip(&stage.machine, "addr add 203.0.113.8/24 dev v0");
            let text = stage.configuration();
            stage.configure(&format!("{text}[delivery]\nbind4 = \"203.0.113.8\"\n"));
        },
        red: &["dns-address", "dns-ptr", "dns-spf", "spf"],
        heal: |stage| {
            stage.ip(&stage.machine, "addr del 203.0.113.8/24 dev v0");
            let text = stage.configuration();
            stage.configure(text.split("[delivery]").next().expect("a text"));
        },
    },
    Break {
        name: "the address is on a list",
        harm: |stage| {
            stage.put("7.113.0.203.zen.spamhaus.org. A 127.0.0.4", false);
            stage.serve();
        },
        red: &["dnsbl"],
        heal: |stage| {
            stage.take("zen.spamhaus.org", "7.113.");
            stage.serve();
        },
    },
    Break {
        name: "a network may relay",
        harm: |stage| {
            let text = stage.configuration();
            stage.configure(&format!("{text}[relay]\nnetworks = [\"203.0.113.0/24\"]\n"));
            stage.reload();
        },
        red: &["relay"],
        heal: |stage| {
            let text = stage.configuration();
            stage.configure(text.split("[relay]").next().expect("a text"));
            stage.reload();
        },
    },
    Break {
        name: "a certificate for another name, of no authority",
        harm: |stage| {
            stage.certify("other");
            // A daemon that has the good one would go on showing it.
            stage.stop_daemon();
            fs::remove_dir_all(stage.path("state/tls-last-good")).expect("a folder");
            stage.start_daemon();
        },
        red: &["tls-chain", "tls-name"],
        heal: |stage| {
            stage.certify("made");
            stage.reload();
        },
    },
    Break {
        name: "no administrator",
        harm: |stage| {
            let text = stage
                .configuration()
                .replace("admin = \"ann@far.test\"\n", "");
            stage.configure(&text);
        },
        red: &["admin", "bounces", "configuration"],
        heal: |stage| {
            let text = stage.configuration();
            stage.configure(&format!("admin = \"ann@far.test\"\n{text}"));
        },
    },
    Break {
        name: "an administrator whose domain takes no mail",
        harm: |stage| {
            stage.put("nomail.far.test. MX 0 .", false);
            stage.serve();
            let text = stage
                .configuration()
                .replace("ann@far.test", "ann@nomail.far.test");
            stage.configure(&text);
        },
        red: &["admin"],
        heal: |stage| {
            let text = stage
                .configuration()
                .replace("ann@nomail.far.test", "ann@far.test");
            stage.configure(&text);
        },
    },
    Break {
        name: "no DKIM key",
        harm: |stage| {
            let keys = stage.path("config/domains/example.test/dkim");
            fs::rename(keys, stage.path("keys")).expect("a folder");
        },
        red: &["dkim-key"],
        heal: |stage| {
            let keys = stage.path("config/domains/example.test/dkim");
            fs::rename(stage.path("keys"), keys).expect("a folder");
        },
    },
    Break {
        name: "a configuration that cannot be read",
        harm: |stage| {
            let text = stage.configuration();
            stage.configure(&format!("nonsense = 1\n{text}"));
        },
        red: &["configuration"],
        heal: |stage| {
            let text = stage.configuration().replace("nonsense = 1\n", "");
            stage.configure(&text);
        },
    },
    Break {
        name: "a hook that cannot be run",
        harm: |stage| {
            fs::create_dir(stage.path("config/hooks")).expect("a folder");
            fs::write(stage.path("config/hooks/post-data"), "#!/bin/sh\n").expect("a file");
        },
        red: &["configuration"],
        heal: |stage| fs::remove_dir_all(stage.path("config/hooks")).expect("a folder"),
    },
    Break {
        name: "a spool of another account",
        harm: |stage| chown(stage.path("state"), Some(0), Some(0)).expect("an owner"),
        red: &["spool"],
        heal: |stage| chown(stage.path("state"), Some(NOBODY), Some(NOBODY)).expect("an owner"),
    },
    Break {
        name: "more memory than there is",
        harm: |stage| {
            let text = stage.configuration();
            stage.configure(&format!("max_memory = \"4000GiB\"\n{text}"));
        },
        red: &["memory"],
        heal: |stage| {
            let text = stage
                .configuration()
                .replace("max_memory = \"4000GiB\"\n", "");
            stage.configure(&text);
        },
    },
    Break {
        name: "no daemon",
        harm: Stage::stop_daemon,
        red: &["daemon", "port-25", "relay", "tls-handshake"],
        heal: Stage::start_daemon,
    },
    Break {
        name: "another program on port 25",
        harm: |stage| {
            stage.stop_daemon();
            let script = "from aiosmtpd.controller import Controller\nimport threading\n\
                          Controller(object(), hostname='203.0.113.7', port=25, server_hostname='x').start()\nthreading.Event().wait()\n";
            let mut command = stage.on(&stage.machine, &program("python3"));
            let mut guard = Guard::spawn(command.args(["-c", script]).stdin(Stdio::null()));
            stage.wait_for_port(&mut guard, &stage.machine, "203.0.113.7", 25);
            stage.daemon = Some(guard);
        },
        // It also takes mail for everybody, and has no TLS.
        red: &[
            "configuration",
            "daemon",
            "port-25",
            "relay",
            "starttls",
            "tls-handshake",
        ],
        heal: |stage| {
            stage.stop_daemon();
            stage.start_daemon();
        },
    },
];

/// What only warns: the check, and the way there and back.
const WARNINGS: &[Break] = &[
    Break {
        name: "a clock that is off",
        harm: |stage| fs::write(stage.path("offset"), "90").expect("a file"),
        red: &["clock"],
        heal: |stage| fs::write(stage.path("offset"), "0").expect("a file"),
    },
    Break {
        name: "a list that does not answer this resolver",
        harm: |stage| {
            stage.put("7.113.0.203.zen.spamhaus.org. A 127.255.255.254", false);
            stage.serve();
        },
        red: &["dnsbl"],
        heal: |stage| {
            stage.take("zen.spamhaus.org", "7.113.");
            stage.serve();
        },
    },
    Break {
        name: "the name leads to loopback",
        harm: |stage| {
            let text = "127.0.0.1 localhost\n127.0.1.1 mail.example.test mail\n";
            fs::write(stage.path("hosts"), text).expect("a file");
        },
        red: &["hosts-file"],
        heal: |stage| fs::write(stage.path("hosts"), "127.0.0.1 localhost\n").expect("a file"),
    },
    Break {
        name: "no SPF record of the host",
        harm: |stage| without(stage, "example.test", "mail.example.test. 60 IN TXT "),
        red: &["dns-spf-helo", "spf-helo"],
        heal: back,
    },
];

#[test]
fn whoever_does_what_the_doctor_says_gets_a_machine_that_is_well() {
    if !may_stage() {
        return;
    }
    let started = Instant::now();
    let mut stage = bare();
    let first = stage.doctor();
    assert_ne!(first.code, 0);
    for id in [
        "hostname",
        "daemon",
        "port-25",
        "admin",
        "dkim-key",
        "dns-ptr",
        "dns-mx",
        "dns-spf",
        "dns-dmarc",
    ] {
        assert!(first.red().contains(id), "{id}: {:?}", first.red());
    }
    let rounds = follow(&mut stage);
    eprintln!(
        "from all red to all green in {rounds} rounds and {:?}",
        started.elapsed()
    );
    let dns = run_within(stage.chopar().args(["dns", "--json"]), b"", PATIENCE).ok();
    let rows: Value = serde_json::from_str(&dns).expect("JSON");
    for row in rows.as_array().expect("a list") {
        assert!(row["state"] == "there" || row["need"] == "advised", "{row}");
    }
    let well = stage.doctor();
    let mut wrong = Vec::new();
    for one in BREAKS {
        (one.harm)(&mut stage);
        let said = stage.doctor();
        let expected: BTreeSet<&str> = one.red.iter().copied().collect();
        let red = said.red();
        if red != expected || said.code == 0 {
            let seen: Vec<String> = said
                .findings
                .iter()
                .filter(|finding| {
                    red.contains(text(finding, "id")) && text(finding, "state") != "good"
                })
                .map(|finding| {
                    format!(
                        "{} {}: {}",
                        text(finding, "id"),
                        text(finding, "about"),
                        text(finding, "seen")
                    )
                })
                .collect();
            wrong.push(format!("{}: {red:?} {seen:#?}", one.name));
        }
        (one.heal)(&mut stage);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for one in WARNINGS {
        (one.harm)(&mut stage);
        let said = stage.doctor();
        let red: BTreeSet<&str> = said
            .of("warning")
            .difference(&well.of("warning"))
            .copied()
            .filter(|id| !id.starts_with("rules"))
            .collect();
        let before = well.of("warning");
        for id in one.red {
            assert!(
                said.of("warning").contains(id),
                "{}: {:#?}",
                one.name,
                said.findings
            );
            assert!(
                before.contains(id) || red.contains(id),
                "{}: {red:?}",
                one.name
            );
        }
        assert_eq!(said.code, 0, "{}: {:?}", one.name, said.red());
        (one.heal)(&mut stage);
    }
    let healed = stage.doctor();
    assert_eq!(healed.code, 0, "{:?}", healed.red());
    assert!(!stage.path("mail").exists(), "mail was sent");
    watch(&mut stage);
    let mut command = stage.chopar();
    let told = run(
        command.args(["doctor", "--echo", "echo@far.test", "--within", "15s"]),
        b"",
    )
    .ok();
    assert!(told.contains("mx.far.test"), "{told}");
    assert!(
        told.contains("from <echo@far.test>: mail goes out and comes in"),
        "{told}"
    );
    let mut command = stage.chopar();
    let silent = run(
        command.args(["doctor", "--echo", "ann@far.test", "--within", "3s"]),
        b"",
    );
    assert_eq!(silent.code, 75, "{}", silent.stderr);
    assert!(
        silent.stderr.contains("no answer to postmaster+echo"),
        "{}",
        silent.stderr
    );
}

/// Whoever watches is told once it is mended.
fn watch(stage: &mut Stage) {
    without(stage, "example.test", "example.test. 60 IN MX ");
    let log = stage.path("watched");
    let mut command = stage.chopar();
    let command = command.args([
        "doctor",
        "--watch",
        "--within",
        "60s",
        "--probe",
        "mx.far.test:25",
    ]);
    let file = File::create(&log).expect("a file");
    let mut watching = Guard::spawn(command.stdin(Stdio::null()).stdout(file));
    let told = |what: &str| {
        let told = fs::read_to_string(&log).unwrap_or_default();
        told.contains(what).then_some(told)
    };
    let told_first = wait_for("the first look", PATIENCE, || {
        told("What large receivers ask")
    });
    assert!(
        told_first.starts_with("bad     MX record of the domain (example.test): it is missing"),
        "{told_first}"
    );
    assert!(
        told_first.contains("mx.far.test:25 greets 203.0.113.7"),
        "{told_first}"
    );
    back(stage);
    assert_eq!(watching.wait(Duration::from_secs(60)), 0);
    let told = told("good    MX record").unwrap_or_default();
    assert!(
        told.contains("good    MX record of the domain (example.test): 10 mail.example.test"),
        "{told}"
    );
}

#[test]
fn where_nobody_answers_nothing_is_good_and_it_takes_less_than_15_seconds() {
    if !may_stage() {
        return;
    }
    let stage = bare();
    let text = stage
        .configuration()
        .replace("\"mail\"", "\"mail.example.test\"");
    stage.configure(&text);
    fs::write(
        stage.path("resolv.conf"),
        "nameserver 203.0.113.99\nnameserver 203.0.113.98\n",
    )
    .expect("a file");
    let said = stage.doctor();
    assert!(said.took < Duration::from_secs(15), "{:?}", said.took);
    assert_ne!(said.code, 0);
    let good = said.of("good");
    for id in [
        "dns-address",
        "dns-ptr",
        "dns-mx",
        "dns-spf",
        "spf",
        "dkim-signature",
        "dmarc",
        "dnsbl",
        "resolver",
        "outbound-v4",
        "ptr-name",
    ] {
        assert!(!good.contains(id), "{id}");
    }
    assert!(
        said.red().contains("resolver") && said.red().contains("dns-mx"),
        "{:?}",
        said.red()
    );
}
