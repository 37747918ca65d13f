//! Entering namespaces of one's own by running the program again inside them.
//!
//! `unshare(CLONE_NEWUSER)` is refused to a process with threads, and every test process has
//! threads; so the namespaces are made between fork and exec of the same program. A PID namespace
//! makes sure that nothing outlives the lab: when its first process ends, for whatever reason, the
//! kernel kills the others.
//!
//! ```text
//! program -- spawns --> guard -- forks --> init (PID 1) -- forks --> program, again
//! ```
//!
//! The guard dies with the thread that spawned it (that thread waits for the guard, so it lives as
//! long as it should), init dies with the guard, and everything else dies with init. /proc need not
//! be mounted anew: the lab uses only /proc/self, /proc/thread-self and /proc/sys/net, and those
//! follow the process that looks.

mod guard;
mod signals;

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{Child, Command, ExitCode},
};

use crate::error::Error;

/// What to do where the kernel refuses a user namespace.
const NAMESPACE_ADVICE: &str = "run as root, or allow user namespaces: on Ubuntu 24.04 and later \
     `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`; on Debian 10 and older \
     `sudo sysctl kernel.unprivileged_userns_clone=1`; where `sysctl user.max_user_namespaces` \
     or `user.max_net_namespaces` shows 0, `sudo sysctl user.max_user_namespaces=10000 \
     user.max_net_namespaces=10000`; in Docker or Podman `--security-opt seccomp=unconfined \
     --security-opt apparmor=unconfined --security-opt systempaths=unconfined --cap-add SYS_ADMIN`";

/// Makes sure that the program runs in namespaces of its own.
///
/// Call it first thing in `main`. Outside, it runs the program again with the same arguments in new
/// namespaces, waits for it, and returns its exit code, which `main` should return at once. Inside,
/// it returns `None`, and labs can be built. As an ordinary user the program sees itself as root
/// inside.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> Result<ExitCode, netns_lab::Error> {
///     if let Some(code) = netns_lab::isolate()? {
///         return Ok(code);
///     }
///     // Build labs here.
///     Ok(ExitCode::SUCCESS)
/// }
/// ```
///
/// # Errors
///
/// [`Error::Unsupported`] where the system refuses namespaces, with advice.
pub fn isolate() -> Result<Option<ExitCode>, Error> {
    isolate_then(|_child| {})
}

/// Does what [`isolate`] does for a program that hands its signals on, as a shell or `env` would
/// seem to: SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 do not end the lab, but go to the
/// program inside.
///
/// What the terminal sends is not handed on: it comes to everybody anyway. The program inside calls
/// [`pass_signals_to`], or the signals end it.
///
/// # Errors
///
/// [`Error::Unsupported`] where the system refuses namespaces, with advice.
pub fn isolate_passing_signals() -> Result<Option<ExitCode>, Error> {
    isolate_then(pass_signals_to)
}

/// Hands the signals that somebody sends to this process on to a program that it has started, and
/// ignores those of the terminal, which come to both; see [`isolate_passing_signals`].
pub fn pass_signals_to(program: &Child) {
    signals::pass_to(program.id().cast_signed());
}

fn isolate_then(spawned: impl FnOnce(&Child)) -> Result<Option<ExitCode>, Error> {
    if is_isolated() {
        return Ok(None);
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1));
    let mut child = spawn_isolated(&mut command)?;
    spawned(&child);
    let status = child.wait().map_err(|source| Error::System {
        action: "wait for the isolated program".into(),
        source,
    })?;
    // The guard exits with 128 plus the number of the signal that ended the program.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(Some(code.map_or(ExitCode::FAILURE, ExitCode::from)))
}

/// Returns whether this process runs in a PID namespace that /proc does not belong to, which is
/// what [`isolate`] leaves behind and hardly anyone else.
pub(crate) fn is_isolated() -> bool {
    std::fs::read_link("/proc/self")
        .is_ok_and(|target| target != Path::new(&std::process::id().to_string()))
}

/// Spawns `command` inside new namespaces; killing the child kills them all.
pub(crate) fn spawn_isolated(command: &mut Command) -> Result<Child, Error> {
    if command.get_program() == OsStr::new("/proc/self/exe") {
        guard::keep_program_name(command);
    }
    guard::install(command);
    command.spawn().map_err(refused)
}

/// Checks that namespaces can be made, without running anything in them.
pub(crate) fn probe_namespaces() -> Result<(), Error> {
    let mut command = Command::new("/proc/self/exe");
    guard::install_probe(&mut command);
    match command.spawn() {
        Err(error) if error.raw_os_error() == Some(guard::PROBE_SUCCEEDED) => Ok(()),
        Err(error) => Err(refused(error)),
        Ok(mut child) => {
            // The probe always ends before the program is run again.
            let ended = child.kill().and_then(|()| child.wait());
            let source = ended
                .err()
                .unwrap_or_else(|| io::Error::other("the probe did not run"));
            Err(refused(source))
        }
    }
}

fn refused(source: io::Error) -> Error {
    Error::Unsupported {
        missing: "make user, network and PID namespaces",
        advice: NAMESPACE_ADVICE,
        source,
    }
}
