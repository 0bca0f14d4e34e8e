//! What a start finds in the spool, and what it makes of it.
//!
//! Records are read in order; a later one overrules an earlier one. Of a sealed segment only headers and envelopes are
//! read, for its bodies were synced before the seal; of the last, unsealed one everything is verified, for a crash may
//! have torn it. Nothing that makes no sense is deleted: it is copied to `damaged/` first. What the disk does not give is
//! another thing: bytes that were not read say nothing, so the start fails, nothing is judged, and the next one reads again.
//!
//! Invariant: recovery changes nothing that a second recovery would read differently, so it may be interrupted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::date::Timestamp;
use crate::envelope::Envelope;
use crate::limits::DAMAGED_REGIONS_MAX;
use crate::queue_id::QueueId;

use super::codec;
use super::disk::{Disk, DiskError, Entry, SpoolFile, SpoolFolder};
use super::frame::{HEADER_BYTES, Header, HeaderError, Kind, Location, MAGIC, Place, Seal, seal};
use super::ids::IdSource;
use super::reader::{Content, Part, ReadError, read};
use super::record::Outcome;

/// A message that is still owed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recovered {
    /// Its name.
    pub id: QueueId,
    /// Where it is.
    pub location: Location,
    /// Its envelope.
    pub envelope: Envelope,
    /// Bytes of the message as it came.
    pub body_len: u64,
    /// The last known fate of each recipient of the envelope.
    pub fates: Vec<Option<Outcome>>,
    /// Whether the operator holds it back.
    pub held: bool,
    /// Whether its sender has been told of the delay.
    pub warned: bool,
    /// When the last outcome was recorded.
    pub last_outcome: Option<Timestamp>,
}

/// What a start found beside messages.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// Messages that are still owed.
    pub messages: usize,
    /// Segments of the journal.
    pub segments: usize,
    /// Tails that a crash left and that were cut.
    pub torn: Vec<Torn>,
    /// What was set aside; at most [`DAMAGED_REGIONS_MAX`] of them.
    pub damage: Vec<Damage>,
    /// Names that are not ours.
    pub foreign: Vec<(SpoolFolder, Box<str>)>,
    /// Files of large messages that were never acknowledged, or were done; they were removed.
    pub orphan_bodies: usize,
    /// The highest id of the spool.
    pub highest: Option<QueueId>,
}

impl OpenReport {
    /// A source of ids that the spool has not seen.
    pub fn ids(&self) -> IdSource {
        IdSource::above(self.highest.unwrap_or(QueueId::new(0)))
    }
}

/// A tail that a crash left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Torn {
    /// The segment.
    pub segment: u32,
    /// Where it was cut.
    pub offset: u32,
    /// Bytes that went.
    pub len: u64,
}

/// Bytes that make no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The segment that they stand in.
    pub segment: u32,
    /// Where.
    pub offset: u32,
    /// How many.
    pub len: u64,
    /// The message, where it can be read.
    pub id: Option<QueueId>,
    /// What is wrong.
    pub kind: DamageKind,
    /// Whether they are safe in `damaged/`; if not, the disk did not take them.
    pub kept: bool,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DamageKind {
    /// No header can be read.
    Header,
    /// The header is whole, what follows is not.
    Payload,
    /// The record is whole, and its file is missing or of another length.
    BodyFile,
}

