//! Changes to an aliases file that leave everything else in it untouched, including comments.

use std::fmt;

use super::aliases::{self, Block, Forms, blocks, local_name};
use super::error::{ConfigError, Errors};
use super::names::NameRules;
use super::problem::ConfigProblem;
use super::text::outside_quotes;
use crate::address::{AddressError, Domain, Mailbox, local_key};
use crate::destination::Scheme;

/// The alias that is changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AliasName<'a> {
    /// That of a local part.
    Local(&'a str),
    /// The line that catches the rest, `*`.
    CatchAll,
}

/// What to add to or remove from an alias.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AliasChange<'a> {
    /// The name leads to these targets too.
    Add(&'a [String]),
    /// Remove these targets; if empty, remove the alias.
    Remove(&'a [String]),
}

/// Why a file is not changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EditError {
    /// There is no such alias.
    NotThere,
    /// It does not lead there.
    NoSuchTarget(String),
    /// It leads there already.
    ThereAlready(String),
    /// The file would have errors: those of [`crate::config::Config::parse`], see [`EditError::of`].
    Invalid(Vec<String>),
}

impl EditError {
    /// The errors of the unwritten file `file`: each once, and without a line, because the file does not exist in that
    /// form.
    pub fn of(file: &str, errors: &[ConfigError]) -> Self {
        let (own, others): (Vec<_>, Vec<_>) = errors.iter().partition(|error| error.file == file);
        let mut problems: Vec<&ConfigProblem> = Vec::new();
        let mut sentences = Vec::new();
        for error in own.into_iter().chain(others) {
            if !problems.contains(&&error.problem) {
                problems.push(&error.problem);
                sentences.push(match error.file == file {
                    true => error.problem.to_string(),
                    false => error.to_string(),
                });
            }
        }
        Self::Invalid(sentences)
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere => out.write_str("there is no such alias"),
            Self::NoSuchTarget(target) => write!(out, "it does not lead to {target}"),
            Self::ThereAlready(target) => write!(out, "it leads to {target} already"),
            Self::Invalid(errors) => out.write_str(&errors.join("\n")),
        }
    }
}

impl std::error::Error for EditError {}

/// The text of the file `file` of a domain after a change.
pub fn edit(
    file: &str,
    text: &str,
    domain: &Domain,
    names: &NameRules,
    name: AliasName<'_>,
    change: AliasChange<'_>,
) -> Result<String, EditError> {
    let blocks = blocks(text);
    let at = blocks
        .iter()
        .position(|block| is_of(&in_one(block), domain, names, name));
    let mut lines: Vec<String> = blocks.iter().map(|block| block.lines.join("\n")).collect();
    match (at, change) {
        (None, AliasChange::Remove(_)) => return Err(EditError::NotThere),
        (None, AliasChange::Add(targets)) => {
            let name = match name {
                AliasName::Local(local_part) => local_part,
                AliasName::CatchAll => "*",
            };
            lines.push(format!("{name}: {}", targets.join(", ")));
        }
        (Some(at), change) => {
            let line = blocks.get(at).map(in_one).unwrap_or_default();
            let changed = changed(&line, domain, change)?;
            lines.splice(at..=at, changed);
        }
    }
    let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    let mut errors = Errors::default();
    let port = Scheme::Smtp.port();
    aliases::read(file, &text, domain, &Forms { names, port }, &mut errors);
    let errors = errors.into_errors();
    match errors.is_empty() {
        true => Ok(text),
        false => Err(EditError::of(file, &errors)),
    }
}

/// The names of a file with their targets, in its order, as they are written.
pub fn entries(text: &str) -> Vec<(String, Vec<String>)> {
    blocks(text)
        .iter()
        .filter_map(|block| {
            let line = in_one(block);
            let line = Line::of(&line)?;
            let targets = line.targets().into_iter().map(str::to_owned).collect();
            Some((line.name.trim().to_owned(), targets))
        })
        .collect()
}

/// The changed line; `None` if it is removed.
fn changed(
    line: &str,
    domain: &Domain,
    change: AliasChange<'_>,
) -> Result<Option<String>, EditError> {
    let line = Line::of(line).ok_or(EditError::NotThere)?;
    let mut targets = line.targets();
    match change {
        AliasChange::Remove([]) => return Ok(None),
        AliasChange::Add(more) => {
            for target in more {
                if targets.iter().any(|known| is_same(known, target, domain)) {
                    return Err(EditError::ThereAlready(target.clone()));
                }
                targets.push(target);
            }
        }
        AliasChange::Remove(fewer) => {
            for target in fewer {
                let before = targets.len();
                targets.retain(|known| !is_same(known, target, domain));
                if targets.len() == before {
                    return Err(EditError::NoSuchTarget(target.clone()));
                }
            }
        }
    }
    if targets.is_empty() {
        return Ok(None);
    }
    let gap = if line.comment.is_empty() { "" } else { " " };
    Ok(Some(format!(
        "{}: {}{gap}{}",
        line.name,
        targets.join(", "),
        line.comment
    )))
}

/// A block in one line, its comments behind it.
fn in_one(block: &Block<'_>) -> String {
    if let [line] = block.lines.as_slice() {
        return (*line).to_owned();
    }
    let comments = block.lines.iter().filter_map(|line| {
        let (_, comment) = line.split_at_checked(outside_quotes(line, '#'))?;
        Some(comment).filter(|comment| !comment.is_empty())
    });
    let comments: Vec<&str> = comments.collect();
    format!("{} {}", block.content(), comments.join(" "))
        .trim_end()
        .to_owned()
}

