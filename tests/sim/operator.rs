//! The operator of the world: lists, shows, holds, releases, flushes, removes and reloads while mail passes through,
//! over a disk that sometimes fails to read.
//!
//! Invariants: each request is answered completely and in time, unless the relay was killed. The list is the queue,
//! each ID with its own envelope. A readable message is not reported as unreadable. After a removal, the relay owes
//! nothing for that message, and everything for all others.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chopar::engine::control::{ControlRequest, ControlResponse, ListedMessage, Selection};
use chopar::engine::event::{ConnId, Event, Listener, Lost, MessageReader, Peer};
use chopar::entropy::{Entropy, SeededEntropy};
use chopar::queue::{DiskError, ReadContent, ReadError};
use chopar::queue_id::QueueId;

use crate::disk::{Sabotage, hold};
use crate::hook;
use crate::messages::ClientMessage;
use crate::remote::Mood;
use crate::rule::{Broken, Rule, check};
use crate::world::{End, Faults, Happening, World};

/// A tool with one connection to the control socket.
pub(crate) struct Operator {
    line: Vec<u8>,
    /// Requests without an answer yet.
    awaited: VecDeque<ControlRequest>,
    /// IDs in the current answer so far.
    listed: BTreeSet<QueueId>,
    /// Whether this tool releases all held messages.
    releases: bool,
    held: Vec<String>,
}

impl Operator {
    /// Checks that an answer is of the kind that the oldest request asked for.
    fn is_awaited(&self, is_kind: impl Fn(&ControlRequest) -> bool) -> Result<(), Broken> {
        let awaited = &self.awaited;
        check(awaited.front().is_some_and(is_kind), Rule::Told, || {
            format!("a tool that waits for {awaited:?} is told something else")
        })
    }
}

/// The address whose attempts a tool announces.
const PROBED: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 201));
/// Upper limit of random visits by the operator.
const VISITS_MAX: u64 = 12;
/// Time limit for all answers to a tool.
const PATIENCE: Duration = Duration::from_secs(600);
/// Time of the last visit, which releases and flushes everything: after all faults, and before any message expires.
const LAST_VISIT: Duration = Duration::from_secs(8 * 3_600);
/// One world in this many has hundreds of messages.
const LONG_QUEUE_ONE_IN: u64 = 12;

impl World {
    /// Plans the operator's visits and, in some worlds, many messages for a domain that is unreachable until the last
    /// visit.
    pub(crate) fn plan_operator(&mut self) {
        for _ in 0..3 + self.entropy.below(VISITS_MAX) {
            let at = match self.entropy.below(3) {
                0 => self.entropy.below(200_000),
                _ => self.entropy.below(25_000),
            };
            self.plan(Duration::from_millis(at), Happening::Operate);
        }
        self.plan(LAST_VISIT, Happening::LastVisit);
        for _ in 0..self.entropy.below(4) {
            let at = Duration::from_millis(self.entropy.below(60_000));
            self.plan(at, Happening::HangUpSignal);
        }
        if hook::is_there(self.seed) && self.entropy.below(2) == 0 {
            let at = Duration::from_millis(self.entropy.below(25_000));
            self.plan(at, Happening::HelperDies);
        }
        if !self.seed.is_multiple_of(LONG_QUEUE_ONE_IN) {
            return;
        }
        self.tally.fault("operator", "many messages");
        self.moods.extend([(0, Mood::Dead), (20, Mood::Dead)]);
        let messages = 300 + self.entropy.below(500);
        for client in 0..4 {
            let numbers = (0..messages).filter(|number| number % 4 == client);
            let messages = numbers
                .map(|number| {
                    let recipients = vec![format!("r{}@d0.example", number % 97)];
                    ClientMessage::new(format!("queue-{number}"), recipients, 3, &mut self.entropy)
                })
                .collect();
            self.client(messages, Duration::ZERO);
        }
    }

