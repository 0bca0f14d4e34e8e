//! The existing content of a configuration folder, for [`super::plan`] to judge.

use std::fs;
use std::io;
use std::path::Path;

use super::machine::{Existing, ExistingCertificate, ExistingDomain};
use crate::address::{Domain, Mailbox};
use crate::config::alias_edit::entries;
use crate::config::text::without_mark;
use crate::config::{Config, Renewal, ServedDomain};
use crate::shell::certificates::pairs::{self, PairPlaces};
use crate::shell::files::{loading, ownership};
use crate::shell::process::time::wall;
use crate::shell::tls::Tls;

/// The content of the folder; with the configuration, if it can be read.
pub(super) fn existing(
    folder: &Path,
    domain: &Domain,
) -> Result<(Existing, Option<Config>), Vec<String>> {
    if fs::symlink_metadata(folder).is_err() {
        return Ok((Existing::default(), None));
    }
    let path = folder.join("chopar.toml");
    let settings = match fs::read_to_string(&path) {
        Ok(text) => Some(without_mark(&text).to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(vec![sentence(&path, &error)]),
    };
    let found = Existing {
        folder: true,
        is_services: ownership::is_services(folder),
        repository: is_repository(folder),
        ignore: String::from_utf8_lossy(&fs::read(folder.join(".gitignore")).unwrap_or_default())
            .into_owned(),
        settings,
        ..Existing::default()
    };
    // Without chopar.toml the machine's name may be invalid, but the file is about to be written.
    match (&found.settings, loading::read(folder)) {
        (_, Ok(config)) => Ok((configured(found, folder, domain, &config), Some(config))),
        (Some(_), Err(errors)) => Err(errors),
        (None, Err(_)) => {
            let is_there = folder.join("domains").join(domain.as_str()).is_dir();
            let domain = is_there.then(ExistingDomain::default);
            Ok((Existing { domain, ..found }, None))
        }
    }
}

/// The content of a folder whose configuration can be read.
fn configured(found: Existing, folder: &Path, domain: &Domain, config: &Config) -> Existing {
    Existing {
        hostname: (found.settings.is_some()).then(|| config.hostname.clone()),
        admin: config.admin.clone(),
        certificate: certificate(folder, config),
        other_users: other_users(config, domain),
        domain: (config.domains.get(domain)).map(|served| domain_there(folder, domain, served)),
        ..found
    }
}

/// A sentence about a file that could not be read, with the reason.
pub(super) fn sentence(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Whether the hostname has a certificate, or the daemon will obtain one.
fn certificate(folder: &Path, config: &Config) -> ExistingCertificate {
    let places = PairPlaces {
        config: folder,
        state: &config.state_dir,
    };
    let found = pairs::read(places);
    let is_there = Tls::new(&found, &config.hostname)
        .is_ok_and(|tls| tls.shown_for(config.hostname.as_str(), wall()).is_some());
    match (config.acme.renewal, is_there) {
        (Renewal::All, true) => ExistingCertificate::Automatic,
        (Renewal::All, false) => ExistingCertificate::AutomaticCertificate,
        (_, true) => ExistingCertificate::There,
        (_, false) => ExistingCertificate::None,
    }
}

fn other_users(config: &Config, domain: &Domain) -> Vec<Mailbox> {
    config
        .domains
        .iter()
        .filter(|(other, _)| *other != domain)
        .flat_map(|(_, served)| served.users.values())
        .map(|user| user.mailbox.clone())
        .collect()
}

fn domain_there(folder: &Path, domain: &Domain, served: &ServedDomain) -> ExistingDomain {
    let is_rsa = |algorithm: &str| algorithm.starts_with("rsa");
    let mut rsa = served
        .dkim
        .iter()
        .map(|key| is_rsa(key.key.algorithm().as_str()));
    ExistingDomain {
        users: served
            .users
            .values()
            .map(|user| user.mailbox.local_part().to_owned())
            .collect(),
        aliases: served.aliases.keys().cloned().collect(),
        selectors: served
            .dkim
            .iter()
            .map(|key| key.selector.to_string())
            .collect(),
        has_rsa: rsa.clone().any(|is_rsa| is_rsa),
        has_ed25519: rsa.any(|is_rsa| !is_rsa),
        catch_all: served.catch_all.as_ref().map(|_| catch_all(folder, domain)),
    }
}

/// The target of the catch-all, as the file has it.
fn catch_all(folder: &Path, domain: &Domain) -> String {
    let path = folder.join("domains").join(domain.as_str()).join("aliases");
    let text = fs::read_to_string(path).unwrap_or_default();
    let all = entries(without_mark(&text)).into_iter();
    let mut rest = all.filter(|(name, _)| name == "*" || name.starts_with("*@"));
    rest.next()
        .map_or_else(String::new, |(_, to)| to.join(", "))
}

/// Whether the folder is a repository with a commit; one without a commit was begun by a run that was interrupted.
fn is_repository(folder: &Path) -> bool {
    let git = folder.join(".git");
    match fs::read_dir(git.join("refs/heads")) {
        Ok(mut heads) => heads.next().is_some() || git.join("packed-refs").exists(),
        Err(_) => git.exists(),
    }
}
