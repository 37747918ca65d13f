//! A host's TCP, as far as opening connections goes: SYN-SENT wins over the listener, a 4-tuple
//! that exists cannot be connected again, a RST counts only if it answers what was sent.

use std::{collections::BTreeMap, net::SocketAddr};

use p2pconnect_punch::{CheckId, ConnectFailure, Opened, VerifyFailure};

use crate::packet::{Body, IcmpCode, Message, Packet};

/// What the host does in answer to something.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Output {
    Send(Packet),
    /// Repeat the SYN or SYN-ACK of this 4-tuple if it is still unanswered.
    Repeat(FourTuple, u32),
    Connected(CheckId, Opened),
    ConnectFailed(CheckId, ConnectFailure),
    /// A connection is in the accept queue.
    Acceptable(FourTuple),
    Broken(CheckId, VerifyFailure),
    Received(FourTuple),
}

/// Local and remote address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FourTuple(pub(crate) SocketAddr, pub(crate) SocketAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SynSent,
    /// After SYN-SENT: both sides' SYNs crossed.
    SynReceived {
        reply: u32,
    },
    /// By way of the listener.
    Embryonic {
        reply: u32,
    },
    Established {
        reply: u32,
    },
}

#[derive(Debug, Clone)]
struct Socket {
    state: State,
    seq: u32,
    check: Option<CheckId>,
    received: Vec<Message>,
}

#[derive(Debug)]
pub(crate) struct Host {
    sockets: BTreeMap<FourTuple, Socket>,
    next_seq: u32,
    pub(crate) syns: u32,
}

impl Host {
    pub(crate) const fn new(first_seq: u32) -> Self {
        Self {
            sockets: BTreeMap::new(),
            next_seq: first_seq,
            syns: 0,
        }
    }

    pub(crate) fn connect(&mut self, check: CheckId, tuple: FourTuple) -> Vec<Output> {
        if self.sockets.contains_key(&tuple) {
            let failure = ConnectFailure::AddressNotAvailable;
            return vec![Output::ConnectFailed(check, failure)];
        }
        let seq = self.new_seq();
        self.syns += 1;
        self.insert(tuple, State::SynSent, seq, Some(check));
        vec![send(tuple, Body::Syn { seq }), Output::Repeat(tuple, seq)]
    }

    pub(crate) fn close(&mut self, check: CheckId) -> Vec<Output> {
        let Some(tuple) = self.of_check(check) else {
            return Vec::new();
        };
        let socket = self.sockets.remove(&tuple).expect("just found");
        match socket.state {
            State::SynSent => Vec::new(),
            State::SynReceived { reply }
            | State::Embryonic { reply }
            | State::Established { reply } => {
                let seq = Some(socket.seq);
                vec![send(tuple, Body::Rst { seq, ack: reply })]
            }
        }
    }

    /// Names an accepted connection; returns what it has received so far.
    pub(crate) fn name(&mut self, tuple: FourTuple, check: Option<CheckId>) -> Vec<Output> {
        let Some(socket) = self.sockets.get_mut(&tuple) else {
            let broken = |check| Output::Broken(check, VerifyFailure::Closed);
            return check.map(broken).into_iter().collect();
        };
        match check {
            Some(check) => {
                socket.check = Some(check);
                let received = |_: &Message| Output::Received(tuple);
                socket.received.iter().map(received).collect()
            }
            None => {
                self.sockets.remove(&tuple);
                Vec::new()
            }
        }
    }

    pub(crate) fn of_check(&self, check: CheckId) -> Option<FourTuple> {
        let found = self.sockets.iter().find(|(_, s)| s.check == Some(check));
        found.map(|(tuple, _)| *tuple)
    }

    pub(crate) fn check_of(&self, tuple: FourTuple) -> Option<CheckId> {
        self.sockets.get(&tuple)?.check
    }

    pub(crate) fn has_received(&self, tuple: FourTuple, message: Message) -> bool {
        self.sockets
            .get(&tuple)
            .is_some_and(|socket| socket.received.contains(&message))
    }

    /// Returns both sequence numbers of an established connection, the own first.
    pub(crate) fn established(&self, check: CheckId) -> Option<(u32, u32)> {
        let socket = self.sockets.get(&self.of_check(check)?)?;
        match socket.state {
            State::Established { reply } => Some((socket.seq, reply)),
            State::SynSent | State::SynReceived { .. } | State::Embryonic { .. } => None,
        }
    }

    pub(crate) fn say(&self, check: CheckId, message: Message) -> Option<Output> {
        let tuple = self.of_check(check)?;
        let (seq, ack) = self.established(check)?;
        Some(send(tuple, Body::Message { seq, ack, message }))
    }

    pub(crate) fn repeat(&self, tuple: FourTuple, seq: u32) -> Option<Output> {
        let socket = self.sockets.get(&tuple).filter(|s| s.seq == seq)?;
        match socket.state {
            State::SynSent => Some(send(tuple, Body::Syn { seq })),
            State::SynReceived { reply } | State::Embryonic { reply } => {
                Some(send(tuple, Body::SynAck { seq, ack: reply }))
            }
            State::Established { .. } => None,
        }
    }

    pub(crate) fn receive(&mut self, packet: Packet) -> Vec<Output> {
        let tuple = FourTuple(packet.dst, packet.src);
        match packet.body {
            Body::Syn { seq } => self.on_syn(tuple, seq),
            Body::SynAck { seq, ack } => self.on_syn_ack(tuple, seq, ack),
            Body::Ack { seq, ack } => self.on_ack(tuple, seq, ack).1,
            Body::Message { seq, ack, message } => self.on_message(tuple, (seq, ack), message),
            Body::Rst { seq, ack } => self.on_rst(tuple, seq, ack),
            Body::Icmp { syn, code } => self.on_icmp(tuple, syn, code),
        }
    }

