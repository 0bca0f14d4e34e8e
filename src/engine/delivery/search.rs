//! MX resolution of a next hop: its hosts, their addresses, and the order in which they are tried.

use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::host::{Addresses, FoundBy, Host, Search, Target, configured};
use super::meaning::cause_at;
use super::outcome::close_waiting;
use super::session::{Delivery, DeliverySession, Reach, ServerLink, State, Trouble};
use crate::address::Domain;
use crate::cause::{FailureCause, FailurePlace, QuotedWords};
use crate::config::{self, AddressFamily};
use crate::destination::Destination;
use crate::dns::{Answer, MailHosts, NoRecords, Question, RecordKind, Records, mail_hosts};
use crate::engine::connections::Owner;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, ConnId, Endpoint};
use crate::engine::log::{Level, Line};
use crate::escape::Escaped;
use crate::limits::{ADDRESSES_PER_HOST_MAX, CONNECT_TIMEOUT};
use crate::policy::route::NextHop;
use crate::policy::shares::{Holder, ResourceShare, TrustLevel};
use crate::queue::{DeliveryResult, HopId, Phase};
use crate::smtp::client::{ClientProtocol, TlsPolicy};
use crate::status::EnhancedCode;

impl Delivery {
    /// Sets a delivery session out.
    pub(super) fn start_session(
        &mut self,
        hop: HopId,
        name: &NextHop,
        share: ResourceShare,
        fx: &mut Effects,
    ) {
        let mut delivery = Box::new(DeliverySession::new(hop, share, fx.now.instant));
        let conn = fx.conns.reserve(Owner::Delivery);
        self.hops.session_set_out(hop, conn);
        match name {
            NextHop::Mx(domain) => {
                let question = Question {
                    name: domain.clone(),
                    kind: RecordKind::Mx,
                };
                match fx.ask(conn, DELIVERY, question.clone()) {
                    Some(answer) => return self.on_mx(conn, delivery, domain, &answer, fx),
                    None => {
                        let lookup = Search::Exchangers(question);
                        delivery.state = State::Searching { lookup, load: None };
                    }
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
                delivery.note(EnhancedCode::new(4, 3, 5), FailureCause::here(why));
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
        login: Option<&config::RouteLogin>,
        fx: &Effects,
    ) {
        let here = match destination {
            Destination::Hosts(hosts) => {
                let hosts = hosts.iter().cloned();
                return delivery
                    .candidates
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
        delivery.candidates.hosts.push_back(here);
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
                let found_by = if implicit {
                    FoundBy::Implicit
                } else {
                    FoundBy::Exchanger
                };
                fx.debug(|| {
                    let names: Vec<String> =
                        hosts.iter().map(|host| host.host.to_string()).collect();
                    Line::new(Level::Debug, "mx")
                        .with("domain", domain)
                        .with("hosts", names.join(","))
                });
                delivery
                    .candidates
                    .hosts
                    .extend(hosts.into_iter().map(|host| Host {
                        name: host.host,
                        at: None,
                        port: fx.config.delivery.port,
                        protocol: ClientProtocol::Smtp,
                        tls: TlsPolicy::Opportunistic,
                        login: None,
                        found_by,
                    }));
                self.try_next(conn, delivery, fx);
            }
            Err(nowhere) if nowhere.code().is_transient() => {
                delivery.candidates.is_unasked |= answer.records == Err(NoRecords::NoRoom);
                let why = FailureCause::here(format!("{domain}: {nowhere}"));
                delivery.note(nowhere.code(), why);
                self.no_host_left(conn, delivery, fx);
            }
            Err(nowhere) => {
                let why = FailureCause::here(format!("{domain}: {nowhere}"));
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
        if let Some(id) = delivery.state.load().map(|load| load.id) {
            if fx.index.get(id).is_none() {
                delivery.state.end();
                return self.end_session(conn, delivery, fx);
            }
            if fx.stopping || fx.disk.is_stuck || !self.is_wanted(id, fx) {
                return self.give_up_for_now(conn, delivery, fx);
            }
        }
        loop {
            if fx.now.instant >= delivery.pace.walk_until {
                let status = EnhancedCode::new(4, 4, 7);
                delivery.note(
                    status,
                    FailureCause::here("no host accepted the message in time"),
                );
                return self.no_host_left(conn, delivery, fx);
            }
            if let Some(target) = delivery.candidates.targets.pop_front() {
                if self.is_known_dead(&delivery, &target, fx) {
                    continue;
                }
                return self.connect(conn, delivery, target, fx);
            }
            let Some(host) = delivery.candidates.hosts.pop_front() else {
                return self.no_host_left(conn, delivery, fx);
            };
            if let Some(to) = host.at.clone() {
                delivery.candidates.targets.push_back(Target { host, to });
                continue;
            }
            let addresses = look_up(conn, host, fx);
            if !addresses.asked.is_empty() {
                let lookup = Search::Addresses(Box::new(addresses));
                let load = delivery.state.take_load();
                delivery.state = State::Searching { lookup, load };
                return self.put_back(conn, delivery, fx);
            }
            delivery.addresses_known(addresses, fx.config.delivery.ip);
        }
    }

    /// Whether an address is skipped: a session that waits with a message for a host that was just dead delays others.
    fn is_known_dead(&self, delivery: &DeliverySession, target: &Target, fx: &Effects) -> bool {
        let hop = self.hops.get(delivery.hop);
        let hop = hop.filter(|_| delivery.state.load().is_some());
        let known = hop.zip(target.to.ip());
        known.is_some_and(|(hop, ip)| hop.is_dead(ip, fx.now.instant))
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
        let State::Searching { lookup, .. } = &mut delivery.state else {
            return self.put_back(conn, delivery, fx);
        };
        match mem::replace(lookup, Search::Done) {
            Search::Exchangers(asked) if asked == *question => {
                self.on_mx(conn, delivery, &question.name, answer, fx);
            }
            Search::Addresses(mut addresses) if addresses.asked.contains(question) => {
                addresses.asked.retain(|asked| asked != question);
                addresses.take(answer);
                if addresses.asked.is_empty() {
                    delivery.addresses_known(*addresses, fx.config.delivery.ip);
                    return self.try_next(conn, delivery, fx);
                }
                *lookup = Search::Addresses(addresses);
                self.put_back(conn, delivery, fx);
            }
            // It was asked for something that this session has left behind.
            other => {
                *lookup = other;
                self.put_back(conn, delivery, fx);
            }
        }
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
        if astray && target.host.found_by != FoundBy::Configured && !fx.config.delivery.loopback {
            let words = QuotedWords::ours("the address is not that of a mail exchanger");
            let why = cause_at(Some(target.place()), words);
            delivery.note(EnhancedCode::new(4, 4, 4), why);
            return self.try_next(old, delivery, fx);
        }
        if let Some(address) = target.to.ip()
            && !delivery.may_connect(address)
        {
            return self.wait_for_room(old, delivery, fx);
        }
        // Each connection has an id of its own: late events of the last one are not taken for this one's.
        fx.conns.release(old);
        let conn = fx.conns.reserve(Owner::Delivery);
        self.hops.session_moved(delivery.hop, old, conn);
        let from = match target.to.ip() {
            Some(IpAddr::V4(_)) => fx.config.delivery.bind4.map(IpAddr::V4),
            Some(IpAddr::V6(_)) => fx.config.delivery.bind6.map(IpAddr::V6),
            None => None,
        };
        if delivery.reach == Reach::Here {
            delivery.reach = Reach::Elsewhere;
        }
        delivery.pace.timer = None;
        fx.actions.push_back(Action::Connect {
            conn,
            to: target.to.clone(),
            from,
        });
        delivery.state = State::Connecting {
            link: ServerLink::to(target, fx.config.hostname.as_str()),
            load: delivery.state.take_load(),
            until: fx.now.instant.after(CONNECT_TIMEOUT),
        };
        self.put_back(conn, delivery, fx);
    }

    /// There are enough sessions to the destination, or enough questions in progress: the session ends, and its next
    /// hop waits for a moment.
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
        if delivery.candidates.is_unasked {
            return self.wait_for_room(conn, delivery, fx);
        }
        let trouble = delivery.trouble.clone().unwrap_or_else(|| Trouble {
            status: EnhancedCode::new(4, 4, 1),
            why: FailureCause::here("no address of the next hop is known"),
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
            protocol: ClientProtocol::Lmtp,
            tls: TlsPolicy::Unneeded,
            login: None,
            found_by: FoundBy::Configured,
        }
    }

    /// Discards mail: all waiting recipients are done.
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
                    recipients.push((at, DeliveryResult::Delivered));
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
        why: &FailureCause,
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

/// Asks for the addresses of a host; some may be known at once.
fn look_up(conn: ConnId, host: Host, fx: &mut Effects) -> Addresses {
    let kinds: &[RecordKind] = match fx.config.delivery.ip {
        AddressFamily::Any => &[RecordKind::Aaaa, RecordKind::A],
        AddressFamily::Ipv4 => &[RecordKind::A],
        AddressFamily::Ipv6 => &[RecordKind::Aaaa],
    };
    let mut addresses = Addresses::of(host);
    for kind in kinds {
        let question = Question {
            name: addresses.host.name.clone(),
            kind: *kind,
        };
        match fx.ask(conn, DELIVERY, question.clone()) {
            Some(answer) => addresses.take(&answer),
            None => addresses.asked.push(question),
        }
    }
    addresses
}

impl Addresses {
    /// None is known.
    fn of(host: Host) -> Self {
        Self {
            host,
            asked: Vec::new(),
            found: Vec::new(),
            in_vain: None,
            is_unasked: false,
        }
    }

    fn take(&mut self, answer: &Answer) {
        match &answer.records {
            Ok(records) => match records.as_ref() {
                Records::A(addresses) => {
                    let addresses = addresses.iter().copied().map(IpAddr::V4);
                    self.found.extend(addresses);
                }
                Records::Aaaa(addresses) => {
                    // A mapped address is the IPv4 address in it: the system connects to that.
                    let addresses = addresses.iter().copied().map(IpAddr::V6);
                    let addresses = addresses.map(|address| address.to_canonical());
                    self.found.extend(addresses);
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

    /// The reason why no address is known, if that is so.
    fn missing(&self, family: AddressFamily) -> Option<Trouble> {
        let error = self.in_vain.filter(|_| self.found.is_empty())?;
        let (status, what) = match (error.is_temporary(), self.host.found_by, family) {
            (true, ..) => (EnhancedCode::new(4, 4, 3), "the address is not known now"),
            // RFC 5321 section 5.1: without MX and without address a domain takes no mail.
            (false, FoundBy::Implicit, AddressFamily::Any) => (
                EnhancedCode::new(5, 1, 2),
                "the domain has no mail exchanger and no address",
            ),
            // Section 5.1: if none of the exchangers can be used, that is an error. One that can be used is tried.
            (false, FoundBy::Exchanger, AddressFamily::Any) => (
                EnhancedCode::new(5, 4, 4),
                "the mail exchanger has no address",
            ),
            (false, ..) => (EnhancedCode::new(4, 4, 4), "the host has no address"),
        };
        let place = FailurePlace::Host {
            name: self.host.name.as_str().into(),
            address: None,
        };
        let why = FailureCause::at(place, QuotedWords::ours(what));
        Some(Trouble { status, why })
    }
}

impl DeliverySession {
    /// All addresses of the host are known: both families take turns, IPv6 first.
    /// Decides RFC 5321 section 5.1.
    fn addresses_known(&mut self, addresses: Addresses, family: AddressFamily) {
        if let Some(Trouble { status, why }) = addresses.missing(family) {
            self.note(status, why);
        }
        self.candidates.is_unasked |= addresses.is_unasked;
        let Addresses { host, found, .. } = addresses;
        let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv6);
        let rounds = six.len().max(four.len());
        let in_turns = (0..rounds).flat_map(|at| [six.get(at), four.get(at)]);
        let targets = (in_turns.flatten().take(ADDRESSES_PER_HOST_MAX)).map(|address| Target {
            host: host.clone(),
            to: Endpoint::Tcp(SocketAddr::new(*address, host.port)),
        });
        self.candidates.targets.extend(targets);
    }
}

/// Questions of delivery sessions are charged to no holder: there are few of them.
const DELIVERY: Holder = Holder::nobody(TrustLevel::Trusted);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Instant;
    use crate::policy::shares::Pool;

    fn session() -> DeliverySession {
        let share = Pool::new(1).charge(DELIVERY, 1);
        DeliverySession::new(HopId(0), share, Instant::from_millis(0))
    }

    fn searched(found_by: FoundBy, family: AddressFamily, answers: &[NoRecords]) -> EnhancedCode {
        let mut delivery = session();
        let mut addresses = Addresses::of(Host {
            name: Domain::parse("host.example").expect("a domain"),
            at: None,
            port: 25,
            protocol: ClientProtocol::Smtp,
            tls: TlsPolicy::Opportunistic,
            login: None,
            found_by,
        });
        for error in answers {
            addresses.take(&Answer {
                records: Err(*error),
                authentic: false,
                ttl: Duration::ZERO,
            });
        }
        delivery.addresses_known(addresses, family);
        delivery.trouble.expect("trouble").status
    }

    #[test]
    fn a_domain_without_exchanger_and_address_takes_no_mail() {
        let nothing = [NoRecords::NoData, NoRecords::NoData];
        assert_eq!(
            searched(FoundBy::Implicit, AddressFamily::Any, &nothing),
            EnhancedCode::new(5, 1, 2)
        );
        let never = EnhancedCode::new(5, 4, 4);
        assert_eq!(
            searched(FoundBy::Exchanger, AddressFamily::Any, &nothing),
            never
        );
        // An operator may mend a route, and the other family was not asked.
        let later = EnhancedCode::new(4, 4, 4);
        assert_eq!(
            searched(FoundBy::Configured, AddressFamily::Any, &nothing),
            later
        );
        assert_eq!(
            searched(FoundBy::Implicit, AddressFamily::Ipv4, &nothing[..1]),
            later
        );
    }

    #[test]
    fn an_answer_that_is_missing_leaves_it_open() {
        for answers in [
            [NoRecords::Timeout, NoRecords::NoData],
            [NoRecords::NoData, NoRecords::Timeout],
        ] {
            let status = searched(FoundBy::Implicit, AddressFamily::Any, &answers);
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
            let mut delivery = session();
            for status in said {
                delivery.note(status, FailureCause::here(""));
            }
            assert_eq!(delivery.trouble.expect("trouble").status, kept);
        }
    }
}
