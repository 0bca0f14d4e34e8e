//! Connections that close while too many others do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnix;
use std::time::Duration;

use mio::net::UnixStream;

use super::*;
use crate::address::Domain;
use crate::shell::net::stream::Socket;
use crate::shell::tls::Tls;

struct World {
    streams: Streams,
    tls: Tls,
    conns: u32,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            streams: Streams::new(),
            tls: Tls::new(&[], &Domain::parse("mail.example.com").unwrap()).unwrap(),
            conns: 0,
            now: Instant::START,
        }
    }

    /// A connection that is sent a line and closed, and its peer.
    fn close_one(&mut self, purpose: Use) -> StdUnix {
        let (ours, theirs) = StdUnix::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let conn = ConnId {
            slot: self.conns,
            generation: 0,
        };
        self.conns += 1;
        let socket = Socket::Unix(UnixStream::from_std(ours));
        let mut stream = Stream::accepted(socket, conn);
        stream.send(b"250 ok\r\n".to_vec());
        let key = self.streams.insert(conn, stream, purpose);
        self.streams.forget(conn);
        self.streams.close(key);
        theirs
    }

    /// Writes and makes room as the loop does.
    fn settle(&mut self, most: usize) {
        while let Some(key) = self.streams.next_unwritten() {
            let stream = self.streams.get_mut(key).unwrap();
            stream.write(&self.tls);
            assert!(stream.is_lingering());
            self.streams
                .drop_at(key, self.now.after(Duration::from_secs(2)));
        }
        self.streams.make_room_beyond(most);
        self.now = self.now.after(Duration::from_millis(1));
    }
}

/// The received line, and whether the connection still waits.
fn heard(peer: &StdUnix) -> (String, bool) {
    let mut line = String::new();
    BufReader::new(peer).read_line(&mut line).unwrap();
    let waited_for = { peer }.write_all(b"x").is_ok();
    (line, waited_for)
}

#[test]
fn whoever_is_closed_while_too_many_are_has_been_told_all() {
    let mut world = World::new();
    let peers: Vec<StdUnix> = (0..2 * LINGERING_MAX)
        .map(|_| world.close_one(Use::Session))
        .collect();
    world.settle(LINGERING_MAX);
    assert_eq!(world.streams.len(), LINGERING_MAX);
    for mut peer in peers {
        let mut said = String::new();
        peer.read_to_string(&mut said).unwrap();
        assert_eq!(said, "250 ok\r\n");
    }
}

#[test]
fn those_that_held_no_place_make_room_and_the_oldest_of_them_first() {
    let mut world = World::new();
    let session = world.close_one(Use::Session);
    world.settle(4);
    let brief: Vec<StdUnix> = (0..6)
        .map(|_| {
            let peer = world.close_one(Use::Brief);
            world.settle(4);
            peer
        })
        .collect();
    let told = |waited_for| ("250 ok\r\n".to_owned(), waited_for);
    assert_eq!(heard(&session), told(true));
    for (index, peer) in brief.iter().enumerate() {
        assert_eq!(heard(peer), told(index >= 3), "{index}");
    }
    let others: Vec<StdUnix> = (0..4)
        .map(|_| {
            let peer = world.close_one(Use::Session);
            world.settle(4);
            peer
        })
        .collect();
    assert!(others.iter().all(|peer| heard(peer) == told(true)));
    assert!((&session).write_all(b"x").is_err(), "the oldest session");
    assert_eq!(world.streams.len(), 4);
}

#[test]
fn a_time_is_not_put_later_and_goes_with_its_connection() {
    let mut world = World::new();
    let _peer = world.close_one(Use::Brief);
    world.settle(4);
    let at = world.streams.deadline().unwrap();
    world.streams.drop_at(0, at.after(Duration::from_secs(30)));
    assert_eq!(world.streams.deadline(), Some(at));
    world.streams.remove(0);
    assert_eq!(world.streams.deadline(), None);
    let _session = world.close_one(Use::Session);
    world.settle(4);
    let at = world.streams.deadline().unwrap();
    world.streams.expire(at);
    assert_eq!(world.streams.len(), 0);
}
