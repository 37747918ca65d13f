//! The core of a lab to be: its namespace, and the socket that will read it.
//!
//! To make the ring of a packet socket, the kernel waits for a grace period of RCU or two, which
//! takes 7 to 16 ms however fast the machine is. The rest of a lab is made meanwhile, and is ready
//! earlier. A process that builds one lab after the other has the core of the next one made ahead.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use super::quiet::quiet;
use crate::{error::Error, namespace::Namespace, packet_socket::PacketSocket};

/// Labs that this process has built.
static BUILT: AtomicUsize = AtomicUsize::new(0);

/// At most one, with its 8 MiB of ring.
static SPARE: Mutex<Option<Core>> = Mutex::new(None);

/// A namespace with a packet socket that is open or about to be.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) namespace: Arc<Namespace>,
    socket: JoinHandle<Result<PacketSocket, Error>>,
}

impl Core {
    /// Takes the core that was made ahead, or begins one. The calling thread may be in its
    /// namespace afterwards.
    pub(super) fn take() -> Result<Self, Error> {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).take();
        spare.map_or_else(Self::begin, Ok)
    }

    /// Waits until the socket is open.
    pub(super) fn into_socket(self) -> Result<PacketSocket, Error> {
        let ended = self.socket.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn begin() -> Result<Self, Error> {
        let namespace = Arc::new(Namespace::enter_new()?);
        quiet()?;
        let entered = Arc::clone(&namespace);
        let socket = spawn(move || {
            entered.enter()?;
            PacketSocket::open()
        })?;
        Ok(Self { namespace, socket })
    }
}

/// Takes note that a lab was built, and makes a core for the next one if a process that has built
/// two is going to build more.
pub(super) fn lab_was_built() {
    let first = BUILT.fetch_add(1, Ordering::Relaxed) == 0;
    let spare = || SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    if first || spare().is_some() {
        return;
    }
    // This only saves time: what goes wrong here is for the next lab to find.
    let _started = spawn(move || {
        if let Ok(core) = Core::begin() {
            spare().get_or_insert(core);
        }
    });
}

fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    std::thread::Builder::new()
        .name("netns-lab-build".into())
        .spawn(work)
        .map_err(|source| Error::System {
            action: "start a thread".into(),
            source,
        })
}
