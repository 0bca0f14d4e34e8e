//! The facts about the machine and the configuration folder: [`super::facts`] gathers them, [`super::plan`] judges
//! them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::address::{Domain, Mailbox};
use crate::date::Timestamp;

/// What is set up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InstallPlace {
    /// The machine, with the configuration in its usual folder.
    Machine,
    /// One folder, and nothing beside it.
    Folder,
}

/// Who runs this.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InitCaller {
    Root,
    /// Somebody else.
    Other,
}

/// What starts the services of the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Supervisor {
    /// systemd, which runs.
    Systemd,
    /// systemd, which does not run now (an image that is being built).
    SystemdAsleep,
    OpenRc,
    Runit,
    /// Nothing that is known.
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

/// What is at the path of one of the links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Held {
    Free,
    /// It leads to chopar.
    Ours,
    /// Something of another mail system.
    Other {
        /// What it leads to in the end, as far as that is known.
        leads_to: PathBuf,
        /// The package that it belongs to.
        package: Option<String>,
    },
}

/// What is known of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What is set up.
    pub place: InstallPlace,
    /// The configuration folder, absolute.
    pub folder: PathBuf,
    /// Who runs this.
    pub caller: InitCaller,
    /// How chopar is started.
    pub service: ServiceState,
    /// Whether the account `chopar` is there.
    pub has_account: bool,
    /// The programs that are there.
    pub tools: BTreeSet<SystemTool>,
    /// The binary that runs.
    pub binary: PathBuf,
    /// The one in a usual place.
    pub installed: Option<PathBuf>,
    /// The file for systemd-sysusers that is there.
    pub sysusers: Option<PathBuf>,
    /// The name of the machine, in full where it has such a one.
    pub hostname: String,
    /// The ports that cannot be bound: another program has them.
    pub taken_ports: BTreeSet<u16>,
    /// The paths at which programs look for sendmail and its kin.
    pub links: Vec<(PathBuf, Held)>,
    /// The manual pages of another mail system that have the names of chopar's, with their packages.
    pub other_pages: Vec<(PathBuf, Option<String>)>,
    /// What only the binary was copied without: manual pages and the like, with their text.
    pub missing: Vec<(PathBuf, String)>,
    /// What is in the folder.
    pub existing: Existing,
    /// The date.
    pub now: Timestamp,
}

/// How chopar is started on the machine.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// What starts services.
    pub supervisor: Supervisor,
    /// The file that is there by which the supervisor starts the service.
    pub unit: Option<PathBuf>,
    /// The folder of the services that runit starts.
    pub runit_services: Option<PathBuf>,
    /// Whether the service is started with the machine.
    pub is_enabled: bool,
    /// Whether a daemon answers.
    pub is_running: bool,
}

/// What is in the configuration folder.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    pub folder: bool,
    /// Whether it belongs to the account of the daemon, as where that was started before there was one.
    pub is_services: bool,
    /// The text of chopar.toml.
    pub settings: Option<String>,
    /// The name of the host that it gives.
    pub hostname: Option<Domain>,
    /// Its `admin`.
    pub admin: Option<Mailbox>,
    /// The domain, where it is served.
    pub domain: Option<ExistingDomain>,
    /// The users of other domains.
    pub other_users: Vec<Mailbox>,
    pub certificate: ExistingCertificate,
    /// Whether the folder is a repository with a commit.
    pub repository: bool,
    /// The text of its `.gitignore`.
    pub ignore: String,
}

/// A certificate that `init` finds for the host name, and who renews it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExistingCertificate {
    #[default]
    None,
    /// One, under `tls/` or one that was obtained.
    There,
    /// chopar.toml has the daemon obtain what is missing, and that for this host is there.
    Automatic,
    /// The same, and it is not there yet.
    Coming,
}

/// What the configuration folder already has of a domain that `init` is asked for.
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
    /// Where `*` leads, as it is written.
    pub catch_all: Option<String>,
}

impl Machine {
    /// Whether the program is there.
    pub fn has(&self, tool: SystemTool) -> bool {
        self.tools.contains(&tool)
    }

    /// Where chopar lies once a plan is done.
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

/// Where the binary is at home.
pub const USUAL_BINARY: &str = "/usr/bin/chopar";
/// Where it is put.
pub const LOCAL_BINARY: &str = "/usr/local/bin/chopar";
