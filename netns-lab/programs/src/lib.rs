//! Programs on the hosts of a lab in virtual time: what is written for an operating system runs
//! there as it is.
//!
//! [`Programs`] gives each host of a [`World`] as a [`p2pconnect_host::Host`]. It needs a
//! current-thread tokio runtime whose clock is paused: when no task can go on, tokio moves the
//! clock to the next timer, which may be the world's next event. So a run takes as long as its
//! computing takes, and the seed decides all of it, as long as the runtime has a seed of its own
//! (`tokio::runtime::Builder::rng_seed`).
//!
//! Timers of tokio have a resolution of one millisecond. The world is exact, and programs hear of
//! what has happened up to a millisecond later.

mod connection;
mod datagrams;
mod listener;
mod platform;
mod sockets;

use std::{
    collections::BTreeMap,
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use p2pconnect_host::{Host, KeepAlive, Sharing};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::{Instant, sleep_until},
};

use self::platform::VirtualHost;
use netns_lab::virtual_time::{self, HostId, SocketError, SocketId, World, addresses_overlap};

/// The seconds since 1970 at which all worlds begin: a moment of the year 2027.
const EPOCH: u64 = 1_800_000_000;

/// The longest that the programs of a host count at intervals before the world began.
const LONGEST_UPTIME: Duration = Duration::from_secs(60);

/// Tells whether the same seed makes the same run. Otherwise what tokio draws at random, such as
/// the order in which `select!` looks at what may be ready, differs from run to run.
#[must_use]
pub const fn is_repeatable() -> bool {
    cfg!(tokio_unstable)
}

/// Returns the runtime that programs need: one thread, and a clock that moves when no task can go
/// on.
///
/// The seed decides what tokio draws at random too, if tokio is compiled with
/// `--cfg tokio_unstable`: see [`is_repeatable`].
///
/// # Panics
///
/// If the system has no file for the runtime.
#[must_use]
pub fn virtual_runtime(seed: u64) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    #[cfg(not(tokio_unstable))]
    let _: u64 = seed;
    builder
        .build()
        .expect("a runtime without I/O takes nothing")
}

/// The programs of a world.
///
/// Clones are of the same world.
#[derive(Debug, Clone)]
pub struct Programs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified when a program may have given the world something to do.
    called: Notify,
    /// When the world began, by the clock of the runtime.
    began: Instant,
    seed: u64,
}

#[derive(Debug)]
struct State {
    world: World,
    waiting: BTreeMap<SocketId, Waiting>,
    /// The ports that sockets are bound to which neither listen nor are connected.
    bound: BTreeMap<HostPort, Vec<Bindings>>,
    /// How many of these connect, for which the world has a socket as well.
    connecting: BTreeMap<HostId, usize>,
    /// The addresses of names, for all hosts.
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Names that programs of a host hold, or have held.
    held: BTreeMap<(HostId, String), Arc<AsyncMutex<()>>>,
    /// How many seconds the calendars of hosts are ahead, where they are not right.
    ahead: BTreeMap<HostId, i64>,
}

/// A TCP port of a host.
type HostPort = (HostId, u16);

/// The sockets that are bound to a port at one address, or at all of a family.
#[derive(Debug)]
struct Bindings {
    address: IpAddr,
    count: usize,
    sharing: Sharing,
}

/// Who waits for a socket.
#[derive(Debug, Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
enum Interest {
    Reading,
    Writing,
}