    /// A tool connects, sends one or several requests, and may leave before the answer.
    pub(crate) fn operate(&mut self) {
        let mut requests: VecDeque<ControlRequest> = (0..1 + self.entropy.below(3))
            .map(|_| self.request())
            .collect();
        // A tool that follows messages gets events until it disconnects.
        let goes_on = |request: &ControlRequest| {
            matches!(
                request,
                ControlRequest::Follow { .. } | ControlRequest::Examine { .. }
            )
        };
        if let Some(at) = requests.iter().position(goes_on) {
            requests.truncate(at + 1);
            if let Some(conn) = self.visit(requests) {
                let after = Duration::from_millis(self.entropy.below(120_000));
                self.plan(after, Happening::Lost(conn, Lost::Eof));
            }
            return;
        }
        let conn = self.visit(requests);
        if let Some(conn) = conn
            && self.entropy.below(8) == 0
        {
            self.tally.fault("operator", "gone");
            let after = Duration::from_millis(self.entropy.below(60));
            self.plan(after, Happening::Lost(conn, Lost::Eof));
        }
    }

    /// A tool connects, sends its requests, and waits for the answers.
    pub(crate) fn visit(&mut self, requests: VecDeque<ControlRequest>) -> Option<ConnId> {
        let conn = self.ask(requests)?;
        self.plan(PATIENCE, Happening::OperatorExpects(conn));
        Some(conn)
    }

    /// Releases held messages and makes hosts work again. It touches nothing else, so a forgotten message stays
    /// forgotten.
    pub(crate) fn last_visit(&mut self) {
        self.moods.clear();
        let conn = self.visit([ControlRequest::List {}].into());
        if let Some(End::Operator(operator)) = conn.and_then(|conn| self.ends.get_mut(&conn)) {
            operator.releases = true;
        }
    }

    fn ask(&mut self, requests: VecDeque<ControlRequest>) -> Option<ConnId> {
        self.operators += 1;
        let peer = Peer::Process { uid: 0 };
        let conn = self.engine.accept(Listener::Control, peer, self.now).ok()?;
        let mut bytes = Vec::new();
        for request in &requests {
            self.tally.fault("operator", kind(request));
            bytes.extend(serde_json::to_vec(request).expect("JSON"));
            bytes.push(b'\n');
        }
        if requests.len() > 1 {
            self.tally.fault("operator", "several at once");
        }
        let operator = Operator {
            line: Vec::new(),
            awaited: requests,
            listed: BTreeSet::new(),
            releases: false,
            held: Vec::new(),
        };
        self.ends.insert(conn, End::Operator(Box::new(operator)));
        match self.entropy.below(2) {
            0 => self.plan(Duration::ZERO, Happening::ToRelay(conn, bytes)),
            _ => self.send_to_relay(conn, &bytes, Duration::ZERO),
        }
        Some(conn)
    }

    fn request(&mut self) -> ControlRequest {
        let id = self.some_id().to_string();
        let which = match self.entropy.below(4) {
            0 => Selection::All,
            1 => Selection::Ids(vec![id.clone(), self.some_id().to_string()]),
            _ => Selection::Ids(vec![id.clone()]),
        };
        match self.entropy.below(14) {
            12 => ControlRequest::Follow { id },
            13 => ControlRequest::Examine {
                addresses: vec![PROBED],
            },
            0..=2 => ControlRequest::List {},
            3 => ControlRequest::Show { id },
            4 => ControlRequest::Hold { which },
            5 => ControlRequest::Release { which },
            6 => ControlRequest::Flush { which },
            // Remove everything only rarely: an empty queue tests nothing.
            7 | 8 if which == Selection::All && self.entropy.below(8) > 0 => {
                ControlRequest::Remove {
                    which: Selection::Ids(vec![id]),
                }
            }
            7 | 8 => ControlRequest::Remove { which },
            9 if self.operators.is_multiple_of(2) => ControlRequest::Status {},
            9 => ControlRequest::Stats {},
            _ => ControlRequest::Reload {},
        }
    }

