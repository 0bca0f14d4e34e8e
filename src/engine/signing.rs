//! Which keys sign a message, and what they sign of it.

use std::sync::Arc;

use super::Engine;
use crate::address::Domain;
use crate::auth::credential::KEY_BYTES;
use crate::auth::dkim::key::SigningKey;
use crate::auth::dkim::sign::{Signer, SigningInput, prepare};
use crate::clock::Now;
use crate::config::DkimKey;
use crate::mail::header::Header;

/// Keys, each with the domain that it signs for.
pub(super) type Keys = Vec<(Domain, Arc<DkimKey>)>;

impl Engine {
    /// The keys of a domain: none where it is not served.
    pub(super) fn keys_of(&self, domain: &Domain) -> Keys {
        self.config
            .signing_keys(domain)
            .iter()
            .map(|key| (domain.clone(), Arc::clone(key)))
            .collect()
    }
}

/// What each key signs of a message whose header begins with the fields `added`.
pub(super) fn signing_inputs(
    keys: &Keys,
    header: &Header,
    added: &[u8],
    body_hash: &[u8; KEY_BYTES],
    now: Now,
) -> Vec<(Arc<SigningKey>, SigningInput)> {
    keys.iter()
        .map(|(domain, key)| {
            let signer = Signer {
                domain,
                selector: &key.selector,
                algorithm: key.key.algorithm(),
                at: now.wall,
            };
            let input = prepare(header, added, body_hash, &signer);
            (Arc::clone(&key.key), input)
        })
        .collect()
}
