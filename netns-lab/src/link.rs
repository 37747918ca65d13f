//! What a link does to packets: queue, delay, jitter, loss, duplication, MTU, outage. Pure: no
//! socket, no clock.

mod queue;
mod spec;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use queue::Queue;

pub use spec::{BurstLoss, LinkError, LinkSpec};

/// One direction of a link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    spec: LinkSpec,
    up: bool,
    queue: Option<Queue>,
    random: ChaCha8Rng,
    /// Of its own, so that bursts change nothing for the packets they spare.
    burst_random: ChaCha8Rng,
    in_burst: bool,
    /// Of its own, so that copies change nothing for the packets.
    copy_random: ChaCha8Rng,
    last_exit: Duration,
}

/// What becomes of a packet that enters a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Crossing {
    /// It does not come out.
    Lost(Loss),
    /// It leaves the link.
    Exits {
        /// When it leaves.
        at: Duration,
        /// When a copy of it leaves, if the link makes one: not before the packet unless the link
        /// reorders.
        duplicate: Option<Duration>,
    },
}

/// Why a packet does not come out of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// By chance.
    Random,
    /// In a burst of loss.
    Burst,
    /// The queue had no room for it.
    QueueFull,
    /// The link was down.
    Down,
    /// It is longer than the MTU.
    TooLong {
        /// The longest IP packet that the link carries, in bytes.
        mtu: u16,
    },
    /// More is under way than the lab keeps in memory.
    Overflow,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Random => "lost on the link",
            Self::Burst => "lost on the link (burst)",
            Self::QueueFull => "lost on the link (queue full)",
            Self::Down => "lost on the link (down)",
            Self::TooLong { mtu } => {
                return write!(f, "lost on the link (longer than its MTU of {mtu})");
            }
            Self::Overflow => "dropped by the core: too much under way",
        };
        f.write_str(text)
    }
}

impl Link {
    /// Makes one direction of a link; the seed decides all its randomness.
    pub(crate) fn new(spec: LinkSpec, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let stream = |number| {
            let mut own = random.clone();
            own.set_stream(number);
            own
        };
        let (burst_random, copy_random) = (stream(1), stream(2));
        Self {
            spec,
            up: true,
            queue: spec.rate.map(Queue::new),
            random,
            burst_random,
            in_burst: false,
            copy_random,
            last_exit: Duration::ZERO,
        }
    }

    /// Returns the MTU that the sender of a packet which was too long is told.
    pub(crate) const fn told_mtu(&self) -> Option<u16> {
        if self.spec.tells { self.spec.mtu } else { None }
    }

    /// Gives the link another behaviour. What has entered it leaves as it would have, and what
    /// waits in the queue of a rate makes nothing wait that enters from now on.
    pub(crate) fn set_spec(&mut self, spec: LinkSpec) {
        if self.spec.rate != spec.rate {
            self.queue = spec.rate.map(Queue::new);
        }
        self.in_burst &= spec.bursts.is_some();
        self.spec = spec;
    }

    /// Takes the link up or down. What has entered it is still carried.
    pub(crate) const fn set_up(&mut self, up: bool) {
        self.up = up;
    }

    /// Carries an IP packet of this length that enters at `now`.
    ///
    /// Times count from any fixed moment and must not go back.
    pub(crate) fn carry(&mut self, now: Duration, bytes: usize) -> Crossing {
        // All draws are always made: a packet's fate must not depend on whether another knob of the
        // link is turned.
        let lost = self.random.random::<f64>() < self.spec.loss;
        let jitter = self.spec.jitter.mul_f64(unit(self.random.next_u32()));
        let lost_in_burst = self.loses_in_burst();
        let copied = self.copy_random.random::<f64>() < self.spec.duplication;
        let copy_jitter = self.spec.jitter.mul_f64(unit(self.copy_random.next_u32()));
        let sent = match self.send(now, bytes) {
            Ok(sent) => sent,
            Err(loss) => return Crossing::Lost(loss),
        };
        if lost {
            return Crossing::Lost(Loss::Random);
        }
        if lost_in_burst {
            return Crossing::Lost(Loss::Burst);
        }
        let mut at = sent.saturating_add(jitter);
        let mut copy_at = sent.saturating_add(copy_jitter);
        if !self.spec.reorders {
            self.last_exit = self.last_exit.max(at);
            at = self.last_exit;
            copy_at = at;
        }
        Crossing::Exits {
            at,
            duplicate: copied.then_some(copy_at),
        }
    }

    /// Puts a packet on the wire, and returns when it comes out without jitter.
    fn send(&mut self, now: Duration, bytes: usize) -> Result<Duration, Loss> {
        let in_outage = |(from, until)| (from..until).contains(&now);
        if !self.up || self.spec.outage.is_some_and(in_outage) {
            return Err(Loss::Down);
        }
        if let Some(mtu) = self.spec.mtu.filter(|mtu| bytes > usize::from(*mtu)) {
            return Err(Loss::TooLong { mtu });
        }
        let queued = match &mut self.queue {
            None => Duration::ZERO,
            Some(queue) => queue.take(now, bytes).ok_or(Loss::QueueFull)?,
        };
        Ok(now.saturating_add(queued).saturating_add(self.spec.delay))
    }

    /// Takes the burst model a packet further, and returns whether it is lost.
    fn loses_in_burst(&mut self) -> bool {
        let Some(bursts) = self.spec.bursts else {
            return false;
        };
        let change = if self.in_burst {
            bursts.leave
        } else {
            bursts.enter
        };
        self.in_burst ^= self.burst_random.random::<f64>() < change;
        let lost = self.burst_random.random::<f64>() < bursts.loss;
        self.in_burst && lost
    }
}

/// Maps a random number to 0..1.
fn unit(number: u32) -> f64 {
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}
