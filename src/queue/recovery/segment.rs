//! Reads one segment record by record, and identifies the data where no record can be read.

use super::super::codec;
use super::super::disk::{Disk, DiskError, SpoolFile};
use super::super::frame::{
    HEADER_BYTES, Header, HeaderError, Kind, Location, MAGIC, Place, Seal, first,
};
use super::report::{Damage, DamageKind, OpenError, Torn};
use super::scan::{Scan, State};
use super::window::{SCAN_BYTES, WINDOW_BYTES};
use crate::limits::RECORD_BYTES_MAX;
use crate::queue_id::QueueId;

/// The content of a place in a segment.
pub(super) enum Step {
    Record(Header),
    /// The header is valid and its length plausible; the rest does not match its checksum.
    BadPayload(Header),
    /// The header is valid, and says that the record ends past the segment.
    Cut(QueueId),
    BadHeader,
}

impl<D: Disk> Scan<'_, D> {
    /// Reads one segment; returns where it ends.
    pub(super) fn read_segment(
        &mut self,
        number: u32,
        sealed: Option<&Seal>,
    ) -> Result<u64, OpenError> {
        let file = SpoolFile::Segment(number);
        let len = self.disk.len(file)?.min(u64::from(u32::MAX));
        // If the file is shorter than its seal says, the existing part is read.
        let limit = sealed.map_or(len, |seal| seal.len.min(len));
        self.holes.clear();
        self.note_short(number, len, sealed);
        let damages = self.damages();
        let mut at = 0;
        let mut may_cut = true;
        while at < limit {
            let step = self.step(number, at, limit, sealed.is_none())?;
            at = match step {
                Step::Record(header) if sealed.is_some_and(|seal| is_hole(seal, at)) => {
                    self.set_record_aside(number, at, &header)
                }
                Step::Record(header) => {
                    self.on_record(number, at, &header)?;
                    at.saturating_add(header.record_len())
                }
                Step::BadPayload(header) => {
                    self.holes.extend(u32::try_from(at));
                    self.set_record_aside(number, at, &header)
                }
                Step::Cut(id) => {
                    let next = self.resync(number, at.saturating_add(1), limit)?;
                    let end = next.unwrap_or(limit);
                    self.set_aside(number, at, end, Some(id), DamageKind::Payload);
                    end
                }
                Step::BadHeader => match self.pass_bad_header(number, at, len, sealed)? {
                    Some(next) => next,
                    None => {
                        may_cut = self.note_torn(number, at, limit)?;
                        break;
                    }
                },
            };
        }
        // If something is wrong, the rest stays as well: the next start has to see what this one saw.
        let is_sound = self.damages() == damages && !self.kept.contains(&number);
        if at < len && may_cut && is_sound {
            // Best effort: bytes past the end are never read again, because the next segment will say so.
            let _ = self.disk.truncate(file, at);
        }
        if sealed.is_none() {
            // A killed process leaves records that only the kernel has. They count from now on, and the next segment's
            // seal will say that they are on the disk.
            self.disk.sync_data(file)?;
        }
        Ok(at)
    }

    /// Sets aside bytes without a header, up to the next record, or to the end of a sealed segment. `None` if nothing
    /// follows in an unsealed one: a torn end.
    fn pass_bad_header(
        &mut self,
        number: u32,
        at: u64,
        len: u64,
        sealed: Option<&Seal>,
    ) -> Result<Option<u64>, OpenError> {
        let limit = sealed.map_or(len, |seal| seal.len.min(len));
        if let Some(next) = self.resync(number, at.saturating_add(1), limit)? {
            self.set_aside(number, at, next, None, DamageKind::Header);
            return Ok(Some(next));
        }
        if sealed.is_none() {
            return Ok(None);
        }
        // Bytes past the seal are dead, but these may belong to another segment.
        let end = self.used(SpoolFile::Segment(number), at, len)?.max(limit);
        self.set_aside(number, at, end, None, DamageKind::Header);
        Ok(Some(limit))
    }

    /// A seal past the end of the file is damage, which cannot be set aside.
    fn note_short(&mut self, number: u32, len: u64, sealed: Option<&Seal>) {
        let lost = sealed.map_or(0, |seal| seal.len.saturating_sub(len));
        if lost > 0 {
            self.note_damage(Damage {
                segment: number,
                offset: u32::try_from(len).unwrap_or(u32::MAX),
                len: lost,
                id: None,
                kind: DamageKind::Header,
                kept: false,
            });
        }
    }

    /// Sets aside a record whose content is not valid; returns where it ends.
    fn set_record_aside(&mut self, number: u32, at: u64, header: &Header) -> u64 {
        let end = at.saturating_add(header.record_len());
        self.set_aside(number, at, end, Some(header.id), DamageKind::Payload);
        end
    }

    /// The content at `at`. `whole` verifies the body too.
    pub(super) fn step(
        &mut self,
        segment: u32,
        at: u64,
        limit: u64,
        whole: bool,
    ) -> Result<Step, OpenError> {
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

    /// Whether the whole payload of a record matches its checksums; never more than a window of it is in memory.
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
            let want = usize::try_from(len.saturating_sub(done))
                .map_or(SCAN_BYTES, |left| left.min(SCAN_BYTES));
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

    /// The next place from `at` on with a valid header.
    pub(super) fn resync(
        &mut self,
        segment: u32,
        at: u64,
        limit: u64,
    ) -> Result<Option<u64>, OpenError> {
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
                        results: Vec::new(),
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
            if state.results.is_empty() {
                state.results.reserve_exact(index.saturating_add(1)); // most have one
            }
            if index >= state.results.len() {
                state.results.resize(index.saturating_add(1), None);
            }
            if let Some(result) = state.results.get_mut(index) {
                *result = Some(outcome);
            }
        }
        Ok(())
    }

    /// A message is done. If it has left the journal already, a file may remain.
    fn on_done(&mut self, id: QueueId) {
        let is_small = |state: State| !state.location.body_is_file();
        if !self.messages.remove(&id).is_some_and(is_small) {
            self.done.insert(id);
        }
    }

    /// The end of the last byte after `from` that is not zero; `from` if there is none.
    pub(super) fn used(
        &mut self,
        file: SpoolFile,
        from: u64,
        limit: u64,
    ) -> Result<u64, DiskError> {
        let (mut at, mut end) = (from, from);
        while at < limit {
            let bytes = self.window.get(self.disk, file, at, SCAN_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            if !is_zero(bytes) {
                let last = bytes.iter().rposition(|byte| *byte != 0);
                end = at.saturating_add(last.map_or(0, |last| (last as u64).saturating_add(1)));
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
        // It may also be the last promised record, with a bad header: nothing distinguishes them. It is cut off only
        // once its copy has a durable name.
        let kept = self
            .keep(segment, offset, len)
            .and_then(|()| self.sync_damaged());
        if kept.is_err() {
            self.kept.insert(segment);
        }
        Ok(kept.is_ok())
    }
}

/// Where in `window` a magic may begin. Empty pages, which fill most of a last segment, are skipped as a whole.
fn candidates(window: &[u8]) -> impl Iterator<Item = usize> {
    window
        .chunks(WINDOW_BYTES)
        .enumerate()
        .filter(|(_, page)| !is_zero(page))
        .flat_map(|(index, page)| {
            page.iter()
                .enumerate()
                .filter(|(_, byte)| **byte == MAGIC[0])
                .map(move |(at, _)| index.saturating_mul(WINDOW_BYTES).saturating_add(at))
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
