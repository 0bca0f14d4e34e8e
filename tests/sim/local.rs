//! Local programs that leave messages in the drop folder, and the relay that submits them. The decisions are the
//! relay's own (`DropTurns`, `DroppedFile`, `Visit`). The folder is in memory. It fails, loses unsynced data, and
//! survives a kill.
//!
//! `sendmail` left each message with exit 0. The ledger checks that each recipient gets it, or that a DSN about it
//! reaches the sender or the administrator; that it arrives once, except after kills; and that the relay sets none
//! aside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Cursor, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use chopar::address::Mailbox;
use chopar::config::Config;
use chopar::date::Timestamp;
use chopar::engine::drop_folder::{
    About, DropEntry, DropRules, DropTurns, DroppedFile, FORMAT, Rejected, Settlement, Task, Visit,
    VisitStep, name_of,
};
use chopar::engine::event::{ConnId, Event, Listener, Peer, Reloaded};
use chopar::entropy::Entropy;
use chopar::envelope::{Notify, Recipient};
use chopar::queue::{MessageBody, MessageRecord};
use chopar::smtp::data::Encoder;

use crate::disk::{Sabotage, hold};
use crate::dns;
use crate::hook;
use crate::messages::{self, ClientMessage};
use crate::rule::{Rule, check};
use crate::world::{End, Happening, World};

/// The relay's uid.
const OWN: u32 = 900;
/// Uids of the users that leave messages.
const USERS: [u32; 3] = [0, 33, 1_000];
/// Interval between two visits to the folder.
const INTERVAL: Duration = Duration::from_secs(10);
/// Values of `max_message_size` that reloads alternate between; some messages are longer than the second.
const SIZES: [&str; 2] = ["1 MiB", "200 KiB"];

/// Events of these worlds, for the tally.
pub(crate) const KINDS: [&str; 10] = [
    "left",
    "null sender",
    "refused",
    "returned",
    "too long",
    "deferred",
    "partly deferred",
    "cannot be removed",
    "cannot be replaced",
    "back after a power cut",
];

/// The folder, and the relay's state about it.
pub(crate) struct DropFolder {
    files: BTreeMap<OsString, File>,
    /// Removed files whose removal is not synced.
    unsynced: Vec<(OsString, File)>,
    /// The current fault of the disk.
    trouble: Option<Trouble>,
    turns: DropTurns,
    visits: BTreeMap<OsString, Ongoing>,
    is_look_planned: bool,
    /// Sessions opened so far.
    pub(crate) sessions: usize,
    left: u64,
    messages: Vec<(ClientMessage, u32)>,
    /// Cause of the last delay of a file.
    last_cause: String,
}

#[derive(Clone, Debug)]
struct File {
    uid: u32,
    written: Timestamp,
    bytes: Vec<u8>,
}

/// A file that is being sent.
struct Ongoing {
    visit: Visit,
    conn: Option<ConnId>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trouble {
    Read,
    Write,
    Remove,
    SyncFolder,
}

impl Default for DropFolder {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            unsynced: Vec::new(),
            trouble: None,
            turns: DropTurns::new(OWN),
            visits: BTreeMap::new(),
            is_look_planned: false,
            sessions: 0,
            left: 0,
            messages: Vec::new(),
            last_cause: String::new(),
        }
    }
}

/// Whether an address is an unknown mailbox in a local domain.
pub(crate) fn is_refused(address: &str) -> bool {
    address.starts_with("nobody-") && address.ends_with("@home.example")
}

/// The configuration of these worlds.
fn config(size: &str, seed: u64) -> Arc<Config> {
    let head = "admin = \"admin@sender.example\"\n";
    crate::world::config_with(head, size, "", hook::is_there(seed))
}

impl World {
    /// Plans messages before the relay starts and while it runs, and reloads that change the maximum size.
    pub(crate) fn plan_local(&mut self) {
        self.reload_local(0);
        for number in 0..1 + self.entropy.below(8) {
            let message = self.local_message(number);
            let uid = USERS[self.entropy.below(3) as usize];
            self.locals.messages.push((message, uid));
            let at = match self.entropy.below(3) {
                0 => 0,
                _ => self.entropy.below(40_000),
            };
            let happening = Happening::Leave(number as usize);
            self.plan(Duration::from_millis(at), happening);
        }
        for _ in 0..self.entropy.below(3) {
            let at = Duration::from_millis(self.entropy.below(40_000));
            let size = self.entropy.below(2) as usize;
            self.plan(at, Happening::LocalReload(size));
        }
    }

