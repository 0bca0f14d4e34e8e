//! Messages that wait in the drop folder.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::*;
use crate::address::{Domain, Mailbox};
use crate::engine::drop_folder::{DropRules, is_complete};
use crate::engine::log::Line;
use crate::shell::process::time::Clock;

/// A relay that answers with these replies, one per command, in each of its sessions; the input is passed on.
fn relay(
    replies: &'static [&'static [&'static str]],
) -> (
    impl Fn(u32) -> io::Result<UnixStream>,
    mpsc::Receiver<String>,
) {
    let (sender, receiver) = mpsc::channel();
    let sessions = std::cell::RefCell::new(replies.iter());
    let connect = move |_| {
        let (ours, mut theirs) = UnixStream::pair()?;
        let sender = sender.clone();
        let replies = *sessions.borrow_mut().next().expect("no further session");
        thread::spawn(move || {
            let mut input = BufReader::new(theirs.try_clone().unwrap());
            let mut seen = String::new();
            for reply in replies {
                if theirs.write_all(reply.as_bytes()).is_err() {
                    break;
                }
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
            drop(sender.send(seen));
        });
        Ok(ours)
    };
    (connect, receiver)
}

/// A drop folder and its surroundings.
struct Place {
    _spool: tempfile::TempDir,
    folder: PathBuf,
    damaged: PathBuf,
    rules: DropRules,
    runner: Runner,
}

/// The relay of a round.
struct Side<'a> {
    connect: &'a dyn Fn(u32) -> io::Result<UnixStream>,
    rules: &'a DropRules,
    lines: Vec<Line>,
    /// The reports to the administrator.
    told: Vec<String>,
}

impl Relay for Side<'_> {
    fn connect(&mut self, uid: u32) -> io::Result<UnixStream> {
        (self.connect)(uid)
    }

    fn log(&mut self, line: Line) {
        self.lines.push(line);
    }

    fn tell(&mut self, what: String) {
        self.told.push(what);
    }

    fn rules(&mut self) -> Arc<DropRules> {
        Arc::new(self.rules.clone())
    }
}

impl Place {
    fn new() -> Self {
        let spool = tempfile::tempdir().unwrap();
        let folder = make_folder(spool.path()).unwrap();
        let damaged = spool.path().join("damaged");
        fs::create_dir(&damaged).unwrap();
        let rules = DropRules {
            hostname: Domain::parse("mx.example.com").unwrap(),
            served: [Domain::parse("example.com").unwrap()].into(),
            admin: Some(Mailbox::parse("admin@example.com").unwrap()),
            max_message_size: 100_000,
            give_up_after: Duration::from_secs(1_000),
        };
        Self {
            runner: runner(&folder, &damaged),
            _spool: spool,
            folder,
            damaged,
            rules,
        }
    }

    /// As after a restart: nothing is known of the files.
    fn forget(&mut self) {
        self.runner = runner(&self.folder, &self.damaged);
    }

    fn leave(&self, lines: &[&str], mut message: &[u8]) {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let draft = Draft::write(&self.folder, &lines, &mut message).unwrap();
        draft.complete().unwrap();
    }

    fn send_all(&mut self, connect: &dyn Fn(u32) -> io::Result<UnixStream>) -> Vec<Line> {
        let mut side = Side {
            connect,
            rules: &self.rules,
            lines: Vec::new(),
            told: Vec::new(),
        };
        self.runner.run(&mut side);
        let set_aside = events(&side.lines);
        let set_aside = set_aside.iter().filter(|event| **event == "drop-refused");
        assert_eq!(side.told.len(), set_aside.count(), "{:?}", side.told);
        side.lines
    }

    /// One round in which nothing may be sent.
    fn look(&mut self) -> Vec<Line> {
        self.send_all(&|_| panic!("nothing is sent"))
    }

    /// The files that the relay would take.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).unwrap().flatten();
        let complete = entries.filter(|entry| is_complete(entry.file_name().as_encoded_bytes()));
        complete.map(|entry| entry.path()).collect()
    }

    /// The only file.
    fn text(&self) -> String {
        let files = self.files();
        assert_eq!(files.len(), 1);
        fs::read_to_string(&files[0]).unwrap()
    }

    fn damaged(&self) -> usize {
        fs::read_dir(&self.damaged).unwrap().count()
    }
}

fn runner(folder: &Path, damaged: &Path) -> Runner {
    Runner::new(folder.to_owned(), damaged.to_owned(), Clock::start())
}

