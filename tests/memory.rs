//! The ceiling of all buffers together: past it new mail is put off with 452, nothing that was begun is lost, and room
//! that comes free is given again. Driven without sockets: forty clients send messages that never end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use chopar::auth::srs::Rewriter;
use chopar::clock::{Instant, Now};
use chopar::config::{Config, Folder, SystemDefaults};
use chopar::date::Timestamp;
use chopar::engine::event::{Action, ConnId, Event, Listener, Lost, Peer};
use chopar::engine::{Engine, Start};
use chopar::entropy::SeededEntropy;
use chopar::queue::{Command, Completion, IdSource};
use chopar::queue_id::QueueId;

const NOW: Now = Now {
    instant: Instant::from_millis(1_000),
    wall: Timestamp::from_seconds(1_790_000_000),
};

/// Less than what is streamed to a file of its own.
const HELD_BYTES: usize = 200 * 1024;

fn engine() -> Engine {
    let mut folder = Folder::default();
    let toml = "hostname = \"mx.example.com\"\nmax_memory = \"8 MiB\"\n[relay]\nnetworks = [\"192.0.2.0/24\"]\n";
    folder.insert_file("chopar.toml", toml.into());
    let defaults = SystemDefaults {
        hostname: "mx.example.com".into(),
        resolv_conf: String::new(),
    };
    let config = Config::parse(&folder, &defaults).expect("a configuration");
    let start = Start {
        config: Arc::new(config),
        ids: IdSource::above(QueueId::new(0)),
        entropy: Box::new(SeededEntropy::new(1)),
        rewriter: Rewriter::new(&[vec![7; 32].into()]).expect("a secret"),
    };
    Engine::new(start, NOW)
}

fn open(engine: &mut Engine) -> ConnId {
    let remote = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 40_000));
    let local = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 25));
    engine
        .accept(Listener::Smtp, Peer::Network { remote, local }, NOW)
        .expect("a session")
}

/// A disk that is slow: what goes there is on its way until [`Disk::write`].
#[derive(Default)]
struct Disk {
    blocks: Vec<Completion>,
}

impl Disk {
    fn write(&mut self, engine: &mut Engine) {
        for written in self.blocks.drain(..) {
            engine.handle(Event::Stored(written), NOW);
        }
    }
}

/// Sends bytes; gives what this connection was answered.
fn say(engine: &mut Engine, disk: &mut Disk, conn: ConnId, bytes: &[u8]) -> String {
    engine.handle(Event::Bytes { conn, bytes }, NOW);
    let mut answer = String::new();
    while let Some(action) = engine.next_action() {
        match action {
            Action::Send { conn: to, bytes } if to == conn => {
                answer.push_str(&String::from_utf8(bytes).expect("ASCII"));
            }
            Action::Store(Command::BodyAppend { id, bytes }) => {
                let bytes = bytes.len();
                disk.blocks.push(Completion::BodyWritten { id, bytes });
            }
            _ => {}
        }
    }
    answer
}

const ENVELOPE: &[u8] = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n";

#[test]
fn past_max_memory_mail_is_put_off_and_taken_again_when_there_is_room() {
    let mut engine = engine();
    let mut disk = Disk::default();
    let text = [
        b"Subject: x\r\n\r\n".as_slice(),
        &b"line\r\n".repeat(HELD_BYTES / 6),
    ]
    .concat();
    let mut begun = Vec::new();
    let mut refused = None;
    for _ in 0..60 {
        let conn = open(&mut engine);
        let answer = say(&mut engine, &mut disk, conn, ENVELOPE);
        if answer.contains("\r\n452 4.3.1 ") {
            refused = Some(conn);
            break;
        }
        assert!(answer.contains("\r\n354 "), "{answer}");
        say(&mut engine, &mut disk, conn, &text);
        begun.push(conn);
    }
    let refused = refused.expect("a session that is put off");
    let (memory, _) = engine.load();
    assert!(
        // One host of the networks gets half of it.
        (3 << 20..=5 << 20).contains(&memory),
        "{memory} bytes for {} bodies",
        begun.len()
    );
    for conn in begun {
        engine.handle(
            Event::Closed {
                conn,
                cause: Lost::Reset,
            },
            NOW,
        );
    }
    let again = b"RSET\r\nMAIL FROM:<a@b.example>\r\n";
    assert!(
        !disk.blocks.is_empty(),
        "half of it is on its way to the disk"
    );
    let on_its_way = engine.load().0;
    assert!(
        on_its_way > 256 << 10,
        "what is on its way counts, {on_its_way} bytes"
    );
    disk.write(&mut engine);
    assert!(say(&mut engine, &mut disk, refused, again).ends_with("250 2.1.0 Sender OK\r\n"));
    assert!(engine.load().0 < 64 * 1024, "what was held is given back");
}
