//! How a mapping is learnt and held.

use std::{sync::Arc, time::Duration};

use p2pconnect_host::Host;

use crate::{Commitment, Over};

/// How a mapping is held. The default suits any server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MappingConfig {
    /// The time between two Binding requests on the connection, at the moments of
    /// [`next_keepalive`](crate::next_keepalive). 15 s by default: below the 20 s that the
    /// strictest NATs give an idle connection, and as often as RFC 8445 section 11 sends
    /// keepalives.
    pub refresh_interval: Duration,
    /// The time allowed for connecting. 5 s by default: covers two retransmissions of the SYN,
    /// which Linux sends after 1 s and 3 s.
    pub connect_timeout: Duration,
    /// The time allowed for one answer. 5 s by default: several retransmissions on a slow path,
    /// yet a dead connection is noticed within 20 s.
    pub request_timeout: Duration,
    /// The least time between two attempts to reconnect, except for the first one, which comes at
    /// once. 1 s by default. Doubles with each attempt.
    pub min_reconnect_delay: Duration,
    /// The most time between two attempts to reconnect. 15 s by default, as often as a request
    /// would have been sent.
    pub max_reconnect_delay: Duration,
    /// How long a connection must have lasted so that its loss is taken for a first one. 30 s by
    /// default: above the 3 s of servers that close at once, below the 60 s of those that may be
    /// reconnected to without a pause.
    pub stable_after: Duration,
    /// What the server shall attest, if it can.
    pub commitment: Option<Commitment>,
    /// The interface that the connection goes out by, whatever the routes say; by them by default.
    /// Linux alone has that.
    pub device: Option<String>,
    /// What STUN is spoken over; TCP itself by default. The time allowed for connecting counts for
    /// it as well.
    pub over: Option<Arc<dyn Over>>,
    /// The host that connects; the operating system by default.
    pub host: Host,
}

impl Default for MappingConfig {
    fn default() -> Self {
        Self {
            refresh_interval: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            min_reconnect_delay: Duration::from_secs(1),
            max_reconnect_delay: Duration::from_secs(15),
            stable_after: Duration::from_secs(30),
            commitment: None,
            device: None,
            over: None,
            host: Host::default(),
        }
    }
}
