//! TLS as the relay speaks it (RFC 8446, RFC 5246; RFC 3207, RFC 8314), through rustls with ring.
//!
//! Server: no session tickets and no session store, so that an idle session holds little and nothing is remembered
//! of it; of ALPN only `smtp` is taken (RFC 7301, against ALPACA); of the certificates that have the name of the SNI it is
//! the one that serves the client best ([`Fitness`](super::certificate::Fitness)). Invariant: a pair is replaced only by a
//! pair of the same name that works, and that clients take no less ([`Standing`](super::certificate::Standing)); one that
//! cannot be read, does not match, is cut short or gone changes nothing but what is logged ([`Tls::take`] is the one
//! place), across restarts too ([`last_good`]). Client: opportunistic TLS goes on
//! with a certificate that cannot be verified, and says so; the signature of the handshake is checked either way.
//!
//! Not supported: client certificates, 0-RTT, resumption.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};

use zeroize::Zeroizing;

use super::certificate::{Certificate, Fault, public_key};
use super::certificate_files::{Found, OBTAINED, Pair, PairError, shown};
use super::last_good::{self, Kept};
use super::roots::{root_store, root_store_with};
use super::time::wall;
use crate::address::Domain;
use crate::date::Timestamp;
use crate::engine::event::{TlsSession, TlsSide, Trust};
use crate::limits::{SELF_SIGNED_LIFETIME, SELF_SIGNED_RENEWAL};
use crate::policy::advice::Severity;

/// What there is to serve.
#[derive(Clone, Copy, Default)]
pub struct Read<'a> {
    /// The pairs that were found.
    pub found: &'a [Found],
    /// Roots in PEM that are known here beside those of the system ([`roots::authorities`](super::roots::authorities)).
    pub authorities: &'a [u8],
}

impl<'a, T: AsRef<[Found]> + ?Sized> From<&'a T> for Read<'a> {
    fn from(found: &'a T) -> Self {
        Self {
            found: found.as_ref(),
            ..Self::default()
        }
    }
}

/// What handshakes need.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    /// The last good pair of each name.
    served: Vec<Served>,
    /// What is shown while there is none.
    made: Option<Made>,
    /// What was wrong with the pairs when they were read last.
    found: Vec<(Box<str>, Cause)>,
    server: Arc<ServerConfig>,
    client: OnceCell<Clients>,
}

/// A pair that is served.
struct Served {
    name: Box<str>,
    certificate: Arc<Certificate>,
    /// The files hold another one by now, which clients would refuse sooner than this.
    is_replaced: bool,
    bare_key: Option<PathBuf>,
    /// Who has issued it, where neither the file nor the known roots have that.
    missing_issuer: Option<String>,
    /// The key and the chain to keep, where the account could read them itself.
    pem: Option<Zeroizing<Vec<u8>>>,
}

/// A pair that works.
struct Fresh<'a> {
    name: &'a str,
    pair: &'a Pair,
    certificate: Certificate,
    /// The account has read it, and not root for it: no other is kept, for that would give the account the key.
    is_own: bool,
}

/// A self-signed certificate.
struct Made {
    certificate: Arc<Certificate>,
    pem: Zeroizing<Vec<u8>>,
}

impl Made {
    /// Whether it still is what would be made.
    fn is_for(&self, hostname: &Domain, now: Timestamp) -> bool {
        let validity = self.certificate.validity;
        self.certificate.has_name(hostname.as_str())
            && validity.is_some_and(|validity| {
                validity.from <= now && now.after(SELF_SIGNED_RENEWAL) < validity.to
            })
    }
}

/// rustls refused to be set up; the text says why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TLS cannot be set up: {}", self.0)
    }
}

impl std::error::Error for TlsError {}

/// What becomes of a pair whose folder is no longer under `tls/`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gone {
    /// It stays.
    Kept,
    /// It goes, where another is served: the operator has asked for a reload. One that chopar has obtained goes in any case:
    /// nobody but `chopar cert revoke` removes its folder.
    Dropped,
}

/// Something about a certificate that an operator should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The folder under `tls/`; empty where it is about all of them.
    pub name: Box<str>,
    /// What it is.
    pub cause: Cause,
    /// What clients are shown meanwhile.
    pub shown: Shown,
}

