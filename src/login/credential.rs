//! Stored credentials in the form of SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677), and passwords.
//!
//! A credential verifies a password without containing it, and serves PLAIN, LOGIN and SCRAM-SHA-256 alike. Its text is
//! `{SCRAM-SHA-256}ITERATIONS,SALT,STOREDKEY,SERVERKEY`, with the parts in base64.
//!
//! Keys are derived from the SASLprep form of a password (RFC 4013), as SCRAM clients do, so it makes no difference
//! whether accents are composed. Credentials that chopar 0.1.0 made, from the password as it was typed, are still
//! accepted.
//!
//! Invariant: no `Debug` or `Display` shows a password or a key, except the text of the users file.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2;
use zeroize::{Zeroize as _, Zeroizing};

use crate::digest::{DIGEST_BYTES, hmac_sha256, is_equal, sha256};
use crate::limits::{
    PASSWORD_BYTES_MAX, SCRAM_ITERATIONS, SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN,
    SCRAM_SALT_BYTES_MAX,
};
use crate::login::saslprep::saslprep;

/// Bytes of the salt of a new credential.
pub const SALT_BYTES: usize = 16;

/// A password from which keys can be derived; wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Password {
    /// The prepared form, as SCRAM uses it.
    prepared: Zeroizing<String>,
    /// The typed form, if it differs.
    typed: Option<Zeroizing<String>>,
}

/// Why a text cannot be a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PasswordError {
    Empty,
    /// The bytes are not UTF-8.
    Encoding,
    /// Over [`PASSWORD_BYTES_MAX`].
    TooLong {
        /// The length that was found, in bytes.
        len: usize,
    },
    /// A control character (RFC 4013 section 2.3).
    Control {
        /// Its offset in bytes.
        at: usize,
    },
}

/// A stored credential: it verifies a password, and serves SCRAM on the server side.
#[derive(Clone, Eq, PartialEq)]
pub struct Credential {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    stored_key: [u8; DIGEST_BYTES],
    server_key: [u8; DIGEST_BYTES],
}

/// Why a text is not a stored credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialError {
    /// It does not begin with `{SCRAM-SHA-256}`.
    Scheme,
    /// There are not exactly four parts between commas.
    Parts,
    /// The iteration count is not a number, or out of bounds.
    Iterations,
    /// The salt is not base64, is empty, or is too long.
    Salt,
    /// A key is not base64 of 32 bytes.
    Key,
}

impl Password {
    /// Takes a password; a refused one is wiped.
    pub fn new(text: String) -> Result<Self, PasswordError> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        if text.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong { len: text.len() });
        }
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(PasswordError::Control { at }),
            // A password that SASLprep refuses is used unchanged.
            None => Ok(match saslprep(&text) {
                Some(prepared) if *prepared != *text => Self {
                    prepared,
                    typed: Some(text),
                },
                _ => Self {
                    prepared: text,
                    typed: None,
                },
            }),
        }
    }

    /// The bytes from which keys are derived.
    pub fn as_bytes(&self) -> &[u8] {
        self.prepared.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password(..)")
    }
}

impl fmt::Display for PasswordError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("expected a password, found nothing"),
            Self::Encoding => out.write_str("expected a password in UTF-8"),
            Self::TooLong { len } => write!(
                out,
                "the password has {len} bytes, and {PASSWORD_BYTES_MAX} are the most"
            ),
            Self::Control { at } => {
                write!(out, "the password has a control character at offset {at}")
            }
        }
    }
}

impl std::error::Error for PasswordError {}

impl Credential {
    /// Derives a credential (Hi of RFC 5802 section 2.2). Expensive by design: it runs on a worker, never in the event
    /// loop.
    pub fn derive(password: &Password, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = salted_password(password.as_bytes(), salt, iterations);
        let credential = Self {
            iterations,
            salt: salt.into(),
            stored_key: stored_key(&salted),
            server_key: hmac_sha256(&salted, b"Server Key"),
        };
        salted.zeroize();
        credential
    }

