//! `chopar check`: lists all errors of the configuration, as the daemon's account would find them.
//!
//! A mistake that keeps the daemon from starting is an error, and so is one that would not work although the daemon
//! starts. A setting that works but is probably not intended is a warning. A start uses the same code ([`loading`]) and
//! logs the same sentences.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use argh::FromArgs;

use crate::config::{Config, Listen};
use crate::date::Timestamp;
use crate::policy::advice::{Severity, advice};
use crate::setup::acme::managed;
use crate::shell::files::loading::{self, LoadError, Loaded};
use crate::shell::process::time::wall;
use crate::shell::tls::{Tls, TlsError};

/// Check the whole configuration; print each error with file:line:column.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "check")]
pub struct Check {}

/// Why the configuration cannot be used.
#[derive(Debug)]
pub enum CheckError {
    /// It has errors; each has been said.
    Errors(usize),
    /// The output is gone.
    Stream(io::Error),
}

impl CheckError {
    /// The exit code of sysexits.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Errors(_) => 78,
            Self::Stream(_) => 74,
        }
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors(1) => out.write_str("1 error; correct it and check again"),
            Self::Errors(count) => write!(out, "{count} errors; correct them and check again"),
            Self::Stream(error) => write!(out, "cannot write: {error}"),
        }
    }
}

impl std::error::Error for CheckError {}

impl Check {
    /// Reads the folder; writes problems to `errors` and a summary of what is served to `output`.
    pub fn run(
        &self,
        path: &Path,
        output: &mut dyn Write,
        errors: &mut dyn Write,
    ) -> Result<(), CheckError> {
        let loaded = match loading::load(path) {
            Ok(loaded) => loaded,
            Err(LoadError::Config(found)) => {
                say(errors, "", &found)?;
                return Err(CheckError::Errors(found.len()));
            }
            Err(error) => {
                say(errors, "", &[error])?;
                return Err(CheckError::Errors(1));
            }
        };
        let now = wall();
        let tls = loaded.tls(now);
        let mut count = say_all(&loaded, &tls, now, errors)?;
        let obstacles = loaded.obstacles();
        say(errors, "", &obstacles)?;
        count = count.saturating_add(obstacles.len());
        if count > 0 {
            return Err(CheckError::Errors(count));
        }
        let choices = tls.map(|tls| tls.choices(now)).unwrap_or_default();
        say(output, "", &choices)?;
        writeln!(output, "{}", Summary(&loaded)).map_err(CheckError::Stream)
    }
}

/// Writes all problems; returns how many are errors.
fn say_all(
    loaded: &Loaded,
    tls: &Result<Tls, TlsError>,
    now: Timestamp,
    errors: &mut dyn Write,
) -> Result<usize, CheckError> {
    let config = &loaded.config;
    let mut found: Vec<(Severity, String)> = advice(config)
        .into_iter()
        .chain(loaded.dead_targets())
        .map(|advice| (advice.severity, advice.text))
        .collect();
    match tls {
        Ok(tls) => {
            let findings = tls.findings(&config.hostname, now);
            let findings = findings.iter();
            found.extend(findings.map(|finding| (finding.severity(), finding.to_string())));
        }
        Err(error) => found.push((Severity::Fault, error.to_string())),
    }
    let shortage = managed::shortage(config);
    found.extend(shortage.map(|text| (Severity::Advice, text)));
    found.sort_by(|(_, one), (_, other)| place(one).cmp(&place(other)));
    for (severity, text) in &found {
        let prefix = match severity {
            Severity::Fault => "",
            Severity::Advice => "warning: ",
        };
        say(errors, prefix, &[text])?;
    }
    let faults = found
        .iter()
        .filter(|(severity, _)| *severity == Severity::Fault);
    Ok(faults.count())
}

/// The position in a sentence: file, line and column.
fn place(text: &str) -> (&str, usize, usize) {
    let place = text.split(' ').next().unwrap_or_default();
    let mut parts = place.trim_end_matches(':').split(':');
    let file = parts.next().unwrap_or_default();
    let mut number = || parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    (file, number(), number())
}

fn say(to: &mut dyn Write, prefix: &str, errors: &[impl fmt::Display]) -> Result<(), CheckError> {
    errors
        .iter()
        .try_for_each(|error| writeln!(to, "{prefix}{error}"))
        .map_err(CheckError::Stream)
}

