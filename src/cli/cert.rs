//! `chopar cert`: obtains certificates from a CA by ACME, and lists the ones that are served.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use argh::FromArgs;
use serde::Serialize;

use super::control::reload_if_running;
use super::failure::Failure;
use super::output::say;
use super::sysexits::{
    CANNOT_CREATE, CONFIGURATION, DATA, IO_ERROR, NO_INPUT, TRY_AGAIN, UNAVAILABLE, USAGE,
};
use crate::acme::schedule::{RenewalPlan, RenewalStep};
use crate::acme::wire::Url;
use crate::acme::{AcmeError, ChallengeKind, Name};
use crate::config::{Config, Renewal};
use crate::date::Timestamp;
use crate::limits::ACME_NAMES_MAX;
use crate::policy::published::names;
use crate::setup::acme::hooks;
use crate::setup::acme::managed::Managed;
use crate::setup::acme::obtain::{Failed, KeyReuse, Means, Obtained, issuer};
use crate::setup::acme::record::HookRunner;
use crate::setup::acme::renewal::lifetime;
use crate::setup::acme::store::{Locked, Ordered, Store};
use crate::setup::acme::wanted::Wanted;
use crate::shell::certificates::certificate::CertificateSummary;
use crate::shell::certificates::last_good;
use crate::shell::certificates::pairs::{self, OBTAINED, PairPlaces};
use crate::shell::certificates::roots::authorities;
use crate::shell::helper::dns_hook;
use crate::shell::net::passed::ChallengeSockets;
use crate::shell::process::privilege::as_service;
use crate::shell::process::time::{SystemEntropy, wall};
use crate::shell::tls::{Read, Tls};

