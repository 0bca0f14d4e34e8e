//! The result of a check, in one form for people and for `--json`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::checks::{DoctorCheck, Need};

/// How a check ended; the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CheckState {
    /// Mail suffers from it.
    Bad,
    /// It could not be found out.
    Unknown,
    /// It works, and should be otherwise.
    Warning,
    /// It does not apply here.
    Skipped,
    /// It is as it should be.
    Good,
}

impl CheckState {
    /// For people and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Skipped => "skipped",
            Self::Good => "good",
        }
    }
}

/// The result of one check on one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    pub check: &'static DoctorCheck,
    /// How much depends on it, here.
    pub need: Need,
    /// The object: an address, a port, a domain; empty if there is only one such object.
    pub about: String,
    pub state: CheckState,
    pub seen: String,
    /// The one command or record that is the remedy; empty if nothing is to be done.
    pub mend: String,
    /// The check that must succeed before this one can be made.
    pub needs: Option<&'static DoctorCheck>,
}

impl DoctorCheck {
    fn found(
        &'static self,
        state: CheckState,
        about: impl ToString,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        Finding {
            check: self,
            need: self.need,
            about: about.to_string(),
            state,
            seen: seen.into(),
            mend: mend.into(),
            needs: None,
        }
    }

    /// All is well.
    pub fn good(&'static self, about: impl ToString, seen: impl Into<String>) -> Finding {
        self.found(CheckState::Good, about, seen, "")
    }

    /// It is bad, and mail suffers from it; if the check is only advised, it is a warning.
    pub fn bad(
        &'static self,
        about: impl ToString,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        let state = match self.need {
            Need::Required => CheckState::Bad,
            Need::Advised => CheckState::Warning,
        };
        self.found(state, about, seen, mend)
    }

    /// It works, and should be otherwise.
    pub fn warning(
        &'static self,
        about: impl ToString,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        self.found(CheckState::Warning, about, seen, mend)
    }

    /// It could not be found out.
    pub fn unknown(
        &'static self,
        about: impl ToString,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        self.found(CheckState::Unknown, about, seen, mend)
    }

    /// It does not apply, for this reason.
    pub fn skipped(&'static self, about: impl ToString, seen: impl Into<String>) -> Finding {
        self.found(CheckState::Skipped, about, seen, "")
    }
}

impl Finding {
    /// The same, if it is more or less important than the check in general.
    #[must_use]
    pub fn with_need(mut self, need: Need) -> Self {
        self.need = need;
        self.state = match (need, self.state) {
            (Need::Advised, CheckState::Bad) => CheckState::Warning,
            (_, state) => state,
        };
        self
    }

    /// The same, if it could not be made because another check is not good: see [`told_once`].
    #[must_use]
    pub fn for_want_of(mut self, check: &'static DoctorCheck) -> Self {
        if self.state == CheckState::Unknown {
            self.needs = Some(check);
        }
        self
    }

    /// Whether another finding gives the reason why this one could not be made, and the remedy.
    pub fn is_told_elsewhere(&self) -> bool {
        self.state == CheckState::Unknown && self.needs.is_some() && self.mend.is_empty()
    }

    /// Whether it keeps the doctor from being content: something is wrong, or a required thing could not be found out.
    pub fn is_red(&self) -> bool {
        match self.state {
            CheckState::Bad => true,
            CheckState::Unknown => self.need == Need::Required,
            CheckState::Warning | CheckState::Skipped | CheckState::Good => false,
        }
    }

    /// The finding as `--json` prints it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.check.id,
            "about": self.about,
            "title": self.check.title,
            "state": self.state.as_str(),
            "required": self.need == Need::Required,
            "seen": self.seen,
            "why": self.check.why,
            "mend": self.mend,
        })
    }

    /// For people: one line if nothing is to be done.
    pub fn text(&self) -> String {
        let about = match self.about.as_str() {
            "" => String::new(),
            about => format!(" ({about})"),
        };
        let front = format!(
            "{:<8}{}{about}: {}",
            self.state.as_str(),
            self.check.title,
            self.seen
        );
        match self.state {
            CheckState::Good | CheckState::Skipped => format!("{front}\n"),
            CheckState::Unknown if self.is_told_elsewhere() => format!("{front}\n"),
            CheckState::Bad | CheckState::Unknown | CheckState::Warning => {
                let mut text = format!("{front}\n        why: {}\n", self.check.why);
                if !self.mend.is_empty() {
                    text.push_str(&format!("        do:  {}\n", self.mend));
                }
                text
            }
        }
    }
}

/// Reports each cause once: a check that could not be made because another one failed only refers to that. A finding
/// that occurs for several domains on one host is reported once as well.
pub fn told_once(found: &mut Vec<Finding>) {
    let state_of = |check: &'static DoctorCheck| {
        let of_check = found.iter().filter(|finding| finding.check == check);
        of_check.map(|finding| finding.state).max()
    };
    // If one of several is good, as of resolvers, the check could have been made.
    let causes: Vec<&'static DoctorCheck> = found
        .iter()
        .filter_map(|finding| finding.needs)
        .filter(|check| state_of(check).is_some_and(|state| state < CheckState::Skipped))
        .collect();
    for finding in found.iter_mut() {
        if let Some(cause) = finding.needs.filter(|cause| causes.contains(cause)) {
            finding.seen = format!("not known: see \"{}\"", cause.title);
            finding.mend.clear();
        }
    }
    let mut told = BTreeSet::new();
    found.retain(|finding| told.insert((finding.check.id, finding.about.clone())));
}

/// What to repair first if several checks fail: the one that most others wait for, otherwise the first that is bad;
/// with the number of waiting checks.
pub fn first(found: &[Finding]) -> Option<(&Finding, usize)> {
    let red: Vec<&Finding> = found
        .iter()
        .filter(|finding| finding.is_red() && !finding.mend.is_empty())
        .collect();
    let waiting = |cause: &Finding| {
        let waits = |other: &&Finding| {
            other.is_told_elsewhere()
                && other.needs == Some(cause.check)
                && other.check != cause.check
        };
        found.iter().filter(waits).count()
    };
    let ranked = red.iter().rev().map(|finding| (*finding, waiting(finding)));
    // Of equal ones the last of these, which was found first.
    let first = ranked.max_by_key(|(finding, count)| (*count, finding.state == CheckState::Bad));
    first.filter(|(_, count)| *count > 0 || red.len() > 1)
}
