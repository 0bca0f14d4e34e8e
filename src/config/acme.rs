//! `[acme]`: how certificates are obtained and renewed.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::check::Check;
use super::folder::Folder;
use super::problem::{CertificateProblem, ConfigProblem};
use crate::acme::wire::Url;
use crate::acme::{ChallengeKind, Name};
use crate::address::{Domain, Mailbox};
use crate::limits::ACME_NAMES_MAX;

/// How certificates are obtained and renewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acme {
    /// The daemon's automatic actions.
    pub renewal: Renewal,
    /// The directory of the CA.
    pub directory: Url,
    /// The address for mail from the CA.
    pub email: Option<Mailbox>,
    /// Further roots that the CA's own server is trusted by, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How names are proven.
    pub challenge: ChallengeKind,
    /// The names of the certificate; empty: the hostname.
    names: Vec<Name>,
    /// The binding of the account to a customer of the CA.
    pub binding: Option<Binding>,
    /// Port for HTTP-01; CAs connect to port 80.
    pub http_port: u16,
    /// Port for TLS-ALPN-01; CAs connect to port 443.
    pub tls_port: u16,
    /// Port of the zones' name servers: 53, except in tests.
    pub zone_port: u16,
}

/// The daemon's automatic actions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Renewal {
    /// Renews the certificates that `chopar cert obtain` has obtained.
    #[default]
    Obtained,
    /// Also obtains missing ones: the terms of the CA are agreed to.
    All,
    Off,
}

/// The binding of an account to a customer of the CA.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The key's identifier.
    pub kid: String,
    /// The file that the MAC key is in.
    pub key_file: PathBuf,
}

impl Acme {
    /// The names of the certificate; the hostname if none is configured.
    pub fn names(&self, hostname: &Domain) -> Vec<Name> {
        match self.names.as_slice() {
            [] => Name::parse(hostname.as_str()).into_iter().collect(),
            names => names.to_vec(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AcmeText {
    enabled: Option<bool>,
    directory: Option<Spanned<String>>,
    email: Option<Spanned<String>>,
    ca_file: Option<String>,
    challenge: Option<Spanned<String>>,
    names: Vec<Spanned<String>>,
    eab_kid: Option<Spanned<String>>,
    eab_key_file: Option<Spanned<String>>,
    http_port: Option<u16>,
    tls_port: Option<u16>,
    zone_port: Option<u16>,
}

impl Check<'_> {
    pub(super) fn acme(&mut self, raw: AcmeText, folder: &Folder) -> Acme {
        let kinds = ChallengeKind::ALL.map(|kind| (kind.word(), kind));
        let challenge = self.word(raw.challenge.as_ref(), &kinds);
        let names = self.acme_names(&raw.names);
        if let Some(at) = &raw.challenge
            && challenge == ChallengeKind::Dns01
            && folder.file(HOOK).is_none()
        {
            self.problem(
                at,
                ConfigProblem::Certificate(CertificateProblem::NoDnsHook),
            );
        }
        Acme {
            renewal: match raw.enabled {
                None => Renewal::Obtained,
                Some(true) => Renewal::All,
                Some(false) => Renewal::Off,
            },
            directory: self.directory(raw.directory),
            email: raw.email.and_then(|email| self.mailbox(&email)),
            ca_file: raw.ca_file.map(PathBuf::from),
            challenge,
            names,
            binding: self.binding(raw.eab_kid, raw.eab_key_file),
            http_port: raw.http_port.unwrap_or(80),
            tls_port: raw.tls_port.unwrap_or(443),
            zone_port: raw.zone_port.unwrap_or(53),
        }
    }

    fn acme_names(&mut self, texts: &[Spanned<String>]) -> Vec<Name> {
        let mut names: Vec<Name> = Vec::new();
        for text in texts.iter().take(ACME_NAMES_MAX) {
            match Name::parse(text.get_ref()) {
                Some(name) if names.contains(&name) => {}
                Some(name) => names.push(name),
                None => {
                    let there = text.get_ref().clone();
                    self.problem(
                        text,
                        ConfigProblem::Certificate(CertificateProblem::Name { text: there }),
                    );
                }
            }
        }
        if let Some(text) = texts.get(ACME_NAMES_MAX) {
            let there = text.get_ref().clone();
            self.problem(
                text,
                ConfigProblem::Certificate(CertificateProblem::Name { text: there }),
            );
        }
        names
    }

    fn directory(&mut self, text: Option<Spanned<String>>) -> Url {
        let Some(text) = text else {
            return Url::default();
        };
        Url::try_from(text.get_ref().clone()).unwrap_or_else(|_| {
            let there = text.get_ref().clone();
            self.problem(
                &text,
                ConfigProblem::Certificate(CertificateProblem::DirectoryUrl { text: there }),
            );
            Url::default()
        })
    }

    fn binding(
        &mut self,
        kid: Option<Spanned<String>>,
        key_file: Option<Spanned<String>>,
    ) -> Option<Binding> {
        match (kid, key_file) {
            (Some(kid), Some(key_file)) => Some(Binding {
                kid: kid.into_inner(),
                key_file: key_file.into_inner().into(),
            }),
            (Some(at), None) | (None, Some(at)) => {
                self.problem(
                    &at,
                    ConfigProblem::Certificate(CertificateProblem::HalfBinding),
                );
                None
            }
            (None, None) => None,
        }
    }
}

/// The hook of DNS-01 in the configuration folder.
const HOOK: &str = "hooks/dns-01";
