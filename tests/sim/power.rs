//! The relay is killed, loses power, finds damaged data in its spool, and starts again.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use chopar::engine::event::Event;
use chopar::engine::{Engine, EngineStart};
use chopar::entropy::{Entropy, SeededEntropy};
use chopar::queue::{Journal, OpenReport, Recovered, SpoolFile, SpoolFolder};

use crate::disk::{WorldDisk, hold};
use crate::rot::{self, Rotten};
use crate::rule::{Rule, check};
use crate::world::{Faults, Happening, World};

/// Small segments, so that a short run fills, frees and copies some.
const SEGMENT_BYTES: u64 = 96 * 1024;

/// A year without leap days, in seconds.
const YEAR_S: i64 = 365 * 86_400;

pub(crate) fn open(
    disk: &WorldDisk,
    sink: &mut dyn FnMut(Recovered),
) -> (Journal<WorldDisk>, OpenReport) {
    Journal::open_sized(disk.clone(), SEGMENT_BYTES, sink).expect("the spool opens")
}

impl World {
    pub(crate) fn plan_faults(&mut self) {
        if matches!(self.faults, Faults::Calm | Faults::Network) {
            return;
        }
        // A restart hides messages that are stuck, so half of the operator's worlds have none.
        if self.faults == Faults::Operator && self.entropy.below(2) == 0 {
            return;
        }
        for _ in 0..1 + self.entropy.below(3) {
            let at = self.some_time();
            let kind = match self.entropy.below(3) {
                0 => Happening::Kill,
                _ => Happening::PowerCut,
            };
            self.plan_at(at, kind);
        }
        match self.faults {
            Faults::Disk | Faults::Operator | Faults::Local => {
                let at = self.entropy.below(25_000);
                let at = std::time::Duration::from_millis(at);
                self.plan(at, Happening::DiskTrouble);
            }
            Faults::Clock => {
                for _ in 0..1 + self.entropy.below(2) {
                    let at = self.some_time();
                    let jump = match self.entropy.below(3) {
                        0 => 10 * YEAR_S,
                        1 => -3_600,
                        _ => 2 * 86_400,
                    };
                    self.plan_at(at, Happening::ClockJump(jump));
                }
            }
            _ => {}
        }
    }

    /// A random time, mostly while clients send.
    fn some_time(&mut self) -> chopar::clock::Instant {
        let ms = match self.entropy.below(4) {
            0 => self.entropy.below(200_000),
            1 => self.entropy.below(20_000_000),
            _ => self.entropy.below(25_000),
        };
        self.now.instant.after(std::time::Duration::from_millis(ms))
    }

    /// The process ends; the kernel has everything that it wrote, synced or not.
    pub(crate) fn kill(&mut self) {
        self.tally.fault("relay", "killed");
        self.stop();
        self.disk.memory.mend();
        self.drop_mended();
        self.start();
    }

    /// Everything but the disk is gone, and so is all unsynced data on the disk.
    pub(crate) fn power_cut(&mut self) {
        self.tally.fault("relay", "power cut");
        self.stop();
        // The disk works again after the power cut.
        self.disk.crash(&mut self.entropy);
        self.drop_crashes();
        self.start();
    }

    fn stop(&mut self) {
        self.drop_stops();
        for conn in self.ends.keys().copied().collect::<Vec<_>>() {
            // The relay may not have recorded an accepted message because of the kill, which `killed` counts.
            if !matches!(self.ends.get(&conn), Some(crate::world::End::Remote(_))) {
                self.forget(conn);
            }
        }
        self.tally.standing += self.ledger.killed() as u64;
        self.ends.clear();
        self.stalled.clear();
        self.last_arrival.clear();
        self.blocked.clear();
        self.undrained.clear();
        self.carrying.clear();
        self.domains.clear();
        self.streamed.clear();
        self.following.clear();
        self.happenings
            .retain(|_, happening| happening.outlives_the_relay());
        self.agenda
            .retain(|Reverse((_, number))| self.happenings.contains_key(number));
        self.commands.clear();
        self.writing = false;
        self.journal = None;
    }

