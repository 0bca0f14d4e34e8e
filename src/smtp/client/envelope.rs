//! One transaction on the client side: MAIL, RCPT and DATA, pipelined if the server offers it, and the assignment of
//! each reply to its command or recipient.

use std::collections::VecDeque;

use super::result::{RecipientResult, RefusalScope, is_farewell, too_many_recipients};
use super::transaction::{ClientMail, Rcpt, Sending, Sent};
use super::{ClientProtocol, ClientRequest, Readiness, Session, State};
use crate::address::{Mailbox, ReversePath};
use crate::cause::QuotedWords;
use crate::envelope::{BodyKind, DsnReturn, Notify};
use crate::smtp::data::Encoder;
use crate::smtp::reply::RemoteReply;
use crate::status::EnhancedCode;
use crate::xtext::{encode_utf8_address, encode_xtext};

impl Session {
    /// Answers [`ClientRequest::Ready`] with a message.
    pub fn begin(&mut self, mail: ClientMail, out: &mut Vec<u8>) {
        self.moves();
        let mut sending = Box::new(Sending {
            awaited: VecDeque::new(),
            waiting: VecDeque::new(),
            results: mail
                .recipients
                .iter()
                .map(|rcpt| self.unsendable(&mail, rcpt))
                .collect(),
            accepted: 0,
            refused: None,
            mail,
        });
        self.messages = self.messages.saturating_add(1);
        let open: Vec<usize> = (0..)
            .zip(&sending.results)
            .filter_map(|(index, result)| result.is_none().then_some(index))
            .collect();
        if open.is_empty() {
            return self.end_transaction(*sending, RecipientResult::Again);
        }
        if matches!(self.state, State::Ready(Readiness::AfterFailure)) {
            sending.waiting.push_back(Sent::Rset);
        }
        sending.waiting.push_back(Sent::Mail);
        let max = self
            .extensions
            .recipients_max
            .unwrap_or(RECIPIENTS_PER_TRANSACTION);
        let max = max.clamp(1, RECIPIENTS_PER_TRANSACTION);
        let (now, later) = open.split_at(max.min(open.len()));
        // RFC 6531 section 3.4: SMTPUTF8 is requested if some part of the transaction needs it. If only the header
        // would benefit and the server does not offer SMTPUTF8, the message is sent without it, because its own client
        // did not request SMTPUTF8 either.
        sending.mail.smtputf8 |= !sending.mail.reverse_path.as_str().is_ascii();
        for index in now {
            let rcpt = sending.mail.recipients.get(*index);
            sending.mail.smtputf8 |= rcpt.is_some_and(|rcpt| rcpt.mailbox.needs_smtputf8());
            sending.waiting.push_back(Sent::Rcpt(*index));
        }
        sending.mail.smtputf8 &= self.extensions.smtputf8;
        for index in later {
            if let Some(result) = sending.results.get_mut(*index) {
                *result = Some(RecipientResult::Again);
            }
        }
        sending.waiting.push_back(Sent::Data);
        self.send_waiting(&mut sending, out);
        self.state = State::Envelope(sending);
    }

    /// The reason for which this server cannot accept the message for a recipient, if that is known before RCPT is
    /// sent. Another host may be able to accept it.
    fn unsendable(&self, mail: &ClientMail, rcpt: &Rcpt) -> Option<RecipientResult> {
        if self
            .extensions
            .size
            .is_some_and(|max| max > 0 && mail.size > max)
        {
            let text = format!("the message has {} bytes, the server takes less", mail.size);
            return Some(RecipientResult::Failed {
                about: RefusalScope::Host,
                status: EnhancedCode::new(5, 3, 4),
                words: QuotedWords::ours(text),
            });
        }
        // A domain can be written in A-labels; a header cannot. Therefore only a local part needs the extension.
        let mut addresses = [Some(&rcpt.mailbox), mail.reverse_path.mailbox()]
            .into_iter()
            .flatten();
        let needed = addresses.any(Mailbox::needs_smtputf8);
        if needed && !self.extensions.smtputf8 {
            let text = "the address needs SMTPUTF8, which the server does not offer";
            return Some(RecipientResult::Failed {
                about: RefusalScope::Host,
                status: EnhancedCode::new(5, 6, 7),
                words: QuotedWords::ours(text),
            });
        }
        None
    }

