//! The delivery result of a recipient on the client side, derived from a reply.

use crate::cause::QuotedWords;
use crate::smtp::reply::RemoteReply;
use crate::status::EnhancedCode;

/// The delivery result of one recipient.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecipientResult {
    /// The server has accepted the message for it.
    Delivered {
        /// Text of the server's reply.
        text: String,
        /// Whether the server will send the success DSN itself, because it supports DSN.
        dsn: bool,
    },
    /// Another attempt may succeed.
    Deferred {
        about: RefusalScope,
        status: EnhancedCode,
        /// The reply, or a description of the event.
        words: QuotedWords,
    },
    /// The server refused it permanently.
    Failed {
        about: RefusalScope,
        status: EnhancedCode,
        /// The reply, or the missing extension.
        words: QuotedWords,
    },
    /// The connection broke between the final dot and its reply: another attempt may deliver a duplicate (RFC 1047).
    Unknown { words: QuotedWords },
    /// The server takes no more recipients in this transaction (452 4.5.3): offer it again at once, in another
    /// transaction.
    Again,
}

/// What a refusal concerns: the recipient, the host, or our fallback.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusalScope {
    /// The recipient or the message: if the refusal is permanent, every other host of the next hop would refuse too.
    Recipient,
    /// The host: it disconnects, sends malformed replies, or lacks an extension that another host may have.
    Host,
    /// The fallback: the session continued without TLS or without EHLO. Such a refusal is never permanent.
    Fallback,
}

impl RecipientResult {
    /// Whether the result is final, so that no other host is tried (RFC 5321 section 5.1).
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Delivered { .. }
                | Self::Failed {
                    about: RefusalScope::Recipient,
                    ..
                }
        )
    }
}

/// Whether a session uses everything that the server offered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SessionMode {
    /// It does.
    Full,
    /// It continued without TLS or without EHLO: see [`RefusalScope::Fallback`].
    Fallback,
}

impl RecipientResult {
    /// The delivery result for a negative reply. A code that is neither 4xx nor 5xx in its place counts as temporary.
    pub(super) fn refusal(reply: &RemoteReply, footing: SessionMode) -> Self {
        let words = QuotedWords::Reply(reply.to_text().into());
        let status = reply.status();
        if reply.code < 400 {
            Self::deferred(EnhancedCode::new(4, 5, 0), words)
        } else if !reply.is_permanent() {
            let about = match is_farewell(reply) {
                true => RefusalScope::Host,
                false => RefusalScope::Recipient,
            };
            Self::Deferred {
                about,
                status,
                words,
            }
        } else if footing == SessionMode::Fallback && may_want_tls(reply) {
            Self::Deferred {
                about: RefusalScope::Fallback,
                status: status.as_transient(),
                words,
            }
        } else {
            Self::Failed {
                about: RefusalScope::Recipient,
                status,
                words,
            }
        }
    }

    /// A deferral caused by the host.
    pub(super) fn deferred(status: EnhancedCode, words: QuotedWords) -> Self {
        Self::Deferred {
            about: RefusalScope::Host,
            status,
            words,
        }
    }
}

/// Whether a refusal of RCPT means too many recipients: 452, or 552 from older servers, with X.5.3 or without an
/// enhanced code.
/// Decides RFC 5321 section 4.5.3.1.10.
pub(super) fn too_many_recipients(reply: &RemoteReply) -> bool {
    let may_be = matches!(reply.code, 452 | 552);
    let too_many = EnhancedCode::new(4, 5, 3);
    may_be
        && reply
            .enhanced
            .is_none_or(|status| status.as_transient() == too_many)
}

/// Whether a server closes the connection after a reply (RFC 5321 section 4.2.1).
pub(super) fn is_farewell(reply: &RemoteReply) -> bool {
    reply.code == 421
}

/// Whether a refusal may be due to the lack of TLS and not to the mail: 530 (RFC 3207 section 4), 523 and 538 (RFC 4954
/// section 6), an enhanced code about security, and a bare 554, which gives no reason.
/// Decides RFC 3463 section 3.8.
fn may_want_tls(reply: &RemoteReply) -> bool {
    matches!(reply.code, 523 | 530 | 538)
        || match reply.enhanced {
            Some(status) => status.subject() == SECURITY,
            None => reply.code == 554,
        }
}

/// The subject "security or policy" of RFC 3463.
const SECURITY: u16 = 7;
