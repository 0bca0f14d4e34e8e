use chopar::config::{Config, Folder, SystemDefaults};

/// A file of the configuration folder; the first byte chooses which. It is accepted or refused, the same each time, and
/// each error is one line that a terminal can show.
pub fn configuration(data: &[u8]) {
    let (variant, text) = super::variant(data);
    let path = match variant % 4 {
        0 => "chopar.toml",
        1 => "domains/example.com/users",
        2 => "domains/example.com/aliases",
        _ => "resolv.conf",
    };
    let first = read(path, text);
    assert_eq!(first, read(path, text));
    for line in first {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

/// The errors and warnings of a folder with one file.
fn read(path: &str, text: &[u8]) -> Vec<String> {
    let mut defaults = SystemDefaults {
        hostname: "mail.example.com".to_owned(),
        resolv_conf: String::new(),
    };
    let mut folder = Folder::default();
    if path == "resolv.conf" {
        defaults.resolv_conf = String::from_utf8_lossy(text).into_owned();
    } else {
        folder.insert_file(path, text.to_vec());
    }
    let errors = match Config::parse(&folder, &defaults) {
        Ok(config) => config.warnings,
        Err(errors) => {
            assert!(!errors.is_empty());
            errors
        }
    };
    errors.iter().map(ToString::to_string).collect()
}
