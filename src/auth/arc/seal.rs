//! Adds a set to a chain (RFC 8617 section 5.1).

use std::fmt;

use super::sets::{
    ArcFailure, ArcResult, ArcVerdict, Chain, ChainValidation, MESSAGE, RESULTS, SEAL,
};
use super::verify::append_set;
use crate::auth::dkim::canonical::{Canonicalization, append_field};
use crate::auth::dkim::key::{SignError, SigningKey};
use crate::auth::dkim::sign::{Signer, SigningInput, Style, prepare_as};
use crate::auth::results::AuthenticationResults;
use crate::digest::DIGEST_BYTES;
use crate::limits::ARC_SETS_MAX;
use crate::mail::header::{Field, Header};

/// A set that waits for its two signatures; the second covers the first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealing {
    /// The complete ARC-Authentication-Results field.
    results: Vec<u8>,
    message: SigningInput,
    /// The earlier sets and the results, in the form that the seal covers.
    sealed: Vec<u8>,
    seal_without_b: String,
}

/// Why no set is added to a chain. The message is forwarded without one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SealRefusal {
    /// The newest seal already says that the chain failed (section 5.1, step 2).
    Broken,
    /// There are [`ARC_SETS_MAX`] sets (section 4.2.1).
    Full,
}

/// Prepares the next set for a message that begins with `prepended`, complete fields, and `header`, to which `verdict`
/// applies. `results` are the results of this host, including its verdict on the chain.
///
/// The message must not change afterwards: `body_hash` is that of the relaxed body as it is sent, and `prepended`
/// contains the fields that are added above, such as DKIM-Signature. The set is placed above them.
/// Decides RFC 8617 section 4.2.1, RFC 8617 section 5.1.
pub fn prepare(
    header: &Header,
    prepended: &[u8],
    body_hash: &[u8; DIGEST_BYTES],
    results: &AuthenticationResults,
    verdict: &ArcVerdict,
    signer: &Signer<'_>,
) -> Result<Sealing, SealRefusal> {
    if let ArcResult::Fail(ArcFailure::Reported { .. }) = verdict.outcome {
        return Err(SealRefusal::Broken);
    }
    if verdict.highest >= u64::from(ARC_SETS_MAX) {
        return Err(SealRefusal::Full);
    }
    let instance = verdict.highest.saturating_add(1);
    let above = Header::parse(prepended.to_vec()).unwrap_or_default();
    let fields: Vec<Field<'_>> = above.fields().chain(header.fields()).collect();
    let first = format!("i={instance}");
    let style = Style {
        name: MESSAGE,
        first: &first,
        families: &["dkim-signature", "list-", "resent-"],
    };
    let message = prepare_as(&style, &fields, body_hash, signer);
    let results = format!("{RESULTS}: {first}; {results}\r\n").into_bytes();
    let mut sealed = Vec::new();
    // Section 5.1.2: the seal on a failed chain covers only its own set, because verifiers could not agree on the
    // others.
    if verdict.status() == ChainValidation::Pass {
        let fields: Vec<Field<'_>> = header.fields().collect();
        for set in Chain::collect(header).sets.unwrap_or_default() {
            append_set(&mut sealed, &fields, set);
        }
    }
    append_whole(&mut sealed, &results);
    Ok(Sealing {
        results,
        message,
        sealed,
        seal_without_b: format!(
            " {first}; a={}; t={}; cv={};\r\n\td={};\r\n\ts={};\r\n\tb=",
            signer.algorithm,
            signer.at.seconds(),
            verdict.status(),
            signer.domain,
            signer.selector,
        ),
    })
}

impl Sealing {
    /// Signs twice, and returns the three fields, to be placed above the message. It takes milliseconds with RSA, so it
    /// runs on a worker.
    pub fn seal(self, key: &SigningKey) -> Result<Vec<u8>, SignError> {
        let message = self.message.sign(key)?;
        let mut sealed = self.sealed;
        append_whole(&mut sealed, &message);
        let mut set = SigningInput::new(sealed, SEAL, self.seal_without_b).sign(key)?;
        set.extend_from_slice(&message);
        set.extend_from_slice(&self.results);
        Ok(set)
    }
}

impl fmt::Display for SealRefusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => out.write_str("the chain says itself that it is broken"),
            Self::Full => write!(out, "the chain has {ARC_SETS_MAX} sets"),
        }
    }
}

impl std::error::Error for SealRefusal {}

/// Appends a field that belongs to no set.
fn append_whole(data: &mut Vec<u8>, field: &[u8]) {
    for field in Header::parse(field.to_vec()).unwrap_or_default().fields() {
        append_field(data, field, Canonicalization::Relaxed);
    }
}
