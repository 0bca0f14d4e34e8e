//! A message that is being received: its header is parsed as it arrives, its body is hashed if it will be signed, and a
//! long body is streamed to the disk.
//!
//! Invariant: memory holds at most [`INLINE_BODY_BYTES_MAX`] and one block of a message, however long it is. Once the
//! header has ended, the part in memory can be streamed to the disk at any time.

use std::ops::Range;
use std::sync::Arc;

use crate::address::Mailbox;
use crate::auth::dkim::canonical::{BodyHasher, Canonicalization};
use crate::digest::DIGEST_BYTES;
use crate::engine::signing::Keys;
use crate::limits::{INLINE_BODY_BYTES_MAX, RECEIVED_FIELDS_MAX};
use crate::mail::header::{Front, Header, HeaderError, HeaderScanner, Scan};
use crate::policy::authenticity::Examination;
use crate::queue_id::QueueId;
use crate::smtp::reply::Reply;

/// A message between the first byte of its body and its commit.
pub(super) struct Intake {
    id: QueueId,
    /// The reverse-path of its transaction.
    sender: Option<Mailbox>,
    stage: Stage,
    held: Vec<u8>,
    size: u64,
    spilled: bool,
    in_flight: usize,
    /// Changes that are still to be made to the bytes in memory.
    edits: Edits,
}

/// Changes to the front of a message.
#[derive(Default)]
struct Edits {
    /// Position at which an empty line is inserted.
    separator: Option<usize>,
    /// Ranges that are removed; in order, and before the separator.
    removed: Vec<Range<usize>>,
}

enum Stage {
    Header(HeaderScanner),
    Body {
        header: Header,
        keys: Keys,
        /// Only if the message is signed or sealed.
        hasher: Option<Box<BodyHasher>>,
        examination: Option<Box<Examination>>,
        author: Option<Mailbox>,
        removed: Vec<Range<usize>>,
    },
    Refused(Reply),
}

/// How a message is handled, as its header determines.
#[derive(Default)]
pub(super) struct Plan {
    /// The keys that will sign it.
    pub(super) keys: Keys,
    /// Whether its body is hashed (relaxed, SHA-256), because it is signed or sealed.
    pub(super) is_hashed: bool,
    /// The examination of its sender, if there is one.
    pub(super) examination: Option<Box<Examination>>,
    /// Ranges of the header that are removed, in order.
    pub(super) removed: Vec<Range<usize>>,
    /// The author that is added if there is none.
    pub(super) author: Option<Mailbox>,
    /// How a header without an empty line behind it is handled.
    pub(super) separator: Separator,
}

/// How a header is handled that is followed by something other than an empty line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Separator {
    /// Unchanged: the message is sent on as it arrived.
    #[default]
    Kept,
    Added,
}

/// The check of a complete header, with the sender of the message.
pub(super) type OnHeader<'a> = &'a mut dyn FnMut(&Front, Option<&Mailbox>) -> Result<Plan, Reply>;

/// A completely received message.
pub(super) struct Whole {
    /// Its header, which a worker may share.
    pub(super) header: Arc<Header>,
    /// The keys that will sign it.
    pub(super) keys: Keys,
    /// The hash of its body (relaxed, SHA-256), if it is to be signed or sealed.
    pub(super) body_hash: Option<[u8; DIGEST_BYTES]>,
    /// The examination of its sender, if there is one.
    pub(super) examination: Option<Box<Examination>>,
    /// The author that is added if there is none.
    pub(super) author: Option<Mailbox>,
    /// Ranges of the header that are removed, in order.
    pub(super) removed: Vec<Range<usize>>,
    /// Bytes of the message.
    pub(super) size: u64,
    /// The message, or the part that has not been streamed to the disk.
    pub(super) rest: Vec<u8>,
    /// Whether it was streamed to the disk.
    pub(super) spilled: bool,
    /// Bytes on their way to the disk.
    pub(super) in_flight: usize,
}

