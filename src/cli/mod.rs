//! The commands, one file each, and the dispatch from a command line to one of them.

// They panic if the output has no reader; `output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod alias;
pub mod arc;
mod arguments;
pub mod cert;
pub mod check;
pub mod completion;
pub mod control;
pub mod demo;
pub mod dkim;
pub mod dns;
pub mod doctor;
pub mod domain;
mod echo;
pub mod failure;
mod folders;
mod help;
pub mod import;
pub mod init;
pub mod lookup;
pub mod man;
pub mod output;
pub mod queue;
pub mod reload;
pub mod report;
pub mod run;
pub mod send;
pub mod sendmail;
pub mod served;
pub mod spf;
mod submission;
pub mod sysexits;
pub mod top;
pub mod user;
mod word;

use std::ffi::OsString;
use std::io::{self, Write};

use std::path::{Path, PathBuf};

use std::process::ExitCode;

use argh::FromArgs as _;

use crate::dns::Question;

use crate::setup::init::perform::close_mask;
use crate::shell::process::time::{SystemEntropy, wall};

use crate::shell::helper;

use arguments::{Arguments, Command};
use failure::Failure;
use folders::{config_folder, drop_folder, hostname, load, runtime_dir, servers};
use output::{Output, printed, say};

use sysexits::USAGE;

/// Runs the command line; the program's name counts too (`sendmail`, `mailq`, `newaliases`).
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let mut words = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(word) => words.push(word),
            Err(_) => return end(Err(Failure::new(USAGE, "an argument is not UTF-8"))),
        }
    }
    let program = words
        .first()
        .map(|name| name.rsplit('/').next().unwrap_or_default().to_owned())
        .unwrap_or_default();
    let rest = words.get(1..).unwrap_or_default();
    // Not locked: the commands lock it themselves.
    let (input, output) = (&mut io::stdin(), &mut Output::new());
    match program.as_str() {
        "sendmail" => return end(sendmail::run(rest, &config_folder(None), input, output)),
        "mailq" => return end(sendmail::mailq(rest, &config_folder(None), output)),
        "newaliases" => return end(sendmail::newaliases(rest, output)),
        _ => {}
    }
    if let [word, folder] = rest
        && word == helper::WORD
    {
        // Not a command: the relay starts a copy of itself with this.
        let served = helper::serve(Path::new(folder));
        return end(served.map_err(|error| {
            Failure::new(USAGE, format!("only chopar run starts the helper: {error}"))
        }));
    }
    if let Some((folder, rest)) = sendmail_words(rest) {
        return end(sendmail::run(rest, &config_folder(folder), input, output));
    }
    let strs = config_first(apart(rest.iter().map(String::as_str).collect()));
    let strs = if strs.first() == Some(&"help") {
        help_words(&strs)
    } else {
        strs
    };
    match Arguments::from_args(&["chopar"], &strs) {
        Ok(arguments) => end(
            run(arguments, output).map_err(|failure| match failure.exit_code() {
                // If the sentence names the command to run, another one is no help.
                USAGE if !failure.to_string().contains("`chopar ") => {
                    Failure::new(USAGE, help::with_way(&strs, &failure.to_string()))
                }
                _ => failure,
            }),
        ),
        Err(early) if early.status.is_ok() => {
            end(printed(&help::with_example(&early.output, &strs), output))
        }
        Err(early) => end(Err(Failure::new(USAGE, help::error(&strs, &early.output)))),
    }
}

/// `chopar [-C DIR] sendmail …`: the words after it have a parser of their own.
fn sendmail_words(words: &[String]) -> Option<(Option<PathBuf>, &[String])> {
    match words {
        [first, rest @ ..] if first == "sendmail" => Some((None, rest)),
        [flag, folder, word, rest @ ..]
            if (flag == "-C" || flag == "--config") && word == "sendmail" =>
        {
            Some((Some(folder.into()), rest))
        }
        [glued, word, rest @ ..] if word == "sendmail" => match apart(vec![glued.as_str()])[..] {
            [_, folder] => Some((Some(folder.into()), rest)),
            _ => None,
        },
        _ => None,
    }
}

/// `-CDIR` and `--config=DIR` are `-C DIR`, and `--git=private` is a switch, up to `--`.
fn apart(words: Vec<&str>) -> Vec<&str> {
    let mut found = Vec::with_capacity(words.len());
    let mut is_over = false;
    for word in words {
        is_over |= word == "--";
        // The parser knows no option that may have a value.
        if word == "--git=private" && !is_over {
            found.push("--git-private");
            continue;
        }
        let glued = word
            .strip_prefix("-C")
            .or_else(|| word.strip_prefix("--config="));
        match glued.filter(|folder| !is_over && !folder.is_empty()) {
            Some(folder) => found.extend(["-C", folder.strip_prefix('=').unwrap_or(folder)]),
            None => found.push(word),
        }
    }
    found
}

/// `chopar run -C DIR` is `chopar -C DIR run`: which folder is meant may be said at either place.
fn config_first(words: Vec<&str>) -> Vec<&str> {
    let end = words
        .iter()
        .position(|word| *word == "--")
        .unwrap_or(words.len());
    let is_flag = |word: &&str| matches!(*word, "-C" | "--config");
    match words.iter().take(end).position(is_flag) {
        Some(at) if at > 0 => {
            let mut ordered: Vec<&str> = words.iter().skip(at).take(2).copied().collect();
            ordered.extend(words.iter().take(at));
            ordered.extend(words.iter().skip(at.saturating_add(2)));
            ordered
        }
        _ => words,
    }
}

/// `chopar help CMD` is `chopar CMD --help`.
fn help_words<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut words: Vec<&str> = words.iter().skip(1).copied().collect();
    words.push("--help");
    words
}

fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format_args!("chopar: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: Arguments, output: &mut dyn Write) -> Result<(), Failure> {
    let folder = config_folder(arguments.config);
    let Some(command) = arguments.command else {
        if arguments.version {
            return printed(concat!("chopar ", env!("CARGO_PKG_VERSION"), "\n"), output);
        }
        return Err(Failure::new(USAGE, "say what to do"));
    };
    match command {
        Command::Alias(alias) => alias.run(&folder, &runtime_dir(&folder), output),
        Command::Arc(arc) => run_arc(&arc, &folder, output),
        Command::Cert(cert) => cert.run(&folder, || load(&folder), output),
        Command::Check(check) => check
            .run(&folder, output, &mut io::stderr())
            .map_err(|error| Failure::new(error.exit_code(), error)),
        Command::Completion(completion) => completion.run(&folder, help::words, output),
        Command::Demo(demo) => demo.run(output),
        Command::Run(run) => run
            .run(&folder)
            .map_err(|error| Failure::new(error.exit_code(), error)),
        Command::Dkim(dkim) => run_dkim(&dkim, &folder, output),
        Command::Dns(dns) => dns.run(&folder, &load(&folder)?, output),
        Command::Doctor(doctor) => doctor.run(&folder, output),
        Command::Domain(domain) => {
            close_mask();
            domain.run(&folder, &runtime_dir(&folder), output)
        }
        Command::Init(init) => {
            close_mask();
            init.run(&folder, help::words, output)
        }
        Command::Import(import) => import.run(output),
        Command::Man(man) => man.run(output),
        Command::Queue(queue) => queue.run(&runtime_dir(&folder), &drop_folder(&folder), output),
        Command::Top(top) => top.run(&runtime_dir(&folder), output),
        Command::Reload(reload) => reload.run(&runtime_dir(&folder)),
        Command::Report(report) => {
            let domains = served::meant(&folder, report.domain.as_deref())?;
            let mut entropy = SystemEntropy::default();
            let mut lookup = lookup::Lookup::new(servers(&folder, report.dns), &mut entropy);
            report.run(&load(&folder)?, &domains, output, wall(), &mut |question| {
                lookup.ask(question)
            })
        }
        Command::Send(send) => send.run(&load(&folder)?, output),
        Command::Spf(spf) => {
            let mut entropy = SystemEntropy::default();
            let mut lookup = lookup::Lookup::new(servers(&folder, spf.dns), &mut entropy);
            spf.run(&hostname(&folder), output, wall(), &mut |question| {
                lookup.ask(question)
            })
        }
        Command::User(user) => user.run(&folder, &runtime_dir(&folder), output),
    }
}

fn run_arc(arc: &arc::Arc, folder: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let input = &mut io::stdin();
    let mut entropy = SystemEntropy::default();
    let dns = match &arc.command {
        arc::ArcCommand::Seal(seal) => seal.dns,
        arc::ArcCommand::Verify(verify) => verify.dns,
    };
    let mut lookup = lookup::Lookup::new(servers(folder, dns), &mut entropy);
    let mut ask = |question: &Question| lookup.ask(question);
    match &arc.command {
        arc::ArcCommand::Seal(seal) => {
            seal.run(folder, &hostname(folder), input, output, wall(), &mut ask)
        }
        arc::ArcCommand::Verify(verify) => verify.run(input, output, wall(), &mut ask),
    }
}

fn run_dkim(dkim: &dkim::Dkim, folder: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let input = &mut io::stdin();
    let result = match &dkim.command {
        dkim::DkimCommand::Keygen(keygen) => keygen.run(folder, output),
        dkim::DkimCommand::Record(record) => record.run(folder, output),
        dkim::DkimCommand::Sign(sign) => sign.run(folder, input, output, wall()),
        dkim::DkimCommand::Verify(verify) => {
            let mut entropy = SystemEntropy::default();
            let mut lookup = lookup::Lookup::new(servers(folder, verify.dns), &mut entropy);
            verify.run(input, output, wall(), &mut |question| lookup.ask(question))
        }
    };
    result.map_err(|error| Failure::new(error.exit_code(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_may_be_glued_to_its_flag() {
        let taken = |words: &[&'static str]| config_first(apart(words.to_vec()));
        assert_eq!(taken(&["-Cdir", "run"]), ["-C", "dir", "run"]);
        assert_eq!(taken(&["run", "-C/a/b"]), ["-C", "/a/b", "run"]);
        assert_eq!(taken(&["run", "--config=dir"]), ["-C", "dir", "run"]);
        assert_eq!(taken(&["-C=dir", "run"]), ["-C", "dir", "run"]);
        assert_eq!(
            taken(&["dkim", "sign", "--", "-Cx"]),
            ["dkim", "sign", "--", "-Cx"]
        );
        let words = ["-Cdir", "sendmail", "-Cother"].map(str::to_owned);
        let (folder, rest) = sendmail_words(&words).expect("a call of sendmail");
        assert_eq!((folder, rest), (Some("dir".into()), &words[2..]));
    }

    #[test]
    fn the_folder_may_be_named_behind_the_command() {
        assert_eq!(config_first(vec!["run", "-C", "dir"]), ["-C", "dir", "run"]);
        assert_eq!(
            config_first(vec![
                "user",
                "add",
                "a@b",
                "--config",
                "dir",
                "--send-as",
                "*"
            ]),
            ["--config", "dir", "user", "add", "a@b", "--send-as", "*"]
        );
        assert_eq!(config_first(vec!["-C", "dir", "run"]), ["-C", "dir", "run"]);
        assert_eq!(config_first(vec!["run", "--", "-C"]), ["run", "--", "-C"]);
        assert_eq!(config_first(vec!["run", "-C"]), ["-C", "run"]);
    }
}
