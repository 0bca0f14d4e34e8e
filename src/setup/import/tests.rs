//! Imports of hostile and of plain configurations.

use super::users as users_of;
use super::*;

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a domain")
}

fn settled(import: &mut ImportResult) -> (Folder, SystemDefaults) {
    let defaults = SystemDefaults {
        hostname: "host.example.com".to_owned(),
        resolv_conf: String::new(),
    };
    let mut folder = Folder::default();
    for file in settle(import, &defaults) {
        folder.insert_file(&file.path, file.bytes.to_vec());
    }
    (folder, defaults)
}

#[test]
fn what_would_break_the_configuration_is_left_and_named_once() {
    let mut import = ImportResult::default();
    let (one, other) = (domain("a.example"), domain("b.example"));
    for (at, of, name, target) in [
        (1, &one, "x", "x@b.example"),
        (2, &other, "x", "x@a.example"),
        (3, &other, "y", "me@home.example"),
    ] {
        let place = SourcePlace::new("table", at);
        assert!(import.alias(of, name, vec![target.to_owned()], &place));
        import.note(
            SettingResult::Taken,
            &place,
            format!("the alias {name}@{of}"),
        );
    }
    import
        .keys
        .insert("max_message_size", "\"50 MiB\"".to_owned());
    let (folder, defaults) = settled(&mut import);
    assert!(Config::parse(&folder, &defaults).is_ok());
    let report = report(&import.notes);
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines.len(), 7, "{report}");
    assert_eq!(lines[..2], ["Taken:", "  table:3: the alias y@b.example"]);
    let first = "  table:1: x@a.example: x@b.example: the alias leads back";
    assert!(lines[5].starts_with(first), "{report}");
}

#[test]
fn settings_that_do_not_fit_are_left_rather_than_the_rest_lost() {
    let mut import = ImportResult::default();
    import.keys.insert("max_message_size", "\"1 B\"".to_owned());
    let there = import.domains.entry(domain("a.example")).or_default();
    there.users.insert("ann".to_owned());
    let (folder, defaults) = settled(&mut import);
    let config = Config::parse(&folder, &defaults);
    assert!(config.is_ok_and(|config| config.domains.len() == 1));
    assert!(
        report(&import.notes).contains("chopar.toml: "),
        "{}",
        report(&import.notes)
    );
    assert_eq!(
        users(&import, "/new"),
        "chopar -C '/new' user add 'ann@a.example'\n"
    );
}

#[test]
fn a_name_reaches_the_command_and_not_the_shell() {
    let mut source = gather::ImportSource::default();
    source.folders.insert("domains/a.example".to_owned());
    let names = ["a`id`", "it's", "-h", "a b", "a\\nb"];
    let users: String = names
        .iter()
        .map(|name| format!("users: {{ key: \"{name}\" value: {{ }} }}\n"))
        .collect();
    source
        .files
        .insert("domains/a.example/users".to_owned(), users.into());
    let import = chasquid::import(&source);
    assert_eq!(
        users_of(&import, "/a new"),
        "chopar -C '/a new' user add 'a`id`@a.example'\nchopar -C '/a new' user add 'it'\\''s@a.example'\n"
    );
    let report = report(&import.notes);
    for line in [3, 4, 5] {
        let left = format!("domains/a.example/users:{line}: ");
        let (_, rest) = report.split_once(&left).expect("a line");
        assert!(
            rest.lines()
                .next()
                .expect("a line")
                .ends_with("it cannot be the name of a user"),
            "{report}"
        );
    }
}

#[test]
fn an_alias_of_a_form_that_chopar_has_not_is_left_with_the_reason() {
    for (name, target, expected) in [
        ("x", "| cat", "expected the full path of a program"),
        ("x", "/var/mail/x", ""),
        ("a b", "me@home.example", "is not a name"),
        ("x", "", ""),
    ] {
        let mut import = ImportResult::default();
        let place = SourcePlace::new("table", 7);
        assert!(
            !import.alias(&domain("a.example"), name, vec![target.to_owned()], &place),
            "{name}: {target}"
        );
        let report = report(&import.notes);
        assert!(
            report.contains("  table:7: ") && report.contains(expected),
            "{report}"
        );
    }
}
