//! Speaks to the running daemon over its control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::failure::Failure;
use super::sysexits::{IO_ERROR, NOT_PERMITTED, UNAVAILABLE};
use crate::engine::control::{Request, Response};

/// Asks, and hands each line of the answer to `sink`; gives the number of messages that were meant, and what went
/// wrong.
pub fn ask(
    runtime_dir: &Path,
    request: &Request,
    sink: &mut dyn FnMut(Response) -> Result<(), Failure>,
) -> Result<(usize, Vec<String>), Failure> {
    let path = runtime_dir.join("control.sock");
    let broken =
        |error: std::io::Error| Failure::new(IO_ERROR, format!("{}: {error}", path.display()));
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Failure::new(
            NOT_PERMITTED,
            "only root and the daemon's own user may ask it; use sudo",
        ),
        _ => Failure::new(
            UNAVAILABLE,
            format!(
                "the daemon does not answer at {} ({error}); start it with `chopar run`",
                path.display()
            ),
        ),
    })?;
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
                "the daemon closed the control socket; see its log",
            ));
        };
        let response = serde_json::from_str(&line).map_err(|error| {
            Failure::new(
                IO_ERROR,
                format!("the daemon's answer is not understood: {error}"),
            )
        })?;
        match response {
            Response::End { count, errors } => return Ok((count, errors)),
            response => sink(response)?,
        }
    }
}

/// Has a change of the configuration folder take effect, where a daemon runs.
pub fn reload_if_running(runtime_dir: &Path) -> Result<(), Failure> {
    if UnixStream::connect(runtime_dir.join("control.sock")).is_err() {
        return Ok(()); // it will read the folder when it starts
    }
    let (_, errors) = ask(runtime_dir, &Request::Reload {}, &mut |_| Ok(()))?;
    match errors.first() {
        None => Ok(()),
        Some(error) => Err(Failure::new(
            super::sysexits::CONFIGURATION,
            format!("the daemon goes on with its old configuration: {error}"),
        )),
    }
}

/// A whole answer may take as long as a reload.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
