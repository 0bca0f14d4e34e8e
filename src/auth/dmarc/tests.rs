//! Policies, alignment and the walk up the tree, with the examples of RFC 9989.

use std::time::Duration;

use super::*;

struct Zone(Vec<(&'static str, &'static str)>);

impl Zone {
    /// TXT records; `A` stands for an address, `-` for a name without any, `!` for a server that fails.
    fn answer(&self, question: &Question) -> Answer {
        let name = question.name.as_str();
        let found: Vec<&str> = self
            .0
            .iter()
            .filter(|(owner, _)| *owner == name)
            .map(|(_, text)| *text)
            .collect();
        let records = match question.kind {
            _ if found.contains(&"!") => Err(NoRecords::ServerFailure),
            RecordKind::Txt if !found.is_empty() => Ok(Records::Txt(
                found.iter().map(|text| text.as_bytes().to_vec()).collect(),
            )),
            RecordKind::A if found.contains(&"A") => Ok(Records::A(vec![[192, 0, 2, 1].into()])),
            _ if found.contains(&"-") => Err(NoRecords::NoData),
            _ => Err(NoRecords::NoDomain),
        };
        Answer {
            records: records.map(Into::into),
            authentic: false,
            ttl: Duration::from_secs(60),
        }
    }

    /// The verdict and how many questions it took.
    fn ask(&self, author: &str, spf: Option<&str>, dkim: &[&str]) -> (DmarcVerdict, usize) {
        let domain = |text: &str| Domain::parse(text).expect("a domain");
        let (author, spf) = (domain(author), spf.map(domain));
        let dkim: Vec<Domain> = dkim.iter().map(|text| domain(text)).collect();
        let evidence = Evidence {
            author: &author,
            spf: spf.as_ref(),
            dkim: &dkim,
        };
        let mut answers = Vec::new();
        loop {
            match evaluate(&evidence, &answers) {
                Step::Done(verdict) => return (verdict, answers.len()),
                Step::Ask(questions) => {
                    for question in questions {
                        assert!(answers.iter().all(|(known, _)| *known != question));
                        let answer = self.answer(&question);
                        answers.push((question, answer));
                    }
                }
            }
        }
    }

    fn verdict(
        &self,
        author: &str,
        spf: Option<&str>,
        dkim: &[&str],
    ) -> (DmarcResult, DmarcPolicy) {
        let (verdict, _) = self.ask(author, spf, dkim);
        (verdict.outcome, verdict.policy)
    }
}

#[test]
fn a_signature_or_spf_of_the_same_organization_passes() {
    let zone = Zone(vec![("_dmarc.example.com", "v=DMARC1; p=reject")]);
    let pass = (DmarcResult::Pass, DmarcPolicy::None);
    let fail = (DmarcResult::Fail, DmarcPolicy::Reject);
    assert_eq!(zone.verdict("example.com", None, &["example.com"]), pass);
    assert_eq!(zone.verdict("example.com", Some("example.com"), &[]), pass);
    assert_eq!(
        zone.verdict("example.com", Some("mail.example.com"), &[]),
        pass
    );
    assert_eq!(
        zone.verdict("news.example.com", None, &["mail.example.com"]),
        pass
    );
    assert_eq!(
        zone.verdict("example.com", Some("example.net"), &["example.org"]),
        fail
    );
    assert_eq!(zone.verdict("example.com", None, &["notexample.com"]), fail);
    assert_eq!(
        zone.verdict("example.org", None, &["example.org"]),
        (DmarcResult::None, DmarcPolicy::None)
    );
}

#[test]
fn strict_alignment_wants_the_same_name() {
    let zone = Zone(vec![(
        "_dmarc.example.com",
        "v=DMARC1; p=reject; adkim=s; aspf=S",
    )]);
    let fail = (DmarcResult::Fail, DmarcPolicy::Reject);
    assert_eq!(
        zone.verdict(
            "example.com",
            Some("mail.example.com"),
            &["mail.example.com"]
        ),
        fail
    );
    assert_eq!(
        zone.verdict("example.com", None, &["example.com"]).0,
        DmarcResult::Pass
    );
}

