//! Forwarding to another host: the reverse-path and the ARC seal.

use std::time::Duration;

use chopar::address::{Domain, Mailbox};
use chopar::auth::{arc, spf};
use chopar::engine::event::{Event, Listener};
use chopar::queue::JournalCompletion;

use crate::authenticity::signed;
use crate::stage::{RELAY, rewriter};
use crate::world::{CLIENT, Saying, Sent, World, divide, text};

const MESSAGE: &[u8] = b"From: a@author.example\r\nSubject: x\r\n\r\nbody\r\n";

fn froms(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(|sent| sent.from.as_str()).collect()
}

/// Whether this is `sender` rewritten by `forwarder`.
fn is_rewritten(path: &str, sender: &str, forwarder: &str) -> bool {
    let (local, domain) = sender.rsplit_once('@').expect("an address");
    path.starts_with("SRS0=") && path.ends_with(&format!("={domain}={local}@{forwarder}"))
}

/// The next host accepts the message: SPF for the forwarder, the author's DKIM, the seal, and so DMARC.
#[track_caller]
fn is_believed(world: &World, sent: &Sent) {
    let findings = world.judge(sent);
    assert!(findings.spf_is(spf::SpfResult::Pass));
    let dkim: Vec<bool> = findings
        .dkim
        .iter()
        .map(|one| one.outcome.is_ok())
        .collect();
    assert_eq!(dkim, [true]);
    let arc::ArcResult::Pass { .. } = findings.arc.outcome else {
        panic!("{:?}", findings.arc);
    };
    assert!(!findings.has_failed());
    let newest = findings.arc.sets.last().expect("a set");
    assert_eq!(
        newest.sealer.as_ref().map(|name| name.as_str()),
        Some("us.example")
    );
    assert!(newest.results.contains("dkim=pass"), "{}", newest.results);
}

#[test]
fn a_forwarded_message_passes_at_the_next_host() {
    let mut world = World::new();
    world.say_at("_dmarc.author.example", "v=DMARC1; p=reject");
    let message = signed(MESSAGE);
    let sent = world.forward("a@author.example", &["ann@us.example"], &message);
    assert_eq!(sent.len(), 1);
    assert!(
        is_rewritten(&sent[0].from, "a@author.example", "us.example"),
        "{}",
        sent[0].from
    );
    assert_eq!(sent[0].to, ["ann@far.example"]);
    assert!(sent[0].text.ends_with(&message));
    is_believed(&world, &sent[0]);
    world.nothing_is_left();
}

#[test]
fn a_second_forwarder_adds_its_set_to_the_chain() {
    let mut world = World::new();
    world.say_at("_dmarc.author.example", "v=DMARC1; p=reject");
    let first = world.forward("a@author.example", &["ann@us.example"], &signed(MESSAGE));
    let text = first[0].text.clone();
    // The first forwarder is one of our hosts, and SPF says so.
    let ours = format!("v=spf1 ip4:{CLIENT} ip4:{RELAY} -all");
    world.say_at("us.example", &ours);
    let second = world.forward(&first[0].from, &["ann@us.example"], &text);
    let findings = world.judge(&second[0]);
    assert_eq!(findings.arc.sets.len(), 2);
    is_believed(&world, &second[0]);
    // A sender that we rewrote before is ours, and is not rewritten again.
    assert_eq!(second[0].from, first[0].from);
}

#[test]
fn the_seal_of_a_trusted_forwarder_replaces_the_spf_that_forwarding_broke() {
    let with_policy = |tables: &str| {
        let mut world = World::with("", tables);
        world.say_at("_dmarc.author.example", "v=DMARC1; p=reject");
        world.say_at("author.example", &format!("v=spf1 ip4:{CLIENT} -all"));
        world
    };
    // Only SPF authenticates the message, and forwarding breaks SPF.
    let sent = with_policy("").forward("a@author.example", &["ann@us.example"], MESSAGE);
    let (path, text) = (&sent[0].from, &sent[0].text);
    let mut distrustful = with_policy("");
    distrustful.say_at("us.example", "v=spf1 -all");
    let reply = distrustful.bring(path, &["bob@two.example"], text);
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");

    let mut trusting = with_policy("[arc]\ntrusted = [\"us.example\"]\n");
    trusting.say_at("us.example", "v=spf1 -all");
    trusting.forward(path, &["bob@two.example"], text);
    // The seal covers the message as it was, not what was added later.
    let changed = String::from_utf8(text.clone()).expect("ASCII");
    let changed = changed.replace("\r\n\r\nbody", "\r\n\r\nbuy");
    let reply = trusting.bring(path, &["bob@two.example"], changed.as_bytes());
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
}

