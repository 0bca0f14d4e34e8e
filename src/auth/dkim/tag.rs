//! Tag lists (RFC 6376 section 3.2): `name=value; name=value`.

use crate::workload::{Unit, count};

/// A tag list whose names are all different.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagList<'a>(Vec<(&'a str, &'a str)>);

/// Why a text is not a tag list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TagListError {
    /// It is not UTF-8 (RFC 8616 section 3).
    Encoding,
    /// An element is not `name=value`.
    Syntax,
    /// A name occurs twice, which makes the whole list invalid.
    Duplicate,
    /// More than 64 tags.
    TooMany,
}

impl<'a> TagList<'a> {
    /// Parses a list; white space around names and values is dropped, a final semicolon is taken.
    /// Decides RFC 6376 section 3.2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TagListError> {
        count(Unit::Byte, bytes.len());
        let text = std::str::from_utf8(bytes).map_err(|_| TagListError::Encoding)?;
        let text = text.trim_matches(is_space);
        let mut tags: Vec<(&str, &str)> = Vec::new();
        for element in text.strip_suffix(';').unwrap_or(text).split(';') {
            let (name, value) = element.split_once('=').ok_or(TagListError::Syntax)?;
            let (name, value) = (name.trim_matches(is_space), value.trim_matches(is_space));
            if !is_name(name) || value.chars().any(|c| c.is_control() && !is_space(c)) {
                return Err(TagListError::Syntax);
            }
            if tags.iter().any(|(other, _)| *other == name) {
                return Err(TagListError::Duplicate);
            }
            if tags.len() >= TAGS_MAX {
                return Err(TagListError::TooMany);
            }
            tags.push((name, value));
        }
        Ok(Self(tags))
    }

    /// The value of a tag; case counts in names.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| *value)
    }

    /// The name of the first tag.
    pub fn first(&self) -> Option<&'a str> {
        self.0.first().map(|(name, _)| *name)
    }
}

/// White space of a folded value (FWS).
pub(super) const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// A value without any of its white space, as base64 values are read.
pub(super) fn without_space(value: &str) -> String {
    value.chars().filter(|&c| !is_space(c)).collect()
}

/// The elements of a value that colons separate.
pub(super) fn elements(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(':')
        .map(|element| element.trim_matches(is_space))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

const TAGS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_space_around_names_and_values_only() {
        let tags = TagList::parse(b" v = 1;\r\n\tbh=a b\r\n c ; n=;").expect("a list");
        assert_eq!(tags.value("v"), Some("1"));
        assert_eq!(tags.value("bh").map(without_space).as_deref(), Some("abc"));
        assert_eq!(tags.value("n"), Some(""));
        assert_eq!(tags.value("N"), None);
        assert_eq!(tags.first(), Some("v"));
    }

    #[test]
    fn rejects_what_is_no_list() {
        for (text, error) in [
            (&b""[..], TagListError::Syntax),
            (b"a", TagListError::Syntax),
            (b"a=1;;b=2", TagListError::Syntax),
            (b"=1", TagListError::Syntax),
            (b"1a=1", TagListError::Syntax),
            (b"a b=1", TagListError::Syntax),
            (b"a=\0", TagListError::Syntax),
            (b"a=1;a=1", TagListError::Duplicate),
            (b"a=\xff", TagListError::Encoding),
        ] {
            assert_eq!(TagList::parse(text), Err(error), "{text:?}");
        }
    }
}
