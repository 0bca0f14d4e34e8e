//! When two local parts of a served domain are the same address: suffixes (RFC 5233) and ignored characters.

/// How the local parts of served domains are compared, beside their case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameRules {
    /// Each of these characters begins a suffix.
    pub separators: Box<str>,
    /// These characters do not count.
    pub dropped: Box<str>,
}

impl Default for NameRules {
    fn default() -> Self {
        Self {
            separators: "+".into(),
            dropped: ".".into(),
        }
    }
}

impl NameRules {
    /// The compared form of a local part's key: without the ignored characters, unless nothing is left.
    pub fn key(&self, local_key: &str) -> String {
        let kept: String = local_key
            .chars()
            .filter(|c| !self.dropped.contains(*c))
            .collect();
        if kept.is_empty() {
            local_key.to_owned()
        } else {
            kept
        }
    }

    /// The key in front of a suffix.
    pub fn without_suffix<'a>(&self, key: &'a str) -> &'a str {
        match key.split_once(|c| self.separators.contains(c)) {
            Some((name, _)) if !name.is_empty() => name,
            _ => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_and_dropped_characters_are_the_operators_to_say() {
        let usual = NameRules::default();
        assert_eq!(usual.key("a.nn+x.y"), "ann+xy");
        assert_eq!(usual.without_suffix("ann+x+y"), "ann");
        assert_eq!(usual.without_suffix("+x"), "+x");
        assert_eq!(usual.key("..."), "...");
        let other = NameRules {
            separators: "-+".into(),
            dropped: "".into(),
        };
        assert_eq!(other.key("a.nn"), "a.nn");
        assert_eq!(other.without_suffix("ann-x+y"), "ann");
    }
}
