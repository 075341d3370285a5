//! The table of findings: what each fact means for an engine, and what to do about it.
//!
//! Promises: the same facts give the same findings, in the same order; everything that is not ok
//! says what to do. *Bad* is what keeps an engine from working here, *warn* what makes it slower
//! or less safe than it could be, and what could not be learned.
//! Not here: asking the system for anything.

use super::facts::{Directory, Facts, Mount, Store, Trial};
use crate::limits::{FREE_BYTES_PER_SHARD, FREE_BYTES_PER_SHARD_MIN, KERNEL_MIN};
use crate::output::{count, size};
use ebbtide::probe;
use ebbtide_wal::limits::BLOCK_BYTES;
use serde::Serialize;
use std::fmt;

/// How a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Warn,
    Bad,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        })
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) found: String,
    /// Always there when the status is not ok.
    pub(super) todo: Option<String>,
}

/// A finding without its name.
struct Verdict(Status, String, Option<String>);

fn ok(found: impl Into<String>) -> Verdict {
    Verdict(Status::Ok, found.into(), None)
}

fn warn(found: impl Into<String>, todo: impl Into<String>) -> Verdict {
    Verdict(Status::Warn, found.into(), Some(todo.into()))
}

fn bad(found: impl Into<String>, todo: impl Into<String>) -> Verdict {
    Verdict(Status::Bad, found.into(), Some(todo.into()))
}

/// What cannot be learned here, as in a container that hides it.
fn untold(what: &str) -> Verdict {
    warn(format!("{what} is not told here"), "ask on the machine itself, outside of the container")
}

const PLAIN_THREADS: &str = "until then an engine runs on plain threads";

/// File systems without a device.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

type Check = (&'static str, fn(&Facts) -> Verdict);

const CHECKS: &[Check] = &[
    ("kernel", kernel),
    ("io_uring", io_uring),
    ("memlock", memlock),
    ("nofile", nofile),
    ("cores", cores),
    ("cpu quota", quota),
    ("siblings", siblings),
    ("clock", clock),
    ("huge pages", huge_pages),
    ("swap", swap),
    ("directory", directory),
    ("writing", writing),
    ("file system", file_system),
    ("direct I/O", direct),
    ("write cache", write_cache),
    ("free space", free_space),
    ("store", store),
];

/// Every finding, in the order of the table.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let find = |&(name, check): &Check| {
        let Verdict(status, found, todo) = check(facts);
        Finding { name, status, found, todo }
    };
    CHECKS.iter().map(find).collect()
}

fn kernel(facts: &Facts) -> Verdict {
    let Some(release) = &facts.host.kernel else { return untold("the kernel's release") };
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| digits.parse::<u32>().ok());
    let (major, minor) = KERNEL_MIN;
    match (number(), number()) {
        (Some(a), Some(b)) if (a, b) >= KERNEL_MIN => ok(format!("Linux {release}")),
        (Some(_), Some(_)) => warn(
            format!("Linux {release}: its io_uring lacks what is used"),
            format!("use Linux {major}.{minor} or newer; {PLAIN_THREADS}"),
        ),
        _ => warn(
            format!("the release `{release}` is not understood"),
            format!("make sure that it is Linux {major}.{minor} or newer"),
        ),
    }
}

fn io_uring(facts: &Facts) -> Verdict {
    match &facts.host.ring {
        Ok(()) => ok("the kernel gave a ring"),
        Err(why) => warn(
            why.as_str(),
            format!(
                "set kernel.io_uring_disabled = 0, and in a container use a seccomp profile that \
                 allows io_uring; {PLAIN_THREADS}"
            ),
        ),
    }
}

fn memlock(facts: &Facts) -> Verdict {
    let least = size(probe::MEMLOCK_BYTES_MIN);
    match facts.host.memlock_bytes {
        Some(limit) if limit < probe::MEMLOCK_BYTES_MIN => warn(
            format!("{} may be locked and io_uring needs {least}", size(limit)),
            format!("raise `ulimit -l`, or LimitMEMLOCK= of the service; {PLAIN_THREADS}"),
        ),
        Some(limit) => ok(format!("{} may be locked, {least} are needed", size(limit))),
        None => ok("there is no limit to locked memory"),
    }
}

