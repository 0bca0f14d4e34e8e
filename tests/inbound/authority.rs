//! Permission to send: attacks by clients that have none.

use std::time::Duration;

use chopar::engine::event::Listener;
use chopar::envelope::MessageOrigin;
use chopar::limits::RETURN_USES_MAX;
use chopar::queue::{DiskError, Operation};

use crate::world::{CLIENT, Saying, World, divide, text};

const MESSAGE: &[u8] = b"From: a@author.example\r\nSubject: x\r\n\r\nbody\r\n";
const BOUNCE: &[u8] = b"From: MAILER-DAEMON@far.example\r\nSubject: failed\r\n\r\nx\r\n";
/// No rate limits.
const FAST: &str =
    "[abuse]\nmessages_per_minute = 0\nrecipients_per_minute = 0\nconnections_per_minute = 0\n";

/// The rewritten reverse-path of `sender` after forwarding.
fn rewritten(world: &mut World, sender: &str) -> String {
    let sent = world.forward(sender, &["ann@us.example"], MESSAGE);
    sent[0].from.clone()
}

/// The reply to RCPT after MAIL with this sender.
fn asks(world: &mut World, from: &str, to: &str) -> String {
    world.connect(Listener::Smtp);
    let reply = world.say(&format!("MAIL FROM:<{from}>"));
    assert!(reply.starts_with("250 "), "{reply}");
    let reply = world.say(&format!("RCPT TO:<{to}>"));
    world.leave();
    reply
}

#[test]
fn no_sender_can_build_an_srs_address_for_a_victim() {
    let mut world = World::new();
    for sender in [
        "SRS1=x=DD=victim.example=bob@evil.example",
        "SRS0=x=DD=victim.example=bob@evil.example",
        "SRS1=x=us.example==HHHHHHHH=DD=victim.example=bob@evil.example",
        "SRS1=x=victim.example==a=b=c=bob@evil.example",
    ] {
        let made = rewritten(&mut world, sender);
        assert!(made.ends_with("@us.example"), "{made}");
        let (tag, rest) = made.split_at(4);
        let other = if tag == "SRS0" { "SRS1" } else { "SRS0" };
        let (hash, behind) = rest[1..].split_once('=').expect("a hash");
        let (_, inner) = behind.split_once('=').expect("a day");
        for forged in [
            format!("{other}{rest}"),
            format!("{other}={hash}={inner}"),
            format!("SRS0={hash}=DD=victim.example=bob@us.example"),
            format!("SRS0={behind}"),
            format!("SRS0={inner}"),
            made.replace("us.example", "two.example"),
        ] {
            let reply = asks(&mut world, "", &forged);
            assert!(reply.starts_with("550 "), "{forged}: {reply}");
        }
        // A rewritten address leads back to the sender, or to a forwarder that must recognize it.
        let reply = asks(&mut world, "", &made);
        if reply.starts_with("250 ") {
            let sent = world.forward("", &[&made], BOUNCE);
            let to = &sent[0].to[0];
            assert!(
                to == sender || to == "SRS0=a=b=c=bob@victim.example",
                "{to}"
            );
        }
    }
    world.nothing_is_left();
}

