//! The rules of large receivers for senders, and whether they are met, as far as the other findings show.

use crate::setup::doctor::checks::{ALL, DoctorCheck, GMAIL, OUTLOOK, YAHOO};
use crate::setup::doctor::finding::{CheckState, Finding};

/// A rule, and the checks that have to be good for it to be met.
struct Rule {
    text: &'static str,
    checks: &'static [&'static str],
}

const SPF_OR_DKIM: Rule = Rule {
    text: "SPF passes",
    checks: &["spf"],
};
const DKIM: Rule = Rule {
    text: "DKIM passes",
    checks: &["dkim-key", "dkim-signature"],
};
const DMARC: Rule = Rule {
    text: "a DMARC policy, p=none at least",
    checks: &["dns-dmarc"],
};
const ALIGNMENT: Rule = Rule {
    text: "From is aligned with SPF or DKIM",
    checks: &["dmarc"],
};
const POINTER: Rule = Rule {
    text: "forward and reverse names of the address match",
    checks: &["dns-address", "dns-ptr"],
};
const UNLISTED: Rule = Rule {
    text: "the address is on no block list",
    checks: &["dnsbl"],
};
const BOUNCES: Rule = Rule {
    text: "the sender's address takes replies and bounces",
    checks: &["dns-mx"],
};

/// Rules that cannot be checked from this host.
const UNSEEN: [(&str, &str); 2] = [
    (
        "less than 0.3 % of the messages are reported as spam",
        "cannot be checked from here: sign up at postmaster.google.com, senders.yahooinc.com or \
         sendersupport.olc.protection.outlook.com",
    ),
    (
        "unsubscribing by one click",
        "asked only of bulk mail (5,000 messages a day and more): the program that writes it adds List-Unsubscribe and \
         List-Unsubscribe-Post",
    ),
];

/// A rule that the relay always meets.
const TLS: (&str, &str) = (
    "mail is sent over TLS",
    "met: chopar uses TLS wherever the other side offers it",
);

/// The findings that follow from `found`.
pub fn judge(found: &[Finding]) -> Vec<Finding> {
    let of_receivers: [(&'static DoctorCheck, &[Rule]); 3] = [
        (
            &GMAIL,
            &[SPF_OR_DKIM, DKIM, DMARC, ALIGNMENT, POINTER, UNLISTED],
        ),
        (
            &YAHOO,
            &[SPF_OR_DKIM, DKIM, DMARC, ALIGNMENT, POINTER, UNLISTED],
        ),
        (
            &OUTLOOK,
            &[SPF_OR_DKIM, DKIM, DMARC, ALIGNMENT, UNLISTED, BOUNCES],
        ),
    ];
    let mut rules = Vec::new();
    for (check, asked) in of_receivers {
        rules.extend(asked.iter().map(|rule| one(check, rule, found)));
        rules.push(check.good(TLS.0, TLS.1));
        rules.extend(UNSEEN.iter().map(|(rule, why)| check.skipped(rule, *why)));
    }
    rules
}

fn one(check: &'static DoctorCheck, rule: &Rule, found: &[Finding]) -> Finding {
    let about: Vec<&Finding> = found
        .iter()
        .filter(|finding| rule.checks.contains(&finding.check.id))
        .collect();
    let mends = |state: CheckState| {
        let of_state = about.iter().find(|finding| finding.state == state);
        of_state
            .map(|finding| finding.mend.clone())
            .unwrap_or_default()
    };
    // A check that was not made proves nothing, in particular not that all is well.
    let state_of = |id: &str| {
        let of_check = about.iter().filter(|finding| finding.check.id == id);
        let worst = of_check.map(|finding| finding.state).min();
        worst.unwrap_or(CheckState::Unknown)
    };
    let states = rule.checks.iter().map(|id| state_of(id));
    let worst = states.min().unwrap_or(CheckState::Unknown);
    // The checks that the verdict hangs on, by the words that the report has for them.
    let titles: Vec<String> = ALL
        .iter()
        .filter(|check| rule.checks.contains(&check.id) && state_of(check.id) == worst)
        .map(|check| format!("\"{}\"", check.title))
        .collect();
    let see = format!("see {}", titles.join(" and "));
    match worst {
        CheckState::Bad => {
            check.warning(rule.text, format!("not met: {see}"), mends(CheckState::Bad))
        }
        CheckState::Unknown => check.unknown(
            rule.text,
            format!("cannot be determined: {see}"),
            mends(CheckState::Unknown),
        ),
        // A list that does not answer, for one.
        CheckState::Warning => check.warning(
            rule.text,
            format!("cannot be determined for certain: {see}"),
            mends(CheckState::Warning),
        ),
        CheckState::Skipped => check.skipped(rule.text, format!("does not apply: {see}")),
        CheckState::Good => check.good(rule.text, "met"),
    }
}
