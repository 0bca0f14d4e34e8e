//! `chopar domain`: which domains are served. Each folder under `domains/` is a served domain.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use argh::FromArgs;

use super::control::changed;
use super::failure::Failure;
use super::folders::load;
use super::init::{execute, parse_mailbox, records};
use super::output;
use super::served::{parse_domain, served};
use super::sysexits::{CANNOT_CREATE, IO_ERROR, NO_INPUT, USAGE};
use crate::setup::init::perform::NO_ALIASES;
use crate::setup::init::plan::{PlanError, plan_domain};
use crate::setup::init::step::{DomainStep, InitStep, PlanLine};
use crate::shell::process::time::wall;

/// Manage the served domains.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "domain")]
pub struct DomainCommand {
    #[argh(subcommand)]
    command: Action,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Action {
    Add(Add),
    Remove(Remove),
    List(List),
}

/// Serve a domain: create its DKIM keys and print its DNS records.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "add")]
struct Add {
    /// the domain
    #[argh(positional)]
    domain: String,
    /// the destination of mail for all addresses without an alias
    #[argh(option)]
    forward_to: Option<String>,
    /// create only its folder: no keys, no records
    #[argh(switch)]
    bare: bool,
}

/// Stop serving a domain, and delete its users, aliases and keys.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// the domain
    #[argh(positional)]
    domain: String,
    /// delete users, aliases and keys too
    #[argh(switch)]
    force: bool,
}

/// List the served domains.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

impl DomainCommand {
    /// Runs the command on the configuration folder; `runtime_dir` is where the daemon to be notified listens.
    pub fn run(
        &self,
        folder: &Path,
        runtime_dir: &Path,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        match &self.command {
            Action::Add(add) => add.run(folder, runtime_dir, output),
            Action::Remove(Remove { domain, force }) => {
                let domain = parse_domain(domain)?;
                let path = folder.join("domains").join(domain.as_str());
                if !path.is_dir() {
                    return Err(Failure::new(NO_INPUT, format!("{domain} is not served")));
                }
                if !force && holds_files(&path) {
                    let text = format!(
                        "{domain} has users, aliases or keys; use --force to delete them too"
                    );
                    return Err(Failure::new(USAGE, text));
                }
                fs::remove_dir_all(&path)
                    .map_err(|error| Failure::of_file(IO_ERROR, &path, &error))?;
                let what = format!("{domain} is no longer served, and its data is deleted");
                changed(what, runtime_dir, output)
            }
            Action::List(List { json }) => list(folder, *json, output),
        }
    }
}

impl Add {
    fn run(
        &self,
        folder: &Path,
        runtime_dir: &Path,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        let domain = parse_domain(&self.domain)?;
        if !domain.as_str().contains('.') {
            return Err(Failure::new(USAGE, PlanError::Undotted(domain)));
        }
        if folder.join("domains").join(domain.as_str()).is_dir() {
            return Err(Failure::new(
                CANNOT_CREATE,
                format!(
                    "{domain} is served already; `chopar init {domain}` creates what is missing"
                ),
            ));
        }
        let target = self.forward_to.as_deref().map(parse_mailbox).transpose()?;
        if let Some(target) = target.as_ref().filter(|target| target.domain() == &domain) {
            return Err(Failure::new(USAGE, PlanError::LeadsBack(target.clone())));
        }
        let mut entries = plan_domain(&domain, target.as_ref(), wall());
        if self.bare {
            entries.retain(|entry| {
                !matches!(
                    entry,
                    PlanLine::Do(
                        InitStep::Domain(DomainStep::Key { .. })
                            | InitStep::Domain(DomainStep::Reports(_))
                    )
                )
            });
        }
        match self.bare {
            true => execute(&entries, folder, &mut io::sink()).result?,
            false => execute(&entries, folder, output).result?,
        }
        changed(format!("{domain} is served"), runtime_dir, output)?;
        if self.bare {
            return Ok(());
        }
        let config = load(folder)?;
        if config.admin.is_none() && target.is_none() {
            let text = format!(
                "to do  the address for mail to postmaster@{domain} and abuse@{domain}: set admin in chopar.toml, or run sudo \
                 chopar alias add '*@{domain}' YOU@ELSEWHERE\n"
            );
            output::print(output, &text)?;
        }
        output::print(output, &records(&config, &domain))
    }
}

fn list(folder: &Path, json: bool, output: &mut dyn Write) -> Result<(), Failure> {
    let domains = served(folder)?;
    let text = if json {
        format!("{}\n", serde_json::json!(domains))
    } else {
        domains.iter().map(|domain| format!("{domain}\n")).collect()
    };
    output
        .write_all(text.as_bytes())
        .map_err(|error| Failure::new(IO_ERROR, format!("cannot write: {error}")))
}

fn holds_files(path: &Path) -> bool {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .any(|entry| {
            let path = entry.path();
            if path.is_dir() {
                holds_files(&path)
            } else {
                fs::read(&path).ok().as_deref() != Some(NO_ALIASES.as_bytes())
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, action: Action) -> Result<(), Failure> {
        let command = DomainCommand { command: action };
        command.run(folder, &folder.join("run"), &mut Vec::new())
    }

    #[test]
    fn a_new_domain_has_a_file_and_goes_without_force() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path();
        let domain = || "example.com".to_owned();
        let bare = Add {
            domain: domain(),
            forward_to: None,
            bare: true,
        };
        run(folder, Action::Add(bare)).expect("a domain");
        let path = folder.join("domains/example.com");
        // As git clones: files, and the folders that they need.
        assert!(path.join("aliases").is_file());
        let remove = |force| {
            Action::Remove(Remove {
                domain: domain(),
                force,
            })
        };
        fs::write(path.join("users"), "x").expect("a file");
        assert!(run(folder, remove(false)).is_err());
        fs::remove_file(path.join("users")).expect("a file");
        run(folder, remove(false)).expect("nothing is lost");
        assert!(!path.exists());
    }

    #[test]
    fn a_domain_without_a_dot_is_refused_with_what_to_write() {
        let temporary = tempfile::tempdir().expect("a folder");
        let add = Add {
            domain: "foo".to_owned(),
            forward_to: None,
            bare: false,
        };
        let failure = run(temporary.path(), Action::Add(add)).expect_err("refused");
        assert!(
            failure.to_string().starts_with("foo has no dot"),
            "{failure}"
        );
        assert_eq!(failure.exit_code(), USAGE);
    }
}
