//! A TOML document, read as far as possible: each value of a wrong type and each unknown key is an error of its own,
//! and is left out.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::error::Errors;
use super::problem::ConfigProblem;
use crate::limits::CONFIG_ERRORS_MAX;

/// The values of the keys at the top of a file.
pub(super) type TopKeys = BTreeMap<String, Spanned<String>>;

/// Reads a file that has these keys at its top, all with strings as values, and sections of these names. If it is not
/// TOML, that is the only error.
pub(super) fn read<Sections: DeserializeOwned + Default>(
    file: &str,
    text: &str,
    (keys, sections): (&[&str], &[&str]),
    errors: &mut Errors,
) -> (TopKeys, Sections) {
    let mut say = |span: Option<Range<usize>>, problem| {
        errors.push_span(file, text, span.unwrap_or_default(), problem);
    };
    let mut document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => {
            say(error.span(), problem(&error));
            return Default::default();
        }
    };
    let below = below(&mut document, sections);
    for name in unknown(document.get_ref(), keys) {
        if let Some((key, _)) = document.get_mut().remove_entry(name.as_str()) {
            let known = keys.iter().chain(sections);
            let known = known.map(|name| (*name).to_owned()).collect();
            let span = Some(key.span());
            let key = name.replace('\n', ", ");
            say(span, ConfigProblem::UnknownKey { key, known });
        }
    }
    let mut say = |error: &Error| say(error.span(), problem(error));
    (read_table(document, &mut say), read_table(below, &mut say))
}

/// The keys of a table that are not among the known ones.
fn unknown(table: &DeTable<'_>, known: &[&str]) -> Vec<String> {
    let there = table.keys().map(|key| key.get_ref().as_ref());
    let unknown = there.filter(|name| !known.contains(name));
    unknown.take(CONFIG_ERRORS_MAX).map(str::to_owned).collect()
}

/// Takes the sections out of a document.
fn below<'a>(document: &mut Spanned<DeTable<'a>>, sections: &[&str]) -> Spanned<DeTable<'a>> {
    let mut below = DeTable::new();
    for name in sections {
        if let Some((key, value)) = document.get_mut().remove_entry(*name) {
            below.insert(key, value);
        }
    }
    Spanned::new(document.span(), below)
}

/// Reads a table, without what is wrong in it.
fn read_table<T: DeserializeOwned + Default>(
    table: Spanned<DeTable<'_>>,
    say: &mut dyn FnMut(&Error),
) -> T {
    let mut read = T::default();
    leave_out_wrong(table, say, &mut |table| {
        read = T::deserialize(Deserializer::from(table))?;
        Ok(())
    });
    read
}

/// Tries to read a table, each time without the entry that was wrong.
fn leave_out_wrong(
    mut table: Spanned<DeTable<'_>>,
    say: &mut dyn FnMut(&Error),
    read: &mut dyn FnMut(Spanned<DeTable<'_>>) -> Result<(), Error>,
) {
    for _ in 0..CONFIG_ERRORS_MAX {
        let Err(error) = read(table.clone()) else {
            return;
        };
        say(&error);
        let span = error.span();
        if !span.is_some_and(|span| leave_out(table.get_mut(), &span)) {
            return;
        }
    }
}

/// The problem in a message of the parser.
fn problem(error: &Error) -> ConfigProblem {
    let message = error.message().trim().replace('\n', ", ");
    unknown_key(&message).unwrap_or(ConfigProblem::Toml(message))
}

/// The problem, if it is an unknown key: serde names it and the known ones only in a sentence.
fn unknown_key(message: &str) -> Option<ConfigProblem> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, list) = rest.rsplit_once("`, expected ")?;
    let known = list.split('`').skip(1).step_by(2);
    Some(ConfigProblem::UnknownKey {
        key: key.to_owned(),
        known: known.map(str::to_owned).collect(),
    })
}

/// Removes the entry whose key or value is at a span; returns whether there was one.
fn leave_out(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    // The first element of an array of tables may be at the position of the array.
    let is_inside = table
        .iter_mut()
        .any(|(_, value)| leave_out_inside(value.get_mut(), span));
    if is_inside {
        return true;
    }
    let here = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span() == *span)
        .map(|(key, _)| key.get_ref().to_string());
    here.is_some_and(|name| table.remove(name.as_str()).is_some())
}

/// The same below an entry. From an array a whole element is removed: a table without one of its keys would be another
/// error.
fn leave_out_inside<'a>(value: &mut DeValue<'a>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => leave_out(table, span),
        DeValue::Array(elements) => {
            let before = elements.len();
            let all = elements.clone().into_iter();
            *elements = all.filter(|element| !is_at(element, span)).collect();
            elements.len() < before
        }
        _ => false,
    }
}

/// Whether a value, or a key or a value inside of it, is at a span.
fn is_at(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    value.span() == *span
        || match value.get_ref() {
            DeValue::Table(table) => table
                .iter()
                .any(|(key, value)| key.span() == *span || is_at(value, span)),
            DeValue::Array(elements) => elements.iter().any(|element| is_at(element, span)),
            _ => false,
        }
}
