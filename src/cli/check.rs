//! `chopar check`: parses the whole configuration and says everything that is wrong with it.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use argh::FromArgs;

use crate::address::Mailbox;
use crate::config::{Config, ConfigError, Folder, Listen, Receive, SystemDefaults};
use crate::policy::relay;
use crate::shell::folder;

/// Parse the whole configuration; print file:line:column for every error.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "check")]
pub struct Check {}

/// Why the configuration cannot be used.
#[derive(Debug)]
pub enum CheckError {
    /// The folder cannot be read.
    Folder(folder::FolderError),
    /// What is in it has errors; each has been said.
    Errors(usize),
    /// The output is gone.
    Stream(io::Error),
}

impl CheckError {
    /// The exit code of sysexits.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Folder(_) | Self::Errors(_) => 78,
            Self::Stream(_) => 74,
        }
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => write!(out, "{error}"),
            Self::Errors(1) => out.write_str("1 error; the configuration cannot be used"),
            Self::Errors(count) => write!(out, "{count} errors; the configuration cannot be used"),
            Self::Stream(error) => write!(out, "cannot write: {error}"),
        }
    }
}

impl std::error::Error for CheckError {}

impl Check {
    /// Reads the folder; says what is wrong on `errors` and what is served on `output`.
    pub fn run(
        &self,
        path: &Path,
        output: &mut dyn Write,
        errors: &mut dyn Write,
    ) -> Result<(), CheckError> {
        let folder = folder::read(path).map_err(CheckError::Folder)?;
        check(&folder, &folder::system_defaults(), output, errors)
    }
}

