//! Faults for the doctor that take more than one line.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::names::beside;
use super::stage::{HOST, Stage, text};
use crate::process::{Guard, program, run};
use crate::world::certificate;

/// A hook whose interpreter does not exist; chopar itself considers it executable.
pub(super) const HOOK: &str = "mkdir -p /etc/chopar/hooks && cd /etc/chopar/hooks && printf '#!/opt/python3\\n' > post-data && \
                    chmod 755 post-data && chopar reload";
/// A unit without the restrictions of ours.
pub(super) const BARE_UNIT: &str = "cp /etc/systemd/system/chopar.service /root/unit && \
                         sed -n '/^\\[/p; /^ExecStart=/p; /^WantedBy=/p' /root/unit > /etc/systemd/system/chopar.service";
/// A message that has waited for five hours for a host that does not answer, accepted by a daemon whose clock starts in
/// the past.
pub(super) const OLD_MESSAGE: &str = "systemctl stop chopar && CLOCK=\"setpriv --reuid chopar --regid chopar --clear-groups \
                           --inh-caps +net_bind_service --ambient-caps +net_bind_service \
                           env LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1) FAKETIME=-5h \
                           DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1\" systemctl start chopar && \
                           printf 'To: x@dead.far.test\\nSubject: old\\n\\nhello\\n' | sendmail -f app@example.test x@dead.far.test && \
                           systemctl restart chopar";

/// A server other than chopar at a port of the machine, with this fault.
pub(super) fn foreign(stage: &mut Stage, fault: &str) {
    stage.change("[abuse]", "[listen]\nsubmission = []\n[abuse]");
    stage.sh("systemctl restart chopar");
    // Its process is named chopar, and chopar.toml says that chopar listens on port 587.
    stage.change("[listen]\nsubmission = []\n", "");
    let named = stage.path("chopar");
    fs::copy(program("python3"), &named).expect("a file");
    let mut command = stage.on(&stage.machine, &named);
    let command = command.arg(beside("foreign.py")).arg("587");
    let command = command.args([stage.path("made/cert.pem"), stage.path("made/key.pem")]);
    let log = File::create(stage.path("foreign.log")).expect("a file");
    let mut guard = Guard::spawn(command.arg(fault).stdin(Stdio::null()).stderr(log));
    stage.wait_for_port(&mut guard, &stage.machine, HOST, 587);
    stage.others.push(guard);
}

/// Another certificate for the same key, with this name and number of days left, and trusted by the machine or not.
pub(super) fn certify(stage: &mut Stage, name: &str, days: &str, is_trusted: bool) {
    let other = stage.path("other.pem");
    let mut command = Command::new(program("openssl"));
    let days = match days {
        "0" => {
            // Issued for a month, two months ago.
            command
                .env("LD_PRELOAD", libfaketime())
                .env("FAKETIME", "-60d");
            "30"
        }
        days => days,
    };
    command.args(["req", "-x509", "-new", "-subj", &format!("/CN={name}")]);
    command.args(["-addext", &format!("subjectAltName=DNS:{name}")]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-key").arg(stage.path("made/key.pem"));
    run(command.args(["-days", days]).arg("-out").arg(&other), b"").ok();
    // A root is identified by its name and key, which another certificate of ours shares.
    let elsewhere = stage.path("elsewhere");
    fs::create_dir_all(&elsewhere).expect("a folder");
    let root = match is_trusted {
        true => other.clone(),
        false => certificate(&elsewhere, "ca.far.test").with_file_name("cert.pem"),
    };
    fs::copy(root, stage.path("roots.pem")).expect("a file");
    stage.certify(&other, &stage.path("made/key.pem"));
    // A daemon that has loaded the good one would keep it.
    stage.sh(
        "systemctl stop chopar && rm -rf /var/lib/chopar/tls-last-good && systemctl start chopar",
    );
}

/// The library that gives a program another time.
pub(super) fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("a folder").flatten();
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let path = paths.find(|path| path.exists());
    path.expect("libfaketime: install the Debian package libfaketime")
}

/// The selectors that are in the DNS.
pub(super) fn selectors(stage: &Stage) -> Vec<String> {
    let records = stage.records["example.test"].iter();
    let names = records.filter_map(|record| Some(record.split_once("._domainkey.")?.0.to_owned()));
    names.collect()
}

/// Gives the host a name that others cannot look up, with everything else correct.
pub(super) fn rename(stage: &mut Stage) {
    let name = "mail.home.internal";
    stage.change("mail.example.test", name);
    fs::create_dir_all(stage.path("inner")).expect("a folder");
    certificate(&stage.path("inner"), name);
    fs::copy(stage.path("inner/cert.pem"), stage.path("roots.pem")).expect("a file");
    stage.certify(&stage.path("inner/cert.pem"), &stage.path("inner/key.pem"));
    stage.sh("systemctl restart chopar");
    for _ in 0..6 {
        let said = stage.doctor();
        let others = said.findings.iter().filter(|finding| {
            text(finding, "id") != "hostname"
                && matches!(text(finding, "state"), "bad" | "unknown" | "warning")
        });
        let mends: BTreeSet<&str> = others.map(|finding| text(finding, "mend")).collect();
        let done = mends.iter().filter(|mend| stage.mend(mend)).count();
        stage.serve();
        if done == 0 {
            return;
        }
    }
}
