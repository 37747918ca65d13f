//! A TCP connection (RFC 9293), as Linux runs it: segments in, packets out, at a given time.
//!
//! It knows nothing of other connections, nor of listeners: its host decides which
//! segments are for it.

mod input;
mod output;
mod receiver;
mod segment;
mod sender;
mod timers;

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::socket::{Failure, KeepAlive, Opening, SocketState, TcpInfo, TcpOptions};
use receiver::Receiver;
use sender::Sender;
use timers::RoundTrip;

pub(super) use segment::{Flow, Segment, Seq, is_syn, read, sequence};

/// Bytes that may wait to be read, and to be acknowledged: between what Linux begins with and what
/// it goes up to (`tcp_rmem`, `tcp_wmem`).
const RECEIVE_BUFFER: usize = 512 * 1024;
const SEND_BUFFER: usize = 256 * 1024;

/// The least that a program can make of the former (half of `SOCK_MIN_RCVBUF`).
const LEAST_WINDOW: usize = 1152;

/// The largest window without a scale.
const MAX_UNSCALED: usize = 65_535;

/// Bytes of an IP and a TCP header without options.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;

/// The MTU of Ethernet, as on the access links of the namespaces.
pub(super) const MTU: u16 = 1500;

/// How often a connection answers what is no data and not in its window
/// (`tcp_invalid_ratelimit`).
const CHALLENGE_PAUSE: Duration = Duration::from_millis(500);

/// How long FIN-WAIT-2 lasts when the program is gone (`tcp_fin_timeout`), and TIME-WAIT.
const FIN_TIMEOUT: Duration = Duration::from_secs(60);

/// The states of RFC 9293 section 3.3.2, without LISTEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Tcb {
    pub(super) flow: Flow,
    state: State,
    opening: Opening,
    established: Option<Duration>,
    failure: Option<Failure>,
    /// Whether its program has closed it, and takes nothing any more.
    is_orphan: bool,
    initial: Seq,
    sender: Sender,
    receiver: Receiver,
    /// Whether both SYNs had a window scale.
    is_scaled: bool,
    options: TcpOptions,
    round_trip: RoundTrip,
    repetition: Repetition,
    /// Until TIME-WAIT or FIN-WAIT-2 ends, or to the next question of a keep-alive.
    idle: Option<Duration>,
    questions: u32,
    /// When anything last came.
    heard: Duration,
    challenged: Option<Duration>,
    /// What leaves.
    sent: Vec<Vec<u8>>,
    /// Whether a program may do something now that it could not do before.
    has_news: bool,
}

/// What is sent again, and again.
#[derive(Debug, Default)]
struct Repetition {
    /// When it is sent again.
    due: Option<Duration>,
    /// How often it has been sent, or asked about, without an answer.
    count: u32,
    /// How often the timeout has doubled.
    doublings: u32,
    /// Since when there is no answer.
    since: Option<Duration>,
}

/// Opening and closing.
impl Tcb {
    /// Begins to connect, with a SYN.
    pub(super) fn connect(now: Duration, flow: Flow, initial: Seq, options: TcpOptions) -> Self {
        let mut tcb = Self::new(flow, initial, State::SynSent, options);
        tcb.opening = Opening::Active;
        tcb.heard = now;
        tcb.send_syn(now);
        tcb
    }

    /// Answers a listener's SYN.
    pub(super) fn answer(
        now: Duration,
        flow: Flow,
        initial: Seq,
        options: TcpOptions,
        syn: &Segment<'_>,
    ) -> Self {
        let mut tcb = Self::new(flow, initial, State::SynReceived, options);
        tcb.take_syn(now, syn);
        tcb.send_syn(now);
        tcb
    }

    fn new(flow: Flow, initial: Seq, state: State, options: TcpOptions) -> Self {
        let asked = options.window.map(usize::try_from);
        let capacity = asked.and_then(Result::ok).unwrap_or(RECEIVE_BUFFER);
        let capacity = capacity.clamp(LEAST_WINDOW, RECEIVE_BUFFER);
        // Linux scales so much that its largest window has room in 16 bits.
        let scale = (capacity / (MAX_UNSCALED + 1)).checked_ilog2();
        let scale = scale.map_or(0, |log| log as u8 + 1);
        Self {
            flow,
            state,
            opening: Opening::Passive,
            established: None,
            failure: None,
            is_orphan: false,
            initial,
            sender: Sender::new(initial, SEND_BUFFER),
            receiver: Receiver::new(capacity, scale),
            is_scaled: false,
            options,
            round_trip: RoundTrip::default(),
            repetition: Repetition::default(),
            idle: None,
            questions: 0,
            heard: Duration::ZERO,
            challenged: None,
            sent: Vec::new(),
            has_news: false,
        }
    }

