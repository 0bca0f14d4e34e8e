//! Converts the configuration of another mail server to one of chopar's, in a new folder.
//!
//! ```text
//!   files of the other ──> chasquid / postfix (pure) ──> Import ──> settle (pure) ──> files of ours, report
//! ```
//!
//! Each setting of the source is taken, changed or left out, and the report says which, with file and line. Invariant:
//! the files that [`settle`] returns are a configuration that can be read; a setting that would prevent that is left
//! out and named.

pub mod chasquid;
pub mod gather;
pub mod main_cf;
mod networks;
pub mod opendkim;
pub mod postfix;
pub mod prototext;
pub mod table;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use zeroize::Zeroizing;

use crate::address::{Domain, Mailbox};
use crate::auth::dkim::key::SigningKey;
use crate::config::alias_edit::{AliasChange, AliasName, edit};
use crate::config::{Config, Folder, NameRules, SystemDefaults};
use crate::escape::Escaped;
use crate::limits::{DKIM_KEYS_PER_DOMAIN_MAX, IMPORT_ALIASES_MAX};
use crate::setup::init::settings_text::quoted;
use crate::setup::shell_word::shell_word;
use crate::shell::certificates::certificate::CertificateSummary;
use crate::shell::certificates::pairs::PairFiles;

/// A position in the source.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SourcePlace {
    pub file: String,
    /// Its line, from 1; 0 for the file as a whole.
    pub line: usize,
}

impl SourcePlace {
    /// Points at a line of a file, counted from 1.
    pub fn new(file: &str, line: usize) -> Self {
        Self {
            file: file.to_owned(),
            line,
        }
    }
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}", self.file),
            line => write!(out, "{}:{line}", self.file),
        }
    }
}

/// The result of importing a setting.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SettingResult {
    /// It has the same meaning here.
    Taken,
    /// It has another meaning here.
    Changed,
    /// It is not carried over.
    Left,
}

/// One line of the report.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ImportNote {
    pub result: SettingResult,
    /// Its position.
    pub place: SourcePlace,
    /// The setting, and what to do.
    pub text: String,
}

/// A domain that the old configuration serves, with its users and aliases.
#[derive(Default)]
pub struct ImportedDomain {
    /// Its mail ends elsewhere: only its keys are used.
    pub only_signs: bool,
    /// Names and targets, in order; one name once.
    pub aliases: Vec<ImportedAlias>,
    /// Local parts that may log in; without passwords.
    pub users: BTreeSet<String>,
    /// Selectors and keys.
    pub keys: BTreeMap<String, Zeroizing<String>>,
}

/// An alias of the old configuration, with the targets that chopar knows.
pub struct ImportedAlias {
    /// The local part, or `*`.
    pub name: String,
    /// The targets, as chopar writes them.
    pub targets: Vec<String>,
    /// Its position in the source.
    pub place: SourcePlace,
}

/// A certificate with its key.
pub struct ImportedPair {
    /// The name of its folder.
    pub name: String,
    pub chain: Zeroizing<String>,
    pub key: Zeroizing<String>,
}

/// A smart host.
pub struct ImportedRoute {
    /// The next hop.
    pub via: String,
    /// Login and password.
    pub login: Option<(String, Zeroizing<String>)>,
}

/// The imported settings.
#[derive(Default)]
pub struct ImportResult {
    /// The name of the host.
    pub hostname: Option<Domain>,
    /// The recipient of mail for root and postmaster.
    pub admin: Option<Mailbox>,
    /// Keys at the top of chopar.toml, with their text.
    pub keys: BTreeMap<&'static str, String>,
    /// Keys of `[listen]`, with their addresses.
    pub listen: BTreeMap<&'static str, Vec<String>>,
    /// Keys of `[delivery]`, with their text.
    pub delivery: BTreeMap<&'static str, String>,
    /// Clients that may relay without logging in.
    pub networks: Vec<String>,
    /// The route for all mail.
    pub route: Option<ImportedRoute>,
    pub domains: BTreeMap<Domain, ImportedDomain>,
    /// The certificates.
    pub pairs: Vec<ImportedPair>,
    /// The result for each setting.
    pub notes: Vec<ImportNote>,
    /// Manual steps before mail works as before.
    pub to_do: Vec<String>,
}

