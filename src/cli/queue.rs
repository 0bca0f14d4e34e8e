//! `chopar queue`: lists the waiting messages with the reasons, and acts on them. `mailq` is `chopar queue list`.

use std::io::Write;
use std::path::Path;

use argh::FromArgs;

use super::control::ask;
use super::failure::Failure;
use super::output::{EscapedValue, text as shown_text, written};
use super::sysexits::{IO_ERROR, NO_INPUT, UNAVAILABLE, USAGE};
use crate::date::Timestamp;
use crate::engine::control::{
    ControlRequest, ControlResponse, ListedMessage, ListedRecipient, Selection, Stats,
};
use crate::shell::spool::drop_folder;

/// Show and manage the queue.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "queue")]
pub struct Queue {
    #[argh(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum QueueCommand {
    List(List),
    Show(Show),
    Flush(Flush),
    Hold(Hold),
    Release(Release),
    Remove(Remove),
    Stats(StatsCommand),
}

/// List all messages, oldest first.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// print one JSON object a line, as the messages arrive
    #[argh(switch)]
    jsonl: bool,
}

/// Show one message: its envelope, the delivery result of each recipient, its header.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "show")]
struct Show {
    /// the id of the message
    #[argh(positional)]
    id: String,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// Try to deliver messages now.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "flush")]
struct Flush {
    /// ids of messages (default: all)
    #[argh(positional)]
    ids: Vec<String>,
}

/// Put messages on hold until they are released.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "hold")]
struct Hold {
    /// ids of messages
    #[argh(positional)]
    ids: Vec<String>,
    /// all messages
    #[argh(switch)]
    all: bool,
}

/// Release messages that are on hold.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "release")]
struct Release {
    /// ids of messages
    #[argh(positional)]
    ids: Vec<String>,
    /// all messages
    #[argh(switch)]
    all: bool,
}

/// Delete messages from the queue, without a DSN to their senders.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// ids of messages
    #[argh(positional)]
    ids: Vec<String>,
    /// all messages
    #[argh(switch)]
    all: bool,
}

