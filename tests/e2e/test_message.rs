//! `chopar send`: a test message through the running daemon, followed until a server accepts or refuses it.

use crate::relay::{PASSWORD, Setup, Signing};
use crate::world::Manners;

fn signing() -> Setup {
    Setup {
        signing: Signing::Both,
        ..Setup::default()
    }
}

#[test]
fn a_test_message_is_followed_to_the_reply_of_the_accepting_server() {
    let relay = signing().start_with(Manners::StartTls);
    let output = relay.cli(&["send", "you@four.test"]);
    let told = output.ok();
    for text in [
        "a test message from postmaster@relay.test to you@four.test",
        ".relay.test and ",
        "queued for you@four.test, on the disk",
        "mx.four.test (127.0.0.1, IPv4) has it, over TLS",
        "its certificate is not verified",
        "it replied: 250",
        "PASS for SPF",
    ] {
        assert!(told.contains(text), "{text:?} is not in:\n{told}");
    }
    let arrived = relay.sink.wait(1);
    assert_eq!(arrived.len(), 1);
    assert!(
        arrived[0]
            .text()
            .contains("Subject: Hello from mail.relay.test\r\n")
    );
}

#[test]
fn a_test_message_of_a_user_uses_the_network_port() {
    let relay = signing().start();
    let words = ["send", "--user", "ann@relay.test", "you@four.test"];
    let told = relay
        .cli_with(&words, format!("{PASSWORD}\n").as_bytes())
        .ok();
    assert!(
        told.contains("with STARTTLS and the login ann@relay.test"),
        "{told}"
    );
    assert!(told.contains("in clear text"), "{told}");
    assert_eq!(relay.sink.wait(1)[0].from, "ann@relay.test");
    let wrong = relay.cli_with(&words, b"guess\n");
    assert_eq!(wrong.code, 69);
    assert!(
        wrong.stderr.contains("the login was refused"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn a_refusal_is_explained_and_a_deferral_says_what_comes_next() {
    let relay = Setup::default().start();
    let gone = relay.cli(&["send", "gone@four.test"]);
    assert_eq!(gone.code, 69, "{}", gone.stderr);
    assert!(gone.stdout.contains("refused for good"), "{}", gone.stdout);
    assert!(
        gone.stdout.contains("check the spelling"),
        "{}",
        gone.stdout
    );
    let later = relay.cli(&["send", "--within", "3s", "later@four.test"]);
    assert_eq!(later.code, 75, "{}", later.stderr);
    assert!(
        later.stdout.contains("not taken by mx.four.test"),
        "{}",
        later.stdout
    );
    assert!(
        later.stderr.contains("chopar queue show"),
        "{}",
        later.stderr
    );
    let nowhere = relay.cli(&["send", "nobody"]);
    assert_eq!(nowhere.code, 64);
}
