//! Key records in the DNS (RFC 6376 section 3.6.1; Ed25519 RFC 8463 section 4).

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::der;
use super::key::{Algorithm, SigningKey};
use super::tag::{TagList, elements, without_space};
use crate::address::Domain;
use crate::limits::{
    DKIM_RSA_BITS_MAX, DKIM_RSA_BITS_MIN, DKIM_RSA_EXPONENT_MAX, DKIM_RSA_EXPONENT_MIN,
};

/// A key record that can verify signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRecord {
    pub key: PublicKey,
    /// `t=y`: the domain is testing DKIM.
    pub testing: bool,
    /// `t=s`: `i=` may not name a subdomain.
    pub strict: bool,
}

/// A public key, ready for ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublicKey {
    /// An RSAPublicKey of RFC 8017 appendix A.1.1, in DER.
    Rsa {
        der: Vec<u8>,
        /// Bits of the modulus.
        bits: usize,
    },
    /// RFC 8032.
    Ed25519([u8; 32]),
}

/// Why a record contains no usable key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyRecordError {
    /// It is not a tag list, has another `v=`, or no `p=`.
    Syntax,
    /// `p=` is empty: the key was revoked.
    Revoked,
    /// `k=` is unknown.
    KeyType,
    /// `h=` does not list sha256.
    Hash,
    /// `s=` does not list email.
    Service,
    /// `p=` is not a key of the type in `k=`.
    Key,
    /// The RSA key is under [`DKIM_RSA_BITS_MIN`] or over [`DKIM_RSA_BITS_MAX`].
    Size {
        /// Bits of the modulus.
        bits: usize,
    },
    /// The exponent of the RSA key is even, under [`DKIM_RSA_EXPONENT_MIN`] or over [`DKIM_RSA_EXPONENT_MAX`].
    Exponent,
}

impl fmt::Display for KeyRecordError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => out.write_str("it is not a key record with a p="),
            Self::Revoked => out.write_str("p= is empty, which revokes the key"),
            Self::KeyType => out.write_str("k= is neither rsa nor ed25519"),
            Self::Hash => out.write_str("h= does not list sha256"),
            Self::Service => out.write_str("s= does not list email"),
            Self::Key => out.write_str("p= holds no key of the type that k= says"),
            Self::Size { bits } => write!(out, "the RSA key has {bits} bits"),
            Self::Exponent => out.write_str("the exponent of the RSA key is not a usual one"),
        }
    }
}

impl KeyRecord {
    /// Parses one TXT record. `g=`, `n=` and unknown tags are ignored.
    /// Decides RFC 6376 section 3.6.1.
    pub fn parse(text: &[u8]) -> Result<Self, KeyRecordError> {
        let tags = TagList::parse(text).map_err(|_| KeyRecordError::Syntax)?;
        match tags.value("v") {
            None => {}
            Some("DKIM1") if tags.first() == Some("v") => {}
            Some(_) => return Err(KeyRecordError::Syntax),
        }
        let lists = |name: &str, wanted: &[&str]| {
            tags.value(name)
                .is_none_or(|value| elements(value).any(|element| wanted.contains(&element)))
        };
        if !lists("h", &["sha256"]) {
            return Err(KeyRecordError::Hash);
        }
        if !lists("s", &["*", "email"]) {
            return Err(KeyRecordError::Service);
        }
        let base64 = without_space(tags.value("p").ok_or(KeyRecordError::Syntax)?);
        if base64.is_empty() {
            return Err(KeyRecordError::Revoked);
        }
        let bytes = STANDARD.decode(base64).map_err(|_| KeyRecordError::Key)?;
        let flag = |wanted| {
            tags.value("t")
                .is_some_and(|value| elements(value).any(|flag| flag == wanted))
        };
        Ok(Self {
            key: PublicKey::parse(tags.value("k").unwrap_or("rsa"), bytes)?,
            testing: flag("y"),
            strict: flag("s"),
        })
    }
}

