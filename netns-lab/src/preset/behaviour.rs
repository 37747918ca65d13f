//! One field of a specification, and how it is said in words.

use std::{fmt, time::Duration};

use crate::model::{
    Dependence, Directions, Hairpinning, NatSpec, PortAssignment, PortRange, RstEffect,
    SimultaneousOpen, Translation, UnsolicitedSyn,
};

/// One behaviour of a box: a field of [`NatSpec`] with its value.
///
/// The [`Display`](fmt::Display) form continues the sentence "it …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// [`NatSpec::translation`].
    Translation(Translation),
    /// [`NatSpec::mapping`].
    Mapping(Dependence),
    /// [`NatSpec::filtering`].
    Filtering(Dependence),
    /// [`NatSpec::ports`].
    Ports(PortAssignment),
    /// [`NatSpec::port_range`].
    PortRange(PortRange),
    /// [`NatSpec::unsolicited`].
    Unsolicited(UnsolicitedSyn),
    /// [`NatSpec::simultaneous_open`].
    SimultaneousOpen(SimultaneousOpen),
    /// [`NatSpec::rst`].
    Rst(RstEffect),
    /// [`NatSpec::pickup`].
    Pickup(bool),
    /// [`NatSpec::hairpinning`].
    Hairpinning(Hairpinning),
    /// [`Timers::transitory`](crate::model::Timers::transitory).
    Transitory(Duration),
    /// [`Timers::established`](crate::model::Timers::established).
    Established(Duration),
    /// [`Timers::time_wait`](crate::model::Timers::time_wait).
    TimeWait(Duration),
    /// [`Timers::udp`](crate::model::Timers::udp).
    Udp(Duration),
    /// [`Timers::echo`](crate::model::Timers::echo).
    Echo(Duration),
    /// [`NatSpec::udp_inbound_refresh`].
    UdpInboundRefresh(bool),
    /// [`NatSpec::strip_window_scale`].
    StripWindowScale(Directions),
    /// [`NatSpec::drop_echo`].
    DropEcho(bool),
    /// [`NatSpec::drop_ecn_udp`].
    DropEcnUdp(bool),
    /// [`NatSpec::drop_udp`].
    DropUdp(bool),
}

impl Behaviour {
    /// Gives a specification this behaviour.
    pub const fn apply(self, spec: &mut NatSpec) {
        match self {
            Self::Translation(value) => spec.translation = value,
            Self::Mapping(value) => spec.mapping = value,
            Self::Filtering(value) => spec.filtering = value,
            Self::Ports(value) => spec.ports = value,
            Self::PortRange(value) => spec.port_range = value,
            Self::Unsolicited(value) => spec.unsolicited = value,
            Self::SimultaneousOpen(value) => spec.simultaneous_open = value,
            Self::Rst(value) => spec.rst = value,
            Self::Pickup(value) => spec.pickup = value,
            Self::Hairpinning(value) => spec.hairpinning = value,
            Self::Transitory(value) => spec.timers.transitory = value,
            Self::Established(value) => spec.timers.established = value,
            Self::TimeWait(value) => spec.timers.time_wait = value,
            Self::Udp(value) => spec.timers.udp = value,
            Self::Echo(value) => spec.timers.echo = value,
            Self::UdpInboundRefresh(value) => spec.udp_inbound_refresh = value,
            Self::StripWindowScale(value) => spec.strip_window_scale = value,
            Self::DropEcho(value) => spec.drop_echo = value,
            Self::DropEcnUdp(value) => spec.drop_ecn_udp = value,
            Self::DropUdp(value) => spec.drop_udp = value,
        }
    }

