//! Reads one key of chopar.toml even when the rest of the file has errors: commands that find the daemon or report what
//! is wrong with the file must still work.

use super::text::without_mark;

/// The text of a key at the top of the file.
pub fn glance(file: &str, key: &str) -> Option<String> {
    let file = without_mark(file);
    let value = |text: &str| {
        let table = text.parse::<toml::Table>().ok()?;
        table.get(key)?.as_str().map(str::to_owned)
    };
    if file.parse::<toml::Table>().is_ok() {
        return value(file);
    }
    // Below the first section it would be another key.
    let top = file
        .lines()
        .take_while(|line| !line.trim_start().starts_with('['));
    top.filter(|line| line.trim_start().starts_with(key))
        .find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_beside_errors_and_only_at_the_top() {
        let whole = "\u{feff}user = \"a\"\n[x]\nruntime_dir = \"/no\"\n";
        assert_eq!(glance(whole, "user").as_deref(), Some("a"));
        assert_eq!(glance(whole, "runtime_dir"), None);
        let broken = "hostname = mail\n  runtime_dir = \"/there\" # here\n[x\nuser = \"no\"\n";
        assert_eq!(glance(broken, "runtime_dir").as_deref(), Some("/there"));
        assert_eq!(glance(broken, "user"), None);
        assert_eq!(glance("user = 5\n", "user"), None);
    }
}
