//! The system calls that the running process may not make (seccomp(2)): those that a mail relay does not need and that
//! an attacker in control of it would try first. For machines whose service manager has no such filter; the filter of
//! the systemd unit is stricter, and covers the helper too.
//!
//! | refused | since |
//! | --- | --- |
//! | to start a program, or a process; threads begin as before | the [`helper`](crate::shell::helper) does that |
//! | memory that can be executed, beyond what was loaded at the start; memory shared under a key | nothing is loaded later |
//! | to signal other processes, or change their limits and priority | the helper is of the same account |
//! | to type into the terminal that the relay was started from | whoever sits there may be root |
//! | sockets of other families than IPv4, IPv6 and Unix | of those the kernel has many, rarely tried |
//! | another account | the account is changed before |
//! | mounts, namespaces, modules, BPF, io_uring, keys, other processes' memory, clocks | none of it is the relay's |
//!
//! The list says what is refused, not what is allowed: another release of the C library must not stop the mail. A
//! listed call fails with EPERM, and a call of another architecture ends the process. Invariant: as with the sandbox,
//! no thread runs before.

use std::collections::BTreeMap;

use libc::{c_long, c_uint, c_ushort};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};

/// Makes these calls fail from now on for this thread and those that it starts. Returns the reason if the kernel
/// refuses.
pub(in crate::shell) fn narrow() -> Result<(), String> {
    let filter = filter().map_err(|error| error.to_string())?;
    // Most refusals are in the second. Calls of the other x86-64 ABI would pass it by their numbers.
    for program in [&other_numbers()[..], &filter] {
        apply_filter(program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn filter() -> Result<BpfProgram, seccompiler::Error> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let never = REFUSED.iter().map(|&call| (call, Vec::new()));
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = never.collect();
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, rule(0, &[(MaskedEq(thread), 0)])?);
    let executable = libc::PROT_EXEC as u64;
    for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(call, rule(2, &[(MaskedEq(executable), executable)])?);
    }
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    let other = families.map(|family| (Ne, family as u64));
    rules.insert(libc::SYS_socket, rule(0, &other)?);
    let own = u64::from(std::process::id());
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, rule(0, &[(Ne, own)])?);
    }
    rules.insert(libc::SYS_prlimit64, rule(0, &[(Ne, 0), (Ne, own)])?);
    let mut terminal = rule(1, &[(Eq, libc::TIOCSTI)])?;
    terminal.extend(rule(1, &[(Eq, libc::TIOCLINUX)])?);
    rules.insert(libc::SYS_ioctl, terminal);
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?;
    Ok(BpfProgram::try_from(filter)?)
}

/// The rule for a call that matches when all conditions on one argument hold.
fn rule(argument: u8, all: &[(SeccompCmpOp, u64)]) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let conditions = all.iter().map(|(operator, value)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    Ok(vec![SeccompRule::new(
        conditions.collect::<Result<_, _>>()?,
    )?])
}

/// Refuses the numbers of x32, and reports clone3, whose flags no filter can read, as not implemented: the C library
/// then uses clone.
fn other_numbers() -> [sock_filter; 6] {
    const LOAD: c_ushort = 0x20;
    const IF_FROM: c_ushort = 0x35;
    const IF_EQUAL: c_ushort = 0x15;
    const RETURN: c_ushort = 0x06;
    let step = |code, jt, jf, k: c_uint| sock_filter { code, jt, jf, k };
    let errno = |code| libc::SECCOMP_RET_ERRNO | code as c_uint;
    [
        step(LOAD, 0, 0, 0),
        step(IF_FROM, 2, 0, X32),
        step(IF_EQUAL, 2, 0, libc::SYS_clone3 as c_uint),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, errno(libc::EPERM)),
        step(RETURN, 0, 0, errno(libc::ENOSYS)),
    ]
}

/// The first number of x32; no other architecture has as many calls.
const X32: c_uint = 0x4000_0000;

const REFUSED: &[c_long] = &[
    // Programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_personality,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_mrelease,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setaffinity,
    // Accounts.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_vmsplice,
    libc::SYS_tee,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_remap_file_pages,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    // Memory, and queues, that processes share under a key. Its pages can be attached as executable.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_msgget,
    libc::SYS_msgctl,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // The machine's time and name.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::process::Command;

    use super::*;

    #[test]
    fn the_relay_signals_itself_alone_and_reaches_no_terminal_and_no_shared_memory() {
        use rustix::io::Errno;
        use rustix::process::{Pid, Resource, getpid, getppid, getrlimit, test_kill_process};
        let narrowed = std::thread::spawn(|| {
            narrow().expect("a filter");
            // As abort does.
            assert_eq!(test_kill_process(getpid()), Ok(()));
            getrlimit(Resource::Nofile);
            let parent = getppid().unwrap_or(Pid::INIT);
            assert_eq!(test_kill_process(parent), Err(Errno::PERM));
            let refused = rustix::process::setpriority_process(None, 19);
            assert_eq!(refused, Err(Errno::PERM));
        });
        narrowed.join().expect("as it should");
    }

    #[test]
    fn threads_and_sockets_work_and_no_program_process_or_executable_memory_can_be_had() {
        use rustix::io::Errno;
        use rustix::net::{AddressFamily, SocketType, socket};
        let narrowed = std::thread::spawn(|| {
            narrow().expect("a filter");
            let threads = std::thread::spawn(|| vec![0_u8; 1 << 20].len());
            assert_eq!(threads.join().expect("a thread"), 1 << 20);
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            std::fs::read("/etc/passwd").expect("a file");
            let error = Command::new("/bin/true").status().expect_err("a program");
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            for family in [AddressFamily::NETLINK, AddressFamily::PACKET] {
                let refused = socket(family, SocketType::RAW, None).map(drop);
                assert_eq!(refused, Err(Errno::PERM));
            }
            let refused = rustix::thread::set_thread_uid(rustix::process::getuid());
            assert_eq!(refused, Err(Errno::PERM));
        });
        narrowed.join().expect("as it should");
    }
}
