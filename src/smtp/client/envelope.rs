//! One transaction on the client's side: MAIL, RCPT and DATA, pipelined where that is offered, and whom each reply is
//! for.

use std::collections::VecDeque;

use super::fate::{About, Fate, is_farewell, too_many_recipients};
use super::transaction::{Mail, Rcpt, Sending, Sent};
use super::{Protocol, Readiness, Request, Session, State};
use crate::address::{Mailbox, ReversePath};
use crate::cause::Words;
use crate::envelope::{BodyKind, DsnReturn, Notify};
use crate::smtp::data::Encoder;
use crate::smtp::reply::RemoteReply;
use crate::status::EnhancedCode;
use crate::xtext::{encode_utf8_address, encode_xtext};

impl Session {
    /// Answers [`Request::Ready`] with a message.
    pub fn begin(&mut self, mail: Mail, out: &mut Vec<u8>) {
        self.moves();
        let mut sending = Box::new(Sending {
            awaited: VecDeque::new(),
            waiting: VecDeque::new(),
            fates: mail
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
            .zip(&sending.fates)
            .filter_map(|(index, fate)| fate.is_none().then_some(index))
            .collect();
        if open.is_empty() {
            return self.end_transaction(*sending, Fate::Again);
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
        // RFC 6531 section 3.4: the extension is asked for where something in the transaction needs it. A header that would
        // be better off with it goes without where it is not offered, as it does where its client has not asked for it.
        sending.mail.smtputf8 |= !sending.mail.reverse_path.as_str().is_ascii();
        for index in now {
            let rcpt = sending.mail.recipients.get(*index);
            sending.mail.smtputf8 |= rcpt.is_some_and(|rcpt| rcpt.mailbox.needs_smtputf8());
            sending.waiting.push_back(Sent::Rcpt(*index));
        }
        sending.mail.smtputf8 &= self.extensions.smtputf8;
        for index in later {
            if let Some(fate) = sending.fates.get_mut(*index) {
                *fate = Some(Fate::Again);
            }
        }
        sending.waiting.push_back(Sent::Data);
        self.send_waiting(&mut sending, out);
        self.state = State::Envelope(sending);
    }

    /// Why this server cannot take the message for a recipient, where that is known before it is offered. Another host
    /// may be able to.
    fn unsendable(&self, mail: &Mail, rcpt: &Rcpt) -> Option<Fate> {
        if self
            .extensions
            .size
            .is_some_and(|max| max > 0 && mail.size > max)
        {
            let text = format!("the message has {} bytes, the server takes less", mail.size);
            return Some(Fate::Failed {
                about: About::Host,
                status: EnhancedCode::new(5, 3, 4),
                words: Words::ours(text),
            });
        }
        // A domain can be written in A-labels, a header has no other form: only a local part needs the extension.
        let mut addresses = [Some(&rcpt.mailbox), mail.reverse_path.mailbox()]
            .into_iter()
            .flatten();
        let needed = addresses.any(Mailbox::needs_smtputf8);
        if needed && !self.extensions.smtputf8 {
            let text = "the address needs SMTPUTF8, which the server does not offer";
            return Some(Fate::Failed {
                about: About::Host,
                status: EnhancedCode::new(5, 6, 7),
                words: Words::ours(text),
            });
        }
        None
    }

    /// Sends what waits: all of it with PIPELINING, else one command.
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

    pub(super) fn write(&self, command: Sent, mail: &Mail, out: &mut Vec<u8>) {
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

    pub(super) fn write_mail(&self, mail: &Mail, out: &mut Vec<u8>) {
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

    /// Writes RCPT, with its parameters where the server has DSN.
    /// Decides RFC 3461 section 5.2.1.
    pub(super) fn write_rcpt(&self, rcpt: &Rcpt, mail: &Mail, out: &mut Vec<u8>) {
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
            let fate = self.refused_with(&reply);
            return self.end_transaction(*sending, fate);
        };
        if is_farewell(&reply) {
            let fate = self.refused_with(&reply);
            self.give_fates(*sending, fate);
            self.requests.push_back(Request::Close);
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
                let fate = if reply.is_positive() {
                    sending.accepted = sending.accepted.saturating_add(1);
                    None
                } else if sending.accepted > 0 && too_many_recipients(&reply) {
                    Some(Fate::Again)
                } else {
                    Some(
                        sending
                            .refused
                            .clone()
                            .unwrap_or_else(|| self.refused_with(&reply)),
                    )
                };
                if let Some(slot) = sending.fates.get_mut(index) {
                    *slot = fate;
                }
                if sending.accepted == 0 && sending.waiting.front() == Some(&Sent::Data) {
                    sending.waiting.clear(); // nobody to send it to, and DATA has not been said
                }
            }
            Sent::Data => return self.on_data_reply(sending, &reply, out),
        }
        self.send_waiting(&mut sending, out);
        if sending.awaited.is_empty() {
            let everybody = sending.refused.clone().unwrap_or(Fate::Again);
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
            let fate = sending
                .refused
                .clone()
                .unwrap_or_else(|| self.refused_with(reply));
            return self.end_transaction(*sending, fate);
        }
        let nobody = sending.accepted == 0 || sending.refused.is_some();
        if nobody && self.terms.protocol == Protocol::Lmtp {
            // RFC 2033 section 4.2 forbids this 354, and leaves open how many replies an empty message would get.
            let fate = Fate::deferred(
                EnhancedCode::new(4, 5, 0),
                Words::ours("the server began a message without recipients"),
            );
            let fate = sending.refused.clone().unwrap_or(fate);
            self.give_fates(*sending, fate);
            self.requests.push_back(Request::Close);
            return;
        }
        if nobody {
            // RFC 2920 section 3.1: a 354 in a pipeline without a recipient gets an empty message; whatever is
            // answered, nothing was delivered.
            out.extend_from_slice(b".\r\n");
            let nobody = EnhancedCode::new(4, 5, 0);
            let fate = Fate::deferred(
                nobody,
                Words::ours("the server began a message without recipients"),
            );
            sending.refused.get_or_insert(fate);
            self.state = State::Dot(sending);
            return;
        }
        self.state = State::Body(sending, Encoder::default());
        self.requests.push_back(Request::Body);
    }

    /// Takes a reply to the final dot: of SMTP the one for all, of LMTP the next recipient's.
    /// Decides RFC 2033 section 4.2.
    pub(super) fn on_dot_reply(&mut self, mut sending: Box<Sending>, reply: &RemoteReply) {
        let fate = match &sending.refused {
            Some(fate) => fate.clone(),
            None if reply.is_positive() => Fate::Delivered {
                text: reply.to_text(),
                dsn: self.extensions.dsn,
            },
            None => self.refused_with(reply),
        };
        if is_farewell(reply) {
            self.give_fates(*sending, fate);
            self.requests.push_back(Request::Close);
            return;
        }
        if self.terms.protocol == Protocol::Smtp {
            return self.end_transaction(*sending, fate);
        }
        // RFC 2033 section 4.2: a reply for each recipient that was accepted, in their order.
        if let Some(slot) = sending.fates.iter_mut().find(|fate| fate.is_none()) {
            *slot = Some(fate);
        }
        if sending.fates.iter().all(Option::is_some) {
            self.give_fates(*sending, Fate::Again);
            return self.ready();
        }
        self.state = State::Dot(sending);
    }

    /// Ends a transaction in a session that goes on.
    pub(super) fn end_transaction(&mut self, sending: Sending, everybody: Fate) {
        let readiness = match everybody {
            Fate::Delivered { .. } => Readiness::Fresh,
            _ => Readiness::AfterFailure,
        };
        self.give_fates(sending, everybody);
        self.ready_again(readiness);
    }

    /// Gives `everybody` to those who have no fate of their own.
    pub(super) fn give_fates(&mut self, sending: Sending, everybody: Fate) {
        // The reply that ends a transaction may come in one piece with the one that asked for the body.
        self.requests
            .retain(|request| !matches!(request, Request::Body));
        let fates = sending
            .fates
            .into_iter()
            .map(|fate| fate.unwrap_or_else(|| everybody.clone()))
            .collect();
        self.requests.push_back(Request::Done(fates));
    }
}

/// Recipients that are offered in one transaction where the server does not name a limit: what every server must
/// take (RFC 5321 section 4.5.3.1.8).
const RECIPIENTS_PER_TRANSACTION: usize = 100;

fn wire_form(mailbox: &Mailbox, smtputf8: bool) -> String {
    if smtputf8 {
        mailbox.as_str().to_owned()
    } else {
        mailbox.to_ascii_domain()
    }
}
