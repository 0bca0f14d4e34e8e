//! The helper's own view of the configuration folder: the targets of aliases, and the account that programs run as.
//!
//! The folder is read when an unknown target is requested. Until then, targets of the previous configuration stay
//! valid: accepted mail for a removed target may still be delivered.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{AliasTarget, Config};
use crate::destination::{self, words};
use crate::shell::files::loading;

/// The destination of a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Destination {
    Maildir(PathBuf),
    /// A program with its arguments.
    Program(Vec<String>),
    /// The counts of reports.
    Reports,
}

/// Why the helper does not serve a target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Unknown {
    /// The configuration does not name it.
    Target,
    /// The configuration cannot be read now; its first error.
    Config(String),
}

/// The account that programs run as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) home: String,
}

impl Account {
    /// The environment of every program.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("SHELL", "/bin/sh"),
            ("HOME", &self.home),
            ("USER", &self.user),
            ("LOGNAME", &self.user),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
    }
}

/// The targets that are known.
pub(super) struct Directory {
    /// The configuration folder.
    pub(super) folder: PathBuf,
    /// The account that runs programs.
    pub(super) account: Account,
    known: Mutex<Known>,
}

/// The last read configuration.
#[derive(Clone, Debug, Default)]
struct Known {
    targets: HashMap<String, Destination>,
    state_dir: PathBuf,
    separators: String,
    read_at: Option<Instant>,
}

/// A target, with further data for programs.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Where it goes.
    pub(super) destination: Destination,
    /// Folder in which programs run and long messages are stored.
    pub(super) state_dir: PathBuf,
    /// Characters that begin the extension of a local part.
    pub(super) separators: String,
}

impl Directory {
    /// The view of this folder, which is not read yet.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            account: account_of_caller(),
            known: Mutex::default(),
        }
    }

    /// Looks up a target: among the known ones, otherwise in the folder.
    pub(super) fn find(&self, target: &str) -> Result<Found, Unknown> {
        // Nothing panics under the lock, and its content is replaced as a whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.find(target) {
            return Ok(found);
        }
        if known.read_at.is_some_and(|at| at.elapsed() < READ_PAUSE) {
            let text = "the target is not known yet".to_owned();
            return Err(Unknown::Config(text));
        }
        known.read_at = Some(Instant::now());
        let config = loading::read(&self.folder)
            .map_err(|errors| Unknown::Config(errors.into_iter().next().unwrap_or_default()))?;
        known.targets = targets(&config);
        known.state_dir = config.state_dir;
        known.separators = config.names.separators.into();
        known.find(target).ok_or(Unknown::Target)
    }

    #[cfg(test)]
    pub(super) fn with(folder: &Path, targets: &[(&str, Destination)]) -> Self {
        let directory = Self::new(folder);
        let known = Known {
            targets: targets
                .iter()
                .map(|(name, target)| ((*name).to_owned(), target.clone()))
                .collect(),
            state_dir: folder.to_owned(),
            separators: "+".to_owned(),
            read_at: Some(Instant::now()),
        };
        *directory.known.lock().expect("a lock") = known;
        directory
    }
}

impl Known {
    fn find(&self, target: &str) -> Option<Found> {
        Some(Found {
            destination: self.targets.get(target)?.clone(),
            state_dir: self.state_dir.clone(),
            separators: self.separators.clone(),
        })
    }
}

/// All targets of a configuration that the helper serves, as its aliases write them, including those of its routes.
fn targets(config: &Config) -> HashMap<String, Destination> {
    let domains = config.domains.values();
    let aliases = domains.flat_map(|domain| domain.aliases.values().chain(&domain.catch_all));
    let aliased = aliases.flat_map(|alias| &alias.targets);
    let aliased = aliased.filter_map(|target| match target {
        AliasTarget::Here(target) => Some(target),
        _ => None,
    });
    let routed = config.routes.iter().flat_map(|route| &route.via);
    aliased
        .chain(routed)
        .filter_map(|target| {
            let destination = match target {
                destination::Destination::Maildir(path) => {
                    Destination::Maildir(path.as_ref().into())
                }
                destination::Destination::Pipe(command) => Destination::Program(words(command)?),
                destination::Destination::Reports => Destination::Reports,
                _ => return None,
            };
            Some((target.to_string(), destination))
        })
        .collect()
}

/// The account of the calling thread.
pub(super) fn account_of_caller() -> Account {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    // The thread's account, not the process's: a command run by root executes hooks in a thread that has switched to
    // the account.
    account(&passwd, rustix::process::geteuid().as_raw())
}

fn account(passwd: &str, uid: u32) -> Account {
    let found = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, _, id, _, _, home, ..] = fields.as_slice() else {
            return None;
        };
        (id.parse() == Ok(uid)).then(|| Account {
            user: (*user).to_owned(),
            home: (*home).to_owned(),
        })
    });
    found.unwrap_or_else(|| Account {
        user: uid.to_string(),
        home: "/".to_owned(),
    })
}

/// The minimum interval between two readings for unknown targets.
const READ_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_no_alias_names_is_not_served() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::new(folder.path());
        let target = "| /bin/sh";
        assert_eq!(directory.find(target).err(), Some(Unknown::Target));
        assert!(
            matches!(directory.find(target), Err(Unknown::Config(_))),
            "and the folder is not read again and again"
        );
    }

    #[test]
    fn the_account_is_found_by_its_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nchopar:x:990:991::/var/lib/chopar:/bin/false\n";
        let expected = |user: &str, home: &str| Account {
            user: user.to_owned(),
            home: home.to_owned(),
        };
        assert_eq!(account(passwd, 990), expected("chopar", "/var/lib/chopar"));
        assert_eq!(account(passwd, 7), expected("7", "/"));
    }
}
