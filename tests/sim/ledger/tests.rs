//! Forged histories: each check of the ledger can fail.

use chopar::address::{Mailbox, ReversePath};
use chopar::cause::FailureCause;
use chopar::date::Timestamp;
use chopar::envelope::{BodyKind, Envelope, Notify, Recipient};
use chopar::queue::MessageBody;
use chopar::status::EnhancedCode;

use chopar::engine::event::ConnId;
use chopar::queue::{DeliveryResult, MessageRecord, Recovered};
use chopar::queue_id::QueueId;

use super::Ledger;
use crate::messages::{ClientMessage, Said};
use crate::rule::{Broken, Rule};
use crate::unauthenticated_clients::FORGED;

const ID: QueueId = QueueId::new(7);
const DSN: QueueId = QueueId::new(8);
const CONN: ConnId = ConnId {
    slot: 1,
    generation: 1,
};
const TO: &str = "r@d0.example";
const MESSAGE: &[u8] = b"Subject: message\r\n\r\nHello.\r\n";

fn record(id: QueueId, to: &str, origin: &str) -> MessageRecord {
    MessageRecord {
        id,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec![Recipient {
                mailbox: Mailbox::parse(to).expect("a mailbox"),
                notify: Notify::Default,
                original: None,
                destination: None,
                reverse_path: None,
            }],
            envelope_id: None,
            dsn_return: None,
            body: BodyKind::SevenBit,
            smtputf8: false,
            arrived: Timestamp::from_seconds(1),
            origin: origin.into(),
        },
        fields: Vec::new(),
        body: MessageBody::Inline(Vec::new()),
    }
}

fn arrived() -> Vec<u8> {
    let fields = b"DKIM-Signature: v=1\r\nMessage-ID: <a@b>\r\n";
    [fields, MESSAGE].concat()
}

fn delivered() -> [(u32, DeliveryResult); 1] {
    [(0, DeliveryResult::Delivered)]
}

fn failed(text: &str) -> [(u32, DeliveryResult); 1] {
    let status = EnhancedCode::new(5, 4, 7);
    let why = FailureCause::here(text).into();
    [(0, DeliveryResult::Failed { status, why })]
}

/// A message that the client has sent and the engine has stored, but that is not durable.
fn stored() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.offered(ClientMessage {
        marker: "message".into(),
        from: String::new(),
        recipients: vec![TO.into()],
        text: MESSAGE.to_vec(),
        unauthenticated: false,
        forged: false,
    });
    hold(ledger.stored(&record(ID, TO, "198.51.100.1"), MESSAGE, 0));
    ledger
}

/// The same message, durable and acknowledged.
fn accepted() -> Ledger {
    let mut ledger = stored();
    ledger.committed(ID);
    hold(ledger.said("message", Said::Accepted));
    ledger
}

fn take(ledger: &mut Ledger) -> Result<(), Broken> {
    ledger.taken(CONN, ID, &[TO.to_owned()], &arrived())
}

fn recovered() -> Recovered {
    let mut found = Vec::new();
    let disk = chopar::queue::MemoryDisk::new();
    let (mut journal, _) =
        chopar::queue::Journal::open(disk.clone(), &mut |_| {}).expect("a journal");
    journal.execute(vec![chopar::queue::JournalCommand::Append {
        ticket: chopar::queue::Ticket(1),
        record: chopar::queue::Record::Message(record(ID, TO, "198.51.100.1")),
    }]);
    drop(journal);
    chopar::queue::Journal::open(disk, &mut |one| found.push(one)).expect("a journal");
    found.remove(0)
}

fn hold(result: Result<(), Broken>) {
    assert_eq!(result, Ok(()));
}

fn breaks(result: Result<(), Broken>, rule: Rule) {
    assert_eq!(result.map_err(|broken| broken.rule), Err(rule));
}

#[test]
fn an_honest_history_passes() {
    let mut ledger = accepted();
    hold(take(&mut ledger));
    hold(ledger.heard(ID, &delivered()));
    hold(ledger.recorded(ID, &delivered(), false, true));
    ledger.session_over(CONN);
    hold(ledger.restarted(&[]));
    hold(ledger.settled());
    hold(ledger.settled_calmly());
}

#[test]
fn i1_an_acknowledgement_before_the_commit() {
    breaks(stored().said("message", Said::Accepted), Rule::I1);
}

#[test]
fn i1_a_message_that_a_restart_loses() {
    breaks(accepted().restarted(&[]), Rule::I1);
}

#[test]
fn i1_a_message_that_is_missing_at_the_end() {
    breaks(accepted().settled(), Rule::I1);
}

