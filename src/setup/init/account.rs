//! The account that the daemon runs as.

use std::path::PathBuf;

use super::machine::{Machine, SystemTool};
use super::step::{Entries, FileKind, InitStep, MachineStep};

/// Plans the account chopar, if it is missing and a program can create it.
pub fn account(machine: &Machine) -> Option<Entries> {
    let mut entries = Entries::default();
    if machine.has_account {
        entries.kept("the account chopar");
        return Some(entries);
    }
    if machine.has(SystemTool::Sysusers) {
        let path = match &machine.sysusers {
            Some(path) => path.clone(),
            None => {
                entries.step(InitStep::Machine(MachineStep::Write {
                    path: SYSUSERS.into(),
                    text: SYSUSERS_TEXT.to_owned(),
                    kind: FileKind::Text,
                    what: "which names the account chopar",
                }));
                PathBuf::from(SYSUSERS)
            }
        };
        let path = path.to_string_lossy().into_owned();
        entries.call("make the account chopar", &[&["systemd-sysusers", &path]]);
    } else if machine.has(SystemTool::Useradd) {
        let words = [
            "useradd",
            "--system",
            "--user-group",
            "--home-dir",
            "/var/lib/chopar",
            "--no-create-home",
            "--shell",
            NOLOGIN,
            "chopar",
        ];
        entries.call("make the account chopar", &[&words]);
    } else if machine.has(SystemTool::BusyboxAdduser) {
        let words = [
            "adduser",
            "-S",
            "-D",
            "-H",
            "-h",
            "/var/lib/chopar",
            "-s",
            "/sbin/nologin",
            "-G",
            "chopar",
            "chopar",
        ];
        entries.call(
            "make the account chopar",
            &[&["addgroup", "-S", "chopar"], &words],
        );
    } else {
        return None;
    }
    Some(entries)
}

/// The file that declares the account to systemd-sysusers.
pub const SYSUSERS: &str = "/etc/sysusers.d/chopar.conf";
/// The line of /etc/passwd for the account, for operators who add it by hand.
pub const PASSWD_LINE: &str =
    "chopar:x:990:990:chopar mail relay:/var/lib/chopar:/usr/sbin/nologin";
/// The line of /etc/group that belongs to the account.
pub const GROUP_LINE: &str = "chopar:x:990:";
const SYSUSERS_TEXT: &str = include_str!("../chopar.sysusers");
const NOLOGIN: &str = "/usr/sbin/nologin";