#[test]
fn no_spelling_of_a_recipient_relays() {
    let keys = format!("{FAST}unknown_recipients = 0\n");
    let mut world = World::with(&keys, "");
    for to in [
        "x@elsewhere.example",
        "x@elsewhere.example.",
        "x@ELSEWHERE.example",
        "x@us.example.elsewhere.example",
        "x@elsewhere.example.us.example",
        "ann@sub.us.example",
        "ann@us.example..",
        "ann@.us.example",
        "ann@us.example:25",
        "ann@xn--us-.example",
        "ann@example",
        "ann@mx.us.example",
        "ann@localhost",
        "ann@203.0.113.25",
        "ann@[203.0.113.25]",
        "ann@[127.0.0.1]",
        "ann@[IPv6:::1]",
        "ann@[IPv6:::ffff:203.0.113.25]",
        "ann",
        "root",
        "\"postmaster@elsewhere.example\"",
        "x%elsewhere.example@us.example",
        "x%elsewhere.example%far.example@us.example",
        "\"x%elsewhere.example\"@us.example",
        "\"x\\%elsewhere.example\"@us.example",
        "\"x@elsewhere.example\"@us.example",
        "\"x\\@elsewhere.example\"@us.example",
        "\"ann@us.example\"@elsewhere.example",
        "x@elsewhere.example@us.example",
        "elsewhere.example!x@us.example",
        "elsewhere.example!x@elsewhere.example",
        "@us.example:x@elsewhere.example",
        "@us.example,@two.example:x@elsewhere.example",
        "@elsewhere.example:ann@us.example",
        "us.example:x@elsewhere.example",
        "ann@us.example,x@elsewhere.example",
        "ann@us.example> <x@elsewhere.example",
        "ann@us.example x@elsewhere.example",
        "SRS0=AAAAAAAA=AA=elsewhere.example=x@us.example",
        "srs0+AAAAAAAA=AA=elsewhere.example=x@us.example",
        "\"SRS0=AAAAAAAA=AA=elsewhere.example=x\"@two.example",
        "SRS0=AAAAAAAA=AA=elsewhere.example=x@mx.us.example",
        "SRS0==AA=elsewhere.example=x@us.example",
        "SRS1=AAAAAAAAAA=elsewhere.example==a=b=c=x@us.example",
        "SRS1=AAAAAAAA=elsewhere.example=x@us.example",
        "SRS0=elsewhere.example=x@us.example",
        "SRS0=AAAAAAAA=AA=elsewhere.example=x@elsewhere.example",
    ] {
        for from in ["", "x@evil.example", "ann@us.example"] {
            let reply = asks(&mut world, from, to);
            assert!(reply.starts_with('5'), "{from}, {to}: {reply}");
        }
    }
    // With SMTPUTF8 there are more spellings of a name.
    for to in [
        "x@\u{ff45}lsewhere.example",
        "ann\u{ff20}elsewhere.example@us.example",
        "ann@us.example\u{3002}elsewhere.example",
        "ann@elsewhere\u{3002}example",
    ] {
        world.connect(Listener::Smtp);
        let reply = world.say("MAIL FROM:<x@evil.example> SMTPUTF8");
        assert!(reply.starts_with("250 "), "{reply}");
        let reply = world.say(&format!("RCPT TO:<{to}>"));
        assert!(reply.starts_with('5'), "{to}: {reply}");
        world.leave();
    }
    // No earlier command changes that.
    world.connect(Listener::Smtp);
    for (line, code) in [
        ("MAIL FROM:<ann@us.example> AUTH=ann@us.example", "250 "),
        ("RCPT TO:<ann@us.example>", "250 "),
        ("RCPT TO:<x@elsewhere.example>", "550 5.7.1 "),
        ("RSET", "250 "),
        ("RCPT TO:<ann@us.example>", "503 "),
        ("MAIL FROM:<>", "250 "),
        ("EHLO mail.far.example", "250 "),
        ("DATA", "503 "),
        ("MAIL FROM:<>", "250 "),
        ("RCPT TO:<x@elsewhere.example>", "550 5.7.1 "),
        ("DATA", "554 "),
        ("AUTH PLAIN AGFubkB1cy5leGFtcGxlAHBlbmNpbA==", "5"),
        ("PROXY TCP4 10.0.0.9 192.0.2.1 1 25", "5"),
        ("XCLIENT ADDR=127.0.0.1", "5"),
        ("XFORWARD ADDR=127.0.0.1", "5"),
        ("RCPT TO:<x@elsewhere.example>", "550 5.7.1 "),
    ] {
        let reply = world.say(line);
        assert!(reply.starts_with(code), "{line}: {reply}");
    }
    world.leave();
    for listener in [Listener::Submission, Listener::Submissions] {
        world.connect(listener);
        let reply = world.say("MAIL FROM:<ann@us.example>");
        assert!(reply.starts_with("530 "), "{reply}");
        let reply = world.say("RCPT TO:<ann@us.example>");
        assert!(reply.starts_with("503 "), "{reply}");
        world.leave();
    }
    assert!(world.queued.is_empty());
}

