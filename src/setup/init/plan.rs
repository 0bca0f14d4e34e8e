//! From facts about the machine to what is done to it: a list of steps, each with a sentence.
//!
//! Pure: [`super::facts`] gathers, [`super::perform`] does. A step is planned only where something is missing, so that a
//! plan for a machine that is ready has none.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::certificate;
use super::settings_text::{Own, RUNTIME, STATE, Settings, with_admin};
use crate::address::{Domain, Mailbox};
use crate::date::Timestamp;
use crate::setup::dkim_key::Kind;

/// What the operator asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wishes {
    /// The domain.
    pub domain: Domain,
    /// The name of the host, where it is said.
    pub hostname: Option<Domain>,
    /// Who hears of what chopar has to report.
    pub admin: Option<Mailbox>,
    /// Where mail for every address of the domain goes that nothing else is said about.
    pub forward_to: Option<Mailbox>,
    /// The local part of the first user.
    pub user: Option<String>,
    /// Whether the folder becomes a repository.
    pub git: Git,
    /// Whether a certificate is wanted.
    pub certificate: Certificate,
}

/// Whether the configuration folder becomes a git repository.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Git {
    /// Not.
    #[default]
    None,
    /// Without users, keys and what is under secrets/ and tls/.
    Public,
    /// With all of it.
    Private,
}

/// Whether a certificate is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Certificate {
    /// It is.
    Wanted,
    /// It is not.
    Unwanted,
}

/// What is set up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The machine, with the configuration in its usual folder.
    Machine,
    /// One folder, and nothing beside it.
    Folder,
}

/// Who runs this.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Root.
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
    /// OpenRC.
    OpenRc,
    /// runit.
    Runit,
    /// Nothing that is known.
    Unknown,
}

/// A program that a step may call.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Tool {
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
    /// git.
    Git,
}

/// What is at the path of one of the links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Held {
    /// Nothing.
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
    pub place: Place,
    /// The configuration folder, absolute.
    pub folder: PathBuf,
    /// Who runs this.
    pub caller: Caller,
    /// What starts services.
    pub supervisor: Supervisor,
    /// Whether the account `chopar` is there.
    pub has_account: bool,
    /// The programs that are there.
    pub tools: BTreeSet<Tool>,
    /// The binary that runs.
    pub binary: PathBuf,
    /// The one in a usual place.
    pub installed: Option<PathBuf>,
    /// The unit file that is there.
    pub unit: Option<PathBuf>,
    /// The file for systemd-sysusers that is there.
    pub sysusers: Option<PathBuf>,
    /// Whether the service is started with the machine.
    pub is_enabled: bool,
    /// Whether a daemon answers.
    pub is_running: bool,
    /// The name of the machine, in full where it has such a one.
    pub hostname: String,
    /// The ports that cannot be bound: another program has them.
    pub taken_ports: BTreeSet<u16>,
    /// The paths at which programs look for sendmail and its kin.
    pub links: Vec<(PathBuf, Held)>,
    /// What is in the folder.
    pub existing: Existing,
    /// The date.
    pub now: Timestamp,
}

/// What is in the configuration folder.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// Whether the folder is there.
    pub folder: bool,
    /// The text of chopar.toml.
    pub settings: Option<String>,
    /// The name of the host that it gives.
    pub hostname: Option<Domain>,
    /// Its `admin`.
    pub admin: Option<Mailbox>,
    /// The domain, where it is served.
    pub domain: Option<ExistingDomain>,
    /// What there is of a certificate.
    pub certificate: ExistingCertificate,
    /// Whether the folder is a repository with a commit.
    pub repository: bool,
    /// The text of its `.gitignore`.
    pub ignore: String,
}

/// What there is of a certificate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExistingCertificate {
    /// Nothing.
    #[default]
    None,
    /// One, under `tls/` or one that was obtained.
    There,
    /// chopar.toml has the daemon obtain what is missing, and that for this host is there.
    Automatic,
    /// The same, and it is not there yet.
    Coming,
}

