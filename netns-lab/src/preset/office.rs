//! What stands at the edge of companies.

use std::time::Duration;

use super::{Behaviour as B, Fact, Layer, Preset, Source};
use crate::model::{
    Dependence, Hairpinning, PortAssignment, PortRange, RstEffect, SimultaneousOpen, UnsolicitedSyn,
};

const PF_CONF: Source = Source::Document {
    title: "OpenBSD pf.conf(5)",
    url: "https://man.openbsd.org/pf.conf.5",
};
const NETGATE: Source = Source::Document {
    title: "pfSense documentation, Outbound NAT",
    url: "https://docs.netgate.com/pfsense/en/latest/nat/outbound.html",
};
const NETGATE_REFLECTION: Source = Source::Document {
    title: "pfSense documentation, NAT Reflection (off by default)",
    url: "https://docs.netgate.com/pfsense/en/latest/nat/reflection.html",
};
const ASA: Source = Source::Document {
    title: "Cisco ASA Firewall CLI guide, Dynamic PAT: per-session PAT for TCP",
    url: "https://www.cisco.com/c/en/us/td/docs/security/asa/asa922/configuration/firewall/asa-922-firewall-config/nat-basics.html",
};
const ASA_TIMEOUT: Source = Source::Document {
    title: "Cisco ASA command reference, timeout",
    url: "https://www.cisco.com/c/en/us/td/docs/security/asa/asa-cli-reference/T-Z/asa-command-ref-T-Z.html",
};
const SRX: Source = Source::Document {
    title: "Junos, Persistent NAT: any-remote-host",
    url: "https://www.juniper.net/documentation/us/en/software/junos/nat/topics/topic-map/security-persistent-nat-and-nat64.html",
};
const GUHA: Source = Source::Document {
    title: "Guha and Francis, Characterization and Measurement of TCP Traversal through NATs and Firewalls (IMC 2005)",
    url: "https://www.usenix.org/legacy/events/imc05/tech/guha.html",
};

const PF_COMMON: &[Fact] = &[
    Fact::new(B::Filtering(Dependence::AddressAndPortDependent), PF_CONF),
    Fact::new(B::Unsolicited(UnsolicitedSyn::Nothing), PF_CONF),
    Fact::new(B::Hairpinning(Hairpinning::None), NETGATE_REFLECTION),
    Fact::new(B::Transitory(Duration::from_secs(120)), PF_CONF),
    Fact::new(B::Established(Duration::from_secs(86_400)), PF_CONF),
    Fact::new(B::TimeWait(Duration::from_secs(90)), PF_CONF),
    Fact::new(B::Udp(Duration::from_secs(60)), PF_CONF),
    Fact::new(B::Echo(Duration::from_secs(20)), PF_CONF),
];

pub(super) const PF: Preset = Preset {
    name: "pf",
    title: "pf: pfSense, OPNsense, OpenBSD",
    layers: &[Layer {
        title: "pf with its default of rewriting ports",
        facts: &[
            PF_COMMON,
            &[
                Fact::new(B::Mapping(Dependence::AddressAndPortDependent), NETGATE),
                Fact::new(B::Ports(PortAssignment::Random), NETGATE),
            ],
        ],
    }],
};

pub(super) const PF_STATIC_PORT: Preset = Preset {
    name: "pf-static-port",
    title: "pf with static-port, as set up for games and VoIP",
    layers: &[Layer {
        title: "pf that keeps ports",
        facts: &[
            PF_COMMON,
            &[
                Fact::new(B::Mapping(Dependence::AddressAndPortDependent), NETGATE),
                Fact::new(B::Ports(PortAssignment::PreservedWithOverload), NETGATE),
            ],
        ],
    }],
};

pub(super) const CISCO_ASA: Preset = Preset {
    name: "cisco-asa",
    title: "Cisco ASA with dynamic PAT",
    layers: &[Layer {
        title: "Cisco ASA",
        facts: &[&[
            Fact::new(B::Mapping(Dependence::AddressAndPortDependent), ASA),
            Fact::new(B::Ports(PortAssignment::Preserved), ASA),
            Fact::new(B::Rst(RstEffect::Closes), ASA),
            Fact::assumed(
                B::Filtering(Dependence::AddressAndPortDependent),
                "no access list lets strangers in",
            ),
            Fact::assumed(
                B::Unsolicited(UnsolicitedSyn::Nothing),
                "service resetoutside is off by default",
            ),
            Fact::assumed(
                B::Hairpinning(Hairpinning::None),
                "same-security-traffic is off by default",
            ),
            Fact::new(B::Transitory(Duration::from_secs(30)), ASA_TIMEOUT),
            Fact::new(B::Established(Duration::from_secs(3600)), ASA_TIMEOUT),
            Fact::new(B::TimeWait(Duration::from_secs(30)), ASA_TIMEOUT),
            Fact::new(B::Udp(Duration::from_secs(120)), ASA_TIMEOUT),
            Fact::new(B::Echo(Duration::from_secs(2)), ASA_TIMEOUT),
        ]],
    }],
};

pub(super) const JUNIPER_PERSISTENT_NAT: Preset = Preset {
    name: "juniper-persistent-nat",
    title: "Juniper SRX with persistent NAT, any remote host",
    layers: &[Layer {
        title: "Juniper SRX",
        facts: &[&[
            Fact::new(B::Mapping(Dependence::EndpointIndependent), SRX),
            Fact::new(B::Filtering(Dependence::EndpointIndependent), SRX),
            Fact::assumed(
                B::Ports(PortAssignment::Random),
                "the port overloading of a pool is not described",
            ),
            Fact::assumed(
                B::PortRange(PortRange {
                    first: 1024,
                    last: 63_487,
                }),
                "the default of source NAT pools, from memory",
            ),
            Fact::assumed(
                B::Unsolicited(UnsolicitedSyn::Nothing),
                "tcp-rst of a zone is off by default",
            ),
            Fact::assumed(
                B::Established(Duration::from_secs(1800)),
                "the default inactivity timeout of TCP, from memory",
            ),
        ]],
    }],
};

pub(super) const CORPORATE_FIREWALL: Preset = Preset {
    name: "corporate-firewall",
    title: "symmetric firewall that refuses simultaneous open",
    layers: &[Layer {
        title: "firewall that checks the handshake",
        facts: &[&[
            Fact::assumed(
                B::Mapping(Dependence::AddressAndPortDependent),
                "what is called a symmetric NAT",
            ),
            Fact::assumed(
                B::Filtering(Dependence::AddressAndPortDependent),
                "strangers are what a firewall is against",
            ),
            Fact::assumed(
                B::Ports(PortAssignment::Random),
                "the least predictable choice",
            ),
            Fact::new(B::SimultaneousOpen(SimultaneousOpen::Dropped), GUHA),
            Fact::assumed(B::Rst(RstEffect::Closes), "state is not kept without need"),
            Fact::assumed(
                B::Unsolicited(UnsolicitedSyn::Nothing),
                "firewalls hide what is behind them",
            ),
            Fact::assumed(B::Hairpinning(Hairpinning::None), "no rule allows it"),
            Fact::assumed(
                B::Established(Duration::from_secs(3600)),
                "an hour is usual",
            ),
            Fact::assumed(
                B::Transitory(Duration::from_secs(30)),
                "half a minute is usual",
            ),
        ]],
    }],
};
