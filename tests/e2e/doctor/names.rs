//! The names of the stage: knot answers for all zones, each signed with DNSSEC, and unbound on the machine validates.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::stage::Stage;
use crate::process::{Guard, PATIENCE, program, run, wait_for};

pub(super) const V4: &str = "113.0.203.in-addr.arpa";
pub(super) const V6: &str = "8.b.d.0.1.0.0.2.ip6.arpa";
const LISTS: [&str; 4] = [
    "zen.spamhaus.org",
    "bl.spamcop.net",
    "b.barracudacentral.org",
    "psbl.surriel.com",
];
pub(super) const PROVIDERS: [&str; 3] = ["gmail.com", "yahoo.com", "outlook.com"];
/// The address of knot.
const SERVER: &str = "203.0.113.1";

/// Whether a resolver validates DNSSEC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dnssec {
    Validates,
    IsIgnored,
}

/// The records of each zone.
pub(super) type Zones = BTreeMap<String, Vec<String>>;

/// The zones before the machine is set up.
pub(super) fn zones() -> Zones {
    let mut zones = Zones::new();
    for zone in [
        "test",
        "example.test",
        "second.test",
        "home.internal",
        V4,
        V6,
        "pool.ntp.org",
        "org",
    ] {
        zones.insert(zone.to_owned(), Vec::new());
    }
    let mut put = |zone: &str, record: String| {
        zones.entry(zone.to_owned()).or_default().push(record);
    };
    for record in [
        "far.test. 60 IN MX 10 mx.far.test.",
        "mx.far.test. 60 IN A 203.0.113.25",
        "mx.far.test. 60 IN AAAA 2001:db8::25",
        "nomail.far.test. 60 IN MX 0 .",
        // Nothing listens at this address.
        "dead.far.test. 60 IN A 203.0.113.98",
    ] {
        put("far.test", record.to_owned());
    }
    put("pool.ntp.org", format!("pool.ntp.org. 60 IN A {SERVER}"));
    for provider in PROVIDERS {
        put(provider, format!("{provider}. 60 IN MX 10 mx.far.test."));
    }
    for list in LISTS {
        put(list, format!("2.0.0.127.{list}. 60 IN A 127.0.0.2"));
    }
    zones
}

