//! The processes that listen on ports, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use crate::config::{Listen, Receive};
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::ports::{
    CheckedPort, CheckedRole, Facts, ListeningSocket, listening,
};

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Facts {
    let config = &examination.config;
    let holders = holders();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| {
        let table = fs::read_to_string(path).unwrap_or_default();
        listening(&table)
    });
    let listeners = tables
        .into_iter()
        .flatten()
        .map(|(at, inode)| ListeningSocket {
            at,
            holder: holders.get(&inode).cloned(),
        });
    let configured = |listen: &Listen, role: CheckedRole| match listen {
        Listen::Addresses(list) => list.iter().map(|address| address.port()).collect(),
        Listen::Systemd => vec![role.port()],
    };
    let listen = &config.listen;
    let ports = [
        (CheckedRole::Smtp, &listen.smtp),
        (CheckedRole::Submission, &listen.submission),
        (CheckedRole::Submissions, &listen.submissions),
    ];
    let addresses = examination.addresses();
    Facts {
        ports: ports
            .into_iter()
            .map(|(role, listen)| CheckedPort {
                role,
                configured: configured(listen, role),
            })
            .collect(),
        listeners: listeners.collect(),
        families: (
            addresses.iter().any(IpAddr::is_ipv4),
            addresses.iter().any(IpAddr::is_ipv6),
        ),
        receives: config
            .domains
            .values()
            .any(|served| served.receive == Receive::Here),
    }
}

/// The programs that hold sockets, by inode; only root sees those of other accounts.
fn holders() -> BTreeMap<u64, String> {
    let mut holders = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let path = process.path();
        let Ok(open) = fs::read_dir(path.join("fd")) else {
            continue;
        };
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        for entry in open.flatten() {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let link = link.to_string_lossy();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                holders.insert(inode, name.trim_end().to_owned());
            }
        }
    }
    holders
}