#[test]
fn a_return_address_refuses_mail_with_an_author_in_our_domains() {
    for mode in ["enforce", "report", "off"] {
        let table = format!("[domain.\"us.example\"]\ndmarc = \"{mode}\"\n");
        let mut world = World::with("", &table);
        world.say_at("_dmarc.bank.example", "v=DMARC1; p=reject");
        world.say_at("bank.example", "v=spf1 -all");
        let back = rewritten(&mut world, "victim@source.example");
        for name in [
            "us.example",
            "sub.us.example",
            "two.example",
            "mx.us.example",
        ] {
            let message = format!("From: boss@{name}\r\n\r\npay\r\n");
            let reply = world.bring("", &[&back], message.as_bytes());
            assert!(reply.starts_with("550 5.7.1 "), "{mode}, {name}: {reply}");
        }
        let spoof = b"From: service@bank.example\r\n\r\npay\r\n";
        let reply = world.bring("", &[&back], spoof);
        let refused = mode == "enforce";
        assert_eq!(reply.starts_with("550 5.7.1 "), refused, "{mode}: {reply}");
        let sent = world.forward("", &[&back], BOUNCE);
        let to = sent.last().map(|sent| sent.to.as_slice());
        assert_eq!(to, Some(&["victim@source.example".to_owned()][..]));
        world.nothing_is_left();
    }
}

#[test]
fn a_return_address_accepts_an_auto_reply_only_with_spf_pass() {
    let mut world = World::new();
    let back = rewritten(&mut world, "first@source.example");
    let answer = b"From: auto@far.example\r\nAuto-Submitted: auto-replied\r\n\r\naway\r\n";
    let reply = world.bring("auto@far.example", &[&back], answer);
    assert!(
        reply.starts_with("550 5.7.1 ") && reply.contains("vouches"),
        "{reply}"
    );
    world.zone.insert("far.example".into(), Saying::ServFail);
    let reply = world.bring("auto@far.example", &[&back], answer);
    assert!(reply.starts_with("451 4.7.0 "), "{reply}");
    world.nothing_is_left();

    let mut world = World::new();
    let back = rewritten(&mut world, "first@source.example");
    world.say_at("far.example", &format!("v=spf1 ip4:{CLIENT} -all"));
    let sent = world.forward("auto@far.example", &[&back], answer);
    assert_eq!(sent[0].to, ["first@source.example"]);
    // An auto-reply is forwarded like any other message, since its own sender would fail SPF at the next host.
    let path = &sent[0].from;
    assert!(
        path.starts_with("SRS0=") && path.ends_with("=far.example=auto@us.example"),
        "{path}"
    );
    assert!(divide(&sent[0].text).0.has("ARC-Seal"));
    world.nothing_is_left();
}

