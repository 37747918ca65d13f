//! Address families.

use std::net::IpAddr;

/// Some of the two families of IP addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Families {
    ipv4: bool,
    ipv6: bool,
}

impl Families {
    /// Tells whether IPv4, or else IPv6, is among them.
    pub(crate) const fn has(self, is_ipv4: bool) -> bool {
        if is_ipv4 { self.ipv4 } else { self.ipv6 }
    }

    /// Adds IPv4, or else IPv6.
    pub(crate) const fn add(&mut self, is_ipv4: bool) {
        if is_ipv4 {
            self.ipv4 = true;
        } else {
            self.ipv6 = true;
        }
    }

    /// Tells whether neither these nor the others are none, and they have none in common.
    pub(crate) const fn are_apart_from(self, others: Self) -> bool {
        matches!(
            (self.ipv4, self.ipv6, others.ipv4, others.ipv6),
            (true, false, false, true) | (false, true, true, false)
        )
    }
}

impl FromIterator<IpAddr> for Families {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        let mut families = Self::default();
        for address in addresses {
            families.add(address.is_ipv4());
        }
        families
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn only_one_family_and_the_other_are_apart() {
        let of = |addresses: &[&str]| -> Families {
            addresses
                .iter()
                .map(|it| it.parse::<IpAddr>().unwrap())
                .collect()
        };
        let [none, v4, v6] = [of(&[]), of(&["192.0.2.1"]), of(&["2001:db8::1"])];
        let both = of(&["192.0.2.1", "2001:db8::1"]);
        assert!(v4.are_apart_from(v6) && v6.are_apart_from(v4));
        for all in [none, v4, v6, both] {
            assert!(!all.are_apart_from(all) && !all.are_apart_from(both));
            assert!(!all.are_apart_from(none) && !none.are_apart_from(all));
        }
        assert!(both.has(true) && both.has(false) && !v6.has(true) && !v4.has(false));
    }
}
