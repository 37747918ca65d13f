//! The description of a link, and what is wrong with one.

use std::time::Duration;

/// The MTU that every link must have for IPv4 (RFC 791 section 3.2).
const LEAST_MTU: u16 = 68;

/// The behaviour of a link, the same in both directions.
///
/// Each direction has its own queue and its own randomness. A knob that is turned changes nothing
/// for the packets that it spares, except that fewer packets wait in the queue where it keeps some
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkSpec {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) loss: f64,
    pub(super) reorders: bool,
    pub(super) bursts: Option<BurstLoss>,
    pub(super) duplication: f64,
    pub(super) rate: Option<Rate>,
    pub(super) mtu: Option<u16>,
    /// Whether the sender of a packet longer than that is told.
    pub(super) tells: bool,
    pub(super) outage: Option<(Duration, Duration)>,
}

/// Loss that comes in bursts: the model of Gilbert and Elliott, with a good state that loses
/// nothing.
///
/// Each packet may change the state, and then meets it. Of many packets
/// `loss * enter / (enter + leave)` are lost, in bursts of `1 / leave` on average if `loss` is 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstLoss {
    /// The probability that a packet in the good state begins the bad one.
    pub enter: f64,
    /// The probability that a packet in the bad state ends it.
    pub leave: f64,
    /// The probability that a packet in the bad state is lost.
    pub loss: f64,
}

/// How fast a link is, and how much may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) bits_per_second: u64,
    pub(super) queue_bytes: u32,
}

/// Why a link cannot be built as described.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A probability is not one.
    #[error("the probability of {what} is {value}, which is not in 0..=1")]
    Probability {
        /// What happens with this probability.
        what: &'static str,
        /// The value asked for.
        value: f64,
    },
    /// A rate of zero never sends a packet.
    #[error("a rate of 0 bit/s never sends a packet; an outage or a loss of 1 says it better")]
    NoRate,
    /// An MTU below the least one of IPv4 (RFC 791 section 3.2).
    #[error("an MTU of {mtu} bytes is less than the 68 that every link must carry (RFC 791)")]
    MtuTooSmall {
        /// The MTU asked for, in bytes.
        mtu: u16,
    },
    /// An outage ends before it begins.
    #[error("the outage begins at {from:?} and ends before that, at {until:?}")]
    OutageEndsFirst {
        /// When it begins.
        from: Duration,
        /// When it ends.
        until: Duration,
    },
}

impl LinkSpec {
    /// Returns a link that delays every packet by `one_way` and loses none.
    pub const fn delay(one_way: Duration) -> Self {
        Self {
            delay: one_way,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorders: false,
            bursts: None,
            duplication: 0.0,
            rate: None,
            mtu: None,
            tells: false,
            outage: None,
        }
    }

    /// Returns what it takes one way at least.
    pub(crate) const fn one_way(&self) -> Duration {
        self.delay
    }

    /// Adds a random delay between zero and `most` to every packet.
    #[must_use]
    pub const fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// Loses every packet with this probability, independently of the others.
    ///
    /// A lost packet has taken its time in the queue of a link with a rate.
    #[must_use]
    pub const fn loss(mut self, probability: f64) -> Self {
        self.loss = probability;
        self
    }

    /// Lets jitter change the order of packets, which a single queue would not.
    #[must_use]
    pub const fn reordering(mut self) -> Self {
        self.reorders = true;
        self
    }

    /// Loses packets in bursts as well.
    #[must_use]
    pub const fn burst_loss(mut self, bursts: BurstLoss) -> Self {
        self.bursts = Some(bursts);
        self
    }

    /// Delivers every packet that is not lost a second time with this probability, independently of
    /// the others.
    ///
    /// The copy is made behind the queue and takes no rate. It leaves right behind the packet, or
    /// with a jitter of its own on a link that reorders.
    #[must_use]
    pub const fn duplicating(mut self, probability: f64) -> Self {
        self.duplication = probability;
        self
    }