#[test]
fn no_forward_makes_a_spoofed_author_of_the_parent_domain_pass_dmarc() {
    // This host serves web.corp.example, and forwards under that name.
    let authors = [
        "boss@corp.example",
        "boss@pay.corp.example",
        "\"x@y\" <b@corp.example>",
    ];
    for mode in ["enforce", "report", "off"] {
        for policy in ["none", "quarantine"] {
            let table = format!("[domain.\"web.corp.example\"]\ndmarc = \"{mode}\"\n");
            let mut world = World::with(FAST, &table);
            world.say_at("_dmarc.corp.example", &format!("v=DMARC1; p={policy}"));
            for author in authors {
                let message = format!("From: {author}\r\n\r\npay\r\n");
                for from in ["x@evil.example", ""] {
                    let to = ["ann@web.corp.example"];
                    let reply = world.bring(from, &to, message.as_bytes());
                    assert!(
                        reply.starts_with("550 5.7.1 ") && reply.contains("corp.example"),
                        "{mode}, {policy}, {author}: {reply}"
                    );
                }
            }
            let mine = b"From: boss@corp.example\r\n\r\nhello\r\n";
            world.say_at("corp.example", &format!("v=spf1 ip4:{CLIENT} -all"));
            let sent = world.forward("boss@corp.example", &["ann@web.corp.example"], mine);
            assert!(
                sent[0].from.ends_with("@web.corp.example"),
                "{}",
                sent[0].from
            );
            // By then, the cached look-ups have expired.
            world.pass(std::time::Duration::from_secs(120), |_| false);
            world
                .zone
                .insert("_dmarc.corp.example".into(), Saying::ServFail);
            let to = ["ann@web.corp.example"];
            let reply = world.bring("x@evil.example", &to, mine);
            assert!(reply.starts_with("451 4.7.0 "), "{mode}: {reply}");
            world.nothing_is_left();
        }
    }
    // Without a policy, DMARC cannot pass at any host.
    let mut world = World::new();
    let mine = b"From: boss@corp.example\r\n\r\nhello\r\n";
    let sent = world.forward("x@evil.example", &["ann@web.corp.example"], mine);
    assert_eq!(sent.len(), 1);
}

#[test]
fn an_author_with_a_failed_policy_lookup_defers_the_message_whatever_the_other_authors() {
    let mut world = World::with(FAST, "");
    world.say_at("evil.example", &format!("v=spf1 ip4:{CLIENT} -all"));
    world
        .zone
        .insert("_dmarc.evil.example".into(), Saying::ServFail);
    world.say_at("_dmarc.mild.example", "v=DMARC1; p=quarantine");
    world
        .zone
        .insert("_dmarc.bank.example".into(), Saying::ServFail);
    for from in [
        "x@evil.example, boss@bank.example",
        "boss@bank.example, x@evil.example",
        "x@mild.example, boss@bank.example",
    ] {
        let message = format!("From: {from}\r\n\r\nx\r\n");
        let reply = world.bring("x@evil.example", &["ann@us.example"], message.as_bytes());
        assert!(reply.starts_with("451 4.7.0 "), "{from}: {reply}");
    }
    world.nothing_is_left();
}

#[test]
fn a_dsn_to_a_sender_without_spf_pass_does_not_contain_the_message() {
    let route = "[[route]]\ndomain = \"other.example\"\nvia = [\"smtp://203.0.113.25\"]\n";
    for (spf, carries) in [
        ("v=spf1 ?all".to_owned(), false),
        (format!("v=spf1 ip4:{CLIENT} -all"), true),
    ] {
        let mut world = World::with("", route);
        world.say_at("victim.example", &spf);
        world.connect(Listener::Smtp);
        for line in [
            "MAIL FROM:<bob@victim.example> RET=FULL ENVID=1",
            "RCPT TO:<ten@us.example> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;x@y.example",
        ] {
            let reply = world.say(line);
            assert!(reply.starts_with("250 "), "{reply}");
        }
        assert!(world.say("DATA").starts_with("354 "));
        world.feed(b"From: a@author.example\r\n\r\nbuy this\r\n.\r\n");
        assert!(world.hear().starts_with("250 "));
        world.leave();
        world.pass(std::time::Duration::from_secs(60), |_| false);
        let dsns = world.queued.iter();
        let dsns = dsns.filter(|record| matches!(record.envelope.origin, MessageOrigin::Dsn(_)));
        let texts: Vec<String> = dsns
            .map(|record| String::from_utf8(text(record)).expect("ASCII"))
            .collect();
        assert!(!texts.is_empty() && (carries || texts.len() == 1));
        let carried = texts.iter().any(|text| text.contains("buy this"));
        assert_eq!(carried, carries, "{spf}");
        world.nothing_is_left();
    }
}

