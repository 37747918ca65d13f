//! The way of a packet through the box.

use std::net::{IpAddr, SocketAddr};

use p2pconnect_nat::{
    Hairpinning, SimultaneousOpen, Translation, Translation6, UnsolicitedSyn, WhenFull,
};

use super::{
    MAX_ANSWERS, NatModel, Output, Pending, Side,
    packet::{Content, Packet},
    ports::Request,
    session::SessionState,
    table::{MappingId, Scope, SessionKey},
    verdict::{Answer, DropReason, Verdict},
};
use crate::{
    packet::{Body, End, Flow, Headers, IcmpHeader, Protocol, icmp_error, reset, rewrite_error},
    prefix,
};

/// A packet that wants in, from outside or by hairpinning.
struct Arrival<'a> {
    /// As it came to the box.
    original: &'a [u8],
    original_flow: Flow,
    /// The side it came from, to which answers go.
    from: Side,
    /// With the source that filters look at.
    packet: Packet,
    flow: Flow,
}

impl NatModel {
    pub(super) fn forward(&mut self, side: Side, original: &[u8]) -> Result<Verdict, DropReason> {
        let packet = Packet::read(original)?;
        if let Content::Flow(flow) = &packet.content {
            let is_udp = flow.protocol == Protocol::Udp;
            if self.spec.drop_ecn_udp && is_udp && packet.ip.ecn != 0 {
                return Err(DropReason::EcnMark);
            }
            if self.spec.drop_udp && is_udp {
                return Err(DropReason::Udp);
            }
            self.check_echo(side, flow)?;
        }
        match (packet.content, side) {
            (Content::Flow(flow), Side::Internal) => self.outbound(original, packet, flow),
            (Content::Flow(flow), Side::External) => self.inbound(Arrival {
                original,
                original_flow: flow,
                from: side,
                packet,
                flow,
            }),
            (Content::IcmpError(quoted), Side::Internal) => self.outbound_error(packet, &quoted),
            (Content::IcmpError(quoted), Side::External) => self.inbound_error(packet, &quoted),
        }
    }

    /// Of echoes, lets requests out and replies in alone. A request that comes from elsewhere, or
    /// is for the box, has no identifier of the box's that would tell the host it is for; so there
    /// is no reply that could go out.
    fn check_echo(&self, side: Side, flow: &Flow) -> Result<(), DropReason> {
        if flow.protocol != Protocol::Echo {
            return Ok(());
        }
        let (source, destination) = (flow.source.ip(), flow.destination.ip());
        let is_asked = match side {
            Side::Internal => flow.is_echo_request && !self.is_own(destination),
            Side::External => !flow.is_echo_request,
        };
        if !is_asked {
            return Err(DropReason::UnaskedEcho {
                source,
                destination,
            });
        }
        if self.spec.drop_echo && side == Side::Internal {
            return Err(DropReason::EchoRequest);
        }
        Ok(())
    }

    fn outbound(
        &mut self,
        original: &[u8],
        mut packet: Packet,
        flow: Flow,
    ) -> Result<Verdict, DropReason> {
        let hairpins = self.is_own(flow.destination.ip());
        if hairpins && self.spec.hairpinning == Hairpinning::None {
            return Err(DropReason::NoHairpinning(flow.destination));
        }
        let (id, is_new) = self.outbound_session(&flow)?;
        let external = self
            .table
            .get(id)
            .map_or(flow.source, |mapping| mapping.external());
        let session = SessionKey {
            mapping: id,
            remote: flow.destination,
        };
        self.table
            .see(self.now, session, Side::Internal, flow.flags, &self.spec);
        if flow.flags.is_syn() {
            // The SYN from inside that RFC 5382 REQ-4 waits for.
            self.pending.remove(&(flow.destination, external));
        }
        if external != flow.source {
            flow.rewrite(&mut packet.bytes, End::Source, external);
        }
        if hairpins {
            return self.inbound(Arrival {
                original,
                original_flow: flow,
                from: Side::Internal,
                packet,
                flow: flow.with_end(End::Source, external),
            });
        }
        self.emit(Side::External, packet);
        let (internal, external_end) = (flow.source, external);
        Ok(match (self.translates(internal.ip()), is_new) {
            (false, _) => Verdict::Passed,
            (true, true) => Verdict::Mapped {
                internal,
                external: external_end,
            },
            (true, false) => Verdict::Translated {
                from: internal,
                to: external_end,
            },
        })
    }

