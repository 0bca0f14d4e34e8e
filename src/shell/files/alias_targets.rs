//! Whether the local targets of aliases exist: programs, folders of maildirs, sockets of LMTP servers.
//!
//! The check uses the rights of the daemon's account, which delivers. A program that cannot be run is an error: no mail
//! is lost at once, but all mail for it waits and is returned in the end. A missing folder may be created later, and a
//! socket exists only while its server runs, so these are warnings.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::config::{AliasTarget, Config, ServedDomain};
use crate::destination::{Destination, words};
use crate::policy::advice::{Advice, Severity};
use crate::shell::files::access::account_name;
use crate::shell::process::privilege::{SystemAccount, as_account};

/// Missing targets of aliases, with the position of the alias. Each target is named once.
pub(in crate::shell) fn findings(config: &Config, account: Option<&SystemAccount>) -> Vec<Advice> {
    let targets = places(config);
    let judged = as_account(account, || {
        let found = targets.iter().filter_map(|(place, target)| {
            let (severity, text) = missing(target)?;
            let text = format!("{place}: {text}");
            Some(Advice { severity, text })
        });
        found.collect()
    });
    // If the account cannot be assumed, the code that assumes it permanently reports that.
    judged.unwrap_or_default()
}

/// The targets on this machine, each with the place of its first alias.
fn places(config: &Config) -> Vec<(String, &Destination)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for domain in config.domains.keys() {
        // Mail for other servers is not delivered here.
        let Some(served) = config.receiving(domain) else {
            continue;
        };
        let file = format!("domains/{domain}/aliases");
        for (line, target) in targets(served) {
            if let AliasTarget::Here(destination) = target
                && seen.insert(destination)
            {
                found.push((format!("{file}:{line}:1"), destination));
            }
        }
    }
    found
}

fn targets(served: &ServedDomain) -> impl Iterator<Item = (usize, &AliasTarget)> {
    let aliases = served.aliases.values().chain(&served.catch_all);
    aliases.flat_map(|alias| alias.targets.iter().map(|target| (alias.line, target)))
}

/// Why mail for a target would not arrive now, and how bad that is.
fn missing(target: &Destination) -> Option<(Severity, String)> {
    match target {
        Destination::Pipe(command) => {
            let words = words(command)?;
            let program = words.first()?;
            let why = not_run(Path::new(program))?;
            Some((
                Severity::Fault,
                format!(
                    "the program {program} {why}: mail for it waits, and is returned in the end"
                ),
            ))
        }
        Destination::Maildir(path) => {
            let path = Path::new(&**path);
            let parent = path.parent().filter(|_| !path.exists())?;
            no_folder(parent, &format!("for the maildir {}", path.display()))
        }
        Destination::LmtpSocket(path) => {
            let path = Path::new(&**path);
            no_folder(
                path.parent()?,
                &format!("of the LMTP server's socket {}", path.display()),
            )
        }
        Destination::Hosts(_)
        | Destination::Lmtp(_)
        | Destination::Reports
        | Destination::Discard => None,
    }
}

/// Why the calling account cannot run a program.
fn not_run(program: &Path) -> Option<String> {
    match fs::metadata(program) {
        Ok(about) if !about.is_file() => Some("is not a file".to_owned()),
        Ok(_) => access(program, Access::EXEC_OK).err().map(|_| {
            let shown = program.display();
            let account = account_name();
            format!("cannot be run by the account {account} (chmod 755 {shown})")
        }),
        Err(error) => Some(reason(&error)),
    }
}

fn no_folder(folder: &Path, what: &str) -> Option<(Severity, String)> {
    let error = fs::metadata(folder).err()?;
    let shown = folder.display();
    let why = reason(&error);
    let text = format!("the folder {shown} {what} {why}: mail for it waits until it can be used");
    Some((Severity::Advice, text))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is not there".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("cannot be reached by the account {}", account_name())
        }
        _ => format!("cannot be used ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn found(aliases: &str) -> Vec<(Severity, String)> {
        let config = Config::of_files(&[("domains/example.com/aliases", aliases)]);
        let advice = findings(&config, None).into_iter();
        advice
            .map(|advice| (advice.severity, advice.text))
            .collect()
    }

    #[test]
    fn what_is_missing_is_named_with_its_line_and_what_is_there_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let program = at("program");
        fs::write(&program, "#!/bin/sh\n").expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        let closed = at("closed");
        fs::write(&closed, "#!/bin/sh\n").expect("a file");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o644)).expect("a mode");
        let good = format!(
            "a: | {program} --word\nb: maildir:{}\nc: lmtp:{}\nd: x@far.example\ne: discard:\n",
            at("box"),
            at("socket")
        );
        assert_eq!(found(&good), []);
        let fault = |text: String| (Severity::Fault, text);
        let advice = |text: String| (Severity::Advice, text);
        let at_line = |line: usize| format!("domains/example.com/aliases:{line}:1");
        let waits = "mail for it waits, and is returned in the end";
        let (gone, under) = (at("gone"), at("gone/box"));
        let folder_waits = "is not there: mail for it waits until it can be used";
        let bad = format!(
            "# what is not there\na: | {gone} --word\nb: | {}\nc: maildir:{under}\nd: lmtp:{under}\n*: | {gone} --word\n\
             f: | {closed}\n",
            folder.path().display()
        );
        let found = found(&bad);
        let account = account_name();
        let expected = [
            fault(format!(
                "{}: the program {gone} is not there: {waits}",
                at_line(2)
            )),
            fault(format!(
                "{}: the program {} is not a file: {waits}",
                at_line(3),
                folder.path().display()
            )),
            advice(format!(
                "{}: the folder {gone} for the maildir {under} {folder_waits}",
                at_line(4)
            )),
            advice(format!(
                "{}: the folder {gone} of the LMTP server's socket {under} {folder_waits}",
                at_line(5)
            )),
            fault(format!(
                "{}: the program {closed} cannot be run by the account {account} (chmod 755 {closed}): {waits}",
                at_line(7)
            )),
        ];
        assert_eq!(found, expected);
    }
}
