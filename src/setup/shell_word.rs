//! Quotes a word for a shell, so that it reaches the program unchanged.

/// The text in single quotes.
pub fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_passes_a_word_on_as_it_is() {
        for word in ["a", "", "it's", "a`id`$(id)\"\\ *~!\n;#", "''"] {
            let script = format!("printf %s {}", shell_word(word));
            let mut shell = std::process::Command::new("sh");
            let output = shell.args(["-c", &script]).output().expect("sh runs");
            assert_eq!(output.stdout, word.as_bytes(), "{script}");
        }
    }
}
