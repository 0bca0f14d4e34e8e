//! Authenticated Received Chain (RFC 8617): the hosts that forwarded a message before, and the signed results of each.
//!
//! Each host that forwards a message adds a set of three fields with one instance number: its results
//! (ARC-Authentication-Results), a signature over the message as it leaves (ARC-Message-Signature, DKIM's algorithm),
//! and a seal over all sets so far (ARC-Seal). [`ArcVerification`] requests the keys of a chain and validates it;
//! [`prepare`] adds a set to it.
//!
//! Stricter than RFC 8617: `l=` is honoured in the newest message signature only, and [`ArcVerdict::partial`] reports
//! it. An older message signature whose key does not belong to any seal is not looked up. It counts as failed for
//! `oldest_pass`, which section 5.2 leaves optional.
//!
//! Invariant: a chain costs at most [`crate::limits::ARC_SETS_MAX`] look-ups and one more, stays within the limits of
//! [`crate::auth::dkim::cost`], and hashes the body once in each of the two canonical forms.

mod seal;
mod sets;
mod verify;

pub use seal::{SealRefusal, Sealing, prepare};
pub use sets::{ArcFailure, ArcResult, ArcVerdict, ChainValidation, SealedSet};
pub use verify::ArcVerification;

#[cfg(test)]
mod tests;
