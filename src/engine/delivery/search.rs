//! The way to a next hop: its hosts, their addresses, and which of them is tried next.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::outcome::close_waiting;
use super::session::{
    Delivery, DeliverySession, Host, Origin, Pace, Reach, Search, Stage, Target, Trouble, cause_at,
};
use crate::address::Domain;
use crate::cause::{Cause, Place, Words};
use crate::clock::Instant;
use crate::config::{self, Destination, Family, Scheme, Via};
use crate::dns::{Answer, MailHosts, NoRecords, Question, RecordKind, Records, mail_hosts};
use crate::engine::connections::Owner;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Endpoint};
use crate::engine::log::{Level, Line};
use crate::escape::Escaped;
use crate::limits::{ADDRESSES_PER_HOST_MAX, CONNECT_TIMEOUT};
use crate::policy::route::NextHop;
use crate::policy::shares::{Holder, Kind, Resource, Standing, hash_of_address};
use crate::queue::{HopId, Outcome, Phase};
use crate::smtp::client::{Login, Protocol, Tls};
use crate::status::EnhancedCode;

impl Delivery {
    /// Sets a delivery session out.
    pub(super) fn start_session(
        &mut self,
        hop: HopId,
        name: &NextHop,
        holder: Holder,
        fx: &mut Effects,
    ) {
        let mut delivery = Box::new(DeliverySession::new(hop, holder, fx.now.instant));
        let conn = fx.conns.reserve(Owner::Delivery);
        match name {
            NextHop::Mx(domain) => {
                let question = Question {
                    name: domain.clone(),
                    kind: RecordKind::Mx,
                };
                match fx.ask(conn, DELIVERY, question.clone()) {
                    Some(answer) => return self.on_mx(conn, delivery, domain, &answer, fx),
                    None => delivery.search.asked.push(question),
                }
            }
            NextHop::Route { index } => {
                let config = Arc::clone(&fx.config);
                if let Some(route) = config.routes.get(*index) {
                    let login = route.login.as_ref();
                    for via in &route.via {
                        self.add_hosts(&mut delivery, via, login, fx);
                    }
                }
                return self.try_next(conn, delivery, fx);
            }
            NextHop::Alias(Destination::Discard) => {
                return self.hop_discards(conn, delivery, fx);
            }
            NextHop::Unreadable(text) => {
                let shown = Escaped(text.as_bytes());
                let why = format!(
                    "the destination {shown} cannot be read: a later version of chopar has accepted this message; \
                     install that one again, or remove the message from the queue"
                );
                delivery.note(EnhancedCode::new(4, 3, 5), Cause::here(why));
                return self.no_host_left(conn, delivery, fx);
            }
            NextHop::Alias(destination) => {
                self.add_hosts(&mut delivery, destination, None, fx);
                return self.try_next(conn, delivery, fx);
            }
        }
        self.put_back(conn, delivery, fx);
    }

    /// Adds the hosts, or the program, that a destination names.
    fn add_hosts(
        &self,
        delivery: &mut DeliverySession,
        destination: &Destination,
        login: Option<&config::Login>,
        fx: &Effects,
    ) {
        let here = match destination {
            Destination::Hosts(hosts) => {
                let hosts = hosts.iter().cloned();
                return delivery
                    .search
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
        delivery.search.hosts.push_back(here);
    }

    /// The MX records are known, or known not to be.
    pub(super) fn on_mx(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
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
                delivery
                    .search
                    .hosts
                    .extend(hosts.into_iter().map(|host| Host {
                        name: host.host,
                        at: None,
                        port: fx.config.delivery.port,
                        protocol: Protocol::Smtp,
                        tls: Tls::Opportunistic,
                        login: None,
                        origin,
                    }));
                self.try_next(conn, delivery, fx);
            }
            Err(nowhere) if nowhere.code().is_transient() => {
                delivery.search.is_unasked |= answer.records == Err(NoRecords::NoRoom);
                let why = Cause::here(format!("{domain}: {nowhere}"));
                delivery.note(nowhere.code(), why);
                self.no_host_left(conn, delivery, fx);
            }
            Err(nowhere) => {
                let why = Cause::here(format!("{domain}: {nowhere}"));
                self.hop_refused(conn, delivery, nowhere.code(), &why, fx);
            }
        }
    }

