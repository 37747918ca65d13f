//! The memory limits of the control groups that a process is in (cgroups(7)). Pure: the files are
//! read by the caller.

use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The files of a group in which the unified hierarchy states limits. Beyond `memory.high` a
/// process is not ended, and slowed down until it serves nobody.
const UNIFIED: [&str; 2] = ["memory.max", "memory.high"];

/// The same in the hierarchy of the memory controller of version 1. `memory.stat` has the least
/// limit of the group and of all above it, also of those that a container cannot see.
const VERSION_1: [&str; 2] = ["memory.limit_in_bytes", "memory.stat"];

/// How `memory.stat` of version 1 begins the line with that limit.
const OF_ALL_ABOVE: &str = "hierarchical_memory_limit ";

/// What stands for a character in a path of mountinfo that would end it.
const ESCAPES: [(&str, &str); 4] = [
    ("\\040", " "),
    ("\\011", "\t"),
    ("\\012", "\n"),
    ("\\134", "\\"),
];

/// Returns the least limit of the groups of a process and of all groups above them.
///
/// `mounts` is the text of /proc/PID/mountinfo, `groups` that of /proc/PID/cgroup, and `read`
/// returns the text of a file, if there is one.
pub(super) fn limit(
    mounts: &str,
    groups: &str,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<u64> {
    let mounts = mounts.lines().filter_map(Mount::parse);
    let files = mounts.flat_map(|it| it.files(groups));
    files.filter_map(|file| stated(&read(&file)?)).min()
}

/// Where a part of a hierarchy that limits memory is seen in the file system.
struct Mount {
    /// The group whose files are at the mount point.
    root: PathBuf,
    point: PathBuf,
    is_unified: bool,
}

impl Mount {
    /// Reads a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)). `None` if what is mounted
    /// limits no memory.
    fn parse(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut system = system.split(' ');
        let kind = system.next()?;
        let mut options = system.nth(1)?.split(',');
        let is_unified = kind == "cgroup2";
        let has_memory = is_unified || kind == "cgroup" && options.any(|it| it == "memory");
        has_memory.then_some(())?;
        Some(Self {
            root: unescaped(mount.next()?),
            point: unescaped(mount.next()?),
            is_unified,
        })
    }

    /// Returns the files that may state a limit of the process, those of its own group first.
    fn files(&self, groups: &str) -> Vec<PathBuf> {
        let Some(group) = groups.lines().find_map(|it| self.group(it)) else {
            return Vec::new();
        };
        // A container may see its own group as the root of all, under whatever name the system has
        // for it.
        let inside = Path::new(group).strip_prefix(&self.root);
        let folder = self.point.join(inside.unwrap_or_else(|_| Path::new("")));
        let names = if self.is_unified { UNIFIED } else { VERSION_1 };
        let folders = folder.ancestors();
        let folders = folders.take_while(|it| it.starts_with(&self.point));
        folders
            .flat_map(|folder| names.map(|it| folder.join(it)))
            .collect()
    }

    /// Returns the group that a line of /proc/PID/cgroup names, if it is one of this hierarchy.
    fn group<'a>(&self, line: &'a str) -> Option<&'a str> {
        let (hierarchy, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let is_this = match self.is_unified {
            true => hierarchy == "0",
            false => controllers.split(',').any(|it| it == "memory"),
        };
        is_this.then_some(group)
    }
}

/// Reads the limit that a file states. `None` if it is `max`, or no number.
fn stated(text: &str) -> Option<u64> {
    let of_all = text.lines().find_map(|it| it.strip_prefix(OF_ALL_ABOVE));
    of_all.unwrap_or(text).trim().parse().ok()
}

/// Reads a path in which the system has written some characters as octal digits.
fn unescaped(path: &str) -> PathBuf {
    let plain = |path: String, (code, plain): &(&str, &str)| path.replace(code, plain);
    ESCAPES.iter().fold(path.to_owned(), plain).into()
}
