//! Drives the ACME state machine: sends its requests, presents its challenges, and stores the certificate.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::https::{Https, resolvers, why};
use super::record::HookRunner;
use super::responder::Responder;
use super::store::Store;
use super::wanted::Wanted;
use crate::acme::jws::ExternalAccount;
use crate::acme::wire::Url;
use crate::acme::work::CertificateOrder;
use crate::acme::{
    AccountKey, AcmeAction, AcmeClient, AcmeError, AcmeOutcome, AcmeWork, ChallengeKind,
    ChallengeProof, Name,
};
use crate::config::Config;
use crate::date::Timestamp;
use crate::setup::dns_client::DnsClient;
use crate::shell::certificates::certificate::{CertificateSummary, Standing, standing};
use crate::shell::certificates::pairs::{PairFiles, read_pair};
use crate::shell::certificates::roots::authorities;
use crate::shell::net::passed::ChallengeSockets;
use crate::shell::process::time::wall;

/// The inputs of an order.
pub struct Means<'a> {
    /// The configuration.
    pub config: &'a Config,
    pub folder: &'a Path,
    /// The runner of `hooks/dns-01`.
    pub hook: HookRunner<'a>,
    /// Sockets that were passed for challenges.
    pub sockets: &'a ChallengeSockets,
    /// Receives each step as a sentence.
    pub say: &'a dyn Fn(&str),
}

/// Whether a renewal reuses the key of the certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyReuse {
    /// It does, so that TLSA records stay valid.
    Kept,
    /// It makes a new key.
    New,
}

/// Why it failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failed {
    /// The CA refused, or violated the protocol.
    Acme(AcmeError),
    /// A local failure, as a sentence.
    Here(String),
}

impl Failed {
    /// The error of the protocol.
    pub fn acme(&self) -> Option<&AcmeError> {
        match self {
            Self::Acme(error) => Some(error),
            Self::Here(_) => None,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acme(error) => write!(out, "{error}"),
            Self::Here(text) => out.write_str(text),
        }
    }
}

impl std::error::Error for Failed {}

/// A certificate that a CA has issued, with its key and chain in PEM.
#[derive(Clone, Debug)]
pub struct Obtained {
    pub summary: CertificateSummary,
    /// Its rank for clients.
    pub standing: Standing,
}

/// When a CA wants a certificate to be renewed.
pub type RenewalWindow = Option<(crate::acme::wire::RenewalInfo, std::time::Duration)>;