#[test]
fn a_return_address_has_a_limited_number_of_uses() {
    let mut world = World::with("", FAST);
    let back = rewritten(&mut world, "victim@source.example");
    let other = rewritten(&mut world, "other@source.example");
    // A refused message does not count as a use.
    for _ in 0..3 {
        let reply = world.bring("", &[&back], b"From: boss@us.example\r\n\r\nx\r\n");
        assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    }
    for number in 0..RETURN_USES_MAX {
        let reply = world.bring("", &[&back], BOUNCE);
        assert!(reply.starts_with("250 "), "{number}: {reply}");
    }
    let reply = asks(&mut world, "", &back);
    assert!(
        reply.starts_with("550 5.7.1 ") && reply.contains("Too many"),
        "{reply}"
    );
    // Every spelling counts as the same address, and no other address is affected.
    let reply = asks(&mut world, "", &back.to_uppercase());
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    let reply = world.bring("", &[&other], BOUNCE);
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(world.stage.engine.tables().clients.returns, 2);
    world.nothing_is_left();
}

#[test]
fn concurrent_sessions_share_the_uses_of_a_return_address() {
    let mut world = World::with("", FAST);
    let back = rewritten(&mut world, "victim@source.example");
    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<>");
    let reply = world.say(&format!("RCPT TO:<{back}>"));
    assert!(reply.starts_with("250 "), "{reply}");
    let early = world.put_aside();
    for _ in 0..RETURN_USES_MAX {
        world.bring("", &[&back], BOUNCE);
    }
    world.take_up(early);
    assert!(world.say("DATA").starts_with("354 "));
    world.feed(&[BOUNCE, b".\r\n"].concat());
    let reply = world.hear();
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    world.leave();
    world.nothing_is_left();
}

#[test]
fn a_message_that_the_disk_refuses_after_its_client_left_takes_no_use() {
    let mut world = World::with("", FAST);
    let back = rewritten(&mut world, "victim@source.example");
    for _ in 0..RETURN_USES_MAX {
        world.connect(Listener::Smtp);
        world.is_disk_slow = true;
        world.offer("", &[&back], BOUNCE);
        world.hang_up();
        let disk = world.stage.disk.clone();
        disk.fail(Operation::Write, 0, u64::MAX, DiskError::NoSpace);
        world.write();
        disk.mend();
        world.pass(Duration::from_secs(60), |_| false);
    }
    let reply = world.bring("", &[&back], BOUNCE);
    assert!(reply.starts_with("250 "), "{reply}");
    world.nothing_is_left();
}

#[test]
fn a_transaction_has_one_return_address() {
    let mut world = World::new();
    let one = rewritten(&mut world, "one@source.example");
    let two = rewritten(&mut world, "two@source.example");
    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<>");
    for (to, code) in [
        (one.as_str(), "250 "),
        ("ann@us.example", "250 "),
        (&one, "250 "),
        (&two, "452 4.5.3 "),
    ] {
        let reply = world.say(&format!("RCPT TO:<{to}>"));
        assert!(reply.starts_with(code), "{to}: {reply}");
    }
    world.leave();
    world.nothing_is_left();
}

#[test]
fn a_bounce_to_an_srs1_address_of_another_forwarder_reaches_the_original_sender() {
    let mut world = World::new();
    let once = rewritten(&mut world, "bob@outside.example");
    let behind = once.strip_prefix("SRS0").expect("SRS0");
    let (behind, _) = behind.rsplit_once('@').expect("an address");
    let theirs = format!("SRS1=theirs=us.example={behind}@other.example");
    let again = rewritten(&mut world, &theirs);
    assert!(
        again.starts_with("SRS1=") && again.ends_with("@us.example"),
        "{again}"
    );
    let sent = world.forward("", &[&again], BOUNCE);
    assert_eq!(sent[0].to, ["bob@outside.example"]);
    world.nothing_is_left();
}