    /// The relay reloads its configuration with this maximum size.
    pub(crate) fn reload_local(&mut self, size: usize) {
        self.config = config(SIZES[size], self.seed);
        let config = Arc::clone(&self.config);
        self.engine.handle(
            Event::Reloaded(Reloaded {
                config,
                conn: None,
                unchanged: Vec::new(),
            }),
            self.now,
        );
    }

    fn local_message(&mut self, number: u64) -> ClientMessage {
        let recipients = (0..1 + self.entropy.below(4)).map(|at| {
            let domain = match self.entropy.below(16) {
                0..3 => return format!("nobody-l{number}-{at}@home.example"),
                3 => dns::NULL_MX,
                4 => dns::NO_DOMAIN,
                _ => self.entropy.below(dns::DOMAINS.into()) as u8,
            };
            format!("l{number}-{at}@d{domain}.example")
        });
        let recipients = recipients.collect();
        let lines = match self.entropy.below(6) {
            0 => 6_000,
            _ => self.entropy.below(40),
        };
        let mut message = ClientMessage::new(
            format!("local-{number}"),
            recipients,
            lines,
            &mut self.entropy,
        );
        if self.entropy.below(8) == 0 {
            self.tally.fault("drop", "null sender");
            message.from.clear();
        }
        message
    }

    /// `sendmail` leaves a message and exits with 0: the file and its directory entry are on the disk.
    pub(crate) fn leave(&mut self, number: usize) {
        let (message, uid) = self.locals.messages[number].clone();
        let mut text = format!("{FORMAT}\nMAIL FROM:<{}>\n", message.from);
        for to in &message.recipients {
            text.push_str(&format!("RCPT TO:<{to}>\n"));
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&message.text);
        let written = self.now.wall;
        let name = self.new_name(None);
        self.locals.files.insert(
            name,
            File {
                uid,
                written,
                bytes,
            },
        );
        self.tally.fault("drop", "left");
        self.tally.accepted += 1;
        self.ledger.left(message);
        self.plan_look();
    }

    fn new_name(&mut self, user: Option<u32>) -> OsString {
        self.locals.left += 1;
        name_of(&format!("{:08x}", self.locals.left), user).into()
    }

    fn plan_look(&mut self) {
        if !std::mem::replace(&mut self.locals.is_look_planned, true) {
            let after = Duration::from_millis(self.entropy.below(INTERVAL.as_millis() as u64));
            self.plan(after, Happening::LookAtDrop);
        }
    }

    /// The relay visits the folder.
    pub(crate) fn look_at_drop(&mut self) {
        self.locals.is_look_planned = false;
        let entries = self.locals.files.iter().map(|(name, file)| DropEntry {
            name: name.clone(),
            uid: file.uid,
            written: file.written.seconds() as i64,
        });
        self.locals
            .turns
            .look(entries.collect::<Vec<_>>(), self.now.instant);
        self.begin_visits();
        if !self.locals.files.is_empty() {
            self.locals.is_look_planned = true;
            self.plan(INTERVAL, Happening::LookAtDrop);
        }
    }

    fn begin_visits(&mut self) {
        while let Some(task) = self.locals.turns.begin_next() {
            match task {
                Task::Visit(name) => self.visit_file(name),
                Task::Settle(name, settlement) => self.settle_file(&name, &settlement),
            }
        }
    }

    fn read_file(&self, name: &OsString) -> Result<DroppedFile, Rejected> {
        let file = self.locals.files.get(name).ok_or(ErrorKind::NotFound);
        let file = file.map_err(|kind| Rejected::Io(kind.into()))?;
        if self.locals.trouble == Some(Trouble::Read) {
            return Err(Rejected::Io(ErrorKind::Other.into()));
        }
        let about = About {
            uid: file.uid,
            len: file.bytes.len() as u64,
            written: file.written,
        };
        let most = self.config.limits.message_bytes;
        DroppedFile::read(&mut Cursor::new(&file.bytes), &about, OWN, most)
    }

