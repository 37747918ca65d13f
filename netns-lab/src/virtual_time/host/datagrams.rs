//! The datagrams of a host: what comes in, and the calls of its programs.

use std::net::{IpAddr, SocketAddr};

use super::{
    Host,
    udp::{DatagramSocket, Receipt, largest_payload},
};
use crate::{
    packet::{self, Flow, Icmp, IcmpHeader, IpHeader, icmp_error},
    virtual_time::socket::{Datagram, SocketError, Transmit},
};

impl Host {
    /// Gives a datagram to its socket, or tells its sender that there is none.
    pub(super) fn receive_datagram(
        &mut self,
        ip: &IpHeader,
        flow: &Flow,
        packet: &[u8],
    ) -> &'static str {
        let datagram = Datagram {
            source: flow.source,
            destination: flow.destination,
            ecn: ip.ecn,
            payload: flow.datagram(packet).to_vec(),
        };
        match self.udp.receive(datagram) {
            Receipt::Queued(number) => {
                self.changed.insert(number);
                "to its socket"
            }
            Receipt::QueueFull => "dropped: the socket's queue is full",
            Receipt::NoSocket => {
                let what = IcmpHeader::port_unreachable(ip.source.is_ipv4());
                let error = icmp_error(what, packet, ip.destination, ip.source);
                self.sent.push(error);
                "to no socket"
            }
        }
    }

    /// Tells a socket of an error about what it sent.
    pub(super) fn receive_udp_error(&mut self, error: &Icmp, about: &Flow) -> &'static str {
        match self.udp.receive_error(error, about) {
            Some(number) => {
                self.changed.insert(number);
                "told its socket"
            }
            None => "ignored: no socket asks for it",
        }
    }

    /// Opens a UDP socket.
    pub(in crate::virtual_time) fn bind_udp(
        &mut self,
        local: SocketAddr,
    ) -> Result<u64, SocketError> {
        let (address, port) = (local.ip(), local.port());
        if !self.addresses.can_bind(address) {
            return Err(SocketError::AddressNotAvailable);
        }
        let udp = &self.udp;
        let is_free = |port| udp.is_free(address, port);
        let port = match port {
            0 => self.ephemeral.choose(is_free),
            port => Some(port).filter(|port| is_free(*port)),
        };
        let port = port.ok_or(SocketError::AddressInUse)?;
        let number = self.new_number();
        self.udp.insert(number, SocketAddr::new(address, port));
        Ok(number)
    }

    /// Has a UDP socket talk to one end alone.
    pub(in crate::virtual_time) fn connect_udp(
        &mut self,
        number: u64,
        remote: SocketAddr,
    ) -> Result<(), SocketError> {
        let local = self.udp.get(number)?.local;
        let source = self.addresses.bound_source(local.ip(), remote.ip())?;
        self.udp.connect(number, source, remote)
    }

    pub(in crate::virtual_time) fn send_to(
        &mut self,
        number: u64,
        transmit: &Transmit<'_>,
    ) -> Result<(), SocketError> {
        let socket = self.udp.get_mut(number)?;
        if let Some(failure) = socket.take_failure() {
            return Err(failure.into());
        }
        let local = socket.local;
        let destination = transmit.destination;
        let source = self.source_of(local.ip(), transmit)?;
        if destination.port() == 0 {
            return Err(SocketError::AddressNotAvailable);
        }
        if transmit.payload.len() > largest_payload(source) {
            return Err(SocketError::MessageTooLong);
        }
        let source = SocketAddr::new(source, local.port());
        let packet = packet::udp(source, destination, transmit.ecn, transmit.payload);
        self.sent.push(packet);
        Ok(())
    }

    /// Returns the address that a datagram is sent from.
    fn source_of(&self, local: IpAddr, transmit: &Transmit<'_>) -> Result<IpAddr, SocketError> {
        let destination = transmit.destination.ip();
        let own = self.addresses.bound_source(local, destination)?;
        match transmit.source {
            None => Ok(own),
            Some(source) if source.is_ipv4() == own.is_ipv4() && self.addresses.is_own(source) => {
                Ok(source)
            }
            Some(_) => Err(SocketError::AddressNotAvailable),
        }
    }

    pub(in crate::virtual_time) fn recv_from(
        &mut self,
        number: u64,
    ) -> Result<Option<Datagram>, SocketError> {
        self.udp.get_mut(number)?.take()
    }

    pub(in crate::virtual_time) fn dropped(&self, number: u64) -> Result<u64, SocketError> {
        self.udp.get(number).map(DatagramSocket::dropped)
    }
}
