//! A relay in a memory cgroup: the memory of its process, its sockets and its files has one limit, and the kernel kills
//! the relay beyond it.
//!
//! The group is made below that of the tests, with version 1 or 2 of cgroups. If none can be made (not root, a
//! read-only `/sys/fs/cgroup`), that is printed, and only the memory of the process itself is checked.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::relay::{Relay, Setup};

/// Memory of a small host that is left for a relay.
pub(crate) const MIB: u64 = 128;

/// A relay in a memory cgroup.
pub(crate) struct Caged {
    // Dropped first: a group that has a process cannot be removed.
    relay: Relay,
    group: Option<Group>,
}

/// Starts a relay with this limit for everything, in MiB.
pub(crate) fn caged(mut setup: Setup, mib: u64) -> Caged {
    let group = match Group::new(mib) {
        Ok(group) => {
            let join = format!(
                "echo $$ > '{}/cgroup.procs' && exec \"$0\" \"$@\"",
                group.folder.display()
            );
            let words = ["/bin/sh", "-c", &join].map(str::to_owned);
            setup.wrapper.splice(0..0, words);
            Some(group)
        }
        Err(why) => {
            println!("not in a memory cgroup of {mib} MiB: {why}");
            None
        }
    };
    let relay = setup.start();
    if let Some(group) = &group {
        let procs = fs::read_to_string(group.folder.join("cgroup.procs")).expect("a group");
        assert!(!procs.is_empty(), "the relay runs outside of its group");
    }
    Caged { relay, group }
}

impl Caged {
    /// The peak memory of the group, in words.
    pub(crate) fn peak(&self) -> String {
        let Some(group) = &self.group else {
            return "no cgroup".to_owned();
        };
        let peak = ["memory.max_usage_in_bytes", "memory.peak"]
            .iter()
            .find_map(|name| fs::read_to_string(group.folder.join(name)).ok());
        match peak.and_then(|text| text.trim().parse::<u64>().ok()) {
            Some(bytes) => format!(
                "at most {} of {} MiB in its cgroup, cache and sockets included",
                bytes >> 20,
                group.mib
            ),
            None => format!("in a cgroup of {} MiB", group.mib),
        }
    }
}

impl Deref for Caged {
    type Target = Relay;

    fn deref(&self) -> &Relay {
        &self.relay
    }
}

impl DerefMut for Caged {
    fn deref_mut(&mut self) -> &mut Relay {
        &mut self.relay
    }
}

struct Group {
    folder: PathBuf,
    mib: u64,
}

impl Group {
    fn new(mib: u64) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "chopar-pressure-{}-{}",
            std::process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        );
        let mut why = "no cgroup with a memory controller is mounted".to_owned();
        for parent in parents() {
            let folder = parent.join(&name);
            if let Err(error) = fs::create_dir(&folder) {
                why = format!("{}: {error}", folder.display());
                continue;
            }
            let group = Self { folder, mib };
            match group.limit() {
                Ok(()) => return Ok(group),
                Err(error) => why = format!("{}: {error}", group.folder.display()),
            }
        }
        Err(why)
    }

    fn limit(&self) -> std::io::Result<()> {
        let bytes = (self.mib << 20).to_string();
        let (one, two) = ("memory.limit_in_bytes", "memory.max");
        let name = if self.folder.join(one).exists() {
            one
        } else {
            two
        };
        fs::write(self.folder.join(name), &bytes)?;
        // If swap is counted, it gets none.
        drop(fs::write(
            self.folder.join("memory.memsw.limit_in_bytes"),
            &bytes,
        ));
        drop(fs::write(self.folder.join("memory.swap.max"), "0"));
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The process is reaped; the kernel may take a moment until the group is empty.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Folders for the group: below our own, or beside it, since version 2 permits no group below one with processes.
fn parents() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mount = |matches: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, point, kind, options, ..] = *words else {
                return None;
            };
            matches(kind, options).then(|| PathBuf::from(point))
        })
    };
    let is_memory = |options: &str| options.split(',').any(|option| option == "memory");
    let one = mount(&|kind, options| kind == "cgroup" && is_memory(options));
    let two = mount(&|kind, _| kind == "cgroup2");
    let path = |wanted: &dyn Fn(&str) -> bool| {
        own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let mut found = Vec::new();
    for (point, own) in [(one, path(&is_memory)), (two, path(&str::is_empty))] {
        let (Some(point), Some(own)) = (point, own) else {
            continue;
        };
        let below = point.join(&own);
        found.push(below.clone());
        found.extend(below.parent().map(Path::to_path_buf));
    }
    found
}
