//! What a schedule is: the peers, and what befalls them when. Plain data, whose text can be pasted
//! as Rust.

use std::fmt;

/// A run, as data. The same schedule is the same run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Of all that is drawn while it runs.
    pub(crate) seed: u64,
    pub(crate) peers: Vec<Peer>,
    pub(crate) steps: Vec<Step>,
}

/// A peer, which is there from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What it is behind: the head of a column of the README's table, or a preset of the lab.
    pub(crate) nat: &'static str,
    /// The delay of its access link, one way.
    pub(crate) delay_ms: u64,
    pub(crate) policy: Policy,
}

/// Who may dial a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It dials only, and registers nowhere.
    Nobody,
    Anyone,
    /// The peers whose bits are set.
    Only(u8),
}

impl Policy {
    /// Returns whether it lets a peer dial.
    pub(crate) const fn admits(self, peer: usize) -> bool {
        match self {
            Self::Nobody => false,
            Self::Anyone => true,
            Self::Only(peers) => peers >> peer & 1 == 1,
        }
    }
}

/// Something that happens, and when it begins, counted from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at_us: u64,
    pub(crate) what: What,
}

/// What happens. Times that a step takes count from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A peer dials another one, within a limit. With a patience, it drops the dial after that.
    Dial {
        from: usize,
        to: usize,
        limit_ms: u64,
        patience_ms: Option<u64>,
    },
    /// A peer's host loses its power. It is back later, with this policy.
    Crash {
        peer: usize,
        down_ms: u64,
        back: Policy,
    },
    /// A peer's program ends, with a word to the coordinator or without one, and is back later.
    Exit {
        peer: usize,
        is_polite: bool,
        down_ms: u64,
        back: Policy,
    },
    /// A peer's host has another address after a while without any.
    Move { peer: usize, gap_ms: u64 },
    /// A NAT forgets all its mappings, the outermost one of a peer or the one before it, and
    /// perhaps comes back with other addresses.
    Reboot {
        peer: usize,
        is_outermost: bool,
        moves: bool,
    },
    /// A link carries nothing.
    Cut { link: Link, for_ms: u64 },
    /// A link does this to what it carries.
    Trouble {
        link: Link,
        trouble: Trouble,
        for_ms: u64,
    },
    /// The coordinator and its STUN servers end, at once or after a word to the peers, and are back
    /// with the same keys.
    ServerRestart { is_polite: bool, down_ms: u64 },
    /// The STUN server ends, and is back later.
    StunRestart { down_ms: u64 },
    /// The server's calendar is off from now on.
    Calendar { ahead_s: i64 },
}

impl What {
    /// Returns whether a peer must be there for it.
    pub(crate) fn is_about(self, who: usize) -> bool {
        match self {
            Self::Dial { from, to, .. } => from == who || to == who,
            Self::Crash { peer, .. }
            | Self::Exit { peer, .. }
            | Self::Move { peer, .. }
            | Self::Reboot { peer, .. } => peer == who,
            Self::Cut { link, .. } | Self::Trouble { link, .. } => match link {
                Link::Server => false,
                Link::Access(peer) | Link::Inside(peer) => peer == who,
            },
            Self::ServerRestart { .. } | Self::StunRestart { .. } | Self::Calendar { .. } => false,
        }
    }
}

/// A link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Server,
    /// Between a peer's outermost box, or the peer itself, and the core.
    Access(usize),
    /// Above a peer's host.
    Inside(usize),
}

/// What a link does beside carrying packets. Probabilities are in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Loss(u8),
    /// Bursts in which nothing passes, of so many packets on average.
    Bursts(u8),
    /// A delay of up to so many milliseconds, in order.
    Jitter(u64),
    /// The same out of order.
    Reordering(u64),
    Duplicates(u8),
}

impl Schedule {
    /// Makes a schedule of its parts, as its text does.
    pub(crate) fn of(seed: u64, peers: &[Peer], steps: &[Step]) -> Self {
        Self {
            seed,
            peers: peers.to_vec(),
            steps: steps.to_vec(),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, peers, steps } = self;
        writeln!(f, "Schedule::of(\n    {seed},\n    &[")?;
        for peer in peers {
            writeln!(f, "        {peer:?},")?;
        }
        writeln!(f, "    ],\n    &[")?;
        for step in steps {
            writeln!(f, "        {step:?},")?;
        }
        write!(f, "    ],\n)")
    }
}
