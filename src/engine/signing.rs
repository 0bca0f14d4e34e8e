//! Which keys sign a message, and which parts of it they sign.

use std::sync::Arc;

use crate::address::Domain;
use crate::auth::dkim::key::SigningKey;
use crate::auth::dkim::sign::{Signer, SigningInput, prepare};
use crate::clock::Now;
use crate::config::{Config, DkimKey};
use crate::digest::DIGEST_BYTES;
use crate::mail::address_list::from_mailboxes;
use crate::mail::authors::{AuthorsError, authors_in};
use crate::mail::header::Header;

/// Keys, each with the domain that it signs for.
pub(super) type Keys = Vec<(Domain, Arc<DkimKey>)>;

/// The keys that sign for an author's domain: its own, or else those of the nearest served domain above it, which
/// aligns with it under the relaxed mode of DMARC.
pub(super) fn keys_of(config: &Config, domain: &Domain) -> Keys {
    let mut domains = std::iter::successors(Some(domain.clone()), Domain::parent);
    let Some(signer) = domains.find(|domain| !config.signing_keys(domain).is_empty()) else {
        return Keys::new();
    };
    config
        .signing_keys(&signer)
        .iter()
        .map(|key| (signer.clone(), Arc::clone(key)))
        .collect()
}

/// The keys that sign a message of a trusted sender: those of the first author whose domain has keys.
pub(super) fn keys_for(config: &Config, header: &Header) -> Keys {
    let authors = authors_of(header).unwrap_or_default();
    let mut keys = authors.iter().map(|author| keys_of(config, author));
    keys.find(|keys| !keys.is_empty()).unwrap_or_default()
}

/// Whether From names a domain that has keys, however it is written.
pub(super) fn is_mentioned(config: &Config, header: &Header) -> bool {
    let signers = config.domains.iter();
    let signers = signers.filter(|(_, served)| !served.dkim.is_empty());
    let signers: Vec<&Domain> = signers.map(|(domain, _)| domain).collect();
    header.named("From").any(|from| {
        let text = String::from_utf8_lossy(from.value()).to_ascii_lowercase();
        signers.iter().any(|domain| names(&text, domain))
    })
}

/// The domains of the authors of a message of a trusted sender: by the grammar, or if there are none, as any mail
/// reader could display them.
pub(super) fn authors_of(header: &Header) -> Result<Vec<Domain>, AuthorsError> {
    if let Ok(authors) = from_mailboxes(header) {
        return Ok(authors
            .iter()
            .map(|author| author.domain().clone())
            .collect());
    }
    let mut fields = header.named("From");
    match (fields.next(), fields.next()) {
        (Some(field), None) => authors_in(field.value()),
        (None, _) => Err(AuthorsError::Missing),
        (Some(_), Some(_)) => Err(AuthorsError::Duplicate),
    }
}

/// Whether a text in small letters names a domain or one below it.
fn names(text: &str, domain: &Domain) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut found = text.match_indices(domain.as_str());
    found.any(|(at, name)| {
        let before = text.as_bytes().get(..at).and_then(<[u8]>::last);
        let behind = text.as_bytes().get(at.saturating_add(name.len()));
        ![before, behind]
            .into_iter()
            .flatten()
            .any(|byte| is_part(*byte))
    })
}

/// The signing input of each key, for a message whose header begins with the fields `added`.
pub(super) fn signing_inputs(
    keys: &Keys,
    header: &Header,
    added: &[u8],
    body_hash: &[u8; DIGEST_BYTES],
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
