//! Why something has failed, and whose matter it is.

use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_host::Shortage;
use p2pconnect_identity::{InvalidKey, TlsConfigError};
use p2pconnect_link::SetupError;
use p2pconnect_proto::{
    PeerId, codec,
    message::{Refusal, RefusalReason},
};
use p2pconnect_punch::PunchReport;
use p2pconnect_stun::MappingError;

/// Why an endpoint cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The coordinator cannot be used.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// No key could be made.
    #[error("no key can be made")]
    Key(#[from] InvalidKey),
    /// The builder was given no coordinator.
    #[error("no coordinator was given")]
    NoCoordinator,
    /// No port could be bound.
    #[error("no port can be bound for punching")]
    Ports(#[source] io::Error),
    /// This machine ran out of something.
    #[error("{0}")]
    Shortage(Shortage),
    /// No STUN server told this endpoint's mapping.
    #[error(
        "no STUN server tells how this machine is seen from outside, the last one asked being {server} \
         ({reason}); {}",
        stun_advice(reason)
    )]
    Stun {
        /// The last server that was tried.
        server: SocketAddr,
        /// What went wrong.
        reason: MappingError,
    },
    /// The transport to the coordinator cannot be set up.
    #[error(transparent)]
    Transport(#[from] SetupError),
}

impl BindError {
    /// Returns what this machine lacked meanwhile, if that may be what failed.
    pub(crate) fn or_shortage(self, shortage: Option<Shortage>) -> Self {
        match (self, shortage) {
            (Self::Coordinator(CoordinatorError::Shortage(shortage)), _) => {
                Self::Shortage(shortage)
            }
            (
                Self::Ports(_)
                | Self::Stun { .. }
                | Self::Coordinator(
                    CoordinatorError::Proxy { .. }
                    | CoordinatorError::Resolve { .. }
                    | CoordinatorError::Unreachable { .. },
                ),
                Some(shortage),
            ) => Self::Shortage(shortage),
            (error, _) => error,
        }
    }
}

/// Says what to look at when a STUN server tells nothing. A NAT without a free port drops a SYN
/// without a word, as a firewall does.
const fn stun_advice(error: &MappingError) -> &'static str {
    match error {
        MappingError::ConnectTimedOut => {
            "is TCP to it open, or has the NAT here no port left? Some NATs give each machine few, and those of \
             an earlier dial are taken for some minutes"
        }
        MappingError::NotStun(_) | MappingError::MalformedAnswer | MappingError::Rejected(_) => {
            "is that a STUN server?"
        }
        _ => "is TCP to it open?",
    }
}