impl ImportResult {
    /// Records the result of a setting.
    pub fn note(&mut self, result: SettingResult, place: &SourcePlace, text: impl fmt::Display) {
        self.notes.push(ImportNote {
            result,
            place: place.clone(),
            text: text.to_string(),
        });
    }

    /// Notes that a setting is not carried over, with the setting.
    pub fn leave(&mut self, place: &SourcePlace, what: &str, why: impl fmt::Display) {
        let shown: String = what.chars().take(SHOWN_CHARACTERS).collect();
        let text = format!("{}: {why}", Escaped(shown.as_bytes()));
        self.note(SettingResult::Left, place, text);
    }

    /// Takes an alias, if chopar has that form.
    pub fn alias(
        &mut self,
        domain: &Domain,
        name: &str,
        targets: Vec<String>,
        place: &SourcePlace,
    ) -> bool {
        let names = NameRules::default();
        let local = match name {
            "*" => AliasName::CatchAll,
            name => AliasName::Local(name),
        };
        if targets.is_empty() {
            self.leave(place, name, "none of its targets is left");
            return false;
        }
        if let Err(error) = edit("", "", domain, &names, local, AliasChange::Add(&targets)) {
            let text = format!("{name}: {}", targets.join(", "));
            self.leave(place, &text, error.to_string());
            return false;
        }
        let all: usize = self
            .domains
            .values()
            .map(|domain| domain.aliases.len())
            .sum();
        if all >= IMPORT_ALIASES_MAX {
            let why = format!("there are more than {IMPORT_ALIASES_MAX} aliases; add it by hand");
            self.leave(place, name, why);
            return false;
        }
        let there = self.domains.entry(domain.clone()).or_default();
        there.aliases.push(ImportedAlias {
            name: name.to_owned(),
            targets,
            place: place.clone(),
        });
        true
    }

    /// Takes a certificate with its key, if they match.
    pub fn pair(&mut self, pair: ImportedPair) -> Result<(), String> {
        let files = PairFiles {
            chain: pair.chain.as_bytes().to_vec(),
            key: Zeroizing::new(pair.key.as_bytes().to_vec()),
            bare_key: None,
        };
        CertificateSummary::of(&files).map_err(|fault| fault.to_string())?;
        self.pairs.push(pair);
        Ok(())
    }

    /// Takes a key, if it can sign.
    pub fn key(&mut self, domain: &Domain, selector: &str, pem: &str, place: &SourcePlace) {
        let selector = selector.to_ascii_lowercase();
        let name = format!("{selector}._domainkey.{domain}");
        if selector.is_empty() || selector.contains('/') || Domain::parse(&name).is_err() {
            return self.leave(place, &selector, "it cannot be the selector of a key");
        }
        if let Err(error) = SigningKey::from_pem(pem) {
            return self.leave(place, &name, error);
        }
        let there = self.domains.entry(domain.clone()).or_default();
        if there.keys.len() >= DKIM_KEYS_PER_DOMAIN_MAX {
            let why = format!("a domain has at most {DKIM_KEYS_PER_DOMAIN_MAX} keys");
            return self.leave(place, &name, why);
        }
        there
            .keys
            .insert(selector.clone(), Zeroizing::new(pem.to_owned()));
        let text =
            format!("the DKIM key {selector} of {domain}; its record in the DNS stays as it is");
        self.note(SettingResult::Taken, place, text);
    }
}

/// A file of the new folder.
pub struct NewFile {
    /// Its path in the folder.
    pub path: String,
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether only the daemon's account may read it.
    pub is_secret: bool,
}

/// The files of the new folder; a setting that would make the configuration invalid is removed and noted.
pub fn settle(import: &mut ImportResult, defaults: &SystemDefaults) -> Vec<NewFile> {
    loop {
        let files = files(import);
        let mut folder = Folder::default();
        for file in &files {
            folder.insert_file(&file.path, file.bytes.to_vec());
        }
        let Err(errors) = Config::parse(&folder, defaults) else {
            return files;
        };
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        if !take_out(import, &errors) {
            // Not a part that can be removed alone: the settings at the top are not worth the rest.
            let place = SourcePlace::new("chopar.toml", 0);
            import.note(SettingResult::Left, &place, errors.join("; "));
            import.keys.clear();
            import.listen.clear();
            import.delivery.clear();
            import.networks.clear();
            if import.hostname.is_none() {
                import.hostname = Domain::parse(NO_HOSTNAME).ok();
            }
            if !take_out_routes(import) {
                return files;
            }
        }
    }
}

