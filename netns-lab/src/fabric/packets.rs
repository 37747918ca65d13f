//! The ways of packets: onto links, through boxes and the core, to hosts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use super::{
    Fabric, Observation, Output,
    gate::Spot,
    queue::What,
    topology::{NodeId, Place},
};
use crate::{
    capture::{Fate, is_private},
    link::{Crossing, Loss},
    middlebox::{Outgoing, Side},
    packet::{Headers, IcmpHeader, IpHeader, icmp_error},
    record::{Event as Seen, ROUTED, Remark},
};

/// Who tells that a packet is too long for a link (RFC 5737, RFC 3849).
const ROUTER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The same for IPv6.
const ROUTER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

impl Fabric {
    /// Takes a packet that a host, or a box that is not the fabric's own, sends by one of its sides
    /// at `at`.
    ///
    /// That may be a little earlier than what happened last, never later than the next event.
    pub(crate) fn send(&mut self, at: Duration, from: NodeId, by: Side, packet: Arc<[u8]>) {
        self.now = self.now.max(at);
        match by {
            Side::External => {
                let spot = Spot::Sent { node: from.0, at };
                if let Some(packet) = self.pass_gates(spot, packet) {
                    self.carry(at, from.0, Side::External, packet, None);
                }
            }
            Side::Internal => self.leave_inside(at, from.0, packet, None),
        }
    }

    /// Notes what the owner did with a packet that it was given by [`Output::Packet`].
    pub(crate) fn note_arrival(
        &mut self,
        link: NodeId,
        towards: Side,
        verdict: Remark,
        packet: Arc<[u8]>,
    ) {
        self.observe(link.0, towards, Seen::Arrived { verdict }, packet);
    }

    pub(super) fn observe(&mut self, link: usize, towards: Side, event: Seen, packet: Arc<[u8]>) {
        self.observations.push_back(Observation {
            at: self.now,
            link: NodeId(link),
            towards,
            event,
            packet,
        });
    }

    /// Puts a packet on the link above a node.
    pub(super) fn carry(
        &mut self,
        at: Duration,
        node: usize,
        towards: Side,
        packet: Arc<[u8]>,
        why: Option<Remark>,
    ) {
        let crossing = if self.queue.len() >= self.capacity {
            Crossing::Lost(Loss::Overflow)
        } else {
            let link = self.nodes[node].link(towards);
            link.carry(at, packet.len())
        };
        if let Crossing::Exits {
            at: exit,
            duplicate,
        } = crossing
        {
            for exit in [Some(exit), duplicate].into_iter().flatten() {
                let what = What::Arrival(node, towards, Arc::clone(&packet));
                self.queue.push(exit, what);
            }
        }
        if let Crossing::Lost(Loss::TooLong { .. }) = crossing {
            self.tell_too_long(at, node, towards, &packet);
        }
        let entered = Seen::Entered { crossing, why };
        self.observations.push_back(Observation {
            at,
            link: NodeId(node),
            towards,
            event: entered,
            packet,
        });
    }

    /// Sends the ICMP error for a packet that is too long for the link above a node, if the link
    /// tells; only a box that would have to tell inwards, with the packet as it was before
    /// translation, keeps silent.
    fn tell_too_long(&mut self, at: Duration, node: usize, towards: Side, packet: &[u8]) {
        let Some(mtu) = self.nodes[node].link(towards).told_mtu() else {
            return;
        };
        // No error is ever sent about an error (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
        let headers = Headers::read(packet).filter(|headers| !headers.is_icmp_error());
        let from_box = towards == Side::Internal && self.nodes[node].parent.is_some();
        let Some(source) = headers.filter(|_| !from_box).map(|it| it.ip.source) else {
            return;
        };
        let router = if source.is_ipv4() {
            ROUTER_V4
        } else {
            ROUTER_V6
        };
        let what = IcmpHeader::too_big(source.is_ipv4(), mtu);
        let error = icmp_error(what, packet, router, source);
        // It comes from the link that the packet should have gone by.
        self.queue
            .push(at, What::Arrival(node, towards.other(), error.into()));
    }

    /// A packet has come up the link above a node.
    pub(super) fn arrive_above(&mut self, link: usize, packet: Arc<[u8]>) {
        let spot = Spot::Arrived {
            link,
            towards: Side::External,
            place: self.nodes[link].parent,
        };
        if let Some(packet) = self.pass_gates(spot, packet) {
            self.enter_above(link, packet);
        }
    }

