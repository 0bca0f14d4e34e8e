//! TLS as the relay uses it (RFC 8446, RFC 5246; RFC 3207, RFC 8314), through rustls with ring.
//!
//! Server: there are no session tickets and no session store, so an idle session holds little memory and nothing is
//! remembered of it. Of ALPN only `smtp` is accepted (RFC 7301, against ALPACA). Of the certificates for the name of
//! the SNI, the server presents the one that serves the client best
//! ([`Fitness`](crate::shell::certificates::certificate::Fitness)). Invariant: a pair is replaced only by a pair of the
//! same name that works, that clients accept no less ([`Standing`](crate::shell::certificates::certificate::Standing)),
//! and that has all wanted names of the old one (`replacement`). A pair that cannot be read, does not match, is
//! truncated or is gone changes only the log ([`Tls::take`] is the one place), even across restarts ([`last_good`]).
//! Client: opportunistic TLS continues with a certificate that cannot be verified, and reports that; the signature of
//! the handshake is always checked.
//!
//! Not supported: client certificates, 0-RTT, resumption.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};

use zeroize::Zeroizing;

pub use self::finding::{
    CERTIFICATE_EXPIRY_DAYS, CertificateCause, CertificateFinding, ServedInstead,
};
use self::replacement::wanted;
use self::self_signed::self_signed;
use crate::address::Domain;
use crate::date::Timestamp;
use crate::engine::event::{CertificateTrust, TlsSession, TlsSide};
use crate::engine::status::CertificateLeft;
use crate::limits::SELF_SIGNED_RENEWAL;
use crate::shell::certificates::certificate::{ServableCertificate, public_key};
use crate::shell::certificates::last_good::{self, LastGood};
use crate::shell::certificates::pairs::{FoundPair, OBTAINED, PairFiles, shown};
use crate::shell::certificates::roots::{root_store, root_store_with};
use crate::shell::process::time::wall;

/// The certificates that can be served.
#[derive(Clone, Copy, Default)]
pub struct Read<'a> {
    pub found: &'a [FoundPair],
    /// Roots in PEM, besides those of the system
    /// ([`roots::authorities`](crate::shell::certificates::roots::authorities)).
    pub authorities: &'a [u8],
    /// Names beside the hostname that certificates are wanted for ([`names`](crate::policy::published::names)).
    pub names: &'a [Domain],
}

impl<'a, T: AsRef<[FoundPair]> + ?Sized> From<&'a T> for Read<'a> {
    fn from(found: &'a T) -> Self {
        Self {
            found: found.as_ref(),
            ..Self::default()
        }
    }
}

/// The data for handshakes.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    /// The last good pair of each name.
    served: Vec<Served>,
    /// The hostname, and the other names that certificates are wanted for.
    wanted: Vec<Domain>,
    /// The certificate that is presented while there is no other.
    made: Option<Made>,
    /// The errors of the pairs when they were last read.
    found: Vec<(Box<str>, CertificateCause)>,
    server: Arc<ServerConfig>,
    https: Arc<ServerConfig>,
    client: OnceCell<Clients>,
}

/// A pair that is served.
struct Served {
    name: Box<str>,
    certificate: Arc<ServableCertificate>,
    /// The files hold another one by now, which clients would refuse sooner than this, or for a name that it lacks.
    is_replaced: bool,
    bare_key: Option<PathBuf>,
    /// The issuer, if neither the file nor the known roots have its certificate.
    missing_issuer: Option<String>,
    /// The key and the chain to store, if the account could read them itself.
    pem: Option<Zeroizing<Vec<u8>>>,
}

/// A pair that works.
struct Fresh<'a> {
    name: &'a str,
    pair: &'a PairFiles,
    certificate: ServableCertificate,
    /// The account has read it, and not root for it: no other is kept, for that would give the account the key.
    is_own: bool,
}

/// A self-signed certificate.
struct Made {
    certificate: Arc<ServableCertificate>,
    pem: Zeroizing<Vec<u8>>,
}

impl Made {
    /// Whether it is still the one that would be made.
    fn is_for(&self, hostname: &Domain, now: Timestamp) -> bool {
        let validity = self.certificate.validity;
        self.certificate.has_name(hostname.as_str())
            && validity.is_some_and(|validity| {
                validity.from <= now && now.after(SELF_SIGNED_RENEWAL) < validity.to
            })
    }
}

/// rustls refused the settings; the text gives the reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TLS cannot be set up: {}", self.0)
    }
}

impl std::error::Error for TlsError {}

/// How a pair is handled whose folder is no longer under `tls/`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gone {
    /// It stays.
    Kept,
    /// It is dropped if another is served, because the operator has asked for a reload. One that chopar has obtained is
    /// always dropped: only `chopar cert revoke` removes its folder.
    Dropped,
}

