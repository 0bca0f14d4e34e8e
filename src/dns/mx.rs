//! The hosts that accept the mail of a domain, and their order (RFC 5321 section 5.1, null MX RFC 7505).
//!
//! Invariant: an MX look-up that failed never falls back to the address of the domain.

use std::fmt;

use super::answer::{Answer, NoRecords, Records};
use crate::address::Domain;
use crate::entropy::Entropy;
use crate::limits::MX_HOSTS_MAX;
use crate::status::EnhancedCode;

/// A host from an MX record, or the domain itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailHost {
    pub host: Domain,
    /// Lower values are tried first.
    pub preference: u16,
}

/// The hosts of a domain in the order in which they are tried; never empty, at most [`MX_HOSTS_MAX`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailHosts {
    pub hosts: Vec<MailHost>,
    /// Whether the domain has no MX record and is its own mail host (RFC 5321 section 5.1). If it has no address
    /// either, it cannot receive mail: 5.1.2.
    pub implicit: bool,
    /// Whether a validating resolver confirmed the list.
    pub authentic: bool,
}

/// Why there is no mail host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoMailHosts {
    /// The domain declares that it accepts no mail.
    NullMx,
    /// The domain does not exist.
    NoDomain,
    /// The only remaining host is this machine, which does not serve the domain.
    Loop,
    /// The answer is not available now.
    Unknown(NoRecords),
}

impl NoMailHosts {
    /// The enhanced status of a recipient in that domain.
    pub const fn code(self) -> EnhancedCode {
        match self {
            Self::NullMx => EnhancedCode::new(5, 1, 10), // RFC 7505 section 4
            Self::NoDomain => EnhancedCode::new(5, 1, 2),
            Self::Loop => EnhancedCode::new(5, 4, 6),
            Self::Unknown(_) => EnhancedCode::new(4, 4, 3),
        }
    }
}

impl fmt::Display for NoMailHosts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NullMx => "the domain takes no mail (null MX)",
            Self::NoDomain => "the domain does not exist",
            Self::Loop => {
                "the mail exchanger of the domain is this machine, which does not serve it"
            }
            Self::Unknown(NoRecords::Timeout) => "no name server answered the MX question in time",
            Self::Unknown(_) => "the name servers could not answer the MX question",
        })
    }
}

impl std::error::Error for NoMailHosts {}

/// Orders the mail exchangers of `domain`. If `hostname`, this machine, is among them, hosts with the same or a higher
/// preference value are left out.
/// Decides RFC 5321 section 5.1.
/// Decides RFC 7505 section 3.
pub fn mail_hosts(
    domain: &Domain,
    answer: &Answer,
    hostname: &Domain,
    entropy: &mut dyn Entropy,
) -> Result<MailHosts, NoMailHosts> {
    let records = match &answer.records {
        Ok(records) => records,
        Err(NoRecords::NoDomain) => return Err(NoMailHosts::NoDomain),
        Err(NoRecords::NoData) => return implicit(domain, answer, hostname),
        Err(temporary) => return Err(NoMailHosts::Unknown(*temporary)),
    };
    let Records::Mx(exchangers) = records.as_ref() else {
        return Err(NoMailHosts::Unknown(NoRecords::ServerFailure));
    };
    // A root name among others is ignored (RFC 7505 section 3); alone it is the null MX.
    let mut hosts: Vec<MailHost> = exchangers
        .iter()
        .filter_map(|mx| {
            mx.host.clone().map(|host| MailHost {
                host,
                preference: mx.preference,
            })
        })
        .collect();
    if hosts.is_empty() {
        return Err(NoMailHosts::NullMx);
    }
    shuffle(&mut hosts, entropy);
    hosts.sort_by_key(|host| host.preference); // stable: equals stay shuffled
    let ours = hosts
        .iter()
        .find(|host| host.host == *hostname)
        .map(|host| host.preference);
    if let Some(ours) = ours {
        hosts.retain(|host| host.preference < ours);
    }
    if hosts.is_empty() {
        return Err(NoMailHosts::Loop);
    }
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|host| seen.insert(host.host.clone()));
    hosts.truncate(MX_HOSTS_MAX);
    Ok(MailHosts {
        hosts,
        implicit: false,
        authentic: answer.authentic,
    })
}

