//! Two namespaces with nothing but a veth between them, and a core for each.
#![expect(
    unsafe_code,
    reason = "namespaces and processor masks have no safe interface in std"
)]

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

use crate::run::{self, Ground, Host};

const DIALLER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const LISTENER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const PREFIX: u8 = 24;
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const NAMES: [&str; 2] = ["wire-a", "wire-b"];

/// The two ends; the namespaces end with the last process in them.
pub(crate) struct Wire {
    dialler: End,
    listener: End,
}

struct End {
    namespace: File,
    core: usize,
}

impl Wire {
    /// Makes the namespaces and the wire.
    pub(crate) fn new() -> Result<Self> {
        let [one, other] = cores()?;
        let dialler = End::new(one)?;
        let listener = End::new(other)?;
        let far = listener.namespace.as_raw_fd();
        dialler.run(async |handle| {
            let pair = LinkVeth::new(NAMES[0], NAMES[1]).build();
            handle.link().add(pair).execute().await?;
            let away = LinkUnspec::new_with_name(NAMES[1]).setns_by_fd(far).build();
            handle.link().set(away).execute().await?;
            up(&handle, NAMES[0], DIALLER).await
        })?;
        listener.run(async |handle| up(&handle, NAMES[1], LISTENER).await)?;
        Ok(Self { dialler, listener })
    }
}

impl Ground for Wire {
    fn command(&self, host: Host, program: &Path) -> Command {
        let end = match host {
            Host::Dialler => &self.dialler,
            Host::Listener | Host::Server => &self.listener,
        };
        let (namespace, core) = (end.namespace.as_raw_fd(), end.core);
        let mut command = Command::new(program);
        // SAFETY: system calls only; the descriptor is open as long as `self`.
        unsafe { command.pre_exec(move || enter(namespace).and_then(|()| pin(core))) };
        command
    }

    fn server(&self) -> SocketAddr {
        (LISTENER, run::port()).into()
    }
}

impl End {
    fn new(core: usize) -> Result<Self> {
        let make = || {
            // SAFETY: changes only this thread, which ends at once.
            check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
            File::open("/proc/thread-self/ns/net")
        };
        let namespace = on_a_thread(make).context("cannot make a network namespace")?;
        Ok(Self { namespace, core })
    }

    /// Talks to the kernel inside.
    fn run(&self, work: impl AsyncFnOnce(Handle) -> Result<()> + Send) -> Result<()> {
        let namespace = self.namespace.as_raw_fd();
        on_a_thread(|| {
            enter(namespace)?;
            // As the lab does; others pace what a bare wire need not.
            std::fs::write(CONGESTION_CONTROL, "cubic").ok();
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                tokio::spawn(connection);
                work(handle).await
            })
        })
        .context("cannot lay the wire")
    }
}

async fn up(handle: &Handle, name: &str, address: Ipv4Addr) -> Result<()> {
    for name in ["lo", name] {
        let link = LinkUnspec::new_with_name(name).up().build();
        handle.link().set(link).execute().await?;
    }
    let name = std::ffi::CString::new(name)?;
    // SAFETY: a string that ends with zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "{name:?} is not there");
    let add = handle.address().add(index, address.into(), PREFIX);
    Ok(add.execute().await?)
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        thread.join().expect("the work returns its errors")
    })
}

fn enter(namespace: RawFd) -> io::Result<()> {
    // SAFETY: changes only this thread.
    check(unsafe { libc::setns(namespace, libc::CLONE_NEWNET) })
}

fn pin(core: usize) -> io::Result<()> {
    // SAFETY: zeroed memory is an empty set, and `CPU_SET` checks its bounds.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: the pointer and the size are of the same set.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })
}

/// Returns two cores that this process may use.
fn cores() -> Result<[usize; 2]> {
    // SAFETY: zeroed memory is an empty set; pointer and size are of the same set.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set))?;
        set
    };
    let size = usize::try_from(libc::CPU_SETSIZE)?;
    // SAFETY: `CPU_ISSET` checks its bounds.
    let mut usable = (0..size).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) });
    let mut next = || usable.next().context("two cores are needed, one a side");
    Ok([next()?, next()?])
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
