//! Sends requests to the running daemon over its control socket.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::failure::Failure;
use super::output::print;
use super::sysexits::{IO_ERROR, NOT_PERMITTED, UNAVAILABLE};
use crate::engine::control::{ControlRequest, ControlResponse};

/// Sends a request, and passes each line of the answer to `sink`; returns the number of selected messages, and the
/// errors.
pub fn ask(
    runtime_dir: &Path,
    request: &ControlRequest,
    sink: &mut dyn FnMut(ControlResponse) -> Result<(), Failure>,
) -> Result<(usize, Vec<String>), Failure> {
    let path = runtime_dir.join("control.sock");
    let broken =
        |error: std::io::Error| Failure::new(IO_ERROR, format!("{}: {error}", path.display()));
    let mut stream = UnixStream::connect(&path).map_err(|error| not_there(&path, &error))?;
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .map_err(broken)?;
    let mut line = serde_json::to_vec(request).map_err(|error| Failure::new(IO_ERROR, error))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let Some(line) = lines.next().transpose().map_err(broken)? else {
            return Err(Failure::new(
                UNAVAILABLE,
                format!(
                    "{}: the daemon closed the connection; try again, or see its log",
                    path.display()
                ),
            ));
        };
        let response = serde_json::from_str(&line).map_err(|error| {
            Failure::new(
                IO_ERROR,
                format!("the daemon's answer is not understood: {error}"),
            )
        })?;
        match response {
            ControlResponse::Denied { text } => return Err(Failure::new(NOT_PERMITTED, text)),
            ControlResponse::End { count, errors } => return Ok((count, errors)),
            response => sink(response)?,
        }
    }
}

/// Why no daemon answers at a socket, and what to do about it.
pub fn not_there(socket: &Path, error: &std::io::Error) -> Failure {
    let is_usual = socket.starts_with("/run/chopar");
    let start = match is_usual && Path::new("/run/systemd/system").is_dir() {
        true => "sudo systemctl start chopar",
        false if is_usual => "sudo chopar run",
        false => "chopar run",
    };
    let path = socket.display();
    if is_usual && error.kind() == std::io::ErrorKind::NotFound && !is_set_up() {
        let text =
            format!("{path}: chopar is not set up on this machine; run sudo chopar init DOMAIN");
        return Failure::new(UNAVAILABLE, text);
    }
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Failure::new(
            NOT_PERMITTED,
            format!("{path}: {error}; use sudo, or let all users pass through its folder"),
        ),
        _ => Failure::new(
            UNAVAILABLE,
            format!("{path}: the daemon does not answer ({error}); start it with `{start}`"),
        ),
    }
}

/// Whether the service of this machine would have a configuration to start with: the same condition as in its unit.
fn is_set_up() -> bool {
    ["chopar.toml", "domains"]
        .iter()
        .any(|name| Path::new("/etc/chopar").join(name).exists())
}

/// Whether the daemon knows of a change of the configuration folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// It has read the folder again.
    Read,
    /// None runs.
    AtStart,
    /// A user who may edit the folder may not be allowed to ask the daemon.
    NotTold,
}

impl fmt::Display for Known {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Read => "the daemon has read it",
            Self::AtStart => "no daemon runs; it will read this at its next start",
            Self::NotTold => "the daemon does not know yet: run `sudo chopar reload`",
        })
    }
}

/// Reports in one line what a command has changed in the configuration folder, and whether a reload is needed; a
/// running daemon is notified.
pub fn changed(
    what: impl fmt::Display,
    runtime_dir: &Path,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    match reload_if_running(runtime_dir) {
        Ok(known) => print(output, &format!("{what}; {known}\n")),
        Err(failure) => Err(Failure::new(
            failure.exit_code(),
            format!("{what}; {failure}"),
        )),
    }
}

/// Reloads a running daemon after a change of the configuration folder.
pub fn reload_if_running(runtime_dir: &Path) -> Result<Known, Failure> {
    if let Err(error) = UnixStream::connect(runtime_dir.join("control.sock")) {
        return Ok(match error.kind() {
            std::io::ErrorKind::PermissionDenied => Known::NotTold,
            _ => Known::AtStart,
        });
    }
    let (_, errors) = match ask(runtime_dir, &ControlRequest::Reload {}, &mut |_| Ok(())) {
        Err(failure) if failure.exit_code() == NOT_PERMITTED => return Ok(Known::NotTold),
        answer => answer?,
    };
    match errors.first() {
        None => Ok(Known::Read),
        Some(error) => Err(Failure::new(
            super::sysexits::CONFIGURATION,
            format!("the daemon keeps its old configuration: {error}"),
        )),
    }
}

/// A whole answer may take as long as a reload.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
