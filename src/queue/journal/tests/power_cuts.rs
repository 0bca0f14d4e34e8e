//! Short runs of a journal with a power cut at each disk operation. Every subset of the unsynced data is lost: sectors,
//! lengths, names. A start and another run follow, with the same again at each of their operations.
//!
//! The operations are recorded at the disk, as the journal performs them. The need for each sync is shown by leaving it
//! out.

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::super::super::disk::{DirEntry, DiskRead};
use super::super::super::recovery::{Aside, TipState};
use super::*;

/// A part of a run; the members of one batch are synced together.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// Message, bytes of its body.
    Arrive(u64, usize),
    /// The same, with a file of its own that is written in pieces.
    ArriveLarge(u64, usize),
    /// A large message whose client disconnects.
    Abandon(u64, usize),
    /// Its first recipient is delivered.
    Deliver(u64),
    Hold(u64),
    Release(u64),
    Done(u64),
    Copy(u64),
    Retire(u32),
    /// Everything that was set aside is reported to `admin`.
    Tell,
}

/// What is known from outside.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Sure {
    No,
    /// It was asked for, and not answered yet.
    Maybe,
    Yes,
}

/// The promises about a message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Promise {
    len: usize,
    owed: Sure,
    ended: Sure,
    delivered: Sure,
    held: Sure,
}

/// The promises at a state of the disk, which hold whatever happens to it.
#[derive(Clone, Debug, Default, Hash)]
struct Promises {
    messages: BTreeMap<QueueId, Promise>,
    /// The data that an earlier start did not understand: original place, place of the copy, bytes.
    senseless: BTreeMap<(SpoolFile, usize), (SpoolFile, Vec<u8>)>,
    /// The damage that was reported to `admin`.
    told: BTreeSet<Box<str>>,
}

/// A sync that is left out.
#[derive(Clone, Copy, Debug)]
enum Omitted {
    Nothing,
    Bytes(fn(SpoolFile) -> bool),
    Names(SpoolFolder),
}

/// A disk that records its state after each change. The operation in progress at a cut is among the subsets of what
/// follows it (a write) or precedes it (a sync).
#[derive(Clone)]
struct Recorder {
    disk: MemoryDisk,
    states: Rc<RefCell<Vec<MemoryDisk>>>,
    omitted: Omitted,
}

impl Recorder {
    fn new(disk: MemoryDisk, omitted: Omitted) -> Self {
        let states = Rc::default();
        Self {
            disk,
            states,
            omitted,
        }
    }

    fn noted<T>(&self, done: T) -> T {
        self.states.borrow_mut().push(self.disk.fork());
        done
    }
}

impl DiskRead for Recorder {
    fn read_at(&mut self, file: SpoolFile, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.disk.read_at(file, at, into)
    }

    fn len(&mut self, file: SpoolFile) -> Result<u64, DiskError> {
        self.disk.len(file)
    }
}

impl Disk for Recorder {
    fn create(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let done = self.disk.create(file);
        self.noted(done)
    }

    fn write_at(&mut self, file: SpoolFile, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let done = self.disk.write_at(file, at, bytes);
        self.noted(done)
    }

    fn preallocate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        let done = self.disk.preallocate(file, len);
        self.noted(done)
    }

    fn truncate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        let done = self.disk.truncate(file, len);
        self.noted(done)
    }

    fn sync_data(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        if matches!(self.omitted, Omitted::Bytes(is_omitted) if is_omitted(file)) {
            return Ok(());
        }
        let done = self.disk.sync_data(file);
        self.noted(done)
    }

    fn sync_folder(&mut self, folder: SpoolFolder) -> Result<(), DiskError> {
        if matches!(self.omitted, Omitted::Names(omitted) if omitted == folder) {
            return Ok(());
        }
        let done = self.disk.sync_folder(folder);
        self.noted(done)
    }

    fn remove(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let done = self.disk.remove(file);
        self.noted(done)
    }

    fn rename(&mut self, from: SpoolFile, to: SpoolFile) -> Result<(), DiskError> {
        let done = self.disk.rename(from, to);
        self.noted(done)
    }

    fn check_place(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        self.disk.check_place(file)
    }

    fn list(&mut self, folder: SpoolFolder) -> Result<Vec<DirEntry>, DiskError> {
        self.disk.list(folder)
    }

    fn free_bytes(&mut self) -> Result<u64, DiskError> {
        self.disk.free_bytes()
    }
}

