//! `[[route]]`: where mail goes other than by MX.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::error::{Errors, Problem};
use super::folder::Folder;
use super::settings::{FILE, RouteTexts};
use super::target::Destination;
use super::text::without_mark;
use crate::address::Domain;

/// A route; the first whose pattern matches is taken.
#[derive(Clone, Eq, PartialEq)]
pub struct Route {
    /// Which mail it is for.
    pub pattern: RoutePattern,
    /// The next hops, tried in this order; never empty.
    pub via: Vec<Destination>,
    /// How to log in there.
    pub login: Option<Login>,
}

/// Which mail a route is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RoutePattern {
    /// `*`: all.
    All,
    /// `example.org`: recipients of the domain.
    Domain(Domain),
    /// `*.example.org`: recipients of its subdomains.
    Subdomains(Domain),
    /// `from:example.org`: mail whose reverse-path is of the domain.
    From(Domain),
}

/// A next hop.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Via {
    /// How to speak to it.
    pub scheme: Scheme,
    /// Its name; an address literal where `address` is given.
    pub host: Domain,
    /// Its address, where it was written as one.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// How to speak to a next hop.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// `smtp://`: STARTTLS where it is offered; port 25.
    Smtp,
    /// `smtp+starttls://`: STARTTLS, or not at all; port 587.
    SmtpStartTls,
    /// `smtps://`: TLS from the first byte; port 465.
    Smtps,
    /// LMTP (RFC 2033), which has no port of its own.
    Lmtp,
}

/// How to log in at a next hop. Wiped when it is dropped, and not shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Login {
    /// The login.
    pub user: Zeroizing<String>,
    /// The password.
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

impl Scheme {
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Lmtp => 24,
            Self::SmtpStartTls => 587,
            Self::Smtps => 465,
        }
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::SmtpStartTls => "smtp+starttls",
            Self::Smtps => "smtps",
            Self::Lmtp => "lmtp",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://", self.scheme.as_str())?;
        self.write_host(out)
    }
}

impl Via {
    /// A host by its name or address.
    pub(super) fn new(scheme: Scheme, host: &str, port: u16) -> Option<Self> {
        let address: Option<IpAddr> = host.parse().ok();
        let name = match address {
            Some(IpAddr::V4(address)) => format!("[{address}]"),
            Some(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
            None => host.to_owned(),
        };
        let host = Domain::parse(&name).ok()?;
        let known = address.is_some() || !host.is_literal();
        known.then_some(Self {
            scheme,
            host,
            address,
            port,
        })
    }

    /// Writes host and port.
    pub(super) fn write_host(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.port),
            Some(IpAddr::V4(address)) => write!(out, "{address}:{}", self.port),
            None => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

/// Reads `host`, `host:port`, `[address]` or `[address]:port`.
pub(super) fn parse_host(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, behind) = bracketed.split_once(']')?;
            address.parse::<IpAddr>().ok()?;
            let port = match behind {
                "" => None,
                behind => Some(behind.strip_prefix(':')?),
            };
            (address, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
    };
    Some((host, port))
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
    let mut routes = Vec::new();
    for route in &texts.routes {
        let problem = |errors: &mut Errors, at: std::ops::Range<usize>, problem: Problem| {
            errors.push_span(FILE, &texts.text, at, problem);
        };
        let pattern = RoutePattern::parse(route.domain.get_ref());
        if pattern.is_none() {
            let text = route.domain.get_ref().clone();
            problem(errors, route.domain.span(), Problem::RoutePattern { text });
        }
        if route.via.get_ref().is_empty() {
            problem(errors, route.via.span(), Problem::ViaEmpty);
        }
        let mut via = Vec::new();
        for text in route.via.get_ref() {
            match parse_via(text.get_ref()) {
                Ok(hop) => {
                    if hop.is_clear() && route.auth.is_some() {
                        problem(errors, text.span(), Problem::AuthInClear);
                    }
                    via.push(hop);
                }
                Err(error) => problem(errors, text.span(), error),
            }
        }
        let login = match &route.auth {
            None => None,
            Some(path) => match read_login(folder, path.get_ref()) {
                Ok(login) => {
                    super::keep_secret(folder, path.get_ref(), errors);
                    Some(login)
                }
                Err(Problem::SecretForm) => {
                    errors.push(path.get_ref(), Problem::SecretForm);
                    None
                }
                Err(error) => {
                    problem(errors, path.span(), error);
                    None
                }
            },
        };
        if let Some(pattern) = pattern {
            routes.push(Route {
                pattern,
                via,
                login,
            });
        }
    }
    routes
}

fn parse_via(text: &str) -> Result<Destination, Problem> {
    let bad = || Problem::Via {
        text: text.to_owned(),
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
fn read_login(folder: &Folder, path: &str) -> Result<Login, Problem> {
    let inside = |part: &str| !matches!(part, "" | "." | "..");
    if !path.split('/').all(inside) {
        let path = path.to_owned();
        return Err(Problem::SecretPath { path });
    }
    let Some(bytes) = folder.file(path) else {
        let path = path.to_owned();
        return Err(Problem::SecretMissing { path });
    };
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::SecretForm)?;
    let text = without_mark(text);
    let text = text.trim_end_matches(['\r', '\n']);
    let (user, password) = text
        .split_once('\n')
        .or_else(|| text.split_once([' ', '\t']))
        .ok_or(Problem::SecretForm)?;
    let (user, password) = (user.trim(), password.trim_matches(['\r', ' ', '\t']));
    if user.is_empty() || password.is_empty() || password.contains('\n') {
        return Err(Problem::SecretForm);
    }
    Ok(Login {
        user: Zeroizing::new(user.to_owned()),
        password: Zeroizing::new(password.to_owned()),
    })
}
