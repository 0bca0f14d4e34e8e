//! Forged histories: each check is able to fail.

use chopar::address::{Mailbox, ReversePath};
use chopar::cause::FailureCause;
use chopar::date::Timestamp;
use chopar::envelope::{BodyKind, Envelope, Notify, Recipient};
use chopar::queue::MessageBody;
use chopar::status::EnhancedCode;

use super::*;

const ID: QueueId = QueueId::new(7);
const NOTICE: QueueId = QueueId::new(8);
const CONN: ConnId = ConnId {
    slot: 1,
    generation: 1,
};
const TO: &str = "r@d0.example";
const LETTER: &[u8] = b"Subject: letter\r\n\r\nHello.\r\n";

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
    [fields, LETTER].concat()
}

fn delivered() -> [(u32, DeliveryResult); 1] {
    [(0, DeliveryResult::Delivered)]
}

fn failed(text: &str) -> [(u32, DeliveryResult); 1] {
    let status = EnhancedCode::new(5, 4, 7);
    let why = FailureCause::here(text).into();
    [(0, DeliveryResult::Failed { status, why })]
}

/// A message whose dot was sent and that was given an id.
fn stored() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.offered(ClientMessage {
        marker: "letter".into(),
        from: String::new(),
        recipients: vec![TO.into()],
        text: LETTER.to_vec(),
        unauthenticated: false,
        forged: false,
    });
    hold(ledger.stored(&record(ID, TO, "198.51.100.1"), LETTER, 0));
    ledger
}

/// The same, durable and acknowledged.
fn accepted() -> Ledger {
    let mut ledger = stored();
    ledger.committed(ID);
    hold(ledger.said("letter", Said::Accepted));
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
    breaks(stored().said("letter", Said::Accepted), Rule::I1);
}

#[test]
fn i1_a_message_that_is_lost_at_a_start() {
    breaks(accepted().restarted(&[]), Rule::I1);
}

#[test]
fn i1_a_message_that_is_lost_in_the_end() {
    breaks(accepted().settled(), Rule::I1);
}

#[test]
fn i1_a_delivery_that_never_was() {
    breaks(accepted().heard(ID, &delivered()), Rule::I1);
}

#[test]
fn i1_a_message_that_is_done_with_an_open_recipient() {
    breaks(accepted().done(ID), Rule::I1);
}

#[test]
fn i2_a_message_that_nobody_sent() {
    let mut ledger = Ledger::default();
    let forged = record(ID, TO, "198.51.100.1");
    breaks(ledger.stored(&forged, LETTER, 0), Rule::I2);
}

#[test]
fn i2_a_delivery_before_the_commit() {
    breaks(stored().attempted(ID, TO), Rule::I2);
}

#[test]
fn i2_a_delivery_of_what_was_refused() {
    let mut ledger = stored();
    hold(ledger.said("letter", Said::Refused));
    ledger.committed(ID);
    breaks(ledger.attempted(ID, TO), Rule::I2);
}

#[test]
fn i2_a_recipient_who_was_not_named() {
    breaks(accepted().attempted(ID, "other@d0.example"), Rule::I2);
}

#[test]
fn i2_a_message_that_was_altered() {
    let mut text = arrived();
    let last = text.len() - 3;
    text[last] = b'?';
    breaks(
        accepted().taken(CONN, ID, &[TO.to_owned()], &text),
        Rule::I2,
    );
}

#[test]
fn i2_a_refused_message_that_is_recovered() {
    let mut ledger = stored();
    hold(ledger.said("letter", Said::Refused));
    breaks(ledger.restarted(&[recovered()]), Rule::I2);
}

#[test]
fn i3_an_attempt_behind_a_durable_outcome() {
    let mut ledger = accepted();
    hold(take(&mut ledger));
    hold(ledger.recorded(ID, &delivered(), false, true));
    breaks(ledger.attempted(ID, TO), Rule::I3);
}

#[test]
fn i3_a_second_copy_that_nothing_explains() {
    let mut ledger = accepted();
    hold(take(&mut ledger));
    hold(ledger.heard(ID, &delivered()));
    // The relay knows, so a link that is lost now explains nothing; a kill does.
    ledger.session_over(CONN);
    breaks(take(&mut ledger), Rule::I3);
    assert_eq!(ledger.killed(), 0);
    hold(take(&mut ledger));
}

