//! Limits on the computation for one message, however many signatures it has and whoever made their keys.

use super::verdict::DkimFailure;
use crate::limits::{SIGNATURE_CHECKS_MAX, SIGNED_BYTES_MAX};

/// The computation for the signatures of one message: DKIM and ARC together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VerificationCost {
    /// Verifications with a key; a signature whose name has several keys counts for each.
    pub checks: usize,
    /// Bytes of the header that were hashed for them, in their canonical form.
    pub bytes: usize,
}

impl VerificationCost {
    /// Whether one more check may be made. It may go past [`SIGNED_BYTES_MAX`] by the length of a header.
    pub(in crate::auth) fn admit(self) -> Result<(), DkimFailure> {
        if self.checks < SIGNATURE_CHECKS_MAX && self.bytes < SIGNED_BYTES_MAX {
            Ok(())
        } else {
            Err(DkimFailure::TooMuch)
        }
    }

    /// Records a verification over this number of bytes.
    pub(in crate::auth) fn spend(&mut self, bytes: usize) {
        self.checks = self.checks.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}