    /// Sends the waiting commands: all of them with PIPELINING, otherwise one.
    /// Decides RFC 2920 section 3.1.
    pub(super) fn send_waiting(&self, sending: &mut Sending, out: &mut Vec<u8>) {
        while let Some(command) = sending.waiting.front().copied() {
            if !self.extensions.pipelining && !sending.awaited.is_empty() {
                return;
            }
            sending.waiting.pop_front();
            sending.awaited.push_back(command);
            self.write(command, &sending.mail, out);
        }
    }

    pub(super) fn write(&self, command: Sent, mail: &ClientMail, out: &mut Vec<u8>) {
        match command {
            Sent::Rset => out.extend_from_slice(b"RSET\r\n"),
            Sent::Data => out.extend_from_slice(b"DATA\r\n"),
            Sent::Mail => self.write_mail(mail, out),
            Sent::Rcpt(index) => {
                if let Some(rcpt) = mail.recipients.get(index) {
                    self.write_rcpt(rcpt, mail, out);
                }
            }
        }
    }

    pub(super) fn write_mail(&self, mail: &ClientMail, out: &mut Vec<u8>) {
        let path = match &mail.reverse_path {
            ReversePath::Null => String::new(),
            ReversePath::Mailbox(mailbox) => wire_form(mailbox, mail.smtputf8),
        };
        let mut line = format!("MAIL FROM:<{path}>");
        if self.extensions.size.is_some() {
            line.push_str(&format!(" SIZE={}", mail.size));
        }
        if self.extensions.eight_bit && mail.body == BodyKind::EightBitMime {
            line.push_str(" BODY=8BITMIME");
        }
        if mail.smtputf8 {
            line.push_str(" SMTPUTF8");
        }
        if self.extensions.dsn {
            match mail.dsn_return {
                Some(DsnReturn::Full) => line.push_str(" RET=FULL"),
                Some(DsnReturn::Headers) => line.push_str(" RET=HDRS"),
                None => {}
            }
            if let Some(id) = &mail.envelope_id {
                line.push_str(&format!(" ENVID={}", encode_xtext(id)));
            }
        }
        line.push_str("\r\n");
        out.extend_from_slice(line.as_bytes());
    }

    /// Writes RCPT, with its DSN parameters if the server offers DSN.
    /// Decides RFC 3461 section 5.2.1.
    pub(super) fn write_rcpt(&self, rcpt: &Rcpt, mail: &ClientMail, out: &mut Vec<u8>) {
        let mut line = format!("RCPT TO:<{}>", wire_form(&rcpt.mailbox, mail.smtputf8));
        if self.extensions.dsn {
            match rcpt.notify {
                Notify::Default | Notify::Once => {}
                Notify::Never => line.push_str(" NOTIFY=NEVER"),
                Notify::On {
                    success,
                    failure,
                    delay,
                } => {
                    let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
                    let words: Vec<&str> = words
                        .iter()
                        .filter(|(on, _)| *on)
                        .map(|(_, word)| *word)
                        .collect();
                    line.push_str(&format!(" NOTIFY={}", words.join(",")));
                }
            }
            if let Some((kind, address)) = rcpt
                .original
                .as_deref()
                .and_then(|original| original.split_once(';'))
            {
                let address = match kind.eq_ignore_ascii_case("utf-8") {
                    true => encode_utf8_address(address, mail.smtputf8),
                    false => encode_xtext(address),
                };
                line.push_str(&format!(" ORCPT={kind};{address}"));
            }
        }
        line.push_str("\r\n");
        out.extend_from_slice(line.as_bytes());
    }

    pub(super) fn on_envelope_reply(
        &mut self,
        mut sending: Box<Sending>,
        reply: RemoteReply,
        out: &mut Vec<u8>,
    ) {
        let Some(command) = sending.awaited.pop_front() else {
            let result = self.refused_with(&reply);
            return self.end_transaction(*sending, result);
        };
        if is_farewell(&reply) {
            let result = self.refused_with(&reply);
            self.give_results(*sending, result);
            self.requests.push_back(ClientRequest::Close);
            return;
        }
        match command {
            Sent::Rset => {}
            Sent::Mail if reply.is_positive() => {}
            Sent::Mail => {
                sending.refused = Some(self.refused_with(&reply));
                sending.waiting.clear();
            }
            Sent::Rcpt(index) => {
                let result = if reply.is_positive() {
                    sending.accepted = sending.accepted.saturating_add(1);
                    None
                } else if sending.accepted > 0 && too_many_recipients(&reply) {
                    Some(RecipientResult::Again)
                } else {
                    Some(
                        sending
                            .refused
                            .clone()
                            .unwrap_or_else(|| self.refused_with(&reply)),
                    )
                };
                if let Some(slot) = sending.results.get_mut(index) {
                    *slot = result;
                }
                if sending.accepted == 0 && sending.waiting.front() == Some(&Sent::Data) {
                    sending.waiting.clear(); // nobody to send it to, and DATA has not been said
                }
            }
            Sent::Data => return self.on_data_reply(sending, &reply, out),
        }
        self.send_waiting(&mut sending, out);
        if sending.awaited.is_empty() {
            let everybody = sending.refused.clone().unwrap_or(RecipientResult::Again);
            return self.end_transaction(*sending, everybody);
        }
        self.state = State::Envelope(sending);
    }