/// What a domain has.
#[derive(Clone, Debug, Default)]
pub struct ExistingDomain {
    /// The selectors of its keys.
    pub selectors: BTreeSet<String>,
    /// Whether one is RSA.
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

/// One thing that is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// The running binary is copied to where programs lie.
    Copy {
        /// The running binary.
        from: PathBuf,
        /// Its place.
        to: PathBuf,
    },
    /// A file outside of the configuration folder.
    Write {
        /// Where.
        path: PathBuf,
        /// What it says.
        text: String,
        /// What it is for.
        what: &'static str,
    },
    /// Programs are called, one after the other.
    Call {
        /// What they do.
        what: String,
        /// Program and arguments.
        commands: Vec<Vec<String>>,
    },
    /// The configuration folder.
    Folder(PathBuf),
    /// chopar.toml.
    Settings {
        /// The name of the host.
        hostname: Domain,
        /// Who reads what comes for postmaster.
        admin: Option<Mailbox>,
        /// Whether the daemon obtains certificates.
        certificates: bool,
        /// The file.
        text: String,
    },
    /// chopar.toml with `admin`.
    Admin {
        /// Who that is.
        admin: Mailbox,
        /// The file.
        text: String,
    },
    /// The folder of the domain.
    Domain(Domain),
    /// A key that signs.
    Key {
        /// The domain.
        domain: Domain,
        /// Its name in the DNS.
        selector: String,
        /// What kind of key.
        kind: Kind,
    },
    /// An alias; `*` catches the rest.
    Alias {
        /// The domain.
        domain: Domain,
        /// The local part.
        name: String,
        /// Where it leads.
        target: Mailbox,
    },
    /// A user with a password that is made.
    User {
        /// The user's address.
        address: Mailbox,
    },
    /// A repository with a first commit.
    Repository {
        /// The lines that `.gitignore` lacks.
        ignore: Option<String>,
        /// Whether it is to hold no secret.
        is_public: bool,
        /// Who has made the commit, where git does not know.
        committer: Mailbox,
    },
    /// A link to the binary.
    Link {
        /// Where.
        path: PathBuf,
        /// What it leads to.
        binary: PathBuf,
    },
    /// The running daemon reads its configuration again.
    Reload,
}

/// One line of a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// It is done.
    Do(Step),
    /// It is there and stays as it is.
    Kept(String),
    /// The operator has to do it.
    Left(String),
}

/// What is done, and what comes after.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// In this order.
    pub entries: Vec<Entry>,
    /// The one command that comes next.
    pub next: String,
}

/// Why there is no plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlanError {
    /// The machine is set up by root.
    NotRoot,
    /// The account cannot be made.
    NoAccountTool,
    /// The domain has no dot.
    Undotted(Domain),
    /// Mail for this address would lead to the domain itself, where it ends nowhere.
    LeadsBack(Mailbox),
    /// A local part that cannot be a user.
    User(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => out.write_str(
                "only root can set up the machine: run it with sudo; chopar -C DIR init sets up one folder without root",
            ),
            Self::NoAccountTool => write!(
                out,
                "there is no account chopar, and no program that could make it (systemd-sysusers, useradd, adduser); add \
                 these lines, then run this again: to /etc/passwd {PASSWD_LINE}, to /etc/group {GROUP_LINE}"
            ),
            Self::Undotted(domain) => write!(
                out,
                "no other server can send mail to {domain}, which has no dot; write the whole name, like \
                 {domain}.example.com"
            ),
            Self::LeadsBack(mailbox) => write!(
                out,
                "mail for {mailbox} comes to this host itself: name an address elsewhere that is read, with --forward-to"
            ),
            Self::User(name) => write!(
                out,
                "{} cannot be the name of a user: --user takes what stands before the @, such as app",
                crate::escape::Escaped(name.as_bytes())
            ),
        }
    }
}