const PATIENCE: Duration = Duration::from_secs(20);
const ENVELOPE: &[&str] = &[
    "MAIL FROM:<a@example.com> SIZE=9",
    "RCPT TO:<b@example.org>",
];
/// The replies of a relay that accepts a message.
const TAKEN: &[&str] = &[
    "220 x\r\n",
    "250 x\r\n",
    "250 x\r\n",
    "250 x\r\n",
    "354 x\r\n",
    "250 x\r\n",
];
const THREE: &[&str] = &[
    "MAIL FROM:<a@example.com>",
    "RCPT TO:<b@example.org>",
    "RCPT TO:<c@example.org>",
    "RCPT TO:<d@example.org>",
];

/// The input of the only one of `sessions` sessions that contains these words; they end in any order.
fn seen_with(seen: &mpsc::Receiver<String>, sessions: usize, words: &str) -> String {
    let all: Vec<String> = (0..sessions)
        .map(|_| seen.recv_timeout(PATIENCE).unwrap())
        .collect();
    let mut found = all.iter().filter(|text| text.contains(words));
    let first = found.next().unwrap_or_else(|| panic!("{all:?}"));
    assert!(found.next().is_none(), "{all:?}");
    first.clone()
}

fn events(lines: &[Line]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line.text.split([' ', '=']).nth(1).unwrap())
        .collect()
}

#[test]
fn what_is_dropped_is_sent_as_it_was_and_removed() {
    let mut place = Place::new();
    place.leave(ENVELOPE, b"S: x\r\n\r\n.dot\r\nno end");
    let (connect, seen) = relay(&[&[
        "220 x\r\n",
        "250-x\r\n250 y\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "354 go\r\n",
        "250 ok\r\n",
        "221 bye\r\n",
    ]]);
    assert_eq!(events(&place.send_all(&connect)), ["drop-taken"]);
    assert!(place.files().is_empty());
    assert_eq!(
        seen.recv_timeout(PATIENCE).unwrap(),
        "EHLO localhost\r\nMAIL FROM:<a@example.com> SIZE=9\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\
         S: x\r\n\r\n..dot\r\nno end\r\n.\r\nQUIT\r\n"
    );
}

#[test]
fn what_is_deferred_waits_longer_each_time_and_is_returned_in_the_end() {
    let mut place = Place::new();
    place.leave(ENVELOPE, b"S: x\r\n\r\nx\r\n");
    const DEFERRED: &[&str] = &["220 x\r\n", "250 x\r\n", "452 4.3.1 full\r\n"];
    let (connect, _) = relay(&[DEFERRED]);
    let lines = place.send_all(&connect);
    assert_eq!(events(&lines), ["drop-waits"]);
    assert!(lines[0].text.contains(" s=10"), "{}", lines[0].text);
    // Not in the next round, and no line of the log about it.
    assert!(place.look().is_empty());
    place.rules.give_up_after = Duration::ZERO;
    place.forget();
    let (connect, seen) = relay(&[DEFERRED, TAKEN]);
    assert_eq!(
        events(&place.send_all(&connect)),
        ["drop-returned", "drop-taken"]
    );
    let dsn = seen_with(&seen, 2, "MAIL FROM:<>");
    assert!(dsn.contains("MAIL FROM:<> SIZE="), "{dsn}");
    assert!(
        dsn.contains("RCPT TO:<a@example.com> NOTIFY=NEVER"),
        "{dsn}"
    );
    assert!(dsn.contains("Status: 5.3.1"), "{dsn}");
    assert!(place.files().is_empty() && place.damaged() == 0);
}

#[test]
fn each_recipient_gets_the_message_or_its_sender_a_dsn_or_it_waits() {
    let mut place = Place::new();
    place.leave(THREE, b"Subject: three\r\n\r\nx\r\n");
    let (connect, seen) = relay(&[
        &[
            "220 x\r\n",
            "250 x\r\n",
            "250 x\r\n",
            "250 b\r\n",
            "550 5.1.1 no such user\r\n",
            "451 4.3.0 later\r\n",
            "354 x\r\n",
            "250 x\r\n",
        ],
        &[
            "220 x\r\n",
            "250 x\r\n",
            "250 x\r\n",
            "250 x\r\n",
            "354 x\r\n",
            "250 x\r\n",
        ],
    ]);
    assert_eq!(
        events(&place.send_all(&connect)),
        ["drop-returned", "drop-taken"]
    );
    let dsn = seen_with(&seen, 2, "MAIL FROM:<>");
    assert!(
        dsn.contains("Final-Recipient: rfc822; c@example.org"),
        "{dsn}"
    );
    assert!(!dsn.contains("b@example.org") && !dsn.contains("d@example.org"));
    assert!(dsn.contains("Subject: three"), "{dsn}");
    let uid = rustix::process::geteuid().as_raw();
    let left = place.text();
    let start = format!("chopar-drop 1\nOWNER {uid} ");
    assert!(left.starts_with(&start), "{left}");
    let end = "MAIL FROM:<a@example.com>\nRCPT TO:<d@example.org>\n\nSubject: three\r\n\r\nx\r\n";
    assert!(left.ends_with(end), "{left}");
    // The rest is sent as if it had been left like this, with its original owner and time.
    let since = left.split([' ', '\n']).nth(4).unwrap().to_owned();
    let (connect, _) = relay(&[&[
        "220 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "451 4.3.0 later\r\n",
        "250 reset\r\n",
    ]]);
    assert_eq!(events(&place.send_all(&connect)), ["drop-waits"]);
    assert!(place.text().contains(&format!("OWNER {uid} {since}\n")));
}

