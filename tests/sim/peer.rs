use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use p2pconnect_proto::{Candidate, CandidateKind, NatMapping, NatReport, PunchPort, Role};
use p2pconnect_punch::{Base, CheckId, Event, Introduced, PunchAgent};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::{
    access::Access,
    nat::NatBox,
    tcp::{FourTuple, Host},
};

/// One side: an agent, its host, and what is in front of it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) introduced: Introduced,
    pub(crate) agent: Option<PunchAgent>,
    pub(crate) host: Host,
    /// The innermost first.
    pub(crate) boxes: Vec<NatBox>,
    pub(crate) public_ip: Ipv4Addr,
    pub(crate) verifying: Vec<CheckId>,
    /// Accepted before the agent was there.
    pub(crate) early: Vec<FourTuple>,
    pub(crate) end: Option<(Event, Duration)>,
    pub(crate) again: bool,
}

impl Peer {
    pub(crate) fn new(side: usize, access: Access, rng: &mut ChaCha8Rng) -> Self {
        let number = u8::try_from(side).expect("0 or 1") + 1;
        let public_ip = Ipv4Addr::new(203, 0, number, 1);
        let specs = access.boxes();
        let mut boxes: Vec<_> = specs
            .iter()
            .rev()
            .enumerate()
            .map(|(layer, spec)| {
                let inner = Ipv4Addr::new(10, number, u8::try_from(layer).expect("few"), 1);
                NatBox::new(*spec, if layer == 0 { public_ip } else { inner })
            })
            .collect();
        boxes.reverse();
        let interface = if access.has_private_address() {
            Ipv4Addr::new(10, number, 9, 2)
        } else {
            public_ip
        };
        let mut bases = Vec::new();
        let mut candidates = Vec::new();
        for punch_port in [PunchPort::PRIMARY, PunchPort::SPARE] {
            let port = rng.random_range(32768..60000);
            let address: SocketAddr = (interface, port).into();
            let mapped = boxes
                .iter_mut()
                .fold(address, |inside, nat| nat.map(inside, rng));
            bases.push(Base {
                address,
                punch_port,
            });
            candidates.push(candidate(CandidateKind::Host, address, punch_port));
            candidates.push(candidate(
                CandidateKind::ServerReflexive,
                mapped,
                punch_port,
            ));
        }
        let mapping = if access == Access::RandomPerDestination {
            NatMapping::AddressAndPortDependent
        } else {
            NatMapping::EndpointIndependent
        };
        let role = if side == 0 {
            Role::Controlling
        } else {
            Role::Controlled
        };
        Self {
            introduced: Introduced {
                role,
                bases,
                // Each peer's own until they are introduced.
                remote_candidates: candidates,
                relayed_rtt: Duration::ZERO,
                local_nat: NatReport {
                    mapping: Some(mapping),
                    port_preserved: None,
                },
                remote_nat: NatReport::default(),
            },
            agent: None,
            host: Host::new(u32::from(number) << 24),
            boxes,
            public_ip,
            verifying: Vec::new(),
            early: Vec::new(),
            end: None,
            again: false,
        }
    }
}

const fn candidate(kind: CandidateKind, address: SocketAddr, punch_port: PunchPort) -> Candidate {
    Candidate {
        kind,
        address,
        punch_port,
        token: None,
    }
}