    pub(super) fn on_data_reply(
        &mut self,
        mut sending: Box<Sending>,
        reply: &RemoteReply,
        out: &mut Vec<u8>,
    ) {
        if reply.code != 354 {
            let result = sending
                .refused
                .clone()
                .unwrap_or_else(|| self.refused_with(reply));
            return self.end_transaction(*sending, result);
        }
        let nobody = sending.accepted == 0 || sending.refused.is_some();
        if nobody && self.terms.protocol == ClientProtocol::Lmtp {
            // RFC 2033 section 4.2 forbids this 354, and leaves open how many replies an empty message would get.
            let result = RecipientResult::deferred(
                EnhancedCode::new(4, 5, 0),
                QuotedWords::ours("the server began a message without recipients"),
            );
            let result = sending.refused.clone().unwrap_or(result);
            self.give_results(*sending, result);
            self.requests.push_back(ClientRequest::Close);
            return;
        }
        if nobody {
            // RFC 2920 section 3.1: a 354 in a pipeline without an accepted recipient is answered with an empty
            // message. Whatever the server replies to it, nothing was delivered.
            out.extend_from_slice(b".\r\n");
            let nobody = EnhancedCode::new(4, 5, 0);
            let result = RecipientResult::deferred(
                nobody,
                QuotedWords::ours("the server began a message without recipients"),
            );
            sending.refused.get_or_insert(result);
            self.state = State::Dot(sending);
            return;
        }
        self.state = State::Body(sending, Encoder::default());
        self.requests.push_back(ClientRequest::Body);
    }

    /// Handles a reply to the final dot: in SMTP one reply for all recipients, in LMTP one for each.
    /// Decides RFC 2033 section 4.2.
    pub(super) fn on_dot_reply(&mut self, mut sending: Box<Sending>, reply: &RemoteReply) {
        let result = match &sending.refused {
            Some(result) => result.clone(),
            None if reply.is_positive() => RecipientResult::Delivered {
                text: reply.to_text(),
                dsn: self.extensions.dsn,
            },
            None => self.refused_with(reply),
        };
        if is_farewell(reply) {
            self.give_results(*sending, result);
            self.requests.push_back(ClientRequest::Close);
            return;
        }
        if self.terms.protocol == ClientProtocol::Smtp {
            return self.end_transaction(*sending, result);
        }
        // RFC 2033 section 4.2: a reply for each recipient that was accepted, in their order.
        if let Some(slot) = sending.results.iter_mut().find(|result| result.is_none()) {
            *slot = Some(result);
        }
        if sending.results.iter().all(Option::is_some) {
            self.give_results(*sending, RecipientResult::Again);
            return self.ready();
        }
        self.state = State::Dot(sending);
    }

    /// Ends a transaction in a session that continues.
    pub(super) fn end_transaction(&mut self, sending: Sending, everybody: RecipientResult) {
        let readiness = match everybody {
            RecipientResult::Delivered { .. } => Readiness::Fresh,
            _ => Readiness::AfterFailure,
        };
        self.give_results(sending, everybody);
        self.ready_again(readiness);
    }

    /// Assigns `everybody` to the recipients without a result of their own.
    pub(super) fn give_results(&mut self, sending: Sending, everybody: RecipientResult) {
        // The reply that ends a transaction may arrive together with the one that asked for the body.
        self.requests
            .retain(|request| !matches!(request, ClientRequest::Body));
        let results = sending
            .results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| everybody.clone()))
            .collect();
        self.requests.push_back(ClientRequest::Done(results));
    }
}

/// Recipients in one transaction if the server does not name a limit: the number that every server must accept (RFC
/// 5321 section 4.5.3.1.8).
const RECIPIENTS_PER_TRANSACTION: usize = 100;

fn wire_form(mailbox: &Mailbox, smtputf8: bool) -> String {
    if smtputf8 {
        mailbox.as_str().to_owned()
    } else {
        mailbox.to_ascii_domain()
    }
}