/// What is wrong with the coordinator, or with the way to it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// The answer is not what the request asks for.
    #[error("the coordinator breaks the protocol: its answer does not fit the request")]
    Answer,
    /// The coordinator closed the connection, and not for one of the reasons that have a variant of
    /// their own.
    #[error("the coordinator closed the connection: {}{}", shown(reason), come_back(*retry_after, ""))]
    Closed {
        /// The coordinator's words.
        reason: String,
        /// When to come back, if the coordinator has said so.
        retry_after: Option<Duration>,
    },
    /// The coordinator has said that it shuts down.
    #[error("the coordinator shuts down{}", come_back(*retry_after, "; it may be back soon"))]
    GoingAway {
        /// When to come back, if the coordinator has said so.
        retry_after: Option<Duration>,
    },
    /// The connection has ended without a word of the coordinator's: it was started anew, or the
    /// way to it is gone, or this endpoint is closed.
    #[error("the connection to the coordinator is lost: {}", shown(reason))]
    Lost {
        /// How it went.
        reason: String,
    },
    /// The coordinator sent bytes that are no message.
    #[error(
        "the coordinator sends what this version does not understand; are both of the same version?"
    )]
    Message(#[from] codec::DecodeError),
    /// The coordinator keeps no bulletin board: it is of an older version, or its operator wants
    /// none.
    #[error(
        "the coordinator keeps no bulletin board; is it of an older version, or was the board switched off there?"
    )]
    NoBoard,
    /// No packet to the coordinator can leave this machine.
    #[error(
        "this machine has no way to the coordinator at {address}; is it connected to a network?"
    )]
    NoRoute {
        /// The address.
        address: SocketAddr,
    },
    /// The coordinator does not serve this endpoint's peer id, as its operator has not allowed it.
    #[error("{}", shown(reason))]
    NotServed {
        /// The coordinator's words.
        reason: String,
    },
    /// The coordinator has no room for this endpoint.
    #[error(
        "the coordinator has no room{}",
        come_back(*retry_after, "; it says to try again after some seconds")
    )]
    Overloaded {
        /// When to come back, if the coordinator has said so.
        retry_after: Option<Duration>,
    },
    /// The coordinator is not reached by way of the proxy, and not directly either.
    #[error("the coordinator is not reached by way of the proxy {proxy} ({}){}", shown(reason), other_way(directly.as_deref()))]
    Proxy {
        /// The proxy, without user and password.
        proxy: String,
        /// Why not.
        reason: String,
        /// Why not without the proxy, where its address is known here.
        directly: Option<Box<Self>>,
    },
    /// The coordinator turned the request down.
    #[error("the coordinator refuses: {0}")]
    Refused(Refusal),
    /// Another endpoint has registered with the same key.
    #[error("another endpoint has registered with the same key; give each its own")]
    Replaced,
    /// The host name has no address that can be found.
    #[error("the coordinator's host name '{host}' cannot be looked up: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        reason: String,
    },
    /// This machine has run out of what a connection needs.
    #[error("{0}")]
    Shortage(Shortage),
    /// There is a connection, but nothing comes over it any more.
    #[error("the coordinator has not answered for {} s; is the way to it still open?", .0.as_secs())]
    Silent(Duration),
    /// The coordinator is reached, but has answered nothing for so long.
    #[error(
        "the coordinator is reached, but has answered nothing for {} s; is it overloaded, or of another \
         version?", .0.as_secs()
    )]
    Unanswered(Duration),
    /// The coordinator's answer is one that only a later version knows.
    #[error(
        "the coordinator answers what this version does not know (answer {0}); is there a newer one?"
    )]
    UnknownAnswer(u16),
    /// The coordinator, or the peer by way of it, says something that this version does not know
    /// and must not pass over.
    #[error("what is said needs a newer version here (extension {0:#06x})")]
    UnknownExtension(u16),
    /// Nothing answers.
    #[error(
        "the coordinator at {address} does not answer ({}); is it running, and is UDP or TCP to it open?",
        shown(reason)
    )]
    Unreachable {
        /// The address that was tried last.
        address: SocketAddr,
        /// What the transport says.
        reason: String,
    },
    /// The coordinator closed the connection because of something that this endpoint sent.
    #[error(
        "the coordinator does not understand this version ({}); are both of the same version?",
        shown(reason)
    )]
    Violation {
        /// The coordinator's words.
        reason: String,
    },
    /// The server there holds another key.
    #[error(
        "the server at {address} is not {expected}; {}", meant(.similar.as_ref())
    )]
    WrongIdentity {
        /// The address.
        address: SocketAddr,
        /// The server id that was expected.
        expected: PeerId,
        /// The id that the server shows, without a proof, where it differs from the expected one by
        /// a slip of the pen.
        similar: Option<PeerId>,
    },
}

/// The longest that a coordinator can keep anybody away by saying when to come back: one that lies
/// is asked again after this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

impl CoordinatorError {
    /// Tells whether the coordinator is not there any more, while the connection to it is made
    /// anew.
    pub(crate) const fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Closed { .. }
                | Self::GoingAway { .. }
                | Self::Lost { .. }
                | Self::Overloaded { .. }
                | Self::Silent(_)
                | Self::Unanswered(_)
        )
    }

    /// Returns how long the coordinator wants not to be asked again, if it has said so, and no
    /// longer than five minutes.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let said = match self {
            Self::Refused(refusal) => refusal.retry_after(),
            Self::Closed { retry_after, .. }
            | Self::GoingAway { retry_after }
            | Self::Overloaded { retry_after } => *retry_after,
            _ => None,
        };
        said.map(|it| it.min(MAX_RETRY_AFTER))
    }
}

