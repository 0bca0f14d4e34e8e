//! One run of an operator's program: a message on its standard input, its limited output, and its exit code or the
//! reason for which there is none.
//!
//! No shell is involved. The program leads its own process group, which is killed as a whole when its time is over. A
//! program may ignore its input.

use std::io::{self, ErrorKind, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::content::{BLOCK_BYTES, Content};
use crate::limits::HOOK_OUTPUT_BYTES_MAX;

/// A program to run.
pub(super) struct Program<'a> {
    /// Its path and its arguments.
    pub(super) words: &'a [String],
    /// Its working directory.
    pub(super) folder: &'a Path,
    pub(super) environment: &'a [(&'a str, String)],
    /// How long it may take.
    pub(super) timeout: Duration,
}

#[derive(Debug)]
pub(super) enum Ended {
    /// It ended by itself with this code.
    Exit(u8),
    Signal(i32),
    /// It took too long, and was killed.
    Late,
    /// It could not be started, or waiting for it failed.
    NotRun(io::Error),
}

/// Its output, each stream up to [`HOOK_OUTPUT_BYTES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Output {
    /// The beginning of its standard output.
    pub(super) stdout: Vec<u8>,
    /// The end of its standard error.
    pub(super) stderr: Vec<u8>,
}

/// The process groups of the running programs.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<Vec<Pid>>);

