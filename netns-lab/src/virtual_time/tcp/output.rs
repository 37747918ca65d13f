//! What a connection sends, and what it does when its time has come.

use std::time::Duration;

use smoltcp::wire::TcpControl;

use super::{
    MAX_UNSCALED, Repetition, State, Tcb,
    segment::Segment,
    sender::Piece,
    timers::{DATA_LIFETIME, ORPHAN_LIFETIME, wait_after_syn, wait_after_syn_ack},
};
use crate::virtual_time::socket::{Failure, Opening};

/// The window of Linux's SYNs, as many segments of Ethernet as 16 bits have room for.
const SYN_WINDOW: usize = 64_240;

impl Tcb {
    /// Sends the SYN, which is a SYN-ACK once the other end's is there.
    pub(super) fn send_syn(&mut self, now: Duration) {
        self.send_syn_again();
        self.repetition.count += 1;
        self.repetition.since.get_or_insert(now);
        let wait = self.wait_after_syns(self.repetition.count);
        self.repetition.due = wait.map(|wait| now + wait);
    }

    pub(super) fn send_syn_again(&mut self) {
        let mut syn = self.flow.segment(self.initial);
        syn.control = TcpControl::Syn;
        syn.max_seg_size = Some(self.own_segment());
        let has_other = self.state != State::SynSent;
        syn.ack_number = has_other.then_some(self.receiver.next);
        // A SYN-ACK scales if the SYN did.
        let may_scale = self.is_scaled || self.opening != Opening::Passive;
        syn.window_scale = may_scale.then_some(self.receiver.scale);
        let window = self.receiver.window().min(SYN_WINDOW).min(MAX_UNSCALED);
        syn.window_len = u16::try_from(window).unwrap_or(u16::MAX);
        self.push(&syn);
    }

    fn push(&mut self, segment: &Segment<'_>) {
        self.sent.push(self.flow.packet(segment));
    }

    /// Acknowledges all that has come.
    pub(super) fn send_ack(&mut self) {
        let ack = self.bare(0);
        self.push(&ack);
    }

    /// Returns a segment without data, from so many bytes before what is to be sent.
    fn bare(&mut self, before: usize) -> Segment<'static> {
        let mut segment = self.flow.segment(self.sender.end - before);
        segment.ack_number = Some(self.receiver.next);
        segment.window_len = self.receiver.announce();
        segment
    }

    pub(super) fn send_reset(&mut self) {
        let mut reset = self.bare(0);
        reset.control = TcpControl::Rst;
        self.push(&reset);
    }

    /// Sends a piece of the stream.
    fn send_piece(&mut self, now: Duration, piece: &Piece) {
        let mut segment = self.flow.segment(piece.seq);
        segment.ack_number = Some(self.receiver.next);
        segment.window_len = self.receiver.announce();
        segment.control = if piece.is_last {
            TcpControl::Fin
        } else {
            TcpControl::Psh
        };
        segment.payload = &piece.data;
        self.push(&segment);
        self.sender.sent(now, piece);
    }

    /// Sends all that there is room for; returns how many segments that were.
    pub(super) fn send_data(&mut self, now: Duration) -> usize {
        let mut segments = 0;
        while let Some(piece) = self.sender.next_piece() {
            self.send_piece(now, &piece);
            segments += 1;
        }
        if self.repetition.due.is_none() {
            self.arm(now);
        }
        segments
    }

    pub(super) fn send_first_again(&mut self, now: Duration) {
        let piece = self.sender.first_piece();
        self.send_piece(now, &piece);
    }

    /// Begins to wait anew after an answer.
    pub(super) fn rest(&mut self, now: Duration) {
        self.repetition = Repetition::default();
        self.arm(now);
        self.watch(now);
    }

    /// Waits for an answer to what is under way, or for the window to open.
    fn arm(&mut self, now: Duration) {
        if self.sender.is_under_way() || self.sender.is_stopped() {
            let wait = self.round_trip.timeout(self.repetition.doublings);
            self.repetition.due = Some(now + wait);
        }
    }

    /// Asks whether the other end is there when the connection has been idle.
    pub(super) fn watch(&mut self, now: Duration) {
        let is_open = matches!(
            self.state,
            State::Established | State::CloseWait | State::FinWait1 | State::LastAck
        );
        if is_open {
            let idle = self.options.keep_alive.map(|it| it.idle);
            self.idle = idle.map(|idle| now + idle);
        }
    }

    /// Does what is due.
    pub(in crate::virtual_time) fn timeout(&mut self, now: Duration) {
        if self.repetition.due.is_some_and(|due| due <= now) {
            self.repetition.due = None;
            match self.state {
                State::SynSent | State::SynReceived => self.repeat_syn(now),
                State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
                | State::TimeWait
                | State::Closed => self.repeat_data(now),
            }
        }
        if self.idle.is_some_and(|due| due <= now) {
            self.idle = None;
            match self.state {
                State::TimeWait | State::FinWait2 => self.finish(None),
                State::SynSent
                | State::SynReceived
                | State::Established
                | State::FinWait1
                | State::CloseWait
                | State::Closing
                | State::LastAck
                | State::Closed => self.ask(now),
            }
        }
    }

    /// Returns how long to wait for an answer after so many SYNs, or SYN-ACKs, or nothing where no
    /// more are sent.
    fn wait_after_syns(&self, sent: u32) -> Option<Duration> {
        match self.state {
            State::SynSent => wait_after_syn(sent),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => wait_after_syn_ack(sent, self.opening != Opening::Passive),
        }
    }

    fn repeat_syn(&mut self, now: Duration) {
        let sent = self.repetition.count + 1;
        if self.wait_after_syns(sent).is_some() {
            self.send_syn(now);
        } else {
            self.finish(Some(Failure::TimedOut));
        }
    }

    /// Sends the first of what is under way again, or asks whether the window is open, with doubled
    /// patience.
    fn repeat_data(&mut self, now: Duration) {
        let since = *self.repetition.since.get_or_insert(now);
        let lifetime = if self.is_orphan {
            ORPHAN_LIFETIME
        } else {
            DATA_LIFETIME
        };
        if now.saturating_sub(since) >= lifetime {
            return self.finish(Some(Failure::TimedOut));
        }
        self.repetition.count += 1;
        self.repetition.doublings += 1;
        if self.sender.is_under_way() {
            self.sender.time_out();
            self.send_first_again(now);
        } else if self.sender.is_stopped() {
            // RFC 9293 section 3.8.6.1, with a byte that the other end has.
            let probe = self.bare(1);
            self.push(&probe);
        }
        self.arm(now);
    }

    /// Asks an idle connection's other end whether it is there (RFC 9293 section 3.8.4).
    fn ask(&mut self, now: Duration) {
        let Some(keep_alive) = self.options.keep_alive else {
            return;
        };
        if self.sender.is_under_way() || self.sender.is_stopped() {
            // What is under way asks as well.
            self.idle = Some(now + keep_alive.idle);
            return;
        }
        let rested = now.saturating_sub(self.heard);
        if self.questions == 0 && rested < keep_alive.idle {
            self.idle = Some(self.heard + keep_alive.idle);
            return;
        }
        if self.questions >= keep_alive.questions {
            self.send_reset();
            return self.finish(Some(Failure::TimedOut));
        }
        self.questions += 1;
        let question = self.bare(1);
        self.push(&question);
        self.idle = Some(now + keep_alive.interval);
    }
}