/// Says why a coordinator is not reached without the proxy.
fn other_way(directly: Option<&CoordinatorError>) -> String {
    match directly {
        Some(error) => format!(", and without it {error}"),
        None => ", and its name cannot be looked up here".to_owned(),
    }
}

/// Says when to come back, or `otherwise`.
fn come_back(retry_after: Option<Duration>, otherwise: &str) -> String {
    let secs = |it: Duration| it.as_millis().div_ceil(1000);
    let said = retry_after.map(|it| format!("; it says to try again in {} s", secs(it)));
    said.unwrap_or_else(|| otherwise.to_owned())
}

impl From<RefusalReason> for CoordinatorError {
    fn from(reason: RefusalReason) -> Self {
        Self::Refused(reason.into())
    }
}

/// Says what may be meant by the id of a server that is somebody else.
fn meant(similar: Option<&PeerId>) -> String {
    match similar {
        Some(similar) => {
            format!("it calls itself {similar}, from which that differs by one slip of the pen")
        }
        None => "a coordinator with a new key has a new id".to_owned(),
    }
}

/// Why a dial did not end in a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The connection broke in the moment it was made.
    #[error("the connection broke as it was made")]
    Broken(#[source] io::Error),
    /// The coordinator cannot be used.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// The peer is known to the coordinator, and there is no direct path to it.
    #[error("there is no direct path to the peer: {0}")]
    NoDirectPath(Box<PunchReport>),
    /// The peer id that was dialled is this endpoint's own.
    #[error(
        "this peer id is this machine's own; dial the other machine's, or give this one another key"
    )]
    OwnId,
    /// There are connections to the peer on all punch ports, and no further ones can be bound.
    #[error("no further port can be bound for another connection to the same peer")]
    Ports(#[source] io::Error),
    /// The peer has no room for another connection: it has as many as it takes, in all or from this
    /// endpoint, or accepts them more slowly than they come.
    #[error(
        "the peer is busy: it has as many connections as it takes, in all or from this machine"
    )]
    PeerBusy,
    /// The peer gave this attempt up, most likely to begin another.
    #[error("the peer gave the attempt up, perhaps to begin anew; dialling again may help")]
    PeerLeft,
    /// The peer was not reached, and no STUN server tells this endpoint's mapping, which may be
    /// why.
    #[error(
        "the peer was not reached, perhaps because no STUN server tells how this machine is seen from \
         outside, the last one asked being {server} ({reason}); {}",
        stun_advice(reason)
    )]
    Stun {
        /// The last server that was tried.
        server: SocketAddr,
        /// What went wrong.
        reason: MappingError,
        /// What was tried and what came back, if the peer was online.
        report: Option<Box<PunchReport>>,
    },
    /// The peer was registered with the coordinator, which has heard nothing of it for so long: its
    /// process was killed, or its machine is off or out of reach.
    #[error(
        "the peer has gone without a word: the coordinator has heard nothing of it for {:.1} s", .0.as_secs_f64()
    )]
    PeerSilent(Duration),
    /// Nothing has come from the peer since the coordinator introduced it, so long ago, when the
    /// time of the dial was over: sooner than a coordinator notices that a peer has gone.
    #[error(
        "the peer has not answered in the {:.1} s since the coordinator introduced it; it may have gone without \
         a word", .0.as_secs_f64()
    )]
    PeerUnheard(Duration),
    /// This machine ran out of something, so that nothing can be said of the peer.
    #[error("{0}")]
    Shortage(Shortage),
    /// Time ran out before the punch began.
    #[error("the coordinator did not bring the two together in time")]
    TimedOut,
    /// The secret key cannot be used.
    #[error("the secret key cannot be used")]
    Tls(#[from] TlsConfigError),
    /// There are as many connections as there are punch ports for.
    #[error(
        "there are too many connections to the same peer; close one, or carry several streams in one"
    )]
    TooManyConnections,
    /// The peer is not registered with the coordinator, or its policy does not admit this endpoint.
    /// A coordinator does not tell these apart, so that nobody learns who is online.
    #[error(
        "the peer is not online at this coordinator, or does not allow this machine, whose peer id is \
         {own_id}"
    )]
    Unavailable {
        /// The id that the peer has to allow.
        own_id: PeerId,
    },
    /// What answers in the peer's place, at its address or by way of the coordinator, holds another
    /// key.
    #[error("what answers in the peer's place is not the peer: {0}")]
    WrongIdentity(Box<PunchReport>),
}