    /// Returns whether a specification has this behaviour.
    pub fn holds(self, spec: &NatSpec) -> bool {
        let mut with = *spec;
        self.apply(&mut with);
        with == *spec
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Translation(Translation::None) => f.write_str("translates nothing"),
            Self::Translation(Translation::Nat44) => f.write_str("translates addresses and ports"),
            Self::Mapping(on) => write!(f, "has {} mapping", dependence(*on)),
            Self::Filtering(on) => write!(f, "has {} filtering", dependence(*on)),
            Self::Ports(ports) => write_ports(f, *ports),
            Self::PortRange(PortRange { first, last }) => {
                write!(f, "gives out ports {first} to {last}")
            }
            Self::Unsolicited(answer) => write_answer(f, *answer),
            Self::SimultaneousOpen(open) => f.write_str(match open {
                SimultaneousOpen::Allowed => "lets a SYN in that crosses one from inside",
                SimultaneousOpen::Dropped => "drops a SYN that crosses one from inside",
                SimultaneousOpen::Reset => "answers a SYN that crosses one from inside with RST",
            }),
            Self::Rst(effect) => f.write_str(match effect {
                RstEffect::Closes => "forgets a connection at its RST",
                RstEffect::Transitory => "forgets a connection some time after its RST",
                RstEffect::Ignored => "remembers a connection after its RST",
            }),
            Self::Pickup(true) => f.write_str("takes up connections whose beginning it missed"),
            Self::Pickup(false) => f.write_str("drops connections whose beginning it missed"),
            Self::Hairpinning(hairpinning) => f.write_str(match hairpinning {
                Hairpinning::None => "does not hairpin",
                Hairpinning::InternalSource => "hairpins, with the internal source",
                Hairpinning::ExternalSource => "hairpins, with the external source",
            }),
            Self::Transitory(time) => write!(f, "forgets half-open connections after {time:?}"),
            Self::Established(time) => write!(f, "forgets idle connections after {time:?}"),
            Self::TimeWait(time) => write!(f, "forgets closed connections after {time:?}"),
            Self::Udp(time) => write!(f, "forgets UDP after {time:?}"),
            Self::Echo(time) => write!(f, "forgets an ICMP echo after {time:?}"),
            Self::UdpInboundRefresh(true) => f.write_str("keeps UDP alive by packets both ways"),
            Self::UdpInboundRefresh(false) => f.write_str("keeps UDP alive by packets out"),
            Self::StripWindowScale(directions) => f.write_str(match directions {
                Directions::Neither => "leaves the window scale in SYNs",
                Directions::Outbound => "takes the window scale out of SYNs from inside",
                Directions::Inbound => "takes the window scale out of SYNs from outside",
                Directions::Both => "takes the window scale out of SYNs",
            }),
            Self::DropEcho(true) => f.write_str("drops ICMP echo"),
            Self::DropEcho(false) => f.write_str("lets ICMP echo out"),
            Self::DropEcnUdp(true) => f.write_str("drops UDP with an ECN mark"),
            Self::DropEcnUdp(false) => f.write_str("lets UDP with an ECN mark pass"),
            Self::DropUdp(true) => f.write_str("drops all UDP"),
            Self::DropUdp(false) => f.write_str("lets UDP pass"),
        }
    }
}

const fn dependence(on: Dependence) -> &'static str {
    match on {
        Dependence::EndpointIndependent => "endpoint-independent",
        Dependence::AddressDependent => "address-dependent",
        Dependence::AddressAndPortDependent => "address- and port-dependent",
    }
}

fn write_ports(f: &mut fmt::Formatter<'_>, ports: PortAssignment) -> fmt::Result {
    match ports {
        PortAssignment::Preserved => f.write_str("keeps the port where it is free"),
        PortAssignment::PreservedWithOverload => {
            f.write_str("keeps the port unless that would confuse two connections")
        }
        PortAssignment::Sequential { delta } => write!(f, "takes the last port plus {delta}"),
        PortAssignment::Random => f.write_str("takes a random port"),
        PortAssignment::RandomInBlock { size } => {
            write!(f, "takes a random port of the host's {size}")
        }
    }
}

fn write_answer(f: &mut fmt::Formatter<'_>, answer: UnsolicitedSyn) -> fmt::Result {
    match answer {
        UnsolicitedSyn::Nothing => f.write_str("is silent to an unsolicited SYN"),
        UnsolicitedSyn::Rst => f.write_str("answers an unsolicited SYN with RST"),
        UnsolicitedSyn::IcmpProhibited => {
            f.write_str("answers an unsolicited SYN with ICMP administratively prohibited")
        }
        UnsolicitedSyn::IcmpPortUnreachable => {
            f.write_str("answers an unsolicited SYN with ICMP port unreachable")
        }
        UnsolicitedSyn::IcmpPortUnreachableAfter(delay) => write!(
            f,
            "answers an unsolicited SYN with ICMP port unreachable after {delay:?}"
        ),
    }
}
