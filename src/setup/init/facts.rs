//! Facts about the machine, for [`super::plan`] to judge. Nothing is changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::SYSUSERS;
use super::existing::{existing, sentence};
use super::links::LINKS;
use super::machine::{
    Held, InitCaller, InstallPlace, LOCAL_BINARY, Machine, ServiceState, Supervisor, SystemTool,
    USUAL_BINARY,
};
use super::man_pages::PAGES;
use super::ports::{PORTS, candidates};
use super::service::{OPENRC, RUNIT, UNIT};
use crate::address::Domain;
use crate::shell::files::folder;
use crate::shell::net::listen;
use crate::shell::process::time::wall;

/// The usual configuration folder. With it, `init` sets up the whole machine.
pub const USUAL_FOLDER: &str = "/etc/chopar";

/// Gathers the facts for a domain, or the errors of the existing configuration as sentences.
pub fn gather(folder: &Path, domain: &Domain) -> Result<Machine, Vec<String>> {
    let absolute = std::path::absolute(folder).map_err(|error| vec![sentence(folder, &error)])?;
    let place = match is_of_machine(folder) {
        true => InstallPlace::Machine,
        false => InstallPlace::Folder,
    };
    let (existing, config) = existing(&absolute, domain)?;
    let is_running = config
        .as_ref()
        .is_some_and(|config| UnixStream::connect(config.runtime_dir.join("control.sock")).is_ok());
    let binary = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(USUAL_BINARY));
    let usual = [USUAL_BINARY, LOCAL_BINARY].map(PathBuf::from);
    let is_own = usual.contains(&binary);
    let installed = match is_own {
        true => Some(binary.clone()),
        false => usual.iter().find(|path| path.exists()).cloned(),
    };
    let program = installed.clone().unwrap_or_else(|| binary.clone());
    let supervisor = supervisor();
    Ok(Machine {
        place,
        caller: match rustix::process::geteuid().is_root() {
            true => InitCaller::Root,
            false => InitCaller::Other,
        },
        service: ServiceState {
            supervisor,
            unit: first(unit_places(supervisor)),
            runit_services: first(&["/var/service", "/etc/service", "/service"]),
            is_enabled: is_enabled(supervisor),
            is_running,
        },
        has_account: has_account("chopar"),
        tools: tools(),
        sysusers: first(&[
            SYSUSERS,
            "/usr/lib/sysusers.d/chopar.conf",
            "/usr/local/lib/sysusers.d/chopar.conf",
        ]),
        hostname: folder::system_defaults().hostname,
        taken_ports: match is_running {
            true => BTreeSet::new(),
            false => taken_ports(place),
        },
        links: match place {
            InstallPlace::Machine => links(&program),
            InstallPlace::Folder => Vec::new(),
        },
        other_pages: match place {
            InstallPlace::Machine => other_pages(),
            InstallPlace::Folder => Vec::new(),
        },
        missing: Vec::new(),
        existing,
        now: wall(),
        folder: absolute,
        binary,
        installed,
    })
}

/// Possible folders of the file that starts the service.
fn unit_places(supervisor: Supervisor) -> &'static [&'static str] {
    match supervisor {
        Supervisor::OpenRc => &[OPENRC],
        Supervisor::Runit => &[RUNIT],
        Supervisor::Systemd | Supervisor::SystemdAsleep | Supervisor::Unknown => &[
            UNIT,
            "/usr/lib/systemd/system/chopar.service",
            "/lib/systemd/system/chopar.service",
            "/usr/local/lib/systemd/system/chopar.service",
        ],
    }
}

/// The programs at the paths of sendmail.
fn links(program: &Path) -> Vec<(PathBuf, Held)> {
    LINKS
        .iter()
        .map(|path| (PathBuf::from(path), held(Path::new(path), program)))
        .collect()
}

/// Whether a configuration folder belongs to the machine, and not to a user.
pub fn is_of_machine(folder: &Path) -> bool {
    std::path::absolute(folder).is_ok_and(|path| path == Path::new(USUAL_FOLDER))
}

fn first(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.exists())
}

fn supervisor() -> Supervisor {
    let is_there = |path: &str| Path::new(path).exists();
    if is_there("/run/systemd/system") {
        Supervisor::Systemd
    } else if is_there("/run/openrc") || is_there("/sbin/openrc-run") {
        Supervisor::OpenRc
    } else if is_there("/run/runit") || is_there("/etc/runit/runsvdir") {
        Supervisor::Runit
    } else if is_there("/usr/lib/systemd/systemd") || is_there("/lib/systemd/systemd") {
        Supervisor::SystemdAsleep
    } else {
        Supervisor::Unknown
    }
}

/// Whether the service is started at boot.
fn is_enabled(supervisor: Supervisor) -> bool {
    let links: &[&str] = match supervisor {
        Supervisor::OpenRc => &["/etc/runlevels/default/chopar"],
        Supervisor::Runit => &[
            "/var/service/chopar",
            "/etc/service/chopar",
            "/service/chopar",
        ],
        Supervisor::Systemd | Supervisor::SystemdAsleep | Supervisor::Unknown => {
            &["/etc/systemd/system/multi-user.target.wants/chopar.service"]
        }
    };
    links
        .iter()
        .any(|path| Path::new(path).symlink_metadata().is_ok())
}

fn has_account(name: &str) -> bool {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines()
        .any(|line| line.split(':').next() == Some(name))
}

