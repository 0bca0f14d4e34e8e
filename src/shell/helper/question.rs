//! The helper's side of a request to `hooks/post-data`: it receives the message and its facts, runs the hook, and
//! returns the exit code and the output. The relay interprets them ([`crate::hook`]).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::content::{BLOCK_BYTES, Content};
use super::program::{self, Ended, Program};
use super::shared::Shared;
use crate::engine::log::{Level, Line};
use crate::hook::{HookProgress, HookRequest, last_line, write_exit, write_failed};
use crate::limits::HOOK_TIMEOUT;
use crate::shell::process::interruption::uninterrupted;
use crate::shell::process::log;

/// The hook in the configuration folder.
const HOOK_FILE: &str = "hooks/post-data";

/// Serves one request.
pub(super) fn serve(mut stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let folder = &shared.directory.folder;
    let mut request = HookRequest::default();
    let mut content = Content::default();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let len = uninterrupted(|| stream.read(&mut block))?;
        let mut piece = Vec::new();
        let progress = request.on_bytes(block.get(..len).unwrap_or_default(), &mut piece);
        // A long message is stored in the folder for temporary files: a hook is asked before the state folder of the
        // relay is known here.
        content.push(&piece, &std::env::temp_dir())?;
        match progress {
            HookProgress::Whole => break,
            HookProgress::More if len > 0 => {}
            HookProgress::More | HookProgress::Malformed => return Ok(()),
        }
    }
    content.finish()?;
    let mut environment = shared.directory.account.environment();
    environment.push(("PWD", folder.display().to_string()));
    environment.extend(
        request
            .facts()
            .iter()
            .map(|(fact, value)| (fact.name(), value.clone())),
    );
    let program = Program {
        words: &[folder.join(HOOK_FILE).display().to_string()],
        folder,
        environment: &environment,
        timeout: HOOK_TIMEOUT,
    };
    let (ended, output) = program::run(&program, b"", &content, &shared.running);
    let answer = match &ended {
        Ended::Exit(code) => write_exit(*code, &output.stdout),
        Ended::Signal(signal) => write_failed(&format!("ended by signal {signal}")),
        Ended::Late => write_failed("it took too long"),
        Ended::NotRun(error) => write_failed(&format!("{HOOK_FILE} cannot be run: {error}")),
    };
    if let Some(said) = last_line(&output.stderr) {
        log::write(&Line::new(Level::Warning, "hook").with("said", said));
    }
    stream.write_all(&answer)
}
