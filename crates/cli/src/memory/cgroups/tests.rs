//! What systems say of their control groups, as it was read on them.

use std::path::Path;

use super::limit;

const MIB: u64 = 1 << 20;

/// What version 1 states where there is no limit.
const NONE: &str = "9223372036854771712\n";

/// The mounts of a systemd machine with the unified hierarchy alone.
const UNIFIED: &str = "\
23 28 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
33 24 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

/// The mounts of a systemd machine with version 1 beside a unified hierarchy without controllers.
const HYBRID: &str = "\
24 29 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
33 24 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
34 33 0:29 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
35 33 0:30 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
39 33 0:34 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
41 33 0:36 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:17 - cgroup cgroup rw,memory
";

/// Returns the limit that is found among these files.
fn found(mounts: &str, groups: &str, files: &[(&str, &str)]) -> Option<u64> {
    limit(mounts, groups, |path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| (*text).to_owned())
    })
}

#[test]
fn docker_with_version_1() {
    let id = "4e1ec0ae1cbd27e4ba0e1eb40ac6e05d7b0c3ee7b9ed2d1b0a2c5de0b8a1f3a9";
    let mounts = format!(
        "1107 1106 0:58 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
         1111 1110 0:60 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755\n\
         1112 1111 0:29 /docker/{id} /sys/fs/cgroup/systemd ro,nosuid,nodev,noexec,relatime master:11 - cgroup cgroup rw,xattr,name=systemd\n\
         1120 1111 0:36 /docker/{id} /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:17 - cgroup cgroup rw,memory\n"
    );
    let groups =
        format!("12:memory:/docker/{id}\n1:name=systemd:/docker/{id}\n0::/system.slice/x\n");
    let files = [
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n"),
        ("/sys/fs/cgroup/memory/memory.stat", "cache 0\nrss 4096\n"),
    ];
    assert_eq!(found(&mounts, &groups, &files), Some(64 * MIB));
    // A pod has the limit, and its container none of its own and no sight of the pod's.
    let stat = "cache 0\nrss 4096\nhierarchical_memory_limit 134217728\ntotal_cache 0\n";
    let of_pod = [
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", NONE),
        ("/sys/fs/cgroup/memory/memory.stat", stat),
    ];
    assert_eq!(found(&mounts, &groups, &of_pod), Some(128 * MIB));
}

#[test]
fn docker_with_version_2() {
    let mounts = "\
1118 1112 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
";
    let files = [
        ("/sys/fs/cgroup/memory.max", "134217728\n"),
        ("/sys/fs/cgroup/memory.high", "max\n"),
    ];
    assert_eq!(found(mounts, "0::/\n", &files), Some(128 * MIB));
    // Without a namespace for groups, a name of the machine's that is not there.
    let of_host = "0::/system.slice/docker-4e1ec0ae1cbd.scope\n";
    assert_eq!(found(mounts, of_host, &files), Some(128 * MIB));
    // In a group outside of its namespace.
    assert_eq!(found(mounts, "0::/../..\n", &files), Some(128 * MIB));
}

#[test]
fn the_least_limit_above_a_systemd_unit_counts() {
    let groups = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u12.service\n";
    let slice = "/sys/fs/cgroup/user.slice/user-1000.slice";
    let own = format!("{slice}/user@1000.service/app.slice/run-u12.service");
    let of_slice = format!("{slice}/memory.max");
    let of_own = format!("{own}/memory.max");
    let high = format!("{own}/memory.high");
    let at_slice = [(&*of_slice, "104857600\n"), (&*of_own, "209715200\n")];
    assert_eq!(found(UNIFIED, groups, &at_slice), Some(100 * MIB));
    let at_own = [(&*of_slice, "max\n"), (&*of_own, "209715200\n")];
    assert_eq!(found(UNIFIED, groups, &at_own), Some(200 * MIB));
    let slowed = [(&*high, "104857600\n"), (&*of_own, "209715200\n")];
    assert_eq!(found(UNIFIED, groups, &slowed), Some(100 * MIB));
}

#[test]
fn a_hybrid_has_its_limits_in_version_1() {
    let groups = "\
11:cpu,cpuacct:/system.slice/p2pconnect.service
10:memory:/system.slice/p2pconnect.service
1:name=systemd:/system.slice/p2pconnect.service
0::/system.slice/p2pconnect.service
";
    let own = "/sys/fs/cgroup/memory/system.slice/p2pconnect.service/memory.limit_in_bytes";
    let above = "/sys/fs/cgroup/memory/system.slice/memory.limit_in_bytes";
    let root = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", NONE);
    assert_eq!(
        found(HYBRID, groups, &[(own, "67108864\n"), (above, NONE), root]),
        Some(64 * MIB)
    );
    assert_eq!(
        found(HYBRID, groups, &[(own, NONE), (above, "134217728\n"), root]),
        Some(128 * MIB)
    );
    // As much as there is no machine with.
    assert!(found(HYBRID, groups, &[(own, NONE), root]) > Some(1 << 60));
}

#[test]
fn lxc_with_version_1_shows_a_group_below_the_mount_of_another() {
    let mounts = "\
610 600 0:60 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs none rw,size=10240k,mode=755
618 610 0:60 /memory /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime - tmpfs none rw,size=10240k,mode=755
619 618 0:36 /lxc/web /sys/fs/cgroup/memory/lxc/web rw,nosuid,nodev,noexec,relatime - cgroup cgroup rw,memory
";
    let groups = "9:memory:/lxc/web/system.slice/p2pconnect.service\n";
    let limit = "/sys/fs/cgroup/memory/lxc/web/memory.limit_in_bytes";
    assert_eq!(
        found(mounts, groups, &[(limit, "134217728\n")]),
        Some(128 * MIB)
    );
}

#[test]
fn a_mount_point_may_have_any_name() {
    let mounts = "41 33 0:36 / /mnt/control\\040groups/a\\134b rw - cgroup none rw,cpu,memory\n";
    let file = "/mnt/control groups/a\\b/one/memory.limit_in_bytes";
    let groups = "4:cpu,memory:/one\n";
    assert_eq!(
        found(mounts, groups, &[(file, "67108864\n")]),
        Some(64 * MIB)
    );
}

#[test]
fn without_control_groups_there_is_no_limit() {
    let plain = "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n";
    let files = [("/sys/fs/cgroup/memory.max", "67108864\n")];
    assert_eq!(found(plain, "0::/\n", &files), None);
    assert_eq!(found("", "", &files), None);
    // Files that there are none of, or that make no sense.
    assert_eq!(found(UNIFIED, "0::/\n", &[]), None);
    for text in ["", "max\n", "much\n", "-1\n"] {
        let strange = [("/sys/fs/cgroup/memory.max", text)];
        assert_eq!(found(UNIFIED, "0::/\n", &strange), None, "{text:?}");
    }
    for line in [
        "1 2",
        "- cgroup2",
        "a b c d e - cgroup2",
        " - cgroup2 c rw",
        "9:memory",
    ] {
        assert_eq!(found(line, line, &files), None, "{line:?}");
    }
}
