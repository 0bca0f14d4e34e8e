//! TLS as the relay speaks it (RFC 8446, RFC 5246; RFC 3207, RFC 8314), through rustls with ring.
//!
//! Server: no session tickets and no session store, so that an idle session holds little and nothing is remembered
//! of it; of ALPN only `smtp` is taken (RFC 7301, against ALPACA); the certificate is the one that has the name of
//! the SNI. Client: opportunistic TLS goes on with a certificate that cannot be verified, and says so; the signature
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
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};

use crate::address::Domain;
use crate::config::CertificateFiles;
use crate::engine::event::{TlsSession, TlsSide, Trust};

/// What handshakes need.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    server: Arc<ServerConfig>,
    client: OnceCell<Clients>,
}

/// Why TLS could not be set up with what is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TlsError {
    /// The certificate cannot be used; the text says why.
    Certificate {
        /// The folder under `tls/`.
        name: Box<str>,
        /// What is wrong with it.
        cause: String,
    },
    /// rustls refused; the text says why.
    Setup(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { name, cause } => {
                write!(out, "tls/{name}: the certificate cannot be used: {cause}")
            }
            Self::Setup(cause) => write!(out, "TLS cannot be set up: {cause}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// Where the server's certificates come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// From the folder.
    Folder,
    /// There was none that could be used, and one was made.
    SelfSigned,
}

struct Clients {
    roots: Arc<WebPkiServerVerifier>,
    any: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
}

impl Tls {
    /// TLS with these certificates; the errors are of those that cannot be used.
    pub(super) fn new(
        files: &[CertificateFiles],
        hostname: &Domain,
    ) -> Result<(Self, Origin, Vec<TlsError>), TlsError> {
        let provider = Arc::new(ring::default_provider());
        let (certificates, origin, errors) = Certificates::new(files, hostname, &provider)?;
        let server = server_config(certificates, &provider)?;
        let client = OnceCell::new();
        Ok((
            Self {
                provider,
                server,
                client,
            },
            origin,
            errors,
        ))
    }

    /// Other certificates, from the next handshake on.
    pub(super) fn replace(
        &mut self,
        files: &[CertificateFiles],
        hostname: &Domain,
    ) -> Result<(Origin, Vec<TlsError>), TlsError> {
        let (certificates, origin, errors) = Certificates::new(files, hostname, &self.provider)?;
        self.server = server_config(certificates, &self.provider)?;
        Ok((origin, errors))
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
        .map_err(|error| TlsError::Setup(error.to_string()))?
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
    fn new(
        files: &[CertificateFiles],
        hostname: &Domain,
        provider: &CryptoProvider,
    ) -> Result<(Self, Origin, Vec<TlsError>), TlsError> {
        let mut found = Vec::new();
        let mut errors = Vec::new();
        for files in files {
            match certified(files, provider) {
                Ok(certificate) => found.push(Arc::new(certificate)),
                Err(cause) => errors.push(TlsError::Certificate {
                    name: files.name.clone(),
                    cause,
                }),
            }
        }
        let origin = if found.is_empty() {
            Origin::SelfSigned
        } else {
            Origin::Folder
        };
        if found.is_empty() {
            let made = self_signed(hostname, provider).map_err(TlsError::Setup)?;
            found.push(Arc::new(made));
        }
        found.sort_by_key(|certificate| !has_name(certificate, hostname.as_str()));
        Ok((Self(found), origin, errors))
    }

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

fn has_name(certificate: &CertifiedKey, name: &str) -> bool {
    let parsed = certificate.cert.first().map(ParsedCertificate::try_from);
    let (Some(Ok(parsed)), Ok(name)) = (parsed, ServerName::try_from(name)) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

fn certified(files: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&files.chain)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("fullchain.pem: {error}"))?;
    if chain.is_empty() {
        return Err("fullchain.pem holds no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&files.key)
        .map_err(|error| format!("privkey.pem: {error}"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| error.to_string())
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

const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// With an address rustls sends no SNI.
const NO_NAME: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests;
