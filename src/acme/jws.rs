//! Signed requests (RFC 7515 with ES256; RFC 8555 section 6.2), and external account binding (section 7.3.4).

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ring::{digest, hmac};
use serde_json::{Value, json};

/// A P-256 key that signs requests.
pub struct AccountKey(EcdsaKeyPair);

/// How the server knows the key of a request.
#[derive(Clone, Copy, Debug)]
pub enum KnownBy<'a> {
    /// By the account's URL.
    Account(&'a str),
    /// By the key itself, if there is no account yet or none is needed.
    Key,
}

/// Credentials from a CA, which bind an account to a customer.
#[derive(Clone)]
pub struct ExternalAccount {
    kid: String,
    key: hmac::Key,
}

impl ExternalAccount {
    /// With the MAC key as CAs show it, in base64url.
    pub fn parse(kid: &str, key: &str) -> Option<Self> {
        let key = key.trim();
        let decoded = match key.ends_with('=') {
            true => URL_SAFE.decode(key),
            false => URL_SAFE_NO_PAD.decode(key),
        };
        let decoded = decoded.ok().filter(|key| !key.is_empty())?;
        let is_plain = !kid.is_empty() && !kid.chars().any(char::is_control);
        is_plain.then(|| Self {
            kid: kid.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &decoded),
        })
    }
}

impl AccountKey {
    /// Reads a key in PKCS #8.
    pub fn from_pkcs8(der: &[u8], chance: &dyn SecureRandom) -> Option<Self> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, chance)
            .ok()
            .map(Self)
    }

    /// The public key (RFC 7518 section 6.2.1).
    fn jwk(&self) -> Value {
        // An uncompressed point: 4, then the coordinates.
        let point = self.0.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .and_then(|both| both.split_at_checked(32))
            .unwrap_or_default();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"crv": "P-256", "kty": "EC", "x": text(x), "y": text(y)})
    }

    /// The thumbprint of the public key (RFC 7638). serde_json writes the keys in order and without spaces, as the
    /// thumbprint requires.
    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk().to_string();
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, jwk.as_bytes()))
    }

    /// A whole signed request. An empty payload is a POST-as-GET (RFC 8555 section 6.3).
    pub fn sign(
        &self,
        url: &str,
        nonce: &str,
        known_by: KnownBy<'_>,
        payload: Option<&Value>,
        chance: &dyn SecureRandom,
    ) -> Option<String> {
        let mut protected = json!({"alg": "ES256", "nonce": nonce, "url": url});
        if let Some(fields) = protected.as_object_mut() {
            match known_by {
                KnownBy::Account(kid) => fields.insert("kid".into(), kid.into()),
                KnownBy::Key => fields.insert("jwk".into(), self.jwk()),
            };
        }
        let payload = payload.map(Value::to_string).unwrap_or_default();
        let input = signing_input(&protected, &payload);
        let signature = self.0.sign(chance, input.as_bytes()).ok()?;
        Some(flattened(&input, signature.as_ref()).to_string())
    }

    /// The binding of a new account to an account that the CA knows.
    pub fn bind(&self, external: &ExternalAccount, new_account: &str) -> Value {
        let protected = json!({"alg": "HS256", "kid": external.kid, "url": new_account});
        let input = signing_input(&protected, &self.jwk().to_string());
        let tag = hmac::sign(&external.key, input.as_bytes());
        flattened(&input, tag.as_ref())
    }
}

fn signing_input(protected: &Value, payload: &str) -> String {
    let protected = URL_SAFE_NO_PAD.encode(protected.to_string());
    format!("{protected}.{}", URL_SAFE_NO_PAD.encode(payload))
}

/// The flattened JSON serialization (RFC 7515 section 7.2.2).
fn flattened(input: &str, signature: &[u8]) -> Value {
    let (protected, payload) = input.split_once('.').unwrap_or_default();
    let signature = URL_SAFE_NO_PAD.encode(signature);
    json!({"protected": protected, "payload": payload, "signature": signature})
}

/// The value that the server expects: `token.thumbprint` (RFC 8555 section 8.1).
pub fn key_authorization(token: &str, key: &AccountKey) -> String {
    format!("{token}.{}", key.thumbprint())
}