#[test]
fn i3_a_session_that_does_not_wait_for_its_outcome() {
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
fn i3_a_durable_outcome_that_is_lost_at_a_start() {
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
    let text = [&b"DKIM-Signature: v=1\r\nMessage-ID: <c@d>\r\n"[..], LETTER].concat();
    breaks(ledger.taken(CONN, ID, &[TO.to_owned()], &text), Rule::I3);
}

#[test]
fn i4_a_failure_that_nobody_is_told_of() {
    let mut ledger = accepted();
    breaks(ledger.recorded(ID, &failed("no"), false, true), Rule::I4);
}

#[test]
fn i4_a_failure_that_is_recorded_before_its_notification() {
    let mut ledger = accepted();
    let text = format!("Final-Recipient: rfc822; {TO}\r\nAction: failed\r\n");
    let dsn = record(NOTICE, "author@sender.example", &format!("notice={ID}"));
    hold(ledger.stored(&dsn, text.as_bytes(), 0));
    breaks(ledger.recorded(ID, &failed("no"), false, true), Rule::I4);
    ledger.committed(NOTICE);
    hold(ledger.recorded(ID, &failed("no"), false, true));
    // And it is lost unless it arrives.
    breaks(ledger.settled(), Rule::I1);
}

#[test]
fn i4_a_delay_that_is_told_twice() {
    let mut ledger = accepted();
    let text = format!("Final-Recipient: rfc822; {TO}\r\nAction: delayed\r\n");
    let dsn = |id| record(id, "author@sender.example", &format!("notice={ID}"));
    hold(ledger.stored(&dsn(NOTICE), text.as_bytes(), 0));
    breaks(ledger.recorded(ID, &[], true, false), Rule::I4);
    ledger.committed(NOTICE);
    hold(ledger.recorded(ID, &[], true, false));
    let second = dsn(QueueId::new(9));
    breaks(ledger.stored(&second, text.as_bytes(), 0), Rule::I4);
}

#[test]
fn i6_rot_excuses_only_what_it_has_touched() {
    let mut ledger = accepted();
    ledger.disturb([NOTICE]);
    breaks(ledger.restarted(&[]), Rule::I1);
    ledger.disturb([ID]);
    hold(ledger.restarted(&[]));
}

#[test]
fn clock_a_message_that_is_given_up_untried() {
    let mut ledger = accepted();
    let outcome = failed("given up after too long: it is late");
    hold(ledger.heard(ID, &outcome));
    ledger.clock_jumped([]);
    breaks(ledger.heard(ID, &outcome), Rule::Clock);
    ledger.note_try(TO);
    hold(ledger.heard(ID, &outcome));
}

/// An unauthenticated client's message to `ann@home.example`, stored under the reverse-path that `home.example` gives
/// it or another.
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
        marker: "letter".into(),
        from: sender.to_string(),
        recipients: vec!["ann@home.example".into()],
        text: STRANGE.to_vec(),
        unauthenticated: true,
        forged: true,
    });
    ledger.stored(&record, STRANGE, 0)?;
    ledger.committed(ID);
    Ok(ledger)
}

const STRANGE: &[u8] =
    b"From: a@reject.example\r\nSubject: letter\r\nMessage-ID: <a@x>\r\n\r\nHello.\r\n";

fn take_forwarded(added: &str) -> Result<(), Broken> {
    let text = [added.as_bytes(), STRANGE].concat();
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
fn i2_a_forward_under_another_name() {
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
fn i2_a_forward_that_is_not_sealed_or_with_forged_findings_or_that_is_not_wanted() {
    breaks(take_forwarded("Received: x\r\n"), Rule::I2);
    breaks(
        take_forwarded(&format!("ARC-Seal: i=1\r\n{FORGED}")),
        Rule::I2,
    );
    let failed = "ARC-Seal: i=1\r\nAuthentication-Results: us; dmarc=fail\r\n";
    breaks(take_forwarded(failed), Rule::I2);
}

#[test]
fn told_a_message_under_the_envelope_of_another() {
    let ledger = accepted();
    hold(ledger.listed(ID, "", &[TO]));
    breaks(ledger.listed(ID, "", &["other@d0.example"]), Rule::Told);
    breaks(
        ledger.listed(ID, "author@sender.example", &[TO]),
        Rule::Told,
    );
    breaks(ledger.listed(ID, "", &[]), Rule::Told);
    breaks(ledger.listed(NOTICE, "", &[TO]), Rule::Told);
}

#[test]
fn i1_a_removal_that_nobody_asked_for() {
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
