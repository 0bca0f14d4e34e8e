//! Log lines to standard error, in the form that their reader expects.
//!
//! Under systemd each line begins with its priority (sd-daemon(3)) and the journal adds the date; elsewhere the line
//! begins with the date. `CHOPAR_LOG` or `RUST_LOG` sets the level, as `debug` or `chopar=debug`.
//!
//! The lines of one turn of the loop are written together, because one write per line is expensive: [`put`] and
//! [`flush`].

use std::env;
use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, MutexGuard, PoisonError};

use env_logger::Target;
use log::LevelFilter;

use crate::engine::log::{Level, Line};
use crate::shell::process::time::wall;

/// Starts the log. A second call does nothing.
pub fn start() {
    let mut builder = env_logger::Builder::new();
    match env::var("CHOPAR_LOG").or_else(|_| env::var("RUST_LOG")) {
        Ok(filter) => builder.parse_filters(&filter),
        Err(_) => builder.filter_module(TARGET, LevelFilter::Info),
    };
    builder.target(Target::Pipe(Box::new(Waiting)));
    // It does not grow, and so does not lie above heap that many clients used.
    waiting().reserve(WAITING_BYTES_MAX + LINE_BYTES);
    let journal = goes_to_journal();
    builder.format(move |out, record| {
        if journal {
            writeln!(out, "<{}>{}", priority(record.level()), record.args())
        } else {
            writeln!(out, "{} {}", wall().rfc3339(), record.args())
        }
    });
    // Fails only if a logger is already set, which will do.
    drop(builder.try_init());
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        flush();
        hook(info);
    }));
}

/// Whether standard error is the stream of the journal. A program that a service starts has the variable of that
/// service, and can have another standard error (systemd.exec(5)).
fn goes_to_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|about| stream == format!("{}:{}", about.st_dev, about.st_ino))
}

/// The least urgent lines that are shown.
pub fn shown() -> Level {
    match log::max_level() {
        LevelFilter::Off | LevelFilter::Error => Level::Error,
        LevelFilter::Warn => Level::Warning,
        LevelFilter::Info => Level::Info,
        LevelFilter::Debug | LevelFilter::Trace => Level::Debug,
    }
}

/// Writes a line, after those that wait.
pub fn write(line: &Line) {
    put(line);
    flush();
}

/// Writes a line with the next [`flush`], or at once if it is urgent or many wait.
pub fn put(line: &Line) {
    log::log!(target: TARGET, level(line.level), "{line}");
    if line.level <= Level::Warning || waiting().len() >= WAITING_BYTES_MAX {
        flush();
    }
}

/// Writes the waiting lines. A log that cannot be written stops nothing.
pub fn flush() {
    let mut waiting = waiting();
    if !waiting.is_empty() {
        let _ = io::stderr().write_all(&waiting);
        waiting.clear();
    }
}

/// Lines that are not written yet.
static WAITING: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn waiting() -> MutexGuard<'static, Vec<u8>> {
    // Whole lines are appended: a thread that ended under the lock left none half written.
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes lines to wait.
struct Waiting;

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        waiting().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const TARGET: &str = "chopar";
const WAITING_BYTES_MAX: usize = 64 * 1024;
const LINE_BYTES: usize = 4 * 1024;

fn level(level: Level) -> log::Level {
    match level {
        Level::Error => log::Level::Error,
        Level::Warning => log::Level::Warn,
        Level::Info => log::Level::Info,
        Level::Debug => log::Level::Debug,
    }
}

fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}
