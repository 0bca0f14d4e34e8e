//! DNS checks of an unauthenticated client: whether block lists contain its address (RFC 5782), and whether its reverse
//! name resolves to the address (forward-confirmed reverse DNS).
//!
//! Resumable: [`ClientDnsCheck::begin`] returns the questions, [`ClientDnsCheck::on_answer`] takes an answer and
//! returns further questions. A failed look-up does not count, and neither does an answer that is not valid for a block
//! list (RFC 5782 section 2.1): an answer from 127.255.255.0 on means that the list refuses our resolver; an answer
//! outside of 127.0.0.0/8 is forged.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::address::Domain;
use crate::config::{DnsList, Lists, Toggle};
use crate::dns::{Answer, Question, RecordKind, Records, reverse_name};
use crate::limits::PTR_NAMES_MAX;

/// The findings about one address.
#[derive(Debug)]
pub struct ClientDnsCheck {
    address: IpAddr,
    lists: Arc<Lists>,
    /// The lists that have not answered: one bit for each, by its index.
    waiting: u32,
    weight: u32,
    /// The listing with the highest weight.
    listed: Option<(u32, Domain)>,
    /// The forward-confirmed reverse name.
    name: Option<Domain>,
}

/// A list gave an answer without meaning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OddReply {
    /// The zone of the list.
    pub zone: Domain,
    /// The answer.
    pub reply: Ipv4Addr,
}

impl ClientDnsCheck {
    /// Begins the checks of an address; returns the questions.
    pub fn begin(address: IpAddr, lists: &Arc<Lists>, ptr: Toggle) -> (Self, Vec<Question>) {
        let address = address.to_canonical();
        let mut client_dns = Self {
            address,
            lists: Arc::clone(lists),
            waiting: 0,
            weight: 0,
            listed: None,
            name: None,
        };
        let mut questions = Vec::new();
        for (at, zone) in lists.zones.iter().enumerate() {
            if let Some(name) = name_in(address, zone) {
                client_dns.waiting |= bit(at);
                questions.push(Question {
                    name,
                    kind: RecordKind::A,
                });
            }
        }
        if ptr == Toggle::On {
            questions.push(Question {
                name: reverse_name(address),
                kind: RecordKind::Ptr,
            });
        }
        (client_dns, questions)
    }

    /// Takes an answer; returns further questions. Answers without meaning are added to `odd`.
    pub fn on_answer(
        &mut self,
        question: &Question,
        answer: &Answer,
        odd: &mut dyn FnMut(OddReply),
    ) -> Vec<Question> {
        let lists = Arc::clone(&self.lists);
        let list = lists.zones.iter().enumerate().find(|(at, zone)| {
            self.waiting & bit(*at) != 0
                && name_in(self.address, zone).as_ref() == Some(&question.name)
        });
        if let Some((at, zone)) = list {
            self.waiting &= !bit(at);
            if let Ok(records) = &answer.records
                && let Records::A(replies) = &**records
            {
                self.weigh(zone, replies, odd);
            }
            return Vec::new();
        }
        match answer.records.as_deref() {
            Ok(Records::Ptr(names)) => names
                .iter()
                .take(PTR_NAMES_MAX)
                .map(|name| self.forward(name))
                .collect(),
            Ok(Records::A(found)) => {
                self.confirm(question, found.iter().map(|&found| found.into()))
            }
            Ok(Records::Aaaa(found)) => {
                self.confirm(question, found.iter().map(|&found| found.into()))
            }
            _ => Vec::new(),
        }
    }

    /// Whether a list has not answered yet.
    pub const fn waits_for_lists(&self) -> bool {
        self.waiting != 0
    }

    /// The list with the highest weight that contains the address, if all listings together weigh enough.
    pub fn listed(&self) -> Option<&Domain> {
        let (_, zone) = self.listed.as_ref()?;
        (self.weight >= self.lists.threshold).then_some(zone)
    }

    /// The forward-confirmed reverse name, if it is known.
    pub const fn name(&self) -> Option<&Domain> {
        self.name.as_ref()
    }

