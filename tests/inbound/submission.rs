//! Mail of users, of hosts in `relay.networks` and of local programs: the header fields that chopar adds and removes,
//! and the signatures.

use std::time::Duration;

use chopar::engine::event::Listener;

use crate::world::{CLIENT, Sent, World, divide};

/// The source of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    User,
    Network,
    Program,
}

const ALL: [By; 3] = [By::User, By::Network, By::Program];

/// Sends a message to the remote host; returns the world and the delivered message.
fn send(by: By, from: &str, message: &[u8]) -> (World, Sent) {
    let networks = format!("relay.networks = [\"{CLIENT}\"]\n");
    let keys = if by == By::Network { &*networks } else { "" };
    let mut world = World::with(keys, "");
    match by {
        By::User => {
            world.connect(Listener::Submissions);
            let reply = world.say("AUTH PLAIN AHBlbmNpbEB1cy5leGFtcGxlAHBlbmNpbA==");
            assert!(reply.starts_with("235 "), "{reply}");
        }
        By::Network => world.connect(Listener::Smtp),
        By::Program => world.connect(Listener::Submit),
    }
    world.offer(from, &["ann@far.example"], message);
    let reply = world.hear();
    assert!(reply.starts_with("250 "), "{by:?}: {reply}");
    world.leave();
    world.pass(Duration::from_secs(1), |_| false);
    let sent = world.sent.pop().expect("it was sent");
    (world, sent)
}

/// The domains with a valid signature on a message.
fn signers(world: &World, sent: &Sent) -> Vec<String> {
    let findings = world.judge(sent);
    let right = findings.dkim.iter().filter(|found| found.outcome.is_ok());
    right
        .filter_map(|signature| signature.domain.as_ref().map(ToString::to_string))
        .collect()
}

fn unsigned(world: &World) -> Vec<&String> {
    let lines = world.logged.iter();
    lines
        .filter(|line| line.contains("event=unsigned"))
        .collect()
}

#[test]
fn a_message_without_from_gets_one_from_its_sender_and_is_signed() {
    for by in ALL {
        for message in [
            "Subject: x\r\n\r\nbody\r\n",
            "From: \r\nSubject: x\r\n\r\nbody\r\n",
            "plain text\r\n",
        ] {
            let (world, sent) = send(by, "pencil@us.example", message.as_bytes());
            let (header, _) = divide(&sent.text);
            let from: Vec<Vec<u8>> = header.named("From").map(|from| from.unfolded()).collect();
            assert_eq!(from, [b"pencil@us.example"], "{by:?} {message:?}");
            assert_eq!(signers(&world, &sent), ["us.example"], "{by:?} {message:?}");
            assert!(unsigned(&world).is_empty());
        }
    }
}

#[test]
fn bcc_is_removed_before_the_message_is_signed() {
    const MESSAGE: &[u8] =
        b"From: pencil@us.example\r\nBcc: x@far.example\r\nTo: y@far.example\r\n\r\nbody\r\n";
    for by in ALL {
        let (world, sent) = send(by, "pencil@us.example", MESSAGE);
        let (header, _) = divide(&sent.text);
        assert!(!header.has("Bcc") && header.has("To"), "{by:?}");
        assert_eq!(signers(&world, &sent), ["us.example"], "{by:?}");
    }
}

#[test]
fn a_subdomain_is_signed_by_its_parent_domain() {
    for by in [By::Network, By::Program] {
        for author in ["root@web1.us.example", "root@a.b.us.example"] {
            let message = format!("From: {author}\r\nSubject: x\r\n\r\nbody\r\n");
            let (world, sent) = send(by, author, message.as_bytes());
            assert_eq!(signers(&world, &sent), ["us.example"], "{by:?} {author}");
        }
        let message = b"From: root@notus.example\r\nSubject: x\r\n\r\nbody\r\n";
        let (world, sent) = send(by, "root@notus.example", message);
        assert!(signers(&world, &sent).is_empty() && unsigned(&world).is_empty());
    }
}

