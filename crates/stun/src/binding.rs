//! The Binding request and its responses, and what the attributes of our own hold.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use p2pconnect_host::Host;
use p2pconnect_proto::{BackFrom, BackOutcome, ConnectBack, PeerId, ReflexiveToken, portable};
use stun_types::{
    attribute::{
        AttributeType, ErrorCode, MessageIntegrity, MessageIntegritySha256, XorMappedAddress,
    },
    message::{BINDING, Message, MessageClass, MessageWriteVec, TransactionId},
    prelude::{Attribute, AttributeStaticType, MessageWrite, MessageWriteExt},
};

use crate::{
    error::MappingError,
    own::{self, Kind},
    parse::parse,
};

/// The bytes for what a connection back was made from.
const FROM: [(BackFrom, u8); 2] = [(BackFrom::OtherPort, 1), (BackFrom::OtherAddress, 2)];

/// The bytes for what became of it.
const OUTCOME: [(BackOutcome, u8); 4] = [
    (BackOutcome::Connected, 0),
    (BackOutcome::Reset, 1),
    (BackOutcome::Icmp, 2),
    (BackOutcome::Silent, 3),
];

/// The bytes of a REFLEXIVE-TOKEN: expiry and MAC.
pub(crate) const TOKEN_LENGTH: usize = 8 + 16;

/// What a client shows a STUN server to get a [`ReflexiveToken`] for itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Commitment {
    peer: PeerId,
    salt: [u8; 16],
    digest: [u8; 32],
}

impl Commitment {
    /// Commits to `peer` with `salt`, which should be random and new for each network, because
    /// whoever reads the connection can link requests with the same salt.
    #[must_use]
    pub fn new(salt: [u8; 16], peer: &PeerId) -> Self {
        Self {
            peer: *peer,
            salt,
            digest: ReflexiveToken::commitment(&salt, peer),
        }
    }

    /// Returns a commitment to the same peer that nobody can link with this one; this one itself if
    /// the host has no random bytes.
    #[must_use]
    pub fn renewed(&self, host: &Host) -> Self {
        let mut salt = [0; 16];
        match host.fill_random(&mut salt) {
            Ok(()) => Self::new(salt, &self.peer),
            Err(_) => *self,
        }
    }

    /// Returns the salt.
    #[must_use]
    pub const fn salt(&self) -> [u8; 16] {
        self.salt
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Commitment(..)")
    }
}

/// Returns a Binding request and its transaction.
pub(crate) fn request(commitment: Option<&Commitment>) -> (TransactionId, Vec<u8>) {
    let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
    let transaction = message.transaction_id();
    if let Some(commitment) = commitment {
        own::add(&mut message, Kind::Commitment, &commitment.digest);
    }
    (transaction, message.finish())
}

/// Returns a Binding request that asks to be connected back to, and its transaction.
pub(crate) fn request_back(patience: Duration) -> (TransactionId, Vec<u8>) {
    let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
    let transaction = message.transaction_id();
    let millis = u16::try_from(patience.as_millis()).unwrap_or(u16::MAX);
    own::add(&mut message, Kind::ConnectBack, &millis.to_be_bytes());
    (transaction, message.finish())
}

/// Returns how long a request allows for a connection back, if it asks for one.
pub(crate) fn asked_back(request: &Message<'_>) -> Option<Duration> {
    let content = own::find(request, Kind::ConnectBack)?;
    let millis = u16::from_be_bytes(content.try_into().ok()?);
    Some(Duration::from_millis(millis.into()))
}

/// Encodes a CONNECTED-BACK.
pub(crate) fn encode_backs(backs: &[ConnectBack]) -> Vec<u8> {
    let byte = |back: &ConnectBack| {
        let from = FROM.iter().find(|(from, _)| *from == back.from)?;
        let outcome = OUTCOME.iter().find(|(it, _)| *it == back.outcome)?;
        Some([from.1, outcome.1])
    };
    backs.iter().filter_map(byte).flatten().collect()
}