/// Why the journal could not be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenError {
    /// The disk failed.
    Disk(DiskError),
    /// A newer chopar wrote here.
    FutureVersion {
        /// The segment.
        segment: u32,
        /// Its version.
        version: u8,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(out, "the spool cannot be opened: {error}"),
            Self::FutureVersion { segment, version } => write!(
                out,
                "journal segment {segment} has format {version}, which this chopar does not know: run the newer one that wrote it until its queue is empty"
            ),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// What the journal goes on from.
pub(super) struct Found {
    pub(super) live: HashMap<QueueId, (Location, bool)>, // and whether it is held
    pub(super) segments: BTreeMap<u32, u64>,             // bytes that count
    pub(super) highest: QueueId,
    pub(super) holes: Vec<u32>, // torn records of the last segment, for its seal
}

/// Reads the whole journal and tells `sink` each message that is still owed, in the order of the journal.
pub(super) fn recover<D: Disk>(
    disk: &mut D,
    sink: &mut dyn FnMut(Recovered),
) -> Result<(Found, OpenReport), OpenError> {
    let mut scan = Scan {
        disk,
        report: OpenReport::default(),
        messages: HashMap::new(),
        highest: QueueId::new(0),
        window: Window::default(),
        holes: Vec::new(),
    };
    let numbers = scan.list_segments()?;
    let seals = scan.read_seals(&numbers)?;
    let mut segments = BTreeMap::new();
    for number in &numbers {
        let end = scan.read_segment(*number, seals.get(number))?;
        segments.insert(*number, end);
    }
    scan.report.segments = segments.len();
    let live = scan.emit(sink)?;
    scan.sweep_bodies(&live)?;
    scan.report.highest = (scan.highest != QueueId::new(0)).then_some(scan.highest);
    let found = Found {
        live,
        segments,
        highest: scan.highest,
        holes: scan.holes,
    };
    Ok((found, scan.report))
}

/// A message as the records read so far tell it.
struct State {
    location: Location,
    held: bool,
    warned: bool,
    last_outcome: Option<Timestamp>,
    fates: Vec<(u32, Outcome)>,
}

struct Scan<'a, D> {
    disk: &'a mut D,
    report: OpenReport,
    messages: HashMap<QueueId, State>,
    highest: QueueId,
    window: Window,
    holes: Vec<u32>, // of the segment that was read last, where it is unsealed
}

/// What stands at one place of a segment.
enum Step {
    Record(Header),
    /// The header is whole and its length believed; what follows is not what was summed.
    BadPayload(Header),
    /// The header is whole, and says that the record ends past the segment.
    Cut(QueueId),
    BadHeader,
}

