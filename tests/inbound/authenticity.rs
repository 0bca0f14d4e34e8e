//! SPF, DKIM and DMARC of messages from unauthenticated clients, and the results in the header.

use std::net::Ipv4Addr;
use std::time::Duration;

use chopar::address::Domain;
use chopar::auth::dkim::canonical::{BodyHasher, Canonicalization};
use chopar::auth::dkim::key::{Algorithm, SigningKey};
use chopar::auth::dkim::sign::{Signer, prepare};
use chopar::date::Timestamp;
use chopar::engine::event::{ConnId, Listener};
use chopar::engine::log::Level;

use crate::world::{CLIENT, KEY, Saying, World, divide, text};

/// A message with a spoofed author at a bank.
const SPOOF: &[u8] = b"From: Your Bank <service@bank.example>\r\nSubject: urgent\r\n\r\nclick\r\n";

/// Publishes a DMARC policy for the bank.
fn bank(world: &mut World, policy: &str) {
    world.say_at("_dmarc.bank.example", &format!("v=DMARC1; p={policy}"));
    world.say_at("bank.example", "v=spf1 -all");
}

/// The message with a DKIM signature of `author.example`.
pub(crate) fn signed(message: &[u8]) -> Vec<u8> {
    let (header, body) = divide(message);
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(&body);
    let domain = Domain::parse("author.example").expect("a domain");
    let signer = Signer {
        domain: &domain,
        selector: "one",
        algorithm: Algorithm::RsaSha256,
        at: Timestamp::from_seconds(1_790_000_000),
    };
    let input = prepare(&header, &[], &hasher.finish().hash, &signer);
    let key = SigningKey::from_pem(KEY).expect("a key");
    let mut signed = input.sign(&key).expect("a signature");
    signed.extend_from_slice(message);
    signed
}

/// A client sends a message with its final dot and is put aside before the reply.
fn offered(world: &mut World, message: &[u8]) -> ConnId {
    world.connect(Listener::Smtp);
    world.offer("x@evil.example", &["ann@us.example"], message);
    world.put_aside()
}

#[test]
fn signatures_are_verified_by_workers_a_few_at_a_time_while_clients_come_and_go() {
    let mut world = World::new();
    world.say_at("_dmarc.author.example", "v=DMARC1; p=reject");
    let right = signed(b"From: a@author.example\r\nSubject: yes\r\n\r\nhello\r\n");
    let wrong = String::from_utf8(right.clone()).expect("ASCII");
    let wrong = wrong.replace("Subject: yes", "Subject: no").into_bytes();
    world.is_slow = true;
    let gone = offered(&mut world, &right);
    let taken = offered(&mut world, &right);
    let impatient = offered(&mut world, &right);
    let refused = offered(&mut world, &wrong);
    let tables = world.stage.engine.tables();
    assert_eq!((tables.jobs, tables.verifications), (2, 2));
    assert!(world.queued.is_empty());

    for client in [gone, impatient] {
        world.take_up(client);
        world.hang_up();
    }
    assert_eq!(world.stage.engine.tables().verifications, 1);
    world.work();
    let tables = world.stage.engine.tables();
    assert_eq!((tables.jobs, tables.verifications), (0, 0));

    world.take_up(taken);
    world.leave();
    world.take_up(refused);
    world.leave();
    let counters = world.stage.engine.counters();
    assert_eq!((counters.accepted, counters.dmarc_refused), (1, 1));
    world.nothing_is_left();
}

