//! DomainKeys Identified Mail (RFC 6376; algorithms RFC 8301 and RFC 8463).
//!
//! Signing has three steps, so that the event loop only hashes: [`sign::prepare`] makes the data to sign,
//! [`key::SigningKey::sign`] computes the signature on a worker, [`sign::SigningInput::finish`] writes the field.
//! Verification is divided likewise: the loop hashes the body and requests the keys;
//! [`verify::DkimVerification::judge`] computes the rest on a worker, once, and within the limits of [`cost`].
//!
//! Not supported: rsa-sha1 (retired by RFC 8301), signing with `l=`, `x=` or `z=`.

pub(in crate::auth) mod bodies;
pub mod canonical;
pub(in crate::auth) mod claim;
pub mod cost;
mod der;
pub mod key;
pub mod record;
pub mod sign;
pub(in crate::auth) mod signature;
pub mod tag;
pub mod verdict;
pub mod verify;