    /// The ID of a message, mostly one of the newest, sometimes unknown.
    fn some_id(&mut self) -> QueueId {
        let ids: Vec<QueueId> = self.ledger.mails().map(|(id, _)| id).collect();
        let back = match self.entropy.below(2) {
            0 => self.entropy.below(4),
            _ => self.entropy.below(1 + ids.len() as u64),
        };
        let at = ids.len().checked_sub(1 + back as usize);
        at.and_then(|at| ids.get(at).copied())
            .unwrap_or(QueueId::new(1 << 40))
    }

    /// The time limit of a tool is over.
    pub(crate) fn operator_expects(&mut self, conn: ConnId) {
        if let Some(End::Operator(operator)) = self.ends.get(&conn) {
            let awaited = &operator.awaited;
            hold(check(false, Rule::Told, || {
                format!("a tool still waits for {awaited:?}")
            }));
        }
    }

    /// A tool reads an answer, and disconnects after the last.
    pub(crate) fn operator_hears(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(End::Operator(operator)) = self.ends.get_mut(&conn) else {
            return;
        };
        operator.line.extend_from_slice(bytes);
        let end = operator.line.iter().rposition(|&byte| byte == b'\n');
        let whole: Vec<u8> = operator.line.drain(..end.map_or(0, |at| at + 1)).collect();
        for line in whole.split_inclusive(|&byte| byte == b'\n') {
            let response = serde_json::from_slice(line).expect("a response");
            self.hear_response(conn, response);
        }
        let is_over = matches!(self.ends.get(&conn), Some(End::Operator(operator)) if operator.awaited.is_empty());
        if is_over {
            self.soon(Happening::Lost(conn, Lost::Eof));
        }
    }

    fn hear_response(&mut self, conn: ConnId, response: ControlResponse) {
        let Some(End::Operator(operator)) = self.ends.get_mut(&conn) else {
            return;
        };
        match response {
            ControlResponse::Message(listed) => {
                let id: QueueId = listed.id.parse().expect("an id");
                let meant = match operator.awaited.front() {
                    Some(ControlRequest::List {}) => true,
                    Some(ControlRequest::Show { id }) => *id == listed.id,
                    _ => false,
                };
                let once = operator.listed.insert(id);
                hold(check(meant && once, Rule::Told, || {
                    format!("{id} is listed twice, or unasked")
                }));
                if listed.held {
                    operator.held.push(listed.id.clone());
                }
                self.listed(id, &listed);
            }
            ControlResponse::End { errors, .. } => {
                if operator.listed.len() > 256 {
                    self.tally.fault("operator", "long list");
                }
                operator.listed.clear();
                let request = operator.awaited.pop_front();
                let held = std::mem::take(&mut operator.held);
                let held = (operator.releases && !held.is_empty()).then_some(held);
                let mistakes = &self.mistakes;
                let known = |error: &String| {
                    let is_known = KNOWN_ERRORS.iter().any(|known| error.contains(known));
                    is_known || mistakes.contains(error)
                };
                let fine = request.is_some() && errors.iter().all(known);
                hold(check(fine, Rule::Told, || {
                    format!("{request:?} was answered with {errors:?}")
                }));
                if let Some(held) = held {
                    let which = Selection::Ids(held);
                    self.visit([ControlRequest::Release { which }].into());
                }
            }
            ControlResponse::Denied { text } => hold(check(false, Rule::Told, || {
                format!("an operator is denied something: {text}")
            })),
            ControlResponse::Event { text } => {
                let fits = match operator.awaited.front() {
                    Some(ControlRequest::Follow { id }) => text.contains(id.as_str()),
                    _ => false,
                };
                hold(check(fits, Rule::Told, || {
                    format!(
                        "a tool that waits for {:?} is told {text}",
                        operator.awaited
                    )
                }));
                self.tally.fault("operator", "followed");
            }
            ControlResponse::Note { text } => match operator.awaited.front() {
                Some(ControlRequest::Examine { .. }) => {
                    let is_so = self.engine.is_probe(PROBED);
                    hold(check(is_so, Rule::Told, || {
                        format!("a tool is told {text}, and is not")
                    }));
                }
                Some(ControlRequest::Reload {}) => {}
                other => hold(check(false, Rule::Told, || {
                    format!("a tool that waits for {other:?} is told {text}")
                })),
            },
            ControlResponse::Stats(_) => {
                hold(operator.is_awaited(|one| matches!(one, ControlRequest::Stats {})))
            }
            ControlResponse::Status(_) => {
                hold(operator.is_awaited(|one| matches!(one, ControlRequest::Status {})))
            }
            ControlResponse::Header { .. } => {
                hold(operator.is_awaited(|one| matches!(one, ControlRequest::Show { .. })));
            }
        }
    }

