//! DomainKeys Identified Mail (RFC 6376; algorithms RFC 8301 and RFC 8463).
//!
//! Signing is split in three so that the event loop only hashes: [`sign::prepare`] makes the data to be signed,
//! [`key::SigningKey::sign`] computes the signature on a worker, [`sign::SigningInput::finish`] writes the field.
//! Verification is split likewise: the loop hashes the body and asks for the keys, [`verify::DkimVerification::judge`]
//! computes the rest on a worker, once, and at most as much as [`cost`] allows.
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
