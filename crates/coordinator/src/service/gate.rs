use std::{collections::BTreeMap, net::IpAddr};

use super::ServiceLimits;
use crate::network::subscriber;

/// What to do with a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on with the handshake.
    Accept,
    /// Have the client show that it receives at its address.
    Retry,
    /// Send it away.
    Refuse,
}

/// Counts connections by where they come from. Pure.
#[derive(Debug)]
pub(super) struct Gate {
    limits: ServiceLimits,
    connections: usize,
    handshakes: usize,
    by_source: BTreeMap<IpAddr, usize>,
}

impl Gate {
    pub(super) const fn new(limits: ServiceLimits) -> Self {
        Self {
            limits,
            connections: 0,
            handshakes: 0,
            by_source: BTreeMap::new(),
        }
    }

    /// Decides on an attempt from `source`; `validated` tells whether the client is known to
    /// receive there.
    pub(super) fn judge(&self, source: IpAddr, validated: bool) -> Verdict {
        let limit = self.limits.max_connections_per_source;
        let from_source = self.by_source.get(&subscriber(source)).map_or(0, |&n| n);
        if self.connections >= self.limits.max_connections || from_source >= limit {
            return Verdict::Refuse;
        }
        // Forged attempts can thus take at most half of what an address may have.
        let crowded =
            self.handshakes >= self.limits.handshakes_before_retry || from_source >= limit / 2;
        if crowded && !validated {
            return Verdict::Retry;
        }
        Verdict::Accept
    }

    /// Counts an accepted attempt.
    pub(super) fn enter(&mut self, source: IpAddr) {
        self.connections += 1;
        self.handshakes += 1;
        *self.by_source.entry(subscriber(source)).or_default() += 1;
    }

    /// Counts the end of a handshake, whichever way it ended.
    pub(super) const fn handshake_ended(&mut self) {
        self.handshakes -= 1;
    }

    /// Counts the end of a connection whose handshake has ended.
    pub(super) fn leave(&mut self, source: IpAddr) {
        self.connections -= 1;
        let source = subscriber(source);
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const fn ip(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    fn gate() -> Gate {
        Gate::new(ServiceLimits {
            max_connections: 6,
            max_connections_per_source: 4,
            handshakes_before_retry: 5,
            ..ServiceLimits::default()
        })
    }

    #[test]
    fn one_address_cannot_take_everything() {
        let mut gate = gate();
        for _ in 0..2 {
            assert_eq!(gate.judge(ip(1), false), Verdict::Accept);
            gate.enter(ip(1));
        }
        assert_eq!(gate.judge(ip(1), false), Verdict::Retry, "half is taken");
        for _ in 0..2 {
            assert_eq!(gate.judge(ip(1), true), Verdict::Accept);
            gate.enter(ip(1));
        }
        assert_eq!(gate.judge(ip(1), true), Verdict::Refuse);
        assert_eq!(gate.judge(ip(2), false), Verdict::Accept);
    }

    #[test]
    fn many_handshakes_at_once_must_prove_their_address() {
        let mut gate = gate();
        for last in 1..=5 {
            gate.enter(ip(last));
        }
        assert_eq!(gate.judge(ip(6), false), Verdict::Retry);
        assert_eq!(gate.judge(ip(6), true), Verdict::Accept);
        gate.handshake_ended();
        assert_eq!(gate.judge(ip(6), false), Verdict::Accept);
        gate.enter(ip(6));
        assert_eq!(gate.judge(ip(7), true), Verdict::Refuse, "full");
    }

    #[test]
    fn nothing_remains_of_connections_that_left() {
        let mut gate = gate();
        gate.enter(ip(1));
        gate.handshake_ended();
        gate.leave(ip(1));
        assert_eq!((gate.connections, gate.handshakes), (0, 0));
        assert!(gate.by_source.is_empty());
    }
}