#[test]
fn no_sender_with_an_address_literal_gets_a_return_address() {
    let mut world = World::new();
    let back = rewritten(&mut world, "root@[127.0.0.1]");
    let reply = asks(&mut world, "", &back);
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
}

#[test]
fn no_domain_leads_to_this_host_by_a_mapped_address() {
    let route = "[[route]]\ndomain = \"other.example\"\nvia = [\"smtp://203.0.113.25\"]\n";
    for (address, count) in [
        ("2001:db8::25", 1),
        ("::1", 0),
        ("::ffff:127.0.0.1", 0),
        ("::ffff:0.0.0.0", 0),
    ] {
        let mut world = World::with("", route);
        let address = address.parse().expect("an address");
        world.hosts.insert("far.example".into(), address);
        let sent = world.forward("a@author.example", &["ann@us.example"], MESSAGE);
        assert_eq!(sent.len(), count, "{address}");
    }
}

#[test]
fn ten_failed_targets_cause_one_dsn_to_a_sender_without_spf_pass() {
    let route = "[[route]]\ndomain = \"other.example\"\nvia = [\"smtp://203.0.113.25\"]\n";
    let to = ["ten@us.example", "ann@us.example"];
    for (spf, count) in [
        (String::new(), 1),
        ("v=spf1 ?all".to_owned(), 1),
        ("v=spf1 -all".to_owned(), 0),
        (format!("v=spf1 ip4:{CLIENT} -all"), 11),
    ] {
        let mut world = World::with("", route);
        if !spf.is_empty() {
            world.say_at("victim.example", &spf);
        }
        // All of the targets fail at once, and one more recipient fails later.
        world
            .hosts
            .insert("far.example".into(), "::1".parse().expect("an address"));
        let reply = world.bring("bob@victim.example", &to, MESSAGE);
        assert!(reply.starts_with("250 "), "{reply}");
        world.pass(std::time::Duration::from_secs(60), |_| false);
        let notified = |world: &World| -> Vec<String> {
            let dsns = world.queued.iter();
            let dsns =
                dsns.filter(|record| matches!(record.envelope.origin, MessageOrigin::Dsn(_)));
            let texts = dsns.map(|record| String::from_utf8(text(record)).expect("ASCII"));
            texts.collect()
        };
        let texts = notified(&world);
        assert_eq!(texts.len(), count.min(10), "{spf}");
        if count == 1 {
            let words: Vec<&str> = texts[0].split_whitespace().collect();
            let words = words.join(" ");
            assert!(words.contains("this is the only notification"), "{words}");
        }
        // Failures days later cause no more DSNs for a sender without SPF pass.
        world.pass(std::time::Duration::from_secs(6 * 86_400), |_| false);
        let failed = |text: &&String| text.contains("Action: failed");
        assert_eq!(
            notified(&world).iter().filter(failed).count(),
            count,
            "{spf}"
        );
        world.nothing_is_left();
    }
}

#[test]
fn the_first_failure_causes_a_dsn_even_days_later() {
    let route = "[[route]]\ndomain = \"other.example\"\nvia = [\"smtp://203.0.113.25\"]\n";
    let mut world = World::with("", route);
    world
        .hosts
        .insert("far.example".into(), "::1".parse().expect("an address"));
    let reply = world.bring("bob@nowhere.example", &["ann@us.example"], MESSAGE);
    assert!(reply.starts_with("250 "), "{reply}");
    world.pass(std::time::Duration::from_secs(6 * 86_400), |_| false);
    let dsns = world.queued.iter();
    let dsns = dsns.filter(|record| matches!(record.envelope.origin, MessageOrigin::Dsn(_)));
    assert_eq!(dsns.count(), 1);
    world.nothing_is_left();
}

