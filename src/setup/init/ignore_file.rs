//! The files that a repository of the configuration folder leaves out.

use super::options::Git;
use super::settings_text::{RUNTIME, STATE};

/// The files that a repository without secrets leaves out.
pub const SECRET_LINES: [&str; 5] = [
    "/domains/*/users",
    "/domains/*/dkim/",
    "/secrets/",
    "/tls/",
    "/import.*",
];

/// Whether a `.gitignore` leaves secrets out.
pub fn leaves_secrets_out(text: &str) -> bool {
    text.lines()
        .any(|line| SECRET_LINES.contains(&line.trim_end()))
}

/// The lines of its `.gitignore`.
pub fn ignored(git: Git) -> String {
    let mut text = format!("/{STATE}/\n/{RUNTIME}/\n");
    if git != Git::Private {
        text.push_str(
            "# What must not leave this machine. Back it up elsewhere, or take these lines out of a private repository.\n",
        );
        text.extend(SECRET_LINES.iter().map(|line| format!("{line}\n")));
    }
    text
}

/// The lines that a `.gitignore` lacks: a line that negates a pattern may undo those before it.
pub fn missing_lines(there: &str, wanted: &str) -> Option<String> {
    let there: Vec<&str> = there.lines().map(str::trim_end).collect();
    let back = there.iter().rposition(|line| line.starts_with('!'));
    let from = back.map_or(0, |at| at.saturating_add(1));
    let there = there.get(from..).unwrap_or_default();
    let missing: Vec<&str> = wanted
        .lines()
        .filter(|line| !there.contains(line))
        .collect();
    let is_any = missing.iter().any(|line| !line.starts_with('#'));
    is_any.then(|| missing.iter().map(|line| format!("{line}\n")).collect())
}
