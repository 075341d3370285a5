//! Facts of the machine, without which a figure means nothing.

use serde::Serialize;
use std::fmt;
use std::fs;
use std::path::Path;

/// Where a comparison ran.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    memory_gib: f64,
    /// Of the folder that stores lie in.
    fs: String,
    /// How many entities are few, and how many are many.
    pub(super) entities: [u64; 2],
    /// What ran the shards that have a store, and why; nothing without such a row.
    pub(super) backend: Option<String>,
    /// The kernel's policy for huge pages.
    huge_pages: String,
    /// Running tasks over the last minute, before the run began: others than ours.
    load_before: f64,
    optimized: bool,
}

impl Machine {
    /// Asks the kernel; stores will lie in `folder`. What it does not tell is `unknown`.
    pub(super) fn look(folder: &Path) -> Self {
        let huge_pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: crate::cores::all().len(),
            kernel: non_empty(&read("/proc/sys/kernel/osrelease")),
            memory_gib: memory_gib(),
            fs: file_system(folder).unwrap_or_else(unknown),
            entities: [0; 2],
            backend: None,
            huge_pages: between(&huge_pages, '[', ']').unwrap_or_else(unknown),
            load_before: number(read("/proc/loadavg").split(' ').next()).unwrap_or(f64::NAN),
            optimized: !cfg!(debug_assertions),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, kernel, memory_gib, fs, huge_pages, load_before, .. } = self;
        write!(f, "{cpu}, {cores} cores, {memory_gib:.1} GiB, Linux {kernel}, {fs}, ")?;
        write!(f, "huge pages: {huge_pages}, load before the run: {load_before}")?;
        let [few, many] = self.entities;
        write!(f, ", few entities are {few}, many are {many}")?;
        if let Some(backend) = &self.backend {
            write!(f, ", stores on {backend}")?;
        }
        if self.optimized { Ok(()) } else { write!(f, "; NOT an optimized build") }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn unknown() -> String {
    "unknown".into()
}

fn non_empty(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { unknown() } else { text.into() }
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().into())
}

fn between(text: &str, open: char, close: char) -> Option<String> {
    Some(text.split_once(open)?.1.split_once(close)?.0.into())
}

fn number(text: Option<&str>) -> Option<f64> {
    text?.trim().parse().ok()
}

fn memory_gib() -> f64 {
    let total = field(&read("/proc/meminfo"), "MemTotal");
    let kib = total.as_deref().and_then(|total| total.split(' ').next());
    number(kib).map_or(f64::NAN, |kib| kib / f64::from(1 << 20))
}

/// The type of the file system that holds a folder.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = read("/proc/self/mounts");
    let mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        folder.starts_with(place).then_some((place.len(), kind))
    });
    mounted.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_is_asked() {
        let machine = Machine::look(&std::env::temp_dir());
        assert!(machine.cores > 0 && machine.memory_gib > 0.0, "{machine}");
        assert_ne!((machine.cpu.as_str(), machine.kernel.as_str()), ("unknown", "unknown"));
    }

    #[test]
    fn lines_and_choices_of_the_kernel_are_read() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(between("always [madvise] never", '[', ']').as_deref(), Some("madvise"));
    }
}