/// A running journal, and its promises at each state of its disk.
struct Life {
    journal: Journal<Recorder>,
    recorder: Recorder,
    promises: Promises,
    states: Vec<(MemoryDisk, Promises)>,
    untold: Vec<Aside>,
    tickets: u64,
    asked: BTreeMap<Ticket, Ask>,
    refused: usize,
}

/// The result of a start.
#[derive(Debug)]
struct Started {
    found: BTreeMap<QueueId, Recovered>,
    report: OpenReport,
}

impl Life {
    fn begin(
        recorder: Recorder,
        segment_bytes: u64,
        promises: Promises,
    ) -> Result<(Self, Started), String> {
        let mut found = BTreeMap::new();
        let sink = &mut |message: Recovered| drop(found.insert(message.id, message));
        let (journal, report) = Journal::open_sized(recorder.clone(), segment_bytes, sink)
            .map_err(|error| format!("it does not start: {error}"))?;
        let mut life = Self {
            journal,
            recorder,
            promises,
            states: Vec::new(),
            untold: report.untold.clone(),
            tickets: 0,
            asked: BTreeMap::new(),
            refused: 0,
        };
        life.note_states();
        Ok((life, Started { found, report }))
    }

    /// The power may be cut at each of the states since the last call.
    fn note_states(&mut self) {
        let states = std::mem::take(&mut *self.recorder.states.borrow_mut());
        let promises = &self.promises;
        self.states
            .extend(states.into_iter().map(|disk| (disk, promises.clone())));
    }

    fn batch(&mut self, asks: &[Ask]) {
        let mut asks = asks.to_vec();
        while !asks.is_empty() {
            let mut commands = Vec::new();
            let is_told = asks.iter().any(|ask| matches!(ask, Ask::Tell));
            for ask in asks.drain(..) {
                self.ask(ask, &mut commands);
            }
            let completions = self.journal.execute(commands);
            self.note_states();
            for completion in completions {
                asks.extend(self.on_completion(completion));
            }
            if is_told {
                let names = self.untold.iter().map(Aside::name);
                self.promises.told.extend(names);
            }
            // After the report, more counts for the same state.
            let now = (self.recorder.disk.fork(), self.promises.clone());
            self.states.push(now);
        }
    }

