//! The service of the machine: its unit, its start, and the command that follows `init`.

use std::path::Path;

use super::machine::{InstallPlace, Machine, Supervisor, USUAL_BINARY};
use super::ports::PORTS;
use super::step::{Entries, FileKind, FolderStep, InitStep, MachineStep, PlanLine};

/// Adds the unit and the start to the plan; `next` is the command that follows them. Returns the command that comes
/// next in the end.
pub fn service(machine: &Machine, next: String, entries: &mut Entries) -> String {
    if machine.place == InstallPlace::Folder {
        if machine.service.is_running {
            reload(entries);
            return next;
        }
        return format!("{} run", machine.command());
    }
    let file = match machine.service.supervisor {
        Supervisor::Systemd | Supervisor::SystemdAsleep => Some((UNIT, UNIT_TEXT, FileKind::Text)),
        Supervisor::OpenRc => Some((OPENRC, OPENRC_TEXT, FileKind::Script)),
        Supervisor::Runit => Some((RUNIT, RUNIT_TEXT, FileKind::Script)),
        Supervisor::Unknown => None,
    };
    match (&machine.service.unit, file) {
        (Some(path), Some(_)) => entries.kept(format!("{}", path.display())),
        (None, Some((path, text, kind))) => entries.step(InitStep::Machine(MachineStep::Write {
            path: path.into(),
            text: text.replace(USUAL_BINARY, &machine.program().display().to_string()),
            kind,
            what: "by which the service is started",
        })),
        (_, None) => {}
    }
    let is_ours = machine.service.unit.is_none();
    if is_ours
        && matches!(
            machine.service.supervisor,
            Supervisor::Systemd | Supervisor::SystemdAsleep
        )
    {
        for (key, text) in SOCKETS {
            entries.step(InitStep::Machine(MachineStep::Write {
                path: format!("/etc/systemd/system/chopar-{key}.socket").into(),
                text: text.to_owned(),
                kind: FileKind::Text,
                what: "by which systemd binds ports of the service",
            }));
        }
    }
    if machine.service.is_running {
        reload(entries);
        if !machine.service.is_enabled {
            not_enabled(machine, entries);
        }
        return next;
    }
    start(machine, next, entries)
}

/// An operator may have started the daemon only until the next boot. The plan still reports that mail service
/// ends then.
fn not_enabled(machine: &Machine, entries: &mut Entries) {
    let cure = match machine.service.supervisor {
        Supervisor::Systemd | Supervisor::SystemdAsleep => "sudo systemctl enable chopar",
        Supervisor::OpenRc => "sudo rc-update add chopar default",
        Supervisor::Runit | Supervisor::Unknown => return,
    };
    entries.left(format!(
        "the daemon runs and does not start with the machine: run {cure}"
    ));
}

fn reload(entries: &mut Entries) {
    let is_changed = entries.0.iter().any(|entry| {
        matches!(
            entry,
            PlanLine::Do(InitStep::Folder(FolderStep::Admin { .. }) | InitStep::Domain(_))
        )
    });
    match is_changed {
        true => entries.step(InitStep::Reload),
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
    let commands = starting(machine);
    let all: Vec<String> = commands.iter().map(|words| words.join(" ")).collect();
    let all = all.join(" && sudo ");
    if !taken.is_empty() && machine.service.supervisor != Supervisor::SystemdAsleep {
        let ports = taken.join(", ");
        entries.left(format!(
            "the start: another program has port {ports} (ss -ltnp shows which); stop and disable it, then run sudo {all}"
        ));
        return format!("sudo {all}");
    }
    let what = match machine.service.supervisor {
        Supervisor::SystemdAsleep if machine.service.is_enabled => {
            entries.kept("the service starts with the machine");
            return next;
        }
        Supervisor::SystemdAsleep => {
            "have the service start with the machine (systemd does not run now)"
        }
        Supervisor::Unknown => {
            let run = format!("{} run", program.display());
            entries.left(format!(
                "the start: no supervisor that init knows runs here (systemd, OpenRC, runit): have yours run {run}"
            ));
            return format!("sudo {run}");
        }
        Supervisor::Runit if machine.service.is_enabled => {
            entries.kept("the service, which runit starts");
            return next;
        }
        Supervisor::Systemd | Supervisor::OpenRc | Supervisor::Runit => {
            "start the service, now and with the machine"
        }
    };
    let words: Vec<Vec<&str>> = commands
        .iter()
        .map(|words| words.iter().map(String::as_str).collect())
        .collect();
    let words: Vec<&[&str]> = words.iter().map(Vec::as_slice).collect();
    entries.call(what, &words);
    next
}

/// The commands that start the service, now and with the machine.
fn starting(machine: &Machine) -> Vec<Vec<String>> {
    let services = machine.service.runit_services.as_deref();
    let services = services.unwrap_or(Path::new("/var/service"));
    let link = services.join("chopar").display().to_string();
    let commands: &[&[&str]] = match machine.service.supervisor {
        // It reads the new unit by itself.
        Supervisor::Systemd => &[&["systemctl", "enable", "--now", "chopar"]],
        Supervisor::SystemdAsleep => &[&["systemctl", "enable", "chopar"]],
        Supervisor::OpenRc => &[
            &["rc-update", "add", "chopar", "default"],
            &["rc-service", "chopar", "start"],
        ],
        // runsvdir sees the link within seconds.
        Supervisor::Runit => &[&["ln", "-s", "/etc/sv/chopar", &link]],
        Supervisor::Unknown => &[],
    };
    let owned = |words: &&[&str]| words.iter().map(|&word| word.to_owned()).collect();
    commands.iter().map(owned).collect()
}

/// The path of the unit.
pub const UNIT: &str = "/etc/systemd/system/chopar.service";
const UNIT_TEXT: &str = include_str!("../chopar.service");
/// The socket units: the first three belong to the service, the others are for operators who enable them.
pub const SOCKETS: [(&str, &str); 6] = [
    ("smtp", include_str!("../chopar-smtp.socket")),
    ("submission", include_str!("../chopar-submission.socket")),
    ("submissions", include_str!("../chopar-submissions.socket")),
    ("acme-http", include_str!("../chopar-acme-http.socket")),
    ("acme-tls", include_str!("../chopar-acme-tls.socket")),
    ("status", include_str!("../chopar-status.socket")),
];
/// The script of the service under OpenRC.
pub const OPENRC: &str = "/etc/init.d/chopar";
const OPENRC_TEXT: &str = include_str!("../chopar.openrc");
/// The script of the service under runit.
pub const RUNIT: &str = "/etc/sv/chopar/run";
const RUNIT_TEXT: &str = include_str!("../chopar.runit");