struct Line<'a> {
    name: &'a str,
    list: &'a str,
    comment: &'a str,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (content, comment) = line.split_at_checked(outside_quotes(line, '#'))?;
        let (name, list) = content.split_at_checked(outside_quotes(content, ':'))?;
        Some(Self {
            name,
            list: list.strip_prefix(':')?,
            comment,
        })
    }

    fn targets(&self) -> Vec<&'a str> {
        let mut targets = Vec::new();
        let mut rest = self.list;
        loop {
            let comma = match rest.trim_start().starts_with('|') {
                true => rest.len(),
                false => outside_quotes(rest, ','),
            };
            let (target, behind) = rest.split_at_checked(comma).unwrap_or((rest, ""));
            targets.extend(Some(target.trim()).filter(|target| !target.is_empty()));
            match behind.strip_prefix(',') {
                Some(behind) => rest = behind,
                None => return targets,
            }
        }
    }
}

fn is_of(line: &str, domain: &Domain, names: &NameRules, name: AliasName<'_>) -> bool {
    let key = |name: &str| names.key(&local_key(name));
    let Some(line) = Line::of(line) else {
        return false;
    };
    match (local_name(line.name.trim(), domain), name) {
        (Ok("*"), name) => name == AliasName::CatchAll,
        (Ok(bare), AliasName::Local(local_part)) => key(bare) == key(local_part),
        _ => false,
    }
}

fn is_same(one: &str, other: &str, domain: &Domain) -> bool {
    let full = |text: &str| match Mailbox::parse(text) {
        Err(AddressError::NoDomain) => Mailbox::new(text, domain),
        parsed => parsed,
    };
    match (full(one), full(other)) {
        (Ok(one), Ok(other)) => one.is_same(&other),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# people\nann: ann@example.net # since May\n\"b c\": ann, bob@example.org\n*: ann\n";

    fn edited(name: AliasName<'_>, change: AliasChange<'_>) -> Result<String, EditError> {
        let domain = Domain::parse("example.com").expect("a domain");
        edit(
            "aliases",
            TEXT,
            &domain,
            &NameRules::default(),
            name,
            change,
        )
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_new_name_comes_last_and_a_known_one_gains_targets() {
        let added = edited(
            AliasName::Local("eve"),
            AliasChange::Add(&words(&["ann", "x@example.net"])),
        );
        assert_eq!(added, Ok(format!("{TEXT}eve: ann, x@example.net\n")));
        let more = edited(
            AliasName::Local("ANN"),
            AliasChange::Add(&words(&["bob@example.org"])),
        );
        let expected = TEXT.replace("ann@example.net #", "ann@example.net, bob@example.org #");
        assert_eq!(more, Ok(expected));
        let there = edited(
            AliasName::CatchAll,
            AliasChange::Add(&words(&["ann@example.com"])),
        );
        assert_eq!(
            there,
            Err(EditError::ThereAlready("ann@example.com".into()))
        );
    }

    #[test]
    fn a_name_loses_a_target_or_goes() {
        let fewer = edited(
            AliasName::Local("\"b c\""),
            AliasChange::Remove(&words(&["ann@example.com"])),
        );
        assert_eq!(fewer, Ok(TEXT.replace("ann, bob@", "bob@")));
        let gone = edited(AliasName::CatchAll, AliasChange::Remove(&[]));
        assert_eq!(gone, Ok(TEXT.replace("*: ann\n", "")));
        let last = edited(AliasName::CatchAll, AliasChange::Remove(&words(&["ann"])));
        assert_eq!(last, gone);
        let missing = edited(AliasName::CatchAll, AliasChange::Remove(&words(&["bob"])));
        assert_eq!(missing, Err(EditError::NoSuchTarget("bob".into())));
        let missing = edited(AliasName::Local("eve"), AliasChange::Remove(&[]));
        assert_eq!(missing, Err(EditError::NotThere));
    }

    #[test]
    fn an_alias_over_several_lines_is_changed_as_one() {
        let text = "team: a@example.org, # one\n  b@example.org # two\n*@example.com: team\n";
        let domain = Domain::parse("example.com").expect("a domain");
        let edited = |name, targets: &[&str]| {
            let targets = words(targets);
            let change = AliasChange::Add(&targets);
            edit(
                "aliases",
                text,
                &domain,
                &NameRules::default(),
                name,
                change,
            )
        };
        let more = edited(AliasName::Local("team"), &["c@example.org"]);
        let expected =
            "team: a@example.org, b@example.org, c@example.org # one # two\n*@example.com: team\n";
        assert_eq!(more.as_deref(), Ok(expected));
        let other = edited(AliasName::CatchAll, &["d@example.org"]);
        let expected = text.replace("com: team", "com: team, d@example.org");
        assert_eq!(other, Ok(expected));
    }

    #[test]
    fn a_file_that_would_be_wrong_is_not_made() {
        let wrong = edited(
            AliasName::Local("eve"),
            AliasChange::Add(&words(&["|bin/false"])),
        );
        let Err(EditError::Invalid(errors)) = wrong else {
            panic!("{wrong:?}");
        };
        assert!(
            errors[0].starts_with("expected the full path of a program"),
            "{errors:?}"
        );
    }

    #[test]
    fn the_entries_are_those_of_the_file() {
        let found = entries(TEXT);
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[1],
            ("\"b c\"".to_owned(), words(&["ann", "bob@example.org"]))
        );
    }
}
