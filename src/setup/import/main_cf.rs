//! main.cf of Postfix (postconf(5)): logical lines, and variables in their values.
//!
//! ```text
//! line  = NAME *WSP "=" value        ; goes on in lines that begin with white space; comments and empty lines between
//! value = text, "$name", "${name}", "$(name)", "${name?text}", "${name:text}", "$$"
//! ```

use std::collections::BTreeMap;

use crate::limits::{MAIN_CF_DEPTH_MAX, MAIN_CF_VALUE_BYTES_MAX};

/// A parameter of main.cf: its name, its value with continuation lines joined, and its line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parameter {
    /// Its value, as it is written, lines joined.
    pub value: String,
    /// Its line, from 1.
    pub line: usize,
}

/// The parameters; and the lines that are none, or that a later one overrides, with why.
#[derive(Clone, Debug, Default)]
pub struct MainCf {
    /// By name; the last one counts.
    pub parameters: BTreeMap<String, Parameter>,
    /// Lines that do not count.
    pub others: Vec<(usize, String, &'static str)>,
}

/// Reads the file.
pub fn parse(text: &str) -> MainCf {
    let mut found = MainCf::default();
    for (line, text) in logical_lines(text) {
        let Some((name, value)) = text.split_once('=') else {
            found.others.push((line, text, "expected NAME = VALUE"));
            continue;
        };
        let name = name.trim();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace()) {
            found.others.push((line, text, "expected NAME = VALUE"));
            continue;
        }
        let parameter = Parameter {
            value: value.trim().to_owned(),
            line,
        };
        if let Some(before) = found.parameters.insert(name.to_owned(), parameter) {
            let text = format!("{name} = {}", before.value);
            found
                .others
                .push((before.line, text, "a later line sets it again"));
        }
    }
    found
}

/// Lines joined with their continuation lines; comments and empty lines are left out. Postfix's tables have the same
/// form.
pub fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if line.starts_with(char::is_whitespace) => {
                last.push(' ');
                last.push_str(trimmed);
            }
            _ => lines.push((number, trimmed.to_owned())),
        }
    }
    lines
}

impl MainCf {
    /// A parameter with its variables expanded; an unset one has the value of `defaults`, or none. `None` if it is too
    /// long, or refers to itself.
    pub fn expanded(&self, name: &str, defaults: &BTreeMap<&str, String>) -> Option<String> {
        let mut out = String::new();
        let value = self.raw(name, defaults);
        // Variables without a value would cost nothing else.
        let mut budget = MAIN_CF_VALUE_BYTES_MAX;
        self.expand(value, defaults, (0, &mut budget), &mut out)?;
        Some(out)
    }

    fn raw<'a>(&'a self, name: &str, defaults: &'a BTreeMap<&str, String>) -> &'a str {
        let set = self.parameters.get(name).map(|found| found.value.as_str());
        let default = || defaults.get(name).map(String::as_str);
        set.or_else(default).unwrap_or_default()
    }

    fn expand(
        &self,
        value: &str,
        defaults: &BTreeMap<&str, String>,
        (depth, budget): (usize, &mut usize),
        out: &mut String,
    ) -> Option<()> {
        if depth > MAIN_CF_DEPTH_MAX {
            return None;
        }
        let mut rest = value;
        while let Some((front, behind)) = rest.split_once('$') {
            out.push_str(front);
            let (name, behind) = variable(behind)?;
            *budget = budget.checked_sub(1)?;
            let deeper = depth.saturating_add(1);
            match name {
                Variable::Dollar => out.push('$'),
                Variable::Name(name) => {
                    self.expand(self.raw(name, defaults), defaults, (deeper, budget), out)?;
                }
                Variable::If { name, then, set } => {
                    let is_set = !self.raw(name, defaults).is_empty();
                    if is_set == set {
                        self.expand(then, defaults, (deeper, budget), out)?;
                    }
                }
            }
            if out.len() > MAIN_CF_VALUE_BYTES_MAX {
                return None;
            }
            rest = behind;
        }
        out.push_str(rest);
        (out.len() <= MAIN_CF_VALUE_BYTES_MAX).then_some(())
    }
}