impl std::error::Error for PlanError {}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { from, to } => write!(
                out,
                "copy the program to {}: it runs from {}",
                to.display(),
                from.display()
            ),
            Self::Write { path, what, .. } => write!(out, "write {}, {what}", path.display()),
            Self::Call { what, commands } => {
                let commands: Vec<String> =
                    commands.iter().map(|command| command.join(" ")).collect();
                write!(out, "{what}: {}", commands.join(" && "))
            }
            Self::Folder(path) => write!(out, "make the folder {}", path.display()),
            Self::Settings {
                hostname,
                admin,
                certificates,
                ..
            } => {
                write!(out, "write chopar.toml: this host is {hostname}")?;
                if let Some(admin) = admin {
                    write!(out, ", mail for postmaster and abuse goes to {admin}")?;
                }
                if *certificates {
                    out.write_str(
                        ", and certificates come from Let's Encrypt, to whose terms of service this agrees \
                         (--no-certificate leaves that out)",
                    )?;
                }
                Ok(())
            }
            Self::Admin { admin, .. } => write!(
                out,
                "set admin to {admin} in chopar.toml: mail for postmaster and abuse goes there"
            ),
            Self::Domain(domain) => write!(out, "serve {domain}"),
            Self::Key {
                domain,
                selector,
                kind,
            } => {
                let kind = match kind {
                    Kind::Rsa { bits } => format!("an RSA key of {bits} bits"),
                    Kind::Ed25519 => "an Ed25519 key".to_owned(),
                };
                write!(out, "make {kind} that signs for {domain}, {selector}")
            }
            Self::Alias {
                domain,
                name,
                target,
            } if name == "*" => write!(
                out,
                "lead every address of {domain} that is not named to {target}"
            ),
            Self::Alias {
                domain,
                name,
                target,
            } => write!(out, "lead {name}@{domain} to {target}"),
            Self::User { address } => write!(
                out,
                "add the user {address}, who may send from every address of {}",
                address.domain()
            ),
            Self::Repository { ignore, .. } => write!(
                out,
                "make the folder a git repository{}",
                match ignore {
                    Some(_) => " with a .gitignore, and commit it",
                    None => ", and commit it",
                }
            ),
            Self::Link { path, binary } => {
                write!(out, "link {} to {}", path.display(), binary.display())
            }
            Self::Reload => out.write_str("have the running daemon read its configuration again"),
        }
    }
}

/// What is to be done.
pub fn plan(wishes: &Wishes, machine: &Machine) -> Result<Plan, PlanError> {
    if machine.place == Place::Machine && machine.caller == Caller::Other {
        return Err(PlanError::NotRoot);
    }
    if !wishes.domain.as_str().contains('.') {
        return Err(PlanError::Undotted(wishes.domain.clone()));
    }
    let mut planner = Planner {
        wishes,
        machine,
        entries: Vec::new(),
    };
    if machine.place == Place::Machine {
        planner.binary();
        planner.account()?;
    }
    planner.folder();
    planner.settings()?;
    planner.domain()?;
    planner.user()?;
    planner.git();
    planner.certificate();
    if machine.place == Place::Machine {
        planner.links();
    }
    let next = planner.service();
    Ok(Plan {
        entries: planner.entries,
        next,
    })
}

/// What a domain gets that is served besides others: keys, and where its mail goes.
pub fn plan_domain(domain: &Domain, forward_to: Option<&Mailbox>, now: Timestamp) -> Vec<Entry> {
    let mut entries = vec![Entry::Do(Step::Domain(domain.clone()))];
    entries.extend(keys(domain, &ExistingDomain::default(), now));
    entries.extend(forward_to.map(|target| {
        Entry::Do(Step::Alias {
            domain: domain.clone(),
            name: "*".to_owned(),
            target: target.clone(),
        })
    }));
    entries
}

/// Keys of both kinds, where they are missing.
fn keys(domain: &Domain, existing: &ExistingDomain, now: Timestamp) -> Vec<Entry> {
    let kinds = [
        (
            existing.has_rsa,
            "the RSA key",
            Kind::Rsa { bits: RSA_BITS },
            'r',
        ),
        (existing.has_ed25519, "the Ed25519 key", Kind::Ed25519, 'e'),
    ];
    kinds
        .into_iter()
        .map(|(is_there, what, kind, letter)| match is_there {
            true => Entry::Kept(format!("{what} that signs for {domain}")),
            false => Entry::Do(Step::Key {
                domain: domain.clone(),
                selector: selector(now, letter, &existing.selectors),
                kind,
            }),
        })
        .collect()
}

