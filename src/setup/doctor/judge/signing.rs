//! Signatures of a domain, made and verified.

use crate::address::Domain;
use crate::auth::dkim::verdict::{DkimFailure, DkimResult};
use crate::auth::dmarc;
use crate::setup::doctor::checks::{DKIM_KEY, DKIM_SIGNATURE, DMARC, RESOLVER};
use crate::setup::doctor::finding::Finding;

/// One key.
#[derive(Clone, Debug)]
pub struct Signed {
    pub selector: String,
    /// Its kind, and its bits.
    pub kind: String,
    /// Whether a signature made with it is verified; the result's word and the reason.
    pub outcome: Result<(), (DkimResult, DkimFailure)>,
}

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    pub domain: Domain,
    pub keys: Vec<Signed>,
    /// The DMARC result of a message with all of these signatures, and without SPF.
    pub dmarc: dmarc::DmarcResult,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let domain = &facts.domain;
    if facts.keys.is_empty() {
        let mend = format!("chopar dkim keygen --selector s1 {domain}");
        return vec![DKIM_KEY.bad(domain, "there is none", mend)];
    }
    let selectors: Vec<&str> = facts.keys.iter().map(|key| key.selector.as_str()).collect();
    let mut found = vec![DKIM_KEY.good(domain, selectors.join(", "))];
    found.extend(facts.keys.iter().map(|key| signature(domain, key)));
    found.push(dmarc(facts));
    found
}

fn signature(domain: &Domain, key: &Signed) -> Finding {
    let about = format!("{}._domainkey.{domain}", key.selector);
    match &key.outcome {
        Ok(()) => DKIM_SIGNATURE.good(about, format!("{} signature is verified", key.kind)),
        Err((DkimResult::TempError, failure)) => DKIM_SIGNATURE
            .unknown(
                about,
                format!("the key could not be looked up: {failure}"),
                "run chopar doctor again once the servers of the zone answer",
            )
            .for_want_of(&RESOLVER),
        Err((_, failure)) => DKIM_SIGNATURE.bad(
            about,
            format!("{} signature is not verified: {failure}", key.kind),
            format!("publish the key that chopar dns {domain} shows"),
        ),
    }
}

fn dmarc(facts: &Facts) -> Finding {
    let domain = &facts.domain;
    match facts.dmarc {
        dmarc::DmarcResult::Pass => DMARC.good(domain, "pass, by the signature alone"),
        dmarc::DmarcResult::TempError => DMARC
            .unknown(
                domain,
                "a record could not be looked up",
                "run chopar doctor again once the servers of the zone answer",
            )
            .for_want_of(&RESOLVER),
        dmarc::DmarcResult::None => DMARC.bad(
            domain,
            "the domain has no policy",
            format!("publish the DMARC record that chopar dns {domain} shows"),
        ),
        dmarc::DmarcResult::Fail => DMARC.bad(
            domain,
            "fail: no signature is verified for the domain in From",
            format!("publish the keys that chopar dns {domain} shows"),
        ),
    }
}