    fn listed(&mut self, id: QueueId, listed: &ListedMessage) {
        self.tally.fault("operator", "listed");
        let addresses: Vec<&str> = listed
            .recipients
            .iter()
            .map(|one| one.to.as_str())
            .collect();
        if listed.unreadable.is_some() {
            self.tally.fault("operator", "listed unread");
            let failed = self.reads_failed.contains(&id);
            let blank = listed.from.is_empty() && addresses.iter().all(|to| to.is_empty());
            return hold(check(failed && blank, Rule::Told, || {
                format!("{id} is called unreadable, and is not: {listed:?}")
            }));
        }
        hold(self.ledger.listed(id, &listed.from, &addresses));
    }

    /// Whether a tool waits for the removal of a message.
    pub(crate) fn is_being_removed(&self, id: QueueId) -> bool {
        let text = id.to_string();
        self.ends.values().any(|end| match end {
            End::Operator(operator) => operator.awaited.iter().any(|request| match request {
                ControlRequest::Remove {
                    which: Selection::All,
                } => true,
                ControlRequest::Remove {
                    which: Selection::Ids(ids),
                } => ids.contains(&text),
                _ => false,
            }),
            _ => false,
        })
    }

    /// Notes for the tally which work a removal interrupts.
    pub(crate) fn note_removal(&mut self, id: QueueId) {
        self.tally.fault("operator", "removed");
        if self.carrying.values().any(|carried| *carried == id) {
            self.tally.fault("operator", "removed in flight");
        }
        let is_told = |happening: &Happening| matches!(happening, Happening::Read(MessageReader::Dsn(_), other, _) if *other == id);
        if self.happenings.values().any(is_told) {
            self.tally.fault("operator", "removed while a DSN was made");
        }
    }

    /// Reads a part of a message. With an operator, the answer takes time, and some reads fail.
    pub(crate) fn read_later(
        &mut self,
        reader: MessageReader,
        id: QueueId,
        result: Result<ReadContent, ReadError>,
    ) -> Option<Result<ReadContent, ReadError>> {
        if self.unreadable.contains(&id) {
            self.reads_failed.insert(id);
            return Some(Err(ReadError::Damaged));
        }
        if self.faults != Faults::Operator {
            return Some(result);
        }
        let for_tool = matches!(reader, MessageReader::Conn { conn, .. } if matches!(self.ends.get(&conn), Some(End::Operator(_))));
        let one_in = match reader {
            _ if for_tool => 16,
            MessageReader::Reroute(_) => 12,
            _ => 200,
        };
        let result = match self.entropy.below(one_in) {
            0 => {
                self.tally.fault("disk", "read failed");
                self.reads_failed.insert(id);
                Err(ReadError::Disk(DiskError::Io))
            }
            _ => result,
        };
        // Sometimes removes a message just while a DSN or a new route for it is worked out.
        if matches!(reader, MessageReader::Dsn(_) | MessageReader::Reroute(_))
            && self.entropy.below(6) == 0
        {
            let which = Selection::Ids(vec![id.to_string()]);
            let _ = self.visit([ControlRequest::Remove { which }].into());
        }
        let most = match self.disk.sabotage {
            // Slow enough for another connection to get the slot before the answer comes.
            Sabotage::SlowReads | Sabotage::AnswerBySlot if !for_tool => 20_000,
            _ => 40,
        };
        let delay = Duration::from_millis(self.entropy.below(most));
        self.plan(delay, Happening::Read(reader, id, result));
        None
    }

