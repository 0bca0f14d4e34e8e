//! Authenticated Received Chain (RFC 8617): which hosts forwarded a message before, and what each of them found, under
//! seal.
//!
//! Each host that forwards a message adds a set of three fields with one instance number: its findings
//! (ARC-Authentication-Results), a signature over the message as it leaves (ARC-Message-Signature, DKIM's algorithm),
//! and a seal over all sets so far (ARC-Seal). [`ArcVerification`] asks for the keys of a chain and judges it;
//! [`prepare`] adds a set to it.
//!
//! Stricter than RFC 8617: `l=` is honoured in the newest message signature only, where [`ArcVerdict::partial`] reports
//! it. An older message signature whose key is not the key of any seal is not looked up and counts as failed for
//! `oldest_pass`, which section 5.2 leaves optional.
//!
//! Invariant: a chain costs at most [`crate::limits::ARC_SETS_MAX`] look-ups and one more, and what
//! [`crate::auth::dkim::cost`] allows, and hashes the body once in each of the two canonical forms.

mod seal;
mod sets;
mod verify;

pub use seal::{SealRefusal, Sealing, prepare};
pub use sets::{ArcFailure, ArcResult, ArcVerdict, ChainValidation, SealedSet};
pub use verify::ArcVerification;

#[cfg(test)]
mod tests;
