//! The state that the records read so far describe.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::disk::{Disk, SpoolFolder};
use super::super::frame::Location;
use super::super::record::DeliveryResult;
use super::report::{Damage, OpenReport};
use super::window::Window;
use crate::date::Timestamp;
use crate::limits::DAMAGED_REGIONS_MAX;
use crate::queue_id::QueueId;

pub(super) struct Scan<'a, D> {
    pub(super) disk: &'a mut D,
    pub(super) report: OpenReport,
    pub(super) messages: HashMap<QueueId, State>,
    pub(super) done: HashSet<QueueId>, // of which a file may be left
    pub(super) highest: QueueId,
    pub(super) window: Window,
    pub(super) holes: Vec<u32>, // of the segment that was read last, where it is unsealed
    pub(super) first: Option<u32>,
    pub(super) kept: BTreeSet<u32>,
    pub(super) is_damaged_unsynced: bool,
    pub(super) ids: Option<QueueId>, // no message had a higher one, as the tip says
}

/// A message as the records read so far describe it.
pub(super) struct State {
    pub(super) location: Location,
    pub(super) held: bool,
    pub(super) warned: bool,
    pub(super) last_outcome: Option<Timestamp>,
    pub(super) results: Vec<Option<DeliveryResult>>, // by their place in the envelope
}

impl<D: Disk> Scan<'_, D> {
    pub(super) fn foreign(&mut self, folder: SpoolFolder, name: &str) {
        if self.report.foreign.len() < DAMAGED_REGIONS_MAX {
            self.report.foreign.push((folder, name.into()));
        }
    }

    pub(super) fn damages(&self) -> usize {
        self.report
            .damage
            .len()
            .saturating_add(self.report.more_damage)
    }

    pub(super) fn note_damage(&mut self, damage: Damage) {
        if self.report.damage.len() < DAMAGED_REGIONS_MAX {
            self.report.damage.push(damage);
        } else {
            self.report.more_damage = self.report.more_damage.saturating_add(1);
        }
    }
}