#[test]
fn a_streamed_message_is_verified_sealed_and_forwarded() {
    let mut world = World::new();
    let body = "a line that makes this message long, again and again\r\n.\r\n".repeat(12_000);
    let message = [MESSAGE, body.as_bytes()].concat();
    assert!(message.len() > 2 * 256 * 1024);
    let forged = b"Authentication-Results: mx.us.example; dmarc=pass\r\n";
    let signed = signed(&message);
    let wire = [forged.as_slice(), &signed].concat();
    // The client stuffs its dots.
    let wire = String::from_utf8(wire)
        .expect("ASCII")
        .replace("\r\n.", "\r\n..");
    let sent = world.forward("a@author.example", &["ann@us.example"], wire.as_bytes());
    assert!(sent[0].text.ends_with(&signed));
    assert!(
        !sent[0]
            .text
            .windows(forged.len())
            .any(|window| window == forged)
    );
    is_believed(&world, &sent[0]);
    world.nothing_is_left();
}

#[test]
fn a_message_without_a_body_and_a_chunked_one_are_sealed() {
    let mut world = World::new();
    let message = signed(b"From: a@author.example\r\nSubject: no body\r\n");
    let sent = world.forward("a@author.example", &["ann@us.example"], &message);
    is_believed(&world, &sent[0]);

    let message = signed(MESSAGE);
    let (first, last) = message.split_at(message.len() / 2);
    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<a@author.example>");
    world.say("RCPT TO:<ann@us.example>");
    for (chunk, end) in [(first, ""), (last, " LAST")] {
        world.feed(format!("BDAT {}{end}\r\n", chunk.len()).as_bytes());
        world.feed(chunk);
        let reply = world.hear();
        assert!(reply.starts_with("250 "), "{reply}");
    }
    world.leave();
    world.pass(Duration::from_secs(1), |_| false);
    let sent = std::mem::take(&mut world.sent);
    is_believed(&world, &sent[0]);
    world.nothing_is_left();
}

#[test]
fn mail_to_a_host_named_by_an_alias_is_sealed_and_keeps_its_sender_if_the_address_is_ours() {
    let mut world = World::new();
    let reply = world.bring("a@author.example", &["up@us.example"], &signed(MESSAGE));
    assert!(reply.starts_with("250 "), "{reply}");
    let record = world.queued.pop().expect("a message");
    assert!(divide(&record.fields).0.has("ARC-Seal"));
    assert_eq!(record.envelope.recipients[0].reverse_path, None);
    let way = record.envelope.recipients[0].destination.as_ref();
    assert_eq!(
        way.map(ToString::to_string).as_deref(),
        Some("via mx1.us.example:25")
    );
}

#[test]
fn each_target_of_an_alias_gets_the_message_once() {
    let mut world = World::new();
    let both = ["twice@us.example", "twice@us.example", "box@us.example"];
    assert!(
        world
            .bring("a@author.example", &both, MESSAGE)
            .starts_with("250 ")
    );
    let recipients = &world.queued[0].envelope.recipients;
    let ways: Vec<_> = (recipients.iter())
        .filter_map(|one| Some(one.destination.as_ref()?.to_string()))
        .collect();
    assert_eq!(
        ways,
        [
            "maildir:/var/mail/a",
            "maildir:/var/mail/b",
            "maildir:/var/mail/box"
        ]
    );
}

