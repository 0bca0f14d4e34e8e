//! How a user proves who they are: SASL (RFC 4422, RFC 4954), SCRAM-SHA-256 (RFC 5802, RFC 7677), the credentials that
//! are stored for it, and which passwords are refused because they can be guessed.

pub mod credential;
pub mod guessable;
pub mod sasl;
pub mod saslprep;
pub mod scram;
