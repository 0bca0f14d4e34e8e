//! Deliveries over a socket pair, as the relay makes them.

use std::fs;
use std::net::Shutdown;
use std::path::Path;
use std::thread;

use super::*;
use crate::shell::helper::directory::Directory;

/// The helper's replies to this dialogue.
fn play(target: &str, known: &[(&str, Destination)], folder: &Path, said: &[u8]) -> String {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let shared = Shared::new(Directory::with(folder, known));
    thread::scope(|scope| {
        scope.spawn(move || drop(serve(&theirs, target, &shared)));
        ours.write_all(said).expect("said");
        ours.shutdown(Shutdown::Write).expect("ended");
        let mut heard = String::new();
        ours.read_to_string(&mut heard).expect("heard");
        heard
    })
}

fn program(script: &str) -> Destination {
    Destination::Program(["/bin/sh", "-c", script].map(str::to_owned).into())
}

const MESSAGE: &[u8] = b"LHLO x\r\nMAIL FROM:<ann@a.example> BODY=8BITMIME\r\n\
    RCPT TO:<bob+tag@b.example>\r\nRCPT TO:<c@b.example>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n";

#[test]
fn each_recipient_gets_a_file_of_its_own_in_a_maildir() {
    let folder = tempfile::tempdir().expect("a folder");
    let maildir = folder.path().join("box");
    let known = [("maildir:box", Destination::Maildir(maildir.clone()))];
    let heard = play("maildir:box", &known, folder.path(), MESSAGE);
    assert_eq!(heard.matches("\r\n250 2.0.0 in the maildir").count(), 2);
    assert!(heard.ends_with("221 2.0.0 bye\r\n"), "{heard}");
    let mut texts: Vec<String> = fs::read_dir(maildir.join("new"))
        .expect("a folder")
        .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("a file"))
        .collect();
    texts.sort();
    assert_eq!(
        texts.first().map(String::as_str),
        Some("Return-Path: <ann@a.example>\nDelivered-To: bob+tag@b.example\nSubject: x\n\n.dot\n")
    );
    assert_eq!(texts.len(), 2);
}

#[test]
fn a_program_knows_sender_and_recipient_and_its_exit_code_decides_for_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "cat >>out; echo $SENDER $RECIPIENT $LOCAL $EXTENSION $DOMAIN $PWD >>out; \
         echo 'not you' >&2; [ \"$EXTENSION\" ] || exit 67";
    let known = [("| x", program(script))];
    let heard = play("| x", &known, folder.path(), MESSAGE);
    assert!(
        heard.contains("\r\n250 2.0.0 taken by the program\r\n550 5.1.1 user unknown: not you\r\n"),
        "{heard}"
    );
    let out = fs::read_to_string(folder.path().join("out")).expect("a file");
    let expected = format!(
        "ann@a.example bob+tag@b.example bob+tag tag b.example {}\n",
        folder.path().display()
    );
    assert!(out.contains(&expected), "{out}");
}

#[test]
fn a_target_that_the_configuration_does_not_name_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("chopar.toml"), "").expect("a file");
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let shared = Shared::new(Directory::new(folder.path()));
    serve(&theirs, "| /bin/sh -c evil", &shared).expect("served");
    drop(theirs);
    let mut heard = String::new();
    ours.read_to_string(&mut heard).expect("heard");
    assert_eq!(
        heard,
        "554 5.7.1 no alias of the configuration leads there\r\n"
    );
}

#[test]
fn what_is_out_of_turn_or_malformed_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let known = [("| x", program("exit 0"))];
    let heard = play(
        "| x",
        &known,
        folder.path(),
        b"RCPT TO:<a@b.example>\r\nDATA\r\nMAIL FROM:<>\r\nRCPT TO:<x>\r\nEHLO x\r\nWHAT\r\n\
          RCPT TO:<a@b.example>\r\nDATA\r\nA: b\rc\r\n.\r\n",
    );
    let codes: Vec<&str> = heard.lines().map(|line| &line[..9]).collect();
    assert_eq!(
        codes,
        [
            "220 helpe",
            "503 5.5.1",
            "503 5.5.1",
            "250 2.1.0",
            "550 5.1.3",
            "503 5.5.1",
            "500 5.5.2",
            "250 2.1.5",
            "354 go on",
            "554 5.6.0"
        ]
    );
}

#[test]
fn a_line_without_an_end_ends_the_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let known = [("| x", program("exit 0"))];
    let heard = play("| x", &known, folder.path(), &[b'x'; 2_100]);
    assert_eq!(heard, "220 helper LMTP\r\n");
}

#[test]
fn what_may_pass_and_what_the_operator_has_to_mend_is_put_off() {
    for (ended, expected) in [
        (Ended::Exit(75), (451, EnhancedCode::new(4, 3, 0))),
        (Ended::Exit(74), (451, EnhancedCode::new(4, 3, 0))),
        (Ended::Exit(127), (451, EnhancedCode::new(4, 3, 5))),
        (Ended::Late, (451, EnhancedCode::new(4, 3, 0))),
        (Ended::Signal(9), (451, EnhancedCode::new(4, 3, 0))),
        (
            Ended::NotRun(ErrorKind::NotFound.into()),
            (451, EnhancedCode::new(4, 3, 5)),
        ),
        (Ended::Exit(77), (550, EnhancedCode::new(5, 7, 1))),
        (Ended::Exit(1), (554, EnhancedCode::new(5, 3, 0))),
        (Ended::Exit(0), (250, EnhancedCode::new(2, 0, 0))),
    ] {
        let outcome = Outcome::of_program(&ended, None);
        assert_eq!((outcome.code, outcome.status), expected, "{ended:?}");
        // RFC 3463 section 2: the class is that of the reply.
        assert_eq!(u16::from(outcome.status.class()), outcome.code / 100);
    }
    let full = Outcome::of_error(&Errno::DQUOT.into());
    assert_eq!((full.code, full.status), (452, EnhancedCode::new(4, 2, 2)));
}
