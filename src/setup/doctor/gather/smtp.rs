//! The client side of a short SMTP dialogue, written by hand, because a relay never asks these questions.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use crate::config::{Config, Listen};
use crate::limits::{DOCTOR_REPLY_BYTES_MAX, DOCTOR_REPLY_TIMEOUT};
use crate::setup::doctor::judge::ports::CheckedRole;
use crate::setup::machine;
use crate::shell::net::timed::is_late;

/// A reply: its code and its lines without it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SmtpReply {
    pub code: u16,
    pub lines: Vec<String>,
}

impl SmtpReply {
    /// All of it on one line.
    pub(super) fn text(&self) -> String {
        self.lines.join(" / ")
    }
}

/// Reads one reply, however it comes in pieces.
pub fn reply(from: &mut impl Read) -> io::Result<SmtpReply> {
    let malformed = || io::Error::other("the reply cannot be read");
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut byte = [0];
    for _ in 0..DOCTOR_REPLY_BYTES_MAX {
        from.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let (code, rest) = text.split_at_checked(3).ok_or_else(malformed)?;
                let code = code.parse().map_err(|_| malformed())?;
                let is_last = !rest.starts_with('-');
                lines.push(rest.get(1..).unwrap_or_default().to_owned());
                if is_last {
                    return Ok(SmtpReply { code, lines });
                }
            }
            [byte] => line.push(byte),
        }
    }
    Err(malformed())
}

/// An error in words; the text of the system for a timeout is odd.
pub(super) fn sentence(error: &io::Error) -> String {
    match error.kind() {
        _ if is_late(error) => "no answer".to_owned(),
        io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        _ => error.to_string(),
    }
}

/// Sends a command, and reads the reply.
pub(super) fn command(stream: &mut (impl Read + Write), text: &str) -> io::Result<SmtpReply> {
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.flush()?;
    reply(stream)
}

/// Connects, by reads and writes that end.
pub(super) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, DOCTOR_REPLY_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DOCTOR_REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(DOCTOR_REPLY_TIMEOUT))?;
    Ok(stream)
}

/// The address at which this machine reaches a port of its own: the one that others use, if it has that.
pub(super) fn own_port(config: &Config, role: CheckedRole) -> Option<SocketAddr> {
    let listen = match role {
        CheckedRole::Smtp => &config.listen.smtp,
        CheckedRole::Submission => &config.listen.submission,
        CheckedRole::Submissions => &config.listen.submissions,
    };
    let any: SocketAddr = (std::net::Ipv4Addr::UNSPECIFIED, role.port()).into();
    let addresses = match listen {
        Listen::Addresses(list) => list.clone(),
        Listen::Systemd => vec![any],
    };
    let outer = addresses
        .iter()
        .find(|address| !address.ip().to_canonical().is_loopback());
    let mut address = *outer.or(addresses.first())?;
    if address.ip().is_unspecified() {
        let loopback: IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(machine::routed(address.is_ipv4()).unwrap_or(loopback));
    }
    Some(address)
}
