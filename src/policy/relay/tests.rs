//! Tables from recipients to where their mail goes, for each kind of client.

use super::*;

fn example() -> Config {
    Config::of_files(&[
        (
            "chopar.toml",
            "admin = \"me@home.example\"\n[domain.\"away.example\"]\nreceive = false\n",
        ),
        (
            "domains/example.com/aliases",
            "ann: ann@gmail.com\nann+lists: lists@gmail.com\nteam: ann, bob@other.example, team2@second.example\n\
             dead: nobody\nup: x@second.example\n",
        ),
        (
            "domains/second.example/aliases",
            "*: rest@gmail.com\nteam2: ann@example.com, zoe@gmail.com\nabuse: abuse@gmail.com\n",
        ),
        ("domains/away.example/aliases", "ann: ann@gmail.com\n"),
    ])
}

fn path(text: &str) -> ForwardPath {
    match Mailbox::parse(text) {
        Ok(mailbox) => ForwardPath::Mailbox(mailbox),
        Err(_) => ForwardPath::Bare(text.into()),
    }
}

fn unauthenticated() -> RelayClient {
    RelayClient::Anonymous {
        address: IpAddr::from([192, 0, 2, 1]),
    }
}

fn to(client: &RelayClient, text: &str) -> Result<Vec<String>, RecipientRefusal> {
    recipient(&example(), client, &path(text)).map(|expanded| expanded.iter().map(shown).collect())
}

fn shown(target: &ExpandedRecipient) -> String {
    let destination = target.destination.as_ref();
    let behind = destination.map_or_else(String::new, |to| format!(" {to}"));
    format!("{}{behind}", target.mailbox)
}

#[test]
fn local_programs_reach_the_owner_of_a_name_of_this_machine() {
    let mut config = example();
    config.accounts = crate::config::Accounts::parse("www-data:x:33:\nann:x:1000:\n");
    let loopback = RelayClient::Network {
        address: IpAddr::from([127, 0, 0, 1]),
    };
    let elsewhere = RelayClient::Network {
        address: IpAddr::from([192, 0, 2, 9]),
    };
    let to = |client: &RelayClient, text: &str| {
        let expanded = recipient(&config, client, &path(text));
        expanded.map(|expanded| expanded.iter().map(shown).collect::<Vec<_>>())
    };
    for client in [&RelayClient::Local { uid: 33 }, &loopback] {
        for host in [
            "",
            "@localhost",
            "@LOCALHOST.localdomain.",
            "@mail.example.com",
            "@[127.0.0.1]",
            "@[IPv6:::1]",
        ] {
            let at = |name: &str| to(client, &format!("{name}{host}"));
            assert_eq!(at("root"), one("me@home.example"), "{host}");
            assert_eq!(at("www-data"), one("me@home.example"), "{host}");
            assert_eq!(at("www-data+x"), one("me@home.example"), "{host}");
            assert_eq!(at("ann"), one("ann@gmail.com"), "{host}");
            assert_eq!(at("nosuch"), Err(RecipientRefusal::Unknown), "{host}");
        }
        assert_eq!(to(client, "a%b@localhost"), Err(RecipientRefusal::Routed));
        assert_eq!(to(client, "a@[192.0.2.1]"), Err(RecipientRefusal::Literal));
        assert_eq!(to(client, "www-data@example.com"), one("me@home.example"));
        assert_eq!(to(client, "ann@gmail.com"), one("ann@gmail.com"));
    }
    // To others these names say nothing.
    assert_eq!(
        to(&unauthenticated(), "root@localhost"),
        Err(RecipientRefusal::RelayDenied)
    );
    assert_eq!(to(&elsewhere, "root@localhost"), one("root@localhost"));
    assert_eq!(
        to(&elsewhere, "root@[127.0.0.1]"),
        Err(RecipientRefusal::Literal)
    );
    assert_eq!(
        to(&unauthenticated(), "www-data@example.com"),
        Err(RecipientRefusal::Unknown)
    );
}

fn one(target: &str) -> Result<Vec<String>, RecipientRefusal> {
    Ok(vec![target.to_owned()])
}

