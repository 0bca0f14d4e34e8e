//! `chopar top`: the state of the relay in a terminal, redrawn every few seconds.

use std::io::{IsTerminal as _, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use argh::FromArgs;
use rustix::termios::tcgetwinsize;

use super::control::ask;
use super::failure::Failure;
use super::output::{text as shown_text, written};
use super::sysexits::{IO_ERROR, UNAVAILABLE};
use crate::config::quantity::size_text;
use crate::date::Timestamp;
use crate::engine::control::{ControlRequest, ControlResponse};
use crate::engine::status::RelayStatus;
use crate::metrics::Totals;

/// Show the state of the relay: its queue, delivery results, and the next hops that mail waits for.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "top")]
pub struct Top {
    /// print it once (the default if standard output is not a terminal)
    #[argh(switch)]
    once: bool,
    /// print one JSON object, the same as /status.json
    #[argh(switch)]
    json: bool,
    /// seconds between two updates (default: 2)
    #[argh(option, default = "2")]
    every: u16,
}

impl Top {
    /// Asks the daemon and draws its answer.
    pub fn run(&self, runtime_dir: &Path, output: &mut dyn Write) -> Result<(), Failure> {
        let is_once = self.once || self.json || !std::io::stdout().is_terminal();
        loop {
            let status = asked(runtime_dir)?;
            let text = match self.json {
                true => serde_json::to_string_pretty(&status)
                    .map_err(|error| Failure::new(IO_ERROR, error))?,
                false => screen(&status),
            };
            if is_once {
                return written(writeln!(output, "{}", shown_text(text.trim_end())));
            }
            let size = tcgetwinsize(std::io::stdout()).ok();
            let (columns, rows) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
            let fitted = shown_text(&fitted(&text, columns.into(), rows.into()));
            // From the upper left corner, clearing the end of each line and everything below: without flicker.
            let fitted = fitted.replace('\n', "\x1b[K\n");
            written(write!(output, "\x1b[H{fitted}\x1b[J"))?;
            written(output.flush())?;
            thread::sleep(Duration::from_secs(u64::from(self.every.max(1))));
        }
    }
}

fn asked(runtime_dir: &Path) -> Result<RelayStatus, Failure> {
    let mut status = None;
    ask(runtime_dir, &ControlRequest::Status {}, &mut |response| {
        if let ControlResponse::Status(found) = response {
            status = Some(*found);
        }
        Ok(())
    })?;
    status.ok_or_else(|| {
        Failure::new(
            UNAVAILABLE,
            "the daemon sent no figures: it may be of an older version; restart it",
        )
    })
}

/// As much of a text as the terminal holds, without the last line end.
fn fitted(text: &str, columns: usize, rows: usize) -> String {
    let lines = text.lines().take(rows.max(1));
    let cut = lines.map(|line| line.chars().take(columns.max(1)).collect::<String>());
    cut.collect::<Vec<_>>().join("\n")
}

/// The whole text, a line end behind each line.
fn screen(status: &RelayStatus) -> String {
    [
        heading(status),
        totals(status),
        providers(status),
        hops(status),
        oldest(status),
        events(status),
    ]
    .concat()
}

fn heading(status: &RelayStatus) -> String {
    let stats = &status.stats;
    let mut text = format!(
        "{}   chopar {}, up {}   {}\n",
        status.hostname,
        status.version,
        span(status.uptime),
        Timestamp::from_seconds(status.now).rfc3339()
    );
    if !status.disk_takes_records {
        text.push_str("THE DISK DOES NOT TAKE RECORDS: nothing is sent until it does\n");
    }
    let free = status.disk_free.map_or_else(|| "?".to_owned(), size_text);
    text.push_str(&format!(
        "queue {} ({} held)   sessions {} in, {} out   buffers {} of {}   disk {free} free\n\n",
        stats.queued,
        stats.held,
        stats.sessions,
        stats.deliveries,
        size_text(stats.buffered as u64),
        size_text(status.memory_max),
    ));
    text
}

/// Totals of the last minutes, the last hour and the last day.
fn totals(status: &RelayStatus) -> String {
    let mut text = format!(
        "{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
        "in the last", "accepted", "delivered", "deferred", "failed", "refused"
    );
    let minutes = status.hour.len();
    for (name, slots) in [
        ("2 minutes", status.hour.get(minutes.saturating_sub(2)..)),
        ("hour", Some(status.hour.as_slice())),
        ("day", Some(status.day.as_slice())),
    ] {
        let sum = |of: fn(&Totals) -> u64| slots.unwrap_or_default().iter().map(of).sum::<u64>();
        text.push_str(&format!(
            "{name:<14}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
            sum(|slot| slot.accepted),
            sum(|slot| slot.delivered),
            sum(|slot| slot.deferred),
            sum(|slot| slot.failed),
            sum(|slot| slot.refused),
        ));
    }
    text
}

/// A heading with its lines; nothing if there are none.
fn listed(heading: String, lines: String) -> String {
    match lines.is_empty() {
        true => lines,
        false => heading + &lines,
    }
}

fn providers(status: &RelayStatus) -> String {
    let heading = format!(
        "\n{:<24}{:>10}{:>10}{:>10}\n",
        "receiver", "delivered", "deferred", "failed"
    );
    let lines = status.providers.iter().map(|provider| {
        let outcomes = provider.outcomes;
        format!(
            "{:<24}{:>10}{:>10}{:>10}\n",
            provider.name, outcomes.delivered, outcomes.deferred, outcomes.failed
        )
    });
    listed(heading, lines.collect())
}

/// The next hops that mail waits for.
fn hops(status: &RelayStatus) -> String {
    let heading = format!("\n{:<24}{:>10}  next\n", "waiting for", "recipients");
    let lines = status.hops.iter().map(|hop| {
        let next = match hop.next {
            Some(seconds) => format!("in {}", span(seconds)),
            None if hop.sessions > 0 => "under way".to_owned(),
            None => "as each is due".to_owned(),
        };
        let why = hop.why.as_deref().map(|why| format!("  {why}"));
        let why = why.unwrap_or_default();
        format!("{:<24}{:>10}  {next}{why}\n", hop.name, hop.waiting)
    });
    listed(heading, lines.collect())
}

/// The messages that have waited longest.
fn oldest(status: &RelayStatus) -> String {
    let heading = format!("\n{:<16}{:>8}{:>6}  next hop\n", "oldest", "age", "tries");
    let lines = status.stuck.iter().map(|one| {
        let why = match one.held {
            true => "held by an operator",
            false => one.why.as_deref().unwrap_or_default(),
        };
        // A next hop that cannot be reached is tried with one message on behalf of all that wait for it.
        let tries = match one.attempts {
            0 => "none".to_owned(),
            tries => tries.to_string(),
        };
        let (id, age, hop) = (&one.id, span(one.age), &one.hop);
        format!("{id:<16}{age:>8}{tries:>6}  {hop}  {why}\n")
    });
    listed(heading, lines.collect())
}

fn events(status: &RelayStatus) -> String {
    let lines = status.events.iter().rev().map(|event| {
        let at = Timestamp::from_seconds(event.at).rfc3339();
        format!("{at} {}\n", event.text)
    });
    listed("\nlast events\n".to_owned(), lines.collect())
}

/// Seconds, in the largest unit that gives at least two.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let mut units = units.iter();
    let fits = units.find(|(length, _)| seconds >= 2 * length);
    fits.map_or_else(
        || format!("{seconds} s"),
        |(length, name)| format!("{} {name}", seconds / length),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_the_terminal() {
        assert_eq!(fitted("abcdef\nghi\nj\n", 4, 2), "abcd\nghi");
        assert_eq!(fitted("ä€x\n", 2, 5), "ä€");
        assert_eq!(fitted("a\n", 0, 0), "a");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(
            [span(0), span(119), span(7_199), span(200_000)],
            ["0 s", "119 s", "119 min", "2 d"]
        );
    }
}