impl PublicKey {
    fn parse(key_type: &str, bytes: Vec<u8>) -> Result<Self, KeyRecordError> {
        match key_type {
            "rsa" => {
                let key = der::rsa_public_key(&bytes).ok_or(KeyRecordError::Key)?;
                let (bits, exponent) = (key.bits, key.exponent);
                if !(DKIM_RSA_BITS_MIN..=DKIM_RSA_BITS_MAX).contains(&bits) {
                    return Err(KeyRecordError::Size { bits });
                }
                // The exponent determines the cost of a verification, and the owner of the key chooses it.
                let is_small = (DKIM_RSA_EXPONENT_MIN..=DKIM_RSA_EXPONENT_MAX).contains(&exponent);
                if !is_small || exponent.is_multiple_of(2) {
                    return Err(KeyRecordError::Exponent);
                }
                Ok(Self::Rsa {
                    der: key.der.to_vec(),
                    bits,
                })
            }
            "ed25519" => bytes
                .try_into()
                .map(Self::Ed25519)
                .map_err(|_| KeyRecordError::Key),
            _ => Err(KeyRecordError::KeyType),
        }
    }

    /// The algorithm of the signatures that this key verifies.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::RsaSha256,
            Self::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }
}

/// The text of the record that publishes `key`.
pub fn record_text(key: &SigningKey) -> String {
    format!(
        "v=DKIM1; k={}; p={}",
        key.algorithm().key_type(),
        key.public_record_value()
    )
}

/// The owner name of a key record.
pub fn record_name(selector: &str, domain: &Domain) -> String {
    format!("{selector}._domainkey.{domain}")
}

/// A zone-file entry (RFC 1035 section 5.1) of `text`, in strings of at most 255 bytes.
pub fn zone_lines(selector: &str, domain: &Domain, text: &str) -> String {
    let owner = record_name(selector, domain);
    match zone_strings(text.as_bytes()).as_slice() {
        [string] => format!("{owner}. IN TXT {string}\n"),
        strings => format!("{owner}. IN TXT (\n\t{}\n)\n", strings.join("\n\t")),
    }
}

/// The character-strings of a text in the form of a zone file (RFC 1035 sections 3.3.14 and 5.1): at most 255 bytes
/// each, in quotes. An empty text is one empty string.
pub fn zone_strings(text: &[u8]) -> Vec<String> {
    let chunks: Vec<&[u8]> = match text {
        [] => vec![text],
        text => text.chunks(STRING_BYTES_MAX).collect(),
    };
    let quoted = |string: &&[u8]| {
        let mut out = String::from("\"");
        for &byte in *string {
            match byte {
                b'"' | b'\\' => {
                    out.push('\\');
                    out.push(char::from(byte));
                }
                b' '..=b'~' => out.push(char::from(byte)),
                // Writing to a String cannot fail.
                _ => drop(write!(out, "\\{byte:03}")),
            }
        }
        out.push('"');
        out
    };
    chunks.iter().map(quoted).collect()
}

