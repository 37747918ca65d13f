//! Tests of what the server answers to a message.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use p2pconnect_proto::{PeerId, ReflexiveToken, TokenKey};
use proptest::prelude::*;
use stun_types::{
    attribute::RawAttribute,
    message::{MessageType, TransactionId},
};

use super::*;
use crate::{Commitment, binding, framing::message_length, rfc5769};

const NOW: u64 = 1_800_000_000;

fn remote() -> SocketAddr {
    ([203, 0, 113, 7], 40_000).into()
}

fn caller() -> Caller<'static> {
    Caller {
        remote: remote(),
        backs: &[],
        place: None,
        manner: Manner::Stream,
    }
}

fn send(request: &[u8], config: &StunServerConfig) -> Vec<u8> {
    match answer(request, caller(), config, NOW).unwrap() {
        Answer::Send(bytes) => {
            assert_eq!(message_length(&bytes), Ok(Some(bytes.len())));
            bytes
        }
        Answer::Nothing => panic!("an answer was expected"),
    }
}

fn request_with(method: u16, class: MessageClass, attributes: &[u16]) -> Vec<u8> {
    // The codec makes methods only by parsing.
    let method = MessageType::from_bytes(&method.to_be_bytes())
        .unwrap()
        .method();
    let kind = MessageType::from_class_method(class, method);
    let mut message = Message::builder(kind, 77.into(), MessageWriteVec::new());
    for attribute in attributes {
        message
            .add_attribute(&RawAttribute::new(AttributeType::new(*attribute), b"12345"))
            .unwrap();
    }
    message.finish()
}

#[test]
fn a_bare_request_gets_the_bytes_that_the_rfc_prescribes() {
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    let expected = b"\x01\x01\x00\x0c\x21\x12\xa4\x42abcdefghijkl\
        \x00\x20\x00\x08\x00\x01\xbd\x52\xea\x12\xd5\x45";
    assert_eq!(send(request, &StunServerConfig::default()), expected);
}

#[test]
fn unknown_required_attributes_are_named_once_and_optional_ones_ignored() {
    let config = StunServerConfig::default();
    let request = request_with(1, MessageClass::Request, &[0x0003, 0x0042, 0x0003, 0x8042]);
    let bytes = send(&request, &config);
    let response = parse(&bytes).unwrap();
    assert_eq!(response.transaction_id(), TransactionId::from(77));
    let error = response.attribute::<ErrorCode>().unwrap();
    assert_eq!(error.code(), 420);
    let unknown = response.raw_attribute(UnknownAttributes::TYPE).unwrap();
    assert_eq!(*unknown.value, [0x00, 0x03, 0x00, 0x42]);

    let request = request_with(1, MessageClass::Request, &[0x8042, 0xFFFF, 0x0020, 0x0001]);
    let bytes = send(&request, &config);
    assert!(parse(&bytes).unwrap().has_class(MessageClass::Success));
}

#[test]
fn a_request_of_many_unknown_attributes_is_answered_shortly() {
    let attributes: Vec<u16> = (0x0100..0x0190).collect();
    let request = request_with(1, MessageClass::Request, &attributes);
    assert!(send(&request, &StunServerConfig::default()).len() < 150);
}

#[test]
fn of_the_request_of_rfc_5769_only_the_attributes_of_ice_are_unknown() {
    let bytes = send(rfc5769::REQUEST, &StunServerConfig::default());
    let response = parse(&bytes).unwrap();
    let unknown = response.raw_attribute(UnknownAttributes::TYPE).unwrap();
    assert_eq!(*unknown.value, [0x00, 0x24]);
    assert!(response.has_attribute(Fingerprint::TYPE));
}

#[test]
fn credentials_that_nobody_asked_for_are_no_reason_to_refuse() {
    // USERNAME, REALM, NONCE, PASSWORD-ALGORITHM and USERHASH (RFC 8489 section 18.3.1).
    let request = request_with(
        1,
        MessageClass::Request,
        &[0x0006, 0x0014, 0x0015, 0x001D, 0x001E],
    );
    let bytes = send(&request, &StunServerConfig::default());
    assert!(parse(&bytes).unwrap().has_class(MessageClass::Success));
}

