//! Archives of reports: gzip (RFC 1952) and ZIP of one file, both with deflate (RFC 1951).
//!
//! The claims of an archive must agree: both headers of a ZIP, lengths and checksums. Not supported: encryption, ZIP64,
//! archives with data before, between or after the file, several members. Invariant: the output of all archives of a
//! message is together no longer than [`REPORT_BYTES_MAX`], and the output of each, past a first bit, no longer than
//! [`REPORT_RATIO_MAX`] times its input.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::refusal::ReportRefusal;
use crate::limits::{REPORT_BYTES_MAX, REPORT_RATIO_MAX};

/// Whether these are the first bytes of an archive.
pub(super) fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(GZIP) || bytes.starts_with(LOCAL) || bytes.starts_with(END)
}

/// Unpacks the archives of one message.
#[derive(Debug)]
pub(super) struct Unpacker {
    /// Bytes that may still come out.
    left: usize,
}

impl Unpacker {
    /// With nothing unpacked yet.
    pub(super) const fn new() -> Self {
        Self {
            left: REPORT_BYTES_MAX,
        }
    }

    /// The content of an archive; `None` if it is not an archive.
    pub(super) fn unpack(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, ReportRefusal> {
        match bytes {
            _ if bytes.starts_with(GZIP) => self.gzip(bytes).map(Some),
            _ if is_packed(bytes) => self.zip(bytes).map(Some),
            _ => Ok(None),
        }
    }

    fn zip(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ReportRefusal> {
        let end = end_of(bytes)?;
        let mut trailer = Bytes(bytes.get(end..).unwrap_or_default());
        trailer.expect(END)?;
        let disks = (trailer.number::<2>()?, trailer.number::<2>()?);
        let entries = (trailer.number::<2>()?, trailer.number::<2>()?);
        let (len, start) = (
            trailer.number::<4>()? as usize,
            trailer.number::<4>()? as usize,
        );
        let directory = start.checked_add(len).filter(|behind| *behind == end);
        if disks != (0, 0) || entries != (1, 1) || directory.is_none() {
            return Err(ReportRefusal::Archive);
        }
        let mut central = Bytes(bytes.get(start..end).unwrap_or_default());
        central.expect(CENTRAL)?;
        central.take(4)?;
        let (flags, method) = (central.number::<2>()?, central.number::<2>()?);
        central.take(4)?;
        let sums = (
            central.number::<4>()?,
            central.number::<4>()?,
            central.number::<4>()?,
        );
        let name_len = central.number::<2>()? as usize;
        let rest = central
            .number::<2>()?
            .saturating_add(central.number::<2>()?) as usize;
        central.take(8)?;
        let at = central.number::<4>()?;
        let name = central.take(name_len)?;
        central.take(rest)?;
        let whole = Entry {
            flags,
            method,
            sums,
            name,
        };
        // The file begins where the archive does, and nothing is encrypted.
        if !central.0.is_empty() || at != 0 || flags & 1 != 0 {
            return Err(ReportRefusal::Archive);
        }
        let packed = packed(bytes.get(..start).unwrap_or_default(), &whole)?;
        let (sum, _, size) = sums;
        let unpacked = match method {
            0 => self.within(packed.to_vec())?,
            8 => {
                let (unpacked, used) = self.inflated(packed)?;
                match used == packed.len() {
                    true => unpacked,
                    false => return Err(ReportRefusal::Archive),
                }
            }
            _ => return Err(ReportRefusal::Archive),
        };
        check(unpacked, sum, size)
    }

    fn gzip(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ReportRefusal> {
        let mut rest = Bytes(bytes);
        rest.expect(GZIP)?;
        rest.expect(&[8])?;
        let flags = rest.number::<1>()?;
        rest.take(6)?;
        if flags & 0xe0 != 0 {
            return Err(ReportRefusal::Archive);
        }
        if flags & 4 != 0 {
            let len = rest.number::<2>()? as usize;
            rest.take(len)?;
        }
        // The name of the file and a comment end with a NUL.
        for flag in [8, 16] {
            if flags & flag != 0 {
                let end = rest.0.iter().position(|byte| *byte == 0);
                let len = end.ok_or(ReportRefusal::Archive)?.saturating_add(1);
                rest.take(len)?;
            }
        }
        if flags & 2 != 0 {
            rest.take(2)?;
        }
        let (unpacked, used) = self.inflated(rest.0)?;
        rest.take(used)?;
        let (sum, size) = (rest.number::<4>()?, rest.number::<4>()?);
        match rest.0.iter().all(|byte| *byte == 0) {
            true => check(unpacked, sum, size),
            false => Err(ReportRefusal::Archive),
        }
    }

    fn within(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, ReportRefusal> {
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or(ReportRefusal::TooLong)?;
        Ok(bytes)
    }

    /// Inflates data; returns the output and the number of packed bytes.
    fn inflated(&mut self, packed: &[u8]) -> Result<(Vec<u8>, usize), ReportRefusal> {
        let mut state = InflateState::new_boxed(DataFormat::Raw);
        let mut block = vec![0; BLOCK_BYTES];
        let (mut out, mut used) = (Vec::new(), 0_usize);
        loop {
            let input = packed.get(used..).unwrap_or_default();
            let step = inflate(&mut state, input, &mut block, MZFlush::None);
            used = used.saturating_add(step.bytes_consumed);
            self.left = self
                .left
                .checked_sub(step.bytes_written)
                .ok_or(ReportRefusal::TooLong)?;
            out.extend_from_slice(block.get(..step.bytes_written).unwrap_or_default());
            let most = used.saturating_mul(REPORT_RATIO_MAX);
            if out.len() > most.saturating_add(RATIO_FREE_BYTES) {
                return Err(ReportRefusal::Ratio);
            }
            match step.status {
                Ok(MZStatus::StreamEnd) => return Ok((out, used)),
                Ok(MZStatus::Ok) if step.bytes_consumed > 0 || step.bytes_written > 0 => {}
                Ok(_) | Err(MZError::Buf) => return Err(ReportRefusal::Archive),
                Err(_) => return Err(ReportRefusal::Archive),
            }
        }
    }
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";

/// Reads numbers, little end first, off the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ReportRefusal> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(ReportRefusal::Archive)?;
        self.0 = rest;
        Ok(front)
    }

    fn number<const N: usize>(&mut self) -> Result<u32, ReportRefusal> {
        let bytes = self.take(N)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    fn expect(&mut self, bytes: &[u8]) -> Result<(), ReportRefusal> {
        match self.take(bytes.len())? == bytes {
            true => Ok(()),
            false => Err(ReportRefusal::Archive),
        }
    }
}

/// The data about the file that a ZIP contains twice.
#[derive(Debug, Eq, PartialEq)]
struct Entry<'a> {
    flags: u32,
    method: u32,
    /// Checksum, length packed, length unpacked.
    sums: (u32, u32, u32),
    name: &'a [u8],
}

/// The offset of the record that ends a ZIP, which a comment follows.
fn end_of(bytes: &[u8]) -> Result<usize, ReportRefusal> {
    let last = bytes
        .len()
        .checked_sub(END_BYTES)
        .ok_or(ReportRefusal::Archive)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let is_end = |at: &usize| {
        let mut rest = Bytes(bytes.get(*at..).unwrap_or_default());
        rest.expect(END).is_ok()
            && rest.take(END_BYTES.saturating_sub(6)).is_ok()
            && rest
                .number::<2>()
                .is_ok_and(|len| len as usize == rest.0.len())
    };
    (first..=last)
        .rev()
        .find(is_end)
        .ok_or(ReportRefusal::Archive)
}

/// The packed file, if its own header agrees with the directory.
fn packed<'a>(front: &'a [u8], whole: &Entry<'_>) -> Result<&'a [u8], ReportRefusal> {
    let mut local = Bytes(front);
    local.expect(LOCAL)?;
    local.take(2)?;
    let (flags, method) = (local.number::<2>()?, local.number::<2>()?);
    local.take(4)?;
    let sums = (
        local.number::<4>()?,
        local.number::<4>()?,
        local.number::<4>()?,
    );
    let name_len = local.number::<2>()? as usize;
    let extra = local.number::<2>()? as usize;
    let name = local.take(name_len)?;
    local.take(extra)?;
    // A ZIP written as a stream has its lengths behind the file.
    let is_stream = flags & 8 != 0;
    let sums = match is_stream && sums == (0, 0, 0) {
        true => whole.sums,
        false => sums,
    };
    if (Entry {
        flags,
        method,
        sums,
        name,
    }) != *whole
    {
        return Err(ReportRefusal::Archive);
    }
    let packed = local.take(whole.sums.1 as usize)?;
    match local.0.len() {
        0 => Ok(packed),
        12 | 16 if is_stream => Ok(packed),
        _ => Err(ReportRefusal::Archive),
    }
}

fn check(unpacked: Vec<u8>, sum: u32, size: u32) -> Result<Vec<u8>, ReportRefusal> {
    let is_whole = unpacked.len() == size as usize && crc32fast::hash(&unpacked) == sum;
    is_whole.then_some(unpacked).ok_or(ReportRefusal::Archive)
}

/// Bytes of the record that ends a ZIP, without its comment.
const END_BYTES: usize = 22;
const BLOCK_BYTES: usize = 32 * 1024;
/// Output that is always allowed: a short report of one kind of row packs well.
const RATIO_FREE_BYTES: usize = 256 * 1024;
