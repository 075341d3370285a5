//! Findings from injected facts: a good machine, and each way in which one is not.

use super::super::facts::{Host, HugePages, Place};
use super::*;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// A machine on which nothing is to be said.
fn good() -> Facts {
    Facts {
        shards: 2,
        host: Host {
            kernel: Some("6.18.44-generic".into()),
            ring: Ok(()),
            memlock_bytes: Some(8 * MIB),
            descriptors: Some(1024),
            cores: Some(vec![0, 1]),
            cores_online: Some(4),
            quota_cores: None,
            cores_physical: Some(2),
            clock_source: Some("tsc".into()),
            huge_pages: Some(HugePages { enabled: "madvise".into(), defrag: "madvise".into() }),
            swap_bytes: Some(0),
        },
        place: Place {
            directory: Directory::There { mode: 0o700, own: true },
            base: "/data".into(),
            mount: Some(Mount {
                kind: "ext4".into(),
                source: "/dev/vda".into(),
                read_only: false,
                write_cache: Some("write back".into()),
            }),
            trial: Ok(Trial {
                direct: true,
                align_bytes: Some((512, 512)),
                sync: Duration::from_micros(310),
            }),
            free_bytes: Some(100_000 * MIB),
            store: Store::Free,
        },
    }
}

/// The one finding that a change of the good machine brings about.
fn finding_of(change: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = good();
    change(&mut facts);
    let mut findings = judge(&facts);
    findings.retain(|finding| finding.status != Status::Ok);
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.remove(0)
}

/// It is of this kind, and says these words in what was found or what to do.
#[track_caller]
fn says(finding: &Finding, status: Status, name: &str, words: &[&str]) {
    assert_eq!((finding.status, finding.name), (status, name), "{finding:?}");
    let told = format!("{} {}", finding.found, finding.todo.as_deref().unwrap_or_default());
    assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told}");
}

fn mount(facts: &mut Facts) -> &mut Mount {
    facts.place.mount.as_mut().expect("the good machine tells it")
}

#[test]
fn on_a_good_machine_everything_is_ok_and_nothing_is_to_be_done() {
    for finding in judge(&good()) {
        assert_eq!((finding.status, &finding.todo), (Status::Ok, &None), "{finding:?}");
    }
}

#[test]
fn what_forbids_io_uring_is_a_warning_because_threads_do_without() {
    use Status::Warn;
    let finding = finding_of(|facts| facts.host.kernel = Some("5.4.0-generic".into()));
    says(&finding, Warn, "kernel", &["5.4.0", "use Linux 5.8", "plain threads"]);
    let finding = finding_of(|facts| facts.host.kernel = Some("unnumbered".into()));
    says(&finding, Warn, "kernel", &["`unnumbered` is not understood"]);
    let finding = finding_of(|facts| facts.host.ring = Err("io_uring is not to be had".into()));
    says(&finding, Warn, "io_uring", &["not to be had", "seccomp", "io_uring_disabled = 0"]);
    let finding = finding_of(|facts| facts.host.memlock_bytes = Some(64 * 1024));
    says(&finding, Warn, "memlock", &["64.0 KiB", "512.0 KiB", "ulimit -l"]);
    let finding = finding_of(|facts| facts.host.descriptors = Some(64));
    says(&finding, Warn, "nofile", &["64 file descriptors", "80", "ulimit -n"]);
}

#[test]
fn kernels_are_compared_by_number() {
    for (release, status) in [("5.8.0", Status::Ok), ("5.10", Status::Ok), ("4.19", Status::Warn)] {
        let mut facts = good();
        facts.host.kernel = Some(release.into());
        assert_eq!(judge(&facts)[0].status, status, "{release}");
    }
}

#[test]
fn no_limit_is_enough_of_everything() {
    let mut facts = good();
    (facts.host.memlock_bytes, facts.host.descriptors) = (None, None);
    assert!(judge(&facts).iter().all(|finding| finding.status == Status::Ok));
}

#[test]
fn shards_want_cores_time_and_cores_of_their_own() {
    use Status::Warn;
    let finding = finding_of(|facts| {
        facts.host.cores = Some(vec![3]);
        facts.host.cores_physical = Some(1);
    });
    says(&finding, Warn, "cores", &["1 core of 4", "2 shards", "--shards 1"]);
    let finding = finding_of(|facts| facts.host.quota_cores = Some(1.5));
    says(&finding, Warn, "cpu quota", &["1.50 cores", "2 shards", "cpu.max"]);
    let finding = finding_of(|facts| facts.host.cores_physical = Some(1));
    says(&finding, Warn, "siblings", &["2 cores are 1 physical", "--shards 1"]);
}

#[test]
fn pairs_of_siblings_are_no_fault_while_there_are_physical_cores_for_all_shards() {
    let mut facts = good();
    (facts.host.cores, facts.host.cores_physical) = (Some(vec![0, 1, 2, 3]), Some(2));
    assert!(judge(&facts).iter().all(|finding| finding.status == Status::Ok));
    facts.host.quota_cores = Some(2.0);
    assert!(judge(&facts).iter().all(|finding| finding.status == Status::Ok));
}