    /// A read is complete; the connection that asked may be gone.
    pub(crate) fn read_ends(
        &mut self,
        mut reader: MessageReader,
        result: Result<ReadContent, ReadError>,
    ) {
        if let MessageReader::Conn { conn, id } = &mut reader
            && !self.ends.contains_key(conn)
        {
            self.tally
                .fault("disk", "answer for a session that is gone");
            let slot = conn.slot;
            let heir = self.ends.keys().find(|other| other.slot == slot).copied();
            if self.disk.sabotage == Sabotage::AnswerBySlot {
                // Sabotage: ignores the generation of the slot and the requested message.
                *conn = heir.unwrap_or(*conn);
                *id = self.carrying.get(conn).copied().unwrap_or(*id);
            }
        }
        self.engine.handle(Event::Read { reader, result }, self.now);
    }
}

/// Errors that an answer to a tool may report.
const KNOWN_ERRORS: [&str; 3] = [
    "is not in the queue",
    "the disk refused a change",
    "cannot be read",
];

fn kind(request: &ControlRequest) -> &'static str {
    match request {
        ControlRequest::List {} => "list",
        ControlRequest::Show { .. } => "show",
        ControlRequest::Flush { .. } => "flush",
        ControlRequest::Hold { .. } => "hold",
        ControlRequest::Release { .. } => "release",
        ControlRequest::Remove { .. } => "remove",
        ControlRequest::Stats {} => "stats",
        ControlRequest::Status {} => "status",
        ControlRequest::Reload {} => "reload",
        ControlRequest::Follow { .. } => "follow",
        ControlRequest::Expect { .. } => "expect",
        ControlRequest::Examine { .. } => "examine",
    }
}

/// Events that the operator's worlds must show often enough.
pub(crate) const KINDS: [&str; 24] = [
    "many messages",
    "list",
    "long list",
    "listed unread",
    "show",
    "flush",
    "hold",
    "release",
    "remove",
    "removed",
    "stats",
    "status",
    "reload",
    "reload fails",
    "several at once",
    "gone",
    "follow",
    "followed",
    "examine",
    "signal",
    "served domain asked for",
    "other domain asked for",
    "removed while a DSN was made",
    "removed in flight",
];

/// A world without faults in which this many messages wait for an unreachable domain.
fn waiting(messages: u64) -> World {
    let mut world = World::empty(1, Faults::Calm, Sabotage::None);
    world.moods.extend([(0, Mood::Dead), (20, Mood::Dead)]);
    for client in 0..4 {
        let numbers = (0..messages).filter(|number| number % 4 == client);
        let messages = numbers
            .map(|number| {
                let recipients = vec![format!("r{number}@d0.example")];
                let mut dots = SeededEntropy::new(number);
                ClientMessage::new(format!("client-{number}"), recipients, 1, &mut dots)
            })
            .collect();
        world.client(messages, Duration::ZERO);
    }
    let later = world.now.instant.after(Duration::from_secs(300));
    world.run_until(later);
    assert_eq!(world.engine.queue_len() as u64, messages);
    world
}

/// Number of events of this kind at the tools.
fn times(world: &World, what: &'static str) -> u64 {
    let faults = &world.tally.faults;
    faults.get(&("operator", what)).copied().unwrap_or_default()
}