    fn ask(&mut self, ask: Ask, commands: &mut Vec<JournalCommand>) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.insert(ticket, ask);
        let record = match ask {
            Ask::Arrive(number, len) => self.arrive(number, len, false, commands),
            Ask::ArriveLarge(number, len) => self.arrive(number, len, true, commands),
            Ask::Abandon(number, len) => {
                self.arrive(number, len, true, commands);
                self.promise(number).owed = Sure::No;
                return commands.push(JournalCommand::BodyDiscard { id: id(number) });
            }
            Ask::Deliver(number) => {
                self.promise(number).delivered = Sure::Maybe;
                Record::Outcome(OutcomeRecord {
                    recipients: vec![(0, DeliveryResult::Delivered)],
                    ..deferred(number, 1)
                })
            }
            Ask::Hold(number) => {
                self.promise(number).held = Sure::Maybe;
                Record::Hold(id(number))
            }
            Ask::Release(number) => {
                self.promise(number).held = Sure::Maybe;
                Record::Release(id(number))
            }
            Ask::Done(number) => {
                let promise = self.promise(number);
                (promise.owed, promise.ended) = (Sure::Maybe, Sure::Maybe);
                Record::Done(id(number))
            }
            Ask::Copy(number) => {
                let delivered = self.promise(number).delivered == Sure::Yes;
                let progress = OutcomeRecord {
                    recipients: delivered
                        .then_some((0, DeliveryResult::Delivered))
                        .into_iter()
                        .collect(),
                    ..deferred(number, 1)
                };
                return commands.push(JournalCommand::CopyForward {
                    ticket,
                    id: id(number),
                    progress,
                });
            }
            Ask::Retire(segment) => return commands.push(JournalCommand::Retire { segment }),
            Ask::Tell => {
                let names = self.untold.iter().map(Aside::name).collect();
                return commands.push(JournalCommand::Told { names });
            }
        };
        commands.push(JournalCommand::Append { ticket, record });
    }

    fn promise(&mut self, number: u64) -> &mut Promise {
        let messages = &mut self.promises.messages;
        messages.get_mut(&id(number)).expect("it arrived")
    }

    fn arrive(
        &mut self,
        number: u64,
        len: usize,
        large: bool,
        commands: &mut Vec<JournalCommand>,
    ) -> Record {
        let promise = Promise {
            len,
            owed: Sure::Maybe,
            ended: Sure::No,
            delivered: Sure::No,
            held: Sure::No,
        };
        self.promises.messages.insert(id(number), promise);
        let bytes = text(number, len);
        if large {
            let pieces = bytes.chunks(len.div_ceil(2));
            commands.extend(pieces.map(|piece| JournalCommand::BodyAppend {
                id: id(number),
                bytes: piece.to_vec(),
            }));
        }
        Record::Message(MessageRecord {
            id: id(number),
            envelope: envelope(1),
            fields: b"X: 1\r\n".to_vec(),
            body: match large {
                true => MessageBody::File {
                    len: len as u64,
                    crc32: 0,
                },
                false => MessageBody::Inline(bytes),
            },
        })
    }

    /// Records promises; returns the requests of the journal.
    fn on_completion(&mut self, completion: JournalCompletion) -> Vec<Ask> {
        let (ticket, is_done) = match completion {
            JournalCompletion::Committed { ticket, .. } => (ticket, true),
            JournalCompletion::Failed { ticket, .. } => (ticket, false),
            JournalCompletion::Crowded { messages } => {
                return messages.iter().map(|id| Ask::Copy(id.number())).collect();
            }
            JournalCompletion::Retirable { segment } => return vec![Ask::Retire(segment)],
            _ => return Vec::new(),
        };
        self.refused += usize::from(!is_done);
        match self.asked[&ticket] {
            Ask::Arrive(number, _) | Ask::ArriveLarge(number, _) => {
                self.promise(number).owed = if is_done { Sure::Yes } else { Sure::No };
            }
            Ask::Deliver(number) if is_done => self.promise(number).delivered = Sure::Yes,
            Ask::Hold(number) if is_done => self.promise(number).held = Sure::Yes,
            Ask::Release(number) if is_done => self.promise(number).held = Sure::No,
            Ask::Done(number) if is_done => {
                let promise = self.promise(number);
                (promise.owed, promise.ended) = (Sure::No, Sure::Yes);
            }
            _ => {}
        }
        Vec::new()
    }
}

