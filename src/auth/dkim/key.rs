//! Private keys of DKIM (RFC 6376 section 3.3, RFC 8301, RFC 8463).
//!
//! A key file is PEM: PKCS#8 or PKCS#1 for RSA, PKCS#8 (version 1 as openssl writes it, or 2) for Ed25519. The type is
//! read from the content, not from the name.
//!
//! RFC 8301 section 3.2 allows RSA keys of 1,024 to 2,047 bits, but ring does not sign with them. The rsa crate signs
//! with such keys, with blinding, and the configuration warns about them.
//!
//! Not supported: encrypted keys.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::traits::PublicKeyParts as _;
use zeroize::Zeroizing;

use super::der;
use crate::digest::sha256;
use crate::limits::{
    DKIM_KEY_FILE_BYTES_MAX, DKIM_RSA_BITS_MAX, DKIM_RSA_BITS_MIN, DKIM_RSA_SIGNING_BITS_MIN,
};

/// A signing algorithm of RFC 6376 section 3.3 that is still in use (RFC 8301 retired rsa-sha1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// `rsa-sha256`.
    RsaSha256,
    /// `ed25519-sha256` (RFC 8463).
    Ed25519Sha256,
}

impl Algorithm {
    /// The value of `a=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }

    /// The value of `k=` in a key record.
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa",
            Self::Ed25519Sha256 => "ed25519",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A private key. Workers share it; it has no mutable state.
pub struct SigningKey(Pair);

enum Pair {
    Rsa(RsaKeyPair),
    /// Under [`DKIM_RSA_SIGNING_BITS_MIN`].
    ShortRsa(Box<rsa::PrivateKey>),
    Ed25519(Ed25519KeyPair),
}

/// Why a file does not contain a key that can sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyError {
    /// There is no `-----BEGIN … PRIVATE KEY-----` with its end.
    NoPem,
    /// Over [`DKIM_KEY_FILE_BYTES_MAX`].
    TooLong,
    /// The key is encrypted.
    Encrypted,
    /// The text between the markers is not base64.
    Base64,
    /// The content is not a private key of a known type.
    Structure,
    /// The key is neither RSA nor Ed25519.
    Algorithm,
    /// The RSA key is too short to sign with.
    TooShort {
        /// Bits of its modulus.
        bits: usize,
    },
    /// The RSA key is too long.
    TooLongModulus {
        /// Bits of its modulus.
        bits: usize,
    },
    /// The numbers of the key are inconsistent.
    Inconsistent,
}

impl fmt::Display for KeyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPem => out.write_str("expected a PEM file with a private key"),
            Self::TooLong => write!(
                out,
                "the file is longer than {DKIM_KEY_FILE_BYTES_MAX} bytes"
            ),
            Self::Encrypted => out.write_str("the key is encrypted; write it without a passphrase"),
            Self::Base64 => out.write_str("the PEM block is not base64"),
            Self::Structure => out.write_str("the PEM block is not a PKCS#8 or PKCS#1 private key"),
            Self::Algorithm => out.write_str("the key is neither RSA nor Ed25519"),
            Self::TooShort { bits } => write!(
                out,
                "the RSA key has {bits} bits, and verifiers take none under {DKIM_RSA_BITS_MIN}; make a new one with chopar dkim \
                 keygen"
            ),
            Self::TooLongModulus { bits } => write!(
                out,
                "the RSA key has {bits} bits; verifiers take at most {DKIM_RSA_BITS_MAX}"
            ),
            Self::Inconsistent => out.write_str("the key is damaged: its numbers do not fit"),
        }
    }
}

impl std::error::Error for KeyError {}

/// Why a signature could not be made. The message is never the cause, so a later attempt may succeed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignError {
    /// The system returned no random bytes, or the computed signature was wrong.
    Fault,
}

impl fmt::Display for SignError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the signature could not be computed")
    }
}

impl std::error::Error for SignError {}

