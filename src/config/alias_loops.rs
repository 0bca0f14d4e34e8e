//! Alias loops, found when the configuration is read, before any mail enters one.

use std::collections::{BTreeMap, HashSet};

use super::aliases::Alias;
use super::error::Errors;
use super::names::NameRules;
use super::problem::{AliasProblem, ConfigProblem};
use super::served::{Receive, ServedDomain};
use super::target::{AliasTarget, To};
use crate::address::{Domain, Mailbox};
use crate::limits::{ALIAS_DEPTH_MAX, ALIAS_TARGETS_MAX};

/// Notes each alias that is part of a circle.
pub(super) fn find(
    domains: &BTreeMap<Domain, ServedDomain>,
    names: &NameRules,
    errors: &mut Errors,
) {
    for (domain, served) in domains {
        if served.receive == Receive::Elsewhere {
            continue;
        }
        let file = format!("domains/{domain}/aliases");
        let named = served.aliases.values();
        for alias in named.chain(&served.catch_all) {
            if leads_back(domains, names, alias) {
                errors.push_at(
                    &file,
                    alias.line,
                    1,
                    ConfigProblem::Alias(AliasProblem::Loop),
                );
            }
        }
    }
}

/// Whether an alias can lead to itself. `*@domain` represents a name that only `*` catches there.
fn leads_back(domains: &BTreeMap<Domain, ServedDomain>, names: &NameRules, start: &Alias) -> bool {
    let mut seen: HashSet<*const Alias> = HashSet::new();
    let mut level: Vec<&Alias> = vec![start];
    for _ in 0..=ALIAS_DEPTH_MAX {
        let mut next = Vec::new();
        for alias in level {
            for target in &alias.targets {
                let found = match target {
                    AliasTarget::Address(To::Mailbox(mailbox)) => lead(domains, names, mailbox),
                    AliasTarget::Address(To::Domain(domain)) => caught(domains, domain),
                    AliasTarget::Via(..) | AliasTarget::Here(_) => None,
                };
                let Some(found) = found else {
                    continue;
                };
                if std::ptr::eq(found, start) {
                    return true;
                }
                if seen.len() < ALIAS_TARGETS_MAX && seen.insert(found) {
                    next.push(found);
                }
            }
        }
        level = next;
    }
    false
}

fn lead<'a>(
    domains: &'a BTreeMap<Domain, ServedDomain>,
    names: &NameRules,
    mailbox: &Mailbox,
) -> Option<&'a Alias> {
    let served = receiving(domains, mailbox.domain())?;
    let key = names.key(&mailbox.local_key());
    served.alias(names, &key).or(served.catch_all.as_ref())
}

/// The handling of an unknown name in a domain.
fn caught<'a>(domains: &'a BTreeMap<Domain, ServedDomain>, domain: &Domain) -> Option<&'a Alias> {
    receiving(domains, domain)?.catch_all.as_ref()
}

fn receiving<'a>(
    domains: &'a BTreeMap<Domain, ServedDomain>,
    domain: &Domain,
) -> Option<&'a ServedDomain> {
    domains
        .get(domain)
        .filter(|served| served.receive == Receive::Here)
}