#[test]
fn unauthenticated_clients_reach_served_addresses_only() {
    let unauthenticated = unauthenticated();
    assert_eq!(
        to(&unauthenticated, "Ann@Example.com"),
        one("ann@gmail.com")
    );
    assert_eq!(
        to(&unauthenticated, "nobody@example.com"),
        Err(RecipientRefusal::Unknown)
    );
    assert_eq!(
        to(&unauthenticated, "x@elsewhere.example"),
        Err(RecipientRefusal::RelayDenied)
    );
    assert_eq!(
        to(&unauthenticated, "x@sub.example.com"),
        Err(RecipientRefusal::RelayDenied)
    );
    assert_eq!(
        to(&unauthenticated, "ann@away.example"),
        Err(RecipientRefusal::RelayDenied)
    );
}

#[test]
fn trusted_clients_reach_everybody() {
    let login = Mailbox::parse("ann@example.com").expect("a mailbox");
    let address = IpAddr::from([127, 0, 0, 1]);
    for client in [
        RelayClient::User { login },
        RelayClient::Network { address },
        RelayClient::Local { uid: 33 },
    ] {
        assert_eq!(
            to(&client, "x@elsewhere.example"),
            one("x@elsewhere.example")
        );
        assert_eq!(
            to(&client, "x%y@elsewhere.example"),
            one("x%y@elsewhere.example")
        );
        assert_eq!(to(&client, "ann@away.example"), one("ann@away.example"));
        assert_eq!(to(&client, "ann@example.com"), one("ann@gmail.com"));
        assert_eq!(
            to(&client, "nobody@example.com"),
            Err(RecipientRefusal::Unknown)
        );
    }
}

#[test]
fn open_relay_in_disguise_is_refused() {
    let unauthenticated = unauthenticated();
    for disguise in [
        "victim%elsewhere.example@example.com",
        "victim%elsewhere.example@second.example",
        "elsewhere.example!victim@second.example",
        "\"victim@elsewhere.example\"@second.example",
        "\"victim\\@elsewhere.example\"@second.example",
        "\"elsewhere.example:victim\"@second.example",
        "victim%elsewhere.example@elsewhere.example",
    ] {
        assert_eq!(
            to(&unauthenticated, disguise),
            Err(RecipientRefusal::Routed),
            "{disguise}"
        );
    }
    assert_eq!(
        to(&unauthenticated, "victim@[192.0.2.7]"),
        Err(RecipientRefusal::Literal)
    );
    assert_eq!(
        to(&unauthenticated, "victim"),
        Err(RecipientRefusal::NoDomain)
    );
    let mailbox = Mailbox::parse("ann@example.com").expect("a mailbox");
    let routed = ForwardPath::SourceRoute(mailbox);
    for client in [unauthenticated, RelayClient::Local { uid: 0 }] {
        assert_eq!(
            recipient(&example(), &client, &routed),
            Err(RecipientRefusal::Routed)
        );
    }
}

#[test]
fn suffixes_fall_back_to_the_name_and_then_to_the_catch_all() {
    let unauthenticated = unauthenticated();
    assert_eq!(
        to(&unauthenticated, "ann+lists@example.com"),
        one("lists@gmail.com")
    );
    assert_eq!(
        to(&unauthenticated, "ann+shop@example.com"),
        one("ann@gmail.com")
    );
    assert_eq!(
        to(&unauthenticated, "zoe+shop@example.com"),
        Err(RecipientRefusal::Unknown)
    );
    assert_eq!(
        to(&unauthenticated, "+ann@second.example"),
        one("rest@gmail.com")
    );
    assert_eq!(
        to(&unauthenticated, "whoever@second.example"),
        one("rest@gmail.com")
    );
}

#[test]
fn roles_always_exist() {
    let unauthenticated = unauthenticated();
    for role in [
        "postmaster@example.com",
        "Abuse@example.com",
        "root@mail.example.com",
        "postmaster@second.example",
        "PostMaster",
    ] {
        assert_eq!(to(&unauthenticated, role), one("me@home.example"), "{role}");
    }
    assert_eq!(
        to(&unauthenticated, "abuse@second.example"),
        one("abuse@gmail.com")
    );
    assert_eq!(
        to(&unauthenticated, "ann@mail.example.com"),
        Err(RecipientRefusal::RelayDenied)
    );
    assert_eq!(
        to(&unauthenticated, "root"),
        Err(RecipientRefusal::NoDomain)
    );
    assert_eq!(
        to(&RelayClient::Local { uid: 0 }, "root"),
        one("me@home.example")
    );
}

