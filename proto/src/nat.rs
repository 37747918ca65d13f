//! How a NAT behaves, in the words of RFC 4787 and RFC 5382.

use std::fmt;

use crate::codec::wire::{Wire, numbers, read_sized, write_sized};

/// How a NAT chooses the external address and port of a new connection (RFC 4787 section 4.1,
/// for TCP RFC 5382 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatMapping {
    /// The same for every destination.
    EndpointIndependent,
    /// Another one for each destination address.
    AddressDependent,
    /// Another one for each destination address and port.
    AddressAndPortDependent,
}
numbers!(NatMapping { 0 EndpointIndependent, 1 AddressDependent, 2 AddressAndPortDependent });

/// From where a NAT or firewall lets connections in (RFC 4787 section 5, for TCP RFC 5382
/// section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatFiltering {
    /// From anywhere, to an address and port that is in use.
    EndpointIndependent,
    /// From addresses that something was sent to; perhaps from others as well, if the STUN server
    /// had no second address to try.
    AddressDependent,
    /// From addresses and ports that something was sent to.
    AddressAndPortDependent,
}
numbers!(NatFiltering { 0 EndpointIndependent, 1 AddressDependent, 2 AddressAndPortDependent });

/// Which external port a NAT gives to a new mapping (RFC 4787 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PortAssignment {
    /// The local port. Where mappings depend on the destination, this holds for the first
    /// connection from a local port only.
    Preserved,
    /// The port given out last plus `delta`, modulo 65,536.
    Sequential {
        /// The step; a step downwards is 65,536 less than its size. Never 0.
        delta: u16,
    },
    /// Any port from `first` to `last`.
    Random {
        /// The lowest.
        first: u16,
        /// The highest.
        last: u16,
    },
}

/// What a NAT or firewall does with a SYN that it does not let in (RFC 5382 REQ-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnsolicitedSyn {
    /// It drops it without a word.
    Dropped,
    /// It answers with a RST.
    Reset,
    /// It answers with ICMP.
    Icmp,
}
numbers!(UnsolicitedSyn { 0 Dropped, 1 Reset, 2 Icmp });

impl fmt::Display for NatMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent mapping",
            Self::AddressDependent => "address-dependent mapping",
            Self::AddressAndPortDependent => "address-and-port-dependent mapping",
        })
    }
}

impl fmt::Display for NatFiltering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent filtering",
            Self::AddressDependent => "address-dependent filtering",
            Self::AddressAndPortDependent => "address-and-port-dependent filtering",
        })
    }
}

impl fmt::Display for PortAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Preserved => f.write_str("ports preserved"),
            Self::Sequential { delta } => {
                let step = if delta < 0x8000 {
                    i32::from(delta)
                } else {
                    i32::from(delta) - 0x1_0000
                };
                write!(f, "ports in steps of {step}")
            }
            Self::Random { first, last } => write!(f, "random ports from about {first} to {last}"),
        }
    }
}

impl fmt::Display for UnsolicitedSyn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "drops unsolicited SYNs",
            Self::Reset => "answers unsolicited SYNs with RST",
            Self::Icmp => "answers unsolicited SYNs with ICMP",
        })
    }
}

/// What a peer has found out about the NATs and firewalls in front of it, taken as one. `None`
/// means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct NatReport {
    /// How mappings are chosen, as far as the destinations asked so far tell.
    pub mapping: Option<NatMapping>,
    /// Which external port a new mapping gets.
    pub ports: Option<PortAssignment>,
    /// From where connections are let in.
    pub filtering: Option<NatFiltering>,
    /// What happens to a SYN that is not let in.
    pub unsolicited: Option<UnsolicitedSyn>,
    /// Whether a connection from inside to an external endpoint of the NAT comes back in
    /// (RFC 5382 REQ-8).
    pub hairpinning: Option<bool>,
}

/// With its length in front.
impl Wire for PortAssignment {
    fn write(&self, out: &mut Vec<u8>) {
        write_sized(out, |out| {
            let numbers: Vec<u16> = match *self {
                Self::Preserved => vec![0],
                Self::Sequential { delta } => vec![1, delta],
                Self::Random { first, last } => vec![2, first, last],
            };
            numbers.iter().for_each(|number| number.write(out));
        });
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Self::read_known(bytes)?
    }

    fn read_known(bytes: &mut &[u8]) -> Option<Option<Self>> {
        read_sized(bytes, |fields| {
            let number = u16::read(fields)?;
            let mut port = || u16::read(fields);
            Some(match number {
                0 => Self::Preserved,
                1 => Self::Sequential { delta: port()? },
                2 => Self::Random {
                    first: port()?,
                    last: port()?,
                },
                _ => return None,
            })
        })
    }
}

/// With its length in front. What is of an unknown kind counts as unknown.
impl Wire for NatReport {
    fn write(&self, out: &mut Vec<u8>) {
        write_sized(out, |out| {
            self.mapping.write(out);
            self.ports.write(out);
            self.filtering.write(out);
            self.unsolicited.write(out);
            self.hairpinning.write(out);
        });
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let report = read_sized(bytes, |fields| {
            Some(Self {
                mapping: Wire::read_known(fields)??,
                ports: Wire::read_known(fields)??,
                filtering: Wire::read_known(fields)??,
                unsolicited: Wire::read_known(fields)??,
                hairpinning: Wire::read(fields)?,
            })
        });
        report.map(Option::unwrap_or_default)
    }
}

impl PortAssignment {
    /// Tells whether ports can be given out like that: a step is not 0, a range not reversed.
    #[must_use]
    pub const fn is_well_formed(&self) -> bool {
        match *self {
            Self::Preserved => true,
            Self::Sequential { delta } => delta != 0,
            Self::Random { first, last } => first <= last,
        }
    }
}

impl NatReport {
    /// Returns the report without what no NAT does, which then counts as unknown.
    #[must_use]
    pub fn well_formed(self) -> Self {
        Self {
            ports: self.ports.filter(PortAssignment::is_well_formed),
            ..self
        }
    }

    /// Tells whether external ports are known to equal the local ones.
    #[must_use]
    pub const fn preserves_ports(&self) -> bool {
        matches!(self.ports, Some(PortAssignment::Preserved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_nat_does_counts_as_unknown() {
        use PortAssignment::{Preserved, Random, Sequential};
        let kept = |ports| {
            let report = NatReport {
                ports: Some(ports),
                hairpinning: Some(true),
                ..NatReport::default()
            };
            let well_formed = report.well_formed();
            assert_eq!(well_formed.hairpinning, Some(true), "the rest stays");
            well_formed.ports
        };
        for good in [
            Preserved,
            Sequential { delta: 65_535 },
            Random { first: 7, last: 7 },
        ] {
            assert_eq!(kept(good), Some(good));
        }
        for bad in [Sequential { delta: 0 }, Random { first: 8, last: 7 }] {
            assert_eq!(kept(bad), None);
        }
    }
}
