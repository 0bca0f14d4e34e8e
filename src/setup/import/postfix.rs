//! Postfix: main.cf with the tables that it names, /etc/aliases, and OpenDKIM's keys beside it.
//!
//! What is a local account's mailbox, a virtual mailbox or a filter has no counterpart and is left. Paths are the
//! source's; whoever reads them says where they lie.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::main_cf::{MainCf, items, parse};
use super::networks::{Verdict, judge};
use super::table::{Entry, aliases, table, targets, unquoted};
use super::{Fate, Import, ImportedPair, ImportedRoute, Place, opendkim};
use crate::address::{Domain, Mailbox};
use crate::limits::IMPORT_DOMAINS_MAX;
use crate::setup::init::settings_text::quoted;

/// Reads a file of the source, or says why it cannot.
pub type Reader<'a> = dyn FnMut(&str) -> Result<Zeroizing<String>, String> + 'a;

/// Understands main.cf. `hostname` is the machine's.
pub fn import(text: &str, hostname: &str, read: &mut Reader<'_>) -> Import {
    let main = parse(text);
    let mut import = Import::default();
    for (line, text, why) in &main.others {
        import.leave(&Place::new(MAIN, *line), text, why);
    }
    let mut postfix = Postfix {
        defaults: defaults(&main, hostname),
        main,
        import,
        read,
        used: BTreeSet::new(),
        origin: None,
    };
    postfix.host();
    postfix.sizes();
    postfix.networks();
    postfix.listeners();
    postfix.relayhost();
    postfix.origin();
    let local = postfix.local_domains();
    postfix.virtual_domains(&local);
    postfix.local_aliases(&local);
    postfix.certificate();
    postfix.keys();
    postfix.rest();
    postfix.import
}

fn defaults(main: &MainCf, hostname: &str) -> BTreeMap<&'static str, String> {
    let set = |name: &str| main.parameters.get(name).map(|found| found.value.clone());
    let host = set("myhostname").unwrap_or_else(|| hostname.to_owned());
    let domain = host.split_once('.').map_or("localdomain", |(_, rest)| rest);
    BTreeMap::from([
        ("myhostname", hostname.to_owned()),
        ("mydomain", domain.to_owned()),
        ("myorigin", "$myhostname".to_owned()),
        (
            "mydestination",
            "$myhostname, localhost.$mydomain, localhost".to_owned(),
        ),
        ("virtual_alias_domains", "$virtual_alias_maps".to_owned()),
        ("virtual_alias_maps", "$virtual_maps".to_owned()),
        ("config_directory", "/etc/postfix".to_owned()),
        ("data_directory", "/var/lib/postfix".to_owned()),
        ("mail_name", "Postfix".to_owned()),
        ("default_database_type", "hash".to_owned()),
    ])
}

struct Postfix<'a, 'b> {
    main: MainCf,
    defaults: BTreeMap<&'static str, String>,
    import: Import,
    read: &'a mut Reader<'b>,
    /// The parameters that have been spoken of.
    used: BTreeSet<&'static str>,
    /// What is put behind addresses without a domain.
    origin: Option<Domain>,
}

impl Postfix<'_, '_> {
    /// A parameter that is set, with its place; empty ones are not.
    fn set(&mut self, name: &'static str) -> Option<(String, Place)> {
        self.used.insert(name);
        let line = self.main.parameters.get(name)?.line;
        let place = Place::new(MAIN, line);
        let Some(value) = self.main.expanded(name, &self.defaults) else {
            self.import
                .leave(&place, name, "its value cannot be made out");
            return None;
        };
        (!value.trim().is_empty()).then(|| (value.trim().to_owned(), place))
    }

    /// A parameter or its default, with its place or that of the file.
    fn value(&mut self, name: &'static str) -> (String, Place) {
        let found = self.set(name);
        found.unwrap_or_else(|| {
            let is_set = self.main.parameters.contains_key(name);
            let value = match is_set {
                true => None,
                false => self.main.expanded(name, &self.defaults),
            };
            (value.unwrap_or_default(), Place::new(MAIN, 0))
        })
    }