/// Print the size of the queue and the counters since the start.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "stats")]
struct StatsCommand {
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

impl Queue {
    /// Asks the daemon.
    pub fn run(
        &self,
        runtime_dir: &Path,
        drop_folder: &Path,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        match &self.command {
            QueueCommand::List(List {
                json: true,
                jsonl: true,
            }) => Err(Failure::new(USAGE, "either --json or --jsonl, not both")),
            QueueCommand::List(List { json: true, .. }) => list_json(runtime_dir, &ARRAY, output),
            QueueCommand::List(List { jsonl: true, .. }) => list_json(runtime_dir, &LINES, output),
            QueueCommand::List(List { .. }) => list(runtime_dir, drop_folder, output),
            QueueCommand::Show(Show { id, json: true }) => show_json(runtime_dir, id, output),
            QueueCommand::Show(Show { id, json: false }) => show(runtime_dir, id, output),
            QueueCommand::Stats(StatsCommand { json: true }) => stats_json(runtime_dir, output),
            QueueCommand::Stats(StatsCommand { json: false }) => stats(runtime_dir, output),
            QueueCommand::Flush(Flush { ids }) => {
                let which = if ids.is_empty() {
                    Selection::All
                } else {
                    Selection::Ids(ids.clone())
                };
                act(
                    runtime_dir,
                    &ControlRequest::Flush { which },
                    "tried now",
                    output,
                )
            }
            QueueCommand::Hold(Hold { ids, all }) => act(
                runtime_dir,
                &ControlRequest::Hold {
                    which: selection(ids, *all)?,
                },
                "held",
                output,
            ),
            QueueCommand::Release(Release { ids, all }) => act(
                runtime_dir,
                &ControlRequest::Release {
                    which: selection(ids, *all)?,
                },
                "released",
                output,
            ),
            QueueCommand::Remove(Remove { ids, all }) => act(
                runtime_dir,
                &ControlRequest::Remove {
                    which: selection(ids, *all)?,
                },
                "removed",
                output,
            ),
        }
    }
}

fn selection(ids: &[String], all: bool) -> Result<Selection, Failure> {
    match (ids, all) {
        ([], true) => Ok(Selection::All),
        ([], false) => Err(Failure::new(
            USAGE,
            "name the messages by their ids, or say --all",
        )),
        (_, true) => Err(Failure::new(USAGE, "either ids or --all, not both")),
        (ids, false) => Ok(Selection::Ids(ids.to_vec())),
    }
}

fn ended((_, errors): (usize, Vec<String>)) -> Result<(), Failure> {
    match errors.first() {
        None => Ok(()),
        Some(error) => Err(Failure::new(NO_INPUT, error)),
    }
}

fn act(
    runtime_dir: &Path,
    request: &ControlRequest,
    done: &str,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let (count, errors) = ask(runtime_dir, request, &mut |_| Ok(()))?;
    written(writeln!(
        output,
        "{count} {} {done}",
        if count == 1 { "message" } else { "messages" }
    ))?;
    ended((count, errors))
}

/// The text around the objects of a list, and between them.
struct Form {
    open: &'static str,
    between: &'static str,
    close: &'static str,
}

/// One JSON document (RFC 8259).
const ARRAY: Form = Form {
    open: "[",
    between: ",\n",
    close: "]\n",
};
/// One per line, for programs that read them as they come.
const LINES: Form = Form {
    open: "",
    between: "\n",
    close: "",
};

/// The list is not held: it may be long.
fn list_json(runtime_dir: &Path, form: &Form, output: &mut dyn Write) -> Result<(), Failure> {
    let mut is_first = true;
    written(write!(output, "{}", form.open))?;
    let end = ask(runtime_dir, &ControlRequest::List {}, &mut |response| {
        let ControlResponse::Message(listed) = response else {
            return Ok(());
        };
        if !std::mem::take(&mut is_first) {
            written(write!(output, "{}", form.between))?;
        }
        written(write!(output, "{}", json(&listed)?))
    })?;
    if !is_first && form.close.is_empty() {
        written(writeln!(output))?;
    }
    written(write!(output, "{}", form.close))?;
    ended(end)
}

fn show_json(runtime_dir: &Path, id: &str, output: &mut dyn Write) -> Result<(), Failure> {
    let (mut shown, mut header) = (serde_json::Value::Null, String::new());
    let request = ControlRequest::Show { id: id.to_owned() };
    let end = ask(runtime_dir, &request, &mut |response| {
        match response {
            ControlResponse::Message(listed) => shown = value(&listed)?,
            ControlResponse::Header { text } => header.push_str(&text),
            _ => {}
        }
        Ok(())
    })?;
    if let Some(object) = shown.as_object_mut() {
        object.insert("header".to_owned(), header.into());
        written(writeln!(output, "{shown}"))?;
    }
    ended(end)
}

fn stats_json(runtime_dir: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let end = ask(
        runtime_dir,
        &ControlRequest::Stats {},
        &mut |response| match response {
            ControlResponse::Stats(stats) => written(writeln!(output, "{}", json(&stats)?)),
            _ => Ok(()),
        },
    )?;
    ended(end)
}

fn json(of: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(of).map_err(|error| Failure::new(IO_ERROR, error))
}

fn value(of: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(of).map_err(|error| Failure::new(IO_ERROR, error))
}

/// The queue for people: a line for each message, and one for each waiting recipient. If no daemon answers, the
/// messages in the drop folder, as far as the caller may see them.
pub fn list(runtime_dir: &Path, drop_folder: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let mut bytes: u64 = 0;
    let end = ask(runtime_dir, &ControlRequest::List {}, &mut |response| {
        let ControlResponse::Message(listed) = response else {
            return Ok(());
        };
        bytes = bytes.saturating_add(listed.size);
        written(print_message(&listed, output))
    });
    let end = match end {
        Err(failure) if failure.exit_code() == UNAVAILABLE => {
            let waiting = list_waiting(drop_folder, output)?;
            return Err(Failure::new(UNAVAILABLE, format!("{failure}; {waiting}")));
        }
        end => end?,
    };
    match end.0 {
        0 => written(writeln!(output, "Mail queue is empty"))?,
        1 => written(writeln!(output, "-- {bytes} bytes in 1 message"))?,
        count => written(writeln!(output, "-- {bytes} bytes in {count} messages"))?,
    }
    ended(end)
}

/// Lists the messages that wait for a daemon; returns the sentence about it.
fn list_waiting(folder: &Path, output: &mut dyn Write) -> Result<String, Failure> {
    let shown = folder.display();
    let waiting = match drop_folder::waiting(folder) {
        Ok(waiting) => waiting,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok("no message waits for it".to_owned());
        }
        Err(error) => {
            return Ok(format!(
                "whether messages wait for it in {shown} cannot be seen: {error}; use sudo"
            ));
        }
    };
    for message in &waiting {
        written(writeln!(
            output,
            "{} {:>9} {} <{}>",
            message.name,
            message.size,
            message.written.rfc3339(),
            EscapedValue(message.from.as_bytes())
        ))?;
        for to in &message.to {
            written(writeln!(
                output,
                "        waiting <{}>",
                EscapedValue(to.as_bytes())
            ))?;
        }
    }
    Ok(match waiting.len() {
        0 => "no message waits for it".to_owned(),
        1 => format!("1 message waits for it in {shown}"),
        count => format!("{count} messages wait for it in {shown}"),
    })
}