    /// Tries the next address, or looks up the next host.
    pub(super) fn try_next(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        if let Some(id) = delivery.load.as_ref().map(|load| load.id) {
            if fx.index.get(id).is_none() {
                delivery.load = None;
                return self.end_session(conn, delivery, fx);
            }
            if fx.stopping || fx.disk.is_stuck || !self.is_wanted(id, fx) {
                return self.give_up_for_now(conn, delivery, fx);
            }
        }
        loop {
            if fx.now.instant >= delivery.pace.walk_until {
                let status = EnhancedCode::new(4, 4, 7);
                delivery.note(status, Cause::here("no host took the message in time"));
                return self.no_host_left(conn, delivery, fx);
            }
            if let Some(target) = delivery.search.targets.pop_front() {
                // Who waits with a message in hand for a host that was dead a moment ago keeps others waiting.
                let hop = self
                    .hops
                    .get(delivery.hop)
                    .filter(|_| delivery.load.is_some());
                let address = target.to.ip();
                if hop
                    .zip(address)
                    .is_some_and(|(hop, ip)| hop.is_dead(ip, fx.now.instant))
                {
                    continue;
                }
                return self.connect(conn, delivery, target, fx);
            }
            let Some(host) = delivery.search.hosts.pop_front() else {
                return self.no_host_left(conn, delivery, fx);
            };
            if let Some(to) = host.at.clone() {
                delivery.search.targets.push_back(Target { host, to });
                continue;
            }
            let kinds: &[RecordKind] = match fx.config.delivery.ip {
                Family::Any => &[RecordKind::Aaaa, RecordKind::A],
                Family::Ipv4 => &[RecordKind::A],
                Family::Ipv6 => &[RecordKind::Aaaa],
            };
            delivery.search.looking_up = Some(host.clone());
            delivery.search.found.clear();
            for kind in kinds {
                let question = Question {
                    name: host.name.clone(),
                    kind: *kind,
                };
                match fx.ask(conn, DELIVERY, question.clone()) {
                    Some(answer) => delivery.take_addresses(&answer),
                    None => delivery.search.asked.push(question),
                }
            }
            if !delivery.search.asked.is_empty() {
                delivery.stage = Stage::Searching;
                return self.put_back(conn, delivery, fx);
            }
            delivery.addresses_known(fx.config.delivery.ip);
        }
    }

    /// The DNS has answered.
    pub(super) fn on_answer(
        &mut self,
        conn: ConnId,
        mut delivery: Box<DeliverySession>,
        question: &Question,
        answer: &Answer,
        fx: &mut Effects,
    ) {
        let Some(at) = delivery
            .search
            .asked
            .iter()
            .position(|asked| asked == question)
        else {
            return self.put_back(conn, delivery, fx);
        };
        delivery.search.asked.swap_remove(at);
        if question.kind == RecordKind::Mx {
            return self.on_mx(conn, delivery, &question.name, answer, fx);
        }
        delivery.take_addresses(answer);
        if delivery.search.asked.is_empty() {
            delivery.addresses_known(fx.config.delivery.ip);
            return self.try_next(conn, delivery, fx);
        }
        self.put_back(conn, delivery, fx);
    }

    pub(super) fn connect(
        &mut self,
        old: ConnId,
        mut delivery: Box<DeliverySession>,
        target: Target,
        fx: &mut Effects,
    ) {
        let astray = target.to.ip().is_some_and(|address| {
            address.is_loopback() || address.is_unspecified() || address.is_multicast()
        });
        if astray && target.host.origin != Origin::Configured && !fx.config.delivery.loopback {
            let words = Words::ours("the address is not that of a mail exchanger");
            let why = cause_at(Some(target.place()), words);
            delivery.note(EnhancedCode::new(4, 4, 4), why);
            return self.try_next(old, delivery, fx);
        }
        if let Some(address) = target.to.ip()
            && !self.may_connect(&mut delivery, address, fx)
        {
            return self.wait_for_room(old, delivery, fx);
        }
        // Each connection has an id of its own: what still comes for the last one is not taken for this one's.
        fx.conns.release(old);
        let conn = fx.conns.reserve(Owner::Delivery);
        let from = match target.to.ip() {
            Some(IpAddr::V4(_)) => fx.config.delivery.bind4.map(IpAddr::V4),
            Some(IpAddr::V6(_)) => fx.config.delivery.bind6.map(IpAddr::V6),
            None => None,
        };
        delivery.stage = Stage::Connecting;
        if delivery.reach == Reach::Here {
            delivery.reach = Reach::Elsewhere;
        }
        delivery.moving = false;
        delivery.pace.deadline = Some(fx.now.instant.after(CONNECT_TIMEOUT));
        delivery.pace.timer = None;
        fx.actions.push_back(Action::Connect {
            conn,
            to: target.to.clone(),
            from,
        });
        delivery.target = Some(target);
        self.put_back(conn, delivery, fx);
    }

