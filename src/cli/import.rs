//! `chopar import`: makes a new configuration folder from that of another mail server.

use std::io::Write;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::output;
use super::sysexits::{CANNOT_CREATE, CONFIGURATION, NO_INPUT};
use crate::config::Config;
use crate::escape::Escaped;
use crate::policy::advice::{Severity, advice};
use crate::setup::import::gather::{beside, folder as gather, text};
use crate::setup::import::write::write;
use crate::setup::import::{
    ImportResult as Imported, NewFile, SettingResult, chasquid, postfix, report, settle, users,
};
use crate::shell::files::folder;
use crate::shell::files::loading;

/// Create a configuration folder from that of another mail server.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "import")]
pub struct Import {
    #[argh(subcommand)]
    command: Source,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Source {
    Chasquid(Chasquid),
    Postfix(Postfix),
}

/// Import the configuration of chasquid.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "chasquid")]
struct Chasquid {
    /// the folder of chasquid (default: /etc/chasquid)
    #[argh(positional)]
    folder: Option<PathBuf>,
    /// the new folder
    #[argh(option)]
    into: PathBuf,
}

/// Import Postfix's main.cf with its tables, and OpenDKIM's keys.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "postfix")]
struct Postfix {
    /// the folder of main.cf (default: /etc/postfix)
    #[argh(positional)]
    folder: Option<PathBuf>,
    /// the new folder
    #[argh(option)]
    into: PathBuf,
}

impl Import {
    /// Runs the import, and prints the result of each setting.
    pub fn run(&self, output: &mut dyn Write) -> Result<(), Failure> {
        match &self.command {
            Source::Chasquid(Chasquid { folder, into }) => {
                let usual = || PathBuf::from("/etc/chasquid");
                let from = folder.clone().unwrap_or_else(usual);
                let source = gather(&from).map_err(|error| Failure::new(NO_INPUT, error))?;
                finish(chasquid::import(&source), into, output)
            }
            Source::Postfix(Postfix { folder, into }) => {
                let usual = || PathBuf::from("/etc/postfix");
                let from = folder.clone().unwrap_or_else(usual);
                let from = std::path::absolute(&from).unwrap_or(from);
                let main = from.join("main.cf");
                let text_of_main = text(&main).map_err(|error| {
                    Failure::new(NO_INPUT, format!("{}: {error}", main.display()))
                })?;
                let hostname = folder::system_defaults().hostname;
                let imported = postfix::import(&text_of_main, &hostname, &mut |path| {
                    beside(&from, path).and_then(|path| text(&path))
                });
                finish(imported, into, output)
            }
        }
    }
}

fn finish(mut imported: Imported, into: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let into = std::path::absolute(into).unwrap_or_else(|_| into.to_owned());
    let shown = into.display();
    let mut files = settle(&mut imported, &folder::system_defaults());
    let report = report(&imported.notes);
    let users = users(&imported, &shown.to_string());
    let mut add = |name: &str, text: &str| {
        files.push(NewFile {
            path: name.to_owned(),
            bytes: Zeroizing::new(text.as_bytes().to_vec()),
            is_secret: true,
        });
    };
    add(REPORT, &report);
    if !users.is_empty() {
        add(USERS, &users);
    }
    write(&into, &files).map_err(|error| Failure::new(CANNOT_CREATE, error))?;
    output::print(output, &report)?;
    let count = |result: SettingResult| {
        let notes = imported.notes.iter();
        notes.filter(|note| note.result == result).count()
    };
    let summary = format!(
        "\n{shown}: {} domains; taken {}, changed {}, left {}. The report is in {shown}/{REPORT}.\n",
        imported.domains.len(),
        count(SettingResult::Taken),
        count(SettingResult::Changed),
        count(SettingResult::Left)
    );
    output::print(output, &summary)?;
    let config =
        loading::read(&into).map_err(|errors| Failure::new(CONFIGURATION, errors.join("\n")))?;
    for text in &imported.to_do {
        let text = Escaped(text.as_bytes());
        output::print(output, &format!("to do  {text}\n"))?;
    }
    faults(&config, output)?;
    if !users.is_empty() {
        output::print(
            output,
            &format!("Each user needs a password: {shown}/{USERS} has the commands.\n"),
        )?;
    }
    output::print(
        output,
        &format!(
            "\nNext: chopar -C {shown} check; once the other server is stopped, move the folder to /etc/chopar.\n"
        ),
    )
}

/// Parts that do not work as they are, such as mail without a recipient.
fn faults(config: &Config, output: &mut dyn Write) -> Result<(), Failure> {
    let found = advice(config).into_iter();
    let mut faults = found.filter(|advice| advice.severity == Severity::Fault);
    faults.try_for_each(|fault| output::print(output, &format!("to do  {fault}\n")))
}

const REPORT: &str = "import.report";
const USERS: &str = "import.users";
