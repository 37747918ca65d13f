//! smoltcp's interface, with one packet in and any number out.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

/// The MTU of Ethernet, as on the access links of the namespaces.
pub(super) const MTU: usize = 1500;

/// The TCP/IP stack of a host, without its sockets.
pub(super) struct Stack {
    pub(super) interface: Interface,
    wire: Wire,
}

impl Stack {
    /// Makes a stack that takes every packet for its own: the host has looked at
    /// the address.
    pub(super) fn new(seed: u64) -> Self {
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.set_any_ip(true);
        // On a point-to-point link any gateway will do, and smoltcp has room
        // for these two routes.
        let routes = interface.routes_mut();
        let _fits = routes.add_default_ipv4_route(Ipv4Addr::new(192, 0, 2, 1));
        let _fits = routes.add_default_ipv6_route(Ipv6Addr::LOCALHOST);
        Self { interface, wire }
    }

    /// Hands a packet to the first of the sockets that accepts it; without one
    /// it is answered with RST (RFC 9293 section 3.10.7.1).
    pub(super) fn input(&mut self, now: Duration, packet: &[u8], to: &mut SocketSet<'static>) {
        self.wire.incoming = Some(packet.to_vec());
        self.interface
            .poll_ingress_single(instant(now), &mut self.wire, to);
    }

    /// Lets the sockets send all they want to.
    pub(super) fn output(&mut self, now: Duration, of: &mut SocketSet<'static>) {
        while self.interface.poll_egress(instant(now), &mut self.wire, of)
            == PollResult::SocketStateChanged
        {}
    }

    /// Returns when the sockets next want to send.
    pub(super) fn next_output(
        &mut self,
        now: Duration,
        of: &SocketSet<'static>,
    ) -> Option<Duration> {
        let at = self.interface.poll_at(instant(now), of)?;
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        // A stack that had its say and still wants to be asked at once would
        // stop the clock; smoltcp itself counts in microseconds.
        Some(Duration::from_micros(micros).max(now + Duration::from_micros(1)))
    }

    /// Puts a packet on the wire as it is.
    pub(super) fn send(&mut self, packet: Vec<u8>) {
        self.wire.outgoing.push(packet);
    }

    /// Returns the packets on their way out.
    pub(super) fn sent(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.wire.outgoing
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}

/// Converts the world's time to smoltcp's.
fn instant(at: Duration) -> Instant {
    Instant::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
}

/// The link of a host as smoltcp sees it.
#[derive(Debug, Default)]
struct Wire {
    incoming: Option<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming, Sender<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Sender(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Sender<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = vec![0; length];
        let result = fill(&mut packet);
        self.0.push(packet);
        result
    }
}