    fn weigh(&mut self, zone: &DnsList, replies: &[Ipv4Addr], odd: &mut dyn FnMut(OddReply)) {
        let mut counts = false;
        for &reply in replies {
            if !reply.is_loopback() || reply >= REFUSED_QUERY {
                let zone = zone.name.clone();
                odd(OddReply { zone, reply });
            } else {
                let within =
                    |(first, last): &(Ipv4Addr, Ipv4Addr)| (first..=last).contains(&&reply);
                counts |= zone.replies.is_empty() || zone.replies.iter().any(within);
            }
        }
        if counts {
            self.weight = self.weight.saturating_add(zone.weight);
            if self
                .listed
                .as_ref()
                .is_none_or(|(weight, _)| *weight < zone.weight)
            {
                self.listed = Some((zone.weight, zone.name.clone()));
            }
        }
    }

    fn forward(&self, name: &Domain) -> Question {
        Question {
            name: name.clone(),
            kind: match self.address {
                IpAddr::V4(_) => RecordKind::A,
                IpAddr::V6(_) => RecordKind::Aaaa,
            },
        }
    }

    fn confirm(
        &mut self,
        question: &Question,
        mut found: impl Iterator<Item = IpAddr>,
    ) -> Vec<Question> {
        if self.name.is_none() && found.any(|found| found == self.address) {
            self.name = Some(question.name.clone());
        }
        Vec::new()
    }
}

/// The name to ask a list about an address (RFC 5782 sections 2.1 and 2.4).
fn name_in(address: IpAddr, zone: &DnsList) -> Option<Domain> {
    let reverse = reverse_name(address);
    let digits = reverse.as_str();
    let digits = digits
        .strip_suffix("in-addr.arpa")
        .or_else(|| digits.strip_suffix("ip6.arpa"))?;
    Domain::parse(&format!("{digits}{}", zone.name)).ok()
}

fn bit(at: usize) -> u32 {
    u32::try_from(at)
        .ok()
        .and_then(|at| 1_u32.checked_shl(at))
        .unwrap_or(0)
}

