//! What is read from a configuration folder, and the error for each of its mistakes.

mod aliases;

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::destination::Destination;

mod keys;

/// The credential of `pencil` (RFC 7677 section 3), as the users file has it.
const CREDENTIAL: &str = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                          wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const RSA: &str = include_str!("../../tests/data/dkim/rsa-2048-pkcs8.pem");

fn defaults() -> SystemDefaults {
    SystemDefaults {
        hostname: "mail.example.com".to_owned(),
        resolv_conf: "nameserver 192.0.2.53\n".to_owned(),
    }
}

fn folder(files: &[(&str, &str)]) -> Folder {
    let mut folder = Folder::default();
    for (path, text) in files {
        folder.insert_file(path, text.as_bytes().to_vec());
    }
    folder
}

fn config(files: &[(&str, &str)]) -> Config {
    Config::parse(&folder(files), &defaults()).expect("a configuration")
}

/// The errors, as they are shown.
fn errors(files: &[(&str, &str)]) -> Vec<String> {
    Config::parse(&folder(files), &defaults())
        .expect_err("errors")
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The one error that a chopar.toml has.
fn error(text: &str) -> String {
    let errors = errors(&[("chopar.toml", text)]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("a mailbox")
}

#[test]
fn an_empty_folder_is_a_configuration() {
    for files in [[].as_slice(), &[("chopar.toml", "")]] {
        let config = config(files);
        assert_eq!(config.hostname.as_str(), "mail.example.com");
        assert_eq!(config.limits.message_bytes, 50 * 1024 * 1024);
        assert_eq!(config.limits.memory_bytes, 64 * 1024 * 1024);
        let Listen::Addresses(smtp) = &config.listen.smtp else {
            panic!("systemd");
        };
        let smtp: Vec<String> = smtp.iter().map(ToString::to_string).collect();
        assert_eq!(smtp, ["0.0.0.0:25", "[::]:25"]);
        assert_eq!(config.dns.servers.addresses[0].to_string(), "192.0.2.53:53");
        assert_eq!(config.delivery.give_up_after, Duration::from_secs(345_600));
        assert_eq!(config.user, "chopar");
        assert!(config.warnings.is_empty() && config.domains.is_empty());
    }
}

#[test]
fn values_of_every_form_are_read() {
    let text = r#"
hostname = "relay.example.net"
state_dir = "/tmp/state"
runtime_dir = "/tmp/run"
admin = "you@example.com"
user = "mail"
max_message_size = "10 MiB"
max_memory = "32 MiB"

[listen]
smtp = ["127.0.0.1:2525"]
submission = []
submissions = "systemd"
status = ["[::1]:8025"]

[relay]
networks = ["127.0.0.1/32", "2001:db8::/32"]

[dns]
servers = ["127.0.0.1:5353", "::1"]

[delivery]
port = 2526
ip = "ipv4"
loopback = true
bind4 = "192.0.2.1"
bind6 = "2001:db8::1"
give_up_after = "2d"
warn_after = "90m"
sessions_per_hop = 3
sessions = 9

[limits]
sessions = 100
sessions_per_address = 5
messages_per_user_hour = 0
recipients = 50

[domain."Example.COM"]
receive = false

[[route]]
domain = "from:example.com"
via = ["smtp+starttls://email-smtp.eu-west-1.amazonaws.com:587", "smtps://relay.example", "smtp://[2001:db8::25]:26",
  "lmtp://[::1]:24", "lmtp:///run/a/lmtp", "maildir:///m/x"]

[[route]]
domain = "*.example.org"
via = ["smtps://192.0.2.25"]
auth = "secrets/relay"
"#;
    let config = config(&[
        ("chopar.toml", text),
        ("secrets/relay", "AKIA\npass word\n"),
        ("domains/example.com/aliases", ""),
    ]);
    assert_eq!(config.hostname.as_str(), "relay.example.net");
    assert_eq!(config.state_dir.to_str(), Some("/tmp/state"));
    assert_eq!(config.listen.submission, Listen::Addresses(Vec::new()));
    assert_eq!(config.listen.submissions, Listen::Systemd);
    assert!(
        config
            .trust
            .relay
            .contains("2001:db8::7".parse().expect("an address"))
    );
    assert_eq!(config.dns.servers.addresses[1].to_string(), "[::1]:53");
    let delivery = &config.delivery;
    assert_eq!(
        (delivery.port, delivery.ip, delivery.loopback),
        (2526, AddressFamily::Ipv4, true)
    );
    assert_eq!(delivery.warn_after, Duration::from_secs(5_400));
    assert_eq!((delivery.sessions_per_hop, delivery.sessions), (3, 9));
    let limits = &config.limits;
    assert_eq!((limits.sessions, limits.sessions_per_address), (100, 5));
    assert_eq!((limits.messages_per_user_hour, limits.recipients), (0, 50));
    assert!(config.receiving(&domain("example.com")).is_none());
    let via: Vec<String> = config.routes[0]
        .via
        .iter()
        .map(|hop| match hop {
            Destination::Hosts(hosts) => hosts[0].to_string(),
            hop => hop.to_string(),
        })
        .collect();
    assert_eq!(
        via,
        [
            "smtp+starttls://email-smtp.eu-west-1.amazonaws.com:587",
            "smtps://relay.example:465",
            "smtp://[2001:db8::25]:26",
            "lmtp:[::1]:24",
            "lmtp:/run/a/lmtp",
            "maildir:/m/x"
        ]
    );
    assert_eq!(
        config.routes[1].pattern,
        RoutePattern::Subdomains(domain("example.org"))
    );
    assert_eq!(config.routes[1].via[0].to_string(), "via 192.0.2.25:465");
    let login = config.routes[1].login.as_ref().expect("a login");
    assert_eq!(
        (login.user.as_str(), login.password.as_str()),
        ("AKIA", "pass word")
    );
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_one_or_else_with_all() {
    let all = "`hostname`, `state_dir`, `runtime_dir`, `admin`, `user`, `max_message_size`, `max_memory`, \
        `suffix_separators`, `drop_characters`, `long_lines`, `bcc`, `arc`, `listen`, `relay`, `proxy`, `dns`, `delivery`, \
        `limits`, `abuse`, `acme`, `domain`, `route`";
    for (text, wanted) in [
        (
            "hostname = \"a.example\"\n  hostnam = 1\n",
            "2:3: unknown key `hostnam`; did you mean `hostname`?",
        ),
        (
            "[lisen]\nsmtp = []\n",
            "1:2: unknown key `lisen`; did you mean `listen`?",
        ),
        (
            "[listen]\nsmpt = []\n",
            "2:1: unknown key `smpt`; did you mean `smtp`?",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = []\nauht = \"x\"\n",
            "4:1: unknown key `auht`; did you mean `auth`?",
        ),
        (
            "nosuch = 1\n",
            &format!("1:1: unknown key `nosuch`, expected one of {all}"),
        ),
        (
            "\"a`, expected `b\" = 1\n",
            &format!("1:1: unknown key `a`, expected `b`, expected one of {all}"),
        ),
        (
            "\"host\\nname\" = 1\n",
            "1:1: unknown key `host, name`; did you mean `hostname`?",
        ),
        (
            "[relay]\nnosuch = 1\n",
            "2:1: unknown key `nosuch`, expected `networks`",
        ),
    ] {
        assert_eq!(error(text), format!("chopar.toml:{wanted}"));
    }
}

#[test]
fn keys_and_sections_that_are_taken_for_each_other_are_of_the_wrong_type() {
    for (text, wanted) in [
        ("listen = \"x\"\n", "1:10: invalid type: string \"x\""),
        ("route = 1\n", "1:9: invalid type: integer `1`"),
        ("[domain]\nx = 1\n", "2:5: invalid type: integer `1`"),
        ("[hostname]\nx = 1\n", "1:1: invalid type: map"),
    ] {
        let found = error(text);
        assert!(
            found.starts_with(&format!("chopar.toml:{wanted}")),
            "{found}"
        );
    }
}

#[test]
fn errors_of_chopar_toml_have_their_position() {
    assert!(error("max_message_size = 7\n").starts_with("chopar.toml:1:20: invalid type"));
    assert!(error("[delivery]\nport = 70000\n").starts_with("chopar.toml:2:8: "));
    assert!(error("admin = \n").starts_with("chopar.toml:1:9: "));
    let cases = [
        ("hostname = \"-bad\"", "1:12: \"-bad\" is not a host name"),
        ("admin = \"you\"", "1:9: \"you\" is not a mail address"),
        ("user = \"a b\"", "1:8: \"a b\" is not an account"),
        ("state_dir = \"x\"", "1:13: \"x\" is not an absolute path"),
        (
            "max_memory = \"1 MiB\"",
            "1:14: the value is too small; the minimum is 8 MiB",
        ),
        ("max_message_size = \"50\"", "1:20: \"50\" is not a size"),
        ("[listen]\nsmtp = \"all\"", "2:8: \"all\" is neither"),
        (
            "[listen]\nsmtp = [\"[::]:25\", \"25\"]",
            "2:20: \"25\" is not an address",
        ),
        (
            "[relay]\nnetworks = [\"192.0.2.7/24\"]",
            "2:13: the address has bits set after",
        ),
        (
            "[relay]\nnetworks = [\"x\"]",
            "2:13: \"x\" is not a network",
        ),
        (
            "[dns]\nservers = [\"dns.example\"]",
            "2:12: \"dns.example\" is not an IP",
        ),
        ("[delivery]\nip = \"v4\"", "2:6: \"v4\" is not one of"),
        ("[delivery]\nbind4 = \"::1\"", "2:9: \"::1\" is not an IP"),
        (
            "[delivery]\ngive_up_after = \"4\"",
            "2:17: \"4\" is not a duration",
        ),
        ("[delivery]\nsessions = 0", "2:12: the value is too small"),
        (
            "[domain.\"example.org\"]\n",
            "1:9: there is no folder domains/example.org",
        ),
        ("[domain.\"a..b\"]\n", "1:9: \"a..b\" is not a domain"),
        (
            "[[route]]\ndomain = \"x:y\"\nvia = [\"smtp://a\"]",
            "2:10: \"x:y\" matches nothing",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = []",
            "3:7: the route has no next hop",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = [\"http://a\"]",
            "3:8: \"http://a\" is not a next hop",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = [\"smtp://a:0\"]",
            "3:8: \"smtp://a:0\" is not a next hop",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = [\"smtp://[::1\"]",
            "3:8: \"smtp://[::1\" is not a next hop",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = [\"lmtp://host\"]",
            "3:8: \"lmtp://host\" is not a next hop",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = [\"maildir://m\"]",
            "3:8: \"maildir://m\" is not a next hop",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = [\"smtps://a\"]\nauth = \"../x\"",
            "4:8: \"../x\" leads out",
        ),
        (
            "[[route]]\ndomain = \"*\"\nvia = [\"smtps://a\"]\nauth = \"s/x\"",
            "4:8: there is no file s/x",
        ),
    ];
    for (text, expected) in cases {
        let shown = error(text);
        assert!(
            shown.starts_with(&format!("chopar.toml:{expected}")),
            "{text:?}: {shown}"
        );
    }
}

#[test]
fn each_value_of_a_wrong_type_and_each_unknown_key_is_an_error_of_its_own() {
    let text = "max_memory = 7\nhostname = 'mx.example.com'\nuser = 'a b'\n[listen]\nsmtp = 5\nsmpt = []\n\
            [limits]\nsessions = 'many'\n[nosuch]\nkey = 1\n\
            [[route]]\nvia = ['smtp://a.example']\n[[route]]\ndomain = 7\nvai = []\n\
            [abuse]\ndnsbl = [{ zone = 'a.example' }, { znoe = 'b.example' }]\n";
    let Err(errors) = Config::parse(&folder(&[("chopar.toml", text)]), &defaults()) else {
        panic!("taken");
    };
    let found: Vec<(usize, usize)> = (errors.iter())
        .map(|error| (error.line, error.column))
        .collect();
    let expected = [
        (1, 14),  // max_memory: a number
        (3, 8),   // user: no account
        (5, 8),   // smtp: a number
        (6, 1),   // smpt: no key
        (8, 12),  // sessions: a text
        (9, 2),   // nosuch: no section
        (11, 1),  // the first route has no domain
        (14, 10), // the domain of the second is a number
        (17, 36), // znoe: no key
    ];
    assert_eq!(found, expected, "{errors:#?}");
}

#[test]
fn of_a_text_that_is_not_toml_only_that_is_said() {
    let text = "max_memory = 7\n[listen\nsmpt = []\n";
    let Err(errors) = Config::parse(&folder(&[("chopar.toml", text)]), &defaults()) else {
        panic!("taken");
    };
    assert_eq!(errors.len(), 1, "{errors:#?}");
}

#[test]
fn all_errors_are_found_at_once() {
    let found = errors(&[
        ("chopar.toml", "admin = \"you\"\nmax_memory = \"much\"\n"),
        ("domains/example.com/aliases", "nonsense\n"),
        ("domains/example.com/users", "ann:secret\n"),
    ]);
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn a_file_that_is_no_utf_8_is_refused_where_it_is() {
    let mut folder = Folder::default();
    folder.insert_file("chopar.toml", b"# caf\xC3\xA9\n# caf\xE9\n".to_vec());
    let errors = Config::parse(&folder, &defaults()).expect_err("an error");
    assert_eq!((errors[0].line, errors[0].column), (2, 6));
    assert_eq!(errors[0].problem, ConfigProblem::NotUtf8);
}

#[test]
fn the_hostname_of_the_system_must_be_one() {
    let defaults = |hostname: &str| SystemDefaults {
        hostname: hostname.to_owned(),
        resolv_conf: String::new(),
    };
    let config = Config::parse(&Folder::default(), &defaults("vps1")).expect("a configuration");
    assert!(matches!(
        config.warnings[0].problem,
        ConfigProblem::Name(NameProblem::HostnameWithoutDot { .. })
    ));
    for bad in ["", "a b", "[192.0.2.1]"] {
        let errors = Config::parse(&Folder::default(), &defaults(bad)).expect_err("an error");
        assert!(matches!(
            errors[0].problem,
            ConfigProblem::Name(NameProblem::SystemHostname { .. })
        ));
    }
}

#[test]
fn users_are_read() {
    let text = format!(
        "# users\n\nann:{CREDENTIAL}\nApp:{CREDENTIAL}:send_as=*@example.com,noreply@example.org,*\n"
    );
    let config = config(&[("domains/example.com/users", &text)]);
    let app = config.user(&mailbox("aPP@Example.com")).expect("a user");
    let patterns: Vec<String> = app.send_as.iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["*@example.com", "noreply@example.org", "*"]);
    assert!(config.user(&mailbox("ann@example.com")).is_some());
    assert!(config.user(&mailbox("ann@example.org")).is_none());
    assert!(config.user(&mailbox("bob@example.com")).is_none());
}

#[test]
fn errors_of_users_have_their_position() {
    let file = "domains/example.com/users";
    let behind = "ann::".len() + CREDENTIAL.len() + 1;
    let cases = [
        ("ann".to_owned(), "1:1: expected NAME:".to_owned()),
        (
            "ann:secret".to_owned(),
            "1:5: expected a credential".to_owned(),
        ),
        (
            "a nn:x".to_owned(),
            "1:1: \"a nn\" is not a mail address".to_owned(),
        ),
        (
            format!("ann:{CREDENTIAL}:admin"),
            format!("1:{behind}: \"admin\" is not an option"),
        ),
        (
            format!("ann:{CREDENTIAL}:send_as=nobody"),
            format!("1:{behind}: \"nobody\" is not a pattern"),
        ),
        (
            format!("ann:{CREDENTIAL}\n\nAnn:{CREDENTIAL}"),
            "3:1: \"Ann\" is already on line 1".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        let found = errors(&[(file, &text)]);
        assert!(
            found[0].starts_with(&format!("{file}:{expected}")),
            "{found:?}"
        );
        assert!(!found[0].contains("WG5d8o"), "a key is shown");
    }
}

#[test]
fn keys_are_read_by_selector() {
    let path = "domains/example.com/dkim/2026a.pem";
    let config = config(&[(path, RSA), ("domains/example.com/dkim/notes", "")]);
    let keys = config.signing_keys(&domain("example.com"));
    assert_eq!(
        (keys.len(), &*keys[0].selector, keys[0].key.bits()),
        (1, "2026a", 2048)
    );
    assert!(config.signing_keys(&domain("example.org")).is_empty());
    assert_eq!(config.warnings[0].file, "domains/example.com/dkim/notes");

    let found = errors(&[
        ("domains/example.com/dkim/-x.pem", RSA),
        ("domains/example.com/dkim/y.pem", "no key"),
    ]);
    assert!(found[0].starts_with("domains/example.com/dkim/-x.pem:1:1: \"-x\" is not a selector"));
    assert!(found[1].starts_with("domains/example.com/dkim/y.pem:1:1: expected a PEM file"));
}

#[test]
fn a_hook_is_known_and_what_lies_beside_it_is_not() {
    assert!(!config(&[]).content.hook);
    let config = config(&[("hooks/post-data", ""), ("hooks/post-date", "")]);
    assert!(config.content.hook);
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("hooks/post-date"), "{warnings:?}");
}

#[test]
fn a_folder_is_a_domain() {
    let mut folder = Folder::default();
    folder.insert_folder("domains/example.com");
    let config = Config::parse(&folder, &defaults()).expect("a configuration");
    assert!(config.receiving(&domain("example.com")).is_some());

    folder.insert_folder("domains/EXAMPLE.com");
    folder.insert_folder("domains/not a domain");
    let errors = Config::parse(&folder, &defaults()).expect_err("errors");
    assert!(matches!(
        errors[0].problem,
        ConfigProblem::Name(NameProblem::DomainTwice { .. })
    ));

    let mut folder = Folder::default();
    folder.insert_folder("domains/not a domain");
    let config = Config::parse(&folder, &defaults()).expect("a configuration");
    assert!(config.domains.is_empty());
    assert_eq!(config.warnings[0].file, "domains/not a domain");
}

#[test]
fn secrets_are_two_words_and_never_in_clear() {
    let route = |via: &str| format!("[[route]]\ndomain = \"*\"\nvia = [\"{via}\"]\nauth = \"s\"\n");
    let one_line = config(&[
        ("chopar.toml", &route("smtp://127.0.0.1:25")),
        ("s", "me secret\r\n"),
    ]);
    let login = one_line.routes[0].login.as_ref().expect("a login");
    assert_eq!(
        (login.user.as_str(), login.password.as_str()),
        ("me", "secret")
    );
    let found = errors(&[("chopar.toml", &route("smtps://a")), ("s", "secret")]);
    assert!(found[0].starts_with("s:1:1: expected login and password"));
    assert!(!found[0].contains("\"secret\""));
    let found = errors(&[("chopar.toml", &route("smtp://a")), ("s", "me secret")]);
    assert!(found[0].starts_with("chopar.toml:3:8: the password would be sent in clear"));
}

#[test]
fn what_is_shown_holds_no_secret() {
    let text = format!("ann:{CREDENTIAL}\n");
    let folder = folder(&[("domains/example.com/users", &text), ("s", "me secret")]);
    let config = Config::parse(&folder, &defaults()).expect("a configuration");
    let shown = format!("{folder:?} {config:?} {:?}", config.domains);
    assert!(
        !shown.contains("secret") && !shown.contains("WG5d8o"),
        "{shown}"
    );
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_is_read_or_refused(text in "[ -~\n]{0,200}", name in "(chopar.toml|domains/a.b/users|domains/a.b/aliases)") {
        let mut folder = Folder::default();
        folder.insert_file(&name, text.into_bytes());
        let _ = Config::parse(&folder, &defaults());
    }
}

#[test]
fn a_port_for_proxies_needs_proxies() {
    assert_eq!(
        error("[listen]\nproxy = [\"127.0.0.1:2525\"]\n"),
        "chopar.toml:2:9: no proxy may connect there; list the proxies, like networks = [\"10.0.0.1\"] under [proxy]"
    );
    let config = config(&[(
        "chopar.toml",
        "listen.proxy = [\"127.0.0.1:2525\"]\nproxy.networks = [\"10.0.0.0/24\"]\n",
    )]);
    assert!(
        config
            .trust
            .proxies
            .contains(Ipv4Addr::new(10, 0, 0, 1).into())
    );
    assert_eq!(
        error("proxy.networks = [\"10.0.0.1/24\"]\n"),
        "chopar.toml:1:19: the address has bits set after the prefix; write \"10.0.0.0/24\" for the network"
    );
}

#[test]
fn what_unauthenticated_clients_must_not_do() {
    let quiet = config(&[]).abuse;
    assert_eq!((quiet.hello, quiet.ptr), (Toggle::On, Toggle::On));
    assert!(quiet.lists.zones.is_empty() && quiet.greylist.is_none());
    let strict = config(&[(
        "chopar.toml",
        "[abuse]\nhello = false\ngreylist = true\ngreylist_delay = \"1m\"\nunknown_recipients = 0\ndnsbl_threshold = 3\n\
         dnsbl = [{ zone = \"zen.example\", weight = 3, replies = [\"127.0.0.2-11\"] }, { zone = \"b.example\" }]\n",
    )])
    .abuse;
    assert_eq!((strict.hello, strict.unknown_recipients), (Toggle::Off, 0));
    assert_eq!(
        strict.greylist.expect("greylisting").delay,
        Duration::from_secs(60)
    );
    let weights: Vec<(&str, u32, usize)> = strict
        .lists
        .zones
        .iter()
        .map(|zone| (zone.name.as_str(), zone.weight, zone.replies.len()))
        .collect();
    assert_eq!(weights, [("zen.example", 3, 1), ("b.example", 1, 0)]);
    for (text, expected) in [
        (
            "dnsbl = [{ zone = \"a b\" }]",
            "2:19: \"a b\" is not a domain (the domain is not a valid host name); write it like example.com",
        ),
        (
            "dnsbl = [{ zone = \"a.example\", weight = 0 }]",
            "2:41: the value is too small; the minimum is 1",
        ),
        (
            "dnsbl = [{ zone = \"a.example\", replies = [\"1.2.3.4\"] }]",
            "2:43: \"1.2.3.4\" is not an answer of a list; write it like \"127.0.0.2\" or \"127.0.0.2-11\"",
        ),
        (
            "greylist_window = \"1m\"",
            "2:19: no client could retry in time; make greylist_window longer than greylist_delay",
        ),
    ] {
        let found = error(&format!("[abuse]\n{text}\n"));
        assert_eq!(found, format!("chopar.toml:{expected}"));
    }
}

#[test]
fn a_network_may_say_what_is_done_about_its_line_ends() {
    let config = config(&[(
        "chopar.toml",
        "relay.networks = [\"10.0.0.0/8\", { network = \"192.0.2.7\", line_ends = \"mend\" }, \
         { network = \"192.0.2.8\" }, { network = \"192.0.2.9\", line_ends = \"strict\" }]\n",
    )]);
    let is_known = |text: &str| {
        let address = text.parse().expect("an address");
        (
            config.trust.relay.contains(address),
            config.trust.mended.contains(address),
        )
    };
    assert_eq!(is_known("10.1.2.3"), (true, false));
    assert_eq!(is_known("192.0.2.7"), (true, true));
    assert_eq!(is_known("192.0.2.8"), (true, false));
    assert_eq!(is_known("192.0.2.9"), (true, false));
    assert_eq!(is_known("192.0.2.10"), (false, false));
    for (text, wanted) in [
        (
            "relay.networks = [{ network = \"192.0.2.7\", line_ends = \"lf\" }]",
            "chopar.toml:1:56: \"lf\" is not one of the words",
        ),
        (
            "relay.networks = [{ network = \"x\", line_ends = \"mend\" }]",
            "chopar.toml:1:31: \"x\" is not a network",
        ),
        (
            "relay.networks = [{ line_ends = \"mend\" }]",
            "missing field `network`",
        ),
        (
            "relay.networks = [{ network = \"::1\", ends = 1 }]",
            "unknown key `ends`",
        ),
        ("relay.networks = [7]", "chopar.toml:1:19: "),
        ("bcc = \"drop\"", "chopar.toml:1:7: "),
        ("long_lines = \"cut\"", "chopar.toml:1:14: "),
    ] {
        let error = error(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
}
