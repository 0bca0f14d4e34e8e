//! `domains/DOMAIN/users`: users that may log in, and addresses that they may send from.
//!
//! ```text
//! file = *( [ user / "#" comment ] LF )
//! user = NAME ":" credential [ ":" "send_as=" pattern *( "," pattern ) ]
//! pattern = address / "*@" domain / "*"
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::error::Errors;
use super::names::NameRules;
use super::problem::{ConfigProblem, NameProblem, UserProblem};
use crate::address::{Domain, Mailbox};
use crate::login::credential::Credential;

/// A user that may log in.
#[derive(Clone, Debug)]
pub struct User {
    pub mailbox: Mailbox,
    /// The stored credential.
    pub credential: Arc<Credential>,
    /// Further addresses that the user may send from.
    pub send_as: Vec<SendAs>,
}

/// Addresses that a user may send from, besides their own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SendAs {
    /// `*`: every address.
    Anybody,
    /// `*@example.com`: every address of the domain.
    Domain(Domain),
    /// `name@example.com`: as this one.
    Mailbox(Mailbox),
}

impl SendAs {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('*') {
            Some("") => Some(Self::Anybody),
            Some(rest) => Domain::parse(rest.strip_prefix('@')?)
                .ok()
                .map(Self::Domain),
            None => Mailbox::parse(text).ok().map(Self::Mailbox),
        }
    }

    /// Whether it takes in the address.
    pub fn matches(&self, address: &Mailbox) -> bool {
        match self {
            Self::Anybody => true,
            Self::Domain(domain) => address.domain() == domain,
            Self::Mailbox(mailbox) => mailbox.is_same(address),
        }
    }
}

impl fmt::Display for SendAs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => out.write_str("*"),
            Self::Domain(domain) => write!(out, "*@{domain}"),
            Self::Mailbox(mailbox) => write!(out, "{mailbox}"),
        }
    }
}

/// Reads the file; users by the key of their local part.
pub(super) fn read(
    file: &str,
    text: &str,
    domain: &Domain,
    names: &NameRules,
    errors: &mut Errors,
) -> BTreeMap<String, User> {
    let mut users: BTreeMap<String, User> = BTreeMap::new();
    // Two logins that are one address would each be the other's.
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim_end();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let user = match read_user(content, domain) {
            Ok(user) => user,
            Err((column, problem)) => {
                errors.push_at(file, line, column, problem);
                continue;
            }
        };
        let key = user.mailbox.local_key();
        match lines.insert(names.key(&key), line) {
            Some(first) => {
                let name = user.mailbox.local_part().to_owned();
                errors.push_at(file, line, 1, ConfigProblem::Twice { name, first });
            }
            None => {
                users.insert(key, user);
            }
        }
    }
    users
}

fn read_user(content: &str, domain: &Domain) -> Result<User, (usize, ConfigProblem)> {
    let mut parts = content.split(':');
    let (Some(name), Some(credential)) = (parts.next(), parts.next()) else {
        return Err((1, ConfigProblem::User(UserProblem::Line)));
    };
    let mailbox = Mailbox::new(name, domain).map_err(|error| {
        let text = name.to_owned();
        (1, ConfigProblem::Name(NameProblem::Mailbox { text, error }))
    })?;
    let mut column = name.chars().count().saturating_add(2);
    let credential_of = Credential::parse(credential);
    let credential_of = credential_of
        .map_err(|error| (column, ConfigProblem::User(UserProblem::Credential(error))))?;
    let mut send_as = Vec::new();
    let mut before = credential;
    for option in parts {
        column = column
            .saturating_add(before.chars().count())
            .saturating_add(1);
        before = option;
        let Some(patterns) = option.strip_prefix("send_as=") else {
            let text = option.to_owned();
            return Err((
                column,
                ConfigProblem::User(UserProblem::UserOption { text }),
            ));
        };
        for pattern in patterns.split(',').map(str::trim) {
            let parsed = SendAs::parse(pattern).ok_or_else(|| {
                let text = pattern.to_owned();
                (column, ConfigProblem::User(UserProblem::SendAs { text }))
            })?;
            send_as.push(parsed);
        }
    }
    Ok(User {
        mailbox,
        credential: Arc::new(credential_of),
        send_as,
    })
}
