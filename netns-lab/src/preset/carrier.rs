//! What carriers put in front of their customers.

use std::time::Duration;

use super::{Behaviour as B, Fact, Layer, Preset, Source, home};
use crate::model::{Dependence, Hairpinning, PortAssignment, UnsolicitedSyn};

const RICHTER: Source = Source::Document {
    title: "Richter et al., A Multi-perspective Analysis of Carrier-Grade NAT Deployment (IMC 2016)",
    url: "https://arxiv.org/abs/1605.05606",
};
const JUNOS_POOL: Source = Source::Document {
    title: "Junos Next Gen Services, NAPT: round-robin port allocation is the default",
    url: "https://www.juniper.net/documentation/us/en/software/junos/interfaces-next-gen-services/topics/task/usf-napt-configuring.html",
};
const JUNOS_MAPPING: Source = Source::Document {
    title: "Junos, mapping-type endpoint-independent and filtering-type are options",
    url: "https://www.juniper.net/documentation/us/en/software/junos/cli-reference/topics/ref/statement/port-edit-services-nat.html",
};

/// RFC 7422 has 1,000 and more in its examples; smaller blocks are common.
const BLOCK: Fact = Fact::assumed(
    B::Ports(PortAssignment::RandomInBlock { size: 512 }),
    "a block for each customer (RFC 7422 section 2), a size between the usual 256 and 2,048",
);

const SILENT: &[Fact] = &[
    Fact::assumed(
        B::Unsolicited(UnsolicitedSyn::Nothing),
        "carriers do not spend packets on strangers",
    ),
    Fact::assumed(
        B::Hairpinning(Hairpinning::None),
        "often not configured, against RFC 6888 REQ-1",
    ),
];

const PORT_BLOCK_BOX: Layer = Layer {
    title: "carrier NAT with port blocks",
    facts: &[
        SILENT,
        &[
            Fact::new(
                B::Mapping(Dependence::EndpointIndependent),
                Source::Rfc("RFC 6888 REQ-1, RFC 5382 REQ-1"),
            ),
            Fact::new(B::Filtering(Dependence::AddressAndPortDependent), RICHTER),
            BLOCK,
        ],
    ],
};

pub(super) const CGNAT_RFC6888: Preset = Preset {
    name: "cgnat-rfc6888",
    title: "carrier NAT as RFC 6888 asks, with port blocks",
    layers: &[Layer {
        title: "carrier NAT",
        facts: &[&[
            Fact::new(
                B::Mapping(Dependence::EndpointIndependent),
                Source::Rfc("RFC 6888 REQ-1, RFC 5382 REQ-1"),
            ),
            Fact::new(
                B::Filtering(Dependence::EndpointIndependent),
                Source::Rfc("RFC 6888 REQ-7"),
            ),
            Fact::new(
                B::Unsolicited(UnsolicitedSyn::IcmpPortUnreachableAfter(
                    Duration::from_secs(6),
                )),
                Source::Rfc("RFC 5382 REQ-4"),
            ),
            BLOCK,
        ]],
    }],
};

pub(super) const CGNAT_PORT_BLOCK: Preset = Preset {
    name: "cgnat-port-block",
    title: "carrier NAT with port blocks that filters",
    layers: &[PORT_BLOCK_BOX],
};

pub(super) const CGNAT_STRICT: Preset = Preset {
    name: "cgnat-strict",
    title: "symmetric carrier NAT with port blocks",
    layers: &[Layer {
        title: "carrier NAT",
        facts: &[
            SILENT,
            &[
                Fact::new(B::Mapping(Dependence::AddressAndPortDependent), RICHTER),
                Fact::new(B::Filtering(Dependence::AddressAndPortDependent), RICHTER),
                BLOCK,
                Fact::assumed(
                    B::Transitory(Duration::from_secs(60)),
                    "shorter than RFC 5382 REQ-5 allows",
                ),
            ],
        ],
    }],
};

pub(super) const JUNIPER_CGN: Preset = Preset {
    name: "juniper-cgn",
    title: "Juniper carrier NAT with its default port allocation",
    layers: &[Layer {
        title: "Juniper MX with NAPT",
        facts: &[
            SILENT,
            &[
                Fact::new(
                    B::Mapping(Dependence::AddressAndPortDependent),
                    JUNOS_MAPPING,
                ),
                Fact::new(
                    B::Filtering(Dependence::AddressAndPortDependent),
                    JUNOS_MAPPING,
                ),
                Fact::new(
                    B::Ports(PortAssignment::Sequential { delta: 1 }),
                    JUNOS_POOL,
                ),
            ],
        ],
    }],
};

pub(super) const MOBILE_CARRIER: Preset = Preset {
    name: "mobile-carrier",
    title: "symmetric NAT of a mobile network",
    layers: &[Layer {
        title: "NAT of a mobile network",
        facts: &[
            SILENT,
            &[
                Fact::new(B::Mapping(Dependence::AddressAndPortDependent), RICHTER),
                Fact::assumed(
                    B::Filtering(Dependence::AddressAndPortDependent),
                    "as strict as the mapping",
                ),
                Fact::new(B::Ports(PortAssignment::Random), RICHTER),
                Fact::assumed(
                    B::Transitory(Duration::from_secs(60)),
                    "shorter than RFC 5382 REQ-5 allows",
                ),
                Fact::assumed(
                    B::Established(Duration::from_secs(1800)),
                    "shorter than RFC 5382 REQ-5 allows",
                ),
            ],
        ],
    }],
};

pub(super) const HOME_BEHIND_CGNAT: Preset = Preset {
    name: "home-behind-cgnat",
    title: "Linux router behind carrier NAT with port blocks",
    layers: &[home::LINUX_ROUTER_BOX, PORT_BLOCK_BOX],
};
