//! The kernel's table of mounted file systems (`/proc/self/mountinfo`).
//!
//! Promises: total over any text; a line that is not understood is passed over.
//! Source: `proc_pid_mountinfo(5)`.

use std::path::{Path, PathBuf};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Device number, such as `254:0`.
    pub(super) device: String,
    /// Which of the file system's directories is mounted.
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
    pub(super) options: String,
    pub(super) kind: String,
    pub(super) source: String,
    /// Options of the file system itself, as against those of this mount of it.
    pub(super) super_options: String,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let mut system = system.split(' ');
        let path = |text: &str| PathBuf::from(unescape(text));
        Some(Self {
            device: mount.next()?.to_owned(),
            root: path(mount.next()?),
            point: path(mount.next()?),
            options: mount.next()?.to_owned(),
            kind: system.next()?.to_owned(),
            source: unescape(system.next()?),
            super_options: system.next()?.to_owned(),
        })
    }

    /// Whether nothing can be written through this mount.
    pub(super) fn is_read_only(&self) -> bool {
        has(&self.options, "ro") || has(&self.super_options, "ro")
    }
}

/// Whether a comma-separated list holds a word.
pub(super) fn has(list: &str, word: &str) -> bool {
    list.split(',').any(|part| part == word)
}

/// Every line that is understood, in the order of mounting.
pub(super) fn lines(table: &str) -> impl Iterator<Item = Line> {
    table.lines().filter_map(Line::parse)
}

/// The mount that holds `path`, which is absolute and without links.
pub(super) fn holding(table: &str, path: &Path) -> Option<Line> {
    // The last of those with the longest point hides the others.
    lines(table)
        .filter(|line| path.starts_with(&line.point))
        .max_by_key(|line| line.point.components().count())
}

/// Blanks and backslashes are written as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.map_or('\\', char::from));
        plain.push_str(if code.is_some() { &part[3..] } else { part });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        nonsense\n\
        30 27 0:27 / /data rw shared:7 master:1 - xfs /dev/vdb rw\n\
        31 30 0:28 / /data/with\\040blank ro - tmpfs tmpfs rw,size=4k\n\
        32 27 0:29 / /data rw - overlay overlay rw,lowerdir=/a\n";

    fn kind(path: &str) -> Option<String> {
        holding(TABLE, Path::new(path)).map(|line| line.kind)
    }

    #[test]
    fn the_longest_mount_point_holds_a_path_and_a_later_one_hides_it() {
        assert_eq!(kind("/var/lib").as_deref(), Some("ext4"));
        assert_eq!(kind("/database").as_deref(), Some("ext4"));
        assert_eq!(kind("/data/a").as_deref(), Some("overlay"));
        assert_eq!(kind("/data/with blank/a").as_deref(), Some("tmpfs"));
        assert!(holding("", Path::new("/")).is_none());
    }

    #[test]
    fn a_line_says_device_and_whether_it_may_be_written() {
        let root = holding(TABLE, Path::new("/x")).unwrap();
        assert_eq!((root.device.as_str(), root.source.as_str()), ("254:0", "/dev/vda"));
        assert!(!root.is_read_only());
        assert!(holding(TABLE, Path::new("/data/with blank")).unwrap().is_read_only());
        assert_eq!(unescape(r"a\134b\04"), r"a\b\04");
    }
}
