//! A few threads for work that would delay the event loop: signing, verifying and password derivations.
//!
//! Signing goes first, and one thread takes no passwords, so that an attacker who guesses passwords cannot keep mail
//! from being signed and verified. On the other threads passwords go before verifying, so that mail cannot keep users
//! from logging in. The lock is held to move a job, never while one runs.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use mio::Waker;

use crate::engine::event::{JobId, Work, WorkResult};
use crate::shell::channel::{ChannelReceiver, ChannelSender, channel};

/// The threads. Dropping it ends them, each after its job.
pub(super) struct Workers {
    shared: Arc<Shared>,
    results: ChannelReceiver<(JobId, WorkResult)>,
}

struct Shared {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    signatures: VecDeque<(JobId, Work)>,
    passwords: VecDeque<(JobId, Work)>,
    verifications: VecDeque<(JobId, Work)>,
    ended: bool,
}

/// The jobs that a thread accepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Takes {
    AllButPasswords,
    Everything,
}

impl Workers {
    /// Starts the threads; each result wakes the poll.
    pub(super) fn start(waker: &Arc<Waker>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            jobs: Mutex::new(Jobs::default()),
            changed: Condvar::new(),
        });
        let (giver, results) = channel();
        let giver = Arc::new(giver);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for number in 0..cores.clamp(WORKERS_MIN, WORKERS_MAX) {
            let takes = if number == 0 {
                Takes::AllButPasswords
            } else {
                Takes::Everything
            };
            let (shared, giver) = (Arc::clone(&shared), Arc::clone(&giver));
            let waker = Arc::clone(waker);
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || shared.work(takes, &giver, &waker))?;
        }
        Ok(Self { shared, results })
    }

    /// Gives a job to the next free thread.
    pub(super) fn give(&self, job: JobId, work: Work) {
        let mut jobs = self.shared.lock();
        match work {
            Work::Sign(..) => jobs.signatures.push_back((job, work)),
            Work::Verify(_) => jobs.verifications.push_back((job, work)),
            Work::VerifyPassword { .. } => jobs.passwords.push_back((job, work)),
        }
        drop(jobs);
        self.shared.changed.notify_all();
    }

    /// The next available result.
    pub(super) fn result(&self) -> Option<(JobId, WorkResult)> {
        self.results.take()
    }
}

impl Jobs {
    fn next(&mut self, takes: Takes) -> Option<(JobId, Work)> {
        let first = self.signatures.pop_front();
        let first = match takes {
            Takes::AllButPasswords => first,
            Takes::Everything => first.or_else(|| self.passwords.pop_front()),
        };
        first.or_else(|| self.verifications.pop_front())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn work(&self, takes: Takes, results: &ChannelSender<(JobId, WorkResult)>, waker: &Waker) {
        while let Some((job, work)) = self.take(takes) {
            let result = work.perform();
            if results.give((job, result)).is_err() || waker.wake().is_err() {
                return;
            }
        }
    }

    fn take(&self, takes: Takes) -> Option<(JobId, Work)> {
        let mut jobs = self.lock();
        loop {
            if jobs.ended {
                return None;
            }
            let job = jobs.next(takes);
            if job.is_some() {
                return job;
            }
            jobs = self
                .changed
                .wait(jobs)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Jobs> {
        // Nothing under the lock can leave the queues half changed.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const WORKERS_MIN: usize = 2;
const WORKERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(takes: Takes) -> Vec<u64> {
        let mut jobs = Jobs::default();
        let queues = [
            &mut jobs.verifications,
            &mut jobs.passwords,
            &mut jobs.signatures,
        ];
        for (queue, number) in queues.into_iter().zip(0..) {
            queue.push_back((JobId(number), Work::Sign(Vec::new(), None)));
        }
        std::iter::from_fn(|| jobs.next(takes))
            .map(|(JobId(number), _)| number)
            .collect()
    }

    #[test]
    fn neither_passwords_nor_incoming_mail_keep_others_waiting() {
        let (verification, password, signature) = (0, 1, 2);
        assert_eq!(order(Takes::AllButPasswords), [signature, verification]);
        assert_eq!(
            order(Takes::Everything),
            [signature, password, verification]
        );
    }
}