fn nofile(facts: &Facts) -> Verdict {
    let needed = probe::descriptors_needed(facts.shards);
    match facts.host.descriptors {
        Some(limit) if limit < needed => warn(
            format!("{limit} file descriptors, and io_uring may take {needed}"),
            format!(
                "raise `ulimit -n`, or LimitNOFILE= of the service, or use fewer shards; \
                 {PLAIN_THREADS}"
            ),
        ),
        Some(limit) => ok(format!("{limit} file descriptors, up to {needed} are needed")),
        None => ok("there is no limit to file descriptors"),
    }
}

fn cores(facts: &Facts) -> Verdict {
    let Some(cores) = &facts.host.cores else { return untold("which cores may be used") };
    let (usable, shards) = (cores.len(), facts.shards);
    let of = facts.host.cores_online.map_or(String::new(), |all| format!(" of {all}"));
    if shards > usable {
        let (few, many) = (count(usable as u64, "core"), count(shards as u64, "shard"));
        return warn(
            format!("{few}{of} may be used, for {many}: shards take turns on a core"),
            format!("use --shards {usable}, or widen the CPU set (cpuset, taskset)"),
        );
    }
    ok(format!("{usable}{of} may be used, for {}", count(shards as u64, "shard")))
}

fn quota(facts: &Facts) -> Verdict {
    let shards = facts.shards;
    match facts.host.quota_cores {
        None => ok("no control group limits the time"),
        Some(quota) if quota < shards as f64 => warn(
            format!(
                "a control group grants the time of {quota:.2} cores to {}: when it is used up \
                 all shards stop, for tens of milliseconds",
                count(shards as u64, "shard")
            ),
            "raise cpu.max (the container's CPU limit), or give whole cores by a CPU set instead",
        ),
        Some(quota) => ok(format!("a control group grants the time of {quota:.2} cores")),
    }
}

fn siblings(facts: &Facts) -> Verdict {
    let (Some(physical), Some(cores)) = (facts.host.cores_physical, &facts.host.cores) else {
        return untold("which cores are siblings");
    };
    if physical >= cores.len() {
        return ok("no two of the cores share a physical one");
    }
    let found = format!("{} cores are {physical} physical ones", cores.len());
    if facts.shards <= physical {
        return ok(format!("{found}; pin each shard to one of its own"));
    }
    warn(
        format!("{found}: shards that share one slow each other down"),
        format!("use --shards {physical}, pinned to one core of each pair"),
    )
}

fn clock(facts: &Facts) -> Verdict {
    const CHEAP: [&str; 5] = [
        "tsc",
        "kvm-clock",
        "arch_sys_counter",
        "hyperv_clocksource_tsc_page",
        "riscv_clocksource",
    ];
    match facts.host.clock_source.as_deref() {
        None => untold("the clock source"),
        Some(source) if CHEAP.contains(&source) => ok(format!("{source}, read without the kernel")),
        Some(source) => warn(
            format!("{source}: each look at the clock is a call of the kernel"),
            "use `tsc` where the machine has a stable one (clocksource=tsc)",
        ),
    }
}

fn huge_pages(facts: &Facts) -> Verdict {
    let Some(pages) = &facts.host.huge_pages else { return untold("the use of huge pages") };
    let found = format!("{}, defrag {}", pages.enabled, pages.defrag);
    if pages.enabled == "always" && pages.defrag == "always" {
        return warn(
            format!("{found}: any access to new memory may stop to compact old memory"),
            "set /sys/kernel/mm/transparent_hugepage/defrag to `madvise` or `defer+madvise`",
        );
    }
    ok(found)
}

fn swap(facts: &Facts) -> Verdict {
    match facts.host.swap_bytes {
        None => untold("whether there is swap"),
        Some(0) => ok("none"),
        Some(bytes) => warn(
            format!("{}: a read of what was swapped out waits for the disk", size(bytes)),
            "use `swapoff`, or memory.swap.max = 0 for the service (MemorySwapMax=0)",
        ),
    }
}

fn directory(facts: &Facts) -> Verdict {
    match &facts.place.directory {
        Directory::Missing => ok("it is not there yet and will be made, for its owner only"),
        Directory::Not(why) => {
            bad(why.as_str(), "name a directory, or a path where one can be made")
        }
        Directory::There { own: false, .. } => warn(
            "it belongs to another user",
            "run the engine as the directory's owner, or give it to the engine's user (chown)",
        ),
        Directory::There { mode, .. } if mode & 0o077 != 0 => warn(
            format!("its mode is {mode:04o}: other users may look into it"),
            "chmod 0700: the store holds the key that places entities",
        ),
        Directory::There { mode, .. } => ok(format!("mode {mode:04o}, this user's own")),
    }
}

