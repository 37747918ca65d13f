//! Network namespaces, held by descriptors only: when the last descriptor and the last process are
//! gone, the kernel takes the namespace and its links away.
#![expect(unsafe_code, reason = "namespaces are entered by system calls")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use crate::error::Error;

/// One network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes a new namespace and moves the calling thread into it.
    pub(crate) fn enter_new() -> Result<Self, Error> {
        // SAFETY: no pointers; only the calling thread changes its namespace.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            return Err(Error::system("make a network namespace"));
        }
        let file = File::open("/proc/thread-self/ns/net").map_err(|source| Error::System {
            action: "hold a network namespace by /proc/thread-self/ns/net".into(),
            source,
        })?;
        Ok(Self { file })
    }

    /// Moves the calling thread into the namespace.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        enter(self.descriptor()).map_err(|source| Error::System {
            action: "enter a network namespace".into(),
            source,
        })
    }

    /// Returns the descriptor that holds the namespace.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `work` on a new thread that has entered the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new()
                .name("netns-lab".into())
                .spawn_scoped(scope, || self.enter().map(|()| work()))
                .map_err(|source| Error::System {
                    action: "start a thread".into(),
                    source,
                })?;
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Moves the calling thread into the namespace; safe between fork and exec.
pub(crate) fn enter(namespace: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; only the calling thread changes its namespace.
    if unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Writes a setting under /proc/sys/net of the calling thread's namespace.
pub(crate) fn set_sysctl(name: &str, value: &str) -> Result<(), Error> {
    std::fs::write(Path::new("/proc/sys/net").join(name), value).map_err(|source| Error::System {
        action: format!("set /proc/sys/net/{name} to {value:?}"),
        source,
    })
}