#[test]
fn results_for_a_lost_message_do_not_apply_to_the_next_one() {
    let mut world = World::with("max_memory = \"8 MiB\"\n", "");
    world.say_at("_dmarc.author.example", "v=DMARC1; p=reject");
    let long = |lines: usize| format!("X-Long: {}\r\n", "x".repeat(900)).repeat(lines);
    let head = "From: a@author.example\r\n";
    let right = signed(format!("{head}Subject: yes\r\n{}\r\nhello\r\n", long(180)).as_bytes());
    let wrong = signed(format!("{head}Subject: yes\r\n\r\nhello\r\n").as_bytes());
    let wrong = String::from_utf8(wrong).expect("ASCII");
    let wrong = wrong.replace("Subject: yes", "Subject: no").into_bytes();
    world.is_slow = true;
    let client = offered(&mut world, &right);
    assert_eq!(world.stage.engine.tables().jobs, 1);
    // Other clients use up the memory, until the largest holder loses its message while a worker verifies its
    // signature.
    for number in 0..60 {
        world.connect_from(Listener::Smtp, Ipv4Addr::new(10, number, 0, 1));
        world.say("MAIL FROM:<x@evil.example>");
        world.say("RCPT TO:<ann@us.example>");
        world.say("DATA");
        world.feed(long(50).as_bytes());
        world.put_aside();
    }
    world.take_up(client);
    let counters = world.stage.engine.counters();
    assert_eq!((counters.accepted, counters.refused > 0), (0, true));
    world.offer("x@evil.example", &["ann@us.example"], &wrong);
    world.work();
    world.pass(Duration::from_secs(20), |_| false);
    let counters = world.stage.engine.counters();
    assert_eq!((counters.accepted, counters.dmarc_refused), (0, 1));
    assert!(world.queued.is_empty());
}

#[test]
fn a_message_with_many_signatures_is_verified_once_however_many_answers_spf_needs() {
    let mut world = World::new();
    world.stage.engine.set_log_level(Level::Debug);
    world.say_at("evil.example", "v=spf1 include:p1.evil.example -all");
    for number in 1..10 {
        let next = format!("v=spf1 include:p{}.evil.example -all", number + 1);
        world.say_at(&format!("p{number}.evil.example"), &next);
    }
    world.say_at("p10.evil.example", "v=spf1 +all");
    let message = b"From: a@author.example\r\nSubject: yes\r\n\r\nhello\r\n";
    let one = signed(message);
    let field = &one[..one.len() - message.len()];
    let wrong = b"From: a@author.example\r\nSubject: no\r\n\r\nhello\r\n";
    let many = [field.repeat(110), wrong.to_vec()].concat();
    let reply = world.bring("x@evil.example", &["ann@us.example"], &many);
    assert!(reply.starts_with("250 "), "{reply}");
    let lines = world.logged.iter();
    let verified: Vec<&String> = lines
        .filter(|line| line.contains("event=verified "))
        .collect();
    let [line] = verified[..] else {
        panic!("{verified:?}");
    };
    assert!(line.contains(" checks=10 "), "{line}");
    let examined = world
        .logged
        .iter()
        .find(|line| line.contains("event=examined "));
    assert!(
        examined.is_some_and(|line| line.contains("spf=pass")),
        "{examined:?}"
    );
    world.nothing_is_left();
}

#[test]
fn a_spoofed_author_is_refused_after_the_final_dot_if_dmarc_says_reject() {
    let mut world = World::new();
    bank(&mut world, "reject");
    let reply = world.bring("x@evil.example", &["ann@us.example"], SPOOF);
    assert!(
        reply.starts_with("550 5.7.1 ") && reply.contains("bank.example"),
        "{reply}"
    );
    let counters = world.stage.engine.counters();
    assert_eq!((counters.dmarc_failed, counters.dmarc_refused), (1, 1));
    assert!(world.queued.is_empty());
    world.nothing_is_left();
}

#[test]
fn a_spoofed_author_is_refused_in_every_spelling() {
    let long = format!("From: {}@bank.example", "b".repeat(65));
    let spellings: [&[u8]; 11] = [
        b"From: B\xF6ss <boss@bank.example>",
        b"From: [Boss] <boss@bank.example>",
        b"From: Boss, The <boss@bank.example>",
        b"From: Re: Boss <boss@bank.example>",
        b"From: b..ss@bank.example",
        b"From: .boss@bank.example",
        b"From : Boss <boss@BANK.example>",
        b"From: a@evil.example, boss@bank.example",
        b"From: \"Boss <boss@bank.example>\" <a@evil.example>",
        b"From: boss@sub.bank.example",
        long.as_bytes(),
    ];
    for from in spellings {
        let mut world = World::new();
        bank(&mut world, "reject");
        let message = [from, b"\r\n\r\nclick\r\n"].concat();
        let reply = world.bring("x@evil.example", &["ann@us.example"], &message);
        assert!(
            reply.starts_with("550 5.7.1 ") && reply.contains("bank.example"),
            "{}: {reply}",
            from.escape_ascii()
        );
        assert!(world.queued.is_empty());
    }
}

