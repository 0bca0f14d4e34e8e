//! No peer makes a turn of the event loop do more than a fixed amount of work. The work is counted, not timed, with
//! hostile messages in pieces as large as the shell reads.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::auth::dkim::canonical::{BodyHasher, Canonicalization};
use chopar::engine::event::{Event, Listener};
use chopar::limits::{
    CONSEQUENCES_PER_TURN_MAX, HEADER_BYTES_MAX, READ_TURN_BYTES_MAX, RECIPIENTS_MAX,
    TURN_BYTES_MAX, TURN_FIELDS_MAX, TURN_NAMES_MAX,
};
use chopar::workload::Workload;

use crate::stage::scene::turn;
use crate::world::{Saying, World, divide};

const BUDGET: Workload = Workload {
    bytes: TURN_BYTES_MAX as u64,
    fields: TURN_FIELDS_MAX as u64,
    names: TURN_NAMES_MAX as u64,
};

/// Header size that leaves room for a few more fields.
const LONG: usize = HEADER_BYTES_MAX - 4_096;

fn world(keys: &str) -> World {
    let none = "[abuse]\nptr = false\nconnections_per_minute = 0\nmessages_per_minute = 0\n\
                recipients_per_minute = 0\n";
    let mut world = World::with(keys, none);
    world.piece_bytes = READ_TURN_BYTES_MAX;
    world
}

/// Checks that the heaviest turn of a relay so far is within the budget.
fn is_within(world: &World, what: &str) {
    let heaviest = world.stage.engine.heaviest_turn();
    println!("{what}: {heaviest:?}");
    assert!(heaviest.is_within(BUDGET), "{what}: {heaviest:?}");
}

/// A field value of this length, folded into lines.
fn folded(word: &str, len: usize) -> String {
    let line = format!(" {}\r\n", word.repeat(900 / word.len()));
    let lines = line.repeat(len / line.len());
    lines.trim_end().to_owned()
}

fn fields(count: usize, field: impl Fn(usize) -> String) -> String {
    (0..count).map(field).collect()
}

/// Signatures valid for the body `body`, which cover as many fields as possible.
fn signatures(name: &str, front: &str, forms: &str, names: &str, body: &[u8]) -> String {
    let form = match forms.ends_with("relaxed") {
        true => Canonicalization::Relaxed,
        false => Canonicalization::Simple,
    };
    let mut hasher = BodyHasher::new(form);
    hasher.update(body);
    let hash = STANDARD.encode(hasher.finish().hash);
    format!(
        "{name}:{front} a=rsa-sha256; c={forms}; d=author.example; s=one;\r\n\th=from:{names};\r\n\tbh={hash};\r\n\
         \tb=AAAA\r\n"
    )
}

/// Field names for `h=`, of this total length.
fn names(len: usize) -> String {
    let line = format!("\r\n\t{}", "x-a:subject:to:".repeat(50));
    format!("{}x", line.repeat(len / line.len()))
}

const BODY: &[u8] = b"hello\r\n";

/// Messages that are all header; [`BODY`] follows each of them.
fn hostile_headers() -> Vec<(&'static str, String)> {
    let from = "From: a@author.example\r\n";
    let author = |field: String| format!("{from}{field}");
    let sets = |results: usize, signed: usize| {
        fields(50, |at| {
            let number = at + 1;
            let cv = if number == 1 { "none" } else { "pass" };
            let front = format!(" i={number};");
            let message = signatures(
                "ARC-Message-Signature",
                &front,
                "relaxed/relaxed",
                &names(signed),
                BODY,
            );
            format!(
                "ARC-Seal: i={number}; a=rsa-sha256; cv={cv}; d=author.example; s=one; b=AAAA\r\n{message}\
                 ARC-Authentication-Results: i={number}; mx.author.example;{}\r\n",
                folded("dmarc=pass header.from=author.example; ", results)
            )
        })
    };
    vec![
        (
            "many fields",
            author(fields(1_990, |at| format!("X-{at}: y\r\n"))),
        ),
        (
            "one long field",
            author(format!("X:{}\r\n", folded("word ", LONG))),
        ),
        (
            "signatures that name everything",
            author(fields(10, |at| {
                let forms = ["simple/simple", "relaxed/relaxed"][at % 2];
                signatures("DKIM-Signature", " v=1;", forms, &names(LONG / 11), BODY)
            })),
        ),
        (
            "signatures over fields that are all the same",
            author(
                fields(10, |_| {
                    let names = "x:".repeat(400) + "x";
                    signatures("DKIM-Signature", " v=1;", "relaxed/simple", &names, BODY)
                }) + &fields(1_900, |_| format!("X: {}\r\n", "y".repeat(100))),
            ),
        ),
        ("sets of ARC", author(sets(1_000, 2_000))),
        ("sets of ARC full of results", author(sets(3_500, 10))),
        (
            "a long From",
            format!("From:{}\r\n", folded("a@author.example, ", LONG)),
        ),
        (
            "a From of comments",
            format!(
                "From: a@author.example{}{}\r\n",
                folded("(", LONG / 2),
                folded(")", LONG / 2)
            ),
        ),
        (
            "a From of encoded words",
            format!(
                "From:{} <a@author.example>\r\n",
                folded("=?utf-8?q?a?= ", LONG)
            ),
        ),
        (
            "a From of encoded words without an end",
            format!("From:{} <a@author.example>\r\n", folded("=?a?q?", LONG)),
        ),
        (
            "results that are ours",
            author(fields(1_990, |_| {
                format!(
                    "Authentication-Results: mx.us.example; {}\r\n",
                    "dkim=pass ".repeat(5)
                )
            })),
        ),
        (
            "thousands of results",
            author(format!(
                "Authentication-Results: far.example;{}\r\n",
                folded("dkim=pass header.d=author.example; ", LONG)
            )),
        ),
        (
            "results whose name is nearly ours",
            author(format!(
                "Authentication-Results: {}\r\n",
                folded("m x . u s . e x a m p l ", LONG)
            )),
        ),
        (
            "results in deep comments",
            author(format!(
                "Authentication-Results:{}{} mx.us.example; none\r\n",
                folded("(", LONG / 2),
                folded(")", LONG / 2)
            )),
        ),
        (
            "names that are all to be signed",
            author(fields(1_980, |at| format!("List-{at}: y\r\n"))),
        ),
    ]
}

