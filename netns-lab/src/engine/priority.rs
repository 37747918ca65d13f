//! Making a thread start soon after its timer fires.
#![expect(unsafe_code, reason = "scheduling is set by system calls")]

use std::io;

/// Shortest slice that Linux gives: a thread with a short slice is let onto a busy processor before
/// those with the usual 3 ms (EEVDF, Linux 6.12).
const SLICE_NS: u64 = 100_000;

/// Ahead of compilers and tests at 0, behind what an administrator has put further ahead.
const NICE: i32 = -10;

/// `struct sched_attr` in its first version.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Gives the calling thread precise timers and an early start.
pub(super) fn raise() -> io::Result<()> {
    // SAFETY: no pointers; 1 is the smallest slack in nanoseconds, the usual one being 50
    // microseconds.
    if unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // Ordinary users may shorten the slice but not lower the nice value, and older kernels ignore
    // the slice: on a busy machine packets are then late.
    if !schedule(NICE) && !schedule(0) {
        tracing::debug!("the scheduler gives the engine no early start");
    }
    Ok(())
}

fn schedule(nice: i32) -> bool {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice,
        priority: 0,
        runtime: SLICE_NS,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the pointer describes `attributes`, whose size is in it.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
}
