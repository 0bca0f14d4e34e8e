//! `[limits]`: what clients and users may take.

use serde::Deserialize;
use toml::Spanned;

use super::check::Check;
use crate::limits::{
    MEMORY_BYTES_MAX_DEFAULT, MEMORY_BYTES_MAX_LEAST, MESSAGE_BYTES_MAX_DEFAULT,
    MESSAGE_BYTES_MAX_LEAST, MESSAGES_PER_UID_HOUR_DEFAULT, MESSAGES_PER_USER_HOUR_DEFAULT,
    RECIPIENTS_MAX, SESSIONS_MAX_DEFAULT, SESSIONS_PER_PEER_MAX_DEFAULT,
};

/// Limits of peers and users.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Server sessions at a time.
    pub sessions: usize,
    /// Server sessions at a time from one address.
    pub sessions_per_address: usize,
    /// Messages that a user may submit in an hour; 0: as many as they like.
    pub messages_per_user_hour: u32,
    /// Messages that a local uid may submit in an hour; 0: as many as it likes.
    pub messages_per_uid_hour: u32,
    /// Recipients of one message.
    pub recipients: usize,
    /// Bytes of one message.
    pub message_bytes: u64,
    /// Bytes of all buffers together.
    pub memory_bytes: u64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsText {
    sessions: Option<Spanned<u32>>,
    sessions_per_address: Option<Spanned<u32>>,
    messages_per_user_hour: Option<u32>,
    messages_per_uid_hour: Option<u32>,
    recipients: Option<Spanned<u32>>,
}

impl Check<'_> {
    /// `[limits]`, and the two sizes before all sections.
    pub(super) fn limits(
        &mut self,
        raw: &LimitsText,
        message_size: Option<Spanned<String>>,
        memory: Option<Spanned<String>>,
    ) -> Limits {
        Limits {
            sessions: self.count(raw.sessions.as_ref(), SESSIONS_MAX_DEFAULT),
            sessions_per_address: self.count(
                raw.sessions_per_address.as_ref(),
                SESSIONS_PER_PEER_MAX_DEFAULT,
            ),
            messages_per_user_hour: raw
                .messages_per_user_hour
                .unwrap_or(MESSAGES_PER_USER_HOUR_DEFAULT),
            messages_per_uid_hour: raw
                .messages_per_uid_hour
                .unwrap_or(MESSAGES_PER_UID_HOUR_DEFAULT),
            recipients: self.count(raw.recipients.as_ref(), RECIPIENTS_MAX),
            message_bytes: self.size(
                message_size,
                MESSAGE_BYTES_MAX_DEFAULT,
                (MESSAGE_BYTES_MAX_LEAST, "64 KiB"),
            ),
            memory_bytes: self.size(
                memory,
                MEMORY_BYTES_MAX_DEFAULT,
                (MEMORY_BYTES_MAX_LEAST, "8 MiB"),
            ),
        }
    }
}