#[test]
fn what_makes_a_host_stumble_is_a_warning() {
    use Status::Warn;
    let finding = finding_of(|facts| facts.host.clock_source = Some("hpet".into()));
    says(&finding, Warn, "clock", &["hpet", "tsc"]);
    let always = HugePages { enabled: "always".into(), defrag: "always".into() };
    let finding = finding_of(|facts| facts.host.huge_pages = Some(always));
    says(&finding, Warn, "huge pages", &["compact", "defrag"]);
    let finding = finding_of(|facts| facts.host.swap_bytes = Some(2048 * MIB));
    says(&finding, Warn, "swap", &["2.0 GiB", "swapoff"]);
}

#[test]
fn a_directory_that_cannot_be_used_is_bad() {
    use Status::{Bad, Warn};
    let finding = finding_of(|facts| facts.place.directory = Directory::Not("a file".into()));
    says(&finding, Bad, "directory", &["a file", "name a directory"]);
    let finding = finding_of(|facts| {
        facts.place.directory = Directory::There { mode: 0o755, own: true };
    });
    says(&finding, Warn, "directory", &["0755", "chmod 0700"]);
    let finding = finding_of(|facts| {
        facts.place.directory = Directory::There { mode: 0o700, own: false };
    });
    says(&finding, Warn, "directory", &["another user", "chown"]);

    let mut facts = good();
    facts.place.trial = Err("Permission denied (os error 13)".into());
    let findings = judge(&facts);
    let writing = findings.iter().find(|finding| finding.name == "writing").unwrap();
    says(writing, Bad, "writing", &["/data", "Permission denied", "chown"]);
    mount(&mut facts).read_only = true;
    let findings = judge(&facts);
    let writing = findings.iter().find(|finding| finding.name == "writing").unwrap();
    says(writing, Bad, "writing", &["read-only"]);
}

#[test]
fn a_file_system_says_what_durable_means_on_it() {
    use Status::Warn;
    for (kind, words) in [
        ("tmpfs", ["survives the end of the process", "no power cut"]),
        ("overlay", ["gone with it", "volume"]),
        ("nfs4", ["the server's", "local disk"]),
        ("btrfs", ["not tried", "ext4 or xfs"]),
    ] {
        let finding = finding_of(|facts| mount(facts).kind = kind.into());
        says(&finding, Warn, "file system", &words);
    }
    let mut facts = good();
    mount(&mut facts).kind = "xfs".into();
    assert!(judge(&facts).iter().all(|finding| finding.status == Status::Ok));
}

#[test]
fn direct_io_wants_blocks_no_larger_than_the_logs() {
    use Status::{Bad, Warn};
    let trial = |direct, align_bytes| Ok(Trial { direct, align_bytes, sync: Duration::ZERO });
    let finding = finding_of(|facts| facts.place.trial = trial(false, None));
    says(&finding, Warn, "direct I/O", &["page cache"]);
    let finding = finding_of(|facts| facts.place.trial = trial(true, Some((512, 16384))));
    says(&finding, Bad, "direct I/O", &["16384", "4096"]);
    let finding = finding_of(|facts| mount(facts).write_cache = None);
    says(&finding, Warn, "write cache", &["not told", "honours a flush"]);
}

#[test]
fn a_disk_without_room_for_the_logs_is_bad_and_one_with_little_is_warned_of() {
    let finding = finding_of(|facts| facts.place.free_bytes = Some(63 * MIB));
    says(&finding, Status::Bad, "free space", &["63.0 MiB", "64.0 MiB", "make room"]);
    let finding = finding_of(|facts| facts.place.free_bytes = Some(100 * MIB));
    says(&finding, Status::Warn, "free space", &["100.0 MiB", "1.1 GiB"]);
}

#[test]
fn a_store_in_use_is_no_fault_and_one_that_cannot_be_read_is() {
    let finding = finding_of(|facts| facts.place.store = Store::InUse);
    says(&finding, Status::Warn, "store", &["has it open", "close"]);
    let finding = finding_of(|facts| facts.place.store = Store::Unknown("no permission".into()));
    says(&finding, Status::Bad, "store", &["no permission"]);
}

#[test]
fn what_is_not_told_is_a_warning_that_says_so() {
    let mut facts = good();
    let host = &mut facts.host;
    (host.kernel, host.cores, host.cores_physical) = (None, None, None);
    (host.clock_source, host.huge_pages, host.swap_bytes) = (None, None, None);
    (facts.place.mount, facts.place.free_bytes) = (None, None);
    let untold: Vec<_> =
        judge(&facts).into_iter().filter(|finding| finding.status != Status::Ok).collect();
    assert_eq!(untold.len(), 9, "{untold:?}");
    for finding in untold {
        says(&finding, Status::Warn, finding.name, &["not told here"]);
    }
}