/// A name for a key by the month in which it is made: a later one can stand beside it.
fn selector(now: Timestamp, letter: char, taken: &BTreeSet<String>) -> String {
    let date = now.rfc3339().to_string();
    let month: String = date
        .chars()
        .take("2026-11".len())
        .filter(char::is_ascii_digit)
        .collect();
    let first = format!("{month}{letter}");
    let later = (2..).map(|number: u32| format!("{first}{number}"));
    std::iter::once(first.clone())
        .chain(later)
        .find(|name| !taken.contains(name))
        .unwrap_or(first)
}

struct Planner<'a> {
    wishes: &'a Wishes,
    machine: &'a Machine,
    entries: Vec<Entry>,
}

impl Planner<'_> {
    fn step(&mut self, step: Step) {
        self.entries.push(Entry::Do(step));
    }

    fn kept(&mut self, text: impl Into<String>) {
        self.entries.push(Entry::Kept(text.into()));
    }

    fn left(&mut self, text: impl Into<String>) {
        self.entries.push(Entry::Left(text.into()));
    }

    fn call(&mut self, what: &str, commands: &[&[&str]]) {
        let commands = commands
            .iter()
            .map(|words| words.iter().map(|&word| word.to_owned()).collect())
            .collect();
        let what = what.to_owned();
        self.step(Step::Call { what, commands });
    }

    fn has(&self, tool: Tool) -> bool {
        self.machine.tools.contains(&tool)
    }

    /// Where the program lies once the plan is done.
    fn program(&self) -> PathBuf {
        let installed = self.machine.installed.clone();
        installed.unwrap_or_else(|| PathBuf::from(LOCAL_BINARY))
    }

    fn binary(&mut self) {
        let binary = &self.machine.binary;
        match &self.machine.installed {
            Some(installed) if installed == binary => self.kept(format!("{}", binary.display())),
            Some(installed) => self.kept(format!(
                "{0}, although this is another copy of the program; install -m 755 {1} {0} would put it there",
                installed.display(),
                binary.display()
            )),
            None => self.step(Step::Copy {
                from: binary.clone(),
                to: LOCAL_BINARY.into(),
            }),
        }
    }

    fn account(&mut self) -> Result<(), PlanError> {
        if self.machine.has_account {
            self.kept("the account chopar");
            return Ok(());
        }
        if self.has(Tool::Sysusers) {
            let path = match &self.machine.sysusers {
                Some(path) => path.clone(),
                None => {
                    self.step(Step::Write {
                        path: SYSUSERS.into(),
                        text: SYSUSERS_TEXT.to_owned(),
                        what: "which names the account chopar",
                    });
                    PathBuf::from(SYSUSERS)
                }
            };
            let path = path.to_string_lossy().into_owned();
            self.call("make the account chopar", &[&["systemd-sysusers", &path]]);
        } else if self.has(Tool::Useradd) {
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
            self.call("make the account chopar", &[&words]);
        } else if self.has(Tool::BusyboxAdduser) {
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
            self.call(
                "make the account chopar",
                &[&["addgroup", "-S", "chopar"], &words],
            );
        } else {
            return Err(PlanError::NoAccountTool);
        }
        Ok(())
    }

    fn folder(&mut self) {
        let folder = self.machine.folder.clone();
        match self.machine.existing.folder {
            true => self.kept(format!("the folder {}", folder.display())),
            false => self.step(Step::Folder(folder)),
        }
    }

    /// The name of the host: the one that is said, the machine's where it is one of the domain, else mail.DOMAIN.
    fn hostname(&self) -> Domain {
        let domain = &self.wishes.domain;
        let own = Domain::parse(&self.machine.hostname).ok();
        let own = own.filter(|name| name == domain || name.is_under(domain));
        let usual = || Domain::parse(&format!("mail.{domain}")).ok();
        let said = self.wishes.hostname.clone();
        said.or(own)
            .or_else(usual)
            .unwrap_or_else(|| domain.clone())
    }

    fn settings(&mut self) -> Result<(), PlanError> {
        let existing = &self.machine.existing;
        let wanted = self
            .wishes
            .admin
            .as_ref()
            .or(self.wishes.forward_to.as_ref());
        self.leads_elsewhere()?;
        let Some(text) = &existing.settings else {
            let own = match self.machine.place {
                Place::Machine => None,
                Place::Folder => Some(Own {
                    folder: self.machine.folder.clone(),
                    user: (self.machine.caller == Caller::Root && !self.machine.has_account)
                        .then(|| NOBODY.to_owned()),
                    ports: PORTS.map(|port| high_port(port, &self.machine.taken_ports)),
                }),
            };
            let settings = Settings {
                domain: self.wishes.domain.clone(),
                hostname: self.hostname(),
                admin: wanted.cloned(),
                own,
                certificates: certificate::is_automatic(
                    self.wishes.certificate,
                    self.machine.place,
                ),
            };
            self.step(Step::Settings {
                text: settings.text(),
                hostname: settings.hostname,
                admin: settings.admin,
                certificates: settings.certificates,
            });
            return Ok(());
        };
        let mut said = "chopar.toml".to_owned();
        if let (Some(there), Some(wanted)) = (&existing.hostname, &self.wishes.hostname)
            && there != wanted
        {
            said.push_str(&format!(
                ", whose hostname is {there}; set it to {wanted} there"
            ));
        }
        match (&existing.admin, wanted) {
            (Some(there), Some(_))
                if self
                    .wishes
                    .admin
                    .as_ref()
                    .is_some_and(|wanted| wanted != there) =>
            {
                said.push_str(&format!(", whose admin is {there}; change it there"));
                self.kept(said);
            }
            (None, Some(admin)) => {
                let step = Step::Admin {
                    admin: admin.clone(),
                    text: with_admin(text, admin),
                };
                self.kept(said);
                self.step(step);
            }
            _ => self.kept(said),
        }
        Ok(())
    }

    /// An address of the domain itself is read by nobody, where nothing leads on from it.
    fn leads_elsewhere(&self) -> Result<(), PlanError> {
        let domain = &self.wishes.domain;
        if let Some(target) = &self.wishes.forward_to
            && target.domain() == domain
        {
            return Err(PlanError::LeadsBack(target.clone()));
        }
        if let Some(admin) = &self.wishes.admin
            && admin.domain() == domain
            && self.wishes.forward_to.is_none()
            && self.existing_domain().catch_all.is_none()
            && !self.existing_domain().aliases.contains(&admin.local_key())
        {
            return Err(PlanError::LeadsBack(admin.clone()));
        }
        Ok(())
    }

    fn existing_domain(&self) -> ExistingDomain {
        self.machine.existing.domain.clone().unwrap_or_default()
    }

    /// Who reads what comes for no other.
    fn admin(&self) -> Option<&Mailbox> {
        let existing = self.machine.existing.admin.as_ref();
        existing
            .or(self.wishes.admin.as_ref())
            .or(self.wishes.forward_to.as_ref())
    }

    fn domain(&mut self) -> Result<(), PlanError> {
        let domain = self.wishes.domain.clone();
        let existing = self.existing_domain();
        match &self.machine.existing.domain {
            Some(_) => self.kept(format!("{domain}, which is served")),
            None => self.step(Step::Domain(domain.clone())),
        }
        self.entries
            .extend(keys(&domain, &existing, self.machine.now));
        match (&existing.catch_all, &self.wishes.forward_to) {
            (Some(there), _) => self.kept(format!(
                "every address of {domain} that is not named leads to {there}"
            )),
            (None, Some(target)) => self.step(Step::Alias {
                domain: domain.clone(),
                name: "*".to_owned(),
                target: target.clone(),
            }),
            (None, None) => {}
        }
        let is_led = existing.catch_all.is_some() || existing.aliases.contains("postmaster");
        match (self.admin(), &self.machine.existing.admin) {
            (Some(_), Some(admin)) => self.kept(format!(
                "mail for postmaster@{domain} and abuse@{domain} goes to admin, {admin}"
            )),
            (Some(_), None) => {}
            (None, _) if is_led => {}
            (None, _) => self.left(format!(
                "who reads mail for postmaster@{domain} and abuse@{domain}: say it with --forward-to YOU@ELSEWHERE, which \
                 also gets the mail for every other address of {domain}, or with --admin YOU@ELSEWHERE"
            )),
        }
        Ok(())
    }

    fn user(&mut self) -> Result<(), PlanError> {
        let domain = &self.wishes.domain;
        let existing = self.existing_domain();
        let name = match (&self.wishes.user, existing.users.as_slice()) {
            (None, [first, ..]) => {
                self.kept(format!(
                    "the user {first}@{domain} and the password; chopar user passwd sets another"
                ));
                return Ok(());
            }
            (Some(name), _) => name.clone(),
            (None, []) => FIRST_USER.to_owned(),
        };
        let refused = || PlanError::User(name.clone());
        let address = Mailbox::new(&name, domain).map_err(|_| refused())?;
        if name.contains([':', '#', '"']) {
            return Err(refused());
        }
        let key = address.local_key();
        if existing
            .users
            .iter()
            .any(|user| crate::address::local_key(user) == key)
        {
            self.kept(format!(
                "the user {address} and the password; chopar user passwd sets another"
            ));
            return Ok(());
        }
        self.step(Step::User {
            address: address.clone(),
        });
        // What is returned to the user has to reach somebody.
        let is_led = existing.catch_all.is_some()
            || self.wishes.forward_to.is_some()
            || existing.aliases.contains(&key);
        let admin = self.admin().filter(|admin| admin.domain() != domain);
        if let (false, Some(target)) = (is_led, admin) {
            self.step(Step::Alias {
                domain: domain.clone(),
                name,
                target: target.clone(),
            });
        }
        Ok(())
    }

    fn git(&mut self) {
        let existing = &self.machine.existing;
        if self.wishes.git == Git::None {
            return;
        }
        if existing.repository {
            self.kept("the git repository; git status says what is not committed");
            return;
        }
        if !self.has(Tool::Git) {
            self.left("a repository of the folder: install git, then run this again");
            return;
        }
        let Ok(committer) = Mailbox::new("postmaster", &self.wishes.domain) else {
            return;
        };
        let ignore = missing_lines(&existing.ignore, &ignored(self.wishes.git));
        self.step(Step::Repository {
            ignore,
            is_public: self.wishes.git != Git::Private,
            committer,
        });
    }

    fn certificate(&mut self) {
        let existing = &self.machine.existing;
        let hostname = existing.hostname.clone();
        let hostname = hostname.unwrap_or_else(|| self.hostname());
        let entry = certificate::entry(
            self.wishes.certificate,
            self.machine.place,
            existing,
            &hostname,
            &self.command(),
        );
        self.entries.extend(entry);
    }

    /// How chopar is called for this configuration.
    fn command(&self) -> String {
        match self.machine.place {
            Place::Machine => "sudo chopar".to_owned(),
            Place::Folder => format!("chopar -C {}", self.machine.folder.display()),
        }
    }

    fn links(&mut self) {
        let program = self.program();
        let held: Vec<&(PathBuf, Held)> = self
            .machine
            .links
            .iter()
            .filter(|(_, held)| matches!(held, Held::Other { .. }))
            .collect();
        if !held.is_empty() {
            let text = move_over(&held, self.machine, &program, &self.wishes.domain);
            self.left(text);
        }
        let (mut free, mut ours) = (Vec::new(), Vec::new());
        for (path, what) in &self.machine.links {
            match what {
                Held::Free => free.push(path.clone()),
                Held::Ours => ours.push(path.display().to_string()),
                Held::Other { .. } => {}
            }
        }
        if !ours.is_empty() {
            self.kept(format!("{}, which lead to chopar", ours.join(", ")));
        }
        let is_all = free.len() == self.machine.links.len();
        if is_all && self.has(Tool::Alternatives) {
            let words = alternatives("update-alternatives", &free, &program);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.call("have programs that call sendmail reach chopar", &[&words]);
            return;
        }
        for path in free {
            self.step(Step::Link {
                path,
                binary: program.clone(),
            });
        }
    }

    /// The unit, and its start; gives the next command.
    fn service(&mut self) -> String {
        let command = self.command();
        let domain = &self.wishes.domain;
        let after = format!("{command} doctor {domain}");
        if self.machine.place == Place::Folder {
            if self.machine.is_running {
                self.reload();
                return after;
            }
            return format!("{command} run");
        }
        let must_say = self.admin().is_none();
        let next = match must_say {
            true => format!("{command} init {domain} --forward-to YOU@ELSEWHERE"),
            false => after,
        };
        let is_systemd = matches!(
            self.machine.supervisor,
            Supervisor::Systemd | Supervisor::SystemdAsleep
        );
        if is_systemd {
            match &self.machine.unit {
                Some(path) => self.kept(format!("{}", path.display())),
                None => {
                    let program = self.program();
                    self.step(Step::Write {
                        path: UNIT.into(),
                        text: unit(&program),
                        what: "the unit of the service",
                    });
                }
            }
        }
        if self.machine.is_running {
            self.reload();
            return next;
        }
        self.start(&next)
    }

    fn reload(&mut self) {
        let is_changed = self.entries.iter().any(|entry| {
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
            true => self.step(Step::Reload),
            false => self.kept("the daemon, which runs"),
        }
    }

    fn start(&mut self, next: &str) -> String {
        let program = self.program();
        let taken: Vec<String> = PORTS
            .iter()
            .filter(|port| self.machine.taken_ports.contains(port))
            .map(ToString::to_string)
            .collect();
        let start: &[&str] = &["systemctl", "enable", "--now", "chopar"];
        match self.machine.supervisor {
            Supervisor::Systemd if !taken.is_empty() => {
                let ports = taken.join(", ");
                self.left(format!(
                    "the start: another program has port {ports} (ss -ltnp shows which); stop and disable it, then run {}",
                    start.join(" ")
                ));
                return format!("sudo {}", start.join(" "));
            }
            Supervisor::Systemd => {
                let load: &[&str] = &["systemctl", "daemon-reload"];
                self.call(
                    "start the service, now and with the machine",
                    &[load, start],
                );
            }
            Supervisor::SystemdAsleep if self.machine.is_enabled => {
                self.kept("the service starts with the machine");
            }
            Supervisor::SystemdAsleep => self.call(
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
                self.left(format!("the start: {by} {run}"));
                return format!("sudo {} run", program.display());
            }
        }
        next.to_owned()
    }
}