    fn taken(&mut self, place: &Place, text: String) {
        self.import.note(Fate::Taken, place, text);
    }

    fn changed(&mut self, place: &Place, text: String) {
        self.import.note(Fate::Changed, place, text);
    }

    fn host(&mut self) {
        let Some((name, place)) = self.set("myhostname") else {
            return;
        };
        match Domain::parse(&name) {
            Ok(host) if !host.is_literal() && name.contains('.') => {
                self.taken(&place, format!("myhostname {name}"));
                self.import.hostname = Some(host);
            }
            _ => self.import.leave(
                &place,
                &format!("myhostname {name}"),
                "it is not a full name: set hostname in chopar.toml to the name that the PTR of the address gives",
            ),
        }
    }

    fn sizes(&mut self) {
        if let Some((value, place)) = self.set("message_size_limit") {
            match value.parse::<u64>() {
                Ok(bytes @ 65_536..=100_000_000_000) => {
                    let size = quoted(&format!("{bytes} B"));
                    self.import.keys.insert("max_message_size", size);
                    self.taken(&place, format!("message_size_limit {value}"));
                }
                _ => self.import.leave(
                    &place,
                    &format!("message_size_limit {value}"),
                    "chopar has a limit from 64 KiB up; its default is 50 MiB",
                ),
            }
        }
        match self.set("recipient_delimiter") {
            Some((value, place)) => {
                self.import.keys.insert("suffix_separators", quoted(&value));
                self.taken(&place, format!("recipient_delimiter {value}"));
            }
            None => {
                self.import.keys.insert("suffix_separators", quoted(""));
            }
        }
        // Postfix has no such thing.
        self.import.keys.insert("drop_characters", quoted(""));
    }

    fn networks(&mut self) {
        let Some((value, place)) = self.set("mynetworks") else {
            self.import.networks = LOOPBACK.map(str::to_owned).to_vec();
            let text = "mynetworks is not set: programs of this machine may send without logging in, as by Postfix's default";
            return self.changed(&Place::new(MAIN, 0), text.to_owned());
        };
        let items = items(&value);
        for (item, verdict) in items.iter().zip(judge(&items)) {
            let what = format!("mynetworks {item}");
            let why = match verdict {
                Verdict::Taken(network) => {
                    if !self.import.networks.contains(&network) {
                        self.import.networks.push(network);
                    }
                    self.taken(&place, what);
                    continue;
                }
                Verdict::Left => {
                    let why = "expected a network such as 192.0.2.0/24; list it in [relay] networks";
                    self.import.leave(&place, &what, why);
                    continue;
                }
                Verdict::TooWide => {
                    "anybody could relay, for a large part of the Internet is in it; list your own networks in [relay] networks"
                        .to_owned()
                }
                Verdict::Exception => {
                    "[relay] networks has no exceptions: no network that it may be in is taken over".to_owned()
                }
                Verdict::Excepted(exception) => {
                    format!("{exception} is an exception to it: list the parts of it that may relay in [relay] networks")
                }
            };
            self.import.to_do.push(format!("{what}: {why}"));
            self.import.leave(&place, &what, why);
        }
    }