struct Clients {
    roots: Arc<WebPkiServerVerifier>,
    any: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
}

impl Tls {
    /// TLS with the pairs that were found, and nothing kept from before.
    pub fn new(found: &[FoundPair], hostname: &Domain) -> Result<Self, TlsError> {
        Self::start(found, &LastGood::default(), hostname, wall())
    }

    /// TLS with the pairs that were found, and in place of those that do not work with the ones that an earlier run has
    /// stored.
    pub fn start<'a>(
        read: impl Into<Read<'a>>,
        kept: &LastGood,
        hostname: &Domain,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let none = Arc::new(Certificates::default());
        let server = server_config(Arc::clone(&none), &provider, SMTP)?;
        let https = server_config(none, &provider, HTTP)?;
        let mut tls = Self {
            provider,
            served: Vec::new(),
            wanted: Vec::new(),
            made: None,
            found: Vec::new(),
            server,
            https,
            client: OnceCell::new(),
        };
        let read = read.into();
        tls.wanted = wanted(hostname, read.names);
        // Without a pair there is nothing to verify, and reading the roots takes a while.
        if !kept.pairs.is_empty() {
            let roots = root_store_with(read.authorities).0;
            for (name, pair) in &kept.pairs {
                if let Ok(certificate) = ServableCertificate::judge(pair, &tls.provider)
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
            let certificate = ServableCertificate::judge(pair, &tls.provider).ok()?;
            Some(Made::new(pair, certificate))
        });
        // A restart has the same effect as a reload.
        tls.take(read, hostname, Gone::Dropped, now)?;
        Ok(tls)
    }

    /// Serves the found pairs that work, from the next handshake on; those that do not work change nothing.
    pub(super) fn take<'a>(
        &mut self,
        read: impl Into<Read<'a>>,
        hostname: &Domain,
        gone: Gone,
        now: Timestamp,
    ) -> Result<(), TlsError> {
        let Read {
            found,
            authorities,
            names,
        } = read.into();
        self.wanted = wanted(hostname, names);
        let is_any = found.iter().any(|found| found.pair.is_some());
        let roots = match is_any {
            true => root_store_with(authorities).0,
            false => RootCertStore::empty(),
        };
        self.found.clear();
        for FoundPair { name, pair, error } in found {
            let judged = pair
                .as_ref()
                .map(|pair| (pair, ServableCertificate::judge(pair, &self.provider)));
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
                // A file that the account cannot read must be corrected first.
                Some((_, Err(fault))) if error.is_none() => {
                    self.found
                        .push((name.clone(), CertificateCause::Unusable(fault)));
                }
                Some((_, Err(_))) | None => {}
            }
            let error = error.clone();
            self.found
                .extend(error.map(|error| (name.clone(), CertificateCause::Files(error))));
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
        let missing = missing.map(|served| (served.name.clone(), CertificateCause::Gone));
        self.found.extend(missing);
        self.serve(hostname, now)
    }

    /// Puts a working pair in the place of the one of the same name. If it is not a proper replacement, the old pair
    /// stays beside it: handshakes choose between the two, so the new one is presented as soon as it is better.
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
        self.replace(
            Served {
                name: name.into(),
                certificate: Arc::new(certificate),
                is_replaced: false,
                bare_key: pair.bare_key.clone(),
                missing_issuer,
                pem,
            },
            now,
        );
    }

    /// Serves the pairs; if there is none, a self-signed certificate, the same as long as it is valid.
    fn serve(&mut self, hostname: &Domain, now: Timestamp) -> Result<(), TlsError> {
        // Of those of one folder the better one first: that is the one to store.
        let mut all = mem::take(&mut self.served);
        all.sort_by_key(|served| (served.name.clone(), Reverse(self.worth(served, now))));
        self.served = all;
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
        let certificates = Arc::new(Certificates {
            all: certificates,
            hostname: Some(hostname.clone()),
        });
        self.https = server_config(Arc::clone(&certificates), &self.provider, HTTP)?;
        self.server = server_config(certificates, &self.provider, SMTP)?;
        Ok(())
    }

    /// Whether a new self-signed certificate is needed, because the current one ends soon.
    pub(super) fn is_due(&self, hostname: &Domain, now: Timestamp) -> bool {
        let made = self.made.as_ref().filter(|_| self.is_self_signed());
        made.is_some_and(|made| !made.is_for(hostname, now))
    }

    /// The key and the certificate that were made here, in PEM.
    pub(super) fn made(&self) -> Option<&[u8]> {
        self.made.as_ref().map(|made| made.pem.as_slice())
    }

    /// The pairs that are served and that the account could read: the folder under `tls/`, and the key and the chain in
    /// PEM; of each folder the best.
    pub(super) fn last_good(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut last = None;
        let served = self.served.iter();
        served
            .filter_map(|served| Some((&*served.name, served.pem.as_ref()?.as_slice())))
            .filter(move |(name, _)| last.replace(*name) != Some(*name))
    }

    /// Stores the served certificates for the next start.
    pub(super) fn keep(&self, state_dir: &Path) -> io::Result<()> {
        last_good::keep(state_dir, self.made(), self.last_good())
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

    /// Whether the only certificate is the self-signed one.
    pub fn is_self_signed(&self) -> bool {
        self.served.is_empty()
    }

    /// The served certificates, and their expiry.
    pub(super) fn left(&self) -> Vec<CertificateLeft> {
        let left = |name: &str, certificate: &ServableCertificate, self_signed| {
            let until = certificate.validity?.to.seconds();
            let name = name.to_owned();
            Some(CertificateLeft {
                name,
                self_signed,
                until,
            })
        };
        let made = self.made.as_ref().filter(|_| self.is_self_signed());
        let made = made.and_then(|made| {
            let names = made.certificate.names.first();
            left(names.map_or("", |name| name), &made.certificate, true)
        });
        let mut all: Vec<CertificateLeft> = (self.served.iter())
            .filter_map(|served| left(&served.name, &served.certificate, false))
            .chain(made)
            .collect();
        // Of those of one folder the better one, which comes first: a metric may have one value per name.
        all.dedup_by(|one, before| one.name == before.name);
        all
    }

    /// How many pairs are served.
    pub fn served(&self) -> usize {
        let served = self.served.iter();
        served.filter(|served| !served.is_replaced).count()
    }

    /// SHA-256 of the public key that is presented to a client of port 25 for this name at this time, as in a TLSA
    /// record (RFC 7672 section 3.1.1); `None` while the certificate is the self-signed one.
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

    /// Our end of a connection; the error gives the reason.
    pub(super) fn connection(&self, side: &TlsSide) -> Result<Connection, String> {
        match side {
            TlsSide::Server => ServerConnection::new(Arc::clone(&self.server))
                .map(Connection::Server)
                .map_err(|error| error.to_string()),
            TlsSide::HttpsServer => ServerConnection::new(Arc::clone(&self.https))
                .map(Connection::Server)
                .map_err(|error| error.to_string()),
            TlsSide::Client { name, trust } => {
                let clients = self.clients()?;
                let config = match trust {
                    CertificateTrust::Any => &clients.any,
                    CertificateTrust::Verified => &clients.verified,
                };
                let name = match (server_name(name), trust) {
                    (Some(name), _) => name,
                    // An underscore in a name is no reason to send in clear; there is just nothing to verify.
                    (None, CertificateTrust::Any) => ServerName::from(NO_NAME),
                    (None, CertificateTrust::Verified) => {
                        return Err(format!("{name} cannot be verified"));
                    }
                };
                ClientConnection::new(Arc::clone(config), name)
                    .map(Connection::Client)
                    .map_err(|error| error.to_string())
            }
        }
    }

    /// The parameters that a complete handshake has negotiated.
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
            // rustls calls it TLS13_AES_128_GCM_SHA256, IANA TLS_AES_128_GCM_SHA256.
            cipher: match cipher.strip_prefix("TLS13_") {
                Some(rest) => format!("TLS_{rest}"),
                None => cipher.to_owned(),
            },
            verified: match side {
                TlsSide::Server | TlsSide::HttpsServer => false,
                TlsSide::Client {
                    trust: CertificateTrust::Verified,
                    ..
                } => true,
                TlsSide::Client {
                    name,
                    trust: CertificateTrust::Any,
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

/// TLS for an HTTPS client, which trusts the system's roots and those in the PEM `more`. `None` if `more` has none.
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
    certificates: Arc<Certificates>,
    provider: &Arc<CryptoProvider>,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![protocol.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The server's certificates. Clients that ask for none of their names get one of the hostname's.
#[derive(Debug, Default)]
struct Certificates {
    all: Vec<Arc<ServableCertificate>>,
    hostname: Option<Domain>,
}

impl Certificates {
    /// The fittest of those for the name; of equals the first.
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
    certificates: impl DoubleEndedIterator<Item = &'a Arc<ServableCertificate>>,
    schemes: &[SignatureScheme],
    now: Timestamp,
) -> Option<&'a Arc<ServableCertificate>> {
    let from_last = certificates.rev();
    from_last.max_by_key(|certificate| certificate.fitness(schemes, now))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes(), wall())
    }
}

impl Made {
    fn new(pair: &PairFiles, certificate: ServableCertificate) -> Self {
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

/// Protocols by their names in ALPN.
const SMTP: &[u8] = b"smtp";
const HTTP: &[u8] = b"http/1.1";
/// With an address rustls sends no SNI.
const NO_NAME: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

mod finding;
mod replacement;
#[cfg(test)]
mod replacement_tests;
mod self_signed;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;