/// The served domains and listeners in one line.
struct Summary<'a>(&'a Loaded);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config: &Config = &self.0.config;
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
            self.0.certificates.len()
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
        let temporary = tempfile::tempdir().expect("a folder");
        let place = temporary.path();
        let own = format!(
            "user = \"root\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n",
            place.display()
        );
        let toml = files.iter().find(|(path, _)| *path == ADMIN.0);
        let toml = toml.map_or("", |(_, text)| text);
        let hostname = match toml.contains("hostname") {
            true => "",
            false => "hostname = \"mail.example.com\"\n",
        };
        let listen = match toml.contains("[listen]") {
            true => "",
            false => "[listen]\nsmtp = []\nsubmission = []\nsubmissions = []\n",
        };
        let toml = format!("{own}{hostname}{toml}{listen}");
        for (path, text) in files.iter().chain([&(ADMIN.0, toml.as_str())]) {
            let path = place.join("etc").join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let result = Check {}.run(&place.join("etc"), &mut output, &mut errors);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let errors = text(errors)
            .lines()
            .filter(|line| !line.contains("there is no DKIM key"))
            .map(|line| format!("{line}\n"))
            .collect();
        (
            result.err().map(|error| error.exit_code()),
            text(output),
            errors,
        )
    }

    #[test]
    fn says_what_is_served_in_one_line() {
        let (code, output, errors) = run(&[
            (
                "chopar.toml",
                "admin = \"ann@example.com\"\n[listen]\nsmtp = [\"127.0.0.1:0\"]\nsubmission = []\nsubmissions = \"systemd\"\nstatus = []\n",
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
             certificates 0; listens on smtp=127.0.0.1:0 submissions=systemd\n"
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
        assert!(lines[0].starts_with("chopar.toml:5:9: \"x\" is not a mail address"));
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
    fn a_target_that_is_not_there_is_named_with_its_place() {
        let aliases = "a: | /no/such/program\nb: maildir:/no/such/box\n";
        let files = [(ADMIN.0, ADMIN.1), ("domains/example.com/aliases", aliases)];
        let (code, _, errors) = run(&files);
        assert_eq!(code, Some(78));
        let lines: Vec<&str> = errors.lines().collect();
        let program = "domains/example.com/aliases:1:1: the program /no/such/program is not there";
        assert!(lines[0].starts_with(program), "{errors}");
        let folder =
            "warning: domains/example.com/aliases:2:1: the folder /no/such for the maildir";
        assert!(lines[1].starts_with(folder), "{errors}");
        assert_eq!(lines.len(), 2, "{errors}");
    }

    #[test]
    fn warns_of_a_proxy_that_may_relay_by_its_own_address() {
        let toml = "admin = \"a@example.org\"\n[relay]\nnetworks = [\"127.0.0.0/8\"]\n\
                    [proxy]\nnetworks = [\"192.0.2.1\", \"::ffff:127.0.0.1\"]\n";
        let (code, _, errors) = run(&[("chopar.toml", toml)]);
        assert_eq!(code, None);
        let expected = "warning: chopar.toml:9:26: the proxy 127.0.0.1/32 is in 127.0.0.0/8 of [relay] networks";
        assert!(errors.starts_with(expected), "{errors}");
        assert_eq!(errors.lines().count(), 1);
    }

    #[test]
    fn mail_to_postmaster_that_would_be_refused_is_an_error() {
        let domain = ("domains/example.com/aliases", "ann: ann@example.org\n");
        let (code, output, errors) = run(&[domain]);
        assert_eq!((code, output.as_str()), (Some(78), ""));
        assert!(
            errors.contains("postmaster@example.com is refused"),
            "{errors}"
        );
        assert_eq!(run(&[ADMIN, domain]).0, None);
        let alias = (
            "domains/example.com/aliases",
            "postmaster: ann@example.org\n",
        );
        assert_eq!(run(&[alias]).0, None);
        let elsewhere = "[domain.\"example.com\"]\nreceive = false\n";
        assert_eq!(run(&[domain, (ADMIN.0, elsewhere)]).0, None);
    }

    #[test]
    fn an_admin_that_leads_nowhere_is_an_error() {
        let domain = ("domains/example.com/aliases", "ann: ann@example.org\n");
        for admin in ["postmaster@example.com", "bob@example.com"] {
            let toml = format!("admin = \"{admin}\"\n");
            let (code, _, errors) = run(&[domain, (ADMIN.0, &toml)]);
            assert_eq!(code, Some(78), "{admin}");
            let expected = format!("mail to admin, {admin}, is refused");
            assert!(errors.contains(&expected), "{errors}");
        }
        let toml = (ADMIN.0, "admin = \"ann@example.com\"\n");
        assert_eq!(run(&[domain, toml]).0, None);
    }

    #[test]
    fn what_is_probably_not_meant_is_a_warning_with_the_mend() {
        let cases = [
            (
                "[relay]\nnetworks = [\"0.0.0.0/0\"]\n",
                "is all of the Internet",
            ),
            ("[relay]\nnetworks = [\"::/0\"]\n", "is all of the Internet"),
            (
                "[listen]\nsmtp = [\"[::]:0\"]\nsubmission = []\nsubmissions = []\n",
                "add \"0.0.0.0:0\"",
            ),
        ];
        for (toml, expected) in cases {
            let (code, _, errors) = run(&[(ADMIN.0, &format!("{}{toml}", ADMIN.1))]);
            assert_eq!(code, None, "{errors}");
            assert!(errors.starts_with("warning: chopar.toml:"), "{errors}");
            assert!(errors.contains(expected), "{errors}");
        }
        let (code, _, errors) = run(&[(ADMIN.0, "hostname = \"192.0.2.1\"\n")]);
        assert_eq!(code, Some(78));
        assert!(errors.contains("is an address"), "{errors}");
    }

    #[test]
    fn a_pair_that_cannot_be_served_is_an_error_and_one_that_is_for_another_name_a_warning() {
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a pair");
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let pair = |chain: &str, key: &str| {
            let files = [
                ("tls/a/fullchain.pem", chain),
                ("tls/a/privkey.pem", key),
                ADMIN,
            ];
            run(&files.map(|(path, text)| (path, text)))
        };
        let (chain, key) = made("mail.example.com");
        let (other, _) = made("other.example");
        let (code, output, _) = pair(&chain, &key);
        assert_eq!(code, None);
        assert!(output.contains("certificates 1"), "{output}");
        for (chain, key, expected) in [
            (&*other, &*key, "is not the key of the certificate"),
            ("", &key, "there is no certificate in it"),
            (&chain, &key[..90], "is the file whole?"),
        ] {
            let (code, _, errors) = pair(chain, key);
            assert_eq!(code, Some(78), "{errors}");
            assert!(
                errors.contains("tls/a/") && errors.contains(expected),
                "{errors}"
            );
        }
        let (other, key) = made("other.example");
        let (code, _, errors) = pair(&other, &key);
        assert_eq!(code, None);
        assert!(
            errors.contains("no certificate is for mail.example.com"),
            "{errors}"
        );
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
    fn errors_come_in_the_order_of_files_and_lines() {
        let (code, _, errors) = run(&[
            (ADMIN.0, "admin = \"x\"\n[limits]\nrecipients = \"y\"\n"),
            ("domains/b.example/aliases", "nonsense\nx: y@\nnonsense\n"),
            ("domains/a.example/users", "nonsense\n"),
        ]);
        assert_eq!(code, Some(78));
        let lines: Vec<&str> = errors.lines().collect();
        let places: Vec<_> = lines.iter().map(|line| place(line)).collect();
        assert!(places.len() > 3 && places.is_sorted(), "{errors}");
        let (_, _, errors) = run(&[
            (ADMIN.0, "[relay]\nnetworks = [\"0.0.0.0/0\"]\n"),
            (
                "domains/a.example/aliases",
                "a: gone\nb: gone\npostmaster: p@example.org\n",
            ),
        ]);
        let lines = errors
            .lines()
            .filter_map(|line| line.strip_prefix("warning: "));
        let places: Vec<_> = lines.map(place).collect();
        assert!(places.len() > 3 && places.is_sorted(), "{errors}");
    }

    #[test]
    fn a_certificate_without_its_issuer_and_a_short_key_are_warnings() {
        let issuer = rcgen::Issuer::new(
            rcgen::CertificateParams::new(vec!["An authority".to_owned()]).expect("names"),
            rcgen::KeyPair::generate().expect("a key"),
        );
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut leaf =
            rcgen::CertificateParams::new(vec!["mail.example.com".to_owned()]).expect("names");
        leaf.distinguished_name
            .push(rcgen::DnType::CommonName, "mail.example.com");
        let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
        let (code, _, errors) = run(&[
            ADMIN,
            ("tls/a/fullchain.pem", &leaf.pem()),
            ("tls/a/privkey.pem", &key.serialize_pem()),
            ("domains/example.com/aliases", ""),
            (
                "domains/example.com/dkim/s.pem",
                include_str!("../../tests/data/dkim/rsa-1024.pem"),
            ),
        ]);
        assert_eq!(code, None, "{errors}");
        assert!(
            errors.contains("the file does not hold the certificate of"),
            "{errors}"
        );
        assert!(
            errors.contains("dkim/s.pem:1:1: the RSA key has 1024 bits: chopar signs with it"),
            "{errors}"
        );
    }

    #[test]
    fn a_folder_that_is_missing_is_78() {
        let temporary = tempfile::tempdir().expect("a folder");
        let path = temporary.path().join("none");
        let mut errors = Vec::new();
        let error = Check {}
            .run(&path, &mut Vec::new(), &mut errors)
            .expect_err("missing");
        assert_eq!(error.exit_code(), 78);
        let said = String::from_utf8(errors).expect("text");
        assert!(said.contains("there is no such folder; make it"), "{said}");
    }
}
