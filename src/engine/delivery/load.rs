//! The message that a delivery session transfers.

use std::collections::BTreeMap;
use std::mem;

use crate::address::ReversePath;
use crate::cause::FailurePlace;
use crate::clock::Instant;
use crate::date::Timestamp;
use crate::engine::log::Named;
use crate::envelope::{Envelope, Recipient};
use crate::queue::{Location, Queued};
use crate::queue_id::QueueId;
use crate::smtp::client::{ClientMail, Rcpt, RecipientResult};

/// A reply about a recipient, and its host.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) result: RecipientResult,
    pub(super) at: Option<FailurePlace>,
}

/// The message that a delivery session carries.
pub(super) struct Load {
    pub(super) id: QueueId,
    /// Its location when it was taken.
    pub(super) location: Location,
    pub(super) size: u64,
    /// Indices into the envelope's recipients.
    pub(super) indices: Vec<u32>,
    /// Header fields to be sent before the body.
    pub(super) fields: Vec<u8>,
    /// The body, if it is short and was read with the envelope.
    pub(super) body: Option<Vec<u8>>,
    pub(super) sent: u64,
    /// Checksum of the sent part of the body.
    pub(super) sum: crc32fast::Hasher,
    pub(super) reading: bool,
    /// Recipients whose sender asked for success DSNs.
    pub(super) dsn: Vec<u32>,
    /// The offered recipients, as the log names them.
    pub(super) names: BTreeMap<u32, Named>,
    /// Replies of earlier hosts about the open recipients.
    pub(super) earlier: BTreeMap<u32, Heard>,
    pub(super) arrived: Timestamp,
    /// Since when it has been in the index of this process.
    pub(super) since: Instant,
}

impl Load {
    /// These recipients of a message, which nothing is known of here yet.
    pub(super) fn new(id: QueueId, entry: &Queued, indices: &[usize]) -> Box<Self> {
        let indices = indices.iter().filter_map(|at| u32::try_from(*at).ok());
        Box::new(Self {
            id,
            location: entry.location,
            size: entry.size,
            indices: indices.collect(),
            fields: Vec::new(),
            body: None,
            sent: 0,
            sum: crc32fast::Hasher::new(),
            reading: true,
            dsn: Vec::new(),
            names: BTreeMap::new(),
            earlier: BTreeMap::new(),
            arrived: entry.arrived,
            since: entry.since,
        })
    }

    /// Starts offering it to a host, from its current location.
    pub(super) fn begin(&mut self, location: Location) {
        self.location = location;
        self.reading = true;
        self.sent = 0;
        self.sum = crc32fast::Hasher::new();
        self.body = None;
    }

    /// A transaction has one reverse-path: keeps the recipients that have that of the first. The others, which are
    /// given back, wait for a transaction of their own.
    pub(super) fn keep_one_sender(&mut self, envelope: &Envelope) -> Vec<u32> {
        let path = |at: &u32| {
            let recipient = envelope.recipients.get(*at as usize);
            recipient.map(|recipient| envelope.reverse_path_for(recipient))
        };
        let first = self.indices.first().and_then(path);
        let indices = mem::take(&mut self.indices).into_iter();
        let (same, others) = indices.partition(|at| path(at) == first);
        self.indices = same;
        others
    }

    /// The envelope and options for a server.
    pub(super) fn offer(&mut self, envelope: &Envelope, fields: &[u8]) -> ClientMail {
        let offered = (self.indices.iter())
            .filter_map(|at| Some((*at, envelope.recipients.get(*at as usize)?)));
        let offered: Vec<(u32, &Recipient)> = offered.collect();
        let dsn = offered.iter().filter(|(_, one)| one.notify.wants_success());
        self.dsn = dsn.map(|(at, _)| *at).collect();
        self.names = (offered.iter())
            .map(|(at, one)| (*at, Named::of(one)))
            .collect();
        let first = offered.first();
        let reverse_path = first.map(|(_, one)| envelope.reverse_path_for(one));
        let recipients = offered.iter().map(|(_, one)| Rcpt {
            mailbox: one.mailbox.clone(),
            notify: one.notify,
            original: one.original.clone(),
        });
        ClientMail {
            reverse_path: reverse_path.unwrap_or(ReversePath::Null),
            recipients: recipients.collect(),
            size: self.size.saturating_add(fields.len() as u64),
            body: envelope.body,
            smtputf8: envelope.smtputf8,
            dsn_return: envelope.dsn_return,
            envelope_id: envelope.envelope_id.clone(),
        }
    }
}
