//! Performs the steps of a plan. Each step is done completely or not at all, and never overwrites an existing file.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, symlink,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use zeroize::Zeroizing;

use super::facts::in_path;
use super::generated_password;
use super::step::{DomainStep, FileKind, FolderStep, InitStep, MachineStep, REPORTS};
use crate::address::{Domain, Mailbox};
use crate::config::NameRules;
use crate::config::alias_edit::{AliasChange, AliasName, EditError, edit};
use crate::config::text::without_mark;
use crate::destination::Destination;
use crate::entropy::Entropy as _;
use crate::limits::SCRAM_ITERATIONS;
use crate::login::credential::{Credential, Password, SALT_BYTES};
use crate::setup::dkim_key::{self, KeyFileError};
use crate::setup::shell_word::shell_word;
use crate::shell::files::ownership;
use crate::shell::files::plain_file;
use crate::shell::files::replace::replace_in;
use crate::shell::process::time::SystemEntropy;

/// Why a step was not done.
#[derive(Debug)]
pub enum StepError {
    /// A file or folder cannot be made or written.
    Write(PathBuf, io::Error),
    /// A program is missing, or cannot be started.
    Start(String, io::Error),
    /// A program failed: its command line, and the last line of its output.
    Failed(String, String),
    /// The text of an aliases file.
    Alias(EditError),
    Key(KeyFileError),
    /// A password could not be made.
    Password,
    /// Git would commit this secret file; with its folder.
    Secret(PathBuf, String),
}

impl fmt::Display for StepError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(path, error) => write!(out, "{}: {error}", path.display()),
            Self::Start(program, error) => write!(out, "{program} cannot be started: {error}"),
            Self::Failed(command, said) if said.is_empty() => write!(out, "`{command}` failed"),
            Self::Failed(command, said) => {
                let said = crate::escape::Escaped(said.as_bytes());
                write!(out, "`{command}` failed: {said}")
            }
            Self::Alias(error) => write!(out, "{error}"),
            Self::Key(error) => write!(out, "{error}"),
            Self::Password => out.write_str("no password could be made; try again"),
            Self::Secret(folder, first) => {
                write!(
                    out,
                    "{}: nothing was committed, for {} would have been, which is secret: see that .gitignore leaves it out, \
                     then run `git -C {} rm -r -q -f --cached --ignore-unmatch --",
                    folder.display(),
                    crate::escape::Escaped(first.as_bytes()),
                    shell_word(&folder.to_string_lossy())
                )?;
                for secret in SECRETS {
                    write!(out, " {}", shell_word(secret))?;
                }
                out.write_str("`, and this again (--git=private commits secrets too)")
            }
        }
    }
}

impl std::error::Error for StepError {}

/// A result of a step that must be shown.
#[derive(Debug)]
pub enum StepResult {
    Nothing,
    /// The generated password of a user, which is stored nowhere.
    Password(Mailbox, Zeroizing<String>),
}

/// Makes everything created from here on, also by child processes, private unless stated otherwise. The umask belongs
/// to the whole process, so only the command itself calls this.
pub fn close_mask() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
}

/// Does a step for the configuration folder `config`. [`InitStep::Reload`] is the caller's.
pub fn perform(step: &InitStep, config: &Path) -> Result<StepResult, StepError> {
    match step {
        InitStep::Machine(step) => on_machine(step)?,
        InitStep::Folder(step) => in_folder(step, config)?,
        InitStep::Domain(step) => return for_domain(step, config),
        InitStep::Reload => {}
    }
    Ok(StepResult::Nothing)
}

fn on_machine(step: &MachineStep) -> Result<(), StepError> {
    match step {
        MachineStep::Copy { from, to } => copy(from, to),
        MachineStep::Write {
            path, text, kind, ..
        } => write_new(path, text, *kind),
        MachineStep::Beside(files) => files
            .iter()
            .try_for_each(|(path, text)| write_new(path, text, FileKind::Text)),
        MachineStep::Call { commands, .. } => commands
            .iter()
            .try_for_each(|command| call(command, None).map(drop)),
        MachineStep::Link { path, binary } => {
            if let Some(parent) = path.parent() {
                make_open_folders(parent)?;
            }
            symlink(binary, path).map_err(|error| StepError::Write(path.clone(), error))
        }
    }
}