/// Compares the result of a start with the promises before it.
fn judge(
    disk: &MemoryDisk,
    before: &BTreeMap<SpoolFile, Vec<u8>>,
    promises: &Promises,
    started: &Started,
) -> Result<(), String> {
    let Started { found, report } = started;
    let wrong = |what: String| Err(format!("{what}: {report:?}"));
    if !report.missing.is_empty() || report.tip == TipState::Damaged {
        return wrong("something is said to be lost".to_owned());
    }
    // Without a note of the newest segment nothing distinguishes one that was never begun from one that was wiped.
    if !report.strays.is_empty() && report.tip != TipState::Absent {
        return wrong("what was never begun stays".to_owned());
    }
    if let Some(id) = found.keys().find(|id| !promises.messages.contains_key(id)) {
        return wrong(format!("{id} never came"));
    }
    for (id, promise) in &promises.messages {
        let Some(message) = found.get(id) else {
            if promise.owed == Sure::Yes {
                return wrong(format!("{id} is lost"));
            }
            continue;
        };
        if promise.owed == Sure::No {
            return wrong(format!("{id} is back, {promise:?}"));
        }
        if body_of(disk, message) != Some(text(id.number(), promise.len)) {
            return wrong(format!("{id} is not whole"));
        }
        let is_delivered = message.results.first() == Some(&Some(DeliveryResult::Delivered));
        for (sure, is_so, what) in [
            (promise.delivered, is_delivered, "delivered"),
            (promise.held, message.held, "held"),
        ] {
            if sure != Sure::Maybe && is_so != (sure == Sure::Yes) {
                return wrong(format!("{id} is {what}: {is_so}, promised {sure:?}"));
            }
        }
    }
    // Everything that a start removes is dead, or in damaged/, and reported.
    let after = files(disk);
    for (file, bytes) in before {
        let is_ending = |id| {
            promises
                .messages
                .get(id)
                .is_some_and(|one| one.ended != Sure::No)
        };
        match file {
            SpoolFile::Body(id) if after.get(file) != Some(bytes) => {
                let aside = after.get(&SpoolFile::DamagedBody(*id)) == Some(bytes);
                if !aside && !is_ending(id) {
                    return wrong(format!("the body of {id} was deleted"));
                }
            }
            SpoolFile::DamagedBody(_) if after.get(file) != Some(bytes) => {
                return wrong(format!("{file} was deleted"));
            }
            SpoolFile::Segment(number) if !is_kept(*number, bytes, &after) => {
                return wrong(format!("bytes of {file} were deleted"));
            }
            _ => {}
        }
    }
    for ((stood, at), (aside, bytes)) in &promises.senseless {
        let stands = |file, at| {
            let tail = after.get(file).and_then(|bytes: &Vec<u8>| bytes.get(at..));
            tail.is_some_and(|tail| tail.starts_with(bytes))
        };
        if !stands(stood, *at) && !stands(aside, 0) {
            return wrong(format!("{aside} is gone"));
        }
    }
    let untold = report.untold.iter().map(Aside::name);
    if let Some(name) = untold.into_iter().find(|name| promises.told.contains(name)) {
        return wrong(format!("{name} is told again"));
    }
    let messages = promises.messages.iter();
    for (id, _) in messages.filter(|(_, promise)| promise.ended == Sure::Yes) {
        if after.contains_key(&SpoolFile::DamagedBody(*id)) {
            return wrong(format!("the body of {id} was set aside, which is done"));
        }
    }
    Ok(())
}

/// Whether each byte of a segment is still there, or in `damaged/`, or past the end that a seal or a first segment
/// sets.
fn is_kept(number: u32, before: &[u8], after: &BTreeMap<SpoolFile, Vec<u8>>) -> bool {
    let now = after
        .get(&SpoolFile::Segment(number))
        .map_or(&[][..], |bytes| bytes);
    let is_last = !after.contains_key(&SpoolFile::Segment(number + 1));
    let cut = before.get(now.len()..).unwrap_or_default();
    !is_last
        || cut.iter().all(|byte| *byte == 0)
        || after.iter().any(|(file, bytes)| match file {
            SpoolFile::Damaged { segment, offset } => {
                let tail = before.get(*offset as usize..).unwrap_or_default();
                *segment == number && *offset as usize <= now.len() && tail.starts_with(bytes)
            }
            _ => false,
        })
}

fn files(disk: &MemoryDisk) -> BTreeMap<SpoolFile, Vec<u8>> {
    let folders = [
        SpoolFolder::Journal,
        SpoolFolder::Body,
        SpoolFolder::Damaged,
    ];
    let lists = folders.map(|folder| disk.clone().list(folder).expect("a list"));
    let files = lists.into_iter().flatten().filter_map(|entry| match entry {
        DirEntry::File(file) => Some((file, disk.bytes(file)?)),
        DirEntry::Foreign(_) => None,
    });
    files.collect()
}

fn body_of(disk: &MemoryDisk, message: &Recovered) -> Option<Vec<u8>> {
    let part = Part::Body {
        offset: 0,
        len: u32::MAX,
    };
    match read(&mut disk.clone(), message.location, message.id, part) {
        Ok(ReadContent::Body { bytes, crc32 }) => {
            (crc32fast::hash(&bytes) == crc32).then_some(bytes)
        }
        _ => None,
    }
}

