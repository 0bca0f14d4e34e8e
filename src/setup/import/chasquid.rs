//! chasquid's folder: chasquid.conf, `domains/`, `certs/` (its configuration manual, and docs on aliases and DKIM).
//!
//! Its passwords are scrypt hashes, which cannot be converted to SCRAM credentials, so users are only listed.

use super::gather::ImportSource;
use super::prototext::{ProtoField, ProtoValue, parse};
use super::{ImportResult, ImportedPair, SettingResult, SourcePlace};
use crate::address::{Domain, Mailbox};
use crate::limits::IMPORT_DOMAINS_MAX;
use crate::setup::init::settings_text::quoted;

/// Understands the folder.
pub fn import(source: &ImportSource) -> ImportResult {
    let mut import = ImportResult::default();
    for (path, why) in &source.unread {
        import.note(
            SettingResult::Left,
            &SourcePlace::new(path, 0),
            format!("it cannot be read: {why}"),
        );
    }
    match source.files.get(CONF) {
        Some(text) => settings(&mut import, text),
        None => import.note(
            SettingResult::Left,
            &SourcePlace::new(CONF, 0),
            "the file does not exist; the defaults of chopar apply",
        ),
    }
    domains(&mut import, source);
    certificates(&mut import, source);
    for path in source.files.keys() {
        rest(&mut import, path);
    }
    import
}

fn settings(import: &mut ImportResult, text: &str) {
    let (fields, unreadable) = parse(text);
    for field in &fields {
        let place = SourcePlace::new(CONF, field.line);
        match &field.value {
            ProtoValue::Text(value) => setting(import, &place, &field.name, value),
            _ => import.leave(&place, &field.name, "chopar has no such setting"),
        }
    }
    if let Some(unreadable) = unreadable {
        let place = SourcePlace::new(CONF, unreadable.line);
        import.note(
            SettingResult::Left,
            &place,
            "from this line on the file is not understood",
        );
    }
}

fn setting(import: &mut ImportResult, place: &SourcePlace, name: &str, value: &str) {
    let what = format!("{name} {value}");
    match name {
        "hostname" => match Domain::parse(value) {
            Ok(name) if !name.is_literal() => {
                import.hostname = Some(name);
                import.note(SettingResult::Taken, place, what);
            }
            _ => import.leave(place, &what, "it is not the name of a host"),
        },
        "max_data_size_mb" => match value.parse::<u64>() {
            Ok(size @ 1..=100_000) => {
                let size = quoted(&format!("{size} MiB"));
                import.keys.insert("max_message_size", size);
                import.note(SettingResult::Taken, place, what);
            }
            _ => import.leave(place, &what, "expected a number of megabytes"),
        },
        "suffix_separators" => characters(import, place, "suffix_separators", value),
        "drop_characters" => characters(import, place, "drop_characters", value),
        "smtp_address" => listen(import, place, "smtp", value),
        "submission_address" => listen(import, place, "submission", value),
        "submission_over_tls_address" => listen(import, place, "submissions", value),
        _ => import.leave(place, &what, without_counterpart(name, value)),
    }
}

/// Characters in local parts: the key is chopar's too.
fn characters(import: &mut ImportResult, place: &SourcePlace, key: &'static str, value: &str) {
    import.keys.insert(key, quoted(value));
    import.note(SettingResult::Taken, place, format!("{key} {value}"));
}

/// The advice about a setting that chopar does not have.
fn without_counterpart(name: &str, value: &str) -> &'static str {
    match name {
        "mail_delivery_agent_bin" | "mail_delivery_agent_args" => {
            "chopar has no mailboxes: give users that read here an alias, such as NAME: maildir:/PATH or NAME: | \
             /usr/bin/maildrop -d NAME"
        }
        "dovecot_auth" | "dovecot_userdb_path" | "dovecot_client_path" if value != "false" => {
            "chopar asks no other program about passwords: add the users with chopar user add"
        }
        "haproxy_incoming" if value == "true" => {
            "set [listen] proxy and [proxy] networks in chopar.toml"
        }
        "data_dir" => {
            "chopar keeps its state in /var/lib/chopar; what is queued there stays with chasquid until it is sent"
        }
        "mail_log_path" => "chopar logs to standard error",
        "monitoring_address" => "chopar has no such page",
        _ => "chopar has no such setting",
    }
}

