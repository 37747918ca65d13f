//! What a segment does (RFC 9293 section 3.10.7), and an ICMP error.

use std::time::Duration;

use smoltcp::wire::TcpControl;

use super::{
    CHALLENGE_PAUSE, FIN_TIMEOUT, HEADERS_V4, HEADERS_V6, State, Tcb,
    segment::{self, Segment, Seq, distance},
};
use crate::virtual_time::socket::{Failure, Opening};

/// The longest segment where the other end names none (RFC 9293 section 3.7.1).
const DEFAULT_SEGMENT_V4: u16 = 536;
const DEFAULT_SEGMENT_V6: u16 = 1220;

/// The shortest that a path makes it (Linux's `net.ipv4.route.min_pmtu`, 552).
const LEAST_SEGMENT: u16 = 512;

/// How soon a SYN is repeated that met another connection (`TCP_TIMEOUT_MIN`).
const SOON: Duration = Duration::from_millis(2);

impl Tcb {
    /// Takes a segment.
    pub(in crate::virtual_time) fn input(&mut self, now: Duration, segment: &Segment<'_>) {
        match self.state {
            State::SynSent => self.input_in_syn_sent(now, segment),
            State::TimeWait => self.input_in_time_wait(now, segment),
            State::Closed => {}
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => self.input_synchronized(now, segment),
        }
    }

    fn input_in_syn_sent(&mut self, now: Duration, segment: &Segment<'_>) {
        let is_rst = segment.control == TcpControl::Rst;
        let is_syn = segment.control == TcpControl::Syn;
        let Some(ack) = segment.ack_number else {
            if is_syn {
                self.cross(now, segment);
            }
            return;
        };
        if ack != self.sender.end {
            // The other end has an older connection; the RST ends it, and the next SYN is heard.
            self.sent.extend(self.flow.refusal(segment));
            if self.repetition.count <= 1 {
                self.repetition.due = Some(now + SOON);
            }
        } else if is_rst {
            self.finish(Some(Failure::Refused));
        } else if is_syn {
            self.take_syn(now, segment);
            self.establish(now, segment);
            self.send_ack();
        }
    }

    /// A SYN has come while ours is unanswered (RFC 9293 section 3.5, figure 8).
    fn cross(&mut self, now: Duration, syn: &Segment<'_>) {
        self.opening = Opening::Simultaneous;
        self.state = State::SynReceived;
        self.has_news = true;
        self.take_syn(now, syn);
        let due = self.repetition.due;
        self.repetition.count = 0;
        self.send_syn(now);
        self.repetition.due = due;
    }

    /// Takes what the other end's SYN says.
    pub(super) fn take_syn(&mut self, now: Duration, syn: &Segment<'_>) {
        self.heard = now;
        self.receiver.begin(syn.seq_number);
        self.is_scaled = syn.window_scale.is_some();
        self.sender.scale = syn.window_scale.unwrap_or(0);
        if !self.is_scaled {
            self.receiver.scale = 0;
        }
        let default = if self.flow.local.is_ipv4() {
            DEFAULT_SEGMENT_V4
        } else {
            DEFAULT_SEGMENT_V6
        };
        let theirs = syn.max_seg_size.unwrap_or(default).max(1);
        self.sender.largest_segment = theirs.min(self.own_segment()).into();
        // A SYN's window is not scaled (RFC 7323 section 2.2).
        let window = syn.window_len.into();
        self.sender.begin_window(syn.seq_number, window);
    }

    /// Our SYN is acknowledged, and we have the other end's.
    fn establish(&mut self, now: Duration, segment: &Segment<'_>) {
        if let Some(at) = self.repetition.since.filter(|_| self.repetition.count == 1) {
            // One round trip is the least one.
            let _waits: bool = self.round_trip.measure(now.saturating_sub(at));
        }
        self.sender.begin();
        if segment.control != TcpControl::Syn {
            self.sender
                .update_window(segment.seq_number, segment.window_len, true);
        }
        self.state = State::Established;
        self.established = Some(now);
        self.has_news = true;
        self.rest(now);
    }

