//! Settings that a reload does not change.

use std::path::{Path, PathBuf};

use crate::config::{Config, Listen, Listeners};
use crate::shell::process::sandbox::SandboxRules;

/// Settings that a reload does not change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fixed {
    pub(super) state_dir: PathBuf,
    pub(super) runtime_dir: PathBuf,
    pub(super) user: String,
    pub(super) listen: Listeners,
    /// The files that may be read; all of them if the kernel enforces nothing.
    pub(super) rules: Option<SandboxRules>,
}

impl Fixed {
    /// The folder of persistent state.
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The settings at the start.
    pub(super) fn new(config: &Config, rules: Option<SandboxRules>) -> Self {
        Self {
            state_dir: config.state_dir.clone(),
            runtime_dir: config.runtime_dir.clone(),
            user: config.user.clone(),
            listen: config.listen.clone(),
            rules,
        }
    }

    /// The keys with another value in this configuration, which need a restart.
    pub(super) fn differing(&self, config: &Config, folder: &Path) -> Vec<&'static str> {
        let is_closed = |file: Option<&PathBuf>| {
            let opens =
                |rules: &SandboxRules| file.is_none_or(|file| rules.opens(&folder.join(file)));
            self.rules.as_ref().is_some_and(|rules| !opens(rules))
        };
        let acme = &config.acme;
        let secret = acme.binding.as_ref().map(|binding| &binding.key_file);
        let listen = |listeners: fn(&Listeners) -> &Listen| {
            listeners(&self.listen) != listeners(&config.listen)
        };
        [
            ("state_dir", self.state_dir != config.state_dir),
            ("runtime_dir", self.runtime_dir != config.runtime_dir),
            ("user", self.user != config.user),
            ("listen.smtp", listen(|listen| &listen.smtp)),
            ("listen.proxy", listen(|listen| &listen.proxy)),
            ("listen.submission", listen(|listen| &listen.submission)),
            ("listen.submissions", listen(|listen| &listen.submissions)),
            ("acme.ca_file", is_closed(acme.ca_file.as_ref())),
            ("acme.eab_key_file", is_closed(secret)),
            ("listen.status", listen(|listen| &listen.status)),
            ("listen.https", listen(|listen| &listen.https)),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::of_files(&[("chopar.toml", text)])
    }

    #[test]
    fn what_needs_a_restart_is_named_and_nothing_else() {
        let fixed = Fixed::new(&config(""), None);
        assert!(
            fixed
                .differing(&config("max_memory = \"64 MiB\""), Path::new("/"))
                .is_empty()
        );
        let other = config(
            "state_dir = \"/a\"\nruntime_dir = \"/b\"\nuser = \"c\"\n\
             [listen]\nsmtp = []\nsubmissions = \"systemd\"\n",
        );
        let keys = [
            "state_dir",
            "runtime_dir",
            "user",
            "listen.smtp",
            "listen.submissions",
        ];
        assert_eq!(fixed.differing(&other, Path::new("/")), keys);
    }

    #[test]
    fn files_that_are_closed_since_the_start_need_a_restart() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = std::fs::canonicalize(temporary.path()).expect("a path");
        let folders = ["etc", "other"].map(|name| root.join(name));
        for folder in &folders {
            std::fs::create_dir(folder).expect("a folder");
            std::fs::write(folder.join("ca.pem"), "").expect("a file");
        }
        let [etc, _] = &folders;
        let start = config("");
        let rules = SandboxRules::new(&start, etc, &root.join("spool"));
        let fixed = Fixed::new(&start, Some(rules));
        let with = |key: &str, path: &str| {
            let more = match key {
                "eab_key_file" => "eab_kid = \"1\"\n",
                _ => "",
            };
            config(&format!("[acme]\n{more}{key} = \"{path}\"\n"))
        };
        let other = root.join("other/ca.pem").display().to_string();
        for (key, name) in [
            ("ca_file", "acme.ca_file"),
            ("eab_key_file", "acme.eab_key_file"),
        ] {
            assert_eq!(fixed.differing(&with(key, &other), etc), [name]);
            assert!(fixed.differing(&with(key, "ca.pem"), etc).is_empty());
        }
    }
}
