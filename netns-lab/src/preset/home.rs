//! What stands in homes, and in pockets.

use std::time::Duration;

use super::{Behaviour as B, Fact, Layer, Preset, Source};
use crate::model::{
    Dependence, Hairpinning, PortAssignment, PortRange, RstEffect, Translation, UnsolicitedSyn,
};

const SYSCTL: Source = Source::Document {
    title: "Linux nf_conntrack sysctls",
    url: "https://docs.kernel.org/networking/nf_conntrack-sysctl.html",
};
const OPENWRT_ZONE: Source = Source::Document {
    title: "OpenWrt firewall4: zone wan has input REJECT, which is a TCP reset for TCP",
    url: "https://github.com/openwrt/firewall4/blob/master/root/usr/share/ucode/fw4.uc",
};
const NETD: Source = Source::Document {
    title: "Android netd, TetherController: masquerade, no rule for INPUT",
    url: "https://android.googlesource.com/platform/system/netd/+/refs/heads/main/server/TetherController.cpp",
};
const XNU: Source = Source::Document {
    title: "XNU pf.c: extmap and extfilter are for UDP, TCP compares all of both ends",
    url: "https://github.com/apple-oss-distributions/xnu/blob/main/bsd/net/pf.c",
};

const fn measured(behaviour: B) -> Fact {
    let how = "netfilter in a network namespace, Linux 6.18, masquerade";
    Fact::new(behaviour, Source::Measured(how))
}

/// What masquerade of Linux has in common everywhere; the answer to strangers is up to the rules.
pub(super) const NETFILTER: &[Fact] = &[
    measured(B::Mapping(Dependence::EndpointIndependent)),
    measured(B::Filtering(Dependence::AddressAndPortDependent)),
    measured(B::Ports(PortAssignment::PreservedWithOverload)),
    measured(B::Rst(RstEffect::Closes)),
    measured(B::Hairpinning(Hairpinning::None)),
    Fact::new(B::Pickup(true), SYSCTL),
    Fact::new(B::Transitory(Duration::from_secs(120)), SYSCTL),
    Fact::new(B::Established(Duration::from_secs(432_000)), SYSCTL),
    Fact::new(B::TimeWait(Duration::from_secs(120)), SYSCTL),
    Fact::new(B::Udp(Duration::from_secs(120)), SYSCTL),
    Fact::new(B::Echo(Duration::from_secs(30)), SYSCTL),
    Fact::assumed(
        B::UdpInboundRefresh(true),
        "conntrack renews its timer at each packet",
    ),
];

/// A rule that drops what comes from outside for the router itself.
pub(super) const INPUT_DROP: &[Fact] = &[Fact::new(
    B::Unsolicited(UnsolicitedSyn::Nothing),
    Source::Measured("masquerade with an input policy of drop, Linux 6.18"),
)];

/// No such rule: the router's own stack answers for its closed port.
pub(super) const NO_INPUT_RULE: &[Fact] = &[Fact::new(
    B::Unsolicited(UnsolicitedSyn::Rst),
    Source::Measured("masquerade without a rule for input, Linux 6.18"),
)];

pub(super) const LINUX_ROUTER_BOX: Layer = Layer {
    title: "Linux router that drops what comes from outside",
    facts: &[NETFILTER, INPUT_DROP],
};

pub(super) const FULL_CONE: Preset = Preset {
    name: "full-cone",
    title: "home router as RFC 5382 prefers it, silent",
    layers: &[Layer {
        title: "NAT with endpoint-independent filtering",
        facts: &[&[
            Fact::new(
                B::Filtering(Dependence::EndpointIndependent),
                Source::Rfc("RFC 5382 REQ-3"),
            ),
            Fact::new(
                B::Unsolicited(UnsolicitedSyn::Nothing),
                Source::Rfc("RFC 5382 REQ-4a"),
            ),
        ]],
    }],
};

pub(super) const LINUX_ROUTER: Preset = Preset {
    name: "linux-router",
    title: "Linux masquerade, input dropped",
    layers: &[LINUX_ROUTER_BOX],
};

pub(super) const LINUX_MASQUERADE: Preset = Preset {
    name: "linux-masquerade",
    title: "Linux masquerade and no other rule",
    layers: &[Layer {
        title: "Linux router without a rule for input",
        facts: &[NETFILTER, NO_INPUT_RULE],
    }],
};

pub(super) const OPENWRT: Preset = Preset {
    name: "openwrt",
    title: "OpenWrt with its default firewall",
    layers: &[Layer {
        title: "OpenWrt router",
        facts: &[
            NETFILTER,
            &[Fact::new(B::Unsolicited(UnsolicitedSyn::Rst), OPENWRT_ZONE)],
        ],
    }],
};

pub(super) const ANDROID_HOTSPOT: Preset = Preset {
    name: "android-hotspot",
    title: "Android tethering, without its carrier",
    layers: &[Layer {
        title: "Android phone",
        facts: &[
            NETFILTER,
            &[Fact::new(B::Unsolicited(UnsolicitedSyn::Rst), NETD)],
        ],
    }],
};

pub(super) const IPHONE_HOTSPOT: Preset = Preset {
    name: "iphone-hotspot",
    title: "iPhone or macOS sharing, without its carrier",
    layers: &[Layer {
        title: "iPhone",
        facts: &[&[
            Fact::new(B::Mapping(Dependence::AddressAndPortDependent), XNU),
            Fact::new(B::Filtering(Dependence::AddressAndPortDependent), XNU),
            Fact::assumed(B::Ports(PortAssignment::Random), "as pf of the BSDs"),
            Fact::assumed(
                B::PortRange(PortRange {
                    first: 50_001,
                    last: 65_535,
                }),
                "as pf of the BSDs",
            ),
            Fact::assumed(
                B::Unsolicited(UnsolicitedSyn::Nothing),
                "nobody has measured it",
            ),
            Fact::assumed(B::Hairpinning(Hairpinning::None), "as pf of the BSDs"),
        ]],
    }],
};

pub(super) const IPV6_CPE: Preset = Preset {
    name: "ipv6-cpe",
    title: "firewall without NAT, as IPv6 homes have it",
    layers: &[Layer {
        title: "firewall of a home router",
        facts: &[
            NETFILTER,
            INPUT_DROP,
            &[Fact::new(
                B::Translation(Translation::None),
                Source::Rfc("RFC 6092 section 1"),
            )],
        ],
    }],
};

pub(super) const IPV6_RFC6092: Preset = Preset {
    name: "ipv6-rfc6092",
    title: "firewall without NAT as RFC 6092 recommends",
    layers: &[Layer {
        title: "firewall of a home router",
        facts: &[&[
            Fact::new(
                B::Translation(Translation::None),
                Source::Rfc("RFC 6092 section 1"),
            ),
            Fact::new(
                B::Filtering(Dependence::AddressDependent),
                Source::Rfc("RFC 6092 REC-33"),
            ),
            // The code is "prohibited" there; the model's late answer has another.
            Fact::new(
                B::Unsolicited(UnsolicitedSyn::IcmpPortUnreachableAfter(
                    Duration::from_secs(6),
                )),
                Source::Rfc("RFC 6092 REC-34"),
            ),
        ]],
    }],
};