impl Intake {
    /// A message of this sender, with the id that it will have.
    pub(super) fn new(id: QueueId, sender: Option<Mailbox>) -> Self {
        Self {
            id,
            sender,
            stage: Stage::Header(HeaderScanner::default()),
            held: Vec::new(),
            size: 0,
            spilled: false,
            in_flight: 0,
            edits: Edits::default(),
        }
    }

    /// The id that the message will have.
    pub(super) fn id(&self) -> QueueId {
        self.id
    }

    /// Bytes in memory, without those on their way to the disk. The header is stored separately, in addition to the
    /// bytes held.
    pub(super) fn memory(&self) -> usize {
        let header = match &self.stage {
            Stage::Header(scanner) => scanner.memory(),
            Stage::Body { header, .. } => header.memory(),
            Stage::Refused(_) => 0,
        };
        self.held.capacity().saturating_add(header)
    }

    /// Bytes on their way to the disk.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a part was streamed to the disk.
    pub(super) fn is_spilled(&self) -> bool {
        self.spilled
    }

    /// Takes input; returns the bytes to stream to the disk: of a long message, or all but a little if memory
    /// `is_scarce`. `check` gets the header once it is complete.
    pub(super) fn take(
        &mut self,
        bytes: &mut Vec<u8>,
        is_scarce: bool,
        check: OnHeader<'_>,
    ) -> Option<Vec<u8>> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        match &mut self.stage {
            Stage::Refused(_) => {}
            Stage::Body { .. } => self.stage.on_body(bytes),
            Stage::Header(scanner) => match scanner.on_bytes(bytes) {
                Ok(Scan::Open) => {}
                Ok(Scan::Complete { taken }) => {
                    let scanner = std::mem::take(scanner);
                    let text = self.end_header(scanner, check);
                    if !text.is_empty() {
                        self.stage.on_body(&text);
                        self.stage.on_body(b"\r\n");
                    }
                    self.stage.on_body(bytes.get(taken..).unwrap_or_default());
                }
                Err(error) => self.refuse(refusal(error)),
            },
        }
        if matches!(self.stage, Stage::Refused(_)) {
            bytes.clear();
            return None;
        }
        if self.held.is_empty() {
            // The usual message arrives in one piece: keep it as it is.
            std::mem::swap(&mut self.held, bytes);
        } else {
            self.held.append(bytes);
        }
        self.edit();
        let held_max = match (self.spilled, is_scarce) {
            (_, true) => SCARCE_BYTES,
            (true, false) => BLOCK_BYTES,
            (false, false) => INLINE_BODY_BYTES_MAX,
        };
        if self.held.len() <= held_max {
            return None;
        }
        if let Stage::Header(_) = self.stage {
            // A header is read as a whole.
            if is_scarce {
                self.refuse(Reply::NO_MEMORY);
            }
            return None;
        }
        Some(self.stream_out())
    }

    /// Bytes that can be streamed to the disk; none before the header is complete.
    pub(super) fn can_stream(&self) -> usize {
        match self.stage {
            Stage::Body { .. } => self.held.len(),
            Stage::Header(_) | Stage::Refused(_) => 0,
        }
    }

    /// Returns the bytes in memory, to be streamed to the disk.
    pub(super) fn stream_out(&mut self) -> Vec<u8> {
        self.spilled = true;
        let block = std::mem::take(&mut self.held);
        self.in_flight = self.in_flight.saturating_add(block.len());
        block
    }

    /// Whether the message is refused.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused(_))
    }

    /// A streamed block is on the disk.
    pub(super) fn on_written(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// A block could not be written: refuses the message, and waits for none of its blocks any longer.
    pub(super) fn on_lost(&mut self, reply: Reply) {
        self.in_flight = 0;
        self.refuse(reply);
    }

    /// Refuses the message, whatever input follows; the first refusal counts.
    pub(super) fn refuse(&mut self, reply: Reply) {
        if !matches!(self.stage, Stage::Refused(_)) {
            self.stage = Stage::Refused(reply);
            self.held = Vec::new();
        }
    }

    /// The message is complete. `check` gets its header if that had not ended before.
    pub(super) fn finish(mut self, check: OnHeader<'_>) -> Result<Whole, Reply> {
        if let Stage::Header(scanner) = &mut self.stage {
            let scanner = std::mem::take(scanner);
            let text = self.end_header(scanner, check);
            self.stage.on_body(&text);
            self.edit();
        }
        match self.stage {
            Stage::Body {
                header,
                keys,
                hasher,
                examination,
                author,
                removed,
            } => Ok(Whole {
                header: Arc::new(header),
                keys,
                examination,
                author,
                removed,
                body_hash: hasher.map(|hasher| hasher.finish().hash),
                size: self.size,
                rest: self.held,
                spilled: self.spilled,
                in_flight: self.in_flight,
            }),
            Stage::Refused(reply) => Err(reply),
            Stage::Header(_) => Err(Reply::HEADER_MALFORMED),
        }
    }

    /// Changes the front of the message. It is still completely in memory: nothing is streamed before the header ends.
    fn edit(&mut self) {
        let Edits { separator, removed } = std::mem::take(&mut self.edits);
        if let Some(at) = separator.filter(|at| *at <= self.held.len()) {
            self.size = self.size.saturating_add(2);
            self.held.splice(at..at, *b"\r\n");
        }
        for range in removed.into_iter().rev() {
            if range.end <= self.held.len() {
                self.size = self.size.saturating_sub(range.len() as u64);
                self.held.drain(range);
            }
        }
    }

    /// Checks the header; returns the text that follows it without an empty line.
    /// Decides RFC 5321 section 6.3.
    fn end_header(&mut self, scanner: HeaderScanner, check: OnHeader<'_>) -> Vec<u8> {
        let front = match scanner.finish() {
            Ok(front) => front,
            Err(error) => {
                self.refuse(refusal(error));
                return Vec::new();
            }
        };
        if front.header.count("Received") > RECEIVED_FIELDS_MAX {
            self.refuse(Reply::LOOP);
            return Vec::new();
        }
        let plan = match check(&front, self.sender.as_ref()) {
            Ok(plan) => plan,
            Err(reply) => {
                self.refuse(reply);
                return Vec::new();
            }
        };
        let Front {
            envelope_line,
            header,
            text,
        } = front;
        let shifted = |at: usize| at.saturating_add(envelope_line);
        let removed = plan.removed.iter();
        let removed = removed.map(|range| shifted(range.start)..shifted(range.end));
        self.edits = Edits {
            separator: match plan.separator {
                Separator::Added if !text.is_empty() => Some(shifted(header.as_bytes().len())),
                _ => None,
            },
            removed: std::iter::once(0..envelope_line).chain(removed).collect(),
        };
        let hasher = plan
            .is_hashed
            .then(|| Box::new(BodyHasher::new(Canonicalization::Relaxed)));
        self.stage = Stage::Body {
            header,
            keys: plan.keys,
            hasher,
            examination: plan.examination,
            author: plan.author,
            removed: plan.removed,
        };
        text
    }
}
impl Stage {
    /// Takes the next piece of the body.
    fn on_body(&mut self, bytes: &[u8]) {
        if let Self::Body {
            hasher,
            examination,
            ..
        } = self
        {
            if let Some(hasher) = hasher {
                hasher.update(bytes);
            }
            if let Some(examination) = examination {
                examination.on_body(bytes);
            }
        }
    }
}

fn refusal(error: HeaderError) -> Reply {
    match error {
        HeaderError::TooLong | HeaderError::TooManyFields => Reply::HEADER_TOO_LONG,
        HeaderError::NotAField { .. } => Reply::HEADER_MALFORMED,
    }
}

/// Bytes of a message that go to the disk in one piece.
const BLOCK_BYTES: usize = 64 * 1024;
/// The same when memory is scarce, and then also the most that is held of a message.
pub(super) const SCARCE_BYTES: usize = 16 * 1024;
