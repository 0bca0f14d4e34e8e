//! The configuration folder, and the parts of it that commands need. It can be used even if the configuration cannot be
//! read, because commands that repair it, or ask the daemon what is wrong with it, must still work.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::sysexits::CONFIGURATION;
use crate::config::{Config, glance};
use crate::dns::{Servers, resolv_conf};
use crate::shell::files::folder;
use crate::shell::files::loading;
use crate::shell::files::published;

pub(super) fn config_folder(named: Option<PathBuf>) -> PathBuf {
    named
        .or_else(|| std::env::var_os("CHOPAR_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("/etc/chopar"))
}

/// The hostname of this host.
pub(super) fn hostname(folder: &Path) -> String {
    load(folder).map_or_else(
        |_| folder::system_defaults().hostname,
        |config| config.hostname.to_string(),
    )
}

/// The name servers that a command asks: the given one, those of the configuration, or those of the system.
pub(super) fn servers(folder: &Path, named: Option<std::net::SocketAddr>) -> Servers {
    match named {
        Some(server) => Servers::new(vec![server]),
        None => match load(folder) {
            Ok(config) => config.dns.servers.clone(),
            Err(_) => resolv_conf::parse(&folder::system_defaults().resolv_conf),
        },
    }
}

/// The folder of the daemon's sockets, even if the configuration cannot be read: a command that repairs it, or asks the
/// daemon what is wrong with it, must work.
pub(super) fn runtime_dir(folder: &Path) -> PathBuf {
    if let Ok(config) = load(folder) {
        return config.runtime_dir;
    }
    let text = std::fs::read_to_string(folder.join("chopar.toml")).unwrap_or_default();
    glance(&text, "runtime_dir")
        .map(PathBuf::from)
        .or_else(|| Some(published::PublishedNames::read(&state_dir(&text), folder)?.runtime_dir))
        .unwrap_or_else(|| PathBuf::from("/run/chopar"))
}

/// The folder for messages while the daemon is not running, even if the configuration cannot be read.
pub(super) fn drop_folder(folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(folder.join("chopar.toml")).unwrap_or_default();
    state_dir(&text).join("spool").join("drop")
}

pub(super) fn state_dir(toml: &str) -> PathBuf {
    glance(toml, "state_dir").map_or_else(|| PathBuf::from("/var/lib/chopar"), PathBuf::from)
}

/// Reads the configuration, or returns its first error.
pub(super) fn load(path: &Path) -> Result<Config, Failure> {
    loading::read(path).map_err(|errors| Failure::new(CONFIGURATION, errors.join("\n")))
}
