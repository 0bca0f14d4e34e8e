//! Authentication of messages and of their senders: DKIM (RFC 6376), SPF (RFC 7208), DMARC (RFC 9989), ARC (RFC 8617),
//! the header fields for their results (RFC 8601), and SRS, which keeps SPF passing for forwarded mail.

pub mod arc;
pub mod dkim;
pub mod dmarc;
pub mod results;
pub mod spf;
pub mod srs;
