//! The host that receives the mail. It accepts everything or nothing, and records each message at its final dot.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A message as it arrived. It counts from its final dot on, before the reply.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    is_open: AtomicBool,
    has_ended: AtomicBool,
    arrived: Mutex<Vec<Arrived>>,
}

/// A sink on 127.0.0.1. Closed, it replies 451 to every recipient; open, it accepts all but `gone*`.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Sink {
    /// Starts it, closed.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&served);
                // A client that is killed ends its session in the middle.
                thread::spawn(move || drop(serve(&stream, &shared)));
            }
        });
        Self { port, shared }
    }

    /// Accepts mail from now on.
    pub(crate) fn open(&self) {
        self.shared.is_open.store(true, Ordering::Relaxed);
    }

    /// All messages that have arrived, in order.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.shared.arrived.lock().expect("a lock").clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    writer.write_all(b"220 mx.sink.test\r\n")?;
    let (mut from, mut to) = (String::new(), Vec::new());
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let (verb, rest) = line
            .trim_end()
            .split_once([' ', ':'])
            .unwrap_or((line.trim_end(), ""));
        let reply = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => "250-mx.sink.test\r\n250-PIPELINING\r\n250 8BITMIME",
            "MAIL" => {
                from = path(rest);
                to.clear();
                "250 2.1.0 OK"
            }
            "RCPT" if !shared.is_open.load(Ordering::Relaxed) => "451 4.2.1 Not yet",
            "RCPT" if path(rest).starts_with("gone") => "550 5.1.1 Nobody of that name lives here",
            "RCPT" => {
                to.push(path(rest));
                "250 2.1.5 OK"
            }
            "DATA" if to.is_empty() => "554 5.5.1 Nobody to send it to",
            "DATA" => {
                writer.write_all(b"354 Go on\r\n")?;
                let bytes = body(&mut reader)?;
                let (from, to) = (from.clone(), std::mem::take(&mut to));
                let arrived = Arrived { from, to, bytes };
                shared.arrived.lock().expect("a lock").push(arrived);
                "250 2.0.0 Taken"
            }
            "QUIT" => "221 2.0.0 Bye",
            _ => "250 2.0.0 OK",
        };
        writer.write_all(format!("{reply}\r\n").as_bytes())?;
        line.clear();
    }
    Ok(())
}

/// The text between the angle brackets.
fn path(text: &str) -> String {
    let inner = text
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or_else(String::new, |(inner, _)| inner.to_owned())
}

/// A message without dot-stuffing; an error if it has no final dot.
fn body(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Vec<u8>> {
    let (mut bytes, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(bytes);
        }
        bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