    /// Finds or makes the session of a packet from inside, and says whether its mapping is new.
    fn outbound_session(&mut self, flow: &Flow) -> Result<(MappingId, bool), DropReason> {
        let (protocol, internal, remote) = (flow.protocol, flow.source, flow.destination);
        if let Some(id) = self.table.by_flow(protocol, internal, remote) {
            return Ok((id, false));
        }
        self.require_start(flow)?;
        self.make_room(internal.ip())?;
        let scope = Scope::of(self.spec.mapping, remote);
        let found = self.table.by_scope(protocol, internal, scope);
        let usable = found.filter(|id| !self.is_overloaded(*id, remote));
        let id = match usable {
            Some(id) => id,
            None => self.make_mapping(flow, found.is_some())?,
        };
        self.table.add_session(id, remote, flow.flags, self.now);
        Ok((id, usable.is_none()))
    }

    /// Makes a mapping, for this remote endpoint alone if `exact`.
    fn make_mapping(&mut self, flow: &Flow, exact: bool) -> Result<MappingId, DropReason> {
        let request = Request {
            protocol: flow.protocol,
            internal: flow.source,
            remote: flow.destination,
        };
        let external = match (flow.source.ip(), self.spec.translation6) {
            (IpAddr::V6(address), Translation6::Nptv6(prefixes)) => {
                let translated = prefix::translate(&prefixes, address);
                let address = translated.ok_or(DropReason::Untranslatable(flow.source))?;
                SocketAddr::new(address.into(), flow.source.port())
            }
            (address, _) if self.translates(address) => {
                let chosen = self.ports.allocate(request, &self.spec, &self.table);
                chosen.ok_or(DropReason::NoPort(flow.source))?
            }
            _ => flow.source,
        };
        let scope = if exact {
            Scope::exactly(flow.destination)
        } else {
            Scope::of(self.spec.mapping, flow.destination)
        };
        let (protocol, internal) = (flow.protocol, flow.source);
        Ok(self.table.add_mapping(protocol, internal, external, scope))
    }

    fn inbound(&mut self, arrival: Arrival<'_>) -> Result<Verdict, DropReason> {
        let (external, remote) = (arrival.flow.destination, arrival.flow.source);
        if self.translates(external.ip()) && !self.is_own(external.ip()) {
            return Err(DropReason::NotOurs(external));
        }
        let id = match self.inbound_session(&arrival.flow) {
            Ok(id) => id,
            Err(reason) => return Ok(self.refuse(&arrival, reason)),
        };
        let internal = self
            .table
            .get(id)
            .map_or(external, |mapping| mapping.internal());
        let flags = arrival.flow.flags;
        let session = SessionKey {
            mapping: id,
            remote,
        };
        self.table
            .see(self.now, session, Side::External, flags, &self.spec);
        let mut packet = arrival.packet;
        if internal != external {
            let flow = &arrival.flow;
            flow.rewrite(&mut packet.bytes, End::Destination, internal);
        }
        let hairpins = arrival.from == Side::Internal;
        let mut source = remote;
        if hairpins && self.spec.hairpinning == Hairpinning::InternalSource {
            source = arrival.original_flow.source;
            let flow = &arrival.flow;
            flow.rewrite(&mut packet.bytes, End::Source, source);
        }
        self.emit(Side::Internal, packet);
        Ok(if hairpins {
            Verdict::Hairpinned {
                external,
                internal,
                source,
            }
        } else if self.translates(external.ip()) {
            Verdict::Translated {
                from: external,
                to: internal,
            }
        } else {
            Verdict::Passed
        })
    }