    /// A credential that no password matches, for a login that does not exist.
    ///
    /// It is the same in every attempt, like a real one, so that SCRAM does not reveal which logins exist. Verification
    /// takes as long as with a real credential.
    pub fn decoy(secret: &[u8; DIGEST_BYTES], login: &str) -> Self {
        let part = |label: &[u8]| {
            let key = hmac_sha256(secret, label);
            hmac_sha256(&key, login.as_bytes())
        };
        Self {
            iterations: NonZeroU32::new(SCRAM_ITERATIONS).unwrap_or(NonZeroU32::MIN),
            salt: part(b"salt").iter().copied().take(SALT_BYTES).collect(),
            stored_key: part(b"stored key"),
            server_key: part(b"server key"),
        }
    }

    /// Reads the text of a users file.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let rest = text.strip_prefix(SCHEME).ok_or(CredentialError::Scheme)?;
        let mut parts = rest.split(',');
        let (Some(iterations), Some(salt), Some(stored), Some(server), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(CredentialError::Parts);
        };
        if !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CredentialError::Iterations);
        }
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(count))
            .and_then(NonZeroU32::new)
            .ok_or(CredentialError::Iterations)?;
        let salt = STANDARD
            .decode(salt)
            .ok()
            .filter(|salt| (1..=SCRAM_SALT_BYTES_MAX).contains(&salt.len()))
            .ok_or(CredentialError::Salt)?;
        let key = |text: &str| -> Result<[u8; DIGEST_BYTES], CredentialError> {
            STANDARD
                .decode(text)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or(CredentialError::Key)
        };
        Ok(Self {
            iterations,
            salt: salt.into(),
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// Whether the credential was derived from `password`. As expensive as [`Credential::derive`].
    pub fn verify_password(&self, password: &Password) -> bool {
        let typed = password.typed.as_deref().map(String::as_bytes);
        let mut forms = [Some(password.as_bytes()), typed].into_iter().flatten();
        forms.any(|form| {
            let mut salted = salted_password(form, &self.salt, self.iterations);
            let candidate = stored_key(&salted);
            salted.zeroize();
            is_equal(&candidate, &self.stored_key)
        })
    }

    /// Iterations of PBKDF2.
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }

    /// The salt, which SCRAM sends in its first message (RFC 5802 section 5.1).
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// StoredKey of RFC 5802: verifies a client's proof.
    pub fn stored_key(&self) -> &[u8; DIGEST_BYTES] {
        &self.stored_key
    }

    /// ServerKey of RFC 5802: proves the server's identity.
    pub fn server_key(&self) -> &[u8; DIGEST_BYTES] {
        &self.server_key
    }
}

/// The text for the users file. It allows an off-line guessing attack, so it must not be logged.
impl fmt::Display for Credential {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{SCHEME}{},{},{},{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Credential(..)")
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => write!(out, "expected a credential that begins with {SCHEME}"),
            Self::Parts => write!(
                out,
                "expected {SCHEME}ITERATIONS,SALT,STOREDKEY,SERVERKEY, found another number of parts"
            ),
            Self::Iterations => write!(
                out,
                "expected an iteration count from {SCRAM_ITERATIONS_MIN} to {SCRAM_ITERATIONS_MAX}"
            ),
            Self::Salt => write!(
                out,
                "expected a salt of 1 to {SCRAM_SALT_BYTES_MAX} bytes in base64"
            ),
            Self::Key => write!(out, "expected two keys of {DIGEST_BYTES} bytes in base64"),
        }
    }
}

impl std::error::Error for CredentialError {}

fn salted_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> [u8; DIGEST_BYTES] {
    let mut salted = [0; DIGEST_BYTES];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password,
        &mut salted,
    );
    salted
}

fn stored_key(salted: &[u8; DIGEST_BYTES]) -> [u8; DIGEST_BYTES] {
    let mut client_key = hmac_sha256(salted, b"Client Key");
    let stored = sha256(&client_key);
    client_key.zeroize();
    stored
}

