//! Addresses that a user may send from: checked for the reverse-path and for every mailbox in From (RFC 6409 section
//! 6.1).
//!
//! A user may send from the login, the login with a suffix, every alias that leads to the login (except the catch-all,
//! whose owner could otherwise send from any address), and the addresses that `send_as` lists. Everyone may use the
//! null reverse-path (RFC 6409 section 6.1 leaves the check to From). Invariant: an alias never lets a user send as
//! another user's login. If several logins match an address with a suffix, the address belongs to the longest of them.

use std::collections::HashSet;

use crate::address::{Domain, Mailbox};
use crate::config::{AliasTarget, Config};
use crate::limits::{ALIAS_DEPTH_MAX, ALIAS_TARGETS_MAX};

/// Whether the user with this login may send as `address`.
/// Decides RFC 6409 section 6.1.
pub fn may_send_as(config: &Config, login: &Mailbox, address: &Mailbox) -> bool {
    let Some(user) = config.user(login) else {
        return false; // removed since they logged in
    };
    if is_form_of(config, address, login)
        || user.send_as.iter().any(|listed| listed.matches(address))
    {
        return true;
    }
    !is_login(config, address) && leads_to(config, address, login)
}

/// Whether `address` is the mailbox, or the mailbox with a suffix, and no longer login matches.
fn is_form_of(config: &Config, address: &Mailbox, mailbox: &Mailbox) -> bool {
    let key = |of: &Mailbox| config.names.key(&of.local_key());
    if address.domain() != mailbox.domain() {
        return false;
    }
    let (key, own) = (key(address), key(mailbox));
    match owner(config, address.domain(), &key) {
        Some(login) => login == own,
        None => is_suffixed(config, &key, &own),
    }
}

/// Whether the address is a login, with or without a suffix.
fn is_login(config: &Config, address: &Mailbox) -> bool {
    let key = config.names.key(&address.local_key());
    owner(config, address.domain(), &key).is_some()
}

/// The login of the domain to which a local part belongs: the longest one that matches with or without a suffix.
fn owner(config: &Config, domain: &Domain, key: &str) -> Option<String> {
    let users = config.domains.get(domain)?.users.values();
    let logins = users.map(|user| config.names.key(&user.mailbox.local_key()));
    logins
        .filter(|login| is_suffixed(config, key, login))
        .max_by_key(String::len)
}

/// Whether `key` is `login`, with a suffix or without.
fn is_suffixed(config: &Config, key: &str, login: &str) -> bool {
    let begins = |rest: &str| rest.starts_with(|c| config.names.separators.contains(c));
    key.strip_prefix(login)
        .is_some_and(|rest| rest.is_empty() || begins(rest))
}

/// Whether the aliases of `address` lead to the login.
fn leads_to(config: &Config, address: &Mailbox, login: &Mailbox) -> bool {
    let mut seen = HashSet::new();
    let mut level = vec![address];
    for _ in 0..ALIAS_DEPTH_MAX {
        let mut next = Vec::new();
        for mailbox in level {
            let key = config.names.key(&mailbox.local_key());
            let Some(served) = config.domains.get(mailbox.domain()) else {
                continue;
            };
            let Some(alias) = served.alias(&config.names, &key) else {
                continue;
            };
            let targets = || alias.targets.iter().filter_map(AliasTarget::mailbox);
            if targets().any(|target| is_form_of(config, target, login)) {
                return true;
            }
            if seen.len() < ALIAS_TARGETS_MAX.saturating_mul(ALIAS_DEPTH_MAX)
                && seen.insert((mailbox.domain(), key))
            {
                next.extend(targets());
            }
        }
        level = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIAL: &str = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,\
                              WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                              wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn may(login: &str, address: &str) -> bool {
        let users = format!(
            "ann:{CREDENTIAL}\nann+boss:{CREDENTIAL}\nbob:{CREDENTIAL}\napp:{CREDENTIAL}:send_as=*@example.org,noreply@example.com\n\
             root:{CREDENTIAL}:send_as=*\n"
        );
        let aliases = "ann: ann@gmail.com\ninfo: ann\nsales: info, bob\nbob: ann\nout: ann@gmail.com\n\
                       x: y\n*: ann\n";
        let config = Config::of_files(&[
            ("domains/example.com/users", &users),
            ("domains/example.com/aliases", aliases),
            ("domains/example.org/aliases", "hello: ann@example.com\n"),
        ]);
        let mailbox = |text| Mailbox::parse(text).expect("a mailbox");
        may_send_as(&config, &mailbox(login), &mailbox(address))
    }

    #[test]
    fn a_login_and_its_suffixes_are_ones_own() {
        assert!(may("ann@example.com", "Ann@EXAMPLE.com"));
        assert!(may("ann@example.com", "\"ann\"@example.com"));
        assert!(may("ann@example.com", "ann+shop@example.com"));
        assert!(!may("ann@example.com", "ann@example.org"));
        assert!(!may("ann@example.com", "annie@example.com"));
        assert!(!may("ann@example.com", "someone@gmail.com"));
    }

    #[test]
    fn a_login_that_looks_like_a_suffix_of_another_is_not_its_own() {
        for address in ["ann+boss@example.com", "Ann+Boss+x@example.com"] {
            assert!(!may("ann@example.com", address), "{address}");
            assert!(may("ann+boss@example.com", address), "{address}");
        }
        assert!(!may("ann+boss@example.com", "ann@example.com"));
        assert!(!may("ann+boss@example.com", "ann+bos@example.com"));
        assert!(may("ann@example.com", "ann+bosses@example.com"));
    }

    #[test]
    fn an_alias_that_leads_to_the_login_is_ones_own() {
        for address in [
            "info@example.com",
            "info+x@example.com",
            "sales@example.com",
            "hello@example.org",
        ] {
            assert!(may("ann@example.com", address), "{address}");
        }
        assert!(may("bob@example.com", "sales@example.com"));
        assert!(!may("bob@example.com", "info@example.com"));
        assert!(!may("ann@example.com", "out@example.com"));
        assert!(!may("ann@example.com", "x@example.com"));
    }

    #[test]
    fn another_user_is_not_even_by_alias_or_catch_all() {
        assert!(!may("ann@example.com", "bob@example.com"));
        assert!(!may("ann@example.com", "bob+x@example.com"));
        assert!(!may("ann@example.com", "app@example.com"));
        assert!(!may("ann@example.com", "whoever@example.com"));
    }

    #[test]
    fn send_as_opens_what_it_lists() {
        assert!(may("app@example.com", "anything@example.org"));
        assert!(may("app@example.com", "NoReply@example.com"));
        assert!(!may("app@example.com", "noreply2@example.com"));
        assert!(!may("app@example.com", "x@sub.example.org"));
        assert!(
            may("root@example.com", "bob@example.com") && may("root@example.com", "x@gmail.com")
        );
        assert!(!may("gone@example.com", "gone@example.com"));
    }
}
