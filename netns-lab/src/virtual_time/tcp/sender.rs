//! What goes out: data until it is acknowledged, the window, and congestion control.

use std::{collections::VecDeque, time::Duration};

use super::{
    copy,
    segment::{Seq, distance},
};

/// Segments that are sent before anything is acknowledged (RFC 6928).
const INITIAL_WINDOW: usize = 10;

/// Acknowledgements of the same that tell of a lost segment (RFC 5681 section 3.2).
const DUPLICATES: u32 = 3;

/// More than any path of a world takes.
const MAX_CONGESTION_WINDOW: usize = 16 << 20;

/// The data of one direction until the other end has acknowledged it.
#[derive(Debug)]
pub(super) struct Sender {
    /// From `unacknowledged` on, behind the SYN.
    buffer: VecDeque<u8>,
    capacity: usize,
    /// Whether FIN follows the data.
    is_closed: bool,
    /// Whether the FIN is acknowledged.
    pub(super) is_complete: bool,
    /// SND.UNA.
    pub(super) unacknowledged: Seq,
    /// SND.NXT, which a timeout sets back.
    next: Seq,
    /// The end of all that has been sent.
    pub(super) end: Seq,
    /// SND.WND.
    window: usize,
    /// SND.WL1.
    window_from: Seq,
    /// The shift of windows that the other end announces.
    pub(super) scale: u8,
    /// The longest segment.
    pub(super) largest_segment: usize,
    congestion: Congestion,
    /// The segments whose acknowledgement tells the round trip time, and when each was sent.
    timed: VecDeque<(Seq, Duration)>,
}

/// NewReno (RFC 5681, RFC 6582), in bytes.
#[derive(Debug)]
struct Congestion {
    window: usize,
    threshold: usize,
    duplicates: u32,
    is_recovering: bool,
    /// What had been sent when a loss was found last.
    recover: Seq,
}

/// A piece of the stream to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) seq: Seq,
    pub(super) data: Vec<u8>,
    pub(super) is_last: bool,
}

/// What an acknowledgement has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Acknowledged {
    /// Whether it was for something new.
    pub(super) is_new: bool,
    /// Whether the first segment that is not acknowledged is to be sent again.
    pub(super) resend: bool,
    /// When the segment was sent that it answers, if that is sure.
    pub(super) sent_at: Option<Duration>,
}

impl Sender {
    pub(super) fn new(initial: Seq, capacity: usize) -> Self {
        Self {
            buffer: VecDeque::new(),
            capacity,
            is_closed: false,
            is_complete: false,
            unacknowledged: initial,
            next: initial + 1,
            end: initial + 1,
            window: 0,
            window_from: Seq::default(),
            scale: 0,
            largest_segment: 0,
            congestion: Congestion {
                window: usize::MAX,
                threshold: MAX_CONGESTION_WINDOW,
                duplicates: 0,
                is_recovering: false,
                recover: initial,
            },
            timed: VecDeque::new(),
        }
    }

    /// Begins with data when the SYN is acknowledged.
    pub(super) fn begin(&mut self) {
        self.unacknowledged = self.end;
        self.next = self.end;
        self.congestion.window = INITIAL_WINDOW * self.largest_segment;
        self.congestion.recover = self.end;
    }

