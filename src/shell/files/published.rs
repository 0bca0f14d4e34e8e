//! `state_dir/names.json`: the part of the configuration that programs of this machine need and may not be able to
//! read.
//!
//! It is written at each start and reload, and everybody may read it: the domains of this machine's mail, and the paths
//! of the sockets. `sendmail` reads it if its caller may not read the configuration folder, whether the daemon runs or
//! not.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::engine::log::{Level, Line};
use crate::policy::relay::own_domain;
use crate::shell::files::replace::replace;
use crate::shell::process::log;

/// The part of the configuration that other programs of this machine may read: the host name and the local domains.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PublishedNames {
    /// The configuration folder that it is of.
    pub config: PathBuf,
    /// The name of the host.
    pub hostname: String,
    /// The domain of mail from programs of this machine.
    pub mail_domain: String,
    /// The folder of the sockets.
    pub runtime_dir: PathBuf,
    /// Upper limit for one message, in bytes.
    pub max_message_size: u64,
}

impl PublishedNames {
    /// The published part of a configuration.
    pub(in crate::shell) fn of(config: &Config, folder: &Path) -> Self {
        Self {
            config: whole(folder),
            hostname: config.hostname.to_string(),
            mail_domain: own_domain(config).unwrap_or(&config.hostname).to_string(),
            runtime_dir: whole(&config.runtime_dir),
            max_message_size: config.limits.message_bytes,
        }
    }

    /// Reads the file that the daemon of this configuration folder has published; `None` if there is none.
    pub fn read(state_dir: &Path, folder: &Path) -> Option<Self> {
        let mut text = String::new();
        let file = File::open(state_dir.join(FILE)).ok()?;
        file.take(NAMES_BYTES_MAX).read_to_string(&mut text).ok()?;
        let names: Self = serde_json::from_str(&text).ok()?;
        (names.config == whole(folder)).then_some(names)
    }

    /// Publishes the file. Without it mail continues; the log says so.
    pub(in crate::shell) fn publish(&self, state_dir: &Path) {
        let path = state_dir.join(FILE);
        let written = serde_json::to_vec(self)
            .map_err(io::Error::from)
            .and_then(|bytes| replace(&path, &bytes, MODE))
            // Whatever the umask is.
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(MODE)));
        if let Err(error) = written {
            let line = Line::new(Level::Warning, "names").with("file", path.display());
            log::write(&line.with("cause", error));
        }
    }
}

fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

const FILE: &str = "names.json";
const MODE: u32 = 0o644;
const NAMES_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_by_everybody_and_only_for_the_folder_that_they_are_of() {
        let state = tempfile::tempdir().expect("a folder");
        let names = PublishedNames {
            config: "/etc/chopar".into(),
            hostname: "mail.example.com".to_owned(),
            mail_domain: "example.com".to_owned(),
            runtime_dir: "/run/chopar".into(),
            max_message_size: 1 << 20,
        };
        names.publish(state.path());
        let about = fs::metadata(state.path().join(FILE)).expect("a file");
        assert_eq!(about.permissions().mode() & 0o777, 0o644);
        let read = |folder: &str| PublishedNames::read(state.path(), Path::new(folder));
        assert_eq!(read("/etc/chopar"), Some(names));
        assert_eq!(read("/etc/other"), None);
        fs::write(state.path().join(FILE), "{").expect("a file");
        assert_eq!(read("/etc/chopar"), None);
    }
}
