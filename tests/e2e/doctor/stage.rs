//! A machine of its own (a network namespace, and a temporary system) beside a small Internet (another namespace):
//! Postfix as the host for outgoing mail, a verifier of signatures behind it, and a time server.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::names::{Dnssec, PROVIDERS, Zones, beside, zones};
use crate::far_end::postfix_at;
use crate::process::{Guard, Output, PATIENCE, program, run, run_within, wait_for};
use crate::relay::CHOPAR;
use crate::world::certificate;

/// Sets up the Internet.
const INTERNET: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$1/internet.conf" /etc/resolv.conf
ip link set lo up
touch "$1/internet"
exec sleep infinity
"#;

/// The address of the machine.
pub(super) const HOST: &str = "203.0.113.7";
const PATHS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) struct Stage {
    pub(super) folder: TempDir,
    pub(super) machine: Guard,
    pub(super) internet: Guard,
    pub(super) records: Zones,
    pub(super) names: Option<Guard>,
    pub(super) resolver: Option<Guard>,
    /// Processes that run while something is broken.
    pub(super) others: Vec<Guard>,
    /// The command that runs the doctor, and additional words at the end.
    pub(super) words: (Vec<String>, Vec<String>),
    _hosts: Vec<Guard>,
}

/// The output of the doctor.
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) findings: Vec<Value>,
    pub(super) took: Duration,
}

impl Said {
    /// The IDs of red checks: bad, or required and unknown.
    pub(super) fn red(&self) -> BTreeSet<&str> {
        let is_red = |finding: &&Value| match text(finding, "state") {
            "bad" => true,
            "unknown" => finding["required"] == true,
            _ => false,
        };
        let red = self.findings.iter().filter(is_red);
        red.map(|finding| text(finding, "id")).collect()
    }

    /// The IDs of the checks in a state.
    pub(super) fn of(&self, state: &str) -> BTreeSet<&str> {
        let found = self.findings.iter();
        let found = found.filter(|finding| text(finding, "state") == state);
        found.map(|finding| text(finding, "id")).collect()
    }

    /// Checks that are not good, one line each.
    pub(super) fn open(&self) -> Vec<String> {
        let open = self
            .findings
            .iter()
            .filter(|finding| matches!(text(finding, "state"), "bad" | "unknown" | "warning"));
        open.map(|finding| {
            let of = |key| text(finding, key);
            format!(
                "{} {} ({}): {}",
                of("state"),
                of("id"),
                of("about"),
                of("seen")
            )
        })
        .collect()
    }
}

pub(super) fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().expect("a text")
}

