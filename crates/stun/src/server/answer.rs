//! What the server answers to a message.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use p2pconnect_proto::ConnectBack;
use stun_types::{
    attribute::{
        AttributeType, ErrorCode, Fingerprint, RawAttribute, Software, UnknownAttributes,
        XorMappedAddress,
    },
    message::{BINDING, Message, MessageClass, MessageWriteVec, StunParseError},
    prelude::{Attribute, AttributeStaticType, AttributeWrite, MessageWrite, MessageWriteExt},
};

use super::{
    StunServerConfig,
    discovery::{Place, is_obeyed},
};
use crate::{
    binding::{asked_back, encode_backs, encode_token},
    own::{self, Kind},
    parse::parse,
};

/// The comprehension-required attributes of RFC 8489 section 18.3.1, which are known here although
/// they mean nothing in a request without credentials (section 6.3: known but unexpected ones are
/// ignored).
const KNOWN: [AttributeType; 11] = [
    MAPPED_ADDRESS,
    AttributeType::new(0x0006), // USERNAME
    AttributeType::new(0x0008), // MESSAGE-INTEGRITY
    ErrorCode::TYPE,
    UnknownAttributes::TYPE,
    AttributeType::new(0x0014), // REALM
    AttributeType::new(0x0015), // NONCE
    AttributeType::new(0x001C), // MESSAGE-INTEGRITY-SHA256
    AttributeType::new(0x001D), // PASSWORD-ALGORITHM
    AttributeType::new(0x001E), // USERHASH
    XorMappedAddress::TYPE,
];

/// Where the client was seen, in a form that some NATs rewrite (RFC 8489 section 14.1).
const MAPPED_ADDRESS: AttributeType = AttributeType::new(0x0001);

/// Where an answer leaves from, and where it would leave from if both IP address and port were to
/// be changed: RESPONSE-ORIGIN and OTHER-ADDRESS (RFC 5780 section 7).
const PLACE: [AttributeType; 2] = [AttributeType::new(0x802B), AttributeType::new(0x802C)];

/// The same for clients of RFC 3489: SOURCE-ADDRESS and CHANGED-ADDRESS.
const CLASSIC_PLACE: [AttributeType; 2] = [AttributeType::new(0x0004), AttributeType::new(0x0005)];

/// The most attributes listed as unknown. All that RFC 8489 and 5780 define would fit; a request
/// of nothing but unknown attributes shall not be answered at length.
const MAX_UNKNOWN_LISTED: usize = 32;

/// The longest SOFTWARE value (RFC 8489 section 14.14).
const MAX_SOFTWARE_CHARS: usize = 127;

/// What to do about a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Send(Vec<u8>),
    Nothing,
}

/// Who asks, and what was found out at their request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) remote: SocketAddr,
    pub(crate) backs: &'a [ConnectBack],
    /// Where the answer leaves from, of a server that has four addresses.
    pub(crate) place: Option<Place>,
    pub(crate) manner: Manner,
}

impl Caller<'_> {
    /// Tells whether the address that an answer leaves from, and the port that it goes to, can be
    /// chosen.
    const fn is_chosen(&self) -> bool {
        match self.manner {
            Manner::Stream => false,
            Manner::Datagram | Manner::Classic => self.place.is_some(),
        }
    }
}

/// How a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Over a connection.
    Stream,
    /// In a datagram.
    Datagram,
    /// In a datagram of RFC 3489.
    Classic,
}

/// A message that is framed but makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a malformed message: {0}")]
pub(crate) struct Unparsable(#[from] StunParseError);

/// Returns how long the sender of a message gives a connection back, if it asks for one.
pub(super) fn wants_back(message: &[u8]) -> Option<Duration> {
    let request = parse(message).ok()?;
    let is_binding = request.has_class(MessageClass::Request) && request.has_method(BINDING);
    is_binding.then(|| asked_back(&request)).flatten()
}

/// Answers `request`, which came from `caller` at `now`, in seconds since the Unix epoch.
pub(crate) fn answer(
    request: &[u8],
    caller: Caller<'_>,
    config: &StunServerConfig,
    now: u64,
) -> Result<Answer, Unparsable> {
    Ok(match read(request)? {
        Some(request) => Answer::Send(respond(&request, caller, config, now)),
        None => Answer::Nothing,
    })
}

/// Reads a message, and returns it if it is to be answered.
pub(super) fn read(message: &[u8]) -> Result<Option<Message<'_>>, Unparsable> {
    let request = match parse(message) {
        // It is framed well, so that what follows can still be read.
        Err(StunParseError::FingerprintMismatch) => return Ok(None),
        parsed => parsed?,
    };
    // A Binding indication is a keepalive; a response is a mistake, and so is a method that is
    // unknown here. None is answered (RFC 8489 section 6.3).
    let is_request = request.has_class(MessageClass::Request) && request.has_method(BINDING);
    Ok(is_request.then_some(request))
}

