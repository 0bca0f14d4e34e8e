//! Signs a message with each key and verifies it as a receiver would, through the DNS.

use crate::address::Domain;
use crate::auth::dkim::canonical::{BodyHasher, Form};
use crate::auth::dkim::sign::{Signer, prepare};
use crate::auth::dkim::verdict::Verdict;
use crate::auth::dkim::verify::Verification;
use crate::auth::dmarc::{self, Evidence};
use crate::config::DkimKey;
use crate::mail::header::Header;
use crate::setup::doctor::Examination;
use crate::setup::doctor::judge::signing::{Facts, Signed};
use crate::shell::time::wall;

/// What there is to know.
pub fn gather(examination: &Examination, domain: &Domain) -> Facts {
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
    let unknown = |key: &Signed| matches!(key.outcome, Err((Verdict::TempError, _)));
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
    if verdict == dmarc::Outcome::Fail && keys.iter().any(unknown) {
        verdict = dmarc::Outcome::TempError;
    }
    Facts {
        domain: domain.clone(),
        keys,
        dmarc: verdict,
    }
}

fn try_key(
    examination: &Examination,
    domain: &Domain,
    key: &DkimKey,
) -> Result<(), (Verdict, crate::auth::dkim::verdict::Failure)> {
    use crate::auth::dkim::verdict::Failure;
    let unusable = (Verdict::Fail, Failure::Signature);
    let now = wall();
    let host = &examination.config.hostname;
    let fields = format!(
        "Date: {}\r\nFrom: postmaster@{domain}\r\nTo: postmaster@{domain}\r\nSubject: A message that is not sent\r\n\
         Message-ID: <doctor@{host}>\r\n\r\n",
        now.rfc5322()
    );
    let header = Header::parse(fields.clone().into_bytes()).map_err(|_| unusable)?;
    let mut hasher = BodyHasher::new(Form::Relaxed);
    hasher.update(BODY);
    let signer = Signer {
        domain,
        selector: &key.selector,
        algorithm: key.key.algorithm(),
        at: now,
    };
    let field = prepare(&header, b"", &hasher.finish().hash, &signer).sign(&key.key);
    let mut signed = field.map_err(|_| unusable)?;
    signed.extend_from_slice(fields.as_bytes());
    let header = Header::parse(signed).map_err(|_| unusable)?;
    let mut verification = Verification::new(&header, now);
    verification.on_body(BODY);
    let verdicts = examination
        .asker
        .verdict(|answers| verification.resume(&header, answers));
    match verdicts.first() {
        Some(verdict) => verdict
            .outcome
            .map_err(|failure| (failure.verdict(), failure)),
        None => Err(unusable),
    }
}

const BODY: &[u8] = b"This shows whether a signature can be verified.\r\n";
