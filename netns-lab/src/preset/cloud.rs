//! What clouds rent out.

use std::time::Duration;

use super::{Behaviour as B, Fact, Layer, Preset, Source};
use crate::model::{Dependence, Hairpinning, PortAssignment, UnsolicitedSyn};

const AWS: Source = Source::Document {
    title: "AWS, NAT gateway basics: 55,000 connections to each destination, idle for 350 s",
    url: "https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html",
};
const TAILSCALE: Source = Source::Document {
    title: "Tailscale, NAT traversal improvements part 2, challenges in cloud environments",
    url: "https://tailscale.com/blog/nat-traversal-improvements-pt-2-cloud-environments",
};
const AZURE: Source = Source::Document {
    title: "Azure, NAT gateway resource: random ports, reused towards other destinations, idle for 4 min",
    url: "https://learn.microsoft.com/en-us/azure/nat-gateway/nat-gateway-resource",
};
const AZURE_TROUBLES: Source = Source::Document {
    title: "Azure, troubleshoot NAT gateway: ICMP is not supported",
    url: "https://learn.microsoft.com/en-us/azure/nat-gateway/troubleshoot-nat",
};
const GCP_PORTS: Source = Source::Document {
    title: "Google Cloud NAT, IP addresses and ports",
    url: "https://cloud.google.com/nat/docs/ports-and-addresses",
};
const GCP_TIMEOUTS: Source = Source::Document {
    title: "Google Cloud NAT, tune NAT configuration",
    url: "https://cloud.google.com/nat/docs/tune-nat-configuration",
};

const CLOSED: &[Fact] = &[
    Fact::assumed(
        B::Filtering(Dependence::AddressAndPortDependent),
        "all clouds promise that nobody outside can begin a connection",
    ),
    Fact::assumed(
        B::Unsolicited(UnsolicitedSyn::Nothing),
        "an answer is described for known connections only",
    ),
    Fact::assumed(
        B::Hairpinning(Hairpinning::None),
        "no way back inside is described",
    ),
];

const GCP: &[Fact] = &[
    Fact::new(B::Established(Duration::from_secs(1200)), GCP_TIMEOUTS),
    Fact::new(B::Transitory(Duration::from_secs(30)), GCP_TIMEOUTS),
    Fact::new(B::TimeWait(Duration::from_secs(120)), GCP_TIMEOUTS),
    Fact::new(B::Udp(Duration::from_secs(30)), GCP_TIMEOUTS),
    Fact::new(B::Echo(Duration::from_secs(30)), GCP_TIMEOUTS),
];

pub(super) const AWS_NAT_GATEWAY: Preset = Preset {
    name: "aws-nat-gateway",
    title: "AWS NAT gateway",
    layers: &[Layer {
        title: "AWS NAT gateway",
        facts: &[
            CLOSED,
            &[
                Fact::new(B::Mapping(Dependence::AddressAndPortDependent), TAILSCALE),
                Fact::new(B::Ports(PortAssignment::Random), TAILSCALE),
                Fact::new(B::Established(Duration::from_secs(350)), AWS),
                Fact::new(B::Udp(Duration::from_secs(350)), AWS),
            ],
        ],
    }],
};

pub(super) const AZURE_NAT_GATEWAY: Preset = Preset {
    name: "azure-nat-gateway",
    title: "Azure NAT gateway",
    layers: &[Layer {
        title: "Azure NAT gateway",
        facts: &[
            CLOSED,
            &[
                Fact::new(B::Mapping(Dependence::AddressAndPortDependent), AZURE),
                Fact::new(B::Ports(PortAssignment::Random), AZURE),
                Fact::new(B::Established(Duration::from_secs(240)), AZURE),
                Fact::new(B::Udp(Duration::from_secs(240)), AZURE),
                Fact::new(B::DropEcho(true), AZURE_TROUBLES),
            ],
        ],
    }],
};

pub(super) const GCP_CLOUD_NAT: Preset = Preset {
    name: "gcp-cloud-nat",
    title: "Google Cloud NAT with dynamic port allocation",
    layers: &[Layer {
        title: "Google Cloud NAT",
        facts: &[
            CLOSED,
            GCP,
            &[
                Fact::new(B::Mapping(Dependence::AddressAndPortDependent), GCP_PORTS),
                // The least that dynamic allocation starts with; it may double.
                Fact::new(
                    B::Ports(PortAssignment::RandomInBlock { size: 32 }),
                    GCP_PORTS,
                ),
            ],
        ],
    }],
};

pub(super) const GCP_CLOUD_NAT_EIM: Preset = Preset {
    name: "gcp-cloud-nat-eim",
    title: "Google Cloud NAT with endpoint-independent mapping",
    layers: &[Layer {
        title: "Google Cloud NAT",
        facts: &[
            CLOSED,
            GCP,
            &[
                Fact::new(B::Mapping(Dependence::EndpointIndependent), GCP_PORTS),
                Fact::new(
                    B::Ports(PortAssignment::RandomInBlock { size: 64 }),
                    GCP_PORTS,
                ),
            ],
        ],
    }],
};
