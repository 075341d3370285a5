//! What the bare device does in a turn: the reference of the durable rows.
//!
//! Promises: one write out at a time, as the order of a log demands; of sizes and ways to sync the
//! fastest is taken, found on this device before the first turn.

use super::open_loop::Schedule;
use super::stores::Stores;
use crate::rivals::{GroupCommitLog, RawDevice, Syncing, fill_random};
use ebbtide_shard::record::EVENT_BYTES;
use ebbtide_wal::aligned::AlignedBuf;
use ebbtide_wal::limits::{BLOCK_BYTES, FRAME_HEADER_BYTES, block_ceil};
use std::io;
use std::time::{Duration, Instant};

/// Sizes that are tried, in KiB; a log's largest group is among them.
const SIZES_KIB: [usize; 6] = [128, 256, 512, 1024, 2048, 4096];

/// The device with writes of the size that suits it best.
#[derive(Debug)]
pub(super) struct BestSize {
    device: RawDevice,
    buffer: AlignedBuf,
    /// Bytes written in a turn.
    bytes: usize,
}

impl BestSize {
    /// Tries all sizes and both ways to sync with `bytes` each.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub(super) fn find(stores: &Stores, bytes: usize) -> io::Result<Self> {
        let mut best: Option<(f64, Self)> = None;
        for syncing in [Syncing::Dsync, Syncing::Fdatasync] {
            let path = stores.fresh("device");
            for kib in SIZES_KIB.into_iter().filter(|kib| kib * 1024 <= bytes) {
                let device = RawDevice::create(&path, bytes, syncing)?;
                let mut tried = Self { device, buffer: random_buffer(kib * 1024), bytes };
                let rate = tried.bytes_per_second()?;
                if best.as_ref().is_none_or(|(most, _)| rate > *most) {
                    best = Some((rate, tried));
                }
            }
        }
        best.map(|(_, best)| best).ok_or_else(|| io::Error::other("there is no size to try"))
    }

    /// Writes a turn's bytes.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub(super) fn bytes_per_second(&mut self) -> io::Result<f64> {
        let writes = (self.bytes / self.buffer.len()).max(1);
        let begun = Instant::now();
        for _ in 0..writes {
            self.device.write(&self.buffer)?;
        }
        Ok((writes * self.buffer.len()) as f64 / begun.elapsed().as_secs_f64())
    }
}

fn random_buffer(bytes: usize) -> AlignedBuf {
    let mut buffer = AlignedBuf::zeroed(bytes);
    fill_random(&mut buffer);
    buffer
}

/// What groups of the original design took.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupTimes {
    /// All of them.
    pub(super) seconds: f64,
    /// The fastest that was full.
    pub(super) least_seconds: f64,
}

/// Commits `events` events in groups of the original design.
///
/// # Errors
///
/// Of the file system.
pub(super) fn commit_groups(log: &mut GroupCommitLog, events: usize) -> io::Result<GroupTimes> {
    let (begun, mut least_seconds) = (Instant::now(), f64::INFINITY);
    let mut record = [0; EVENT_BYTES];
    let (mut group_begun, mut groups) = (begun, log.groups);
    for event in 0..events as u64 {
        record[..8].copy_from_slice(&event.to_le_bytes());
        log.record(&record)?;
        if log.groups > groups {
            least_seconds = least_seconds.min(group_begun.elapsed().as_secs_f64());
            (group_begun, groups) = (Instant::now(), log.groups);
        }
    }
    log.flush()?;
    Ok(GroupTimes { seconds: begun.elapsed().as_secs_f64(), least_seconds })
}

/// How long each of so many writes of one block takes.
///
/// # Errors
///
/// Of the file system.
pub(super) fn block_writes(device: &mut RawDevice, writes: usize) -> io::Result<Vec<Duration>> {
    let block = random_buffer(BLOCK_BYTES);
    let write = |_| {
        let begun = Instant::now();
        device.write(&block).map(|()| begun.elapsed())
    };
    (0..writes).map(write).collect()
}

/// How long each event of a schedule takes to be durable if all that are due go with the next write
/// and nothing else is done: what the device allows a log.
///
/// # Errors
///
/// Of the file system.
pub(super) fn open_loop_writes(
    device: &mut RawDevice,
    schedule: Schedule,
    events: usize,
) -> io::Result<Vec<Duration>> {
    let mut group = random_buffer(block_ceil(FRAME_HEADER_BYTES + events * EVENT_BYTES));
    let (start, mut latencies) = (Instant::now(), Vec::with_capacity(events));
    while latencies.len() < events {
        let first = latencies.len();
        while start.elapsed() < schedule.intended(first) {
            std::hint::spin_loop();
        }
        let now = start.elapsed();
        let due = (first..events).take_while(|&event| schedule.intended(event) <= now).count();
        let bytes = block_ceil(FRAME_HEADER_BYTES + due * EVENT_BYTES);
        group[..8].copy_from_slice(&(first as u64).to_le_bytes());
        device.write(&group[..bytes])?;
        let done = start.elapsed();
        let latency = |event| done.saturating_sub(schedule.intended(event));
        latencies.extend((first..first + due).map(latency));
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebbtide::Backend;

    #[test]
    fn every_event_of_a_schedule_is_written_once_and_not_before_its_time() {
        let stores = Stores::within(None, Backend::Auto).unwrap();
        let path = stores.fresh("device");
        let mut device = RawDevice::create(&path, 1 << 20, Syncing::Dsync).unwrap();
        let schedule = Schedule::per_second(20_000);
        let begun = Instant::now();
        let latencies = open_loop_writes(&mut device, schedule, 200).unwrap();
        assert_eq!(latencies.len(), 200);
        assert!(begun.elapsed() >= schedule.intended(199));
        assert!(latencies.iter().all(|latency| !latency.is_zero()));
        assert_eq!(block_writes(&mut device, 3).unwrap().len(), 3);
    }

    #[test]
    fn the_best_size_is_one_that_fits() {
        let stores = Stores::within(None, Backend::Auto).unwrap();
        let mut best = BestSize::find(&stores, 256 * 1024).unwrap();
        assert!(best.buffer.len() <= 256 * 1024);
        assert!(best.bytes_per_second().unwrap() > 0.0);
    }
}