impl Means<'_> {
    /// Obtains a certificate and puts it where the daemon finds it. The store changes only when there is one, and only
    /// if it does not replace a better one. The caller holds the lock of the store.
    pub fn obtain(
        &self,
        wanted: &Wanted,
        key: KeyReuse,
        store: &Store,
    ) -> Result<Obtained, Failed> {
        let here = Failed::Here;
        let kept = match key {
            KeyReuse::Kept => store.key(&wanted.name).map_err(|error| {
                here(format!(
                    "{error}; put the key back, or make another with `chopar cert obtain --new-key`"
                ))
            })?,
            KeyReuse::New => None,
        };
        let pair = match kept {
            Some(pair) => pair,
            None => KeyPair::generate().map_err(|error| here(error.to_string()))?,
        };
        let before = store.one(&wanted.name).map_err(here)?;
        let before = before.and_then(|kept| kept.summary.ok());
        let order = CertificateOrder {
            names: wanted.names.clone(),
            kind: wanted.kind,
            request: request(&wanted.names, &pair).map_err(here)?,
            email: self.config.acme.email.as_ref().map(ToString::to_string),
            terms: wanted.terms,
            external: self.external().map_err(here)?,
            replaces: before.and_then(|before| before.renewal_id),
        };
        let directory = wanted.directory.as_str();
        (self.say)(&format!("asking {directory} for {}", list(&wanted.names)));
        let account = store.account_key(directory).map_err(here)?;
        let outcome = self.drive(
            &wanted.directory,
            &account,
            AcmeWork::Obtain(Box::new(order)),
        )?;
        let AcmeOutcome::Chain(chain) = outcome else {
            return Err(here("the CA sent no certificate; try again".to_owned()));
        };
        let fresh = PairFiles {
            chain,
            key: Zeroizing::new(pair.serialize_pem().into_bytes()),
            bare_key: None,
        };
        let summary = judge(wanted, &fresh).map_err(here)?;
        let standing = self
            .standing(&fresh, &store.folder(&wanted.name), &summary)
            .map_err(here)?;
        store
            .write(&wanted.name, &pair, &fresh.chain, &wanted.order)
            .map_err(here)?;
        Ok(Obtained { summary, standing })
    }

    /// The rank of a pair for clients, if it may replace the pair in its folder.
    fn standing(
        &self,
        fresh: &PairFiles,
        folder: &Path,
        summary: &CertificateSummary,
    ) -> Result<Standing, String> {
        let (now, authorities) = (wall(), authorities(self.config, self.folder));
        let of_fresh = standing(fresh, &authorities, now).map_err(|fault| fault.to_string())?;
        let before = read_pair(folder).ok();
        let before = before.and_then(|pair| standing(&pair, &authorities, now).ok());
        match before {
            Some(before) if !of_fresh.may_replace(before) => Err(weaker(of_fresh, summary)),
            Some(_) | None => Ok(of_fresh),
        }
    }

    /// Revokes a certificate by its own key.
    pub fn revoke(
        &self,
        directory: &Url,
        summary: &CertificateSummary,
        key: &KeyPair,
        reason: u8,
    ) -> Result<(), Failed> {
        let certificate = summary.der.clone();
        self.drive(
            directory,
            key,
            AcmeWork::Revoke {
                certificate,
                reason,
            },
        )
        .map(drop)
    }

    /// Asks when a certificate should be renewed; `None` if the CA does not say.
    pub fn window(
        &self,
        directory: &Url,
        summary: &CertificateSummary,
    ) -> Result<RenewalWindow, Failed> {
        let Some(certificate) = summary.renewal_id.clone() else {
            return Ok(None);
        };
        // Nothing is signed, but the machine needs a key.
        let key = KeyPair::generate().map_err(|error| Failed::Here(error.to_string()))?;
        Ok(
            match self.drive(directory, &key, AcmeWork::Ask { certificate })? {
                AcmeOutcome::Window(info, again) => Some((info, again)),
                _ => None,
            },
        )
    }

    fn drive(&self, directory: &Url, key: &KeyPair, work: AcmeWork) -> Result<AcmeOutcome, Failed> {
        let chance = SystemRandom::new();
        let der = Zeroizing::new(key.serialize_der());
        let key = AccountKey::from_pkcs8(&der, &chance).ok_or_else(|| {
            Failed::Here("the key of the account is not of P-256; remove its file".to_owned())
        })?;
        let https = Https::new(self.config, self.folder).map_err(Failed::Here)?;
        let mut responder = None;
        let (mut client, mut action) = AcmeClient::new(directory.clone(), key, work);
        loop {
            action = match action {
                AcmeAction::Send(request) => match https.ask(&request) {
                    Ok(response) => client.on_response(&response, wall(), &chance),
                    Err(text) => client.on_failure(&text),
                },
                AcmeAction::Present(challenge) => match self.present(&challenge, &mut responder) {
                    Ok(()) => client.on_presented(&chance),
                    Err(text) => client.on_not_presented(&text),
                },
                AcmeAction::Withdraw(challenge) => {
                    self.withdraw(&challenge, &mut responder);
                    client.on_withdrawn(&chance)
                }
                AcmeAction::Wait(pause) => {
                    thread::sleep(pause);
                    client.on_waited(&chance)
                }
                AcmeAction::Done(outcome) => return Ok(outcome),
                AcmeAction::Failed(error) => return Err(Failed::Acme(error)),
            };
        }
    }

    fn present(
        &self,
        challenge: &ChallengeProof,
        responder: &mut Option<Responder>,
    ) -> Result<(), String> {
        let acme = &self.config.acme;
        let (sockets, port) = match challenge.kind {
            ChallengeKind::Http01 => (&self.sockets.http, acme.http_port),
            ChallengeKind::TlsAlpn01 => (&self.sockets.tls, acme.tls_port),
            ChallengeKind::Dns01 => {
                (self.say)(&format!(
                    "{}: hooks/dns-01 adds the record, and the servers of the zone must show it",
                    challenge.domain
                ));
                let ask = || DnsClient::new(resolvers(self.config), acme.zone_port);
                return self.hook.add(challenge, &ask);
            }
        };
        (self.say)(&format!(
            "{}: the CA looks for the proof on port {port} ({})",
            challenge.domain, challenge.kind
        ));
        *responder = Some(Responder::start(challenge, sockets, port)?);
        Ok(())
    }

    fn withdraw(&self, challenge: &ChallengeProof, responder: &mut Option<Responder>) {
        *responder = None;
        if challenge.kind == ChallengeKind::Dns01
            && let Err(error) = self.hook.remove(challenge)
        {
            // A record that stays proves nothing later.
            (self.say)(&error);
        }
    }

    fn external(&self) -> Result<Option<ExternalAccount>, String> {
        let Some(binding) = &self.config.acme.binding else {
            return Ok(None);
        };
        let path = self.folder.join(&binding.key_file);
        let key = fs::read_to_string(&path).map(Zeroizing::new);
        let key = key.map_err(|error| {
            format!(
                "{}: {}; correct acme.eab_key_file",
                path.display(),
                why(&error)
            )
        })?;
        match ExternalAccount::parse(&binding.kid, &key) {
            Some(external) => Ok(Some(external)),
            None => Err(format!(
                "{}: expected the HMAC key as the CA shows it, in base64url on one line",
                path.display()
            )),
        }
    }
}

