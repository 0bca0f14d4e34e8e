//! `[abuse]`: limits and checks for unauthenticated clients on port 25.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::Check;
use super::problem::{ClientProblem, ConfigProblem, NameProblem, ValueProblem};
use crate::address::Domain;
use crate::limits::{
    CONNECTIONS_PER_MINUTE_DEFAULT, DNSBL_NAME_BYTES_MAX, DNSBL_ZONES_MAX, GREYLIST_DELAY_DEFAULT,
    GREYLIST_LIFETIME_DEFAULT, GREYLIST_WINDOW_DEFAULT, MESSAGES_PER_MINUTE_DEFAULT,
    RECIPIENTS_PER_MINUTE_DEFAULT, UNKNOWN_RECIPIENTS_DEFAULT,
};

/// Limits for unauthenticated clients on port 25, and look-ups about them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Abuse {
    /// Whether the argument of EHLO or HELO is checked.
    pub hello: Toggle,
    /// Whether the name of an address is looked up.
    pub ptr: Toggle,
    /// Whether addresses that are refused again and again wait for their replies.
    pub tarpit: Toggle,
    /// The lists of bad addresses.
    pub lists: Arc<Lists>,
    /// How unauthenticated clients are made to come again; `None`: they are not.
    pub greylist: Option<Greylisting>,
    /// Connections of one address in a minute; 0: as many as it likes, here and below.
    pub connections_per_minute: u32,
    pub messages_per_minute: u32,
    pub recipients_per_minute: u32,
    /// Recipients that do not exist, past which a session is closed.
    pub unknown_recipients: u32,
}

/// A check that is on or off.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "bool")]
pub enum Toggle {
    /// It is made.
    On,
    Off,
}

/// Lists of bad addresses in the DNS (RFC 5782).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lists {
    pub zones: Vec<DnsList>,
    /// The weight at which an address is refused.
    pub threshold: u32,
}

impl Lists {
    /// Whether a name is one of a list.
    pub fn holds(&self, name: &Domain) -> bool {
        let name = name.as_str();
        self.zones.iter().any(|zone| {
            let front = name.strip_suffix(zone.name.as_str());
            front.is_some_and(|front| front.ends_with('.'))
        })
    }
}

/// A list of `abuse.lists`: its zone, and the meaning of its answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnsList {
    pub name: Domain,
    /// The weight of a listing.
    pub weight: u32,
    /// The answers that count, first and last; none: all that can be one.
    pub replies: Vec<(Ipv4Addr, Ipv4Addr)>,
}

/// How unauthenticated clients are made to come again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Greylisting {
    /// How long a first attempt is deferred.
    pub delay: Duration,
    /// How long the second attempt may take.
    pub window: Duration,
    /// How long it is remembered that it came.
    pub lifetime: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AbuseText {
    hello: Toggle,
    ptr: Toggle,
    tarpit: Toggle,
    dnsbl: Vec<ZoneText>,
    dnsbl_threshold: Option<Spanned<u32>>,
    greylist: bool,
    greylist_delay: Option<Spanned<String>>,
    greylist_window: Option<Spanned<String>>,
    greylist_lifetime: Option<Spanned<String>>,
    connections_per_minute: u32,
    messages_per_minute: u32,
    recipients_per_minute: u32,
    unknown_recipients: u32,
}

