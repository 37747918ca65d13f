//! What stands between guests or containers and their machine's network.
//!
//! The machine itself is often behind another preset.

use super::{Behaviour as B, Fact, Layer, Preset, Source, home};
use crate::model::{Dependence, Hairpinning, PortAssignment, PortRange, RstEffect, UnsolicitedSyn};

const DOCKER_NAT: Source = Source::Document {
    title: "Docker, packet filtering and firewalls: no rule for INPUT, the machine's stack answers",
    url: "https://docs.docker.com/engine/network/packet-filtering-firewalls/",
};
const LIBVIRT_NAT: Source = Source::Document {
    title: "libvirt, firewall and network filtering: rules for INPUT allow, but do not drop",
    url: "https://libvirt.org/firewall.html",
};
const VIRTUALBOX: Source = Source::Document {
    title: "VirtualBox manual, Network Address Translation: connections are resent by sockets of the machine",
    url: "https://www.virtualbox.org/manual/ch06.html#network_nat",
};

pub(super) const DOCKER: Preset = Preset {
    name: "docker",
    title: "container behind Docker's bridge",
    layers: &[Layer {
        title: "Docker bridge",
        facts: &[
            home::NETFILTER,
            &[Fact::new(B::Unsolicited(UnsolicitedSyn::Rst), DOCKER_NAT)],
        ],
    }],
};

pub(super) const LIBVIRT: Preset = Preset {
    name: "libvirt",
    title: "guest behind libvirt's default network",
    layers: &[Layer {
        title: "libvirt virtual network",
        facts: &[
            home::NETFILTER,
            &[Fact::new(B::Unsolicited(UnsolicitedSyn::Rst), LIBVIRT_NAT)],
        ],
    }],
};

/// A proxy, not a NAT: each connection of the guest ends here and goes on by a socket of the
/// machine. A punch sees from outside what such sockets show: a new port for each destination,
/// nobody let in, resets from the machine's stack. What it cannot show is that the guest's
/// handshake is not the one outside; a SYN that crosses is answered by the machine, and the guest
/// has its connection all the same.
pub(super) const VIRTUALBOX_NAT: Preset = Preset {
    name: "virtualbox-nat",
    title: "guest behind VirtualBox NAT, a proxy shown as the NAT it resembles",
    layers: &[Layer {
        title: "VirtualBox NAT engine",
        facts: &[&[
            Fact::new(B::Mapping(Dependence::AddressAndPortDependent), VIRTUALBOX),
            Fact::new(
                B::Filtering(Dependence::AddressAndPortDependent),
                VIRTUALBOX,
            ),
            Fact::assumed(
                B::Ports(PortAssignment::Random),
                "an unbound socket has a random port of the machine",
            ),
            Fact::assumed(
                B::PortRange(PortRange {
                    first: 32_768,
                    last: 60_999,
                }),
                "net.ipv4.ip_local_port_range of Linux",
            ),
            Fact::assumed(
                B::Unsolicited(UnsolicitedSyn::Rst),
                "the machine answers for its closed port",
            ),
            Fact::assumed(B::Rst(RstEffect::Closes), "a socket ends with its RST"),
            Fact::assumed(B::Hairpinning(Hairpinning::None), "nothing listens there"),
        ]],
    }],
};
