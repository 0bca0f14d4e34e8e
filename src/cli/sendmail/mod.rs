//! `sendmail`, as every program of a Unix system calls it, with `mailq` and `newaliases`.
//!
//! The message goes to the daemon over `submit.sock`, where the daemon knows the caller by its uid. If the daemon is
//! not running, the message is left in `spool/drop/`. In both cases exit code 0 means that the message is on the disk.

mod body;
pub mod flags;
mod lists;
pub mod message;
mod place;
mod submit;
mod text;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::Path;

use super::failure::Failure;
use super::folders::{drop_folder, runtime_dir};
use super::output::text as shown_text;
use super::queue;
use super::sysexits::{DATA, IO_ERROR, NO_INPUT, NO_USER, TRY_AGAIN, USAGE};
use crate::address::{Mailbox, ReversePath};
use crate::limits::COMMAND_MESSAGE_BYTES_MAX;
use crate::mail::address_list::address_list;
use crate::xtext::encode_xtext;

use flags::{Flags, Mode, Verbosity};
use message::{Caller, HeaderReading, Message, MessageError, prepare};
use place::Place;
use submit::{Envelope, Submission};

/// Runs as `sendmail` with these arguments; `folder` is the configuration folder.
pub fn run(
    arguments: &[String],
    folder: &Path,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let flags = Flags::parse(arguments).map_err(|error| {
        let code = if matches!(error, flags::FlagError::Control(_)) {
            DATA
        } else {
            USAGE
        };
        Failure::new(code, error)
    })?;
    match flags.mode {
        Mode::Deliver => deliver(&flags, &Place::find(folder)?, input, output),
        Mode::Verify => verify(&flags, &Place::find(folder)?, output),
        Mode::Smtp => submit::pass_through(&Place::find(folder)?, output),
        Mode::ListQueue => queue::list(&runtime_dir(folder), &drop_folder(folder), output),
        Mode::NewAliases => Ok(()), // there is no database: the file is read as it is
        Mode::Flush => queue::flush_all(&runtime_dir(folder)),
        Mode::Help => print(flags::USAGE, output),
    }
}

fn deliver(
    flags: &Flags,
    place: &Place,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let caller = Caller {
        mailbox: from_mailbox(flags, place)?,
        full_name: flags.full_name.clone().or_else(|| place.full_name.clone()),
        domain: place.mail_domain.clone(),
    };
    let reading = HeaderReading {
        end: flags.end,
        source: flags.recipients_from,
        caller: &caller,
        limit: message_limit(place),
    };
    let message = prepare(input, &reading).map_err(|error| {
        let code = match error {
            MessageError::Input(_) => IO_ERROR,
            MessageError::Room(_) => TRY_AGAIN,
            _ => DATA,
        };
        Failure::new(code, error)
    })?;
    let (mut recipients, mut seen) = (Vec::new(), HashSet::new());
    let named = flags
        .recipients
        .iter()
        .map(|text| recipient(text, place))
        .collect::<Result<Vec<_>, _>>()?;
    for mailbox in named
        .into_iter()
        .flatten()
        .chain(message.recipients.iter().cloned())
    {
        if seen.insert(mailbox.clone()) {
            recipients.push(mailbox);
        }
    }
    if recipients.is_empty() {
        return Err(Failure::new(
            NO_INPUT,
            "no recipients: name them as arguments, or use -t and a To field",
        ));
    }
    let envelope = envelope(flags, place, &recipients, &message)?;
    let submission = submit::submit(place, &envelope, &message)?;
    report(&submission, flags, output)
}

/// The limit for a message in bytes: from the configuration, from the daemon, or the highest for any command.
fn message_limit(place: &Place) -> u64 {
    let most = COMMAND_MESSAGE_BYTES_MAX as u64;
    let known = place.message_bytes_max;
    known.or_else(|| submit::size_limit(place)).unwrap_or(most)
}

/// The mailbox for a missing From field: that of -f if it is one, otherwise the caller's.
fn from_mailbox(flags: &Flags, place: &Place) -> Result<Mailbox, Failure> {
    match sender(flags, place)? {
        ReversePath::Mailbox(mailbox) => Ok(mailbox),
        ReversePath::Null => Ok(place.caller.clone()),
    }
}