    /// Finds or makes the session of a packet that wants in.
    fn inbound_session(&mut self, flow: &Flow) -> Result<MappingId, DropReason> {
        let (external, remote) = (flow.destination, flow.source);
        let mut permitting = None;
        let mut exists = false;
        for (id, mapping) in self.table.at_external(flow.protocol, external) {
            exists = true;
            if let Some(state) = mapping.session(remote) {
                self.check_simultaneous_open(flow, state)?;
                return Ok(id);
            }
            if permitting.is_none() && mapping.permits(remote, self.spec.filtering) {
                permitting = Some((id, mapping.internal(), mapping.expires()));
            }
        }
        let Some((id, internal, expires)) = permitting else {
            return Err(if exists {
                let filtering = self.spec.filtering;
                DropReason::NoPermission { remote, filtering }
            } else {
                DropReason::NoMapping(external)
            });
        };
        self.require_start(flow)?;
        self.make_room(internal.ip())?;
        // The session that made room may have been the mapping's last.
        if self.table.get(id).is_none() {
            return Err(DropReason::TableFull);
        }
        // Without inbound refresh a stranger's packets do not make a UDP mapping live longer (RFC
        // 4787 REQ-6).
        self.table.add_session(id, remote, flow.flags, expires);
        Ok(id)
    }

    const fn check_simultaneous_open(
        &self,
        flow: &Flow,
        state: SessionState,
    ) -> Result<(), DropReason> {
        let is_crossing = flow.flags.is_syn() && matches!(state, SessionState::OutboundSyn);
        match self.spec.simultaneous_open {
            SimultaneousOpen::Dropped | SimultaneousOpen::Reset if is_crossing => {
                Err(DropReason::SimultaneousOpen(flow.source))
            }
            SimultaneousOpen::Allowed | SimultaneousOpen::Dropped | SimultaneousOpen::Reset => {
                Ok(())
            }
        }
    }

    /// Answers a packet that is not let in, as far as the box does.
    fn refuse(&mut self, arrival: &Arrival<'_>, drop: DropReason) -> Verdict {
        let answer = match drop {
            DropReason::SimultaneousOpen(_) => match self.spec.simultaneous_open {
                SimultaneousOpen::Reset => Some(Answer::Rst),
                SimultaneousOpen::Allowed | SimultaneousOpen::Dropped => None,
            },
            _ if drop.is_unsolicited() && arrival.flow.flags.is_syn() => {
                Answer::of(self.spec.unsolicited)
            }
            _ => None,
        };
        // It can be read, since it was, and it is a SYN.
        let Some(Headers { ip, body }) = Headers::read(arrival.original) else {
            return Verdict::Dropped(drop);
        };
        let (Some(answer), Body::Tcp(syn)) = (answer, body) else {
            return Verdict::Dropped(drop);
        };
        let ipv4 = ip.source.is_ipv4();
        let error = |what| {
            let own = self.answering_address(ip.destination);
            icmp_error(what, &arrival.original[..ip.total], own, ip.source)
        };
        let packet = match answer {
            Answer::Rst => reset(&syn),
            Answer::IcmpProhibited => error(IcmpHeader::prohibited(ipv4)),
            Answer::IcmpPortUnreachable | Answer::IcmpPending => {
                error(IcmpHeader::port_unreachable(ipv4))
            }
        };
        let output = Output {
            side: arrival.from,
            packet,
        };
        match self.spec.unsolicited {
            UnsolicitedSyn::IcmpPortUnreachableAfter(delay) if answer == Answer::IcmpPending => {
                let key = (arrival.flow.source, arrival.flow.destination);
                if !self.pending.contains_key(&key) && self.pending.len() >= MAX_ANSWERS {
                    return Verdict::Dropped(drop);
                }
                let due = self.now.saturating_add(delay);
                self.pending
                    .entry(key)
                    .or_insert_with(|| Pending { due, output });
            }
            _ => self.send(output),
        }
        Verdict::Answered { answer, drop }
    }

    /// Translates an ICMP error from inside about a packet that had come in.
    fn outbound_error(&mut self, mut packet: Packet, quoted: &Flow) -> Result<Verdict, DropReason> {
        let (internal, remote) = (quoted.destination, quoted.source);
        let id = self.table.by_flow(quoted.protocol, internal, remote);
        let mapping = id.and_then(|id| self.table.get(id));
        let external = mapping
            .filter(|_| packet.ip.destination == remote.ip())
            .ok_or(DropReason::UnrelatedIcmp)?
            .external();
        if internal != external {
            rewrite_error(&mut packet.bytes, quoted, End::Destination, external);
        }
        if self.is_own(remote.ip()) {
            let quoted = quoted.with_end(End::Destination, external);
            return self.inbound_error(packet, &quoted);
        }
        let verdict = self.translation(internal, external);
        self.emit(Side::External, packet);
        Ok(verdict)
    }

