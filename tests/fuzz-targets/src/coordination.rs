//! Frames of the coordination protocol, as peers and coordinators read them.

use std::fmt::Debug;

use p2pconnect_proto::{
    Candidate,
    codec::{self, HEADER_LEN, MAX_BODY, Wire},
    message::{
        Found, Introduction, MAX_CANDIDATES, MAX_CLAIMS, MAX_FEATURES, MAX_PAGE,
        MAX_PEER_EXTENSIONS, MAX_STUN_SERVERS, MAX_TOPIC_CHANGES, Notice, PendingChanges, Request,
        Response, TopicChanges, Welcome,
    },
    nodes::NodeMessage,
};

use crate::says_why;

/// Takes an input for frames of the coordination protocol, one after the other, each of them for a
/// message of every type.
///
/// What decodes is encoded so that it decodes to the same. Of a list that is too long as many items
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
        if let Some(request) = decode::<Request>(body) {
            check_request(&request);
        }
        match decode::<Response>(body) {
            Some(Response::Introduced(introduction)) => check_introduction(introduction),
            Some(Response::Found(found)) => check_found(found),
            Some(
                Response::Registered(_)
                | Response::Refused(_)
                | Response::Settled
                | Response::Relayed
                | Response::Crossed(_)
                | Response::Noted
                | Response::Unknown(_),
            )
            | None => {}
        }
        match decode::<Notice>(body) {
            Some(Notice::Welcome(welcome)) => check_welcome(welcome),
            Some(Notice::Introduction(introduction)) => check_introduction(introduction),
            Some(Notice::Topic(changes)) => check_changes(changes),
            Some(Notice::Move(it)) => drop(it.places()),
            Some(Notice::Flight(_) | Notice::Silent(_) | Notice::Unknown(_)) | None => {}
        }
        // What coordinators say to each other has no length in front, and is sealed.
        decode::<NodeMessage>(body);
        rest = next;
    }
}

fn decode<M: Wire + PartialEq + Debug>(body: &[u8]) -> Option<M> {
    match codec::decode::<M>(body) {
        Ok(message) => {
            check_encoding(&message);
            Some(message)
        }
        Err(why) => {
            says_why(&why, &[]);
            None
        }
    }
}

fn check_encoding<M: Wire + PartialEq + Debug>(message: &M) {
    let frame = codec::encode(message).unwrap();
    let (header, encoded) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(codec::body_len(*header), Ok(encoded.len()));
    assert_eq!(codec::decode::<M>(encoded).as_ref(), Ok(message));
}

fn lists(request: &Request) -> (&[Candidate], usize) {
    match request {
        Request::Register(registration) => (&registration.candidates, 0),
        Request::Dial(dial) => (&dial.candidates, dial.claims.len()),
        Request::Settled(_)
        | Request::Relay(_)
        | Request::Announce(_)
        | Request::Withdraw(_)
        | Request::LookUp(_)
        | Request::Watch(_)
        | Request::Unwatch(_)
        | Request::Prove(_)
        | Request::Unknown(_) => (&[], 0),
    }
}

fn check_request(request: &Request) {
    let (candidates, claims) = lists(request);
    assert!(candidates.len() <= MAX_CANDIDATES + 1 && claims <= MAX_CLAIMS + 1);
}

fn check_introduction(introduction: Introduction) {
    let acted_by = introduction.well_formed();
    assert!(acted_by.candidates.len() <= MAX_CANDIDATES);
    assert!(acted_by.peer_extensions.len() <= MAX_PEER_EXTENSIONS);
    for candidate in &acted_by.candidates {
        assert!(candidate.is_well_formed());
        assert_eq!(candidate.clone().portable(), *candidate);
    }
    assert!(acted_by.nat.ports.is_none_or(|it| it.is_well_formed()));
    assert_eq!(acted_by.clone().well_formed(), acted_by);
}

fn check_found(found: Found) {
    let acted_by = found.well_formed();
    assert!(acted_by.members.len() <= MAX_PAGE);
}

/// What is queued of it is what it says, and no more than there is room for.
fn check_changes(changes: TopicChanges) {
    let acted_by = changes.well_formed();
    let mut pending = PendingChanges::default();
    pending.take_in(&acted_by);
    let told = pending.take(acted_by.topic);
    let told = told.unwrap_or_else(|| TopicChanges::new(acted_by.topic));
    assert!(told.joined.len() + told.left.len() <= MAX_TOPIC_CHANGES);
    assert_eq!(told.missed, acted_by.missed);
}

fn check_welcome(welcome: Welcome) {
    let acted_by = welcome.well_formed();
    assert!(acted_by.features.len() <= MAX_FEATURES);
    for servers in [&acted_by.stun_servers, &acted_by.stun_alternates] {
        assert!(servers.len() <= MAX_STUN_SERVERS);
        assert!(servers.iter().all(|server| server.port() != 0));
    }
    assert_eq!(acted_by.clone().well_formed(), acted_by);
}
