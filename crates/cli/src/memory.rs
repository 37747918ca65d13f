//! How much memory this process may take.

use std::{fs, path::Path};

/// Returns the least of what the process, its cgroups and the machine allow, in bytes; `None` where
/// nothing says.
pub(crate) fn limit() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let process = read(Path::new("/proc/self/limits")).and_then(|it| of_process(&it));
    let machine = read(Path::new("/proc/meminfo")).and_then(|it| of_machine(&it));
    let cgroup = read(Path::new("/proc/self/cgroup"));
    let folders = cgroup.as_deref().and_then(cgroup_path).map(|path| {
        let mounted = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
        let within = mounted
            .ancestors()
            .take_while(|it| it.starts_with("/sys/fs/cgroup"));
        within.map(Path::to_owned).collect::<Vec<_>>()
    });
    let cgroups = folders.into_iter().flatten().filter_map(|folder| {
        let text = read(&folder.join("memory.max"))?;
        // "max" is no number.
        text.trim().parse().ok()
    });
    [process, machine]
        .into_iter()
        .flatten()
        .chain(cgroups)
        .min()
}

/// Reads the address space that a process may have (proc(5), /proc/PID/limits).
fn of_process(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|it| it.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Reads the memory that a machine has (proc(5), /proc/meminfo), which is in KiB there.
fn of_machine(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|it| it.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Reads the path of a process in the unified hierarchy (cgroups(7), /proc/PID/cgroup).
fn cgroup_path(groups: &str) -> Option<&str> {
    groups.lines().find_map(|it| it.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let header = "Limit                     Soft Limit           Hard Limit           Units\n";
        let limited = "Max address space         671088640            unlimited            bytes\n";
        let without = "Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(of_process(&format!("{header}{limited}")), Some(640 << 20));
        assert_eq!(of_process(&format!("{header}{without}")), None);
        assert_eq!(
            of_machine("MemTotal:       1024 kB\nMemFree: 1 kB\n"),
            Some(1 << 20)
        );
        assert_eq!(cgroup_path("12:pids:/a\n0::/b/c\n"), Some("/b/c"));
        for text in ["", "Max address space", "MemTotal: much", "0:"] {
            assert_eq!(
                (of_process(text), of_machine(text), cgroup_path(text)),
                (None, None, None)
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_some_memory() {
        let bytes = limit().expect("Linux says how much memory there is");
        assert!(bytes > 16 << 20, "{bytes}");
    }
}
