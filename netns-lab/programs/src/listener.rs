//! TCP listeners.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use p2pconnect_host::{TcpAcceptor, TcpStream};

use super::{Interest, Shared, connection::Connection, system};
use netns_lab::virtual_time::SocketId;

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) shared: Arc<Shared>,
    pub(super) socket: SocketId,
    pub(super) local: SocketAddr,
    /// Whether closing an accepted connection resets it.
    pub(super) resets: bool,
}

impl TcpAcceptor for Listener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.shared.call(|state| {
            let accepted = state.world.accept(self.socket);
            if accepted.is_none() {
                state.wait(self.socket, Interest::Reading, cx);
            }
            accepted
        });
        let Some(accepted) = accepted else {
            return Poll::Pending;
        };
        let shared = Arc::clone(&self.shared);
        let connection = Connection::open(shared, accepted.socket, self.resets)?;
        Poll::Ready(Ok((TcpStream::new(connection), accepted.remote)))
    }

    fn ignore(&self, from: &BTreeSet<SocketAddr>) -> io::Result<()> {
        let ignoring = self
            .shared
            .call(|state| state.world.leave_out(self.socket, from.clone()));
        ignoring.map_err(system)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let socket = self.socket;
        self.shared
            .call_of_program(|state| state.end(socket, |world| world.close(socket)));
    }
}