/// What it is about a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The files cannot be read.
    Files(PairError),
    /// They cannot be served.
    Unusable(Fault),
    /// The folder is gone.
    Gone,
    /// It ends within this many days.
    Expires {
        /// When it ends.
        to: Timestamp,
        /// Days, one of [`CERTIFICATE_EXPIRY_DAYS`].
        days: u64,
    },
    /// It has ended.
    Expired {
        /// When.
        to: Timestamp,
    },
    /// No root that is known stands behind it, and one that was read before stands better.
    Untrusted,
    /// It has not begun.
    NotYet {
        /// When it begins.
        from: Timestamp,
    },
    /// No certificate is for the hostname.
    Hostname(Domain),
    /// Everybody may read the key.
    BareKey(PathBuf),
    /// The chain is not in order.
    OutOfOrder,
    /// The file does not have the issuer of the certificate.
    NoIssuer {
        /// The issuer.
        issuer: String,
    },
    /// It has ended, and another pair is served in its stead.
    Superseded {
        /// When it ended.
        to: Timestamp,
        /// The folder of the other.
        by: Box<str>,
    },
}

/// What clients are shown meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// The pair of that name which was read last.
    LastGood,
    /// The other pairs.
    Others,
    /// One that chopar has made.
    SelfSigned,
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match &self.cause {
            Cause::Files(PairError::Nothing(_)) => Severity::Advice,
            Cause::Files(_) | Cause::Unusable(_) => Severity::Fault,
            _ => Severity::Advice,
        }
    }

    /// What to do about it, where that is not part of the sentence: a command may be longer than a line of the log takes.
    pub(super) fn cure(&self) -> Option<&str> {
        match &self.cause {
            Cause::Files(PairError::Denied(_, cure)) => Some(cure),
            _ => None,
        }
    }

    /// Whether it is said again each day.
    pub(super) fn is_pressing(&self) -> bool {
        match &self.cause {
            Cause::Files(PairError::Nothing(_)) => false,
            Cause::Files(_)
            | Cause::Unusable(_)
            | Cause::Gone
            | Cause::Untrusted
            | Cause::Expired { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = shown(&self.name);
        match &self.cause {
            Cause::Files(error) => {
                write!(out, "{error}; {}", self.shown)?;
                match self.cure() {
                    Some(cure) => write!(out, "; {cure}"),
                    None => Ok(()),
                }
            }
            Cause::Unusable(fault) => write!(out, "{name}/{fault}; {}", self.shown),
            Cause::Gone => write!(
                out,
                "{name}: the folder is gone; put it back, or run chopar reload to have its certificate dropped where \
                 there is another (where there is none, empty tls-last-good in state_dir and restart chopar); {}",
                self.shown
            ),
            Cause::Expires { to, days } => write!(
                out,
                "{name}/fullchain.pem: the certificate ends at {}, in less than {days} {}; see to its renewal",
                to.rfc3339(),
                if *days == 1 { "day" } else { "days" }
            ),
            Cause::Expired { to } => write!(
                out,
                "{name}/fullchain.pem: the certificate ended at {}, and clients that verify it refuse it; renew it",
                to.rfc3339()
            ),
            Cause::Untrusted => write!(
                out,
                "{name}/fullchain.pem: no root of this system and none of acme.ca_file stands behind the certificate; {} as \
                 long as it is valid; if clients trust this one, name its root in acme.ca_file",
                self.shown
            ),
            Cause::NotYet { from } => write!(
                out,
                "{name}/fullchain.pem: the certificate begins at {}; see to the clock, or wait",
                from.rfc3339()
            ),
            Cause::Hostname(hostname) => write!(
                out,
                "tls: no certificate is for {hostname}, and clients that verify it refuse the one that they get; obtain one \
                 for that name, or correct hostname"
            ),
            Cause::BareKey(path) => write!(
                out,
                "{}: everybody on this machine may read the private key; run chmod o-r {0}",
                path.display()
            ),
            Cause::OutOfOrder => write!(
                out,
                "{name}/fullchain.pem: the certificate of the server should come first and each issuer behind what it has \
                 issued; it is served in that order"
            ),
            Cause::NoIssuer { issuer } => write!(
                out,
                "{name}/fullchain.pem: the file does not hold the certificate of {issuer}, which has issued that of the \
                 server: clients that do not have it either refuse the connection; write the whole chain there (certbot: \
                 fullchain.pem, not cert.pem; acme.sh: --fullchain-file, not --cert-file; lego: NAME.crt with its issuer)"
            ),
            Cause::Superseded { to, by } => write!(
                out,
                "{name}/fullchain.pem: the certificate ended at {}, and clients are shown that of {}; remove the \
                 folder if it is not renewed any more",
                to.rfc3339(),
                shown(by)
            ),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::LastGood => "the pair that was read before stays in force",
            Self::Others => "clients that ask for its names are shown another certificate",
            Self::SelfSigned => "clients are shown a self-signed certificate",
        })
    }
}