fn take_out_routes(import: &mut ImportResult) -> bool {
    let is_first = !import.notes.iter().any(|note| note.text == AGAIN);
    if is_first {
        import.route = None;
        let place = SourcePlace::new("chopar.toml", 0);
        import.note(SettingResult::Left, &place, AGAIN);
    }
    is_first
}

/// Takes out the aliases and keys that errors name; whether there was one.
fn take_out(import: &mut ImportResult, errors: &[String]) -> bool {
    let mut aliases: BTreeMap<Domain, BTreeMap<usize, String>> = BTreeMap::new();
    let mut is_any = false;
    for error in errors {
        let Some((path, rest)) = error.split_once(':') else {
            continue;
        };
        let Some((domain, file)) = path
            .strip_prefix("domains/")
            .and_then(|path| path.split_once('/'))
        else {
            continue;
        };
        let Ok(domain) = Domain::parse(domain) else {
            continue;
        };
        let (line, text) = rest.split_once(':').unwrap_or((rest, ""));
        let text = text.split_once(": ").map_or(text, |(_, text)| text);
        let key = file
            .strip_prefix("dkim/")
            .and_then(|file| file.strip_suffix(".pem"));
        match (key, line.parse::<usize>()) {
            (Some(selector), _) => is_any |= take_out_key(import, &domain, selector, text),
            (None, Ok(line)) if file == "aliases" => {
                aliases
                    .entry(domain)
                    .or_default()
                    .insert(line, text.to_owned());
            }
            _ => {}
        }
    }
    for (domain, lines) in aliases {
        is_any |= take_out_aliases(import, &domain, &lines);
    }
    is_any
}

fn take_out_key(import: &mut ImportResult, domain: &Domain, selector: &str, why: &str) -> bool {
    let there = import.domains.get_mut(domain);
    let is_there = there.is_some_and(|there| there.keys.remove(selector).is_some());
    if is_there {
        let front = format!("the DKIM key {selector} of {domain};");
        let at = |note: &ImportNote| {
            note.result == SettingResult::Taken && note.text.starts_with(&front)
        };
        for note in import.notes.iter_mut().filter(|note| at(note)) {
            note.result = SettingResult::Left;
            note.text = format!("the DKIM key {selector} of {domain}: {why}");
        }
    }
    is_there
}

fn take_out_aliases(
    import: &mut ImportResult,
    domain: &Domain,
    lines: &BTreeMap<usize, String>,
) -> bool {
    let Some(there) = import.domains.get_mut(domain) else {
        return false;
    };
    let mut kept = Vec::new();
    let mut gone = Vec::new();
    for (at, alias) in std::mem::take(&mut there.aliases).into_iter().enumerate() {
        // The first line is the comment.
        match lines.get(&at.saturating_add(2)) {
            Some(error) => gone.push((alias, error.clone())),
            None => kept.push(alias),
        }
    }
    there.aliases = kept;
    for (alias, error) in &gone {
        let address = format!("{}@{domain}", alias.name);
        let was_taken = format!("the alias {address}");
        import
            .notes
            .retain(|note| note.place != alias.place || note.text != was_taken);
        let text = format!("{address}: {}", alias.targets.join(", "));
        import.leave(&alias.place, &text, error);
    }
    !gone.is_empty()
}

