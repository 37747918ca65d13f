//! The limits and times of an agent.

use std::time::Duration;

/// How long the agent waits for what.
///
/// A path may be longer than the defaults assume, so each time here is a least value: the doc
/// comment of a field says to which multiple of the peers' round-trip time it is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PunchConfig {
    /// For how long new attempts are made; at least 6 round-trip times.
    ///
    /// Default: 4 s. The two sides may start 1.5 s apart, and the kernel repeats a lost SYN after
    /// 1 s and 2 s. Attempts that are alive then still get their [`attempt_min`] and their
    /// verification.
    ///
    /// [`attempt_min`]: Self::attempt_min
    pub round_timeout: Duration,
    /// How long an attempt that hears nothing is left alone; at least 4 round-trip times.
    ///
    /// Default: 3 s. An attempt that is ended sooner resets the connection that was just being
    /// made, and its NAT lets nothing through on the same addresses for minutes.
    pub attempt_min: Duration,
    /// When the spare punch port comes in; at least 1.5 round-trip times.
    ///
    /// Default: 100 ms. When nothing is lost the first port is open after one round trip, so the
    /// spare one stays unused; the kernel itself would repeat a lost SYN only after 1 s.
    pub hedge: Duration,
    /// How long the verification of an open connection may take; at least 6 round-trip times.
    ///
    /// Default: 3 s. The handshake takes two round trips; the rest is for lost packets. The
    /// controlled side, which waits for the nomination besides, allows three times as much.
    pub verify_timeout: Duration,
    /// How long the controlling side lets one verification run before it begins the next; at
    /// least 2 round-trip times.
    ///
    /// Default: 250 ms. Longer than a handshake on most paths, so that a second one is rare.
    pub verify_stagger: Duration,
    /// When the controlling side gives up if a NAT is known to use another external port for each
    /// destination and nothing has opened; at least 6 round-trip times.
    ///
    /// Default: 2.5 s. The side behind that NAT can still reach a peer that does not filter; that
    /// takes one round trip, or 1 s more when its SYNs were lost or it started late.
    pub hopeless_after: Duration,
    /// When the controlling side gives up if every port was predicted, or all of small ranges
    /// tried, or none can be guessed on either side, and nothing has opened; at least 6 round-trip
    /// times.
    ///
    /// Default: 1.25 s. A lost SYN has been repeated by then. Somebody else behind the same NAT may
    /// have got the ports that were predicted, and another round is the remedy for that. A range
    /// that was used up stays so for minutes.
    pub mispredicted_after: Duration,
    /// When the controlling side gives up if both reports say that no port can be guessed and
    /// nobody is let in unasked, whatever else they do not know; at least 4 round-trip times.
    ///
    /// Default: 600 ms. Nothing is expected to open any more; the plain pairs with their hedges
    /// have been tried by then, in case a report is wrong.
    pub impossible_after: Duration,
    /// The most SYNs that a round sends to addresses that can be reached from anywhere, not
    /// counting the kernel's own repetitions; half as many go to others besides.
    ///
    /// Default: 200. Two refusing NATs 80 ms apart need fewer than 10, and 20 for each second
    /// that the two sides start apart; beyond 200 it looks like a scan to whoever counts.
    pub max_syns: u32,
    /// The most SYNs to random ports, in addition to `max_syns`, unless there are more ports to
    /// fill: each of these gets one.
    ///
    /// Default: 1,280. Two batches of 640, or one and as many redials; together they leave not one
    /// of 100,000 guesses without a match, and as many flows as a carrier NAT gives a subscriber
    /// are not used up for long.
    pub max_guess_syns: u32,
    /// The most connections between guessed ports that are open or attempted at a time.
    ///
    /// Default: 3,200, all ports of the largest range that is filled; other guesses are two batches
    /// of 640. Whoever has fewer sockets to spare meets the peer less often: with 320 holes among
    /// all ports nine times in ten, and with none not at all.
    pub max_guesses: u32,
    /// What the ports are drawn with at which holes are opened for a peer whose ports are random;
    /// anew for each round if `None`.
    ///
    /// The same for all rounds with a peer for as long as the holes stay open is best, and another
    /// seed afterwards: NATs remember holes for minutes, and a SYN that comes through one whose
    /// socket is closed leads nowhere, and spoils it for a new socket in some NATs. Default:
    /// `None`.
    pub hole_seed: Option<[u8; 32]>,
}

impl Default for PunchConfig {
    fn default() -> Self {
        Self {
            round_timeout: Duration::from_secs(4),
            attempt_min: Duration::from_secs(3),
            hedge: Duration::from_millis(100),
            verify_timeout: Duration::from_secs(3),
            verify_stagger: Duration::from_millis(250),
            hopeless_after: Duration::from_millis(2500),
            mispredicted_after: Duration::from_millis(1250),
            impossible_after: Duration::from_millis(600),
            max_syns: 200,
            max_guess_syns: 1280,
            max_guesses: 3200,
            hole_seed: None,
        }
    }
}
