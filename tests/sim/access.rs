//! The kinds of network access, and which two of them can be connected.

use p2pconnect_punch::Verdict;

use crate::{
    nat::{NatSpec, Ports, Unsolicited},
    packet::IcmpCode,
};

/// What stands between a peer and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Public,
    Firewall,
    KeptDrop,
    KeptReset,
    KeptIcmp,
    KeptIcmpPort,
    RandomPort,
    AdmitsAll,
    TwoLayers,
    RandomPerDestination,
}

impl Access {
    /// All kinds that a hole can be punched through from any other of them.
    pub(crate) const PUNCHABLE: [Self; 9] = [
        Self::Public,
        Self::Firewall,
        Self::KeptDrop,
        Self::KeptReset,
        Self::KeptIcmp,
        Self::KeptIcmpPort,
        Self::RandomPort,
        Self::AdmitsAll,
        Self::TwoLayers,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Firewall => "firewall",
            Self::KeptDrop => "kept, drop",
            Self::KeptReset => "kept, RST",
            Self::KeptIcmp => "kept, ICMP",
            Self::KeptIcmpPort => "ICMP port",
            Self::RandomPort => "random EIM",
            Self::AdmitsAll => "EIF",
            Self::TwoLayers => "two layers",
            Self::RandomPerDestination => "per dest.",
        }
    }

    /// The boxes on the way, the innermost first.
    pub(crate) const fn boxes(self) -> &'static [NatSpec] {
        const fn spec(ports: Ports, unsolicited: Unsolicited) -> NatSpec {
            NatSpec { ports, unsolicited }
        }
        const FIREWALL: NatSpec = spec(Ports::Untranslated, Unsolicited::Drop);
        const DROP: NatSpec = spec(Ports::Kept, Unsolicited::Drop);
        const RESET: NatSpec = spec(Ports::Kept, Unsolicited::Reset);
        const ICMP: NatSpec = spec(
            Ports::Kept,
            Unsolicited::Icmp(IcmpCode::AdministrativelyProhibited),
        );
        const ICMP_PORT: NatSpec = spec(Ports::Kept, Unsolicited::Icmp(IcmpCode::PortUnreachable));
        const RANDOM: NatSpec = spec(Ports::Random, Unsolicited::Drop);
        const ADMIT: NatSpec = spec(Ports::Kept, Unsolicited::Admit);
        const PER_DESTINATION: NatSpec = spec(Ports::RandomPerDestination, Unsolicited::Drop);
        match self {
            Self::Public => &[],
            Self::Firewall => &[FIREWALL],
            Self::KeptDrop => &[DROP],
            Self::KeptReset => &[RESET],
            Self::KeptIcmp => &[ICMP],
            Self::KeptIcmpPort => &[ICMP_PORT],
            Self::RandomPort => &[RANDOM],
            Self::AdmitsAll => &[ADMIT],
            Self::TwoLayers => &[DROP, RANDOM],
            Self::RandomPerDestination => &[PER_DESTINATION],
        }
    }

    pub(crate) const fn has_private_address(self) -> bool {
        match self {
            Self::Public | Self::Firewall => false,
            Self::KeptDrop
            | Self::KeptReset
            | Self::KeptIcmp
            | Self::KeptIcmpPort
            | Self::RandomPort
            | Self::AdmitsAll
            | Self::TwoLayers
            | Self::RandomPerDestination => true,
        }
    }

    /// Tells whether anybody's SYN comes through.
    const fn admits_strangers(self) -> bool {
        match self {
            Self::Public | Self::AdmitsAll => true,
            Self::Firewall
            | Self::KeptDrop
            | Self::KeptReset
            | Self::KeptIcmp
            | Self::KeptIcmpPort
            | Self::RandomPort
            | Self::TwoLayers
            | Self::RandomPerDestination => false,
        }
    }
}

/// The oracle: what `local` should find when it punches to `remote`; `None` is a connection.
pub(crate) fn expected(local: Access, remote: Access) -> Option<Verdict> {
    let varies = |access| access == Access::RandomPerDestination;
    match (varies(local), varies(remote)) {
        (false, false) => None,
        (true, true) => Some(Verdict::BothMappingsVary),
        (true, false) if remote.admits_strangers() => None,
        (true, false) => Some(Verdict::LocalMappingVaries),
        (false, true) if local.admits_strangers() => None,
        (false, true) => Some(Verdict::RemoteMappingVaries),
    }
}
