//! The way to a next hop: its hosts, their addresses, and which of them is tried next.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::outcome::close_waiting;
use super::session::{Courier, Delivery, Host, Origin, Reach, Stage, Target, Trouble, cause_at};
use crate::address::Domain;
use crate::cause::{Cause, Place, Words};
use crate::clock::Instant;
use crate::config::{self, Destination, Family, Scheme, Via};
use crate::dns::{Answer, MailHosts, NoRecords, Question, RecordKind, Records, mail_hosts};
use crate::engine::connections::Owner;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Endpoint};
use crate::engine::log::{Level, Line};
use crate::limits::{
    ADDRESSES_PER_HOST_MAX, CONNECT_TIMEOUT, DELIVERY_ATTEMPT_TIMEOUT, DELIVERY_WALK_TIMEOUT,
};
use crate::policy::route::NextHop;
use crate::policy::shares::{Holder, Kind, Resource, Standing, hash_of_address};
use crate::queue::{HopId, Outcome, Phase};
use crate::smtp::client::{Login, Protocol, Tls};
use crate::status::EnhancedCode;

impl Delivery {
    /// Sets a courier out.
    pub(super) fn send_courier(
        &mut self,
        hop: HopId,
        name: &NextHop,
        holder: Holder,
        fx: &mut Effects,
    ) {
        let mut courier = Box::new(Courier::new(hop, holder, fx.now.instant));
        let conn = fx.conns.reserve(Owner::Delivery);
        match name {
            NextHop::Mx(domain) => {
                let question = Question {
                    name: domain.clone(),
                    kind: RecordKind::Mx,
                };
                match fx.ask(conn, DELIVERY, question.clone()) {
                    Some(answer) => return self.courier_mx(conn, courier, domain, &answer, fx),
                    None => courier.asked.push(question),
                }
            }
            NextHop::Route { index } => {
                let config = Arc::clone(&fx.config);
                if let Some(route) = config.routes.get(*index) {
                    let login = route.login.as_ref();
                    for via in &route.via {
                        self.add_hosts(&mut courier, via, login, fx);
                    }
                }
                return self.courier_next(conn, courier, fx);
            }
            NextHop::Alias(Destination::Discard) => {
                return self.hop_discards(conn, courier, fx);
            }
            NextHop::Alias(destination) => {
                self.add_hosts(&mut courier, destination, None, fx);
                return self.courier_next(conn, courier, fx);
            }
        }
        self.courier_put(conn, courier, fx);
    }

    /// Adds the hosts, or the program, that a destination names.
    fn add_hosts(
        &self,
        courier: &mut Courier,
        destination: &Destination,
        login: Option<&config::Login>,
        fx: &Effects,
    ) {
        let here = match destination {
            Destination::Hosts(hosts) => {
                let hosts = hosts.iter().cloned();
                return courier
                    .hosts
                    .extend(hosts.map(|via| configured(via, login)));
            }
            Destination::Lmtp(via) => configured(via.as_ref().clone(), None),
            Destination::LmtpSocket(path) => self.here(Endpoint::Unix(path.as_ref().into()), fx),
            Destination::Maildir(_)
            | Destination::Pipe(_)
            | Destination::Reports
            | Destination::Discard => {
                self.here(Endpoint::Helper(destination.to_string().into()), fx)
            }
        };
        courier.hosts.push_back(here);
    }

    /// The MX records are known, or known not to be.
    pub(super) fn courier_mx(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        domain: &Domain,
        answer: &Answer,
        fx: &mut Effects,
    ) {
        match mail_hosts(domain, answer, &fx.config.hostname, &mut *fx.entropy) {
            Ok(MailHosts {
                hosts, implicit, ..
            }) => {
                let origin = if implicit {
                    Origin::Implicit
                } else {
                    Origin::Exchanger
                };
                fx.debug(|| {
                    let names: Vec<String> =
                        hosts.iter().map(|host| host.host.to_string()).collect();
                    Line::new(Level::Debug, "mx")
                        .with("domain", domain)
                        .with("hosts", names.join(","))
                });
                courier.hosts.extend(hosts.into_iter().map(|host| Host {
                    name: host.host,
                    at: None,
                    port: fx.config.delivery.port,
                    protocol: Protocol::Smtp,
                    tls: Tls::Opportunistic,
                    login: None,
                    origin,
                }));
                self.courier_next(conn, courier, fx);
            }
            Err(nowhere) if nowhere.code().is_transient() => {
                courier.is_unasked |= answer.records == Err(NoRecords::NoRoom);
                let why = Cause::here(format!("{domain}: {nowhere}"));
                courier.note(nowhere.code(), why);
                self.courier_failed(conn, courier, fx);
            }
            Err(nowhere) => {
                let why = Cause::here(format!("{domain}: {nowhere}"));
                self.hop_refused(conn, courier, nowhere.code(), &why, fx);
            }
        }
    }