fn writing(facts: &Facts) -> Verdict {
    let base = &facts.place.base;
    match &facts.place.trial {
        Ok(Trial { sync, .. }) => ok(format!("{BLOCK_BYTES} bytes and their sync take {sync:.1?}")),
        Err(_) if facts.place.mount.as_ref().is_some_and(|mount| mount.read_only) => {
            bad(format!("{base} is mounted read-only"), "mount it for writing, or name another")
        }
        Err(why) => bad(
            format!("nothing can be written to {base}: {why}"),
            "give this user the permission (chown, chmod), or name another directory",
        ),
    }
}

fn file_system(facts: &Facts) -> Verdict {
    let Some(Mount { kind, source, .. }) = &facts.place.mount else {
        return untold("the file system");
    };
    let found = format!("{kind} on {source}");
    match kind.as_str() {
        "ext4" | "xfs" => ok(found),
        kind if IN_MEMORY.contains(&kind) => warn(
            format!(
                "{kind}, files in memory: here `durable` survives the end of the process and \
                 nothing else, no power cut and no restart"
            ),
            "use a directory on ext4 or xfs for what must last",
        ),
        "overlay" | "aufs" => warn(
            format!("{found}: the layers of a container, gone with it"),
            "put the directory on a volume",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "virtiofs" | "ceph" => warn(
            format!("{found}: locks and syncs are as good as the server's"),
            "use a local disk with ext4 or xfs",
        ),
        _ => warn(format!("{found}: not tried by us"), "use ext4 or xfs if there is a choice"),
    }
}

fn direct(facts: &Facts) -> Verdict {
    let Ok(trial) = &facts.place.trial else {
        return warn("not tried, since nothing can be written", "see `writing`");
    };
    if !trial.direct {
        return warn(
            "refused: written records are in the page cache until they are synced",
            "use ext4 or xfs; `written` then survives a crash of the kernel too",
        );
    }
    match trial.align_bytes {
        None => ok(format!("works in blocks of {BLOCK_BYTES} bytes")),
        Some((_, offset)) if offset as usize > BLOCK_BYTES => bad(
            format!("it needs offsets of {offset} bytes, and the log writes {BLOCK_BYTES}"),
            format!("use a device with blocks of at most {BLOCK_BYTES} bytes"),
        ),
        Some((memory, offset)) => {
            ok(format!("works; aligned to {offset} bytes on disk, {memory} in memory"))
        }
    }
}

fn write_cache(facts: &Facts) -> Verdict {
    let mount = facts.place.mount.as_ref();
    match mount.and_then(|mount| mount.write_cache.as_deref()) {
        None if mount.is_some_and(|mount| IN_MEMORY.contains(&mount.kind.as_str())) => {
            ok("there is no device")
        }
        Some("write through") => ok("write through: what is written does not depend on a flush"),
        Some("write back") => ok("write back: each sync makes the device flush it"),
        Some(other) => warn(
            format!("`{other}` is not understood"),
            "make sure that the device honours a flush",
        ),
        None => warn(
            "whether the device has one is not told here",
            "make sure that the device honours a flush, or that its cache outlives a power cut",
        ),
    }
}

fn free_space(facts: &Facts) -> Verdict {
    let Some(free) = facts.place.free_bytes else { return untold("the free space") };
    let shards = facts.shards as u64;
    let (least, good) = (shards * FREE_BYTES_PER_SHARD_MIN, shards * FREE_BYTES_PER_SHARD);
    let found = format!("{} are free", size(free));
    if free < least {
        bad(format!("{found} and the logs begin with {}", size(least)), "make room")
    } else if free < good {
        let good = size(good);
        warn(
            format!("{found}: little for {}", count(shards, "log")),
            format!("keep {good} free, beside the state itself"),
        )
    } else {
        ok(found)
    }
}

fn store(facts: &Facts) -> Verdict {
    match &facts.place.store {
        Store::None => ok("there is none yet"),
        Store::Free => ok("there is one, and nobody has it open"),
        Store::InUse => warn(
            "there is one, and an engine has it open",
            "close that engine before another opens it (`fuser LOCK` names its process)",
        ),
        Store::Unknown(why) => bad(
            format!("whether there is one cannot be told: {why}"),
            "give this user the permission to read the directory and its LOCK",
        ),
    }
}

#[cfg(test)]
mod tests;