#[test]
fn a_sender_that_takes_nothing_has_its_dsn_go_to_the_administrator() {
    let mut place = Place::new();
    place.leave(ENVELOPE, b"S: x\r\n\r\nx\r\n");
    const REFUSED: &[&str] = &[
        "220 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "550 5.1.1 no\r\n",
        "250 x\r\n",
    ];
    place.rules.admin = None;
    let (connect, _) = relay(&[REFUSED, REFUSED, REFUSED]);
    assert_eq!(
        events(&place.send_all(&connect)),
        ["drop-unreturned", "drop-waits"]
    );
    assert_eq!((place.files().len(), place.damaged()), (1, 0));
    place.rules.admin = Some(Mailbox::parse("admin@example.com").unwrap());
    place.forget();
    let (connect, seen) = relay(&[REFUSED, REFUSED, REFUSED, TAKEN]);
    assert_eq!(
        events(&place.send_all(&connect)),
        ["drop-returned", "drop-taken"]
    );
    let dsn = seen_with(&seen, 4, "RCPT TO:<admin@example.com>");
    assert!(dsn.contains("MAIL FROM:<>"), "{dsn}");
    assert_eq!((place.files().len(), place.damaged()), (0, 0));
}

#[test]
fn what_the_relay_would_not_take_in_one_transaction_is_several() {
    let mut place = Place::new();
    place.leave(THREE, b"S: x\r\n\r\nx\r\n");
    let (connect, seen) = relay(&[&[
        "220 x\r\n",
        "250-x\r\n250 LIMITS RCPTMAX=2\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "452 4.5.3 too many\r\n",
        "354 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "354 x\r\n",
        "250 x\r\n",
    ]]);
    assert_eq!(events(&place.send_all(&connect)), ["drop-taken"]);
    assert_eq!(
        seen.recv_timeout(PATIENCE)
            .unwrap()
            .matches("MAIL FROM")
            .count(),
        2
    );
}

#[test]
fn what_is_too_long_is_returned_unread() {
    let mut place = Place::new();
    place.leave(ENVELOPE, b"Subject: long\r\n\r\nx\n");
    let file = File::options().write(true).open(&place.files()[0]).unwrap();
    file.set_len(1 << 40).unwrap();
    let (connect, seen) = relay(&[
        &["220 x\r\n", "250-x\r\n250 SIZE 100000\r\n"],
        &[
            "220 x\r\n",
            "250 x\r\n",
            "250 x\r\n",
            "250 x\r\n",
            "354 x\r\n",
            "250 x\r\n",
        ],
    ]);
    assert_eq!(
        events(&place.send_all(&connect)),
        ["drop-returned", "drop-taken"]
    );
    let dsn = seen_with(&seen, 2, "MAIL FROM:");
    assert!(dsn.contains("MAIL FROM:<>"), "{dsn}");
    assert!(
        dsn.contains("Status: 5.3.4") && dsn.contains("Subject: long"),
        "{dsn}"
    );
}

#[test]
fn what_is_no_message_is_set_aside_once_with_one_line() {
    let mut place = Place::new();
    let spool = place.folder.parent().unwrap().to_owned();
    let secret = spool.join("secret");
    let head = "chopar-drop 1\nMAIL FROM:<>\nRCPT TO:<a@b>\n\n";
    fs::write(&secret, format!("{head}x\r\n")).unwrap();
    let folder = place.folder.clone();
    let at = |name: &str| folder.join(name);
    symlink(&secret, at("link.msg")).unwrap();
    symlink("/dev/zero", at("device.msg")).unwrap();
    fs::hard_link(&secret, at("hard.msg")).unwrap();
    fs::create_dir(at("folder.msg")).unwrap();
    let fifo = at("fifo.msg");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(at("socket.msg")).unwrap();
    fs::write(at("nonsense.msg"), "nonsense").unwrap();
    fs::write(at("empty.msg"), "").unwrap();
    fs::write(at("lf.msg"), format!("{head}Subject: x\n\n.\n")).unwrap();
    fs::write(at("nul.msg"), format!("{head}x\0\r\n")).unwrap();
    fs::write(
        at("line.msg"),
        format!("chopar-drop 1\nMAIL FROM:<{}", "x".repeat(9_000)),
    )
    .unwrap();
    // The same name as the file that was set aside before.
    fs::write(place.damaged.join("lf.msg"), "before").unwrap();
    let owner = head.replace("MAIL", "OWNER x\nMAIL");
    fs::write(at("owner.msg"), format!("{owner}x\r\n")).unwrap();
    fs::write(at(".draft.msg"), "draft").unwrap();
    let lines = place.look();
    assert_eq!(events(&lines), ["drop-refused"; 12]);
    assert!(
        lines.iter().all(|line| !line.text.contains("error=")),
        "{lines:?}"
    );
    assert!(place.look().is_empty() && place.files().is_empty());
    assert_eq!(
        fs::read_to_string(place.damaged.join("lf.msg")).unwrap(),
        "before"
    );
    assert!(secret.exists() && at(".draft.msg").exists());
}