enum Variable<'a> {
    Dollar,
    Name(&'a str),
    If {
        name: &'a str,
        then: &'a str,
        set: bool,
    },
}

/// The variable after a dollar, and the rest.
fn variable(text: &str) -> Option<(Variable<'_>, &str)> {
    if let Some(rest) = text.strip_prefix('$') {
        return Some((Variable::Dollar, rest));
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let close = match text.chars().next() {
        Some('{') => '}',
        Some('(') => ')',
        _ => {
            let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
            let (name, rest) = text.split_at_checked(end)?;
            return Some((Variable::Name(name), rest));
        }
    };
    let mut depth = 0_usize;
    let open = text.chars().next()?;
    let end = text.char_indices().find(|(_, c)| {
        if *c == open {
            depth = depth.saturating_add(1);
        } else if *c == close {
            depth = depth.saturating_sub(1);
        }
        depth == 0
    });
    let (end, _) = end?;
    let inside = text.get(1..end)?;
    let rest = text.get(end.saturating_add(1)..)?;
    let at = inside.find(|c| !is_part(c)).unwrap_or(inside.len());
    let (name, condition) = inside.split_at_checked(at)?;
    let variable = match condition.chars().next() {
        None => Variable::Name(name),
        Some(sign @ ('?' | ':')) => {
            let then = condition.get(1..)?.trim();
            let then = then
                .strip_prefix('{')
                .and_then(|then| then.strip_suffix('}'))
                .unwrap_or(then);
            Variable::If {
                name,
                then,
                set: sign == '?',
            }
        }
        // Comparisons, which imported files seldom use.
        Some(_) => return None,
    };
    Some((variable, rest))
}

/// The items of a list: between commas and white space.
pub fn items(value: &str) -> Vec<&str> {
    value
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|item| !item.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_go_on_and_the_last_of_a_name_counts() {
        let text = "# comment\na = 1\nb = x,\n  # between\n\n\ty\na = 2\nnonsense\n=3\n";
        let found = parse(text);
        let value = |name: &str| {
            (
                found.parameters[name].value.as_str(),
                found.parameters[name].line,
            )
        };
        assert_eq!(value("a"), ("2", 7));
        assert_eq!(value("b"), ("x, y", 3));
        let lines: Vec<usize> = found.others.iter().map(|(line, ..)| *line).collect();
        assert_eq!(lines, [2, 8, 9]);
    }

    #[test]
    fn variables_are_put_in() {
        let text = "myhostname = mx.example.com\nx = $myhostname, ${mydomain} $(unset)$$ ${unset:none}${x1?}${myhostname?{yes}}\n\
                    loop = $loop2\nloop2 = ${loop}\nbad = ${a == b}\nopen = ${a\n";
        let found = parse(text);
        let defaults = BTreeMap::from([("mydomain", "example.com".to_owned())]);
        assert_eq!(
            found.expanded("x", &defaults).as_deref(),
            Some("mx.example.com, example.com $ noneyes")
        );
        for name in ["loop", "bad", "open"] {
            assert_eq!(found.expanded(name, &defaults), None, "{name}");
        }
        let mut doubling = String::from("v0 = 0123456789\n");
        for step in 1..20 {
            doubling.push_str(&format!("v{step} = $v{0}$v{0}$v{0}$v{0}\n", step - 1));
        }
        assert_eq!(parse(&doubling).expanded("v19", &defaults), None);
        let empty = doubling.replace("0123456789", "");
        assert_eq!(parse(&empty).expanded("v19", &defaults), None);
        assert_eq!(items(" a,b\t c,, "), ["a", "b", "c"]);
    }

    proptest! {
        #[test]
        fn no_file_is_too_odd(text in "[a-c $(){}?:=#\n\t,]{0,80}") {
            let found = parse(&text);
            for name in found.parameters.keys() {
                let value = found.expanded(name, &BTreeMap::new());
                prop_assert!(value.is_none_or(|value| value.len() <= MAIN_CF_VALUE_BYTES_MAX));
            }
        }
    }
}