#[test]
fn a_list_of_any_length_shows_each_message_under_its_own_envelope() {
    for messages in [300, 512, 2_000] {
        let mut world = waiting(messages);
        let _ = world.visit([ControlRequest::List {}, ControlRequest::Stats {}].into());
        let later = world.now.instant.after(Duration::from_secs(60));
        world.run_until(later);
        assert_eq!(times(&world, "listed"), messages);
        assert!(world.ends.is_empty(), "the tool has its answers");
    }
}

#[test]
fn an_unreadable_message_is_listed_as_unreadable_and_the_list_ends() {
    let mut world = waiting(600);
    let ids: Vec<QueueId> = world.ledger.mails().map(|(id, _)| id).collect();
    world.unreadable = [0, 1, 256, 257, 512, 599].map(|at| ids[at]).into();
    let shown = ids[0].to_string();
    let _ = world.visit([ControlRequest::List {}, ControlRequest::Show { id: shown }].into());
    let later = world.now.instant.after(Duration::from_secs(60));
    world.run_until(later);
    assert_eq!(times(&world, "listed"), 600 + 1);
    assert_eq!(times(&world, "listed unread"), 6 + 1);
    assert!(world.ends.is_empty(), "the tool has its answers");
}

fn pass(world: &mut World, span: Duration) {
    let end = world.now.instant.after(span);
    world.run_until(end);
}

#[test]
fn a_flush_is_one_attempt_and_leaves_the_schedule_as_it_was() {
    const HOURS: u64 = 12;
    let tries = |flushes: bool, moods: [(u8, Mood); 2]| {
        let mut world = waiting(3);
        world.moods = moods.into();
        let before = world.connects;
        let mut flushed = 0;
        for _ in 0..HOURS * 6 {
            pass(&mut world, Duration::from_secs(600));
            if flushes {
                let which = Selection::All;
                let _ = world.visit([ControlRequest::Flush { which }].into());
                pass(&mut world, Duration::from_secs(60));
                flushed += 1;
            }
        }
        assert_eq!(world.engine.queue_len(), 3);
        (world.connects - before, flushed)
    };
    for moods in [
        [(0, Mood::Dead), (20, Mood::Dead)],
        [
            (0, Mood::Refuses("451 later")),
            (20, Mood::Refuses("451 later")),
        ],
    ] {
        let (alone, _) = tries(false, moods);
        let (with, flushed) = tries(true, moods);
        // Each flush adds one attempt, at two hosts, and removes none of the scheduled attempts.
        assert!(
            with >= alone + flushed,
            "{with} with {flushed} flushes, {alone} without: {moods:?}"
        );
    }
}

#[test]
fn a_new_message_for_a_dead_hop_is_tried_within_minutes() {
    let mut world = waiting(3);
    pass(&mut world, Duration::from_secs(30 * 3_600));
    let before = world.connects;
    world.moods = [(0, Mood::Good), (20, Mood::Good)].into();
    let mut dots = SeededEntropy::new(9);
    let message = ClientMessage::new(
        "new".to_owned(),
        vec!["n@d0.example".to_owned()],
        1,
        &mut dots,
    );
    world.client(vec![message], Duration::ZERO);
    pass(&mut world, Duration::from_secs(6 * 60));
    assert!(world.connects > before);
    assert_eq!(
        world.engine.queue_len(),
        0,
        "the hop is well again, and all leave"
    );
}

#[test]
fn every_request_in_one_write_is_answered() {
    let mut world = waiting(3);
    let which = Selection::All;
    let requests = [
        ControlRequest::Stats {},
        ControlRequest::Hold {
            which: which.clone(),
        },
        ControlRequest::List {},
        ControlRequest::Reload {},
        ControlRequest::Remove { which },
        ControlRequest::Stats {},
    ];
    let _ = world.visit(requests.into());
    let later = world.now.instant.after(Duration::from_secs(60));
    world.run_until(later);
    assert!(world.ends.is_empty(), "the tool has its answers");
    assert_eq!((times(&world, "listed"), world.engine.queue_len()), (3, 0));
}
