//! The domains: those of mydestination, and virtual ones with their aliases.

use std::collections::BTreeSet;

use super::super::main_cf::items;
use super::super::table::{TableLine, table, targets};
use super::super::{SettingResult, SourcePlace};
use super::source::Postfix;
use crate::address::Domain;
use crate::limits::IMPORT_DOMAINS_MAX;

impl Postfix<'_, '_> {
    pub(super) fn origin(&mut self) {
        let (value, place) = self.value("myorigin");
        let name = match value.starts_with('/') {
            true => match (self.read)(&value) {
                Ok(text) => text.lines().next().unwrap_or_default().trim().to_owned(),
                Err(why) => {
                    let what = format!("myorigin {value}");
                    self.import.leave(&place, &what, why);
                    String::new()
                }
            },
            false => value,
        };
        self.origin = Domain::parse(&name).ok();
        if let (Some(origin), 1..) = (&self.origin, place.line) {
            let text = format!("myorigin, {origin}");
            self.import.note(SettingResult::Taken, &place, text);
        }
    }

    /// The domains of mydestination, which have the names of the aliases file.
    pub(super) fn local_domains(&mut self) -> Vec<Domain> {
        let (value, place) = self.value("mydestination");
        let mut found = Vec::new();
        for item in items(&value) {
            let what = format!("mydestination {item}");
            let domain = Domain::parse(item)
                .ok()
                .filter(|domain| !domain.is_literal());
            match domain {
                Some(_) if item.starts_with("localhost") || !item.contains('.') => {
                    if place.line > 0 {
                        let text = format!("{what}: chopar takes mail for localhost from this machine, and for full names");
                        self.changed(&place, text);
                    }
                }
                Some(domain) if found.len() < IMPORT_DOMAINS_MAX => {
                    self.import.domains.entry(domain.clone()).or_default();
                    let text = match place.line {
                        0 => format!("the domain {domain}, by Postfix's default"),
                        _ => what,
                    };
                    self.taken(&place, text);
                    if !found.contains(&domain) {
                        found.push(domain);
                    }
                }
                Some(_) => self.import.leave(&place, &what, "there are too many domains"),
                None => self.import.leave(
                    &place,
                    &what,
                    "expected the name of a domain; add the domains it stands for with chopar domain add",
                ),
            }
        }
        found
    }

    pub(super) fn virtual_domains(&mut self, local: &[Domain]) {
        self.used.insert("virtual_maps");
        let Some((maps, place)) = self
            .set("virtual_alias_maps")
            .or_else(|| self.set("virtual_maps"))
        else {
            self.used.insert("virtual_alias_domains");
            return;
        };
        let tables = self.tables(&maps, &place, table);
        let mut served: BTreeSet<Domain> = local.iter().cloned().collect();
        if let Some((value, place)) = self.set("virtual_alias_domains") {
            let names: Vec<String> = items(&value).into_iter().map(str::to_owned).collect();
            for item in names {
                let domain = Domain::parse(&item).ok().filter(|_| item.contains('.'));
                match domain.filter(|domain| !domain.is_literal()) {
                    Some(domain) => {
                        served.insert(domain);
                        self.taken(&place, format!("virtual_alias_domains {item}"));
                    }
                    None if maps.contains(&item) => {}
                    None => {
                        let what = format!("virtual_alias_domains {item}");
                        self.import
                            .leave(&place, &what, "expected the name of a domain");
                    }
                }
            }
        }
        // A domain can be named in the table itself: a key without an at sign, and with a dot.
        for (path, entries) in &tables {
            for entry in entries {
                let is_name = !entry.key.contains('@') && entry.key.contains('.');
                if let Some(domain) = Domain::parse(&entry.key).ok().filter(|_| is_name) {
                    served.insert(domain);
                    self.taken(
                        &SourcePlace::new(path, entry.line),
                        format!("the domain {}", entry.key),
                    );
                }
            }
        }
        for domain in served.iter().take(IMPORT_DOMAINS_MAX) {
            self.import.domains.entry(domain.clone()).or_default();
        }
        let mut seen = BTreeSet::new();
        for (path, entries) in &tables {
            for entry in entries {
                self.virtual_alias(path, entry, local, &served, &mut seen);
            }
        }
    }

    fn virtual_alias(
        &mut self,
        path: &str,
        entry: &TableLine,
        local: &[Domain],
        served: &BTreeSet<Domain>,
        seen: &mut BTreeSet<String>,
    ) {
        let place = SourcePlace::new(path, entry.line);
        let what = format!("{} {}", entry.key, entry.value);
        let (name, domains): (&str, Vec<Domain>) = match entry.key.rsplit_once('@') {
            Some((name, domain)) => match Domain::parse(domain) {
                Ok(domain) if served.contains(&domain) => {
                    (if name.is_empty() { "*" } else { name }, vec![domain])
                }
                _ => {
                    let why = "its domain is not one of this host; a rewriting of other addresses is not carried over";
                    return self.import.leave(&place, &what, why);
                }
            },
            None if entry.key.contains('.') && Domain::parse(&entry.key).is_ok() => return,
            None => (&entry.key, local.to_vec()),
        };
        for domain in domains {
            if !seen.insert(format!("{}@{domain}", name.to_lowercase())) {
                self.import
                    .leave(&place, &what, "the address has an alias above");
                continue;
            }
            let mut found = Vec::new();
            for target in targets(&entry.value.replace(char::is_whitespace, ",")) {
                match target.strip_prefix('@') {
                    Some(other) => found.push(format!("*@{other}")),
                    None if target.contains('@') => found.push(target),
                    // Without a domain it is an account of the origin.
                    None => match self.origin.clone().filter(|origin| served.contains(origin)) {
                        Some(origin) => found.push(format!("{target}@{origin}")),
                        None => self.import.leave(
                            &place,
                            &format!("{} {target}", entry.key),
                            "it is the mailbox of an account; alias it to an address that someone reads",
                        ),
                    },
                }
            }
            let is_itself = |target: &String| *target == format!("{name}@{domain}");
            if found.iter().all(is_itself) && !found.is_empty() {
                self.import.leave(
                    &place,
                    &what,
                    "it is the mailbox of an account; alias it to an address that someone reads",
                );
                continue;
            }
            found.retain(|target| !is_itself(target));
            if self.import.alias(&domain, name, found, &place) {
                self.taken(&place, format!("the alias {name}@{domain}"));
            }
        }
    }
}
