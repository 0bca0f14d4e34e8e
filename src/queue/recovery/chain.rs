//! The chain of segments: each seal names the previous segment, `journal/tip` the newest, and seals and [`Kind::First`]
//! records the oldest. A segment that a seal refers to and that does not exist is missing.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::disk::{DirEntry, Disk, DiskError, SpoolFile, SpoolFolder};
use super::super::frame::{HEADER_BYTES, Header, Kind, LEN_UNKNOWN, Place, Seal, seal, tip};
use super::report::{Missing, OpenError, TipState};
use super::scan::Scan;
use super::segment::Step;
use super::window::WINDOW_BYTES;
use crate::limits::{
    DAMAGED_REGIONS_MAX, SEGMENT_NUMBER_MAX, SEGMENT_TRIES_MAX, SEGMENTS_MISSING_MAX,
};

/// The segments that count, as they refer to each other.
pub(super) struct Chain<'a> {
    /// The existing segments, in order.
    pub(super) members: Vec<u32>,
    /// The missing ones.
    pub(super) missing: Vec<u32>,
    /// Files with a segment's name that nothing refers to.
    pub(super) strays: Vec<u32>,
    /// How much of each member is valid, by the next one's seal.
    pub(super) seals: HashMap<u32, &'a Seal>,
}

