//! Completions for arguments and for values of options.
//!
//! Words come from the definitions that also parse them. Names of the machine, such as its domains, are fetched when
//! the key is pressed: `chopar completion values KIND` prints names, one per line, or nothing if it cannot. It never
//! prompts, and waits no longer than a person would. Names that a shell would not take for one word are left out.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::{fs, thread};

use crate::acme::ChallengeKind;
use crate::acme::name::Name;
use crate::cli::control::ask;
use crate::cli::dkim::KeyType;
use crate::cli::failure::Failure;
use crate::cli::folders::{runtime_dir, state_dir};
use crate::cli::output::printed;
use crate::cli::served::served;
use crate::cli::sysexits::UNAVAILABLE;
use crate::cli::{alias, cert, man, user};
use crate::engine::control::{ControlRequest, ControlResponse};
use crate::limits::{COMPLETION_TIME, COMPLETION_VALUES_MAX};
use crate::setup::acme::hooks;
use crate::setup::record_format::Format;
use crate::shell::certificates::pairs::OBTAINED_FOLDER;

/// The values at one place of a command line.
pub(super) enum Values {
    /// One of these words.
    Words(Vec<&'static str>),
    /// Something that the machine has.
    OfMachine(Kind),
}

/// Something that the machine has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Aliases,
    Certificates,
    Domains,
    Messages,
    Users,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Aliases,
        Self::Certificates,
        Self::Domains,
        Self::Messages,
        Self::Users,
    ];

    /// As the scripts ask for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Aliases => "aliases",
            Self::Certificates => "certificates",
            Self::Domains => "domains",
            Self::Messages => "messages",
            Self::Users => "users",
        }
    }
}

/// The values of a command's arguments; `None` if they are files, or free text.
pub(super) fn of_argument(command: &str) -> Option<Values> {
    let kind = match command {
        "alias remove" | "alias resolve" => Kind::Aliases,
        "cert renew" | "cert revoke" => Kind::Certificates,
        "alias list" | "dkim keygen" | "dkim record" | "dns" | "doctor" | "domain remove"
        | "report" | "user list" => Kind::Domains,
        "queue flush" | "queue hold" | "queue release" | "queue remove" | "queue show" => {
            Kind::Messages
        }
        "user passwd" | "user remove" | "user verify" => Kind::Users,
        "cert hook" => return words(hooks::EXAMPLES.map(|(name, _)| name)),
        "man" => return words(man::names()),
        _ => return None,
    };
    Some(Values::OfMachine(kind))
}

/// The completions after an option; `None` if they are files, or free text.
pub(super) fn of_option(command: &str, option: &str) -> Option<Values> {
    match (command, option) {
        ("cert obtain", "--challenge") => words(ChallengeKind::ALL.map(ChallengeKind::word)),
        ("cert revoke", "--reason") => words(cert::REASONS.map(|(word, _)| word)),
        ("dkim keygen", "--algorithm") => words(KeyType::WORDS.map(|(word, _)| word)),
        ("dns", "--format") => words(Format::WORDS.map(|(word, _)| word)),
        ("arc seal" | "dkim sign", "--domain") => Some(Values::OfMachine(Kind::Domains)),
        ("send", "--from" | "--user") => Some(Values::OfMachine(Kind::Users)),
        _ => None,
    }
}

fn words(words: impl IntoIterator<Item = &'static str>) -> Option<Values> {
    Some(Values::Words(words.into_iter().collect()))
}

/// Prints the names of one kind on the machine, as far as the caller may see them.
pub(super) fn print(kind: &str, folder: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let Some(kind) = Kind::ALL.into_iter().find(|one| one.word() == kind) else {
        return Ok(());
    };
    let (sender, found) = mpsc::channel();
    let folder = folder.to_owned();
    // A daemon or a file system that hangs holds this thread, which ends with the process.
    thread::spawn(move || drop(sender.send(of_machine(kind, &folder))));
    let mut names = found.recv_timeout(COMPLETION_TIME).unwrap_or_default();
    names.retain(|name| is_one_word(name));
    names.truncate(COMPLETION_VALUES_MAX);
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    printed(&text, output)
}

fn of_machine(kind: Kind, folder: &Path) -> Vec<String> {
    let listed = |list: &dyn Fn(&mut Vec<u8>) -> Result<(), Failure>, end: &str| {
        let mut lines = Vec::new();
        // Names from before an error are listed.
        drop(list(&mut lines));
        let lines = String::from_utf8_lossy(&lines);
        let names = lines.lines().filter_map(|line| line.split(end).next());
        names.map(str::to_owned).collect()
    };
    match kind {
        Kind::Aliases => listed(&|lines| alias::list(folder, None, false, lines), ": "),
        Kind::Certificates => certificates(folder),
        Kind::Domains => served(folder).unwrap_or_default(),
        Kind::Messages => messages(folder),
        Kind::Users => listed(&|lines| user::list(folder, None, false, lines), " "),
    }
}

/// The names of obtained certificates.
fn certificates(folder: &Path) -> Vec<String> {
    let toml = fs::read_to_string(folder.join("chopar.toml")).unwrap_or_default();
    let Ok(entries) = fs::read_dir(state_dir(&toml).join(OBTAINED_FOLDER)) else {
        return Vec::new();
    };
    let folders = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name());
    let names = folders.filter_map(|folder| Name::of_folder(folder.to_str()?));
    let mut names: Vec<String> = names.map(|name| name.to_string()).collect();
    names.sort();
    names
}

/// The ids of the oldest.
fn messages(folder: &Path) -> Vec<String> {
    let mut ids = Vec::new();
    let whole = ask(
        &runtime_dir(folder),
        &ControlRequest::List {},
        &mut |response| {
            if let ControlResponse::Message(listed) = response {
                ids.push(listed.id);
            }
            match ids.len() < COMPLETION_VALUES_MAX {
                true => Ok(()),
                false => Err(Failure::new(UNAVAILABLE, "enough")),
            }
        },
    );
    drop(whole);
    ids
}

/// Whether every shell takes the name for itself, but for the asterisk, which the scripts escape.
fn is_one_word(name: &str) -> bool {
    let is_plain = |letter: char| letter.is_alphanumeric() || "@.*+=_-".contains(letter);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_run_is_no_value() {
        for (name, is_taken) in [
            ("app@example.com", true),
            ("*@example.com", true),
            ("bücher.example", true),
            ("$(reboot)@example.com", false),
            ("`reboot`@example.com", false),
            ("a'b@example.com", false),
            ("\"a b\"@example.com", false),
            ("-f@example.com", false),
            ("", false),
        ] {
            assert_eq!(is_one_word(name), is_taken, "{name}");
        }
    }
}
