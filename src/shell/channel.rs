//! A channel between two threads: a queue behind a lock that is held only while items are moved.
//!
//! The queue is one buffer, which is freed whenever it is empty. The channel of std allocates a block for every 31
//! items, anywhere in the heap, and the last block keeps the heap below it from being returned to the system.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The two ends of a new channel.
pub(super) fn channel<T>() -> (ChannelSender<T>, ChannelReceiver<T>) {
    let shared = Arc::new(Shared {
        line: Mutex::new(Line {
            items: VecDeque::new(),
            sleeping: false,
            given_up: false,
        }),
        arrived: Condvar::new(),
    });
    (ChannelSender(Arc::clone(&shared)), ChannelReceiver(shared))
}

/// The sending end. Dropping it tells the receiver that no more items will come.
#[derive(Debug)]
pub(super) struct ChannelSender<T>(Arc<Shared<T>>);

/// The receiving end, which takes items in the order in which they were sent. Dropping it refuses all further items.
#[derive(Debug)]
pub(super) struct ChannelReceiver<T>(Arc<Shared<T>>);

/// The other end was dropped; the item is returned.
#[derive(Debug)]
pub(super) struct Gone<T>(pub(super) T);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waited {
    /// There is an item.
    Arrived,
    /// The time is over.
    TimedOut,
    /// There is no item, and none will come.
    Ended,
}

#[derive(Debug)]
struct Shared<T> {
    line: Mutex<Line<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Line<T> {
    items: VecDeque<T>,
    /// Whether the receiver waits to be woken.
    sleeping: bool,
    /// Whether one of the two ends was dropped.
    given_up: bool,
}

impl<T> ChannelSender<T> {
    /// Sends an item.
    pub(super) fn give(&self, item: T) -> Result<(), Gone<T>> {
        let mut line = self.0.lock();
        if line.given_up {
            return Err(Gone(item));
        }
        line.items.push_back(item);
        let wake = std::mem::take(&mut line.sleeping);
        drop(line);
        if wake {
            self.0.arrived.notify_one();
        }
        Ok(())
    }
}

impl<T> ChannelReceiver<T> {
    /// Waits for an item.
    pub(super) fn wait(&self, within: Duration) -> Waited {
        let mut line = self.0.lock();
        if line.items.is_empty() && !line.given_up {
            line.sleeping = true;
            let (woken, _) = self
                .0
                .arrived
                .wait_timeout_while(line, within, |line| line.items.is_empty() && !line.given_up)
                .unwrap_or_else(PoisonError::into_inner);
            line = woken;
            line.sleeping = false;
        }
        match (line.items.is_empty(), line.given_up) {
            (false, _) => Waited::Arrived,
            (true, false) => Waited::TimedOut,
            (true, true) => Waited::Ended,
        }
    }

    /// Appends items to `into`, as long as `takes` accepts each.
    pub(super) fn take_while(&self, into: &mut Vec<T>, mut takes: impl FnMut(&T) -> bool) {
        let mut line = self.0.lock();
        while let Some(item) = line.items.pop_front() {
            if !takes(&item) {
                line.items.push_front(item);
                return;
            }
            into.push(item);
        }
    }

    /// Takes the first item, if there is one.
    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().items.pop_front()
    }
}

impl<T> Drop for ChannelSender<T> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl<T> Drop for ChannelReceiver<T> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Line<T>> {
        // Code under the lock cannot leave the channel inconsistent.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self) {
        self.lock().given_up = true;
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn items_arrive_in_order_across_threads() {
        let (giver, taker) = channel();
        let thread = std::thread::spawn(move || {
            for number in 0..100_000 {
                giver.give(number).expect("a taker");
            }
        });
        let mut taken: Vec<u32> = Vec::new();
        while taker.wait(LONG) == Waited::Arrived {
            taker.take_while(&mut taken, |_| true);
        }
        thread.join().expect("a clean end");
        assert!(taken.into_iter().eq(0..100_000));
    }

    #[test]
    fn what_is_not_taken_stays_in_front() {
        let (giver, taker) = channel();
        (0..5).for_each(|number| giver.give(number).expect("a taker"));
        let mut taken = Vec::new();
        taker.take_while(&mut taken, |number| *number < 3);
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!(taker.take(), Some(3));
        drop(giver);
        assert_eq!(taker.wait(LONG), Waited::Arrived);
        assert_eq!(taker.take(), Some(4));
        assert_eq!(taker.wait(LONG), Waited::Ended);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (giver, taker) = channel::<u8>();
        assert_eq!(taker.wait(Duration::from_millis(1)), Waited::TimedOut);
        drop(taker);
        assert_eq!(giver.give(7).expect_err("refused").0, 7);
    }
}
