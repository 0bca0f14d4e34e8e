//! Signs a message with each key and verifies it as a receiver would, through the DNS.

use crate::address::Domain;
use crate::auth::dkim::canonical::{BodyHasher, Canonicalization};
use crate::auth::dkim::sign::{Signer, prepare};
use crate::auth::dkim::verdict::{DkimFailure, DkimResult};
use crate::auth::dkim::verify::DkimVerification;
use crate::auth::dmarc::{self, Evidence};
use crate::config::DkimKey;
use crate::date::Timestamp;
use crate::mail::header::Header;
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::signing::{Facts, Signed};
use crate::shell::process::time::wall;

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope, domain: &Domain) -> Facts {
    let keys: Vec<Signed> = examination
        .config
        .signing_keys(domain)
        .iter()
        .map(|key| Signed {
            selector: key.selector.to_string(),
            kind: match key.key.bits() {
                bits if key.key.algorithm().as_str().starts_with("rsa") => format!("RSA-{bits}"),
                _ => "Ed25519".to_owned(),
            },
            outcome: try_key(examination, domain, key),
        })
        .collect();
    let is_signed = keys.iter().any(|key| key.outcome.is_ok());
    let unknown = |key: &Signed| matches!(key.outcome, Err((DkimResult::TempError, _)));
    let passing = match is_signed {
        true => vec![domain.clone()],
        false => Vec::new(),
    };
    let evidence = Evidence {
        author: domain,
        spf: None,
        dkim: &passing,
    };
    let mut verdict = examination
        .asker
        .verdict(|answers| dmarc::evaluate(&evidence, answers))
        .outcome;
    if verdict == dmarc::DmarcResult::Fail && keys.iter().any(unknown) {
        verdict = dmarc::DmarcResult::TempError;
    }
    Facts {
        domain: domain.clone(),
        keys,
        dmarc: verdict,
    }
}

fn try_key(
    examination: &DoctorScope,
    domain: &Domain,
    key: &DkimKey,
) -> Result<(), (DkimResult, DkimFailure)> {
    let now = wall();
    let host = &examination.config.hostname;
    let unusable = (DkimResult::Fail, DkimFailure::Signature);
    let header = signed(domain, key, host, now).ok_or(unusable)?;
    let mut verification = DkimVerification::new(&header, now);
    verification.on_body(BODY);
    let verdicts = examination
        .asker
        .verdict(|answers| verification.resume(&header, answers));
    let outcome = verdicts.first().map(|verdict| verdict.outcome);
    let failure = outcome.ok_or(unusable)?.err();
    failure.map_or(Ok(()), |failure| Err((failure.verdict(), failure)))
}

/// The header of a message as it would leave, with the signature of a key.
fn signed(domain: &Domain, key: &DkimKey, host: &Domain, now: Timestamp) -> Option<Header> {
    let fields = format!(
        "Date: {}\r\nFrom: postmaster@{domain}\r\nTo: postmaster@{domain}\r\nSubject: A message that is not sent\r\n\
         Message-ID: <doctor@{host}>\r\n",
        now.rfc5322()
    );
    let header = Header::parse(fields.clone().into_bytes()).ok()?;
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(BODY);
    let signer = Signer {
        domain,
        selector: &key.selector,
        algorithm: key.key.algorithm(),
        at: now,
    };
    let field = prepare(&header, b"", &hasher.finish().hash, &signer).sign(&key.key);
    let mut message = field.ok()?;
    message.extend_from_slice(fields.as_bytes());
    Header::parse(message).ok()
}

const BODY: &[u8] = b"This shows whether a signature can be verified.\r\n";

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::auth::dkim::key::SigningKey;
    use crate::auth::dkim::record::record_text;
    use crate::dns::{Answer, Records, Step};

    #[test]
    fn what_is_signed_is_verified_with_the_record_of_its_key_and_with_no_other() {
        let pem = |text| SigningKey::from_pem(text).expect("a key");
        let keys = [
            pem(include_str!("../../../../tests/data/dkim/ed25519.pem")),
            pem(include_str!(
                "../../../../tests/data/dkim/rsa-2048-pkcs8.pem"
            )),
        ];
        let texts: Vec<String> = keys.iter().map(record_text).collect();
        let domain = Domain::parse("example.com").expect("a domain");
        let now = Timestamp::from_seconds(1_795_478_400);
        for (key, own) in keys.into_iter().zip(&texts) {
            let key = DkimKey {
                selector: "s1".into(),
                key: Arc::new(key),
            };
            let header = signed(&domain, &key, &domain, now).expect("a signature");
            for text in &texts {
                let mut verification = DkimVerification::new(&header, now);
                verification.on_body(BODY);
                let records = Records::Txt(vec![text.clone().into_bytes()]);
                let answer = Answer {
                    records: Ok(Arc::new(records)),
                    authentic: false,
                    ttl: Duration::ZERO,
                };
                let questions = verification.questions();
                let answers: Vec<_> = questions
                    .into_iter()
                    .map(|one| (one, answer.clone()))
                    .collect();
                let Step::Done(verdicts) = verification.resume(&header, &answers) else {
                    panic!("all is answered");
                };
                assert_eq!(
                    verdicts[0].outcome.is_ok(),
                    text == own,
                    "{:?}",
                    verdicts[0]
                );
            }
        }
    }
}
