//! DMARC over policy records in all shapes: whether a message passes, why, and what is to be done where it does not.
//!
//! A rule here repairs records as its sentence says they are to be read. It explains a difference if chopar says the
//! same before and after, and mail-auth then agrees.

use std::fmt;

use chopar::address::Domain;
use chopar::auth::dmarc::{Evidence, Outcome, Policy, evaluate};
use chopar::dns::NoRecords;
use mail_auth::DmarcResult;

use crate::chance::Chance;
use crate::peer::Peer;
use crate::tally::{Rule, Tally};
use crate::zone::Zone;

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

/// What a message shows, and the DNS.
struct Case {
    author: Domain,
    spf: Option<Domain>,
    dkim: Vec<Domain>,
    zone: Zone,
}

/// What both can say.
#[derive(Eq, PartialEq)]
struct Said {
    outcome: &'static str,
    /// Where it failed.
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
                Outcome::Fail => verdict.policy.as_str(),
                _ => Policy::None.as_str(),
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
            DmarcResult::Pass => "pass",
            DmarcResult::Fail(_) => "fail",
            DmarcResult::TempError(_) => "temperror",
            DmarcResult::PermError(_) => "permerror",
            DmarcResult::None => "none",
        };
        Said {
            outcome,
            policy: match (outcome, output.policy()) {
                ("fail", mail_auth::dmarc::Policy::Reject) => "reject",
                ("fail", mail_auth::dmarc::Policy::Quarantine) => "quarantine",
                _ => "none",
            },
            spf: output.spf_result() == &DmarcResult::Pass,
            dkim: output.dkim_result() == &DmarcResult::Pass,
        }
    }

    /// Whether both agree on what chopar says, once the records are repaired.
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

/// The TXT records of a name as they are to be read.
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

/// The elements of a record and their names, white space apart.
fn elements(text: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(text)
        .split(';')
        .map(|element| match element.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), value.trim().to_owned()),
            None => (String::new(), element.to_owned()),
        })
        .filter(|(name, value)| !name.is_empty() || !value.trim().is_empty())
        .collect()
}

fn joined(elements: &[(String, String)]) -> Vec<u8> {
    let tags: Vec<String> = elements
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    tags.join(";").into_bytes()
}

fn is_record(text: &[u8]) -> bool {
    let elements = elements(text);
    elements.first() == Some(&("v".to_owned(), "DMARC1".to_owned()))
}

fn exact_version(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    texts.into_iter().filter(|text| is_record(text)).collect()
}

fn different_names(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let twice = |text: &Vec<u8>| {
        let elements = elements(text);
        let mut names: Vec<&String> = elements.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
            .windows(2)
            .any(|pair| pair[0] == pair[1] && !pair[0].is_empty())
    };
    texts.into_iter().filter(|text| !twice(text)).collect()
}

fn one_record(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    match texts.iter().filter(|text| is_record(text)).count() {
        0 | 1 => texts,
        _ => vec![b"none".to_vec()],
    }
}

fn without_errors(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let holds = |(name, value): &(String, String)| {
        let lower = value.to_ascii_lowercase();
        let words: &[&str] = match name.as_str() {
            "adkim" | "aspf" => &["r", "s"],
            "t" => &["y", "n"],
            "psd" => &["y", "n", "u"],
            "fo" => &["0", "1", "d", "s", "d:s", "s:d"],
            _ => return value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !name.is_empty(),
        };
        words.contains(&lower.as_str())
    };
    let repaired = |text: Vec<u8>| {
        let mut elements = elements(&text);
        elements.retain(holds);
        joined(&elements)
    };
    texts.into_iter().map(repaired).collect()
}

fn valid_policies(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let repaired = |text: Vec<u8>| {
        let mut elements = elements(&text);
        let is_policy = |name: &str| ["p", "sp", "np"].contains(&name);
        let valid = |value: &str| {
            ["none", "quarantine", "reject"].contains(&value.to_ascii_lowercase().as_str())
        };
        let wrong = elements
            .iter()
            .any(|(name, value)| is_policy(name) && !valid(value))
            || elements.iter().all(|(name, _)| name != "p");
        let asks = elements
            .iter()
            .any(|(name, value)| name == "rua" && value.contains(':'));
        if wrong && is_record(&text) {
            elements.retain(|(name, _)| !is_policy(name));
            if asks {
                elements.push(("p".to_owned(), "none".to_owned()));
            }
        }
        joined(&elements)
    };
    texts.into_iter().map(repaired).collect()
}

fn tests_for_pct(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let repaired = |text: Vec<u8>| {
        let mut elements = elements(&text);
        if elements.iter().all(|(name, _)| name != "t") {
            for element in &mut elements {
                if *element == ("pct".to_owned(), "0".to_owned()) {
                    *element = ("t".to_owned(), "y".to_owned());
                }
            }
        }
        joined(&elements)
    };
    texts.into_iter().map(repaired).collect()
}

fn lower_names(texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let repaired = |text: Vec<u8>| {
        let mut elements = elements(&text);
        elements.retain(|(name, _)| *name == name.to_ascii_lowercase());
        joined(&elements)
    };
    texts.into_iter().map(repaired).collect()
}

const RULES: &[Rule<Case>] = &[
    Rule {
        name: "version",
        text: "RFC 9989 section 4.7: the value of v= MUST match precisely; if it does not or it is absent, the entire \
            record MUST be ignored",
        applies: |case| case.agrees_after(&[exact_version]),
    },
    Rule {
        name: "duplicate tag",
        text: "RFC 9989 section 4.7 takes the tag-value syntax of DKIM, and RFC 6376 section 3.2: if a tag name does \
            occur more than once, the entire tag-list is invalid",
        applies: |case| case.agrees_after(&[different_names]),
    },
    Rule {
        name: "several records",
        text: "RFC 9989 section 4.10: if multiple DMARC Policy Records are returned, they are all discarded",
        applies: |case| case.agrees_after(&[one_record]),
    },
    Rule {
        name: "syntax error in the remainder",
        text: "RFC 9989 section 4.7: syntax errors in the remainder of the record MUST be discarded in favor of default \
            values (if any) or ignored outright",
        applies: |case| case.agrees_after(&[without_errors]),
    },
    Rule {
        name: "policy that is none",
        text: "RFC 9989 section 4.10.1: if a record does not contain a valid p=, or contains an sp= or np= that is not \
            valid, it is p=none where rua= has a valid URI (any, by section 4.7); otherwise no DMARC processing is applied",
        applies: |case| case.agrees_after(&[valid_policies]),
    },
    Rule {
        name: "pct=0",
        text: "RFC 9989 appendix A.6: t=y means what pct=0 did; RFC 7489 section 6.6.4: reject is quarantine for those \
            that pct= leaves out",
        applies: |case| case.agrees_after(&[tests_for_pct]),
    },
    Rule {
        name: "case of tag names",
        text: "RFC 6376 section 3.2, by RFC 9989 section 4.7: tags MUST be interpreted in a case-sensitive manner",
        applies: |case| case.agrees_after(&[lower_names]),
    },
    Rule {
        name: "more than one of these",
        text: "the sentences above, together",
        applies: |case| {
            case.agrees_after(&[
                exact_version,
                different_names,
                one_record,
                lower_names,
                without_errors,
                tests_for_pct,
                valid_policies,
            ])
        },
    },
];

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
/// One time in so many, one of these.
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
    (30, &["p=moo", "sp=moo", "np=", "np=rejected"]),
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
