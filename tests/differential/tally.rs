//! Counts agreements and explained differences, and fails for all others.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Write as _};

/// A sentence of an RFC that explains a difference.
pub(crate) struct Rule<Case> {
    /// Its name in the counts.
    pub(crate) name: &'static str,
    /// Its section and text.
    pub(crate) text: &'static str,
    /// Whether the sentence applies to this case and its verdicts.
    pub(crate) applies: fn(&Case) -> bool,
}

/// The counts of one part.
pub(crate) struct Tally<Case: 'static> {
    part: &'static str,
    rules: &'static [Rule<Case>],
    cases: usize,
    skipped: usize,
    agreed: BTreeMap<String, usize>,
    explained: BTreeMap<&'static str, usize>,
    unexplained: Vec<String>,
}

impl<Case: Debug> Tally<Case> {
    pub(crate) fn new(part: &'static str, rules: &'static [Rule<Case>]) -> Self {
        Self {
            part,
            rules,
            cases: 0,
            skipped: 0,
            agreed: BTreeMap::new(),
            explained: BTreeMap::new(),
            unexplained: Vec::new(),
        }
    }

    /// Counts a message that both judged.
    pub(crate) fn case(&mut self) {
        self.cases += 1;
    }

    /// Counts a message that could not arrive.
    pub(crate) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Compares two verdicts on the same subject.
    pub(crate) fn compare<Verdict: Display + Eq>(
        &mut self,
        ours: &Verdict,
        theirs: &Verdict,
        case: &Case,
    ) {
        if ours == theirs {
            *self.agreed.entry(ours.to_string()).or_default() += 1;
        } else if let Some(rule) = self.rules.iter().find(|rule| (rule.applies)(case)) {
            *self.explained.entry(rule.name).or_default() += 1;
        } else {
            self.unexplained
                .push(format!("ours {ours}, theirs {theirs}: {case:#?}"));
        }
    }

    pub(crate) fn unexplained(&self) -> usize {
        self.unexplained.len()
    }

    /// Prints the counts. Fails for an unexplained difference, an unused rule, or too few cases.
    pub(crate) fn finish(self, cases_min: usize) {
        let mut out = format!(
            "{}: {} messages, {} skipped\n",
            self.part, self.cases, self.skipped
        );
        for (verdict, count) in &self.agreed {
            let _ = writeln!(out, "  {count:6} agree: {verdict}");
        }
        let mut idle = Vec::new();
        for rule in self.rules {
            match self.explained.get(rule.name) {
                Some(count) => {
                    let _ = writeln!(out, "  {count:6} differ: {}: {}", rule.name, rule.text);
                }
                None => idle.push(rule.name),
            }
        }
        println!("{out}");
        for difference in self.unexplained.iter().take(SHOWN) {
            println!("{difference}\n");
        }
        assert_eq!(
            self.unexplained.len(),
            0,
            "differences that nothing explains"
        );
        assert!(idle.is_empty(), "rules that explain nothing: {idle:?}");
        assert!(self.cases >= cases_min, "{} are too few", self.cases);
    }
}

const SHOWN: usize = 4;

const SELF_CHECK: &[Rule<u8>] = &[Rule {
    name: "even",
    text: "an even number",
    applies: |case| case.is_multiple_of(2),
}];

#[test]
fn a_wrong_verdict_is_seen() {
    let mut tally = Tally::new("itself", SELF_CHECK);
    tally.compare(&"pass", &"pass", &1);
    assert_eq!(tally.unexplained(), 0);
    tally.compare(&"pass", &"fail", &2);
    assert_eq!(tally.unexplained(), 0);
    tally.compare(&"pass", &"fail", &3);
    assert_eq!(tally.unexplained(), 1);
}

#[test]
#[should_panic(expected = "differences that nothing explains")]
fn a_difference_without_a_rule_fails() {
    let mut tally = Tally::new("itself", SELF_CHECK);
    tally.compare(&"pass", &"fail", &3);
    tally.finish(0);
}

#[test]
#[should_panic(expected = "rules that explain nothing")]
fn a_rule_without_a_difference_fails() {
    let mut tally = Tally::new("itself", SELF_CHECK);
    tally.compare(&"pass", &"pass", &2);
    tally.finish(0);
}
