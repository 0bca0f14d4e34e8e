//! `[[route]]`: where mail goes other than by MX.

use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::check::Check;
use super::error::Errors;
use super::folder::{Folder, keep_secret};
use super::problem::{ConfigProblem, RouteProblem};
use super::text::without_mark;
use crate::address::Domain;
use crate::destination::{Destination, Scheme, Via, parse_host};

/// A route; the first whose pattern matches is used.
#[derive(Clone, Eq, PartialEq)]
pub struct Route {
    /// Which mail it is for.
    pub pattern: RoutePattern,
    /// The next hops, tried in this order; never empty.
    pub via: Vec<Destination>,
    /// How to log in there.
    pub login: Option<RouteLogin>,
}

/// Which mail a route is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RoutePattern {
    All,
    /// `example.org`: recipients of the domain.
    Domain(Domain),
    /// `*.example.org`: recipients of its subdomains.
    Subdomains(Domain),
    /// `from:example.org`: mail with a reverse-path in the domain.
    From(Domain),
}

/// How to log in at a next hop. Wiped when it is dropped, and not shown.
#[derive(Clone, Eq, PartialEq)]
pub struct RouteLogin {
    pub user: Zeroizing<String>,
    pub password: Zeroizing<String>,
}

/// A `[[route]]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteText {
    domain: Spanned<String>,
    via: Spanned<Vec<Spanned<String>>>,
    auth: Option<Spanned<String>>,
}

/// The routes as text, with the text that their spans are in.
#[derive(Default)]
pub(super) struct RouteTexts {
    pub(super) text: String,
    pub(super) routes: Vec<RouteText>,
}

impl RoutePattern {
    fn parse(text: &str) -> Option<Self> {
        let domain = |text: &str| Domain::parse(text).ok().filter(|name| !name.is_literal());
        if text == "*" {
            Some(Self::All)
        } else if let Some(parent) = text.strip_prefix("*.") {
            domain(parent).map(Self::Subdomains)
        } else if let Some(from) = text.strip_prefix("from:") {
            domain(from).map(Self::From)
        } else {
            domain(text).map(Self::Domain)
        }
    }

    /// Whether it is for mail to `recipient` from `sender` (`None`: the null reverse-path).
    pub fn matches(&self, recipient: &Domain, sender: Option<&Domain>) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => recipient == domain,
            Self::Subdomains(parent) => recipient != parent && recipient.is_under(parent),
            Self::From(domain) => sender == Some(domain),
        }
    }
}

/// Reads all routes and their secrets.
pub(super) fn read(folder: &Folder, texts: &RouteTexts, errors: &mut Errors) -> Vec<Route> {
    let mut check = Check {
        text: &texts.text,
        errors,
    };
    let routes = texts.routes.iter();
    routes
        .filter_map(|route| check.route(folder, route))
        .collect()
}

impl Check<'_> {
    fn route(&mut self, folder: &Folder, route: &RouteText) -> Option<Route> {
        let pattern = RoutePattern::parse(route.domain.get_ref());
        if pattern.is_none() {
            let text = route.domain.get_ref().clone();
            let problem = ConfigProblem::Route(RouteProblem::Pattern { text });
            self.problem(&route.domain, problem);
        }
        if route.via.get_ref().is_empty() {
            self.problem(&route.via, ConfigProblem::Route(RouteProblem::ViaEmpty));
        }
        let mut via = Vec::new();
        for text in route.via.get_ref() {
            match parse_via(text.get_ref()) {
                Ok(hop) => {
                    if hop.is_clear() && route.auth.is_some() {
                        self.problem(text, ConfigProblem::Route(RouteProblem::AuthInClear));
                    }
                    via.push(hop);
                }
                Err(error) => self.problem(text, error),
            }
        }
        let login = route.auth.as_ref();
        let login = login.and_then(|path| self.login(folder, path));
        pattern.map(|pattern| Route {
            pattern,
            via,
            login,
        })
    }

    fn login(&mut self, folder: &Folder, path: &Spanned<String>) -> Option<RouteLogin> {
        match read_login(folder, path.get_ref()) {
            Ok(login) => {
                keep_secret(folder, path.get_ref(), self.errors);
                return Some(login);
            }
            Err(error @ ConfigProblem::Route(RouteProblem::SecretForm)) => {
                self.errors.push(path.get_ref(), error);
            }
            Err(error) => self.problem(path, error),
        }
        None
    }
}

fn parse_via(text: &str) -> Result<Destination, ConfigProblem> {
    let bad = || {
        ConfigProblem::Route(RouteProblem::Via {
            text: text.to_owned(),
        })
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
    let scheme = match scheme {
        "smtp" => Scheme::Smtp,
        "smtp+starttls" => Scheme::SmtpStartTls,
        "smtps" => Scheme::Smtps,
        // As the target of an alias.
        "lmtp" | "maildir" => {
            let target = format!("{scheme}:{rest}");
            return Destination::parse(&target).ok_or_else(bad);
        }
        _ => return Err(bad()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = parse_host(rest).ok_or_else(bad)?;
    let via = Via::new(scheme, host, port.unwrap_or(scheme.port())).ok_or_else(bad)?;
    Ok(Destination::Hosts([via].into()))
}

/// Reads the file with login and password: on two lines, or on one with a space between.
fn read_login(folder: &Folder, path: &str) -> Result<RouteLogin, ConfigProblem> {
    let inside = |part: &str| !matches!(part, "" | "." | "..");
    if !path.split('/').all(inside) {
        let path = path.to_owned();
        return Err(ConfigProblem::Route(RouteProblem::SecretPath { path }));
    }
    let Some(bytes) = folder.file(path) else {
        let path = path.to_owned();
        return Err(ConfigProblem::Route(RouteProblem::SecretMissing { path }));
    };
    let text =
        std::str::from_utf8(bytes).map_err(|_| ConfigProblem::Route(RouteProblem::SecretForm))?;
    let text = without_mark(text);
    let text = text.trim_end_matches(['\r', '\n']);
    let (user, password) = text
        .split_once('\n')
        .or_else(|| text.split_once([' ', '\t']))
        .ok_or(ConfigProblem::Route(RouteProblem::SecretForm))?;
    let (user, password) = (user.trim(), password.trim_matches(['\r', ' ', '\t']));
    if user.is_empty() || password.is_empty() || password.contains('\n') {
        return Err(ConfigProblem::Route(RouteProblem::SecretForm));
    }
    Ok(RouteLogin {
        user: Zeroizing::new(user.to_owned()),
        password: Zeroizing::new(password.to_owned()),
    })
}
