use std::time::Duration;

use chopar::address::Domain;
use chopar::auth::dmarc::{DmarcPolicy, DmarcResult, DmarcVerdict, Evidence, evaluate};
use chopar::dns::{Answer, NoRecords, Question, RecordKind, Records, Step};
use chopar::limits::DMARC_WALK_MAX;

/// Records, one a line; the first is that of the longest name. The evaluation ends after a bounded number of questions,
/// none of which is repeated. A signature of the author's domain passes wherever there is a policy, and only a failed
/// message gets a policy. The first byte chooses how the DNS answers.
pub fn dmarc(data: &[u8]) {
    let (variant, text) = super::variant(data);
    let zone = Zone {
        variant,
        records: text.split(|byte| *byte == b'\n').collect(),
    };
    let [author, spf, dkim] =
        ["a.b.example.test", "c.b.example.test", "example.test"].map(|name| {
            let name = match variant & 4 {
                0 => name.to_owned(),
                _ => format!("1.2.3.4.5.6.7.8.9.{name}"),
            };
            Domain::parse(&name).expect("a domain")
        });
    let unaligned = zone.verdict(&author, Some(&spf), std::slice::from_ref(&dkim));
    let aligned = zone.verdict(&author, Some(&spf), &[dkim, author.clone()]);
    for verdict in [&unaligned, &aligned] {
        assert_eq!(
            verdict.outcome == DmarcResult::Pass,
            verdict.spf || verdict.dkim
        );
        assert!(verdict.policy == DmarcPolicy::None || verdict.outcome == DmarcResult::Fail);
        if matches!(verdict.outcome, DmarcResult::Pass | DmarcResult::Fail) {
            let record = verdict.record.as_ref().expect("a record");
            assert!(author.is_under(record), "{record}");
        }
    }
    match unaligned.outcome {
        DmarcResult::None => assert_eq!(aligned.outcome, DmarcResult::None),
        DmarcResult::Pass | DmarcResult::Fail => assert_eq!(aligned.outcome, DmarcResult::Pass),
        DmarcResult::TempError => assert_ne!(aligned.outcome, DmarcResult::Fail),
    }
}

struct Zone<'a> {
    variant: u8,
    records: Vec<&'a [u8]>,
}

impl Zone<'_> {
    fn verdict(&self, author: &Domain, spf: Option<&Domain>, dkim: &[Domain]) -> DmarcVerdict {
        let evidence = Evidence { author, spf, dkim };
        let mut answers: Vec<(Question, Answer)> = Vec::new();
        loop {
            match evaluate(&evidence, &answers) {
                Step::Done(verdict) => return verdict,
                Step::Ask(questions) => {
                    assert!(!questions.is_empty());
                    for question in questions {
                        assert!(answers.iter().all(|(known, _)| *known != question));
                        let answer = Answer {
                            records: self.answer(&question).map(Into::into),
                            authentic: false,
                            ttl: Duration::ZERO,
                        };
                        answers.push((question, answer));
                    }
                    // One walk for each name, and whether the author's domain exists.
                    assert!(answers.len() <= (2 + dkim.len()) * DMARC_WALK_MAX + 1);
                }
            }
        }
    }

    /// The line for a name with this number of labels; a tab within it separates two records.
    fn answer(&self, question: &Question) -> Result<Records, NoRecords> {
        let labels = question.name.as_str().split('.').count();
        if question.kind != RecordKind::Txt {
            return match self.variant & 3 {
                0 => Err(NoRecords::NoDomain),
                1 => Err(NoRecords::NoData),
                2 => Err(NoRecords::Timeout),
                _ => Ok(Records::A(vec![[192, 0, 2, 1].into()])),
            };
        }
        // The first line is for `_dmarc.` and the four labels of the author.
        let line = self.records.get(5_usize.saturating_sub(labels));
        match line.copied().unwrap_or_default() {
            b"" => Err(NoRecords::NoDomain),
            b"!" => Err(NoRecords::ServerFailure),
            line => Ok(Records::Txt(
                line.split(|byte| *byte == b'\t')
                    .map(<[u8]>::to_vec)
                    .collect(),
            )),
        }
    }
}