#[test]
fn postmaster_without_admin_is_the_alias_of_a_served_domain() {
    let files = [("domains/example.com/aliases", "postmaster: pm@gmail.com\n")];
    let found = recipient(
        &Config::of_files(&files),
        &unauthenticated(),
        &path("postmaster"),
    );
    assert_eq!(
        found.map(|found| shown(&found[0])),
        Ok("pm@gmail.com".to_owned())
    );
    let found = recipient(
        &Config::of_files(&[]),
        &unauthenticated(),
        &path("postmaster"),
    );
    assert_eq!(found, Err(RecipientRefusal::NoDomain));
}

#[test]
fn chains_end() {
    let unauthenticated = unauthenticated();
    assert_eq!(
        to(&unauthenticated, "team@example.com"),
        Ok(vec![
            "ann@gmail.com".to_owned(),
            "bob@other.example".to_owned(),
            "zoe@gmail.com".to_owned()
        ])
    );
    assert_eq!(
        to(&unauthenticated, "up@example.com"),
        one("rest@gmail.com")
    );
    assert_eq!(
        to(&unauthenticated, "dead@example.com"),
        Err(RecipientRefusal::Unknown)
    );
}

#[test]
fn an_address_that_is_written_in_two_ways_gets_one_copy() {
    let text = "a: y@Other.example, b, Y@other.example\nb: y@other.example\n";
    let config = Config::of_files(&[("domains/example.com/aliases", text)]);
    let found = recipient(&config, &unauthenticated(), &path("a@example.com"));
    assert_eq!(found.map(|targets| targets.len()), Ok(2));
}

#[test]
fn a_dsn_of_another_host_to_an_account_goes_to_the_administrator_and_nothing_else_does() {
    let accounts = crate::config::Accounts::parse("www-data:x:33:\nann:x:1000:\nann+x:x:1:\n");
    let example = Config {
        accounts,
        ..example()
    };
    let null = ReversePath::Null;
    let sender = ReversePath::Mailbox(Mailbox::parse("a@far.example").expect("a mailbox"));
    let to = |sender: &ReversePath, text: &str| {
        let to = path(text);
        let found = recipient(&example, &unauthenticated(), &to)
            .or_else(|refusal| returned(&example, sender, &to, refusal));
        found.map(|expanded| expanded.iter().map(shown).collect::<Vec<_>>())
    };
    let admin = || Ok(vec!["me@home.example".to_owned()]);
    for text in [
        "www-data@example.com",
        "WWW-Data+x@example.com",
        "www-data@mail.example.com",
        "uid1000@example.com",
    ] {
        assert_eq!(to(&null, text), admin(), "{text}");
        let refused = to(&sender, text);
        let is_refused = matches!(
            refused,
            Err(RecipientRefusal::Unknown | RecipientRefusal::RelayDenied)
        );
        assert!(is_refused, "{text}: {refused:?}");
    }
    // An alias and a catch-all come first.
    assert_eq!(to(&null, "ann@example.com"), one("ann@gmail.com"));
    assert_eq!(to(&null, "www-data@second.example"), one("rest@gmail.com"));
    for (text, refusal) in [
        ("nobody-there@example.com", RecipientRefusal::Unknown),
        ("dead@example.com", RecipientRefusal::Unknown),
        ("www-data@far.example", RecipientRefusal::RelayDenied),
        ("www-data@away.example", RecipientRefusal::RelayDenied),
        ("www-data%far.example@example.com", RecipientRefusal::Routed),
        ("uid4294967296@example.com", RecipientRefusal::Unknown),
    ] {
        assert_eq!(to(&null, text), Err(refusal), "{text}");
    }
    let nobody = Config {
        admin: None,
        accounts: example.accounts.clone(),
        ..self::example()
    };
    let unknown = returned(
        &nobody,
        &null,
        &path("www-data@example.com"),
        RecipientRefusal::Unknown,
    );
    assert_eq!(unknown, Err(RecipientRefusal::Unknown));
}