fn check(
    folder: &Folder,
    defaults: &SystemDefaults,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CheckError> {
    let config = match Config::parse(folder, defaults) {
        Ok(config) => config,
        Err(found) => {
            say(errors, "", &found).map_err(CheckError::Stream)?;
            return Err(CheckError::Errors(found.len()));
        }
    };
    say(errors, "warning: ", &config.warnings)
        .and_then(|()| say_dead_aliases(errors, &config))
        .and_then(|()| say_missing_admin(errors, &config))
        .and_then(|()| writeln!(output, "{}", Summary(&config)))
        .map_err(CheckError::Stream)
}

fn say(to: &mut dyn Write, prefix: &str, errors: &[ConfigError]) -> io::Result<()> {
    errors
        .iter()
        .try_for_each(|error| writeln!(to, "{prefix}{error}"))
}

/// Aliases whose mail would be refused: they are well-formed, and lead nowhere.
fn say_dead_aliases(to: &mut dyn Write, config: &Config) -> io::Result<()> {
    for (domain, served) in &config.domains {
        if served.receive == Receive::Elsewhere {
            continue;
        }
        for (name, alias) in &served.aliases {
            let quoted = format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
            let Ok(mailbox) = Mailbox::new(name, domain).or_else(|_| Mailbox::new(&quoted, domain))
            else {
                continue;
            };
            if let Err(refusal) = relay::expand(config, &mailbox) {
                let line = alias.line;
                writeln!(
                    to,
                    "warning: domains/{domain}/aliases:{line}:1: mail to {mailbox} is refused: {refusal}"
                )?;
            }
        }
    }
    Ok(())
}

/// Without `admin` nobody is told what becomes of mail of accounts that have no alias.
fn say_missing_admin(to: &mut dyn Write, config: &Config) -> io::Result<()> {
    if config.admin.is_some() {
        return Ok(());
    }
    writeln!(
        to,
        "warning: chopar.toml: admin is not set: DSNs to accounts of this host that have no alias are dropped, and \
         nobody hears of damage; set it to an address that is read"
    )
}

/// What is served, in one line.
struct Summary<'a>(&'a Config);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        let users: usize = config
            .domains
            .values()
            .map(|served| served.users.len())
            .sum();
        let aliases: usize = config
            .domains
            .values()
            .map(|served| {
                served
                    .aliases
                    .len()
                    .saturating_add(usize::from(served.catch_all.is_some()))
            })
            .sum();
        let keys: usize = config
            .domains
            .values()
            .map(|served| served.dkim.len())
            .sum();
        write!(out, "ok: {} serves ", config.hostname)?;
        if config.domains.is_empty() {
            out.write_str("no domain (add one with chopar domain add)")?;
        }
        for (at, domain) in config.domains.keys().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(out, "{comma}{domain}")?;
        }
        write!(
            out,
            "; users {users}, aliases {aliases}, DKIM keys {keys}, routes {}, certificates {}; listens on",
            config.routes.len(),
            config.certificates.len()
        )?;
        let listen = &config.listen;
        let mut any = false;
        for (name, listen) in [
            ("smtp", &listen.smtp),
            ("proxy", &listen.proxy),
            ("submission", &listen.submission),
            ("submissions", &listen.submissions),
        ] {
            match listen {
                Listen::Systemd => write!(out, " {name}=systemd")?,
                Listen::Addresses(list) if list.is_empty() => continue,
                Listen::Addresses(list) => {
                    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                    write!(out, " {name}={}", list.join(","))?;
                }
            }
            any = true;
        }
        if !any {
            out.write_str(" nothing")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: (&str, &str) = ("chopar.toml", "admin = \"a@example.org\"\n");

    fn run(files: &[(&str, &str)]) -> (Option<u8>, String, String) {
        let mut folder = Folder::default();
        for (path, text) in files {
            folder.insert_file(path, text.as_bytes().to_vec());
        }
        let defaults = SystemDefaults {
            hostname: "mail.example.com".to_owned(),
            resolv_conf: String::new(),
        };
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let result = check(&folder, &defaults, &mut output, &mut errors);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (
            result.err().map(|error| error.exit_code()),
            text(output),
            text(errors),
        )
    }

    #[test]
    fn says_what_is_served_in_one_line() {
        let (code, output, errors) = run(&[
            (
                "chopar.toml",
                "admin = \"ann@example.com\"\n[listen]\nsmtp = [\"127.0.0.1:25\"]\nsubmission = []\nsubmissions = \"systemd\"\nstatus = []\n",
            ),
            (
                "domains/example.com/aliases",
                "ann: ann@gmail.com\n*: ann\n",
            ),
            ("domains/example.org/aliases", ""),
        ]);
        assert_eq!((code, errors.as_str()), (None, ""));
        assert_eq!(
            output,
            "ok: mail.example.com serves example.com, example.org; users 0, aliases 2, DKIM keys 0, routes 0, \
             certificates 0; listens on smtp=127.0.0.1:25 submissions=systemd\n"
        );
        let (_, output, _) = run(&[]);
        assert!(output.starts_with("ok: mail.example.com serves no domain (add one"));
    }

    #[test]
    fn warns_when_nobody_is_told_what_cannot_be_returned() {
        let (code, _, errors) = run(&[]);
        assert_eq!(code, None);
        assert!(errors.starts_with("warning: chopar.toml: admin is not set"));
        assert_eq!(run(&[ADMIN]).2, "");
    }

    #[test]
    fn says_every_error_with_its_position_and_exits_78() {
        let (code, output, errors) = run(&[
            ("chopar.toml", "admin = \"x\"\n"),
            ("domains/example.com/aliases", "nonsense\n"),
        ]);
        assert_eq!((code, output.as_str()), (Some(78), ""));
        let lines: Vec<&str> = errors.lines().collect();
        assert!(lines[0].starts_with("chopar.toml:1:9: \"x\" is no mail address"));
        assert!(lines[1].starts_with("domains/example.com/aliases:1:1: expected NAME"));
    }

    #[test]
    fn warns_of_aliases_that_lead_nowhere() {
        let (code, _, errors) = run(&[
            (ADMIN.0, ADMIN.1),
            (
                "domains/example.com/aliases",
                "a: x@example.org\n\"c d\": gone\n",
            ),
        ]);
        assert_eq!(code, None);
        let lines: Vec<&str> = errors.lines().collect();
        assert_eq!(lines.len(), 1);
        assert!(errors.contains(
            "aliases:2:1: mail to \"c d\"@example.com is refused: there is no such address"
        ));
    }

    #[test]
    fn warns_of_a_proxy_that_may_relay_by_its_own_address() {
        let toml = "admin = \"a@example.org\"\n[relay]\nnetworks = [\"127.0.0.0/8\"]\n\
                    [proxy]\nnetworks = [\"192.0.2.1\", \"::ffff:127.0.0.1\"]\n";
        let (code, _, errors) = run(&[("chopar.toml", toml)]);
        assert_eq!(code, None);
        let expected = "warning: chopar.toml:5:26: the proxy 127.0.0.1/32 is in 127.0.0.0/8 of [relay] networks";
        assert!(errors.starts_with(expected), "{errors}");
        assert_eq!(errors.lines().count(), 1);
    }

    #[test]
    fn aliases_in_a_circle_are_errors() {
        let (code, _, errors) = run(&[
            (
                "domains/example.com/aliases",
                "a: b, x@example.org\nb: A\nc: a\n",
            ),
            (
                "domains/example.org/aliases",
                "x: d@example.org\nd: e\n*: *@example.net\n",
            ),
            ("domains/example.net/aliases", "*: *@example.org\n"),
        ]);
        assert_eq!(code, Some(78));
        let places: Vec<&str> = errors
            .lines()
            .filter_map(|line| line.split_once(": the alias leads back"))
            .map(|(place, _)| place)
            .collect();
        let expected = [
            "domains/example.com/aliases:1:1",
            "domains/example.com/aliases:2:1",
            "domains/example.net/aliases:1:1",
            "domains/example.org/aliases:3:1",
        ];
        assert_eq!(places, expected, "{errors}");
    }

    #[test]
    fn a_folder_that_is_missing_is_78() {
        let temporary = tempfile::tempdir().expect("a folder");
        let path = temporary.path().join("none");
        let error = Check {}
            .run(&path, &mut Vec::new(), &mut Vec::new())
            .expect_err("missing");
        assert_eq!(error.exit_code(), 78);
        assert!(
            error
                .to_string()
                .contains("there is no such folder; make it")
        );
    }
}
