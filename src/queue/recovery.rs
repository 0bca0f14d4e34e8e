//! What a start finds in the spool, and what it makes of it.
//!
//! Records are read in order; a later one overrules an earlier one. Of a sealed segment only headers and envelopes are
//! read, for its bodies were synced before the seal; of the last, unsealed one everything is verified, for a crash may
//! have torn it. Nothing that makes no sense is deleted: it is copied to `damaged/` first, or its whole segment is
//! kept. What the disk does not give is another thing: bytes that were not read say nothing, so the start fails, nothing is
//! judged, and the next one reads again.
//!
//! | file | without a message that is owed | goes |
//! | --- | --- | --- |
//! | `body/ID.part` | was never acknowledged: it gets its name before its record is written | removed |
//! | `body/ID`, and a record that its message is done | dead | removed |
//! | `body/ID`, and nothing | its record may have been lost | to `damaged/ID.body` |
//! | `journal/NUMBER.seg`, all zeros, that the chain does not refer to | was never begun | removed |
//! | any of them, while a segment is missing | the segment may tell | stays |
//!
//! What stands in `damaged/` and is not named in `damaged/told` is reported until [`Command::Told`](super::Command::Told)
//! says that `admin` knows of it.
//!
//! Invariant: recovery changes nothing that a second recovery would read differently, so it may be interrupted.

mod aside;
mod chain;
mod report;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::date::Timestamp;
use crate::envelope::Envelope;
use crate::limits::{DAMAGED_REGIONS_MAX, RECORD_BYTES_MAX};
use crate::queue_id::QueueId;

use super::codec;
use super::disk::{Disk, DiskError, SpoolFile, SpoolFolder};
use super::frame::{HEADER_BYTES, Header, HeaderError, Kind, Location, MAGIC, Place, Seal, first};
use super::reader::{Content, Part, ReadError, read};
use super::record::Outcome;
use window::Window;

pub(super) use aside::put_told;
pub use report::{
    Aside, Damage, DamageKind, Missing, OpenError, OpenReport, Recovered, TipState, Torn,
};

/// What the journal goes on from.
pub(super) struct Found {
    pub(super) live: HashMap<QueueId, (Location, bool)>, // and whether it is held
    pub(super) segments: BTreeMap<u32, u64>,             // bytes that count
    pub(super) highest: QueueId,
    pub(super) holes: Vec<u32>, // torn records of the last segment, for its seal
    pub(super) first: u32,      // the oldest segment that counts
    pub(super) top: u32,        // no segment of the chain has a higher number
    pub(super) tip: Option<u32>,
    pub(super) kept: BTreeSet<u32>, // segments with damage that is nowhere else
    pub(super) told: BTreeSet<Box<str>>,
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
        done: HashSet::new(),
        highest: QueueId::new(0),
        window: Window::default(),
        holes: Vec::new(),
        first: None,
        kept: BTreeSet::new(),
        is_damaged_unsynced: false,
        ids: None,
    };
    let (numbers, is_noted) = scan.list_segments()?;
    scan.report.tip = scan.read_tip(is_noted)?;
    let fronts = scan.read_seals(&numbers)?;
    let mut chain = scan.chain(&numbers, &fronts)?;
    let mut segments = BTreeMap::new();
    for number in &chain.members {
        let end = scan.read_segment(*number, chain.seals.get(number).copied())?;
        segments.insert(*number, end);
    }
    // What a crash kept us from deleting counts no more than what is deleted.
    let first = scan.first.unwrap_or(0);
    scan.messages
        .retain(|_, state| state.location.segment() >= first);
    chain.missing.retain(|number| *number >= first);
    scan.name_missing(&chain.missing, &chain.strays)?;
    scan.report.segments = segments.len();
    let live = scan.emit(sink)?;
    if scan.report.missing.is_empty() {
        scan.sweep_unbegun()?;
        scan.sweep_bodies(&live)?;
    }
    let told = scan.review_damaged()?;
    // What cannot be read may hold higher ids than what can, and may come back: none of them is given out twice.
    if scan.report.has_losses() {
        scan.highest = scan.ids.map_or(scan.highest, |ids| ids.max(scan.highest));
    }
    scan.report.highest = (scan.highest != QueueId::new(0)).then_some(scan.highest);
    let tip = match scan.report.tip {
        TipState::Known(number) => Some(number),
        TipState::Absent | TipState::Damaged => None,
    };
    // What does not belong to the chain takes no numbers from it.
    let top = segments.keys().next_back().copied().max(tip).unwrap_or(0);
    // What is missing may be older than all that is there.
    let oldest = match scan.report.missing.is_empty() {
        true => segments.keys().next().copied(),
        false => Some(0),
    };
    let found = Found {
        live,
        segments,
        highest: scan.highest,
        holes: scan.holes,
        first: scan.first.or(oldest).unwrap_or(top.saturating_add(1)),
        top,
        tip,
        kept: scan.kept,
        told,
    };
    Ok((found, scan.report))
}

