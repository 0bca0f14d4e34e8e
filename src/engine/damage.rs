//! Reports damage to `admin` once, by a message through the queue: what the start has set aside or found missing in the
//! spool, and files of the drop folder that were set aside.
//!
//! Invariant: damage counts as reported only when the message is on the disk. A crash before that costs a second
//! message.

use std::fmt::Write as _;

use super::effects::Effects;
use super::log::{Level, Line};
use super::note::{MessageOwner, NewRecord, Note};
use crate::address::ReversePath;
use crate::destination::Assigned;
use crate::envelope::{BodyKind, Envelope, MessageOrigin, Notify, Recipient};
use crate::limits::SET_ASIDE_LINES_MAX;
use crate::mail::submission::message_id;
use crate::policy::relay::{self, RelayClient};
use crate::queue::{Aside, MessageBody, MessageRecord, Missing};
use crate::smtp::command::ForwardPath;

/// Reports to `admin` what recovery found. If this host has no `admin`, only the log has it.
pub(super) fn report_damage(untold: &[Aside], fx: &mut Effects) {
    if untold.is_empty() {
        return;
    }
    let lines: Vec<String> = untold.iter().map(describe).collect();
    let names = untold.iter().map(Aside::name).collect();
    let cause = "At its last start chopar could not read all of its spool. Nothing was deleted. The parts that\r\nit \
                 set aside are in the folder spool/damaged; their senders may have to send again.\r\n";
    tell_admin(cause, &lines, names, fx);
}

/// Reports to `admin` files of the drop folder that are not messages, one sentence each.
pub(super) fn report_set_aside(lines: &[String], fx: &mut Effects) {
    let cause = "Files in the folder spool/drop are not messages, or not any more. Nothing was deleted. They lie\r\n\
                 in the folder spool/damaged now. What sendmail writes is in order: either a program wrote\r\n\
                 these by itself, or the disk has changed them, and whoever sent them may have to send again.\r\n";
    tell_admin(cause, lines, Vec::new(), fx);
}

/// Sends the lines to `admin`. When the message is on the disk, the damage with these names counts as reported.
fn tell_admin(cause: &str, lines: &[String], names: Vec<Box<str>>, fx: &mut Effects) {
    let path = ForwardPath::Bare("postmaster".into());
    let Ok(expanded) = relay::recipient(&fx.config, &RelayClient::Local { uid: 0 }, &path) else {
        fx.log(Line::new(Level::Error, "damage-untold").with("cure", "set admin"));
        return;
    };
    let id = fx.ids.next(fx.now.wall);
    let hostname = &fx.config.hostname;
    let domain = relay::home(&fx.config).unwrap_or(hostname).clone();
    let mut text = format!(
        "From: Mail relay <postmaster@{domain}>\r\nTo: postmaster@{domain}\r\n\
         Subject: {hostname}: mail in the spool was damaged\r\nDate: {}\r\nMessage-ID: {}\r\n\
         Auto-Submitted: auto-generated\r\n\r\n\
         {cause}\r\n",
        fx.now.wall.rfc5322(),
        message_id(id, hostname, &mut *fx.entropy),
    );
    for line in lines.iter().take(LINES_MAX) {
        text.push_str("  ");
        text.push_str(line);
        text.push_str("\r\n");
    }
    if let Some(more @ 1..) = lines.len().checked_sub(LINES_MAX) {
        let written = write!(text, "  and {more} more, which the log names\r\n");
        debug_assert_eq!(written, Ok(()), "a String takes everything");
    }
    let recipient = |target: relay::ExpandedRecipient| Recipient {
        destination: target.destination.map(Assigned::Known),
        ..Recipient::new(target.mailbox, Notify::Never, None)
    };
    let size = text.len() as u64;
    let record = MessageRecord {
        id,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: expanded.into_iter().map(recipient).collect(),
            envelope_id: None,
            dsn_return: None,
            body: BodyKind::SevenBit,
            smtputf8: false,
            arrived: fx.now.wall,
            origin: MessageOrigin::Damage,
        },
        fields: Vec::new(),
        body: MessageBody::Inline(text.into_bytes()),
    };
    fx.note(Note::Append(Box::new(NewRecord {
        record,
        size,
        owner: MessageOwner::Damage(names),
    })));
}

/// One line, ASCII.
fn describe(aside: &Aside) -> String {
    let of = |id: &Option<_>| id.map_or_else(String::new, |id| format!(" (message {id})"));
    match aside {
        Aside::Region { len, id, .. } => format!("{}: {len} bytes{}", aside.name(), of(id)),
        Aside::Lost {
            segment,
            offset,
            len,
            id,
        } => format!(
            "journal/{segment:08}.seg: {len} bytes from {offset} on cannot be read or are gone{}",
            of(id)
        ),
        Aside::Body { id, len } => {
            format!("{}: {len} bytes, the text of message {id}", aside.name())
        }
        Aside::Segment(_) => format!("{}: a whole segment", aside.name()),
        Aside::Missing(missing) => describe_missing(missing),
    }
}

/// A sentence about missing data, and what to do.
pub fn describe_missing(missing: &Missing) -> String {
    let Missing { segment, found_as } = missing;
    match found_as {
        Some(other) => format!(
            "journal/{segment:08}.seg is missing, and {other:08}.seg is that segment: stop chopar, rename it back, start"
        ),
        None => format!(
            "journal/{segment:08}.seg is missing, nothing is deleted until it is back: stop chopar, put it back, start; \
             if it is lost for good, make an empty file of that name instead"
        ),
    }
}

/// Lines of one message.
const LINES_MAX: usize = SET_ASIDE_LINES_MAX;