    fn listeners(&mut self) {
        if let Some((value, place)) = self.set("inet_interfaces") {
            match value.as_str() {
                "all" => self.taken(&place, "inet_interfaces all".to_owned()),
                "loopback-only" | "localhost" | "127.0.0.1" => {
                    let here = ["127.0.0.1:25", "[::1]:25"].map(str::to_owned);
                    self.import.listen.insert("smtp", here.to_vec());
                    self.import.listen.insert("submission", Vec::new());
                    self.import.listen.insert("submissions", Vec::new());
                    let text = format!(
                        "inet_interfaces {value}: chopar listens on port 25 of 127.0.0.1 and ::1"
                    );
                    self.taken(&place, text);
                }
                _ => self.import.leave(
                    &place,
                    &format!("inet_interfaces {value}"),
                    "list the addresses with their ports in [listen]",
                ),
            }
        }
        if let Some((value, place)) = self.set("inet_protocols") {
            let parts: Vec<&str> = items(&value);
            let ip = match parts.as_slice() {
                ["all"] | ["ipv4", "ipv6"] | ["ipv6", "ipv4"] => Some("any"),
                ["ipv4"] => Some("ipv4"),
                ["ipv6"] => Some("ipv6"),
                _ => None,
            };
            let what = format!("inet_protocols {value}");
            match ip {
                Some("any") => self.taken(&place, what),
                Some(ip) => {
                    self.import.delivery.insert("ip", quoted(ip));
                    let text =
                        format!("{what}: chopar delivers over {ip} only, and listens as before");
                    self.changed(&place, text);
                }
                None => self
                    .import
                    .leave(&place, &what, "expected all, ipv4 or ipv6"),
            }
        }
        for (name, key) in [
            ("smtp_bind_address", "bind4"),
            ("smtp_bind_address6", "bind6"),
        ] {
            let Some((value, place)) = self.set(name) else {
                continue;
            };
            let address: Option<std::net::IpAddr> = value.trim_matches(['[', ']']).parse().ok();
            let what = format!("{name} {value}");
            match address.filter(|address| address.is_ipv4() == (key == "bind4")) {
                Some(address) => {
                    let text = quoted(&address.to_string());
                    self.import.delivery.insert(key, text);
                    self.taken(&place, what);
                }
                None => self.import.leave(&place, &what, "expected an address"),
            }
        }
    }