    /// Charges a delivery session to the address that it goes to, whichever next hops have that.
    fn may_connect(
        &mut self,
        delivery: &mut DeliverySession,
        address: IpAddr,
        fx: &mut Effects,
    ) -> bool {
        let at = (delivery.base).and(Kind::NextHop, hash_of_address(address));
        let pool = fx.shares.of_mut(Resource::Deliveries);
        pool.give(delivery.holder, 1);
        let may = pool.take(at, 1).is_ok();
        match may {
            true => delivery.holder = at,
            false => pool.resize(delivery.holder, 0, 1),
        }
        may
    }

    /// There are sessions enough to where it goes, or questions enough under way: it goes home, and its next hop waits for a moment.
    fn wait_for_room(&mut self, conn: ConnId, delivery: Box<DeliverySession>, fx: &mut Effects) {
        let hop = delivery.hop;
        self.give_up_for_now(conn, delivery, fx);
        self.pause_briefly(hop, fx);
    }

    /// No host could be used.
    pub(super) fn no_host_left(
        &mut self,
        conn: ConnId,
        delivery: Box<DeliverySession>,
        fx: &mut Effects,
    ) {
        if delivery.reach != Reach::Nowhere {
            // Some host talked to us: the next hop as a whole has not failed.
            return self.give_up_for_now(conn, delivery, fx);
        }
        if delivery.search.is_unasked {
            return self.wait_for_room(conn, delivery, fx);
        }
        let trouble = delivery.trouble.clone().unwrap_or_else(|| Trouble {
            status: EnhancedCode::new(4, 4, 1),
            why: Cause::here("no address of the next hop is known"),
        });
        if !trouble.status.is_transient() {
            return self.hop_refused(conn, delivery, trouble.status, &trouble.why, fx);
        }
        let hop = delivery.hop;
        self.end_session(conn, delivery, fx);
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
    fn hop_discards(&mut self, conn: ConnId, delivery: Box<DeliverySession>, fx: &mut Effects) {
        let hop = delivery.hop;
        self.end_session(conn, delivery, fx);
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
        delivery: Box<DeliverySession>,
        status: EnhancedCode,
        why: &Cause,
        fx: &mut Effects,
    ) {
        let hop = delivery.hop;
        self.end_session(conn, delivery, fx);
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

impl DeliverySession {
    /// A delivery session that has not set out.
    pub(super) fn new(hop: HopId, holder: Holder, now: Instant) -> Self {
        Self {
            hop,
            holder,
            base: holder,
            stage: Stage::Searching,
            search: Search::default(),
            target: None,
            session: None,
            tls: None,
            load: None,
            trouble: None,
            pace: Pace::new(now),
            reach: Reach::Nowhere,
            moving: false,
            detour: false,
        }
    }

    /// Whether there is a host or an address that was not tried.
    pub(super) fn has_hosts(&self) -> bool {
        !self.search.targets.is_empty() || !self.search.hosts.is_empty()
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
                Records::A(addresses) => self
                    .search
                    .found
                    .extend(addresses.iter().copied().map(IpAddr::V4)),
                Records::Aaaa(addresses) => {
                    // A mapped address is the one that it maps: the system connects to that.
                    let addresses = addresses.iter().copied().map(IpAddr::V6);
                    self.search
                        .found
                        .extend(addresses.map(|address| address.to_canonical()));
                }
                _ => {}
            },
            // A server that did not answer leaves it open whether there is an address.
            Err(error) if error.is_temporary() => {
                self.search.is_unasked |= *error == NoRecords::NoRoom;
                self.search.in_vain = Some(*error);
            }
            Err(error) => {
                self.search.in_vain.get_or_insert(*error);
            }
        }
    }

    /// All addresses of the host are known: both families take turns, IPv6 first.
    /// Decides RFC 5321 section 5.1.
    pub(super) fn addresses_known(&mut self, family: Family) {
        let Some(host) = self.search.looking_up.take() else {
            return;
        };
        let found = std::mem::take(&mut self.search.found);
        let in_vain = self.search.in_vain.take();
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
                    self.search.targets.push_back(Target {
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
        let mut delivery = DeliverySession::new(HopId(0), DELIVERY, Instant::from_millis(0));
        delivery.search.looking_up = Some(Host {
            name: Domain::parse("host.example").expect("a domain"),
            at: None,
            port: 25,
            protocol: Protocol::Smtp,
            tls: Tls::Opportunistic,
            login: None,
            origin,
        });
        for error in answers {
            delivery.take_addresses(&Answer {
                records: Err(*error),
                authentic: false,
                ttl: Duration::ZERO,
            });
        }
        delivery.addresses_known(family);
        delivery.trouble.expect("trouble").status
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
            let mut delivery = DeliverySession::new(HopId(0), DELIVERY, Instant::from_millis(0));
            for status in said {
                delivery.note(status, Cause::here(""));
            }
            assert_eq!(delivery.trouble.expect("trouble").status, kept);
        }
    }
}