impl Programs {
    /// Begins to run programs on the hosts of a world, from this moment on. The seed decides what
    /// they draw at random.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn new(world: World, seed: u64) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                world,
                waiting: BTreeMap::new(),
                bound: BTreeMap::new(),
                connecting: BTreeMap::new(),
                names: BTreeMap::new(),
                held: BTreeMap::new(),
                ahead: BTreeMap::new(),
            }),
            called: Notify::new(),
            began: Instant::now(),
            seed,
        }))
    }

    /// Returns a host for a program on it. Its randomness begins anew with each call.
    ///
    /// # Panics
    ///
    /// If there is no host of this name.
    #[must_use]
    pub fn host(&self, name: &str, program: u64) -> Host {
        let id = self.with(|world| world.find_host(name));
        let id = id.unwrap_or_else(|| panic!("there is no host {name:?} in the world"));
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.0.seed.to_be_bytes());
        seed[8..16].copy_from_slice(&program.to_be_bytes());
        for (at, byte) in name.bytes().enumerate() {
            seed[16 + at % 16] ^= byte;
        }
        let rng = ChaCha8Rng::from_seed(seed);
        Host::new(VirtualHost::new(self.clone(), id, rng))
    }

    /// Gives a name an address, for all hosts.
    pub fn name(&self, name: &str, addresses: &[IpAddr]) {
        self.0
            .lock()
            .names
            .insert(name.to_owned(), addresses.to_vec());
    }

    /// Sets the calendar of a host so many seconds ahead of the right time, or back. What it counts
    /// by itself goes on as before.
    pub fn set_calendar(&self, host: HostId, ahead: i64) {
        self.0.lock().ahead.insert(host, ahead);
    }

    /// Returns how many sockets the programs of a host have, those included that are bound and
    /// neither listen nor connect.
    #[must_use]
    pub fn open_sockets(&self, host: HostId) -> usize {
        self.0.call(|state| {
            let of_host = state.bound.iter().filter(|((at, _), _)| *at == host);
            let bound = of_host.flat_map(|(_, all)| all.iter().map(|it| it.count));
            let bound: usize = bound.sum();
            let connecting = state.connecting.get(&host).copied().unwrap_or_default();
            bound - connecting + state.world.open_sockets(host)
        })
    }

    /// Looks at the world, or changes it, at this moment.
    pub fn with<T>(&self, call: impl FnOnce(&mut World) -> T) -> T {
        self.0.call(|state| call(&mut state.world))
    }

    /// Lets the world go on for as long as the future is polled.
    pub async fn run(&self) {
        loop {
            let next = self.0.call(|state| state.world.next_event());
            let happens = async {
                match next {
                    Some(at) => sleep_until(self.0.began + at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.0.called.notified() => {}
                () = happens => {}
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call on the world of this moment.
    fn call<T>(&self, call: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        state.catch_up(self.began.elapsed());
        let result = call(&mut state);
        state.wake_changed();
        result
    }

    /// The same by a program, which may give the world something to do.
    fn call_of_program<T>(&self, call: impl FnOnce(&mut State) -> T) -> T {
        let result = self.call(call);
        self.called.notify_one();
        result
    }
}

impl State {
    /// Lets everything happen that is due.
    fn catch_up(&mut self, now: Duration) {
        while self.world.step(now) {}
        self.wake_changed();
    }

    fn wake_changed(&mut self) {
        for socket in self.world.take_changed() {
            let Some(waiting) = self.waiting.get_mut(&socket) else {
                continue;
            };
            let both = [waiting.reader.take(), waiting.writer.take()];
            both.into_iter().flatten().for_each(Waker::wake);
        }
    }

    fn wait(&mut self, socket: SocketId, interest: Interest, cx: &Context<'_>) {
        let waiting = self.waiting.entry(socket).or_default();
        let waker = Some(cx.waker().clone());
        match interest {
            Interest::Reading => waiting.reader = waker,
            Interest::Writing => waiting.writer = waker,
        }
    }

    /// Ends a socket that its program has dropped. A host that has crashed has forgotten it
    /// already.
    fn end(
        &mut self,
        socket: SocketId,
        ending: impl FnOnce(&mut World) -> Result<(), SocketError>,
    ) {
        self.waiting.remove(&socket);
        let ended = ending(&mut self.world);
        debug_assert!(matches!(ended, Ok(()) | Err(SocketError::UnknownSocket)));
    }

    /// Returns a TCP port that no socket of a host has.
    fn free_port(&mut self, host: HostId) -> io::Result<u16> {
        loop {
            let port = self.world.free_tcp_port(host).map_err(system)?;
            if !self.bound.contains_key(&(host, port)) {
                return Ok(port);
            }
        }
    }

    /// Binds a socket to a port at an address, or at all of a family.
    fn bind(&mut self, host: HostId, local: SocketAddr, sharing: Sharing) -> io::Result<()> {
        let port = (host, local.port());
        let may_share = sharing == Sharing::Shared;
        let is_free = may_share || self.world.is_tcp_end_free(host, local);
        let is_in_the_way = |it: &Bindings| {
            let shares = may_share && it.sharing == sharing;
            addresses_overlap(it.address, local.ip()) && !shares
        };
        let bound = self.bound.get(&port).into_iter().flatten();
        if !is_free || bound.into_iter().any(is_in_the_way) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let all = self.bound.entry(port).or_default();
        match all.iter_mut().find(|it| it.address == local.ip()) {
            Some(bindings) => bindings.count += 1,
            None => all.push(Bindings {
                address: local.ip(),
                count: 1,
                sharing,
            }),
        }
        Ok(())
    }

    /// Lets the port of a socket go.
    fn unbind(&mut self, host: HostId, local: SocketAddr) {
        let port = (host, local.port());
        let Some(all) = self.bound.get_mut(&port) else {
            return;
        };
        let at_it = all.iter_mut().filter(|it| it.address == local.ip());
        at_it.for_each(|it| it.count -= 1);
        all.retain(|it| it.count > 0);
        if all.is_empty() {
            self.bound.remove(&port);
        }
    }
}

/// Returns how the world asks on an idle connection.
fn keep_alive(asked: KeepAlive) -> virtual_time::KeepAlive {
    virtual_time::KeepAlive {
        idle: asked.idle,
        interval: asked.interval,
        questions: asked.questions,
    }
}

/// Returns what the operating system would say.
fn system(error: SocketError) -> io::Error {
    io::Error::new(error.kind(), error)
}

#[cfg(test)]
mod tests {
    use netns_lab::{LinkSpec, virtual_time::Uplink};

    use super::*;

    #[test]
    fn a_socket_that_connects_counts_once() {
        let own = IpAddr::from([203, 0, 113, 1]);
        let mut world = World::new(1);
        let uplink = Uplink::core(LinkSpec::default());
        let id = world.add_host("a", &[own], uplink);
        let id = id.expect("the address is free");
        virtual_runtime(1).block_on(async {
            let programs = Programs::new(world, 1);
            let host = programs.host("a", 0);
            let socket = host.tcp_socket((own, 80).into(), Sharing::Shared);
            let socket = socket.expect("nobody is there");
            assert_eq!(programs.open_sockets(id), 1);
            let connecting = socket.connect(([203, 0, 113, 2], 80).into());
            let mut connecting = Box::pin(connecting);
            let ended = tokio::time::timeout(Duration::from_millis(1), &mut connecting).await;
            assert!(ended.is_err(), "nobody answers: {ended:?}");
            assert_eq!(programs.open_sockets(id), 1);
            drop(connecting);
            assert_eq!(programs.open_sockets(id), 0);
        });
    }

    #[test]
    fn a_port_is_bound_at_one_address_and_free_at_another() {
        let own: [IpAddr; 2] = [[203, 0, 113, 1].into(), [203, 0, 113, 2].into()];
        let mut world = World::new(1);
        world
            .add_host("a", &own, Uplink::core(LinkSpec::default()))
            .expect("the addresses are free");
        let runtime = virtual_runtime(1);
        let _inside = runtime.enter();
        let host = Programs::new(world, 1).host("a", 0);
        let listen = |ip: IpAddr, sharing| {
            let socket = host.tcp_socket((ip, 80).into(), sharing)?;
            socket.listen(1)
        };
        let anywhere = IpAddr::from([0, 0, 0, 0]);
        let first = listen(own[0], Sharing::Exclusive).expect("nobody is there");
        let bound = host.tcp_socket((own[1], 80).into(), Sharing::Exclusive);
        for ip in [own[0], own[1], anywhere] {
            let error = listen(ip, Sharing::Exclusive).expect_err("somebody is there");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{ip}");
        }
        drop(bound.expect("nobody is at the other address"));
        let second = listen(own[1], Sharing::Exclusive);
        assert!(second.is_ok(), "{first:?}");
    }
}