impl SigningKey {
    /// Reads a PEM file.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        // Editors of some systems add a byte order mark.
        let pem = pem.strip_prefix('\u{feff}').unwrap_or(pem);
        let der = pem_contents(pem)?;
        let mut outer = der::Reader::new(&der);
        let mut fields = der::Reader::new(outer.read(der::SEQUENCE).ok_or(KeyError::Structure)?);
        fields.read(der::INTEGER).ok_or(KeyError::Structure)?; // version
        if fields.peek() == Some(der::INTEGER) {
            let modulus = fields.read(der::INTEGER).ok_or(KeyError::Structure)?;
            return Self::from_rsa(
                der::integer_bits(modulus),
                || RsaKeyPair::from_der(&der).ok(),
                || rsa::PrivateKey::from_pkcs1_der(&der).ok(),
            );
        }
        let algorithm = fields.read(der::SEQUENCE).ok_or(KeyError::Structure)?;
        match der::Reader::new(algorithm).read(der::OID) {
            Some(der::RSA_ENCRYPTION) => {
                let key = fields.read(OCTET_STRING).ok_or(KeyError::Structure)?;
                Self::from_rsa(
                    rsa_bits(key).ok_or(KeyError::Structure)?,
                    || RsaKeyPair::from_pkcs8(&der).ok(),
                    || rsa::PrivateKey::from_pkcs8_der(&der).ok(),
                )
            }
            Some(der::ED25519) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
                .map(|pair| Self(Pair::Ed25519(pair)))
                .map_err(|_| KeyError::Inconsistent),
            Some(_) => Err(KeyError::Algorithm),
            None => Err(KeyError::Structure),
        }
    }

    fn from_rsa(
        bits: usize,
        pair: impl FnOnce() -> Option<RsaKeyPair>,
        short: impl FnOnce() -> Option<rsa::PrivateKey>,
    ) -> Result<Self, KeyError> {
        let pair = match bits {
            ..DKIM_RSA_BITS_MIN => return Err(KeyError::TooShort { bits }),
            DKIM_RSA_BITS_MIN..DKIM_RSA_SIGNING_BITS_MIN => {
                let short = short().filter(|key| key.validate().is_ok());
                short.map(|key| Pair::ShortRsa(Box::new(key)))
            }
            DKIM_RSA_SIGNING_BITS_MIN..=DKIM_RSA_BITS_MAX => pair().map(Pair::Rsa),
            _ => return Err(KeyError::TooLongModulus { bits }),
        };
        pair.map(Self).ok_or(KeyError::Inconsistent)
    }

    /// Whether this is an RSA key shorter than RFC 8301 section 3.2 recommends.
    pub const fn is_short(&self) -> bool {
        matches!(self.0, Pair::ShortRsa(_))
    }

    /// The algorithm of the key.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Pair::Rsa(_) | Pair::ShortRsa(_) => Algorithm::RsaSha256,
            Pair::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// Bits of an RSA modulus; 256 for Ed25519.
    pub fn bits(&self) -> usize {
        match &self.0 {
            Pair::Rsa(pair) => pair.public().modulus_len().saturating_mul(8),
            Pair::ShortRsa(key) => key.size().saturating_mul(8),
            Pair::Ed25519(_) => 256,
        }
    }

    /// The value of `p=` in the key record, in base64: for RSA a SubjectPublicKeyInfo (RFC 6376 section 3.6.1, the
    /// usual form), for Ed25519 the 32 bytes (RFC 8463 section 4).
    pub fn public_record_value(&self) -> String {
        match &self.0 {
            Pair::Rsa(pair) => STANDARD.encode(der::rsa_public_key_info(pair.public().as_ref())),
            Pair::ShortRsa(key) => {
                let public = key.to_public_key().to_pkcs1_der();
                let public = public.map(|public| der::rsa_public_key_info(public.as_bytes()));
                public.map_or_else(|_| String::new(), |public| STANDARD.encode(public))
            }
            Pair::Ed25519(pair) => STANDARD.encode(pair.public_key().as_ref()),
        }
    }

    /// Signs the canonical header. RSA takes milliseconds, so it runs on a worker.
    pub fn sign(&self, data: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.0 {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    data,
                    &mut signature,
                )
                .map_err(|_| SignError::Fault)?;
                Ok(signature)
            }
            Pair::ShortRsa(key) => {
                let padding = rsa::Pkcs1v15Sign::new::<rsa::sha2::Sha256>();
                let mut chance = SystemChance(SystemRandom::new());
                key.sign_with_rng(&mut chance, padding, &sha256(data))
                    .map_err(|_| SignError::Fault)
            }
            // RFC 8463 section 3: PureEdDSA over the SHA-256 hash.
            Pair::Ed25519(pair) => Ok(pair.sign(&sha256(data)).as_ref().to_vec()),
        }
    }
}

/// Shows only the public part, because private keys must not appear in any text.
impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "SigningKey({}, {} bits)",
            self.algorithm(),
            self.bits()
        )
    }
}

/// The PEM file of an Ed25519 private key, PKCS#8 version 1 (RFC 8410 section 7), as openssl writes it.
pub fn ed25519_pem(seed: &[u8; 32]) -> Zeroizing<String> {
    let mut der = Zeroizing::new(ED25519_PKCS8_PREFIX.to_vec());
    der.extend_from_slice(seed);
    Zeroizing::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(&*der)
    ))
}

/// The system's random numbers, in the form that the rsa crate requires.
pub struct SystemChance(pub SystemRandom);

impl TryRng for SystemChance {
    type Error = ring::error::Unspecified;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(bytes)
    }
}

impl TryCryptoRng for SystemChance {}

/// Bits of the modulus of an RSAPrivateKey.
fn rsa_bits(pkcs1: &[u8]) -> Option<usize> {
    let mut fields = der::Reader::new(der::Reader::new(pkcs1).read(der::SEQUENCE)?);
    fields.read(der::INTEGER)?;
    Some(der::integer_bits(fields.read(der::INTEGER)?))
}

