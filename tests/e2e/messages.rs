//! Unusual messages arrive byte for byte.

use std::time::Duration;

use crate::client::Client;
use crate::process::PATIENCE;
use crate::relay::Relay;

/// Sends a message to a sink over a socket; returns the fields that the relay added before it.
fn through(relay: &Relay, message: &[u8], number: usize) -> String {
    let mut client = relay.client();
    let reply = client.transaction("a@src.test", &["b@four.test"], message);
    assert_eq!(reply.code, 250, "{reply:?}");
    relay.sink.wait_within(number, 2 * PATIENCE);
    relay.sink.message(number).added_to(message)
}

const FIELDS: &str = "From: a@src.test\r\nTo: b@four.test\r\nDate: Tue, 24 Nov 2026 14:00:00 +0000\r\n\
                      Message-ID: <1@src.test>\r\nSubject: odd\r\n";

#[test]
fn unusual_messages_arrive_byte_for_byte_after_the_trace_fields() {
    let relay = Relay::start();
    let long = "x".repeat(998);
    let longer = "x".repeat(5_000);
    let messages: Vec<Vec<u8>> = vec![
        format!("{FIELDS}\r\nhello\r\n").into(),
        format!("{FIELDS}\r\n").into(),                       // an empty body
        FIELDS.into(),                                        // a header alone
        format!("{FIELDS}\r\n\r\n\r\n\r\n").into(),           // nothing but empty lines
        format!("{FIELDS}\r\ntext\r\n\r\n\r\n").into(),       // empty lines at the end
        format!("{FIELDS}\r\n.\r\n..\r\n...\r\n.x\r\n").into(), // leading dots
        format!("{FIELDS}\r\n{long}\r\n.{}\r\n", &long[1..]).into(),
        format!("{FIELDS}\r\n{longer}\r\n.{longer}\r\n").into(), // beyond the line limit
        format!("{FIELDS}X-Long: {}\r\n\r\nx\r\n", &long[8..]).into(),
        format!("{FIELDS}X-Fold: one\r\n two\r\n\t three  \r\n \r\nx-FOLD : again\r\nX-Fold: one\r\n\r\nx\r\n").into(),
        format!("{FIELDS}\r\n \t \r\ntrailing  \t\r\n\tleading\r\n").into(),
        format!("{FIELDS}Subject: Привет\r\n\r\nSalom, дунё ☕\r\n").into(),
        [FIELDS.as_bytes(), b"\r\n\x80\xff\xfe \xc3\x28\x01\x7f\r\n"].concat(),
    ];
    let mut client = relay.client();
    for (message, number) in messages.iter().zip(1..) {
        let parameters = if message.is_ascii() {
            ""
        } else {
            " BODY=8BITMIME SMTPUTF8"
        };
        assert_eq!(
            client
                .say(&format!("MAIL FROM:<a@src.test>{parameters}"))
                .code,
            250
        );
        assert_eq!(client.say("RCPT TO:<b@four.test>").code, 250);
        assert_eq!(client.say("DATA").code, 354);
        let reply = client.body(message);
        assert_eq!(reply.code, 250, "message {number}: {reply:?}");
        relay.sink.wait_within(number, PATIENCE);
        let arrived = relay.sink.message(number);
        let declared = arrived
            .mail_options
            .iter()
            .any(|option| option == "BODY=8BITMIME");
        assert!(declared || message.is_ascii(), "{arrived:?}");
        let trace = arrived.added_to(message);
        assert!(trace.starts_with("Received: from client.test"), "{trace}");
        assert!(trace.contains("mail.relay.test"), "{trace}");
    }
    relay.wait_for_empty_queue(PATIENCE);
}

#[test]
fn a_message_of_five_megabytes_is_stored_in_a_file_and_arrives_whole() {
    let relay = Relay::start();
    let line: Vec<u8> = (0..76).map(|at| b'!' + at).chain(*b"\r\n").collect();
    let message = [
        FIELDS.as_bytes(),
        b"\r\n",
        &line.repeat(5 * 1024 * 1024 / 78),
    ]
    .concat();
    let trace = through(&relay, &message, 1);
    assert!(trace.starts_with("Received:"), "{trace}");
    relay.wait_for_empty_queue(PATIENCE);
    let left: Vec<_> = std::fs::read_dir(relay.spool().join("body"))
        .expect("a folder")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_message_in_bdat_chunks_arrives_unchanged() {
    let relay = Relay::start();
    let message = format!("{FIELDS}\r\n.\r\n..two\r\nno dot is doubled\r\n");
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code, 250);
    assert_eq!(client.say("RCPT TO:<b@four.test>").code, 250);
    let (first, second) = message.split_at(message.len() / 2);
    client.send(format!("BDAT {}\r\n{first}", first.len()).as_bytes());
    assert_eq!(client.reply().code, 250);
    client.send(format!("BDAT {} LAST\r\n{second}", second.len()).as_bytes());
    assert_eq!(client.reply().code, 250);
    relay.sink.wait(1)[0].added_to(message.as_bytes());
}

#[test]
fn a_message_in_single_bytes_is_the_same_message() {
    let relay = Relay::start();
    let message = format!("{FIELDS}\r\n.\r\nslow\r\n");
    let mut client = Client::connect(relay.smtp());
    let dialogue = [
        b"EHLO client.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@four.test>\r\nDATA\r\n".to_vec(),
        crate::client::stuffed(message.as_bytes()),
        b"QUIT\r\n".to_vec(),
    ];
    for byte in dialogue.concat() {
        client.send(&[byte]);
    }
    let codes: Vec<u16> = (0..6).map(|_| client.reply().code).collect();
    assert_eq!(codes, [250, 250, 250, 354, 250, 221]);
    relay.sink.wait(1)[0].added_to(message.as_bytes());
}

#[test]
fn a_message_over_the_maximum_size_is_refused_at_mail_and_after_the_final_dot() {
    let setup = crate::relay::Setup {
        keys: "max_message_size = \"100 KiB\"".to_owned(),
        ..Default::default()
    };
    let relay = setup.start();
    let mut client = relay.client();
    assert_eq!(client.say("MAIL FROM:<a@src.test> SIZE=200000").code, 552);
    let message = [FIELDS.as_bytes(), b"\r\n", &b"x\r\n".repeat(50_000)].concat();
    assert_eq!(
        client
            .transaction("a@src.test", &["b@four.test"], &message)
            .code,
        552
    );
    assert_eq!(
        client
            .transaction("a@src.test", &["b@four.test"], FIELDS.as_bytes())
            .code,
        250
    );
    relay.sink.wait_within(1, Duration::from_secs(10));
    relay.wait_for_empty_queue(PATIENCE);
    assert_eq!(relay.sink.count(), 1);
}
