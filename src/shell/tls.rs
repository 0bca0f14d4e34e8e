//! TLS as the relay speaks it (RFC 8446, RFC 5246; RFC 3207, RFC 8314), through rustls with ring.
//!
//! Server: no session tickets and no session store, so that an idle session holds little and nothing is remembered
//! of it; of ALPN only `smtp` is taken (RFC 7301, against ALPACA); the certificate is the one that has the name of
//! the SNI. Invariant: a pair is replaced only by a pair of the same name that works; one that cannot be read, does not
//! match, is cut short or gone changes nothing but what is logged ([`Tls::take`] is the one place). Client: opportunistic TLS goes on with a certificate that cannot be verified, and says so; the signature
//! of the handshake is checked either way.
//!
//! Not supported: client certificates, 0-RTT, resumption.

use std::cell::OnceCell;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};

use super::certificate::{Certificate, Fault, has_name};
use super::certificate_files::{Found, PairError};
use crate::address::Domain;
use crate::date::Timestamp;
use crate::engine::event::{TlsSession, TlsSide, Trust};
use crate::policy::advice::Severity;

/// What handshakes need.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    /// The last good pair of each name.
    served: Vec<Served>,
    /// What is shown while there is none.
    made: Option<Arc<CertifiedKey>>,
    /// What was wrong with the pairs when they were read last.
    found: Vec<(Box<str>, Cause)>,
    server: Arc<ServerConfig>,
    client: OnceCell<Clients>,
}

/// A pair that is served.
struct Served {
    name: Box<str>,
    certificate: Certificate,
    bare_key: Option<PathBuf>,
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
    /// It goes, where another is served: the operator has asked for a reload.
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
    /// It has not begun.
    NotYet {
        /// When it begins.
        from: Timestamp,
    },
    /// No certificate is for the hostname.
    Hostname(Domain),
    /// Everybody may read the key.
    BareKey(PathBuf),
    /// The chain begins with an issuer.
    OutOfOrder,
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
            Cause::Files(_) | Cause::Unusable(_) | Cause::Gone | Cause::Expired { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Files(error) => {
                write!(out, "{error}; {}", self.shown)?;
                match self.cure() {
                    Some(cure) => write!(out, "; {cure}"),
                    None => Ok(()),
                }
            }
            Cause::Unusable(fault) => write!(out, "tls/{}/{fault}; {}", self.name, self.shown),
            Cause::Gone => write!(
                out,
                "tls/{}: the folder is gone; put it back, or run chopar reload to have its certificate dropped where \
                 there is another; {}",
                self.name, self.shown
            ),
            Cause::Expires { to, days } => write!(
                out,
                "tls/{}/fullchain.pem: the certificate ends at {}, in less than {days} {}; see to its renewal",
                self.name,
                to.rfc3339(),
                if *days == 1 { "day" } else { "days" }
            ),
            Cause::Expired { to } => write!(
                out,
                "tls/{}/fullchain.pem: the certificate ended at {}, and clients that verify it refuse it; renew it",
                self.name,
                to.rfc3339()
            ),
            Cause::NotYet { from } => write!(
                out,
                "tls/{}/fullchain.pem: the certificate begins at {}; see to the clock, or wait",
                self.name,
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
                "tls/{}/fullchain.pem: the certificate of the server should come first and its issuers behind it; it is \
                 served in that order",
                self.name
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
    /// TLS with the pairs that were found.
    pub fn new(found: &[Found], hostname: &Domain) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let server = server_config(Certificates(Vec::new()), &provider)?;
        let mut tls = Self {
            provider,
            served: Vec::new(),
            made: None,
            found: Vec::new(),
            server,
            client: OnceCell::new(),
        };
        tls.take(found, hostname, Gone::Kept)?;
        Ok(tls)
    }

    /// Takes what works of the pairs that were found, from the next handshake on; what does not work changes nothing.
    pub(super) fn take(
        &mut self,
        found: &[Found],
        hostname: &Domain,
        gone: Gone,
    ) -> Result<(), TlsError> {
        self.found.clear();
        for Found { name, pair, error } in found {
            let judged = pair
                .as_ref()
                .map(|pair| (pair, Certificate::judge(pair, &self.provider)));
            match judged {
                Some((pair, Ok(certificate))) => {
                    self.served.retain(|served| served.name != *name);
                    self.served.push(Served {
                        name: name.clone(),
                        certificate,
                        bare_key: pair.bare_key.clone(),
                    });
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
        if gone == Gone::Dropped && self.served.iter().any(is_there) {
            self.served.retain(is_there);
        }
        let missing = self.served.iter().filter(|served| !is_there(served));
        let missing = missing.map(|served| (served.name.clone(), Cause::Gone));
        self.found.extend(missing);
        self.serve(hostname)
    }

    /// Serves the pairs, that of the hostname first; one that is made where there is none.
    fn serve(&mut self, hostname: &Domain) -> Result<(), TlsError> {
        self.served.sort_by(|one, other| one.name.cmp(&other.name));
        let served = self.served.iter();
        let mut certificates: Vec<_> = served
            .map(|served| Arc::clone(&served.certificate.certified))
            .collect();
        certificates.sort_by_key(|certificate| !has_name(certificate, hostname.as_str()));
        if certificates.is_empty() {
            let known = self.made.take();
            let known = known.filter(|made| has_name(made, hostname.as_str()));
            let made = match known {
                Some(made) => made,
                None => Arc::new(self_signed(hostname, &self.provider).map_err(TlsError)?),
            };
            self.made = Some(Arc::clone(&made));
            certificates.push(made);
        } else {
            self.made = None;
        }
        self.server = server_config(Certificates(certificates), &self.provider)?;
        Ok(())
    }

    /// Whether the only certificate is one that was made here.
    pub fn is_self_signed(&self) -> bool {
        self.made.is_some()
    }

    /// How many pairs are served.
    pub fn served(&self) -> usize {
        self.served.len()
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
        for served in &self.served {
            let name = &*served.name;
            if let Some(cause) = expiry(&served.certificate, now) {
                push(name, cause);
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

/// Where the system's roots are.
pub(super) fn bundle_path() -> PathBuf {
    std::env::var_os("SSL_CERT_FILE").map_or_else(|| SYSTEM_ROOTS.into(), PathBuf::from)
}

/// The system's roots and those of Mozilla, which are there where the system has none.
fn root_store() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Ok(bundle) = fs::read(bundle_path()) {
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
    }
    store
}

fn server_name(name: &Domain) -> Option<ServerName<'static>> {
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

/// The server's certificates; the first is for clients that ask for none of their names.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    fn choose(&self, asked: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = asked.and_then(|name| self.0.iter().find(|one| has_name(one, name)));
        named.or_else(|| self.0.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
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

fn self_signed(hostname: &Domain, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let made = rcgen::generate_simple_self_signed(vec![hostname.as_str().to_owned()])
        .map_err(|error| error.to_string())?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    CertifiedKey::from_der(vec![made.cert.der().clone()], key.into(), provider)
        .map_err(|error| error.to_string())
}

/// Takes every certificate, but no handshake that its key did not sign.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

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
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// With an address rustls sends no SNI.
const NO_NAME: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests;
