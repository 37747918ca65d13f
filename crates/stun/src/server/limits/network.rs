//! The networks that an address is in, by which slots and answers are shared out.

use std::net::{IpAddr, Ipv6Addr};

use p2pconnect_proto::represented;

use super::SITE_SHARES;

/// One customer, or one site: an IPv4 address is both; of IPv6, whoever has one address has its
/// whole /64, and a site is given a /48 at most (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network {
    first: IpAddr,
    bits: u32,
}

/// The prefix of one IPv6 customer.
const CUSTOMER: u32 = 64;

/// The prefix of one IPv6 site.
const SITE: u32 = 48;

impl Network {
    /// Returns the networks that an address counts in, of which one is a site.
    pub(super) fn all_of(ip: IpAddr) -> Vec<Self> {
        match represented(ip) {
            v4 @ IpAddr::V4(_) => vec![Self {
                first: v4,
                bits: 32,
            }],
            IpAddr::V6(v6) => {
                let cut = |bits: u32| Self {
                    first: Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> bits)).into(),
                    bits,
                };
                vec![cut(CUSTOMER), cut(SITE)]
            }
        }
    }

    pub(super) const fn is_site(self) -> bool {
        self.bits != CUSTOMER
    }

    /// Returns how many addresses' worth it gets.
    pub(super) const fn shares(self) -> u32 {
        match self.bits {
            SITE => SITE_SHARES,
            _ => 1,
        }
    }
}