/// From this address on, an answer is an error code of the list.
const REFUSED_QUERY: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 0);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dns::NoRecords;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    fn zone(name: &str, weight: u32, replies: &[(u8, u8)]) -> DnsList {
        let reply = |last| Ipv4Addr::new(127, 0, 0, last);
        DnsList {
            name: domain(name),
            weight,
            replies: replies
                .iter()
                .map(|&(first, last)| (reply(first), reply(last)))
                .collect(),
        }
    }

    fn lists(threshold: u32, zones: Vec<DnsList>) -> Arc<Lists> {
        Arc::new(Lists { zones, threshold })
    }

    fn answer(records: Result<Records, NoRecords>) -> Answer {
        Answer {
            records: records.map(Arc::new),
            authentic: false,
            ttl: Duration::from_secs(60),
        }
    }

    fn replies(list: &[[u8; 4]]) -> Answer {
        answer(Ok(Records::A(
            list.iter().map(|&octets| octets.into()).collect(),
        )))
    }

    fn names(questions: &[Question]) -> Vec<&str> {
        questions
            .iter()
            .map(|question| question.name.as_str())
            .collect()
    }

    /// Answers all questions with these, and gives the odd ones.
    fn tell(
        client_dns: &mut ClientDnsCheck,
        questions: &[Question],
        answers: &[Answer],
    ) -> Vec<OddReply> {
        let mut odd = Vec::new();
        for (question, answer) in questions.iter().zip(answers) {
            let more = client_dns.on_answer(question, answer, &mut |reply| odd.push(reply));
            assert_eq!(more, []);
        }
        odd
    }

    #[test]
    fn lists_are_asked_in_their_form() {
        let lists = lists(1, vec![zone("bl.example", 1, &[])]);
        let ask = |address: &str| {
            ClientDnsCheck::begin(address.parse().expect("an address"), &lists, Toggle::Off).1
        };
        assert_eq!(names(&ask("192.0.2.99")), ["99.2.0.192.bl.example"]);
        assert_eq!(names(&ask("::ffff:192.0.2.99")), ["99.2.0.192.bl.example"]);
        // RFC 5782 section 2.4.
        assert_eq!(
            names(&ask("2001:db8:1:2:3:4:567:89ab")),
            ["b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example"]
        );
    }

    #[test]
    fn weights_add_up_to_the_threshold() {
        let lists = lists(
            3,
            vec![
                zone("a.example", 1, &[]),
                zone("b.example", 2, &[(2, 3), (9, 11)]),
            ],
        );
        let address = IpAddr::from([192, 0, 2, 1]);
        for (first, second, listed) in [
            ([127, 0, 0, 2], [127, 0, 0, 2], Some("b.example")),
            ([127, 0, 0, 2], [127, 0, 0, 10], Some("b.example")),
            ([127, 0, 0, 2], [127, 0, 0, 4], None),
            ([127, 255, 255, 254], [127, 0, 0, 2], None),
            ([192, 0, 2, 9], [127, 0, 0, 2], None),
        ] {
            let (mut client_dns, questions) = ClientDnsCheck::begin(address, &lists, Toggle::Off);
            assert!(client_dns.waits_for_lists() && questions.len() == 2);
            tell(
                &mut client_dns,
                &questions,
                &[replies(&[first]), replies(&[second])],
            );
            assert!(!client_dns.waits_for_lists());
            assert_eq!(
                client_dns.listed(),
                listed.map(domain).as_ref(),
                "{first:?} {second:?}"
            );
        }
    }

    #[test]
    fn odd_answers_and_failures_count_nothing() {
        let lists = lists(
            1,
            vec![zone("a.example", 1, &[]), zone("b.example", 1, &[])],
        );
        let address = IpAddr::from([192, 0, 2, 1]);
        let (mut client_dns, questions) = ClientDnsCheck::begin(address, &lists, Toggle::Off);
        let failed = answer(Err(NoRecords::Timeout));
        let odd = tell(
            &mut client_dns,
            &questions,
            &[replies(&[[127, 255, 255, 254], [198, 51, 100, 1]]), failed],
        );
        assert_eq!(odd.len(), 2);
        assert_eq!(odd[0].zone.as_str(), "a.example");
        assert_eq!(
            (client_dns.listed(), client_dns.waits_for_lists()),
            (None, false)
        );
    }

    #[test]
    fn a_name_has_to_lead_back() {
        for (address, back, kind) in [
            (
                "192.0.2.7",
                Records::A(vec![[192, 0, 2, 9].into(), [192, 0, 2, 7].into()]),
                RecordKind::A,
            ),
            (
                "2001:db8::7",
                Records::Aaaa(vec!["2001:db8::7".parse().expect("an address")]),
                RecordKind::Aaaa,
            ),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            let (mut client_dns, questions) =
                ClientDnsCheck::begin(address, &lists(1, Vec::new()), Toggle::On);
            assert!(!client_dns.waits_for_lists());
            let names = answer(Ok(Records::Ptr(vec![
                domain("liar.example"),
                domain("host.example"),
            ])));
            let further = client_dns.on_answer(&questions[0], &names, &mut |_| {});
            assert!(further.iter().all(|question| question.kind == kind) && further.len() == 2);
            tell(
                &mut client_dns,
                &further[..1],
                &[replies(&[[198, 51, 100, 1]])],
            );
            assert_eq!(client_dns.name(), None);
            tell(&mut client_dns, &further[1..], &[answer(Ok(back))]);
            assert_eq!(client_dns.name(), Some(&domain("host.example")));
        }
    }

    #[test]
    fn an_address_with_many_names_costs_few_questions() {
        let (mut client_dns, questions) =
            ClientDnsCheck::begin([192, 0, 2, 1].into(), &lists(1, Vec::new()), Toggle::On);
        let names = (0..50)
            .map(|number| domain(&format!("n{number}.example")))
            .collect();
        let further =
            client_dns.on_answer(&questions[0], &answer(Ok(Records::Ptr(names))), &mut |_| {});
        assert_eq!(further.len(), PTR_NAMES_MAX);
    }
}