/// Answers a Binding request.
pub(super) fn respond(
    request: &Message<'_>,
    caller: Caller<'_>,
    config: &StunServerConfig,
    now: u64,
) -> Vec<u8> {
    let unknown = unknown_attributes(request, &caller);
    let mut response = if unknown.is_empty() {
        success(request, caller, config, now)
    } else {
        let mut response = error(request, ErrorCode::UNKNOWN_ATTRIBUTE);
        add(&mut response, &UnknownAttributes::new(&unknown));
        response
    };
    if let Some(software) = config.software.as_deref().and_then(software) {
        add(&mut response, &software);
    }
    if request.has_attribute(Fingerprint::TYPE) {
        response
            .add_fingerprint()
            .expect("a response of ours has no FINGERPRINT yet, and a vector has room");
    }
    response.finish()
}

fn success(
    request: &Message<'_>,
    caller: Caller<'_>,
    config: &StunServerConfig,
    now: u64,
) -> MessageWriteVec {
    let Caller { remote, backs, .. } = caller;
    let mut response = Message::builder_success(request, MessageWriteVec::new());
    let transaction = request.transaction_id();
    if caller.manner != Manner::Classic {
        add(&mut response, &XorMappedAddress::new(remote, transaction));
    }
    if caller.manner == Manner::Classic || caller.place.is_some() {
        add_address(&mut response, MAPPED_ADDRESS, remote);
    }
    if let Some(place) = caller.place {
        let kinds = match caller.manner {
            Manner::Classic => CLASSIC_PLACE,
            Manner::Stream | Manner::Datagram => PLACE,
        };
        for (kind, address) in kinds.into_iter().zip([place.origin, place.other]) {
            add_address(&mut response, kind, address);
        }
    }
    // What a datagram says of its source proves nothing, and is no mapping of TCP.
    if caller.manner == Manner::Stream
        && let Some(commitment) = commitment(request)
    {
        if let Some(witness) = &config.witness {
            witness.saw(commitment, remote);
        }
        if let Some(token) = token(&commitment, remote, config, now) {
            own::add(&mut response, Kind::Token, &token);
        }
    }
    if !backs.is_empty() {
        own::add(&mut response, Kind::ConnectedBack, &encode_backs(backs));
    }
    response
}

fn commitment(request: &Message<'_>) -> Option<[u8; 32]> {
    own::find(request, Kind::Commitment)?.try_into().ok()
}

fn token(
    commitment: &[u8; 32],
    remote: SocketAddr,
    config: &StunServerConfig,
    now: u64,
) -> Option<[u8; crate::binding::TOKEN_LENGTH]> {
    let key = config.token_key.as_ref()?;
    let expires_at = now.saturating_add(config.token_validity.as_secs());
    let mac = key.mint(commitment, remote, expires_at);
    Some(encode_token(expires_at, &mac))
}

fn error(request: &Message<'_>, code: u16) -> MessageWriteVec {
    let mut response = Message::builder_error(request, MessageWriteVec::new());
    let error = ErrorCode::builder(code)
        .build()
        .expect("the codes used here are between 300 and 699");
    add(&mut response, &error);
    response
}

fn add(response: &mut MessageWriteVec, attribute: &dyn AttributeWrite) {
    response
        .add_attribute(attribute)
        .expect("a response without FINGERPRINT takes attributes, and a vector has room");
}

/// Adds an address as it is (RFC 8489 section 14.1).
fn add_address(response: &mut MessageWriteVec, kind: AttributeType, address: SocketAddr) {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let value = [&[0, family], &address.port().to_be_bytes()[..], &ip].concat();
    add(response, &RawAttribute::new(kind, &value));
}

fn software(text: &str) -> Option<Software> {
    let end = text
        .char_indices()
        .nth(MAX_SOFTWARE_CHARS)
        .map_or(text.len(), |(end, _)| end);
    Software::new(&text[..end]).ok()
}

/// Tells whether a request has nothing that is unknown here or cannot be obeyed.
pub(super) fn is_understood(request: &Message<'_>, caller: &Caller<'_>) -> bool {
    unknown_attributes(request, caller).is_empty()
}

fn unknown_attributes(request: &Message<'_>, caller: &Caller<'_>) -> Vec<AttributeType> {
    let mut unknown = Vec::new();
    for (_, attribute) in request.iter_attributes() {
        let kind = attribute.get_type();
        if kind.comprehension_required()
            && !KNOWN.contains(&kind)
            && !is_obeyed(&attribute, caller.is_chosen())
            && !unknown.contains(&kind)
            && unknown.len() < MAX_UNKNOWN_LISTED
        {
            unknown.push(kind);
        }
    }
    unknown
}

#[cfg(test)]
mod tests;
