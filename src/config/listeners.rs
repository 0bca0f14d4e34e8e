//! `[listen]`: where the sockets of the listeners come from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use super::check::{Check, FILE};
use super::error::position;
use super::problem::{ClientProblem, ConfigProblem};

/// The listening sockets of `[listen]`, by purpose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listeners {
    /// Port 25.
    pub smtp: Listen,
    /// Port 25 behind proxies, which send the client's address.
    pub proxy: Listen,
    /// Port 587: STARTTLS and AUTH.
    pub submission: Listen,
    /// Port 465: TLS from the first byte.
    pub submissions: Listen,
    /// Status page and metrics.
    pub status: Listen,
    /// HTTPS, for MTA-STS and for mail programs that configure themselves.
    pub https: Listen,
}

/// Where one listener's sockets come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listen {
    /// They are bound; none turns the listener off.
    Addresses(Vec<SocketAddr>),
    /// systemd passes them, under the name of the key.
    Systemd,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListenText {
    pub(super) smtp: Option<Spanned<Sockets>>,
    pub(super) proxy: Option<Spanned<Sockets>>,
    pub(super) submission: Option<Spanned<Sockets>>,
    pub(super) submissions: Option<Spanned<Sockets>>,
    pub(super) status: Option<Spanned<Sockets>>,
    pub(super) https: Option<Spanned<Sockets>>,
}

/// A list of socket addresses, or the word for passed sockets.
pub(super) enum Sockets {
    List(Vec<Spanned<String>>),
    Word(String),
}

impl<'de> Deserialize<'de> for Sockets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Sockets;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of addresses with ports, or \"systemd\"")
            }

            fn visit_str<E>(self, word: &str) -> Result<Sockets, E> {
                Ok(Sockets::Word(word.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sockets, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Sockets::List(list))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Check<'_> {
    pub(super) fn listeners(&mut self, listen: ListenText) -> Listeners {
        Listeners {
            smtp: self.sockets(listen.smtp, everywhere(25)),
            proxy: self.sockets(listen.proxy, Vec::new()),
            submission: self.sockets(listen.submission, everywhere(587)),
            submissions: self.sockets(listen.submissions, everywhere(465)),
            status: self.sockets(
                listen.status,
                vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8025))],
            ),
            https: self.sockets(listen.https, Vec::new()),
        }
    }

    fn sockets(&mut self, sockets: Option<Spanned<Sockets>>, default: Vec<SocketAddr>) -> Listen {
        let Some(sockets) = sockets else {
            return Listen::Addresses(default);
        };
        match sockets.get_ref() {
            Sockets::Word(word) if word == "systemd" => Listen::Systemd,
            Sockets::Word(word) => {
                let text = word.clone();
                self.problem(
                    &sockets,
                    ConfigProblem::Client(ClientProblem::ListenWord { text }),
                );
                Listen::Systemd
            }
            Sockets::List(list) => {
                let parsed = list.iter().filter_map(|text| {
                    let address = text.get_ref().parse().ok();
                    if address.is_none() {
                        let there = text.get_ref().clone();
                        self.problem(
                            text,
                            ConfigProblem::Client(ClientProblem::SocketAddress { text: there }),
                        );
                    }
                    address
                });
                let addresses: Vec<SocketAddr> = parsed.collect();
                self.note_ipv6_only(&sockets, &addresses);
                Listen::Addresses(addresses)
            }
        }
    }

    /// Warns of `[::]`, which is often meant as all addresses, but means only those of IPv6 here.
    fn note_ipv6_only(&mut self, sockets: &Spanned<Sockets>, addresses: &[SocketAddr]) {
        let place = position(self.text, sockets.span().start);
        for address in addresses {
            let is_all = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let port = address.port();
            let mut beside = addresses.iter().filter(|other| other.port() == port);
            if is_all && !beside.any(SocketAddr::is_ipv4) {
                let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).to_string();
                self.errors.warn_at(
                    FILE,
                    place,
                    ConfigProblem::Client(ClientProblem::Ipv6Only { address }),
                );
            }
        }
    }
}

fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ]
}