    fn start(&mut self) {
        let rotten = (self.faults == Faults::Rot).then(|| self.rot());
        let mut found = Vec::new();
        let (journal, report) = open(&self.disk, &mut |recovered| found.push(recovered));
        if let Some(rotten) = rotten {
            self.look_at_rot(&rotten, &report);
            self.rot_so_far = rotten.into_hits();
            // Damage that one start found must still be there at the next.
            let bad = report.damage.iter().map(|damage| {
                let start = damage.offset as usize;
                (damage.segment, start..start + damage.len as usize)
            });
            self.rot_so_far.extend(bad);
        }
        hold(self.ledger.restarted(&found));
        let (journal, report) = self.start_twice(journal, report, &found);
        self.journal = Some(journal);
        self.set_clock();
        let start = EngineStart {
            config: Arc::clone(&self.config),
            ids: report.ids(),
            entropy: Box::new(SeededEntropy::new(self.entropy.next_u64())),
            rewriter: crate::world::rewriter(),
        };
        self.engine = Engine::new(start, self.now);
        if self.faults == Faults::Disk && self.entropy.below(2) == 0 {
            self.soon(Happening::DiskTrouble); // the start must create a new segment
        }
        for recovered in found {
            let event = Event::Recovered(Box::new(recovered));
            self.engine.handle(event, self.now);
        }
        self.drop_starts();
    }

    /// Sometimes the power fails again right after the start: recovery must find the same messages.
    fn start_twice(
        &mut self,
        journal: Journal<WorldDisk>,
        report: OpenReport,
        found: &[Recovered],
    ) -> (Journal<WorldDisk>, OpenReport) {
        if self.entropy.below(3) > 0 {
            return (journal, report);
        }
        self.tally.fault("relay", "power cut at a start");
        drop(journal);
        self.disk.crash(&mut self.entropy);
        let mut again = Vec::new();
        let (journal, report) = open(&self.disk, &mut |recovered| again.push(recovered));
        // Damage may bring back a message whose file was removed, or was being removed.
        let sound = |list: &[Recovered]| -> Vec<Recovered> {
            let sound = list.iter().filter(|one| !self.ledger.is_disturbed(one.id));
            sound.cloned().collect()
        };
        hold(check(sound(&again) == sound(found), Rule::I6, || {
            format!("a second recovery finds {again:?} where the first found {found:?}")
        }));
        (journal, report)
    }

    /// A machine without a battery for its clock starts in 1970, and its clock is set a little later.
    fn set_clock(&mut self) {
        if self.faults != Faults::Clock || self.entropy.below(2) > 0 {
            return;
        }
        self.tally.fault("clock", "start in 1970");
        let right = self.clock_error;
        self.clock_error = i64::MIN / 4;
        self.set_wall();
        self.ledger.clock_jumped([]);
        let pause = std::time::Duration::from_millis(self.entropy.below(600_000));
        self.plan(pause, Happening::ClockJump(right - self.clock_error));
    }

    /// Damages bytes of the spool.
    fn rot(&mut self) -> Rotten {
        let before = rot::segments(&self.disk.memory);
        let mut rotten = Rotten::new(before, std::mem::take(&mut self.rot_so_far));
        for _ in 0..1 + self.entropy.below(3) {
            let kind = rotten.spoil(&self.disk.memory, &mut self.entropy);
            self.tally.fault("rot", kind);
        }
        for (folder, name) in [
            (SpoolFolder::Journal, "00000001.seg~"),
            (SpoolFolder::Body, "core"),
            (SpoolFolder::Damaged, "lost+found"),
        ] {
            if self.entropy.below(4) == 0 {
                self.tally.fault("rot", "foreign name");
                self.disk.memory.add_foreign(folder, name);
            }
        }
        rotten
    }

    /// The relay must set all damaged data aside and report it; only damaged messages are excused.
    fn look_at_rot(&mut self, rotten: &Rotten, report: &OpenReport) {
        let hit: BTreeSet<_> = rotten.messages_hit();
        self.tally.rotten += hit.len() as u64;
        self.ledger.disturb(hit);
        for damage in &report.damage {
            let aside = SpoolFile::Damaged {
                segment: damage.segment,
                offset: damage.offset,
            };
            let kept = self.disk.memory.bytes(aside).unwrap_or_default();
            let bytes = rotten.after(damage.segment, damage.offset, damage.len);
            hold(check(
                !damage.kept || kept.starts_with(bytes),
                Rule::I6,
                || format!("{damage:?} is not what was set aside"),
            ));
            // A message may also lack its file because damage has brought the message back.
            let known = rotten.touches(damage.segment, damage.offset, damage.len)
                || damage.id.is_some_and(|id| self.ledger.is_disturbed(id));
            hold(check(known, Rule::I6, || {
                format!(
                    "{damage:?} was found where nothing was wrong: {:?}",
                    rotten.hits()
                )
            }));
        }
        let found_damage = !report.damage.is_empty() || !report.torn.is_empty();
        self.tally.set_aside += u64::from(found_damage);
        hold(check(
            !rotten.must_be_told() || found_damage,
            Rule::I6,
            || "a header was hit, and nothing was told of it".to_owned(),
        ));
    }
}
