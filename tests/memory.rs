//! The limit for all buffers together: when it is reached, new mail is deferred with 452, no message in progress is
//! lost, and freed memory is used again. Runs without sockets: forty clients send messages that never end.

#[allow(
    dead_code,
    reason = "shared with the tests of mail that is taken, which use more of it"
)]
mod stage;

use std::net::Ipv4Addr;

use chopar::config::Folder;
use chopar::engine::event::{ConnId, Event, Listener, Lost};
use chopar::queue::{JournalCommand, JournalCompletion};

use stage::{Scene, Stage, act};

/// Less than the size at which a message is streamed to a file of its own.
const HELD_BYTES: usize = 200 * 1024;

/// Forty clients and a slow disk: its writes wait for [`Flood::write`].
struct Flood {
    stage: Stage,
    blocks: Vec<JournalCompletion>,
    /// The observed client, and its replies.
    client: Option<ConnId>,
    answer: String,
}

impl Flood {
    fn new() -> Self {
        let mut folder = Folder::default();
        let toml = "hostname = \"mx.example.com\"\nmax_memory = \"8 MiB\"\n[relay]\nnetworks = [\"192.0.2.0/24\"]\n";
        folder.insert_file("chopar.toml", toml.into());
        Self {
            stage: Stage::new("mx.example.com", &folder, 1),
            blocks: Vec::new(),
            client: None,
            answer: String::new(),
        }
    }

    fn open(&mut self) -> ConnId {
        let client = Ipv4Addr::new(192, 0, 2, 7).into();
        self.stage
            .accept(Listener::Smtp, client)
            .expect("a session")
    }

    fn memory(&self) -> usize {
        self.stage.engine.load().0
    }

    /// Sends bytes; returns the replies on this connection.
    fn say(&mut self, conn: ConnId, bytes: &[u8]) -> String {
        self.client = Some(conn);
        self.stage.handle(Event::Bytes { conn, bytes });
        act(self);
        std::mem::take(&mut self.answer)
    }

    fn write(&mut self) {
        for written in std::mem::take(&mut self.blocks) {
            self.stage.handle(Event::Stored(written));
        }
    }
}

impl Scene for Flood {
    fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    fn on_send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        if Some(conn) == self.client {
            self.answer
                .push_str(&String::from_utf8(bytes).expect("ASCII"));
        }
    }

    fn on_store(&mut self, command: JournalCommand) {
        if let JournalCommand::BodyAppend { id, bytes } = command {
            let bytes = bytes.len();
            self.blocks
                .push(JournalCompletion::BodyWritten { id, bytes });
        }
    }
}

const ENVELOPE: &[u8] = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n";

#[test]
fn mail_beyond_max_memory_is_deferred_and_accepted_again_when_memory_is_free() {
    let mut flood = Flood::new();
    let text = [
        b"Subject: x\r\n\r\n".as_slice(),
        &b"line\r\n".repeat(HELD_BYTES / 6),
    ]
    .concat();
    let mut begun = Vec::new();
    let mut refused = None;
    for _ in 0..60 {
        let conn = flood.open();
        let answer = flood.say(conn, ENVELOPE);
        if answer.contains("\r\n452 4.3.1 ") {
            refused = Some(conn);
            break;
        }
        assert!(answer.contains("\r\n354 "), "{answer}");
        flood.say(conn, &text);
        begun.push(conn);
    }
    let refused = refused.expect("a session that is put off");
    let memory = flood.memory();
    assert!(
        // One host of the networks gets half of it.
        (3 << 20..=5 << 20).contains(&memory),
        "{memory} bytes for {} bodies",
        begun.len()
    );
    for conn in begun {
        flood.stage.lose(conn, Lost::Reset);
    }
    let again = b"RSET\r\nMAIL FROM:<a@b.example>\r\n";
    assert!(
        !flood.blocks.is_empty(),
        "half of it is on its way to the disk"
    );
    let on_its_way = flood.memory();
    assert!(
        on_its_way > 256 << 10,
        "what is on its way counts, {on_its_way} bytes"
    );
    flood.write();
    assert!(
        flood
            .say(refused, again)
            .ends_with("250 2.1.0 Sender OK\r\n")
    );
    assert!(flood.memory() < 64 * 1024, "what was held is given back");
}
