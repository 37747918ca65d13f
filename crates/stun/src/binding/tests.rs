//! Tests of what is written into Binding messages and read from them.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use proptest::prelude::*;
use stun_types::{attribute::RawAttribute, message::MessageType};

use super::*;
use crate::rfc5769;

const SALT: [u8; 16] = [3; 16];

fn commitment() -> Commitment {
    Commitment::new(SALT, &PeerId::from_public_key([4; 32]))
}

fn answer_with(attributes: &[RawAttribute<'_>]) -> Response {
    answer_with_token(attributes, None)
}

fn answer_with_token(attributes: &[RawAttribute<'_>], token: Option<&[u8]>) -> Response {
    let kind = MessageType::from_class_method(MessageClass::Success, BINDING);
    let mut message = Message::builder(kind, 5.into(), MessageWriteVec::new());
    for attribute in attributes {
        message.add_attribute(attribute).unwrap();
    }
    if let Some(token) = token {
        own::add(&mut message, Kind::Token, token);
    }
    response(&message.finish(), Some(&commitment()))
        .unwrap()
        .unwrap()
}

fn xor_mapped(address: &str) -> RawAttribute<'static> {
    let attribute = XorMappedAddress::new(address.parse().unwrap(), 5.into());
    RawAttribute::from(&attribute).into_owned()
}

#[test]
fn the_responses_of_rfc_5769_are_understood() {
    for (bytes, expected) in [
        (rfc5769::IPV4_RESPONSE, "192.0.2.1:32853"),
        (
            rfc5769::IPV6_RESPONSE,
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ),
    ] {
        let response = response(bytes, None).unwrap().unwrap();
        assert_eq!(
            u128::from(response.transaction),
            0xb7e7_a701_bc34_d686_fa87_dfae
        );
        let answer = response.result.unwrap();
        assert_eq!(answer.mapped, expected.parse().unwrap());
        assert_eq!(answer.token, None);
    }
}

#[test]
fn an_ipv4_address_mapped_into_ipv6_is_taken_as_what_it_is() {
    let mapped = xor_mapped("[::ffff:192.0.2.1]:5");
    let answer = answer_with_token(std::slice::from_ref(&mapped), None);
    assert_eq!(
        answer.result.unwrap().mapped,
        "192.0.2.1:5".parse().unwrap()
    );
}

#[test]
fn a_request_has_nothing_but_the_commitment() {
    let (_, plain) = request(None);
    assert_eq!(plain.len(), 20);
    assert_eq!(plain[..8], *b"\x00\x01\x00\x00\x21\x12\xa4\x42");
    let (_, committed) = request(Some(&commitment()));
    assert_eq!(committed.len(), 20 + 4 + 12 + 32);
    assert_eq!(committed[20..36], *b"\xd2\xc0\x00\x2cp2pconnect\x00\x01");
    let (one, other) = (request(None).0, request(None).0);
    assert_ne!(one, other, "transaction ids are random");
}

#[test]
fn a_token_is_taken_only_at_its_length() {
    let mapped = xor_mapped("192.0.2.1:5");
    let token = encode_token(0x0102_0304, &[9; 16]);
    let answer = answer_with_token(std::slice::from_ref(&mapped), Some(&token));
    assert_eq!(
        answer.result.unwrap().token,
        Some(ReflexiveToken {
            salt: SALT,
            expires_at: 0x0102_0304,
            mac: [9; 16]
        })
    );
    for wrong in [&token[..23], &[0; 25], &[]] {
        let answer = answer_with_token(std::slice::from_ref(&mapped), Some(wrong));
        assert_eq!(answer.result.unwrap().token, None);
    }
}

#[test]
fn an_answer_without_a_usable_address_is_malformed() {
    let unknown = RawAttribute::new(AttributeType::new(0x0042), &[]);
    for attributes in [
        vec![],
        vec![RawAttribute::new(XorMappedAddress::TYPE, &[0, 1, 2])],
        vec![xor_mapped("0.0.0.0:5")],
        vec![xor_mapped("192.0.2.1:0")],
        vec![xor_mapped("255.255.255.255:5")],
        vec![xor_mapped("224.0.0.1:5")],
        vec![xor_mapped("[ff02::1]:5")],
        vec![xor_mapped("192.0.2.1:5"), unknown],
    ] {
        let answer = answer_with(&attributes);
        assert_eq!(
            answer.result,
            Err(MappingError::MalformedAnswer),
            "{attributes:?}"
        );
    }
}

#[test]
fn an_error_response_rejects_and_other_messages_are_ignored() {
    let kind = MessageType::from_class_method(MessageClass::Error, BINDING);
    let mut message = Message::builder(kind, 5.into(), MessageWriteVec::new());
    message
        .add_attribute(&ErrorCode::builder(420).build().unwrap())
        .unwrap();
    let rejected = response(&message.finish(), None).unwrap().unwrap();
    assert_eq!(rejected.result, Err(MappingError::Rejected(420)));
    assert!(response(rfc5769::REQUEST, None).unwrap().is_none());
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic(
        kind in prop::sample::select(vec![0x0001_u16, 0x0101, 0x0111, 0x0011]),
        mut body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        body.truncate(body.len() / 4 * 4);
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(b"\x21\x12\xa4\x42\0\0\0\0\0\0\0\0\0\0\0\x05");
        bytes.extend(body);
        let _outcome = response(&bytes, Some(&commitment()));
    }

    #[test]
    fn truncated_and_altered_vectors_never_panic(
        at in 0..rfc5769::IPV6_RESPONSE.len(),
        value in any::<u8>(),
        cut in 0..rfc5769::IPV6_RESPONSE.len(),
    ) {
        let mut bytes = rfc5769::IPV6_RESPONSE.to_vec();
        bytes[at] = value;
        let _outcome = response(&bytes, None);
        let _outcome = response(&bytes[..cut], None);
    }
}
