//! Errors of a configuration, by subject, each with what to do about it.

mod alias;
mod certificate;
mod client;
mod dkim;
mod name;
mod route;
mod user;
mod value;

use std::fmt;

pub use alias::AliasProblem;
pub use certificate::CertificateProblem;
pub use client::ClientProblem;
pub use dkim::DkimProblem;
pub use name::NameProblem;
pub use route::RouteProblem;
pub use user::UserProblem;
pub use value::ValueProblem;

use crate::nearest::{did_you_mean, nearest};

/// An error of the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigProblem {
    /// TOML that cannot be read, or a value of another type; in the words of the parser.
    Toml(String),
    /// A key that does not exist.
    UnknownKey {
        key: String,
        /// The keys that exist there.
        known: Vec<String>,
    },
    /// The file is not UTF-8.
    NotUtf8,
    /// A name that occurs twice.
    Twice {
        name: String,
        /// The line of the first one.
        first: usize,
    },
    /// Everybody may read a secret (a warning).
    ReadByAll,
    /// A file or folder that means nothing (a warning).
    Unused,
    Name(NameProblem),
    Value(ValueProblem),
    /// With a listener, a network or a list.
    Client(ClientProblem),
    Route(RouteProblem),
    User(UserProblem),
    Alias(AliasProblem),
    /// With a key of DKIM.
    Dkim(DkimProblem),
    /// An error about certificates.
    Certificate(CertificateProblem),
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml(message) => out.write_str(message),
            Self::UnknownKey { key, known } => {
                write!(out, "unknown key `{key}`")?;
                let one_of = if known.len() > 1 { "one of " } else { "" };
                match nearest(key, known).as_slice() {
                    [] => write!(out, ", expected {one_of}`{}`", known.join("`, `")),
                    near => out.write_str(&did_you_mean(near)),
                }
            }
            Self::NotUtf8 => out.write_str("this byte is not UTF-8; write the file as UTF-8"),
            Self::Twice { name, first } => {
                write!(
                    out,
                    "{name:?} is already on line {first}; put both into one line"
                )
            }
            Self::ReadByAll => {
                out.write_str("every user of this machine may read the secret; run chmod o-r on it")
            }
            Self::Unused => out.write_str("chopar does not use this; check its name"),
            Self::Name(problem) => problem.fmt(out),
            Self::Value(problem) => problem.fmt(out),
            Self::Client(problem) => problem.fmt(out),
            Self::Route(problem) => problem.fmt(out),
            Self::User(problem) => problem.fmt(out),
            Self::Alias(problem) => problem.fmt(out),
            Self::Dkim(problem) => problem.fmt(out),
            Self::Certificate(problem) => problem.fmt(out),
        }
    }
}