/// The peer does not want the stream that it was dialled for, and says why.
///
/// Reading and writing on the [`Connection`](crate::Connection) end with an [`io::Error`] that
/// holds this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the peer refuses the stream: {}", shown(.reason))]
pub struct Refused {
    reason: String,
}

impl Refused {
    pub(crate) const fn new(reason: String) -> Self {
        Self { reason }
    }

    /// Returns the peer's words, at most 256 bytes. They may hold anything, such as control
    /// characters.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the refusal that an error of a connection is about, if it is about one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Shows as escapes what is no character to read: what a peer or a coordinator has sent must not
/// move a terminal's cursor, nor make lines, nor turn the direction in which they are read. Whoever
/// gives no reason is said to give none.
fn shown(reason: &str) -> String {
    if reason.trim().is_empty() {
        return "no reason given".to_owned();
    }
    let is_format = |c| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    };
    let mut shown = String::with_capacity(reason.len());
    for c in reason.chars() {
        if c.is_control() || is_format(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(io::ErrorKind::ConnectionRefused, refused)
    }
}

impl DialError {
    /// Returns what this machine lacked meanwhile, if that may be what failed.
    pub(crate) fn or_shortage(self, shortage: Option<Shortage>) -> Self {
        match (self, shortage) {
            (
                Self::Broken(_)
                | Self::NoDirectPath(_)
                | Self::PeerUnheard(_)
                | Self::Ports(_)
                | Self::TimedOut,
                Some(shortage),
            ) => Self::Shortage(shortage),
            (error, _) => error,
        }
    }

    /// Returns what was tried and what came back, where that is why there is no connection.
    #[must_use]
    pub fn report(&self) -> Option<&PunchReport> {
        match self {
            Self::NoDirectPath(report) | Self::WrongIdentity(report) => Some(report),
            Self::Stun { report, .. } => report.as_deref(),
            _ => None,
        }
    }

    /// Returns the report to be completed, where there is one.
    pub(crate) fn report_mut(&mut self) -> Option<&mut PunchReport> {
        match self {
            Self::NoDirectPath(report) | Self::WrongIdentity(report) => Some(report),
            Self::Stun { report, .. } => report.as_deref_mut(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns all errors that have the words of somebody else in them.
    fn with_words(words: &str) -> [String; 5] {
        let reason = words.to_owned();
        let said = || reason.clone();
        let address = ([192, 0, 2, 1], 1).into();
        [
            CoordinatorError::Closed {
                reason: said(),
                retry_after: None,
            }
            .to_string(),
            CoordinatorError::Lost { reason: said() }.to_string(),
            CoordinatorError::Violation { reason: said() }.to_string(),
            CoordinatorError::Unreachable {
                address,
                reason: said(),
            }
            .to_string(),
            Refused::new(reason).to_string(),
        ]
    }

    #[test]
    fn what_others_say_makes_no_lines_and_turns_none() {
        for said in with_words("bye\n\u{1b}[2J\u{202e}txt.\u{2028}\u{200b}é") {
            assert!(
                said.contains("bye\\n\\u{1b}[2J\\u{202e}txt.\\u{2028}\\u{200b}é"),
                "{said}"
            );
        }
    }

    #[test]
    fn whoever_gives_no_reason_is_said_to_give_none() {
        for words in ["", " \n"] {
            for said in with_words(words) {
                assert!(said.contains("no reason given"), "{said}");
            }
        }
    }
}
