//! Holds a NAT mapping by a connection to a STUN server that stays open.

use std::{net::SocketAddr, sync::Arc};

use p2pconnect_proto::ReflexiveToken;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tracing::Instrument;

use crate::{
    MappingConfig, MappingError,
    connection::{Connection, Ends},
};

mod backoff;
mod keeper;
#[cfg(test)]
mod tests;

use keeper::Keeper;

/// What a STUN server said of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The local address and port, never wildcards.
    pub local: SocketAddr,
    /// The server that was asked.
    pub server: SocketAddr,
    /// The address and port that the server saw (XOR-MAPPED-ADDRESS).
    pub mapped: SocketAddr,
    /// The server's word for `mapped`, if a commitment was shown and the server has a key. Each
    /// answer brings a new one, so it is good for about ten minutes.
    pub token: Option<ReflexiveToken>,
}

/// What is known of a held mapping at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappingState {
    /// The newest answer. While the connection is lost, the NAT may have forgotten it.
    pub mapping: Mapping,
    /// Why there is no connection just now; `None` if there is one.
    pub lost: Option<MappingError>,
    /// How many connections have replaced a lost one. A number that keeps growing means a server
    /// that does not keep connections.
    pub reconnects: u64,
}

/// What happened to a held mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappingEvent {
    /// The connection is there again, and with it the same mapping as before.
    Mapped(Mapping),
    /// The server sees another address than before.
    MappingChanged {
        /// The address that was seen before.
        old: SocketAddr,
        /// The answer with the new one.
        new: Mapping,
    },
    /// The connection is lost, or could not be replaced yet. Reconnecting goes on.
    Lost {
        /// What became of the last connection or attempt.
        error: MappingError,
    },
}

/// A connection to a STUN server that keeps a NAT mapping alive.
///
/// It asks again every [`refresh_interval`](MappingConfig::refresh_interval), which keeps the
/// NAT's entry and notices a changed mapping. When the server closes the connection or goes
/// silent, it reconnects *from the same local port*: at once after a loss that came unexpectedly,
/// otherwise after a doubling, jittered delay of at most
/// [`max_reconnect_delay`](MappingConfig::max_reconnect_delay).
///
/// The NAT keeps the mapping only while some connection from the port lives. A server that closes
/// each connection after 3 s therefore gives a mapping for only a fifth of the time; connecting
/// more often would make us the ones who overload a public server. Take another server then:
/// [`MappingState::reconnects`] tells.
///
/// Dropping it ends the task behind it and closes the connection with RST, without TIME_WAIT.
#[derive(Debug)]
pub struct HeldMapping {
    state: watch::Receiver<MappingState>,
    seen: MappingState,
    refresh: Arc<Notify>,
    // Aborts the keeper when dropped.
    _keeper: JoinSet<()>,
}

impl HeldMapping {
    /// Connects from `local` to `server` and asks for the mapping: two round trips.
    ///
    /// Port 0 takes a free port, which it keeps over all reconnections. The address may be a
    /// wildcard. To keep the port from others between two connections, have a
    /// [listener](p2pconnect_host::Host::shared_listener) on it. Tries once only: a caller whose
    /// first attempt fails says so, or asks another server.
    ///
    /// # Errors
    ///
    /// A [`MappingError`], within the two timeouts of `config`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; nothing is left behind.
    pub async fn open(
        local: SocketAddr,
        server: SocketAddr,
        config: MappingConfig,
    ) -> Result<Self, MappingError> {
        let ends = Ends { local, server };
        let mut connection = Connection::open_as(ends, &config).await?;
        let answer = connection.ask(config.request_timeout).await?;
        let state = MappingState {
            mapping: Mapping {
                local: connection.local(),
                server,
                mapped: answer.mapped,
                token: answer.token,
            },
            lost: None,
            reconnects: 0,
        };
        let (sender, receiver) = watch::channel(state.clone());
        let refresh = Arc::new(Notify::new());
        // With the zone of a link-local one.
        let mut bind = local;
        bind.set_port(connection.local().port());
        let keeper = Keeper::new(bind, config, sender, Arc::clone(&refresh));
        let mut tasks = JoinSet::new();
        let span = tracing::debug_span!("stun", %server);
        tasks.spawn(keeper.run(connection).instrument(span));
        Ok(Self {
            state: receiver,
            seen: state,
            refresh,
            _keeper: tasks,
        })
    }

    /// Returns the newest answer. While [`MappingState::lost`] is set it may be out of date.
    #[must_use]
    pub fn current(&self) -> Mapping {
        self.state.borrow().mapping.clone()
    }

    /// Returns all that is known now.
    #[must_use]
    pub fn state(&self) -> MappingState {
        self.state.borrow().clone()
    }

    /// Returns a receiver that sees each answer, also one that says what the last one said, and
    /// each loss.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<MappingState> {
        self.state.clone()
    }

    /// Asks at once instead of at the next turn, for example after the network has changed. Where
    /// the connection is lost, this makes it again at once.
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// Waits for the next event.
    ///
    /// Events that nobody waits for do not pile up: of a connection that was lost and regained in
    /// the meantime only the last is reported, but a changed mapping is never missed unless it
    /// has changed back. `None` once the runtime has ended the task.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost.
    pub async fn next_event(&mut self) -> Option<MappingEvent> {
        loop {
            let now = self.state.borrow_and_update().clone();
            if let Some(event) = advance(&mut self.seen, now) {
                return Some(event);
            }
            self.state.changed().await.ok()?;
        }
    }
}

/// Moves `seen` one event towards `now`.
fn advance(seen: &mut MappingState, now: MappingState) -> Option<MappingEvent> {
    if seen.mapping.mapped != now.mapping.mapped {
        let old = seen.mapping.mapped;
        let new = now.mapping.clone();
        // A loss that came later is an event of its own, for the next call.
        *seen = MappingState { lost: None, ..now };
        return Some(MappingEvent::MappingChanged { old, new });
    }
    let regained = seen.lost.is_some() || seen.reconnects != now.reconnects;
    let lost_differs = seen.lost != now.lost;
    *seen = now;
    match &seen.lost {
        Some(error) if lost_differs => Some(MappingEvent::Lost {
            error: error.clone(),
        }),
        None if regained => Some(MappingEvent::Mapped(seen.mapping.clone())),
        Some(_) | None => None,
    }
}
