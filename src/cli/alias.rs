//! `chopar alias`: where addresses of served domains lead.
//!
//! It edits `domains/DOMAIN/aliases` in place, keeps comments and order, and writes only a file that can be read.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use argh::FromArgs;

use super::control::changed;
use super::failure::Failure;
use super::folders::load;
use super::output::written;
use super::served::{parse_domain, served};
use super::sysexits::{CANNOT_CREATE, DATA, NO_INPUT, NO_USER, USAGE};
use crate::address::{Domain, Mailbox};
use crate::config::alias_edit::{AliasChange, AliasName, EditError, edit, entries};
use crate::config::text::without_mark;
use crate::config::{Config, Folder, NameRules};
use crate::destination::Destination;
use crate::policy::relay::{Explained, Explanation, RecipientStart, RelayClient, Way, explain};
use crate::shell::files::folder;
use crate::shell::files::plain_file;
use crate::shell::files::replace::replace_in;
use crate::smtp::command::ForwardPath;

/// Manage aliases.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "alias")]
pub struct AliasCommand {
    #[argh(subcommand)]
    command: Action,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Action {
    Add(Add),
    Remove(Remove),
    List(List),
    Resolve(Resolve),
}

/// Add targets to an address; *@example.com stands for all addresses without an alias.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "add")]
struct Add {
    /// the address
    #[argh(positional)]
    address: String,
    /// targets as written in the file; see chopar-aliases(5)
    #[argh(positional)]
    targets: Vec<String>,
}

/// Remove these targets from an address, or all of them.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// the address
    #[argh(positional)]
    address: String,
    /// targets to remove (default: all)
    #[argh(positional)]
    targets: Vec<String>,
}

/// List aliases.
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

/// Show where mail for an address goes, step by step; exit 67 if it is rejected.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "resolve")]
struct Resolve {
    /// the address
    #[argh(positional)]
    address: String,
}

impl AliasCommand {
    /// Runs the command on the configuration folder; `runtime_dir` is where the daemon to be notified listens.
    pub fn run(
        &self,
        folder: &Path,
        runtime_dir: &Path,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        match &self.command {
            Action::Add(Add { targets, .. }) if targets.is_empty() => {
                Err(Failure::new(USAGE, "name at least one target"))
            }
            Action::Add(Add { address, targets }) => {
                change(folder, address, AliasChange::Add(targets))?;
                let what = format!("{address} now leads to {}", targets.join(" and "));
                changed(what, runtime_dir, output)
            }
            Action::Remove(Remove { address, targets }) => {
                change(folder, address, AliasChange::Remove(targets))?;
                let what = match targets.as_slice() {
                    [] => format!("{address} is no longer an alias"),
                    targets => format!("{address} no longer leads to {}", targets.join(" and ")),
                };
                changed(what, runtime_dir, output)
            }
            Action::List(List { domain, json }) => list(folder, domain.as_deref(), *json, output),
            Action::Resolve(Resolve { address }) => resolve(folder, address, output),
        }
    }
}

fn change(config_folder: &Path, address: &str, change: AliasChange<'_>) -> Result<(), Failure> {
    let no_address = || {
        let shown = crate::escape::Escaped(address.as_bytes());
        Failure::new(
            USAGE,
            format!("{shown} is not an address; write name@example.com or *@example.com"),
        )
    };
    let (local_part, domain) = address.rsplit_once('@').ok_or_else(no_address)?;
    let domain = parse_domain(domain)?;
    let name = match local_part {
        "*" => AliasName::CatchAll,
        local_part => {
            Mailbox::new(local_part, &domain).map_err(|_| no_address())?;
            AliasName::Local(local_part)
        }
    };
    let path = file_of(config_folder, &domain)?;
    let file = format!("domains/{domain}/aliases");
    let read = |files: &Folder| Config::parse(files, &folder::system_defaults());
    let mut files = folder::read(config_folder).map_err(|error| Failure::new(NO_INPUT, error))?;
    let before = read(&files).ok();
    let names = before
        .as_ref()
        .map_or_else(NameRules::default, |config| config.names.clone());
    let text = edit(&file, &text_of(&path)?, &domain, &names, name, change).map_err(|error| {
        let code = match error {
            EditError::NotThere | EditError::NoSuchTarget(_) => NO_USER,
            EditError::ThereAlready(_) => CANNOT_CREATE,
            EditError::Invalid(_) => DATA,
        };
        Failure::new(code, format!("{address}: {error}; nothing was changed"))
    })?;
    // A loop can span two files.
    if before.is_some() {
        files.insert_file(&file, text.as_bytes().to_vec());
        read(&files).map_err(|errors| {
            let error = EditError::of(&file, &errors);
            Failure::new(DATA, format!("{address}: {error}; nothing was changed"))
        })?;
    }
    replace_in(config_folder, &path, text.as_bytes(), 0o640)
        .map_err(|error| Failure::of_file(CANNOT_CREATE, &path, &error))
}

