//! Logs the reason for each recipient that waits because its next hop cannot be reached, so that a search of the log
//! for an address finds it.
//!
//! The index does not hold addresses. For a message that arrives while its next hop is paused, they are at hand. For
//! the messages that already wait when the pause begins, a few envelopes are read, and others at the next pause. Ten
//! thousand messages to a dead host therefore cost only a few lines.

use super::hops::Hop;
use super::session::Delivery;
use crate::cause::FailureCause;
use crate::date::Timestamp;
use crate::engine::effects::Effects;
use crate::engine::event::{Action, MessageReader};
use crate::engine::log::{Level, Line, Named};
use crate::envelope::Envelope;
use crate::limits::UNTRIED_LOGGED_MAX;
use crate::queue::{HopId, Part, Phase, Queued, ReadContent, ReadError};
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;

impl Delivery {
    /// A next hop is paused: reads the envelopes of its waiting messages.
    pub(in crate::engine) fn read_waiting(&mut self, hop: HopId, fx: &mut Effects) {
        let Some(known) = self.hops.get_mut(hop) else {
            return;
        };
        for id in known.next_to_tell(UNTRIED_LOGGED_MAX) {
            if let Some(entry) = fx.index.get(id) {
                fx.actions.push_back(Action::Read {
                    reader: MessageReader::Untried { id, hop },
                    id,
                    location: entry.location,
                    part: Part::Head,
                });
            }
        }
    }

    /// An envelope was read. If it cannot be read, that is logged when its message is sent.
    pub(in crate::engine) fn waiting_read(
        &mut self,
        id: QueueId,
        hop: HopId,
        result: Result<ReadContent, ReadError>,
        fx: &mut Effects,
    ) {
        if let Ok(ReadContent::Head { envelope, .. }) = result
            && let Some(entry) = fx.index.get(id)
        {
            let lines = self.waiting_lines(id, entry, &envelope, hop, fx);
            lines.into_iter().for_each(|line| fx.log(line));
        }
    }

    /// Logs why the recipients of a new message wait, if their next hops are paused.
    pub(in crate::engine) fn log_waiting(
        &mut self,
        id: QueueId,
        envelope: &Envelope,
        fx: &mut Effects,
    ) {
        let hops = (fx.index.get(id)).map_or_else(Vec::new, Queued::waiting_hops);
        for hop in hops {
            let tells = self.hops.get_mut(hop).is_some_and(Hop::tells_one_more);
            if tells && let Some(entry) = fx.index.get(id) {
                let lines = self.waiting_lines(id, entry, envelope, hop, fx);
                lines.into_iter().for_each(|line| fx.log(line));
            }
        }
    }

    fn waiting_lines(
        &self,
        id: QueueId,
        entry: &Queued,
        envelope: &Envelope,
        only: HopId,
        fx: &Effects,
    ) -> Vec<Line> {
        let states = entry.recipients.iter().zip(&envelope.recipients);
        let waiting =
            states.filter(|(state, _)| state.phase == Phase::Waiting && state.hop == only);
        let lines = waiting.filter_map(|(state, recipient)| {
            let hop = self.hops.get(state.hop)?;
            let why: &FailureCause = hop.trouble.as_deref().filter(|_| hop.is_in_trouble())?;
            let status = hop.status.unwrap_or(EnhancedCode::new(4, 4, 1));
            let next = self.next_attempt(entry, state, fx);
            let line = Line::new(Level::Warning, "deferred")
                .with("id", id)
                .about(&Named::of(recipient))
                .with("status", status)
                .with("hop", &hop.name)
                .with_some("next", next.map(Timestamp::rfc3339));
            Some(line.with("why", why))
        });
        lines.collect()
    }
}