/// The signed request (RFC 2986) for these names.
fn request(names: &[Name], key: &KeyPair) -> Result<Vec<u8>, String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params
        .serialize_request(key)
        .map_err(|error| error.to_string())?;
    Ok(request.der().to_vec())
}

/// Refuses a certificate that cannot be served, so that it does not replace a working one.
fn judge(wanted: &Wanted, pair: &PairFiles) -> Result<CertificateSummary, String> {
    let summary = CertificateSummary::of(pair)
        .map_err(|fault| format!("what the CA sent cannot be served: {fault}"))?;
    if !wanted.is_met_by(&summary.names) {
        return Err(format!(
            "the CA sent a certificate for {}, not for {}; try again, and tell the CA",
            summary.names.join(", "),
            list(&wanted.names)
        ));
    }
    if summary.to <= wall() {
        let to: Timestamp = summary.to;
        return Err(format!(
            "the CA sent a certificate that ended at {}; see to the clock",
            to.rfc3339()
        ));
    }
    Ok(summary)
}

/// Why a certificate of a CA is thrown away, which is none of the CA's doing.
fn weaker(standing: Standing, summary: &CertificateSummary) -> String {
    match standing.is_valid {
        false => format!(
            "the CA sent a certificate that begins at {}, while that of before is valid: that one stays, and the new one is \
             not kept; see to the clock",
            summary.from.rfc3339()
        ),
        true => format!(
            "the CA issued a certificate (of {}), but it chains to no root of this system or of acme.ca_file, while \
             clients verify the one of before: that one stays, and the new one is not kept; if clients trust this CA, name its \
             root in acme.ca_file",
            issuer(summary)
        ),
    }
}

/// The issuer of a certificate, for a person.
pub fn issuer(summary: &CertificateSummary) -> String {
    match &summary.issuer {
        Some(name) => format!("{name:?}"),
        None => "an issuer without a name".to_owned(),
    }
}

fn list(names: &[Name]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::error::ProofError;
    use crate::setup::acme::store::Ordered;

    #[test]
    fn what_fails_leaves_what_is_there_and_makes_nothing() {
        let place = tempfile::tempdir().expect("a folder");
        let config = Config::of_files(&[("chopar.toml", "hostname = \"mail.a.test\"")]);
        let sockets = ChallengeSockets::default();
        let means = Means {
            config: &config,
            folder: place.path(),
            hook: HookRunner::Here(place.path()),
            sockets: &sockets,
            say: &|_| {},
        };
        let name = |text: &str| Name::parse(text).expect("a name");
        let order = |names: &[&str], kind| Ordered {
            names: names.iter().map(|text| name(text)).collect(),
            kind: Some(kind),
            directory: None,
            agreed: true,
        };
        // A wildcard is refused by http-01 before anybody is asked.
        let wanted = |names| Wanted::new(order(names, ChallengeKind::Http01), &config.acme);
        let store = Store::new(place.path());
        let lock = store.lock().expect("a lock");
        let fresh = wanted(&["b.test", "*.b.test"]).expect("wanted");
        let failed = means.obtain(&fresh, KeyReuse::Kept, &store);
        assert!(matches!(
            failed,
            Err(Failed::Acme(AcmeError::Name(ProofError::Wildcard { .. })))
        ));
        assert!(store.one(&name("b.test")).is_ok_and(|one| one.is_none()));

        let key = KeyPair::generate().expect("a key");
        let there = order(&["a.test"], ChallengeKind::Dns01);
        store
            .write(&name("a.test"), &key, b"chain", &there)
            .expect("written");
        let again = wanted(&["a.test", "*.a.test"]).expect("wanted");
        for key in [KeyReuse::Kept, KeyReuse::New] {
            means
                .obtain(&again, key, &store)
                .expect_err("it cannot be obtained");
        }
        let kept = store.one(&name("a.test")).expect("read").expect("there");
        assert_eq!(kept.order, Some(there));
        let same = store.key(&name("a.test")).expect("read").expect("there");
        assert_eq!(same.serialize_pem(), key.serialize_pem());

        // Another key is made where one is asked for, not where there is one that cannot be read.
        fs::write(store.folder(&name("a.test")).join("privkey.pem"), "rubbish").expect("written");
        let failed = means.obtain(&again, KeyReuse::Kept, &store);
        assert!(
            matches!(&failed, Err(Failed::Here(text)) if text.contains("--new-key")),
            "{failed:?}"
        );
        drop(lock);
    }
}
