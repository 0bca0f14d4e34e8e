//! What each kind of client may do, and that nothing leaves on no authority.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::auth::dkim::verdict::{DkimFailure, SignatureVerdict};
use crate::config::{Folder, SystemDefaults};
use crate::date::Timestamp;
use crate::mail::header::Header;
use crate::policy::authenticity::{Examination, ExaminationStep, MessageContext};
use crate::policy::relay;

fn config() -> Config {
    let mut folder = Folder::default();
    let toml = "admin = \"me@far.example\"\n[relay]\nnetworks = [\"10.0.0.0/8\"]\n[proxy]\nnetworks = [\"10.0.0.1\"]\n\
                [domain.\"lax.example\"]\ndmarc = \"off\"\n";
    let files = [
        ("chopar.toml", toml),
        (
            "domains/us.example/aliases",
            "ann: ann@far.example\nbox: maildir:/var/mail/box\nrua: reports:\n",
        ),
        (
            "domains/lax.example/aliases",
            "bob: bob@far.example\nin: box@us.example\nout: ann@us.example\n",
        ),
    ];
    for (path, text) in files {
        folder.insert_file(path, text.into());
    }
    let defaults = SystemDefaults {
        hostname: "mx.host.example".to_owned(),
        resolv_conf: String::new(),
    };
    Config::parse(&folder, &defaults).expect("a configuration")
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("a mailbox")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn client(kind: u8) -> RelayClient {
    match kind {
        0 => RelayClient::Anonymous {
            address: address("203.0.113.1"),
        },
        1 => RelayClient::Network {
            address: address("10.0.0.9"),
        },
        2 => RelayClient::User {
            login: mailbox("ann@us.example"),
        },
        _ => RelayClient::Local { uid: 33 },
    }
}

/// An address of ours that leads to somebody elsewhere.
fn returned(maker: Maker) -> Returned {
    Returned {
        sender: mailbox("first@source.example"),
        maker,
        id: 7,
    }
}

fn grant(
    config: &Config,
    client: &RelayClient,
    sender: &ReversePath,
    name: &str,
) -> Result<Grant, AuthorityRefusal> {
    let to = ForwardPath::Mailbox(mailbox(name));
    if !name.starts_with("SRS0") {
        let expanded = relay::recipient(config, client, &to);
        return expanded
            .map(|expanded| Grant::new(config, client, &to, &expanded))
            .map_err(|_| AuthorityRefusal::Withdrawn);
    }
    let maker = match name.starts_with("SRS0=old") {
        true => Maker::Old,
        false => Maker::Present,
    };
    let returned = returned(maker);
    let expanded = [ExpandedRecipient {
        mailbox: returned.sender.clone(),
        destination: None,
        forwarder: Some(domain("us.example")),
    }];
    Grant::of_return(config, client, sender, &to, &returned, &expanded)
}

fn path(text: &str) -> ReversePath {
    ReversePath::parse(text).expect("a path")
}

fn recipients(count: usize) -> Vec<Recipient> {
    (0..count)
        .map(|number| {
            let mailbox = mailbox(&format!("to{number}@far.example"));
            Recipient::new(mailbox, Notify::Default, None)
        })
        .collect()
}

/// Findings about a message of which nothing is known.
fn nothing() -> Findings {
    let at = Timestamp::from_seconds(1_790_000_000);
    let known = MessageContext {
        address: None,
        login: None,
        helo: "".into(),
        path: "".into(),
        receiver: domain("mx.host.example"),
        at,
        dmarc: Dmarc::Off,
    };
    let header = b"From: a@other.example\r\n".to_vec();
    let header = Arc::new(Header::parse(header).expect("a header"));
    match Examination::new(&header, at).resume(&header, &known) {
        ExaminationStep::Done(findings) => *findings,
        _ => panic!("something is missing"),
    }
}

fn spf_found(outcome: spf::SpfResult, of: &str) -> Option<spf::SpfVerdict> {
    Some(spf::SpfVerdict {
        outcome,
        domain: Some(domain(of)),
        mechanism: None,
        cause: None,
        explanation: None,
    })
}

fn signature(of: &str, outcome: Result<(), DkimFailure>) -> SignatureVerdict {
    SignatureVerdict {
        domain: Some(domain(of)),
        selector: None,
        algorithm: None,
        b_start: None,
        testing: false,
        partial: None,
        outcome,
    }
}

const NAMES: [&str; 5] = [
    "us.example",
    "sub.us.example",
    "mx.host.example",
    "author.example",
    "lax.example",
];

fn findings() -> impl Strategy<Value = Findings> {
    let name = || (0..NAMES.len()).prop_map(|at| NAMES[at]);
    let spf = proptest::option::of((0..4_u8, name()));
    let dkim = proptest::collection::vec((0..3_u8, name()), 0..3);
    let authors = proptest::collection::vec(name(), 0..3);
    let dmarc = proptest::option::of((0..6_u8, name()));
    (spf, dkim, authors, dmarc, proptest::bool::weighted(0.2)).prop_map(
        |(spf, dkim, authors, dmarc, ambiguous)| {
            let spf = spf.and_then(|(kind, of)| match kind {
                0 | 1 => spf_found(spf::SpfResult::Pass, of),
                2 => spf_found(spf::SpfResult::Fail, of),
                _ => spf_found(spf::SpfResult::TempError, of),
            });
            let dkim = dkim.into_iter().map(|(kind, of)| match kind {
                0 => signature(of, Ok(())),
                1 => signature(of, Err(DkimFailure::BodyHash)),
                _ => signature(of, Err(DkimFailure::KeyUnavailable)),
            });
            let dmarc = dmarc.map(|(kind, of)| {
                let (outcome, policy) = match kind {
                    0 => (dmarc::DmarcResult::Pass, dmarc::DmarcPolicy::None),
                    1 => (dmarc::DmarcResult::None, dmarc::DmarcPolicy::None),
                    2 => (dmarc::DmarcResult::TempError, dmarc::DmarcPolicy::None),
                    3 => (dmarc::DmarcResult::Fail, dmarc::DmarcPolicy::None),
                    4 => (dmarc::DmarcResult::Fail, dmarc::DmarcPolicy::Quarantine),
                    _ => (dmarc::DmarcResult::Fail, dmarc::DmarcPolicy::Reject),
                };
                let verdict = dmarc::DmarcVerdict {
                    outcome,
                    policy,
                    record: None,
                    spf: false,
                    dkim: false,
                    aligns: None,
                };
                (domain(of), verdict)
            });
            Findings {
                spf,
                dkim: dkim.collect(),
                authors: authors.into_iter().map(domain).collect(),
                dmarc: Vec::from_iter(dmarc),
                ambiguous,
                ..nothing()
            }
        },
    )
}

/// Whether something that passed is of this name, or of one above or below it.
fn is_shown(found: &Findings, name: &str) -> bool {
    let spf = found.spf.iter();
    let spf = spf.filter(|spf| spf.outcome == spf::SpfResult::Pass);
    let spf = spf.filter_map(|spf| spf.domain.clone());
    let dkim = found.dkim.iter().filter(|one| one.outcome.is_ok());
    let dkim = dkim.filter_map(|one| one.domain.clone());
    spf.chain(dkim).any(|shown| {
        let shown = shown.as_str();
        let above = |one: &str, other: &str| one.ends_with(&format!(".{other}"));
        shown == name || above(shown, name) || above(name, shown)
    })
}

const TO: [&str; 7] = [
    "ann@us.example",
    "box@us.example",
    "bob@lax.example",
    "root@mx.host.example",
    "x@elsewhere.example",
    "SRS0=new@us.example",
    "SRS0=old@us.example",
];
const PATHS: [&str; 4] = ["", "x@us.example", "x@author.example", "x@sub.us.example"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_on_no_authority(
        kinds in (0..4_u8, proptest::option::weighted(0.1, 0..4_u8)),
        to in proptest::collection::vec(0..TO.len(), 1..4),
        sender in 0..PATHS.len(),
        more in proptest::bool::weighted(0.1),
        found in proptest::option::weighted(0.9, findings()),
    ) {
        let config = config();
        let (first, sender) = (client(kinds.0), path(PATHS[sender]));
        let now = kinds.1.map_or(first.clone(), client);
        let mut grants = Grants::default();
        let mut count = 0;
        let mut named = Vec::new();
        for name in to.into_iter().map(|at| TO[at]) {
            let grant = grant(&config, &first, &sender, name);
            let grant = grant.and_then(|grant| grants.may_add(&grant).map(|()| grant));
            // What a client without authority of its own may name at all.
            let elsewhere = name.ends_with("@elsewhere.example");
            let old = name.starts_with("SRS0=old") && !sender.is_null();
            if kinds.0 == 0 && (elsewhere || old) {
                prop_assert!(grant.is_err(), "{name}");
            }
            if let Ok(grant) = grant {
                count += 1;
                grants.add(grant, count);
                named.push(name);
            }
        }
        let case = Case { config: &config, client: &now, grants: &grants, findings: found.as_ref() };
        let result = case.release(sender.clone(), recipients(count + usize::from(more)));
        let Ok(released) = result else {
            return Ok(());
        };
        prop_assert!(!more && count > 0 && released.recipients().len() == count);
        if kinds.0 != 0 {
            prop_assert!(std::mem::discriminant(&first) == std::mem::discriminant(&now));
            return Ok(());
        }
        let Some(found) = found else {
            panic!("without an examination");
        };
        let leaving = named.iter().any(|name| *name != "box@us.example");
        let claimed: Vec<&str> = found.authors.iter().map(Domain::as_str)
            .chain(sender.mailbox().map(|mailbox| mailbox.domain().as_str()))
            .collect();
        if leaving {
            prop_assert!(!found.ambiguous);
            for name in claimed.into_iter().filter(|name| *name != "author.example") {
                prop_assert!(is_shown(&found, name), "{name}");
            }
        }
        let is_return = named.iter().any(|name| name.starts_with("SRS0"));
        if let (true, Some(sender)) = (is_return, sender.mailbox()) {
            prop_assert!(is_shown(&found, sender.domain().as_str()));
        }
        let strict = named.iter().any(|name| *name != "bob@lax.example");
        if let (true, Some((author, verdict))) = (strict, found.dmarc.first()) {
            prop_assert!(verdict.policy != dmarc::DmarcPolicy::Reject);
            let unknown = verdict.outcome == dmarc::DmarcResult::TempError;
            prop_assert!(!(leaving && unknown) || is_shown(&found, author.as_str()));
        }
    }
}

fn outcome(to: &[&str], from: &str, found: Option<&Findings>) -> Result<Mark, AuthorityRefusal> {
    let config = config();
    let (client, sender) = (client(0), path(from));
    let mut grants = Grants::default();
    for (count, name) in (1..).zip(to) {
        let grant = grant(&config, &client, &sender, name)?;
        grants.may_add(&grant)?;
        grants.add(grant, count);
    }
    let case = Case {
        config: &config,
        client: &client,
        grants: &grants,
        findings: found,
    };
    let released = case.release(sender, recipients(to.len()));
    released.map(|released| released.mark())
}

#[test]
fn an_examination_decides_and_one_that_is_missing_is_ours() {
    let clean = nothing();
    for name in ["ann@us.example", "box@us.example", "SRS0=new@us.example"] {
        assert_eq!(
            outcome(&[name], "", Some(&clean)),
            Ok(Mark::Clean),
            "{name}"
        );
        assert_eq!(
            outcome(&[name], "", None),
            Err(AuthorityRefusal::Unexamined)
        );
    }
    let verdict = |outcome, policy| dmarc::DmarcVerdict {
        outcome,
        policy,
        record: None,
        spf: false,
        dkim: false,
        aligns: None,
    };
    let bank = domain("bank.example");
    let failed = Findings {
        dmarc: vec![(
            bank.clone(),
            verdict(dmarc::DmarcResult::Fail, dmarc::DmarcPolicy::Reject),
        )],
        ..nothing()
    };
    let refused = Err(AuthorityRefusal::Dmarc(Some(bank.clone())));
    for name in [
        "ann@us.example",
        "box@us.example",
        "root@mx.host.example",
        "SRS0=new@us.example",
    ] {
        assert_eq!(outcome(&[name], "", Some(&failed)), refused, "{name}");
    }
    assert_eq!(
        outcome(&["bob@lax.example"], "", Some(&failed)),
        Ok(Mark::Clean)
    );
    // A lax domain is no way into a strict one, nor out by it.
    for name in ["in@lax.example", "out@lax.example"] {
        assert_eq!(outcome(&[name], "", Some(&failed)), refused, "{name}");
    }
    let unknown = Findings {
        dmarc: vec![(
            bank,
            verdict(dmarc::DmarcResult::TempError, dmarc::DmarcPolicy::None),
        )],
        ..nothing()
    };
    let ann = ["ann@us.example"];
    assert_eq!(
        outcome(&ann, "", Some(&unknown)),
        Err(AuthorityRefusal::Open)
    );
    assert_eq!(
        outcome(&["box@us.example"], "", Some(&unknown)),
        Ok(Mark::Clean)
    );
}

#[test]
fn a_return_address_is_for_notifications_and_for_those_whom_something_vouches_for() {
    let new = ["SRS0=new@us.example"];
    let from = "auto@author.example";
    let vouched = Findings {
        spf: spf_found(spf::SpfResult::Pass, "author.example"),
        ..nothing()
    };
    let open = Findings {
        spf: spf_found(spf::SpfResult::TempError, "author.example"),
        ..nothing()
    };
    let clean = nothing();
    assert_eq!(outcome(&new, "", Some(&clean)), Ok(Mark::Clean));
    assert_eq!(
        outcome(&new, from, Some(&clean)),
        Err(AuthorityRefusal::Unvouched)
    );
    assert_eq!(
        outcome(&new, from, Some(&open)),
        Err(AuthorityRefusal::Open)
    );
    assert_eq!(outcome(&new, from, Some(&vouched)), Ok(Mark::Clean));
    let old = ["SRS0=old@us.example"];
    assert_eq!(outcome(&old, "", Some(&clean)), Ok(Mark::Clean));
    assert_eq!(
        outcome(&old, from, Some(&vouched)),
        Err(AuthorityRefusal::NullSenderOnly)
    );
}

#[test]
fn who_has_a_name_under_a_domain_does_not_answer_for_it() {
    let below = Findings {
        dkim: vec![signature("sub.author.example", Ok(()))],
        ..nothing()
    };
    let from = "auto@author.example";
    let new = ["SRS0=new@us.example"];
    assert_eq!(
        outcome(&new, from, Some(&below)),
        Err(AuthorityRefusal::Unvouched)
    );
    let above = "auto@sub.sub.author.example";
    assert_eq!(outcome(&new, above, Some(&below)), Ok(Mark::Clean));

    let config = config();
    let (client, ann) = (client(0), path("x@us.example"));
    let grant = grant(&config, &client, &ann, "box@us.example").expect("served");
    let mut grants = Grants::default();
    grants.add(grant, 1);
    for (sender, notify, returned) in [
        (from, Notify::Once, Some(DsnReturn::Headers)),
        (above, Notify::Default, Some(DsnReturn::Full)),
    ] {
        let case = Case {
            config: &config,
            client: &client,
            grants: &grants,
            findings: Some(&below),
        };
        let released = case
            .release(path(sender), recipients(1))
            .expect("a release");
        assert_eq!(released.recipients()[0].notify, notify, "{sender}");
        let asked = Some(DsnReturn::Full);
        assert_eq!(released.dsn_return(asked), returned, "{sender}");
    }
}

#[test]
fn an_author_who_would_pass_by_a_name_of_ours_is_not_lent_it() {
    use dmarc::Alignment::{Relaxed, Strict};
    let found = |aligns: Option<(&str, dmarc::Alignment)>, outcome| Findings {
        dmarc: vec![(
            domain("host.example"),
            dmarc::DmarcVerdict {
                outcome,
                policy: dmarc::DmarcPolicy::None,
                record: None,
                spf: false,
                dkim: false,
                aligns: aligns.map(|(name, alignment)| (domain(name), alignment)),
            },
        )],
        authors: vec![domain("host.example")],
        ..nothing()
    };
    let spoofing = Err(AuthorityRefusal::OwnDomainSpoofed(domain("host.example")));
    let failed = dmarc::DmarcResult::Fail;
    // The name of this host is mx.host.example.
    for to in ["ann@us.example", "bob@lax.example", "SRS0=new@us.example"] {
        for (aligns, outcome_, expected) in [
            (Some(("host.example", Relaxed)), failed, spoofing.clone()),
            (Some(("host.example", Strict)), failed, Ok(Mark::Clean)),
            (Some(("mx.host.example", Strict)), failed, spoofing.clone()),
            (Some(("x.host.example", Relaxed)), failed, Ok(Mark::Clean)),
            (
                Some(("host.example", Relaxed)),
                dmarc::DmarcResult::Pass,
                Ok(Mark::Clean),
            ),
            (
                None,
                dmarc::DmarcResult::TempError,
                Err(AuthorityRefusal::Open),
            ),
        ] {
            let found = found(aligns, outcome_);
            assert_eq!(
                outcome(&[to], "", Some(&found)),
                expected,
                "{to}, {aligns:?}"
            );
        }
    }
    let clear = found(Some(("host.example", Relaxed)), failed);
    assert_eq!(
        outcome(&["box@us.example"], "", Some(&clear)),
        Ok(Mark::Clean)
    );
}

#[test]
fn only_recipients_that_were_accepted_have_a_say() {
    let config = config();
    let (client, sender) = (client(0), ReversePath::Null);
    let strict = grant(&config, &client, &sender, "ann@us.example").expect("served");
    let lax = grant(&config, &client, &sender, "bob@lax.example").expect("served");
    let mut grants = Grants::default();
    grants.add(lax.clone(), 1);
    assert_eq!(grants.rules(&config).0, Dmarc::Off);
    grants.add(strict.clone(), 2);
    assert_eq!(grants.rules(&config).0, Dmarc::Enforce);
    // The same ones again and again take no room.
    for _ in 0..10 {
        grants.add(lax.clone(), 2);
        grants.add(strict.clone(), 2);
    }
    assert_eq!(grants.runs.len(), 2);
}

#[test]
fn a_proxy_has_no_authority_on_the_port_for_proxies() {
    let config = config();
    let host = |door, text| RelayClient::host(&config, door, address(text)).is_trusted();
    assert!(host(ArrivalPort::Proxy, "10.0.0.9") && host(ArrivalPort::Direct, "10.0.0.9"));
    assert!(host(ArrivalPort::Direct, "::ffff:10.0.0.9") && host(ArrivalPort::Direct, "10.0.0.1"));
    for text in [
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "203.0.113.1",
        "0.0.0.0",
        "::",
    ] {
        assert!(!host(ArrivalPort::Proxy, text), "{text}");
    }
}

#[test]
fn what_comes_for_reports_is_subject_to_what_holds_for_mail_that_leaves() {
    let (config, client) = (config(), client(0));
    let sender = path("a@source.example");
    for (name, expected) in [
        ("ann@us.example", true),
        ("rua@us.example", true),
        ("box@us.example", false),
    ] {
        let mut grants = Grants::default();
        let grant = grant(&config, &client, &sender, name).expect("a grant");
        grants.add(grant, 1);
        assert_eq!(grants.leaves(), expected, "{name}");
    }
}
