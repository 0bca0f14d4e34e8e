//! `chopar user`: users that may log in, their passwords, and the addresses that they may send from.
//!
//! The file `domains/DOMAIN/users` is written under another name, synced and renamed, so that it is complete at any
//! time. A password is read from a prompt without echo, or from standard input if that is not a terminal; never from an
//! argument.

use std::io::{self, BufRead, Read, Write};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::control::changed;
use super::failure::Failure;
use super::folders::load;
use super::output::written;
use super::served::served;
use super::sysexits::{CANNOT_CREATE, DATA, IO_ERROR, NO_INPUT, NO_USER, NOT_PERMITTED, USAGE};
use crate::address::Mailbox;
use crate::config::SendAs;
use crate::config::text::without_mark;
use crate::entropy::Entropy;
use crate::limits::{PASSWORD_BYTES_MAX, SCRAM_ITERATIONS};
use crate::login::credential::{Credential, Password, SALT_BYTES};
use crate::login::guessable::guessable;
use crate::setup::shared_name::shared_name;
use crate::shell::files::plain_file;
use crate::shell::files::replace::replace_in;
use crate::shell::process::time::SystemEntropy;

/// Manage the users who may log in.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "user")]
pub struct User {
    #[argh(subcommand)]
    command: Action,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Action {
    Add(Add),
    Remove(Remove),
    List(List),
    Passwd(Passwd),
    Verify(Verify),
}

/// Add a user; the command asks for the password, or reads it from the first line of standard input.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "add")]
struct Add {
    /// the user's address
    #[argh(positional)]
    address: String,
    /// addresses the user may send from, besides their own: name@example.com, *@example.com or *, separated by commas
    #[argh(option)]
    send_as: Option<String>,
    /// accept a password that is easy to guess
    #[argh(switch)]
    weak: bool,
}

/// Remove a user.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// the user's address
    #[argh(positional)]
    address: String,
}

/// List users.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// only this domain
    #[argh(positional)]
    domain: Option<String>,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Set a password; the command asks for it, or reads it from the first line of standard input.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "passwd")]
struct Passwd {
    /// accept a password that is easy to guess
    #[argh(switch)]
    weak: bool,
    /// the user's address
    #[argh(positional)]
    address: String,
}

/// Check a password; the command asks for it, or reads it from the first line of standard input.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "verify")]
struct Verify {
    /// the user's address
    #[argh(positional)]
    address: String,
}

impl User {
    /// Runs the command on the configuration folder; `runtime_dir` is where the daemon to be notified listens.
    pub fn run(
        &self,
        folder: &Path,
        runtime_dir: &Path,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        let what = match &self.command {
            Action::Add(add) => add.run(folder)?,
            Action::Remove(Remove { address }) => {
                let file = UsersFile::of(folder, address)?;
                file.line_of_user()?.ok_or_else(|| file.unknown())?;
                file.rewrite(None)?;
                format!("{} can no longer log in", file.mailbox)
            }
            Action::Passwd(passwd) => passwd.run(folder)?,
            Action::Verify(verify) => return verify.run(folder, output),
            Action::List(List { domain, json }) => {
                return list(folder, domain.as_deref(), *json, output);
            }
        };
        changed(what, runtime_dir, output)
    }
}

impl Add {
    fn run(&self, folder: &Path) -> Result<String, Failure> {
        let file = UsersFile::of(folder, &self.address)?;
        if file.line_of_user()?.is_some() {
            let text = format!(
                "{} exists; `chopar user passwd` sets the password",
                file.mailbox
            );
            return Err(Failure::new(CANNOT_CREATE, text));
        }
        let options = self
            .send_as
            .as_deref()
            .map(send_as_option)
            .transpose()?
            .unwrap_or_default();
        let password = read_new_password("add", &file.mailbox, self.weak)?;
        let credential = new_credential(&password);
        let line = format!("{}:{credential}{options}", file.mailbox.local_part());
        file.rewrite(Some(&line))?;
        // If the configuration has errors, check reports them.
        if let Ok(config) = load(folder) {
            let users = config
                .domains
                .values()
                .flat_map(|served| served.users.values());
            let said = shared_name(&file.mailbox, users.map(|user| &user.mailbox));
            if let Some(text) = said {
                super::output::say(&text);
            }
        }
        Ok(format!("{} can log in now", file.mailbox))
    }
}