impl<D: Disk> Scan<'_, D> {
    /// The numbers of all segments, in order, and whether there is a note of the newest.
    pub(super) fn list_segments(&mut self) -> Result<(Vec<u32>, bool), OpenError> {
        let (mut numbers, mut is_noted) = (Vec::new(), false);
        for entry in self.disk.list(SpoolFolder::Journal)? {
            match entry {
                DirEntry::File(SpoolFile::Segment(number)) => numbers.push(number),
                DirEntry::File(SpoolFile::Tip) => is_noted = true,
                // It never became the note. If it cannot be removed, it does no harm.
                DirEntry::File(draft @ SpoolFile::TipDraft) => {
                    let _ = self.disk.remove(draft);
                }
                DirEntry::File(other) => self.foreign(SpoolFolder::Journal, &other.to_string()),
                DirEntry::Foreign(name) => self.foreign(SpoolFolder::Journal, &name),
            }
        }
        numbers.sort_unstable();
        Ok((numbers, is_noted))
    }

    pub(super) fn read_tip(&mut self, is_noted: bool) -> Result<TipState, DiskError> {
        if !is_noted {
            return Ok(TipState::Absent);
        }
        let mut bytes = vec![0; WINDOW_BYTES];
        let got = self.disk.read_at(SpoolFile::Tip, 0, &mut bytes)?;
        bytes.truncate(got);
        // A number that no segment can have was never written here.
        let note = tip(&bytes).filter(|note| note.newest <= SEGMENT_NUMBER_MAX);
        self.ids = note.map(|note| note.ids);
        Ok(note.map_or(TipState::Damaged, |note| TipState::Known(note.newest)))
    }

    /// The seal of each segment, if it can be read.
    pub(super) fn read_seals(&mut self, numbers: &[u32]) -> Result<HashMap<u32, Seal>, OpenError> {
        let mut fronts = HashMap::new();
        for number in numbers {
            let len = self.disk.len(SpoolFile::Segment(*number))?;
            if let Step::Record(header) = self.step(*number, 0, len, false)?
                && let Some(seal) = self.seal_at(*number, &header)?
                && seal.segment < *number
            {
                let first = seal.first.filter(|first| first <= number);
                self.first = self.first.max(first);
                fronts.insert(*number, seal);
            }
        }
        Ok(fronts)
    }

    fn seal_at(&mut self, segment: u32, header: &Header) -> Result<Option<Seal>, DiskError> {
        if header.kind != Kind::Seal {
            return Ok(None);
        }
        let file = SpoolFile::Segment(segment);
        let len = usize::try_from(header.record_len()).unwrap_or(usize::MAX);
        let bytes = self.window.get(self.disk, file, 0, len)?;
        let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
        Ok(header.parts(payload).as_ref().and_then(seal))
    }

    /// Follows the seals from the newest segment to the oldest.
    pub(super) fn chain<'s>(
        &mut self,
        numbers: &[u32],
        fronts: &'s HashMap<u32, Seal>,
    ) -> Result<Chain<'s>, OpenError> {
        let present: BTreeSet<u32> = numbers.iter().copied().collect();
        let below = |number: u32| present.range(..number).next_back().copied();
        let mut chain = Chain {
            members: Vec::new(),
            missing: Vec::new(),
            strays: Vec::new(),
            seals: HashMap::new(),
        };
        let first = self.first.unwrap_or(0);
        let mut at = self.newest(numbers, fronts)?;
        if let TipState::Known(tip) = self.report.tip
            && tip > at.unwrap_or(0)
        {
            let from = at.map_or(tip, |at| at.saturating_add(1));
            miss(&mut chain.missing, from, tip);
        }
        while let Some(number) = at.filter(|number| *number >= first) {
            chain.members.push(number);
            let seal = fronts.get(&number);
            // If there is no seal, the numbers decide.
            let before = seal.map_or(number.saturating_sub(1), |seal| seal.segment);
            if let Some(seal) = seal
                && present.contains(&before)
                && seal.len != LEN_UNKNOWN
            {
                chain.seals.insert(before, seal);
            }
            at = match present.contains(&before) {
                true => Some(before),
                false => below(before),
            };
            let from = match at {
                Some(at) => at.saturating_add(1).max(first),
                None if first > 0 => first,
                // It was missing when the next one was begun, and is not known to be the oldest.
                None if seal.is_some_and(|seal| seal.len == LEN_UNKNOWN) => before,
                // In segments of 0.1.0 nothing says which one is the oldest.
                None => continue,
            };
            if at != Some(before) {
                miss(&mut chain.missing, from, before);
            }
        }
        chain.missing.sort_unstable();
        chain.missing.dedup();
        chain.close(numbers, first);
        Ok(chain)
    }

    /// The last segment that can be ours: one that is not much newer than the note says, and has a seal or at least one
    /// valid record in its place.
    fn newest(
        &mut self,
        numbers: &[u32],
        fronts: &HashMap<u32, Seal>,
    ) -> Result<Option<u32>, OpenError> {
        let tip = match self.report.tip {
            TipState::Known(tip) => Some(tip),
            TipState::Absent | TipState::Damaged => None,
        };
        for number in numbers.iter().rev().copied() {
            if tip.is_some_and(|tip| number > tip.saturating_add(SEGMENT_TRIES_MAX)) {
                continue;
            }
            let len = self.disk.len(SpoolFile::Segment(number))?;
            if fronts.contains_key(&number)
                || tip.is_some_and(|tip| number <= tip)
                || self.resync(number, 0, len)?.is_some()
            {
                return Ok(Some(number));
            }
        }
        // Nothing here verifies, but there is nothing else.
        Ok(match tip {
            Some(_) => None,
            None => numbers.last().copied(),
        })
    }

    /// Reports missing segments, with their other number if they were renamed.
    pub(super) fn name_missing(
        &mut self,
        missing: &[u32],
        strays: &[u32],
    ) -> Result<(), OpenError> {
        for segment in missing.iter().copied().take(SEGMENTS_MISSING_MAX) {
            let mut found_as = None;
            for stray in strays.iter().take(SEGMENTS_MISSING_MAX) {
                let file = SpoolFile::Segment(*stray);
                let front = self.window.get(self.disk, file, 0, HEADER_BYTES)?;
                if Header::decode(front, Place { segment, offset: 0 }).is_ok() {
                    found_as = Some(*stray);
                }
            }
            self.report.missing.push(Missing { segment, found_as });
        }
        let strays = strays.iter().take(DAMAGED_REGIONS_MAX);
        self.report.strays = strays.copied().collect();
        Ok(())
    }

    /// Removes segments that a power cut kept from beginning: zeros from end to end, and newer than the note, which is
    /// written before anything in a segment is promised, or passed over by the seals.
    pub(super) fn sweep_unbegun(&mut self) -> Result<(), DiskError> {
        if !matches!(self.report.tip, TipState::Known(_)) {
            return Ok(());
        }
        for number in std::mem::take(&mut self.report.strays) {
            let file = SpoolFile::Segment(number);
            let len = self.disk.len(file)?;
            let is_unbegun = self.used(file, 0, len)? == 0;
            if !is_unbegun || self.disk.remove(file).is_err() {
                self.report.strays.push(number);
            }
        }
        Ok(())
    }
}

impl Chain<'_> {
    /// Nothing older belongs to the chain: orders its members, and separates the other segments.
    fn close(&mut self, numbers: &[u32], first: u32) {
        self.members.reverse();
        let members: HashSet<u32> = self.members.iter().copied().collect();
        let is_stray = |number: &&u32| !members.contains(number) && **number >= first;
        self.strays = numbers.iter().filter(is_stray).copied().collect();
        // Before the first are segments whose deletion a crash prevented.
        let dead = numbers.iter().filter(|number| **number < first);
        let mut members: Vec<u32> = dead.copied().collect();
        members.append(&mut self.members);
        self.members = members;
    }
}

/// Adds these missing numbers, up to the useful bound.
fn miss(missing: &mut Vec<u32>, from: u32, to: u32) {
    missing.extend((from..=to).rev().take(SEGMENTS_MISSING_MAX));
}
