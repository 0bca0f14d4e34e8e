//! Whether a certificate and its key can be served, and what a client would have against them (RFC 5280, RFC 7468).
//!
//! A chain is put in order, each certificate before that of its issuer, and PEM blocks without a line end between them are
//! told apart.
//! Not supported: keys that ring cannot sign with, and keys behind a passphrase.

use std::fmt;
use std::sync::Arc;

use rustls::Error;
use rustls::InconsistentKeys;
use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

use self::names::Identity;
pub(in crate::shell) use self::names::Validity;
pub use self::standing::Standing;
use self::standing::leads_to_root;
use crate::acme::jws::base64url;
use crate::date::Timestamp;
use crate::shell::certificates::pairs::PairFiles;
use crate::shell::certificates::roots::root_store_with;

/// A pair that can be served.
#[derive(Clone, Debug)]
pub(in crate::shell) struct ServableCertificate {
    /// For handshakes.
    pub(in crate::shell) certified: Arc<CertifiedKey>,
    /// From when to when it is valid, where that can be read.
    pub(in crate::shell) validity: Option<Validity>,
    /// Whether its chain leads to a root that is known here, as far as [`ServableCertificate::verify`] was asked.
    is_trusted: bool,
    pub(in crate::shell) names: Vec<Box<str>>,
    /// The file has an issuer before a certificate of its.
    pub(in crate::shell) is_out_of_order: bool,
    /// Who has issued it, where the file does not have that certificate: clients that do not have it either cannot verify.
    pub(in crate::shell) missing_issuer: Option<Issuer>,
}

/// What a person, and an ACME server, know a certificate by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateSummary {
    pub names: Vec<Box<str>>,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub to: Timestamp,
    /// Who has issued it, where that has a name.
    pub issuer: Option<Box<str>>,
    /// What its CA knows it by, when it is asked when to renew (RFC 9773 section 4.1).
    pub renewal_id: Option<String>,
    /// The certificate in DER.
    pub der: Vec<u8>,
}

impl CertificateSummary {
    /// Of a pair that can be served.
    pub fn of(pair: &PairFiles) -> Result<Self, PairFault> {
        let certificate = ServableCertificate::judge(pair, &ring::default_provider())?;
        let der = certificate
            .certified
            .cert
            .first()
            .ok_or(PairFault::NoCertificate)?;
        let unread = || PairFault::Chain("the certificate cannot be read".to_owned());
        let identity = Identity::of(der).ok_or_else(unread)?;
        let validity = identity.validity.ok_or_else(unread)?;
        let serial = base64url(identity.serial);
        let authority = identity.authority_key.map(base64url);
        Ok(Self {
            from: validity.from,
            to: validity.to,
            issuer: names::common_name(identity.issuer),
            renewal_id: authority.map(|authority| format!("{authority}.{serial}")),
            der: der.to_vec(),
            names: identity.names,
        })
    }
}

/// The issuer of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::shell) struct Issuer {
    /// Its name in DER, the content of the SEQUENCE: as roots have it.
    pub(in crate::shell) name: Box<[u8]>,
    /// Its common name, where it has one.
    pub(in crate::shell) common_name: Option<Box<str>>,
}

/// How well a certificate serves a client; the greatest is served.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::shell) struct Fitness {
    /// Without a signature that the client can verify there is no session at all.
    can_be_verified: bool,
    standing: Standing,
    kind: Kind,
    to: Timestamp,
}

/// Kinds of keys, the best last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Rsa,
    Ed25519,
    Ecdsa,
}

/// Why a pair cannot be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PairFault {
    /// The chain cannot be read; with what the parser says.
    Chain(String),
    /// There is no certificate in the chain.
    NoCertificate,
    /// There is no private key in the key's file; with what the parser says.
    Key(String),
    /// The key has a passphrase.
    Encrypted,
    /// It is none of the keys that can sign here.
    Kind,
    /// The key is that of another certificate.
    Mismatch,
}

