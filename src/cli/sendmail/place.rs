//! Where the daemon is and who calls: what an unprivileged caller can know of both.
//!
//! Only the few keys of chopar.toml that are needed are read, and leniently: a program that sends mail is no place to
//! complain about the configuration. Where the file cannot be read the defaults hold.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use super::super::sysexits::CONFIGURATION;
use crate::address::{Domain, Mailbox};
use crate::config::parse_size;
use crate::limits::MESSAGE_BYTES_MAX_DEFAULT;

/// The surroundings of a call.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Where the sockets are.
    pub(super) runtime_dir: PathBuf,
    /// Where messages are left when the daemon is not there.
    pub(super) drop_folder: PathBuf,
    /// Bytes of a message that the daemon takes, where the configuration can be read.
    pub(super) message_bytes_max: Option<u64>,
    /// This host.
    pub(super) hostname: Domain,
    /// What bare names are completed with.
    pub(super) mail_domain: Domain,
    /// Who gets the mail of bare names.
    pub(super) admin: Option<Mailbox>,
    /// The caller's own address.
    pub(super) caller: Mailbox,
    /// The caller's name in full.
    pub(super) full_name: Option<String>,
}

impl Place {
    /// Looks around.
    pub(super) fn find(folder: &Path) -> Result<Self, Failure> {
        let read = fs::read_to_string(folder.join("chopar.toml"));
        let is_readable = read.is_ok();
        let text = read.unwrap_or_default();
        let table: toml::Table = text.parse().unwrap_or_default();
        let key = |name: &str| {
            table
                .get(name)
                .and_then(toml::Value::as_str)
                .map(str::to_owned)
        };
        let hostname = [
            key("hostname"),
            Some(crate::shell::folder::system_defaults().hostname),
        ]
        .into_iter()
        .flatten()
        .find_map(|name| Domain::parse(&name).ok());
        let hostname = hostname.ok_or_else(|| {
            Failure::new(
                CONFIGURATION,
                "the system has no usable name; set hostname in chopar.toml",
            )
        })?;
        let (login, full_name) = caller();
        let mail_domain = mail_domain(folder, &hostname);
        let caller = Mailbox::new(&login, &mail_domain).map_err(|error| {
            Failure::new(
                CONFIGURATION,
                format!("the login {login} makes no address: {error}"),
            )
        })?;
        let state_dir =
            key("state_dir").map_or_else(|| PathBuf::from("/var/lib/chopar"), PathBuf::from);
        Ok(Self {
            runtime_dir: key("runtime_dir")
                .map_or_else(|| PathBuf::from("/run/chopar"), PathBuf::from),
            message_bytes_max: is_readable.then(|| {
                key("max_message_size")
                    .and_then(|text| parse_size(&text))
                    .unwrap_or(MESSAGE_BYTES_MAX_DEFAULT)
            }),
            drop_folder: state_dir.join("spool").join("drop"),
            mail_domain,
            hostname,
            admin: key("admin").and_then(|text| Mailbox::parse(&text).ok()),
            caller,
            full_name,
        })
    }

    /// Where mail for a mailbox of this machine goes: bare names (which were completed with our own names) belong to
    /// the administrator, unless the domain has that address.
    pub(super) fn owner_of(&self, mailbox: &Mailbox) -> Mailbox {
        let local = *mailbox.domain() == self.hostname && self.mail_domain != self.hostname
            || *mailbox.domain() == self.mail_domain && is_system_name(&mailbox.local_key());
        match &self.admin {
            Some(admin) if local => admin.clone(),
            _ => mailbox.clone(),
        }
    }
}

/// A served domain that the host lies in, so that mail of this machine is signed; else the host itself.
fn mail_domain(folder: &Path, hostname: &Domain) -> Domain {
    let mut name = hostname.as_str();
    loop {
        if folder.join("domains").join(name).is_dir()
            && let Ok(domain) = Domain::parse(name)
        {
            return domain;
        }
        match name.split_once('.') {
            Some((_, parent)) => name = parent,
            None => return hostname.clone(),
        }
    }
}

/// Whether a name is an account of this machine: /etc/passwd has it.
fn is_system_name(name: &str) -> bool {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines()
        .any(|line| line.split(':').next() == Some(name))
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
