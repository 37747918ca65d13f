//! How much a registry does for whom.

use std::time::Duration;

/// How much a registry does for whom.
///
/// The defaults suit a public coordinator for some thousands of peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most registered peers.
    ///
    /// By default 16,384, as many as there may be connections: these are shared among networks, and
    /// fewer registrations than connections would be first come, first served. At most 35 KiB each,
    /// for peers that allow a thousand others, and a few hundred bytes for most.
    pub max_peers: usize,
    /// The most introductions that a peer is busy with at a time, counted apart for those that
    /// it asked for and those that others asked for.
    ///
    /// By default 32: most are over after two round trips, so this is hundreds in a second, while
    /// the few that fail cannot take up more of the flows that a NAT gives one subscriber.
    pub max_in_flight: usize,
    /// For how long an introduction keeps its peers busy.
    ///
    /// By default 5 s: an attempt lasts 3 s or more unless it succeeds sooner.
    pub in_flight: Duration,
    /// For how long the two sides of an introduction can send each other bytes, and may wait for
    /// each other.
    ///
    /// By default 20 s: a dial ends within 15 s, and its last word is that it has been given up.
    pub relaying: Duration,
    /// For how long an introduction serves a dial the other way round as well.
    ///
    /// By default 2 s: within that most are over, and a later dial is better served by a new one
    /// than by one that gets nowhere.
    pub crossing: Duration,
    /// The most dials of a peer at once.
    ///
    /// By default 256: a program that reaches for all its peers as it starts.
    pub dial_burst_per_peer: u32,
    /// The time after which a peer may dial once more.
    ///
    /// By default 100 ms: ten in a second for as long as it likes.
    pub dial_interval_per_peer: Duration,
    /// The most dials at once from one IPv4 address or IPv6 /64; four times as many from an IPv6
    /// /48.
    ///
    /// By default 2,048, since a carrier's NAT puts many subscribers behind one address.
    pub dial_burst_per_source: u32,
    /// The time after which one more dial from one IPv4 address or IPv6 /64 is possible.
    ///
    /// By default 12.5 ms, eight times what one peer may do.
    pub dial_interval_per_source: Duration,
    /// The most registrations of a peer at once.
    ///
    /// By default 64: where a NAT counts, each dial moves the next port on, which is to be told
    /// before the next dial. A dozen dials at once take 46.
    pub register_burst: u32,
    /// The time after which a peer may register once more.
    ///
    /// By default 250 ms: twice for each of the dials that follow each other, of which two fit into
    /// a second.
    pub register_interval: Duration,
    /// The most bytes of handshakes that are passed on at once for one IPv4 address or IPv6 /64;
    /// four times as many for an IPv6 /48.
    ///
    /// By default 2 MiB: the 1 KiB of each of the dials that are possible at once.
    pub relay_burst_per_source: u32,
    /// The time after which one more byte is passed on.
    ///
    /// By default 7.63 µs, which is 128 KiB a second: the 1 KiB of each of the 80 dials that are
    /// possible in a second, and half as much again. As a way for anything else it is of no use.
    pub relay_interval_per_source: Duration,
    /// How many connections may begin at once to register a peer, or to dial, before peers have to
    /// solve a puzzle first.
    ///
    /// By default 1,024: an attacker with many addresses and ids pays for each id, and honest peers
    /// pay when all of them come back at once after an outage.
    pub newcomer_burst: u32,
    /// The time after which one more may without a puzzle.
    ///
    /// By default 15.6 ms: 64 in a second.
    pub newcomer_interval: Duration,
    /// How hard the puzzles are: 2 to the power of this many hashes, at most 24.
    ///
    /// By default 18: 50 ms of a processor, a hundred times what the handshake costs.
    pub puzzle_bits: u8,
    /// What may be on the bulletin board.
    pub board: BoardLimits,
}

/// How much there may be on a bulletin board, and how often it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardLimits {
    /// The most entries, and the most watches, in all. Without any there is no board.
    ///
    /// By default 65,536: four topics of each peer. An entry takes less than 1 KiB.
    pub max_entries: usize,
    /// The most entries, and the most watches, of one IPv4 address or IPv6 /48.
    ///
    /// By default 1,024, since a carrier's NAT puts many subscribers behind one address.
    pub max_entries_per_network: usize,
    /// The most topics that a peer may announce, and as many that it may watch, over one
    /// connection.
    ///
    /// By default 32.
    pub max_topics_per_peer: usize,
    /// The most members of one topic.
    ///
    /// By default 4,096: each of them is looked at for a page, which takes some 100 µs then.
    pub max_members: usize,
    /// The most watchers of one topic, all of whom are told of each change.
    ///
    /// By default 1,024.
    pub max_watchers: usize,
    /// The most members on one page, 256 at most.
    ///
    /// By default 64: as many peers as a program may want to know at once, in 3 KiB.
    pub max_page: usize,
    /// How often a peer may announce, watch or look up at once. A network may do so eight times as
    /// often.
    ///
    /// By default 128: all its topics after a reconnect, and some pages.
    pub burst_per_peer: u32,
    /// The time after which a peer may do so once more; for a network an eighth of that.
    ///
    /// By default 250 ms.
    pub interval_per_peer: Duration,
}

impl Default for BoardLimits {
    fn default() -> Self {
        Self {
            max_entries: 65_536,
            max_entries_per_network: 1_024,
            max_topics_per_peer: 32,
            max_members: 4_096,
            max_watchers: 1_024,
            max_page: 64,
            burst_per_peer: 128,
            interval_per_peer: Duration::from_millis(250),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_peers: 16_384,
            max_in_flight: 32,
            in_flight: Duration::from_secs(5),
            relaying: Duration::from_secs(20),
            crossing: Duration::from_secs(2),
            dial_burst_per_peer: 256,
            dial_interval_per_peer: Duration::from_millis(100),
            dial_burst_per_source: 2_048,
            dial_interval_per_source: Duration::from_micros(12_500),
            register_burst: 64,
            register_interval: Duration::from_millis(250),
            relay_burst_per_source: 2 << 20,
            relay_interval_per_source: Duration::from_nanos(7_629),
            newcomer_burst: 1_024,
            newcomer_interval: Duration::from_micros(15_625),
            puzzle_bits: 18,
            board: BoardLimits::default(),
        }
    }
}
