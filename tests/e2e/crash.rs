//! kill -9 while mail is received and sent: acknowledged mail arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::process::{PATIENCE, wait_for};
use crate::relay::{Relay, Setup};

/// The state that all clients share.
#[derive(Default)]
struct Load {
    acknowledged: Mutex<BTreeSet<usize>>,
    next: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    fn count(&self) -> usize {
        self.acknowledged.lock().expect("a lock").len()
    }

    /// Sends message after message and records which were acknowledged; reconnects when the relay is gone.
    fn send(&self, port: u16) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut client) = Client::open(port) else {
                thread::yield_now();
                continue;
            };
            // A connection made while the kernel closes the port of a killed relay may never get an answer, not even a
            // reset.
            if !client.hears_within(Duration::from_secs(1)) {
                continue;
            }
            if client.reply().code != 220 || client.say("EHLO client.test").code != 250 {
                continue;
            }
            while !self.stop.load(Ordering::Relaxed) {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                // Every thirtieth message is large enough for a file of its own.
                let lines = if number.is_multiple_of(30) { 6_000 } else { 20 };
                let mut message = format!("From: a@src.test\r\nX-Number: {number}\r\n\r\n");
                message.push_str(
                    &"sixty bytes of text that say nothing at all, one line of many\r\n"
                        .repeat(lines),
                );
                if client
                    .transaction("a@src.test", &["b@four.test"], message.as_bytes())
                    .code
                    != 250
                {
                    break;
                }
                self.acknowledged.lock().expect("a lock").insert(number);
            }
        }
    }
}

fn number_of(text: &str) -> usize {
    let (_, rest) = text.split_once("X-Number: ").expect("a number");
    rest.lines()
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

#[test]
fn every_acknowledged_message_survives_twenty_kills() {
    let sessions = 4;
    let mut relay = Setup {
        delivery: format!("sessions_per_hop = {sessions}\n"),
        ..Setup::default()
    }
    .start();
    let load = Arc::new(Load::default());
    let port = relay.smtp();
    let clients: Vec<_> = (0..sessions)
        .map(|_| {
            let load = Arc::clone(&load);
            thread::spawn(move || load.send(port))
        })
        .collect();
    for kill in 0..KILLS {
        // A different number each time, so that the kills hit different moments.
        let enough = load.count() + 1 + kill * 7 % 23;
        wait_for("mail to flow", PATIENCE, || {
            (load.count() >= enough).then_some(())
        });
        relay.kill();
        relay.run();
    }
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client");
    }
    relay.wait_for_log("event=recovered");
    // Messages in sessions that broke are retried by themselves.
    relay.flush_all();
    check(&relay, &load, sessions);
}

fn check(relay: &Relay, load: &Load, sessions: usize) {
    let mut copies: BTreeMap<usize, usize> = BTreeMap::new();
    for message in relay.sink.messages() {
        let text = message.text();
        *copies.entry(number_of(&text)).or_default() += 1;
        let lines = text
            .lines()
            .filter(|line| line.starts_with("sixty bytes"))
            .count();
        assert!(matches!(lines, 20 | 6_000), "a message of {lines} lines");
    }
    let acknowledged = load.acknowledged.lock().expect("a lock");
    let lost: Vec<&usize> = acknowledged
        .iter()
        .filter(|number| !copies.contains_key(number))
        .collect();
    assert!(lost.is_empty(), "lost of {}: {lost:?}", acknowledged.len());
    // A kill between the final dot and the record of the reply may cause a second copy, at most one for each session.
    let extra: usize = copies.values().map(|copies| copies - 1).sum();
    assert!(extra <= KILLS * sessions, "{extra} copies too many");
    // A message that was not acknowledged may have arrived, if it was on the disk and only the reply was lost.
    let unknown = copies
        .keys()
        .filter(|number| !acknowledged.contains(number))
        .count();
    assert!(
        unknown <= KILLS * sessions,
        "{unknown} messages that nobody was told of"
    );
}

const KILLS: usize = 22;