    fn visit_file(&mut self, name: OsString) {
        let form = match self.read_file(&name) {
            Ok(form) => form,
            Err(Rejected::Form(cause)) => {
                return hold(check(false, Rule::I1, || {
                    format!("{name:?} was well formed and is set aside: {cause}")
                }));
            }
            Err(Rejected::Io(_)) => {
                self.locals.turns.defer(&name, self.now.instant);
                return;
            }
        };
        let rules = Arc::new(DropRules::of(&self.config));
        let (visit, step) = Visit::new(format!("{name:?}"), form, rules, self.now.wall);
        let ongoing = Ongoing { visit, conn: None };
        self.locals.visits.insert(name.clone(), ongoing);
        self.drop_goes_on(name, step);
    }

    fn drop_goes_on(&mut self, name: OsString, step: VisitStep) {
        match step {
            VisitStep::Connect(uid) => self.drop_connects(name, uid),
            VisitStep::Send(bytes) => self.drop_sends(&name, &bytes),
            VisitStep::SendMessage => {
                let mut wire = Vec::new();
                let file = self
                    .locals
                    .files
                    .get(&name)
                    .expect("nobody else removes it");
                let at = self.locals.visits[&name].visit.form().message_at as usize;
                let mut encoder = Encoder::default();
                encoder.encode(&file.bytes[at..], &mut wire);
                encoder.finish(&mut wire);
                self.drop_sends(&name, &wire);
            }
            VisitStep::Wait => {}
            VisitStep::Settle(settlement) => {
                self.hang_up(&name);
                self.soon(Happening::SettleDrop(name, settlement));
            }
        }
    }

    fn drop_connects(&mut self, name: OsString, uid: u32) {
        self.hang_up(&name);
        self.locals.sessions += 1;
        let peer = Peer::Process { uid };
        match self.engine.accept(Listener::Submit, peer, self.now) {
            Ok(conn) => {
                self.ends.insert(conn, End::Drop(name.clone()));
                self.visit_of(&name).conn = Some(conn);
            }
            Err(_) => {
                let mut entropy = self.entropy.clone();
                let step = self.visit_of(&name).visit.on_lost("no room", &mut entropy);
                self.drop_goes_on(name, step);
            }
        }
    }

    fn visit_of(&mut self, name: &OsString) -> &mut Ongoing {
        self.locals.visits.get_mut(name).expect("it is under way")
    }

    fn drop_sends(&mut self, name: &OsString, bytes: &[u8]) {
        let conn = self.locals.visits.get(name).and_then(|one| one.conn);
        if let Some(conn) = conn {
            self.send_to_relay(conn, bytes, Duration::ZERO);
        }
    }

    /// The session of a file closes its end.
    fn hang_up(&mut self, name: &OsString) {
        self.drop_sends(name, b"QUIT\r\n");
        if let Some(one) = self.locals.visits.get_mut(name) {
            one.conn = None;
        }
    }

    /// The session of a file reads output of the relay.
    pub(crate) fn drop_hears(&mut self, name: OsString, conn: ConnId, bytes: &[u8]) {
        let Some(one) = self.locals.visits.get_mut(&name) else {
            return;
        };
        if one.conn != Some(conn) {
            return; // the reply to QUIT
        }
        let step = one.visit.on_bytes(bytes, &mut self.entropy);
        self.note_drop_lines(&name);
        self.drop_goes_on(name, step);
    }

    /// The connection of a file's session is lost.
    pub(crate) fn drop_lost(&mut self, name: OsString, conn: ConnId) {
        let Some(one) = self.locals.visits.get_mut(&name) else {
            return;
        };
        if one.conn == Some(conn) {
            one.conn = None;
            let step = one.visit.on_lost("closed", &mut self.entropy);
            self.note_drop_lines(&name);
            self.drop_goes_on(name, step);
        }
    }

    fn note_drop_lines(&mut self, name: &OsString) {
        for line in self.visit_of(name).visit.take_lines() {
            let kind = match line.text.split([' ', '=']).nth(1) {
                Some("drop-returned") => "returned",
                Some("drop-unreturned") => "nobody is told",
                other => panic!("{other:?} is not an event of a visit"),
            };
            self.tally.fault("drop", kind);
            if line.text.contains(" is the limit") {
                self.tally.fault("drop", "too long");
            }
        }
    }

