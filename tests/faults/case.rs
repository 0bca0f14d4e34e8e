//! One fault: its scene, thread and call, and the name that repeats it.

use std::fmt;
use std::str::FromStr;

/// The work during which the fault occurs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Scene {
    /// The relay accepts a message, delivers it to one recipient and sends a DSN about another. It also delivers an
    /// older message and removes its segment.
    Relay,
    /// The same with a message that is large enough for a file of its own.
    Large,
    /// The relay starts on a spool that a kill left, with mail in every part of it. The fault occurs twice in a row.
    Start,
    /// `chopar reload` while mail is queued.
    Reload,
    /// The relay submits the drop folder: a message, one with a recipient that the relay refuses, one that is too large
    /// by now, one that the hook refuses.
    Drop,
    /// `sendmail` is called while the relay is down, and the fault occurs in `sendmail`.
    Leave,
    /// The same while the relay is up.
    Submit,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    /// SIGKILL instead of the call.
    Kill,
    /// The call fails once with this error.
    Once(&'static str),
    /// The call and all later ones of its kind fail with this error.
    Always(&'static str),
}

/// A fault at the `number`th call of a kind in a thread, counted from 1: in [`Scene::Start`] and in `sendmail` from the
/// first system call, otherwise from the moment when the relay is up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Case {
    pub(crate) scene: Scene,
    /// `main`, or the thread's name.
    pub(crate) thread: String,
    pub(crate) call: String,
    pub(crate) fault: Fault,
    pub(crate) number: usize,
}

const SCENES: [(&str, Scene); 7] = [
    ("relay", Scene::Relay),
    ("large", Scene::Large),
    ("start", Scene::Start),
    ("reload", Scene::Reload),
    ("drop", Scene::Drop),
    ("leave", Scene::Leave),
    ("submit", Scene::Submit),
];

/// Injected errors.
const ERRORS: [&str; 6] = [
    "EIO",
    "ENOSPC",
    "EDQUOT",
    "EMFILE",
    "ECONNRESET",
    "ENETUNREACH",
];

impl fmt::Display for Scene {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SCENES.iter().find(|(_, scene)| scene == self);
        out.write_str(name.map_or("", |(name, _)| name))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => out.write_str("kill"),
            Self::Once(error) => out.write_str(error),
            Self::Always(error) => write!(out, "{error}+"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scene,
            thread,
            call,
            fault,
            number,
        } = self;
        write!(out, "{scene}/{thread}/{call}/{fault}/{number}")
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a case; one is called relay/journal/fdatasync/kill/1");
        let [scene, thread, call, fault, number] = text
            .split('/')
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| wrong())?;
        let (_, scene) = SCENES
            .iter()
            .find(|(name, _)| *name == scene)
            .ok_or_else(wrong)?;
        let error = |name: &str| {
            ERRORS
                .iter()
                .find(|error| **error == name)
                .copied()
                .ok_or_else(wrong)
        };
        let fault = match fault.strip_suffix('+') {
            Some(name) => Fault::Always(error(name)?),
            None if fault == "kill" => Fault::Kill,
            None => Fault::Once(error(fault)?),
        };
        let number = number.parse().map_err(|_| wrong())?;
        Ok(Self {
            scene: *scene,
            thread: thread.to_owned(),
            call: call.to_owned(),
            fault,
            number,
        })
    }
}

impl Case {
    /// The argument of strace.
    pub(crate) fn inject(&self) -> String {
        let Self { call, number, .. } = self;
        match self.fault {
            Fault::Kill => format!("inject={call}:signal=KILL:when={number}"),
            Fault::Once(error) => format!("inject={call}:error={error}:when={number}"),
            Fault::Always(error) => format!("inject={call}:error={error}:when={number}+"),
        }
    }

    /// The command that runs this case alone.
    pub(crate) fn replay(&self) -> String {
        format!("CHOPAR_FAULTS={self} cargo test --locked --test faults a_fault_at -- --nocapture")
    }

    /// Whether the fault may interrupt an exchange with a peer, after which both sides may disagree.
    pub(crate) fn is_of_network(&self) -> bool {
        NETWORK_CALLS.contains(&self.call.as_str())
    }
}

/// Calls that talk to a peer.
pub(crate) const NETWORK_CALLS: [&str; 9] = [
    "accept4", "connect", "read", "readv", "recvfrom", "sendto", "socket", "write", "writev",
];

mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        for name in [
            "relay/journal/fdatasync/EIO+/2",
            "start/main/openat/kill/17",
            "large/main/write/EIO/1",
        ] {
            let case: Case = name.parse().expect("a case");
            assert_eq!(case.to_string(), name);
        }
        for name in [
            "",
            "relay/main/write/kill",
            "relay/main/write/EPERM/1",
            "relay/main/write/kill/x",
        ] {
            assert!(name.parse::<Case>().is_err(), "{name}");
        }
    }
}