#[test]
fn no_header_costs_a_turn_more_than_its_budget() {
    for (what, header) in hostile_headers() {
        let message = [header.as_bytes(), b"\r\n", BODY].concat();
        assert!(header.len() <= HEADER_BYTES_MAX, "{what}: {}", header.len());
        divide(&message);
        let mut world = world("");
        world.say_at("_dmarc.author.example", "v=DMARC1; p=none");
        let reply = world.bring("x@author.example", &["ann@us.example"], &message);
        // A message whose author cannot be determined is refused at once.
        let is_answered = ["250 ", "550 ", "554 "]
            .iter()
            .any(|code| reply.starts_with(code));
        assert!(is_answered, "{what}: {reply}");
        is_within(&world, what);
        world.nothing_is_left();
    }
}

#[test]
fn signing_for_a_user_costs_a_turn_no_more_than_its_budget() {
    for (what, header) in hostile_headers() {
        let header = header.replace("author.example", "us.example");
        let message = [header.as_bytes(), b"\r\n", BODY].concat();
        let mut world = world("relay.networks = [\"203.0.113.0/24\"]\n");
        world.bring("x@us.example", &["ann@us.example"], &message);
        is_within(&world, what);
    }
}

#[test]
fn no_body_costs_a_turn_more_than_its_budget() {
    let lines = "\r\n".repeat(2 * 1_024 * 1_024);
    for body in [
        format!("{lines}x\r\n"),
        lines,
        " \r\n".repeat(1_000_000) + "x\r\n",
    ] {
        let from = "From: a@author.example\r\n";
        let both = ["simple/simple", "relaxed/relaxed"]
            .map(|forms| signatures("DKIM-Signature", " v=1;", forms, "to", body.as_bytes()));
        let message = format!("{from}{}\r\n{body}", both.concat());
        let mut world = world("");
        let reply = world.bring("x@evil.example", &["ann@us.example"], message.as_bytes());
        assert!(reply.starts_with("250 "), "{reply}");
        is_within(&world, "empty lines");
    }
}

#[test]
fn thousands_of_recipients_cost_a_turn_no_more_than_its_budget() {
    for (to, notify) in [
        ("ten", ""),
        ("hundred", ""),
        ("r", " NOTIFY=SUCCESS"),
        ("ann", " NOTIFY=SUCCESS"),
    ] {
        let mut world = world("relay.networks = [\"203.0.113.0/24\"]\n");
        world.connect(Listener::Smtp);
        let mut commands = String::from("MAIL FROM:<own@two.example>\r\n");
        let domain = if to == "r" {
            "far.example"
        } else {
            "us.example"
        };
        for number in 0..4 * RECIPIENTS_MAX {
            let suffix = if to == "r" {
                number.to_string()
            } else {
                format!("+{number}")
            };
            writeln!(commands, "RCPT TO:<{to}{suffix}@{domain}>{notify}\r").expect("a string");
        }
        commands.push_str("DATA\r\n");
        world.feed(commands.as_bytes());
        for _ in 0..4 * RECIPIENTS_MAX + 1 {
            world.hear();
        }
        assert!(world.hear().starts_with("354 "), "{to}");
        world.feed(b"From: a@us.example\r\n\r\nhello\r\n.\r\n");
        let reply = world.hear();
        assert!(reply.starts_with("250 "), "{reply}");
        world.pass(Duration::from_secs(60), |_| false);
        is_within(&world, &format!("{} copies to {to}", world.sent.len()));
        assert!(!world.sent.is_empty());
    }
}

#[test]
fn policies_of_many_terms_and_rounds_cost_a_turn_no_more_than_its_budget() {
    let mut world = world("");
    let terms: String = fields(350, |at| format!(" ip4:192.0.{}.{}", at / 250, at % 250));
    for number in 0..10 {
        let next = match number {
            9 => "+all".to_owned(),
            _ => format!("include:p{}.evil.example -all", number + 1),
        };
        let name = match number {
            0 => "evil.example".to_owned(),
            _ => format!("p{number}.evil.example"),
        };
        world.say_at(&name, &format!("v=spf1{terms} {next}"));
    }
    world
        .zone
        .insert("_dmarc.evil.example".into(), Saying::ServFail);
    let message = b"From: a@d.c.b.a.evil.example\r\n\r\nhello\r\n";
    world.bring("x@evil.example", &["ann@us.example"], message);
    let examined = world
        .logged
        .iter()
        .find(|line| line.contains("event=examined "));
    assert!(
        examined.is_some_and(|line| line.contains("spf=pass")),
        "{examined:?}"
    );
    is_within(&world, "SPF");
}

#[test]
fn a_turn_ends_after_a_fixed_number_of_consequences_and_the_next_goes_on() {
    let mut world = world("");
    for _ in 0..CONSEQUENCES_PER_TURN_MAX + 10 {
        world.stage.follow(Event::Synced(Duration::ZERO));
    }
    assert_eq!(turn(&mut world), 10);
    assert_eq!(turn(&mut world), 0);
}