#[test]
fn only_binding_requests_are_answered() {
    let config = StunServerConfig::default();
    for class in [
        MessageClass::Indication,
        MessageClass::Success,
        MessageClass::Error,
    ] {
        let message = request_with(1, class, &[]);
        assert_eq!(
            answer(&message, caller(), &config, NOW),
            Ok(Answer::Nothing)
        );
    }
    const ALLOCATE: u16 = 3;
    // An unknown method is discarded (RFC 8489 section 6.3).
    let allocate = request_with(ALLOCATE, MessageClass::Request, &[0x0019]);
    assert_eq!(
        answer(&allocate, caller(), &config, NOW),
        Ok(Answer::Nothing)
    );
}

#[test]
fn fingerprint_is_returned_and_a_message_with_a_wrong_one_discarded() {
    let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
    request.add_fingerprint().unwrap();
    let mut request = request.finish();
    let config = StunServerConfig {
        software: Some("x".repeat(200)),
        ..StunServerConfig::default()
    };
    let bytes = send(&request, &config);
    let response = parse(&bytes).unwrap();
    assert!(response.has_attribute(Fingerprint::TYPE));
    let software = response.attribute::<Software>().unwrap();
    assert_eq!(software.software().len(), MAX_SOFTWARE_CHARS);

    *request.last_mut().unwrap() ^= 1;
    assert_eq!(
        answer(&request, caller(), &config, NOW),
        Ok(Answer::Nothing)
    );
}

#[test]
fn a_commitment_is_attested_only_with_a_key() {
    let peer = PeerId::from_public_key([7; 32]);
    let commitment = Commitment::new([2; 16], &peer);
    let (_, request) = binding::request(Some(&commitment));
    let key = TokenKey::from_bytes([1; 32]);
    let mut config = StunServerConfig::default();
    let token = |config: &StunServerConfig| -> Option<ReflexiveToken> {
        let bytes = send(&request, config);
        let response = binding::response(&bytes, Some(&commitment)).unwrap();
        response.unwrap().result.unwrap().token
    };
    assert_eq!(token(&config), None);
    config.token_key = Some(key.clone());
    let token = token(&config).unwrap();
    assert_eq!(token.expires_at, NOW + 600);
    assert!(key.verify(&token, &peer, remote(), NOW));

    // A commitment of another length is none, and no reason to refuse the request.
    let mut short = Message::builder_request(BINDING, MessageWriteVec::new());
    own::add(&mut short, Kind::Commitment, &[1; 31]);
    let bytes = send(&short.finish(), &config);
    assert_eq!(own::find(&parse(&bytes).unwrap(), Kind::Token), None);
}

proptest! {
    #[test]
    fn arbitrary_requests_are_answered_within_bounds(
        mut body in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        body.truncate(body.len() / 4 * 4);
        let mut bytes = b"\x00\x01".to_vec();
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(b"\x21\x12\xa4\x42abcdefghijkl");
        bytes.extend(body);
        if let Ok(Answer::Send(sent)) = answer(&bytes, caller(), &StunServerConfig::default(), NOW)
        {
            prop_assert!(sent.len() < 200);
        }
    }

    #[test]
    fn arbitrary_attributes_are_answered_within_bounds(
        kinds in prop::collection::vec(any::<u16>(), 0..100),
    ) {
        // The codec has functions of their own for these.
        const NOT_PUSHED_RAW: [u16; 3] = [0x0008, 0x001C, 0x8028];
        let mut kinds = kinds;
        kinds.retain(|kind| !NOT_PUSHED_RAW.contains(kind));
        let request = request_with(1, MessageClass::Request, &kinds);
        prop_assert!(send(&request, &StunServerConfig::default()).len() < 200);
    }
}
