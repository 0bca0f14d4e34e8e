//! The list of faults: one for each call that a scene makes.

use crate::case::{Case, Fault, NETWORK_CALLS, Scene};
use crate::scene::Stage;

/// The extent of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// The calls that change the spool or talk to a peer.
    Short,
    /// All calls except those that only wait.
    Long,
}

/// All cases.
pub(crate) fn cases(stage: &Stage, form: Form) -> Vec<Case> {
    let mut cases = Vec::new();
    for scene in [
        Scene::Relay,
        Scene::Large,
        Scene::Start,
        Scene::Reload,
        Scene::Drop,
        Scene::Leave,
        Scene::Submit,
    ] {
        for ((thread, call), count) in stage.count(scene) {
            for fault in faults(form, scene, &thread, &call) {
                cases.extend((1..=count).map(|number| {
                    let (thread, call) = (thread.clone(), call.clone());
                    Case {
                        scene,
                        thread,
                        call,
                        fault,
                        number,
                    }
                }));
            }
        }
    }
    cases
}

/// The faults for a call of a thread.
fn faults(form: Form, scene: Scene, thread: &str, call: &str) -> Vec<Fault> {
    let (is_disk, is_network) = (SPOOL_CALLS.contains(&call), NETWORK_CALLS.contains(&call));
    let mut faults = Vec::new();
    // The threads that sign do nothing here, and that of the drop folder has its own scene.
    if !matches!(
        (scene, thread),
        (Scene::Drop, "drop") | (_, "main" | "journal")
    ) || WAITS.contains(&call)
    {
        return faults;
    }
    if (scene == Scene::Drop) != (thread == "drop") {
        return faults;
    }
    let is_short = match scene {
        Scene::Relay => is_disk || is_network && call != "recvfrom",
        Scene::Large => is_disk && thread == "journal",
        Scene::Start => is_disk && call != "openat",
        Scene::Drop => is_disk,
        Scene::Leave | Scene::Submit => is_disk && call != "openat" || call == "sendto",
        Scene::Reload => call == "write" || call == "sendto",
    };
    if is_short || form == Form::Long {
        faults.push(Fault::Kill);
    }
    let is_long = form == Form::Long;
    let is_local = matches!(scene, Scene::Drop | Scene::Leave | Scene::Submit);
    let is_brief = is_local && matches!(call, "fsync" | "rename" | "unlink");
    if is_brief && !is_long {
        faults.push(Fault::Once("EIO"));
    }
    if is_disk && (thread == "journal" || is_long) {
        faults.push(Fault::Once("EIO"));
        faults.push(Fault::Once("ENOSPC"));
        faults.push(Fault::Always("EIO"));
        if is_long {
            faults.push(Fault::Once("EDQUOT"));
            faults.push(Fault::Always("ENOSPC"));
        }
    }
    if is_long && READ_CALLS.contains(&call) {
        faults.push(Fault::Once("EIO"));
    }
    if is_long && OPEN_CALLS.contains(&call) {
        faults.push(Fault::Once("EMFILE"));
    }
    if is_long && is_network && (thread == "main" || is_local) && scene != Scene::Start {
        faults.push(Fault::Once(if call == "connect" {
            "ENETUNREACH"
        } else {
            "ECONNRESET"
        }));
    }
    faults.dedup();
    faults
}

/// Calls that change the spool.
const SPOOL_CALLS: [&str; 13] = [
    "fallocate",
    "fdatasync",
    "fsync",
    "ftruncate",
    "mkdir",
    "mkdirat",
    "openat",
    "pwrite64",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
];
/// Calls that read the spool.
const READ_CALLS: [&str; 3] = ["pread64", "getdents64", "newfstatat"];
/// Calls that create a descriptor.
const OPEN_CALLS: [&str; 3] = ["accept4", "openat", "socket"];
/// Calls that wait, whose number differs between runs.
const WAITS: [&str; 9] = [
    "epoll_wait",
    "ppoll",
    "futex",
    "restart_syscall",
    "execve",
    "brk",
    "mmap",
    "munmap",
    "mprotect",
];
