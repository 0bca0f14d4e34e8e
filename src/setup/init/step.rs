//! The lines of a plan: steps, existing things that stay, and tasks for the operator.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::address::{Domain, Mailbox};
use crate::setup::dkim_key::KeyKind;

/// A change that the plan makes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InitStep {
    /// Outside of the configuration folder.
    Machine(MachineStep),
    /// To the configuration folder as a whole.
    Folder(FolderStep),
    Domain(DomainStep),
    /// The running daemon reads its configuration again.
    Reload,
}

/// A step outside the configuration folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MachineStep {
    /// Copy the running binary to the folder of programs.
    Copy {
        /// The running binary.
        from: PathBuf,
        /// Its place.
        to: PathBuf,
    },
    /// A file outside of the configuration folder.
    Write {
        path: PathBuf,
        text: String,
        /// Whether it is run, or read.
        kind: FileKind,
        what: &'static str,
    },
    /// Files beside the binary, which it carries: manual pages and the like.
    Beside(Vec<(PathBuf, String)>),
    /// Calls programs, one after the other.
    Call {
        /// What they do, in words.
        what: String,
        /// Program and arguments.
        commands: Vec<Vec<String>>,
    },
    /// A link to the binary.
    Link {
        path: PathBuf,
        /// Its target.
        binary: PathBuf,
    },
}

/// A step for the whole configuration folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FolderStep {
    /// The configuration folder.
    Make(PathBuf),
    /// Gives the configuration folder and its content to root.
    TakeBack(PathBuf),
    /// chopar.toml.
    Settings {
        /// The name of the host.
        hostname: Domain,
        /// The recipient of mail for postmaster.
        admin: Option<Mailbox>,
        /// Whether the daemon obtains certificates.
        certificates: bool,
        text: String,
    },
    /// chopar.toml with `admin`.
    Admin { admin: Mailbox, text: String },
    /// A repository with a first commit.
    Repository {
        /// The lines that `.gitignore` lacks.
        ignore: Option<String>,
        /// Whether the repository must not contain secrets.
        is_public: bool,
        /// The author of the commit, if git does not know one.
        committer: Mailbox,
    },
}

/// What is set up for a domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DomainStep {
    /// The folder of the domain.
    Serve(Domain),
    /// A key that signs.
    Key {
        domain: Domain,
        /// Its name in the DNS.
        selector: String,
        kind: KeyKind,
    },
    /// An alias; `*` catches the rest.
    Alias {
        domain: Domain,
        /// The local part.
        name: String,
        target: Mailbox,
    },
    /// The address for reports about the domain, whose mail is counted.
    Reports(Domain),
    /// A user with a password that is made.
    User {
        /// The user's address.
        address: Mailbox,
    },
}

/// The local part to which reports about a new domain are sent.
pub const REPORTS: &str = "reports";

/// The kind of a file outside the configuration folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// One that is read.
    Text,
    /// A script that is run.
    Script,
}

/// A line of the plan that `init` prints: a step, or a remark between them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlanLine {
    Do(InitStep),
    /// It exists and stays unchanged.
    Kept(String),
    /// The operator must do it.
    Left(String),
}

/// The lines of a plan, in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entries(pub Vec<PlanLine>);

impl Entries {
    /// Adds a step.
    pub fn step(&mut self, step: InitStep) {
        self.0.push(PlanLine::Do(step));
    }

    /// Adds an entry about something that stays.
    pub fn kept(&mut self, text: impl Into<String>) {
        self.0.push(PlanLine::Kept(text.into()));
    }

    /// Adds an entry for the operator.
    pub fn left(&mut self, text: impl Into<String>) {
        self.0.push(PlanLine::Left(text.into()));
    }

    /// Adds programs that are called, one after the other.
    pub fn call(&mut self, what: &str, commands: &[&[&str]]) {
        let commands = commands
            .iter()
            .map(|words| words.iter().map(|&word| word.to_owned()).collect())
            .collect();
        let what = what.to_owned();
        self.step(InitStep::Machine(MachineStep::Call { what, commands }));
    }
}

impl fmt::Display for InitStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(step) => step.fmt(out),
            Self::Folder(step) => step.fmt(out),
            Self::Domain(step) => step.fmt(out),
            Self::Reload => out.write_str("have the running daemon read its configuration again"),
        }
    }
}

impl fmt::Display for MachineStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { from, to } => write!(
                out,
                "copy the program to {}: it runs from {}",
                to.display(),
                from.display()
            ),
            Self::Write { path, what, .. } => write!(out, "write {}, {what}", path.display()),
            Self::Beside(files) => {
                let folders: BTreeSet<&Path> =
                    files.iter().filter_map(|(path, _)| beside(path)).collect();
                let folders: Vec<String> = folders
                    .into_iter()
                    .map(|folder| folder.display().to_string())
                    .collect();
                write!(
                    out,
                    "write manual pages, completions of the shell and what else goes with them: {} files below {}",
                    files.len(),
                    folders.join(", ")
                )
            }
            Self::Call { what, commands } => {
                let commands: Vec<String> =
                    commands.iter().map(|command| command.join(" ")).collect();
                write!(out, "{what}: {}", commands.join(" && "))
            }
            Self::Link { path, binary } => {
                write!(out, "link {} to {}", path.display(), binary.display())
            }
        }
    }
}

impl fmt::Display for FolderStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(path) => write!(out, "make the folder {}", path.display()),
            Self::TakeBack(path) => write!(
                out,
                "give {} to root: it belongs to the daemon's account, which may read it but must not write to it",
                path.display()
            ),
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
                        ", and certificates come from Let's Encrypt; this agrees to its terms of service \
                         (--no-certificate omits it)",
                    )?;
                }
                Ok(())
            }
            Self::Admin { admin, .. } => write!(
                out,
                "set admin to {admin} in chopar.toml: mail for postmaster and abuse goes there"
            ),
            Self::Repository { ignore, .. } => write!(
                out,
                "make the folder a git repository{}",
                match ignore {
                    Some(_) => " with a .gitignore, and commit it",
                    None => ", and commit it",
                }
            ),
        }
    }
}

impl fmt::Display for DomainStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve(domain) => write!(out, "serve {domain}"),
            Self::Key {
                domain,
                selector,
                kind,
            } => {
                let kind = match kind {
                    KeyKind::Rsa { bits } => format!("an RSA key of {bits} bits"),
                    KeyKind::Ed25519 => "an Ed25519 key".to_owned(),
                };
                write!(out, "make {kind} that signs for {domain}, {selector}")
            }
            Self::Alias {
                domain,
                name,
                target,
            } if name == "*" => write!(
                out,
                "forward all addresses of {domain} without an alias to {target}"
            ),
            Self::Alias {
                domain,
                name,
                target,
            } => write!(out, "lead {name}@{domain} to {target}"),
            Self::Reports(domain) => write!(
                out,
                "count the DMARC and TLS reports that come to {REPORTS}@{domain}"
            ),
            Self::User { address } => write!(
                out,
                "add the user {address}, who may send from every address of {}",
                address.domain()
            ),
        }
    }
}

/// The folder that is named for a file: one of the system's, such as /usr/local/share/man.
fn beside(path: &Path) -> Option<&Path> {
    match path.starts_with("/etc") {
        true => path.ancestors().nth(2),
        false => path
            .ancestors()
            .find(|folder| folder.parent() == Some(Path::new("/usr/local/share"))),
    }
}
