//! The commands in the remedy of a finding, completed with the options for the folder that was checked.

use std::path::Path;

use crate::setup::init::facts::USUAL_FOLDER;
use crate::setup::shell_word::shell_word;

/// The same sentence with `-C` in each command of chopar, if the folder is not the usual one. No system unit runs the
/// daemon of another folder: chopar itself starts it there.
pub(super) fn for_folder(mend: &str, folder: &Path) -> String {
    if folder == Path::new(USUAL_FOLDER) {
        return mend.to_owned();
    }
    let path = folder.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let folder = match path.chars().all(is_plain) {
        true => path.into_owned(),
        false => shell_word(&path),
    };
    let mut text = mend.replace("systemctl start chopar", "chopar run");
    for word in COMMANDS {
        let front = format!("chopar {word}");
        text = text.replace(&front, &format!("chopar -C {folder} {word}"));
    }
    text
}

/// The commands in remedies.
const COMMANDS: [&str; 10] = [
    "alias", "cert", "check", "dkim", "dns", "doctor", "domain", "queue", "reload", "run",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_folder_that_was_looked_at() {
        let of = |mend: &str, folder: &str| for_folder(mend, Path::new(folder));
        let mend = "chopar check shows all; correct it, then chopar reload";
        assert_eq!(of(mend, "/etc/chopar"), mend);
        assert_eq!(
            of(mend, "/srv/a b"),
            "chopar -C '/srv/a b' check shows all; correct it, then chopar -C '/srv/a b' reload"
        );
        assert_eq!(
            of("systemctl start chopar", "/srv/etc"),
            "chopar -C /srv/etc run"
        );
        let other = "set hostname in chopar.toml, and restart chopar";
        assert_eq!(of(other, "/srv/etc"), other);
    }
}
