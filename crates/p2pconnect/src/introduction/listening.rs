//! Who may dial this endpoint, and what room there is for their connections.

use std::sync::Arc;

use p2pconnect_proto::{PeerId, message::DialPolicy};
use tokio::sync::mpsc;

use crate::{
    Connection,
    introduction::{
        called_sessions::CalledSessions,
        shares::{Share, Shares},
    },
    stream::AnyLease,
};

/// Who may dial this endpoint, where the connections go, and how many there may be.
#[derive(Debug, Clone)]
pub(crate) struct Listening {
    pub(crate) policy: DialPolicy,
    pub(crate) connections: mpsc::Sender<Connection>,
    /// The slots of connections that may be open, accepted or not, if their number is limited.
    pub(crate) open: Option<Arc<Shares>>,
    pub(crate) called_sessions: Arc<CalledSessions>,
}

impl Listening {
    /// Takes the room for one more connection of a peer's, if there is any.
    pub(crate) fn room(&self, peer: PeerId) -> Option<Room> {
        let open = match &self.open {
            Some(open) => Some(open.take(peer)?),
            None => None,
        };
        let waiting = self.connections.clone().try_reserve_owned().ok()?;
        Some(Room { waiting, open })
    }
}

/// The room for one connection: among those that wait to be accepted, and among those that are
/// open.
#[derive(Debug)]
pub(crate) struct Room {
    waiting: mpsc::OwnedPermit<Connection>,
    open: Option<Share>,
}

impl Room {
    #[cfg(test)]
    pub(crate) const fn new(waiting: mpsc::OwnedPermit<Connection>, open: Option<Share>) -> Self {
        Self { waiting, open }
    }

    /// Offers the connection to whoever accepts.
    pub(crate) fn offer(self, connection: Connection) {
        let open = self.open.map(|it| Arc::new(it) as AnyLease);
        self.waiting.send(connection.taking(open));
    }
}
