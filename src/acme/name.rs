//! Names of certificates: a domain, or a wildcard for everything one label below it.

use std::fmt;

use crate::address::Domain;

/// A DNS identifier (RFC 8555 section 7.1.3).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name {
    domain: Domain,
    is_wildcard: bool,
}

impl Name {
    /// Parses `mail.example.com` or `*.example.com`.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, is_wildcard) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let domain = Domain::parse(text).ok()?;
        // No authority issues for a single label or an underscore (CA/Browser Forum Baseline Requirements 7.1.2.7.12).
        let is_public = domain.as_str().contains('.') && !domain.as_str().contains('_');
        (is_public && !domain.is_literal()).then_some(Self {
            domain,
            is_wildcard,
        })
    }

    /// The domain without `*.`, which the server authorizes.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether it begins with `*.`.
    pub fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    /// The name of its folder, without `*`, which is inconvenient in a shell.
    pub fn folder(&self) -> String {
        let front = if self.is_wildcard { "_." } else { "" };
        format!("{front}{}", self.domain)
    }

    /// The name that a folder is for.
    pub fn of_folder(folder: &str) -> Option<Self> {
        match folder.strip_prefix("_.") {
            Some(rest) => Self::parse(&format!("*.{rest}")),
            None => Self::parse(folder).filter(|name| !name.is_wildcard),
        }
    }

    /// The name of the DNS-01 record (RFC 8555 section 8.4).
    pub fn challenge_record(&self) -> String {
        challenge_record(self.domain.as_str())
    }
}

/// The name of the DNS-01 record that proves control of a domain.
pub fn challenge_record(domain: &str) -> String {
    format!("{CHALLENGE_LABEL}.{domain}")
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let front = if self.is_wildcard { "*." } else { "" };
        write!(out, "{front}{}", self.domain)
    }
}

const CHALLENGE_LABEL: &str = "_acme-challenge";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_folder_lead_to_each_other() {
        for text in ["mail.example.com", "*.example.com"] {
            let name = Name::parse(text).expect("a name");
            assert_eq!(name.to_string(), text);
            assert_eq!(Name::of_folder(&name.folder()), Some(name));
        }
        let name = Name::parse("*.Example.com").expect("a name");
        assert_eq!(name.challenge_record(), "_acme-challenge.example.com");
        assert_eq!(name.folder(), "_.example.com");
    }

    #[test]
    fn what_no_authority_issues_for_is_no_name() {
        for text in [
            "localhost",
            "[192.0.2.1]",
            "a_b.example.com",
            "",
            "*.",
            "*.*.a.b",
            "../x.y",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        assert_eq!(Name::of_folder("*.example.com"), None);
    }
}
