//! The simulated disk does what a disk may do, and no more.
//!
//! Promises: see `sim`.
//! Invariants: each test names one thing a disk may or may not do.
//! Fails by: a failing test.
//! Not here: logs on the disk.
//! Source: none.

use super::*;
use crate::blocking::ready;

const NAME: FileName = FileName::Segment(1);

fn disk_with_synced_file() -> (SimDisk, SimFile) {
    let disk = SimDisk::new(1);
    let file = ready(disk.create(NAME)).unwrap();
    ready(disk.write_at(&file, 0, &[1; 4096])).unwrap();
    ready(disk.sync(&file)).unwrap();
    ready(disk.sync_dir()).unwrap();
    (disk, file)
}

#[test]
fn a_synced_file_survives_every_power_loss() {
    let (disk, _) = disk_with_synced_file();
    for seed in 0..64 {
        assert_eq!(disk.power_loss(seed).bytes(NAME), [1; 4096]);
    }
}

#[test]
fn unsynced_sectors_are_kept_or_lost_each_for_itself() {
    let (disk, file) = disk_with_synced_file();
    ready(disk.write_at(&file, 0, &[2; 4096])).unwrap();
    let mut torn = 0;
    for seed in 0..64 {
        let bytes = disk.power_loss(seed).bytes(NAME);
        let mut kinds = BTreeSet::new();
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|&byte| byte == sector[0]), "a sector is never torn");
            kinds.insert(sector[0]);
        }
        torn += u32::from(kinds.len() == 2);
    }
    assert!(torn > 32, "most crashes tear eight sectors, {torn} did");
    assert_eq!(disk.kill().bytes(NAME), [2; 4096], "the process alone takes nothing with it");
}

#[test]
fn an_unsynced_name_change_may_be_lost() {
    let (disk, _) = disk_with_synced_file();
    ready(disk.rename(NAME, FileName::Segment(2))).unwrap();
    let after: BTreeSet<_> = (0..64).map(|seed| disk.power_loss(seed).names()).collect();
    let both = BTreeSet::from([vec![NAME], vec![FileName::Segment(2)]]);
    assert_eq!(after, both);
    ready(disk.sync_dir()).unwrap();
    assert_eq!(disk.power_loss(1).names(), [FileName::Segment(2)]);
}

#[test]
fn a_failed_sync_forgets_for_ever_although_reads_still_show_it() {
    let (disk, file) = disk_with_synced_file();
    ready(disk.write_at(&file, 0, &[2; 4096])).unwrap();
    disk.plan(FaultPlan { fault: SimFault::Io, at: 1, sticky: false });
    assert!(ready(disk.sync(&file)).is_err());
    assert!(ready(disk.sync(&file)).is_ok(), "the next sync says nothing is wrong");
    assert_eq!(disk.bytes(NAME), [2; 4096]);
    let lost = (0..64).filter(|&seed| disk.power_loss(seed).bytes(NAME) != [2; 4096]);
    assert!(lost.count() > 0);
}

#[test]
fn power_off_ends_everything_until_a_new_disk_is_made() {
    let (disk, file) = disk_with_synced_file();
    disk.plan(FaultPlan { fault: SimFault::PowerOff, at: 2, sticky: false });
    assert!(ready(disk.write_at(&file, 0, &[2; 4096])).is_ok());
    assert!(ready(disk.write_at(&file, 0, &[3; 4096])).is_err());
    assert!(ready(disk.open(NAME)).is_err());
    assert!(disk.fired());
    assert!(ready(disk.kill().open(NAME)).is_ok());
}

#[test]
fn space_runs_out_where_a_file_grows() {
    let (disk, file) = disk_with_synced_file();
    disk.limit_space(Some(8192));
    assert!(ready(disk.allocate(&file, 8192)).is_ok());
    assert!(ready(disk.write_at(&file, 4096, &[2; 4096])).is_ok());
    let error = ready(disk.write_at(&file, 8192, &[2; 4096])).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
