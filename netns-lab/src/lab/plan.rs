//! The address plan. Pure: from a description to addresses.
//!
//! Host number n has
//! - 203.0.113.n as public address, its own or that of its outermost NAT;
//! - 192.168.n.2 behind a NAT, and 10.n.m.2 for the NATs behind NATs;
//! - 198.51.100.n for the box itself where it translates nothing;
//! - 2001:db8:n::2, whatever is in front of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::spec::NatSpec;

/// The addresses of a host and of the boxes in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPlan {
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Ipv6Addr,
    pub(crate) external_ipv4: Ipv4Addr,
    /// Innermost first.
    pub(crate) boxes: Vec<BoxPlan>,
    /// IPv4 addresses that the core routes to this host's link.
    pub(crate) routed: Vec<IpAddr>,
}

/// The addresses of one NAT or firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoxPlan {
    pub(crate) outside_ipv4: Ipv4Addr,
    pub(crate) outside_ipv6: Ipv6Addr,
    /// IPv4 addresses that are found on the inside.
    pub(crate) inside: Vec<Ipv4Addr>,
}

/// The next hop of every box and host, on every link: no address needs to
/// exist there, since frames go to the other end of the link anyway.
pub(crate) const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The same for IPv6.
pub(crate) const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// Length of the IPv6 prefix on the inside of every box: all that belongs to the host.
pub(crate) const IPV6_PREFIX: u8 = 48;

impl HostPlan {
    /// Plans the addresses of host `number`, from 1 on.
    pub(crate) fn new(number: u8, nats: &[NatSpec]) -> Self {
        let public = Ipv4Addr::new(203, 0, 113, number);
        let mut boxes = Vec::with_capacity(nats.len());
        // From the core inwards: `reachable` are the addresses that the
        // network outside knows for what is inside.
        let mut reachable = vec![public];
        let mut holder = public;
        for (layer, nat) in nats.iter().enumerate().rev() {
            let own;
            if nat.translates() {
                own = holder;
                holder = private(number, layer);
                reachable = vec![holder];
            } else {
                own = firewall(number, layer, holder == public);
            }
            // What the boxes further in answer for is added below.
            boxes.push(BoxPlan {
                outside_ipv4: own,
                outside_ipv6: ipv6(number, layer as u16 + 1, 1),
                inside: reachable.clone(),
            });
        }
        boxes.reverse();
        let mut routed = vec![IpAddr::V4(public)];
        add_firewalls(&mut boxes, nats, &mut routed);
        routed.push(ipv6(number, 0, 2).into());
        Self {
            ipv4: holder,
            ipv6: ipv6(number, 0, 2),
            external_ipv4: public,
            boxes,
            routed,
        }
    }
}

/// Makes firewalls' own addresses known to the boxes outside of them, up to
/// the next that translates.
fn add_firewalls(boxes: &mut [BoxPlan], nats: &[NatSpec], routed: &mut Vec<IpAddr>) {
    for inner in 0..boxes.len() {
        if nats[inner].translates() {
            continue;
        }
        let own = boxes[inner].outside_ipv4;
        let mut outer = inner + 1;
        while outer < boxes.len() {
            boxes[outer].inside.push(own);
            if nats[outer].translates() {
                break;
            }
            outer += 1;
        }
        if outer == boxes.len() {
            routed.push(own.into());
        }
    }
}

/// The address on the inside of the box at `layer`.
const fn private(number: u8, layer: usize) -> Ipv4Addr {
    if layer == 0 {
        Ipv4Addr::new(192, 168, number, 2)
    } else {
        Ipv4Addr::new(10, number, layer as u8, 2)
    }
}

/// The own address of a box that translates nothing.
const fn firewall(number: u8, layer: usize, is_public: bool) -> Ipv4Addr {
    match (is_public, layer) {
        (true, 0) => Ipv4Addr::new(198, 51, 100, number),
        (true, _) => Ipv4Addr::new(198, 18, layer as u8, number),
        (false, _) => Ipv4Addr::new(10, number, 100 + layer as u8, 2),
    }
}

const fn ipv6(number: u8, subnet: u16, interface: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, number as u16, subnet, 0, 0, 0, interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().expect("the test gives an address")
    }

    #[test]
    fn a_public_host_has_the_public_address_itself() {
        let plan = HostPlan::new(3, &[]);
        assert_eq!(plan.ipv4, v4("203.0.113.3"));
        assert_eq!(plan.external_ipv4, plan.ipv4);
        assert_eq!(plan.routed, [IpAddr::V4(plan.ipv4), IpAddr::V6(plan.ipv6)]);
    }

    #[test]
    fn two_nats_put_a_private_network_between_them() {
        let nat = NatSpec::port_preserving();
        let plan = HostPlan::new(1, &[nat, nat]);
        assert_eq!(plan.ipv4, v4("192.168.1.2"));
        assert_eq!(plan.external_ipv4, v4("203.0.113.1"));
        assert_eq!(plan.boxes[0].outside_ipv4, v4("10.1.1.2"));
        assert_eq!(plan.boxes[0].inside, [v4("192.168.1.2")]);
        assert_eq!(plan.boxes[1].outside_ipv4, v4("203.0.113.1"));
        assert_eq!(plan.boxes[1].inside, [v4("10.1.1.2")]);
    }

    #[test]
    fn a_firewall_has_an_address_of_its_own() {
        let plan = HostPlan::new(1, &[NatSpec::firewall()]);
        assert_eq!(plan.ipv4, v4("203.0.113.1"));
        assert_eq!(plan.boxes[0].outside_ipv4, v4("198.51.100.1"));
        assert_eq!(plan.boxes[0].inside, [v4("203.0.113.1")]);
        assert!(plan.routed.contains(&IpAddr::V4(v4("198.51.100.1"))));
    }

    #[test]
    fn a_firewall_behind_a_nat_is_known_to_the_nat() {
        let plan = HostPlan::new(1, &[NatSpec::firewall(), NatSpec::port_preserving()]);
        assert_eq!(plan.ipv4, v4("10.1.1.2"));
        assert_eq!(plan.boxes[1].inside, [v4("10.1.1.2"), v4("10.1.100.2")]);
        assert!(!plan.routed.contains(&IpAddr::V4(v4("10.1.100.2"))));
    }
}