    /// Takes data; returns how much there was room for.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let count = data.len().min(self.capacity - self.buffer.len());
        self.buffer.extend(&data[..count]);
        count
    }

    /// Ends the stream behind the data.
    pub(super) const fn close(&mut self) {
        self.is_closed = true;
    }

    /// Returns how many bytes are not acknowledged, FIN being one.
    pub(super) fn outstanding(&self) -> usize {
        self.buffer.len() + usize::from(self.is_closed && !self.is_complete)
    }

    /// Returns whether anything that has been sent is not acknowledged.
    pub(super) fn is_under_way(&self) -> bool {
        self.unacknowledged != self.end
    }

    /// Returns whether something waits for the other end to open its window.
    pub(super) fn is_stopped(&self) -> bool {
        !self.is_under_way() && self.outstanding() > 0 && self.window == 0
    }

    /// Takes the window of a segment, unless it is older than the last one (RFC 9293
    /// section 3.10.7.4, as Linux reads it).
    pub(super) fn update_window(&mut self, segment: Seq, field: u16, is_new: bool) {
        let window = usize::from(field) << self.scale;
        let age = distance(self.window_from, segment);
        if is_new || age > 0 || age == 0 && (window > self.window || window == 0) {
            self.window = window;
            self.window_from = segment;
        }
    }

    /// Returns whether a segment announces another window than the last one.
    pub(super) fn has_other_window(&self, field: u16) -> bool {
        usize::from(field) << self.scale != self.window
    }

    /// Takes the window of the first segment that had one.
    pub(super) fn begin_window(&mut self, segment: Seq, window: usize) {
        self.window = window;
        self.window_from = segment;
    }

    /// Takes an acknowledgement of something that has been sent; `is_bare` says that the segment
    /// brings nothing else, and no other window.
    pub(super) fn acknowledge(&mut self, ack: Seq, is_bare: bool) -> Acknowledged {
        let count = distance(self.unacknowledged, ack);
        let Ok(count @ 1..) = usize::try_from(count) else {
            let resend = count == 0 && is_bare && self.is_under_way() && self.count_duplicate();
            return Acknowledged {
                resend,
                ..Acknowledged::default()
            };
        };
        let data = count.min(self.buffer.len());
        self.buffer.drain(..data);
        self.is_complete |= count > data;
        self.unacknowledged = ack;
        if distance(self.next, ack) > 0 {
            self.next = ack;
        }
        let answered = self
            .timed
            .partition_point(|(end, _)| distance(*end, ack) >= 0);
        let sent_at = self.timed.drain(..answered).next_back().map(|(_, at)| at);
        Acknowledged {
            is_new: true,
            resend: self.grow(ack, count),
            sent_at,
        }
    }

    /// Returns the piece that the windows have room for now, if any.
    pub(super) fn next_piece(&self) -> Option<Piece> {
        if self.is_complete {
            return None;
        }
        let from = usize::try_from(distance(self.unacknowledged, self.next)).ok()?;
        let left = self.buffer.len().checked_sub(from)?;
        let usable = self.window.min(self.congestion.window).saturating_sub(from);
        let wanted = left.min(self.largest_segment);
        // A small segment because of a small window only if nothing else is under way, whose
        // acknowledgement would open it (RFC 9293 section 3.8.6.2.1).
        let length = if wanted <= usable || from == 0 {
            wanted.min(usable)
        } else {
            0
        };
        let is_last = self.is_closed && length == left;
        (length > 0 || is_last).then(|| self.piece(self.next, from, length, is_last))
    }

    /// Returns the first piece that is not acknowledged.
    pub(super) fn first_piece(&self) -> Piece {
        let sent = usize::try_from(distance(self.unacknowledged, self.end)).unwrap_or(0);
        let length = self.buffer.len().min(self.largest_segment).min(sent);
        let is_last = self.is_closed && length == self.buffer.len() && sent > length;
        self.piece(self.unacknowledged, 0, length, is_last)
    }

    fn piece(&self, seq: Seq, from: usize, length: usize, is_last: bool) -> Piece {
        let mut data = vec![0; length];
        copy(&self.buffer, from, &mut data);
        Piece { seq, data, is_last }
    }

    /// Takes note that a piece has been sent.
    pub(super) fn sent(&mut self, now: Duration, piece: &Piece) {
        let end = piece.seq + piece.data.len() + usize::from(piece.is_last);
        if distance(self.end, end) > 0 {
            self.end = end;
            self.timed.push_back((end, now));
        } else {
            // Its acknowledgement may be for the first time it was sent (Karn).
            self.timed.clear();
        }
        if distance(self.next, end) > 0 {
            self.next = end;
        }
    }

    /// Lets the congestion window grow slowly from now on.
    pub(super) fn leave_slow_start(&mut self) {
        let it = &mut self.congestion;
        it.threshold = it.threshold.min(it.window);
    }

    /// Begins anew behind what is acknowledged, when nothing has been for too long.
    pub(super) fn time_out(&mut self) {
        let under_way = usize::try_from(distance(self.unacknowledged, self.end)).unwrap_or(0);
        self.next = self.unacknowledged;
        self.timed.clear();
        self.congestion = Congestion {
            window: self.largest_segment,
            threshold: (under_way / 2).max(2 * self.largest_segment),
            duplicates: 0,
            is_recovering: false,
            recover: self.end,
        };
    }

    /// Sends in segments of this length from now on, and anew what is under way.
    pub(super) fn shorten_segments(&mut self, largest: usize) {
        self.largest_segment = largest;
        self.next = self.unacknowledged;
        self.timed.clear();
    }

    /// Counts an acknowledgement that acknowledges nothing; returns whether the first
    /// segment is lost by now.
    fn count_duplicate(&mut self) -> bool {
        let segment = self.largest_segment;
        let under_way = usize::try_from(distance(self.unacknowledged, self.end)).unwrap_or(0);
        let it = &mut self.congestion;
        it.duplicates += 1;
        if it.is_recovering {
            it.window = (it.window + segment).min(MAX_CONGESTION_WINDOW);
            return false;
        }
        if it.duplicates != DUPLICATES || distance(it.recover, self.unacknowledged) < 0 {
            return false;
        }
        it.threshold = (under_way / 2).max(2 * segment);
        it.window = it.threshold + 3 * segment;
        it.is_recovering = true;
        it.recover = self.end;
        true
    }

    /// Lets the congestion window grow; returns whether one more segment is lost.
    fn grow(&mut self, ack: Seq, count: usize) -> bool {
        let segment = self.largest_segment;
        let it = &mut self.congestion;
        it.duplicates = 0;
        if it.is_recovering {
            let is_partial = distance(ack, it.recover) > 0;
            it.window = if is_partial {
                it.window.saturating_sub(count).max(segment) + segment
            } else {
                it.threshold
            };
            it.is_recovering = is_partial;
            return is_partial;
        }
        let more = if it.window < it.threshold {
            count
        } else {
            (segment * segment / it.window.max(1)).max(1)
        };
        it.window = (it.window + more).min(MAX_CONGESTION_WINDOW);
        false
    }
}
