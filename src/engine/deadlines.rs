//! Deadlines: the next one, and what happens when one has passed.

use super::Engine;
use super::connections::ConnEvent;
use super::status;
use super::timers::Timer;
use crate::clock::{Instant, Now};
use crate::workload::{self};
use std::time::Duration;

impl Engine {
    /// Fires everything that is due. Call it when [`Engine::deadline`] is reached.
    pub fn expire(&mut self, now: Now) {
        self.begin(now);
        while let Some((at, timer)) = self.fx.timers.pop(now.instant) {
            let ((), done) = workload::during(|| {
                self.fire(timer, at);
                self.hand_on();
            });
            self.heaviest = self.heaviest.max(done);
        }
        let fx = &mut self.fx;
        fx.lookups.expire(now.instant, &mut *fx.entropy);
        self.settle();
    }

    fn fire(&mut self, timer: Timer, at: Instant) {
        let fx = &mut self.fx;
        match timer {
            Timer::Conn(conn) => self.tell(conn, ConnEvent::Timeout(at)),
            Timer::Hop(hop) => self.delivery.hop_resumed(hop, fx),
            Timer::Due(id, hop) => self.delivery.message_due(id, hop, fx),
            Timer::Warn(id) => self.dsns.warn_of_delay(id, fx),
            Timer::Record => self.spool.record_again(fx),
            Timer::Sweep => {
                self.server.sweep(fx);
                status::observe_history(fx);
                let next = fx.now.instant.after(SWEEP_INTERVAL);
                fx.timers.set(next, Timer::Sweep);
            }
            Timer::Repeats => {
                for line in fx.logging.repeats.end() {
                    fx.log(line);
                }
            }
        }
    }

    /// When [`Engine::expire`] must be called next.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.fx.timers.deadline(), self.fx.lookups.deadline()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Keeps the heap of timers in proportion to its live entries: owners that are gone leave their entries behind.
    pub(super) fn prune_timers(&mut self) {
        let fx = &mut self.fx;
        if fx.timers.have_grown() {
            let (conns, index) = (&fx.conns, &fx.index);
            fx.timers.retain(|timer| match timer {
                Timer::Conn(conn) => conns.is_live(conn),
                Timer::Due(id, _) | Timer::Warn(id) => index.get(id).is_some(),
                Timer::Hop(_) | Timer::Record | Timer::Sweep | Timer::Repeats => true,
            });
        }
    }
}

/// Time between two sweeps of what has expired.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
