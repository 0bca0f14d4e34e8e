//! main.cf and its tables, as the parts of the import read them.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::super::main_cf::{MainCf, items};
use super::super::table::TableLine;
use super::super::{ImportResult, SettingResult, SourcePlace};
use crate::address::Domain;

/// Reads a file of the source, or returns the error.
pub type SourceReader<'a> = dyn FnMut(&str) -> Result<Zeroizing<String>, String> + 'a;

/// The import as far as it has come.
pub(super) struct Postfix<'a, 'b> {
    /// The settings of main.cf.
    pub(super) main: MainCf,
    pub(super) defaults: BTreeMap<&'static str, String>,
    pub(super) import: ImportResult,
    /// Reads the other files.
    pub(super) read: &'a mut SourceReader<'b>,
    /// The parameters that have been spoken of.
    pub(super) used: BTreeSet<&'static str>,
    /// The domain for addresses without one.
    pub(super) origin: Option<Domain>,
}

impl Postfix<'_, '_> {
    /// A parameter that is set, with its place; empty ones are not.
    pub(super) fn set(&mut self, name: &'static str) -> Option<(String, SourcePlace)> {
        self.used.insert(name);
        let line = self.main.parameters.get(name)?.line;
        let place = SourcePlace::new(MAIN, line);
        let Some(value) = self.main.expanded(name, &self.defaults) else {
            self.import
                .leave(&place, name, "its value cannot be made out");
            return None;
        };
        (!value.trim().is_empty()).then(|| (value.trim().to_owned(), place))
    }

    /// A parameter or its default, with its place or that of the file.
    pub(super) fn value(&mut self, name: &'static str) -> (String, SourcePlace) {
        let found = self.set(name);
        found.unwrap_or_else(|| {
            let is_set = self.main.parameters.contains_key(name);
            let value = match is_set {
                true => None,
                false => self.main.expanded(name, &self.defaults),
            };
            (value.unwrap_or_default(), SourcePlace::new(MAIN, 0))
        })
    }

    pub(super) fn taken(&mut self, place: &SourcePlace, text: String) {
        self.import.note(SettingResult::Taken, place, text);
    }

    pub(super) fn changed(&mut self, place: &SourcePlace, text: String) {
        self.import.note(SettingResult::Changed, place, text);
    }

    /// The tables of a list that are files, with their lines.
    pub(super) fn tables(
        &mut self,
        maps: &str,
        place: &SourcePlace,
        form: fn(&str) -> Vec<TableLine>,
    ) -> Vec<(String, Vec<TableLine>)> {
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
                            .note(SettingResult::Taken, place, format!("the table {map}"));
                    }
                    found.push((path.to_owned(), form(&text)));
                }
                Err(why) => self.import.leave(place, map, why),
            }
        }
        found
    }
}

/// Postfix's defaults.
pub(super) fn defaults(main: &MainCf, hostname: &str) -> BTreeMap<&'static str, String> {
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

/// The name of the file.
pub(super) const MAIN: &str = "main.cf";
/// Map types that are made from a text of the same name, or are a text.
const TEXT_MAPS: [&str; 6] = ["hash:", "texthash:", "lmdb:", "btree:", "cdb:", "dbm:"];