struct Clients {
    roots: Arc<WebPkiServerVerifier>,
    any: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
}

impl Tls {
    /// TLS with the pairs that were found, and nothing kept from before.
    pub fn new(found: &[Found], hostname: &Domain) -> Result<Self, TlsError> {
        Self::start(found, &Kept::default(), hostname, wall())
    }

    /// TLS with the pairs that were found, and in the place of those that do not work with what an earlier run has kept.
    pub fn start<'a>(
        read: impl Into<Read<'a>>,
        kept: &Kept,
        hostname: &Domain,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let server = server_config(Certificates::default(), &provider)?;
        let mut tls = Self {
            provider,
            served: Vec::new(),
            made: None,
            found: Vec::new(),
            server,
            client: OnceCell::new(),
        };
        let read = read.into();
        // Without a pair there is nothing to verify, and reading the roots takes a while.
        if !kept.pairs.is_empty() {
            let roots = root_store_with(read.authorities).0;
            for (name, pair) in &kept.pairs {
                if let Ok(certificate) = Certificate::judge(pair, &tls.provider)
                    && certificate
                        .validity
                        .is_some_and(|validity| now < validity.to)
                {
                    let fresh = Fresh {
                        name,
                        pair,
                        certificate,
                        is_own: true,
                    };
                    tls.serve_pair(fresh, &roots, now);
                }
            }
        }
        tls.made = kept.made.as_ref().and_then(|pair| {
            let certificate = Certificate::judge(pair, &tls.provider).ok()?;
            Some(Made::new(pair, certificate))
        });
        // A restart goes as far as a reload.
        tls.take(read, hostname, Gone::Dropped, now)?;
        Ok(tls)
    }

    /// Takes what works of the pairs that were found, from the next handshake on; what does not work changes nothing.
    pub(super) fn take<'a>(
        &mut self,
        read: impl Into<Read<'a>>,
        hostname: &Domain,
        gone: Gone,
        now: Timestamp,
    ) -> Result<(), TlsError> {
        let Read { found, authorities } = read.into();
        let is_any = found.iter().any(|found| found.pair.is_some());
        let roots = match is_any {
            true => root_store_with(authorities).0,
            false => RootCertStore::empty(),
        };
        self.found.clear();
        for Found { name, pair, error } in found {
            let judged = pair
                .as_ref()
                .map(|pair| (pair, Certificate::judge(pair, &self.provider)));
            match judged {
                Some((pair, Ok(certificate))) => {
                    let fresh = Fresh {
                        name,
                        pair,
                        certificate,
                        is_own: error.is_none(),
                    };
                    self.serve_pair(fresh, &roots, now);
                }
                // What the account cannot read is what has to be mended first.
                Some((_, Err(fault))) if error.is_none() => {
                    self.found.push((name.clone(), Cause::Unusable(fault)));
                }
                Some((_, Err(_))) | None => {}
            }
            let error = error.clone();
            self.found
                .extend(error.map(|error| (name.clone(), Cause::Files(error))));
        }
        let is_there = |served: &Served| {
            found
                .iter()
                .any(|found| found.name == served.name || found.name.is_empty())
        };
        if gone == Gone::Dropped {
            let is_another = self.served.iter().any(is_there);
            let is_obtained = |served: &Served| served.name.starts_with(OBTAINED);
            self.served
                .retain(|served| is_there(served) || !(is_another || is_obtained(served)));
        }
        let missing = self.served.iter().filter(|served| !is_there(served));
        let missing = missing.map(|served| (served.name.clone(), Cause::Gone));
        self.found.extend(missing);
        self.serve(hostname, now)
    }

    /// Puts a pair that works in the place of the one of the same name. One that clients would sooner take is kept beside it:
    /// handshakes choose between the two, so that the new one is shown as soon as it is the better one.
    fn serve_pair(&mut self, fresh: Fresh<'_>, roots: &RootCertStore, now: Timestamp) {
        let Fresh {
            name,
            pair,
            mut certificate,
            is_own,
        } = fresh;
        certificate.verify(roots, &self.provider, now);
        let pem = is_own.then(|| last_good::pem_of(pair, &certificate.certified.cert));
        let missing_issuer = certificate
            .missing_issuer
            .as_ref()
            .filter(|issuer| !(roots.roots.iter()).any(|root| *root.subject == *issuer.name));
        let missing_issuer = missing_issuer.map(|issuer| match &issuer.common_name {
            Some(name) => format!("{name:?}"),
            None => "its issuer".to_owned(),
        });
        let standing = certificate.standing(now);
        self.served.retain(|served| {
            *served.name != *name || !standing.may_replace(served.certificate.standing(now))
        });
        let before = self.served.iter_mut();
        for replaced in before.filter(|served| *served.name == *name) {
            replaced.is_replaced = true;
        }
        self.served.push(Served {
            name: name.into(),
            certificate: Arc::new(certificate),
            is_replaced: false,
            bare_key: pair.bare_key.clone(),
            missing_issuer,
            pem,
        });
    }

    /// Serves the pairs; a certificate that is made here where there is none, and as long as it lasts the same.
    fn serve(&mut self, hostname: &Domain, now: Timestamp) -> Result<(), TlsError> {
        // Of those of one folder the better one first: that is the one to keep.
        self.served.sort_by_key(|served| {
            let standing = served.certificate.standing(now);
            (served.name.clone(), Reverse(standing))
        });
        let served = self.served.iter();
        let mut certificates: Vec<_> = served
            .map(|served| Arc::clone(&served.certificate))
            .collect();
        if certificates.is_empty() {
            let known = self.made.take();
            let made = match known.filter(|made| made.is_for(hostname, now)) {
                Some(made) => made,
                None => self_signed(hostname, now, &self.provider).map_err(TlsError)?,
            };
            certificates.push(Arc::clone(&made.certificate));
            self.made = Some(made);
        }
        let certificates = Certificates {
            all: certificates,
            hostname: Some(hostname.clone()),
        };
        self.server = server_config(certificates, &self.provider)?;
        Ok(())
    }

    /// Whether another certificate is to be made: the one that was made here ends soon.
    pub(super) fn is_due(&self, hostname: &Domain, now: Timestamp) -> bool {
        let made = self.made.as_ref().filter(|_| self.is_self_signed());
        made.is_some_and(|made| !made.is_for(hostname, now))
    }

    /// The key and the certificate that were made here, in PEM.
    pub(super) fn made(&self) -> Option<&[u8]> {
        self.made.as_ref().map(|made| made.pem.as_slice())
    }

    /// The pairs that are served and that the account could read: the folder under `tls/`, and the key and the chain in PEM;
    /// of each folder the best.
    pub(super) fn last_good(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut last = None;
        let served = self.served.iter();
        served
            .filter_map(|served| Some((&*served.name, served.pem.as_ref()?.as_slice())))
            .filter(move |(name, _)| last.replace(*name) != Some(*name))
    }

    /// Which pair is served when, for names that more than one is for; in sentences.
    pub fn choices(&self, now: Timestamp) -> Vec<String> {
        let mut shared: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
        let names = self
            .served
            .iter()
            .flat_map(|served| &served.certificate.names);
        for name in names {
            let of_name = self.served.iter().filter(|served| {
                served.certificate.has_name(name) || served.certificate.names.contains(name)
            });
            let mut pairs: Vec<&str> = of_name.map(|served| &*served.name).collect();
            pairs.dedup();
            if pairs.len() > 1 {
                let names = shared.entry(pairs).or_default();
                if !names.contains(&&**name) {
                    names.push(name);
                }
            }
        }
        let sentences = shared.into_iter().filter_map(|(pairs, names)| {
            let mut of_names: Vec<&Served> = self
                .served
                .iter()
                .filter(|served| pairs.contains(&&*served.name))
                .collect();
            let schemes = self
                .provider
                .signature_verification_algorithms
                .supported_schemes();
            of_names.sort_by_key(|served| Reverse(served.certificate.fitness(&schemes, now)));
            let first = of_names.first()?;
            let kind = first.certificate.kind();
            let mut text = format!("{}: clients are shown {first}", names.join(", "));
            let other = of_names
                .iter()
                .find(|served| served.certificate.kind() != kind);
            if let Some(other) = other {
                text = format!("{text}, and those that cannot verify {kind} {other}");
            }
            let is_shown = |served: &Served| {
                served.name == first.name || other.is_some_and(|other| served.name == other.name)
            };
            for unused in of_names.iter().filter(|served| !is_shown(served)) {
                text = format!("{text}; {unused} is in reserve");
            }
            Some(text)
        });
        sentences.collect()
    }

    /// The pair that a client which asks for this name and can verify everything is shown.
    pub fn shown_for(&self, name: &str, now: Timestamp) -> Option<&str> {
        let provider = &self.provider.signature_verification_algorithms;
        let schemes = provider.supported_schemes();
        let of_name = self
            .served
            .iter()
            .filter(|served| served.certificate.has_name(name));
        let fitness = |served: &&Served| served.certificate.fitness(&schemes, now);
        of_name
            .rev()
            .max_by_key(fitness)
            .map(|served| &*served.name)
    }

    /// Whether the only certificate is one that was made here.
    pub fn is_self_signed(&self) -> bool {
        self.served.is_empty()
    }

    /// How many pairs are served.
    pub fn served(&self) -> usize {
        let served = self.served.iter();
        served.filter(|served| !served.is_replaced).count()
    }

    /// SHA-256 of the public key that a client on port 25 is shown for this name at this time, as a TLSA record has it
    /// (RFC 7672 section 3.1.1); nothing while that certificate is one that was made here.
    pub fn key_digest(&self, name: &Domain, now: Timestamp) -> Option<Vec<u8>> {
        let schemes = self
            .provider
            .signature_verification_algorithms
            .supported_schemes();
        let named = self.served.iter().map(|served| &served.certificate);
        let named = named.filter(|certificate| certificate.has_name(name.as_str()));
        let shown = fittest(named.collect::<Vec<_>>().into_iter(), &schemes, now)?;
        let key = public_key(shown.certified.cert.first()?)?;
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, key);
        Some(digest.as_ref().to_vec())
    }

    /// What an operator should know, at this time.
    pub fn findings(&self, hostname: &Domain, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut push = |name: &str, cause| {
            let is_served = self.served.iter().any(|served| &*served.name == name);
            let shown = match (is_served, self.is_self_signed()) {
                (true, _) => Shown::LastGood,
                (false, true) => Shown::SelfSigned,
                (false, false) => Shown::Others,
            };
            let name = name.into();
            findings.push(Finding { name, cause, shown });
        };
        for (name, cause) in &self.found {
            push(name, cause.clone());
        }
        for served in self.served.iter().filter(|served| !served.is_replaced) {
            let name = &*served.name;
            let standing = served.certificate.standing(now);
            let mut others = self.served.iter().filter(|other| other.name == served.name);
            let is_behind = others.any(|other| {
                let other = other.certificate.standing(now);
                !standing.may_replace(other) && other.is_trusted && !standing.is_trusted
            });
            if is_behind {
                push(name, Cause::Untrusted);
            }
            if let Some(cause) = expiry(&served.certificate, now) {
                push(name, self.superseded(served, now).unwrap_or(cause));
            }
            if let Some(issuer) = served.missing_issuer.clone() {
                push(name, Cause::NoIssuer { issuer });
            }
            if served.certificate.is_out_of_order {
                push(name, Cause::OutOfOrder);
            }
            if let Some(path) = &served.bare_key {
                push(name, Cause::BareKey(path.clone()));
            }
        }
        let mut certificates = self.served.iter().map(|served| &served.certificate);
        if !self.served.is_empty() && !certificates.any(|one| one.has_name(hostname.as_str())) {
            push("", Cause::Hostname(hostname.clone()));
        }
        findings
    }

    /// The pair that is served in the stead of one that has ended, for all of its names.
    fn superseded(&self, served: &Served, now: Timestamp) -> Option<Cause> {
        let to = served.certificate.validity?.to;
        let has_ended = |served: &Served| {
            let validity = served.certificate.validity;
            validity.is_some_and(|validity| validity.to <= now || validity.from > now)
        };
        let mut others = self.served.iter().filter(|other| !has_ended(other));
        let by = others.find(|other| {
            if other.name == served.name {
                return false;
            }
            let mut names = served.certificate.names.iter();
            names.all(|name| other.certificate.names.contains(name))
        })?;
        let by = by.name.clone();
        (to <= now).then_some(Cause::Superseded { to, by })
    }

    /// Our end of a connection; the text says why there is none.
    pub(super) fn connection(&self, side: &TlsSide) -> Result<Connection, String> {
        match side {
            TlsSide::Server => ServerConnection::new(Arc::clone(&self.server))
                .map(Connection::Server)
                .map_err(|error| error.to_string()),
            TlsSide::Client { name, trust } => {
                let clients = self.clients()?;
                let config = match trust {
                    Trust::Any => &clients.any,
                    Trust::Verified => &clients.verified,
                };
                let name = match (server_name(name), trust) {
                    (Some(name), _) => name,
                    // An underscore in a name is no reason to send in clear; there is just nothing to verify.
                    (None, Trust::Any) => ServerName::from(NO_NAME),
                    (None, Trust::Verified) => return Err(format!("{name} cannot be verified")),
                };
                ClientConnection::new(Arc::clone(config), name)
                    .map(Connection::Client)
                    .map_err(|error| error.to_string())
            }
        }
    }

    /// What a handshake that is done agreed on.
    pub(super) fn session(&self, connection: &Connection, side: &TlsSide) -> TlsSession {
        let cipher = connection
            .negotiated_cipher_suite()
            .map(|suite| suite.suite());
        let cipher = cipher.and_then(|suite| suite.as_str()).unwrap_or("unknown");
        TlsSession {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            // rustls says TLS13_AES_128_GCM_SHA256 where IANA says TLS_AES_128_GCM_SHA256.
            cipher: match cipher.strip_prefix("TLS13_") {
                Some(rest) => format!("TLS_{rest}"),
                None => cipher.to_owned(),
            },
            verified: match side {
                TlsSide::Server => false,
                TlsSide::Client {
                    trust: Trust::Verified,
                    ..
                } => true,
                TlsSide::Client {
                    name,
                    trust: Trust::Any,
                } => self.verifies(connection.peer_certificates(), name),
            },
        }
    }

    fn verifies(&self, chain: Option<&[CertificateDer<'_>]>, name: &Domain) -> bool {
        let Some(([end, rest @ ..], name)) = chain.zip(server_name(name)) else {
            return false;
        };
        self.clients().is_ok_and(|clients| {
            clients
                .roots
                .verify_server_cert(end, rest, &name, &[], UnixTime::now())
                .is_ok()
        })
    }

    /// Roots are read once, when they are first needed: a relay that only takes mail does without.
    fn clients(&self) -> Result<&Clients, String> {
        if self.client.get().is_none() {
            let clients = Clients::new(&self.provider)?;
            drop(self.client.set(clients));
        }
        self.client.get().ok_or_else(String::new)
    }
}

