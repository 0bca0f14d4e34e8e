//! The facts about the machine and the configuration folder: [`super::facts`] gathers them, [`super::plan`] judges
//! them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::address::{Domain, Mailbox};
use crate::date::Timestamp;

/// The place of the set-up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InstallPlace {
    /// The machine, with the configuration in its usual folder.
    Machine,
    /// One folder only, and nothing outside of it.
    Folder,
}

/// Who runs `init`: root or another user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InitCaller {
    Root,
    /// Any other user.
    Other,
}

/// The service manager of the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Supervisor {
    /// systemd, which runs.
    Systemd,
    /// systemd, which does not run now (an image that is being built).
    SystemdAsleep,
    OpenRc,
    Runit,
    /// No known service manager.
    Unknown,
}

/// A program that a step may call.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SystemTool {
    /// systemd-sysusers.
    Sysusers,
    /// useradd of shadow.
    Useradd,
    /// adduser of BusyBox, which has addgroup beside it.
    BusyboxAdduser,
    /// update-alternatives.
    Alternatives,
    /// dpkg-divert.
    Divert,
    Git,
}

/// The file at the path of one of the links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Held {
    Free,
    /// It leads to chopar.
    Ours,
    /// A file of another mail system.
    Other {
        /// Its final target, as far as known.
        leads_to: PathBuf,
        /// The package that it belongs to.
        package: Option<String>,
    },
}

/// The facts about the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The place of the set-up.
    pub place: InstallPlace,
    /// The configuration folder, absolute.
    pub folder: PathBuf,
    pub caller: InitCaller,
    /// How chopar is started.
    pub service: ServiceState,
    /// Whether the account `chopar` exists.
    pub has_account: bool,
    /// The programs that exist.
    pub tools: BTreeSet<SystemTool>,
    /// The binary that runs.
    pub binary: PathBuf,
    /// The one in a usual place.
    pub installed: Option<PathBuf>,
    /// The existing file for systemd-sysusers.
    pub sysusers: Option<PathBuf>,
    /// The name of the machine, with its domain if it has one.
    pub hostname: String,
    /// The ports that cannot be bound, because another program uses them.
    pub taken_ports: BTreeSet<u16>,
    /// The paths at which programs look for sendmail and the related commands.
    pub links: Vec<(PathBuf, Held)>,
    /// The manual pages of another mail system that have the names of chopar's, with their packages.
    pub other_pages: Vec<(PathBuf, Option<String>)>,
    /// Files that are missing if only the binary was copied: manual pages and the like, with their text.
    pub missing: Vec<(PathBuf, String)>,
    /// The content of the folder.
    pub existing: Existing,
    /// The date.
    pub now: Timestamp,
}

/// How chopar is started on the machine.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// The service manager.
    pub supervisor: Supervisor,
    /// The existing file by which the service manager starts the service.
    pub unit: Option<PathBuf>,
    /// The folder of the services that runit starts.
    pub runit_services: Option<PathBuf>,
    /// Whether the service is started at boot.
    pub is_enabled: bool,
    /// Whether a daemon answers.
    pub is_running: bool,
}

/// The content of the configuration folder.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    pub folder: bool,
    /// Whether the account of the daemon owns it, which happens if the daemon was started before the folder existed.
    pub is_services: bool,
    /// The text of chopar.toml.
    pub settings: Option<String>,
    pub hostname: Option<Domain>,
    /// Its `admin`.
    pub admin: Option<Mailbox>,
    /// The domain, if it is served.
    pub domain: Option<ExistingDomain>,
    /// The users of other domains.
    pub other_users: Vec<Mailbox>,
    pub certificate: ExistingCertificate,
    /// Whether the folder is a repository with a commit.
    pub repository: bool,
    /// The text of its `.gitignore`.
    pub ignore: String,
}

/// A certificate that `init` finds for the hostname, and its renewal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExistingCertificate {
    #[default]
    None,
    /// A pair under `tls/`, or one that was obtained.
    There,
    /// chopar.toml lets the daemon obtain missing certificates, and the one for this host exists.
    Automatic,
    /// The same, but it does not exist yet.
    AutomaticCertificate,
}

/// The existing data of a domain that `init` is asked for.
#[derive(Clone, Debug, Default)]
pub struct ExistingDomain {
    /// The selectors of its keys.
    pub selectors: BTreeSet<String>,
    pub has_rsa: bool,
    /// Whether one is Ed25519.
    pub has_ed25519: bool,
    /// The local parts of its users.
    pub users: Vec<String>,
    /// The keys of the names of its aliases.
    pub aliases: BTreeSet<String>,
    /// The target of `*`, as it is written.
    pub catch_all: Option<String>,
}

impl Machine {
    /// Whether the program exists.
    pub fn has(&self, tool: SystemTool) -> bool {
        self.tools.contains(&tool)
    }

    /// The path of chopar once the plan is performed.
    pub fn program(&self) -> PathBuf {
        let installed = self.installed.clone();
        installed.unwrap_or_else(|| PathBuf::from(LOCAL_BINARY))
    }

    /// How chopar is called for this configuration.
    pub fn command(&self) -> String {
        match self.place {
            InstallPlace::Machine => "sudo chopar".to_owned(),
            InstallPlace::Folder => format!("chopar -C {}", self.folder.display()),
        }
    }
}

/// The path of an installed binary.
pub const USUAL_BINARY: &str = "/usr/bin/chopar";
/// The path that the binary is copied to.
pub const LOCAL_BINARY: &str = "/usr/local/bin/chopar";
