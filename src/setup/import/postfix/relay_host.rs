//! The host that all mail is sent through, and the login for it.

use zeroize::Zeroizing;

use super::super::table::table;
use super::super::{ImportedRoute, SourcePlace};
use super::source::Postfix;
use crate::address::Domain;

impl Postfix<'_, '_> {
    pub(super) fn relayhost(&mut self) {
        let Some((value, place)) = self.set("relayhost") else {
            return;
        };
        let Some((host, port, is_host)) = next_hop(&value) else {
            let what = format!("relayhost {value}");
            return self
                .import
                .leave(&place, &what, "expected [HOST]:PORT; write a [[route]]");
        };
        let (wrapper, _) = self.value("smtp_tls_wrappermode");
        let (level, _) = self.value("smtp_tls_security_level");
        let login = self.login(&value, &host);
        let secure = matches!(
            level.as_str(),
            "encrypt" | "dane-only" | "fingerprint" | "verify" | "secure"
        );
        let scheme = match (wrapper.as_str(), secure || login.is_some()) {
            ("yes", _) => "smtps",
            (_, true) => "smtp+starttls",
            (_, false) => "smtp",
        };
        let via = format!("{scheme}://{host}:{port}");
        let text = format!("relayhost {value}: all mail goes via {via}");
        match is_host {
            true => self.taken(&place, text),
            false => self.changed(
                &place,
                format!("{text}; Postfix looks up the MX of {host}, chopar connects to it itself"),
            ),
        }
        self.import.route = Some(ImportedRoute { via, login });
    }

    /// Login and password for the relay host.
    fn login(&mut self, relayhost: &str, host: &str) -> Option<(String, Zeroizing<String>)> {
        let (enabled, _) = self.value("smtp_sasl_auth_enable");
        for name in SASL {
            if let Some((value, place)) = self.set(name) {
                self.taken(&place, format!("{name} {value}, for the relay host"));
            }
        }
        let (maps, place) = self.set("smtp_sasl_password_maps")?;
        if enabled != "yes" {
            self.import.leave(
                &place,
                "smtp_sasl_password_maps",
                "smtp_sasl_auth_enable is not yes",
            );
            return None;
        }
        let keys = [relayhost.to_owned(), host.to_owned(), format!("[{host}]")];
        let mut found = None;
        for (path, entries) in self.tables(&maps, &place, table) {
            for entry in entries {
                let place = SourcePlace::new(&path, entry.line);
                if !keys.contains(&entry.key) || found.is_some() {
                    self.import
                        .leave(&place, &entry.key, "it is not the login of the relay host");
                    continue;
                }
                let Some((login, password)) = entry.value.split_once(':') else {
                    self.import
                        .leave(&place, &entry.key, "expected LOGIN:PASSWORD");
                    continue;
                };
                let text = format!("the login at {} is in secrets/smart-host", entry.key);
                self.taken(&place, text);
                found = Some((login.to_owned(), Zeroizing::new(password.to_owned())));
            }
        }
        found
    }
}

/// Host and port of a relay host, and whether it is a host rather than a domain with an MX.
fn next_hop(value: &str) -> Option<(String, u16, bool)> {
    let value = value.strip_prefix("smtp:").unwrap_or(value);
    let (host, rest, is_host) = match value.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest, true)
        }
        None => match value.split_once(':') {
            Some((host, _)) => (host, value.get(host.len()..)?, false),
            None => (value, "", false),
        },
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => 25,
        Some("smtp") => 25,
        Some("submission") => 587,
        Some("submissions" | "smtps") => 465,
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => return None,
    };
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        let shown = match address {
            std::net::IpAddr::V6(address) => format!("[{address}]"),
            std::net::IpAddr::V4(address) => address.to_string(),
        };
        return Some((shown, port, true));
    }
    let domain = Domain::parse(host)
        .ok()
        .filter(|domain| !domain.is_literal())?;
    Some((domain.to_string(), port, is_host))
}

/// Settings that matter for a relay host, besides the file of logins.
const SASL: [&str; 5] = [
    "smtp_sasl_auth_enable",
    "smtp_sasl_security_options",
    "smtp_sasl_tls_security_options",
    "smtp_tls_wrappermode",
    "smtp_tls_security_level",
];
