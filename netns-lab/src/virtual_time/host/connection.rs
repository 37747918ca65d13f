//! One TCP socket: smoltcp's state machine, with Linux's timers around it.

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

use super::stack::Stack;
use crate::packet::{Body, Headers, Segment};
use crate::virtual_time::socket::{Failure, Opening, SocketState};

/// Room for data in each direction; takes Linux's initial window of ten
/// segments (RFC 6928) and keeps a thousand sockets cheap.
const BUFFER: usize = 16 * 1024;

/// Waits after each SYN, in seconds. Linux since 6.5 waits five times one
/// second (`tcp_syn_linear_timeouts` 4), then doubles until it has sent
/// `tcp_syn_retries` (6) more: the last SYN leaves after 67 s, the end is at
/// 131 s.
const SYN_WAITS: [u64; 11] = [1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64];

/// How long a SYN-ACK is repeated: Linux gives up when the wait after the
/// fifth repetition (`tcp_synack_retries`) is over, 1 + 2 + … + 32 s.
const SYN_ACK_LIFETIME: Duration = Duration::from_secs(63);

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// Who has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    /// The listener with this number, while it is half-open.
    Listener(u64),
    /// A listener's queue.
    Queue,
    /// A program of the host.
    Program,
}

/// A SYN to be repeated.
#[derive(Debug)]
struct Syn {
    packet: Vec<u8>,
    sequence: u32,
    /// How many have been sent.
    sent: usize,
    due: Duration,
}

/// A TCP socket and what smoltcp does not keep about it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Holds one socket, so that the host decides which socket a packet is for.
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    pub(super) flow: Flow,
    pub(super) opening: Opening,
    pub(super) keeper: Keeper,
    /// Whether its user has closed it.
    pub(super) released: bool,
    /// When the host next has to look at it; also in the host's timer table.
    pub(super) timer: Option<Duration>,
    pub(super) established: Option<Duration>,
    failure: Option<Failure>,
    syn: Option<Syn>,
    /// The peer's initial sequence number, once its SYN crossed ours.
    peer_sequence: Option<u32>,
    /// When a SYN-RECEIVED without an answer ends.
    give_up: Option<Duration>,
    /// Whether nothing may be sent any more, not even RST.
    silenced: bool,
}

