//! Python's mail readers, in a process of their own.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(crate) struct Python {
    child: Child,
    questions: ChildStdin,
    answers: ChildStdout,
    asked: Vec<u8>,
    count: u32,
}

impl Python {
    pub(crate) fn new() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/readers.py");
        // Debian's Python packages are for this interpreter.
        let mut child = Command::new("/usr/bin/python3")
            .arg("-I")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let questions = child.stdin.take().expect("a pipe");
        let answers = child.stdout.take().expect("a pipe");
        Self {
            child,
            questions,
            answers,
            asked: Vec::new(),
            count: 0,
        }
    }

    /// Adds a value to the batch.
    pub(crate) fn ask(&mut self, kind: u8, value: &[u8]) {
        self.asked.push(kind);
        let len = u32::try_from(value.len()).expect("a short value");
        self.asked.extend_from_slice(&len.to_be_bytes());
        self.asked.extend_from_slice(value);
        self.count += 1;
    }

    /// The text displayed for each value of the batch.
    pub(crate) fn answers(&mut self) -> Vec<Vec<String>> {
        let count = std::mem::take(&mut self.count);
        if count == 0 {
            return Vec::new();
        }
        let asked = std::mem::take(&mut self.asked);
        self.questions
            .write_all(&count.to_be_bytes())
            .and_then(|()| self.questions.write_all(&asked))
            .and_then(|()| self.questions.flush())
            .expect("python3 listens");
        (0..count).map(|_| self.answer()).collect()
    }

    fn answer(&mut self) -> Vec<String> {
        let mut len = [0; 4];
        self.answers.read_exact(&mut len).expect("an answer");
        let mut text = vec![0; u32::from_be_bytes(len) as usize];
        self.answers.read_exact(&mut text).expect("an answer");
        let text = String::from_utf8(text).expect("UTF-8");
        text.split('\n').map(str::to_owned).collect()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
