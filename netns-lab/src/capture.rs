//! What crossed the access links: a record for questions in tests, and a file.

mod packet;
mod pcapng;
mod question;

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use packet::{Direction, Fate, Packet, Transport};
pub use question::Handshake;

pub(crate) use packet::is_private;
pub(crate) use pcapng::PcapngWriter;

/// Packets that open or close connections, or report errors, that are kept: enough for a
/// port-guessing punch of a thousand SYNs a side, sixteen times.
const MAX_CONTROL_PACKETS: usize = 32_768;

/// Other packets that are kept, the last ones: some MiB of a transfer.
const MAX_DATA_PACKETS: usize = 16_384;

/// The packets that crossed the access links of a lab so far.
///
/// Every packet is recorded at the outer side of its box: when it leaves the outermost NAT (or the
/// host, if it has none), and when it arrives there. Memory is bounded: the last 32,768 packets
/// that matter to connections (SYN, FIN, RST, ICMP) and the last 16,384 others are kept; the file
/// has them all.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    records: Mutex<Records>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Records {
    control: VecDeque<Packet>,
    data: VecDeque<Packet>,
    next: u64,
}

impl Capture {
    /// Returns all packets on record, in the order in which they were seen.
    pub fn packets(&self) -> Vec<Packet> {
        let records = self.lock();
        let mut all: Vec<_> = records
            .control
            .iter()
            .chain(&records.data)
            .cloned()
            .collect();
        drop(records);
        all.sort_by_key(|packet| packet.number);
        all
    }

    /// Returns the packets on record that `wanted` accepts.
    pub fn select(&self, wanted: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let mut packets = self.packets();
        packets.retain(wanted);
        packets
    }

    /// Waits until a packet that `wanted` accepts is on record, at most for `limit`.
    ///
    /// Packets that were recorded before the call count.
    pub fn wait_for(&self, limit: Duration, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
        let deadline = Instant::now() + limit;
        let mut records = self.lock();
        let mut seen = 0;
        loop {
            let fresh = |packet: &&Packet| packet.number >= seen && wanted(packet);
            if let Some(packet) = records.control.iter().chain(&records.data).find(fresh) {
                return Some(packet.clone());
            }
            seen = records.next;
            let left = deadline.checked_duration_since(Instant::now())?;
            records = self
                .shared
                .changed
                .wait_timeout(records, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Returns the packets that left a box towards the core with a private source.
    ///
    /// A NAT that works lets none out; Linux does when connection tracking calls a packet invalid,
    /// which is why the NATs of a lab drop those.
    pub fn private_sources(&self) -> Vec<Packet> {
        self.select(|packet| packet.direction == Direction::FromHost && is_private(packet.source))
    }

    /// Tells how the TCP connection between two addresses, as the core sees them, was opened.
    ///
    /// Either may be an [`IpAddr`] or a [`SocketAddr`]. The last connection counts.
    pub fn tcp_handshake(&self, one: impl Into<End>, other: impl Into<End>) -> Handshake {
        question::handshake(&self.packets(), one.into(), other.into())
    }

    /// Adds packets to the record.
    pub(crate) fn record(&self, packets: impl IntoIterator<Item = Packet>) {
        let mut records = self.lock();
        for mut packet in packets {
            packet.number = records.next;
            records.next += 1;
            let (queue, most) = if packet.transport.is_control() {
                (&mut records.control, MAX_CONTROL_PACKETS)
            } else {
                (&mut records.data, MAX_DATA_PACKETS)
            };
            if queue.len() == most {
                queue.pop_front();
            }
            queue.push_back(packet);
        }
        drop(records);
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // A panic elsewhere leaves the queues whole.
        self.shared
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of a connection: an address, with or without its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    address: IpAddr,
    port: Option<u16>,
}

impl From<IpAddr> for End {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            port: None,
        }
    }
}

impl From<Ipv4Addr> for End {
    fn from(address: Ipv4Addr) -> Self {
        IpAddr::V4(address).into()
    }
}

impl From<Ipv6Addr> for End {
    fn from(address: Ipv6Addr) -> Self {
        IpAddr::V6(address).into()
    }
}

impl From<SocketAddr> for End {
    fn from(address: SocketAddr) -> Self {
        Self {
            address: address.ip(),
            port: Some(address.port()),
        }
    }
}

impl End {
    fn matches(self, address: IpAddr, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|wanted| wanted == port)
    }
}
