//! `hooks/dns-01 add|remove NAME VALUE`: the operator's program that publishes the record of an ACME challenge in the
//! DNS.
//!
//! The daemon sends the helper a line, `add NAME VALUE`, and reads the reason of a failure; an empty answer is success.
//! The helper does not trust the relay's input. NAME must be `_acme-challenge.` and a name of the configuration, which
//! the helper reads itself (`acme.names`, the hostname, a served domain); VALUE must be 43 characters of base64url.
//! Commands run the hook themselves, for any name.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::client::HelperClient;
use super::content::Content;
use super::directory::{Account, account_of_caller};
use super::program::{self, Ended, Program, Running};
use super::shared::Shared;
use crate::acme::Name;
use crate::acme::jws::is_dns_value;
use crate::acme::name::challenge_record;
use crate::config::Config;
use crate::hook::last_line;
use crate::limits::{ACME_HOOK_TIMEOUT, ACME_TEXT_CHARS_MAX};
use crate::shell::files::loading;

/// The purpose that names such a connection.
pub(super) const TARGET: &str = "dns-01";
/// The hook in the configuration folder.
pub const FILE: &str = "hooks/dns-01";

/// The task of the hook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// Add the record.
    Add,
    Remove,
}

impl fmt::Display for Verb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Add => "add",
            Self::Remove => "remove",
        })
    }
}

impl HelperClient {
    /// Requests the hook from the helper, and waits for its end.
    pub fn dns(&self, verb: Verb, domain: &str, value: &str) -> Result<(), String> {
        let answer = || -> io::Result<String> {
            let mut stream = self.connect(TARGET)?;
            let wait = ACME_HOOK_TIMEOUT.saturating_mul(2);
            stream.set_read_timeout(Some(wait))?;
            let name = challenge_record(domain);
            stream.write_all(format!("{verb} {name} {value}\n").as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
            Ok(answer)
        };
        match answer() {
            Ok(answer) if answer == DONE => Ok(()),
            Ok(answer) if answer.is_empty() => Err(format!("{FILE}: the helper did not answer")),
            Ok(answer) => Err(answer),
            Err(error) => Err(format!("{FILE}: the helper cannot be asked: {error}")),
        }
    }
}

/// Runs the hook of this configuration folder as the caller.
pub fn run(folder: &Path, verb: Verb, domain: &str, value: &str) -> Result<(), String> {
    let account = account_of_caller();
    let name = challenge_record(domain);
    run_hook(folder, &account, &Running::default(), verb, &name, value)
}

/// Serves a request, in the helper.
pub(super) fn serve(mut stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let mut line = String::new();
    stream.take(LINE_BYTES_MAX).read_to_string(&mut line)?;
    let directory = &shared.directory;
    let done = asked(&line).and_then(|(verb, name, value)| {
        let config = loading::read(&directory.folder)
            .map_err(|errors| errors.into_iter().next().unwrap_or_default())?;
        if !is_configured(name, &config) {
            return Err(format!(
                "{name} is of no name in acme.names, of no served domain and not of the hostname, and for others the daemon \
                 does not have hooks/dns-01 run: add the name to acme.names, or run `chopar cert renew`"
            ));
        }
        let (folder, account) = (&directory.folder, &directory.account);
        run_hook(folder, account, &shared.running, verb, name, value)
    });
    let answer = done.err().unwrap_or_else(|| DONE.to_owned());
    stream.write_all(answer.as_bytes())
}

/// The words of a line.
fn asked(line: &str) -> Result<(Verb, &str, &str), String> {
    let words: Vec<&str> = line.trim_end_matches('\n').split(' ').collect();
    let [verb, name, value] = words[..] else {
        return Err("expected add or remove, a name and a value".to_owned());
    };
    let verb = match verb {
        "add" => Verb::Add,
        "remove" => Verb::Remove,
        _ => return Err("expected add or remove".to_owned()),
    };
    if !is_dns_value(value) {
        return Err("the value is not one of DNS-01".to_owned());
    }
    Ok((verb, name, value))
}

/// Whether the name is the DNS-01 challenge record of a name in the configuration.
pub fn is_configured(name: &str, config: &Config) -> bool {
    let wanted = config.acme.names(&config.hostname);
    let mut wanted = wanted.iter().map(Name::challenge_record);
    let served = config.domains.keys().chain([&config.hostname]);
    let mut served = served.map(|domain| challenge_record(domain.as_str()));
    wanted.any(|one| one == name) || served.any(|one| one == name)
}

fn run_hook(
    folder: &Path,
    account: &Account,
    running: &Running,
    verb: Verb,
    name: &str,
    value: &str,
) -> Result<(), String> {
    let mut environment = account.environment();
    environment.push(("PWD", folder.display().to_string()));
    let path = folder.join(FILE).display().to_string();
    let words = [path, verb.to_string(), name.to_owned(), value.to_owned()];
    let program = Program {
        words: &words,
        folder,
        environment: &environment,
        timeout: ACME_HOOK_TIMEOUT,
    };
    let (ended, output) = program::run(&program, b"", &Content::default(), running);
    let said = last_line(&output.stderr).map_or_else(String::new, |said| {
        let said: String = said.to_string();
        format!(
            " ({})",
            said.chars().take(ACME_TEXT_CHARS_MAX).collect::<String>()
        )
    });
    let cause = match ended {
        Ended::Exit(0) => return Ok(()),
        Ended::Exit(code) => format!("it ended with exit code {code}"),
        Ended::Signal(signal) => format!("it was ended by signal {signal}"),
        Ended::Late => format!(
            "it took longer than {} seconds",
            ACME_HOOK_TIMEOUT.as_secs()
        ),
        Ended::NotRun(error) => format!("it cannot be run: {error}"),
    };
    Err(format!(
        "{FILE} {verb} {name}: {cause}{said}; run it by hand to see what it reports"
    ))
}

const DONE: &str = "done";
const LINE_BYTES_MAX: u64 = 1_024;
const ANSWER_BYTES_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::directory::Directory;
    use super::*;