impl fmt::Display for PairFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(error) => write!(
                out,
                "fullchain.pem: {error}; is the file whole? write the certificate and its chain anew"
            ),
            Self::NoCertificate => out.write_str(
                "fullchain.pem: there is no certificate in it; write the certificate and its chain there",
            ),
            Self::Key(error) => write!(
                out,
                "privkey.pem: {error}; is the file whole? write the private key anew"
            ),
            Self::Encrypted => out.write_str(
                "privkey.pem: the key has a passphrase; take it off with openssl pkey -in OLD -out privkey.pem",
            ),
            Self::Kind => out.write_str(
                "privkey.pem: the key cannot be used; obtain a certificate for an ECDSA key on P-256 or P-384, an RSA key \
                 of 2048 to 8192 bits, or an Ed25519 key",
            ),
            Self::Mismatch => out.write_str(
                "privkey.pem is not the key of the certificate in fullchain.pem; put the two that belong together there",
            ),
        }
    }
}

impl ServableCertificate {
    /// Examines a pair.
    pub(in crate::shell) fn judge(
        pair: &PairFiles,
        provider: &CryptoProvider,
    ) -> Result<Self, PairFault> {
        let mut chain = CertificateDer::pem_slice_iter(&divided(&pair.chain))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PairFault::Chain(error.to_string()))?;
        if chain.is_empty() {
            return Err(PairFault::NoCertificate);
        }
        let key = signing_key(&pair.key, provider)?;
        let at = own(&chain, &key)?;
        // The server's certificate comes first (RFC 8446 section 4.4.2), and is shown alone where nothing else can be read.
        if let Some(front) = chain.get_mut(..=at) {
            front.rotate_right(1);
        }
        let is_moved = sort(&mut chain);
        let identities: Vec<_> = chain.iter().map(|one| Identity::of(one)).collect();
        let own = identities.first().and_then(Option::as_ref);
        let has_issuer = own.is_none_or(|own| {
            let mut others = identities.iter().flatten();
            others.any(|other| other.subject == own.issuer)
        });
        let missing_issuer = own.filter(|_| !has_issuer).map(|own| Issuer {
            name: own.issuer.into(),
            common_name: names::common_name(own.issuer),
        });
        let validity = own.and_then(|own| own.validity);
        let names = own.map(|own| own.names.clone()).unwrap_or_default();
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(chain, key)),
            validity,
            is_trusted: false,
            names,
            is_out_of_order: at > 0 || is_moved,
            missing_issuer,
        })
    }

    /// Finds out whether it leads to one of these roots.
    pub(in crate::shell) fn verify(
        &mut self,
        roots: &RootCertStore,
        provider: &CryptoProvider,
        now: Timestamp,
    ) {
        let chain = &self.certified.cert;
        self.is_trusted = leads_to_root(chain, self.validity, roots, provider, now);
    }

    /// What a client that verifies makes of it at this time.
    pub(in crate::shell) fn standing(&self, now: Timestamp) -> Standing {
        Standing::new(self.validity, self.is_trusted, now)
    }

    /// How well it serves a client that can verify these signatures, at this time.
    pub(in crate::shell) fn fitness(&self, schemes: &[SignatureScheme], now: Timestamp) -> Fitness {
        let key = &self.certified.key;
        let validity = self.validity;
        Fitness {
            can_be_verified: key.choose_scheme(schemes).is_some(),
            standing: self.standing(now),
            kind: match key.algorithm() {
                SignatureAlgorithm::ECDSA => Kind::Ecdsa,
                SignatureAlgorithm::ED25519 => Kind::Ed25519,
                _ => Kind::Rsa,
            },
            to: validity.map_or(Timestamp::default(), |validity| validity.to),
        }
    }

    /// The kind of its key, in a word.
    pub(in crate::shell) fn kind(&self) -> &'static str {
        match self.certified.key.algorithm() {
            SignatureAlgorithm::ECDSA => "ECDSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "RSA",
        }
    }

    /// Whether a client that asks for this name would take it.
    pub(in crate::shell) fn has_name(&self, name: &str) -> bool {
        let parsed = self.certified.cert.first().map(ParsedCertificate::try_from);
        let (Some(Ok(parsed)), Ok(name)) = (parsed, ServerName::try_from(name)) else {
            return false;
        };
        verify_server_name(&parsed, &name).is_ok()
    }
}

