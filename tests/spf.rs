//! The test suite of RFC 7208 (openspf.org, release 2014.04; `tests/data/rfc7208`), with every case.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chopar::address::Domain;
use chopar::auth::spf::{Sender, SpfVerdict, check};
use chopar::date::Timestamp;
use chopar::dns::{Answer, Mx, NoRecords, Question, RecordKind, Records, Step};
use yaml_rust2::{Yaml, YamlLoader};

const SUITE: &str = include_str!("data/rfc7208/rfc7208-tests.yml");
/// Number of cases in the suite: a truncated suite would pass as well.
const CASES: usize = 203;

/// The DNS of a scenario: for each name in lower case, the records with their types.
struct Zone(HashMap<String, Vec<(String, Yaml)>>);

impl Zone {
    fn read(data: &Yaml) -> Self {
        let mut zone = HashMap::new();
        for (name, records) in data.as_hash().expect("names") {
            let name = name.as_str().expect("a name").to_ascii_lowercase();
            let mut found = Vec::new();
            for record in records.as_vec().expect("records") {
                match record.as_hash() {
                    Some(pairs) => found.extend(pairs.iter().map(|(kind, value)| {
                        (kind.as_str().expect("a kind").to_owned(), value.clone())
                    })),
                    None => found.push((record.as_str().expect("TIMEOUT").to_owned(), Yaml::Null)),
                }
            }
            // "Other sections rely on auto-magic duplication of SPF to TXT records".
            if !found.iter().any(|(kind, _)| kind == "TXT") {
                let copies: Vec<_> = found
                    .iter()
                    .filter(|(kind, _)| kind == "SPF")
                    .map(|(_, value)| ("TXT".to_owned(), value.clone()))
                    .collect();
                found.extend(copies);
            }
            zone.insert(name, found);
        }
        Self(zone)
    }

    fn answer(&self, question: &Question) -> Answer {
        Answer {
            records: self
                .records(question.name.as_str(), question.kind)
                .map(Arc::new),
            authentic: false,
            ttl: Duration::from_secs(300),
        }
    }

    fn records(&self, name: &str, kind: RecordKind) -> Result<Records, NoRecords> {
        let found = self.0.get(name).ok_or(NoRecords::NoDomain)?;
        if let Some((_, to)) = found.iter().find(|(kind, _)| kind == "CNAME") {
            return self.records(&to.as_str().expect("a name").to_ascii_lowercase(), kind);
        }
        let word = match kind {
            RecordKind::A => "A",
            RecordKind::Aaaa => "AAAA",
            RecordKind::Mx => "MX",
            RecordKind::Txt => "TXT",
            RecordKind::Ptr => "PTR",
            RecordKind::Tlsa => "TLSA",
        };
        let values: Vec<&Yaml> = found
            .iter()
            .filter(|(kind, value)| kind == word && value.as_str() != Some("NONE"))
            .map(|(_, value)| value)
            .collect();
        if values.is_empty() {
            // Whatever other records a name has, look-ups of other types there time out.
            let silent = found.iter().any(|(kind, _)| kind == "TIMEOUT");
            return Err(if silent {
                NoRecords::Timeout
            } else {
                NoRecords::NoData
            });
        }
        let text = |value: &Yaml| value.as_str().expect("a text").to_owned();
        let records = match kind {
            RecordKind::A => Records::A(
                values
                    .iter()
                    .map(|v| text(v).parse().expect("IPv4"))
                    .collect(),
            ),
            RecordKind::Aaaa => Records::Aaaa(
                values
                    .iter()
                    .map(|v| text(v).parse().expect("IPv6"))
                    .collect(),
            ),
            RecordKind::Ptr => Records::Ptr(
                values
                    .iter()
                    .filter_map(|v| Domain::parse(&text(v)).ok())
                    .collect(),
            ),
            RecordKind::Mx => Records::Mx(
                values
                    .iter()
                    .map(|value| {
                        let pair = value.as_vec().expect("a pair");
                        Mx {
                            preference: pair[0].as_i64().expect("a number") as u16,
                            host: Domain::parse_lookup(pair[1].as_str().expect("a name")).ok(),
                        }
                    })
                    .collect(),
            ),
            RecordKind::Txt | RecordKind::Tlsa => Records::Txt(
                values
                    .iter()
                    .map(|value| match value.as_vec() {
                        Some(strings) => strings.iter().map(text).collect::<String>(),
                        None => text(value),
                    })
                    // The suite's non-ASCII characters stand for bytes.
                    .map(|text| text.chars().map(|c| c as u8).collect())
                    .collect(),
            ),
        };
        Ok(records)
    }
}

/// Answers questions until there is a verdict.
fn verdict(sender: &Sender<'_>, zone: &Zone) -> SpfVerdict {
    let mut answers: Vec<(Question, Answer)> = Vec::new();
    loop {
        match check(sender, &answers) {
            Step::Done(verdict) => return verdict,
            Step::Ask(questions) => {
                assert!(!questions.is_empty(), "asks for nothing");
                for question in questions {
                    assert!(
                        answers.iter().all(|(known, _)| *known != question),
                        "asks for {question:?} again"
                    );
                    let answer = zone.answer(&question);
                    answers.push((question, answer));
                }
            }
        }
    }
}

#[test]
fn every_case_of_the_suite_gives_the_published_result() {
    let mut cases = 0;
    let mut wrong = Vec::new();
    for scenario in YamlLoader::load_from_str(SUITE).expect("YAML") {
        let zone = Zone::read(&scenario["zonedata"]);
        for (name, case) in scenario["tests"].as_hash().expect("cases") {
            cases += 1;
            let word = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
            let address: IpAddr = word("host").parse().expect("an address");
            let (helo, path) = (word("helo"), word("mailfrom"));
            let at = Timestamp::from_seconds(1_400_000_000);
            let sender = Sender::new(address, &helo, &path, "receiver.example.net", at);
            let found = verdict(&sender, &zone);
            let expected: Vec<&str> = match &case["result"] {
                Yaml::Array(any) => any.iter().filter_map(Yaml::as_str).collect(),
                one => one.as_str().into_iter().collect(),
            };
            let explanation = match case["explanation"].as_str() {
                None => true,
                Some("DEFAULT") => found.explanation.is_none(),
                Some(text) => found.explanation.as_deref() == Some(text),
            };
            if !expected.contains(&found.outcome.as_str()) || !explanation {
                wrong.push(format!(
                    "{}: expected {expected:?} {:?}, got {found:?}",
                    name.as_str().unwrap_or_default(),
                    case["explanation"].as_str()
                ));
            }
        }
    }
    assert_eq!(cases, CASES);
    assert!(
        wrong.is_empty(),
        "{} of {cases}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