impl Clients {
    fn new(provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let roots = WebPkiServerVerifier::builder_with_provider(
            Arc::new(root_store()),
            Arc::clone(provider),
        );
        let roots = roots.build().map_err(|error| error.to_string())?;
        let unverified = Unverified(provider.signature_verification_algorithms);
        Ok(Self {
            any: client_config(Arc::new(unverified), provider)?,
            verified: client_config(roots.clone(), provider)?,
            roots,
        })
    }
}

fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // A resumed session would not show its certificate.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// For a client of HTTPS, which trusts the system's roots and those in `more`, in PEM. Gives none where `more` has none.
pub fn https_client(more: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
    let (roots, added) = root_store_with(more.unwrap_or_default());
    if more.is_some() && added == 0 {
        return Err("there is no certificate in it that could be trusted".to_owned());
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub(super) fn server_name(name: &Domain) -> Option<ServerName<'static>> {
    let text = name.as_str();
    let literal = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let text = literal.map_or(text, |literal| literal.trim_start_matches("IPv6:"));
    ServerName::try_from(text.to_owned()).ok()
}

fn server_config(
    certificates: Certificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"smtp".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The server's certificates. Clients that ask for none of their names get one of the hostname's.
#[derive(Debug, Default)]
struct Certificates {
    all: Vec<Arc<Certificate>>,
    hostname: Option<Domain>,
}

impl Certificates {
    /// The fittest of those that are for the name; of equals the first.
    fn choose(
        &self,
        asked: Option<&str>,
        schemes: &[SignatureScheme],
        now: Timestamp,
    ) -> Option<Arc<CertifiedKey>> {
        let hostname = self.hostname.as_ref().map(Domain::as_str);
        let names = [asked, hostname];
        let named = names.into_iter().flatten().find_map(|name| {
            let of_name = self.all.iter().filter(|one| one.has_name(name));
            fittest(of_name, schemes, now)
        });
        let chosen = named.or_else(|| fittest(self.all.iter(), schemes, now))?;
        Some(Arc::clone(&chosen.certified))
    }
}

fn fittest<'a>(
    certificates: impl DoubleEndedIterator<Item = &'a Arc<Certificate>>,
    schemes: &[SignatureScheme],
    now: Timestamp,
) -> Option<&'a Arc<Certificate>> {
    let from_last = certificates.rev();
    from_last.max_by_key(|certificate| certificate.fitness(schemes, now))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes(), wall())
    }
}