#[test]
fn i1_a_recorded_delivery_that_did_not_happen() {
    breaks(accepted().heard(ID, &delivered()), Rule::I1);
}

#[test]
fn i1_done_with_an_open_recipient() {
    breaks(accepted().done(ID), Rule::I1);
}

#[test]
fn i2_an_invented_message() {
    let mut ledger = Ledger::default();
    let forged = record(ID, TO, "198.51.100.1");
    breaks(ledger.stored(&forged, MESSAGE, 0), Rule::I2);
}

#[test]
fn i2_a_delivery_before_the_commit() {
    breaks(stored().attempted(ID, TO), Rule::I2);
}

#[test]
fn i2_a_delivery_of_a_refused_message() {
    let mut ledger = stored();
    hold(ledger.said("message", Said::Refused));
    ledger.committed(ID);
    breaks(ledger.attempted(ID, TO), Rule::I2);
}

#[test]
fn i2_an_attempt_for_a_recipient_outside_the_envelope() {
    breaks(accepted().attempted(ID, "other@d0.example"), Rule::I2);
}

#[test]
fn i2_an_altered_message() {
    let mut text = arrived();
    let last = text.len() - 3;
    text[last] = b'?';
    breaks(
        accepted().taken(CONN, ID, &[TO.to_owned()], &text),
        Rule::I2,
    );
}

#[test]
fn i2_a_recovered_message_that_was_refused() {
    let mut ledger = stored();
    hold(ledger.said("message", Said::Refused));
    breaks(ledger.restarted(&[recovered()]), Rule::I2);
}

#[test]
fn i3_an_attempt_after_a_durable_result() {
    let mut ledger = accepted();
    hold(take(&mut ledger));
    hold(ledger.recorded(ID, &delivered(), false, true));
    breaks(ledger.attempted(ID, TO), Rule::I3);
}

#[test]
fn i3_an_unexplained_second_copy() {
    let mut ledger = accepted();
    hold(take(&mut ledger));
    hold(ledger.heard(ID, &delivered()));
    // The relay has read the reply, so a lost connection explains nothing; a kill does.
    ledger.session_over(CONN);
    breaks(take(&mut ledger), Rule::I3);
    assert_eq!(ledger.killed(), 0);
    hold(take(&mut ledger));
}

#[test]
fn i3_a_session_that_does_not_wait_for_its_result() {
    let mut ledger = accepted();
    hold(take(&mut ledger));
    breaks(take(&mut ledger), Rule::I3);
    assert_eq!(
        ledger.killed(),
        1,
        "one session stood between dot and record"
    );
}

#[test]
fn i3_a_durable_result_that_a_restart_loses() {
    let mut ledger = accepted();
    hold(take(&mut ledger));
    hold(ledger.recorded(ID, &delivered(), false, false));
    breaks(ledger.restarted(&[recovered()]), Rule::I3);
}

#[test]
fn i3_another_message_id_on_a_retry() {
    let mut ledger = accepted();
    hold(take(&mut ledger));
    ledger.session_over(CONN);
    let text = [
        &b"DKIM-Signature: v=1\r\nMessage-ID: <c@d>\r\n"[..],
        MESSAGE,
    ]
    .concat();
    breaks(ledger.taken(CONN, ID, &[TO.to_owned()], &text), Rule::I3);
}

#[test]
fn i4_a_failure_without_a_dsn() {
    let mut ledger = accepted();
    breaks(ledger.recorded(ID, &failed("no"), false, true), Rule::I4);
}

#[test]
fn i4_a_failure_that_is_recorded_before_its_dsn() {
    let mut ledger = accepted();
    let text = format!("Final-Recipient: rfc822; {TO}\r\nAction: failed\r\n");
    let dsn = record(DSN, "author@sender.example", &format!("notice={ID}"));
    hold(ledger.stored(&dsn, text.as_bytes(), 0));
    breaks(ledger.recorded(ID, &failed("no"), false, true), Rule::I4);
    ledger.committed(DSN);
    hold(ledger.recorded(ID, &failed("no"), false, true));
    // The DSN must also arrive.
    breaks(ledger.settled(), Rule::I1);
}

#[test]
fn i4_a_delay_that_is_reported_twice() {
    let mut ledger = accepted();
    let text = format!("Final-Recipient: rfc822; {TO}\r\nAction: delayed\r\n");
    let dsn = |id| record(id, "author@sender.example", &format!("notice={ID}"));
    hold(ledger.stored(&dsn(DSN), text.as_bytes(), 0));
    breaks(ledger.recorded(ID, &[], true, false), Rule::I4);
    ledger.committed(DSN);
    hold(ledger.recorded(ID, &[], true, false));
    let second = dsn(QueueId::new(9));
    breaks(ledger.stored(&second, text.as_bytes(), 0), Rule::I4);
}