/// Has every message tried now.
pub fn flush_all(runtime_dir: &Path) -> Result<(), Failure> {
    ended(ask(
        runtime_dir,
        &ControlRequest::Flush {
            which: Selection::All,
        },
        &mut |_| Ok(()),
    )?)
}

fn print_message(listed: &ListedMessage, output: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        output,
        "{}{} {:>9} {} <{}>",
        listed.id,
        if listed.held { "!" } else { " " },
        listed.size,
        Timestamp::from_seconds(listed.arrived).rfc3339(),
        EscapedValue(listed.from.as_bytes())
    )?;
    print_unreadable(listed, output)?;
    for recipient in listed
        .recipients
        .iter()
        .filter(|recipient| recipient.state != "done")
    {
        writeln!(
            output,
            "        {} <{}>{}",
            recipient.state,
            EscapedValue(recipient.to.as_bytes()),
            next_attempt(recipient)
        )?;
        if !recipient.why.is_empty() {
            writeln!(
                output,
                "        ({})",
                EscapedValue(recipient.why.as_bytes())
            )?;
        }
    }
    Ok(())
}

/// Prints that parts of a message could not be read.
fn print_unreadable(listed: &ListedMessage, output: &mut dyn Write) -> std::io::Result<()> {
    match &listed.unreadable {
        Some(why) => writeln!(
            output,
            "        (cannot be read: {})",
            EscapedValue(why.as_bytes())
        ),
        None => Ok(()),
    }
}

fn show(runtime_dir: &Path, id: &str, output: &mut dyn Write) -> Result<(), Failure> {
    let end = ask(
        runtime_dir,
        &ControlRequest::Show { id: id.to_owned() },
        &mut |response| match response {
            ControlResponse::Message(listed) => written(print_whole(&listed, output)),
            ControlResponse::Header { text } => {
                let clean = shown_text(&text.replace('\r', ""));
                written(write!(output, "{clean}"))
            }
            _ => Ok(()),
        },
    )?;
    ended(end)
}

fn next_attempt(recipient: &ListedRecipient) -> String {
    recipient.next.map_or_else(String::new, |next| {
        let next = Timestamp::from_seconds(next).rfc3339();
        format!(", next attempt {next}")
    })
}

/// The recipient's own attempts: a next hop that cannot be reached is tried with one message on behalf of all that wait
/// for it.
fn attempts(recipient: &ListedRecipient) -> String {
    match recipient.attempts {
        0 => "not tried itself".to_owned(),
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    }
}

fn print_whole(listed: &ListedMessage, output: &mut dyn Write) -> std::io::Result<()> {
    writeln!(output, "id       {}", listed.id)?;
    writeln!(
        output,
        "arrived  {}",
        Timestamp::from_seconds(listed.arrived).rfc3339()
    )?;
    writeln!(output, "size     {}", listed.size)?;
    writeln!(
        output,
        "from     <{}>",
        EscapedValue(listed.from.as_bytes())
    )?;
    writeln!(
        output,
        "origin   {}",
        EscapedValue(listed.origin.as_bytes())
    )?;
    writeln!(
        output,
        "held     {}",
        if listed.held { "yes" } else { "no" }
    )?;
    print_unreadable(listed, output)?;
    for recipient in &listed.recipients {
        let to = EscapedValue(recipient.to.as_bytes());
        writeln!(
            output,
            "to       <{to}> {}, {}{}",
            recipient.state,
            attempts(recipient),
            next_attempt(recipient)
        )?;
        if !recipient.why.is_empty() {
            writeln!(
                output,
                "         {}",
                EscapedValue(recipient.why.as_bytes())
            )?;
        }
    }
    writeln!(output)
}

fn stats(runtime_dir: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let end = ask(
        runtime_dir,
        &ControlRequest::Stats {},
        &mut |response| match response {
            ControlResponse::Stats(stats) => written(print_stats(&stats, output)),
            _ => Ok(()),
        },
    )?;
    ended(end)
}

fn print_stats(stats: &Stats, output: &mut dyn Write) -> std::io::Result<()> {
    let value = serde_json::to_value(stats).unwrap_or_default();
    for (key, value) in value.as_object().into_iter().flatten() {
        match value.as_u64() {
            Some(seconds) if key == "longest_turn_at" => {
                let at = Timestamp::from_seconds(seconds).rfc3339();
                writeln!(output, "{key:<15} {at}")?;
            }
            _ => writeln!(output, "{key:<15} {value}")?,
        }
    }
    Ok(())
}
