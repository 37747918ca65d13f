//! A host of the world, as its programs see it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use p2pconnect_host::{BoxFuture, HeldName, Interface, Platform, Sharing, TcpSocket};
use quinn::AsyncUdpSocket;
use rand_chacha::{ChaCha8Rng, rand_core::Rng as _};

use super::{EPOCH, LONGEST_UPTIME, Programs, datagrams::Datagrams, sockets};
use netns_lab::virtual_time::{HostId, World};

/// How many files a program may have open, as where it has asked for more than the 1,024 of Linux.
const FILES: u64 = 1 << 16;

/// The lengths of the prefixes of a host's own networks.
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 64;

#[derive(Debug)]
pub(super) struct VirtualHost {
    programs: Programs,
    id: HostId,
    rng: Mutex<ChaCha8Rng>,
    began: Instant,
}

impl VirtualHost {
    pub(super) fn new(programs: Programs, id: HostId, mut rng: ChaCha8Rng) -> Self {
        let uptime = LONGEST_UPTIME.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX));
        let began = programs.0.began.into_std();
        Self {
            programs,
            id,
            rng: Mutex::new(rng),
            began: began.checked_sub(uptime).unwrap_or(began),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        self.programs.0.call(|state| look(&state.world))
    }
}

impl Platform for VirtualHost {
    fn udp_socket(
        &self,
        local: SocketAddr,
        _: Option<usize>,
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let shared = Arc::clone(&self.programs.0);
        Ok(Arc::new(Datagrams::bind(shared, self.id, local)?))
    }

    fn tcp_socket(&self, local: SocketAddr, sharing: Sharing) -> io::Result<TcpSocket> {
        let socket = sockets::bind(Arc::clone(&self.programs.0), self.id, local, sharing)?;
        Ok(TcpSocket::new(socket))
    }

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let addresses = self.with(|world| world.addresses(self.id).to_vec());
        let interface = |ip: IpAddr| Interface {
            name: "eth0".into(),
            ip,
            prefix: if ip.is_ipv4() { PREFIX_V4 } else { PREFIX_V6 },
            is_running: true,
            is_bridge: false,
        };
        Ok(addresses.into_iter().map(interface).collect())
    }

    fn source_address(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        let source = self.with(|world| world.source_address(self.id, remote.ip()));
        source.ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
    }

    fn gateway(&self) -> io::Result<Option<Ipv4Addr>> {
        Ok(None)
    }

    fn stays_here(&self, ip: IpAddr) -> io::Result<bool> {
        Ok(ip.is_loopback() || self.with(|world| world.addresses(self.id).contains(&ip)))
    }

    fn look_up(&self, name: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let found = match name.parse() {
            Ok(ip) => Some(vec![ip]),
            Err(_) => self.programs.0.lock().names.get(&name).cloned(),
        };
        let found = found
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "Name or service not known"));
        let found = found.map(|all| {
            all.into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect()
        });
        Box::pin(std::future::ready(found))
    }

    fn hold_name(&self, name: String) -> BoxFuture<io::Result<HeldName>> {
        let mut state = self.programs.0.lock();
        let held = state.held.entry((self.id, name)).or_default();
        let held = Arc::clone(held);
        drop(state);
        Box::pin(async move {
            if let Ok(guard) = Arc::clone(&held).try_lock_owned() {
                return Ok(HeldName::new(false, guard));
            }
            Ok(HeldName::new(true, held.lock_owned().await))
        })
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.fill_bytes(bytes);
        Ok(())
    }

    fn unix_time(&self) -> u64 {
        let programs = &self.programs.0;
        let right = EPOCH + programs.began.elapsed().as_secs();
        let ahead = programs.lock().ahead.get(&self.id).copied();
        right.saturating_add_signed(ahead.unwrap_or_default())
    }

    fn began(&self) -> Instant {
        self.began
    }

    fn files_allowed(&self) -> u64 {
        FILES
    }
}
