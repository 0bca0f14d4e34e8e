//! The service of the machine: its unit, its start, and the command that comes after `init`.

use std::path::Path;

use super::machine::{Machine, Place, Supervisor, USUAL_BINARY};
use super::ports::PORTS;
use super::step::{Entries, Entry, Step};

/// The unit and the start are added to what is planned so far; `next` is the command that comes after them. Gives the
/// command that comes next in the end.
pub fn service(machine: &Machine, next: String, entries: &mut Entries) -> String {
    if machine.place == Place::Folder {
        if machine.is_running {
            reload(entries);
            return next;
        }
        return format!("{} run", machine.command());
    }
    let is_systemd = matches!(
        machine.supervisor,
        Supervisor::Systemd | Supervisor::SystemdAsleep
    );
    if is_systemd {
        match &machine.unit {
            Some(path) => entries.kept(format!("{}", path.display())),
            None => entries.step(Step::Write {
                path: UNIT.into(),
                text: unit(&machine.program()),
                what: "the unit of the service",
            }),
        }
    }
    if machine.is_running {
        reload(entries);
        return next;
    }
    start(machine, next, entries)
}

fn reload(entries: &mut Entries) {
    let is_changed = entries.0.iter().any(|entry| {
        matches!(
            entry,
            Entry::Do(
                Step::Admin { .. }
                    | Step::Domain(_)
                    | Step::Key { .. }
                    | Step::Alias { .. }
                    | Step::User { .. }
            )
        )
    });
    match is_changed {
        true => entries.step(Step::Reload),
        false => entries.kept("the daemon, which runs"),
    }
}

fn start(machine: &Machine, next: String, entries: &mut Entries) -> String {
    let program = machine.program();
    let taken: Vec<String> = PORTS
        .iter()
        .filter(|port| machine.taken_ports.contains(port))
        .map(ToString::to_string)
        .collect();
    let start: &[&str] = &["systemctl", "enable", "--now", "chopar"];
    match machine.supervisor {
        Supervisor::Systemd if !taken.is_empty() => {
            let ports = taken.join(", ");
            entries.left(format!(
                "the start: another program has port {ports} (ss -ltnp shows which); stop and disable it, then run {}",
                start.join(" ")
            ));
            return format!("sudo {}", start.join(" "));
        }
        Supervisor::Systemd => {
            let load: &[&str] = &["systemctl", "daemon-reload"];
            entries.call(
                "start the service, now and with the machine",
                &[load, start],
            );
        }
        Supervisor::SystemdAsleep if machine.is_enabled => {
            entries.kept("the service starts with the machine");
        }
        Supervisor::SystemdAsleep => entries.call(
            "have the service start with the machine (systemd does not run now)",
            &[&["systemctl", "enable", "chopar"]],
        ),
        supervisor => {
            let by = match supervisor {
                Supervisor::OpenRc => {
                    "OpenRC starts it from a file /etc/init.d/chopar with supervisor=supervise-daemon and \
                     command_args=run: command is"
                }
                Supervisor::Runit => {
                    "runit starts it from a file /etc/sv/chopar/run that ends in exec"
                }
                _ => "systemd does not run here: have your supervisor run",
            };
            let run = match supervisor {
                Supervisor::OpenRc => program.display().to_string(),
                _ => format!("{} run", program.display()),
            };
            entries.left(format!("the start: {by} {run}"));
            return format!("sudo {} run", program.display());
        }
    }
    next
}

fn unit(program: &Path) -> String {
    UNIT_TEXT.replace(USUAL_BINARY, &program.display().to_string())
}

/// Where the unit is put.
pub const UNIT: &str = "/etc/systemd/system/chopar.service";
const UNIT_TEXT: &str = include_str!("../chopar.service");
