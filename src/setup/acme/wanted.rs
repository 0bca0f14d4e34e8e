//! Which certificates are wanted, according to the configuration and the earlier orders. Pure.

use std::collections::BTreeSet;

use super::store::{Ordered, StoredCertificate};
use crate::acme::wire::Url;
use crate::acme::work::Terms;
use crate::acme::{ChallengeKind, Name};
use crate::address::Domain;
use crate::config::{Acme, Renewal};
use crate::limits::ACME_CERTIFICATES_MAX;

/// A certificate that is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// The name of its folder: the first name.
    pub name: Name,
    pub names: Vec<Name>,
    /// The challenge type.
    pub kind: ChallengeKind,
    /// By which CA.
    pub directory: Url,
    /// Whether its terms are agreed to.
    pub terms: Terms,
    /// The stored parameters of the order.
    pub order: Ordered,
}

impl Wanted {
    /// With the configuration's values for missing parameters.
    pub fn new(order: Ordered, acme: &Acme) -> Option<Self> {
        let is_agreed = order.agreed || acme.renewal == Renewal::All;
        Some(Self {
            name: order.names.first()?.clone(),
            names: order.names.clone(),
            kind: order.kind.unwrap_or(acme.challenge),
            directory: order
                .directory
                .clone()
                .unwrap_or_else(|| acme.directory.clone()),
            terms: if is_agreed {
                Terms::Agreed
            } else {
                Terms::Open
            },
            order,
        })
    }

    /// Whether a certificate has all of its names. Some CAs add one of their own accord.
    pub fn is_met_by(&self, there: &[Box<str>]) -> bool {
        let has = |name: &Name| there.contains(&name.to_string().into());
        self.names.iter().all(has)
    }
}

/// The certificates that the daemon manages.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wants {
    /// That of the hostname first, then those obtained before; at most [`ACME_CERTIFICATES_MAX`].
    pub all: Vec<Wanted>,
    /// Certificates that exceed the bound, by first name.
    pub left_out: Vec<Name>,
}

/// The first names of the certificates that the configuration itself wants.
pub fn configured(acme: &Acme, hostname: &Domain, further: &[Domain]) -> BTreeSet<Name> {
    if acme.renewal != Renewal::All {
        return BTreeSet::new();
    }
    let further = further.iter();
    let further = further.filter_map(|name| Name::parse(name.as_str()));
    let first = acme.names(hostname).into_iter().next();
    first.into_iter().chain(further).collect()
}

/// The certificates that the daemon manages. Each further name that is served over HTTPS has a certificate of its own,
/// so a name that does not lead here delays no other.
pub fn wanted(
    acme: &Acme,
    hostname: &Domain,
    further: &[Domain],
    kept: &[StoredCertificate],
) -> Wants {
    if acme.renewal == Renewal::Off {
        return Wants::default();
    }
    let mut wanted: Vec<Wanted> = kept
        .iter()
        // An order without result was refused or interrupted: the daemon does not continue it.
        .filter(|kept| !kept.is_bare)
        .filter_map(|kept| {
            let order = kept.order.clone().or_else(|| of_certificate(kept))?;
            Wanted::new(order, acme).map(|wanted| Wanted {
                name: kept.name.clone(),
                ..wanted
            })
        })
        .collect();
    let names = acme.names(hostname);
    if let (Renewal::All, Some(first)) = (acme.renewal, names.first()) {
        let first = first.clone();
        let before = wanted.iter().position(|one| one.name == first);
        let order = match before.map(|at| wanted.remove(at)) {
            Some(before) => Ordered {
                names,
                ..before.order
            },
            None => Ordered {
                names,
                kind: None,
                directory: None,
                agreed: true,
            },
        };
        if let Some(of_host) = Wanted::new(order, acme) {
            wanted.insert(0, of_host);
        }
        for name in further.iter().filter_map(|name| Name::parse(name.as_str())) {
            let is_there = wanted.iter().any(|one| one.names.contains(&name));
            let order = Ordered {
                names: vec![name],
                kind: None,
                directory: None,
                agreed: true,
            };
            wanted.extend(Wanted::new(order, acme).filter(|_| !is_there));
        }
    }
    let left_out = wanted.split_off(wanted.len().min(ACME_CERTIFICATES_MAX));
    Wants {
        all: wanted,
        left_out: left_out.into_iter().map(|one| one.name).collect(),
    }
}

/// If the order is lost, the certificate gives its names.
fn of_certificate(kept: &StoredCertificate) -> Option<Ordered> {
    let summary = kept.summary.as_ref().ok()?;
    let mut names: Vec<Name> = summary
        .names
        .iter()
        .filter_map(|name| Name::parse(name))
        .collect();
    names.sort_by_key(|name| *name != kept.name);
    (!names.is_empty()).then_some(Ordered {
        names,
        kind: None,
        directory: None,
        agreed: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn acme(text: &str) -> (Acme, Domain) {
        let text = format!("hostname = \"mail.a.test\"\n[acme]\n{text}");
        let config = Config::of_files(&[("chopar.toml", &text), ("hooks/dns-01", "")]);
        (config.acme, config.hostname)
    }

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    fn kept(names: &[&str]) -> StoredCertificate {
        let names: Vec<Name> = names.iter().map(|one| name(one)).collect();
        StoredCertificate {
            name: names[0].clone(),
            order: Some(Ordered {
                names,
                kind: Some(ChallengeKind::Dns01),
                directory: None,
                agreed: false,
            }),
            summary: Err(String::new()),
            is_bare: false,
        }
    }

    #[test]
    fn what_was_obtained_is_renewed_as_it_was_ordered_and_nothing_else() {
        let (acme, hostname) = acme("challenge = \"tls-alpn-01\"");
        assert_eq!(wanted(&acme, &hostname, &[], &[]), Wants::default());
        let found = wanted(&acme, &hostname, &[], &[kept(&["b.test", "c.test"])]).all;
        let bare = StoredCertificate {
            is_bare: true,
            ..kept(&["d.test"])
        };
        assert_eq!(wanted(&acme, &hostname, &[], &[bare]), Wants::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].names, [name("b.test"), name("c.test")]);
        assert_eq!(
            (found[0].kind, found[0].terms),
            (ChallengeKind::Dns01, Terms::Open)
        );
    }

    #[test]
    fn where_it_is_enabled_the_hostname_or_the_names_are_obtained_too() {
        let (all, hostname) = acme("enabled = true");
        let found = wanted(&all, &hostname, &[], &[kept(&["b.test"])]).all;
        let firsts: Vec<&Name> = found.iter().map(|one| &one.name).collect();
        assert_eq!(firsts, [&name("mail.a.test"), &name("b.test")]);
        assert_eq!(found[0].terms, Terms::Agreed);
        let (all, hostname) =
            acme("enabled = true\nchallenge = \"dns-01\"\nnames = [\"b.test\", \"*.b.test\"]");
        let found = wanted(&all, &hostname, &[], &[kept(&["b.test"])]).all;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].names, [name("b.test"), name("*.b.test")]);
        assert!(!found[0].is_met_by(&["b.test".into()]));
        let names = ["*.b.test", "b.test", "www.b.test"].map(Into::into);
        assert!(found[0].is_met_by(&names));
    }

    #[test]
    fn turned_off_nothing_is_wanted() {
        let (acme, hostname) = acme("enabled = false");
        let nothing = wanted(&acme, &hostname, &[], &[kept(&["b.test"])]);
        assert_eq!(nothing, Wants::default());
    }
}