    /// Tries the next address, or looks up the next host.
    pub(super) fn courier_next(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        fx: &mut Effects,
    ) {
        if let Some(id) = courier.load.as_ref().map(|load| load.id) {
            if fx.index.get(id).is_none() {
                courier.load = None;
                return self.courier_over(conn, courier, fx);
            }
            if fx.stopping || fx.disk.is_stuck || !self.is_wanted(id, fx) {
                return self.courier_home(conn, courier, fx);
            }
        }
        loop {
            if fx.now.instant >= courier.walk_until {
                let status = EnhancedCode::new(4, 4, 7);
                courier.note(status, Cause::here("no host took the message in time"));
                return self.courier_failed(conn, courier, fx);
            }
            if let Some(target) = courier.targets.pop_front() {
                // Who waits with a message in hand for a host that was dead a moment ago keeps others waiting.
                let hop = self
                    .hops
                    .get(courier.hop)
                    .filter(|_| courier.load.is_some());
                let address = target.to.ip();
                if hop
                    .zip(address)
                    .is_some_and(|(hop, ip)| hop.is_dead(ip, fx.now.instant))
                {
                    continue;
                }
                return self.courier_connect(conn, courier, target, fx);
            }
            let Some(host) = courier.hosts.pop_front() else {
                return self.courier_failed(conn, courier, fx);
            };
            if let Some(to) = host.at.clone() {
                courier.targets.push_back(Target { host, to });
                continue;
            }
            let kinds: &[RecordKind] = match fx.config.delivery.ip {
                Family::Any => &[RecordKind::Aaaa, RecordKind::A],
                Family::Ipv4 => &[RecordKind::A],
                Family::Ipv6 => &[RecordKind::Aaaa],
            };
            courier.looking_up = Some(host.clone());
            courier.found.clear();
            for kind in kinds {
                let question = Question {
                    name: host.name.clone(),
                    kind: *kind,
                };
                match fx.ask(conn, DELIVERY, question.clone()) {
                    Some(answer) => courier.take_addresses(&answer),
                    None => courier.asked.push(question),
                }
            }
            if !courier.asked.is_empty() {
                courier.stage = Stage::Searching;
                return self.courier_put(conn, courier, fx);
            }
            courier.addresses_known(fx.config.delivery.ip);
        }
    }

    /// The DNS has answered.
    pub(super) fn courier_answer(
        &mut self,
        conn: ConnId,
        mut courier: Box<Courier>,
        question: &Question,
        answer: &Answer,
        fx: &mut Effects,
    ) {
        let Some(at) = courier.asked.iter().position(|asked| asked == question) else {
            return self.courier_put(conn, courier, fx);
        };
        courier.asked.swap_remove(at);
        if question.kind == RecordKind::Mx {
            return self.courier_mx(conn, courier, &question.name, answer, fx);
        }
        courier.take_addresses(answer);
        if courier.asked.is_empty() {
            courier.addresses_known(fx.config.delivery.ip);
            return self.courier_next(conn, courier, fx);
        }
        self.courier_put(conn, courier, fx);
    }