impl Connection {
    /// Makes a closed socket.
    pub(super) fn new(flow: Flow, opening: Opening, keeper: Keeper) -> Self {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        // As TCP_NODELAY, which whoever punches sets.
        socket.set_nagle_enabled(false);
        // Linux begins every connection in quick-ACK mode.
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            sockets,
            handle,
            flow,
            opening,
            keeper,
            released: false,
            timer: None,
            established: None,
            failure: None,
            syn: None,
            peer_sequence: None,
            give_up: None,
            silenced: false,
        }
    }

    pub(super) fn tcp(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub(super) fn tcp_state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// Sends the first SYN; returns whether smoltcp takes the addresses.
    pub(super) fn connect(&mut self, now: Duration, stack: &mut Stack) -> bool {
        let Flow { local, remote } = self.flow;
        let socket: &mut Socket<'_> = self.sockets.get_mut(self.handle);
        if socket
            .connect(stack.interface.context(), remote, local)
            .is_err()
        {
            return false;
        }
        stack.output(now, &mut self.sockets);
        let Some(packet) = stack.sent().last().cloned() else {
            return false;
        };
        let sequence = sequence_of(&packet);
        self.syn = Some(Syn {
            packet,
            sequence,
            sent: 1,
            due: now + Duration::from_secs(SYN_WAITS[0]),
        });
        true
    }

    /// Takes a segment that is for this socket.
    pub(super) fn input(
        &mut self,
        now: Duration,
        segment: &Segment,
        packet: &[u8],
        stack: &mut Stack,
    ) {
        let before = self.tcp_state();
        if self.completes_simultaneous_open(segment) {
            // Linux since 6.12 takes the ACK in a crossing SYN-ACK, and
            // answers the SYN in it, so that both ends are done after one
            // round trip; smoltcp would only answer, and wait for the answer.
            stack.input(now, &segment.without_syn(packet), &mut self.sockets);
        }
        stack.input(now, packet, &mut self.sockets);
        let after = self.tcp_state();
        if before == State::SynSent && after == State::SynReceived {
            self.opening = Opening::Simultaneous;
            self.peer_sequence = Some(segment.flow.sequence);
        }
        if after == State::Closed && segment.flow.flags.is_rst() {
            self.failure = match before {
                State::SynSent => Some(Failure::Refused),
                State::Closed | State::LastAck | State::TimeWait | State::Closing => self.failure,
                _ => Some(Failure::Reset),
            };
        }
        // RFC 1122 section 4.2.2.13: who closed takes no more data.
        if self.released && self.tcp().recv_queue() > 0 {
            self.tcp().abort();
        }
    }

    fn completes_simultaneous_open(&self, segment: &Segment) -> bool {
        let ours = self.syn.as_ref().map(|syn| syn.sequence.wrapping_add(1));
        self.tcp_state() == State::SynReceived
            && segment.flow.flags.is_syn_ack()
            && self.peer_sequence == Some(segment.flow.sequence)
            && ours == Some(segment.acknowledgement)
    }

    /// Makes the socket that a listener answers a SYN with.
    pub(super) fn answer(&mut self, now: Duration, packet: &[u8], stack: &mut Stack) {
        let local = self.flow.local;
        // A fresh socket refuses port 0 only, and nobody listens there.
        if self.tcp().listen(local).is_ok() {
            stack.input(now, packet, &mut self.sockets);
        }
    }

    /// Takes an ICMP error about a segment of ours, as Linux does: it ends an
    /// attempt and is ignored later on (RFC 5461 section 4.1 says why).
    /// Returns whether it ended this one.
    pub(super) fn icmp(&mut self, sequence: u32, failure: Failure, ends_half_open: bool) -> bool {
        let concerned = match self.tcp_state() {
            State::SynSent => self
                .syn
                .as_ref()
                .is_some_and(|syn| syn.sequence == sequence),
            State::SynReceived => !matches!(self.keeper, Keeper::Listener(_)) || ends_half_open,
            State::Closed
            | State::Listen
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => false,
        };
        if concerned {
            self.end(failure);
        }
        concerned
    }

    /// Does what is due.
    pub(super) fn timeout(&mut self, now: Duration, stack: &mut Stack) {
        if self.give_up.is_some_and(|at| at <= now) {
            self.end(Failure::TimedOut);
        }
        if self.tcp_state() != State::SynSent {
            return;
        }
        let Some(syn) = self.syn.as_mut().filter(|syn| syn.due <= now) else {
            return;
        };
        match SYN_WAITS.get(syn.sent) {
            Some(&seconds) => {
                stack.send(syn.packet.clone());
                syn.sent += 1;
                syn.due = now + Duration::from_secs(seconds);
            }
            None => self.end(Failure::TimedOut),
        }
    }

    /// Ends the connection without a word to the other end.
    fn end(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.silence();
    }

    /// Ends the connection, with RST where Linux sends one (`tcp_need_reset`).
    pub(super) fn abort(&mut self) {
        match self.tcp_state() {
            State::SynSent | State::Closing | State::LastAck | State::TimeWait => self.silence(),
            State::Closed
            | State::Listen
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => self.tcp().abort(),
        }
    }

    fn silence(&mut self) {
        self.silenced = true;
        self.tcp().abort();
    }

    /// Lets the socket send what it wants to, and notes when it has to be
    /// looked at again.
    pub(super) fn settle(&mut self, now: Duration, stack: &mut Stack) {
        // SYNs are repeated by Linux's timetable, not by smoltcp's.
        if self.tcp_state() != State::SynSent && !self.silenced {
            stack.output(now, &mut self.sockets);
        }
        let state = self.tcp_state();
        if state == State::SynReceived {
            self.give_up.get_or_insert(now + SYN_ACK_LIFETIME);
        } else {
            self.give_up = None;
        }
        if matches!(state, State::Established | State::CloseWait) {
            self.established.get_or_insert(now);
        }
        self.timer = match state {
            State::SynSent => self.syn.as_ref().map(|syn| syn.due),
            State::Closed | State::Listen => None,
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => stack
                .next_output(now, &self.sockets)
                .into_iter()
                .chain(self.give_up)
                .min(),
        };
    }

    /// Returns how far the connection has come.
    pub(super) fn state(&self) -> SocketState {
        match (self.failure, self.tcp_state()) {
            (Some(failure), _) => SocketState::Failed(failure),
            (None, State::SynSent | State::SynReceived | State::Listen) => SocketState::Connecting,
            (None, State::Closed) => SocketState::Closed,
            (
                None,
                State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
                | State::TimeWait,
            ) => SocketState::Connected,
        }
    }
}

/// Returns the sequence number of a TCP packet that smoltcp made.
fn sequence_of(packet: &[u8]) -> u32 {
    match Headers::read(packet).map(|headers| headers.body) {
        Some(Body::Tcp(segment)) => segment.flow.sequence,
        Some(Body::Udp(_) | Body::Icmp(_) | Body::Unread(_)) | None => 0,
    }
}