    /// A packet has come down the link above a node.
    pub(super) fn arrive_below(&mut self, node: usize, packet: Arc<[u8]>) {
        let spot = Spot::Arrived {
            link: node,
            towards: Side::Internal,
            place: Some(node),
        };
        if let Some(packet) = self.pass_gates(spot, packet) {
            self.enter_below(node, packet);
        }
    }

    pub(super) fn enter_above(&mut self, link: usize, packet: Arc<[u8]>) {
        match self.nodes[link].parent {
            Some(parent) => self.enter_inside(parent, link, packet),
            None => self.cross_core(link, packet),
        }
    }

    pub(super) fn enter_below(&mut self, node: usize, packet: Arc<[u8]>) {
        match &self.nodes[node].place {
            Place::Host => self.deliver(node, Side::External, node, packet),
            Place::Box(_) => self.pass(node, Side::External, node, packet),
        }
    }

    /// Hands a packet to the owner.
    fn deliver(&mut self, to: usize, by: Side, link: usize, packet: Arc<[u8]>) {
        self.outputs.push_back(Output::Packet {
            to: NodeId(to),
            by,
            link: NodeId(link),
            packet,
        });
    }

    /// A packet is in the core.
    fn cross_core(&mut self, link: usize, packet: Arc<[u8]>) {
        let (fate, to) = self.route_in_core(&packet);
        let verdict = fate.comment().unwrap_or(ROUTED).into();
        let arrived = Seen::Arrived { verdict };
        self.observe(link, Side::External, arrived, Arc::clone(&packet));
        if let (Fate::Carried, Some(to)) = (fate, to) {
            self.carry(self.now, to, Side::Internal, packet, None);
        }
    }

    /// Returns what the core does with a packet that comes to it.
    pub(crate) fn fate_in_core(&self, packet: &[u8]) -> Fate {
        self.route_in_core(packet).0
    }

    fn route_in_core(&self, packet: &[u8]) -> (Fate, Option<usize>) {
        let header = IpHeader::read(packet);
        let to = header.and_then(|header| self.core_routes.get(header.destination));
        let fate = match (header, to) {
            (Some(header), _) if is_private(header.source) => Fate::PrivateSource,
            (_, Some(_)) => Fate::Carried,
            (_, None) => Fate::NoRoute,
        };
        (fate, to)
    }

    /// A packet has come to a box from one of those inside.
    fn enter_inside(&mut self, node: usize, link: usize, packet: Arc<[u8]>) {
        let Place::Box(inner) = &self.nodes[node].place else {
            return;
        };
        let destination = IpHeader::read(&packet).map(|header| header.destination);
        // A router only translates what passes from one side to the other.
        if let Some(neighbour) = destination.and_then(|address| inner.routes.get(address)) {
            let arrived = Seen::Arrived {
                verdict: "routed inside".into(),
            };
            self.observe(link, Side::External, arrived, Arc::clone(&packet));
            return self.carry(self.now, neighbour, Side::Internal, packet, None);
        }
        self.pass(node, Side::Internal, link, packet);
    }

    /// A packet goes through a box.
    fn pass(&mut self, node: usize, side: Side, link: usize, packet: Arc<[u8]>) {
        let now = self.now;
        let Place::Box(inner) = &mut self.nodes[node].place else {
            return;
        };
        let Some(middlebox) = &mut inner.middlebox else {
            return self.deliver(node, side, link, packet);
        };
        let mut out = Vec::new();
        let verdict = middlebox.handle(now, side, &packet, &mut out);
        self.observe(link, side.other(), Seen::Arrived { verdict }, packet);
        self.leave_box(node, out, None);
        self.schedule_middlebox(node);
    }

    /// Packets leave a box.
    pub(super) fn leave_box(&mut self, node: usize, out: Vec<Outgoing>, why: Option<&Remark>) {
        for Outgoing { side, packet } in out {
            let packet = Arc::from(packet);
            match side {
                Side::External => {
                    self.carry(self.now, node, Side::External, packet, why.cloned());
                }
                Side::Internal => self.leave_inside(self.now, node, packet, why.cloned()),
            }
        }
    }

    pub(super) fn leave_inside(
        &mut self,
        at: Duration,
        node: usize,
        packet: Arc<[u8]>,
        why: Option<Remark>,
    ) {
        let Place::Box(inner) = &self.nodes[node].place else {
            return;
        };
        let destination = IpHeader::read(&packet).map(|header| header.destination);
        match destination.and_then(|address| inner.routes.get(address)) {
            Some(child) => self.carry(at, child, Side::Internal, packet, why),
            None => {
                let verdict = "dropped: no such host inside".into();
                self.observe(node, Side::Internal, Seen::Arrived { verdict }, packet);
            }
        }
    }
}