#[test]
fn no_form_of_a_header_hides_an_author_that_a_mail_reader_would_show() {
    let headers: [&[u8]; 29] = [
        b"From\t \t: boss@bank.example",
        b"FROM:boss@bank.example",
        b"From:\r\n boss@bank.example",
        b"From:\r\n \t\r\n\tboss@bank.example",
        b"From: boss\r\n @bank.example",
        b"X-A: b\r\n \r\nFrom: boss@bank.example",
        b"From: a@evil.example\r\nfrom : boss@bank.example",
        b"From: a@evil.example\r\nX: y\r\nFROM: boss@bank.example",
        b"From: boss@bank.example, a@evil.example",
        b"From: us: boss@bank.example;",
        b"From: a@evil.example: boss@bank.example;",
        b"From: boss@bank.example (a@evil.example)",
        b"From: (a@evil.example) boss@bank.example",
        b"From: a@evil.example <boss@bank.example>",
        b"From: boss@bank.example <a@evil.example>",
        b"From: <a@evil.example> <boss@bank.example>",
        b"From: <a@evil.example>\r\n <boss@bank.example>",
        b"From: \"boss@bank.example\"@evil.example",
        b"From: =?utf-8?q?boss=40bank=2Eexample?=",
        b"From: boss@bank.example.",
        b"From: boss@ bank.example",
        b"From: boss@bank(x).example",
        b"From: boss@bank.example@evil.example",
        b"From: <@evil.example:boss@bank.example>",
        b"From: boss@\xEF\xBD\x82ank.example",
        b"From: boss@bank.exa\xC2\xADmple",
        b"From\xC2\xA0: boss@bank.example\r\nFrom: a@evil.example",
        b"\xEF\xBB\xBFFrom: boss@bank.example\r\nFrom: a@evil.example",
        b"Sender: boss@bank.example\r\nResent-From: boss@bank.example",
    ];
    for header in headers {
        for is_chunked in [false, true] {
            let mut world = World::new();
            bank(&mut world, "reject");
            let reply = if is_chunked {
                // Chunks of one byte, the last of which ends the header without an empty line.
                world.connect(Listener::Smtp);
                for line in ["MAIL FROM:<x@evil.example>", "RCPT TO:<ann@us.example>"] {
                    assert!(world.say(line).starts_with("250 "));
                }
                for byte in header {
                    world.feed(b"BDAT 1\r\n");
                    world.feed(&[*byte]);
                    let reply = world.hear();
                    assert!(reply.starts_with("250 "), "{reply}");
                }
                world.feed(b"BDAT 2 LAST\r\n\r\n");
                let reply = world.hear();
                world.leave();
                reply
            } else {
                let message = [header, b"\r\n\r\nclick\r\n"].concat();
                world.bring("x@evil.example", &["ann@us.example"], &message)
            };
            assert!(
                reply.starts_with("55"),
                "{}: {reply}",
                header.escape_ascii()
            );
            assert!(world.queued.is_empty());
        }
    }
}

#[test]
fn an_oddly_spelled_author_in_a_local_domain_is_refused_without_authentication() {
    for from in [
        &b"B\xF6ss <boss@us.example>"[..],
        b"Boss, The <b..ss@us.example>",
    ] {
        let mut world = World::new();
        let message = [b"From: ", from, b"\r\n\r\nclick\r\n"].concat();
        let reply = world.bring("x@evil.example", &["ann@us.example"], &message);
        assert!(
            reply.starts_with("550 5.7.1 ") && reply.contains("us.example"),
            "{}: {reply}",
            from.escape_ascii()
        );
    }
}

