//! DNS-01: the hook adds the record, and all servers of the zone must return it before the CA is asked to check.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::acme::ChallengeProof;
use crate::acme::name::challenge_record;
use crate::address::Domain;
use crate::dns::ZoneKind;
use crate::limits::ACME_DNS_TIMEOUT;
use crate::setup::dns_client::DnsClient;
use crate::setup::record::RecordValue;
use crate::setup::zone::PublishedRecords;
use crate::shell::helper::HelperClient;
use crate::shell::helper::dns_hook::{self, Verb};

/// How the hook is run.
#[derive(Clone, Copy, Debug)]
pub enum HookRunner<'a> {
    /// This process, out of this configuration folder.
    Here(&'a Path),
    /// The helper of the daemon, which itself may run nothing.
    Helper(&'a HelperClient),
}

impl HookRunner<'_> {
    fn run(self, verb: Verb, challenge: &ChallengeProof) -> Result<(), String> {
        let value = challenge.dns_value();
        match self {
            Self::Here(folder) => dns_hook::run(folder, verb, &challenge.domain, &value),
            Self::Helper(context) => context.dns(verb, &challenge.domain, &value),
        }
    }

    /// Adds the record, and waits until it is visible; `ask` makes a new asker each time.
    pub fn add(
        self,
        challenge: &ChallengeProof,
        ask: &dyn Fn() -> DnsClient,
    ) -> Result<(), String> {
        self.run(Verb::Add, challenge)?;
        let name = challenge_record(&challenge.domain);
        let domain = Domain::parse(&name).map_err(|error| format!("{name}: {error}"))?;
        let until = Instant::now() + ACME_DNS_TIMEOUT;
        loop {
            let published = ask().published(&domain, ZoneKind::Txt);
            let Some(cause) = missing(&published, &challenge.dns_value()) else {
                return Ok(());
            };
            if Instant::now() >= until {
                return Err(format!(
                    "{name} does not have the value that hooks/dns-01 was to add, after {} minutes: {cause}; see whether the \
                     hook changes the zone that the world asks",
                    ACME_DNS_TIMEOUT.as_secs() / 60
                ));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Removes the record.
    pub fn remove(self, challenge: &ChallengeProof) -> Result<(), String> {
        self.run(Verb::Remove, challenge)
    }
}

/// What prevents a CA from seeing the value; `None` if every server of the zone returns it.
fn missing(published: &PublishedRecords, value: &str) -> Option<String> {
    let has = |values: &[RecordValue]| {
        values
            .iter()
            .any(|one| matches!(one, RecordValue::Text(text) if text == value))
    };
    match published {
        PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) => {
            (!has(values)).then(|| "there are other values".to_owned())
        }
        PublishedRecords::Nothing => Some("there is no such record".to_owned()),
        PublishedRecords::Divided(servers) => {
            let without = servers.iter().find(|(_, values)| !has(values))?;
            Some(format!("{} does not have it", without.0))
        }
        PublishedRecords::Unknown(cause) => Some(cause.clone()),
    }
}

const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_once_every_server_shows_it() {
        let text = |text: &str| RecordValue::Text(text.into());
        let is_missing = |published| missing(&published, "v").is_some();
        assert!(!is_missing(PublishedRecords::Records(vec![
            text("old"),
            text("v")
        ])));
        let name = Domain::parse("elsewhere.test").expect("a domain");
        assert!(!is_missing(PublishedRecords::Alias(name, vec![text("v")])));
        assert!(is_missing(PublishedRecords::Records(vec![text("old")])));
        assert!(is_missing(PublishedRecords::Nothing));
        assert!(is_missing(PublishedRecords::Unknown("no answer".into())));
        let divided = |values: &[Vec<RecordValue>]| {
            let servers = values
                .iter()
                .map(|values| ("ns".to_owned(), values.clone()));
            PublishedRecords::Divided(servers.collect())
        };
        assert!(is_missing(divided(&[vec![text("v")], vec![text("old")]])));
        assert!(!is_missing(divided(&[
            vec![text("v")],
            vec![text("v"), text("old")]
        ])));
    }
}
