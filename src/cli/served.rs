//! Domain names as commands accept them, and the served domains.

use std::fs;
use std::path::Path;

use super::failure::Failure;
use super::sysexits::{DATA, NO_INPUT, USAGE};
use crate::address::Domain;

/// The domain of an argument.
pub fn parse_domain(text: &str) -> Result<Domain, Failure> {
    match Domain::parse(text) {
        Ok(domain) if !domain.is_literal() => Ok(domain),
        _ => Err(Failure::new(
            USAGE,
            format!(
                "{} is not a domain name",
                crate::escape::Escaped(text.as_bytes())
            ),
        )),
    }
}

/// The domains that are served, in order.
pub fn served(folder: &Path) -> Result<Vec<String>, Failure> {
    let path = folder.join("domains");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::of_file(NO_INPUT, &path, &error)),
    };
    let mut domains: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    domains.sort();
    Ok(domains)
}

/// The domains of a command: the given one, which must be served, otherwise all served ones, of which there must be at
/// least one.
pub fn meant(folder: &Path, named: Option<&str>) -> Result<Vec<Domain>, Failure> {
    let domains = match named {
        Some(domain) => {
            let domain = parse_domain(domain)?;
            if !folder.join("domains").join(domain.as_str()).is_dir() {
                let text =
                    format!("{domain} is not served; `chopar domain add {domain}` serves it");
                return Err(Failure::new(USAGE, text));
            }
            vec![domain]
        }
        None => served(folder)?
            .iter()
            .filter_map(|name| Domain::parse(name).ok())
            .collect(),
    };
    match domains.is_empty() {
        true => Err(Failure::new(
            DATA,
            "no domain is served yet: `chopar domain add example.com` begins one",
        )),
        false => Ok(domains),
    }
}