impl<D: Disk> Scan<'_, D> {
    fn list_segments(&mut self) -> Result<Vec<u32>, OpenError> {
        let mut numbers = Vec::new();
        for entry in self.disk.list(SpoolFolder::Journal)? {
            match entry {
                Entry::File(SpoolFile::Segment(number)) if number > 0 => numbers.push(number),
                Entry::File(other) => self.foreign(SpoolFolder::Journal, &other.to_string()),
                Entry::Foreign(name) => self.foreign(SpoolFolder::Journal, &name),
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn foreign(&mut self, folder: SpoolFolder, name: &str) {
        if self.report.foreign.len() < DAMAGED_REGIONS_MAX {
            self.report.foreign.push((folder, name.into()));
        }
    }

    /// How much of each segment counts, as a later one says.
    fn read_seals(&mut self, numbers: &[u32]) -> Result<BTreeMap<u32, Seal>, OpenError> {
        let mut seals = BTreeMap::new();
        for number in numbers {
            let len = self.disk.len(SpoolFile::Segment(*number))?;
            if let Step::Record(header) = self.step(*number, 0, len, false)?
                && let Some(seal) = self.seal_at(*number, &header)?
                && seal.segment < *number
            {
                // An earlier try at the same seal may have been left by a crash; both say the same.
                seals.insert(seal.segment, seal);
            }
        }
        Ok(seals)
    }

    fn seal_at(&mut self, segment: u32, header: &Header) -> Result<Option<Seal>, DiskError> {
        if header.kind != Kind::Seal {
            return Ok(None);
        }
        let file = SpoolFile::Segment(segment);
        let len = HEADER_BYTES.saturating_add(header.envelope_len as usize);
        let bytes = self.window.get(self.disk, file, 0, len)?;
        Ok(bytes.get(HEADER_BYTES..).and_then(seal))
    }

    /// Reads one segment; returns where it ends.
    fn read_segment(&mut self, number: u32, sealed: Option<&Seal>) -> Result<u64, OpenError> {
        let file = SpoolFile::Segment(number);
        let len = self.disk.len(file)?.min(u64::from(u32::MAX));
        // A seal past the end of the file is damage that cannot be set aside; what is there is read.
        let limit = sealed.map_or(len, |seal| seal.len.min(len));
        self.holes.clear();
        if let Some(lost) = sealed
            .map(|seal| seal.len.saturating_sub(len))
            .filter(|lost| *lost > 0)
        {
            self.report.damage.push(Damage {
                segment: number,
                offset: u32::try_from(len).unwrap_or(u32::MAX),
                len: lost,
                id: None,
                kind: DamageKind::Header,
                kept: false,
            });
        }
        let mut at = 0;
        let mut may_cut = true;
        while at < limit {
            match self.step(number, at, limit, sealed.is_none())? {
                Step::Record(header) if sealed.is_some_and(|seal| is_hole(seal, at)) => {
                    let end = at.saturating_add(header.record_len());
                    self.set_aside(number, at, end, Some(header.id), DamageKind::Payload);
                    at = end;
                }
                Step::Record(header) => {
                    self.on_record(number, at, &header)?;
                    at = at.saturating_add(header.record_len());
                }
                Step::BadPayload(header) => {
                    self.holes.extend(u32::try_from(at));
                    let end = at.saturating_add(header.record_len());
                    self.set_aside(number, at, end, Some(header.id), DamageKind::Payload);
                    at = end;
                }
                Step::Cut(id) => {
                    let next = self.resync(number, at.saturating_add(1), limit)?;
                    let end = next.unwrap_or(limit);
                    self.set_aside(number, at, end, Some(id), DamageKind::Payload);
                    at = end;
                }
                Step::BadHeader => match self.resync(number, at.saturating_add(1), limit)? {
                    Some(next) => {
                        self.set_aside(number, at, next, None, DamageKind::Header);
                        at = next;
                    }
                    None if sealed.is_some() => {
                        self.set_aside(number, at, limit, None, DamageKind::Header);
                        at = limit;
                    }
                    None => {
                        may_cut = self.note_torn(number, at, limit)?;
                        break;
                    }
                },
            }
        }
        if at < len && may_cut {
            // Best effort: what is past the end is never read again, for the next segment will say so.
            let _ = self.disk.truncate(file, at);
        }
        if sealed.is_none() {
            // A process that was killed leaves records that only the kernel has. They count from now on, and the next
            // segment's seal will say that they are on the disk.
            self.disk.sync_data(file)?;
        }
        Ok(at)
    }

    /// What stands at `at`. `whole` verifies the body too.
    fn step(&mut self, segment: u32, at: u64, limit: u64, whole: bool) -> Result<Step, OpenError> {
        let Ok(offset) = u32::try_from(at) else {
            return Ok(Step::BadHeader);
        };
        let file = SpoolFile::Segment(segment);
        let front = self.window.get(self.disk, file, at, HEADER_BYTES)?;
        let header = match Header::decode(front, Place { segment, offset }) {
            Ok(header) => header,
            Err(HeaderError::Damaged) => return Ok(Step::BadHeader),
            Err(HeaderError::Future { version }) => {
                return Err(OpenError::FutureVersion { segment, version });
            }
        };
        if at.saturating_add(header.record_len()) > limit {
            return Ok(Step::Cut(header.id));
        }
        let len = if whole {
            header.record_len()
        } else {
            HEADER_BYTES as u64 + u64::from(header.envelope_len)
        };
        // Bounded by the length of the segment, checked above.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let payload = self
            .window
            .get(self.disk, file, at, len)?
            .get(HEADER_BYTES..)
            .unwrap_or_default();
        let verified = if whole {
            header.parts(payload).is_some()
        } else {
            payload.len() == header.envelope_len as usize
                && crc32fast::hash(payload) == header.envelope_crc
        };
        Ok(if verified {
            Step::Record(header)
        } else {
            Step::BadPayload(header)
        })
    }

    /// The next place from `at` on where a header is whole.
    fn resync(&mut self, segment: u32, at: u64, limit: u64) -> Result<Option<u64>, OpenError> {
        let file = SpoolFile::Segment(segment);
        let mut at = at;
        while at < limit {
            let window = self.window.get(self.disk, file, at, SCAN_BYTES)?;
            let Some(rest) = window.len().checked_sub(HEADER_BYTES) else {
                return Ok(None);
            };
            let found = candidates(window).find(|skip| is_header(window, *skip, segment, at));
            match found {
                Some(skip) => {
                    at = at.saturating_add(skip as u64);
                    // A header that the limit cuts off is not believed to be the start of anything.
                    if at >= limit {
                        return Ok(None);
                    }
                    self.step(segment, at, limit, false)?; // refuses a future version
                    return Ok(Some(at));
                }
                // At least one byte on: a header that the window cuts off is seen whole in the next.
                None => at = at.saturating_add(rest as u64).saturating_add(1),
            }
        }
        Ok(None)
    }

    fn on_record(&mut self, segment: u32, at: u64, header: &Header) -> Result<(), DiskError> {
        let id = header.id;
        self.highest = self.highest.max(id);
        // Proven by `step`: the place fits.
        let offset = u32::try_from(at).unwrap_or(u32::MAX);
        match header.kind {
            Kind::Seal => {}
            Kind::Message => {
                let location = Location::new(Place { segment, offset }, header);
                self.messages
                    .entry(id)
                    .and_modify(|state| state.location = location)
                    .or_insert(State {
                        location,
                        held: false,
                        warned: false,
                        last_outcome: None,
                        fates: Vec::new(),
                    });
            }
            Kind::Outcome => self.on_outcome(segment, at, header)?,
            Kind::Hold | Kind::Release => {
                if let Some(state) = self.messages.get_mut(&id) {
                    state.held = header.kind == Kind::Hold;
                }
            }
            Kind::Done => drop(self.messages.remove(&id)),
        }
        Ok(())
    }

    fn on_outcome(&mut self, segment: u32, at: u64, header: &Header) -> Result<(), DiskError> {
        let id = header.id;
        if !self.messages.contains_key(&id) {
            return Ok(());
        }
        let file = SpoolFile::Segment(segment);
        let len = HEADER_BYTES.saturating_add(header.envelope_len as usize);
        let bytes = self.window.get(self.disk, file, at, len)?;
        let Some(record) = codec::outcome(id, bytes.get(HEADER_BYTES..).unwrap_or_default()) else {
            let end = at.saturating_add(header.record_len());
            self.set_aside(segment, at, end, Some(id), DamageKind::Payload);
            return Ok(());
        };
        if record.done {
            self.messages.remove(&id);
            return Ok(());
        }
        let Some(state) = self.messages.get_mut(&id) else {
            return Ok(());
        };
        state.warned |= record.warned;
        state.last_outcome = Some(record.at);
        for (index, outcome) in record.recipients {
            match state.fates.iter_mut().find(|(known, _)| *known == index) {
                Some((_, fate)) => *fate = outcome,
                None => state.fates.push((index, outcome)),
            }
        }
        Ok(())
    }

    /// Copies bytes to `damaged/` and reports them.
    fn set_aside(
        &mut self,
        segment: u32,
        from: u64,
        to: u64,
        id: Option<QueueId>,
        kind: DamageKind,
    ) {
        if self.report.damage.len() >= DAMAGED_REGIONS_MAX {
            return;
        }
        let offset = u32::try_from(from).unwrap_or(u32::MAX);
        let kept = self.keep(segment, offset, to.saturating_sub(from)).is_ok();
        self.report.damage.push(Damage {
            segment,
            offset,
            len: to.saturating_sub(from),
            id,
            kind,
            kept,
        });
    }

    fn keep(&mut self, segment: u32, offset: u32, len: u64) -> Result<(), DiskError> {
        let aside = SpoolFile::Damaged { segment, offset };
        match self.disk.create(aside) {
            // An earlier start set it aside, whole or in part: it is written again.
            Ok(()) | Err(DiskError::Exists) => {}
            Err(error) => return Err(error),
        }
        let from = SpoolFile::Segment(segment);
        let mut done = 0;
        let mut piece = vec![0; SCAN_BYTES];
        while done < len {
            let want = usize::try_from(len - done).map_or(SCAN_BYTES, |left| left.min(SCAN_BYTES));
            let into = piece.get_mut(..want).unwrap_or_default();
            let at = u64::from(offset).saturating_add(done);
            let got = self.disk.read_at(from, at, into)?;
            if got == 0 {
                break;
            }
            self.disk
                .write_at(aside, done, piece.get(..got).unwrap_or_default())?;
            done = done.saturating_add(got as u64);
        }
        self.disk.sync_data(aside)?;
        self.disk.sync_folder(SpoolFolder::Damaged)
    }

    /// Keeps and reports a tail without a header, unless it is the zeros that a segment is made of. Whether it may go.
    fn note_torn(&mut self, segment: u32, from: u64, limit: u64) -> Result<bool, DiskError> {
        let file = SpoolFile::Segment(segment);
        let mut at = from;
        let mut end = from;
        while at < limit {
            let bytes = self.window.get(self.disk, file, at, SCAN_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            if !is_zero(bytes) {
                let last = bytes.iter().rposition(|byte| *byte != 0);
                end = at.saturating_add(last.map_or(0, |last| last as u64 + 1));
            }
            at = at.saturating_add(bytes.len() as u64);
        }
        if end == from {
            return Ok(true);
        }
        let offset = u32::try_from(from).unwrap_or(u32::MAX);
        let len = end.saturating_sub(from);
        self.report.torn.push(Torn {
            segment,
            offset,
            len,
        });
        // It may also be the last record that was promised, with a bad header: nothing tells them apart.
        Ok(self.keep(segment, offset, len).is_ok())
    }

    /// Tells the sink every message that is whole.
    fn emit(
        &mut self,
        sink: &mut dyn FnMut(Recovered),
    ) -> Result<HashMap<QueueId, (Location, bool)>, DiskError> {
        let mut messages: Vec<(QueueId, State)> = self.messages.drain().collect();
        messages.sort_unstable_by_key(|(_, state)| {
            let place = state.location.place();
            (place.segment, place.offset)
        });
        let mut live = HashMap::with_capacity(messages.len());
        for (id, state) in messages {
            let location = state.location;
            if location.body_is_file() && self.body_len(id)? != Some(location.body_len()) {
                self.set_message_aside(id, location, DamageKind::BodyFile);
                continue;
            }
            match read(self.disk, location, id, Part::Head) {
                Ok(Content::Head { envelope, .. }) => {
                    live.insert(id, (location, state.held));
                    sink(recovered(id, state, envelope));
                }
                Err(ReadError::Disk(error)) => return Err(error),
                _ => self.set_message_aside(id, location, DamageKind::Payload),
            }
        }
        self.report.messages = live.len();
        Ok(live)
    }

    /// Bytes of the file of a large message, if it has one.
    fn body_len(&mut self, id: QueueId) -> Result<Option<u64>, DiskError> {
        match self.disk.len(SpoolFile::Body(id)) {
            Ok(len) => Ok(Some(len)),
            Err(DiskError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set_message_aside(&mut self, id: QueueId, location: Location, kind: DamageKind) {
        let place = location.place();
        let from = u64::from(place.offset);
        let to = from.saturating_add(location.record_len());
        self.set_aside(place.segment, from, to, Some(id), kind);
    }

    /// Removes files of large messages that no message names; one that is named by what was set aside stays.
    fn sweep_bodies(&mut self, live: &HashMap<QueueId, (Location, bool)>) -> Result<(), OpenError> {
        let damaged: HashSet<QueueId> = self.report.damage.iter().filter_map(|d| d.id).collect();
        for entry in self.disk.list(SpoolFolder::Body)? {
            match entry {
                Entry::File(SpoolFile::Body(id)) => {
                    if !live.contains_key(&id) && !damaged.contains(&id) {
                        self.disk.remove(SpoolFile::Body(id))?;
                        self.report.orphan_bodies = self.report.orphan_bodies.saturating_add(1);
                    }
                }
                Entry::File(other) => self.foreign(SpoolFolder::Body, &other.to_string()),
                Entry::Foreign(name) => self.foreign(SpoolFolder::Body, &name),
            }
        }
        Ok(())
    }
}

/// Where in `window` a magic may begin. Empty pages, which most of a last segment is, are passed over whole.
fn candidates(window: &[u8]) -> impl Iterator<Item = usize> {
    window
        .chunks(WINDOW_BYTES)
        .enumerate()
        .filter(|(_, page)| !is_zero(page))
        .flat_map(|(index, page)| {
            page.iter()
                .enumerate()
                .filter(|(_, byte)| **byte == MAGIC[0])
                .map(move |(at, _)| index * WINDOW_BYTES + at)
        })
}

fn is_header(window: &[u8], skip: usize, segment: u32, at: u64) -> bool {
    let place =
        u32::try_from(at.saturating_add(skip as u64)).map(|offset| Place { segment, offset });
    match (window.get(skip..), place) {
        (Some(bytes), Ok(place)) => Header::decode(bytes, place) != Err(HeaderError::Damaged),
        _ => false,
    }
}

/// Without an early exit, so that it is compiled to wide instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |sum, byte| sum | byte) == 0
}

fn is_hole(seal: &Seal, at: u64) -> bool {
    seal.holes.iter().any(|hole| u64::from(*hole) == at)
}

fn recovered(id: QueueId, state: State, envelope: Envelope) -> Recovered {
    let mut fates = vec![None; envelope.recipients.len()];
    for (index, outcome) in state.fates {
        if let Some(slot) = usize::try_from(index).ok().and_then(|i| fates.get_mut(i)) {
            *slot = Some(outcome);
        }
    }
    Recovered {
        id,
        location: state.location,
        body_len: state.location.body_len(),
        envelope,
        fates,
        held: state.held,
        warned: state.warned,
        last_outcome: state.last_outcome,
    }
}

/// The part of a file that is in memory.
#[derive(Default)]
struct Window {
    file: Option<SpoolFile>,
    start: u64,
    bytes: Vec<u8>,
}

const WINDOW_BYTES: usize = 4_096; // about one message: bodies in between are skipped, not read
const SCAN_BYTES: usize = 64 * 1_024;

impl Window {
    /// `len` bytes from `at`, or fewer at the end of the file.
    fn get<D: Disk>(
        &mut self,
        disk: &mut D,
        file: SpoolFile,
        at: u64,
        len: usize,
    ) -> Result<&[u8], DiskError> {
        let inside = at.checked_sub(self.start).filter(|skip| {
            self.file == Some(file) && skip.saturating_add(len as u64) <= self.bytes.len() as u64
        });
        let skip = match inside {
            Some(skip) => usize::try_from(skip).unwrap_or_default(),
            None => {
                self.load(disk, file, at, len.max(WINDOW_BYTES))?;
                0
            }
        };
        let end = skip.saturating_add(len).min(self.bytes.len());
        Ok(self.bytes.get(skip..end).unwrap_or_default())
    }

    fn load<D: Disk>(
        &mut self,
        disk: &mut D,
        file: SpoolFile,
        at: u64,
        len: usize,
    ) -> Result<(), DiskError> {
        // Holds nothing until it is read.
        self.file = None;
        self.bytes.clear();
        self.bytes.resize(len, 0);
        let got = disk.read_at(file, at, &mut self.bytes)?;
        self.bytes.truncate(got);
        (self.file, self.start) = (Some(file), at);
        Ok(())
    }
}