impl Made {
    fn new(pair: &Pair, certificate: Certificate) -> Self {
        let pem = last_good::pem_of(pair, &certificate.certified.cert);
        Self {
            certificate: Arc::new(certificate),
            pem,
        }
    }
}

impl fmt::Display for Served {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}", shown(&self.name), self.certificate.kind())?;
        if let Some(validity) = self.certificate.validity {
            write!(out, ", until {}", validity.to.rfc3339())?;
        }
        out.write_str(")")
    }
}

/// What the time says about a certificate.
fn expiry(certificate: &Certificate, now: Timestamp) -> Option<Cause> {
    let validity = certificate.validity?;
    let (from, to) = (validity.from, validity.to);
    if now < from {
        return Some(Cause::NotYet { from });
    }
    if now >= to {
        return Some(Cause::Expired { to });
    }
    let left = to.since(now);
    let days = CERTIFICATE_EXPIRY_DAYS
        .into_iter()
        .filter(|days| left.as_secs() < days.saturating_mul(86_400))
        .min()?;
    Some(Cause::Expires { to, days })
}

/// Makes a certificate for the hostname, of the hostname.
fn self_signed(
    hostname: &Domain,
    now: Timestamp,
    provider: &CryptoProvider,
) -> Result<Made, String> {
    let made = made(hostname, now).map_err(|error| error.to_string())?;
    let (certificate, key) = made;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let pem = last_good::pem(&key, &[certificate.der().clone()]);
    let pair = Pair {
        chain: certificate.pem().into_bytes(),
        key: pem,
        bare_key: None,
    };
    let certificate = Certificate::judge(&pair, provider).map_err(|fault| fault.to_string())?;
    Ok(Made::new(&pair, certificate))
}