    pub(super) fn courier_connect(
        &mut self,
        old: ConnId,
        mut courier: Box<Courier>,
        target: Target,
        fx: &mut Effects,
    ) {
        let astray = target.to.ip().is_some_and(|address| {
            address.is_loopback() || address.is_unspecified() || address.is_multicast()
        });
        if astray && target.host.origin != Origin::Configured && !fx.config.delivery.loopback {
            let words = Words::ours("the address is not that of a mail exchanger");
            let why = cause_at(Some(target.place()), words);
            courier.note(EnhancedCode::new(4, 4, 4), why);
            return self.courier_next(old, courier, fx);
        }
        if let Some(address) = target.to.ip()
            && !self.may_connect(&mut courier, address, fx)
        {
            return self.courier_waits(old, courier, fx);
        }
        // Each connection has an id of its own: what still comes for the last one is not taken for this one's.
        fx.conns.release(old);
        let conn = fx.conns.reserve(Owner::Delivery);
        let from = match target.to.ip() {
            Some(IpAddr::V4(_)) => fx.config.delivery.bind4.map(IpAddr::V4),
            Some(IpAddr::V6(_)) => fx.config.delivery.bind6.map(IpAddr::V6),
            None => None,
        };
        courier.stage = Stage::Connecting;
        if courier.reach == Reach::Here {
            courier.reach = Reach::Elsewhere;
        }
        courier.moving = false;
        courier.deadline = Some(fx.now.instant.after(CONNECT_TIMEOUT));
        courier.timer = None;
        fx.actions.push_back(Action::Connect {
            conn,
            to: target.to.clone(),
            from,
        });
        courier.target = Some(target);
        self.courier_put(conn, courier, fx);
    }

    /// Charges a courier to the address that it goes to, whichever next hops have that.
    fn may_connect(&mut self, courier: &mut Courier, address: IpAddr, fx: &mut Effects) -> bool {
        let at = (courier.base).and(Kind::NextHop, hash_of_address(address));
        let pool = fx.shares.of_mut(Resource::Deliveries);
        pool.give(courier.holder, 1);
        let may = pool.take(at, 1).is_ok();
        match may {
            true => courier.holder = at,
            false => pool.resize(courier.holder, 0, 1),
        }
        may
    }

    /// There are sessions enough to where it goes, or questions enough under way: it goes home, and its next hop waits for a moment.
    fn courier_waits(&mut self, conn: ConnId, courier: Box<Courier>, fx: &mut Effects) {
        let hop = courier.hop;
        self.courier_home(conn, courier, fx);
        self.rest_hop(hop, fx);
    }

    /// No host could be used.
    pub(super) fn courier_failed(&mut self, conn: ConnId, courier: Box<Courier>, fx: &mut Effects) {
        if courier.reach != Reach::Nowhere {
            // Some host talked to us: the next hop as a whole has not failed.
            return self.courier_home(conn, courier, fx);
        }
        if courier.is_unasked {
            return self.courier_waits(conn, courier, fx);
        }
        let trouble = courier.trouble.clone().unwrap_or_else(|| Trouble {
            status: EnhancedCode::new(4, 4, 1),
            why: Cause::here("no address of the next hop is known"),
        });
        if !trouble.status.is_transient() {
            return self.hop_refused(conn, courier, trouble.status, &trouble.why, fx);
        }
        let hop = courier.hop;
        self.courier_over(conn, courier, fx);
        self.pause_hop(hop, trouble.status, &trouble.why, fx);
    }

    /// A program of this machine, which speaks LMTP.
    fn here(&self, at: Endpoint, fx: &Effects) -> Host {
        Host {
            name: fx.config.hostname.clone(),
            at: Some(at),
            port: 0,
            protocol: Protocol::Lmtp,
            tls: Tls::Unneeded,
            login: None,
            origin: Origin::Configured,
        }
    }

    /// Mail for nobody: all that waits is done with.
    fn hop_discards(&mut self, conn: ConnId, courier: Box<Courier>, fx: &mut Effects) {
        let hop = courier.hop;
        self.courier_over(conn, courier, fx);
        while let Some(id) = self.hops.pop_ready(hop) {
            let Some(entry) = fx.index.get_mut(id).filter(|entry| !entry.held) else {
                continue;
            };
            let mut recipients = Vec::new();
            for (at, state) in (0..).zip(entry.recipients.iter_mut()) {
                if state.hop == hop && state.phase == Phase::Waiting {
                    state.phase = Phase::InFlight;
                    recipients.push((at, Outcome::Delivered));
                }
            }
            if recipients.is_empty() {
                continue;
            }
            fx.log(Line::new(Level::Info, "discarded").with("id", id));
            self.settle_outcomes(id, recipients, &[], None, None, fx);
        }
    }

