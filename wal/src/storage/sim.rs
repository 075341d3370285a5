//! A disk in memory that can lose power, tear, forget, fail, fall short and rot.
//!
//! Promises: what a real disk may do, this one does, and nothing else: a synced sector stays; an
//! unsynced one is there or not, each for itself; a name change is there or not until the
//! directory was synced; the same seed does the same.
//! Invariants: reads show the newest state, as a page cache does, even after a failed sync.
//! Fails by: the planned fault; after power loss every call fails until [`SimDisk::power_loss`]
//! or [`SimDisk::kill`] gave a new disk.
//! Not here: time. Whoever drives the log decides in which order things happen.
//! Source: `docs/internals/testing.md` of `TigerBeetle` and `tests/crash_consistency.rs` of redb
//! for the shape; Rebello et al., ATC 2020, for what a failed sync leaves behind.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use super::{FileName, Listed, Storage};
use crate::limits::{SECTOR_BYTES, index};

mod inode;
mod rng;

use inode::{Inode, NameChange};
pub use rng::Rng;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimFault {
    /// The device fails: a write or sync has some of its effect, anything else none.
    Io,
    /// No space, for the calls that may need some; others succeed.
    NoSpace,
    /// A write gets only a part through.
    Short,
    /// The power goes: some of the effect, and nothing works any more.
    PowerOff,
}

/// When it goes wrong: at the call with this number, counted from 1, and if `sticky` at every
/// later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// What.
    pub fault: SimFault,
    /// At which call.
    pub at: u64,
    /// Whether it stays.
    pub sticky: bool,
}

/// A lie that a broken log could have told the disk; planted to show that tests would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// `sync` does nothing and says it did.
    SyncForgotten,
    /// `sync_dir` does nothing and says it did.
    DirectorySyncForgotten,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

/// An open file: it stays the same file whatever its name becomes.
#[derive(Clone, Copy, Debug)]
pub struct SimFile(u64);

#[derive(Clone, Debug)]
struct State {
    rng: Rng,
    calls: u64,
    plan: Option<FaultPlan>,
    fired: bool,
    dead: bool,
    bug: Option<PlantedBug>,
    space: Option<u64>,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<FileName, u64>,
    durable_names: BTreeMap<FileName, u64>,
    name_changes: Vec<NameChange>,
}

impl SimDisk {
    /// An empty disk whose choices follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(State {
            rng: Rng::new(seed),
            calls: 0,
            plan: None,
            fired: false,
            dead: false,
            bug: None,
            space: None,
            next_inode: 1,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
        })
    }

    fn of(state: State) -> Self {
        Self { state: Rc::new(RefCell::new(state)) }
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Plans a fault; numbers count from this moment.
    pub fn plan(&self, plan: FaultPlan) {
        let mut state = self.state();
        (state.plan, state.calls, state.fired) = (Some(plan), 0, false);
    }

    /// Ends a planned fault.
    pub fn heal(&self) {
        self.state().plan = None;
    }

    /// Whether the planned fault has happened.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.state().fired
    }

    /// Calls so far, or since the last plan.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Plants a lie.
    pub fn plant(&self, bug: PlantedBug) {
        self.state().bug = Some(bug);
    }

    /// Limits the sum of all file lengths.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.state().space = bytes;
    }

    /// The disk after the process died: everything written is there, nothing more is durable.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.state().clone();
        (state.dead, state.plan, state.fired) = (false, None, false);
        Self::of(state)
    }

    /// The disk after power came back: every unsynced sector, length and name change was kept
    /// or lost, as `seed` decides.
    #[must_use]
    pub fn power_loss(&self, seed: u64) -> Self {
        let mut state = self.state().clone();
        let mut rng = Rng::new(seed);
        for inode in state.inodes.values_mut() {
            inode.lose_power(&mut rng);
        }
        let mut names = state.durable_names.clone();
        for change in std::mem::take(&mut state.name_changes) {
            if rng.coin() {
                change.apply(&mut names);
            }
        }
        state.durable_names.clone_from(&names);
        state.names = names;
        state.collect();
        (state.dead, state.plan, state.fired, state.rng) = (false, None, false, rng);
        Self::of(state)
    }

    /// Names of all files, in order.
    #[must_use]
    pub fn names(&self) -> Vec<FileName> {
        self.state().names.keys().copied().collect()
    }

    /// The newest bytes of a file.
    ///
    /// # Panics
    ///
    /// When there is no such file.
    #[must_use]
    pub fn bytes(&self, name: FileName) -> Vec<u8> {
        let state = self.state();
        state.inodes[&state.names[&name]].live().to_vec()
    }

    /// Replaces a file's bytes behind the log's back, or makes the file; durable at once.
    pub fn put(&self, name: FileName, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.names.get(&name).copied().unwrap_or(state.next_inode);
        state.next_inode = state.next_inode.max(inode + 1);
        state.inodes.insert(inode, Inode::durable(bytes));
        state.names.insert(name, inode);
        state.durable_names.insert(name, inode);
    }

    /// Flips one bit of a file.
    ///
    /// # Panics
    ///
    /// When the file has no such bit.
    pub fn flip(&self, name: FileName, bit: u64) {
        let mut bytes = self.bytes(name);
        bytes[index(bit / 8)] ^= 1 << (bit % 8);
        self.put(name, &bytes);
    }

    /// Takes a file away behind the log's back.
    pub fn lose(&self, name: FileName) {
        let mut state = self.state();
        state.names.remove(&name);
        state.durable_names.remove(&name);
    }
}

/// What a call should do.
enum Outcome {
    Succeed,
    Fail(io::Error),
    /// Some of the effect, then the error.
    FailPartly(io::Error),
    Short,
}

