//! `[relay]` and `[proxy]`: networks whose clients may relay without authentication, and proxies that are believed
//! about the client's address.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::check::{Check, FILE};
use super::error::position;
use super::listeners::{ListenText, Sockets};
use super::network::{Network, NetworkError, Networks};
use super::problem::{ClientProblem, ConfigProblem};
use crate::address::Domain;

/// Clients and proxies that are trusted without a password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trust {
    /// Peers that may relay without AUTH.
    pub relay: Networks,
    /// The networks among them whose line ends are mended.
    pub mended: Networks,
    /// Proxies that are believed about the addresses of their clients.
    pub proxies: Networks,
    /// Domains whose seals may excuse a failure of DMARC (RFC 8617 section 7.2.1).
    pub sealers: Vec<Domain>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RelayText {
    pub(super) networks: Vec<RelayNetworkText>,
}

/// A network, or one with its handling of line ends.
pub(super) enum RelayNetworkText {
    Plain(Spanned<String>),
    Table(RelayNetworkTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayNetworkTable {
    network: Spanned<String>,
    line_ends: Option<Spanned<String>>,
}

impl RelayNetworkText {
    pub(super) fn parts(self) -> (Spanned<String>, Option<Spanned<String>>) {
        match self {
            Self::Plain(network) => (network, None),
            Self::Table(table) => (table.network, table.line_ends),
        }
    }
}

impl<'de> Deserialize<'de> for RelayNetworkText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = TextOrTable;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a network, or { network = \"…\", line_ends = \"mend\" }")
            }

            fn visit_str<E>(self, network: &str) -> Result<TextOrTable, E> {
                Ok(TextOrTable::Text(network.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TextOrTable, A::Error> {
                let table = MapAccessDeserializer::new(map);
                RelayNetworkTable::deserialize(table).map(TextOrTable::Table)
            }
        }

        enum TextOrTable {
            Text(String),
            Table(RelayNetworkTable),
        }

        impl<'de> Deserialize<'de> for TextOrTable {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Either)
            }
        }

        let either = Spanned::<TextOrTable>::deserialize(deserializer)?;
        let span = either.span();
        Ok(match either.into_inner() {
            TextOrTable::Text(network) => Self::Plain(Spanned::new(span, network)),
            TextOrTable::Table(table) => Self::Table(table),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NetworksText {
    pub(super) networks: Vec<Spanned<String>>,
}

impl Check<'_> {
    /// The networks that may relay, as they are written, and those among them whose line ends are mended.
    pub(super) fn relay_networks(&mut self, raw: RelayText) -> (Vec<Spanned<String>>, Networks) {
        let (mut all, mut mended) = (Vec::new(), Vec::new());
        for network in raw.networks {
            let (network, line_ends) = network.parts();
            let mends = self.word(line_ends.as_ref(), &[("strict", false), ("mend", true)]);
            if mends {
                mended.extend(Network::parse(network.get_ref()).ok());
            }
            all.push(network);
        }
        (all, Networks(mended))
    }

    /// Networks that may relay; all of the Internet would be an open relay.
    pub(super) fn relay(&mut self, list: &[Spanned<String>]) -> Networks {
        for text in list {
            if Network::parse(text.get_ref()).is_ok_and(|network| network.is_everything()) {
                let place = position(self.text, text.span().start);
                let network = text.get_ref().clone();
                self.errors.warn_at(
                    FILE,
                    place,
                    ConfigProblem::Client(ClientProblem::OpenRelay { network }),
                );
            }
        }
        self.networks(list)
    }

    /// Checks the proxies. A proxy port that no proxy may use would be a mistake that only its first client notices. A
    /// proxy that may relay by its own address would lend that right to every client behind it.
    pub(super) fn proxies(
        &mut self,
        listen: &ListenText,
        list: &[Spanned<String>],
        relay: &[Spanned<String>],
    ) -> Networks {
        if let Some(sockets) = &listen.proxy
            && list.is_empty()
            && !matches!(sockets.get_ref(), Sockets::List(addresses) if addresses.is_empty())
        {
            self.problem(sockets, ConfigProblem::Client(ClientProblem::NoProxies));
        }
        let relay = relay.iter().map(|text| Network::parse(text.get_ref()));
        let relay = Networks(relay.filter_map(Result::ok).collect());
        for text in list {
            if let Ok(proxy) = Network::parse(text.get_ref())
                && let Some(network) = relay.sharing(&proxy)
            {
                let place = position(self.text, text.span().start);
                let (proxy, network) = (proxy.to_string(), network.to_string());
                let problem = ConfigProblem::Client(ClientProblem::TrustedProxy { proxy, network });
                self.errors.warn_at(FILE, place, problem);
            }
        }
        self.networks(list)
    }

    fn networks(&mut self, list: &[Spanned<String>]) -> Networks {
        let parsed = list.iter().filter_map(|text| {
            let problem = match Network::parse(text.get_ref()) {
                Ok(network) => return Some(network),
                Err(NetworkError::Form) => ConfigProblem::Client(ClientProblem::Network {
                    text: text.get_ref().clone(),
                }),
                Err(NetworkError::HostBits(network)) => {
                    ConfigProblem::Client(ClientProblem::NetworkHostBits {
                        network: network.to_string(),
                    })
                }
            };
            self.problem(text, problem);
            None
        });
        Networks(parsed.collect())
    }
}