    const VALUE: &str = "abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE";

    /// A configuration whose hook records its arguments.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::create_dir(path.join("hooks")).expect("a folder");
        let text = format!(
            "hostname = \"mail.a.test\"\nstate_dir = \"{}/state\"\n[acme]\nnames = [\"*.a.test\"]\n",
            path.display()
        );
        fs::write(path.join("chopar.toml"), text).expect("a file");
        fs::create_dir_all(path.join("domains/b.test")).expect("a folder");
        // The files that the relay writes are not trusted.
        let order = path.join("state/acme/certificates/c.test");
        fs::create_dir_all(&order).expect("a folder");
        fs::write(order.join("order.json"), "{\"names\":[\"c.test\"]}").expect("a file");
        let hook = path.join(FILE);
        fs::write(
            &hook,
            "#!/bin/sh\necho \"$@\" >> said\ntest \"$1\" = add || { echo no >&2; exit 3; }\n",
        )
        .expect("a file");
        fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).expect("a mode");
        folder
    }

    /// The answer of the helper to a line.
    fn ask(folder: &Path, line: &str) -> String {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        ours.write_all(line.as_bytes()).expect("written");
        ours.shutdown(Shutdown::Write).expect("closed");
        let shared = Shared::new(Directory::new(folder));
        serve(&theirs, &shared).expect("served");
        drop(theirs);
        let mut answer = String::new();
        ours.read_to_string(&mut answer).expect("an answer");
        answer
    }

    #[test]
    fn the_helper_runs_the_hook_for_names_that_are_wanted_alone() {
        let folder = folder();
        let ask = |line: String| ask(folder.path(), &line);
        assert_eq!(ask(format!("add _acme-challenge.a.test {VALUE}\n")), DONE);
        assert_eq!(ask(format!("add _acme-challenge.b.test {VALUE}\n")), DONE);
        let said = fs::read_to_string(folder.path().join("said")).expect("a file");
        assert_eq!(
            said,
            format!("add _acme-challenge.a.test {VALUE}\nadd _acme-challenge.b.test {VALUE}\n")
        );
        for line in [
            format!("add _acme-challenge.c.test {VALUE}\n"),
            format!("add a.test {VALUE}\n"),
            format!("add _acme-challenge.a.test;id {VALUE}\n"),
            format!("add _acme-challenge.a.test {VALUE}x\n"),
            format!("add _acme-challenge.a.test {}\n", VALUE.replace('a', "$")),
            format!("run _acme-challenge.a.test {VALUE}\n"),
            format!("add _acme-challenge.a.test {VALUE} more\n"),
            String::new(),
        ] {
            assert_ne!(ask(line.clone()), DONE, "{line}");
        }
        let again = fs::read_to_string(folder.path().join("said")).expect("a file");
        assert_eq!(again, said);
    }

    #[test]
    fn what_the_hook_says_when_it_fails_is_passed_on() {
        let folder = folder();
        let answer = ask(
            folder.path(),
            &format!("remove _acme-challenge.a.test {VALUE}\n"),
        );
        assert!(answer.contains("exit code 3 (no)"), "{answer}");
        let error = run(folder.path(), Verb::Remove, "a.test", VALUE).expect_err("a failure");
        assert!(error.contains("exit code 3 (no)"), "{error}");
        run(folder.path(), Verb::Add, "a.test", VALUE).expect("it works");
    }
}