/// Obtain, renew and list certificates.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "cert")]
pub struct Cert {
    #[argh(subcommand)]
    command: Action,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Action {
    Obtain(Obtain),
    Renew(Renew),
    List(List),
    Revoke(Revoke),
    Hook(Hook),
}

/// Obtain a certificate from a CA (default: Let's Encrypt); the daemon renews it.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "obtain")]
struct Obtain {
    /// the names in the certificate (default: acme.names, otherwise the host name)
    #[argh(positional)]
    names: Vec<String>,
    /// how to prove the names: http-01, tls-alpn-01 or dns-01 (default: acme.challenge)
    #[argh(option, from_str_fn(challenge))]
    challenge: Option<ChallengeKind>,
    /// the URL of the CA's directory (default: acme.directory)
    #[argh(option, from_str_fn(directory))]
    directory: Option<Url>,
    /// create a new key; a TLSA record of the old key must be changed
    #[argh(switch)]
    new_key: bool,
    /// agree to the CA's terms of service
    #[argh(switch)]
    agree: bool,
}

/// Renew the certificates that are due.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "renew")]
struct Renew {
    /// the first name of the certificate (default: all)
    #[argh(positional)]
    name: Option<String>,
    /// renew it even if it is not due
    #[argh(switch)]
    force: bool,
}

/// List certificates: names, expiry, issuer, and the names for which each is served.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Revoke a certificate that chopar obtained, and remove it with its key.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "revoke")]
struct Revoke {
    /// the first name of the certificate
    #[argh(positional)]
    name: String,
    /// the reason: unspecified, key-compromise, superseded or cessation (default: unspecified)
    #[argh(option, from_str_fn(reason), default = "0")]
    reason: u8,
}

/// Print an example of hooks/dns-01.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "hook")]
struct Hook {
    /// acme-sh or nsupdate
    #[argh(positional)]
    name: String,
}

fn challenge(word: &str) -> Result<ChallengeKind, String> {
    ChallengeKind::of_word(word).ok_or_else(|| "expected http-01, tls-alpn-01 or dns-01".to_owned())
}

fn directory(text: &str) -> Result<Url, String> {
    Url::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// The codes of RFC 5280 section 5.3.1 that RFC 8555 servers take from a certificate's owner.
fn reason(word: &str) -> Result<u8, String> {
    let found = REASONS.iter().find(|(known, _)| *known == word);
    found
        .map(|(_, code)| *code)
        .ok_or_else(|| "expected unspecified, key-compromise, superseded or cessation".to_owned())
}

pub(super) const REASONS: [(&str, u8); 4] = [
    ("unspecified", 0),
    ("key-compromise", 1),
    ("superseded", 4),
    ("cessation", 5),
];

impl Cert {
    /// Does it with the configuration in `folder`.
    pub fn run(
        &self,
        folder: &Path,
        config: impl FnOnce() -> Result<Config, Failure>,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        match &self.command {
            Action::Obtain(obtain) => obtain.run(folder, &config()?),
            Action::Renew(renew) => renew.run(folder, &config()?),
            Action::List(list) => list.run(folder, &config()?, output),
            Action::Revoke(revoke) => revoke.run(folder, &config()?),
            Action::Hook(hook) => hook.run(output),
        }
    }
}

/// Obtains the certificate that the configuration wants, for a caller that has agreed to the CA's terms of service:
/// `chopar init`. Reports its steps on standard error.
pub fn obtain_configured(folder: &Path, config: &Config) -> Result<(), Failure> {
    let obtain = Obtain {
        names: Vec::new(),
        challenge: None,
        directory: None,
        new_key: false,
        agree: true,
    };
    obtain.run(folder, config)
}

impl Obtain {
    fn run(&self, folder: &Path, config: &Config) -> Result<(), Failure> {
        let names = self.names(config)?;
        let wanted = Wanted::new(
            Ordered {
                names,
                kind: self.challenge,
                directory: self.directory.clone(),
                agreed: self.agree || config.acme.renewal == Renewal::All,
            },
            &config.acme,
        );
        let wanted = wanted.ok_or_else(|| Failure::new(USAGE, "name a name"))?;
        let key = if self.new_key {
            KeyReuse::New
        } else {
            KeyReuse::Kept
        };
        let obtained = work(folder, config, |means, store| {
            let lock = lock(store)?;
            let result = means.obtain(&wanted, key, store);
            drop(lock);
            result.map_err(|failed| failure(&failed))
        })?;
        tell_obtained(&obtained, &wanted);
        let unlisted: Vec<String> = (wanted.names.iter())
            .filter(|name| !dns_hook::is_configured(&name.challenge_record(), config))
            .map(ToString::to_string)
            .collect();
        if wanted.kind == ChallengeKind::Dns01 && !unlisted.is_empty() {
            say(format_args!(
                "the daemon has hooks/dns-01 run for acme.names, the hostname and the served domains alone: it cannot renew \
                 this one before {} is in acme.names",
                unlisted.join(", ")
            ));
        }
        if config.acme.renewal == Renewal::Off {
            say("acme.enabled is false: only `chopar cert renew` renews it");
        }
        say(reload_if_running(&config.runtime_dir)?);
        Ok(())
    }

    fn names(&self, config: &Config) -> Result<Vec<Name>, Failure> {
        if self.names.is_empty() {
            let names = config.acme.names(&config.hostname);
            return match names.is_empty() {
                true => Err(Failure::new(
                    USAGE,
                    format!(
                        "no CA issues for the hostname {}; name another name",
                        config.hostname
                    ),
                )),
                false => Ok(names),
            };
        }
        let mut names: Vec<Name> = Vec::new();
        for text in &self.names {
            let name = parse_name(text)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > ACME_NAMES_MAX {
            let text = format!("a certificate has at most {ACME_NAMES_MAX} names; obtain several");
            return Err(Failure::new(USAGE, text));
        }
        Ok(names)
    }
}

impl Renew {
    fn run(&self, folder: &Path, config: &Config) -> Result<(), Failure> {
        let only = self.name.as_deref().map(parse_name).transpose()?;
        let renewed = work(folder, config, |means, store| {
            let _lock = lock(store)?;
            // The caller wants it, even if the daemon is configured not to.
            let mut acme = config.acme.clone();
            if acme.renewal == Renewal::Off {
                acme.renewal = Renewal::Obtained;
            }
            let managed = Managed::read_with(config, &acme, store);
            let managed = managed.map_err(|error| Failure::new(IO_ERROR, error))?;
            let is_asked = |name: &Name| only.as_ref().is_none_or(|only| only == name);
            let all: Vec<&Wanted> = managed
                .wanted
                .iter()
                .filter(|one| is_asked(&one.name))
                .collect();
            if managed.left_out.iter().any(is_asked)
                && let Some(shortage) = managed.shortage()
            {
                say(shortage);
            }
            if all.is_empty() {
                let text = match &only {
                    Some(name) => {
                        format!("chopar has not obtained {name}; `chopar cert obtain {name}` does")
                    }
                    None => "no certificate was obtained here; `chopar cert obtain` does that"
                        .to_owned(),
                };
                return Err(Failure::new(NO_INPUT, text));
            }
            let mut renewed = false;
            for one in all {
                if let (Some(there), false) = (managed.summary(one), self.force)
                    && let Some(due) = not_due(means, one, there)
                {
                    say(format_args!(
                        "{}: valid until {}, to be renewed at {}; --force renews it now",
                        one.name,
                        there.to.rfc3339(),
                        due.rfc3339()
                    ));
                    continue;
                }
                let obtained = means
                    .obtain(one, KeyReuse::Kept, store)
                    .map_err(|failed| failure(&failed))?;
                tell_obtained(&obtained, one);
                renewed = true;
            }
            Ok(renewed)
        })?;
        if renewed {
            say(reload_if_running(&config.runtime_dir)?);
        }
        Ok(())
    }
}

/// When it is due, if that is not now.
fn not_due(means: &Means<'_>, wanted: &Wanted, there: &CertificateSummary) -> Option<Timestamp> {
    let (now, entropy) = (wall(), &mut SystemEntropy::default());
    let mut plan = RenewalPlan::new(Some(lifetime(there)), now, entropy);
    match means.window(&wanted.directory, there) {
        Ok(Some((info, again))) => plan.on_window(info, again, now, entropy),
        // The certificate's own lifetime decides, too.
        Ok(None) | Err(_) => plan.on_no_window(),
    }
    match plan.step(now) {
        RenewalStep::Obtain => None,
        RenewalStep::AskWindow | RenewalStep::Wait(_) => Some(plan.due()),
    }
}

impl Revoke {
    fn run(&self, folder: &Path, config: &Config) -> Result<(), Failure> {
        let name = parse_name(&self.name)?;
        let done = work(folder, config, |means, store| {
            let _lock = lock(store)?;
            let kept = store.one(&name);
            let kept = kept.map_err(|error| Failure::new(IO_ERROR, error))?;
            let kept = kept.ok_or_else(|| {
                let text = format!(
                    "chopar has not obtained {name}; `chopar cert list` lists its certificates"
                );
                Failure::new(NO_INPUT, text)
            })?;
            let removed = || -> Result<(), Failure> {
                store
                    .remove(&name)
                    .map_err(|error| Failure::new(IO_ERROR, error))?;
                let folder = format!("{OBTAINED}{}", name.folder());
                last_good::forget(&config.state_dir, &folder)
                    .map_err(|error| Failure::new(IO_ERROR, error))
            };
            if kept.is_bare {
                removed()?;
                return Ok(
                    "there was no certificate to revoke; the rest of an interrupted order is removed",
                );
            }
            let summary = kept.summary.map_err(|error| Failure::new(DATA, error))?;
            let key = store.key(&name);
            let key = key.map_err(|error| Failure::new(DATA, error))?;
            let key =
                key.ok_or_else(|| Failure::new(DATA, format!("the key of {name} cannot be read")))?;
            let ordered = kept.order.and_then(|order| order.directory);
            let directory = ordered.unwrap_or_else(|| config.acme.directory.clone());
            means
                .revoke(&directory, &summary, &key, self.reason)
                .map_err(|failed| failure(&failed))?;
            removed()?;
            Ok("revoked, and removed with its key")
        })?;
        say(format_args!("{name}: {done}"));
        say(reload_if_running(&config.runtime_dir)?);
        Ok(())
    }
}

impl Hook {
    fn run(&self, output: &mut dyn Write) -> Result<(), Failure> {
        let found = hooks::EXAMPLES.iter().find(|(name, _)| *name == self.name);
        let Some((_, text)) = found else {
            let text = format!("no example {:?}; choose acme-sh or nsupdate", self.name);
            return Err(Failure::new(USAGE, text));
        };
        write_all(output, text)
    }
}

/// A certificate in a list.
#[derive(Serialize)]
struct Row {
    folder: String,
    names: Vec<String>,
    obtained: bool,
    until: Option<String>,
    days_left: Option<u64>,
    issuer: Option<String>,
    /// The names for which clients are shown this one.
    served_for: Vec<String>,
    error: Option<String>,
}

impl List {
    fn run(&self, folder: &Path, config: &Config, output: &mut dyn Write) -> Result<(), Failure> {
        let places = PairPlaces {
            config: folder,
            state: &config.state_dir,
        };
        let found = pairs::read(places);
        let (now, authorities) = (wall(), authorities(config, folder));
        let read = Read {
            found: &found,
            authorities: &authorities,
            names: &names(config),
        };
        let tls = Tls::start(read, &last_good::LastGood::default(), &config.hostname, now)
            .map_err(|error| Failure::new(CONFIGURATION, error))?;
        let rows: Vec<Row> = found
            .iter()
            .map(|found| {
                let summary = match (&found.pair, &found.error) {
                    (_, Some(error)) => Err(error.to_string()),
                    (Some(pair), None) => {
                        CertificateSummary::of(pair).map_err(|fault| fault.to_string())
                    }
                    (None, None) => Err("it cannot be read".to_owned()),
                };
                row(&found.name, summary, &tls, now)
            })
            .collect();
        if self.json {
            let json = serde_json::to_string_pretty(&rows)
                .map_err(|error| Failure::new(IO_ERROR, error))?;
            return write_all(output, &format!("{json}\n"));
        }
        let text: String = rows.iter().map(Row::text).collect();
        match text.is_empty() {
            true => write_all(
                output,
                "no certificate: clients are shown a self-signed one; `chopar cert obtain` obtains one\n",
            ),
            false => write_all(output, &text),
        }
    }
}

fn row(name: &str, summary: Result<CertificateSummary, String>, tls: &Tls, now: Timestamp) -> Row {
    let obtained = name.starts_with(OBTAINED);
    let folder = pairs::shown(name);
    match summary {
        Ok(summary) => {
            let served: BTreeSet<&str> = summary
                .names
                .iter()
                .map(|one| &**one)
                .filter(|one| tls.shown_for(&one.replacen('*', "x", 1), now) == Some(name))
                .collect();
            Row {
                folder,
                names: summary.names.iter().map(ToString::to_string).collect(),
                obtained,
                until: Some(summary.to.rfc3339().to_string()),
                days_left: Some(summary.to.since(now).as_secs() / 86_400),
                issuer: summary.issuer.map(String::from),
                served_for: served.into_iter().map(str::to_owned).collect(),
                error: None,
            }
        }
        Err(error) => Row {
            folder,
            names: Vec::new(),
            obtained,
            until: None,
            days_left: None,
            issuer: None,
            served_for: Vec::new(),
            error: Some(error),
        },
    }
}

impl Row {
    fn text(&self) -> String {
        if let Some(error) = &self.error {
            return format!("{}\n  cannot be served: {error}\n", self.folder);
        }
        let days = self.days_left.unwrap_or_default();
        let until = self.until.as_deref().unwrap_or_default();
        let issuer = self.issuer.as_deref().unwrap_or("an issuer without a name");
        let served = match self.served_for.len() {
            0 => "in reserve: another one is served for its names".to_owned(),
            len if len == self.names.len() => "served".to_owned(),
            _ => format!("served for {}", self.served_for.join(", ")),
        };
        format!(
            "{}\n  names   {}\n  until   {until} ({days} days left)\n  issuer  {issuer:?}\n  {served}\n",
            self.folder,
            self.names.join(", ")
        )
    }
}

/// Does it as the daemon would: with its account and its rights.
fn work<T: Send>(
    folder: &Path,
    config: &Config,
    work: impl FnOnce(&Means<'_>, &Store) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let done = as_service(config, || {
        let sockets = ChallengeSockets::default();
        let means = Means {
            config,
            folder,
            hook: HookRunner::Here(folder),
            sockets: &sockets,
            say: &|text| say(text),
        };
        work(&means, &Store::new(&config.state_dir))
    });
    done.map_err(|error| Failure::new(CANNOT_CREATE, error))?
}

fn lock(store: &Store) -> Result<crate::setup::acme::store::Lock, Failure> {
    store.lock().map_err(|locked| match locked {
        Locked::Busy => Failure::new(
            TRY_AGAIN,
            "the daemon or another command is obtaining a certificate; try again in a minute",
        ),
        Locked::Failed(text) => Failure::new(CANNOT_CREATE, text),
    })
}

fn failure(failed: &Failed) -> Failure {
    let code = match failed.acme() {
        Some(AcmeError::RateLimited { .. } | AcmeError::TooSlow { .. } | AcmeError::Nonces) => {
            TRY_AGAIN
        }
        Some(AcmeError::Unreachable { .. } | AcmeError::Server { .. }) => UNAVAILABLE,
        Some(error) if error.is_lasting() => CONFIGURATION,
        _ => UNAVAILABLE,
    };
    Failure::new(code, failed)
}

fn tell_obtained(obtained: &Obtained, wanted: &Wanted) {
    let summary = &obtained.summary;
    say(format_args!(
        "obtained a certificate for {} until {}",
        summary.names.join(", "),
        summary.to.rfc3339()
    ));
    if !obtained.standing.is_trusted {
        say(format_args!(
            "its issuer, {}, chains to no root of this system or of acme.ca_file: clients that verify reject it. It is \
             shown where no other pair for its names is one that they verify, and renewed at {}; `chopar cert obtain` for the \
             same names at another CA replaces it, and where clients trust this one, name its root in acme.ca_file",
            issuer(summary),
            wanted.directory.as_str()
        ));
    }
}

fn parse_name(text: &str) -> Result<Name, Failure> {
    Name::parse(text).ok_or_else(|| {
        let text = format!("{text:?} is not a name that a CA issues certificates for; write one like mail.example.com or '*.example.com'");
        Failure::new(USAGE, text)
    })
}

fn write_all(output: &mut dyn Write, text: &str) -> Result<(), Failure> {
    (output.write_all(text.as_bytes()))
        .map_err(|error| Failure::new(IO_ERROR, format!("cannot write: {error}")))
}