    /// The relay has settled a file that it sent.
    pub(crate) fn settle_drop(&mut self, name: OsString, settlement: &Settlement) {
        let Some(one) = self.locals.visits.remove(&name) else {
            return;
        };
        if !one.visit.taken_line().text.contains(" refused=0") {
            self.tally.fault("drop", "refused");
        }
        let settlement = match self.disk.sabotage {
            Sabotage::ForgottenDrop => &Settlement::Remove,
            _ => settlement,
        };
        if let Settlement::Wait { cause } = settlement {
            self.locals.last_cause.clone_from(cause);
            self.tally.fault("drop", "deferred");
            self.locals.turns.defer(&name, self.now.instant);
        } else {
            self.settle_file(&name, settlement);
        }
        self.begin_visits();
    }

    fn settle_file(&mut self, name: &OsString, settlement: &Settlement) {
        let left = self.perform_drop(name, settlement);
        self.locals.turns.close(name, left);
    }

    fn perform_drop(&mut self, name: &OsString, settlement: &Settlement) -> Option<Settlement> {
        let trouble = self.locals.trouble;
        if let Settlement::Replace(lines) = settlement {
            let file = self.locals.files.get(name).cloned()?;
            let form = self
                .read_file(name)
                .ok()
                .filter(|_| trouble != Some(Trouble::Write));
            let Some(form) = form else {
                self.tally.fault("drop", "cannot be replaced");
                return Some(settlement.clone());
            };
            self.tally.fault("drop", "partly deferred");
            let mut bytes = format!("{FORMAT}\n{}\n\n", lines.join("\n")).into_bytes();
            bytes.extend_from_slice(&file.bytes[form.message_at as usize..]);
            let (uid, written) = (OWN, self.now.wall);
            let replacement = File {
                uid,
                written,
                bytes,
            };
            let new = self.new_name(Some(form.uid));
            self.locals.files.insert(new, replacement);
        }
        if trouble == Some(Trouble::Remove) && self.locals.files.contains_key(name) {
            self.tally.fault("drop", "cannot be removed");
            return Some(Settlement::Remove);
        }
        let file = self.locals.files.remove(name);
        if trouble == Some(Trouble::SyncFolder) {
            self.locals
                .unsynced
                .extend(file.map(|file| (name.clone(), file)));
        }
        None
    }

    /// Sabotage: adds the refused recipients of a message in the drop folder to its envelope.
    pub(crate) fn enter_refused(&self, message: &mut MessageRecord) {
        let MessageBody::Inline(text) = &message.body else {
            return;
        };
        let marker = messages::header(text, "Subject").unwrap_or_default();
        let mut left = self.locals.messages.iter();
        let Some((sent, _)) = left.find(|(sent, _)| sent.marker == marker) else {
            return;
        };
        let refused = (sent.recipients.iter()).filter(|address| is_refused(address));
        let refused = refused.map(|address| Recipient {
            destination: None,
            reverse_path: None,
            mailbox: Mailbox::parse(address).expect("a mailbox"),
            notify: Notify::Default,
            original: None,
        });
        message.envelope.recipients.extend(refused);
    }

    /// A fault of the folder's disk begins.
    pub(crate) fn drop_trouble(&mut self) {
        let troubles = [
            Trouble::Read,
            // Three times as likely, since writes are rare.
            Trouble::Write,
            Trouble::Write,
            Trouble::Write,
            Trouble::Remove,
            Trouble::SyncFolder,
        ];
        self.locals.trouble = Some(troubles[self.entropy.below(troubles.len() as u64) as usize]);
    }

    /// The fault of the disk ends.
    pub(crate) fn drop_mended(&mut self) {
        self.locals.trouble = None;
    }

    /// The relay stops; the folder remains.
    pub(crate) fn drop_stops(&mut self) {
        self.locals.visits.clear();
        self.locals.turns = DropTurns::new(OWN);
        self.locals.is_look_planned = false;
    }

    /// The power failed: each removal that was not synced may be undone.
    pub(crate) fn drop_crashes(&mut self) {
        for (name, file) in std::mem::take(&mut self.locals.unsynced) {
            if self.entropy.below(2) == 0 {
                self.tally.fault("drop", "back after a power cut");
                self.locals.files.insert(name, file);
            }
        }
    }

    /// The relay starts again.
    pub(crate) fn drop_starts(&mut self) {
        if !self.locals.files.is_empty() {
            self.plan_look();
        }
    }

    /// At the end, the folder must be empty.
    pub(crate) fn judge_drop(&self) {
        let left: Vec<_> = self.locals.files.keys().collect();
        hold(check(left.is_empty(), Rule::I1, || {
            let cause = &self.locals.last_cause;
            format!("at the end {left:?} are still in the drop folder: {cause}")
        }));
    }
}
