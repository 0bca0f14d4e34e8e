use std::collections::BTreeMap;

use chopar::config::{Config, Folder, SystemDefaults};
use chopar::setup::import::gather::ImportSource;
use chopar::setup::import::{ImportResult, chasquid, postfix, report, settle};

/// chasquid's folder, as files after lines `=== PATH`: the import writes a configuration that can be read.
pub fn import_chasquid(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut source = ImportSource::default();
    for (path, text) in files(&text) {
        let mut front = path.as_str();
        while let Some((folder, _)) = front.rsplit_once('/') {
            source.folders.insert(folder.to_owned());
            front = folder;
        }
        source.files.insert(path, text.into());
    }
    holds(chasquid::import(&source));
}

/// Postfix's files in the same form, main.cf first, without a line for its path.
pub fn import_postfix(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (main, rest) = text.split_once("\n=== ").unwrap_or((&text, ""));
    let rest = files(&format!("=== {rest}"));
    holds(postfix::import(main, "host.example.com", &mut |path| {
        let found = rest.get(path).cloned();
        found
            .map(Into::into)
            .ok_or_else(|| "it is not there".to_owned())
    }));
}

fn files(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in format!("\n{text}").split("\n=== ").skip(1) {
        let (path, text) = part.split_once('\n').unwrap_or((part, ""));
        found.insert(path.to_owned(), text.to_owned());
    }
    found
}

fn holds(mut import: ImportResult) {
    let defaults = SystemDefaults {
        hostname: "host.example.com".to_owned(),
        resolv_conf: String::new(),
    };
    let files = settle(&mut import, &defaults);
    let mut folder = Folder::default();
    for file in &files {
        assert!(
            !file.path.contains("..") && !file.path.starts_with('/'),
            "{}",
            file.path
        );
        folder.insert_file(&file.path, file.bytes.to_vec());
    }
    if let Err(errors) = Config::parse(&folder, &defaults) {
        panic!("{}", errors.first().expect("an error"));
    }
    // Each line of the report is one line, whatever the source contains.
    let report = report(&import.notes);
    let shown = |c: char| c == '\n' || !c.is_control();
    assert!(report.chars().all(shown), "{report:?}");
}