#[test]
fn expansion_has_its_bounds() {
    let deep: String = (0..20).map(|n| format!("d{n}: d{}\n", n + 1)).collect();
    let wide: String = (0..3)
        .map(|n| {
            let list: Vec<String> = (0..60).map(|m| format!("u{n}x{m}@gmail.com")).collect();
            format!("w{n}: {}\n", list.join(","))
        })
        .collect();
    let text = format!("{deep}d20: x@gmail.com\n{wide}wide: w0, w1, w2\n");
    let config = Config::of_files(&[("domains/example.com/aliases", &text)]);
    let to = |text: &str| recipient(&config, &unauthenticated(), &path(text));
    assert_eq!(to("d0@example.com"), Err(RecipientRefusal::Loop));
    assert!(to("d15@example.com").is_ok());
    assert_eq!(to("wide@example.com"), Err(RecipientRefusal::TooWide));
    assert_eq!(to("w1@example.com").map(|targets| targets.len()), Ok(60));
}

#[test]
fn an_explanation_ends_where_the_mail_goes_for_every_client() {
    let mut config = example();
    config.accounts = crate::config::Accounts::parse("www-data:x:33:\nann:x:1000:\n");
    let clients = [
        unauthenticated(),
        RelayClient::Local { uid: 33 },
        RelayClient::User {
            login: Mailbox::parse("ann@example.com").expect("a mailbox"),
        },
        RelayClient::Network {
            address: IpAddr::from([127, 0, 0, 1]),
        },
    ];
    let locals = [
        "ann",
        "team",
        "dead",
        "up",
        "root",
        "postmaster",
        "abuse",
        "www-data",
        "nosuch",
        "a%b",
        "me",
    ];
    let domains = [
        "",
        "@example.com",
        "@second.example",
        "@away.example",
        "@mail.example.com",
        "@localhost",
        "@[127.0.0.1]",
        "@[192.0.2.1]",
        "@home.example",
    ];
    let mut taken = 0;
    for (client, local, domain) in clients.iter().flat_map(|client| {
        let of_domains = |local| domains.map(|domain| (client, local, domain));
        locals.into_iter().flat_map(of_domains).collect::<Vec<_>>()
    }) {
        let to = path(&format!("{local}{domain}"));
        let verdict = recipient(&config, client, &to);
        let explained = explain(&config, client, &to);
        let what = format!("{local}{domain} for {client:?}: {explained:?}");
        assert_eq!(explained.result, verdict, "{what}");
        let ends = |step: &Explained| matches!(step.way, Way::Sent | Way::To(_));
        let ends: Vec<&Mailbox> = (explained.steps.iter())
            .filter(|step| ends(step))
            .map(|step| &step.address)
            .collect();
        match &verdict {
            Ok(expanded) => {
                let expanded: Vec<&Mailbox> =
                    expanded.iter().map(|target| &target.mailbox).collect();
                assert_eq!(ends, expanded, "{what}");
                taken += 1;
            }
            Err(refusal) => {
                let last = explained.steps.last().map(|step| &step.way);
                let said =
                    explained.start == Err(*refusal) || last == Some(&Way::Refused(*refusal));
                assert!(said, "{what}");
            }
        }
    }
    assert!(taken > 100, "{taken}");
}

#[test]
fn a_dsn_to_an_account_without_an_alias_goes_to_the_administrator() {
    let parse = |admin: &str| {
        let aliases = "ann: ann@home.example\nroot2: x@home.example\n";
        Config::of_files(&[
            ("chopar.toml", admin),
            ("domains/example.com/aliases", aliases),
        ])
    };
    let expanded = |config: &Config, to: &str| {
        let to = Mailbox::parse(to).expect("a mailbox");
        let expanded = notification(config, &to)?;
        Ok(expanded
            .iter()
            .map(|target| target.mailbox.to_string())
            .collect())
    };
    let with = parse("admin = \"boss@home.example\"\n");
    for (to, expected) in [
        ("ann@example.com", "ann@home.example"),
        ("app@example.com", "boss@home.example"),
        ("www-data@example.com", "boss@home.example"),
        ("www-data@mail.example.com", "boss@home.example"),
        ("root@mail.example.com", "boss@home.example"),
        ("carol@far.example", "carol@far.example"),
    ] {
        assert_eq!(expanded(&with, to), Ok(vec![expected.to_owned()]), "{to}");
    }
    let without = parse("");
    assert_eq!(
        expanded(&without, "app@example.com"),
        Err(RecipientRefusal::Unknown)
    );
    let found: Result<Vec<String>, RecipientRefusal> = expanded(&without, "ann@example.com");
    assert_eq!(found, Ok(vec!["ann@home.example".to_owned()]));
}
