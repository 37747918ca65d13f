//! A box on the bench: packets go in, what comes out is checked and read.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use netns_lab::model::{Dependence, NatModel, NatSpec, Output, PortAssignment, Side, Verdict};
use netns_lab_rig::packets::{assert_checksums, echo_reply, echo_request, ends, tcp, udp};

pub(crate) const EI: Dependence = Dependence::EndpointIndependent;
pub(crate) const AD: Dependence = Dependence::AddressDependent;
pub(crate) const APD: Dependence = Dependence::AddressAndPortDependent;
pub(crate) const ALL: [Dependence; 3] = [EI, AD, APD];

pub(crate) const PORT_ASSIGNMENTS: [PortAssignment; 5] = [
    PortAssignment::Preserved,
    PortAssignment::PreservedWithOverload,
    PortAssignment::Sequential { delta: 2 },
    PortAssignment::Random,
    PortAssignment::RandomInBlock { size: 512 },
];

/// The external address of most boxes.
pub(crate) const EXTERNAL: [u8; 4] = [203, 0, 113, 2];

pub(crate) struct Bench {
    pub(crate) nat: NatModel,
    pub(crate) now: Duration,
}

impl Bench {
    pub(crate) fn new(spec: NatSpec) -> Self {
        Self::with(spec, &[EXTERNAL.into()], 7)
    }

    pub(crate) fn with(spec: NatSpec, external: &[IpAddr], seed: u64) -> Self {
        Self {
            nat: NatModel::new(spec, external.to_vec(), seed).unwrap(),
            now: Duration::ZERO,
        }
    }

    /// Hands over a packet, and returns what left in consequence.
    pub(crate) fn handle(&mut self, side: Side, packet: &[u8]) -> (Verdict, Vec<Output>) {
        let verdict = self.nat.handle_packet(self.now, side, packet);
        let outputs: Vec<_> = std::iter::from_fn(|| self.nat.poll_output()).collect();
        for output in &outputs {
            assert_checksums(&output.packet);
        }
        let answered = matches!(verdict, Verdict::Answered { .. });
        assert!(
            answered || verdict.forwarded() == (outputs.len() == 1),
            "{verdict}"
        );
        (verdict, outputs)
    }

    /// Sends TCP from inside, and returns the source that the world sees.
    pub(crate) fn send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        flags: u8,
    ) -> Option<SocketAddr> {
        let (_, outputs) = self.handle(Side::Internal, &tcp(from, to, flags));
        let output = outputs
            .first()
            .filter(|output| output.side == Side::External)?;
        let (_, source, destination) = ends(&output.packet);
        assert_eq!(destination, to);
        Some(source)
    }

    /// Sends TCP from outside, and returns the host that it reaches.
    pub(crate) fn receive(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        flags: u8,
    ) -> Option<SocketAddr> {
        let (_, outputs) = self.handle(Side::External, &tcp(from, to, flags));
        let output = outputs
            .first()
            .filter(|output| output.side == Side::Internal)?;
        let (_, source, destination) = ends(&output.packet);
        assert_eq!(source, from);
        Some(destination)
    }

    pub(crate) fn send_udp(&mut self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let (_, outputs) = self.handle(Side::Internal, &udp(from, to, b"data", true));
        outputs.first().map(|output| ends(&output.packet).1)
    }

    pub(crate) fn receive_udp(&mut self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let (_, outputs) = self.handle(Side::External, &udp(from, to, b"data", true));
        outputs.first().map(|output| ends(&output.packet).2)
    }

    /// Sends an echo request from inside, and returns the source that the world sees.
    pub(crate) fn ask(&mut self, from: SocketAddr, to: IpAddr) -> Option<SocketAddr> {
        let (_, outputs) = self.handle(Side::Internal, &echo_request(from, to));
        outputs.first().map(|output| ends(&output.packet).1)
    }

    /// Sends an echo reply from outside, and returns the host that it reaches.
    pub(crate) fn reply(&mut self, from: IpAddr, to: SocketAddr) -> Option<SocketAddr> {
        let (_, outputs) = self.handle(Side::External, &echo_reply(from, to));
        outputs.first().map(|output| ends(&output.packet).2)
    }

    /// The line about a TCP packet from outside.
    pub(crate) fn verdict(
        &mut self,
        side: Side,
        from: SocketAddr,
        to: SocketAddr,
        flags: u8,
    ) -> String {
        self.handle(side, &tcp(from, to, flags)).0.to_string()
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets the time pass, and returns what the box sends by itself.
    pub(crate) fn wait_for_outputs(&mut self, time: Duration) -> Vec<Output> {
        self.now += time;
        self.nat.handle_timeout(self.now);
        std::iter::from_fn(|| self.nat.poll_output())
            .inspect(|output| assert_checksums(&output.packet))
            .collect()
    }
}