impl Stage {
    /// Answers with the current records.
    pub(super) fn serve(&mut self) {
        self.names = None;
        let folder = self.folder.path();
        // knot's folder for keys.
        fs::create_dir_all(folder.join("db")).expect("a folder");
        let mut conf = format!(
            "server:\n    listen: {SERVER}@53\n    rundir: {0}\ndatabase:\n    storage: {0}/db\n\
             log:\n  - target: stderr\n    any: warning\n\
             policy:\n  - id: signed\n    single-type-signing: on\n\
             template:\n  - id: default\n    dnssec-signing: on\n    dnssec-policy: signed\n    zonefile-load: whole\n    \
             zonefile-sync: -1\n    journal-content: none\nzone:\n",
            folder.display()
        );
        for (zone, records) in &self.records {
            let file = folder.join(format!("{zone}.zone"));
            let front = format!(
                "{zone}. 60 IN SOA ns.far.test. hostmaster.far.test. 1 3600 600 86400 60\n{zone}. 60 IN NS ns.far.test.\n"
            );
            let glue = match zone == "far.test" {
                true => format!("ns.far.test. 60 IN A {SERVER}\n"),
                false => String::new(),
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
        self.wait_for_port(&mut guard, &self.internet, SERVER, 53);
        self.names = Some(guard);
    }

    /// Writes knot's keys for its zones as trust anchors for unbound.
    fn write_anchors(&self) {
        let of_zone = |zone: &String| {
            wait_for(&format!("a key of {zone}"), PATIENCE, || {
                let mut command = self.on(&self.internet, &program("keymgr"));
                let command = command.arg("-c").arg(self.path("knot.conf"));
                let listed = run(command.args([zone.as_str(), "ds"]), b"");
                let lines: String = listed
                    .stdout
                    .lines()
                    .map(|line| format!("{}\n", line.replacen(" DS ", " IN DS ", 1)))
                    .collect();
                (listed.code == 0 && !lines.is_empty()).then_some(lines)
            })
        };
        let anchors: String = self.records.keys().map(of_zone).collect();
        fs::write(self.path("anchors"), anchors).expect("a file");
    }

    /// A resolver at an address of the machine or of the Internet.
    pub(super) fn start_resolver(&self, side: &Guard, at: &str, dnssec: Dnssec) -> Guard {
        if !self.path("anchors").exists() {
            self.write_anchors();
        }
        let modules = match dnssec {
            Dnssec::Validates => "validator iterator",
            Dnssec::IsIgnored => "iterator",
        };
        let folder = self.folder.path().display();
        let mut conf = format!(
            "server:\n interface: {at}@53\n access-control: 0.0.0.0/0 allow\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n \
             directory: \"{folder}\"\n pidfile: \"\"\n use-syslog: no\n num-threads: 1\n module-config: \"{modules}\"\n \
             trust-anchor-file: \"{folder}/anchors\"\n cache-max-ttl: 0\n cache-max-negative-ttl: 0\n infra-host-ttl: 0\n \
             local-zone: \"test.\" nodefault\n local-zone: \"{V4}.\" nodefault\n local-zone: \"{V6}.\" nodefault\n\
             remote-control:\n control-enable: no\n"
        );
        for zone in self.records.keys() {
            conf += &format!("stub-zone:\n name: \"{zone}\"\n stub-addr: {SERVER}\n");
        }
        let path = self.path(&format!("unbound-{at}.conf"));
        fs::write(&path, conf).expect("a file");
        let log = File::create(self.path("unbound.log")).expect("a file");
        let mut command = self.on(side, &program("unbound"));
        let command = command.args(["-d", "-c"]).arg(path).stdin(Stdio::null());
        let mut guard = Guard::spawn(command.stdout(Stdio::null()).stderr(log));
        self.wait_for_port(&mut guard, side, at, 53);
        guard
    }

    /// The zone that contains a name.
    fn zone_of(&self, name: &str) -> String {
        let zones = self.records.keys();
        let above = zones.filter(|zone| name == *zone || name.ends_with(&format!(".{zone}")));
        let zone = above.max_by_key(|zone| zone.len());
        zone.unwrap_or_else(|| panic!("no zone for {name}")).clone()
    }

    /// Adds a record, as `NAME. TYPE DATA`, to its zone; with `in_place`, replaces those of the same name and type.
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

    /// Removes the records that contain this text, then answers without them.
    pub(super) fn without(&mut self, zone: &str, text: &str) {
        let records = self.records.get_mut(zone).expect("a zone");
        let before = records.len();
        records.retain(|record| !record.contains(text));
        assert!(records.len() < before, "no record of {zone} has {text}");
        self.serve();
    }

    /// Replaces the records of the same name and type, then answers with the new one.
    pub(super) fn instead(&mut self, record: &str) {
        self.put(record, true);
        self.serve();
    }

    /// Makes the machine use these resolvers.
    pub(super) fn ask(&self, servers: &[&str]) {
        let lines = servers
            .iter()
            .map(|server| format!("nameserver {server}\n"));
        fs::write(self.path("resolv.conf"), lines.collect::<String>()).expect("a file");
    }

    /// Adds the output of `chopar dns --format zone`: the records to the zone, and the reverse names to theirs.
    pub(super) fn paste(&mut self, printed: &str) {
        for line in printed.lines() {
            let line = line.trim_start_matches("; ");
            let words: Vec<&str> = line.splitn(5, char::is_whitespace).collect();
            let [name, _ttl, "IN", kind, data] = words.as_slice() else {
                continue;
            };
            if name.ends_with('.') {
                self.put(&format!("{name} {kind} {}", data.trim()), false);
            }
        }
        self.serve();
    }
}

/// A file of this folder.
pub(super) fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e/doctor")
        .join(name)
}
