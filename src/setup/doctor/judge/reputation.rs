//! Block lists (RFC 5782).

use std::net::{IpAddr, Ipv4Addr};

use crate::setup::doctor::checks::{DNSBL, RESOLVER};
use crate::setup::doctor::finding::Finding;

/// A list that large receivers use, or that many small ones do.
#[derive(Debug, Eq, PartialEq)]
pub struct BlockList {
    pub zone: &'static str,
    /// Whether it has IPv6 addresses.
    pub has_v6: bool,
    /// The page for removal requests.
    pub page: &'static str,
}

/// The lists that are asked.
pub const LISTS: [BlockList; 4] = [
    BlockList {
        zone: "zen.spamhaus.org",
        has_v6: true,
        page: "https://check.spamhaus.org/",
    },
    BlockList {
        zone: "bl.spamcop.net",
        has_v6: false,
        page: "https://www.spamcop.net/bl.shtml",
    },
    BlockList {
        zone: "b.barracudacentral.org",
        has_v6: false,
        page: "https://www.barracudacentral.org/rbl/removal-request",
    },
    BlockList {
        zone: "psbl.surriel.com",
        has_v6: false,
        page: "https://psbl.org/",
    },
];

/// What a block list says about an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListAnswer {
    /// These answers; none: it does not list the address.
    Answers(Vec<Ipv4Addr>),
    /// It could not be asked, for this reason.
    Nothing(String),
}

/// One question to one block list, and its answer.
#[derive(Clone, Debug)]
pub struct ListQuestion {
    pub list: &'static BlockList,
    pub address: IpAddr,
    /// The answer about it.
    pub word: ListAnswer,
    /// And of 127.0.0.2, which every list that works has (RFC 5782 section 5).
    pub of_test: ListAnswer,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(asked: &[ListQuestion]) -> Vec<Finding> {
    asked.iter().map(one).collect()
}

fn one(asked: &ListQuestion) -> Finding {
    let about = format!("{} at {}", asked.address, asked.list.zone);
    let (answers, of_test) = match (&asked.word, &asked.of_test) {
        (ListAnswer::Nothing(why), _) | (_, ListAnswer::Nothing(why)) => {
            return DNSBL
                .unknown(
                    about,
                    format!("the list could not be asked: {why}"),
                    "run chopar doctor again once the resolver answers",
                )
                .for_want_of(&RESOLVER);
        }
        (ListAnswer::Answers(answers), ListAnswer::Answers(of_test)) => (answers, of_test),
    };
    if let Some(refusal) = answers
        .iter()
        .chain(of_test)
        .find_map(|answer| refusal(*answer))
    {
        return DNSBL.warning(about, refusal, OWN_RESOLVER);
    }
    let is_listing = |answer: &&Ipv4Addr| answer.is_loopback();
    if let Some(answer) = answers.iter().find(is_listing) {
        return DNSBL.bad(
            about,
            format!("the address is listed ({answer})"),
            format!("find out why and have it taken off at {}", asked.list.page),
        );
    }
    if let Some(answer) = answers.first() {
        return DNSBL.warning(
            about,
            format!("the answer {answer} is not one of a block list: the resolver forges answers"),
            OWN_RESOLVER,
        );
    }
    match of_test.iter().any(Ipv4Addr::is_loopback) {
        true => DNSBL.good(about, "the address is not listed"),
        false => DNSBL.warning(
            about,
            "the list does not have its test entry 127.0.0.2 either, so that its answer means nothing",
            OWN_RESOLVER,
        ),
    }
}

/// The meaning of answers that are refusals, by Spamhaus's codes, which other lists use too.
fn refusal(answer: Ipv4Addr) -> Option<String> {
    let [127, 255, 255, last] = answer.octets() else {
        return None;
    };
    let why = match last {
        252 => "the name that was asked is mistyped",
        254 => "it refuses to answer large public resolvers, such as the one that was asked",
        255 => "this resolver has asked too much",
        _ => "it does not say why",
    };
    Some(format!("the list refuses to answer ({answer}): {why}"))
}

const OWN_RESOLVER: &str = "run a resolver on this machine (apt install unbound) and name it: servers = [\"127.0.0.1\"] in [dns] of chopar.toml; an existing one must query the zones itself and forward to no other";