/// A message as the records read so far tell it.
struct State {
    location: Location,
    held: bool,
    warned: bool,
    last_outcome: Option<Timestamp>,
    fates: Vec<Option<Outcome>>, // by their place in the envelope
}

struct Scan<'a, D> {
    disk: &'a mut D,
    report: OpenReport,
    messages: HashMap<QueueId, State>,
    done: HashSet<QueueId>, // of which a file may be left
    highest: QueueId,
    window: Window,
    holes: Vec<u32>, // of the segment that was read last, where it is unsealed
    first: Option<u32>,
    kept: BTreeSet<u32>,
    is_damaged_unsynced: bool,
    ids: Option<QueueId>, // no message had a higher one, as the tip says
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
    fn foreign(&mut self, folder: SpoolFolder, name: &str) {
        if self.report.foreign.len() < DAMAGED_REGIONS_MAX {
            self.report.foreign.push((folder, name.into()));
        }
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
            self.note_damage(Damage {
                segment: number,
                offset: u32::try_from(len).unwrap_or(u32::MAX),
                len: lost,
                id: None,
                kind: DamageKind::Header,
                kept: false,
            });
        }
        let damages = self.damages();
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
                        // What is past the seal is dead, but these may be the bytes of another segment.
                        let end = self.used(file, at, len)?.max(limit);
                        self.set_aside(number, at, end, None, DamageKind::Header);
                        at = limit;
                    }
                    None => {
                        may_cut = self.note_torn(number, at, limit)?;
                        break;
                    }
                },
            }
        }
        // Where something is wrong the rest stays as well: the next start has to see what this one saw.
        let is_sound = self.damages() == damages && !self.kept.contains(&number);
        if at < len && may_cut && is_sound {
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

    fn damages(&self) -> usize {
        self.report
            .damage
            .len()
            .saturating_add(self.report.more_damage)
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
        if header.record_len() > RECORD_BYTES_MAX {
            return Ok(Step::BadHeader); // nothing so long was ever written
        }
        if at.saturating_add(header.record_len()) > limit {
            return Ok(Step::Cut(header.id));
        }
        let verified = match (whole, header.kind) {
            (true, _) | (_, Kind::Seal) => self.is_whole(file, at, &header)?,
            _ => {
                let start = at.saturating_add(HEADER_BYTES as u64);
                let len = u64::from(header.envelope_len);
                self.is_summed(file, start, len, header.envelope_crc)?
            }
        };
        Ok(if verified {
            Step::Record(header)
        } else {
            Step::BadPayload(header)
        })
    }

    /// Whether all of a record's payload is what was summed; never more than a window of it is in memory.
    fn is_whole(&mut self, file: SpoolFile, at: u64, header: &Header) -> Result<bool, DiskError> {
        // The usual record is read at once.
        let len = usize::try_from(header.record_len()).unwrap_or(usize::MAX);
        self.window.get(self.disk, file, at, len.min(SCAN_BYTES))?;
        let mut parts = vec![
            (u64::from(header.envelope_len), header.envelope_crc),
            (u64::from(header.fields_len), header.fields_crc),
        ];
        if !header.body_in_file {
            parts.push((header.body_len, header.body_crc));
        }
        let mut start = at.saturating_add(HEADER_BYTES as u64);
        for (len, crc) in parts {
            if !self.is_summed(file, start, len, crc)? {
                return Ok(false);
            }
            start = start.saturating_add(len);
        }
        Ok(true)
    }

    fn is_summed(
        &mut self,
        file: SpoolFile,
        start: u64,
        len: u64,
        crc: u32,
    ) -> Result<bool, DiskError> {
        let mut hasher = crc32fast::Hasher::new();
        let mut done = 0;
        while done < len {
            let want = usize::try_from(len - done).map_or(SCAN_BYTES, |left| left.min(SCAN_BYTES));
            let at = start.saturating_add(done);
            let bytes = self.window.get(self.disk, file, at, want)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            hasher.update(bytes);
            done = done.saturating_add(bytes.len() as u64);
        }
        Ok(hasher.finalize() == crc)
    }

    /// The next place from `at` on where a header is whole.
    fn resync(&mut self, segment: u32, at: u64, limit: u64) -> Result<Option<u64>, OpenError> {
        let file = SpoolFile::Segment(segment);
        let mut at = at;
        while at < limit {
            // All that is in memory already: a segment of many small damages is not read again for each.
            let window = self.window.rest(self.disk, file, at)?;
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
            Kind::First => {
                let file = SpoolFile::Segment(segment);
                let len = HEADER_BYTES.saturating_add(header.envelope_len as usize);
                let bytes = self.window.get(self.disk, file, at, len)?;
                let number = bytes.get(HEADER_BYTES..).and_then(first);
                // It is written to a segment that counts.
                self.first = self.first.max(number.filter(|number| *number <= segment));
            }
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
            Kind::Done => self.on_done(id),
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
            self.on_done(id);
            return Ok(());
        }
        let Some(state) = self.messages.get_mut(&id) else {
            return Ok(());
        };
        state.warned |= record.warned;
        state.last_outcome = Some(record.at);
        let recipients_max = state.location.recipients_max();
        for (index, outcome) in record.recipients {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            if index >= recipients_max {
                continue; // no envelope of this length has so many
            }
            if state.fates.is_empty() {
                state.fates.reserve_exact(index.saturating_add(1)); // most have one
            }
            if index >= state.fates.len() {
                state.fates.resize(index.saturating_add(1), None);
            }
            if let Some(fate) = state.fates.get_mut(index) {
                *fate = Some(outcome);
            }
        }
        Ok(())
    }

    /// Nothing is owed for a message any more. Of one that has left the journal already a file may be left.
    fn on_done(&mut self, id: QueueId) {
        let is_small = |state: State| !state.location.body_is_file();
        if !self.messages.remove(&id).is_some_and(is_small) {
            self.done.insert(id);
        }
    }

    /// Where the last byte behind `from` that is not zero ends; `from` where there is none.
    fn used(&mut self, file: SpoolFile, from: u64, limit: u64) -> Result<u64, DiskError> {
        let (mut at, mut end) = (from, from);
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
        Ok(end)
    }

    /// Keeps and reports a tail without a header, unless it is the zeros that a segment is made of. Whether it may go.
    fn note_torn(&mut self, segment: u32, from: u64, limit: u64) -> Result<bool, DiskError> {
        let end = self.used(SpoolFile::Segment(segment), from, limit)?;
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
        // It is cut off only once its copy has a durable name.
        let kept = self
            .keep(segment, offset, len)
            .and_then(|()| self.sync_damaged());
        if kept.is_err() {
            self.kept.insert(segment);
        }
        Ok(kept.is_ok())
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
    u32::try_from(at).is_ok_and(|at| seal.holes.binary_search(&at).is_ok())
}

fn recovered(id: QueueId, state: State, envelope: Envelope) -> Recovered {
    let mut fates = state.fates;
    fates.resize(envelope.recipients.len(), None);
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

const WINDOW_BYTES: usize = 4_096; // about one message: bodies in between are skipped, not read
const SCAN_BYTES: usize = 64 * 1_024;
