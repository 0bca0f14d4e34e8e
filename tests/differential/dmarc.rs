//! DMARC over policy records of all kinds: whether a message passes, why, and the policy if it does not.
//!
//! A rule here rewrites records as its sentence says they should be read. It explains a difference if chopar's result
//! is the same before and after, and mail-auth then agrees.

mod rules;

use std::fmt;

use chopar::address::Domain;
use chopar::auth::dmarc::{DmarcPolicy, DmarcResult, Evidence, evaluate};
use chopar::dns::NoRecords;
use mail_auth::DmarcResult as PeerDmarcResult;

use crate::chance::Chance;
use crate::peer::Peer;
use crate::tally::Tally;
use crate::zone::Zone;
use rules::RULES;

const MESSAGES: usize = 8_000;

#[test]
fn policies() {
    let mut chance = Chance::new(9989);
    let mut tally = Tally::new("DMARC", RULES);
    for _ in 0..MESSAGES {
        let case = Case::new(&mut chance);
        tally.case();
        tally.compare(&case.ours(&case.zone), &case.theirs(&case.zone), &case);
    }
    tally.finish(MESSAGES);
}

/// A message's identifiers, and the DNS.
struct Case {
    author: Domain,
    spf: Option<Domain>,
    dkim: Vec<Domain>,
    zone: Zone,
}

/// The result, in the terms of both implementations.
#[derive(Eq, PartialEq)]
struct Said {
    outcome: &'static str,
    /// The policy if it failed.
    policy: &'static str,
    spf: bool,
    dkim: bool,
}

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.outcome)?;
        match (self.outcome, self.spf, self.dkim) {
            ("fail", ..) => write!(out, " {}", self.policy),
            (_, true, true) => out.write_str(" by both"),
            (_, true, false) => out.write_str(" by SPF"),
            (_, false, true) => out.write_str(" by DKIM"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{} spf={:?} dkim={:?} hosts={:?}",
            self.author, self.spf, self.dkim, self.zone.hosts
        )?;
        for (name, texts) in &self.zone.texts {
            match texts {
                Ok(texts) => {
                    for text in texts {
                        writeln!(out, "  {name} {}", text.escape_ascii())?;
                    }
                }
                Err(why) => writeln!(out, "  {name} {why:?}")?,
            }
        }
        Ok(())
    }
}

impl Case {
    fn new(chance: &mut Chance) -> Self {
        let domain = |text| Domain::parse(text).expect("a domain");
        let author = domain(chance.word(NAMES));
        let spf = chance.once_in(2).then(|| domain(chance.word(NAMES)));
        let dkim = (0..chance.below(3))
            .map(|_| domain(chance.word(NAMES)))
            .collect();
        let mut zone = Zone::default();
        for name in NAMES.iter().chain(&["test"]) {
            if chance.once_in(3) {
                zone.hosts.push((*name).to_owned());
            }
            let texts = match chance.below(24) {
                0..9 => Ok(vec![record(chance)]),
                9 => Ok(vec![record(chance), record(chance)]),
                10 => Ok(vec![b"v=spf1 -all".to_vec(), record(chance)]),
                11 if chance.once_in(4) => Err(NoRecords::ServerFailure),
                12 => Err(NoRecords::NoData),
                _ => continue,
            };
            zone.texts.insert(format!("_dmarc.{name}"), texts);
        }
        Self {
            author,
            spf,
            dkim,
            zone,
        }
    }

    fn ours(&self, zone: &Zone) -> Said {
        let evidence = Evidence {
            author: &self.author,
            spf: self.spf.as_ref(),
            dkim: &self.dkim,
        };
        let verdict = zone.drive(|answers| evaluate(&evidence, answers));
        Said {
            outcome: verdict.outcome.as_str(),
            policy: match verdict.outcome {
                DmarcResult::Fail => verdict.policy.as_str(),
                _ => DmarcPolicy::None.as_str(),
            },
            spf: verdict.spf,
            dkim: verdict.dkim,
        }
    }