#[test]
fn a_malformed_from_is_signed_by_the_domain_that_is_found_in_it() {
    for from in [
        &b"From: B\xfcro <scan@us.example>\r\n"[..],
        b"From: [Scanner] <scan@us.example>\r\n",
        b"From: Scanner, The <scan@us.example>\r\n",
    ] {
        for by in [By::Network, By::Program] {
            let message = [from, b"Subject: x\r\n\r\nbody\r\n"].concat();
            let (world, sent) = send(by, "scan@us.example", &message);
            assert_eq!(signers(&world, &sent), ["us.example"], "{by:?}");
            assert!(unsigned(&world).is_empty(), "{by:?}");
        }
    }
}

#[test]
fn an_unsigned_message_from_a_domain_with_keys_is_logged() {
    // A web form that sends in the name of its visitor.
    let message = b"From: pencil@mail.example\r\nSubject: x\r\n\r\nbody\r\n";
    for by in ALL {
        let (world, sent) = send(by, "pencil@us.example", message);
        assert!(signers(&world, &sent).is_empty());
        let lines = unsigned(&world);
        assert_eq!(lines.len(), 1, "{by:?}: {:?}", world.logged);
        let wanted = "from=pencil@us.example author=mail.example why=\"no key is there for the domain of From\"";
        assert!(lines[0].contains(wanted), "{lines:?}");
        assert_eq!(by == By::User, lines[0].contains("user=pencil@us.example"));
    }
    // An author that readers may interpret differently.
    let message = b"From: <<scan@us.example>>\r\nSubject: x\r\n\r\nbody\r\n";
    let (world, _) = send(By::Network, "", message);
    let lines = unsigned(&world);
    assert!(
        lines[0].contains("why=\"From cannot be read in one way\""),
        "{lines:?}"
    );
}

#[test]
fn a_header_that_ends_early_is_repaired_and_signed_as_sent() {
    const MESSAGE: &[u8] = b"From: scan@us.example\r\nSubject: x\r\nno field\r\nFrom: boss@bank.example\r\n\r\nend\r\n";
    for by in [By::Network, By::Program] {
        let (world, sent) = send(by, "scan@us.example", MESSAGE);
        let (header, body) = divide(&sent.text);
        assert_eq!(header.count("From"), 1);
        assert_eq!(header.disputed("From").count(), 0);
        assert_eq!(body, b"no field\r\nFrom: boss@bank.example\r\n\r\nend\r\n");
        assert_eq!(signers(&world, &sent), ["us.example"], "{by:?}");
    }
}

#[test]
fn a_utf8_header_is_sent_with_or_without_smtputf8() {
    const MESSAGE: &[u8] =
        "From: pencil@us.example\r\nSubject: Gr\u{fc}\u{df}e\r\n\r\nbody\r\n".as_bytes();
    for parameter in ["", " SMTPUTF8"] {
        for from in ["pencil@us.example", "pencil@b\u{fc}cher.example"] {
            if parameter.is_empty() && !from.is_ascii() {
                continue;
            }
            let mut world = World::new();
            world.connect(Listener::Submit);
            assert!(
                world
                    .say(&format!("MAIL FROM:<{from}>{parameter}"))
                    .starts_with("250 ")
            );
            assert!(world.say("RCPT TO:<ann@far.example>").starts_with("250 "));
            assert!(world.say("DATA").starts_with("354 "));
            world.feed(&[MESSAGE, b".\r\n"].concat());
            assert!(world.hear().starts_with("250 "));
            world.leave();
            world.pass(Duration::from_secs(1), |_| false);
            // The remote host does not offer SMTPUTF8.
            let sent = world.sent.pop().expect("it was sent");
            assert!(sent.text.ends_with(&MESSAGE[25..]), "{from}{parameter}");
            assert!(
                sent.from.is_ascii() && sent.from.starts_with("pencil@"),
                "{}",
                sent.from
            );
        }
    }
}
