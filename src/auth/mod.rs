//! Who somebody is: DKIM (RFC 6376), SPF (RFC 7208), DMARC (RFC 9989), SRS, SCRAM and the other SASL mechanisms, stored credentials.

pub mod credential;
pub mod dkim;
pub mod dmarc;
pub mod sasl;
pub mod scram;
pub mod spf;
pub mod srs;
