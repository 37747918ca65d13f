//! What the server answers to a message.

use std::{net::SocketAddr, time::Duration};

use p2pconnect_proto::ConnectBack;
use stun_types::{
    attribute::{
        AttributeType, ErrorCode, Fingerprint, Software, UnknownAttributes, XorMappedAddress,
    },
    message::{BINDING, Message, MessageClass, MessageWriteVec, StunParseError},
    prelude::{Attribute, AttributeStaticType, AttributeWrite, MessageWrite, MessageWriteExt},
};

use super::StunServerConfig;
use crate::{
    binding::{asked_back, encode_backs, encode_token},
    own::{self, Kind},
    parse::parse,
};

/// The comprehension-required attributes of RFC 8489 section 18.3.1, which are known here although
/// they mean nothing in a request without credentials (section 6.3: known but unexpected ones are
/// ignored).
const KNOWN: [AttributeType; 11] = [
    AttributeType::new(0x0001), // MAPPED-ADDRESS
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
    let request = match parse(request) {
        // It is framed well, so that what follows can still be read.
        Err(StunParseError::FingerprintMismatch) => return Ok(Answer::Nothing),
        parsed => parsed?,
    };
    // A Binding indication is a keepalive; a response is a mistake, and so is a method that is
    // unknown here. None is answered (RFC 8489 section 6.3).
    if !request.has_class(MessageClass::Request) || !request.has_method(BINDING) {
        return Ok(Answer::Nothing);
    }
    Ok(Answer::Send(respond(&request, caller, config, now)))
}

fn respond(
    request: &Message<'_>,
    caller: Caller<'_>,
    config: &StunServerConfig,
    now: u64,
) -> Vec<u8> {
    let unknown = unknown_attributes(request);
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
    let Caller { remote, backs } = caller;
    let mut response = Message::builder_success(request, MessageWriteVec::new());
    let transaction = request.transaction_id();
    if let (Some(witness), Some(commitment)) = (&config.witness, commitment(request)) {
        witness.saw(commitment, remote);
    }
    add(&mut response, &XorMappedAddress::new(remote, transaction));
    if let Some(token) = token(request, remote, config, now) {
        own::add(&mut response, Kind::Token, &token);
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
    request: &Message<'_>,
    remote: SocketAddr,
    config: &StunServerConfig,
    now: u64,
) -> Option<[u8; crate::binding::TOKEN_LENGTH]> {
    let key = config.token_key.as_ref()?;
    let commitment = commitment(request)?;
    let expires_at = now.saturating_add(config.token_validity.as_secs());
    let mac = key.mint(&commitment, remote, expires_at);
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

fn software(text: &str) -> Option<Software> {
    let end = text
        .char_indices()
        .nth(MAX_SOFTWARE_CHARS)
        .map_or(text.len(), |(end, _)| end);
    Software::new(&text[..end]).ok()
}

fn unknown_attributes(request: &Message<'_>) -> Vec<AttributeType> {
    let mut unknown = Vec::new();
    for (_, attribute) in request.iter_attributes() {
        let kind = attribute.get_type();
        if kind.comprehension_required()
            && !KNOWN.contains(&kind)
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
