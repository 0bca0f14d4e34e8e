//! The hook of the world: a helper that answers, or fails in every possible way.

use std::time::Duration;

use chopar::engine::event::{ConnId, Lost};
use chopar::entropy::Entropy;
use chopar::hook::{HookProgress, HookRequest, write_exit, write_failed};

use crate::disk::hold;
use crate::remote::Move;
use crate::world::{End, Faults, Happening, World};

/// The hook's end of one connection.
pub(crate) struct HookEnd {
    request: HookRequest,
    body: Vec<u8>,
    plan: Plan,
}

/// The hook's planned answer or failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Plan {
    Accept,
    Babble,
    Refuse,
    Defer,
    Fail,
    Garbage,
    Early,
    Silence,
    HangUp,
    Delay,
}

const PLANS: [(Plan, &str); 9] = [
    (Plan::Babble, "junk"),
    (Plan::Refuse, "refuses"),
    (Plan::Defer, "defers"),
    (Plan::Fail, "fails"),
    (Plan::Garbage, "garbage"),
    (Plan::Early, "too early"),
    (Plan::Silence, "silence"),
    (Plan::HangUp, "hang-up"),
    (Plan::Delay, "delay"),
];

/// All of its failures.
pub(crate) const KINDS: [&str; 10] = [
    "junk",
    "refuses",
    "defers",
    "fails",
    "garbage",
    "too early",
    "silence",
    "hang-up",
    "delay",
    "gone",
];

pub(crate) const fn is_there(seed: u64) -> bool {
    seed % 3 == 1
}

impl World {
    pub(crate) fn connect_hook(&mut self, conn: ConnId) {
        assert!(is_there(self.seed), "the hook is asked, and there is none");
        if self.mishap(12) {
            self.tally.fault("hook", "gone");
            return self.soon(Happening::Lost(conn, Lost::Unreachable));
        }
        let plan = if self.faults == Faults::Calm || self.entropy.below(3) > 0 {
            Plan::Accept
        } else {
            let (plan, kind) = PLANS[self.entropy.below(PLANS.len() as u64) as usize];
            self.tally.fault("hook", kind);
            plan
        };
        let end = HookEnd {
            request: HookRequest::default(),
            body: Vec::new(),
            plan,
        };
        self.ends.insert(conn, End::Hook(Box::new(end)));
        self.soon(Happening::Connected(conn));
    }

    /// The hook reads a message; it answers when the message is complete.
    pub(crate) fn hook_hears(&mut self, conn: ConnId, bytes: &[u8]) -> Move {
        let mut next = Move::default();
        let Some(End::Hook(end)) = self.ends.get_mut(&conn) else {
            return next;
        };
        let progress = end.request.on_bytes(bytes, &mut end.body);
        assert_ne!(
            progress,
            HookProgress::Malformed,
            "the hook is asked wrongly"
        );
        if end.plan == Plan::Early {
            next.bytes = write_failed("no");
        }
        if progress == HookProgress::More {
            return next;
        }
        hold(self.ledger.judged(&end.body));
        let late = Duration::from_secs(1 + self.entropy.below(65));
        next.bytes = match end.plan {
            Plan::Accept => write_exit(0, b"X-Judged: yes\n"),
            Plan::Babble => write_exit(0, b"all is well\n"),
            Plan::Refuse => write_exit(20, b"no\n"),
            Plan::Defer => write_exit(75, b""),
            Plan::Fail => write_failed("by a signal"),
            Plan::Garbage => b"EXIT what\r\n".to_vec(),
            Plan::Early | Plan::Silence => Vec::new(),
            Plan::HangUp => {
                next.end = Some(Lost::Eof);
                b"EXIT 0 10\r\nX-Ju".to_vec()
            }
            Plan::Delay => {
                next.after = late;
                write_exit(0, b"")
            }
        };
        next
    }
}
