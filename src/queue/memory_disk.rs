//! A disk in memory that crashes, fills up and fails on command.
//!
//! It stores written and durable data separately: [`Disk::sync_data`] makes bytes durable, [`Disk::sync_folder`] names.
//! [`MemoryDisk::crash`] keeps a random part of the rest, by sectors, as a power cut does;
//! [`MemoryDisk::crash_choosing`] keeps the part that the caller chooses. After a crash each name independently has any
//! of the states that it had since its folder was synced. Only a rename is one step, which may leave both names but
//! never none. This is not test code: the simulator runs the whole relay on it. Clones share one disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::entropy::Entropy;

use super::disk::{DirEntry, Disk, DiskError, DiskRead, SpoolFile, SpoolFolder};

/// A disk in memory; a clone is another handle to it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

/// The operation that a fault waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Any of those below.
    Any,
    /// [`Disk::create`].
    Create,
    /// [`Disk::write_at`]; half of the bytes are written anyway.
    Write,
    /// [`Disk::preallocate`].
    Preallocate,
    /// [`Disk::truncate`].
    Truncate,
    /// [`Disk::sync_data`]; the bytes are lost at a crash, yet the next sync succeeds, as on Linux.
    Sync,
    /// [`Disk::sync_data`] that fails although the bytes got there.
    SyncDone,
    /// [`Disk::sync_folder`].
    SyncFolder,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::check_place`], which then cannot tell; not included in [`Operation::Any`], and not counted.
    CheckPlace,
    /// [`DiskRead::read_at`] and [`DiskRead::len`]; not among [`Operation::Any`], and not counted.
    Read,
}

#[derive(Clone, Debug)]
struct State {
    names: BTreeMap<SpoolFile, usize>,
    durable_names: BTreeMap<SpoolFile, usize>,
    /// The states of each name since its folder was synced, oldest first.
    unsynced_names: BTreeMap<SpoolFile, Vec<Option<usize>>>,
    /// Renames whose new name is not synced.
    renames: Vec<Rename>,
    nodes: Vec<Node>,
    foreign: Vec<(SpoolFolder, Box<str>)>,
    faults: Vec<Fault>,
    free: u64,
    operations: u64,
    displaced: bool,
    largest_read: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    cached: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Clone, Copy, Debug)]
struct Rename {
    from: SpoolFile,
    to: SpoolFile,
    node: usize,
}

#[derive(Clone, Debug)]
struct Fault {
    operation: Operation,
    skip: u64,
    times: u64,
    error: DiskError,
}

impl Default for State {
    fn default() -> Self {
        Self {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: BTreeMap::new(),
            renames: Vec::new(),
            nodes: Vec::new(),
            foreign: Vec::new(),
            faults: Vec::new(),
            free: 1 << 40,
            operations: 0,
            displaced: false,
            largest_read: 0,
        }
    }
}

impl MemoryDisk {
    /// An empty disk with a tebibyte free.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `skip` operations of this kind pass and fails the following `times` with `error`.
    pub fn fail(&self, operation: Operation, skip: u64, times: u64, error: DiskError) {
        self.state().faults.push(Fault {
            operation,
            skip,
            times,
            error,
        });
    }

    /// Ends all faults.
    pub fn mend(&self) {
        self.state().faults.clear();
    }

    /// Sets the result of [`Disk::free_bytes`].
    pub fn set_free(&self, bytes: u64) {
        self.state().free = bytes;
    }

    /// Puts something that is not ours into a folder.
    pub fn add_foreign(&self, folder: SpoolFolder, name: &str) {
        self.state().foreign.push((folder, name.into()));
    }

    /// Changing operations so far; a test picks its point of failure below it.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The bytes of a file as a reader sees them.
    pub fn bytes(&self, file: SpoolFile) -> Option<Vec<u8>> {
        let state = self.state();
        state.node(file).map(|node| node.cached.clone())
    }

    /// Replaces the bytes of a file, durably: bit rot, or another program.
    pub fn set_bytes(&self, file: SpoolFile, bytes: Vec<u8>) {
        let mut state = self.state();
        let index = match state.names.get(&file) {
            Some(index) => *index,
            None => state.add(file),
        };
        state.durable_names.insert(file, index);
        state.unsynced_names.remove(&file);
        if let Some(node) = state.nodes.get_mut(index) {
            node.durable.clone_from(&bytes);
            node.cached = bytes;
            node.pending.clear();
        }
    }

    /// The most bytes that were asked for by one read.
    pub fn largest_read(&self) -> usize {
        self.state().largest_read
    }

    /// A separate disk with the same bytes; changes to one do not affect the other.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let copy = Self::new();
        let state = self.state();
        for (file, index) in &state.names {
            if let Some(node) = state.nodes.get(*index) {
                copy.set_bytes(*file, node.cached.clone());
            }
        }
        drop(state);
        copy
    }

    /// A separate disk in the same state, including unsynced data and planned failures.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Power cut: of the unsynced data a random part is kept, writes are torn between sectors, files have their old or
    /// their new length, and unsynced names exist or not.
    pub fn crash(&self, entropy: &mut dyn Entropy) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.settle_names(&mut || entropy.below(2) == 0);
        for node in &mut state.nodes {
            node.crash(entropy);
        }
        state.faults.clear();
    }

    /// Power cut: for each unsynced change of a name or a length, and each unsynced sector of 512 bytes, `keeps`
    /// decides whether it survives. A caller that tries all answers has tried every power cut at this point.
    pub fn crash_choosing(&self, keeps: &mut dyn FnMut() -> bool) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.settle_names(keeps);
        // Of a file without a name nothing is ever seen again.
        let named: BTreeSet<usize> = state.names.values().copied().collect();
        for index in named {
            if let Some(node) = state.nodes.get_mut(index) {
                node.crash_choosing(keeps);
            }
        }
        state.faults.clear();
    }

    /// From now on the spool's folder counts as removed or replaced.
    pub fn displace(&self) {
        self.state().displaced = true;
    }

    /// Removes a file, durably: another program did.
    pub fn lose(&self, file: SpoolFile) {
        let mut state = self.state();
        state.names.remove(&file);
        state.durable_names.remove(&file);
        state.unsynced_names.remove(&file);
        state.renames.retain(|rename| rename.to != file);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Each unsynced name gets the state that `keeps` chooses; it is asked about the latest first.
    fn settle_names(&mut self, keeps: &mut dyn FnMut() -> bool) {
        for (file, values) in std::mem::take(&mut self.unsynced_names) {
            if let Some(value) = values.into_iter().rev().find(|_| keeps()) {
                match value {
                    Some(index) => self.durable_names.insert(file, index),
                    None => self.durable_names.remove(&file),
                };
            }
        }
        for Rename { from, to, node } in std::mem::take(&mut self.renames) {
            let is_there = |file| self.durable_names.get(file) == Some(&node);
            if !is_there(&from) && !is_there(&to) {
                self.durable_names.insert(to, node);
            }
        }
        self.names.clone_from(&self.durable_names);
    }

    /// Points a name to another file, or to none.
    fn set_name(&mut self, file: SpoolFile, node: Option<usize>) {
        match node {
            Some(node) => self.names.insert(file, node),
            None => self.names.remove(&file),
        };
        self.unsynced_names.entry(file).or_default().push(node);
        // A file that is removed or replaced under its new name may be gone from both.
        self.renames.retain(|rename| rename.to != file);
    }

    fn node(&self, file: SpoolFile) -> Option<&Node> {
        self.nodes.get(*self.names.get(&file)?)
    }

    fn node_mut(&mut self, file: SpoolFile) -> Result<&mut Node, DiskError> {
        let index = *self.names.get(&file).ok_or(DiskError::Missing)?;
        self.nodes.get_mut(index).ok_or(DiskError::Missing)
    }

    fn add(&mut self, file: SpoolFile) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node::default());
        self.set_name(file, Some(index));
        index
    }

    /// Counts the operation; returns the error that it must fail with, if any.
    fn meet(&mut self, operation: Operation) -> Option<DiskError> {
        let is_change = !matches!(
            operation,
            Operation::SyncDone | Operation::Read | Operation::CheckPlace
        );
        if is_change {
            self.operations = self.operations.saturating_add(1);
        }
        let mut met = None;
        for fault in &mut self.faults {
            let any = fault.operation == Operation::Any && is_change;
            if (!any && fault.operation != operation) || fault.times == 0 {
                continue;
            }
            if fault.skip > 0 {
                fault.skip = fault.skip.saturating_sub(1);
            } else {
                fault.times = fault.times.saturating_sub(1);
                met = met.or(Some(fault.error));
            }
        }
        met
    }

    fn checked(&mut self, operation: Operation) -> Result<(), DiskError> {
        self.meet(operation).map_or(Ok(()), Err)
    }
}

impl Node {
    fn change(&mut self, change: Change) {
        apply(&change, &mut self.cached);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&change, &mut self.durable);
        }
    }

    fn crash(&mut self, entropy: &mut dyn Entropy) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Resize(_) if entropy.below(2) == 0 => {}
                Change::Resize(_) => apply(&change, &mut self.durable),
                Change::Write { offset, bytes } => {
                    tear(offset, &bytes, &mut self.durable, entropy);
                }
            }
        }
        self.cached.clone_from(&self.durable);
    }

    fn crash_choosing(&mut self, keeps: &mut dyn FnMut() -> bool) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Resize(_) if !keeps() => {}
                Change::Resize(_) => apply(&change, &mut self.durable),
                Change::Write { offset, bytes } => self.tear_choosing(offset, &bytes, keeps),
            }
        }
        self.cached.clone_from(&self.durable);
    }

    /// Writes the sectors that `keeps`. A file may also be as long as it was going to be without them.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a sector is longer than what is past its start"
    )]
    fn tear_choosing(&mut self, offset: usize, bytes: &[u8], keeps: &mut dyn FnMut() -> bool) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len());
            let (piece, tail) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            if keeps() {
                write(at, piece, &mut self.durable);
            }
            at = at.saturating_add(room);
            rest = tail;
        }
        if self.durable.len() < at && keeps() {
            self.durable.resize(at, 0);
        }
    }
}

const SECTOR_BYTES: usize = 512;

/// Writes a random choice of sectors of `bytes`; the rest reads as before, or as zeros past the old end.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a sector is longer than what is past its start"
)]
fn tear(offset: usize, bytes: &[u8], file: &mut Vec<u8>, entropy: &mut dyn Entropy) {
    let sector = if entropy.below(2) == 0 { 512 } else { 4_096 };
    let mode = entropy.below(4); // none, all, some, a front part
    let front = entropy.below((bytes.len() as u64).saturating_add(1)) as usize;
    if mode == 0 && entropy.below(2) == 0 {
        return;
    }
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let room = (sector - at % sector).min(rest.len());
        let (piece, tail) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        let kept = match mode {
            0 => false,
            1 => true,
            2 => entropy.below(2) == 0,
            _ => at.saturating_add(room) <= offset.saturating_add(front),
        };
        if kept {
            write(at, piece, file);
        } else if file.len() < at.saturating_add(room) && entropy.below(2) == 0 {
            file.resize(at.saturating_add(room), 0); // the length got there, the bytes did not
        }
        at = at.saturating_add(room);
        rest = tail;
    }
}

fn apply(change: &Change, file: &mut Vec<u8>) {
    match change {
        Change::Write { offset, bytes } => write(*offset, bytes, file),
        Change::Resize(len) => file.resize(*len, 0),
    }
}

fn write(offset: usize, bytes: &[u8], file: &mut Vec<u8>) {
    let end = offset.saturating_add(bytes.len());
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(slot) = file.get_mut(offset..end) {
        slot.copy_from_slice(bytes);
    }
}

fn position(offset: u64) -> Result<usize, DiskError> {
    usize::try_from(offset).map_err(|_| DiskError::Io)
}

impl DiskRead for MemoryDisk {
    fn read_at(
        &mut self,
        file: SpoolFile,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        let mut state = self.state();
        state.checked(Operation::Read)?;
        state.largest_read = state.largest_read.max(into.len());
        let node = state.node(file).ok_or(DiskError::Missing)?;
        let bytes = node.cached.get(position(offset)?..).unwrap_or_default();
        let len = bytes.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn len(&mut self, file: SpoolFile) -> Result<u64, DiskError> {
        let mut state = self.state();
        state.checked(Operation::Read)?;
        let node = state.node(file).ok_or(DiskError::Missing)?;
        Ok(node.cached.len() as u64)
    }
}

impl Disk for MemoryDisk {
    fn create(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let mut state = self.state();
        state.checked(Operation::Create)?;
        if state.names.contains_key(&file) {
            return Err(DiskError::Exists);
        }
        state.add(file);
        Ok(())
    }

    fn write_at(&mut self, file: SpoolFile, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state();
        let fault = state.meet(Operation::Write);
        let node = state.node_mut(file)?;
        let written = match fault {
            Some(_) => bytes.get(..bytes.len() / 2).unwrap_or_default(),
            None => bytes,
        };
        node.change(Change::Write {
            offset: position(offset)?,
            bytes: written.to_vec(),
        });
        fault.map_or(Ok(()), Err)
    }

    fn preallocate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        let mut state = self.state();
        state.checked(Operation::Preallocate)?;
        let len = position(len)?;
        let node = state.node_mut(file)?;
        if len > node.cached.len() {
            node.change(Change::Resize(len));
        }
        Ok(())
    }

    fn truncate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        let mut state = self.state();
        state.checked(Operation::Truncate)?;
        let len = position(len)?;
        let node = state.node_mut(file)?;
        if len < node.cached.len() {
            node.change(Change::Resize(len));
        }
        Ok(())
    }

    fn sync_data(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let mut state = self.state();
        let lost = state.meet(Operation::Sync);
        let done = state.meet(Operation::SyncDone);
        let node = state.node_mut(file)?;
        if let Some(error) = lost {
            node.pending.clear();
            return Err(error);
        }
        node.sync();
        done.map_or(Ok(()), Err)
    }

    fn sync_folder(&mut self, folder: SpoolFolder) -> Result<(), DiskError> {
        let mut guard = self.state();
        guard.checked(Operation::SyncFolder)?;
        let state = &mut *guard;
        state
            .durable_names
            .retain(|file, _| file.folder() != folder);
        state
            .unsynced_names
            .retain(|file, _| file.folder() != folder);
        state.renames.retain(|rename| rename.to.folder() != folder);
        for (file, index) in &state.names {
            if file.folder() == folder {
                state.durable_names.insert(*file, *index);
            }
        }
        Ok(())
    }

    fn remove(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let mut state = self.state();
        state.checked(Operation::Remove)?;
        if !state.names.contains_key(&file) {
            return Err(DiskError::Missing);
        }
        state.set_name(file, None);
        Ok(())
    }

    fn rename(&mut self, from: SpoolFile, to: SpoolFile) -> Result<(), DiskError> {
        let mut state = self.state();
        state.checked(Operation::Rename)?;
        let node = *state.names.get(&from).ok_or(DiskError::Missing)?;
        state.set_name(from, None);
        state.set_name(to, Some(node));
        state.renames.push(Rename { from, to, node });
        Ok(())
    }

    fn check_place(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let mut state = self.state();
        state.checked(Operation::CheckPlace)?;
        if state.displaced || !state.names.contains_key(&file) {
            return Err(DiskError::Displaced);
        }
        Ok(())
    }

    fn list(&mut self, folder: SpoolFolder) -> Result<Vec<DirEntry>, DiskError> {
        let state = self.state();
        let files = state.names.keys().filter(|file| file.folder() == folder);
        let foreign = state.foreign.iter().filter(|(place, _)| *place == folder);
        Ok(files
            .map(|file| DirEntry::File(*file))
            .chain(foreign.map(|(_, name)| DirEntry::Foreign(name.clone())))
            .collect())
    }

    fn free_bytes(&mut self) -> Result<u64, DiskError> {
        Ok(self.state().free)
    }
}