fn made(hostname: &Domain, now: Timestamp) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![hostname.as_str().to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    if hostname.as_str().len() <= COMMON_NAME_BYTES_MAX {
        let name = hostname.as_str();
        params.distinguished_name.push(DnType::CommonName, name);
    }
    // Clocks of clients may be late.
    let yesterday = now.seconds().saturating_sub(86_400);
    for (at, date) in [
        (Timestamp::from_seconds(yesterday), &mut params.not_before),
        (now.after(SELF_SIGNED_LIFETIME), &mut params.not_after),
    ] {
        let text = at.rfc3339().to_string();
        let mut numbers = text.split(['-', 'T']).map(|text| text.parse::<u16>().ok());
        let mut number = || numbers.next().flatten();
        if let (Some(year), Some(month), Some(day)) = (number(), number(), number())
            && let (Ok(month), Ok(day)) = (u8::try_from(month), u8::try_from(day))
        {
            *date = rcgen::date_time_ymd(i32::from(year), month, day);
        }
    }
    let certificate = params.self_signed(&key)?;
    Ok((certificate, key))
}

/// Takes every certificate, but no handshake that its key did not sign.
#[derive(Debug)]
pub(super) struct Unverified(pub(super) WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Days before the end of a certificate at which an operator is warned of it.
pub const CERTIFICATE_EXPIRY_DAYS: [u64; 3] = [20, 7, 1];
/// The longest common name (RFC 5280 appendix A.1, ub-common-name).
const COMMON_NAME_BYTES_MAX: usize = 64;
/// With an address rustls sends no SNI.
const NO_NAME: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;