    /// Sends packets one after the other at this rate, which counts IP packets without the headers
    /// of the link.
    ///
    /// A packet that would make more than `queue_bytes` wait, itself and the rest of the one being
    /// sent included, is lost (tail drop). A packet that meets an idle link is always sent. The
    /// time in the queue comes before the delay.
    #[must_use]
    pub const fn rate(mut self, bits_per_second: u64, queue_bytes: u32) -> Self {
        self.rate = Some(Rate {
            bits_per_second,
            queue_bytes,
        });
        self
    }

    /// Carries no IP packet longer than this.
    ///
    /// A longer packet is lost, and its sender is told by an ICMP error (RFC 1191, RFC 8201) from
    /// where the link begins. IPv6 wants at least 1280 (RFC 8200 section 5), which is not checked.
    #[must_use]
    pub const fn mtu(mut self, bytes: u16) -> Self {
        self.mtu = Some(bytes);
        self.tells = true;
        self
    }

    /// Carries no IP packet longer than this, and tells nobody: a black hole (RFC 2923 section
    /// 2.1).
    #[must_use]
    pub const fn silent_mtu(mut self, bytes: u16) -> Self {
        self.mtu = Some(bytes);
        self.tells = false;
        self
    }

    /// Loses every packet that enters at `from` or later and before `until`, counted from the start
    /// of the lab. What has entered is still carried.
    #[must_use]
    pub const fn outage(mut self, from: Duration, until: Duration) -> Self {
        self.outage = Some((from, until));
        self
    }

    /// Tells whether such a link can be built.
    ///
    /// # Errors
    ///
    /// A [`LinkError`] that names the first thing that is wrong.
    pub fn check(&self) -> Result<(), LinkError> {
        let bursts = self.bursts.unwrap_or(BurstLoss::NONE);
        for (what, value) in [
            ("loss", self.loss),
            ("duplication", self.duplication),
            ("entering a burst of loss", bursts.enter),
            ("leaving a burst of loss", bursts.leave),
            ("loss in a burst", bursts.loss),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(LinkError::Probability { what, value });
            }
        }
        if self.rate.is_some_and(|rate| rate.bits_per_second == 0) {
            return Err(LinkError::NoRate);
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < LEAST_MTU) {
            return Err(LinkError::MtuTooSmall { mtu });
        }
        match self.outage {
            Some((from, until)) if until < from => Err(LinkError::OutageEndsFirst { from, until }),
            _ => Ok(()),
        }
    }
}

impl BurstLoss {
    const NONE: Self = Self {
        enter: 0.0,
        leave: 0.0,
        loss: 0.0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn every_knob_within_its_limits_passes() {
        let bursts = BurstLoss {
            enter: 0.0,
            leave: 1.0,
            loss: 0.5,
        };
        let spec = LinkSpec::delay(MS).jitter(MS).loss(1.0).duplicating(1.0);
        let spec = spec.burst_loss(bursts).rate(1, 0).mtu(68).outage(MS, MS);
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(LinkSpec::default().check(), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let link = LinkSpec::default();
        let outside = |what, value| LinkError::Probability { what, value };
        let bursts = |enter, leave, loss| link.burst_loss(BurstLoss { enter, leave, loss });
        let (from, until) = (2 * MS, MS);
        for (spec, error) in [
            (link.loss(1.5), outside("loss", 1.5)),
            (link.duplicating(-0.1), outside("duplication", -0.1)),
            (
                bursts(2.0, 0.0, 0.0),
                outside("entering a burst of loss", 2.0),
            ),
            (
                bursts(0.0, 2.0, 0.0),
                outside("leaving a burst of loss", 2.0),
            ),
            (bursts(0.0, 0.0, -1.0), outside("loss in a burst", -1.0)),
            (link.rate(0, 1000), LinkError::NoRate),
            (link.mtu(67), LinkError::MtuTooSmall { mtu: 67 }),
            (
                link.outage(from, until),
                LinkError::OutageEndsFirst { from, until },
            ),
        ] {
            assert_eq!(spec.check(), Err(error));
        }
        assert!(link.loss(f64::NAN).check().is_err());
    }
}
