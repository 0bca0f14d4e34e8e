//! The DSN for recipients of a dropped message that the relay refuses: `sendmail` has promised delivery or a DSN.

use std::collections::BTreeSet;

use super::DropRules;
use super::dialogue::Reason;
use super::form::DroppedFile;
use crate::address::{Domain, Mailbox};
use crate::date::Timestamp;
use crate::entropy::Entropy;
use crate::envelope::Recipient;
use crate::mail::dsn;
use crate::queue_id::QueueId;

/// The domain that a DSN comes from.
pub(super) fn postmaster_domain<'a>(
    served: &'a BTreeSet<Domain>,
    hostname: &'a Domain,
    to: &'a Mailbox,
) -> &'a Domain {
    let own = served.get(to.domain());
    own.or_else(|| served.first()).unwrap_or(hostname)
}

/// The common data of all DSNs about a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dsn<'a> {
    /// The settings.
    pub(super) rules: &'a DropRules,
    /// The id of the message in the DSNs.
    pub(super) id: QueueId,
    pub(super) now: Timestamp,
}

/// Makes the DSN to `to` about the recipients that were refused.
pub(super) fn build(
    form: &DroppedFile,
    refused: &[(&Recipient, &Reason)],
    header: &[u8],
    to: &Mailbox,
    dsn: &Dsn<'_>,
    entropy: &mut dyn Entropy,
) -> dsn::DsnMessage {
    let Dsn { rules, id, now } = *dsn;
    let reports: Vec<dsn::RecipientReport<'_>> = refused
        .iter()
        .map(|(recipient, reason)| dsn::RecipientReport {
            recipient,
            action: dsn::DsnAction::Failed,
            status: reason.status,
            diagnostic: dsn::Diagnostic::Local(&reason.text),
            remote: None,
            last_attempt: Some(now),
            expired: false,
        })
        .collect();
    dsn::DsnFacts {
        hostname: &rules.hostname,
        domain: postmaster_domain(&rules.served, &rules.hostname, to),
        to,
        id,
        dsn_id: QueueId::new(entropy.next_u64()),
        envelope_id: form.envelope.parameters.envelope_id.as_deref(),
        arrived: form.since,
        at: now,
        retry_until: None,
        reports: &reports,
        original: dsn::Original { header, body: None },
    }
    .build(entropy)
}