#[test]
fn an_oddly_spelled_author_without_a_policy_is_accepted() {
    for from in [
        &b"B\xF6ss <a@far.example>"[..],
        b"[Boss] <a@far.example>",
        b"a..b@far.example",
    ] {
        let mut world = World::new();
        let message = [b"From: ", from, b"\r\n\r\nhello\r\n"].concat();
        let reply = world.bring("x@far.example", &["ann@us.example"], &message);
        assert!(
            reply.starts_with("250 "),
            "{}: {reply}",
            from.escape_ascii()
        );
    }
}

#[test]
fn an_unreadable_from_is_refused_if_dmarc_is_enforced_or_the_message_is_forwarded() {
    for mode in ["enforce", "report", "off"] {
        let table = format!("[domain.\"us.example\"]\ndmarc = \"{mode}\"\n");
        let mut world = World::with("", &table);
        let message = b"From: Boss <boss@bank.example\r\n\r\nclick\r\n";
        let reply = world.bring("x@evil.example", &["ann@us.example"], message);
        assert!(reply.starts_with("550 5.6.0 "), "{mode}: {reply}");
        let reply = world.bring("x@evil.example", &["box@us.example"], message);
        let is_refused = reply.starts_with("550 5.6.0 ");
        assert_eq!(is_refused, mode == "enforce", "{mode}: {reply}");
    }
}

#[test]
fn dmarc_report_and_off_accept_the_message() {
    for (mode, said) in [("report", true), ("off", false)] {
        let table = format!("[domain.\"us.example\"]\ndmarc = \"{mode}\"\n");
        let mut world = World::with("", &table);
        bank(&mut world, "reject");
        let sent = world.forward("x@evil.example", &["ann@us.example"], SPOOF);
        let text = String::from_utf8_lossy(&sent[0].text).into_owned();
        assert_eq!(text.contains("dmarc=fail"), said, "{text}");
        assert!(!text.contains("X-Spam-Flag"));
        world.nothing_is_left();
    }
}

#[test]
fn the_strictest_recipient_domain_decides() {
    let table = "[domain.\"us.example\"]\ndmarc = \"off\"\n";
    let mut world = World::with("", table);
    bank(&mut world, "reject");
    let both = ["ann@us.example", "bob@two.example"];
    assert!(
        world
            .bring("x@evil.example", &both, SPOOF)
            .starts_with("550 5.7.1 ")
    );
    // The recipients of the previous transaction do not count.
    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<x@evil.example>");
    world.say("RCPT TO:<bob@two.example>");
    world.say("RSET");
    world.offer("x@evil.example", &["ann@us.example"], SPOOF);
    let reply = world.hear();
    assert!(reply.starts_with("250 "), "{reply}");
    world.leave();
    world.nothing_is_left();
}

#[test]
fn quarantine_is_a_mark_or_a_refusal() {
    let mut world = World::new();
    bank(&mut world, "quarantine");
    let sent = world.forward("x@evil.example", &["ann@us.example"], SPOOF);
    let (header, _) = divide(&sent[0].text);
    let flag = header.named("X-Spam-Flag").next().expect("a mark");
    assert_eq!(flag.unfolded(), b"YES");
    assert!(sent[0].text.ends_with(SPOOF));
    world.nothing_is_left();

    let table = "[domain.\"us.example\"]\nquarantine = \"refuse\"\n";
    let mut world = World::with("", table);
    bank(&mut world, "quarantine");
    let reply = world.bring("x@evil.example", &["ann@us.example"], SPOOF);
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    world.nothing_is_left();
}

#[test]
fn policy_none_accepts_and_records_the_failure() {
    let mut world = World::new();
    bank(&mut world, "none");
    let sent = world.forward("x@evil.example", &["ann@us.example"], SPOOF);
    let text = String::from_utf8_lossy(&sent[0].text).into_owned();
    assert!(
        text.contains("dmarc=fail") && !text.contains("X-Spam-Flag"),
        "{text}"
    );
    let counters = world.stage.engine.counters();
    assert_eq!((counters.dmarc_failed, counters.dmarc_refused), (1, 0));
    world.nothing_is_left();
}

