//! How much processor time control groups grant this process, in either version of theirs.
//!
//! Promises: the narrowest limit from the process's own group up to the outermost that is visible.
//! Source: the kernel's `cgroup-v2.rst`, and `sched-bwc.rst` for the first version.

use super::host::Kernel;
use super::mounts::{self, Line, has};
use std::path::Path;

/// Cores' worth of time; `None` where nothing limits it.
pub(super) fn quota_cores(kernel: &Kernel) -> Option<f64> {
    let table = kernel.read("proc/self/mountinfo")?;
    let groups = kernel.read("proc/self/cgroup")?;
    let quotas = groups.lines().filter_map(|group| {
        let mut parts = group.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let mount = mounts::lines(&table).find(|line| counts_time(line, controllers))?;
        quota_of(kernel, &mount, Path::new(path))
    });
    quotas.min_by(f64::total_cmp)
}

/// Whether a mount shows the hierarchy of these controllers, and it is one that grants time.
fn counts_time(mount: &Line, controllers: &str) -> bool {
    if controllers.is_empty() {
        mount.kind == "cgroup2"
    } else {
        has(controllers, "cpu") && mount.kind == "cgroup" && has(&mount.super_options, "cpu")
    }
}

fn quota_of(kernel: &Kernel, mount: &Line, path: &Path) -> Option<f64> {
    // In a container the path may lie outside of what is mounted; then the mount is the group.
    let inside = path.strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let own = mount.point.join(inside);
    let groups = own.ancestors().take_while(|group| group.starts_with(&mount.point));
    groups.filter_map(|group| quota_at(kernel, group)).min_by(f64::total_cmp)
}

fn quota_at(kernel: &Kernel, group: &Path) -> Option<f64> {
    let read = |name| kernel.read(group.join(name));
    let (quota, period) = match read("cpu.max") {
        Some(both) => both.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()))?,
        None => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    // `max` in one version and -1 in the other: no limit.
    let (quota, period) = (quota.parse::<u32>().ok()?, period.parse::<u32>().ok()?);
    (period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A kernel that tells what these files hold.
    fn with(files: &[(&str, &str)], check: impl Fn(&Kernel)) {
        let home = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        check(&Kernel::below(home.path()));
    }

    #[test]
    fn the_narrowest_group_above_the_process_counts() {
        let files = [
            ("proc/self/mountinfo", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("proc/self/cgroup", "0::/app/worker\n"),
            ("sys/fs/cgroup/app/worker/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/app/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ];
        with(&files, |kernel| assert_eq!(quota_cores(kernel), Some(1.5)));
        with(&files[..3], |kernel| assert_eq!(quota_cores(kernel), None));
        with(&[], |kernel| assert_eq!(quota_cores(kernel), None));
    }

    #[test]
    fn the_first_version_is_understood_also_from_inside_a_container() {
        let mounts = "1 1 0:1 /docker/a /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      2 1 0:2 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let files = [
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", "3:memory:/docker/a\n2:cpu,cpuacct:/docker/a\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        with(&files, |kernel| assert_eq!(quota_cores(kernel), Some(0.5)));
        let unlimited = [&files[..2], &[("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"), files[3]]];
        with(&unlimited.concat(), |kernel| assert_eq!(quota_cores(kernel), None));
    }
}
