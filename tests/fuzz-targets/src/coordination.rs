//! Frames of the coordination protocol, as peers and coordinators read them.

use std::fmt::Debug;

use p2pconnect_proto::{
    Candidate,
    codec::{self, HEADER_LEN, MAX_BODY, Message},
    message::{
        Introduction, MAX_CANDIDATES, MAX_CLAIMS, MAX_STUN_SERVERS, Notice, Request, Response,
        Welcome,
    },
};

use crate::says_why;

/// Takes an input for frames of the coordination protocol, one after the other, each of them for a
/// message of every type.
///
/// What decodes encodes to the same bytes, but for a list that is too long: of that as many items
/// are kept as show that it is. What peers act by after that is well-formed.
pub fn coordination(input: &[u8]) {
    let mut rest = input;
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
        let len = match codec::body_len(*header) {
            Ok(len) => len,
            Err(why) => return says_why(&why, header),
        };
        assert!((1..=MAX_BODY).contains(&len));
        let Some((body, next)) = behind.split_at_checked(len) else {
            return;
        };
        if let Some(request) = decode::<Request>(body, is_cut) {
            check_request(&request);
        }
        match decode::<Response>(body, |_| false) {
            Some(Response::Introduced(introduction)) => check_introduction(introduction),
            Some(
                Response::Registered(_)
                | Response::Refused(_)
                | Response::Settled
                | Response::Relayed
                | Response::Crossed(_),
            )
            | None => {}
        }
        match decode::<Notice>(body, |_| false) {
            Some(Notice::Welcome(welcome)) => check_welcome(welcome),
            Some(Notice::Introduction(introduction)) => check_introduction(introduction),
            Some(Notice::Flight(_) | Notice::Silent(_)) | None => {}
        }
        rest = next;
    }
}

fn decode<M: Message + PartialEq + Debug>(body: &[u8], is_cut: fn(&M) -> bool) -> Option<M> {
    match codec::decode::<M>(body) {
        Ok(message) => {
            check_encoding(&message, body, is_cut);
            Some(message)
        }
        Err(why) => {
            says_why(&why, &[]);
            None
        }
    }
}

fn check_encoding<M: Message + PartialEq + Debug>(
    message: &M,
    body: &[u8],
    is_cut: fn(&M) -> bool,
) {
    let frame = codec::encode(message).unwrap();
    let (header, encoded) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(codec::body_len(*header), Ok(encoded.len()));
    if encoded != body {
        assert!(is_cut(message), "another encoding of {message:?}");
        assert!(encoded.len() < body.len());
        assert_eq!(codec::decode::<M>(encoded).as_ref(), Ok(message));
    }
}

/// Tells whether a list has been cut: it is one item longer than allowed then.
fn is_cut(request: &Request) -> bool {
    let (candidates, claims) = lists(request);
    candidates.len() > MAX_CANDIDATES || claims > MAX_CLAIMS
}

fn lists(request: &Request) -> (&[Candidate], usize) {
    match request {
        Request::Register(registration) => (&registration.candidates, 0),
        Request::Dial(dial) => (&dial.candidates, dial.claims.len()),
        Request::Settled(_) | Request::Relay(_) => (&[], 0),
    }
}

fn check_request(request: &Request) {
    let (candidates, claims) = lists(request);
    assert!(candidates.len() <= MAX_CANDIDATES + 1 && claims <= MAX_CLAIMS + 1);
}

fn check_introduction(introduction: Introduction) {
    let acted_by = introduction.well_formed();
    assert!(acted_by.candidates.len() <= MAX_CANDIDATES);
    for candidate in &acted_by.candidates {
        assert!(candidate.is_well_formed());
        assert_eq!(candidate.clone().portable(), *candidate);
    }
    assert!(acted_by.nat.ports.is_none_or(|it| it.is_well_formed()));
    assert_eq!(acted_by.clone().well_formed(), acted_by);
}

fn check_welcome(welcome: Welcome) {
    let acted_by = welcome.well_formed();
    for servers in [&acted_by.stun_servers, &acted_by.stun_alternates] {
        assert!(servers.len() <= MAX_STUN_SERVERS);
        assert!(servers.iter().all(|server| server.port() != 0));
    }
    assert_eq!(acted_by.clone().well_formed(), acted_by);
}
