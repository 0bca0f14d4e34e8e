//! Whether a certificate and its key can be served, and what a client would have against them (RFC 5280, RFC 7468).
//!
//! A chain that begins with an issuer is put in order, and PEM blocks without a line end between them are told apart.
//! Not supported: keys that ring cannot sign with, and keys behind a passphrase.

use std::fmt;
use std::sync::Arc;

use rustls::Error;
use rustls::InconsistentKeys;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};

use super::certificate_files::Pair;
use crate::date::Timestamp;

/// A pair that can be served.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    /// For handshakes.
    pub(super) certified: Arc<CertifiedKey>,
    /// From when to when it is valid, where that can be read.
    pub(super) validity: Option<Validity>,
    /// The file has an issuer before the certificate.
    pub(super) is_out_of_order: bool,
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Validity {
    /// Not before.
    pub(super) from: Timestamp,
    /// Not after.
    pub(super) to: Timestamp,
}

/// Why a pair cannot be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
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

impl fmt::Display for Fault {
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

impl Certificate {
    /// Looks at a pair.
    pub(super) fn judge(pair: &Pair, provider: &CryptoProvider) -> Result<Self, Fault> {
        let mut chain = CertificateDer::pem_slice_iter(&divided(&pair.chain))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Fault::Chain(error.to_string()))?;
        if chain.is_empty() {
            return Err(Fault::NoCertificate);
        }
        let key = signing_key(&pair.key, provider)?;
        let at = own(&chain, &key)?;
        // The server's certificate comes first (RFC 8446 section 4.4.2); a whole chain upside down is turned round.
        if at.saturating_add(1) == chain.len() {
            chain.reverse();
        } else if let Some(front) = chain.get_mut(..=at) {
            front.rotate_right(1);
        }
        let validity = chain.first().and_then(|own| validity(own));
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(chain, key)),
            validity,
            is_out_of_order: at > 0,
        })
    }

    /// Whether a client that asks for this name would take it.
    pub(super) fn has_name(&self, name: &str) -> bool {
        has_name(&self.certified, name)
    }
}

/// Whether the certificate is for this name.
pub(super) fn has_name(certificate: &CertifiedKey, name: &str) -> bool {
    let parsed = certificate.cert.first().map(ParsedCertificate::try_from);
    let (Some(Ok(parsed)), Ok(name)) = (parsed, ServerName::try_from(name)) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
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

fn signing_key(pem: &[u8], provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, Fault> {
    let has = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(Fault::Encrypted);
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| Fault::Key(error.to_string()))?;
    provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| Fault::Kind)
}

/// Where in the chain the certificate of the key is.
fn own(chain: &[CertificateDer<'static>], key: &Arc<dyn SigningKey>) -> Result<usize, Fault> {
    for (at, certificate) in chain.iter().enumerate() {
        match CertifiedKey::new(vec![certificate.clone()], Arc::clone(key)).keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => return Ok(at),
            Err(Error::InconsistentKeys(_)) => {}
            Err(error) => return Err(Fault::Chain(error.to_string())),
        }
    }
    Err(Fault::Mismatch)
}

/// The validity of a certificate (RFC 5280 section 4.1).
fn validity(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, behind)) = element(rest, VERSION) {
        rest = behind;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = element(rest, tag)?;
    }
    let (times, _) = element(rest, SEQUENCE)?;
    let (from, times) = time(times)?;
    let (to, _) = time(times)?;
    Some(Validity { from, to })
}

/// The content of the DER element at the front, if it has this tag, and what is behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let number = |sum: usize, digit: &u8| sum << 8 | usize::from(*digit);
            (digits.iter().fold(0, number), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The time at the front (RFC 5280 section 4.1.2.5), and what is behind it.
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest, century) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, rest, None),
        None => {
            let (text, rest) = element(bytes, GENERALIZED_TIME)?;
            let (century, text) = text.split_at_checked(2)?;
            (text, rest, Some(number(century)?))
        }
    };
    let text = text.strip_suffix(b"Z")?;
    let mut fields = text.chunks(2).map(number);
    let mut field = || fields.next().flatten();
    let (year, month, day) = (field()?, field()?, field()?);
    let (hour, minute, second) = (field()?, field()?, field()?);
    let year = match century {
        Some(century) => century * 100 + year,
        None if year < 50 => 2000 + year,
        None => 1900 + year,
    };
    let days = days_since_1970(year, month, day)?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((
        Timestamp::from_seconds(u64::try_from(seconds).unwrap_or(0)),
        rest,
    ))
}

fn number(digits: &[u8]) -> Option<i64> {
    let [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = digits else {
        return None;
    };
    Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// Days of the Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    Some(year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_1970)
}

/// Days from 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
mod tests;