const SCHEME: &str = "{SCRAM-SHA-256}";

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).expect("a password")
    }

    /// The credential of the example in RFC 7677 section 3: user `user`, password `pencil`.
    fn pencil() -> Credential {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        Credential::derive(&password("pencil"), &salt, ROUNDS)
    }

    #[test]
    fn text_is_what_postgresql_derives_for_the_rfc_7677_example() {
        assert_eq!(
            pencil().to_string(),
            "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn text_round_trips() {
        let text = pencil().to_string();
        let again = Credential::parse(&text).expect("a credential");
        assert_eq!(again.to_string(), text);
    }

    #[test]
    fn knows_its_password_and_no_other() {
        let credential = pencil();
        assert!(credential.verify_password(&password("pencil")));
        for other in ["Pencil", "pencil ", "p", "пароль"] {
            assert!(!credential.verify_password(&password(other)), "{other}");
        }
    }

    #[test]
    fn accents_and_soft_hyphens_do_not_tell_passwords_apart_and_old_credentials_count() {
        let salt = [7; SALT_BYTES];
        let credential = Credential::derive(&password("na\u{ef}ve"), &salt, ROUNDS);
        for same in ["na\u{ef}ve", "nai\u{308}ve", "na\u{ef}\u{ad}ve"] {
            assert!(credential.verify_password(&password(same)), "{same:?}");
        }
        assert!(!credential.verify_password(&password("naive")));
        // As 0.1.0 derived it: from the typed form.
        let typed = "nai\u{308}ve".as_bytes();
        let salted = salted_password(typed, &salt, ROUNDS);
        let old = Credential {
            stored_key: stored_key(&salted),
            ..credential
        };
        assert!(old.verify_password(&password("nai\u{308}ve")));
        assert!(!old.verify_password(&password("na\u{ef}ve")));
    }

    #[test]
    fn rejects_what_is_no_credential() {
        let key = STANDARD.encode([7; 32]);
        let cases = [
            (String::new(), CredentialError::Scheme),
            ("$6$abc".to_owned(), CredentialError::Scheme),
            (
                "{SCRAM-SHA-256}4096,AAAA".to_owned(),
                CredentialError::Parts,
            ),
            (
                format!("{{SCRAM-SHA-256}}4096,AAAA,{key},{key},x"),
                CredentialError::Parts,
            ),
            (
                format!("{{SCRAM-SHA-256}}0,AAAA,{key},{key}"),
                CredentialError::Iterations,
            ),
            (
                format!("{{SCRAM-SHA-256}}+9999,AAAA,{key},{key}"),
                CredentialError::Iterations,
            ),
            (
                format!("{{SCRAM-SHA-256}}10000001,AAAA,{key},{key}"),
                CredentialError::Iterations,
            ),
            (
                format!("{{SCRAM-SHA-256}}4096,,{key},{key}"),
                CredentialError::Salt,
            ),
            (
                format!("{{SCRAM-SHA-256}}4096,A A=,{key},{key}"),
                CredentialError::Salt,
            ),
            (
                format!("{{SCRAM-SHA-256}}4096,AAAA,AAAA,{key}"),
                CredentialError::Key,
            ),
        ];
        for (text, error) in cases {
            assert_eq!(Credential::parse(&text).err(), Some(error), "{text}");
        }
    }

    #[test]
    fn a_decoy_is_stable_for_its_login_and_differs_from_others() {
        let secret = [1; 32];
        let decoy = Credential::decoy(&secret, "nobody");
        assert_eq!(
            decoy.to_string(),
            Credential::decoy(&secret, "nobody").to_string()
        );
        assert_ne!(decoy.salt(), Credential::decoy(&secret, "noone").salt());
        assert_ne!(decoy.salt(), Credential::decoy(&[2; 32], "nobody").salt());
        assert_eq!(decoy.salt().len(), SALT_BYTES);
        assert_eq!(decoy.iterations(), SCRAM_ITERATIONS);
    }

    #[test]
    fn rejects_what_is_no_password() {
        let error = |text: &str| Password::new(text.to_owned()).err();
        assert_eq!(error(""), Some(PasswordError::Empty));
        assert_eq!(error("a\0b"), Some(PasswordError::Control { at: 1 }));
        assert_eq!(error("ab\r"), Some(PasswordError::Control { at: 2 }));
        assert_eq!(error("é\u{85}"), Some(PasswordError::Control { at: 2 }));
        assert_eq!(
            error(&"x".repeat(PASSWORD_BYTES_MAX + 1)),
            Some(PasswordError::TooLong {
                len: PASSWORD_BYTES_MAX + 1
            })
        );
        assert_eq!(error("with space and ünïcode"), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", password("pencil")), "Password(..)");
        assert_eq!(format!("{:?}", pencil()), "Credential(..)");
    }
}
