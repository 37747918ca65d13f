//! Handing signals on from process to process. No allocation, no locks: it happens in signal
//! handlers, and is set up between fork and exec.
#![expect(unsafe_code, reason = "signal handlers are system calls")]

use std::sync::atomic::{AtomicI32, Ordering};

/// What people and supervisors send to programs.
const PASSED: [libc::c_int; 6] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Who gets the signals; nobody if zero.
static TARGET: AtomicI32 = AtomicI32::new(0);

/// Makes this process hand signals on to a child of it.
pub(super) fn pass_to(child: libc::pid_t) {
    TARGET.store(child, Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = pass;
    for signal in PASSED {
        // SAFETY: all-zero is a valid sigaction; the handler makes one system call and touches an
        // atomic. This cannot fail for these signals.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Makes signals wait, and returns which of them did already.
pub(super) fn hold_back() -> libc::sigset_t {
    // SAFETY: all-zero is a valid set, and the pointers describe locals.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
            (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

/// Lets through what waited since [`hold_back`].
pub(super) fn let_through(before: &libc::sigset_t) {
    // SAFETY: the pointer describes a set that outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// Passes a signal on if a process sent it; the kernel's own (the terminal's) have come to the
/// whole process group already.
extern "C" fn pass(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; kill and errno are safe to use in a handler. A
    // child that has gone is a zombie until it is waited for.
    unsafe {
        let sent_by_process = (*info).si_code <= 0;
        let target = TARGET.load(Ordering::Relaxed);
        if sent_by_process && target > 0 {
            let errno = *libc::__errno_location();
            libc::kill(target, signal);
            *libc::__errno_location() = errno;
        }
    }
}
