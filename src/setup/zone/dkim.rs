//! The record of a DKIM key, and how web panels alter it.

use super::wanted::{
    PublishedKey, Purpose, RecordState, WantedRecord, ZoneFacts, ZoneNeed, ZoneView,
};
use crate::auth::dkim::record::{KeyRecord, KeyRecordError};
use crate::setup::record::RecordValue;

/// The row of a key; `None` if its name would be too long.
pub(super) fn row(facts: &ZoneFacts, key: &PublishedKey, seen: &ZoneView) -> Option<WantedRecord> {
    let name = key.name(&facts.domain)?;
    let value = RecordValue::Text(key.text.clone());
    let mut row = WantedRecord::new(Purpose::Dkim, ZoneNeed::Required, &name, value);
    let found = row.judge_texts(seen.texts(&name, |_| true), |text| is_same(&key.text, text));
    if row.state == RecordState::Differs {
        let note = match found.as_slice() {
            [text] => difference(&key.text, text),
            texts if texts.iter().any(|text| is_same(&key.text, text)) => {
                "there are other texts under the name too, which verifiers may take instead: leave this one".to_owned()
            }
            _ => "the name has several TXT records: keep one record, made of these strings".to_owned(),
        };
        row.notes.push(note);
    }
    if row.state == RecordState::There
        && found
            .iter()
            .any(|text| KeyRecord::parse(text.as_bytes()).is_ok_and(|record| record.testing))
    {
        row.notes.push(
            "t=y says that this is a test, and that failures are to be ignored: take it out"
                .to_owned(),
        );
    }
    Some(row)
}

/// Whether a verifier gets the same key from both.
fn is_same(wanted: &str, found: &str) -> bool {
    let key = |text: &str| KeyRecord::parse(text.as_bytes()).map(|record| record.key);
    matches!((key(wanted), key(found)), (Ok(wanted), Ok(found)) if wanted == found)
}

/// How a web panel has altered the text.
fn difference(wanted: &str, found: &str) -> String {
    let bare = |text: &str| -> String {
        text.chars()
            .filter(|c| !matches!(c, '"' | '\\' | ' ' | '\t'))
            .collect()
    };
    let (ours, theirs) = (bare(wanted), bare(found));
    let read = KeyRecord::parse(found.as_bytes());
    if read == Err(KeyRecordError::Revoked) {
        return format!("the key cannot be used: {}", KeyRecordError::Revoked);
    }
    if found.contains(['"', '\\']) && ours == theirs {
        return "quotes or backslashes have become part of it: paste the value without them"
            .to_owned();
    }
    if theirs.len() < ours.len() && ours.starts_with(&theirs) && !theirs.is_empty() {
        return format!(
            "it is cut off after {} of {} characters: this panel may want the text in strings of at most 255, each in quotes \
             (chopar dns --format zone prints them)",
            found.len(),
            wanted.len()
        );
    }
    if theirs == ours.replace("v=DKIM1;", "v=DKIM1").as_str() || theirs.eq_ignore_ascii_case(&ours)
    {
        return "letters or semicolons were changed on the way".to_owned();
    }
    match read {
        Ok(_) => "it is another key: that of an earlier or other installation. Signatures made with the file here fail until it is \
                  replaced"
            .to_owned(),
        Err(error) => format!("the key cannot be used: {error}"),
    }
}
