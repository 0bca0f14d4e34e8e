//! Reads the configuration as the daemon will: by its account, with its rights.
//!
//! `chopar check` and `chopar run` use the same code, so that they come to the same result. Root does not read files in
//! place of the daemon that the daemon may not read, because they would be missing at the next reload. The one
//! exception, made once, is pairs under `tls/`: they serve until they are renewed, and the log says what to do.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::config::{Config, ConfigError};
use crate::date::Timestamp;
use crate::engine::log::{Level, Line};
use crate::policy::advice::{Advice, advice};
use crate::policy::published::names;
use crate::shell::certificates::last_good::{self, LastGood};
use crate::shell::certificates::pairs;
use crate::shell::certificates::pairs::PairPlaces;
use crate::shell::certificates::roots::authorities;
use crate::shell::files::alias_targets;
use crate::shell::files::folder;
use crate::shell::files::own_folder;
use crate::shell::files::ownership;
use crate::shell::net::listen;
use crate::shell::process::log;
use crate::shell::process::privilege::{self, PrivilegeError, SystemAccount};
use crate::shell::tls::{Read, Tls, TlsError};

pub use crate::shell::certificates::pairs::FoundPair;

/// The inputs of a start.
pub struct Loaded {
    /// The account to change to, if there is one.
    pub(in crate::shell) account: Option<SystemAccount>,
    /// The configuration.
    pub config: Config,
    /// The pairs under `tls/`.
    pub certificates: Vec<FoundPair>,
    /// The certificates of an earlier run.
    pub kept: LastGood,
    /// Roots in PEM, besides those of the system.
    pub authorities: Vec<u8>,
}

impl Loaded {
    /// Missing local targets of aliases, as the delivering account sees them.
    pub fn dead_targets(&self) -> Vec<Advice> {
        alias_targets::findings(&self.config, self.account.as_ref())
    }

    /// TLS with what was read.
    pub fn tls(&self, now: Timestamp) -> Result<Tls, TlsError> {
        let read = Read {
            found: &self.certificates,
            authorities: &self.authorities,
            names: &names(&self.config),
        };
        Tls::start(read, &self.kept, &self.config.hostname, now)
    }

    /// Obstacles for the next steps of a start, sockets and folders, each in a sentence. The check leaves nothing
    /// behind.
    pub fn obstacles(&self) -> Vec<String> {
        let config = &self.config;
        let control = config.runtime_dir.join("control.sock");
        let is_running = UnixStream::connect(control).is_ok();
        let mut found = Vec::new();
        for path in [&config.state_dir, &config.runtime_dir] {
            let checked = match self.account {
                _ if is_running => Ok(()),
                // An existing folder is opened as the start opens it; root can make a missing one.
                Some(_) if path.exists() => own_folder::open(path, 0o755).map(drop),
                _ => own_folder::could_be_made(path),
            };
            found.extend(checked.err().map(|error| error.to_string()));
        }
        let ports = listen::obstacles(&config.listen, is_running);
        found.extend(ports.iter().map(ToString::to_string));
        found
    }
}

/// Why a start failed.
#[derive(Debug)]
pub enum LoadError {
    /// The configuration has errors, each a sentence.
    Config(Vec<String>),
    /// The account cannot be taken on.
    Privilege(PrivilegeError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => out.write_str(&errors.join("\n")),
            Self::Privilege(error) => write!(out, "{error}"),
        }
    }
}

/// Reads the folder as the account that it names.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let user = ownership::user(path);
    let account = match privilege::account(&user) {
        Ok(account) => account,
        // A problem of the file may be the reason.
        Err(error) => {
            read(path).map_err(LoadError::Config)?;
            return Err(LoadError::Privilege(error));
        }
    };
    let all = || {
        let config = read(path);
        let kept = config
            .as_ref()
            .map(|config| last_good::read(&config.state_dir));
        let certificates = config.as_ref().map(|config| {
            pairs::read(PairPlaces {
                config: path,
                state: &config.state_dir,
            })
        });
        let authorities = config.as_ref().map(|config| authorities(config, path));
        (
            certificates.unwrap_or_default(),
            kept.unwrap_or_default(),
            authorities.unwrap_or_default(),
            config,
        )
    };
    let (mut certificates, kept, authorities, config) =
        privilege::as_account(account.as_ref(), all).map_err(LoadError::Privilege)?;
    let config = config.map_err(LoadError::Config)?;
    if account.is_some() {
        let places = PairPlaces {
            config: path,
            state: &config.state_dir,
        };
        pairs::read_for(&mut certificates, places);
    }
    Ok(Loaded {
        account,
        config,
        certificates,
        kept,
        authorities,
    })
}

/// Reads it as the caller; the errors are sentences.
pub fn read(path: &Path) -> Result<Config, Vec<String>> {
    let read = folder::read(path).map_err(|error| vec![error.to_string()])?;
    let sentences = |errors: Vec<ConfigError>| -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    };
    let config = Config::parse(&read, &folder::system_defaults()).map_err(sentences)?;
    let accounts = folder::accounts();
    Ok(Config { accounts, ..config })
}

/// Logs advice about the configuration.
pub(in crate::shell) fn say_advice(config: &Config) {
    say_all(advice(config));
}

pub(in crate::shell) fn say_all(found: Vec<Advice>) {
    for advice in found {
        log::write(&Line::new(Level::Warning, "config").with("cause", advice));
    }
}