fn files(import: &ImportResult) -> Vec<NewFile> {
    let open = |path: String, text: String| NewFile {
        path,
        bytes: Zeroizing::new(text.into_bytes()),
        is_secret: false,
    };
    let secret = |path: String, text: &str| NewFile {
        path,
        bytes: Zeroizing::new(text.as_bytes().to_vec()),
        is_secret: true,
    };
    let mut files = vec![open("chopar.toml".to_owned(), settings(import))];
    for (domain, there) in &import.domains {
        let place = format!("domains/{domain}");
        let aliases = there.aliases.iter();
        let aliases =
            aliases.map(|alias| format!("{}: {}\n", alias.name, alias.targets.join(", ")));
        let text: String = std::iter::once(ALIASES_HEAD.to_owned())
            .chain(aliases)
            .collect();
        files.push(secret(format!("{place}/aliases"), &text));
        for (selector, pem) in &there.keys {
            files.push(secret(format!("{place}/dkim/{selector}.pem"), pem));
        }
    }
    for pair in &import.pairs {
        let place = format!("tls/{}", pair.name);
        files.push(secret(format!("{place}/fullchain.pem"), &pair.chain));
        files.push(secret(format!("{place}/privkey.pem"), &pair.key));
    }
    if let Some((login, password)) = import.route.as_ref().and_then(|route| route.login.as_ref()) {
        let text = Zeroizing::new(format!("{login}\n{}\n", password.as_str()));
        files.push(secret(SMART_HOST.to_owned(), &text));
    }
    files
}

fn settings(import: &ImportResult) -> String {
    let mut text =
        String::from("# Made by chopar import; man chopar.toml has every key with its default.\n");
    let mut line = |key: &str, value: &str| text.push_str(&format!("{key} = {value}\n"));
    if let Some(hostname) = &import.hostname {
        line("hostname", &quoted(hostname.as_str()));
    }
    if let Some(admin) = &import.admin {
        line("admin", &quoted(&admin.to_string()));
    }
    for (key, value) in &import.keys {
        line(key, value);
    }
    let list = |items: &[String]| {
        let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
        format!("[{}]", items.join(", "))
    };
    if !import.listen.is_empty() {
        text.push_str("\n[listen]\n");
    }
    for (key, addresses) in &import.listen {
        text.push_str(&format!("{key} = {}\n", list(addresses)));
    }
    if !import.networks.is_empty() {
        text.push_str(&format!(
            "\n[relay]\nnetworks = {}\n",
            list(&import.networks)
        ));
    }
    if !import.delivery.is_empty() {
        text.push_str("\n[delivery]\n");
    }
    for (key, value) in &import.delivery {
        text.push_str(&format!("{key} = {value}\n"));
    }
    for (domain, there) in &import.domains {
        if there.only_signs {
            let domain = quoted(domain.as_str());
            text.push_str(&format!("\n[domain.{domain}]\nreceive = false\n"));
        }
    }
    if let Some(route) = &import.route {
        let via = list(std::slice::from_ref(&route.via));
        text.push_str(&format!("\n[[route]]\ndomain = \"*\"\nvia = {via}\n"));
        if route.login.is_some() {
            text.push_str(&format!("auth = {}\n", quoted(SMART_HOST)));
        }
    }
    text
}

/// The report, for people.
pub fn report(notes: &[ImportNote]) -> String {
    let mut notes = notes.to_vec();
    notes.sort();
    notes.dedup();
    let mut text = String::new();
    for (result, title) in [
        (SettingResult::Taken, "Taken"),
        (SettingResult::Changed, "Changed"),
        (SettingResult::Left, "Left"),
    ] {
        text.push_str(&format!("{title}:\n"));
        let of = notes.iter().filter(|note| note.result == result);
        let lines: String = of
            .map(|note| {
                format!(
                    "  {}\n",
                    one_line(&format!("{}: {}", note.place, note.text))
                )
            })
            .collect();
        text.push_str(if lines.is_empty() {
            "  nothing\n"
        } else {
            &lines
        });
    }
    text
}

/// A text in which nothing ends the line or moves a terminal.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// The commands that give the users passwords, one per line; empty if there are no users.
pub fn users(import: &ImportResult, folder: &str) -> String {
    let mut text = String::new();
    let folder = shell_word(folder);
    for (domain, there) in &import.domains {
        for user in &there.users {
            let address = shell_word(&format!("{user}@{domain}"));
            text.push_str(&format!("chopar -C {folder} user add {address}\n"));
        }
    }
    text
}

const ALIASES_HEAD: &str = "# NAME: ADDRESS, one alias a line; see chopar-aliases(5)\n";
const SMART_HOST: &str = "secrets/smart-host";
const NO_HOSTNAME: &str = "mail.invalid";
const AGAIN: &str = "the settings could not be put together; set them by hand";
const SHOWN_CHARACTERS: usize = 200;

#[cfg(test)]
mod tests;
