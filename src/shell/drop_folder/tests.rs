//! Messages that wait in the drop folder.

use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::thread;

use super::*;

/// A relay that answers with these replies, one a command; returns what it read.
fn relay(
    replies: &'static [&'static str],
) -> (
    impl Fn(u32) -> io::Result<UnixStream>,
    mpsc::Receiver<String>,
) {
    let (sender, receiver) = mpsc::channel();
    let connect = move |_| {
        let (ours, mut theirs) = UnixStream::pair()?;
        let sender = sender.clone();
        thread::spawn(move || {
            let mut input = BufReader::new(theirs.try_clone().unwrap());
            let mut seen = String::new();
            for reply in replies {
                theirs.write_all(reply.as_bytes()).unwrap();
                let data = reply.starts_with('3');
                let mut line = String::new();
                while input.read_line(&mut line).unwrap_or(0) > 0 {
                    seen.push_str(&line);
                    if !data || line == ".\r\n" {
                        break;
                    }
                    line.clear();
                }
            }
            sender.send(seen).unwrap();
        });
        Ok(ours)
    };
    (connect, receiver)
}

fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let spool = tempfile::tempdir().unwrap();
    let folder = make_folder(spool.path()).unwrap();
    let damaged = spool.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    (spool, folder, damaged)
}

fn envelope() -> Vec<String> {
    [
        "MAIL FROM:<a@example.com> SIZE=9",
        "RCPT TO:<b@example.org>",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn leave(folder: &Path, mut message: &[u8]) {
    let draft = Draft::write(folder, &envelope(), &mut message).unwrap();
    draft.complete().unwrap();
}

#[test]
fn what_is_dropped_is_sent_as_it_was_and_removed() {
    let (_spool, folder, damaged) = folders();
    leave(&folder, b"S: x\r\n\r\n.dot\r\nno end");
    let (connect, seen) = relay(&[
        "220 x\r\n",
        "250-x\r\n250 y\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "354 go\r\n",
        "250 ok\r\n",
        "221 bye\r\n",
    ]);
    let lines = send_all(&waiting(&folder), &damaged, &connect);
    assert!(
        lines[0].text.starts_with("event=drop-taken"),
        "{}",
        lines[0]
    );
    assert!(waiting(&folder).is_empty());
    assert_eq!(
        seen.recv().unwrap(),
        "EHLO localhost\r\nMAIL FROM:<a@example.com> SIZE=9\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\
         S: x\r\n\r\n..dot\r\nno end\r\n.\r\nQUIT\r\n"
    );
}

#[test]
fn what_is_put_off_waits_and_what_is_refused_is_set_aside() {
    let (_spool, folder, damaged) = folders();
    leave(&folder, b"x\r\n");
    let (connect, _seen) = relay(&["220 x\r\n", "250 x\r\n", "452 full\r\n"]);
    let lines = send_all(&waiting(&folder), &damaged, &connect);
    assert!(
        lines[0].text.starts_with("event=drop-waits"),
        "{}",
        lines[0]
    );
    assert_eq!(waiting(&folder).len(), 1);
    let (connect, _seen) = relay(&["220 x\r\n", "250 x\r\n", "550 no\r\n"]);
    let lines = send_all(&waiting(&folder), &damaged, &connect);
    assert!(
        lines[0].text.starts_with("event=drop-refused"),
        "{}",
        lines[0]
    );
    assert_eq!((waiting(&folder).len(), waiting(&damaged).len()), (0, 1));
}

#[test]
fn links_and_strange_forms_are_not_read() {
    let (spool, folder, damaged) = folders();
    let secret = spool.path().join("secret");
    fs::write(&secret, "chopar-drop 1\nMAIL FROM:<>\nRCPT TO:<a@b>\n\nx").unwrap();
    symlink(&secret, folder.join("1.msg")).unwrap();
    fs::hard_link(&secret, folder.join("2.msg")).unwrap();
    fs::write(folder.join("3.msg"), "nonsense").unwrap();
    fs::write(folder.join(".4.msg"), "draft").unwrap();
    let connect = |_| -> io::Result<UnixStream> { panic!("nothing is sent") };
    let lines = send_all(&waiting(&folder), &damaged, &connect);
    assert_eq!(lines.len(), 3);
    assert!(
        lines
            .iter()
            .all(|line| line.text.starts_with("event=drop-refused"))
    );
    assert!(waiting(&folder).is_empty());
}

#[test]
fn an_envelope_is_one_sender_and_at_least_one_recipient_without_controls() {
    let read = |text: &str| read_envelope(&mut Cursor::new(text.as_bytes().to_vec())).ok();
    assert_eq!(
        read("chopar-drop 1\nmail from:<a@b>\nrcpt to:<c@d>\n\n").map(|lines| lines.len()),
        Some(2)
    );
    for bad in [
        "",
        "chopar-drop 2\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\n\n",
        "chopar-drop 1\n\n",
        "chopar-drop 1\nMAIL FROM:<a@b>\n\n",
        "chopar-drop 1\nMAIL FROM:<a@b>\nDATA\n\n",
        "chopar-drop 1\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\rDATA\n\n",
        "chopar-drop 1\nMAIL FROM:<a@b>\nRCPT TO:<c@d>",
    ] {
        assert_eq!(read(bad), None, "{bad}");
    }
}