#[test]
fn mail_for_role_addresses_of_this_host_follows_the_rules_for_forwarding() {
    let tables =
        "[domain.\"us.example\"]\ndmarc = \"off\"\n[domain.\"two.example\"]\ndmarc = \"off\"\n";
    for role in ["postmaster", "abuse", "root"] {
        let to = format!("{role}@mx.us.example");
        let mut world = World::with("admin = \"me@far.example\"\n", tables);
        world.say_at("_dmarc.bank.example", "v=DMARC1; p=reject");
        let reply = world.bring("a@evil.example", &[&to], b"From: x@us.example\r\n\r\nx\r\n");
        assert!(reply.starts_with("550 5.7.1 "), "{role}: {reply}");
        let spoof = b"From: service@bank.example\r\n\r\nx\r\n";
        let reply = world.bring("a@evil.example", &[&to], spoof);
        assert!(reply.starts_with("550 5.7.1 "), "{role}: {reply}");
        let reply = world.bring("", &[&to], b"From: x@mx.us.example\r\n\r\nx\r\n");
        assert!(reply.starts_with("550 5.7.1 "), "{role}: {reply}");
        world.zone.insert("us.example".into(), Saying::ServFail);
        let reply = world.bring("a@us.example", &[&to], MESSAGE);
        assert!(reply.starts_with("451 4.7.0 "), "{role}: {reply}");

        let mut world = World::with("admin = \"me@far.example\"\n", "");
        let sent = world.forward("a@author.example", &[&to], MESSAGE);
        assert_eq!(sent[0].to, ["me@far.example"]);
        let path = &sent[0].from;
        assert!(path.starts_with("SRS0="), "{path}");
        let header = divide(&sent[0].text).0;
        assert!(header.has("Authentication-Results"));
        // The domain of this host has no key, so a domain with a key seals.
        assert!(header.has("ARC-Seal") && path.ends_with("@two.example"));
        let back = world.forward("", &[path], BOUNCE);
        assert_eq!(back[0].to, ["a@author.example"]);
        world.nothing_is_left();
    }
}

#[test]
fn a_deferred_recipient_does_not_affect_the_rules_for_others() {
    let keys = "abuse = { greylist = true, greylist_delay = \"2m\" }\n";
    let table = "[domain.\"two.example\"]\ndmarc = \"report\"\n";
    let spoof = b"From: service@bank.example\r\n\r\nx\r\n";
    let mut world = World::with(keys, table);
    world.say_at("_dmarc.bank.example", "v=DMARC1; p=reject");
    let greylisted = |world: &mut World, to: &str| {
        let reply = world.say(&format!("RCPT TO:<{to}>"));
        assert!(reply.starts_with("451 4.7.1 "), "{to}: {reply}");
    };
    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<a@evil.example>");
    greylisted(&mut world, "bob@two.example");
    world.pass(std::time::Duration::from_secs(121), |_| false);
    let reply = world.say("RCPT TO:<bob@two.example>");
    assert!(reply.starts_with("250 "), "{reply}");
    greylisted(&mut world, "ann@us.example");
    assert!(world.say("DATA").starts_with("354 "));
    world.feed(&[spoof.as_slice(), b".\r\n"].concat());
    let reply = world.hear();
    assert!(
        reply.starts_with("250 "),
        "its domain wants a report: {reply}"
    );

    // If both are accepted, the stricter rules apply.
    world.say("MAIL FROM:<a@evil.example>");
    greylisted(&mut world, "ann@us.example");
    world.pass(std::time::Duration::from_secs(121), |_| false);
    for to in ["bob@two.example", "ann@us.example"] {
        let reply = world.say(&format!("RCPT TO:<{to}>"));
        assert!(reply.starts_with("250 "), "{to}: {reply}");
    }
    assert!(world.say("DATA").starts_with("354 "));
    world.feed(&[spoof.as_slice(), b".\r\n"].concat());
    let reply = world.hear();
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    world.leave();
    world.nothing_is_left();
}
