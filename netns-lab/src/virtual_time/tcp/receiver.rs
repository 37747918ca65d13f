//! What comes in: data in order, data that is early, and the window.

use std::collections::{BTreeMap, VecDeque};

use super::{
    copy,
    segment::{Seq, distance},
};

/// The data of one direction until a program takes it.
#[derive(Debug)]
pub(super) struct Receiver {
    /// RCV.NXT.
    pub(super) next: Seq,
    /// Bytes that there is room for.
    capacity: usize,
    /// The shift of windows that are announced.
    pub(super) scale: u8,
    ready: VecDeque<u8>,
    /// How many bytes have come in order so far, which is where `next` is in the stream.
    position: u64,
    /// What has come behind a gap, by its place in the stream.
    early: BTreeMap<u64, Vec<u8>>,
    /// Where the stream ends, if that has been said.
    end: Option<u64>,
    /// Whether all of it has come.
    pub(super) is_complete: bool,
    /// Whether anything has ever come behind a gap.
    pub(super) has_been_early: bool,
    /// The window that was announced last, from `next` of that time on.
    announced: Seq,
}

impl Receiver {
    pub(super) fn new(capacity: usize, scale: u8) -> Self {
        Self {
            next: Seq::default(),
            capacity,
            scale,
            ready: VecDeque::new(),
            position: 0,
            early: BTreeMap::new(),
            end: None,
            is_complete: false,
            has_been_early: false,
            announced: Seq::default(),
        }
    }

    /// Takes the sequence number of the other end's SYN.
    pub(super) fn begin(&mut self, initial: Seq) {
        self.next = initial + 1;
        self.announced = self.next;
    }

    /// RCV.WND.
    pub(super) fn window(&self) -> usize {
        self.capacity - self.ready.len()
    }

    /// Returns the window field of a segment that leaves now.
    pub(super) fn announce(&mut self) -> u16 {
        let field = u16::try_from(self.window() >> self.scale).unwrap_or(u16::MAX);
        self.announced = self.next + (usize::from(field) << self.scale);
        field
    }

    /// Returns whether the window has grown so much since it was announced that the other end
    /// should hear of it: Linux tells when it has doubled.
    pub(super) fn should_announce(&self) -> bool {
        let known = usize::try_from(distance(self.next, self.announced)).unwrap_or(0);
        let window = self.window();
        window > 0 && known * 2 <= self.capacity && window >= known * 2
    }

    /// Returns whether a segment of this length lies in the window (RFC 9293 section
    /// 3.10.7.4), as Linux sees it: what is all old or all beyond it does not.
    pub(super) fn accepts(&self, start: Seq, length: usize) -> bool {
        let window = i32::try_from(self.window()).unwrap_or(i32::MAX);
        distance(self.next, start + length) >= 0 && distance(self.next, start) <= window
    }

    /// Takes data; returns whether more of it can be read now, or its end.
    pub(super) fn take(&mut self, start: Seq, data: &[u8], is_last: bool) -> bool {
        let before = (self.position, self.is_complete);
        // Data before the beginning of the stream is old.
        let offset = i64::from(distance(self.next, start));
        let (old, place) = match self.position.checked_add_signed(offset) {
            Some(place) => (0, place),
            None => (offset.unsigned_abs() - self.position, 0),
        };
        let data = behind(data, old);
        if is_last {
            self.end = Some(place + data.len() as u64);
        }
        if let Some(old) = self.position.checked_sub(place) {
            self.append(behind(data, old));
        } else {
            self.keep(place, data);
        }
        self.join();
        before != (self.position, self.is_complete)
    }

    /// Keeps data that is early, as far as the window has room for it.
    fn keep(&mut self, place: u64, data: &[u8]) {
        let room = (self.position + self.window() as u64).saturating_sub(place);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        if data.is_empty() {
            return;
        }
        self.has_been_early = true;
        let known = self.early.entry(place).or_default();
        if known.len() < data.len() {
            *known = data.to_vec();
        }
    }

    fn append(&mut self, data: &[u8]) {
        let data = &data[..data.len().min(self.window())];
        self.ready.extend(data);
        self.position += data.len() as u64;
        self.next += data.len();
    }

    /// Moves what is not early any more.
    fn join(&mut self) {
        while let Some((&place, _)) = self.early.first_key_value() {
            if place > self.position {
                break;
            }
            let data = self
                .early
                .pop_first()
                .map_or_else(Vec::new, |(_, data)| data);
            self.append(behind(&data, self.position - place));
        }
        if !self.is_complete && self.end == Some(self.position) {
            self.is_complete = true;
            self.next += 1;
        }
    }

    /// Returns how many bytes can be read.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Copies what can be read next.
    pub(super) fn peek(&self, buffer: &mut [u8]) -> usize {
        copy(&self.ready, 0, buffer)
    }

    /// Takes what can be read next.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.peek(buffer);
        self.ready.drain(..count);
        count
    }
}

/// Returns what is behind the first `old` bytes.
fn behind(data: &[u8], old: u64) -> &[u8] {
    let old = usize::try_from(old).unwrap_or(usize::MAX);
    data.get(old..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Pieces of a stream in any order, again and again, from any sequence number.
        #[test]
        fn any_pieces_make_the_stream(
            initial in any::<i32>(),
            length in 0usize..300,
            pieces in prop::collection::vec((0usize..300, 0usize..80), 0..60),
        ) {
            let stream: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut receiver = Receiver::new(1000, 0);
            receiver.begin(Seq { 0: initial });
            let first = receiver.next;
            let mut came = Vec::new();
            let whole = [(0, 150), (100, 200)];
            for (from, count) in pieces.into_iter().chain(whole) {
                let from = from.min(length);
                let to = (from + count).min(length);
                receiver.take(first + from, &stream[from..to], to == length);
                let mut buffer = [0; 64];
                let taken = receiver.read(&mut buffer);
                came.extend(&buffer[..taken]);
            }
            let mut rest = vec![0; receiver.len()];
            receiver.read(&mut rest);
            came.extend(rest);
            prop_assert!(receiver.is_complete);
            prop_assert_eq!(came, stream);
            prop_assert_eq!(receiver.next, first + length + 1);
        }

        /// What comes beyond the window is left out, whatever it says.
        #[test]
        fn no_more_is_kept_than_there_is_room_for(
            pieces in prop::collection::vec((-50i32..300, 0usize..200, any::<bool>()), 0..60),
        ) {
            let mut receiver = Receiver::new(100, 0);
            receiver.begin(Seq { 0: 7 });
            for (from, count, is_last) in pieces {
                let start = Seq { 0: receiver.next.0.wrapping_add(from) };
                if receiver.accepts(start, count) {
                    receiver.take(start, &vec![1; count], is_last);
                }
                prop_assert!(receiver.len() <= 100);
                prop_assert!(receiver.early.values().map(Vec::len).all(|len| len <= 100));
            }
        }
    }
}
