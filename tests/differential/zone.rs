//! The DNS records for both implementations.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use chopar::dns::{Answer, NoRecords, Question, RecordKind, Records, Step};
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dmarc::Dmarc;
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{DnsError, DnssecStatus, Error, RecordSet, ResolverCache, Txt};

/// Names in lower case, without a final dot, and their records. Other names do not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone {
    pub(crate) texts: BTreeMap<String, Texts>,
    /// Names with an address.
    pub(crate) hosts: Vec<String>,
}

/// The TXT records of a name, or why there are none.
pub(crate) type Texts = Result<Vec<Vec<u8>>, NoRecords>;

impl Zone {
    /// Runs a check of ours to its verdict.
    pub(crate) fn drive<Verdict>(
        &self,
        mut check: impl FnMut(&[(Question, Answer)]) -> Step<Verdict>,
    ) -> Verdict {
        let mut answers: Vec<(Question, Answer)> = Vec::new();
        loop {
            match check(&answers) {
                Step::Done(verdict) => return verdict,
                Step::Ask(questions) => answers.extend(questions.into_iter().map(|question| {
                    let answer = self.answer(&question);
                    (question, answer)
                })),
            }
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        let name = question.name.as_str();
        let records = match question.kind {
            RecordKind::Txt => match self.texts.get(name) {
                Some(texts) => texts.clone().map(Records::Txt),
                None => Err(NoRecords::NoDomain),
            },
            RecordKind::A if self.hosts.iter().any(|host| host == name) => {
                Ok(Records::A(vec![Ipv4Addr::LOCALHOST]))
            }
            _ => Err(NoRecords::NoDomain),
        };
        Answer {
            records: records.map(Into::into),
            authentic: false,
            ttl: Duration::from_secs(60),
        }
    }

    /// The TXT records as mail-auth stores them: parsed, with the type that their names imply.
    pub(crate) fn texts_of_theirs(&self) -> Cache<Txt> {
        Cache(
            self.texts
                .iter()
                .map(|(name, texts)| {
                    let parsed = match texts {
                        Ok(texts) if name.starts_with("_dmarc.") => first::<Dmarc>(texts),
                        Ok(texts) => first::<DomainKey>(texts),
                        Err(NoRecords::NoDomain) => not_found(ResponseCode::NXDomain),
                        Err(NoRecords::NoData) => not_found(ResponseCode::NoError),
                        Err(_) => Txt::Error(Error::Dns(DnsError::Resolver(String::new()))),
                    };
                    (format!("{name}.").into(), parsed)
                })
                .collect(),
        )
    }

    pub(crate) fn hosts_of_theirs(&self) -> Cache<RecordSet<Ipv4Addr>> {
        let records = RecordSet {
            rrset: [Ipv4Addr::LOCALHOST].into(),
            dnssec_status: DnssecStatus::Indeterminate,
        };
        let hosts = self.hosts.iter();
        Cache(
            hosts
                .map(|name| (format!("{name}.").into(), records.clone()))
                .collect(),
        )
    }
}

/// Chooses among several records like `MessageAuthenticator::txt_lookup`: the first that can be parsed, or the last
/// error.
fn first<T: TxtRecordParser + Into<Txt>>(texts: &[Vec<u8>]) -> Txt {
    let mut result = Err(Error::Dns(DnsError::InvalidRecordType));
    for text in texts {
        result = T::parse(text);
        if result.is_ok() {
            break;
        }
    }
    result.into()
}

fn not_found(code: ResponseCode) -> Txt {
    Txt::Error(Error::Dns(DnsError::RecordNotFound(code)))
}

/// A cache for mail-auth that is filled in advance. Names that are not in it do not exist: with its feature `test`,
/// mail-auth answers so without a network.
pub(crate) struct Cache<T>(HashMap<Box<str>, T>);

impl<T: Clone> ResolverCache<Box<str>, T> for Cache<T> {
    fn get<Q>(&self, name: &Q) -> Option<T>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.get(name).cloned()
    }

    fn remove<Q>(&self, _: &Q) -> Option<T>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: T, _: Instant) {}
}