/// All answers to a row of questions, one row after another.
#[derive(Default)]
struct Answers {
    given: Vec<bool>,
    asked: usize,
}

impl Answers {
    fn next(&mut self) -> bool {
        if self.asked == self.given.len() {
            self.given.push(false);
        }
        self.asked += 1;
        self.given[self.asked - 1]
    }

    /// Advances to the next row; false after the last.
    fn advance(&mut self) -> bool {
        self.given.truncate(self.asked);
        self.asked = 0;
        while self.given.pop_if(|answer| *answer).is_some() {}
        match self.given.last_mut() {
            Some(answer) => {
                *answer = true;
                true
            }
            None => false,
        }
    }
}

/// A history, and how large its segments are.
#[derive(Clone, Copy)]
struct Story {
    name: &'static str,
    segment_bytes: u64,
    batches: &'static [&'static [Ask]],
    /// A sync of the segment that fails: how many pass before it.
    failing: Option<(Operation, u64)>,
}

const STORIES: &[Story] = &[
    Story {
        name: "small",
        segment_bytes: 8_192,
        batches: &[
            &[Ask::Arrive(1, 1_500)],
            &[Ask::Deliver(1)],
            &[Ask::Arrive(2, 20), Ask::Hold(1)],
            &[Ask::Done(1), Ask::Hold(2)],
            &[Ask::Release(2)],
        ],
        failing: None,
    },
    Story {
        name: "large",
        segment_bytes: 8_192,
        batches: &[
            &[Ask::ArriveLarge(1, 1_400)],
            &[Ask::Abandon(2, 700)],
            &[Ask::ArriveLarge(3, 600), Ask::Arrive(4, 20)],
            &[Ask::Deliver(1), Ask::Deliver(3)],
            &[Ask::Done(1)],
            &[Ask::Done(3)],
        ],
        failing: None,
    },
    Story {
        name: "segments",
        segment_bytes: 900,
        batches: &[
            &[Ask::Arrive(1, 300), Ask::ArriveLarge(2, 60)],
            &[Ask::Deliver(2)],
            &[Ask::Arrive(3, 300)],
            &[Ask::Done(2), Ask::Arrive(4, 300)],
            &[Ask::Done(1)],
            &[Ask::Deliver(4), Ask::Arrive(5, 300)],
            &[Ask::Done(3), Ask::Hold(5)],
            &[Ask::Arrive(6, 300)],
        ],
        failing: None,
    },
    Story {
        name: "copied",
        segment_bytes: 900,
        batches: &[
            &[Ask::Arrive(1, 60), Ask::Arrive(2, 300)],
            &[Ask::Hold(1), Ask::Deliver(1)],
            &[Ask::Arrive(3, 400), Ask::Done(2)],
            &[Ask::Done(3), Ask::Arrive(4, 400)],
            &[Ask::Done(4), Ask::Arrive(5, 400)],
            &[Ask::Done(5)],
        ],
        failing: None,
    },
    Story {
        name: "together",
        segment_bytes: 8_192,
        batches: &[
            &[
                Ask::Arrive(1, 1_300),
                Ask::Arrive(2, 900),
                Ask::ArriveLarge(3, 600),
            ],
            &[Ask::Deliver(1), Ask::Done(1), Ask::Deliver(3), Ask::Done(3)],
        ],
        failing: None,
    },
    Story {
        name: "refused",
        segment_bytes: 4_096,
        batches: &[
            &[Ask::Arrive(1, 300)],
            &[Ask::Arrive(2, 600), Ask::ArriveLarge(3, 60)],
            &[Ask::Arrive(4, 300), Ask::Done(1)],
        ],
        failing: Some((Operation::SyncDone, 4)),
    },
    Story {
        name: "full",
        segment_bytes: 4_096,
        batches: &[
            &[Ask::Arrive(1, 300)],
            &[Ask::Arrive(2, 900)],
            &[Ask::Arrive(3, 300), Ask::Done(1)],
        ],
        failing: Some((Operation::Write, 3)),
    },
];

