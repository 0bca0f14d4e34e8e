//! DomainKeys Identified Mail (RFC 6376; algorithms RFC 8301 and RFC 8463).

mod der;
pub mod key;