    fn input_in_time_wait(&mut self, now: Duration, segment: &Segment<'_>) {
        let is_expected = segment.seq_number == self.receiver.next;
        if segment.control == TcpControl::Rst {
            if is_expected {
                self.finish(None);
            }
            return;
        }
        if segment.ack_number.is_some() {
            self.idle = Some(now + FIN_TIMEOUT);
        }
        if !is_expected || segment.segment_len() > 0 {
            self.challenge(now, segment);
        }
    }

    fn input_synchronized(&mut self, now: Duration, segment: &Segment<'_>) {
        if self.repeats_syn(segment) {
            return self.answer_again(now);
        }
        let is_rst = segment.control == TcpControl::Rst;
        if !self
            .receiver
            .accepts(segment.seq_number, segment.segment_len())
        {
            if !is_rst {
                self.challenge(now, segment);
            }
            return;
        }
        if is_rst {
            return self.input_reset(now, segment);
        }
        let completes_crossing = self.completes_crossing(segment);
        if segment.control == TcpControl::Syn && !completes_crossing {
            return self.challenge(now, segment);
        }
        let Some(ack) = segment.ack_number else {
            return;
        };
        self.heard = now;
        self.questions = 0;
        if self.state == State::SynReceived {
            if ack != self.sender.end {
                self.sent.extend(self.flow.refusal(segment));
                return;
            }
            self.establish(now, segment);
        } else if !self.input_ack(now, ack, segment) {
            return;
        }
        let needs_ack = self.input_data(now, segment) || completes_crossing;
        if self.state == State::Closed {
            return;
        }
        if self.send_data(now) == 0 && needs_ack {
            self.send_ack();
        }
    }

    /// Returns whether a listener's SYN has come again.
    fn repeats_syn(&self, segment: &Segment<'_>) -> bool {
        self.state == State::SynReceived
            && self.opening == Opening::Passive
            && segment::is_syn(segment)
            && segment.seq_number + 1 == self.receiver.next
    }

    /// Linux since 6.12 takes the ACK in a crossing SYN-ACK, and answers the SYN in it, so that
    /// both ends are done after one round trip.
    fn completes_crossing(&self, segment: &Segment<'_>) -> bool {
        self.state == State::SynReceived
            && self.opening == Opening::Simultaneous
            && segment.control == TcpControl::Syn
            && segment.ack_number == Some(self.sender.end)
            && segment.seq_number + 1 == self.receiver.next
            && segment.payload.is_empty()
    }

    /// Only a reset at the very beginning of the window ends a connection; another one is
    /// challenged (RFC 5961 section 3.2). A half-open connection of a listener believes each.
    fn input_reset(&mut self, now: Duration, segment: &Segment<'_>) {
        let is_half_open = self.state == State::SynReceived && self.opening == Opening::Passive;
        if !is_half_open && segment.seq_number != self.receiver.next {
            return self.challenge(now, segment);
        }
        let is_over = matches!(self.state, State::Closing | State::LastAck);
        self.finish((!is_half_open && !is_over).then_some(Failure::Reset));
    }

    /// Takes an acknowledgement; returns whether the segment goes on.
    fn input_ack(&mut self, now: Duration, ack: Seq, segment: &Segment<'_>) -> bool {
        if distance(self.sender.end, ack) > 0 {
            self.challenge(now, segment);
            return false;
        }
        let was_stopped = self.sender.is_stopped();
        let is_new = distance(self.sender.unacknowledged, ack) > 0;
        let is_same = !self.sender.has_other_window(segment.window_len);
        let is_bare = segment.segment_len() == 0 && is_same;
        let acknowledged = self.sender.acknowledge(ack, is_bare);
        if distance(self.sender.unacknowledged, ack) >= 0 {
            self.sender
                .update_window(segment.seq_number, segment.window_len, is_new);
        }
        if let Some(at) = acknowledged.sent_at
            && self.round_trip.measure(now.saturating_sub(at))
        {
            self.sender.leave_slow_start();
        }
        if acknowledged.resend {
            self.send_first_again(now);
        }
        if acknowledged.is_new {
            self.has_news = true;
        }
        if self.sender.is_stopped() {
            // The other end is there, and has no room.
            self.repetition.count = 0;
            self.repetition.since = None;
        }
        if acknowledged.is_new || was_stopped && !self.sender.is_stopped() {
            self.rest(now);
        }
        if self.sender.is_complete {
            self.input_ack_of_fin(now);
        }
        true
    }

