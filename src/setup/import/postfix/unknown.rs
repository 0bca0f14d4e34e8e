//! Settings that no other part has handled, each with the reason why it is left out, if there is one.

use std::collections::BTreeSet;

use super::super::{SettingResult, SourcePlace};
use super::source::{MAIN, Postfix};

impl Postfix<'_, '_> {
    /// Handles the remaining settings.
    pub(super) fn rest(&mut self) {
        let parameters = std::mem::take(&mut self.main.parameters);
        let mut named: BTreeSet<&str> = BTreeSet::new();
        for (name, parameter) in &parameters {
            if self.used.contains(name.as_str()) || self.defaults.contains_key(name.as_str()) {
                named.extend(names_in(&parameter.value));
            }
        }
        for (name, parameter) in &parameters {
            if self.used.contains(name.as_str()) {
                continue;
            }
            let place = SourcePlace::new(MAIN, parameter.line);
            if named.contains(name.as_str()) {
                let text = format!("{name}, where others have ${name}");
                self.import.note(SettingResult::Taken, &place, text);
                continue;
            }
            let known = KNOWN.iter().find(|(known, _)| {
                known
                    .strip_suffix('*')
                    .map_or(name == known, |front| name.starts_with(front))
            });
            let why = known.map_or(
                "chopar has no such setting, or the import does not know it",
                |(_, why)| why,
            );
            self.import
                .leave(&place, &format!("{name} = {}", parameter.value), why);
        }
    }
}

/// The names behind the dollars of a value.
fn names_in(value: &str) -> impl Iterator<Item = &str> {
    value.split('$').skip(1).map(|text| {
        let text = text.trim_start_matches(['{', '(']);
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        text.get(..end.unwrap_or(text.len())).unwrap_or_default()
    })
}

/// Why common settings are left out; a star stands for the rest of the name.
const KNOWN: &[(&str, &str)] = &[
    ("compatibility_level", "it is Postfix's own"),
    ("biff", "it is Postfix's own"),
    ("readme_directory", "it is Postfix's own"),
    ("html_directory", "it is Postfix's own"),
    ("append_dot_mydomain", "chopar completes no addresses"),
    ("smtpd_banner", "chopar's greeting is its hostname"),
    (
        "smtpd_relay_restrictions",
        "chopar relays for users, [relay] networks and programs of this machine, and for no others",
    ),
    (
        "smtpd_*_restrictions",
        "chopar relays for users, [relay] networks and programs of this machine, and for no others",
    ),
    (
        "mailbox_command",
        "chopar has no mailboxes: give accounts that read here an alias, such as NAME: maildir:/PATH",
    ),
    (
        "mailbox_*",
        "chopar has no mailboxes: give accounts that read here an alias, such as NAME: maildir:/PATH",
    ),
    (
        "home_mailbox",
        "chopar has no mailboxes: give accounts that read here an alias, such as NAME: maildir:/PATH",
    ),
    (
        "virtual_mailbox_*",
        "chopar has no mailboxes: give each address an alias, such as NAME: lmtp:/run/dovecot/lmtp",
    ),
    (
        "virtual_transport",
        "chopar has no mailboxes: give each address an alias, such as NAME: lmtp:/run/dovecot/lmtp",
    ),
    (
        "smtpd_milters",
        "chopar has no milters: it signs and verifies mail itself, and hooks/post-data can judge more",
    ),
    (
        "non_smtpd_milters",
        "chopar has no milters: it signs and verifies mail itself, and hooks/post-data can judge more",
    ),
    ("milter_*", "chopar has no milters"),
    (
        "smtpd_sasl_*",
        "chopar has users of its own: add each with chopar user add",
    ),
    ("smtp_sasl_*", "no relay host is set"),
    ("smtp_tls_*", "chopar uses TLS wherever it is offered"),
    ("smtpd_tls_*", "chopar offers TLS on every port"),
    ("transport_maps", "write a [[route]] for each domain"),
    (
        "sender_dependent_relayhost_maps",
        "write a [[route]] with domain = \"from:DOMAIN\" for each",
    ),
];
