//! Gathers candidates (RFC 8445 section 5.1.1) and the bases to connect from.

mod host_addresses;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use p2pconnect_host::Host;
use p2pconnect_proto::{
    Candidate, CandidateKind, NatReport, PunchPort, is_global, message::MAX_CANDIDATES,
};
use p2pconnect_punch::{Base, ConnectFailure};

use crate::{
    machine::{interfaces::Interfaces, port_mapping::ForwardedPort, punch_ports::PunchPorts, tcp},
    nat::mappings::Mapped,
};

/// The most interface addresses that are offered. With two punch ports each, and a server-reflexive
/// candidate for either port and address family, the list stays within [`MAX_CANDIDATES`].
const MAX_HOST_ADDRESSES: usize = 6;

/// Returns the candidates of this endpoint, those first that are most worth their place.
///
/// `own` are addresses of this machine. `predicted` is from where the first connection out of a
/// block of unused ports is expected, as far as `nat` is known.
pub(crate) fn candidates(
    ports: &PunchPorts,
    own: &[IpAddr],
    nat: &NatReport,
    predicted: Option<SocketAddr>,
    mapped: &[Mapped],
    forwarded: &[ForwardedPort],
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = mapped
        .iter()
        .map(|it| {
            let kind = if it.mapped == it.local {
                CandidateKind::Host
            } else {
                CandidateKind::ServerReflexive
            };
            Candidate {
                kind,
                address: it.mapped,
                punch_port: it.punch_port,
                token: it.token.clone(),
            }
        })
        .collect();
    candidates.extend(predicted.map(|address| Candidate {
        kind: CandidateKind::Predicted,
        address,
        punch_port: PunchPort::FRESH,
        token: None,
    }));
    candidates.extend(preserved(mapped, nat));
    // A router whose own address is the one that a STUN server saw may keep the port as well.
    for it in forwarded {
        if candidates
            .iter()
            .all(|known| known.address != it.external || known.punch_port != it.punch_port)
        {
            candidates.push(Candidate {
                kind: CandidateKind::Mapped,
                address: it.external,
                punch_port: it.punch_port,
                token: None,
            });
        }
    }
    for address in own {
        for (punch_port, port) in ports.iter() {
            let host = Candidate::host(SocketAddr::new(*address, port), punch_port);
            if candidates.iter().all(|known| known.address != host.address) {
                candidates.push(host);
            }
        }
    }
    candidates.truncate(MAX_CANDIDATES);
    candidates
}

/// Returns where punch ports may be seen that have another port at the STUN server, behind a NAT
/// that keeps ports: somebody else there had taken it, towards that server.
///
/// Not where a mapping is known to be the same for all, or to vary: it is the right one then, or
/// other ports are predicted.
fn preserved(mapped: &[Mapped], nat: &NatReport) -> impl Iterator<Item = Candidate> {
    let keeps = |it: &Mapped| it.mapped.port() == it.local.port();
    let sometimes = nat.mapping.is_none() && mapped.iter().any(keeps);
    mapped
        .iter()
        .filter(move |it| sometimes && !keeps(it))
        .map(|it| Candidate {
            kind: CandidateKind::Predicted,
            address: SocketAddr::new(it.mapped.ip(), it.local.port()),
            punch_port: it.punch_port,
            token: None,
        })
}

/// What the kernel says of the ways to a peer's addresses.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// From which address it reaches each of them.
    pub(crate) sources: BTreeMap<IpAddr, IpAddr>,
    /// Why it does not reach others, though this machine has addresses of their families.
    pub(crate) missing: BTreeMap<IpAddr, ConnectFailure>,
}

/// Asks the kernel for the ways to a peer's addresses; `own` are those of this machine.
pub(crate) fn routes(
    host: &Host,
    remotes: &[Candidate],
    own: impl Iterator<Item = IpAddr>,
) -> Routes {
    let own: Vec<_> = own.collect();
    let mut routes = Routes::default();
    // A route leads to an address, whatever the port.
    let addresses: BTreeMap<_, _> = remotes
        .iter()
        .map(|it| (it.address.ip(), it.address))
        .collect();
    for (ip, address) in addresses {
        match host.source_address(address) {
            Ok(source) => {
                routes.sources.insert(ip, source);
            }
            Err(error) => {
                tracing::debug!(%error, "no route to a candidate of the peer");
                if own.iter().any(|it| may_reach(*it, ip)) {
                    routes.missing.insert(ip, tcp::classify_unsent(&error));
                }
            }
        }
    }
    routes
}

/// Tells whether a machine with the one address is in the family of the other: a machine with local
/// addresses of IPv6 alone has no IPv6 that leads out of its network.
fn may_reach(own: IpAddr, remote: IpAddr) -> bool {
    let is_usable = match own {
        IpAddr::V4(own) => !own.is_loopback() && !own.is_link_local(),
        IpAddr::V6(own) => !own.is_loopback() && !own.is_unicast_link_local(),
    };
    is_usable
        && own.is_ipv4() == remote.is_ipv4()
        && (own.is_ipv4() || is_global(own) || !is_global(remote))
}