    /// The next hop will never take anything, or has refused us as a whole: fails the oldest message that waits, and
    /// the others as they come up.
    pub(super) fn hop_refused(
        &mut self,
        conn: ConnId,
        courier: Box<Courier>,
        status: EnhancedCode,
        why: &Cause,
        fx: &mut Effects,
    ) {
        let hop = courier.hop;
        self.courier_over(conn, courier, fx);
        while let Some(id) = self.hops.pop_ready(hop) {
            let Some(entry) = fx.index.get_mut(id) else {
                continue;
            };
            if entry.held {
                continue;
            }
            let recipients = close_waiting(entry, hop, status, why);
            if recipients.is_empty() {
                continue;
            }
            return self.settle_untried(id, recipients, "failed", fx);
        }
    }
}

/// A host that the configuration names.
fn configured(via: Via, login: Option<&config::Login>) -> Host {
    let (tls, protocol) = match via.scheme {
        Scheme::Smtp => (Tls::Opportunistic, Protocol::Smtp),
        Scheme::SmtpStartTls => (Tls::Required, Protocol::Smtp),
        Scheme::Smtps => (Tls::Active, Protocol::Smtp),
        Scheme::Lmtp => (Tls::Opportunistic, Protocol::Lmtp),
    };
    Host {
        at: via
            .address
            .map(|address| Endpoint::Tcp(SocketAddr::new(address, via.port))),
        name: via.host,
        port: via.port,
        protocol,
        tls,
        login: login.map(|login| Login {
            user: login.user.clone(),
            password: login.password.clone(),
        }),
        origin: Origin::Configured,
    }
}

impl Courier {
    /// A courier that has not set out.
    pub(super) fn new(hop: HopId, holder: Holder, now: Instant) -> Self {
        Self {
            hop,
            holder,
            base: holder,
            is_unasked: false,
            stage: Stage::Searching,
            hosts: VecDeque::new(),
            targets: VecDeque::new(),
            asked: Vec::new(),
            found: Vec::new(),
            looking_up: None,
            target: None,
            session: None,
            tls: None,
            load: None,
            trouble: None,
            deadline: None,
            timer: None,
            reach: Reach::Nowhere,
            moving: false,
            detour: false,
            progress: 0,
            began: now,
            walk_until: now.after(DELIVERY_WALK_TIMEOUT),
            attempt_until: now.after(DELIVERY_ATTEMPT_TIMEOUT),
            in_vain: None,
        }
    }

    /// Whether there is a host or an address that was not tried.
    pub(super) fn has_hosts(&self) -> bool {
        !self.targets.is_empty() || !self.hosts.is_empty()
    }

