//! What happens between fork and exec. No allocation, no locks: the forked process may have been a
//! thread among many.
#![expect(unsafe_code, reason = "fork, unshare and prctl are system calls")]

use std::{io, os::unix::process::CommandExt as _, process::Command};

use super::signals;

/// Makes the program see the name it was called by, not /proc/self/exe.
pub(super) fn keep_program_name(command: &mut Command) {
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
}

/// The error that a successful probe ends with instead of running a program.
pub(super) const PROBE_SUCCEEDED: i32 = libc::ECANCELED;

/// Makes the command only try to enter new namespaces.
pub(super) fn install_probe(command: &mut Command) {
    let (uid_map, gid_map) = identity_maps();
    let probe = move || {
        unshare(&uid_map, &gid_map)?;
        Err(io::Error::from_raw_os_error(PROBE_SUCCEEDED))
    };
    // SAFETY: `probe` only makes system calls on values prepared before the fork.
    unsafe { command.pre_exec(probe) };
}

/// The user and group maps that make the caller root in a user namespace.
fn identity_maps() -> (String, String) {
    // SAFETY: no pointers; these cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    (format!("0 {user} 1\n"), format!("0 {group} 1\n"))
}

/// Makes the command start inside new namespaces, guarded as the parent module says.
pub(super) fn install(command: &mut Command) {
    // SAFETY: no pointers; this cannot fail.
    let parent = unsafe { libc::getpid() };
    let (uid_map, gid_map) = identity_maps();
    let enter = move || {
        die_with_parent()?;
        // The parent may have ended before the request. SAFETY: no pointers.
        unsafe {
            if libc::getppid() != parent {
                libc::_exit(1);
            }
        }
        unshare(&uid_map, &gid_map)?;
        become_supervised()
    };
    // SAFETY: `enter` only makes system calls on values prepared before the fork.
    unsafe { command.pre_exec(enter) };
}

/// Asks the kernel to kill this process when the thread that forked it ends.
fn die_with_parent() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    Ok(())
}

fn unshare(uid_map: &str, gid_map: &str) -> io::Result<()> {
    let wanted = libc::CLONE_NEWNET | libc::CLONE_NEWPID;
    // SAFETY: no pointers; a forked child has one thread.
    unsafe {
        // Root needs no user namespace, and file permissions stay what they are.
        if libc::unshare(wanted) == 0 {
            return Ok(());
        }
        check(libc::unshare(wanted | libc::CLONE_NEWUSER))?;
    }
    // The kernel wants setgroups off before an ordinary user maps a group.
    write_file(c"/proc/self/setgroups", b"deny")?;
    write_file(c"/proc/self/uid_map", uid_map.as_bytes())?;
    write_file(c"/proc/self/gid_map", gid_map.as_bytes())
}

/// Returns only in a process two forks on: this one stays behind as guard, the first child as init
/// of the PID namespace.
fn become_supervised() -> io::Result<()> {
    let mut pipe = [0; 2];
    // SAFETY: `pipe` has room for two descriptors; only system calls follow in either process until
    // exec or exit.
    unsafe {
        check(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC))?;
        let [guard_lives, held_by_guard] = pipe;
        // Or a signal could come to init before it has a handler, and be lost.
        let mask = signals::hold_back();
        let init = check(libc::fork())?;
        if init > 0 {
            supervise(init, held_by_guard, &mask);
        }
        libc::close(held_by_guard);
        die_with_parent()?;
        exit_if_closed(guard_lives);
        let program = check(libc::fork())?;
        if program > 0 {
            supervise(program, guard_lives, &mask);
        }
        signals::let_through(&mask);
    }
    Ok(())
}

/// Ends the process if the guard ended before it could be asked to take init along: its number
/// tells nothing from inside the PID namespace.
fn exit_if_closed(guard_lives: libc::c_int) {
    let mut poll = libc::pollfd {
        fd: guard_lives,
        events: 0,
        revents: 0,
    };
    // SAFETY: the pointer describes one pollfd, alive for the call.
    unsafe {
        if libc::poll(&raw mut poll, 1, 0) != 0 {
            libc::_exit(1);
        }
    }
}

/// Waits until the process `child` ends and exits as it did; reaps any other.
fn supervise(child: libc::pid_t, keep_open: libc::c_int, mask: &libc::sigset_t) -> ! {
    // SAFETY: `status` is a valid place for waitpid to write to.
    unsafe {
        // The descriptors belong to the program: their readers wait for the end.
        libc::dup2(keep_open, 0);
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
        // The terminal signals the whole group; the program decides what to do.
        signals::pass_to(child);
        signals::let_through(mask);
        loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &raw mut status, 0);
            if ended < 0 && *libc::__errno_location() != libc::EINTR {
                libc::_exit(1);
            }
            if ended == child {
                if libc::WIFSIGNALED(status) {
                    libc::_exit(128 + libc::WTERMSIG(status));
                }
                libc::_exit(libc::WEXITSTATUS(status));
            }
        }
    }
}

fn write_file(path: &std::ffi::CStr, text: &[u8]) -> io::Result<()> {
    // SAFETY: the pointers describe `path` and `text`, alive for the calls.
    unsafe {
        let file = check(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
        let written = libc::write(file, text.as_ptr().cast(), text.len());
        let result = if written < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        };
        libc::close(file);
        result
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