    fn input_ack_of_fin(&mut self, now: Duration) {
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                self.idle = self.is_orphan.then(|| now + FIN_TIMEOUT);
            }
            State::Closing => self.wait_out(now),
            State::LastAck => self.finish(None),
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait2
            | State::CloseWait
            | State::TimeWait
            | State::Closed => {}
        }
    }

    fn wait_out(&mut self, now: Duration) {
        self.state = State::TimeWait;
        self.repetition.due = None;
        self.idle = Some(now + FIN_TIMEOUT);
    }

    /// Takes the data and the FIN of a segment; returns whether they are to be
    /// acknowledged.
    fn input_data(&mut self, now: Duration, segment: &Segment<'_>) -> bool {
        let is_last = segment.control == TcpControl::Fin;
        if segment.payload.is_empty() && !is_last {
            return false;
        }
        let takes = matches!(
            self.state,
            State::Established | State::FinWait1 | State::FinWait2
        );
        if !takes {
            return true;
        }
        let end = segment.seq_number + segment.payload.len();
        if self.is_orphan && distance(self.receiver.next, end) > 0 {
            // RFC 1122 section 4.2.2.13: who closed takes no more data.
            self.send_reset();
            self.finish(None);
            return false;
        }
        let news = self
            .receiver
            .take(segment.seq_number, segment.payload, is_last);
        self.has_news |= news;
        if self.receiver.is_complete {
            self.input_fin(now);
        }
        true
    }

    fn input_fin(&mut self, now: Duration) {
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.wait_out(now),
            State::SynSent
            | State::SynReceived
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => {}
        }
    }

    /// Answers what cannot be right with where the connection is (RFC 5961), which is not so often
    /// that two ends could answer each other for ever.
    fn challenge(&mut self, now: Duration, segment: &Segment<'_>) {
        let is_limited = segment.payload.is_empty() || segment.control == TcpControl::Syn;
        if is_limited && self.challenged.is_some_and(|at| now < at + CHALLENGE_PAUSE) {
            return;
        }
        if is_limited {
            self.challenged = Some(now);
        }
        self.send_ack();
    }

    /// Sends the SYN-ACK again for a SYN that has come again.
    fn answer_again(&mut self, now: Duration) {
        if self.challenged.is_none_or(|at| now >= at + CHALLENGE_PAUSE) {
            self.challenged = Some(now);
            self.send_syn_again();
        }
    }

    /// Takes an ICMP error about a segment of ours, as Linux does: it ends an attempt and is
    /// ignored later on (RFC 5461 section 4.1 says why). Returns whether it ended this one.
    pub(in crate::virtual_time) fn icmp(
        &mut self,
        sequence: u32,
        failure: Failure,
        ends_half_open: bool,
    ) -> bool {
        let concerned = match self.state {
            State::SynSent => self.initial.0.cast_unsigned() == sequence,
            State::SynReceived => self.opening != Opening::Passive || ends_half_open,
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => false,
        };
        if concerned {
            self.finish(Some(failure));
        }
        concerned
    }

    /// Takes from an ICMP error how long a packet may be on the path (RFC 1191, RFC
    /// 8201), and sends anew what was longer. Returns whether that was news.
    pub(in crate::virtual_time) fn shorten(&mut self, now: Duration, mtu: u16) -> bool {
        let headers = if self.flow.local.is_ipv4() {
            HEADERS_V4
        } else {
            HEADERS_V6
        };
        let largest = usize::from(mtu.saturating_sub(headers).max(LEAST_SEGMENT));
        if self.established.is_none() || largest >= self.sender.largest_segment {
            return false;
        }
        self.sender.shorten_segments(largest);
        self.send_data(now);
        true
    }
}
