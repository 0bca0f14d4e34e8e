//! `sendmail`, `mailq` and `newaliases`: the paths at which programs look for them, and the packages that own them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::machine::{Held, Machine, Supervisor, SystemTool};
use super::step::{Entries, InitStep, MachineStep};
use crate::address::Domain;

/// Links the paths of sendmail to chopar, if no other program has them.
pub fn links(machine: &Machine, domain: &Domain) -> Entries {
    let mut entries = Entries::default();
    let program = machine.program();
    let held: Vec<&(PathBuf, Held)> = machine
        .links
        .iter()
        .filter(|(_, held)| matches!(held, Held::Other { .. }))
        .collect();
    if !held.is_empty() {
        let text = move_over(&held, machine, &program, domain);
        entries.left(text);
    }
    let (mut free, mut ours) = (Vec::new(), Vec::new());
    for (path, what) in &machine.links {
        match what {
            Held::Free => free.push(path.clone()),
            Held::Ours => ours.push(path.display().to_string()),
            Held::Other { .. } => {}
        }
    }
    if !ours.is_empty() {
        entries.kept(format!("{}, which lead to chopar", ours.join(", ")));
    }
    let is_all = free.len() == machine.links.len();
    if is_all && machine.has(SystemTool::Alternatives) {
        let words = alternatives("update-alternatives", &free, &program);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        entries.call("have programs that call sendmail reach chopar", &[&words]);
        return entries;
    }
    for path in free {
        entries.step(InitStep::Machine(MachineStep::Link {
            path,
            binary: program.clone(),
        }));
    }
    entries
}

/// The steps if another mail system holds sendmail.
fn move_over(
    held: &[&(PathBuf, Held)],
    machine: &Machine,
    program: &Path,
    domain: &Domain,
) -> String {
    let packages: BTreeSet<&str> = held
        .iter()
        .filter_map(|(_, what)| match what {
            Held::Other { package, .. } => package.as_deref(),
            Held::Free | Held::Ours => None,
        })
        .collect();
    let shown: Vec<String> = held
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect();
    let holder = match packages.is_empty() {
        true => "another mail system".to_owned(),
        false => {
            let packages: Vec<&str> = packages.iter().copied().collect();
            format!("the package {}", packages.join(" and "))
        }
    };
    let mut commands: Vec<String> = packages
        .iter()
        .filter_map(|package| service_of(package))
        .filter(|_| machine.service.supervisor == Supervisor::Systemd)
        .map(|service| format!("systemctl disable --now {service}"))
        .collect();
    if machine.has(SystemTool::Alternatives) && held.iter().any(|(_, what)| is_alternative(what)) {
        commands.extend(by_alternatives(machine, program));
    } else {
        let divert = machine.has(SystemTool::Divert) && !packages.is_empty();
        commands.extend(shown.iter().map(|path| match divert {
            true => format!("dpkg-divert --local --rename --divert {path}.other --add {path}"),
            false => format!("mv {path} {path}.other"),
        }));
    }
    commands.push(format!("chopar init {domain}"));
    format!(
        "{} belong to {holder}: programs that call them do not reach chopar. To switch to chopar, as root: {}",
        shown.join(", "),
        commands.join(" && ")
    )
}

/// Whether a path leads to its program through the alternatives of the system.
fn is_alternative(what: &Held) -> bool {
    matches!(what, Held::Other { leads_to, .. } if leads_to.starts_with("/etc/alternatives"))
}

/// The commands that make chopar one of the alternatives, and select it.
fn by_alternatives(machine: &Machine, program: &Path) -> [String; 2] {
    let all: Vec<PathBuf> = machine.links.iter().map(|(path, _)| path.clone()).collect();
    [
        alternatives("update-alternatives", &all, program).join(" "),
        format!("update-alternatives --set mta {}", program.display()),
    ]
}

/// The service of a package that has a sendmail.
fn service_of(package: &str) -> Option<&'static str> {
    let known = [
        ("postfix", "postfix"),
        ("exim4", "exim4"),
        ("exim", "exim"),
        ("sendmail", "sendmail"),
        ("opensmtpd", "opensmtpd"),
        ("nullmailer", "nullmailer"),
        ("courier-mta", "courier-mta"),
    ];
    known
        .into_iter()
        .find(|(name, _)| {
            let rest = package.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
        .map(|(_, service)| service)
}

/// A group of alternatives, as Fedora names it, for all the links.
fn alternatives(tool: &str, links: &[PathBuf], program: &Path) -> Vec<String> {
    let program = program.display().to_string();
    let mut words = vec![tool.to_owned()];
    for (at, link) in links.iter().enumerate() {
        let name = link.file_name().unwrap_or_default().to_string_lossy();
        let (flag, group) = match (at, link.starts_with("/usr/lib")) {
            (0, _) => ("--install", "mta".to_owned()),
            (_, true) => ("--slave", format!("mta-lib-{name}")),
            (_, false) => ("--slave", format!("mta-{name}")),
        };
        words.extend([
            flag.to_owned(),
            link.display().to_string(),
            group,
            program.clone(),
        ]);
        if at == 0 {
            words.push(PRIORITY.to_owned());
        }
    }
    words
}

/// The paths at which programs look for sendmail and the related commands.
pub const LINKS: [&str; 4] = [
    "/usr/sbin/sendmail",
    "/usr/lib/sendmail",
    "/usr/bin/mailq",
    "/usr/bin/newaliases",
];
/// Below those of the mail servers of Fedora: another installed one stays selected.
const PRIORITY: &str = "5";
