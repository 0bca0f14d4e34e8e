//! Limits on the computation for one message, whatever the number of its signatures and the size of their keys.

use super::verdict::DkimFailure;
use crate::limits::{SIGNATURE_CHECKS_MAX, SIGNED_BYTES_MAX};

/// The computation spent on the signatures of one message, DKIM and ARC together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VerificationCost {
    /// Verifications with a key. A signature whose name has several keys counts once for each key.
    pub checks: usize,
    /// Bytes of the canonical header that were hashed for them.
    pub bytes: usize,
}

impl VerificationCost {
    /// Whether one more verification may be made. It may exceed [`SIGNED_BYTES_MAX`] by the length of one header.
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
