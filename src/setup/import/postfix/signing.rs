//! The keys of OpenDKIM beside Postfix.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{SourcePlace, opendkim};
use super::source::Postfix;
use crate::address::Domain;
use crate::limits::IMPORT_DOMAINS_MAX;

impl Postfix<'_, '_> {
    /// OpenDKIM's keys, where it is there.
    pub(super) fn keys(&mut self) {
        let Ok(text) = (self.read)(OPENDKIM) else {
            return;
        };
        let settings = opendkim::settings(&text);
        let get = |name: &str| settings.get(name).cloned();
        let table = get("keytable");
        if let (None, Some((domain, line)), Some((selector, _)), Some((path, _))) =
            (&table, get("domain"), get("selector"), get("keyfile"))
        {
            let place = SourcePlace::new(OPENDKIM, line);
            return self.dkim_key(&domain, &selector, &path, &place);
        }
        let Some((set, line)) = table else {
            return;
        };
        let place = SourcePlace::new(OPENDKIM, line);
        let Some(path) = opendkim::path_of(&set) else {
            return self.import.leave(&place, &set, "it is not a file");
        };
        let keys = match (self.read)(path) {
            Ok(text) => opendkim::keys(&text),
            Err(why) => return self.import.leave(&place, &set, why),
        };
        for (line, text) in keys.1 {
            let why = "expected NAME DOMAIN:SELECTOR:FILE";
            self.import.leave(&SourcePlace::new(path, line), &text, why);
        }
        let mut used = BTreeSet::new();
        if let Some((set, line)) = get("signingtable") {
            let place = SourcePlace::new(OPENDKIM, line);
            match opendkim::path_of(&set).map(|path| (path.to_owned(), (self.read)(path))) {
                Some((path, Ok(text))) => {
                    for (author, name, line) in opendkim::authors(&text) {
                        let place = SourcePlace::new(&path, line);
                        self.author(&author, &name, &keys.0, &place, &mut used);
                    }
                }
                Some((_, Err(why))) => self.import.leave(&place, &set, why),
                None => self.import.leave(&place, &set, "it is not a file"),
            }
        }
        for (name, key) in &keys.0 {
            if !used.contains(name) {
                let place = SourcePlace::new(path, key.line);
                self.import
                    .leave(&place, name, "the SigningTable does not name it");
            }
        }
    }

    fn author(
        &mut self,
        author: &str,
        name: &str,
        keys: &BTreeMap<String, opendkim::KeyTableRow>,
        place: &SourcePlace,
        used: &mut BTreeSet<String>,
    ) {
        let what = format!("{author} {name}");
        let Some(key) = keys.get(name) else {
            return self
                .import
                .leave(place, &what, "the KeyTable has no such key");
        };
        used.insert(name.to_owned());
        let domain = author.rsplit_once('@').map_or(author, |(_, domain)| domain);
        let is_all = !author.contains('@') || author.starts_with("*@") || author.starts_with('@');
        let signs = match key.domain.as_str() {
            "%" => domain,
            signs => signs,
        };
        if !is_all || !domain.eq_ignore_ascii_case(signs) {
            let why =
                "chopar signs with the keys of the author's own domain, for all of its addresses";
            return self.import.leave(place, &what, why);
        }
        self.dkim_key(signs, &key.selector, &key.key, place);
    }

    fn dkim_key(&mut self, domain: &str, selector: &str, path: &str, place: &SourcePlace) {
        let what = format!("{selector}._domainkey.{domain}");
        let parsed = Domain::parse(domain)
            .ok()
            .filter(|domain| !domain.is_literal());
        let Some(domain) = parsed.filter(|_| domain.contains('.')) else {
            return self
                .import
                .leave(place, &what, "it is not the name of a domain");
        };
        let pem = match path.starts_with('/') {
            true => (self.read)(path),
            false => Err("expected the path of a file".to_owned()),
        };
        let pem = match pem {
            Ok(pem) => pem,
            Err(why) => return self.import.leave(place, &what, why),
        };
        if !self.import.domains.contains_key(&domain) {
            if self.import.domains.len() >= IMPORT_DOMAINS_MAX {
                return self
                    .import
                    .leave(place, &what, "there are too many domains");
            }
            self.import.key(&domain, selector, &pem, place);
            if let Some(there) = self.import.domains.get_mut(&domain) {
                there.only_signs = true;
                let text = format!(
                    "{domain} signs here, and its mail is received elsewhere (receive = false)"
                );
                self.changed(place, text);
            }
            return;
        }
        self.import.key(&domain, selector, &pem, place);
    }
}

const OPENDKIM: &str = "/etc/opendkim.conf";