/// What is to be done where another mail system holds sendmail.
fn move_over(
    held: &[&(PathBuf, Held)],
    machine: &Machine,
    program: &Path,
    domain: &Domain,
) -> String {
    let mut packages = BTreeSet::new();
    let mut paths = Vec::new();
    for (path, what) in held {
        if let Held::Other { package, .. } = what {
            packages.extend(package.clone());
            paths.push(path.as_path());
        }
    }
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let holder = match packages.len() {
        0 => "another mail system".to_owned(),
        _ => {
            let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
            format!("the package {}", packages.join(" and "))
        }
    };
    let mut commands: Vec<String> = packages
        .iter()
        .filter_map(|package| service_of(package))
        .filter(|_| machine.supervisor == Supervisor::Systemd)
        .map(|service| format!("systemctl disable --now {service}"))
        .collect();
    let through_alternatives = |path: &Path| {
        held.iter().any(|(held, what)| {
            held == path
                && matches!(what, Held::Other { leads_to, .. } if leads_to.starts_with("/etc/alternatives"))
        })
    };
    if machine.tools.contains(&Tool::Alternatives)
        && paths.iter().any(|path| through_alternatives(path))
    {
        let all: Vec<PathBuf> = machine.links.iter().map(|(path, _)| path.clone()).collect();
        commands.push(alternatives("update-alternatives", &all, program).join(" "));
        commands.push(format!(
            "update-alternatives --set mta {}",
            program.display()
        ));
    } else {
        for path in &paths {
            let path = path.display();
            let divert = machine.tools.contains(&Tool::Divert) && !packages.is_empty();
            commands.push(match divert {
                true => format!("dpkg-divert --local --rename --divert {path}.other --add {path}"),
                false => format!("mv {path} {path}.other"),
            });
        }
    }
    commands.push(format!("chopar init {domain}"));
    format!(
        "{} belong to {holder}: programs that call them do not reach chopar. To move over, as root: {}",
        shown.join(", "),
        commands.join(" && ")
    )
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

/// A port that needs no root, and is free.
fn high_port(port: u16, taken: &BTreeSet<u16>) -> u16 {
    candidates(port)
        .find(|port| !taken.contains(port))
        .unwrap_or(port)
}

/// The ports that are tried in the place of a low one: 2525, 12525, 22525 and so on.
pub fn candidates(port: u16) -> impl Iterator<Item = u16> {
    let first = match port {
        25 => 2525,
        port => port.saturating_add(2_000),
    };
    (0..6_u16).map(move |step| step.saturating_mul(10_000).saturating_add(first))
}

fn unit(program: &Path) -> String {
    UNIT_TEXT.replace(USUAL_BINARY, &program.display().to_string())
}

fn ignored(git: Git) -> String {
    let mut text = format!("/{STATE}/\n/{RUNTIME}/\n");
    if git != Git::Private {
        text.push_str(
            "# What must not leave this machine. Back it up elsewhere, or take these lines out of a private repository.\n\
             /domains/*/users\n/domains/*/dkim/\n/secrets/\n/tls/\n/import.*\n",
        );
    }
    text
}

/// The lines that a `.gitignore` lacks: a line that takes a pattern back may undo those in front of it.
fn missing_lines(there: &str, wanted: &str) -> Option<String> {
    let there: Vec<&str> = there.lines().map(str::trim_end).collect();
    let back = there.iter().rposition(|line| line.starts_with('!'));
    let from = back.map_or(0, |at| at.saturating_add(1));
    let there = there.get(from..).unwrap_or_default();
    let missing: Vec<&str> = wanted
        .lines()
        .filter(|line| !there.contains(line))
        .collect();
    let is_any = missing.iter().any(|line| !line.starts_with('#'));
    is_any.then(|| missing.iter().map(|line| format!("{line}\n")).collect())
}

/// Where the binary is at home.
pub const USUAL_BINARY: &str = "/usr/bin/chopar";
/// Where it is put.
pub const LOCAL_BINARY: &str = "/usr/local/bin/chopar";
/// Where the unit is put, and where a package puts it.
pub const UNIT: &str = "/etc/systemd/system/chopar.service";
/// Where the account is named, for systemd-sysusers.
pub const SYSUSERS: &str = "/etc/sysusers.d/chopar.conf";
/// The paths at which programs look for sendmail and its kin.
pub const LINKS: [&str; 4] = [
    "/usr/sbin/sendmail",
    "/usr/lib/sendmail",
    "/usr/bin/mailq",
    "/usr/bin/newaliases",
];
/// smtp, submission, submissions.
pub const PORTS: [u16; 3] = [25, 587, 465];
const UNIT_TEXT: &str = include_str!("../chopar.service");
const SYSUSERS_TEXT: &str = include_str!("../chopar.sysusers");
const NOLOGIN: &str = "/usr/sbin/nologin";
const PASSWD_LINE: &str = "chopar:x:990:990:chopar mail relay:/var/lib/chopar:/usr/sbin/nologin";
const GROUP_LINE: &str = "chopar:x:990:";
/// Where the account chopar is not there: nobody, by number.
const NOBODY: &str = "65534:65534";
const FIRST_USER: &str = "app";
const RSA_BITS: usize = 2048;
/// Below those of the mail servers of Fedora: what is installed besides stays in force.
const PRIORITY: &str = "5";

#[cfg(test)]
mod tests;