impl Passwd {
    fn run(&self, folder: &Path) -> Result<String, Failure> {
        let file = UsersFile::of(folder, &self.address)?;
        let old = file.line_of_user()?.ok_or_else(|| file.unknown())?;
        let password = read_new_password("passwd", &file.mailbox, self.weak)?;
        let credential = new_credential(&password);
        let options = old
            .splitn(3, ':')
            .nth(2)
            .map(|rest| format!(":{rest}"))
            .unwrap_or_default();
        file.rewrite(Some(&format!(
            "{}:{credential}{options}",
            file.mailbox.local_part()
        )))?;
        Ok(format!("{} has a new password", file.mailbox))
    }
}

impl Verify {
    fn run(&self, folder: &Path, output: &mut dyn Write) -> Result<(), Failure> {
        let file = UsersFile::of(folder, &self.address)?;
        let line = file.line_of_user()?.ok_or_else(|| file.unknown())?;
        let text = line.split(':').nth(1).unwrap_or_default();
        let credential = Credential::parse(text)
            .map_err(|error| Failure::new(DATA, format!("{}: {error}", file.path.display())))?;
        let command = format!("user verify {}", file.mailbox);
        if credential.verify_password(&read_password("Password: ", &command)?) {
            return written(writeln!(output, "the password is right"));
        }
        Err(Failure::new(NOT_PERMITTED, "the password is wrong"))
    }
}

/// The users file of one domain, and the user that is meant.
struct UsersFile {
    config: PathBuf,
    path: PathBuf,
    mailbox: Mailbox,
}

impl UsersFile {
    fn of(folder: &Path, address: &str) -> Result<Self, Failure> {
        let mailbox = Mailbox::parse(address)
            .map_err(|error| Failure::new(USAGE, format!("{address}: {error}")))?;
        if mailbox.local_part().contains([':', '#', '"']) {
            return Err(Failure::new(
                USAGE,
                "a login cannot have a colon, a hash or a quote in it",
            ));
        }
        let domain = folder.join("domains").join(mailbox.domain().as_str());
        if !domain.is_dir() {
            let text = format!(
                "{0} is not served; `chopar domain add {0}` serves it",
                mailbox.domain()
            );
            return Err(Failure::new(NO_USER, text));
        }
        Ok(Self {
            config: folder.to_owned(),
            path: domain.join("users"),
            mailbox,
        })
    }

    fn unknown(&self) -> Failure {
        Failure::new(
            NO_USER,
            format!(
                "{0} does not exist; `chopar user add {0}` adds it",
                self.mailbox
            ),
        )
    }

    fn text(&self) -> Result<String, Failure> {
        match plain_file::text(&self.path) {
            Ok(text) => Ok(without_mark(&text).to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Failure::of_file(NO_INPUT, &self.path, &error)),
        }
    }

    fn is_user(&self, line: &str) -> bool {
        let name = line.split(':').next().unwrap_or_default();
        !line.starts_with('#') && crate::address::local_key(name) == self.mailbox.local_key()
    }

    fn line_of_user(&self) -> Result<Option<String>, Failure> {
        Ok(self
            .text()?
            .lines()
            .find(|line| self.is_user(line))
            .map(str::to_owned))
    }

    /// Writes the file with this line for the user, in the place of the old one; or without.
    fn rewrite(&self, line: Option<&str>) -> Result<(), Failure> {
        let mut text = String::new();
        let mut placed = false;
        for old in self.text()?.lines() {
            match (self.is_user(old), line) {
                (true, Some(line)) if !placed => {
                    text.push_str(line);
                    placed = true;
                }
                (true, _) => continue,
                (false, _) => text.push_str(old),
            }
            text.push('\n');
        }
        if let (false, Some(line)) = (placed, line) {
            text.push_str(line);
            text.push('\n');
        }
        replace_in(&self.config, &self.path, text.as_bytes(), 0o640)
            .map_err(|error| Failure::of_file(CANNOT_CREATE, &self.path, &error))
    }
}

fn send_as_option(patterns: &str) -> Result<String, Failure> {
    for pattern in patterns.split(',') {
        if SendAs::parse(pattern.trim()).is_none() {
            let shown = crate::escape::Escaped(pattern.as_bytes());
            let text =
                format!("{shown} is not a pattern; write name@example.com, *@example.com or *");
            return Err(Failure::new(USAGE, text));
        }
    }
    let clean: Vec<&str> = patterns.split(',').map(str::trim).collect();
    Ok(format!(":send_as={}", clean.join(",")))
}

