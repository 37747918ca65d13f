//! Streams on one connection, by yamux. Pure: bytes in, bytes out.
//!
//! A stream carries one frame of the protocol each way, which is shorter than the window that
//! yamux gives each stream from the beginning. So windows are never extended, and what bounds
//! memory is that the connection is not read while too much of it has not been read by anybody:
//! see [`Mux::takes_more`]. The other side may extend windows as it likes.
//!
//! Yamux can end a session with a code of 32 bits and no words. So the side that closes opens a
//! stream of its own for its code and its words (PROTOCOL.md section 3).

mod closing;
mod output;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use p2pconnect_proto::close;

use super::frame::{HEADER_LEN, Header, Kind, flag};
use crate::end::{CloseCode, End, StreamError};
use output::Output;

/// What a stream may carry each way: the window that yamux gives it.
const MAX_STREAM: u32 = 256 * 1024;

/// What may have come and not been read, over all streams, when more is taken from the connection:
/// a request of usual size on each stream.
const MAX_UNREAD: usize = 32 * 1024;

/// What may wait to be sent when more is taken from programs, or answered: a hundred introductions.
const MAX_UNSENT: usize = 128 * 1024;

/// Streams that a peer opens at a time: as many as a coordinator allows with QUIC.
const MAX_REQUESTS: usize = 32;

/// Streams that a coordinator opens at a time: as many as a peer allows with QUIC.
const MAX_NOTICES: usize = 16;

/// How many the other side may open at a time before that is a violation: it may know later than
/// this side that a stream is over, and closes with one more.
const SLACK: usize = 2;

/// Which side of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Opens streams for requests, with odd numbers.
    Peer,
    /// Opens streams for notices, with even numbers.
    Coordinator,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Peer => Self::Coordinator,
            Self::Coordinator => Self::Peer,
        }
    }

    const fn first(self) -> u32 {
        match self {
            Self::Peer => 1,
            Self::Coordinator => 2,
        }
    }

    const fn max_streams(self) -> usize {
        match self {
            Self::Peer => MAX_REQUESTS,
            Self::Coordinator => MAX_NOTICES,
        }
    }

    /// Tells whether this side opens the streams of a parity.
    const fn opens(self, id: u32) -> bool {
        id != 0 && id % 2 == self.first() % 2
    }
}

/// A stream.
#[derive(Debug, Default)]
struct Stream {
    /// What has come and has not been read.
    received: VecDeque<u8>,
    /// How many bytes have come, and have been sent.
    came: u32,
    went: u32,
    /// The flag of the next frame on it: SYN, or ACK, or none.
    greeting: u16,
    /// Whether it is no stream of last words: it waits to be taken up, or has been.
    is_known: bool,
    /// Whether it has been taken up, or is of this side.
    is_taken: bool,
    /// Whether this side has ended its direction.
    has_finished: bool,
    /// Whether the other side has ended its direction, and whether it has ended both.
    is_finished: bool,
    is_reset: bool,
    /// Whether anybody here still sends and receives on it.
    has_sender: bool,
    has_receiver: bool,
    /// Whether it counts until the other side has ended it too.
    awaits_reader: bool,
}

impl Stream {
    fn take(&mut self, bytes: &mut [u8]) -> usize {
        let count = bytes.len().min(self.received.len());
        for (to, from) in bytes.iter_mut().zip(self.received.drain(..count)) {
            *to = from;
        }
        count
    }
}

/// What whoever drives a connection, and whoever waits for something of it, has to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) unsent: usize,
    pub(super) takes_more: bool,
    pub(super) has_ended: bool,
    pub(super) streams: usize,
}

/// How many signs of life the other side has asked for, and has given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pings {
    pub(super) questions: u64,
    pub(super) answers: u64,
}

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Mux {
    side: Side,
    next: u32,
    streams: BTreeMap<u32, Stream>,
    /// Those of the other side that nobody has taken up yet.
    accepted: VecDeque<u32>,
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// Of which stream the next bytes are, and how many.
    body: (u32, u32),
    unread: usize,
    output: Output,
    asked: bool,
    pings: Pings,
    end: Option<End>,
}