fn in_folder(step: &FolderStep, config: &Path) -> Result<(), StepError> {
    match step {
        FolderStep::Make(path) => make_config_folder(path),
        FolderStep::TakeBack(path) => take_back(path),
        FolderStep::Settings { text, .. } | FolderStep::Admin { text, .. } => {
            let path = config.join("chopar.toml");
            let mode = fs::metadata(&path).map_or(0o644, |about| about.mode() & 0o777);
            write_in(config, &path, text, mode)
        }
        FolderStep::Repository {
            ignore,
            is_public,
            committer,
        } => {
            if let Some(lines) = ignore {
                leave_out(config, lines)?;
            }
            repository(config, *is_public, committer)
        }
    }
}

fn for_domain(step: &DomainStep, config: &Path) -> Result<StepResult, StepError> {
    match step {
        DomainStep::Serve(domain) => serve(config, domain)?,
        DomainStep::Key {
            domain,
            selector,
            kind,
        } => {
            let pem = dkim_key::generate(*kind).map_err(StepError::Key)?;
            let keys = domain_folder(config, domain).join("dkim");
            let path = keys.join(format!("{selector}.pem"));
            dkim_key::create(config, &path, pem.as_bytes()).map_err(StepError::Key)?;
        }
        DomainStep::Alias {
            domain,
            name,
            target,
        } => lead(config, domain, name, &target.to_string())?,
        DomainStep::Reports(domain) => {
            lead(config, domain, REPORTS, &Destination::Reports.to_string())?;
        }
        DomainStep::User { address } => {
            let password = add_user(config, address)?;
            return Ok(StepResult::Password(address.clone(), password));
        }
    }
    Ok(StepResult::Nothing)
}

/// The first line of a new domain's aliases: git does not store an empty folder, and a clone without the folder would
/// not serve the domain.
pub const NO_ALIASES: &str = "# NAME: ADDRESS, one alias a line; see chopar-aliases(5)\n";

/// Makes the folder of a domain.
pub fn serve(config: &Path, domain: &Domain) -> Result<(), StepError> {
    let path = domain_folder(config, domain);
    ownership::make_folders(config, &path)
        .map_err(|error| StepError::Write(path.clone(), error))?;
    let aliases = path.join("aliases");
    match aliases.exists() {
        true => Ok(()),
        false => write_in(config, &aliases, NO_ALIASES, 0o640),
    }
}

fn domain_folder(config: &Path, domain: &Domain) -> PathBuf {
    config.join("domains").join(domain.as_str())
}

fn write_in(config: &Path, path: &Path, text: &str, mode: u32) -> Result<(), StepError> {
    replace_in(config, path, text.as_bytes(), mode)
        .map_err(|error| StepError::Write(path.to_owned(), error))
}

/// The folder with the mode that the unit gives it: new files in it get its group, which is the daemon's.
pub fn make_config_folder(path: &Path) -> Result<(), StepError> {
    let failed = |error| StepError::Write(path.to_owned(), error);
    if let Some(parent) = path.parent() {
        make_open_folders(parent)?;
    }
    DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
    let made = File::open(path).map_err(failed)?;
    let about = made.metadata().map_err(failed)?;
    // Only root can change the owner; other callers need not.
    let _ = fchown(&made, None, Some(ownership::group(path, about.gid())));
    made.set_permissions(Permissions::from_mode(0o2755))
        .map_err(failed)
}

/// The folder as [`make_config_folder`] makes it, with root as the owner of its content too.
fn take_back(path: &Path) -> Result<(), StepError> {
    let taken = ownership::take_back(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o2755)));
    taken.map_err(|error| StepError::Write(path.to_owned(), error))
}

/// Folders that everybody may enter, like the existing ones.
fn make_open_folders(path: &Path) -> Result<(), StepError> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = |error| StepError::Write(path.to_owned(), error);
    if let Some(parent) = path.parent() {
        make_open_folders(parent)?;
    }
    fs::create_dir(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(failed)
}

/// A system file that everybody may read; an existing one stays.
fn write_new(path: &Path, text: &str, kind: FileKind) -> Result<(), StepError> {
    let failed = |error| StepError::Write(path.to_owned(), error);
    if let Some(parent) = path.parent() {
        make_open_folders(parent)?;
    }
    let mode = match kind {
        FileKind::Text => 0o644,
        FileKind::Script => 0o755,
    };
    let mut file = new_file(path, mode).map_err(failed)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        drop(fs::remove_file(path));
        failed(error)
    })
}

fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn copy(from: &Path, to: &Path) -> Result<(), StepError> {
    let failed = |error| StepError::Write(to.to_owned(), error);
    if let Some(parent) = to.parent() {
        make_open_folders(parent)?;
    }
    let mut source = File::open(from).map_err(|error| StepError::Write(from.to_owned(), error))?;
    let beside = to.with_extension("new");
    drop(fs::remove_file(&beside));
    let copied = new_file(&beside, 0o755).and_then(|mut file| {
        io::copy(&mut source, &mut file)?;
        file.sync_all()?;
        fs::rename(&beside, to)
    });
    copied.map_err(|error| {
        drop(fs::remove_file(&beside));
        failed(error)
    })
}

fn lead(config: &Path, domain: &Domain, name: &str, target: &str) -> Result<(), StepError> {
    let path = domain_folder(config, domain).join("aliases");
    let text = match plain_file::text(&path) {
        Ok(text) => without_mark(&text).to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(StepError::Write(path, error)),
    };
    let name = match name {
        "*" => AliasName::CatchAll,
        name => AliasName::Local(name),
    };
    let targets = [target.to_owned()];
    let file = format!("domains/{domain}/aliases");
    let change = AliasChange::Add(&targets);
    let names = NameRules::default();
    let text = edit(&file, &text, domain, &names, name, change).map_err(StepError::Alias)?;
    write_in(config, &path, &text, 0o640)
}

fn add_user(config: &Path, address: &Mailbox) -> Result<Zeroizing<String>, StepError> {
    let path = domain_folder(config, address.domain()).join("users");
    let mut text = match plain_file::text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(StepError::Write(path, error)),
    };
    let mut entropy = SystemEntropy::default();
    let made = generated_password::password(&mut entropy);
    let password = Password::new(made.as_str().to_owned()).map_err(|_| StepError::Password)?;
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    let iterations = NonZeroU32::new(SCRAM_ITERATIONS).unwrap_or(NonZeroU32::MIN);
    let credential = Credential::derive(&password, &salt, iterations);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!(
        "{}:{credential}:send_as=*@{}\n",
        address.local_part(),
        address.domain()
    ));
    write_in(config, &path, &text, 0o640)?;
    Ok(made)
}

/// Adds lines to `.gitignore`.
fn leave_out(config: &Path, lines: &str) -> Result<(), StepError> {
    let path = config.join(".gitignore");
    let failed = |error| StepError::Write(path.clone(), error);
    let mut text = match plain_file::bytes(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(lines.as_bytes());
    replace_in(config, &path, &text, 0o644).map_err(failed)
}

/// Makes a repository whose first commit contains everything that is not ignored. A public one is made without secrets,
/// or not at all.
fn repository(config: &Path, is_public: bool, committer: &Mailbox) -> Result<(), StepError> {
    let git = |words: &[&str]| {
        let mut command = vec!["git".to_owned()];
        command.extend(words.iter().map(|&word| word.to_owned()));
        call(&command, Some(config))
    };
    git(&["init", "-q"])?;
    git(&["add", "-A"])?;
    if is_public {
        let tracked = git(&[&["ls-files", "--"], &SECRETS[..]].concat())?;
        let tracked = String::from_utf8_lossy(&tracked);
        if let Some(first) = tracked.lines().next() {
            return Err(StepError::Secret(config.to_owned(), first.to_owned()));
        }
    }
    let is_known = git(&["config", "user.email"]).is_ok();
    let email = format!("user.email={committer}");
    let who: &[&str] = match is_known {
        true => &[],
        false => &["-c", "user.name=chopar", "-c", &email],
    };
    let commit = ["commit", "-q", "-m", "Set up by chopar init"];
    git(&[who, &commit].concat()).map(drop)
}

/// Runs a program and waits for it; returns its output.
fn call(command: &[String], folder: Option<&Path>) -> Result<Vec<u8>, StepError> {
    let Some((program, words)) = command.split_first() else {
        return Ok(Vec::new());
    };
    let path = in_path(program).unwrap_or_else(|| PathBuf::from(program));
    let mut calling = Command::new(path);
    calling.args(words).stdin(Stdio::null());
    if let Some(folder) = folder {
        calling.current_dir(folder);
    }
    let output = calling
        .output()
        .map_err(|error| StepError::Start(program.clone(), error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    Err(StepError::Failed(
        command.join(" "),
        last.unwrap_or_default().to_owned(),
    ))
}

/// Files that a public repository must not contain, as git patterns: a star matches slashes too.
const SECRETS: [&str; 7] = [
    "domains/*/users",
    "domains/*/dkim/*",
    "secrets/*",
    "tls/*",
    "import.*",
    ".state/*",
    ".run/*",
];
