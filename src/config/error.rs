//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::ops::Range;

use super::problem::ConfigProblem;
use super::text::without_mark;
use crate::limits::CONFIG_ERRORS_MAX;

/// One thing that is wrong; shown as `file:line:column: sentence`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// The file, relative to the configuration folder.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    pub problem: ConfigProblem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            problem,
        } = self;
        write!(out, "{file}:{line}:{column}: {problem}")
    }
}

impl std::error::Error for ConfigError {}

/// The errors and warnings that are found on the way.
#[derive(Debug, Default)]
pub(super) struct Errors {
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl Errors {
    /// An error of a whole file.
    pub(super) fn push(&mut self, file: &str, problem: ConfigProblem) {
        self.push_at(file, 1, 1, problem);
    }

    /// An error at a line and column.
    pub(super) fn push_at(
        &mut self,
        file: &str,
        line: usize,
        column: usize,
        problem: ConfigProblem,
    ) {
        if self.errors.len() < CONFIG_ERRORS_MAX {
            self.errors.push(ConfigError {
                file: file.to_owned(),
                line,
                column,
                problem,
            });
        }
    }

    /// An error at a span of a text.
    pub(super) fn push_span(
        &mut self,
        file: &str,
        text: &str,
        span: Range<usize>,
        problem: ConfigProblem,
    ) {
        let (line, column) = position(text, span.start);
        self.push_at(file, line, column, problem);
    }

    /// The errors alone.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        sorted(self.errors)
    }

    /// Something that can be worked with.
    pub(super) fn warn(&mut self, file: &str, problem: ConfigProblem) {
        self.warn_at(file, (1, 1), problem);
    }

    /// The same, at a line and column.
    pub(super) fn warn_at(&mut self, file: &str, place: (usize, usize), problem: ConfigProblem) {
        if self.warnings.len() < CONFIG_ERRORS_MAX {
            self.warnings.push(ConfigError {
                file: file.to_owned(),
                line: place.0,
                column: place.1,
                problem,
            });
        }
    }

    /// The text of a file; `None` (and an error) if it is not UTF-8.
    pub(super) fn text<'a>(&mut self, file: &str, bytes: &'a [u8]) -> Option<&'a str> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(without_mark(text)),
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let good = str::from_utf8(good).unwrap_or_default();
                self.push_span(file, good, good.len()..good.len(), ConfigProblem::NotUtf8);
                None
            }
        }
    }

    /// Warnings and errors.
    pub(super) fn into_parts(self) -> (Vec<ConfigError>, Vec<ConfigError>) {
        (sorted(self.warnings), sorted(self.errors))
    }
}

/// In the order in which an editor meets them.
fn sorted(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    errors.sort_by(|one, other| {
        let place = |error: &ConfigError| (error.line, error.column);
        (one.file.cmp(&other.file)).then_with(|| place(one).cmp(&place(other)))
    });
    errors
}

/// The line and column of a byte offset, both from 1, the column in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let front = text.get(..offset).unwrap_or(text);
    let line = front.matches('\n').count().saturating_add(1);
    let start = front.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let column = front.get(start..).unwrap_or_default().chars().count();
    (line, column.saturating_add(1))
}
