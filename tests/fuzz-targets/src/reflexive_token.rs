//! A token from a STUN server to whoever checks it, and what others make of it.

use p2pconnect_proto::{
    PeerId, ReflexiveToken, TokenKey,
    codec::{self, HEADER_LEN},
    portable,
};
use p2pconnect_stun::{Commitment, StunServerConfig, fuzzing};

use crate::input::Input;

/// The bytes of a token: salt, expiry and MAC.
const LEN: usize = 16 + 8 + 16;

/// Takes an input for the key of a STUN server, a peer that asks it, the two moments at which it
/// answers and the token is shown, and what somebody makes of the token meanwhile.
///
/// The token travels through a STUN answer and through a message, and attests this peer at this
/// address until it expires. Whatever is changed in it, it attests nothing.
pub fn reflexive_token(input: &[u8]) {
    let mut input = Input::new(input);
    let key = TokenKey::from_bytes(input.array());
    let peer = PeerId::from_public_key(input.array());
    let commitment = Commitment::new(input.array(), &peer);
    let address = portable(input.address());
    let (asked_at, shown_at) = (input.u64(), input.u64());
    let mut config = StunServerConfig::default();
    config.token_key = Some(key.clone());

    let request = fuzzing::request(Some(&commitment));
    let answer = fuzzing::answer(&request, address, &config, asked_at);
    let answer = answer.unwrap().unwrap();
    let Ok(read) = fuzzing::read(&answer, Some(&commitment)) else {
        // No host has the address.
        return;
    };
    let read = read.unwrap();
    let token = read.token.unwrap();
    assert_eq!(read.mapped, address);
    let expires_at = asked_at.saturating_add(config.token_validity.as_secs());
    assert_eq!(token.expires_at, expires_at);

    let body = codec::encode(&token).unwrap().split_off(HEADER_LEN);
    assert_eq!(body.len(), LEN);
    assert_eq!(codec::decode::<ReflexiveToken>(&body).as_ref(), Ok(&token));
    assert!(!format!("{token:?} {key:?}").contains(&format!("{:?}", token.mac)));

    let attests =
        |token: &ReflexiveToken, peer: &PeerId, address, now| key.verify(token, peer, address, now);
    assert_eq!(
        attests(&token, &peer, address, shown_at),
        shown_at <= expires_at
    );
    assert!(attests(&token, &peer, address, expires_at));

    let mut other = *peer.as_bytes();
    let (at, change) = (usize::from(input.u8()), input.u8().max(1));
    other[at % other.len()] ^= change;
    let other = PeerId::from_public_key(other);
    assert!(!attests(&token, &other, address, expires_at));
    let mut elsewhere = address;
    elsewhere.set_port(address.port() ^ u16::from(change));
    assert!(!attests(&token, &peer, elsewhere, expires_at));
    let mut forged = body;
    forged[at % LEN] ^= change;
    let forged: ReflexiveToken = codec::decode(&forged).unwrap();
    assert!(!attests(&forged, &peer, address, 0));
}