impl Running {
    fn groups(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills all of them.
    pub(super) fn end_all(&self) {
        for group in self.groups().drain(..) {
            // A group that has just ended does not exist.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a program with `head` and the message on its standard input.
pub(super) fn run(
    program: &Program<'_>,
    head: &[u8],
    content: &Content,
    running: &Running,
) -> (Ended, Output) {
    let mut output = Output::default();
    let Some((path, arguments)) = program.words.split_first() else {
        return (Ended::NotRun(ErrorKind::InvalidInput.into()), output);
    };
    let spawned = Command::new(path)
        .args(arguments)
        .env_clear()
        .envs(
            program
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .current_dir(program.folder)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return (Ended::NotRun(error), output),
    };
    let group = Pid::from_child(&child);
    running.groups().push(group);
    let until = Instant::now() + program.timeout;
    let input = Input {
        head,
        content,
        at: 0,
    };
    let ended = match converse(&mut child, input, &mut output, until) {
        Ok(true) => None,
        Ok(false) => Some(Ended::Late),
        Err(error) => Some(Ended::NotRun(error)),
    };
    if ended.is_some() {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait();
    running.groups().retain(|known| *known != group);
    let ended = ended.unwrap_or_else(|| match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Exit(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => Ended::Signal(signal.unwrap_or_default()),
        },
        Err(error) => Ended::NotRun(error),
    });
    (ended, output)
}

/// The input of the program.
struct Input<'a> {
    head: &'a [u8],
    content: &'a Content,
    at: u64,
}

impl Input<'_> {
    /// Writes as much as the pipe takes; returns whether all is written.
    fn write_to(&mut self, pipe: &mut ChildStdin, block: &mut [u8]) -> io::Result<bool> {
        loop {
            let head = self.head.len() as u64;
            let bytes = match usize::try_from(self.at)
                .ok()
                .and_then(|at| self.head.get(at..))
                .filter(|rest| !rest.is_empty())
            {
                Some(rest) => rest,
                None => {
                    let len = self.content.read_at(self.at.saturating_sub(head), block)?;
                    block.get(..len).unwrap_or_default()
                }
            };
            if bytes.is_empty() {
                return Ok(true);
            }
            match pipe.write(bytes) {
                Ok(len) => self.at += len as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It does not read more.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Feeds the program and reads its output until it ends; returns whether it ended in time.
fn converse(
    child: &mut Child,
    mut input: Input<'_>,
    output: &mut Output,
    until: Instant,
) -> io::Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let pipes = [
        stdin.as_ref().map(AsFd::as_fd),
        stdout.as_ref().map(AsFd::as_fd),
        stderr.as_ref().map(AsFd::as_fd),
    ];
    for pipe in pipes.into_iter().flatten() {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        if let Some(pipe) = &mut stdin
            && input.write_to(pipe, &mut block)?
        {
            stdin = None;
        }
        let pipes = [
            (stdin.as_ref().map(AsFd::as_fd), PollFlags::OUT),
            (stdout.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (stderr.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        let ended = wait(process.as_fd(), pipes, until)?;
        if let Some(pipe) = &mut stdout
            && hear(pipe, &mut output.stdout, Keep::First, &mut block)?
        {
            stdout = None;
        }
        if let Some(pipe) = &mut stderr
            && hear(pipe, &mut output.stderr, Keep::Last, &mut block)?
        {
            stderr = None;
        }
        if ended {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
    }
}

/// Waits until a pipe is ready, the program has ended (which is returned), or the time is over.
fn wait(
    process: BorrowedFd<'_>,
    pipes: [(Option<BorrowedFd<'_>>, PollFlags); 3],
    until: Instant,
) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(|_| ErrorKind::InvalidInput)?;
    let mut watched = vec![PollFd::from_borrowed_fd(process, PollFlags::IN)];
    for (pipe, flags) in pipes {
        watched.extend(pipe.map(|pipe| PollFd::from_borrowed_fd(pipe, flags)));
    }
    match poll(&mut watched, Some(&left)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let process = watched.first().map(PollFd::revents);
    Ok(process.is_some_and(|events| !events.is_empty()))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keep {
    First,
    Last,
}

/// Reads the available output, and keeps part of it; returns whether the stream has ended.
fn hear(
    pipe: &mut impl Read,
    kept: &mut Vec<u8>,
    keep: Keep,
    block: &mut [u8],
) -> io::Result<bool> {
    // Larger than a pipe: a program that writes without end must not prevent the check of the time.
    for _ in 0..READS_MAX {
        let len = match pipe.read(block) {
            Ok(0) => return Ok(true),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = block.get(..len).unwrap_or_default();
        match keep {
            Keep::First => {
                let room = HOOK_OUTPUT_BYTES_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
            Keep::Last => {
                kept.extend_from_slice(bytes);
                let over = kept.len().saturating_sub(HOOK_OUTPUT_BYTES_MAX);
                kept.drain(..over);
            }
        }
    }
    Ok(false)
}

const READS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration, text: &[u8]) -> (Ended, Output) {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let mut content = Content::default();
        content.push(text, Path::new("/tmp")).expect("room");
        content.finish().expect("room");
        let program = Program {
            words: &words,
            folder: Path::new("/"),
            environment: &[("A", "b c".to_owned())],
            timeout,
        };
        run(&program, b"Head: x\n", &content, &Running::default())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_program_gets_the_message_and_only_its_own_environment() {
        let (ended, output) = shell(
            "cat; env | grep -v '^PWD=\\|^_=\\|^OLDPWD=\\|^SHLVL='; exit 3",
            LONG,
            b"hi\r\n",
        );
        assert!(matches!(ended, Ended::Exit(3)), "{ended:?}");
        assert_eq!(
            String::from_utf8(output.stdout).expect("ASCII"),
            "Head: x\nhi\nA=b c\n"
        );
    }

    #[test]
    fn a_program_that_reads_nothing_or_writes_without_end_does_no_harm() {
        let long = b"0123456789\r\n".repeat(100_000);
        let (ended, _) = shell("exec 0<&-; exit 0", LONG, &long);
        assert!(matches!(ended, Ended::Exit(0)), "{ended:?}");
        let (ended, output) = shell(
            "head -c 9000000 /dev/zero; echo first >&2; cat >/dev/null; echo last >&2",
            LONG,
            &long,
        );
        assert!(matches!(ended, Ended::Exit(0)), "{ended:?}");
        assert_eq!(output.stdout.len(), HOOK_OUTPUT_BYTES_MAX);
        assert!(output.stderr.ends_with(b"last\n"));
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_that_it_began() {
        let folder = tempfile::tempdir().expect("a folder");
        let mark = folder.path().join("mark");
        let script = format!("(sleep 2; touch {}) & sleep 30", mark.display());
        let begun = Instant::now();
        let (ended, _) = shell(&script, Duration::from_millis(200), b"");
        assert!(matches!(ended, Ended::Late), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(2_200));
        assert!(!mark.exists());
    }

    #[test]
    fn what_cannot_be_run_and_what_is_killed_have_no_exit_code() {
        let words = ["/nonexistent/program".to_owned()];
        let program = Program {
            words: &words,
            folder: Path::new("/"),
            environment: &[],
            timeout: LONG,
        };
        let (ended, _) = run(&program, b"", &Content::default(), &Running::default());
        assert!(matches!(ended, Ended::NotRun(_)), "{ended:?}");
        let (ended, _) = shell("kill -9 $$", LONG, b"");
        assert!(matches!(ended, Ended::Signal(9)), "{ended:?}");
    }

    #[test]
    fn a_program_that_leaves_something_running_has_ended_all_the_same() {
        let begun = Instant::now();
        let (ended, _) = shell("sleep 5 & exit 0", LONG, b"");
        assert!(matches!(ended, Ended::Exit(0)), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}
