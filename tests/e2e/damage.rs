//! A spool with losses: the rest of the mail continues, nothing is deleted, and `admin` is informed once.

use std::fs;
use std::path::PathBuf;

use crate::process::{PATIENCE, wait_for};
use crate::relay::{Relay, Setup};
use crate::world::Arrived;

/// A line of the body of the message that is damaged, which appears nowhere else in the segment.
const MARK: &[u8] = b"this line rots on the disk";

/// A relay with two messages that wait for an unreachable host.
fn relay() -> Relay {
    let relay = Setup {
        keys: "admin = \"boss@four.test\"\n".to_owned(),
        ..Setup::default()
    }
    .start();
    let mut client = relay.client();
    for line in [MARK, b"this one stays"] {
        let message = [b"From: a@src.test\r\n\r\n", line, b"\r\n"].concat();
        let reply = client.transaction("a@src.test", &["b@dead.test"], &message);
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    assert_eq!(relay.list().len(), 2);
    relay
}

fn segments(relay: &Relay) -> Vec<PathBuf> {
    let folder = fs::read_dir(relay.spool().join("journal")).expect("a folder");
    let paths = folder.map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "seg"))
        .collect();
    segments.sort();
    segments
}

/// Messages to `admin` about damage so far.
fn told(relay: &Relay) -> Vec<Arrived> {
    let messages = relay.sink.messages().into_iter();
    messages
        .filter(|message| message.text().contains("was damaged"))
        .collect()
}

fn wait_to_be_told(relay: &Relay) -> Arrived {
    wait_for("admin to be told", PATIENCE, || told(relay).pop())
}

/// A message sent now arrives, so all reports of the start have been sent before.
fn passes_mail(relay: &Relay) {
    let before = relay.sink.messages().len();
    let message = b"From: a@src.test\r\n\r\nlater\r\n";
    let mut client = relay.client();
    let reply = client.transaction("a@src.test", &["c@four.test"], message);
    assert_eq!(reply.code, 250, "{reply:?}");
    wait_for("mail to arrive", PATIENCE, || {
        (relay.sink.messages().len() > before).then_some(())
    });
}

#[test]
fn admin_is_informed_once_of_a_damaged_message_and_it_is_kept() {
    let mut relay = relay();
    relay.kill();
    let segment = segments(&relay).pop().expect("a segment");
    let mut bytes = fs::read(&segment).expect("a segment");
    let at = bytes
        .windows(MARK.len())
        .position(|window| window == MARK)
        .expect("the message");
    bytes[at] ^= 1;
    fs::write(&segment, &bytes).expect("a segment");
    relay.run();

    let message = wait_to_be_told(&relay);
    assert_eq!(message.to, ["boss@four.test"]);
    let text = message.text();
    let name = relay.wait_for_log("event=set-aside");
    let name = name.rsplit('=').next().expect("a name").to_owned();
    assert!(text.contains(&name), "{name} is not in {text}");
    let kept = fs::read(relay.spool().join("damaged").join(&name)).expect("what was set aside");
    let rotted = &bytes[at..at + MARK.len()];
    assert!(kept.windows(MARK.len()).any(|window| window == rotted));
    // The journal may not have recorded the delivery yet.
    wait_for("the other message alone to be queued", PATIENCE, || {
        (relay.list().len() == 1).then_some(())
    });

    // The journal must record it before the next kill.
    wait_for("the note of it", PATIENCE, || {
        relay.spool().join("damaged/told").exists().then_some(())
    });
    relay.kill();
    relay.run();
    passes_mail(&relay);
    assert_eq!(told(&relay).len(), 1, "{}", relay.log());
}

#[test]
fn a_missing_segment_is_reported_and_restored_without_loss() {
    let mut relay = relay();
    relay.kill();
    let segment = segments(&relay).pop().expect("a segment");
    let away = relay.folder().join("away");
    fs::rename(&segment, &away).expect("taken away");
    relay.run();

    let name = segment.file_name().expect("a name").to_string_lossy();
    let line = relay.wait_for_log("event=segment-missing");
    assert!(
        line.contains(&*name) && line.contains("put it back"),
        "{line}"
    );
    assert!(wait_to_be_told(&relay).text().contains(&*name));
    passes_mail(&relay);

    relay.kill();
    fs::rename(&away, &segment).expect("put back");
    relay.run();
    wait_for("both messages alone to be queued", PATIENCE, || {
        (relay.list().len() == 2).then_some(())
    });
}