/// Whether such machines can be created here.
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
    /// A machine without a mail server, whose name and zone exist and are empty.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        for (file, text) in [
            ("hosts", "127.0.0.1 localhost\n"),
            ("resolv.conf", "nameserver 127.0.0.1\n"),
            ("internet.conf", "nameserver 203.0.113.1\n"),
            ("offset", "0"),
        ] {
            fs::write(path.join(file), text).expect("a file");
        }
        let spawn = |command: &mut Command, mark: &str| {
            let guard = Guard::spawn(command.stdin(Stdio::null()).env("PATH", PATHS));
            wait_for(mark, PATIENCE, || path.join(mark).exists().then_some(()));
            guard
        };
        let unshared = || {
            let mut command = Command::new(program("unshare"));
            command.args(["--net", "--mount", "sh"]);
            command
        };
        let machine = spawn(
            unshared()
                .arg(beside("machine.sh"))
                .arg(path)
                .arg(CHOPAR)
                .arg(beside("")),
            "machine",
        );
        let internet = spawn(
            unshared().args(["-c", INTERNET, "sh"]).arg(path),
            "internet",
        );
        fs::create_dir(path.join("made")).expect("a folder");
        certificate(&path.join("made"), "mail.example.test");
        fs::copy(path.join("made/cert.pem"), path.join("roots.pem")).expect("a file");
        let mut stage = Self {
            folder,
            machine,
            internet,
            records: zones(),
            names: None,
            resolver: None,
            others: Vec::new(),
            words: (Vec::new(), Vec::new()),
            _hosts: Vec::new(),
        };
        stage.connect();
        stage.serve();
        let resolver = stage.start_resolver(&stage.machine, "127.0.0.1", Dnssec::Validates);
        stage.resolver = Some(resolver);
        stage._hosts = vec![stage.start_judge(), stage.start_postfix()];
        stage
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of the machine.
    pub(super) fn there(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.machine.0.id()))
    }

    /// A program on the machine, or on the Internet.
    pub(super) fn on(&self, side: &Guard, program_path: &Path) -> Command {
        let mut command = Command::new(program("nsenter"));
        command.args(["--target", &side.0.id().to_string(), "--net", "--mount"]);
        command.args(["--root", "--wd"]);
        command.arg("--").arg(program_path).env("PATH", PATHS);
        command.env_remove("CHOPAR_CONFIG");
        command
    }

    /// Runs a shell command as root on the machine.
    pub(super) fn shell(&self, line: &str) -> Output {
        let mut command = self.on(&self.machine, Path::new("/bin/sh"));
        run_within(command.args(["-c", line]), b"", Duration::from_secs(60))
    }

    #[track_caller]
    pub(super) fn sh(&self, line: &str) -> String {
        self.shell(line).ok()
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
            "addr add 8.8.8.8/32 dev lo",
            "-6 addr add 2001:db8::1/64 dev v1 nodad",
            "-6 addr add 2001:db8::25/64 dev v1 nodad",
            "link set v1 up",
        ] {
            self.ip(&self.internet, words);
        }
        self.ip(&self.machine, "route add default via 203.0.113.1");
        self.ip(&self.machine, "-6 route add default via 2001:db8::1");
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

    pub(super) fn logs(&self) -> String {
        let files = ["knot.log", "unbound.log", "judge.log", "postfix.log"];
        let texts = files.iter().map(|name| self.path(name));
        texts
            .chain([self.there("/run/chopar.log")])
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .collect()
    }

    fn start_judge(&self) -> Guard {
        let log = File::create(self.path("judge.log")).expect("a file");
        let mut command = self.on(&self.internet, &program("python3"));
        command.arg(beside("world.py")).arg(self.folder.path());
        let mut guard = Guard::spawn(command.stdin(Stdio::null()).stderr(log));
        wait_for("aiosmtpd", PATIENCE, || {
            assert!(guard.is_alive(), "it does not start: {}", self.logs());
            self.path("ready").exists().then_some(())
        });
        guard
    }

    /// The host of far.test and of the large providers, which passes accepted mail to the verifier.
    fn start_postfix(&self) -> Guard {
        let folder = self.path("postfix");
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a mode");
        let log = File::create(self.path("postfix.log")).expect("a file");
        let main = format!(
            "mydestination =\nmynetworks = 127.0.0.0/8\nrelay_domains = far.test, {}\nrelayhost = [127.0.0.1]:2525\n\
             inet_protocols = all\ninet_interfaces = all\n",
            PROVIDERS.join(", ")
        );
        let unshare = self.on(&self.internet, &program("unshare"));
        let places = ["203.0.113.25:25", "[2001:db8::25]:25"];
        let mut command = postfix_at(unshare, &folder, &places, &main);
        let command = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"));
        let mut guard = Guard::spawn(command.stderr(log));
        self.wait_for_port(&mut guard, &self.internet, "203.0.113.25", 25);
        guard
    }

    /// `chopar` on the machine.
    pub(super) fn chopar(&self) -> Command {
        let mut command = self.on(&self.machine, Path::new("/usr/local/bin/chopar"));
        command.env("SSL_CERT_FILE", self.path("roots.pem"));
        command
    }

    pub(super) fn doctor(&self) -> Said {
        let started = Instant::now();
        let (before, behind) = &self.words;
        let chopar = "/usr/local/bin/chopar".to_owned();
        let words: Vec<&String> = before.iter().chain([&chopar]).collect();
        let mut command = self.on(&self.machine, Path::new(words[0]));
        command
            .args(&words[1..])
            .env("SSL_CERT_FILE", self.path("roots.pem"));
        let command = command.args(["doctor", "--json"]).args(behind);
        let output = run_within(command, b"", Duration::from_secs(60));
        let Output {
            code,
            stdout,
            stderr,
        } = output;
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

    pub(super) fn configuration(&self) -> String {
        fs::read_to_string(self.there("/etc/chopar/chopar.toml")).expect("a file")
    }

    pub(super) fn configure(&self, text: &str) {
        fs::write(self.there("/etc/chopar/chopar.toml"), text).expect("a file");
    }

    /// Replaces a text of the configuration.
    pub(super) fn change(&self, from: &str, to: &str) {
        let text = self.configuration();
        assert!(text.contains(from), "{text}");
        self.configure(&text.replacen(from, to, 1));
    }

    /// Installs this pair on the machine.
    pub(super) fn certify(&self, certificate: &Path, key: &Path) {
        let pair = self.there("/etc/chopar/tls/mail");
        fs::create_dir_all(&pair).expect("a folder");
        for (from, to, mode) in [
            (certificate, "fullchain.pem", 0o644),
            (key, "privkey.pem", 0o640),
        ] {
            fs::copy(from, pair.join(to)).expect("a file");
            fs::set_permissions(pair.join(to), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        self.sh("chgrp -R chopar /etc/chopar/tls");
    }

    /// The verifier's results for each message.
    pub(super) fn judged(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.path("mail")).unwrap_or_default();
        let lines = lines.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shell("systemctl stop chopar");
    }
}
