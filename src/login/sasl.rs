//! Client responses in AUTH (RFC 4954): base64, PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).
//!
//! SCRAM-SHA-256 has its own module ([`crate::login::scram`]). Not supported: proxy authorization; the authorization
//! identity must be empty or equal to the login.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::limits::LOGIN_BYTES_MAX;
use crate::login::credential::{Password, PasswordError};

/// The mechanisms that are offered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// The mechanism of old clients (draft-murchison-sasl-login).
    Login,
    /// RFC 7677.
    ScramSha256,
}

impl SaslMechanism {
    /// All mechanisms, the strongest first, as EHLO lists them.
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];

    /// The name in EHLO and AUTH.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// The mechanism of this name, compared without case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.as_str().eq_ignore_ascii_case(name))
    }
}

/// A login, and the password that the client presents for it.
#[derive(Debug)]
pub struct LoginClaim {
    /// The claimed login.
    pub login: String,
    pub password: Password,
}

/// Why a client's response is malformed (501). [`SaslError::AuthorizationId`] is the exception: it is refused like a
/// wrong password (RFC 4616 section 2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SaslError {
    /// Not canonical base64.
    Base64,
    /// Not the number of NULs that PLAIN requires.
    Parts,
    /// The login is empty, too long, not UTF-8, or contains a control character.
    Login,
    /// The client requests to act for another user.
    AuthorizationId,
    /// The password is not a valid one.
    Password(PasswordError),
}

/// The challenge that asks for the login (`Username:`), in base64.
pub const LOGIN_NAME_PROMPT: &str = "VXNlcm5hbWU6";
/// The challenge that asks for the password (`Password:`), in base64.
pub const LOGIN_PASSWORD_PROMPT: &str = "UGFzc3dvcmQ6";

/// Decodes a response line, which is base64 with its padding and nothing else.
pub fn decode(line: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    STANDARD
        .decode(line)
        .map(Zeroizing::new)
        .map_err(|_| SaslError::Base64)
}

/// Decodes an initial response, in which `=` represents an empty one.
/// Decides RFC 4954 section 4.
pub fn decode_initial(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    if text == b"=" {
        return Ok(Zeroizing::new(Vec::new()));
    }
    decode(text)
}

/// Encodes a challenge.
pub fn encode(challenge: &[u8]) -> String {
    STANDARD.encode(challenge)
}

/// Reads a PLAIN message: authzid NUL authcid NUL password.
pub fn plain(message: &[u8]) -> Result<LoginClaim, SaslError> {
    let mut parts = message.split(|&byte| byte == 0);
    let (Some(authorization), Some(login), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslError::Parts);
    };
    let login_text = login_name(login)?;
    if !authorization.is_empty() && authorization != login {
        return Err(SaslError::AuthorizationId);
    }
    Ok(LoginClaim {
        login: login_text,
        password: login_password(password)?,
    })
}

/// The login of a PLAIN message that requests to act for another user ([`SaslError::AuthorizationId`]).
pub fn plain_login(message: &[u8]) -> Option<String> {
    let login = message.split(|&byte| byte == 0).nth(1)?;
    login_name(login).ok()
}

/// Reads the login of the LOGIN mechanism.
pub fn login_name(message: &[u8]) -> Result<String, SaslError> {
    let text = std::str::from_utf8(message).map_err(|_| SaslError::Login)?;
    if text.is_empty() || text.len() > LOGIN_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(SaslError::Login);
    }
    Ok(text.to_owned())
}

/// Reads the password of the LOGIN mechanism.
pub fn login_password(message: &[u8]) -> Result<Password, SaslError> {
    let text =
        std::str::from_utf8(message).map_err(|_| SaslError::Password(PasswordError::Encoding))?;
    Password::new(text.to_owned()).map_err(SaslError::Password)
}

impl fmt::Display for SaslError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base64 => out.write_str("expected base64"),
            Self::Parts => out.write_str("expected login and password between NULs"),
            Self::Login => out.write_str("expected a login"),
            Self::AuthorizationId => out.write_str("expected no authorization identity"),
            Self::Password(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for SaslError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(message: &[u8]) -> Result<String, SaslError> {
        plain(message).map(|claim| claim.login)
    }

    #[test]
    fn reads_the_examples_of_rfc_4616() {
        let claim = plain(b"\0tim\0tanstaaftanstaaf").expect("a claim");
        assert_eq!(claim.login, "tim");
        assert_eq!(claim.password.as_bytes(), b"tanstaaftanstaaf");
        assert_eq!(
            login(b"Ursel\0Kurt\0xipj3plmq"),
            Err(SaslError::AuthorizationId)
        );
        assert_eq!(login(b"Kurt\0Kurt\0xipj3plmq").as_deref(), Ok("Kurt"));
    }

    #[test]
    fn rejects_what_is_no_plain_message() {
        for (message, error) in [
            (&b""[..], SaslError::Parts),
            (b"tim", SaslError::Parts),
            (b"tim\0x", SaslError::Parts),
            (b"\0tim\0x\0", SaslError::Parts),
            (b"\0\0x", SaslError::Login),
            (b"\0t\xff\0x", SaslError::Login),
            (b"\0t\r\n\0x", SaslError::Login),
            (b"\0tim\0", SaslError::Password(PasswordError::Empty)),
            (b"\0tim\0\xff", SaslError::Password(PasswordError::Encoding)),
        ] {
            assert_eq!(login(message), Err(error), "{message:?}");
        }
    }

    #[test]
    fn base64_is_strict() {
        for text in [
            "AA", "AA=", "A A=", "AAAA\r", "AB==", "-_==", "*", "AA==AA==",
        ] {
            assert_eq!(
                decode(text.as_bytes()).err(),
                Some(SaslError::Base64),
                "{text}"
            );
        }
        assert_eq!(decode(b"AHRpbQB4").map(|bytes| bytes.len()), Ok(6));
        assert_eq!(decode_initial(b"=").map(|bytes| bytes.len()), Ok(0));
        assert_eq!(decode(b"=").err(), Some(SaslError::Base64));
    }

    #[test]
    fn names_are_known_without_case() {
        assert_eq!(
            SaslMechanism::parse("scram-sha-256"),
            Some(SaslMechanism::ScramSha256)
        );
        assert_eq!(SaslMechanism::parse("CRAM-MD5"), None);
        assert_eq!(
            decode(LOGIN_NAME_PROMPT.as_bytes()).expect("base64")[..],
            *b"Username:"
        );
        assert_eq!(
            decode(LOGIN_PASSWORD_PROMPT.as_bytes()).expect("base64")[..],
            *b"Password:"
        );
    }

    #[test]
    fn debug_shows_no_password() {
        let claim = plain(b"\0tim\0secret").expect("a claim");
        assert!(!format!("{claim:?}").contains("secret"));
    }
}
