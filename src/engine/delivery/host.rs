//! Candidate hosts of a next hop, and their addresses.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::address::Domain;
use crate::cause::FailurePlace;
use crate::config;
use crate::destination::{Scheme, Via};
use crate::dns::{NoRecords, Question};
use crate::engine::event::Endpoint;
use crate::smtp::client::{ClientLogin, ClientProtocol, TlsPolicy};

/// The hosts of a next hop that have not been tried.
#[derive(Default)]
pub(super) struct Candidates {
    /// Hosts that have not been looked up.
    pub(super) hosts: VecDeque<Host>,
    /// Addresses of the hosts that have.
    pub(super) targets: VecDeque<Target>,
    /// Whether a question was not asked, because too much was being asked already.
    pub(super) is_unasked: bool,
}

impl Candidates {
    /// Whether none is left.
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.hosts.is_empty()
    }
}

/// The current look-up.
pub(super) enum Search {
    /// Nothing: the next candidate is taken.
    Done,
    /// The mail exchangers of a domain.
    Exchangers(Question),
    /// The addresses of a host.
    Addresses(Box<Addresses>),
}

/// The addresses of a host, as far as they are known.
pub(super) struct Addresses {
    pub(super) host: Host,
    /// Questions that are open.
    pub(super) asked: Vec<Question>,
    pub(super) found: Vec<IpAddr>,
    /// Why an address was not found.
    pub(super) in_vain: Option<NoRecords>,
    /// Whether a question was not asked, because too much was being asked already.
    pub(super) is_unasked: bool,
}

/// A host to be tried.
#[derive(Clone)]
pub(super) struct Host {
    /// Its name; ours if it is a program of this machine.
    pub(super) name: Domain,
    /// Its address, if that is known without a look-up.
    pub(super) at: Option<Endpoint>,
    pub(super) port: u16,
    pub(super) protocol: ClientProtocol,
    pub(super) tls: TlsPolicy,
    pub(super) login: Option<ClientLogin>,
    pub(super) found_by: FoundBy,
}

/// How a host was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FoundBy {
    /// The configuration names it: an address of this machine is meant.
    Configured,
    /// It is a mail exchanger.
    Exchanger,
    /// It is the domain itself, which has no mail exchanger.
    Implicit,
}

/// An address to be tried.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) to: Endpoint,
}

impl Target {
    /// Its name for people.
    pub(super) fn place(&self) -> FailurePlace {
        match &self.to {
            Endpoint::Tcp(to) => FailurePlace::Host {
                name: self.host.name.as_str().into(),
                address: Some(to.ip()),
            },
            Endpoint::Unix(path) => FailurePlace::Socket(path.display().to_string().into()),
            Endpoint::Helper(target) => FailurePlace::Program(target.clone()),
        }
    }

    /// Whether nothing leaves this machine on the way there.
    pub(super) fn is_on_this_machine(&self) -> bool {
        self.to.ip().is_none_or(|ip| ip.is_loopback())
    }

    /// The host that has the message now, and is responsible for DSNs; `None` for a program of this machine, even if it
    /// accepts LMTP on a port.
    pub(super) fn remote_host(&self) -> Option<String> {
        let here = |ip: &IpAddr| self.host.protocol == ClientProtocol::Lmtp && ip.is_loopback();
        let ip = self.to.ip().filter(|ip| !here(ip));
        ip.map(|_| self.host.name.to_string())
    }
}

/// A host that the configuration names.
pub(super) fn configured(via: Via, login: Option<&config::RouteLogin>) -> Host {
    let (tls, protocol) = match via.scheme {
        Scheme::Smtp => (TlsPolicy::Opportunistic, ClientProtocol::Smtp),
        Scheme::SmtpStartTls => (TlsPolicy::Required, ClientProtocol::Smtp),
        Scheme::Smtps => (TlsPolicy::Active, ClientProtocol::Smtp),
        Scheme::Lmtp => (TlsPolicy::Opportunistic, ClientProtocol::Lmtp),
    };
    Host {
        at: via
            .address
            .map(|address| Endpoint::Tcp(SocketAddr::new(address, via.port))),
        name: via.host,
        port: via.port,
        protocol,
        tls,
        login: login.map(|login| ClientLogin {
            user: login.user.clone(),
            password: login.password.clone(),
        }),
        found_by: FoundBy::Configured,
    }
}