/// The number of tried cases of a story.
#[derive(Default)]
struct Tried {
    operations: usize,
    cuts: usize,
    states: HashSet<u64>,
    widest: usize,
}

impl Story {
    fn live(&self, omitted: Omitted) -> Result<Life, String> {
        let disk = MemoryDisk::new();
        match self.failing {
            Some((operation @ Operation::Write, skip)) => {
                disk.fail(operation, skip, 1, DiskError::NoSpace);
            }
            Some((operation, skip)) => disk.fail(operation, skip, 1, DiskError::Io),
            None => {}
        }
        let recorder = Recorder::new(disk, omitted);
        let (mut life, _) = Life::begin(recorder, self.segment_bytes, Promises::default())?;
        for batch in self.batches {
            life.batch(batch);
        }
        Ok(life)
    }

    /// Cuts the power everywhere; the first promise that is broken.
    fn explore(&self, omitted: Omitted) -> Result<Tried, String> {
        let life = self.live(omitted)?;
        let mut tried = Tried {
            operations: life.states.len(),
            ..Tried::default()
        };
        self.cut_everywhere(&life.states, omitted, 1, &mut tried)
            .map_err(|wrong| format!("{}: {wrong}", self.name))?;
        Ok(tried)
    }

    fn cut_everywhere(
        &self,
        states: &[(MemoryDisk, Promises)],
        omitted: Omitted,
        round: u64,
        tried: &mut Tried,
    ) -> Result<(), String> {
        for (number, (disk, promises)) in states.iter().enumerate() {
            let mut answers = Answers::default();
            loop {
                let cut = disk.fork();
                cut.crash_choosing(&mut || answers.next());
                tried.widest = tried.widest.max(answers.asked);
                tried.cuts += 1;
                if tried.states.insert(fingerprint(&cut, promises, round)) {
                    self.after_cut(&cut, promises, omitted, round, tried)
                        .map_err(|wrong| {
                            format!(
                                "cut {number} of round {round}, {:?}: {wrong}",
                                answers.given
                            )
                        })?;
                }
                if !answers.advance() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Starts, lives on, and starts again; in the first round with another power cut at each operation of that.
    fn after_cut(
        &self,
        disk: &MemoryDisk,
        promises: &Promises,
        omitted: Omitted,
        round: u64,
        tried: &mut Tried,
    ) -> Result<(), String> {
        let before = files(disk);
        let again = disk.fork();
        let begin = |disk: &MemoryDisk, promises| {
            let recorder = Recorder::new(disk.clone(), omitted);
            Life::begin(recorder, self.segment_bytes, promises)
        };
        let (mut life, started) = begin(disk, promises.clone())?;
        judge(disk, &before, promises, &started)?;
        let new = 9_000 + round;
        life.batch(&[Ask::Tell, Ask::Arrive(new, 40)]);
        if life.promises.messages[&id(new)].owed != Sure::Yes {
            return Err("it takes nothing".to_owned());
        }
        // A message that may or may not be queued was found, or was not, and stays so.
        for (id, promise) in &mut life.promises.messages {
            if promise.owed == Sure::Maybe && *id < QueueId::new(9_000) {
                let is_owed = started.found.contains_key(id);
                promise.owed = if is_owed { Sure::Yes } else { Sure::No };
            }
        }
        let owed = started.found.keys().next().map(|id| id.number());
        if let Some(number) = owed {
            life.batch(&[Ask::Done(number)]);
        }
        let Life {
            mut states,
            promises: mut later,
            ..
        } = life;
        // Data that it does not understand are never lost, from the start on.
        let senseless = senseless(&before, &started.report);
        let lives = states.iter_mut().map(|(_, promises)| promises);
        for promises in lives.chain([&mut later]) {
            promises.senseless.extend(senseless.clone());
        }
        let before = files(disk);
        let (_, started_later) = begin(disk, later.clone())?;
        judge(disk, &before, &later, &started_later)?;
        if !started_later.report.untold.is_empty() {
            return Err(format!("told twice: {:?}", started_later.report));
        }
        // A second start right after the first finds the same.
        drop(begin(&again, promises.clone())?);
        let (_, second) = begin(&again, promises.clone())?;
        if second.found != started.found || second.report.untold != started.report.untold {
            return Err(format!("found first {started:?}, then {second:?}"));
        }
        match round {
            1 => self.cut_everywhere(&states, omitted, 2, tried),
            _ => Ok(()),
        }
    }
}

/// The data that a start set aside, with original and new place.
fn senseless(
    before: &BTreeMap<SpoolFile, Vec<u8>>,
    report: &OpenReport,
) -> BTreeMap<(SpoolFile, usize), (SpoolFile, Vec<u8>)> {
    let torn = report.torn.iter().map(|t| (t.segment, t.offset, t.len));
    let damage = report.damage.iter().map(|d| (d.segment, d.offset, d.len));
    let regions = torn.chain(damage).map(|(segment, offset, len)| {
        let (file, at) = (SpoolFile::Segment(segment), offset as usize);
        let bytes = before[&file][at..at + len as usize].to_vec();
        ((file, at), (SpoolFile::Damaged { segment, offset }, bytes))
    });
    let bodies = report.untold.iter().filter_map(|aside| match aside {
        Aside::Body { id, .. } => {
            let file = SpoolFile::Body(*id);
            let aside = SpoolFile::DamagedBody(*id);
            let bytes = before.get(&file).or(before.get(&aside))?.clone();
            Some(((file, 0), (aside, bytes)))
        }
        _ => None,
    });
    regions.chain(bodies).collect()
}

fn fingerprint(disk: &MemoryDisk, promises: &Promises, round: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (files(disk), promises, round).hash(&mut hasher);
    hasher.finish()
}

#[test]
fn any_power_cut_keeps_what_was_acknowledged_whatever_was_not_synced() {
    let (mut cuts, mut states) = (0, 0);
    for story in STORIES {
        let tried = story
            .explore(Omitted::Nothing)
            .unwrap_or_else(|wrong| panic!("{wrong}"));
        let found = tried.states.len();
        println!(
            "{}: {} operations, {} power cuts of at most {} choices, {found} different disks",
            story.name, tried.operations, tried.cuts, tried.widest
        );
        assert!(tried.widest < 16, "{}: {}", story.name, tried.widest);
        (cuts, states) = (cuts + tried.cuts, states + found);
    }
    println!("{cuts} power cuts, {states} different disks");
    assert!(cuts > 100_000 && states > 15_000, "{cuts} {states}");
}

#[test]
fn the_stories_are_what_they_are_named_after() {
    for story in STORIES {
        let life = story.live(Omitted::Nothing).expect("a life");
        let (first, last) = (life.journal.extent.first, life.journal.extent.top);
        let is_long = matches!(story.name, "segments" | "copied" | "refused");
        assert_eq!(first > 1, is_long, "{}: from {first} to {last}", story.name);
        let is_copied = life.asked.values().any(|ask| matches!(ask, Ask::Copy(_)));
        assert_eq!(is_copied, story.name == "copied");
        assert_eq!(life.refused > 0, story.failing.is_some(), "{}", story.name);
    }
}

#[test]
fn a_sync_that_is_left_out_breaks_a_promise() {
    // Not that of a note written in place: a note that is too old costs the DSN of a loss, and nothing else here.
    let omissions = [
        Omitted::Bytes(|file| matches!(file, SpoolFile::Segment(_))),
        Omitted::Bytes(|file| matches!(file, SpoolFile::Draft(_))),
        Omitted::Bytes(|file| matches!(file, SpoolFile::TipDraft)),
        Omitted::Bytes(|file| matches!(file, SpoolFile::Told)),
        Omitted::Bytes(|file| matches!(file, SpoolFile::Damaged { .. })),
        Omitted::Names(SpoolFolder::Journal),
        Omitted::Names(SpoolFolder::Body),
        Omitted::Names(SpoolFolder::Damaged),
    ];
    for (number, omitted) in omissions.into_iter().enumerate() {
        let mut explored = STORIES.iter().map(|story| story.explore(omitted));
        assert!(explored.any(|tried| tried.is_err()), "omission {number}");
    }
}