    fn on_syn(&mut self, tuple: FourTuple, reply: u32) -> Vec<Output> {
        let Some(socket) = self.sockets.get_mut(&tuple) else {
            let seq = self.new_seq();
            self.insert(tuple, State::Embryonic { reply }, seq, None);
            return vec![
                send(tuple, Body::SynAck { seq, ack: reply }),
                Output::Repeat(tuple, seq),
            ];
        };
        match socket.state {
            State::SynSent => socket.state = State::SynReceived { reply },
            State::SynReceived { reply: known } | State::Embryonic { reply: known }
                if known == reply => {}
            State::SynReceived { .. } | State::Embryonic { .. } | State::Established { .. } => {
                return Vec::new();
            }
        }
        let seq = socket.seq;
        vec![send(tuple, Body::SynAck { seq, ack: reply })]
    }

    fn on_syn_ack(&mut self, tuple: FourTuple, reply: u32, ack: u32) -> Vec<Output> {
        let reset = send(
            tuple,
            Body::Rst {
                seq: Some(ack),
                ack: reply,
            },
        );
        let Some(socket) = self.sockets.get_mut(&tuple) else {
            return vec![reset];
        };
        let seq = socket.seq;
        let acknowledge = send(tuple, Body::Ack { seq, ack: reply });
        match socket.state {
            State::SynSent | State::SynReceived { .. } if ack == seq => {
                let opened = if socket.state == State::SynSent {
                    Opened::Actively
                } else {
                    Opened::Simultaneously
                };
                socket.state = State::Established { reply };
                let check = socket.check.expect("an active socket has a check");
                vec![acknowledge, Output::Connected(check, opened)]
            }
            State::Established { reply: known } if known == reply => vec![acknowledge],
            State::SynSent
            | State::SynReceived { .. }
            | State::Embryonic { .. }
            | State::Established { .. } => vec![reset],
        }
    }

    /// Returns whether the segment belongs to an established connection.
    fn on_ack(&mut self, tuple: FourTuple, reply: u32, ack: u32) -> (bool, Vec<Output>) {
        let reset = send(
            tuple,
            Body::Rst {
                seq: Some(ack),
                ack: reply,
            },
        );
        let Some(socket) = self.sockets.get_mut(&tuple).filter(|s| s.seq == ack) else {
            return (false, vec![reset]);
        };
        match (socket.state, socket.check) {
            (State::SynReceived { .. }, Some(check)) => {
                socket.state = State::Established { reply };
                (true, vec![Output::Connected(check, Opened::Simultaneously)])
            }
            (State::Embryonic { .. }, _) => {
                socket.state = State::Established { reply };
                (true, vec![Output::Acceptable(tuple)])
            }
            (State::Established { reply: known }, _) if known == reply => (true, Vec::new()),
            (State::SynSent | State::SynReceived { .. } | State::Established { .. }, _) => {
                (false, vec![reset])
            }
        }
    }

    fn on_message(
        &mut self,
        tuple: FourTuple,
        (reply, ack): (u32, u32),
        message: Message,
    ) -> Vec<Output> {
        let (fits, mut outputs) = self.on_ack(tuple, reply, ack);
        if let Some(socket) = self.sockets.get_mut(&tuple).filter(|_| fits) {
            socket.received.push(message);
            if socket.check.is_some() {
                outputs.push(Output::Received(tuple));
            }
        }
        outputs
    }

    fn on_rst(&mut self, tuple: FourTuple, seq: Option<u32>, ack: u32) -> Vec<Output> {
        let Some(socket) = self.sockets.get(&tuple) else {
            return Vec::new();
        };
        let (valid, failure) = match socket.state {
            State::SynSent => (ack == socket.seq, ConnectFailure::Refused),
            State::SynReceived { reply }
            | State::Embryonic { reply }
            | State::Established { reply } => (seq == Some(reply), ConnectFailure::Reset),
        };
        if valid {
            self.kill(tuple, failure)
        } else {
            Vec::new()
        }
    }

    fn on_icmp(&mut self, tuple: FourTuple, syn: u32, code: IcmpCode) -> Vec<Output> {
        let Some(socket) = self.sockets.get(&tuple).filter(|s| s.seq == syn) else {
            return Vec::new();
        };
        match socket.state {
            State::SynSent | State::SynReceived { .. } => match code {
                IcmpCode::AdministrativelyProhibited => {
                    self.kill(tuple, ConnectFailure::HostUnreachable)
                }
                IcmpCode::PortUnreachable => self.kill(tuple, ConnectFailure::Refused),
            },
            State::Embryonic { .. } | State::Established { .. } => Vec::new(),
        }
    }

    fn kill(&mut self, tuple: FourTuple, failure: ConnectFailure) -> Vec<Output> {
        let socket = self.sockets.remove(&tuple).expect("the caller found it");
        let Some(check) = socket.check else {
            return Vec::new();
        };
        match socket.state {
            State::SynSent | State::SynReceived { .. } | State::Embryonic { .. } => {
                vec![Output::ConnectFailed(check, failure)]
            }
            State::Established { .. } => vec![Output::Broken(check, VerifyFailure::Closed)],
        }
    }

    fn insert(&mut self, tuple: FourTuple, state: State, seq: u32, check: Option<CheckId>) {
        let received = Vec::new();
        let socket = Socket {
            state,
            seq,
            check,
            received,
        };
        self.sockets.insert(tuple, socket);
    }

    const fn new_seq(&mut self) -> u32 {
        self.next_seq += 1;
        self.next_seq
    }
}

const fn send(tuple: FourTuple, body: Body) -> Output {
    Output::Send(Packet {
        src: tuple.0,
        dst: tuple.1,
        body,
    })
}
