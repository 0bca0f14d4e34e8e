//! opendkim.conf, KeyTable and SigningTable (opendkim.conf(5)).

use std::collections::BTreeMap;

use super::main_cf::logical_lines;

/// The settings that count here, by their name in lower case.
pub fn settings(text: &str) -> BTreeMap<String, (String, usize)> {
    let mut found = BTreeMap::new();
    for (line, text) in logical_lines(text) {
        let text = text.split(" #").next().unwrap_or_default();
        if let Some((name, value)) = text.split_once(char::is_whitespace) {
            let value = value.trim().to_owned();
            found.insert(name.to_ascii_lowercase(), (value, line));
        }
    }
    found
}

/// One line of opendkim's KeyTable: the domain, the selector and the file of the private key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyTableRow {
    /// The domain that signs; `%` for that of the author.
    pub domain: String,
    pub selector: String,
    /// The file of the key, or the key itself.
    pub key: String,
    /// The line, from 1.
    pub line: usize,
}

/// Reads the KeyTable: a name, then domain, selector and key with colons between. Lines of another form come apart.
pub fn keys(text: &str) -> (BTreeMap<String, KeyTableRow>, Vec<(usize, String)>) {
    let mut found = BTreeMap::new();
    let mut others = Vec::new();
    for (line, text) in logical_lines(text) {
        let parts = text.split_once(char::is_whitespace);
        let parts = parts.and_then(|(name, value)| {
            let mut parts = value.trim().splitn(3, ':');
            Some((name, parts.next()?, parts.next()?, parts.next()?))
        });
        match parts {
            Some((name, domain, selector, key)) => {
                let key = KeyTableRow {
                    domain: domain.to_owned(),
                    selector: selector.to_owned(),
                    key: key.to_owned(),
                    line,
                };
                found.insert(name.to_owned(), key);
            }
            None => others.push((line, text)),
        }
    }
    (found, others)
}

/// Reads the SigningTable: an author, and the name of a key.
pub fn authors(text: &str) -> Vec<(String, String, usize)> {
    logical_lines(text)
        .into_iter()
        .filter_map(|(line, text)| {
            let (author, key) = text.split_once(char::is_whitespace)?;
            Some((author.to_owned(), key.trim().to_owned(), line))
        })
        .collect()
}

/// The path of a data set (`refile:/path`), if it is a file.
pub fn path_of(set: &str) -> Option<&str> {
    let path = ["refile:", "file:"]
        .iter()
        .find_map(|kind| set.strip_prefix(kind))
        .unwrap_or(set);
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_settings_and_tables() {
        let found =
            settings("# x\nDomain\t\texample.com\nKeyTable refile:/etc/key.table # y\nlonely\n");
        assert_eq!(found["domain"], ("example.com".to_owned(), 2));
        assert_eq!(path_of(&found["keytable"].0), Some("/etc/key.table"));
        assert_eq!(found.len(), 2);
        let (keys, others) = keys("a example.com:s1:/etc/a.private\nbroken x:y\n");
        assert_eq!(keys["a"].selector, "s1");
        assert_eq!(others, [(2, "broken x:y".to_owned())]);
        let found = authors("*@example.com a\n");
        assert_eq!(found, [("*@example.com".to_owned(), "a".to_owned(), 1)]);
        assert_eq!(path_of("csl:a,b"), None);
    }
}