#[test]
fn i6_damage_excuses_only_the_damaged_messages() {
    let mut ledger = accepted();
    ledger.disturb([DSN]);
    breaks(ledger.restarted(&[]), Rule::I1);
    ledger.disturb([ID]);
    hold(ledger.restarted(&[]));
}

#[test]
fn clock_a_message_that_is_given_up_without_a_try() {
    let mut ledger = accepted();
    let outcome = failed("given up after too long: it is late");
    hold(ledger.heard(ID, &outcome));
    ledger.clock_jumped([]);
    breaks(ledger.heard(ID, &outcome), Rule::Clock);
    ledger.note_try(TO);
    hold(ledger.heard(ID, &outcome));
}

/// An unauthenticated client's message to `ann@home.example`, stored under `path`, or under the SRS address of
/// `home.example`.
fn forwarded(path: Option<&str>) -> Result<Ledger, Broken> {
    let sender = Mailbox::parse("w@outside.example").expect("a mailbox");
    let home = chopar::address::Domain::parse("home.example").expect("a domain");
    let mut record = record(ID, "r0@d0.example", "198.18.0.1");
    let at = record.envelope.arrived;
    let rewritten = crate::world::rewriter().forward(&sender, &home, at);
    let rewritten = rewritten.expect("a rewritten sender");
    record.envelope.reverse_path = ReversePath::Mailbox(sender.clone());
    record.envelope.recipients[0].reverse_path = Some(Box::new(match path {
        Some(path) => Mailbox::parse(path).expect("a mailbox"),
        None => rewritten,
    }));
    let mut ledger = Ledger::default();
    ledger.offered(ClientMessage {
        marker: "message".into(),
        from: sender.to_string(),
        recipients: vec!["ann@home.example".into()],
        text: FORWARDED.to_vec(),
        unauthenticated: true,
        forged: true,
    });
    ledger.stored(&record, FORWARDED, 0)?;
    ledger.committed(ID);
    Ok(ledger)
}

const FORWARDED: &[u8] =
    b"From: a@reject.example\r\nSubject: message\r\nMessage-ID: <a@x>\r\n\r\nHello.\r\n";

fn take_forwarded(added: &str) -> Result<(), Broken> {
    let text = [added.as_bytes(), FORWARDED].concat();
    let mut ledger = forwarded(None)?;
    ledger.taken(CONN, ID, &["r0@d0.example".to_owned()], &text)
}

#[test]
fn an_honest_forward_passes() {
    hold(take_forwarded(
        "ARC-Seal: i=1\r\nAuthentication-Results: us; dmarc=pass\r\n",
    ));
}

#[test]
fn i2_a_forward_under_a_wrong_reverse_path() {
    for path in [
        "w@outside.example",
        "SRS0=AAAA=AA=outside.example=w@home.example",
    ] {
        breaks(forwarded(Some(path)).map(drop), Rule::I2);
    }
    let mut ledger = forwarded(None).expect("an honest forward");
    breaks(
        ledger.sent_as(ID, "r0@d0.example", "w@outside.example"),
        Rule::I2,
    );
}

#[test]
fn i2_a_forward_without_seal_or_with_forged_results_or_that_dmarc_rejects() {
    breaks(take_forwarded("Received: x\r\n"), Rule::I2);
    breaks(
        take_forwarded(&format!("ARC-Seal: i=1\r\n{FORGED}")),
        Rule::I2,
    );
    let failed = "ARC-Seal: i=1\r\nAuthentication-Results: us; dmarc=fail\r\n";
    breaks(take_forwarded(failed), Rule::I2);
}

#[test]
fn told_a_message_listed_with_another_envelope() {
    let ledger = accepted();
    hold(ledger.listed(ID, "", &[TO]));
    breaks(ledger.listed(ID, "", &["other@d0.example"]), Rule::Told);
    breaks(
        ledger.listed(ID, "author@sender.example", &[TO]),
        Rule::Told,
    );
    breaks(ledger.listed(ID, "", &[]), Rule::Told);
    breaks(ledger.listed(DSN, "", &[TO]), Rule::Told);
}

#[test]
fn i1_a_removal_that_no_operator_requested() {
    let mut ledger = accepted();
    breaks(ledger.done(ID), Rule::I1);
    breaks(ledger.restarted(&[]), Rule::I1);
    breaks(ledger.settled(), Rule::I1);
    let mut ledger = accepted();
    ledger.remove(ID);
    hold(ledger.done(ID));
    hold(ledger.restarted(&[]));
    hold(ledger.settled());
}
