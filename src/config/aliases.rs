//! `domains/DOMAIN/aliases`: where addresses lead.
//!
//! ```text
//! file   = *( [ alias ] [ "#" comment ] LF )
//! alias  = ( NAME / "*" ) [ "@" DOMAIN ] ":" target *( "," target ) [ "," ]    ; see `target`
//! ```
//!
//! A command ends with its line. An indented line continues the line before it, as in Postfix. If it contains a colon,
//! it continues only a line that ends with a comma, because otherwise it may be an alias of its own.

use std::collections::BTreeMap;

use super::error::Errors;
use super::names::NameRules;
use super::problem::{AliasProblem, ConfigProblem};
use super::target::AliasTarget;
use super::text::outside_quotes;
use crate::address::{Domain, Mailbox};
use crate::limits::ALIAS_TARGETS_MAX;

/// The targets of one address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alias {
    /// The targets; never empty, at most [`ALIAS_TARGETS_MAX`].
    pub targets: Vec<AliasTarget>,
    /// The line of the file.
    pub line: usize,
}

/// The parts of the configuration that affect all aliases.
pub(super) struct Forms<'a> {
    /// Which names are equal.
    pub(super) names: &'a NameRules,
    /// The port of hosts that are named without one.
    pub(super) port: u16,
}

/// Aliases by the key of their name, and the catch-all.
pub(super) type Aliases = (BTreeMap<String, Alias>, Option<Alias>);

/// Reads the file.
pub(super) fn read(
    file: &str,
    text: &str,
    domain: &Domain,
    forms: &Forms<'_>,
    errors: &mut Errors,
) -> Aliases {
    let key = |name: &str| forms.names.key(&crate::address::local_key(name));
    let mut aliases: BTreeMap<String, Alias> = BTreeMap::new();
    let mut catch_all: Option<Alias> = None;
    for block in blocks(text) {
        let line = block.line;
        let content = block.content();
        if content.trim().is_empty() {
            continue;
        }
        let (name, alias) = match read_alias(&content, domain, forms, line) {
            Ok(read) => read,
            Err((at, problem)) => {
                let (line, column) = block.position(at);
                errors.push_at(file, line, column, problem);
                continue;
            }
        };
        let before = match &name {
            Some(name) => aliases.get(&key(name)),
            None => catch_all.as_ref(),
        };
        if let Some(before) = before {
            let first = before.line;
            let name = name.unwrap_or_else(|| "*".to_owned());
            errors.push_at(file, line, 1, ConfigProblem::Twice { name, first });
            continue;
        }
        match name {
            Some(name) => {
                aliases.insert(key(&name), alias);
            }
            None => catch_all = Some(alias),
        }
    }
    (aliases, catch_all)
}

/// Reads one line; an error comes with its offset.
fn read_alias(
    content: &str,
    domain: &Domain,
    forms: &Forms<'_>,
    line: usize,
) -> Result<(Option<String>, Alias), (usize, ConfigProblem)> {
    let colon = outside_quotes(content, ':');
    let (name, rest) = content.split_at_checked(colon).unwrap_or((content, ""));
    let Some(list) = rest.strip_prefix(':') else {
        return Err((0, ConfigProblem::Alias(AliasProblem::Line)));
    };
    let indent = name.len().saturating_sub(name.trim_start().len());
    let name = name.trim();
    let name = match local_name(name, domain).map_err(|problem| (indent, problem))? {
        "*" => None,
        bare => {
            if Mailbox::new(bare, domain).is_err() {
                let text = name.to_owned();
                return Err((indent, ConfigProblem::Alias(AliasProblem::Name { text })));
            }
            Some(bare.to_owned())
        }
    };
    let mut targets: Vec<AliasTarget> = Vec::new();
    let mut at = colon.saturating_add(1);
    let mut list = list;
    loop {
        let command = list.trim_start().starts_with('|');
        let comma = if command {
            list.len()
        } else {
            outside_quotes(list, ',')
        };
        let (item, rest) = list.split_at_checked(comma).unwrap_or((list, ""));
        let indent = item.len().saturating_sub(item.trim_start().len());
        let target = AliasTarget::parse(item.trim(), domain, forms.port);
        let target = target.map_err(|problem| (at.saturating_add(indent), problem))?;
        let is_there = |known: &AliasTarget| match (known.mailbox(), target.mailbox()) {
            (Some(known), Some(mailbox)) => known.is_equal(mailbox),
            _ => *known == target,
        };
        if !targets.iter().any(is_there) {
            targets.push(target);
        }
        if targets.len() > ALIAS_TARGETS_MAX {
            return Err((at, ConfigProblem::Alias(AliasProblem::Targets)));
        }
        let Some(behind) = rest
            .strip_prefix(',')
            .filter(|rest| !rest.trim().is_empty())
        else {
            break;
        };
        at = at.saturating_add(comma).saturating_add(1);
        list = behind;
    }
    Ok((name, Alias { targets, line }))
}

/// The part before the @ of a name that may be a whole address of the domain.
pub(super) fn local_name<'a>(name: &'a str, domain: &Domain) -> Result<&'a str, ConfigProblem> {
    let Some((front, back)) = name.rsplit_once('@') else {
        return Ok(name);
    };
    match Domain::parse(back) {
        Ok(named) if named == *domain => Ok(front),
        Ok(named) => Err(ConfigProblem::Alias(AliasProblem::Foreign {
            domain: named.to_string(),
        })),
        // The @ is in quotes.
        Err(_) => Ok(name),
    }
}

/// An alias in the file: its first line, and its continuation lines.
pub(super) struct Block<'a> {
    /// The number of the first line.
    pub(super) line: usize,
    /// The lines with their comments.
    pub(super) lines: Vec<&'a str>,
}

impl Block<'_> {
    /// The lines in one, without comments.
    pub(super) fn content(&self) -> String {
        let contents: Vec<&str> = self.lines.iter().map(|line| uncommented(line)).collect();
        contents.join(" ")
    }

    /// Line and column of an offset in [`Self::content`].
    fn position(&self, offset: usize) -> (usize, usize) {
        let mut at = offset;
        let mut line = self.line;
        for text in self.lines.iter().map(|line| uncommented(line)) {
            if at <= text.len() {
                let front = text.get(..at).unwrap_or_default();
                return (line, front.chars().count().saturating_add(1));
            }
            at = at.saturating_sub(text.len()).saturating_sub(1);
            line = line.saturating_add(1);
        }
        (self.line, 1)
    }
}

/// The aliases of a file and its other lines, all unchanged.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (line, whole) in (1..).zip(text.lines()) {
        match blocks.last_mut() {
            Some(before) if continues(before.lines.last(), whole) => before.lines.push(whole),
            _ => blocks.push(Block {
                line,
                lines: vec![whole],
            }),
        }
    }
    blocks
}

fn continues(before: Option<&&str>, line: &str) -> bool {
    let before = before.map_or("", |before| uncommented(before));
    let content = uncommented(line);
    let has_colon = outside_quotes(content, ':') < content.len();
    line.starts_with([' ', '\t'])
        && !content.trim().is_empty()
        && !before.trim().is_empty()
        && (!has_colon || before.trim_end().ends_with(','))
}

fn uncommented(line: &str) -> &str {
    line.get(..outside_quotes(line, '#')).unwrap_or(line)
}
