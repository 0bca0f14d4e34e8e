//! Reads the spool at a start, and repairs it.
//!
//! Records are read in order; a later record overrides an earlier one. Of a sealed segment, recovery reads only headers
//! and envelopes, because the bodies were synced before the seal. In the last, unsealed segment it verifies everything,
//! because a crash may have torn it. Recovery never deletes data that it does not understand: it first copies them to
//! `damaged/`, or keeps the whole segment. A read error is different: bytes that were not read prove nothing, so the
//! start fails without a judgement, and the next start reads again.
//!
//! | file | without a message that is owed | goes |
//! | --- | --- | --- |
//! | `body/ID.part` | was never acknowledged: it gets its name before its record is written | removed |
//! | `body/ID`, and a record that its message is done | dead | removed |
//! | `body/ID`, and nothing | its record may have been lost | to `damaged/ID.body` |
//! | `journal/NUMBER.seg`, all zeros, that the chain does not refer to | was never begun | removed |
//! | any of them, while a segment is missing | the segment may tell | stays |
//!
//! Files in `damaged/` that `damaged/told` does not name are reported until
//! [`Command::Told`](super::JournalCommand::Told) says that `admin` has been informed.
//!
//! Invariant: recovery makes no change that a second recovery would read differently, so it may be interrupted.

mod aside;
mod chain;
mod report;
mod scan;
mod segment;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::disk::{Disk, DiskError, SpoolFile};
use super::frame::Location;
use super::reader::{Part, ReadContent, ReadError, read};
use crate::envelope::Envelope;
use crate::queue_id::QueueId;
use scan::{Scan, State};
use window::Window;

pub(super) use aside::put_told;
pub use report::{
    Aside, Damage, DamageKind, Missing, OpenError, OpenReport, Recovered, TipState, Torn,
};

/// The state that the journal continues from.
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

/// Reads the whole journal and passes each queued message to `sink`, in the order of the journal.
pub(super) fn recover<D: Disk>(
    disk: &mut D,
    sink: &mut dyn FnMut(Recovered),
) -> Result<(Found, OpenReport), OpenError> {
    let mut scan = Scan::of(disk);
    let (numbers, is_noted) = scan.list_segments()?;
    scan.report.tip = scan.read_tip(is_noted)?;
    let fronts = scan.read_seals(&numbers)?;
    let mut chain = scan.chain(&numbers, &fronts)?;
    let mut segments = BTreeMap::new();
    for number in &chain.members {
        let end = scan.read_segment(*number, chain.seals.get(number).copied())?;
        segments.insert(*number, end);
    }
    // A segment whose deletion a crash prevented counts no more than a deleted one.
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
    // Unreadable records may have higher ids than readable ones, and may come back: none of them is given out twice.
    if scan.report.has_losses() {
        scan.highest = scan.ids.map_or(scan.highest, |ids| ids.max(scan.highest));
    }
    scan.report.highest = (scan.highest != QueueId::new(0)).then_some(scan.highest);
    Ok(scan.found(live, segments, told))
}

impl<'d, D: Disk> Scan<'d, D> {
    /// One that has seen nothing yet.
    fn of(disk: &'d mut D) -> Self {
        Self {
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
        }
    }

    /// The state that the journal continues from, and the report.
    fn found(
        self,
        live: HashMap<QueueId, (Location, bool)>,
        segments: BTreeMap<u32, u64>,
        told: BTreeSet<Box<str>>,
    ) -> (Found, OpenReport) {
        let tip = match self.report.tip {
            TipState::Known(number) => Some(number),
            TipState::Absent | TipState::Damaged => None,
        };
        // A segment that does not belong to the chain takes no numbers from it.
        let top = segments.keys().next_back().copied().max(tip).unwrap_or(0);
        // A missing segment may be older than all existing ones.
        let oldest = match self.report.missing.is_empty() {
            true => segments.keys().next().copied(),
            false => Some(0),
        };
        let found = Found {
            live,
            segments,
            highest: self.highest,
            holes: self.holes,
            first: self.first.or(oldest).unwrap_or(top.saturating_add(1)),
            top,
            tip,
            kept: self.kept,
            told,
        };
        (found, self.report)
    }

    /// Passes every intact message to the sink.
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
                Ok(ReadContent::Head { envelope, .. }) => {
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

fn recovered(id: QueueId, state: State, envelope: Envelope) -> Recovered {
    let mut results = state.results;
    results.resize(envelope.recipients.len(), None);
    Recovered {
        id,
        location: state.location,
        body_len: state.location.body_len(),
        envelope,
        results,
        held: state.held,
        warned: state.warned,
        last_outcome: state.last_outcome,
    }
}
