//! The server side of SCRAM-SHA-256 (RFC 5802, RFC 7677).
//!
//! ```text
//!   ClientFirst --challenge(credential)--> ScramChallenge --on_client_final--> server-final, or ScramError
//! ```
//!
//! The exchange is cheap, because the expensive derivation happened when the credential was made. If the login does not
//! exist, the caller continues with [`Credential::decoy`], so that the client learns nothing before its proof fails.
//!
//! Not supported: channel binding (`p=`; SCRAM-SHA-256-PLUS is not offered), extensions, and proxy authorization.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::{DIGEST_BYTES, hmac_sha256, is_equal, sha256};
use crate::entropy::Entropy;
use crate::limits::SCRAM_NONCE_BYTES_MAX;
use crate::login::credential::Credential;
use crate::login::sasl::login_name;

/// A client-first-message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientFirst {
    login: String,
    nonce: String,
    gs2_header: String,
    bare: String,
}

/// The exchange after the server-first-message.
#[derive(Debug)]
pub struct ScramChallenge {
    login: String,
    credential: Credential,
    gs2_header: String,
    nonce: String,
    /// client-first-message-bare `,` server-first-message.
    transcript: String,
}

/// Why the exchange ended. Only [`ScramError::Proof`] means a wrong password; the others mean a malformed or
/// unsupported message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScramError {
    /// The message is malformed.
    Syntax,
    /// The client demands channel binding.
    ChannelBinding,
    /// The client demands an extension (`m=`).
    Extension,
    /// The client requests to act for another user.
    AuthorizationId,
    /// The nonce differs from the one of this exchange.
    Nonce,
    /// The proof is wrong.
    Proof,
}

impl ClientFirst {
    /// Reads `gs2-header client-first-message-bare`.
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Syntax)?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authorization), Some(bare)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(ScramError::Syntax);
        };
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Syntax),
        }
        if bare.starts_with("m=") {
            return Err(ScramError::Extension);
        }
        let mut attributes = bare.split(',');
        let login = attributes.next().and_then(|part| part.strip_prefix("n="));
        let login = unescape(login.ok_or(ScramError::Syntax)?)?;
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r="));
        let nonce = nonce
            .filter(|nonce| is_nonce(nonce))
            .ok_or(ScramError::Syntax)?;
        if !authorization.is_empty() {
            let name = authorization.strip_prefix("a=").ok_or(ScramError::Syntax)?;
            if unescape(name)? != login {
                return Err(ScramError::AuthorizationId);
            }
        }
        Ok(Self {
            login,
            nonce: nonce.to_owned(),
            gs2_header: format!("{flag},{authorization},"),
            bare: bare.to_owned(),
        })
    }

    /// The claimed login.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// The server-first-message, and the continued exchange.
    pub fn challenge(
        self,
        credential: Credential,
        entropy: &mut dyn Entropy,
    ) -> (ScramChallenge, String) {
        let mut bytes = [0; NONCE_BYTES];
        entropy.fill(&mut bytes);
        self.challenge_with(credential, &STANDARD.encode(bytes))
    }

    fn challenge_with(
        self,
        credential: Credential,
        server_nonce: &str,
    ) -> (ScramChallenge, String) {
        let nonce = format!("{}{server_nonce}", self.nonce);
        let message = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(credential.salt()),
            credential.iterations()
        );
        let challenge = ScramChallenge {
            login: self.login,
            credential,
            gs2_header: self.gs2_header,
            nonce,
            transcript: format!("{},{message}", self.bare),
        };
        (challenge, message)
    }
}

/// The login of a first message that requests to act for another user ([`ScramError::AuthorizationId`]).
pub fn first_login(message: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(message).ok()?;
    let login = text.split(',').nth(2)?.strip_prefix("n=")?;
    unescape(login).ok()
}

impl ScramChallenge {
    /// The claimed login.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// Judges the client-final-message; returns the server-final-message if the proof is valid.
    pub fn on_client_final(self, message: &[u8]) -> Result<String, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Syntax)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Syntax)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|part| part.strip_prefix("c="));
        let binding = STANDARD
            .decode(binding.ok_or(ScramError::Syntax)?)
            .map_err(|_| ScramError::Syntax)?;
        if binding != self.gs2_header.as_bytes() {
            return Err(ScramError::ChannelBinding);
        }
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r="));
        if nonce.ok_or(ScramError::Syntax)? != self.nonce {
            return Err(ScramError::Nonce);
        }
        let proof: [u8; DIGEST_BYTES] = STANDARD
            .decode(proof)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(ScramError::Syntax)?;
        let transcript = format!("{},{without_proof}", self.transcript);
        let mut client_key = hmac_sha256(self.credential.stored_key(), transcript.as_bytes());
        for (byte, proven) in client_key.iter_mut().zip(proof) {
            *byte ^= proven;
        }
        if !is_equal(&sha256(&client_key), self.credential.stored_key()) {
            return Err(ScramError::Proof);
        }
        let signature = hmac_sha256(self.credential.server_key(), transcript.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)))
    }
}