impl Default for AbuseText {
    fn default() -> Self {
        Self {
            hello: Toggle::On,
            ptr: Toggle::On,
            tarpit: Toggle::On,
            dnsbl: Vec::new(),
            dnsbl_threshold: None,
            greylist: false,
            greylist_delay: None,
            greylist_window: None,
            greylist_lifetime: None,
            connections_per_minute: CONNECTIONS_PER_MINUTE_DEFAULT,
            messages_per_minute: MESSAGES_PER_MINUTE_DEFAULT,
            recipients_per_minute: RECIPIENTS_PER_MINUTE_DEFAULT,
            unknown_recipients: UNKNOWN_RECIPIENTS_DEFAULT,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneText {
    zone: Spanned<String>,
    #[serde(default)]
    weight: Option<Spanned<u32>>,
    #[serde(default)]
    replies: Vec<Spanned<String>>,
}

impl From<bool> for Toggle {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

impl Check<'_> {
    pub(super) fn abuse(&mut self, raw: AbuseText) -> Abuse {
        let threshold = self.weight(raw.dnsbl_threshold.as_ref());
        let greylist = Greylisting {
            delay: self.duration(raw.greylist_delay.as_ref(), GREYLIST_DELAY_DEFAULT),
            window: self.duration(raw.greylist_window.as_ref(), GREYLIST_WINDOW_DEFAULT),
            lifetime: self.duration(raw.greylist_lifetime.as_ref(), GREYLIST_LIFETIME_DEFAULT),
        };
        if greylist.window <= greylist.delay
            && let Some(at) = raw.greylist_window.as_ref().or(raw.greylist_delay.as_ref())
        {
            self.problem(at, ConfigProblem::Client(ClientProblem::GreylistWindow));
        }
        Abuse {
            hello: raw.hello,
            ptr: raw.ptr,
            tarpit: raw.tarpit,
            lists: Arc::new(Lists {
                zones: self.zones(&raw.dnsbl),
                threshold,
            }),
            greylist: raw.greylist.then_some(greylist),
            connections_per_minute: raw.connections_per_minute,
            messages_per_minute: raw.messages_per_minute,
            recipients_per_minute: raw.recipients_per_minute,
            unknown_recipients: raw.unknown_recipients,
        }
    }

    fn weight(&mut self, number: Option<&Spanned<u32>>) -> u32 {
        let weight = number.map_or(1, |number| *number.get_ref());
        if let (0, Some(number)) = (weight, number) {
            self.problem(
                number,
                ConfigProblem::Value(ValueProblem::TooSmall { least: "1" }),
            );
        }
        weight
    }

    fn zones(&mut self, raw: &[ZoneText]) -> Vec<DnsList> {
        if let Some(one) = raw.get(DNSBL_ZONES_MAX) {
            self.problem(&one.zone, ConfigProblem::Client(ClientProblem::Zones));
        }
        let mut zones = Vec::new();
        for zone in raw {
            let weight = self.weight(zone.weight.as_ref());
            let mut replies = Vec::new();
            for text in &zone.replies {
                match reply_range(text.get_ref()) {
                    Some(range) => replies.push(range),
                    None => {
                        let there = text.get_ref().clone();
                        self.problem(
                            text,
                            ConfigProblem::Client(ClientProblem::ListReply { text: there }),
                        );
                    }
                }
            }
            // The reversed address must fit in front of it.
            match Domain::parse(zone.zone.get_ref()) {
                Ok(name) if !name.is_literal() && name.as_str().len() <= DNSBL_NAME_BYTES_MAX => {
                    zones.push(DnsList {
                        name,
                        weight,
                        replies,
                    });
                }
                result => {
                    let error = result.err().unwrap_or(crate::address::AddressError::Domain);
                    let text = zone.zone.get_ref().clone();
                    self.problem(
                        &zone.zone,
                        ConfigProblem::Name(NameProblem::Domain { text, error }),
                    );
                }
            }
        }
        zones
    }
}

/// `127.0.0.2`, or `127.0.0.2-11` for all up to 127.0.0.11.
fn reply_range(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first, Some(last)),
        None => (text, None),
    };
    let first: Ipv4Addr = first.parse().ok()?;
    let last = match last {
        None => first,
        Some(last) => {
            let [a, b, c, _] = first.octets();
            Ipv4Addr::new(a, b, c, last.parse().ok()?)
        }
    };
    (first.is_loopback() && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_answers_of_a_list() {
        let range = |a: [u8; 4], b: [u8; 4]| Some((a.into(), b.into()));
        assert_eq!(
            reply_range("127.0.0.2"),
            range([127, 0, 0, 2], [127, 0, 0, 2])
        );
        assert_eq!(
            reply_range("127.0.0.2-11"),
            range([127, 0, 0, 2], [127, 0, 0, 11])
        );
        for bad in [
            "",
            "127.0.0.2-1",
            "127.0.0.2-",
            "127.0.0.2-256",
            "192.0.2.1",
            "127.0.0.2-127.0.0.11",
        ] {
            assert_eq!(reply_range(bad), None, "{bad:?}");
        }
    }
}