/// What a client makes of a pair that can be served, with the known roots and those in `authorities`.
pub fn standing(
    pair: &PairFiles,
    authorities: &[u8],
    now: Timestamp,
) -> Result<Standing, PairFault> {
    let provider = ring::default_provider();
    let mut certificate = ServableCertificate::judge(pair, &provider)?;
    certificate.verify(&root_store_with(authorities).0, &provider, now);
    Ok(certificate.standing(now))
}

/// What can be read of a certificate that a server has shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::shell) struct SeenCertificate {
    pub(in crate::shell) names: Vec<Box<str>>,
    /// From when to when it is valid.
    pub(in crate::shell) validity: Option<Validity>,
    /// Nobody else stands above it.
    pub(in crate::shell) is_self_issued: bool,
}

/// Reads a certificate; nothing where it cannot be read.
pub(in crate::shell) fn seen(certificate: &[u8]) -> Option<SeenCertificate> {
    let identity = Identity::of(certificate)?;
    Some(SeenCertificate {
        is_self_issued: identity.is_self_issued(),
        validity: identity.validity,
        names: identity.names,
    })
}

/// The SubjectPublicKeyInfo of a certificate (RFC 6698 section 2.1.2), whole.
pub(in crate::shell) fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    Identity::of(certificate).map(|identity| identity.public_key)
}

/// Blocks that were put together without a line end between them, each on lines of its own.
fn divided(pem: &[u8]) -> Vec<u8> {
    const GLUED: &[u8] = b"----------BEGIN ";
    let mut divided = Vec::with_capacity(pem.len());
    let mut rest = pem;
    while let Some(at) = rest.windows(GLUED.len()).position(|window| window == GLUED) {
        let (front, back) = rest.split_at(at.saturating_add(5));
        divided.extend_from_slice(front);
        divided.push(b'\n');
        rest = back;
    }
    divided.extend_from_slice(rest);
    divided
}

fn signing_key(pem: &[u8], provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, PairFault> {
    let has = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(PairFault::Encrypted);
    }
    let key =
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| PairFault::Key(error.to_string()))?;
    provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| PairFault::Kind)
}

/// Where in the chain the certificate of the key is.
fn own(chain: &[CertificateDer<'static>], key: &Arc<dyn SigningKey>) -> Result<usize, PairFault> {
    for (at, certificate) in chain.iter().enumerate() {
        match CertifiedKey::new(vec![certificate.clone()], Arc::clone(key)).keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => return Ok(at),
            Err(Error::InconsistentKeys(_)) => {}
            Err(error) => return Err(PairFault::Chain(error.to_string())),
        }
    }
    Err(PairFault::Mismatch)
}

/// Puts each certificate behind the first before it that it has issued, as far as there is one; gives whether any had to be
/// moved.
fn sort(chain: &mut [CertificateDer<'static>]) -> bool {
    let mut is_moved = false;
    for at in 1..chain.len() {
        let issuer = chain.get(at - 1).and_then(|one| Identity::of(one));
        let Some(issuer) = issuer.filter(|one| !one.is_self_issued()) else {
            break;
        };
        let rest = chain.get(at..).unwrap_or_default();
        let found = rest
            .iter()
            .position(|one| Identity::of(one).is_some_and(|other| other.subject == issuer.issuer));
        let Some(found) = found else {
            break;
        };
        if let Some(between) = chain.get_mut(at..=at.saturating_add(found)) {
            between.rotate_right(1);
        }
        is_moved |= found > 0;
    }
    is_moved
}

mod names;
mod standing;
#[cfg(test)]
mod tests;