    fn theirs(&self, zone: &Zone) -> Said {
        thread_local!(static PEER: Peer = Peer::new());
        let output =
            PEER.with(|peer| peer.dmarc(&self.author, self.spf.as_ref(), &self.dkim, zone));
        let outcome = match output.result() {
            PeerDmarcResult::Pass => "pass",
            PeerDmarcResult::Fail(_) => "fail",
            PeerDmarcResult::TempError(_) => "temperror",
            PeerDmarcResult::PermError(_) => "permerror",
            PeerDmarcResult::None => "none",
        };
        Said {
            outcome,
            policy: match (outcome, output.policy()) {
                ("fail", mail_auth::dmarc::Policy::Reject) => "reject",
                ("fail", mail_auth::dmarc::Policy::Quarantine) => "quarantine",
                _ => "none",
            },
            spf: output.spf_result() == &PeerDmarcResult::Pass,
            dkim: output.dkim_result() == &PeerDmarcResult::Pass,
        }
    }

    /// Whether mail-auth agrees with chopar's result once the records are repaired.
    fn agrees_after(&self, repairs: &[Repair]) -> bool {
        let mut zone = self.zone.clone();
        for texts in zone.texts.values_mut().flatten() {
            for repair in repairs {
                *texts = repair(std::mem::take(texts));
            }
        }
        let changed = zone.texts != self.zone.texts;
        let said = self.ours(&self.zone);
        changed && self.ours(&zone) == said && self.theirs(&zone) == said
    }
}

/// Rewrites the TXT records of a name as they should be read.
type Repair = fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>;

fn record(chance: &mut Chance) -> Vec<u8> {
    let mut tags: Vec<String> = Vec::new();
    for (rare, words) in TAGS {
        if chance.once_in(*rare) {
            tags.push(chance.word(words).to_owned());
        }
    }
    if chance.once_in(12) {
        tags.retain(|tag| !tag.starts_with("p="));
    }
    chance.shuffle(&mut tags);
    if chance.once_in(40) {
        let again = chance.word(&["p=none", "p=reject", "sp=none", "psd=y", "v=DMARC1", "n=1"]);
        tags.push(again.to_owned());
    }
    let version = match chance.below(20) {
        0 => chance.word(&[
            "v=dmarc1",
            "V=DMARC1",
            "v=DM ARC1",
            "v=DMARC2",
            "v=DMARC1 p=reject",
            "p=none",
        ]),
        1 => "v = DMARC1",
        _ => "v=DMARC1",
    };
    tags.insert(0, version.to_owned());
    let between = chance.word(&[";", "; ", " ; ", ";\t"]);
    let mut text = tags.join(between) + chance.word(&["", ";", " "]);
    if chance.once_in(30) {
        text = text.replace('=', " = ");
    }
    text.into_bytes()
}

const NAMES: &[&str] = &[
    "example.test",
    "a.example.test",
    "b.a.example.test",
    "c.b.a.example.test",
    "mail.example.test",
    "gone.example.test",
    "1.2.3.4.5.6.7.8.mail.example.test",
    "other.test",
    "a.other.test",
    "notexample.test",
];
/// Values of tags; each entry is used one time in this many.
const TAGS: &[(usize, &[&str])] = &[
    (
        1,
        &[
            "p=none",
            "p=quarantine",
            "p=reject",
            "p=reject",
            "p=REJECT",
            "p=reject",
            "p=quarantine",
        ],
    ),
    (30, &["p=moo", "sp=moo", "np=", "np=rejected", "sp=\u{e9}"]),
    (3, &["sp=none", "sp=quarantine", "sp=reject"]),
    (4, &["np=none", "np=quarantine", "np=reject"]),
    (4, &["adkim=s", "adkim=r", "adkim=S", "adkim=s"]),
    (4, &["aspf=s", "aspf=r", "aspf=S", "aspf=s"]),
    (8, &["t=y", "t=n", "t=Y"]),
    (9, &["psd=y", "psd=n", "psd=u", "psd=n"]),
    (
        5,
        &[
            "rua=mailto:a@example.test",
            "rua=mailto:a@example.test!10m,mailto:b@example.test",
        ],
    ),
    (12, &["rua=https://example.test/", "rua=nowhere"]),
    (
        9,
        &["fo=1", "fo=d:s", "ri=3600", "rf=afrf", "pct=100", "x=1"],
    ),
    (40, &["pct=0", "pct=50"]),
    (
        40,
        &[
            "adkim=x",
            "aspf=strict",
            "fo=9",
            "t=maybe",
            "psd=x",
            "sp",
            "n=\u{e9}",
        ],
    ),
    (60, &["SP=none", "PSD=n", "Adkim=s"]),
];
