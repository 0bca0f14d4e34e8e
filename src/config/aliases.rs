//! `domains/DOMAIN/aliases`: where addresses lead.
//!
//! ```text
//! file   = *( [ alias ] [ "#" comment ] LF )
//! alias  = ( NAME / "*" ) ":" target *( "," target )    ; see `target`; a command ends with its line
//! ```

use std::collections::BTreeMap;

use super::error::{Errors, Problem};
use super::names::Names;
use super::target::Target;
use crate::address::{Domain, Mailbox};
use crate::limits::ALIAS_TARGETS_MAX;

/// Where one address leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alias {
    /// The targets; never empty, at most [`ALIAS_TARGETS_MAX`].
    pub targets: Vec<Target>,
    /// The line of the file.
    pub line: usize,
}

/// What the rest of the configuration says about all aliases.
pub(super) struct Forms<'a> {
    /// Which names are the same.
    pub(super) names: &'a Names,
    /// The port of hosts that are named without one.
    pub(super) port: u16,
}

/// Aliases by the key of their name, and the one that catches the rest.
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
    for (line, whole) in (1..).zip(text.lines()) {
        let content = whole.get(..outside_quotes(whole, '#')).unwrap_or(whole);
        if content.trim().is_empty() {
            continue;
        }
        let (name, alias) = match read_alias(content, domain, forms, line) {
            Ok(read) => read,
            Err((at, problem)) => {
                let column = content.get(..at).unwrap_or_default().chars().count();
                errors.push_at(file, line, column.saturating_add(1), problem);
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
            errors.push_at(file, line, 1, Problem::Twice { name, first });
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

/// Reads one line; an error comes with the offset where it is.
fn read_alias(
    content: &str,
    domain: &Domain,
    forms: &Forms<'_>,
    line: usize,
) -> Result<(Option<String>, Alias), (usize, Problem)> {
    let colon = outside_quotes(content, ':');
    let (name, rest) = content.split_at_checked(colon).unwrap_or((content, ""));
    let Some(list) = rest.strip_prefix(':') else {
        return Err((0, Problem::AliasLine));
    };
    let indent = name.len().saturating_sub(name.trim_start().len());
    let name = name.trim();
    let name = match name {
        "*" => None,
        name => {
            let bare = match name.strip_suffix(domain.as_str()) {
                Some(front) => front.strip_suffix('@').unwrap_or(name),
                None => name,
            };
            if Mailbox::new(bare, domain).is_err() {
                let text = name.to_owned();
                return Err((indent, Problem::AliasName { text }));
            }
            Some(bare.to_owned())
        }
    };
    let mut targets: Vec<Target> = Vec::new();
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
        let target = Target::parse(item.trim(), domain, forms.port);
        let target = target.map_err(|problem| (at.saturating_add(indent), problem))?;
        let is_there = |known: &Target| match (known.mailbox(), target.mailbox()) {
            (Some(known), Some(mailbox)) => known.is_equal(mailbox),
            _ => *known == target,
        };
        if !targets.iter().any(is_there) {
            targets.push(target);
        }
        if targets.len() > ALIAS_TARGETS_MAX {
            return Err((at, Problem::AliasTargets));
        }
        let Some(behind) = rest.strip_prefix(',') else {
            break;
        };
        at = at.saturating_add(comma).saturating_add(1);
        list = behind;
    }
    Ok((name, Alias { targets, line }))
}

/// The offset of the first `wanted` outside of a quoted string, or the end.
pub(super) fn outside_quotes(text: &str, wanted: char) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return at,
            _ => {}
        }
    }
    text.len()
}
