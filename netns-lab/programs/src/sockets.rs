//! TCP sockets before they are connected.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use p2pconnect_host::{Connecting, KeepAlive, Sharing, TcpListener, TcpStream, UnconnectedTcp};

use super::{Interest, Shared, connection::Connection, keep_alive, listener::Listener, system};
use netns_lab::virtual_time::{HostId, SocketId, SocketState, TcpOptions};

/// A socket that is bound. Its port is counted as long as it exists.
#[derive(Debug)]
pub(super) struct Bound {
    shared: Arc<Shared>,
    host: HostId,
    local: SocketAddr,
    sharing: Sharing,
    options: Mutex<TcpOptions>,
    /// Whether the world has a socket in its place, which connects.
    connects: bool,
}

/// Binds a socket.
pub(super) fn bind(
    shared: Arc<Shared>,
    host: HostId,
    mut local: SocketAddr,
    sharing: Sharing,
) -> io::Result<Bound> {
    let bound = shared.call(|state| {
        let has_address = local.ip().is_unspecified()
            || local.ip().is_loopback()
            || state.world.addresses(host).contains(&local.ip());
        if !has_address {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if local.port() == 0 {
            local.set_port(state.free_port(host)?);
        }
        state.bind(host, local, sharing)
    });
    bound.map(|()| Bound {
        shared,
        host,
        local,
        sharing,
        options: Mutex::default(),
        connects: false,
    })
}

impl Bound {
    fn options(&self) -> MutexGuard<'_, TcpOptions> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let (host, local) = (self.host, self.local);
        self.shared.call(|state| {
            state.unbind(host, local);
            if self.connects {
                *state.connecting.entry(host).or_default() -= 1;
            }
        });
    }
}

impl UnconnectedTcp for Bound {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn limit_segment(&self, bytes: u16) -> io::Result<()> {
        self.options().largest_segment = Some(bytes);
        Ok(())
    }

    fn limit_window(&self, bytes: u32) -> io::Result<()> {
        self.options().window = Some(bytes);
        Ok(())
    }

    fn leave_by(&self, _: &str) -> io::Result<()> {
        // There is one interface.
        Ok(())
    }

    fn keep_alive(&self, asked: KeepAlive) -> io::Result<()> {
        self.options().keep_alive = Some(keep_alive(asked));
        Ok(())
    }

    fn connect(self: Box<Self>, remote: SocketAddr) -> Pin<Box<dyn Connecting>> {
        Box::pin(Attempt {
            bound: *self,
            remote,
            socket: None,
        })
    }

    fn listen(self: Box<Self>, backlog: u32) -> io::Result<TcpListener> {
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX);
        let options = *self.options();
        let listening = self.shared.call(|state| {
            let socket = state.world.listen_on(self.host, self.local, backlog)?;
            state.world.set_options(socket, options).map(|()| socket)
        });
        Ok(TcpListener::new(Listener {
            shared: Arc::clone(&self.shared),
            socket: listening.map_err(system)?,
            local: self.local,
            resets: self.sharing == Sharing::Shared,
        }))
    }
}

/// A connection being made.
#[derive(Debug)]
struct Attempt {
    bound: Bound,
    remote: SocketAddr,
    /// There once it has begun, until it is over.
    socket: Option<SocketId>,
}

impl Attempt {
    fn begin(&mut self) -> io::Result<SocketId> {
        if let Some(socket) = self.socket {
            return Ok(socket);
        }
        let Bound { host, local, .. } = self.bound;
        let options = *self.bound.options();
        let socket = self.bound.shared.call_of_program(|state| {
            let connecting = state.world.connect_with(host, local, self.remote, options);
            let socket = connecting.map_err(system)?;
            *state.connecting.entry(host).or_default() += 1;
            Ok::<_, io::Error>(socket)
        })?;
        self.bound.connects = true;
        self.socket = Some(socket);
        Ok(socket)
    }
}

impl Future for Attempt {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let socket = self.begin()?;
        let shared = Arc::clone(&self.bound.shared);
        let state = shared.call(|state| {
            let reached = state.world.state(socket);
            if reached == Ok(SocketState::Connecting) {
                state.wait(socket, Interest::Writing, cx);
            }
            reached
        });
        match state.map_err(system)? {
            SocketState::Connecting => Poll::Pending,
            SocketState::Connected | SocketState::Closed => {
                self.socket = None;
                let resets = self.bound.sharing == Sharing::Shared;
                Poll::Ready(Connection::open(shared, socket, resets).map(TcpStream::new))
            }
            SocketState::Failed(failure) => Poll::Ready(Err(system(failure.into()))),
        }
    }
}

impl Connecting for Attempt {
    fn is_met(&self) -> bool {
        self.socket.is_some_and(|socket| {
            let info = self.bound.shared.call(|state| state.world.info(socket));
            info.is_ok_and(|it| it.is_met)
        })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.bound
                .shared
                .call_of_program(|state| state.end(socket, |world| world.abort(socket)));
        }
    }
}