fn listen(import: &mut ImportResult, place: &SourcePlace, key: &'static str, value: &str) {
    let usual = match key {
        "smtp" => 25,
        "submission" => 587,
        _ => 465,
    };
    let what = format!("{key} at {value}");
    if value == "systemd" {
        let text = format!("{what}: chopar binds port {usual} itself, on all addresses");
        return import.note(SettingResult::Changed, place, text);
    }
    let port = value.strip_prefix(':').map(str::parse::<u16>);
    match port {
        Some(Ok(port)) if port == usual => import.note(SettingResult::Taken, place, what),
        Some(Ok(port)) if port != 0 => {
            let both = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
            import.listen.entry(key).or_default().extend(both);
            import.note(SettingResult::Taken, place, what);
        }
        _ if value.parse::<std::net::SocketAddr>().is_ok() => {
            let list = import.listen.entry(key).or_default();
            if !list.iter().any(|known| known == value) {
                list.push(value.to_owned());
            }
            import.note(SettingResult::Taken, place, what);
        }
        _ => import.leave(place, &what, "expected an address with a port, or :PORT"),
    }
}

fn domains(import: &mut ImportResult, source: &ImportSource) {
    let folders = source.folders.iter();
    let names = folders.filter_map(|path| path.strip_prefix("domains/"));
    for name in names.filter(|name| !name.contains('/')) {
        let path = format!("domains/{name}");
        let place = SourcePlace::new(&path, 0);
        let domain = match Domain::parse(name) {
            Ok(domain) if !domain.is_literal() => domain,
            _ => {
                import.leave(&place, name, "it is not the name of a domain");
                continue;
            }
        };
        if import.domains.len() >= IMPORT_DOMAINS_MAX {
            let why = format!("there are more than {IMPORT_DOMAINS_MAX} domains");
            import.leave(&place, name, why);
            continue;
        }
        import.domains.entry(domain.clone()).or_default();
        import.note(SettingResult::Taken, &place, format!("the domain {domain}"));
        let file = |name: &str| {
            let path = format!("{path}/{name}");
            source.files.get(&path).map(|text| (path, text))
        };
        if let Some((path, text)) = file("aliases") {
            aliases(import, &domain, &path, text);
        }
        if let Some((path, text)) = file("users") {
            users(import, &domain, &path, text);
        }
        keys(import, source, &domain, &path);
    }
}

/// `user: target, target` and `user: | command`, comments at the beginning of lines only.
fn aliases(import: &mut ImportResult, domain: &Domain, path: &str, text: &str) {
    let mut seen = std::collections::BTreeSet::new();
    for (line, text) in (1..).zip(text.lines()) {
        let place = SourcePlace::new(path, line);
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let Some((name, targets)) = text.split_once(':') else {
            import.leave(&place, text, "expected NAME: TARGET");
            continue;
        };
        let (name, targets) = (name.trim(), targets.trim());
        // An address as the name is chasquid's mistake to ignore.
        let name = name
            .rsplit_once('@')
            .filter(|(_, of)| of.eq_ignore_ascii_case(domain.as_str()))
            .map_or(name, |(name, _)| name);
        if !seen.insert(name.to_lowercase()) {
            import.leave(&place, text, "the name has an alias above");
            continue;
        }
        let targets: Vec<String> = match targets.starts_with('|') {
            true => vec![targets.to_owned()],
            false => targets
                .split(',')
                .map(str::trim)
                .filter(|target| !target.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        if targets.iter().any(|target| target.contains('#')) {
            import.leave(
                &place,
                text,
                "a hash would begin a comment in chopar's file",
            );
            continue;
        }
        if import.alias(domain, name, targets, &place) {
            import.note(
                SettingResult::Taken,
                &place,
                format!("the alias {name}@{domain}"),
            );
        }
    }
}

fn users(import: &mut ImportResult, domain: &Domain, path: &str, text: &str) {
    let (fields, unreadable) = parse(text);
    for field in &fields {
        let place = SourcePlace::new(path, field.line);
        let Some(name) = login(field) else {
            import.leave(&place, &field.name, "expected users { key: NAME … }");
            continue;
        };
        let usable = Mailbox::new(&name, domain).is_ok()
            && !name.starts_with('-')
            && !name.contains([':', '#', '"'])
            && !name.contains(|c: char| c.is_whitespace() || c.is_control());
        if !usable {
            import.leave(&place, &name, "it cannot be the name of a user");
            continue;
        }
        if is_denied(field) {
            let text = format!("the user {name}@{domain}, who may not log in");
            import.note(SettingResult::Left, &place, text);
            continue;
        }
        if let Some(there) = import.domains.get_mut(domain) {
            there.users.insert(name.clone());
        }
        let text = format!(
            "the user {name}@{domain} needs a new password: chasquid's hash cannot be carried over"
        );
        import.note(SettingResult::Changed, &place, text);
    }
    if let Some(unreadable) = unreadable {
        let place = SourcePlace::new(path, unreadable.line);
        import.note(
            SettingResult::Left,
            &place,
            "from this line on the file is not understood",
        );
    }
}

fn inner<'a>(field: &'a ProtoField, name: &str) -> Option<&'a ProtoValue> {
    let ProtoValue::Fields(fields) = &field.value else {
        return None;
    };
    let found = fields.iter().find(|field| field.name == name)?;
    Some(&found.value)
}