/// Reads a CONNECTED-BACK; what is unknown in it is left out.
fn backs(message: &Message<'_>) -> Option<Vec<ConnectBack>> {
    let content = own::find(message, Kind::ConnectedBack)?;
    let (pairs, _) = content.as_chunks::<2>();
    let back = |pair: &[u8; 2]| {
        let (from, _) = FROM.into_iter().find(|(_, byte)| *byte == pair[0])?;
        let (outcome, _) = OUTCOME.into_iter().find(|(_, byte)| *byte == pair[1])?;
        Some(ConnectBack { from, outcome })
    };
    Some(pairs.iter().filter_map(back).collect())
}

/// What a server said to a Binding request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindingAnswer {
    pub(crate) mapped: SocketAddr,
    pub(crate) token: Option<ReflexiveToken>,
    /// What became of connections back, if some were asked for and the server makes any.
    pub(crate) backs: Option<Vec<ConnectBack>>,
}

/// A response to some Binding request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) transaction: TransactionId,
    pub(crate) result: Result<BindingAnswer, MappingError>,
}

/// Reads a message that a server sent. `None` if it is not the response to a Binding request, and
/// so none of our business.
pub(crate) fn response(
    bytes: &[u8],
    commitment: Option<&Commitment>,
) -> Result<Option<Response>, MappingError> {
    let message = parse(bytes).map_err(|_| MappingError::MalformedAnswer)?;
    if !message.has_method(BINDING) {
        return Ok(None);
    }
    let result = match message.class() {
        MessageClass::Request | MessageClass::Indication => return Ok(None),
        MessageClass::Success => success(&message, commitment),
        MessageClass::Error => Err(message
            .attribute::<ErrorCode>()
            .map_or(MappingError::MalformedAnswer, |error| {
                MappingError::Rejected(error.code())
            })),
    };
    Ok(Some(Response {
        transaction: message.transaction_id(),
        result,
    }))
}

fn success(
    message: &Message<'_>,
    commitment: Option<&Commitment>,
) -> Result<BindingAnswer, MappingError> {
    let mapped = message
        .attribute::<XorMappedAddress>()
        .map_err(|_| MappingError::MalformedAnswer)?
        .addr(message.transaction_id());
    let mapped = portable(mapped);
    if !is_plausible(mapped) || !understood(message) {
        return Err(MappingError::MalformedAnswer);
    }
    let token = commitment.and_then(|commitment| token(message, commitment));
    Ok(BindingAnswer {
        mapped,
        token,
        backs: backs(message),
    })
}

fn is_plausible(mapped: SocketAddr) -> bool {
    let multicast_or_broadcast = match mapped.ip() {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    mapped.port() != 0 && !mapped.ip().is_unspecified() && !multicast_or_broadcast
}

/// A response with unknown comprehension-required attributes fails the transaction (RFC 8489
/// section 6.3.3).
fn understood(message: &Message<'_>) -> bool {
    message
        .iter_attributes()
        .map(|(_, attribute)| attribute.get_type())
        .all(|kind| !kind.comprehension_required() || EXPECTED.contains(&kind))
}

/// The comprehension-required attributes of RFC 8489 that a Binding response may carry:
/// MAPPED-ADDRESS, which servers send for the sake of RFC 3489, XOR-MAPPED-ADDRESS, and the two
/// integrity attributes, which say nothing to a client without credentials.
const EXPECTED: [AttributeType; 4] = [
    AttributeType::new(0x0001),
    XorMappedAddress::TYPE,
    MessageIntegrity::TYPE,
    MessageIntegritySha256::TYPE,
];

fn token(message: &Message<'_>, commitment: &Commitment) -> Option<ReflexiveToken> {
    let content = own::find(message, Kind::Token)?;
    let (expires_at, mac) = content.split_first_chunk::<8>()?;
    Some(ReflexiveToken {
        salt: commitment.salt,
        expires_at: u64::from_be_bytes(*expires_at),
        mac: mac.try_into().ok()?,
    })
}

/// Encodes a REFLEXIVE-TOKEN.
pub(crate) fn encode_token(expires_at: u64, mac: &[u8; 16]) -> [u8; TOKEN_LENGTH] {
    let mut value = [0; TOKEN_LENGTH];
    value[..8].copy_from_slice(&expires_at.to_be_bytes());
    value[8..].copy_from_slice(mac);
    value
}

#[cfg(test)]
mod tests;