#[test]
fn subdomains_and_those_that_do_not_exist_have_policies_of_their_own() {
    let zone = Zone(vec![
        (
            "_dmarc.example.com",
            "v=DMARC1; p=none; sp=quarantine; np=reject",
        ),
        ("here.example.com", "A"),
        ("bare.example.com", "-"),
        ("_dmarc.own.example.com", "v=DMARC1; p=none"),
    ]);
    let verdict = |author| zone.verdict(author, None, &[]).1;
    assert_eq!(verdict("example.com"), DmarcPolicy::None);
    assert_eq!(verdict("here.example.com"), DmarcPolicy::Quarantine);
    assert_eq!(verdict("bare.example.com"), DmarcPolicy::Quarantine);
    assert_eq!(verdict("gone.example.com"), DmarcPolicy::Reject);
    assert_eq!(verdict("own.example.com"), DmarcPolicy::None);
    let zone = Zone(vec![("_dmarc.example.com", "v=DMARC1; p=reject")]);
    assert_eq!(
        zone.verdict("gone.example.com", None, &[]).1,
        DmarcPolicy::Reject
    );
}

#[test]
fn a_policy_that_is_tested_is_one_step_milder() {
    for (record, policy) in [
        ("v=DMARC1; p=reject; t=y", DmarcPolicy::Quarantine),
        ("v=DMARC1; p=quarantine; t=y", DmarcPolicy::None),
        ("v=DMARC1; p=reject; t=n", DmarcPolicy::Reject),
        ("v=DMARC1; p=reject; pct=0", DmarcPolicy::Quarantine),
        ("v=DMARC1; p=reject; pct=0; t=moo", DmarcPolicy::Quarantine),
        ("v=DMARC1; p=reject; pct=0; t=n", DmarcPolicy::Reject),
        ("v=DMARC1; p=reject; pct=100", DmarcPolicy::Reject),
    ] {
        let zone = Zone(vec![("_dmarc.example.com", record)]);
        assert_eq!(zone.verdict("example.com", None, &[]).1, policy, "{record}");
    }
}

#[test]
fn records_that_say_nothing_are_none() {
    for record in [
        "v=DMARC1",
        "v=DMARC1; p=moo",
        "v=dmarc1; p=reject",
        "p=reject; v=DMARC1",
        "v=DMARC1; p=reject; sp=moo",
        "v=DMARC1 p=reject",
    ] {
        let zone = Zone(vec![("_dmarc.example.com", record)]);
        assert_eq!(
            zone.verdict("example.com", None, &[]).0,
            DmarcResult::None,
            "{record}"
        );
    }
    // One that asks for reports has a policy, of none.
    let zone = Zone(vec![(
        "_dmarc.example.com",
        "v=DMARC1; p=moo; rua=mailto:r@example.com",
    )]);
    assert_eq!(
        zone.verdict("example.com", None, &[]),
        (DmarcResult::Fail, DmarcPolicy::None)
    );
    // Two of them are none, another text beside one is not.
    let zone = Zone(vec![
        ("_dmarc.example.com", "v=DMARC1; p=reject"),
        ("_dmarc.example.com", "v=DMARC1; p=none"),
    ]);
    assert_eq!(zone.verdict("example.com", None, &[]).0, DmarcResult::None);
    let zone = Zone(vec![
        ("_dmarc.example.com", "v=DMARC1; p=reject"),
        ("_dmarc.example.com", "something else"),
    ]);
    assert_eq!(zone.verdict("example.com", None, &[]).0, DmarcResult::Fail);
}

#[test]
fn tags_that_cannot_be_read_are_ignored_and_the_rest_holds() {
    for record in [
        "v=DMARC1; p=reject; adkim",
        "v=DMARC1;; p=reject; ;",
        "v=DMARC1; p=reject; rua=mailto:\u{e9}@example.com",
        "v=DMARC1; p=reject; n=\u{1}",
        "v=DMARC1; p=reject; aspf=moo; 1=2; =",
    ] {
        let zone = Zone(vec![("_dmarc.example.com", record)]);
        assert_eq!(
            zone.verdict("example.com", Some("mail.example.com"), &[]).0,
            DmarcResult::Pass,
            "{record}"
        );
        assert_eq!(
            zone.verdict("example.com", None, &[]).1,
            DmarcPolicy::Reject,
            "{record}"
        );
    }
    // But a list with a name twice is invalid as a whole (RFC 6376 section 3.2), also where a value cannot be read; and
    // so is a policy that cannot be read (RFC 9989 section 4.10.1).
    for record in [
        "v=DMARC1; p=none; p=reject",
        "v=DMARC1; p=reject; n=\u{e9}; n=1",
        "v=DMARC1; p=reject; n=1; n=\u{e9}",
        "v=DMARC1; p=reject; sp=\u{e9}",
    ] {
        let zone = Zone(vec![("_dmarc.example.com", record)]);
        assert_eq!(
            zone.verdict("example.com", None, &[]).0,
            DmarcResult::None,
            "{record}"
        );
    }
}