impl State {
    /// Counts a call and says what becomes of it.
    fn call(&mut self, needs_space: bool, writes: bool) -> Outcome {
        if self.dead {
            return Outcome::Fail(io::Error::other("the power is off"));
        }
        self.calls += 1;
        let Some(plan) = self.plan else { return Outcome::Succeed };
        let due = self.calls == plan.at || (plan.sticky && self.calls > plan.at);
        let applies = match plan.fault {
            SimFault::Io | SimFault::PowerOff => true,
            SimFault::NoSpace => needs_space,
            SimFault::Short => writes,
        };
        if !due || !applies {
            return Outcome::Succeed;
        }
        self.fired = true;
        match plan.fault {
            SimFault::Io => Outcome::FailPartly(io::Error::from_raw_os_error(5)),
            SimFault::NoSpace => Outcome::Fail(io::ErrorKind::StorageFull.into()),
            SimFault::Short => Outcome::Short,
            SimFault::PowerOff => {
                self.dead = true;
                Outcome::FailPartly(io::Error::other("the power went off"))
            }
        }
    }

    /// A call that does all or nothing.
    fn simple_call(&mut self, needs_space: bool) -> io::Result<()> {
        match self.call(needs_space, false) {
            Outcome::Succeed | Outcome::Short => Ok(()),
            Outcome::Fail(error) | Outcome::FailPartly(error) => Err(error),
        }
    }

    fn inode_of(&self, name: FileName) -> io::Result<u64> {
        self.names.get(&name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn inode(&mut self, file: SimFile) -> &mut Inode {
        self.inodes.get_mut(&file.0).expect("an open file exists")
    }

    fn check_space(&self, file: SimFile, end: usize) -> io::Result<()> {
        let grows = end.saturating_sub(self.inodes[&file.0].live().len());
        let used: usize = self.names.values().map(|inode| self.inodes[inode].live().len()).sum();
        let free = self.space.map_or(usize::MAX, |space| index(space).saturating_sub(used));
        if grows > free { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Forgets files that no name leads to.
    fn collect(&mut self) {
        let named: BTreeSet<u64> =
            self.names.values().chain(self.durable_names.values()).copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }
}

impl Storage for SimDisk {
    type File = SimFile;

    async fn list(&self) -> io::Result<(Vec<Listed>, usize)> {
        let mut state = self.state();
        state.simple_call(false)?;
        let listed = |(name, inode): (&FileName, &u64)| Listed {
            name: *name,
            bytes: state.inodes[inode].live().len() as u64,
            regular: true,
        };
        Ok((state.names.iter().map(listed).collect(), 0))
    }

    async fn create(&self, name: FileName) -> io::Result<SimFile> {
        let mut state = self.state();
        state.simple_call(true)?;
        if state.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.names.insert(name, inode);
        state.name_changes.push(NameChange::Create(name, inode));
        Ok(SimFile(inode))
    }

    async fn open(&self, name: FileName) -> io::Result<SimFile> {
        let mut state = self.state();
        state.simple_call(false)?;
        state.inode_of(name).map(SimFile)
    }

    async fn allocate(&self, file: &SimFile, bytes: u64) -> io::Result<bool> {
        let mut state = self.state();
        state.simple_call(true)?;
        state.check_space(*file, index(bytes))?;
        state.inode(*file).set_len(index(bytes));
        Ok(true)
    }

    async fn read_at(&self, file: &SimFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        state.simple_call(false)?;
        let live = state.inode(*file).live();
        let rest = live.get(index(offset)..).unwrap_or(&[]);
        let bytes = rest.len().min(into.len());
        into[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    async fn write_at(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        let outcome = state.call(true, true);
        let at = index(offset);
        match outcome {
            Outcome::Succeed => {
                state.check_space(*file, at + bytes.len())?;
                state.inode(*file).write(at, bytes);
                Ok(bytes.len())
            }
            Outcome::Short => {
                let sectors = bytes.len() / SECTOR_BYTES;
                let part = index(state.rng.below(sectors as u64)) * SECTOR_BYTES;
                state.inode(*file).write(at, &bytes[..part]);
                Ok(part)
            }
            Outcome::Fail(error) => Err(error),
            Outcome::FailPartly(error) => {
                for (sector, part) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if state.rng.coin() {
                        state.inode(*file).write(at + sector * SECTOR_BYTES, part);
                    }
                }
                Err(error)
            }
        }
    }

    async fn sync(&self, file: &SimFile) -> io::Result<()> {
        let mut state = self.state();
        match state.call(false, false) {
            Outcome::Succeed | Outcome::Short => {
                if state.bug != Some(PlantedBug::SyncForgotten) {
                    state.inode(*file).sync();
                }
                Ok(())
            }
            Outcome::Fail(error) => Err(error),
            Outcome::FailPartly(error) => {
                let mut rng = state.rng.split();
                state.inode(*file).sync_failed(&mut rng);
                Err(error)
            }
        }
    }

    async fn set_len(&self, file: &SimFile, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.simple_call(false)?;
        state.inode(*file).set_len(index(bytes));
        Ok(())
    }

    async fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        let mut state = self.state();
        state.simple_call(true)?;
        let inode = state.inode_of(from)?;
        state.names.remove(&from);
        state.names.insert(to, inode);
        state.name_changes.push(NameChange::Rename(from, to, inode));
        Ok(())
    }

    async fn remove(&self, name: FileName) -> io::Result<()> {
        let mut state = self.state();
        state.simple_call(false)?;
        let inode = state.inode_of(name)?;
        state.names.remove(&name);
        state.name_changes.push(NameChange::Remove(name, inode));
        Ok(())
    }

    async fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.simple_call(false)?;
        if state.bug != Some(PlantedBug::DirectorySyncForgotten) {
            state.name_changes.clear();
            state.durable_names = state.names.clone();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
