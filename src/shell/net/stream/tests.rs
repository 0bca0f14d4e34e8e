//! Streams over real sockets: reading, writing, and the notification of the end.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream as StdTcp};
use std::os::unix::net::UnixStream as StdUnix;
use std::thread;
use std::time::Duration;

use super::*;
use crate::address::Domain;

const CONN: ConnId = ConnId {
    slot: 0,
    generation: 0,
};

fn tls() -> Tls {
    Tls::new(&[], &Domain::parse("mail.example.com").unwrap()).unwrap()
}

fn unix() -> (Stream, StdUnix) {
    let (ours, theirs) = StdUnix::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let socket = Socket::Unix(UnixStream::from_std(ours));
    (Stream::accepted(socket, CONN), theirs)
}

fn tcp() -> (Stream, StdTcp) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = StdTcp::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    let socket = Socket::Tcp(TcpStream::from_std(ours));
    (Stream::accepted(socket, CONN), theirs)
}

/// Steps the stream as the loop does, every edge given, until `done`.
fn drive(
    stream: &mut Stream,
    tls: &Tls,
    mut done: impl FnMut(&mut Stream, &ReadResult, &[u8]) -> bool,
) {
    let mut scratch = vec![0; 4_096];
    for _ in 0..20_000 {
        stream.on_ready(true, true, false);
        let _ = stream.write(tls);
        let input = if stream.may_read(true) {
            stream.read(tls, &mut scratch)
        } else {
            ReadResult::Nothing
        };
        if done(stream, &input, &scratch) {
            return;
        }
        thread::sleep(Duration::from_micros(100));
    }
    panic!("it never came to an end: {stream:?}");
}

#[test]
fn readiness_is_kept_until_the_system_has_nothing_more() {
    let tls = tls();
    let (mut stream, mut theirs) = unix();
    theirs.write_all(&[b'x'; 100]).unwrap();
    let mut scratch = [0; 64];
    assert_eq!(stream.read(&tls, &mut scratch), ReadResult::Bytes(64));
    assert!(stream.is_readable());
    assert!(!stream.may_read(false), "not wanted, but not forgotten");
    assert_eq!(stream.read(&tls, &mut scratch), ReadResult::Bytes(36));
    assert!(!stream.is_readable());
    drop(theirs);
    stream.on_ready(true, false, true);
    assert_eq!(stream.read(&tls, &mut scratch), ReadResult::Lost(Lost::Eof));
}

#[test]
fn output_that_does_not_fit_is_kept_in_order_and_drained_once() {
    let tls = tls();
    let (mut stream, theirs) = unix();
    let piece = |at: usize| vec![u8::try_from(at % 251).unwrap(); 10_000];
    for at in 0..200 {
        stream.send(piece(at));
    }
    assert_eq!(stream.write(&tls), WriteResult::Idle);
    assert!(!stream.may_read(true), "who does not read is not read");
    let reader = thread::spawn(move || {
        let mut theirs = theirs;
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        all
    });
    let mut drained = 0;
    while drained == 0 {
        stream.on_ready(false, true, false);
        drained += u32::from(stream.write(&tls) == WriteResult::Drained);
    }
    assert_eq!(
        (stream.write(&tls), stream.output.capacity()),
        (WriteResult::Idle, 0)
    );
    stream.close();
    let _ = stream.write(&tls);
    drop(stream);
    let expected: Vec<u8> = (0..200).flat_map(piece).collect();
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn output_that_came_after_all_was_out_is_not_taken_for_out() {
    let tls = tls();
    let (mut stream, _theirs) = unix();
    stream.send(b"250 first\r\n".to_vec());
    assert_eq!(stream.write(&tls), WriteResult::Drained);
    assert!(!stream.has_output());
    // It is reported later than that: bytes that fill the kernel's buffer are not sent yet.
    stream.send(vec![b'x'; 4 << 20]);
    assert_eq!(stream.write(&tls), WriteResult::Idle);
    assert!(stream.has_output());
}

#[test]
fn a_reply_reaches_a_peer_whose_input_was_not_read() {
    let tls = tls();
    let (mut stream, mut theirs) = tcp();
    theirs.write_all(&[b'x'; 40_000]).unwrap();
    stream.send(b"554 5.6.0 no\r\n".to_vec());
    stream.close();
    assert_eq!(stream.write(&tls), WriteResult::Idle);
    assert!(stream.is_lingering());
    let peer = thread::spawn(move || {
        let mut line = String::new();
        theirs.write_all(&[b'x'; 10_000]).unwrap();
        BufReader::new(theirs).read_line(&mut line).map(|_| line)
    });
    drive(&mut stream, &tls, |_, input, _| {
        matches!(input, ReadResult::Lost(Lost::Eof))
    });
    drop(stream);
    assert_eq!(peer.join().unwrap().unwrap(), "554 5.6.0 no\r\n");
}

#[test]
fn lingering_ends_when_a_peer_goes_on_sending() {
    let tls = tls();
    let (mut stream, mut theirs) = tcp();
    stream.close();
    let _ = stream.write(&tls);
    let peer = thread::spawn(move || while theirs.write_all(&[b'x'; 4_096]).is_ok() {});
    drive(&mut stream, &tls, |_, input, _| {
        matches!(input, ReadResult::Lost(Lost::Reset))
    });
    drop(stream);
    peer.join().unwrap();
}

#[test]
fn nobody_at_the_other_end_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let socket = Socket::Tcp(TcpStream::connect(address).unwrap());
    let mut stream = Stream::connecting(socket, CONN);
    drive(&mut stream, &tls(), |_, input, _| {
        matches!(input, ReadResult::Lost(Lost::Refused))
    });
}

