use std::net::SocketAddr;

use p2pconnect_proto::{NatMapping, NatReport, PortAssignment};

/// What one STUN server saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The local address, not a wildcard, that the connection was made from.
    pub local: SocketAddr,
    /// The server's address.
    pub server: SocketAddr,
    /// The address that the server saw.
    pub mapped: SocketAddr,
}

/// Concludes how the NAT chooses mappings (RFC 5780 section 4.3) from what servers saw of
/// connections from the same local address and port.
///
/// Observations with another local address than the first are left out of the comparison. The
/// answer is as good as the question: two ports of one server tell whether the port matters, and
/// that equal mappings are taken for endpoint-independent although another address might get
/// another one; two addresses alone, with differing mappings, tell no more than that the address
/// matters. With one observation the mapping behaviour is known only if nothing was translated.
#[must_use]
pub fn classify(observations: &[Observation]) -> NatReport {
    let Some(first) = observations.first() else {
        return NatReport::default();
    };
    let same_base: Vec<&Observation> = observations
        .iter()
        .filter(|observation| observation.local == first.local)
        .collect();
    NatReport {
        mapping: mapping(&same_base),
        ports: are_preserved(observations).then_some(PortAssignment::Preserved),
        ..NatReport::default()
    }
}

/// Tells whether the first connection from each local address kept its port. A further one may
/// have got another, as the mapping towards the first destination had the port already.
fn are_preserved(observations: &[Observation]) -> bool {
    let mut first_of_each: Vec<&Observation> = Vec::new();
    for observation in observations {
        if first_of_each.iter().all(|it| it.local != observation.local) {
            first_of_each.push(observation);
        }
    }
    first_of_each
        .iter()
        .all(|seen| seen.mapped.port() == seen.local.port())
}

fn mapping(observations: &[&Observation]) -> Option<NatMapping> {
    let mut compared = false;
    let mut depends = None;
    for (index, one) in observations.iter().enumerate() {
        for other in &observations[index + 1..] {
            if one.server == other.server {
                continue;
            }
            compared = true;
            if one.mapped == other.mapped {
                continue;
            }
            // The stronger finding stays, whatever the order.
            depends = Some(if one.server.ip() == other.server.ip() {
                NatMapping::AddressAndPortDependent
            } else {
                depends.unwrap_or(NatMapping::AddressDependent)
            });
        }
    }
    let untranslated = observations.iter().all(|seen| seen.mapped == seen.local);
    let independent = (compared || untranslated).then_some(NatMapping::EndpointIndependent);
    depends.or(independent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(server: ([u8; 4], u16), mapped_port: u16) -> Observation {
        Observation {
            local: ([192, 168, 1, 2], 40_000).into(),
            server: server.into(),
            mapped: ([203, 0, 113, 7], mapped_port).into(),
        }
    }

    #[test]
    fn observations_lead_to_the_mapping_behaviour() {
        use NatMapping::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
        const A1: ([u8; 4], u16) = ([198, 51, 100, 1], 3478);
        const A2: ([u8; 4], u16) = ([198, 51, 100, 1], 3479);
        const B1: ([u8; 4], u16) = ([198, 51, 100, 2], 3478);

        for (observations, expected) in [
            (vec![], None),
            (vec![seen(A1, 5)], None),
            (vec![seen(A1, 5), seen(A1, 6)], None),
            (vec![seen(A1, 5), seen(A2, 5)], Some(EndpointIndependent)),
            (
                vec![seen(A1, 5), seen(A2, 6)],
                Some(AddressAndPortDependent),
            ),
            (vec![seen(A1, 5), seen(B1, 6)], Some(AddressDependent)),
            (
                vec![seen(A1, 5), seen(A2, 5), seen(B1, 6)],
                Some(AddressDependent),
            ),
            (
                vec![seen(B1, 7), seen(A1, 5), seen(A2, 6)],
                Some(AddressAndPortDependent),
            ),
        ] {
            assert_eq!(
                classify(&observations).mapping,
                expected,
                "{observations:?}"
            );
        }
    }

    #[test]
    fn ports_are_preserved_if_the_first_of_each_local_port_is() {
        let server = ([198, 51, 100, 1], 3478);
        let other = ([198, 51, 100, 1], 3479);
        let preserved = Some(PortAssignment::Preserved);
        assert_eq!(classify(&[]).ports, None);
        assert_eq!(classify(&[seen(server, 40_000)]).ports, preserved);
        let both = [seen(server, 40_000), seen(other, 40_001)];
        assert_eq!(classify(&both).ports, preserved);
        assert_eq!(classify(&[seen(server, 40_001)]).ports, None);
    }

    #[test]
    fn an_untranslated_address_needs_no_second_opinion() {
        let local = ([203, 0, 113, 7], 40_000).into();
        let observation = Observation {
            local,
            server: ([198, 51, 100, 1], 3478).into(),
            mapped: local,
        };
        assert_eq!(
            classify(&[observation]),
            NatReport {
                mapping: Some(NatMapping::EndpointIndependent),
                ports: Some(PortAssignment::Preserved),
                ..NatReport::default()
            }
        );
    }
}