    fn relayhost(&mut self) {
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
        let text = format!("relayhost {value}: all mail goes by {via}");
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
                let place = Place::new(&path, entry.line);
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
                let text = format!("the login at {} stands in secrets/smart-host", entry.key);
                self.taken(&place, text);
                found = Some((login.to_owned(), Zeroizing::new(password.to_owned())));
            }
        }
        found
    }

    fn origin(&mut self) {
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
            self.import.note(Fate::Taken, &place, text);
        }
    }

    /// The domains of mydestination, which have the names of the aliases file.
    fn local_domains(&mut self) -> Vec<Domain> {
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
                    "expected the name of a domain; add those that it stands for with chopar domain add",
                ),
            }
        }
        found
    }

    /// The tables of a list that are files, with their lines.
    fn tables(
        &mut self,
        maps: &str,
        place: &Place,
        form: fn(&str) -> Vec<Entry>,
    ) -> Vec<(String, Vec<Entry>)> {
        let mut found = Vec::new();
        for map in items(maps) {
            let path = TEXT_MAPS.iter().find_map(|kind| map.strip_prefix(kind));
            let Some(path) = path.filter(|path| path.starts_with('/')) else {
                self.import.leave(
                    place,
                    map,
                    "it is not a file that is read as text (hash:, texthash:, lmdb:)",
                );
                continue;
            };
            match (self.read)(path) {
                Ok(text) => {
                    if place.line > 0 {
                        self.import
                            .note(Fate::Taken, place, format!("the table {map}"));
                    }
                    found.push((path.to_owned(), form(&text)));
                }
                Err(why) => self.import.leave(place, map, why),
            }
        }
        found
    }

    fn virtual_domains(&mut self, local: &[Domain]) {
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
                        &Place::new(path, entry.line),
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
        entry: &Entry,
        local: &[Domain],
        served: &BTreeSet<Domain>,
        seen: &mut BTreeSet<String>,
    ) {
        let place = Place::new(path, entry.line);
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
                            "it is the mailbox of an account; lead it to an address that is read",
                        ),
                    },
                }
            }
            let is_itself = |target: &String| *target == format!("{name}@{domain}");
            if found.iter().all(is_itself) && !found.is_empty() {
                self.import.leave(
                    &place,
                    &what,
                    "it is the mailbox of an account; lead it to an address that is read",
                );
                continue;
            }
            found.retain(|target| !is_itself(target));
            if self.import.alias(&domain, name, found, &place) {
                self.taken(&place, format!("the alias {name}@{domain}"));
            }
        }
    }

    /// The aliases file, for each domain of mydestination. Where root leads to an address elsewhere, that is `admin`.
    fn local_aliases(&mut self, local: &[Domain]) {
        self.used.insert("alias_database");
        let (maps, place) = match self.set("alias_maps") {
            Some(found) => found,
            None if self.main.parameters.contains_key("alias_maps") => return,
            None => ("hash:/etc/aliases".to_owned(), Place::new(MAIN, 0)),
        };
        let mut all: BTreeMap<String, (Vec<String>, Place)> = BTreeMap::new();
        for (path, entries) in self.tables(&maps, &place, aliases) {
            for entry in entries {
                let place = Place::new(&path, entry.line);
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

    fn admin(&mut self, all: &BTreeMap<String, (Vec<String>, Place)>) {
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
                    self.import.note(Fate::Taken, place, text);
                    self.import.admin = Some(admin);
                    return;
                }
                Err(_) => name = first.to_lowercase(),
            }
        }
    }

    /// The targets of a line of the aliases file, as chopar has them.
    fn alias_targets(&mut self, entry: &Entry, place: &Place) -> Vec<String> {
        let mut found = Vec::new();
        let mut command = None;
        for target in targets(&entry.value) {
            let what = format!("{}: {target}", entry.key);
            let plain = unquoted(&target);
            let leave = |import: &mut Import, why: &str| import.leave(place, &what, why);
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
                        "chopar appends to no file: lead it to an address, or to maildir:/PATH",
                    ),
                }
            } else if plain.starts_with('\\') {
                leave(
                    &mut self.import,
                    "it is the mailbox of an account; lead it to an address that is read",
                );
            } else {
                found.push(target);
            }
        }
        // A command takes the rest of its line.
        found.extend(command);
        found
    }

    fn certificate(&mut self) {
        let chain = self.set("smtpd_tls_cert_file");
        let key = self.set("smtpd_tls_key_file");
        let (Some((chain, place)), Some((key, _))) = (chain, key) else {
            return;
        };
        if chain.contains("ssl-cert-snakeoil") {
            let text = format!(
                "smtpd_tls_cert_file {chain}: signed by the machine itself, as chopar does without one"
            );
            return self.changed(&place, text);
        }
        let name = self
            .import
            .hostname
            .as_ref()
            .map_or_else(|| "imported".to_owned(), ToString::to_string);
        match ((self.read)(&chain), (self.read)(&key)) {
            (Ok(pem), Ok(secret)) if pem.contains("BEGIN CERTIFICATE") => {
                let text = format!(
                    "smtpd_tls_cert_file {chain} is copied: have what renews it write to tls/{name} too, or link that \
                     folder to it"
                );
                let pair = ImportedPair {
                    name,
                    chain: pem,
                    key: secret,
                };
                match self.import.pair(pair) {
                    Ok(()) => self.changed(&place, text),
                    Err(why) => self.import.leave(&place, &chain, why),
                }
            }
            (Err(why), _) | (_, Err(why)) => self.import.leave(&place, &chain, why),
            _ => self.import.leave(&place, &chain, "it is not a certificate"),
        }
    }

    /// OpenDKIM's keys, where it is there.
    fn keys(&mut self) {
        let Ok(text) = (self.read)(OPENDKIM) else {
            return;
        };
        let settings = opendkim::settings(&text);
        let get = |name: &str| settings.get(name).cloned();
        let table = get("keytable");
        if let (None, Some((domain, line)), Some((selector, _)), Some((path, _))) =
            (&table, get("domain"), get("selector"), get("keyfile"))
        {
            let place = Place::new(OPENDKIM, line);
            return self.dkim_key(&domain, &selector, &path, &place);
        }
        let Some((set, line)) = table else {
            return;
        };
        let place = Place::new(OPENDKIM, line);
        let Some(path) = opendkim::path_of(&set) else {
            return self.import.leave(&place, &set, "it is not a file");
        };
        let keys = match (self.read)(path) {
            Ok(text) => opendkim::keys(&text),
            Err(why) => return self.import.leave(&place, &set, why),
        };
        for (line, text) in keys.1 {
            let why = "expected NAME DOMAIN:SELECTOR:FILE";
            self.import.leave(&Place::new(path, line), &text, why);
        }
        let mut used = BTreeSet::new();
        if let Some((set, line)) = get("signingtable") {
            let place = Place::new(OPENDKIM, line);
            match opendkim::path_of(&set).map(|path| (path.to_owned(), (self.read)(path))) {
                Some((path, Ok(text))) => {
                    for (author, name, line) in opendkim::authors(&text) {
                        let place = Place::new(&path, line);
                        self.author(&author, &name, &keys.0, &place, &mut used);
                    }
                }
                Some((_, Err(why))) => self.import.leave(&place, &set, why),
                None => self.import.leave(&place, &set, "it is not a file"),
            }
        }
        for (name, key) in &keys.0 {
            if !used.contains(name) {
                let place = Place::new(path, key.line);
                self.import
                    .leave(&place, name, "the SigningTable does not name it");
            }
        }
    }

    fn author(
        &mut self,
        author: &str,
        name: &str,
        keys: &BTreeMap<String, opendkim::Key>,
        place: &Place,
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

    fn dkim_key(&mut self, domain: &str, selector: &str, path: &str, place: &Place) {
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

    /// What has not been spoken of.
    fn rest(&mut self) {
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
            let place = Place::new(MAIN, parameter.line);
            if named.contains(name.as_str()) {
                let text = format!("{name}, where others have ${name}");
                self.import.note(Fate::Taken, &place, text);
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

/// Host and port of a relay host, and whether it is a host rather than a domain whose MX counts.
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

const MAIN: &str = "main.cf";
const OPENDKIM: &str = "/etc/opendkim.conf";
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// Maps that are made from a text of the same name, or are one.
const TEXT_MAPS: [&str; 6] = ["hash:", "texthash:", "lmdb:", "btree:", "cdb:", "dbm:"];
/// Postfix would run these by a shell.
const SHELL: [char; 19] = [
    '$', ';', '&', '<', '>', '*', '?', '[', ']', '(', ')', '{', '}', '~', '`', '\'', '"', '|', '\\',
];
const ALIAS_STEPS: usize = 10;
/// What counts for a relay host, beside the file of logins.
const SASL: [&str; 5] = [
    "smtp_sasl_auth_enable",
    "smtp_sasl_security_options",
    "smtp_sasl_tls_security_options",
    "smtp_tls_wrappermode",
    "smtp_tls_security_level",
];
/// Why settings that many have are left; a star stands for the rest of the name.
const KNOWN: &[(&str, &str)] = &[
    ("compatibility_level", "it is Postfix's own"),
    ("biff", "it is Postfix's own"),
    ("readme_directory", "it is Postfix's own"),
    ("html_directory", "it is Postfix's own"),
    ("append_dot_mydomain", "chopar completes no addresses"),
    ("smtpd_banner", "chopar's greeting is its hostname"),
    (
        "smtpd_relay_restrictions",
        "chopar relays for users, [relay] networks and programs of this machine, and for nobody else",
    ),
    (
        "smtpd_*_restrictions",
        "chopar relays for users, [relay] networks and programs of this machine, and for nobody else",
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
        "chopar has no mailboxes: lead each address by an alias, such as NAME: lmtp:/run/dovecot/lmtp",
    ),
    (
        "virtual_transport",
        "chopar has no mailboxes: lead each address by an alias, such as NAME: lmtp:/run/dovecot/lmtp",
    ),
    (
        "smtpd_milters",
        "chopar has no milters: it signs and judges by itself, and hooks/post-data can judge more",
    ),
    (
        "non_smtpd_milters",
        "chopar has no milters: it signs and judges by itself, and hooks/post-data can judge more",
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
