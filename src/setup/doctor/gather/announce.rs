//! Announces the attempts of this tool to the daemon, so that its log does not warn of them.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;

use super::smtp::own_port;
use crate::config::Config;
use crate::engine::control::ControlRequest;
use crate::limits::DOCTOR_REPLY_TIMEOUT;
use crate::setup::doctor::judge::ports::CheckedRole;

/// As long as this is held the daemon expects them.
#[derive(Debug)]
pub struct Announced {
    _stream: UnixStream,
}

/// Announces the addresses from which this machine reaches its own ports: the system uses the address of the other end
/// if that is one of its own. `None` if no daemon answers, or the caller may not make the request: then the log has the
/// lines.
pub fn announce(config: &Config) -> Option<Announced> {
    let roles = [
        CheckedRole::Smtp,
        CheckedRole::Submission,
        CheckedRole::Submissions,
    ];
    let addresses: BTreeSet<IpAddr> = roles
        .into_iter()
        .filter_map(|role| Some(own_port(config, role)?.ip().to_canonical()))
        .collect();
    let request = ControlRequest::Examine {
        addresses: addresses.into_iter().collect(),
    };
    let mut line = serde_json::to_vec(&request).ok()?;
    line.push(b'\n');
    let stream = UnixStream::connect(config.runtime_dir.join("control.sock")).ok()?;
    stream.set_read_timeout(Some(DOCTOR_REPLY_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(DOCTOR_REPLY_TIMEOUT)).ok()?;
    (&stream).write_all(&line).ok()?;
    // Once it has answered it knows.
    BufReader::new(&stream).read_line(&mut String::new()).ok()?;
    Some(Announced { _stream: stream })
}