/// Its digest, which TLS-ALPN-01 and DNS-01 show.
pub fn digest_of(key_authorization: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, key_authorization.as_bytes());
    digest.as_ref().try_into().unwrap_or_default()
}

/// The digest for the TXT record of DNS-01: 43 characters.
pub fn dns_value(key_authorization: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest_of(key_authorization))
}

/// Whether text can be the value of a TXT record of DNS-01.
pub fn is_dns_value(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(is_base64url)
}

/// Whether text can be a token (RFC 8555 section 8: base64url, at least 128 bits).
pub fn is_token(text: &str) -> bool {
    (22..=128).contains(&text.len()) && text.bytes().all(is_base64url)
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Bytes as base64url without padding, the one form of them in ACME.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn key() -> AccountKey {
        let chance = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &chance);
        AccountKey::from_pkcs8(der.expect("a key").as_ref(), &chance).expect("a key")
    }

    fn part(jws: &Value, name: &str) -> Vec<u8> {
        let text = jws[name].as_str().expect("text");
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    #[test]
    fn a_request_verifies_with_the_key_that_it_names() {
        let (key, chance) = (key(), SystemRandom::new());
        let body = key
            .sign(
                "https://ca/x",
                "n1",
                KnownBy::Key,
                Some(&json!({"a": 1})),
                &chance,
            )
            .expect("signed");
        let jws: Value = serde_json::from_str(&body).expect("JSON");
        let protected: Value = serde_json::from_slice(&part(&jws, "protected")).expect("JSON");
        assert_eq!(protected["nonce"], "n1");
        assert_eq!(protected["url"], "https://ca/x");
        assert_eq!(protected["jwk"], key.jwk());
        assert_eq!(protected.get("kid"), None);
        let input = format!(
            "{}.{}",
            jws["protected"].as_str().expect("text"),
            jws["payload"].as_str().expect("text")
        );
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.0.public_key().as_ref());
        let signature = part(&jws, "signature");
        public.verify(input.as_bytes(), &signature).expect("valid");
        let other = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.0.public_key().as_ref());
        other.verify(b"another", &signature).expect_err("forged");
    }

    #[test]
    fn an_account_is_named_by_its_url_and_a_get_has_no_payload() {
        let (key, chance) = (key(), SystemRandom::new());
        let known_by = KnownBy::Account("https://ca/acct/1");
        let body = key.sign("https://ca/x", "n", known_by, None, &chance);
        let jws: Value = serde_json::from_str(&body.expect("signed")).expect("JSON");
        assert_eq!(jws["payload"], "");
        let protected: Value = serde_json::from_slice(&part(&jws, "protected")).expect("JSON");
        assert_eq!(protected["kid"], "https://ca/acct/1");
        assert_eq!(protected.get("jwk"), None);
    }

    #[test]
    fn the_thumbprint_is_of_the_canonical_form() {
        let jwk = key().jwk().to_string();
        assert!(
            jwk.starts_with("{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\""),
            "{jwk}"
        );
        assert!(is_dns_value(&key().thumbprint()));
    }

    #[test]
    fn a_binding_has_the_key_as_its_payload_and_the_mac_of_the_ca() {
        let external = ExternalAccount::parse("kid-1", "c2VjcmV0LXNlY3JldC1zZWNyZXQ").expect("EAB");
        let key = key();
        let bound = key.bind(&external, "https://ca/new-account");
        assert_eq!(part(&bound, "payload"), key.jwk().to_string().into_bytes());
        let protected: Value = serde_json::from_slice(&part(&bound, "protected")).expect("JSON");
        assert_eq!(protected["alg"], "HS256");
        assert_eq!(protected.get("nonce"), None);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, b"secret-secret-secret");
        let input = format!(
            "{}.{}",
            bound["protected"].as_str().expect("text"),
            bound["payload"].as_str().expect("text")
        );
        hmac::verify(&mac, input.as_bytes(), &part(&bound, "signature")).expect("valid");
        assert!(ExternalAccount::parse("", "c2VjcmV0").is_none());
        assert!(ExternalAccount::parse("kid", "no/base64url+").is_none());
    }
}