#[test]
fn a_record_that_says_nothing_hides_that_of_the_organization() {
    let zone = Zone(vec![
        ("_dmarc.example.com", "v=DMARC1; p=reject"),
        ("_dmarc.sub.example.com", "v=DMARC1; p=moo"),
        ("_dmarc.other.example.com", "v=spf1 -all"),
    ]);
    assert_eq!(
        zone.verdict("sub.example.com", None, &[]).0,
        DmarcResult::None
    );
    assert_eq!(
        zone.verdict("other.example.com", None, &[]).1,
        DmarcPolicy::Reject
    );
}

#[test]
fn an_organization_ends_where_its_records_say() {
    // A registry: what stands one label below it is an organization.
    let zone = Zone(vec![
        ("_dmarc.giant.bank.example", "v=DMARC1; p=reject"),
        ("_dmarc.bank.example", "v=DMARC1; p=reject; psd=y"),
    ]);
    assert_eq!(
        zone.verdict("giant.bank.example", None, &["mail.giant.bank.example"])
            .0,
        DmarcResult::Pass
    );
    assert_eq!(
        zone.verdict("giant.bank.example", None, &["other.bank.example"])
            .0,
        DmarcResult::Fail
    );
    assert_eq!(
        zone.verdict("giant.bank.example", None, &["bank.example"])
            .0,
        DmarcResult::Fail
    );
    // Without a record of its own the registry's holds.
    let (verdict, _) = zone.ask("small.bank.example", None, &[]);
    assert_eq!(
        verdict.record.map(|domain| domain.to_string()).as_deref(),
        Some("bank.example")
    );
    // A part of an organization that stands for itself.
    let zone = Zone(vec![
        ("_dmarc.apart.example.com", "v=DMARC1; p=reject; psd=n"),
        ("_dmarc.example.com", "v=DMARC1; p=reject"),
    ]);
    assert_eq!(
        zone.verdict("apart.example.com", None, &["example.com"]).0,
        DmarcResult::Fail
    );
    assert_eq!(
        zone.verdict("a.apart.example.com", None, &["apart.example.com"])
            .0,
        DmarcResult::Pass
    );
    assert_eq!(
        zone.verdict("example.com", None, &["apart.example.com"]).0,
        DmarcResult::Fail
    );
}

#[test]
fn a_walk_is_short_however_long_the_name() {
    // RFC 9989 section 4.10: eight questions, the second of them for the last seven labels.
    let zone = Zone(vec![("_dmarc.example.com", "v=DMARC1; p=reject")]);
    let (verdict, asked) = zone.ask("a.b.c.d.e.f.g.h.i.j.mail.example.com", None, &[]);
    assert_eq!((verdict.outcome, asked), (DmarcResult::Fail, 8));
    let name = Domain::parse("a.b.c.d.e.f.g.h.i.j.mail.example.com").expect("a name");
    assert_eq!(
        above(&name).map(|name| name.to_string()).as_deref(),
        Some("g.h.i.j.mail.example.com")
    );
    let (_, asked) = Zone(vec![]).ask("example.com", None, &[]);
    assert_eq!(asked, 2);
}

#[test]
fn a_server_that_fails_is_asked_again_later() {
    let zone = Zone(vec![("_dmarc.example.com", "!")]);
    assert_eq!(
        zone.verdict("example.com", None, &[]).0,
        DmarcResult::TempError
    );
}

#[test]
fn one_that_is_aligned_is_enough_although_the_dns_fails_for_another() {
    let zone = Zone(vec![
        ("_dmarc.example.com", "v=DMARC1; p=reject"),
        ("_dmarc.mail.example.com", "!"),
    ]);
    let verdict = |dkim: &[&str]| {
        zone.verdict("example.com", Some("mail.example.com"), dkim)
            .0
    };
    assert_eq!(verdict(&["example.com"]), DmarcResult::Pass);
    assert_eq!(verdict(&["example.net"]), DmarcResult::TempError);
}
