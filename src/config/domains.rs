//! `domains/DOMAIN/`: each folder that exists is a served domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::aliases::Forms;
use super::check::FILE;
use super::error::Errors;
use super::folder::Folder;
use super::folder::keep_secret;
use super::problem::{ConfigProblem, DkimProblem, NameProblem};
use super::served::{DkimKey, ServedDomain};
use super::settings::Settings;
use super::{aliases, users};
use crate::address::Domain;
use crate::auth::dkim::key::SigningKey;
use crate::limits::DKIM_KEYS_PER_DOMAIN_MAX;

/// Reads all folders, and applies the sections of chopar.toml to them.
pub(super) fn read(
    folder: &Folder,
    settings: &Settings,
    errors: &mut Errors,
) -> BTreeMap<Domain, ServedDomain> {
    let mut served = BTreeMap::new();
    let mut names: BTreeMap<Domain, &str> = BTreeMap::new();
    for name in folder.children("domains") {
        let path = format!("domains/{name}");
        let domain = match Domain::parse(name) {
            Ok(domain) if !domain.is_literal() => domain,
            _ => {
                errors.warn(&path, ConfigProblem::Unused);
                continue;
            }
        };
        if let Some(other) = names.insert(domain.clone(), name) {
            let other = other.to_owned();
            errors.push(
                &path,
                ConfigProblem::Name(NameProblem::DomainTwice { other }),
            );
        }
        if !domain.as_str().contains('.') {
            let text = domain.to_string();
            errors.warn(
                &path,
                ConfigProblem::Name(NameProblem::DomainWithoutDot { text }),
            );
        }
        served.insert(
            domain.clone(),
            read_domain(folder, &path, &domain, settings, errors),
        );
    }
    for section in &settings.domains {
        match served.get_mut(&section.domain) {
            Some(domain) => {
                domain.receive = section.receive;
                domain.dmarc = section.dmarc;
                domain.quarantine = section.quarantine;
                domain.mta_sts = section.mta_sts;
                domain.incoming.clone_from(&section.incoming);
            }
            None => {
                let domain = section.domain.to_string();
                let problem = ConfigProblem::Name(NameProblem::DomainWithoutFolder { domain });
                errors.push_at(FILE, section.line, section.column, problem);
            }
        }
    }
    served
}

fn read_domain(
    folder: &Folder,
    path: &str,
    domain: &Domain,
    settings: &Settings,
    errors: &mut Errors,
) -> ServedDomain {
    let mut served = ServedDomain::default();
    let forms = Forms {
        names: &settings.names,
        port: settings.delivery.port,
    };
    for name in folder.files_in(path) {
        let file = format!("{path}/{name}");
        let bytes = folder.file(&file).unwrap_or_default();
        match name {
            "users" => {
                keep_secret(folder, &file, errors);
                if let Some(text) = errors.text(&file, bytes) {
                    served.users = users::read(&file, text, domain, &settings.names, errors);
                }
            }
            "aliases" => {
                if let Some(text) = errors.text(&file, bytes) {
                    (served.aliases, served.catch_all) =
                        aliases::read(&file, text, domain, &forms, errors);
                }
            }
            _ => errors.warn(&file, ConfigProblem::Unused),
        }
    }
    let dkim = format!("{path}/dkim");
    for name in folder.files_in(&dkim) {
        let file = format!("{dkim}/{name}");
        served
            .dkim
            .extend(read_key(folder, &file, name, errors).map(Arc::new));
    }
    if served.dkim.len() > DKIM_KEYS_PER_DOMAIN_MAX {
        errors.push(&dkim, ConfigProblem::Dkim(DkimProblem::Keys));
    }
    served
}

fn read_key(folder: &Folder, file: &str, name: &str, errors: &mut Errors) -> Option<DkimKey> {
    let Some(selector) = name.strip_suffix(".pem") else {
        errors.warn(file, ConfigProblem::Unused);
        return None;
    };
    if selector.len() > SELECTOR_BYTES_MAX
        || !Domain::parse(selector).is_ok_and(|name| !name.is_literal())
    {
        let text = selector.to_owned();
        errors.push(file, ConfigProblem::Dkim(DkimProblem::Selector { text }));
        return None;
    }
    keep_secret(folder, file, errors);
    let text = errors.text(file, folder.file(file)?)?;
    match SigningKey::from_pem(text) {
        Ok(key) => {
            if key.is_short() {
                errors.warn(
                    file,
                    ConfigProblem::Dkim(DkimProblem::ShortKey { bits: key.bits() }),
                );
            }
            Some(DkimKey {
                selector: selector.into(),
                key: Arc::new(key),
            })
        }
        Err(error) => {
            errors.push(file, ConfigProblem::Dkim(DkimProblem::Key(error)));
            None
        }
    }
}

/// A selector is followed by `._domainkey.` and the domain in one DNS name.
const SELECTOR_BYTES_MAX: usize = 120;