fn file_of(folder: &Path, domain: &Domain) -> Result<PathBuf, Failure> {
    let path = folder.join("domains").join(domain.as_str());
    if path.is_dir() {
        return Ok(path.join("aliases"));
    }
    let text = format!("{domain} is not served; `chopar domain add {domain}` serves it");
    Err(Failure::new(NO_USER, text))
}

fn text_of(path: &Path) -> Result<String, Failure> {
    match plain_file::text(path) {
        Ok(text) => Ok(without_mark(&text).to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::of_file(NO_INPUT, path, &error)),
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
        Some(domain) => vec![parse_domain(domain)?],
        None => served(folder)?
            .iter()
            .map(|domain| parse_domain(domain))
            .collect::<Result<_, _>>()?,
    };
    let mut text = String::new();
    let mut values = Vec::new();
    for domain in domains {
        for (name, targets) in entries(&text_of(&file_of(folder, &domain)?)?) {
            let suffix = format!("@{domain}");
            let address = format!("{}{suffix}", name.strip_suffix(&suffix).unwrap_or(&name));
            text.push_str(&format!("{address}: {}\n", targets.join(", ")));
            values.push(serde_json::json!({ "address": address, "targets": targets }));
        }
    }
    if json {
        text = format!("{}\n", serde_json::Value::Array(values));
    }
    written(output.write_all(text.as_bytes()))
}

fn resolve(folder: &Path, address: &str, output: &mut dyn Write) -> Result<(), Failure> {
    let config = load(folder)?;
    let to = match address.contains('@') {
        true => Mailbox::parse(address)
            .map(ForwardPath::Mailbox)
            .map_err(|error| Failure::new(USAGE, format!("{address}: {error}")))?,
        false => ForwardPath::Bare(address.into()),
    };
    let host = RelayClient::Anonymous {
        address: Ipv4Addr::UNSPECIFIED.into(),
    };
    let program = RelayClient::Local {
        uid: rustix::process::getuid().as_raw(),
    };
    let by_host = explain(&config, &host, &to);
    let by_program = explain(&config, &program, &to);
    let text = match by_host == by_program {
        true => told(address, &to, &by_host),
        false => format!(
            "Mail from other hosts:\n{}Mail from programs of this machine:\n{}",
            told(address, &to, &by_host),
            told(address, &to, &by_program)
        ),
    };
    written(output.write_all(text.as_bytes()))?;
    // A name that no other host can mean is that of programs.
    let is_name_of_machine = match &to {
        ForwardPath::Mailbox(mailbox) => mailbox.domain().is_loopback(),
        ForwardPath::Bare(_) => by_host.result.is_err(),
        ForwardPath::SourceRoute(_) => false,
    };
    let (from, counts) = match is_name_of_machine {
        _ if by_host == by_program => ("", by_host),
        true => (" from programs of this machine", by_program),
        false => (" from other hosts", by_host),
    };
    match counts.result {
        Ok(_) => Ok(()),
        Err(refusal) => Err(Failure::new(
            NO_USER,
            format!("mail for {address}{from} is refused: {refusal}"),
        )),
    }
}

/// What happens to mail for an address, one line for each step.
fn told(address: &str, to: &ForwardPath, explanation: &Explanation<'_>) -> String {
    let first = match &explanation.start {
        Err(refusal) => Some(format!("refused: {refusal}")),
        Ok(RecipientStart::Admin(_)) => {
            Some("role or account of this machine, goes to admin".to_owned())
        }
        Ok(RecipientStart::Name(mailbox) | RecipientStart::Relayed(mailbox)) => match to {
            ForwardPath::Mailbox(named) if named == mailbox => None,
            _ => Some(format!("stands for {mailbox}")),
        },
    };
    let indent = usize::from(first.is_some());
    let mut text = first.map_or_else(String::new, |first| format!("{address}: {first}\n"));
    for step in &explanation.steps {
        let step = Explained {
            depth: step.depth.saturating_add(indent),
            ..step.clone()
        };
        text.push_str(&line(&step));
    }
    text
}

fn line(step: &Explained) -> String {
    let indent = "  ".repeat(step.depth);
    let (address, domain) = (&step.address, step.address.domain());
    let way = match &step.way {
        Way::Alias(line) => format!("alias, line {line} of domains/{domain}/aliases"),
        Way::CatchAll(line) => format!("catch-all, line {line} of domains/{domain}/aliases"),
        Way::Admin => "role, goes to admin".to_owned(),
        Way::Sent => format!("is sent to {domain}"),
        Way::To(Destination::Reports) => {
            "is counted if it is a DMARC or TLS report, otherwise goes to admin".to_owned()
        }
        Way::To(Destination::Discard) => "is discarded".to_owned(),
        Way::To(destination @ Destination::Hosts(_)) => format!("is sent {destination}"),
        Way::To(destination) => format!("is delivered to {destination}"),
        Way::Again => "is there already".to_owned(),
        Way::Refused(refusal) => format!("refused: {refusal}"),
    };
    format!("{indent}{address}: {way}\n")
}
