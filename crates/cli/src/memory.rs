//! How much memory this process may take.

mod cgroups;

use std::{fs, path::Path};

/// The limits of a process that bound its memory (getrlimit(2)), as /proc/PID/limits names them.
const OF_A_PROCESS: [&str; 2] = ["Max address space", "Max data size"];

/// Returns the least of what the process, its control groups and the machine allow, in bytes;
/// `None` where nothing says.
pub(crate) fn limit() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let text = |path: &str| read(Path::new(path)).unwrap_or_default();
    let mounts = text("/proc/self/mountinfo");
    let groups = text("/proc/self/cgroup");
    [
        of_process(&text("/proc/self/limits")),
        cgroups::limit(&mounts, &groups, read),
        of_machine(&text("/proc/meminfo")),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// Reads the address space and the data that a process may have (proc(5), /proc/PID/limits).
fn of_process(limits: &str) -> Option<u64> {
    let soft = |line: &str| {
        let values = OF_A_PROCESS.iter().find_map(|it| line.strip_prefix(it))?;
        // "unlimited" is no number.
        values.split_whitespace().next()?.parse().ok()
    };
    limits.lines().filter_map(soft).min()
}

/// Reads the memory that a machine has (proc(5), /proc/meminfo), which is in KiB there.
fn of_machine(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|it| it.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what /proc/PID/limits says of two limits.
    fn limits(address_space: &str, data: &str) -> String {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max data size             {data:20} unlimited            bytes     \n\
             Max resident set          1024                 1024                 bytes     \n\
             Max address space         {address_space:20} unlimited            bytes     \n"
        )
    }

    #[test]
    fn what_the_system_says_is_read() {
        const UNLIMITED: &str = "unlimited";
        let both = limits("671088640", "134217728");
        assert_eq!(of_process(&limits("671088640", UNLIMITED)), Some(640 << 20));
        assert_eq!(of_process(&limits(UNLIMITED, "134217728")), Some(128 << 20));
        assert_eq!(of_process(&both), Some(128 << 20));
        assert_eq!(of_process(&limits(UNLIMITED, UNLIMITED)), None);
        assert_eq!(
            of_machine("MemTotal:       1024 kB\nMemFree: 1 kB\n"),
            Some(1 << 20)
        );
        for text in ["", "Max address space", "MemTotal: much", "0:"] {
            assert_eq!((of_process(text), of_machine(text)), (None, None));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_some_memory() {
        let bytes = limit().expect("Linux says how much memory there is");
        assert!(bytes > 16 << 20, "{bytes}");
    }
}