/// Puts a peer's link-local addresses into the zone in which the coordinator was reached.
pub(crate) fn put_in_zone(remotes: &mut [Candidate], coordinator: SocketAddr) {
    for remote in remotes {
        remote.address = tcp::in_zone_of(remote.address, coordinator);
    }
}

/// Returns the addresses to connect from: those that routes begin at, with every punch port; and
/// the first of a block of unused ports. Link-local ones are in the coordinator's zone.
pub(crate) fn bases(
    ports: &PunchPorts,
    unused: Option<SocketAddr>,
    routes: &BTreeMap<IpAddr, IpAddr>,
    coordinator: SocketAddr,
) -> Vec<Base> {
    let sources: BTreeSet<_> = routes.values().copied().collect();
    sources
        .into_iter()
        .flat_map(|source| {
            ports.iter().map(move |(punch_port, port)| Base {
                address: tcp::in_zone_of(SocketAddr::new(source, port), coordinator),
                punch_port,
            })
        })
        .chain(unused.map(|address| Base {
            address,
            punch_port: PunchPort::FRESH,
        }))
        .collect()
}

/// Lists this machine's addresses, those first that the mappings came from.
///
/// Loopback counts only where the STUN server was reached over it, which is development on one
/// machine.
pub(crate) fn host_addresses(mapped: &[Mapped], interfaces: &Interfaces) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let usable = host_addresses::by_usefulness(interfaces);
    for address in mapped.iter().map(|it| it.local.ip()).chain(usable) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.truncate(MAX_HOST_ADDRESSES);
    addresses
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect_host::Host;
    use p2pconnect_proto::NatMapping;

    use super::*;

    #[test]
    fn an_address_without_translation_is_a_host_candidate() {
        let (ports, _listeners) = tokio_test_ports();
        let local = SocketAddr::from(([192, 0, 2, 1], 40_000));
        let natted = SocketAddr::from(([198, 51, 100, 1], 1));
        let found = candidates(
            &ports,
            &[local.ip()],
            &NatReport::default(),
            None,
            &[
                mapped(PunchPort::PRIMARY, local, local),
                mapped(PunchPort::SPARE, local, natted),
            ],
            &[],
        );
        assert_eq!(found[0].kind, CandidateKind::Host);
        assert_eq!(found[1].kind, CandidateKind::ServerReflexive);
        assert!(found.len() <= MAX_CANDIDATES);
        assert_eq!(found.iter().filter(|it| it.address == local).count(), 1);
    }

    #[test]
    fn a_port_that_somebody_else_had_may_be_kept_towards_the_peer() {
        let at = |host: u8, port: u16| SocketAddr::from(([192, 0, 2, host], port));
        let spare = mapped(PunchPort::SPARE, at(1, 5001), at(9, 5001));
        let primary = mapped(PunchPort::PRIMARY, at(1, 5000), at(9, 777));
        let kept = |mapped: &[Mapped], mapping| {
            let nat = NatReport {
                mapping,
                ..NatReport::default()
            };
            preserved(mapped, &nat).collect::<Vec<_>>()
        };
        let found = kept(&[primary.clone(), spare.clone()], None);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].kind, found[0].address, found[0].punch_port),
            (CandidateKind::Predicted, at(9, 5000), PunchPort::PRIMARY)
        );
        let stays = Some(NatMapping::EndpointIndependent);
        assert!(kept(&[primary.clone(), spare.clone()], stays).is_empty());
        assert!(kept(&[primary], None).is_empty());
        assert!(kept(&[spare], None).is_empty());
    }

    #[test]
    fn only_a_machine_with_addresses_of_a_family_lacks_a_route_in_it() {
        let [v4, lan, v6] = ["203.0.113.9", "fd00::9", "2001:db8::9"].map(|it| it.parse().unwrap());
        for (own, reached) in [
            ("192.168.1.5", [true, false, false]),
            ("127.0.0.1", [false; 3]),
            ("169.254.1.1", [false; 3]),
            ("::1", [false; 3]),
            ("fe80::1", [false; 3]),
            ("fd00::5", [false, true, false]),
            ("2001:db8::5", [false, true, true]),
        ] {
            let own = own.parse().unwrap();
            let may = [v4, lan, v6].map(|remote| may_reach(own, remote));
            assert_eq!(may, reached, "{own}");
        }
    }

    fn mapped(punch_port: PunchPort, local: SocketAddr, mapped: SocketAddr) -> Mapped {
        Mapped {
            punch_port,
            local,
            mapped,
            server: local,
            token: None,
        }
    }

    fn tokio_test_ports() -> (PunchPorts, Vec<p2pconnect_host::TcpListener>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime needs nothing special");
        let _guard = runtime.enter();
        PunchPorts::open(&Host::default()).expect("this machine has free ports")
    }
}