fn new_credential(password: &Password) -> Credential {
    let mut salt = [0; SALT_BYTES];
    SystemEntropy::default().fill(&mut salt);
    Credential::derive(
        password,
        &salt,
        NonZeroU32::new(SCRAM_ITERATIONS).unwrap_or(NonZeroU32::MIN),
    )
}

/// A password that a person has chosen: because anybody may try to log in from anywhere, one that is easy to guess is
/// accepted only with an explicit option.
fn read_new_password(word: &str, user: &Mailbox, is_weak_taken: bool) -> Result<Password, Failure> {
    let command = format!("user {word} {user}");
    let password = read_password("New password: ", &command)?;
    let text = String::from_utf8_lossy(password.as_bytes());
    if let Some(why) = guessable(&text, user).filter(|_| !is_weak_taken) {
        return Err(Failure::new(
            DATA,
            format!(
                "{why}: others would guess it, and send mail as {user}; nothing was changed. Take a longer one, such as four \
                 words that do not belong together; --weak takes this one all the same"
            ),
        ));
    }
    if isatty(io::stdin()) {
        let again = read_password("Once more: ", &command)?;
        if password.as_bytes() != again.as_bytes() {
            return Err(Failure::new(
                DATA,
                "the two passwords differ; nothing was changed",
            ));
        }
    }
    Ok(password)
}

/// Asks for a password: without echo at a terminal, otherwise from the first line of standard input. `command` is the
/// command that asks.
pub(super) fn read_password(prompt: &str, command: &str) -> Result<Password, Failure> {
    let stdin = io::stdin();
    let broken =
        |error: io::Error| Failure::new(IO_ERROR, format!("cannot read the password: {error}"));
    let mut line = Zeroizing::new(String::new());
    let limit = PASSWORD_BYTES_MAX as u64 + 2;
    if isatty(&stdin) {
        super::output::ask(prompt);
        let silence = Silence::begin(stdin.as_fd()).map_err(|error| broken(error.into()))?;
        let result = stdin.lock().take(limit).read_line(&mut line);
        drop(silence);
        super::output::say("");
        result.map_err(broken)?;
    } else {
        let read = stdin.lock().take(limit).read_line(&mut line);
        if read.map_err(broken)? == 0 {
            let text = format!(
                "there is no password: standard input is empty, and no terminal to ask at; a script gives the password as the \
                 first line: printf '%s\\n' \"$PASSWORD\" | sudo chopar {command}"
            );
            return Err(Failure::new(DATA, text));
        }
    }
    let text = line.strip_suffix('\n').unwrap_or(&line);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Password::new(text.to_owned()).map_err(|error| Failure::new(DATA, error))
}

/// A terminal without echo until this is dropped.
struct Silence<'a> {
    terminal: std::os::fd::BorrowedFd<'a>,
    before: rustix::termios::Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: std::os::fd::BorrowedFd<'a>) -> rustix::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _gone = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Prints them, one a line.
pub(super) fn list(
    folder: &Path,
    domain: Option<&str>,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let domains = match domain {
        Some(domain) => vec![super::served::parse_domain(domain)?.to_string()],
        None => served(folder)?,
    };
    let mut rows = Vec::new();
    for domain in domains {
        let path = folder.join("domains").join(&domain).join("users");
        let text = match plain_file::text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::of_file(NO_INPUT, &path, &error)),
        };
        for line in without_mark(&text)
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let mut parts = line.splitn(3, ':');
            let name = parts.next().unwrap_or_default();
            let send_as = parts
                .nth(1)
                .and_then(|rest| rest.strip_prefix("send_as="))
                .unwrap_or_default();
            rows.push((format!("{name}@{domain}"), send_as.to_owned()));
        }
    }
    if json {
        let rows: Vec<serde_json::Value> = rows
            .iter()
            .map(|(address, send_as)| {
                let patterns: Vec<&str> = send_as
                    .split(',')
                    .filter(|pattern| !pattern.is_empty())
                    .collect();
                serde_json::json!({ "address": address, "send_as": patterns })
            })
            .collect();
        return written(writeln!(output, "{}", serde_json::Value::Array(rows)));
    }
    for (address, send_as) in rows {
        let line = if send_as.is_empty() {
            address
        } else {
            format!("{address} send_as={send_as}")
        };
        written(writeln!(output, "{line}"))?;
    }
    Ok(())
}