#[test]
fn a_temporary_dns_failure_defers_the_message() {
    for saying in [Saying::ServFail, Saying::Silence] {
        let mut world = World::new();
        bank(&mut world, "reject");
        world.zone.insert("bank.example".into(), saying);
        let reply = world.bring("service@bank.example", &["ann@us.example"], SPOOF);
        assert!(reply.starts_with("451 4.7.0 "), "{reply}");
        assert_eq!(world.stage.engine.counters().dmarc_refused, 0);
        world.nothing_is_left();
    }
}

#[test]
fn a_message_without_a_policy_is_accepted() {
    let mut world = World::new();
    let sent = world.forward("x@evil.example", &["ann@us.example"], SPOOF);
    assert!(sent[0].text.ends_with(SPOOF));
    world.nothing_is_left();
}

#[test]
fn a_failed_policy_lookup_defers_a_message_that_would_be_forwarded() {
    for saying in [Saying::ServFail, Saying::Silence] {
        let mut world = World::new();
        world.zone.insert("_dmarc.bank.example".into(), saying);
        let reply = world.bring("x@evil.example", &["ann@us.example"], SPOOF);
        assert!(reply.starts_with("451 4.7.0 "), "{reply}");
        // SPF pass for the author's domain makes a policy unnecessary.
        world.say_at("bank.example", &format!("v=spf1 ip4:{CLIENT} -all"));
        let sent = world.forward("x@bank.example", &["ann@us.example"], SPOOF);
        assert_eq!(sent.len(), 1);
    }
    // A message for a local mailbox is not sent under a name of this host.
    let mut world = World::new();
    world
        .zone
        .insert("_dmarc.bank.example".into(), Saying::ServFail);
    let reply = world.bring("x@evil.example", &["box@us.example"], SPOOF);
    assert!(reply.starts_with("250 "), "{reply}");
}

#[test]
fn a_message_with_two_from_fields_is_refused() {
    let mut world = World::new();
    let message = b"From: a@one.example\r\nFrom: service@bank.example\r\n\r\nx\r\n";
    let reply = world.bring("x@evil.example", &["ann@us.example"], message);
    assert!(reply.starts_with("55"), "{reply}");
    world.nothing_is_left();
}

#[test]
fn forged_results_in_our_name_are_removed_and_nothing_else_changes() {
    const KEPT: [&str; 5] = [
        "Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n",
        "authentication-results: other.example; spf=pass\r\n",
        "From: a@author.example\r\n",
        "Authentication-Results: mx.us.example.evil.example; dkim=pass\r\n",
        "X-Odd:  \t folded\r\n \r\n\tand\ttabs  \r\n",
    ];
    const FORGED: [&str; 8] = [
        "Authentication-Results: mx.us.example; dmarc=pass header.from=bank.example\r\n",
        "AUTHENTICATION-results:\r\n\tMX.us.Example 1;\r\n spf=pass\r\n",
        "Authentication-Results: (c (d) \\) e) mx.us.example (f); none\r\n",
        "Authentication-Results : \"mx.us.example\"; none\r\n",
        "Authentication-Results:mx.us.example\r\n",
        "Authentication-Results\t:\u{a0}mx.us.example\u{3000}; dmarc=pass\r\n",
        "Authentication-Results: \u{c}mx.us.example\u{1f}; dmarc=pass\r\n",
        "Authentication-Results: =?utf-8?q?mx=2Eus=2Eexample?=; dmarc=pass\r\n",
    ];
    let body = "\r\n\r\nAuthentication-Results: mx.us.example; spf=pass\r\n\r\n ..x \r\n\r\n\r\n";
    let mut with_all: String = (KEPT.iter().zip(FORGED))
        .map(|(kept, forged)| format!("{forged}{kept}"))
        .collect();
    with_all.push_str(&FORGED[KEPT.len()..].concat());
    for pieces in [1, 10_000] {
        let mut world = World::new();
        world.connect(Listener::Smtp);
        world.say("MAIL FROM:<a@author.example>");
        world.say("RCPT TO:<ann@us.example>");
        world.say("DATA");
        let wire = format!("{with_all}{body}").replace("\r\n.", "\r\n..");
        for piece in wire.as_bytes().chunks(pieces) {
            world.feed(piece);
        }
        world.feed(b".\r\n");
        let reply = world.hear();
        assert!(reply.starts_with("250 "), "{reply}");
        let text = text(&world.queued[0]);
        let expected = format!("{}{body}", KEPT.concat());
        assert!(
            text.ends_with(expected.as_bytes()),
            "{}",
            text.escape_ascii()
        );
        let (header, _) = divide(&text);
        let ours = header
            .named("Authentication-Results")
            .filter(|field| chopar::auth::results::claims_id(field.value(), "mx.us.example"));
        assert_eq!(ours.count(), 1, "our own");
        world.leave();
        world.nothing_is_left();
    }
}

