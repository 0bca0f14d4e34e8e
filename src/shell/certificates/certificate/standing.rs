//! Which of two certificates of a name is preferred: the one that a client can verify.
//!
//! This is the one place that decides it: for handshakes, for pairs that are read again, and for certificates from a
//! CA. A validity that cannot be read and a chain that leads nowhere do not count as valid.

use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;

use super::names::Validity;
use crate::date::Timestamp;

/// How a verifying client ranks a certificate at a time; the greatest is preferred.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Standing {
    /// It has begun and has not ended.
    pub is_valid: bool,
    /// Its chain leads to a root that is known here.
    pub is_trusted: bool,
}

impl Standing {
    pub(super) fn new(validity: Option<Validity>, is_trusted: bool, now: Timestamp) -> Self {
        let is_within = |validity: Validity| validity.from <= now && now < validity.to;
        Self {
            is_valid: validity.is_some_and(is_within),
            is_trusted,
        }
    }

    /// Whether a certificate of this rank may replace one of rank `other`.
    pub fn may_replace(self, other: Self) -> bool {
        self >= other
    }
}

/// Whether a chain leads to one of these roots: now, or if its certificate is not valid now, at the nearest time when
/// it is. Its validity is a separate question.
pub(super) fn leads_to_root(
    chain: &[CertificateDer<'_>],
    validity: Option<Validity>,
    roots: &RootCertStore,
    provider: &CryptoProvider,
    now: Timestamp,
) -> bool {
    let (Some([end, issuers @ ..]), Some(validity)) = (Some(chain), validity) else {
        return false;
    };
    let Ok(end) = ParsedCertificate::try_from(end) else {
        return false;
    };
    let at = now.max(validity.from).min(validity.to);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.seconds()));
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&end, roots, issuers, at, algorithms).is_ok()
}