fn tools() -> BTreeSet<SystemTool> {
    let known = [
        (SystemTool::Sysusers, "systemd-sysusers"),
        (SystemTool::Useradd, "useradd"),
        (SystemTool::Alternatives, "update-alternatives"),
        (SystemTool::Divert, "dpkg-divert"),
        (SystemTool::Git, "git"),
    ];
    let mut found: BTreeSet<SystemTool> = known
        .into_iter()
        .filter(|(_, name)| in_path(name).is_some())
        .map(|(tool, _)| tool)
        .collect();
    // Debian's adduser takes other options.
    let is_busybox = |name: &str| {
        let path = in_path(name).and_then(|path| fs::canonicalize(path).ok());
        path.is_some_and(|path| path.ends_with("busybox"))
    };
    if is_busybox("adduser") && is_busybox("addgroup") {
        found.insert(SystemTool::BusyboxAdduser);
    }
    found
}

/// A program by its name.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .chain(DEFAULT_PATH.split(':').map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn taken_ports(place: InstallPlace) -> BTreeSet<u16> {
    let ports: Vec<u16> = match place {
        InstallPlace::Machine => PORTS.to_vec(),
        InstallPlace::Folder => PORTS.into_iter().flat_map(candidates).collect(),
    };
    let taken = ports.into_iter().filter(|port| is_taken(*port));
    taken.filter(|port| !is_held_for_us(*port)).collect()
}

/// Whether systemd has bound the port for the service, which does not run.
fn is_held_for_us(port: u16) -> bool {
    let keys = PORTS.into_iter().zip(["smtp", "submission", "submissions"]);
    let key = keys.into_iter().find(|(known, _)| *known == port);
    key.is_some_and(|(_, key)| listen::is_held_for_us(key))
}

/// Whether another program uses a port. A port that the caller may not bind, or of an address family that the machine
/// lacks, counts as free.
fn is_taken(port: u16) -> bool {
    let any = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ];
    any.into_iter().any(|address| {
        TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    })
}

fn held(path: &Path, program: &Path) -> Held {
    if fs::symlink_metadata(path).is_err() {
        return Held::Free;
    }
    let end = fs::canonicalize(path);
    let ours = fs::canonicalize(program).ok();
    let usual = [USUAL_BINARY, LOCAL_BINARY].map(PathBuf::from);
    if let Ok(end) = &end
        && (ours.as_ref() == Some(end) || usual.contains(end))
    {
        return Held::Ours;
    }
    let next = fs::read_link(path).ok();
    // A link to one of our paths that is not installed yet.
    if next.as_ref().is_some_and(|next| usual.contains(next)) {
        return Held::Ours;
    }
    let through = next.filter(|next| next.starts_with("/etc/alternatives"));
    let package = owner(path).or_else(|| owner(end.as_deref().ok()?));
    Held::Other {
        leads_to: through.or(end.ok()).unwrap_or_else(|| path.to_owned()),
        package,
    }
}

/// The compressed pages beside chopar's own, which are not.
fn other_pages() -> Vec<(PathBuf, Option<String>)> {
    let folders = ["/usr/share/man/man1", "/usr/local/share/man/man1"].map(Path::new);
    let is_ours = |folder: &Path| folder.join(PAGES[0]).exists();
    // man looks below /usr/local first.
    let [usual, local] = folders;
    let before = match (is_ours(usual), is_ours(local)) {
        (_, true) => vec![local],
        (true, false) => folders.to_vec(),
        (false, false) => return Vec::new(),
    };
    let others = before
        .into_iter()
        .flat_map(|folder| PAGES.map(|page| folder.join(format!("{page}.gz"))));
    let others = others.filter(|path| path.symlink_metadata().is_ok());
    others.map(|path| (path.clone(), owner(&path))).collect()
}

/// The package that a file belongs to.
fn owner(path: &Path) -> Option<String> {
    let asked: [(&str, &[&str]); 4] = [
        ("dpkg-query", &["-S"]),
        ("rpm", &["-qf", "--qf", "%{NAME}\\n"]),
        ("apk", &["info", "-q", "-W"]),
        ("pacman", &["-Qqo"]),
    ];
    asked.into_iter().find_map(|(program, words)| {
        let program = in_path(program)?;
        let output = Command::new(program)
            .args(words)
            .arg(path)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let line = text.lines().find(|line| !line.starts_with("diversion"))?;
        let name = line.split([':', ' ', ',']).next()?;
        (output.status.success() && !name.is_empty()).then(|| name.to_owned())
    })
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_holds_a_path_is_told_from_what_leads_to_chopar() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        fs::write(at("chopar"), "").expect("a file");
        fs::write(at("other"), "").expect("a file");
        symlink("chopar", at("alternative")).expect("a link");
        symlink("alternative", at("mailq")).expect("a link");
        symlink("other", at("sendmail")).expect("a link");
        symlink("gone", at("dangling")).expect("a link");
        symlink(USUAL_BINARY, at("to-be")).expect("a link");
        let held = |name: &str| held(&at(name), &at("chopar"));
        assert_eq!(held("nothing"), Held::Free);
        assert_eq!(held("mailq"), Held::Ours);
        assert_eq!(held("to-be"), Held::Ours);
        let end = fs::canonicalize(at("other")).expect("a path");
        let other = Held::Other {
            leads_to: end,
            package: None,
        };
        assert_eq!(held("sendmail"), other);
        assert!(matches!(held("dangling"), Held::Other { .. }));
    }

    #[test]
    fn a_port_that_another_program_has_is_taken() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert!(is_taken(port));
        drop(listener);
        assert!(!is_taken(port));
    }
}