#[test]
fn a_file_that_is_written_to_meanwhile_is_not_sent() {
    let mut place = Place::new();
    place.leave(ENVELOPE, b"S: x\r\n\r\nx\r\n");
    let file = place.files().remove(0);
    let (script, _) = relay(&[&[
        "220 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "354 x\r\n",
    ]]);
    let connect = |uid| {
        let mut file = File::options().append(true).open(&file).unwrap();
        file.write_all(b"more\r\n").unwrap();
        script(uid)
    };
    let lines = place.send_all(&connect);
    assert_eq!(events(&lines), ["drop-waits"]);
    assert!(lines[0].text.contains("changes while"), "{}", lines[0].text);
    assert_eq!(place.files().len(), 1);
}

#[test]
fn a_message_over_which_the_relay_takes_long_holds_nobody_else_up() {
    let mut place = Place::new();
    for _ in 0..2 {
        place.leave(ENVELOPE, b"S: x\r\n\r\nx\r\n");
    }
    /// The relay is silent in the first session until the second message is taken.
    struct Slow<'a> {
        silent: Option<UnixStream>,
        connect: &'a dyn Fn(u32) -> io::Result<UnixStream>,
        rules: DropRules,
        events: Vec<String>,
    }
    impl Relay for Slow<'_> {
        fn connect(&mut self, uid: u32) -> io::Result<UnixStream> {
            if self.silent.is_some() {
                return (self.connect)(uid);
            }
            let (ours, theirs) = UnixStream::pair()?;
            self.silent = Some(theirs);
            Ok(ours)
        }
        fn log(&mut self, line: Line) {
            self.events.push(events(&[line])[0].to_owned());
            if let Some(silent) = &self.silent {
                silent.shutdown(std::net::Shutdown::Both).unwrap();
            }
        }
        fn tell(&mut self, what: String) {
            panic!("{what}");
        }
        fn rules(&mut self) -> Arc<DropRules> {
            Arc::new(self.rules.clone())
        }
    }
    let (connect, _) = relay(&[TAKEN]);
    let mut slow = Slow {
        silent: None,
        connect: &connect,
        rules: place.rules.clone(),
        events: Vec::new(),
    };
    place.runner.run(&mut slow);
    assert_eq!(slow.events, ["drop-taken", "drop-waits"]);
}

#[test]
fn what_was_sent_and_cannot_be_replaced_is_not_sent_again() {
    let mut place = Place::new();
    place.leave(THREE, b"Subject: three\r\n\r\nx\r\n");
    const PARTLY: &[&str] = &[
        "220 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "250 b\r\n",
        "250 c\r\n",
        "451 4.3.0 later\r\n",
        "354 x\r\n",
        "250 x\r\n",
    ];
    let (script, _) = relay(&[PARTLY]);
    // While it is sent the folder disappears, so that no file can be made in it, nor this one removed.
    let (folder, away) = (place.folder.clone(), place.folder.with_extension("away"));
    let connect = |uid| {
        fs::rename(&folder, &away)?;
        fs::write(&folder, "not a folder")?;
        script(uid)
    };
    let lines = place.send_all(&connect);
    assert_eq!(events(&lines), ["drop-taken"]);
    assert!(lines[0].text.contains(" error="), "{}", lines[0].text);
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    assert!(place.look().is_empty());
    let left = place.text();
    assert!(
        left.contains("\nRCPT TO:<d@example.org>\n\n") && !left.contains("b@example.org"),
        "{left}"
    );
    let (connect, seen) = relay(&[TAKEN]);
    assert_eq!(events(&place.send_all(&connect)), ["drop-taken"]);
    assert!(!seen.recv_timeout(PATIENCE).unwrap().contains("b@example"));
}
