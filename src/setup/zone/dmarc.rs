//! The policy of a domain (RFC 9989) and where its reports go.

use super::wanted::{Purpose, RecordState, WantedRecord, ZoneFacts, ZoneNeed, ZoneView};
use crate::auth::dkim::tag::TagList;
use crate::setup::record::RecordValue;

/// The row of the policy. An existing valid one is left as it is.
pub(super) fn row(facts: &ZoneFacts, seen: &ZoneView) -> Option<WantedRecord> {
    let name = facts.dmarc_name()?;
    let value = RecordValue::Text(fresh(facts, "none"));
    let mut row = WantedRecord::new(Purpose::Dmarc, ZoneNeed::Required, &name, value);
    let found = row.judge_texts(seen.texts(&name, is_one), |text| policy(text).is_some());
    match (row.state.clone(), found.as_slice()) {
        (RecordState::There, [text]) => {
            row.record.value = RecordValue::Text(text.clone());
            judge(facts, text, &mut row);
        }
        (RecordState::Differs, [_, _, ..]) => row.notes.push(
            "there is more than one policy, and receivers then take none of them (RFC 9989 section 4.7): leave this one"
                .to_owned(),
        ),
        (RecordState::Differs, _) => row
            .notes
            .push("it has no p= that can be read, so that it counts as none".to_owned()),
        _ => row.notes.push(
            "once the reports show that all your mail passes, go on to p=quarantine, then to p=reject".to_owned(),
        ),
    }
    Some(row)
}

/// The row by which another domain agrees to receive the reports; `None` if they stay in the domain.
pub(super) fn reports(facts: &ZoneFacts, seen: &ZoneView) -> Option<WantedRecord> {
    let name = facts.reports_name()?;
    let value = RecordValue::Text("v=DMARC1".to_owned());
    let mut row = WantedRecord::new(Purpose::DmarcReports, ZoneNeed::Advised, &name, value);
    row.judge_texts(seen.texts(&name, is_one), |_| true);
    if row.state != RecordState::There {
        row.notes.push(format!(
            "only the operator of the zone of {} can add it; without it no reports are sent to {}. If that is a \
             mailbox provider, use an address of {} instead, with an alias that leads there",
            facts.reports_domain()?,
            facts.reports,
            facts.domain
        ));
    }
    Some(row)
}

/// A policy that asks for nothing but reports: how one begins.
fn fresh(facts: &ZoneFacts, policy: &str) -> String {
    format!(
        "v=DMARC1; p={policy}; fo=1; rua=mailto:{0}; ruf=mailto:{0}",
        facts.reports
    )
}

fn judge(facts: &ZoneFacts, text: &str, row: &mut WantedRecord) {
    let tags = TagList::parse(text.as_bytes()).ok();
    let tag = |name: &str| tags.as_ref().and_then(|tags| tags.value(name));
    match policy(text) {
        Some("none") => row.notes.push(
            "p=none asks for reports only: once they show that all your mail passes, go on to p=quarantine, then to p=reject"
                .to_owned(),
        ),
        Some("quarantine") => row
            .notes
            .push("once nothing of yours is quarantined any more, go on to p=reject".to_owned()),
        _ => {}
    }
    if tag("rua").is_none() {
        row.notes.push(format!(
            "it asks for no reports: add rua=mailto:{} to see who sends in your name",
            facts.reports
        ));
    }
    if tag("adkim") == Some("s") || tag("aspf") == Some("s") {
        row.notes.push(
            "adkim=s or aspf=s wants the very domain: mail of subdomains needs a key and a policy of its own".to_owned(),
        );
    }
}

fn is_one(text: &str) -> bool {
    text.trim_start()
        .to_ascii_lowercase()
        .starts_with("v=dmarc1")
}

/// `p=`, if it is valid.
fn policy(text: &str) -> Option<&'static str> {
    let tags = TagList::parse(text.as_bytes()).ok()?;
    let word = tags.value("p")?;
    ["none", "quarantine", "reject"]
        .into_iter()
        .find(|policy| policy.eq_ignore_ascii_case(word))
}