/// The reverse-path: -f, or the caller.
fn sender(flags: &Flags, place: &Place) -> Result<ReversePath, Failure> {
    let Some(text) = flags.sender.as_deref() else {
        return Ok(ReversePath::Mailbox(place.caller.clone()));
    };
    let text = text
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or(text);
    if text.is_empty() {
        return Ok(ReversePath::Null);
    }
    let refused = match place.mailbox(text) {
        Ok(mailbox) => return Ok(ReversePath::Mailbox(mailbox)),
        Err(error) => error,
    };
    // `Name <address>`, as some programs have it from their configuration.
    match address_list(text.as_bytes(), Some(&place.mail_domain)).as_deref() {
        Ok([mailbox]) => Ok(ReversePath::Mailbox(place::own(
            mailbox,
            &place.mail_domain,
        ))),
        _ => {
            let shown = crate::escape::Escaped(text.as_bytes());
            let text = format!("the sender {shown}: {refused}");
            Err(Failure::new(DATA, text))
        }
    }
}

/// The mailboxes of one argument, which may have several, separated by commas or semicolons.
fn recipient(text: &str, place: &Place) -> Result<Vec<Mailbox>, Failure> {
    let list = lists::with_commas(text.as_bytes());
    address_list(&list, Some(&place.mail_domain)).map_err(|error| {
        let shown = crate::escape::Escaped(text.as_bytes());
        Failure::new(DATA, format!("the recipient {shown}: {error}"))
    })
}

fn envelope(
    flags: &Flags,
    place: &Place,
    recipients: &[Mailbox],
    message: &Message,
) -> Result<Envelope, Failure> {
    let from = sender(flags, place)?;
    let smtputf8 = !from.as_str().is_ascii() || recipients.iter().any(|to| !to.as_str().is_ascii());
    let mut mail = format!("MAIL FROM:<{from}> SIZE={}", message.size());
    let eight_bit = flags.body.as_deref() == Some("8BITMIME") || !message.is_ascii;
    mail.push_str(if eight_bit { " BODY=8BITMIME" } else { "" });
    mail.push_str(if smtputf8 { " SMTPUTF8" } else { "" });
    if let Some(what) = &flags.dsn_return {
        mail.push_str(&format!(" RET={what}"));
    }
    if let Some(id) = &flags.envelope_id {
        mail.push_str(&format!(" ENVID={}", encode_xtext(id)));
    }
    let notify = flags
        .notify
        .as_ref()
        .map(|notify| format!(" NOTIFY={notify}"))
        .unwrap_or_default();
    let rcpt = recipients
        .iter()
        .map(|to| format!("RCPT TO:<{to}>{notify}"))
        .collect();
    Ok(Envelope { mail, rcpt })
}

fn report(submission: &Submission, flags: &Flags, output: &mut dyn Write) -> Result<(), Failure> {
    match submission {
        Submission::Queued { replies, refused } => {
            if flags.verbosity == Verbosity::Verbose {
                print(&(replies.join("\n") + "\n"), output)?;
            }
            match refused.as_slice() {
                [] => Ok(()),
                refused => Err(Failure::new(NO_USER, refused.join("\n"))),
            }
        }
        Submission::Dropped => {
            if flags.verbosity == Verbosity::Verbose {
                let text = "the daemon is not running; the message waits for it in the spool\n";
                print(text, output)?;
            }
            Ok(())
        }
    }
}

fn verify(flags: &Flags, place: &Place, output: &mut dyn Write) -> Result<(), Failure> {
    let mut all = true;
    for text in &flags.recipients {
        for mailbox in recipient(text, place)? {
            let answer = submit::verify(place, &mailbox)?;
            all &= answer.is_positive();
            let word = if answer.is_positive() {
                "deliverable"
            } else {
                "undeliverable"
            };
            let line = format!("{mailbox}... {word}: {}\n", answer.to_text());
            print(&line, output)?;
        }
    }
    if all {
        Ok(())
    } else {
        Err(Failure::new(NO_USER, "not every address is deliverable"))
    }
}

/// `mailq`; its arguments, which other systems define, are ignored.
pub fn mailq(words: &[String], folder: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    match words.first().map(String::as_str) {
        Some("--help") => print(flags::USAGE, output),
        _ => queue::list(&runtime_dir(folder), &drop_folder(folder), output),
    }
}

/// `newaliases`: does nothing, because the aliases files are read directly.
pub fn newaliases(words: &[String], output: &mut dyn Write) -> Result<(), Failure> {
    match words.first().map(String::as_str) {
        Some("--help") => print(flags::USAGE, output),
        _ => Ok(()),
    }
}

fn print(text: &str, output: &mut dyn Write) -> Result<(), Failure> {
    (output.write_all(shown_text(text).as_bytes()))
        .map_err(|error| Failure::new(IO_ERROR, format!("cannot write: {error}")))
}
