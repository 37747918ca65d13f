//! TCP connections.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use p2pconnect_host::{KeepAlive, TcpConnection, TcpInfo};
use tokio::io::ReadBuf;

use super::{Interest, Shared, keep_alive, system};
use netns_lab::virtual_time::{Opening, SocketError, SocketId, SocketState, TcpOptions, World};

#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    socket: SocketId,
    local: SocketAddr,
    remote: SocketAddr,
    resets: AtomicBool,
}

impl Connection {
    pub(super) fn open(shared: Arc<Shared>, socket: SocketId, resets: bool) -> io::Result<Self> {
        let ends = shared.call(|state| state.world.ends(socket));
        let (local, remote) = ends.map_err(system)?;
        Ok(Self {
            shared,
            socket,
            local,
            remote,
            resets: AtomicBool::new(resets),
        })
    }

    /// Waits for what a look at the socket finds.
    fn poll_for<T>(
        &self,
        cx: &Context<'_>,
        interest: Interest,
        look: impl FnOnce(&mut World) -> Result<Option<T>, SocketError>,
    ) -> Poll<io::Result<T>> {
        self.shared
            .call_of_program(|state| match look(&mut state.world) {
                Ok(Some(found)) => Poll::Ready(Ok(found)),
                Ok(None) => {
                    state.wait(self.socket, interest, cx);
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(system(error))),
            })
    }
}

impl TcpConnection for Connection {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.remote)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let unfilled = buf.initialize_unfilled();
        let read = |world: &mut World| world.recv(self.socket, unfilled);
        let count = ready!(self.poll_for(cx, Interest::Reading, read))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let unfilled = buf.initialize_unfilled();
        let peek = |world: &mut World| world.peek(self.socket, unfilled);
        let count = ready!(self.poll_for(cx, Interest::Reading, peek))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(bytes) = bufs.iter().find(|it| !it.is_empty()) else {
            return Poll::Ready(Ok(0));
        };
        let write = |world: &mut World| {
            let count = world.send(self.socket, bytes)?;
            Ok((count > 0).then_some(count))
        };
        self.poll_for(cx, Interest::Writing, write)
    }

    fn shutdown(&self) -> io::Result<()> {
        let ended = self
            .shared
            .call_of_program(|state| state.world.shutdown(self.socket));
        ended.map_err(|_| io::ErrorKind::NotConnected.into())
    }

    fn send_at_once(&self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&self, is_reset: bool) -> io::Result<()> {
        self.resets.store(is_reset, Ordering::Relaxed);
        Ok(())
    }

    fn keep_alive(&self, asked: KeepAlive) -> io::Result<()> {
        let options = TcpOptions {
            keep_alive: Some(keep_alive(asked)),
            ..TcpOptions::default()
        };
        let asking = self
            .shared
            .call_of_program(|state| state.world.set_options(self.socket, options));
        asking.map_err(system)
    }

    fn info(&self) -> TcpInfo {
        self.shared.call(|state| {
            let world = &state.world;
            let is_closed = world.state(self.socket) != Ok(SocketState::Connected);
            let Ok(info) = world.info(self.socket) else {
                return TcpInfo {
                    is_closed,
                    ..TcpInfo::default()
                };
            };
            let opened = world.opened(self.socket);
            let has_crossed = matches!(opened, Ok(Some((Opening::Simultaneous, _))));
            TcpInfo {
                has_crossed,
                has_lost_its_scale: has_crossed && !info.is_scaled,
                round_trip: info.round_trip,
                largest_segment: info.largest_segment,
                unanswered_for: info.unanswered_for,
                outstanding: u32::try_from(info.outstanding).ok(),
                has_come_out_of_order: info.has_come_out_of_order,
                is_closed,
            }
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let resets = self.resets.load(Ordering::Relaxed);
        let socket = self.socket;
        self.shared.call_of_program(|state| {
            state.end(socket, |world| match resets {
                true => world.abort(socket),
                false => world.close(socket),
            });
        });
    }
}
