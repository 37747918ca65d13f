//! The server's side of a peer's questions, on either ground.
//!
//! Whoever connects is told where from, in a line of text. Who then sends a line
//! with a number is connected back to, from another port and from another
//! address, and is told what became of it after so many milliseconds at most.

use std::net::{IpAddr, SocketAddr};
use std::str;
use std::time::{Duration, Instant};

use p2pconnect_punch::ConnectFailure;
use p2pconnect_punch::behaviour::{BackFrom, BackOutcome, ConnectBack};

use super::sockets::{Progress, Received, Sockets};

/// The ports on which the server answers.
pub(super) const PORTS: [u16; 2] = [3478, 3479];

/// The port that it connects back from; nobody is ever sent to it.
pub(super) const BACK_PORT: u16 = 3480;

/// An address and a port as text, with the end of the line; the other lines are shorter.
pub(super) const MAX_LINE: usize = 64;

/// The longest that a peer may have the server wait for an answer.
const MAX_PATIENCE: Duration = Duration::from_secs(2);

/// More than two peers, with all that they ask, ever have.
const MAX_CLIENTS: usize = 128;

/// The words for what became of a connection back.
const WORDS: [(BackOutcome, &str); 4] = [
    (BackOutcome::Connected, "connected"),
    (BackOutcome::Reset, "reset"),
    (BackOutcome::Icmp, "icmp"),
    (BackOutcome::Silent, "silent"),
];

/// Where the server connects back from.
const FROM: [BackFrom; 2] = [BackFrom::OtherPort, BackFrom::OtherAddress];

/// A server of one or two addresses.
#[derive(Debug)]
pub(super) struct Server<S> {
    addresses: Vec<IpAddr>,
    clients: Vec<Client<S>>,
}

/// Somebody who came.
#[derive(Debug)]
struct Client<S> {
    socket: S,
    local: SocketAddr,
    remote: SocketAddr,
    state: Asking<S>,
}

#[derive(Debug)]
enum Asking<S> {
    Silent(Line),
    ConnectedTo { until: Instant, backs: Vec<Back<S>> },
    Answered,
}

#[derive(Debug, Clone, Copy)]
struct Back<S> {
    socket: Option<S>,
    outcome: Option<BackOutcome>,
}

/// A line of text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<u8>);

/// Why there will be no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoLine;

impl Line {
    /// Returns the line without its end, once it is there.
    pub(super) fn poll<T: Sockets>(
        &mut self,
        sockets: &mut T,
        socket: T::Socket,
    ) -> Result<Option<&str>, NoLine> {
        let mut buffer = [0; MAX_LINE];
        match sockets.receive(socket, &mut buffer) {
            Received::Nothing => return Ok(None),
            Received::Closed => return Err(NoLine),
            Received::Bytes(count) => self.0.extend_from_slice(&buffer[..count]),
        }
        match self.0.strip_suffix(b"\n") {
            Some(line) => Ok(Some(str::from_utf8(line).map_err(|_| NoLine)?)),
            None if self.0.len() > MAX_LINE => Err(NoLine),
            None => Ok(None),
        }
    }
}

/// Asks to be connected back to, and to be told within that time.
pub(super) fn request(patience: Duration) -> String {
    format!("{}\n", patience.as_millis())
}

/// Reads what a server says about its connections back.
pub(super) fn read_backs(line: &str) -> Vec<ConnectBack> {
    let outcome = |word| WORDS.iter().find(|(_, known)| *known == word);
    let outcomes = line.split(' ').map(outcome);
    let backs = FROM.into_iter().zip(outcomes);
    backs
        .filter_map(|(from, found)| {
            let (outcome, _) = *found?;
            Some(ConnectBack { from, outcome })
        })
        .collect()
}

impl<S: Copy> Server<S> {
    /// Makes a server that listens on its [`PORTS`] of these addresses already.
    pub(super) const fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            clients: Vec::new(),
        }
    }

    /// Answers whatever has come.
    pub(super) fn poll<T: Sockets<Socket = S>>(&mut self, sockets: &mut T, now: Instant) {
        while let Some((socket, local, remote)) = sockets.accept() {
            if self.clients.len() >= MAX_CLIENTS {
                sockets.abort(socket);
                continue;
            }
            // A connection that has gone needs no answer.
            let _sent = sockets.send(socket, format!("{remote}\n").as_bytes());
            self.clients.push(Client {
                socket,
                local,
                remote,
                state: Asking::Silent(Line::default()),
            });
        }
        for client in &mut self.clients {
            client.poll(&self.addresses, sockets, now);
        }
    }

    /// Returns when it wants to be called at the latest, if it does.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let limits = self.clients.iter().filter_map(|client| match client.state {
            Asking::ConnectedTo { until, .. } => Some(until),
            Asking::Silent(_) | Asking::Answered => None,
        });
        limits.min()
    }
}

