//! A byte stream for TLS by way of the coordinator.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, ready},
};

use p2pconnect_proto::message::MAX_HANDSHAKE;
use tokio::{io::ReadBuf, sync::mpsc};

/// The most flights that wait to be passed on; each side sends two at most.
const MAX_FLIGHTS: usize = 4;

/// The coordinator's end of a pipe.
#[derive(Debug)]
pub(crate) struct CoordinatorEnd {
    /// Flights to be passed on to the peer.
    pub(crate) outgoing: mpsc::Receiver<Vec<u8>>,
    /// Takes the flights that come from the peer.
    pub(crate) incoming: mpsc::Sender<Vec<u8>>,
}

/// The end of a pipe that TLS reads and writes: a byte stream in whole flights.
#[derive(Debug)]
pub(crate) struct HandshakePipe {
    outgoing: mpsc::Sender<Vec<u8>>,
    /// What has been written and not flushed: a part of a flight.
    flight: Vec<u8>,
    /// What was flushed last.
    pub(crate) last_flight: Vec<u8>,
    incoming: mpsc::Receiver<Vec<u8>>,
    /// How many flights are still to come. The last one may come again on connections, and TLS
    /// takes nothing of a handshake once that is over.
    awaited: usize,
    /// What has come and not been read.
    read: VecDeque<u8>,
}

impl HandshakePipe {
    pub(crate) fn new(awaited: usize) -> (Self, CoordinatorEnd) {
        let (outgoing, flights) = mpsc::channel(MAX_FLIGHTS);
        let (sender, incoming) = mpsc::channel(MAX_FLIGHTS);
        let end = CoordinatorEnd {
            outgoing: flights,
            incoming: sender,
        };
        let pipe = Self {
            outgoing,
            flight: Vec::new(),
            last_flight: Vec::new(),
            incoming,
            awaited,
            read: VecDeque::new(),
        };
        (pipe, end)
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            if self.awaited == 0 {
                return Poll::Pending;
            }
            match ready!(self.incoming.poll_recv(cx)) {
                Some(bytes) => {
                    self.awaited -= 1;
                    self.read.extend(bytes);
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let (front, _) = self.read.as_slices();
        let count = front.len().min(buf.remaining());
        buf.put_slice(&front[..count]);
        self.read.drain(..count);
        Poll::Ready(Ok(()))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.flight.len() + bytes.len() > MAX_HANDSHAKE {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        self.flight.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    pub(crate) fn flush(&mut self) -> Poll<io::Result<()>> {
        if !self.flight.is_empty() {
            self.last_flight = std::mem::take(&mut self.flight);
            let sent = self.outgoing.try_send(self.last_flight.clone());
            return Poll::Ready(sent.map_err(|_| io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(()))
    }
}