const STRING_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_1024: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB";

    fn parse(text: &str) -> Result<KeyRecord, KeyRecordError> {
        KeyRecord::parse(text.as_bytes())
    }

    #[test]
    fn reads_the_record_of_rfc_6376_appendix_c_and_ignores_g() {
        let record = parse(&format!("v=DKIM1; g=nobody; n=x; p={RSA_1024}")).expect("a record");
        assert!(matches!(record.key, PublicKey::Rsa { bits: 1024, .. }));
        assert!(!record.testing && !record.strict);
        let flags = parse(&format!("t= y : s ;p={RSA_1024};")).expect("a record");
        assert!(flags.testing && flags.strict);
    }

    #[test]
    fn takes_a_bare_rsa_public_key() {
        let info = STANDARD.decode(RSA_1024).expect("base64");
        let bare = der::rsa_public_key(&info).expect("a key");
        let text = format!("k=rsa; p={}", STANDARD.encode(bare.der));
        assert_eq!(
            parse(&text).map(|record| record.key),
            parse(&format!("p={RSA_1024}")).map(|record| record.key)
        );
    }

    #[test]
    fn rejects_what_gives_no_key() {
        let short = STANDARD.encode(der::wrap(
            der::SEQUENCE,
            &[der::wrap(der::INTEGER, &[0x7f; 96]), vec![2, 1, 3]].concat(),
        ));
        let cases = [
            ("".to_owned(), KeyRecordError::Syntax),
            ("v=spf1 -all".to_owned(), KeyRecordError::Syntax),
            (format!("v=DKIM2; p={RSA_1024}"), KeyRecordError::Syntax),
            (format!("p={RSA_1024}; v=DKIM1"), KeyRecordError::Syntax),
            ("v=DKIM1; k=rsa".to_owned(), KeyRecordError::Syntax),
            ("v=DKIM1; p=".to_owned(), KeyRecordError::Revoked),
            (format!("h=sha1; p={RSA_1024}"), KeyRecordError::Hash),
            (format!("s=tlsrpt; p={RSA_1024}"), KeyRecordError::Service),
            (format!("k=ed448; p={RSA_1024}"), KeyRecordError::KeyType),
            (format!("k=ed25519; p={RSA_1024}"), KeyRecordError::Key),
            ("p=!".to_owned(), KeyRecordError::Key),
            ("p=AAAA".to_owned(), KeyRecordError::Key),
            (format!("p={short}"), KeyRecordError::Size { bits: 767 }),
        ];
        for (text, error) in cases {
            assert_eq!(parse(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn an_exponent_that_makes_verifying_dear_is_refused() {
        let record = |exponent: &[u8]| {
            let modulus = der::wrap(der::INTEGER, &[0x7f; 256]);
            let integers = [modulus, der::wrap(der::INTEGER, exponent)].concat();
            let key = STANDARD.encode(der::wrap(der::SEQUENCE, &integers));
            parse(&format!("v=DKIM1; p={key}")).map(|_| ())
        };
        for small in [&[3][..], &[17], &[1, 0, 1], &[0, 1, 0, 1]] {
            assert_eq!(record(small), Ok(()), "{small:?}");
        }
        let dear = [
            &[0][..],
            &[1],
            &[2],
            &[1, 0, 0],
            &[1, 0, 3],
            &[1, 0, 0, 0, 1],
            &[1, 0xff, 0xff, 0xff, 0xff],
            &[0x7f; 256],
        ];
        for exponent in dear {
            assert_eq!(
                record(exponent),
                Err(KeyRecordError::Exponent),
                "{exponent:?}"
            );
        }
    }

    #[test]
    fn what_a_key_publishes_reads_back() {
        for pem in [
            include_str!("../../../tests/data/dkim/rsa-2048-pkcs8.pem"),
            include_str!("../../../tests/data/dkim/ed25519.pem"),
        ] {
            let key = SigningKey::from_pem(pem).expect("a key");
            let record = parse(&record_text(&key)).expect("a record");
            assert_eq!(record.key.algorithm(), key.algorithm());
        }
    }

    #[test]
    fn long_records_become_strings_of_255_bytes() {
        let domain = Domain::parse("example.com").expect("a domain");
        let lines = zone_lines("s1", &domain, &"x".repeat(600));
        let strings: Vec<&str> = lines.split('"').skip(1).step_by(2).collect();
        assert_eq!(
            strings
                .iter()
                .map(|string| string.len())
                .collect::<Vec<_>>(),
            [255, 255, 90]
        );
        assert!(lines.starts_with("s1._domainkey.example.com. IN TXT (\n"));
        assert_eq!(
            zone_lines("s", &domain, "a\"b"),
            "s._domainkey.example.com. IN TXT \"a\\\"b\"\n"
        );
    }
}
