//! How much of what is done for whom, as an operator counts it.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use p2pconnect_coordinator::{BoardLimits, ServiceLimits};
use p2pconnect_proto::MAX_PUZZLE_BITS;
use p2pconnect_stun::StunServerConfig;
use serde::{Deserialize, Deserializer, de::Error as _};

/// The table `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(in super::super) struct Limits {
    connections: NonZeroUsize,
    connections_per_network: NonZeroUsize,
    handshakes_before_retry: usize,
    unfinished_bytes: NonZeroUsize,
    unfinished_bytes_per_network: NonZeroUsize,
    #[serde(deserialize_with = "duration")]
    idle_timeout: Duration,
    peers: NonZeroUsize,
    introductions_in_flight: NonZeroUsize,
    dials_at_once: NonZeroU32,
    dials_per_second: NonZeroU32,
    dials_at_once_per_network: NonZeroU32,
    dials_per_second_per_network: NonZeroU32,
    registrations_at_once: NonZeroU32,
    registrations_per_second: NonZeroU32,
    handshake_bytes_at_once_per_network: NonZeroU32,
    handshake_bytes_per_second_per_network: NonZeroU32,
    newcomers_at_once: u32,
    newcomers_per_second: NonZeroU32,
    #[serde(deserialize_with = "puzzle_bits")]
    puzzle_bits: u8,
    board: Board,
    stun: Stun,
}

/// The table `[limits.board]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Board {
    entries: usize,
    entries_per_network: NonZeroUsize,
    topics_per_peer: NonZeroUsize,
    members_per_topic: NonZeroUsize,
    watchers_per_topic: NonZeroUsize,
    requests_at_once: NonZeroU32,
    requests_per_second: NonZeroU32,
}

/// The table `[limits.stun]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Stun {
    connections: NonZeroUsize,
    connections_per_network: NonZeroUsize,
    requests_at_once: NonZeroU32,
    requests_per_second: NonZeroU32,
    connections_back: usize,
}

impl Limits {
    /// Returns what is done for whom.
    pub(in super::super) fn of_registry(&self) -> p2pconnect_coordinator::Limits {
        p2pconnect_coordinator::Limits {
            max_peers: self.peers.get(),
            max_in_flight: self.introductions_in_flight.get(),
            dial_burst_per_peer: self.dials_at_once.get(),
            dial_interval_per_peer: interval(self.dials_per_second),
            dial_burst_per_source: self.dials_at_once_per_network.get(),
            dial_interval_per_source: interval(self.dials_per_second_per_network),
            register_burst: self.registrations_at_once.get(),
            register_interval: interval(self.registrations_per_second),
            relay_burst_per_source: self.handshake_bytes_at_once_per_network.get(),
            relay_interval_per_source: interval(self.handshake_bytes_per_second_per_network),
            newcomer_burst: self.newcomers_at_once,
            newcomer_interval: interval(self.newcomers_per_second),
            puzzle_bits: self.puzzle_bits,
            board: self.board.limits(),
            ..p2pconnect_coordinator::Limits::default()
        }
    }

    /// Returns what the service allows, whatever the memory bears.
    pub(in super::super) const fn of_service(&self) -> ServiceLimits {
        ServiceLimits {
            max_connections: self.connections.get(),
            max_connections_per_source: self.connections_per_network.get(),
            handshakes_before_retry: self.handshakes_before_retry,
            max_unfinished: self.unfinished_bytes.get(),
            max_unfinished_per_source: self.unfinished_bytes_per_network.get(),
            idle_timeout: self.idle_timeout,
        }
    }

    /// Returns how each STUN server is set up, whatever files and memory bear.
    pub(in super::super) fn of_stun(&self) -> StunServerConfig {
        let mut config = StunServerConfig::default();
        config.max_connections = self.stun.connections.get();
        config.max_connections_per_address = self.stun.connections_per_network.get();
        config.request_burst = self.stun.requests_at_once.get();
        config.requests_per_second = self.stun.requests_per_second.get();
        config.max_connect_backs = self.stun.connections_back;
        config
    }
}

impl Board {
    fn limits(&self) -> BoardLimits {
        BoardLimits {
            max_entries: self.entries,
            max_entries_per_network: self.entries_per_network.get(),
            max_topics_per_peer: self.topics_per_peer.get(),
            max_members: self.members_per_topic.get(),
            max_watchers: self.watchers_per_topic.get(),
            burst_per_peer: self.requests_at_once.get(),
            interval_per_peer: interval(self.requests_per_second),
            ..BoardLimits::default()
        }
    }
}

/// Reads how hard puzzles are: no harder than peers solve.
fn puzzle_bits<'de, D: Deserializer<'de>>(value: D) -> Result<u8, D::Error> {
    let bits = u8::deserialize(value)?;
    if bits > MAX_PUZZLE_BITS {
        let told = format!("peers solve no puzzle of more than {MAX_PUZZLE_BITS} bits");
        return Err(D::Error::custom(told));
    }
    Ok(bits)
}

fn interval(per_second: NonZeroU32) -> Duration {
    Duration::from_secs(1) / per_second.get()
}

/// What a time is.
const WANTED: &str = "write a number and its unit, such as 30s or 1m";

/// Reads a time, which may be none at all.
pub(super) fn time<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(value)?;
    humantime::parse_duration(&text).map_err(|_| D::Error::custom(WANTED))
}

fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    let read = Some(time(value)?).filter(|it| !it.is_zero());
    read.ok_or_else(|| D::Error::custom(WANTED))
}