impl Mux {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            next: side.first(),
            streams: BTreeMap::new(),
            accepted: VecDeque::new(),
            header: [0; HEADER_LEN],
            header_len: 0,
            body: (0, 0),
            unread: 0,
            output: Output::default(),
            asked: false,
            pings: Pings::default(),
            end: None,
        }
    }

    /// Returns what others have to know of.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            unsent: self.output.bytes().len(),
            takes_more: self.takes_more(),
            has_ended: self.end.is_some(),
            streams: self.streams.len(),
        }
    }

    /// Returns why the connection has ended, if it has.
    pub(super) const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Notes that the connection has ended, and why.
    pub(super) fn lose(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Tells whether more is to be read from the connection: as long as what has come is read, and
    /// answers find room.
    pub(super) fn takes_more(&self) -> bool {
        self.end.is_some() || self.unread < MAX_UNREAD && self.has_room()
    }

    /// Tells whether there is room for more to be sent.
    pub(super) fn has_room(&self) -> bool {
        self.output.bytes().len() < MAX_UNSENT
    }

    /// Returns what is to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        self.output.bytes()
    }

    /// Notes how much of that has been sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.output.consume(count);
    }

    /// Takes in what has come. Whatever comes behind the end is passed over.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.end.is_none() {
            let (id, left) = self.body;
            if left > 0 {
                let count = bytes.len().min(left as usize);
                let (body, rest) = bytes.split_at(count);
                self.deliver(id, body);
                self.body.1 = left - u32::try_from(count).unwrap_or(left);
                bytes = rest;
                continue;
            }
            let (head, rest) = bytes.split_at(bytes.len().min(HEADER_LEN - self.header_len));
            self.header[self.header_len..][..head.len()].copy_from_slice(head);
            self.header_len += head.len();
            bytes = rest;
            if self.header_len == HEADER_LEN {
                self.header_len = 0;
                if let Err(words) = self.begin(Header::decode(self.header)) {
                    self.close(close::PROTOCOL_VIOLATION.into(), words);
                }
            }
        }
    }

    /// Takes in the head of a frame. The error says what is wrong with it.
    fn begin(&mut self, header: Option<Header>) -> Result<(), &'static str> {
        let header = header.ok_or("no frame of yamux")?;
        match header.kind {
            Kind::Data => {
                self.body = (header.stream, header.length);
                self.on_stream(header, header.length)
            }
            Kind::WindowUpdate => self.on_stream(header, 0),
            Kind::Ping if header.has(flag::SYN) => {
                self.asked = true;
                self.pings.questions += 1;
                self.output.push(Header {
                    flags: flag::ACK,
                    ..header
                });
                Ok(())
            }
            Kind::Ping => {
                self.pings.answers += 1;
                Ok(())
            }
            Kind::GoAway => {
                self.lose(closing::went_away(header.length));
                Ok(())
            }
        }
    }

    /// Takes in the flags of a frame on a stream that brings so many bytes.
    fn on_stream(&mut self, header: Header, length: u32) -> Result<(), &'static str> {
        let id = header.stream;
        if header.has(flag::SYN) {
            self.begin_stream(id)?;
        }
        // Of a stream that is over, something may still be on its way.
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        stream.came = stream.came.saturating_add(length);
        if stream.came > MAX_STREAM {
            return Err("more than a stream's window");
        }
        // What has come whole and has been taken up may be read.
        let breaks = !stream.is_finished || !stream.is_taken;
        stream.is_reset |= header.has(flag::RST) && breaks;
        // What comes in the same frame counts before its end.
        stream.is_finished |= header.has(flag::FIN | flag::RST);
        if length == 0 {
            self.settle(id);
        }
        Ok(())
    }

    fn begin_stream(&mut self, id: u32) -> Result<(), &'static str> {
        let other = self.side.other();
        if !other.opens(id) || self.streams.contains_key(&id) {
            return Err("a stream that cannot be opened");
        }
        let open = self.streams.keys().filter(|it| other.opens(**it)).count();
        if open >= other.max_streams() + SLACK {
            return Err("too many streams");
        }
        let stream = Stream {
            greeting: flag::ACK,
            has_sender: true,
            has_receiver: true,
            ..Stream::default()
        };
        self.streams.insert(id, stream);
        Ok(())
    }

    /// Takes in bytes on a stream.
    fn deliver(&mut self, id: u32, bytes: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.has_receiver
        {
            stream.received.extend(bytes);
            self.unread += bytes.len();
        }
        if self.body.1 as usize == bytes.len() {
            self.settle(id);
        }
    }

    /// Finds out what is to be done about a stream after a whole frame.
    fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.is_reset && !stream.is_taken {
            // It has been given up before anybody here knew of it.
            self.accepted.retain(|it| *it != id);
            self.discard(id);
            self.streams.remove(&id);
            return;
        }
        if !stream.is_known {
            match closing::read(stream.received.make_contiguous(), stream.is_finished) {
                closing::Found::Nothing => return,
                closing::Found::Stream => {
                    stream.is_known = true;
                    self.accepted.push_back(id);
                }
                closing::Found::Closing(end) => self.lose(end),
            }
        }
        self.forget_if_over(id);
    }

    /// Opens a stream, if this side may; `None` otherwise. The other side hears of it with the
    /// first bytes.
    pub(super) fn open(&mut self) -> Option<u32> {
        let open = self.streams.keys().filter(|it| self.side.opens(**it));
        if self.end.is_some() || open.count() >= self.side.max_streams() {
            return None;
        }
        let id = self.next;
        self.next = id.checked_add(2)?;
        let stream = Stream {
            greeting: flag::SYN,
            is_known: true,
            is_taken: true,
            has_sender: true,
            has_receiver: self.side == Side::Peer,
            awaits_reader: self.side == Side::Coordinator,
            ..Stream::default()
        };
        self.streams.insert(id, stream);
        Some(id)
    }

    /// Takes up the next stream of the other side.
    pub(super) fn accept(&mut self) -> Option<u32> {
        let id = self.accepted.pop_front()?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_taken = true;
        }
        Some(id)
    }

    /// Takes what has come on a stream; `None` if there is nothing yet, 0 at its end.
    pub(super) fn read(&mut self, id: u32, bytes: &mut [u8]) -> Option<Result<usize, StreamError>> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Some(Err(StreamError::Over));
        };
        let count = stream.take(bytes);
        self.unread -= count;
        if count > 0 {
            return Some(Ok(count));
        }
        if stream.is_reset {
            return Some(Err(StreamError::GivenUp(close::DONE.into())));
        }
        if stream.is_finished {
            return Some(Ok(0));
        }
        self.end.clone().map(|end| Err(StreamError::Ended(end)))
    }

    /// Sends bytes on a stream.
    pub(super) fn write(&mut self, id: u32, bytes: &[u8]) -> Result<(), StreamError> {
        if let Some(end) = &self.end {
            return Err(StreamError::Ended(end.clone()));
        }
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Over)?;
        if stream.is_reset {
            return Err(StreamError::GivenUp(close::DONE.into()));
        }
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let went = stream.went.saturating_add(count);
        if stream.has_finished || went > MAX_STREAM {
            return Err(StreamError::Over);
        }
        stream.went = went;
        let greeting = std::mem::take(&mut stream.greeting);
        self.output.data(id, greeting, bytes);
        Ok(())
    }

    /// Ends this side's direction of a stream.
    pub(super) fn finish(&mut self, id: u32) -> Result<(), StreamError> {
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Over)?;
        if stream.has_finished {
            return Err(StreamError::Over);
        }
        stream.has_finished = true;
        let flags = flag::FIN | std::mem::take(&mut stream.greeting);
        self.output.flags(id, flags);
        Ok(())
    }

    /// Gives a stream up, both ways.
    pub(super) fn reset(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.has_finished = true;
        stream.is_finished = true;
        stream.is_reset = true;
        let was_heard_of = stream.greeting != flag::SYN;
        if was_heard_of {
            self.output.flags(id, flag::RST);
        }
    }

    /// Forgets what has come on a stream, and what comes.
    pub(super) fn discard(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.has_receiver = false;
            self.unread -= stream.received.len();
            stream.received = VecDeque::new();
        }
    }

    /// Notes that nobody sends on a stream any more.
    pub(super) fn drop_sender(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.has_sender = false;
            let was_heard_of = stream.greeting != flag::SYN;
            if was_heard_of && !stream.has_finished {
                // It has not ended yet.
                drop(self.finish(id));
            }
        }
        self.forget_if_over(id);
    }

    /// Notes that nobody receives on a stream any more.
    pub(super) fn drop_receiver(&mut self, id: u32) {
        self.discard(id);
        self.forget_if_over(id);
    }

    /// Forgets a stream that nobody holds, as soon as that is right.
    fn forget_if_over(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if stream.has_sender || stream.has_receiver {
            return;
        }
        let was_heard_of = stream.greeting != flag::SYN;
        if was_heard_of && !stream.is_finished {
            if stream.awaits_reader {
                return;
            }
            self.output.flags(id, flag::RST);
        }
        self.streams.remove(&id);
    }

    /// Asks for a sign of life, unless much waits to be sent.
    pub(super) fn ask(&mut self) {
        if self.end.is_none() && self.has_room() {
            self.output.push(Header {
                kind: Kind::Ping,
                flags: flag::SYN,
                stream: 0,
                length: 0,
            });
        }
    }

    /// Returns how many signs of life have been asked for and given.
    pub(super) const fn pings(&self) -> Pings {
        self.pings
    }

    /// Tells whether the other side has asked for a sign of life since the last call.
    pub(super) const fn was_asked(&mut self) -> bool {
        std::mem::replace(&mut self.asked, false)
    }

    /// Closes the connection, unless it has ended.
    pub(super) fn close(&mut self, code: CloseCode, words: &str) {
        if self.end.is_some() {
            return;
        }
        self.lose(End::ClosedHere);
        let words = closing::write(code, words);
        self.output.data(self.next, flag::SYN | flag::FIN, &words);
        self.output.push(Header {
            kind: Kind::GoAway,
            flags: 0,
            stream: 0,
            length: closing::NORMAL,
        });
    }
}