    /// Keeps why it does not get through. What may pass outweighs what is for good: mail fails only when every host
    /// says so.
    pub(super) fn note(&mut self, status: EnhancedCode, why: Cause) {
        let known = self
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.status.is_transient());
        if status.is_transient() || !known {
            self.trouble = Some(Trouble { status, why });
        }
    }

    pub(super) fn take_addresses(&mut self, answer: &Answer) {
        match &answer.records {
            Ok(records) => match records.as_ref() {
                Records::A(addresses) => {
                    self.found.extend(addresses.iter().copied().map(IpAddr::V4))
                }
                Records::Aaaa(addresses) => {
                    // A mapped address is the one that it maps: the system connects to that.
                    let addresses = addresses.iter().copied().map(IpAddr::V6);
                    self.found
                        .extend(addresses.map(|address| address.to_canonical()));
                }
                _ => {}
            },
            // A server that did not answer leaves it open whether there is an address.
            Err(error) if error.is_temporary() => {
                self.is_unasked |= *error == NoRecords::NoRoom;
                self.in_vain = Some(*error);
            }
            Err(error) => {
                self.in_vain.get_or_insert(*error);
            }
        }
    }

    /// All addresses of the host are known: both families take turns, IPv6 first.
    /// Decides RFC 5321 section 5.1.
    pub(super) fn addresses_known(&mut self, family: Family) {
        let Some(host) = self.looking_up.take() else {
            return;
        };
        let found = std::mem::take(&mut self.found);
        let in_vain = self.in_vain.take();
        if let (true, Some(error)) = (found.is_empty(), in_vain) {
            let (status, what) = match (error.is_temporary(), host.origin, family) {
                (true, ..) => (EnhancedCode::new(4, 4, 3), "the address is not known now"),
                // RFC 5321 section 5.1: without MX and without address a domain takes no mail.
                (false, Origin::Implicit, Family::Any) => (
                    EnhancedCode::new(5, 1, 2),
                    "the domain has no mail exchanger and no address",
                ),
                // Section 5.1: where none of the exchangers can be used, that is an error. One that can is tried.
                (false, Origin::Exchanger, Family::Any) => (
                    EnhancedCode::new(5, 4, 4),
                    "the mail exchanger has no address",
                ),
                (false, ..) => (EnhancedCode::new(4, 4, 4), "the host has no address"),
            };
            let place = Place::Host {
                name: host.name.as_str().into(),
                address: None,
            };
            self.note(status, Cause::at(place, Words::ours(what)));
        }
        let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv6);
        let (mut six, mut four) = (six.into_iter(), four.into_iter());
        let mut room = ADDRESSES_PER_HOST_MAX;
        loop {
            let pair = [six.next(), four.next()];
            if pair.iter().all(Option::is_none) || room == 0 {
                return;
            }
            for address in pair.into_iter().flatten() {
                if room > 0 {
                    room = room.saturating_sub(1);
                    let to = Endpoint::Tcp(SocketAddr::new(address, host.port));
                    self.targets.push_back(Target {
                        host: host.clone(),
                        to,
                    });
                }
            }
        }
    }
}

/// A delivery session asks on nobody's account: there are few of them.
const DELIVERY: Holder = Holder::nobody(Standing::Trusted);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dns::NoRecords;

    fn searched(origin: Origin, family: Family, answers: &[NoRecords]) -> EnhancedCode {
        let mut courier = Courier::new(HopId(0), DELIVERY, Instant::from_millis(0));
        courier.looking_up = Some(Host {
            name: Domain::parse("host.example").expect("a domain"),
            at: None,
            port: 25,
            protocol: Protocol::Smtp,
            tls: Tls::Opportunistic,
            login: None,
            origin,
        });
        for error in answers {
            courier.take_addresses(&Answer {
                records: Err(*error),
                authentic: false,
                ttl: Duration::ZERO,
            });
        }
        courier.addresses_known(family);
        courier.trouble.expect("trouble").status
    }

    #[test]
    fn a_domain_without_exchanger_and_address_takes_no_mail() {
        let nothing = [NoRecords::NoData, NoRecords::NoData];
        assert_eq!(
            searched(Origin::Implicit, Family::Any, &nothing),
            EnhancedCode::new(5, 1, 2)
        );
        let never = EnhancedCode::new(5, 4, 4);
        assert_eq!(searched(Origin::Exchanger, Family::Any, &nothing), never);
        // An operator may mend a route, and the other family was not asked.
        let later = EnhancedCode::new(4, 4, 4);
        assert_eq!(searched(Origin::Configured, Family::Any, &nothing), later);
        assert_eq!(
            searched(Origin::Implicit, Family::Ipv4, &nothing[..1]),
            later
        );
    }

    #[test]
    fn an_answer_that_is_missing_leaves_it_open() {
        for answers in [
            [NoRecords::Timeout, NoRecords::NoData],
            [NoRecords::NoData, NoRecords::Timeout],
        ] {
            let status = searched(Origin::Implicit, Family::Any, &answers);
            assert_eq!(status, EnhancedCode::new(4, 4, 3));
        }
    }

    #[test]
    fn mail_fails_only_when_every_host_says_so() {
        let (never, later) = (EnhancedCode::new(5, 7, 1), EnhancedCode::new(4, 3, 2));
        for (said, kept) in [
            ([later, never], later),
            ([never, later], later),
            ([never, never], never),
        ] {
            let mut courier = Courier::new(HopId(0), DELIVERY, Instant::from_millis(0));
            for status in said {
                courier.note(status, Cause::here(""));
            }
            assert_eq!(courier.trouble.expect("trouble").status, kept);
        }
    }
}