/// The decoded content of the first block whose label ends with `PRIVATE KEY`.
fn pem_contents(pem: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if pem.len() > DKIM_KEY_FILE_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    let mut lines = pem.lines().map(str::trim);
    let label = lines
        .find_map(|line| {
            let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
            label.ends_with("PRIVATE KEY").then_some(label)
        })
        .ok_or(KeyError::NoPem)?;
    let mut base64 = Zeroizing::new(String::with_capacity(pem.len()));
    let mut ended = false;
    for line in lines {
        if line.starts_with("-----END ") {
            ended = true;
            break;
        }
        base64.push_str(line);
    }
    if label.starts_with("ENCRYPTED") || base64.contains("Proc-Type:") {
        return Err(KeyError::Encrypted);
    }
    if !ended {
        return Err(KeyError::NoPem);
    }
    STANDARD
        .decode(base64.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| KeyError::Base64)
}

const OCTET_STRING: u8 = 0x04;
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_2048_PKCS8: &str = include_str!("../../../tests/data/dkim/rsa-2048-pkcs8.pem");
    const RSA_2048_PKCS1: &str = include_str!("../../../tests/data/dkim/rsa-2048-pkcs1.pem");
    const RSA_2048_PUBLIC: &str = include_str!("../../../tests/data/dkim/rsa-2048-public.pem");
    const RSA_1024: &str = include_str!("../../../tests/data/dkim/rsa-1024.pem");
    const RSA_512: &str = include_str!("../../../tests/data/dkim/rsa-512.pem");
    const ED25519: &str = include_str!("../../../tests/data/dkim/ed25519.pem");
    const ED25519_PUBLIC: &str = include_str!("../../../tests/data/dkim/ed25519-public.pem");

    fn body(pem: &str) -> String {
        pem.lines()
            .filter(|line| !line.starts_with("-----"))
            .collect()
    }

    #[test]
    fn both_wrappings_of_an_rsa_key_give_the_same_record() {
        for pem in [RSA_2048_PKCS8, RSA_2048_PKCS1] {
            let key = SigningKey::from_pem(pem).expect("a key");
            assert_eq!(key.algorithm(), Algorithm::RsaSha256);
            assert_eq!(key.bits(), 2048);
            assert_eq!(key.public_record_value(), body(RSA_2048_PUBLIC));
            assert_eq!(key.sign(b"data").map(|signature| signature.len()), Ok(256));
        }
    }

    #[test]
    fn an_ed25519_key_of_openssl_gives_its_public_bytes() {
        let key = SigningKey::from_pem(ED25519).expect("a key");
        assert_eq!(key.algorithm(), Algorithm::Ed25519Sha256);
        let info = STANDARD.decode(body(ED25519_PUBLIC)).expect("base64");
        assert_eq!(key.public_record_value(), STANDARD.encode(&info[12..]));
    }

    #[test]
    fn takes_an_ed25519_key_with_its_public_half() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness");
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(pkcs8.as_ref())
        );
        assert!(SigningKey::from_pem(&pem).is_ok());
        assert!(SigningKey::from_pem(&format!("\u{feff}{pem}")).is_ok());
    }

    #[test]
    fn the_key_of_rfc_8463_has_the_public_key_of_rfc_8463() {
        let seed = STANDARD
            .decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
            .expect("base64");
        let pem = ed25519_pem(&seed.try_into().expect("32 bytes"));
        let key = SigningKey::from_pem(&pem).expect("a key");
        assert_eq!(
            key.public_record_value(),
            "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
        );
    }

    #[test]
    fn a_key_of_1024_bits_signs_so_that_verifiers_take_it() {
        use ring::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};

        let key = SigningKey::from_pem(RSA_1024).expect("a key");
        assert_eq!(key.algorithm(), Algorithm::RsaSha256);
        assert!(key.is_short() && key.bits() == 1024);
        let info = STANDARD.decode(key.public_record_value()).expect("base64");
        let mut fields = der::Reader::new(
            der::Reader::new(&info)
                .read(der::SEQUENCE)
                .expect("a sequence"),
        );
        fields.read(der::SEQUENCE).expect("the algorithm");
        let public = fields.read(0x03).expect("bits");
        let public = UnparsedPublicKey::new(
            &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            &public[1..],
        );
        let signature = key.sign(b"data").expect("a signature");
        assert_eq!(public.verify(b"data", &signature), Ok(()));
        assert!(public.verify(b"date", &signature).is_err());
        assert!(
            !SigningKey::from_pem(RSA_2048_PKCS8)
                .expect("a key")
                .is_short()
        );
    }

    #[test]
    fn refuses_what_cannot_sign() {
        let cases = [
            ("", KeyError::NoPem),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", KeyError::NoPem),
            (RSA_2048_PUBLIC, KeyError::NoPem),
            (RSA_512, KeyError::TooShort { bits: 512 }),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                KeyError::Encrypted,
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
                KeyError::Base64,
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                KeyError::Structure,
            ),
        ];
        for (pem, error) in cases {
            assert_eq!(SigningKey::from_pem(pem).err(), Some(error), "{pem}");
        }
    }

    #[test]
    fn workers_may_share_a_key() {
        const fn is_shared<T: Send + Sync>() {}
        is_shared::<SigningKey>();
    }

    #[test]
    fn debug_shows_no_key() {
        let key = SigningKey::from_pem(ED25519).expect("a key");
        assert_eq!(format!("{key:?}"), "SigningKey(ed25519-sha256, 256 bits)");
    }
}
