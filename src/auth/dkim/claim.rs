//! The common parts of DKIM signatures and the two signatures of ARC: the signer and its key (`d=`, `s=`, `a=`, `b=`),
//! and whether the key in the DNS matches.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey,
};

use super::cost::VerificationCost;
use super::key::Algorithm;
use super::record::{KeyRecord, KeyRecordError, PublicKey, record_name};
use super::tag::{TagList, without_space};
use super::verdict::DkimFailure;
use crate::address::Domain;
use crate::digest::sha256;
use crate::dns::{Answer, Question, RecordKind, Records};
use crate::limits::DKIM_KEY_RECORDS_MAX;

/// DKIM or ARC, which have different tags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::auth) enum SignatureField {
    /// DKIM-Signature.
    Dkim,
    /// ARC-Message-Signature or ARC-Seal: no `v=`, and `i=` is the instance (RFC 8617 section 4.1).
    Arc,
}

/// A signature, and the name of the key that it names.
pub(in crate::auth) struct SignatureClaim {
    domain: Domain,
    /// The domain of `i=`, which is `domain` or a subdomain.
    pub(super) identity: Domain,
    pub(in crate::auth) question: Question,
    algorithm: Algorithm,
    signature: Vec<u8>,
}

/// The tags of a signature, whatever its result.
#[derive(Clone, Default)]
pub(in crate::auth) struct Reported {
    pub(in crate::auth) domain: Option<Domain>,
    pub(in crate::auth) selector: Option<Box<str>>,
    pub(in crate::auth) algorithm: Option<Algorithm>,
    pub(in crate::auth) b_start: Option<Box<str>>,
}

impl SignatureClaim {
    pub(in crate::auth) fn parse(
        tags: &TagList<'_>,
        kind: SignatureField,
        reported: &mut Reported,
    ) -> Result<Self, DkimFailure> {
        let b = without_space(tags.required("b")?);
        let signature = STANDARD
            .decode(&b)
            .map_err(|_| DkimFailure::Tag { name: "b" })?;
        reported.b_start = b.get(..8).map(Into::into);
        let domain = Domain::parse(tags.required("d")?)
            .ok()
            .filter(|domain| !domain.is_literal())
            .ok_or(DkimFailure::Tag { name: "d" })?;
        reported.domain = Some(domain.clone());
        let selector = tags.required("s")?;
        let name = Domain::parse(&record_name(selector, &domain))
            .map_err(|_| DkimFailure::Tag { name: "s" })?;
        reported.selector = Some(selector.into());
        if kind == SignatureField::Dkim && tags.required("v")? != "1" {
            return Err(DkimFailure::Tag { name: "v" });
        }
        let algorithm = match tags.required("a")? {
            "rsa-sha256" => Algorithm::RsaSha256,
            "ed25519-sha256" => Algorithm::Ed25519Sha256,
            "rsa-sha1" => return Err(DkimFailure::RetiredAlgorithm),
            _ => return Err(DkimFailure::UnknownAlgorithm),
        };
        reported.algorithm = Some(algorithm);
        Ok(Self {
            identity: domain.clone(),
            domain,
            question: Question {
                name,
                kind: RecordKind::Txt,
            },
            algorithm,
            signature,
        })
    }

    /// The record whose key verifies the signature. If there are several records, one suffices. `data` makes the signed
    /// data, which are needed only if there is a key.
    pub(in crate::auth) fn verify(
        &self,
        answer: &Answer,
        cost: &mut VerificationCost,
        data: impl Fn() -> Vec<u8>,
    ) -> Result<KeyRecord, DkimFailure> {
        let texts = match &answer.records {
            Ok(records) => match records.as_ref() {
                Records::Txt(texts) => texts.as_slice(),
                _ => &[],
            },
            Err(reason) if reason.is_temporary() => return Err(DkimFailure::KeyUnavailable),
            Err(_) => &[],
        };
        let mut failure = DkimFailure::NoKey;
        let mut signed = None;
        for text in texts.iter().take(DKIM_KEY_RECORDS_MAX) {
            match self.record(text) {
                Ok(record) => {
                    cost.admit()?;
                    let signed: &Vec<u8> = signed.get_or_insert_with(&data);
                    cost.spend(signed.len());
                    if self.fits(&record.key, signed) {
                        return Ok(record);
                    }
                    failure = DkimFailure::Signature;
                }
                // A failure of a valid key record is a better reason than a text that is not a key record.
                Err(DkimFailure::Key(KeyRecordError::Syntax)) if failure != DkimFailure::NoKey => {}
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }

    /// The record, if it can verify this signature.
    fn record(&self, text: &[u8]) -> Result<KeyRecord, DkimFailure> {
        let record = KeyRecord::parse(text).map_err(DkimFailure::Key)?;
        if record.key.algorithm() != self.algorithm {
            return Err(DkimFailure::KeyType);
        }
        if record.strict && self.identity != self.domain {
            return Err(DkimFailure::Identity);
        }
        Ok(record)
    }

    fn fits(&self, key: &PublicKey, data: &[u8]) -> bool {
        let fits = match key {
            PublicKey::Rsa { der, bits } if *bits < 2_048 => {
                UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, der)
                    .verify(data, &self.signature)
            }
            PublicKey::Rsa { der, .. } => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der)
                .verify(data, &self.signature),
            PublicKey::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(&sha256(data), &self.signature)
            }
        };
        fits.is_ok()
    }
}