#[test]
fn results_are_written_to_the_header() {
    let mut world = World::new();
    world.say_at("author.example", &format!("v=spf1 ip4:{CLIENT} -all"));
    world.say_at("_dmarc.author.example", "v=DMARC1; p=reject");
    let message = signed(b"From: a@author.example\r\nSubject: x\r\n\r\nbody\r\n");
    let sent = world.forward("a@author.example", &["box@us.example"], &message);
    assert!(sent.is_empty(), "it goes into a maildir");
    let text = text(&world.queued[0]);
    let (header, _) = divide(&text);
    let results = header.named("Authentication-Results").next().expect("ours");
    let results = String::from_utf8_lossy(&results.unfolded()).into_owned();
    for found in [
        "mx.us.example",
        "spf=pass",
        "dkim=pass",
        "dmarc=pass",
        "arc=none",
    ] {
        assert!(results.contains(found), "{found}: {results}");
    }
    assert!(!header.has("ARC-Seal"), "it stays here");
    assert!(text.ends_with(&message));
}

#[test]
fn a_client_that_leaves_before_the_dns_answers_leaves_nothing_behind() {
    let long: Vec<u8> = [SPOOF, &b"x".repeat(70), b"\r\n"].concat();
    let long = [long, b"0123456789abcdef\r\n".repeat(30_000)].concat();
    for (message, discarded) in [(SPOOF, 0), (&long, 1)] {
        let mut world = World::new();
        bank(&mut world, "reject");
        world.zone.insert("bank.example".into(), Saying::Silence);
        world.connect(Listener::Smtp);
        world.offer("service@bank.example", &["ann@us.example"], message);
        world.pass(Duration::from_millis(300), |_| false);
        assert!(
            world.stage.engine.tables().questions > 0,
            "it is being examined"
        );
        world.hang_up();
        assert_eq!(world.discarded, discarded);
        assert!(world.queued.is_empty());
        world.nothing_is_left();
    }
}

#[test]
fn spf_asks_for_the_a_labels_of_a_sender_in_u_labels() {
    let mut world = World::new();
    world.say_at(
        "xn--bcher-kva.example",
        &format!("v=spf1 ip4:{CLIENT} -all"),
    );
    world.connect(Listener::Smtp);
    let from = "MAIL FROM:<j\u{fc}rgen@b\u{fc}cher.example> SMTPUTF8";
    assert!(world.say(from).starts_with("250 "));
    assert!(world.say("RCPT TO:<box@us.example>").starts_with("250 "));
    assert!(world.say("DATA").starts_with("354 "));
    world.feed("From: j\u{fc}rgen@b\u{fc}cher.example\r\n\r\nx\r\n.\r\n".as_bytes());
    let reply = world.hear();
    assert!(reply.starts_with("250 "), "{reply}");
    let fields = String::from_utf8_lossy(&world.queued[0].fields).into_owned();
    assert!(fields.contains("spf=pass"), "{fields}");
}
