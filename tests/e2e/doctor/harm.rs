//! Ways to break what the doctor looks at that take more than a line.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::names::beside;
use super::stage::{HOST, Stage, text};
use crate::process::{Guard, program, run};
use crate::world::certificate;

/// A hook that is run by a program which is not there, and one line of it: chopar itself takes it for one that can be
/// run.
pub(super) const HOOK: &str = "mkdir -p /etc/chopar/hooks && cd /etc/chopar/hooks && printf '#!/opt/python3\\n' > post-data && \
                    chmod 755 post-data && chopar reload";
/// A unit without any of what ours takes from the daemon.
pub(super) const BARE_UNIT: &str = "cp /etc/systemd/system/chopar.service /root/unit && \
                         sed -n '/^\\[/p; /^ExecStart=/p; /^WantedBy=/p' /root/unit > /etc/systemd/system/chopar.service";
/// A message that has waited for five hours for a host that does not answer, as the clock of a daemon says that begins
/// under its own account.
pub(super) const OLD_MESSAGE: &str = "systemctl stop chopar && CLOCK=\"setpriv --reuid chopar --regid chopar --clear-groups \
                           --inh-caps +net_bind_service --ambient-caps +net_bind_service \
                           env LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1) FAKETIME=-5h \
                           DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1\" systemctl start chopar && \
                           printf 'To: x@dead.far.test\\nSubject: old\\n\\nhello\\n' | sendmail -f app@example.test x@dead.far.test && \
                           systemctl restart chopar";

/// A server that is not chopar at a port of the machine, whatever its fault.
pub(super) fn foreign(stage: &mut Stage, fault: &str) {
    stage.change("[abuse]", "[listen]\nsubmission = []\n[abuse]");
    stage.sh("systemctl restart chopar");
    // It says that it is chopar, and chopar.toml says that port 587 is open.
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

/// Another certificate for the same key: for which name, how many days are left of it, and whether the machine trusts
/// it.
pub(super) fn certify(stage: &mut Stage, name: &str, days: &str, is_trusted: bool) {
    let other = stage.path("other.pem");
    let mut command = Command::new(program("openssl"));
    let days = match days {
        "0" => {
            // One that was made for a month, two months ago.
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
    // A root counts by its name and its key, which another certificate of ours shares.
    let elsewhere = stage.path("elsewhere");
    fs::create_dir_all(&elsewhere).expect("a folder");
    let root = match is_trusted {
        true => other.clone(),
        false => certificate(&elsewhere, "ca.far.test").with_file_name("cert.pem"),
    };
    fs::copy(root, stage.path("roots.pem")).expect("a file");
    stage.certify(&other, &stage.path("made/key.pem"));
    // A daemon that has the good one would go on showing it.
    stage.sh(
        "systemctl stop chopar && rm -rf /var/lib/chopar/tls-last-good && systemctl start chopar",
    );
}

/// What has a program take another time for now.
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

/// The host has a name that others cannot look up, and everything is right for it.
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
