//! The location of the daemon and the identity of the caller, as far as an unprivileged caller can find them out.
//!
//! Only the few keys of chopar.toml that are needed are read, and leniently: a program that sends mail is not the place
//! to report errors of the configuration. If the caller may not read it, the file that the daemon has published is used
//! ([`crate::shell::files::published`]). If that is missing too, nothing is guessed: mail under a wrong name is worse
//! than mail that is tried again.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use super::super::folders::state_dir;
use super::super::sysexits::{CONFIGURATION, TRY_AGAIN};
use crate::address::{AddressError, Domain, Mailbox};
use crate::config::glance;
use crate::config::parse_size;
use crate::limits::MESSAGE_BYTES_MAX_DEFAULT;
use crate::shell::files::published::PublishedNames;

/// The surroundings of a call.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The folder of the sockets.
    pub(super) runtime_dir: PathBuf,
    /// The folder for messages while the daemon is not running.
    pub(super) drop_folder: PathBuf,
    /// The daemon's limit for a message in bytes, if known.
    pub(super) message_bytes_max: Option<u64>,
    pub(super) hostname: Domain,
    /// The domain that completes bare names.
    pub(super) mail_domain: Domain,
    /// The caller's own address.
    pub(super) caller: Mailbox,
    /// The caller's name in full.
    pub(super) full_name: Option<String>,
}

/// The known part of the configuration.
struct Known {
    runtime_dir: PathBuf,
    message_bytes_max: Option<u64>,
    hostname: Domain,
    mail_domain: Domain,
}

impl Place {
    /// Finds the daemon and the caller.
    pub(super) fn find(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("chopar.toml");
        let read = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let bytes = fs::read(&path).unwrap_or_default();
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            read => read.map(Some),
        };
        let text = read.as_ref().ok().and_then(Option::as_deref);
        let state_dir = state_dir(text.unwrap_or_default());
        let known = match read {
            Ok(text) => Known::of_file(folder, text.as_deref())?,
            Err(error) => Err((path, error)),
        };
        let known = match known {
            Ok(known) => known,
            Err((path, error)) => Known::published(&state_dir, folder).ok_or_else(|| {
                let text = format!(
                    "{}: {error}; the names of this host can be read neither there nor from the files of the daemon \
                     in {}: start the daemon, or make the file readable for all users, and try again",
                    path.display(),
                    state_dir.display()
                );
                Failure::new(TRY_AGAIN, text)
            })?,
        };
        let (login, full_name) = caller();
        let caller = Mailbox::new(&login, &known.mail_domain).map_err(|error| {
            Failure::new(
                CONFIGURATION,
                format!("the login {login} makes no address: {error}"),
            )
        })?;
        Ok(Self {
            runtime_dir: known.runtime_dir,
            drop_folder: state_dir.join("spool").join("drop"),
            message_bytes_max: known.message_bytes_max,
            hostname: known.hostname,
            mail_domain: known.mail_domain,
            caller,
            full_name,
        })
    }

    /// Reads one address as a caller writes it; a bare name is one of this machine.
    pub(super) fn mailbox(&self, text: &str) -> Result<Mailbox, AddressError> {
        match Mailbox::parse(text) {
            Err(AddressError::NoDomain) => Mailbox::new(text, &self.mail_domain),
            parsed => Ok(own(&parsed?, &self.mail_domain)),
        }
    }
}

/// The address of a local mailbox for other hosts, which cannot reply to `root@localhost`.
pub(super) fn own(mailbox: &Mailbox, domain: &Domain) -> Mailbox {
    match mailbox.domain().is_loopback() {
        true => Mailbox::new(mailbox.local_part(), domain).unwrap_or_else(|_| mailbox.clone()),
        false => mailbox.clone(),
    }
}

/// The known part, or the file with it and why it cannot be read.
type Found = Result<Known, (PathBuf, io::Error)>;

impl Known {
    /// The known part from the configuration; `file` is the text of chopar.toml, if there is one.
    fn of_file(folder: &Path, file: Option<&str>) -> Result<Found, Failure> {
        let toml = file.unwrap_or_default();
        let system = crate::shell::files::folder::system_defaults().hostname;
        let hostname = [glance(toml, "hostname"), Some(system)]
            .into_iter()
            .flatten()
            .find_map(|name| Domain::parse(&name).ok());
        let hostname = hostname.ok_or_else(|| {
            let path = folder.join("chopar.toml");
            let text = format!(
                "the system has no usable name; set hostname in {}",
                path.display()
            );
            Failure::new(CONFIGURATION, text)
        })?;
        let known = mail_domain(folder, &hostname).map(|mail_domain| Self {
            runtime_dir: glance(toml, "runtime_dir")
                .map_or_else(|| PathBuf::from("/run/chopar"), PathBuf::from),
            message_bytes_max: file.map(|toml| {
                glance(toml, "max_message_size")
                    .and_then(|text| parse_size(&text))
                    .unwrap_or(MESSAGE_BYTES_MAX_DEFAULT)
            }),
            mail_domain,
            hostname,
        });
        Ok(known)
    }

    fn published(state_dir: &Path, folder: &Path) -> Option<Self> {
        let names = PublishedNames::read(state_dir, folder)?;
        Some(Self {
            hostname: Domain::parse(&names.hostname).ok()?,
            mail_domain: Domain::parse(&names.mail_domain).ok()?,
            runtime_dir: names.runtime_dir,
            message_bytes_max: Some(names.max_message_size),
        })
    }
}

/// A served domain that contains the host, so that mail of this machine is signed; otherwise the host itself.
fn mail_domain(folder: &Path, hostname: &Domain) -> Result<Domain, (PathBuf, io::Error)> {
    let mut name = hostname.as_str();
    loop {
        let path = folder.join("domains").join(name);
        match fs::metadata(&path) {
            Ok(about) => {
                if let (true, Ok(domain)) = (about.is_dir(), Domain::parse(name)) {
                    return Ok(domain);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => {}
                _ => return Err((path, error)),
            },
        }
        match name.split_once('.') {
            Some((_, parent)) => name = parent,
            None => return Ok(hostname.clone()),
        }
    }
}

/// The caller's login and full name, from /etc/passwd by the real user id.
fn caller() -> (String, Option<String>) {
    let uid = rustix::process::getuid().as_raw();
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [login, _, number, _, gecos, ..] = fields.as_slice()
            && number.parse() == Ok(uid)
        {
            let full = gecos.split(',').next().unwrap_or_default();
            return (
                (*login).to_owned(),
                (!full.is_empty()).then(|| full.to_owned()),
            );
        }
    }
    (format!("uid{uid}"), None)
}