impl<S: Copy> Client<S> {
    fn poll<T: Sockets<Socket = S>>(
        &mut self,
        addresses: &[IpAddr],
        sockets: &mut T,
        now: Instant,
    ) {
        match &mut self.state {
            Asking::Answered => {}
            Asking::Silent(line) => {
                let asked = line.poll(sockets, self.socket);
                let millis = asked.map(|line| line.map(str::parse));
                match millis {
                    Ok(None) => {}
                    Ok(Some(Ok(millis))) => {
                        let patience = Duration::from_millis(millis).min(MAX_PATIENCE);
                        let backs = self.connect_back(addresses, sockets);
                        let until = now + patience;
                        self.state = Asking::ConnectedTo { until, backs };
                    }
                    Ok(Some(Err(_))) | Err(NoLine) => self.state = Asking::Answered,
                }
            }
            Asking::ConnectedTo { until, backs } => {
                let late = now >= *until;
                for back in &mut *backs {
                    back.poll(late, sockets);
                }
                let words: Option<Vec<_>> = backs.iter().map(|back| word(back.outcome?)).collect();
                if let Some(words) = words {
                    let answer = format!("{}\n", words.join(" "));
                    // Whoever has gone needs no answer.
                    let _sent = sockets.send(self.socket, answer.as_bytes());
                    self.state = Asking::Answered;
                }
            }
        }
    }

    /// From another port, and from another address if there is one.
    fn connect_back<T: Sockets<Socket = S>>(
        &self,
        addresses: &[IpAddr],
        sockets: &mut T,
    ) -> Vec<Back<S>> {
        let here = self.local.ip();
        let other = addresses.iter().copied().find(|address| *address != here);
        [Some(here), other]
            .into_iter()
            .flatten()
            .map(|from| {
                let attempt = sockets.connect((from, BACK_PORT).into(), self.remote);
                Back {
                    socket: attempt.ok(),
                    outcome: attempt.err().map(outcome_of),
                }
            })
            .collect()
    }
}

impl<S: Copy> Back<S> {
    fn poll<T: Sockets<Socket = S>>(&mut self, late: bool, sockets: &mut T) {
        let (Some(socket), None) = (self.socket, self.outcome) else {
            return;
        };
        self.outcome = match sockets.progress(socket) {
            Progress::Connecting => late.then_some(BackOutcome::Silent),
            Progress::Open(_) => Some(BackOutcome::Connected),
            Progress::Failed(failure) => Some(outcome_of(failure)),
        };
        if self.outcome.is_some() {
            sockets.abort(socket);
        }
    }
}

fn word(outcome: BackOutcome) -> Option<&'static str> {
    let (_, word) = WORDS.iter().find(|(known, _)| *known == outcome)?;
    Some(word)
}

/// As with any program, ICMP "port unreachable" looks like a reset.
const fn outcome_of(failure: ConnectFailure) -> BackOutcome {
    match failure {
        ConnectFailure::Refused | ConnectFailure::Reset => BackOutcome::Reset,
        ConnectFailure::HostUnreachable | ConnectFailure::NetworkUnreachable => BackOutcome::Icmp,
        ConnectFailure::TimedOut
        | ConnectFailure::AddressInUse
        | ConnectFailure::AddressNotAvailable
        | ConnectFailure::NoResources
        | ConnectFailure::Withheld
        | ConnectFailure::Other => BackOutcome::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_said() {
        let read = read_backs("connected silent");
        let expected = [
            (BackFrom::OtherPort, BackOutcome::Connected),
            (BackFrom::OtherAddress, BackOutcome::Silent),
        ];
        assert_eq!(
            read,
            expected.map(|(from, outcome)| ConnectBack { from, outcome })
        );
        assert_eq!(read_backs("reset").len(), 1);
        assert!(read_backs("nonsense").is_empty());
    }
}
