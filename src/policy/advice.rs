//! Advice about a configuration that works but could be better. `chopar check` prints it, and the daemon logs it at
//! start.

use std::fmt;

use crate::acme::ChallengeKind;
use crate::address::{Domain, Mailbox};
use crate::config::{Config, Listen, MtaSts, Receive, Renewal};

use super::relay;

/// The severity of an advice. An error that prevents a start is not advice: [`Config::parse`] returns it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// A configured or required part does not work: `chopar check` reports it as an error. The daemon continues.
    Fault,
    /// It works, but the operator probably did not intend it.
    Advice,
}

/// One thing that the operator should change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advice {
    /// How bad it is.
    pub severity: Severity,
    /// The problem, its place, and the command or setting that solves it.
    pub text: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// All advice about a configuration.
pub fn advice(config: &Config) -> Vec<Advice> {
    let mut found = Vec::new();
    let warnings = config.warnings.iter();
    found.extend(warnings.map(|warning| advise(Severity::Advice, warning.to_string())));
    dead_aliases(config, &mut found);
    administrator(config, &mut found);
    postmasters(config, &mut found);
    unsigned(config, &mut found);
    unpublished(config, &mut found);
    found
}

fn advise(severity: Severity, text: String) -> Advice {
    Advice { severity, text }
}

/// Well-formed aliases that lead nowhere: their mail would be refused.
fn dead_aliases(config: &Config, found: &mut Vec<Advice>) {
    for (domain, served) in &config.domains {
        if served.receive == Receive::Elsewhere {
            continue;
        }
        for (name, alias) in &served.aliases {
            let quoted = format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
            let Ok(mailbox) = Mailbox::new(name, domain).or_else(|_| Mailbox::new(&quoted, domain))
            else {
                continue;
            };
            if let Err(refusal) = relay::expand(config, &mailbox) {
                let line = alias.line;
                let text = format!(
                    "domains/{domain}/aliases:{line}:1: mail to {mailbox} is refused: {refusal}"
                );
                found.push(advise(Severity::Advice, text));
            }
        }
    }
}

/// Without `admin`, mail for accounts without an alias is lost without a report. The same happens if `admin` leads
/// nowhere.
fn administrator(config: &Config, found: &mut Vec<Advice>) {
    let Some(admin) = &config.admin else {
        let text = "chopar.toml: admin is not set: DSNs to accounts of this host that have no alias are dropped, and \
                    nobody is notified of damage; set it to an address that someone reads";
        return found.push(advise(Severity::Advice, text.to_owned()));
    };
    if config.receiving(admin.domain()).is_some()
        && let Err(refusal) = relay::expand(config, admin)
    {
        let text = format!(
            "chopar.toml: mail to admin, {admin}, is refused: {refusal}; add an alias for it that leads to an \
             address that someone reads (chopar alias add {admin} YOU@ELSEWHERE)"
        );
        found.push(advise(Severity::Fault, text));
    }
}

/// Mail for postmaster must be accepted (RFC 5321 section 4.5.1).
fn postmasters(config: &Config, found: &mut Vec<Advice>) {
    for domain in receiving(config) {
        let Ok(postmaster) = Mailbox::new("postmaster", domain) else {
            continue;
        };
        if relay::expand(config, &postmaster).is_err() {
            let text = format!(
                "domains/{domain}: mail to {postmaster} is refused, and RFC 5321 section 4.5.1 requires that it is \
                 accepted; set admin in chopar.toml to an address that someone reads, or run chopar alias add \
                 {postmaster} YOU@ELSEWHERE"
            );
            found.push(advise(Severity::Fault, text));
        }
    }
}

/// Mail of a domain without a DKIM key is not signed, and large receivers refuse unsigned mail.
fn unsigned(config: &Config, found: &mut Vec<Advice>) {
    for (domain, served) in &config.domains {
        if served.dkim.is_empty() {
            let text = format!(
                "domains/{domain}: there is no DKIM key, and mail from {domain} is not signed; run chopar dkim keygen \
                 {domain} --selector s1, and publish what chopar dkim record {domain} prints"
            );
            found.push(advise(Severity::Advice, text));
        }
    }
}

/// An MTA-STS policy that no listener serves has no effect; neither have settings for mail programs.
fn unpublished(config: &Config, found: &mut Vec<Advice>) {
    let is_served =
        !matches!(&config.listen.https, Listen::Addresses(addresses) if addresses.is_empty());
    for (domain, served) in &config.domains {
        let keys = [
            ("mta_sts", served.mta_sts != MtaSts::Off),
            ("incoming", served.incoming.is_some()),
        ];
        for (key, is_set) in keys {
            if is_set && !is_served {
                let text = format!(
                    "chopar.toml: {key} is set for {domain}, and nothing serves it: set https = [\"0.0.0.0:443\", \"[::]:443\"] \
                     under [listen]"
                );
                found.push(advise(Severity::Advice, text));
            }
        }
    }
    let is_taken = matches!(&config.listen.https, Listen::Addresses(addresses)
        if addresses.iter().any(|address| address.port() == config.acme.tls_port));
    if is_taken
        && config.acme.challenge == ChallengeKind::TlsAlpn01
        && config.acme.renewal != Renewal::Off
    {
        let text = "chopar.toml: listen.https takes the port that acme.challenge = \"tls-alpn-01\" needs, and certificates are \
                    not renewed; set challenge = \"http-01\" under [acme]";
        found.push(advise(Severity::Fault, text.to_owned()));
    }
}

fn receiving(config: &Config) -> impl Iterator<Item = &Domain> {
    let domains = config.domains.keys();
    domains.filter(|domain| config.receiving(domain).is_some())
}