#[test]
fn each_forwarder_has_a_transaction_of_its_own() {
    let mut world = World::new();
    let both = ["ann@us.example", "bob@two.example"];
    let mut sent = world.forward("a@author.example", &both, MESSAGE);
    sent.sort_by(|one, other| one.to.cmp(&other.to));
    assert_eq!(sent.len(), 2);
    assert_eq!(
        (sent[0].to.as_slice(), sent[1].to.as_slice()),
        (
            &["ann@far.example".to_owned()][..],
            &["bob@far.example".to_owned()][..]
        )
    );
    assert!(is_rewritten(
        &sent[0].from,
        "a@author.example",
        "us.example"
    ));
    assert!(is_rewritten(
        &sent[1].from,
        "a@author.example",
        "two.example"
    ));
    assert_eq!(world.stage.engine.counters().forwarded, 2);

    // The domain whose alias leads out gives its name, not the recipient's domain.
    let sent = world.forward("a@author.example", &["own@us.example"], MESSAGE);
    assert!(is_rewritten(
        &sent[0].from,
        "a@author.example",
        "two.example"
    ));

    // The null reverse-path is not rewritten, so one transaction is enough.
    let sent = world.forward("", &both, MESSAGE);
    assert_eq!(froms(&sent), [""]);
    world.nothing_is_left();
}

#[test]
fn an_unauthenticated_sender_in_our_domain_is_refused_without_spf_pass() {
    let message = b"From: x@us.example\r\n\r\nx\r\n";
    let other = b"From: x@author.example\r\n\r\nx\r\n";
    let mut world = World::new();
    // Sent from this host, it would pass as ours anywhere.
    for (path, message) in [
        ("a@author.example", message.as_slice()),
        ("", message),
        ("pencil@us.example", other),
        ("pencil@sub.us.example", other),
    ] {
        let reply = world.bring(path, &["ann@us.example"], message);
        assert!(
            reply.starts_with("550 5.7.1 ") && reply.contains("us.example"),
            "{path}: {reply}"
        );
    }
    let mut world = World::new();
    world.say_at("us.example", &format!("v=spf1 ip4:{CLIENT} -all"));
    let sent = world.forward("pencil@us.example", &["ann@us.example"], message);
    assert_eq!(froms(&sent), ["pencil@us.example"]);
    // A failed look-up proves nothing, and is temporary.
    let mut failing = World::new();
    failing.zone.insert("us.example".into(), Saying::ServFail);
    let reply = failing.bring("pencil@us.example", &["ann@us.example"], message);
    assert!(reply.starts_with("451 4.7.0 "), "{reply}");
}

#[test]
fn own_domain_spoofing_is_refused_whatever_the_dmarc_mode() {
    let message = b"From: x@us.example\r\n\r\nx\r\n";
    for mode in ["report", "off"] {
        let table = format!("[domain.\"us.example\"]\ndmarc = \"{mode}\"\n");
        let mut lax = World::with("", &table);
        lax.say_at("_dmarc.bank.example", "v=DMARC1; p=reject");
        let spoof = b"From: x@bank.example\r\n\r\nx\r\n";
        let sent = lax.forward("a@evil.example", &["ann@us.example"], spoof);
        assert_eq!(sent.len(), 1, "the operator wants it");
        let reply = lax.bring("a@evil.example", &["ann@us.example"], message);
        assert!(reply.starts_with("550 5.7.1 "), "{mode}: {reply}");
        // In a local mailbox it does no such harm.
        let reply = lax.bring("a@evil.example", &["box@us.example"], message);
        assert!(reply.starts_with("250 "), "{mode}: {reply}");
    }
}

#[test]
fn senders_in_our_domains_are_not_rewritten() {
    let mut world = World::new();
    for own in ["us.example", "two.example", "mx.us.example"] {
        world.say_at(own, &format!("v=spf1 ip4:{CLIENT} -all"));
    }
    for own in ["pencil@us.example", "x@two.example", "root@mx.us.example"] {
        let sent = world.forward(
            own,
            &["ann@us.example"],
            b"From: x@author.example\r\n\r\nx\r\n",
        );
        assert_eq!(froms(&sent), [own]);
    }
    // A user may send under an address of another host.
    world.connect(Listener::Submissions);
    let reply = world.say("AUTH PLAIN AHBlbmNpbEB1cy5leGFtcGxlAHBlbmNpbA==");
    assert!(reply.starts_with("235 "), "{reply}");
    let message = b"From: pencil@mail.example\r\n\r\nx\r\n";
    world.offer("pencil@mail.example", &["ann@us.example"], message);
    let reply = world.hear();
    assert!(reply.starts_with("250 "), "{reply}");
    world.leave();
    // So may a local process.
    world.connect(Listener::Submit);
    world.offer("cron@mail.example", &["ann@us.example"], MESSAGE);
    assert!(world.hear().starts_with("250 "));
    world.leave();
    world.pass(Duration::from_secs(1), |_| false);
    assert_eq!(
        froms(&world.sent),
        ["pencil@mail.example", "cron@mail.example"]
    );
    world.nothing_is_left();
}

