//! Conversion of values in chopar.toml: the kinds of values, and the errors for a value of another kind.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::error::Errors;
use super::problem::{ConfigProblem, NameProblem, ValueProblem};
use super::quantity;
use crate::address::{Domain, Mailbox};

pub(super) const FILE: &str = "chopar.toml";

/// Converts texts to values, and records errors.
pub(super) struct Check<'a> {
    pub(super) text: &'a str,
    pub(super) errors: &'a mut Errors,
}

impl Check<'_> {
    pub(super) fn problem<T>(&mut self, at: &Spanned<T>, problem: ConfigProblem) {
        self.errors.push_span(FILE, self.text, at.span(), problem);
    }

    pub(super) fn path(&mut self, path: Option<Spanned<String>>, default: &str) -> PathBuf {
        let Some(path) = path else {
            return default.into();
        };
        if !path.get_ref().starts_with('/') {
            let text = path.get_ref().clone();
            self.problem(
                &path,
                ConfigProblem::Value(ValueProblem::RelativePath { text }),
            );
        }
        path.into_inner().into()
    }

    pub(super) fn mailbox(&mut self, text: &Spanned<String>) -> Option<Mailbox> {
        Mailbox::parse(text.get_ref())
            .map_err(|error| {
                let text_there = text.get_ref().clone();
                let text_there = ConfigProblem::Name(NameProblem::Mailbox {
                    text: text_there,
                    error,
                });
                self.problem(text, text_there);
            })
            .ok()
    }

    pub(super) fn size(
        &mut self,
        text: Option<Spanned<String>>,
        default: u64,
        (least, shown): (u64, &'static str),
    ) -> u64 {
        let Some(text) = text else {
            return default;
        };
        let Some(size) = quantity::size(text.get_ref()) else {
            let there = text.get_ref().clone();
            self.problem(
                &text,
                ConfigProblem::Value(ValueProblem::Size { text: there }),
            );
            return default;
        };
        if size < least {
            self.problem(
                &text,
                ConfigProblem::Value(ValueProblem::TooSmall { least: shown }),
            );
        }
        size
    }

    pub(super) fn duration(
        &mut self,
        text: Option<&Spanned<String>>,
        default: Duration,
    ) -> Duration {
        let Some(text) = text else {
            return default;
        };
        let Some(duration) = quantity::duration(text.get_ref()) else {
            let there = text.get_ref().clone();
            self.problem(
                text,
                ConfigProblem::Value(ValueProblem::Duration { text: there }),
            );
            return default;
        };
        if duration.is_zero() {
            self.problem(
                text,
                ConfigProblem::Value(ValueProblem::TooSmall { least: "1s" }),
            );
        }
        duration
    }

    pub(super) fn count(&mut self, number: Option<&Spanned<u32>>, default: usize) -> usize {
        let Some(number) = number else {
            return default;
        };
        if *number.get_ref() == 0 {
            self.problem(
                number,
                ConfigProblem::Value(ValueProblem::TooSmall { least: "1" }),
            );
        }
        usize::try_from(*number.get_ref()).unwrap_or(usize::MAX)
    }

    /// One of a few words; the default if there is none.
    pub(super) fn word<T: Copy + Default>(
        &mut self,
        text: Option<&Spanned<String>>,
        words: &[(&'static str, T)],
    ) -> T {
        let Some(text) = text else {
            return T::default();
        };
        let found = words.iter().find(|(word, _)| word == text.get_ref());
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let problem = ConfigProblem::Value(ValueProblem::Word {
                text: text.get_ref().clone(),
                words: words.join(", "),
            });
            self.problem(text, problem);
        }
        found.map_or_else(T::default, |(_, value)| *value)
    }

    pub(super) fn domain_list(&mut self, list: &[Spanned<String>]) -> Vec<Domain> {
        let mut domains = Vec::new();
        for text in list {
            match Domain::parse(text.get_ref()) {
                Ok(domain) => domains.push(domain),
                Err(error) => {
                    let there = text.get_ref().clone();
                    self.problem(
                        text,
                        ConfigProblem::Name(NameProblem::Domain { text: there, error }),
                    );
                }
            }
        }
        domains
    }
}