/// The domain as its own mail exchanger.
/// Decides RFC 5321 section 5.1.
fn implicit(domain: &Domain, answer: &Answer, hostname: &Domain) -> Result<MailHosts, NoMailHosts> {
    if domain == hostname {
        return Err(NoMailHosts::Loop);
    }
    Ok(MailHosts {
        hosts: vec![MailHost {
            host: domain.clone(),
            preference: 0,
        }],
        implicit: true,
        authentic: answer.authentic,
    })
}

/// Shuffles in place (Fisher and Yates).
fn shuffle(hosts: &mut [MailHost], entropy: &mut dyn Entropy) {
    for last in (1..hosts.len()).rev() {
        let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        let other = usize::try_from(entropy.below(bound)).unwrap_or(last);
        hosts.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::dns::Mx;
    use crate::entropy::SeededEntropy;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    fn answer(records: Result<Vec<(u16, &str)>, NoRecords>) -> Answer {
        Answer {
            records: records.map(|list| {
                let list = list.into_iter().map(|(preference, host)| Mx {
                    preference,
                    host: (!host.is_empty()).then(|| domain(host)),
                });
                Arc::new(Records::Mx(list.collect()))
            }),
            authentic: false,
            ttl: Duration::from_secs(60),
        }
    }

    fn hosts_of(
        records: Result<Vec<(u16, &str)>, NoRecords>,
        seed: u64,
    ) -> Result<Vec<String>, NoMailHosts> {
        mail_hosts(
            &domain("example.org"),
            &answer(records),
            &domain("relay.example.com"),
            &mut SeededEntropy::new(seed),
        )
        .map(|found| {
            found
                .hosts
                .iter()
                .map(|host| host.host.to_string())
                .collect()
        })
    }

    #[test]
    fn orders_by_preference_and_at_random_among_equals() {
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let list = vec![(20, "c.example"), (10, "a.example"), (10, "b.example")];
            let hosts = hosts_of(Ok(list), seed).expect("hosts");
            assert_eq!(hosts[2], "c.example");
            firsts.insert(hosts[0].clone());
        }
        assert_eq!(firsts.len(), 2);
    }

    #[test]
    fn null_mx_refuses_and_says_nothing_beside_others() {
        assert_eq!(hosts_of(Ok(vec![(0, "")]), 1), Err(NoMailHosts::NullMx));
        assert_eq!(NoMailHosts::NullMx.code().to_string(), "5.1.10");
        let mixed = hosts_of(Ok(vec![(0, ""), (5, "a.example")]), 1);
        assert_eq!(mixed, Ok(vec!["a.example".to_owned()]));
    }

    #[test]
    fn only_the_absence_of_mx_records_makes_the_domain_its_own_host() {
        let found = hosts_of(Err(NoRecords::NoData), 1);
        assert_eq!(found, Ok(vec!["example.org".to_owned()]));
        assert_eq!(
            hosts_of(Err(NoRecords::NoDomain), 1),
            Err(NoMailHosts::NoDomain)
        );
        for failure in [NoRecords::Timeout, NoRecords::ServerFailure] {
            let error = hosts_of(Err(failure), 1).expect_err("no fallback");
            assert_eq!(error, NoMailHosts::Unknown(failure));
            assert!(error.code().is_transient());
        }
    }

    #[test]
    fn hosts_that_are_not_nearer_than_ourselves_are_left_out() {
        let list = vec![
            (10, "a.example"),
            (20, "relay.example.com"),
            (20, "b.example"),
            (30, "c.example"),
        ];
        assert_eq!(hosts_of(Ok(list), 3), Ok(vec!["a.example".to_owned()]));
        let list = vec![(10, "relay.example.com"), (10, "b.example")];
        let error = hosts_of(Ok(list), 3).expect_err("a loop");
        assert_eq!(
            (error, error.code().to_string()),
            (NoMailHosts::Loop, "5.4.6".to_owned())
        );
    }

    #[test]
    fn bounds_the_list_and_drops_doubles() {
        let names: Vec<String> = (0..40).map(|n| format!("h{n}.example")).collect();
        let list = names.iter().map(|name| (1, name.as_str())).collect();
        assert_eq!(hosts_of(Ok(list), 1).expect("hosts").len(), MX_HOSTS_MAX);
        let doubles = vec![(1, "a.example"), (2, "A.example.")];
        assert_eq!(hosts_of(Ok(doubles), 1).expect("hosts").len(), 1);
    }
}
