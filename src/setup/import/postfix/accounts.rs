//! The aliases of accounts, and the person that reads the mail of the machine.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use super::super::table::{TableLine, aliases, targets, unquoted};
use super::super::{ImportResult, SettingResult, SourcePlace};
use super::source::{MAIN, Postfix};
use crate::address::{Domain, Mailbox};

impl Postfix<'_, '_> {
    /// The aliases file, for each domain of mydestination. If root leads to an address elsewhere, that becomes `admin`.
    pub(super) fn local_aliases(&mut self, local: &[Domain]) {
        self.used.insert("alias_database");
        let (maps, place) = match self.set("alias_maps") {
            Some(found) => found,
            None if self.main.parameters.contains_key("alias_maps") => return,
            None => ("hash:/etc/aliases".to_owned(), SourcePlace::new(MAIN, 0)),
        };
        let mut all: BTreeMap<String, (Vec<String>, SourcePlace)> = BTreeMap::new();
        for (path, entries) in self.tables(&maps, &place, aliases) {
            for entry in entries {
                let place = SourcePlace::new(&path, entry.line);
                if entry.key.is_empty() {
                    self.import
                        .leave(&place, &entry.value, "expected NAME: TARGET");
                    continue;
                }
                let found = self.alias_targets(&entry, &place);
                let key = entry.key.to_lowercase();
                match all.entry(key) {
                    Slot::Occupied(_) => {
                        self.import
                            .leave(&place, &entry.key, "the name has an alias above");
                    }
                    Slot::Vacant(_) if found.is_empty() => {}
                    Slot::Vacant(slot) => {
                        slot.insert((found, place));
                    }
                }
            }
        }
        self.admin(&all);
        let taken_before: BTreeSet<String> = local
            .iter()
            .filter_map(|domain| Some((domain, self.import.domains.get(domain)?)))
            .flat_map(|(domain, there)| {
                let names = there.aliases.iter();
                names.map(move |alias| format!("{}@{domain}", alias.name.to_lowercase()))
            })
            .collect();
        for (name, (found, place)) in &all {
            if local.is_empty() {
                self.import.leave(
                    place,
                    name,
                    "no full name of a domain is in mydestination; admin gets the mail of the machine's accounts",
                );
            }
            for domain in local {
                let address = format!("{name}@{domain}");
                if taken_before.contains(&address) {
                    self.import
                        .leave(place, &address, "a virtual alias comes first");
                } else if self.import.alias(domain, name, found.clone(), place) {
                    self.taken(place, format!("the alias {address}"));
                }
            }
        }
    }

    fn admin(&mut self, all: &BTreeMap<String, (Vec<String>, SourcePlace)>) {
        let mut name = "root".to_owned();
        if !all.contains_key(&name) {
            name = "postmaster".to_owned();
        }
        for _ in 0..ALIAS_STEPS {
            let Some((found, place)) = all.get(&name) else {
                return;
            };
            let Some(first) = found.first() else {
                return;
            };
            match Mailbox::parse(first) {
                Ok(admin) => {
                    let text = format!(
                        "{name} leads to {admin}: admin, who gets the mail for root, postmaster and abuse"
                    );
                    self.import.note(SettingResult::Taken, place, text);
                    self.import.admin = Some(admin);
                    return;
                }
                Err(_) => name = first.to_lowercase(),
            }
        }
    }

    /// The targets of a line of the aliases file, as chopar has them.
    fn alias_targets(&mut self, entry: &TableLine, place: &SourcePlace) -> Vec<String> {
        let mut found = Vec::new();
        let mut command = None;
        for target in targets(&entry.value) {
            let what = format!("{}: {target}", entry.key);
            let plain = unquoted(&target);
            let leave = |import: &mut ImportResult, why: &str| import.leave(place, &what, why);
            if let Some(program) = plain.strip_prefix('|') {
                let program = program.trim();
                if program.contains(SHELL) || !program.starts_with('/') {
                    leave(
                        &mut self.import,
                        "chopar runs no shell: write a program that takes the message, by its whole path",
                    );
                } else if command.is_some() {
                    leave(&mut self.import, "an alias has one command");
                } else {
                    command = Some(format!("| {program}"));
                }
            } else if let Some(path) = plain.strip_prefix(":include:") {
                match (self.read)(path) {
                    Ok(text) => {
                        let lines = text
                            .lines()
                            .filter(|line| !line.trim_start().starts_with('#'));
                        let inside = lines
                            .flat_map(targets)
                            .filter(|target| !target.starts_with(['/', '|', ':', '"', '\\']));
                        found.extend(inside);
                        let text = format!("{what}: the addresses that are in the file now");
                        self.changed(place, text);
                    }
                    Err(why) => self.import.leave(place, &what, why),
                }
            } else if plain.starts_with('/') {
                match plain.ends_with('/') {
                    true => found.push(format!("maildir:{}", plain.trim_end_matches('/'))),
                    false => leave(
                        &mut self.import,
                        "chopar does not append to files: alias it to an address, or to maildir:/PATH",
                    ),
                }
            } else if plain.starts_with('\\') {
                leave(
                    &mut self.import,
                    "it is the mailbox of an account; alias it to an address that someone reads",
                );
            } else {
                found.push(target);
            }
        }
        // A command takes the rest of its line.
        found.extend(command);
        found
    }
}

/// Postfix would run these by a shell.
const SHELL: [char; 19] = [
    '$', ';', '&', '<', '>', '*', '?', '[', ']', '(', ')', '{', '}', '~', '`', '\'', '"', '|', '\\',
];
const ALIAS_STEPS: usize = 10;
