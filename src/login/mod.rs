//! Authentication of users: SASL (RFC 4422, RFC 4954), SCRAM-SHA-256 (RFC 5802, RFC 7677), the stored credentials, and
//! the passwords that are refused because they are easy to guess.

pub mod credential;
pub mod guessable;
pub mod sasl;
pub mod saslprep;
pub mod scram;
