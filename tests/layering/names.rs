//! The name of a public type is unique, so it says what the type belongs to.

use std::collections::BTreeMap;

use super::source_files;

/// Names that several modules share on purpose, since each is used with its module: both ends of SMTP, and the facts of
/// each subject of `chopar doctor`.
const SHARED: &[&str] = &["Session", "Facts"];

#[test]
fn no_two_public_types_have_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in source_files() {
        // Commands are named as they are typed, and each is used in its own file only.
        if path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("cli/") {
            continue;
        }
        for name in text.lines().filter_map(public_type) {
            places
                .entry(name.to_owned())
                .or_default()
                .push(path.clone());
        }
    }
    assert!(places.len() > 400, "the source was found");
    places.retain(|name, files| files.len() > 1 && !SHARED.contains(&name.as_str()));
    assert_eq!(places, BTreeMap::new());
}

#[test]
fn a_public_type_is_seen() {
    assert_eq!(public_type("pub struct Line {"), Some("Line"));
    assert_eq!(
        public_type("pub(in crate::engine) enum Event<'a> {"),
        Some("Event")
    );
    assert_eq!(public_type("pub(super) struct Line {"), None);
    assert_eq!(public_type("struct Line {"), None);
    assert_eq!(public_type("pub fn line() {"), None);
}

/// The type that a line declares with a visibility beyond its own folder.
fn public_type(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub")?;
    let rest = match rest.strip_prefix("(in ") {
        Some(scope) => scope.split_once(") ")?.1,
        None => rest.strip_prefix(' ')?,
    };
    let rest = ["struct ", "enum ", "trait ", "type "]
        .iter()
        .find_map(|kind| rest.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}
