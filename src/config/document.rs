//! A TOML document, read as far as possible: each value of a wrong type and each unknown key is an error of its own,
//! and is left out.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::error::Errors;
use super::problem::ConfigProblem;
use crate::limits::CONFIG_ERRORS_MAX;

/// Reads a file that has keys and, below these names, sections. If it is not TOML, that is the only error.
pub(super) fn read<Keys, Sections>(
    file: &str,
    text: &str,
    sections: &[&str],
    errors: &mut Errors,
) -> (Keys, Sections)
where
    Keys: DeserializeOwned + Default,
    Sections: DeserializeOwned + Default,
{
    let mut say = |error: &Error, others: &[&str]| {
        let span = error.span().unwrap_or_default();
        errors.push_span(file, text, span, problem(error.message(), others));
    };
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => {
            say(&error, &[]);
            return Default::default();
        }
    };
    let span = document.span();
    let entries = document.into_inner().into_iter();
    let (below, top): (DeTable, DeTable) =
        entries.partition(|(key, _)| sections.contains(&key.get_ref().as_ref()));
    let keys = read_table(Spanned::new(span.clone(), top), |error| {
        say(error, sections);
    });
    let below = read_table(Spanned::new(span, below), |error| say(error, &[]));
    (keys, below)
}

/// Reads a table, without what is wrong in it.
fn read_table<T: DeserializeOwned + Default>(
    mut table: Spanned<DeTable<'_>>,
    mut say: impl FnMut(&Error),
) -> T {
    for _ in 0..CONFIG_ERRORS_MAX {
        let error = match T::deserialize(Deserializer::from(table.clone())) {
            Ok(read) => return read,
            Err(error) => error,
        };
        say(&error);
        let is_left_out = error
            .span()
            .is_some_and(|span| leave_out(table.get_mut(), &span));
        if !is_left_out {
            break;
        }
    }
    T::default()
}

/// The problem in a message of the parser. `others` are keys that were possible beside those that the parser knows.
fn problem(message: &str, others: &[&str]) -> ConfigProblem {
    let message = message.trim().replace('\n', ", ");
    unknown_key(&message, others).unwrap_or(ConfigProblem::Toml(message))
}

/// The problem, if it is an unknown key: serde names it and the known ones only in a sentence.
fn unknown_key(message: &str, others: &[&str]) -> Option<ConfigProblem> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, list) = rest.rsplit_once("`, expected ")?;
    let known = list.split('`').skip(1).step_by(2);
    let known = known.chain(others.iter().copied());
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