    /// Translates an ICMP error about a packet that had left (RFC 5382 REQ-9). It changes no state
    /// (REQ-10).
    fn inbound_error(&mut self, mut packet: Packet, quoted: &Flow) -> Result<Verdict, DropReason> {
        let (external, remote) = (quoted.source, quoted.destination);
        let internal = self
            .table
            .at_external(quoted.protocol, external)
            .find(|(_, mapping)| mapping.session(remote).is_some())
            .filter(|_| packet.ip.destination == external.ip())
            .map(|(_, mapping)| mapping.internal())
            .ok_or(DropReason::UnrelatedIcmp)?;
        if internal != external {
            rewrite_error(&mut packet.bytes, quoted, End::Source, internal);
        }
        let verdict = self.translation(external, internal);
        self.emit(Side::Internal, packet);
        Ok(verdict)
    }

    /// Returns the verdict for a packet of a mapping that exists.
    fn translation(&self, from: SocketAddr, to: SocketAddr) -> Verdict {
        if self.translates(from.ip()) {
            Verdict::Translated { from, to }
        } else {
            Verdict::Passed
        }
    }

    /// Lets a new session begin with a SYN only, or with what `pickup` allows.
    const fn require_start(&self, flow: &Flow) -> Result<(), DropReason> {
        let starts = match flow.protocol {
            Protocol::Udp | Protocol::Echo => true,
            Protocol::Tcp => flow.flags.is_syn() || self.spec.pickup && flow.flags.is_midstream(),
        };
        if starts {
            Ok(())
        } else {
            Err(DropReason::NoConnection {
                source: flow.source,
                destination: flow.destination,
            })
        }
    }

    fn make_room(&mut self, host: IpAddr) -> Result<(), DropReason> {
        let limits = self.spec.limits;
        let host_is_full = self.table.sessions_of(host) >= limits.sessions_per_host;
        if !host_is_full && self.table.sessions() < limits.sessions {
            return Ok(());
        }
        match limits.when_full {
            WhenFull::Refuse => Err(DropReason::TableFull),
            WhenFull::EvictSoonestToExpire => {
                self.table.evict(host_is_full.then_some(host));
                Ok(())
            }
        }
    }

    /// Returns whether another host that shares the mapping's port has a session with the remote
    /// endpoint.
    fn is_overloaded(&self, id: MappingId, remote: SocketAddr) -> bool {
        self.table.get(id).is_some_and(|own| {
            self.table
                .at_external(own.protocol(), own.external())
                .any(|(other, mapping)| other != id && mapping.session(remote).is_some())
        })
    }

    fn translates(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.spec.translation != Translation::None,
            IpAddr::V6(_) => self.spec.translation6 != Translation6::None,
        }
    }

    /// Returns whether the box translates to this address.
    fn is_own(&self, address: IpAddr) -> bool {
        match (address, self.spec.translation6) {
            (IpAddr::V6(address), Translation6::Nptv6(prefixes)) => {
                prefix::is_external(&prefixes, address)
            }
            _ => self.translates(address) && self.ports.external().contains(&address),
        }
    }

    /// Returns the source of an ICMP error about a packet to `destination`.
    fn answering_address(&self, destination: IpAddr) -> IpAddr {
        let own = self.ports.external();
        if own.contains(&destination) {
            return destination;
        }
        let mut own = own.iter();
        let same_family = own.find(|own| own.is_ipv4() == destination.is_ipv4());
        same_family.copied().unwrap_or(destination)
    }

    fn emit(&mut self, side: Side, mut packet: Packet) {
        let strip = self.spec.strip_window_scale;
        if strip.include(side == Side::Internal)
            && let Content::Flow(flow) = packet.content
        {
            flow.strip_window_scale(&mut packet.bytes);
        }
        let packet = packet.bytes;
        self.send(Output { side, packet });
    }
}
