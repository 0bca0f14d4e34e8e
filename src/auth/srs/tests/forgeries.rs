//! Strings made from addresses that were issued: none but those is believed.

use std::collections::HashSet;

use super::*;
use crate::entropy::{Entropy, SeededEntropy};

/// Strings that are tried.
const STRINGS: u64 = 1_000_000;

/// What a mailbox is whatever its spelling.
fn key(address: &Mailbox) -> String {
    let local = unquoted(address.local_part()).1.to_ascii_lowercase();
    format!("{local}@{}", address.domain())
}

struct Forger {
    chance: SeededEntropy,
    issued: Vec<String>,
}

impl Forger {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.chance.below(bound as u64)).expect("an index")
    }

    fn pick(&mut self) -> String {
        let at = self.below(self.issued.len());
        self.issued[at].clone()
    }

    /// The local part of an address cut at its separators, and its domain.
    fn fields(text: &str) -> (Vec<String>, String) {
        let (local, domain) = text.rsplit_once('@').expect("an address");
        let fields = local.split('=').map(str::to_owned).collect();
        (fields, domain.to_owned())
    }

    fn forge(&mut self) -> String {
        let mut text = self.pick();
        for _ in 0..=self.below(3) {
            text = self.alter(text);
        }
        text
    }

    fn alter(&mut self, text: String) -> String {
        let (mut fields, mut domain) = Self::fields(&text);
        let (others, other_domain) = Self::fields(&self.pick());
        let at = self.below(fields.len());
        let other = others[self.below(others.len())].clone();
        let today = NOW.seconds() / DAY_S;
        match self.below(12) {
            0 => return text.to_ascii_lowercase(),
            1 => return text.to_ascii_uppercase(),
            2 => domain = other_domain,
            3 => fields[at] = other,
            4 => fields.insert(at, other),
            5 => drop(fields.remove(at)),
            6 => {
                // Front of one, end of another.
                let cut = self.below(others.len());
                fields.truncate(at);
                fields.extend_from_slice(&others[cut..]);
            }
            7 => {
                let tags = ["SRS0", "SRS1", "srs0", "Srs1", "SRS2", "SRS"];
                fields[0] = tags[self.below(tags.len())].to_owned();
            }
            8 => {
                // The day, where either form has it.
                let day = stamp(today.wrapping_sub(self.chance.below(1_024)));
                let place = self.below(fields.len().min(3));
                match fields[place].len() {
                    10 => fields[place].replace_range(8.., &day),
                    _ => fields[place] = day,
                }
            }
            9 => {
                // The day of one form goes to the place of the other, under its tag.
                match (fields.first().map(String::as_str), fields.len() > 3) {
                    (Some("SRS0"), true) => {
                        let day = fields.remove(2);
                        fields[1].push_str(&day);
                        fields[0] = "SRS1".to_owned();
                    }
                    (Some("SRS1"), true) if fields[1].len() == 10 => {
                        let day = fields[1].split_off(8);
                        fields.insert(2, day);
                        fields[0] = "SRS0".to_owned();
                    }
                    _ => {}
                }
            }
            10 => {
                let local = format!("{}x", fields.join("="));
                let place = self.below(local.len());
                let mut bytes = local.into_bytes();
                bytes[place] = b"=+-Aa2x."[self.below(8)];
                return format!("{}@{domain}", String::from_utf8_lossy(&bytes));
            }
            _ => return format!("\"{}\"@{domain}", fields.join("=").replace('"', "")),
        }
        format!("{}@{domain}", fields.join("="))
    }
}

#[test]
fn of_strings_made_from_issued_addresses_only_those_are_believed() {
    // The old release's addresses are forgeable by those who had them made: they are believed for a while, apart.
    let rewriter = rewriter("0123");
    let forwarders = ["us.example", "two.example", "a.us.example"];
    let senders = [
        "ann@source.example",
        "bob@victim.example",
        "a=b@source.example",
        "SRS0=h=tt=source.example=ann@first.example",
        "SRS1=x=first.example==h=tt=source.example=ann@second.example",
        "SRS1=x=DD=victim.example=bob@evil.example",
        "SRS0=HHHHHHHH=DD=victim.example=bob@evil.example",
        "SRS1=x=victim.example==a=b=c=d@evil.example",
        "\"quoted ann\"@source.example",
        "srs1+x=first.example=+h=tt=source.example=ann@second.example",
    ];
    let mut issued = Vec::new();
    for ago in [0, 1, 5, 20] {
        for (sender, forwarder) in senders
            .iter()
            .flat_map(|one| forwarders.map(|two| (one, two)))
        {
            let at = Timestamp::from_seconds(NOW.seconds() - ago * DAY_S);
            let forwarder = Domain::parse(forwarder).expect("a domain");
            let made = rewriter.forward(&mailbox(sender), &forwarder, at);
            issued.push(made.expect("an address"));
        }
    }
    let known: HashSet<String> = issued.iter().map(key).collect();
    let mut forger = Forger {
        chance: SeededEntropy::new(2_822),
        issued: issued.iter().map(ToString::to_string).collect(),
    };
    let (mut addresses, mut believed) = (0_u64, 0_u64);
    for _ in 0..STRINGS {
        let text = forger.forge();
        let Ok(address) = Mailbox::parse(&text) else {
            continue;
        };
        addresses += 1;
        let result = rewriter.unwrap(
            &address,
            |domain| forwarders.contains(&domain.as_str()),
            NOW,
        );
        let is_issued = known.contains(&key(&address));
        believed += u64::from(result.is_ok());
        assert_eq!(result.is_ok(), is_issued, "{text}: {result:?}");
    }
    assert!(
        addresses > STRINGS / 2 && believed > STRINGS / 50,
        "{addresses} addresses, {believed} of them issued"
    );
}
