//! Facts of the machine, as its kernel tells them.
//!
//! Promises: what the kernel does not tell, or tells in words that are not understood, is `None`.

use super::cgroup;
use super::facts::{Host, HugePages};
use crate::output::printable;
use ebbtide::probe;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The files in which a kernel tells about itself.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    root: PathBuf,
}

impl Kernel {
    /// The one that runs this process.
    pub(super) fn running() -> Self {
        Self::below("/")
    }

    /// One whose `/proc` and `/sys` lie below `root`.
    pub(super) fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The text of a file, without the blanks around it.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        let path = self.root.join(path.strip_prefix("/").unwrap_or(path));
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    }

    /// One line that will be shown.
    fn told(&self, path: &str) -> Option<String> {
        self.read(path).map(|text| printable(&text))
    }
}

/// Asks everything.
pub(super) fn gather(kernel: &Kernel) -> Host {
    let cores = usable_cores(kernel);
    Host {
        kernel: kernel.told("proc/sys/kernel/osrelease"),
        ring: probe::ring(),
        memlock_bytes: probe::memlock_bytes_max(),
        descriptors: probe::descriptors_max(),
        cores_online: kernel
            .read("sys/devices/system/cpu/online")
            .and_then(|list| Some(numbers(&list)?.len())),
        quota_cores: cgroup::quota_cores(kernel),
        cores_physical: cores.as_deref().and_then(|cores| physical(kernel, cores)),
        cores,
        clock_source: kernel
            .told("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        huge_pages: huge_pages(kernel),
        swap_bytes: kernel.read("proc/swaps").and_then(|table| swap_bytes(&table)),
    }
}

fn usable_cores(kernel: &Kernel) -> Option<Vec<usize>> {
    let status = kernel.read("proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    numbers(list.trim())
}

/// The numbers of a list such as `0-3,8`.
fn numbers(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        all.extend((from..=to).map(usize::from));
    }
    Some(all)
}

/// How many physical cores these are: siblings name the same list.
fn physical(kernel: &Kernel, cores: &[usize]) -> Option<usize> {
    let siblings = |core: &usize| {
        kernel.read(format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"))
    };
    cores.iter().map(siblings).collect::<Option<BTreeSet<_>>>().map(|lists| lists.len())
}

fn huge_pages(kernel: &Kernel) -> Option<HugePages> {
    let chosen = |name: &str| {
        let choices = kernel.told(&format!("sys/kernel/mm/transparent_hugepage/{name}"))?;
        Some(choices.split_once('[')?.1.split_once(']')?.0.to_owned())
    };
    Some(HugePages { enabled: chosen("enabled")?, defrag: chosen("defrag")? })
}

/// The sizes in the third column, below a line of titles.
fn swap_bytes(table: &str) -> Option<u64> {
    let size_kib = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
    let all_kib = table.lines().skip(1).map(size_kib).sum::<Option<u64>>()?;
    all_kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_tells_what_every_kernel_tells() {
        let host = gather(&Kernel::running());
        assert!(host.kernel.is_some() && host.cores.is_some_and(|cores| !cores.is_empty()));
    }

    #[test]
    fn a_kernel_that_tells_nothing_leaves_every_fact_open() {
        let home = tempfile::tempdir().unwrap();
        let host = gather(&Kernel::below(home.path()));
        assert_eq!((host.kernel, host.cores, host.cores_online), (None, None, None));
        assert_eq!((host.quota_cores, host.cores_physical), (None, None));
        assert_eq!((host.clock_source, host.huge_pages, host.swap_bytes), (None, None, None));
    }

    #[test]
    fn lists_of_cores_are_read_and_nonsense_is_not() {
        assert_eq!(numbers("0-2,8"), Some(vec![0, 1, 2, 8]));
        for nonsense in ["", "0-", "a", "0-99999999"] {
            assert_eq!(numbers(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn siblings_are_one_physical_core() {
        let home = tempfile::tempdir().unwrap();
        for (core, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2")] {
            let folder = format!("sys/devices/system/cpu/cpu{core}/topology");
            let folder = home.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("thread_siblings_list"), siblings).unwrap();
        }
        let kernel = Kernel::below(home.path());
        assert_eq!(physical(&kernel, &[0, 1, 2]), Some(2));
        assert_eq!(physical(&kernel, &[0, 3]), None);
    }

    #[test]
    fn swap_is_the_sum_of_its_areas() {
        let table = "Filename Type Size Used Priority\n/dev/a partition 1024 0 -2\n/b file 8 0 -3";
        assert_eq!(swap_bytes(table), Some(1032 * 1024));
        assert_eq!(swap_bytes("Filename Type Size Used Priority"), Some(0));
        assert_eq!(swap_bytes("title\nnonsense"), None);
    }
}