fn login(field: &ProtoField) -> Option<String> {
    match inner(field, "key") {
        Some(ProtoValue::Text(name)) if field.name == "users" => Some(name.clone()),
        _ => None,
    }
}

fn is_denied(field: &ProtoField) -> bool {
    match inner(field, "value") {
        Some(ProtoValue::Fields(fields)) => fields.iter().any(|field| field.name == "denied"),
        _ => false,
    }
}

/// `dkim:SELECTOR.pem`, or the key that the hook of its package signs with, whose selector is in a file of its own.
fn keys(import: &mut ImportResult, source: &ImportSource, domain: &Domain, path: &str) {
    let front = format!("{path}/dkim:");
    for (file, pem) in &source.files {
        let name = file.strip_prefix(&front);
        if let Some(selector) = name.and_then(|name| name.strip_suffix(".pem")) {
            import.key(domain, selector, pem, &SourcePlace::new(file, 0));
        }
    }
    let selector = source.files.get(&format!("{path}/dkim_selector"));
    let places = [
        format!("certs/{domain}/dkim_privkey.pem"),
        format!("{path}/dkim_privkey.pem"),
    ];
    let key = places
        .iter()
        .find_map(|place| Some((place, source.files.get(place)?)));
    match (selector, key) {
        (Some(selector), Some((place, pem))) => {
            import.key(domain, selector.trim(), pem, &SourcePlace::new(place, 0));
        }
        (Some(_), None) => import.note(
            SettingResult::Left,
            &SourcePlace::new(&format!("{path}/dkim_selector"), 0),
            format!("its key is not there; expected {}", places[0]),
        ),
        (None, _) => {}
    }
}

fn certificates(import: &mut ImportResult, source: &ImportSource) {
    let folders = source.folders.iter();
    let names = folders.filter_map(|path| path.strip_prefix("certs/"));
    for name in names.filter(|name| !name.contains('/')) {
        let at = |file: &str| source.files.get(&format!("certs/{name}/{file}"));
        let place = SourcePlace::new(&format!("certs/{name}"), 0);
        let (Some(chain), Some(key)) = (at("fullchain.pem"), at("privkey.pem")) else {
            let is_key = at("dkim_privkey.pem").is_some();
            if !is_key {
                import.note(
                    SettingResult::Left,
                    &place,
                    "expected fullchain.pem and privkey.pem in it",
                );
            }
            continue;
        };
        if !chain.contains("BEGIN CERTIFICATE") || !key.contains("PRIVATE KEY") {
            import.note(
                SettingResult::Left,
                &place,
                "it is not a certificate with its key",
            );
            continue;
        }
        let taken = import.pair(ImportedPair {
            name: name.to_owned(),
            chain: chain.clone(),
            key: key.clone(),
        });
        if let Err(why) = taken {
            import.leave(&place, name, why);
            continue;
        }
        let text = format!(
            "the certificate {name} is copied: have what renews it write to tls/{name} too, or link that folder to it"
        );
        import.note(SettingResult::Changed, &place, text);
    }
}

/// The files that are not read.
fn rest(import: &mut ImportResult, path: &str) {
    let place = SourcePlace::new(path, 0);
    let parts: Vec<&str> = path.split('/').collect();
    let is_known = match parts.as_slice() {
        ["domains", _, name] => {
            let key = name
                .strip_prefix("dkim:")
                .is_some_and(|name| name.ends_with(".pem"));
            key || matches!(
                *name,
                "aliases" | "users" | "dkim_selector" | "dkim_privkey.pem"
            )
        }
        ["certs", _, name] => matches!(*name, "fullchain.pem" | "privkey.pem" | "dkim_privkey.pem"),
        [name] => *name == CONF,
        _ => false,
    };
    if is_known {
        return;
    }
    match parts.as_slice() {
        ["hooks", name] => import.note(
            SettingResult::Left,
            &place,
            format!("the hook {name}: chopar has hooks of its own, see chopar-hooks(5)"),
        ),
        _ => import.note(SettingResult::Left, &place, "chopar has no use for it"),
    }
}

const CONF: &str = "chasquid.conf";