impl fmt::Display for ScramError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Syntax => "expected a SCRAM message",
            Self::ChannelBinding => "expected no channel binding",
            Self::Extension => "expected no mandatory extension",
            Self::AuthorizationId => "expected no authorization identity",
            Self::Nonce => "expected the nonce of this exchange",
            Self::Proof => "the proof does not fit",
        })
    }
}

impl std::error::Error for ScramError {}

/// saslname of RFC 5802 section 7: `=2C` is a comma and `=3D` an equals sign.
fn unescape(text: &str) -> Result<String, ScramError> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (c, rest) = match part.split_at_checked(2) {
            Some(("2C", rest)) => (',', rest),
            Some(("3D", rest)) => ('=', rest),
            _ => return Err(ScramError::Syntax),
        };
        name.push(c);
        name.push_str(rest);
    }
    login_name(name.as_bytes()).map_err(|_| ScramError::Syntax)
}

fn is_nonce(text: &str) -> bool {
    (1..=SCRAM_NONCE_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',')
}

const NONCE_BYTES: usize = 18; // 24 characters without padding

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::login::credential::Password;

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn pencil() -> Credential {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let password = Password::new("pencil".to_owned()).expect("a password");
        Credential::derive(&password, &salt, NonZeroU32::new(4096).expect("not zero"))
    }

    fn challenge(credential: Credential) -> (ScramChallenge, String) {
        let first = ClientFirst::parse(FIRST).expect("a message");
        assert_eq!(first.login(), "user");
        first.challenge_with(credential, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    }

    #[test]
    fn the_example_of_rfc_7677_succeeds() {
        let (challenge, message) = challenge(pencil());
        assert_eq!(
            message,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        assert_eq!(
            challenge.on_client_final(FINAL).as_deref(),
            Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        );
    }

    #[test]
    fn a_changed_final_message_fails() {
        let swap = |from: &str, to: &str| {
            let text = std::str::from_utf8(FINAL).expect("text").replace(from, to);
            challenge(pencil()).0.on_client_final(text.as_bytes()).err()
        };
        assert_eq!(swap("p=dH", "p=eH"), Some(ScramError::Proof));
        assert_eq!(swap("biws", "eSws"), Some(ScramError::ChannelBinding));
        assert_eq!(swap("k0,p", "k1,p"), Some(ScramError::Nonce));
        assert_eq!(swap("VQ=", "VQ"), Some(ScramError::Syntax));
        assert_eq!(swap(",p=", ",q="), Some(ScramError::Syntax));
        assert_eq!(swap("k0,p", "k0,x=1,p"), Some(ScramError::Proof));
        assert_eq!(swap("c=", "d="), Some(ScramError::Syntax));
    }

    #[test]
    fn a_decoy_answers_alike_and_never_lets_in() {
        let decoy = || Credential::decoy(&[3; 32], "user");
        let (first, message) = challenge(decoy());
        assert_eq!(message, challenge(decoy()).1);
        assert_eq!(first.on_client_final(FINAL), Err(ScramError::Proof));
    }

    #[test]
    fn rejects_what_is_no_first_message() {
        for (message, error) in [
            ("", ScramError::Syntax),
            ("n,,", ScramError::Syntax),
            ("x,,n=u,r=a", ScramError::Syntax),
            ("p=tls-exporter,,n=u,r=a", ScramError::ChannelBinding),
            ("n,,m=ext,n=u,r=a", ScramError::Extension),
            ("n,a=other,n=u,r=a", ScramError::AuthorizationId),
            ("n,other,n=u,r=a", ScramError::Syntax),
            ("n,,n=,r=a", ScramError::Syntax),
            ("n,,n=u=,r=a", ScramError::Syntax),
            ("n,,n=u=2c,r=a", ScramError::Syntax),
            ("n,,n=u,r=", ScramError::Syntax),
            ("n,,n=u,r=a b", ScramError::Syntax),
            ("n,,r=a,n=u", ScramError::Syntax),
            ("n,,n=u\0,r=a", ScramError::Syntax),
        ] {
            assert_eq!(
                ClientFirst::parse(message.as_bytes()),
                Err(error),
                "{message}"
            );
        }
    }

    #[test]
    fn names_are_unescaped() {
        let first = ClientFirst::parse(b"y,a=a=2Cb=3D,n=a=2Cb=3D,r=x").expect("a message");
        assert_eq!(first.login(), "a,b=");
    }

    #[test]
    fn nonces_differ() {
        let mut entropy = SeededEntropy::new(1);
        let mut message = || {
            let first = ClientFirst::parse(FIRST).expect("a message");
            first.challenge(pencil(), &mut entropy).1
        };
        assert_ne!(message(), message());
    }
}