#[test]
fn forged_results_in_our_name_are_removed_from_mail_of_all_sources() {
    const FORGED: &[u8] =
        b"Authentication-Results: mx.us.example; dmarc=pass header.from=bank.example\r\n";
    const OTHERS: &[u8] = b"Authentication-Results: other.example; spf=pass\r\n";
    let plain = b"From: pencil@us.example\r\nSubject: x\r\n\r\nbody\r\n";
    let message = [FORGED, OTHERS, plain].concat();
    let kept = [OTHERS, plain].concat();
    let trusted = format!("relay.networks = [\"{CLIENT}\"]\n");
    for (listener, keys) in [
        (Listener::Submissions, ""),
        (Listener::Submit, ""),
        (Listener::Smtp, trusted.as_str()),
    ] {
        // The message goes to another host, to a maildir, or is forwarded with a seal.
        for to in ["somebody@far.example", "box@us.example", "ann@us.example"] {
            let mut world = World::with(keys, "");
            world.connect(listener);
            if listener == Listener::Submissions {
                let reply = world.say("AUTH PLAIN AHBlbmNpbEB1cy5leGFtcGxlAHBlbmNpbA==");
                assert!(reply.starts_with("235 "), "{reply}");
            }
            world.offer("pencil@us.example", &[to], &message);
            let reply = world.hear();
            assert!(reply.starts_with("250 "), "{listener:?} {to}: {reply}");
            world.leave();
            world.pass(Duration::from_secs(1), |_| false);
            let text = text(&world.queued[0]);
            assert!(
                text.ends_with(&kept) && !text.windows(FORGED.len()).any(|part| part == FORGED),
                "{listener:?} {to}: {}",
                text.escape_ascii()
            );
            // The signature covers the message as it was sent.
            for sent in &world.sent {
                let findings = world.judge(sent);
                let dkim = findings.dkim.iter();
                assert_eq!(dkim.filter(|one| one.outcome.is_ok()).count(), 1, "{to}");
                let is_sealed = matches!(findings.arc.outcome, arc::ArcResult::Pass { .. });
                assert_eq!(is_sealed, to == "ann@us.example", "{listener:?} {to}");
            }
            assert_eq!(world.sent.is_empty(), to == "box@us.example");
        }
    }
}

#[test]
fn returned_mail_reaches_the_original_sender() {
    let mut world = World::new();
    let path = world.forward("Ann.B@author.example", &["ann@us.example"], MESSAGE)[0]
        .from
        .clone();
    let bounce = b"From: MAILER-DAEMON@far.example\r\nSubject: failed\r\n\r\nx\r\n";
    // Some hosts change the case of the address; the tag and the hash ignore case.
    let hash_start = "SRS0=".len();
    let (tag, rest) = path.split_at(path[hash_start..].find('=').expect("a hash") + hash_start);
    let lower = format!("{}{rest}", tag.to_lowercase());
    for back in [&path, &lower] {
        let sent = world.forward("", &[back], bounce);
        assert_eq!(sent[0].to, ["Ann.B@author.example"]);
        assert_eq!(sent[0].from, "");
        assert!(sent[0].text.ends_with(bounce));
    }

    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<>");
    let forged = path.replace("author.example", "victim.example");
    let reply = world.say(&format!("RCPT TO:<{forged}>"));
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    let reply = world.say("RCPT TO:<SRS0=x@us.example>");
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    // An address at another host is not ours.
    let reply = world.say(&format!("RCPT TO:<{}>", path.replace("@us.", "@other.")));
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    world.leave();

    // A domain that has become local since is no longer remote.
    let here = Mailbox::parse("ann@two.example").expect("a mailbox");
    let us = Domain::parse("us.example").expect("a domain");
    let since = rewriter().forward(&here, &us, world.stage.now.wall);
    let since = since.expect("a rewritten sender").to_string();
    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<>");
    let reply = world.say(&format!("RCPT TO:<{since}>"));
    assert!(
        reply.starts_with("550 5.1.1 "),
        "nobody is called so: {reply}"
    );
    world.leave();

    world.pass(Duration::from_secs(23 * 86_400), |_| false);
    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<>");
    let reply = world.say(&format!("RCPT TO:<{path}>"));
    assert!(reply.starts_with("550 5.1.1 "), "{reply}");
    world.leave();
    world.nothing_is_left();
}