#[test]
fn tls_carries_what_is_sent_after_starttls_and_ends_in_order() {
    let tls = tls();
    let (mut server, theirs) = unix();
    theirs.set_nonblocking(true).unwrap();
    let mut client = Stream::accepted(Socket::Unix(UnixStream::from_std(theirs)), CONN);
    server.send(b"220 go\r\n".to_vec());
    server.start_tls(TlsSide::Server);
    let mut scratch = vec![0; 4_096];
    assert_eq!(server.write(&tls), WriteResult::Drained);
    assert_eq!(client.read(&tls, &mut scratch), ReadResult::Bytes(8));
    client.start_tls(TlsSide::Client {
        name: Domain::parse("mail.example.com").unwrap(),
        trust: crate::engine::event::CertificateTrust::Any,
    });
    let message = vec![b'm'; 300_000];
    let (mut secured, mut received, mut ended) = (0, Vec::new(), false);
    for _ in 0..10_000 {
        for stream in [&mut server, &mut client] {
            stream.on_ready(true, true, false);
            let _ = stream.write(&tls);
            if !stream.may_read(true) {
                continue;
            }
            match stream.read(&tls, &mut scratch) {
                ReadResult::Bytes(len) => received.extend_from_slice(&scratch[..len]),
                ReadResult::Secured(session) => {
                    assert_eq!((session.version, session.verified), ("TLSv1.3", false));
                    secured += 1;
                }
                ReadResult::Lost(Lost::Eof) => ended = true,
                ReadResult::Lost(cause) => panic!("{cause:?}"),
                _ => {}
            }
        }
        if secured == 2 && received.is_empty() && !client.is_closing() {
            client.send(message.clone());
            client.close();
        }
        if ended {
            break;
        }
    }
    assert!(ended && received == message);
}

#[test]
fn clear_text_in_place_of_a_handshake_ends_the_connection() {
    let tls = tls();
    let (mut stream, mut theirs) = unix();
    stream.start_tls(TlsSide::Server);
    theirs
        .write_all(b"MAIL FROM:<injected@example.com>\r\n")
        .unwrap();
    drive(&mut stream, &tls, |_, input, _| {
        matches!(input, ReadResult::Lost(Lost::Tls(_)))
    });
}

#[test]
fn what_a_server_said_before_it_went_is_read_although_nothing_can_be_written() {
    let tls = tls();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut stream = Stream::connecting(Socket::Tcp(socket), CONN);
    let (mut theirs, _) = listener.accept().unwrap();
    drive(&mut stream, &tls, |_, input, _| {
        *input == ReadResult::Connected
    });
    stream.send(b"EHLO x\r\n".to_vec());
    assert_eq!(stream.write(&tls), WriteResult::Drained);
    theirs.write_all(b"554 no\r\n").unwrap();
    drop(theirs); // with input that it has not read: this resets the connection
    let (mut said, mut is_lost) = (Vec::new(), false);
    drive(&mut stream, &tls, |stream, input, scratch| {
        match input {
            ReadResult::Bytes(len) => said.extend_from_slice(&scratch[..*len]),
            ReadResult::Lost(_) => is_lost = true,
            _ => {}
        }
        // More than one write, as a client does that goes on.
        stream.send(b"HELO x\r\n".to_vec());
        assert!(!matches!(stream.write(&tls), WriteResult::Lost(_)));
        is_lost
    });
    assert_eq!(said, b"554 no\r\n");
}
