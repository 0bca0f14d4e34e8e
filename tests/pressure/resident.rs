//! The memory of the relay's process, as the kernel counts it.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::relay::Relay;

/// The process of a relay.
pub(crate) struct Resident {
    pid: u32,
}

/// Upper limit of its memory.
pub(crate) const PEAK_KIB_MAX: u64 = 128 * 1024;

impl Resident {
    /// Finds it by the configuration folder in its command line.
    pub(crate) fn of(relay: &Relay) -> Self {
        let config = relay.config().display().to_string();
        let pid = fs::read_dir("/proc")
            .expect("processes")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .find(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
                words.contains(&config.as_bytes()) && words.contains(&b"run".as_slice())
            });
        Self {
            pid: pid.expect("the relay's process"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Current resident memory.
    pub(crate) fn kib(&self) -> u64 {
        self.field("VmRSS:")
    }

    /// Peak resident memory since its start.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.field("VmHWM:")
    }

    /// Number of open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Limits its descriptors; returns the previous limit.
    pub(crate) fn limit_descriptors(&self, limit: Rlimit) -> Rlimit {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        prlimit(pid, Resource::Nofile, limit).expect("a limit")
    }

    fn field(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("a process");
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a line").parse().expect("a number")
    }
}