#[test]
fn names_are_compared_as_the_configuration_says() {
    let mut world = World::with("suffix_separators = \"+-\"\ndrop_characters = \"._\"\n", "");
    for name in ["ann", "A.nn", "a_n.n+x", "ann-news", "an.n-x+y"] {
        let to = format!("{name}@us.example");
        let sent = world.forward("a@author.example", &[&to], MESSAGE);
        assert_eq!(sent[0].to, ["ann@far.example"], "{name}");
    }
    // A rewritten sender contains separators and dropped characters, and is still found.
    let path = world.forward("a.b-c@author.example", &["ann@us.example"], MESSAGE)[0]
        .from
        .clone();
    let sent = world.forward("", &[&path], b"From: x@far.example\r\n\r\nx\r\n");
    assert_eq!(sent[0].to, ["a.b-c@author.example"]);
    world.connect(Listener::Smtp);
    world.say("MAIL FROM:<a@author.example>");
    assert!(world.say("RCPT TO:<anna@us.example>").starts_with("550 "));
    world.leave();
    world.nothing_is_left();
}

#[test]
fn mail_to_the_postmaster_is_forwarded_under_a_local_domain() {
    let mut world = World::with("admin = \"me@far.example\"\n", "");
    for role in ["postmaster@us.example", "Postmaster", "root@mx.us.example"] {
        let sent = world.forward("a@author.example", &[role], MESSAGE);
        assert_eq!(sent[0].to, ["me@far.example"]);
        let domain = sent[0].from.rsplit('@').next();
        assert!(
            matches!(domain, Some("us.example" | "two.example")),
            "{:?}",
            sent[0].from
        );
    }
    world.nothing_is_left();
}

#[test]
fn a_sender_limited_to_one_dsn_gets_it_for_the_failure_after_a_long_hold() {
    for is_held in [false, true] {
        let mut world = World::new();
        world.says_to_rcpt = "450 4.2.0 later\r\n";
        // The sender is not authenticated.
        let reply = world.bring("a@author.example", &["ann@us.example"], MESSAGE);
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
        if is_held {
            world.control(r#"{"do":"hold","which":"all"}"#);
        }
        // An authenticated sender would get a delay DSN at the release.
        world.pass(Duration::from_secs(6 * 3_600), |_| false);
        world.says_to_rcpt = "550 5.1.1 nobody\r\n";
        world.control(r#"{"do":"release","which":"all"}"#);
        world.pass(Duration::from_secs(5 * 3_600), |_| false);
        let is_dsn = |line: &&String| line.starts_with("event=dsn ");
        let told: Vec<&String> = world.logged.iter().filter(is_dsn).collect();
        assert_eq!(told.len(), 1, "held: {is_held}: {:?}", world.logged);
        assert!(told[0].contains("action=failed"), "{}", told[0]);
        world.nothing_is_left();
    }
}

#[test]
fn a_copied_record_is_not_marked_as_reported_before_the_dsn_is_on_the_disk() {
    let mut world = World::new();
    // The sender is not authenticated, so it gets at most one DSN, whichever recipients fail.
    world.says_to_rcpt = "450 4.2.0 later\r\n";
    let to = ["ann@us.example", "own@two.example"];
    let reply = world.bring("a@author.example", &to, MESSAGE);
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    let messages = world.stage.engine.queue_ids();
    world.says_to_rcpt = "550 5.1.1 nobody\r\n";
    world.is_disk_slow = true;
    world.control(r#"{"do":"flush","which":"all"}"#);
    let is_dsn = |line: &&String| line.starts_with("event=dsn ");
    assert_eq!(world.logged.iter().filter(is_dsn).count(), 1);
    let crowded = JournalCompletion::Crowded { messages };
    world.stage.handle(Event::Stored(crowded));
    world.act();
    // A crash may lose the DSN; then the next failure must be reported.
    let told: Vec<bool> = world.copied.iter().map(|copied| copied.warned).collect();
    assert_eq!(told, [false]);
    world.write();
    world.pass(Duration::from_secs(60), |_| false);
    assert_eq!(world.logged.iter().filter(is_dsn).count(), 1);
    world.nothing_is_left();
}
