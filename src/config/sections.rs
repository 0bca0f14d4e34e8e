//! `[domain."…"]`: what chopar.toml says about a served domain.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::check::Check;
use super::error::position;
use super::incoming::Incoming;
use super::problem::{ConfigProblem, NameProblem, ValueProblem};
use super::served::{Dmarc, MtaSts, Quarantine, Receive};
use crate::address::Domain;

/// The settings of one `[domain."…"]`.
pub(super) struct DomainSection {
    pub(super) domain: Domain,
    pub(super) receive: Receive,
    pub(super) dmarc: Dmarc,
    pub(super) quarantine: Quarantine,
    pub(super) mta_sts: MtaSts,
    pub(super) incoming: Option<Incoming>,
    pub(super) line: usize,
    pub(super) column: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DomainText {
    receive: bool,
    dmarc: Option<Spanned<String>>,
    quarantine: Option<Spanned<String>>,
    mta_sts: Option<Spanned<String>>,
    incoming: Option<Spanned<String>>,
}

impl Default for DomainText {
    fn default() -> Self {
        Self {
            receive: true,
            dmarc: None,
            quarantine: None,
            mta_sts: None,
            incoming: None,
        }
    }
}

impl Check<'_> {
    pub(super) fn domains(
        &mut self,
        raw: BTreeMap<Spanned<String>, DomainText>,
    ) -> Vec<DomainSection> {
        let mut sections = Vec::new();
        for (name, section) in raw {
            match Domain::parse(name.get_ref()) {
                Ok(domain) => {
                    let place = position(self.text, name.span().start);
                    sections.push(self.domain(domain, &section, place));
                }
                Err(error) => {
                    let text = name.get_ref().clone();
                    self.problem(
                        &name,
                        ConfigProblem::Name(NameProblem::Domain { text, error }),
                    );
                }
            }
        }
        sections
    }

    fn domain(
        &mut self,
        domain: Domain,
        section: &DomainText,
        (line, column): (usize, usize),
    ) -> DomainSection {
        DomainSection {
            domain,
            receive: match section.receive {
                true => Receive::Here,
                false => Receive::Elsewhere,
            },
            dmarc: self.word(section.dmarc.as_ref(), &DMARC),
            quarantine: self.word(section.quarantine.as_ref(), &QUARANTINE),
            mta_sts: self.word(section.mta_sts.as_ref(), &MTA_STS),
            incoming: (section.incoming.as_ref()).and_then(|text| self.incoming(text)),
            line,
            column,
        }
    }

    fn incoming(&mut self, text: &Spanned<String>) -> Option<Incoming> {
        let incoming = Incoming::parse(text.get_ref());
        if incoming.is_none() {
            let there = text.get_ref().clone();
            self.problem(
                text,
                ConfigProblem::Value(ValueProblem::Incoming { text: there }),
            );
        }
        incoming
    }
}

const DMARC: [(&str, Dmarc); 3] = [
    ("enforce", Dmarc::Enforce),
    ("report", Dmarc::Report),
    ("off", Dmarc::Off),
];

const QUARANTINE: [(&str, Quarantine); 2] =
    [("mark", Quarantine::Mark), ("refuse", Quarantine::Refuse)];

const MTA_STS: [(&str, MtaSts); 4] = [
    ("off", MtaSts::Off),
    ("none", MtaSts::None),
    ("testing", MtaSts::Testing),
    ("enforce", MtaSts::Enforce),
];
