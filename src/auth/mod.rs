//! Who somebody is: DKIM (RFC 6376), SPF (RFC 7208), DMARC (RFC 9989), ARC (RFC 8617), how their results are written
//! (RFC 8601), SRS, SCRAM and the other SASL mechanisms, stored credentials.

pub mod arc;
pub mod credential;
pub mod dkim;
pub mod dmarc;
pub mod guessable;
pub mod results;
pub mod sasl;
pub mod saslprep;
pub mod scram;
pub mod spf;
pub mod srs;
