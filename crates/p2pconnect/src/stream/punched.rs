//! A connection to a peer, as a punch hands it out.

use std::{sync::Arc, time::Duration};

use p2pconnect_proto::{Opening, Role};
use tokio_rustls::TlsStream;

use crate::{
    machine::task::AbortOnDrop,
    stream::{path_ledger::StreamPath, transport::Transport},
};

/// A connection to the peer.
#[derive(Debug)]
pub(crate) struct Punched {
    pub(crate) stream: TlsStream<Transport>,
    pub(crate) stream_path: Arc<StreamPath>,
    /// This side's.
    pub(crate) role: Role,
    /// For how long nothing may come from the peer.
    pub(crate) silence: Duration,
    /// The other introductions of which the dial has used connections, by the dialler's opening.
    pub(crate) predecessors: Vec<Opening>,
}

impl Punched {
    /// Ties what still goes on to the connection.
    pub(crate) fn tied_to(mut self, race: AbortOnDrop) -> Self {
        self.stream.get_mut().0.keep(race);
        self
    }
}
