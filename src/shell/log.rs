//! Lines to standard error, in the form that whoever reads them wants.
//!
//! Under systemd each line begins with its priority (sd-daemon(3)) and the journal adds the date; elsewhere the line
//! begins with the date. `CHOPAR_LOG` or `RUST_LOG` chooses what is shown, as `debug` or `chopar=debug`.

use std::env;
use std::io::Write as _;

use log::LevelFilter;

use super::time::wall;
use crate::engine::log::{Level, Line};

/// Starts the log. A second call does nothing.
pub fn start() {
    let mut builder = env_logger::Builder::new();
    match env::var("CHOPAR_LOG").or_else(|_| env::var("RUST_LOG")) {
        Ok(filter) => builder.parse_filters(&filter),
        Err(_) => builder.filter_module(TARGET, LevelFilter::Info),
    };
    let journal = env::var_os("JOURNAL_STREAM").is_some();
    builder.format(move |out, record| {
        if journal {
            writeln!(out, "<{}>{}", priority(record.level()), record.args())
        } else {
            writeln!(out, "{} {}", wall().rfc3339(), record.args())
        }
    });
    // Fails only where a logger is set already, which serves as well.
    drop(builder.try_init());
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

/// Writes a line.
pub fn write(line: &Line) {
    log::log!(target: TARGET, level(line.level), "{line}");
}

const TARGET: &str = "chopar";

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