    /// Ends our direction with FIN behind the data, if it is open.
    pub(super) fn shutdown(&mut self, now: Duration) {
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            State::SynSent
            | State::SynReceived
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => return,
        };
        self.sender.close();
        self.send_data(now);
    }

    /// Closes the connection for its program: with FIN, or with RST where data is unread, as Linux
    /// does.
    pub(super) fn close(&mut self, now: Duration) {
        if self.established.is_none() || self.receiver.len() > 0 {
            return self.abort();
        }
        self.is_orphan = true;
        self.shutdown(now);
        if self.state == State::FinWait2 {
            self.idle = Some(now + FIN_TIMEOUT);
        }
    }

    /// Ends the connection, with RST where Linux sends one (`tcp_need_reset`).
    pub(super) fn abort(&mut self) {
        match self.state {
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => self.send_reset(),
            State::SynSent | State::Closing | State::LastAck | State::TimeWait | State::Closed => {}
        }
        self.finish(None);
    }

    /// Ends the connection without a word to the other end.
    pub(super) fn finish(&mut self, failure: Option<Failure>) {
        self.failure = failure.or(self.failure);
        self.state = State::Closed;
        self.repetition.due = None;
        self.idle = None;
        self.has_news = true;
    }
}

/// Data.
impl Tcb {
    /// Takes data to be sent; returns how much there was room for, or nothing if the
    /// direction is closed.
    pub(super) fn write(&mut self, now: Duration, data: &[u8]) -> Option<usize> {
        if !matches!(self.state, State::Established | State::CloseWait) {
            return None;
        }
        let count = self.sender.write(data);
        self.send_data(now);
        Some(count)
    }

    /// Returns whether there is data to be read.
    pub(super) fn has_data(&self) -> bool {
        self.receiver.len() > 0
    }

    /// Returns whether no data will come any more.
    pub(super) fn is_at_end(&self) -> bool {
        self.receiver.is_complete || matches!(self.state, State::Closed | State::TimeWait)
    }

    pub(super) fn peek(&self, buffer: &mut [u8]) -> usize {
        self.receiver.peek(buffer)
    }

    /// Takes data that has come.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.receiver.read(buffer);
        // The other end may have waited for room.
        if self.is_synchronized() && self.receiver.should_announce() {
            self.send_ack();
        }
        count
    }

    fn is_synchronized(&self) -> bool {
        self.established.is_some() && self.state != State::Closed
    }
}

/// Copies bytes out of a queue, as many as both have from there on; returns how many.
fn copy(queue: &VecDeque<u8>, from: usize, to: &mut [u8]) -> usize {
    let (first, second) = queue.as_slices();
    let parts = match from.checked_sub(first.len()) {
        None => [&first[from..], second],
        Some(from) => [second.get(from..).unwrap_or_default(), &[]],
    };
    let mut copied = 0;
    for part in parts {
        let count = part.len().min(to.len() - copied);
        to[copied..copied + count].copy_from_slice(&part[..count]);
        copied += count;
    }
    copied
}

/// Looking.
impl Tcb {
    /// Returns how far the connection has come.
    pub(super) fn progress(&self) -> SocketState {
        match (self.failure, self.state) {
            (Some(failure), _) => SocketState::Failed(failure),
            (None, State::SynSent | State::SynReceived) => SocketState::Connecting,
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

    /// Returns how the connection came about and when, if it did.
    pub(super) fn opened(&self) -> Option<(Opening, Duration)> {
        self.established.map(|at| (self.opening, at))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Returns whether a SYN with this sequence number begins a new connection between these ends
    /// (RFC 9293 section 3.10.7.4, in TIME-WAIT).
    pub(super) fn gives_way_to(&self, syn: &Segment<'_>) -> bool {
        self.state == State::TimeWait
            && is_syn(syn)
            && segment::distance(self.receiver.next, syn.seq_number) > 0
    }

    /// Returns when something is to be done without a segment.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.repetition.due.into_iter().chain(self.idle).min()
    }

    /// Returns the packets that leave.
    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// Returns whether a program may do something now that it could not do before.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Returns what Linux tells of a connection (`TCP_INFO`).
    pub(super) fn info(&self, now: Duration) -> TcpInfo {
        let is_repeating = self.repetition.count > 0 && self.is_synchronized();
        let is_unanswered = is_repeating || self.questions > 0;
        TcpInfo {
            is_met: self.state != State::SynSent && self.failure.is_none(),
            is_scaled: self.is_scaled,
            round_trip: self.round_trip.least(),
            largest_segment: u16::try_from(self.sender.largest_segment).unwrap_or(u16::MAX),
            unanswered_for: is_unanswered.then(|| now.saturating_sub(self.heard)),
            outstanding: self.sender.outstanding(),
            has_come_out_of_order: self.receiver.has_been_early,
        }
    }
}

/// Options.
impl Tcb {
    /// Asks on an idle connection whether the other end is there, from now on.
    pub(super) fn keep_alive(&mut self, now: Duration, keep_alive: Option<KeepAlive>) {
        self.options.keep_alive = keep_alive;
        self.watch(now);
    }

    /// Returns the longest segment that the own link carries, or that was asked for.
    fn own_segment(&self) -> u16 {
        let of_link = match self.flow.local.ip() {
            IpAddr::V4(_) => MTU - HEADERS_V4,
            IpAddr::V6(_) => MTU - HEADERS_V6,
        };
        let asked = self.options.largest_segment.unwrap_or(u16::MAX);
        asked.min(of_link)
    }
}
