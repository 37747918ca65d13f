//! Decoding never takes more memory than the limit, whatever the bytes promise.

#![expect(
    unsafe_code,
    reason = "counting allocations takes a global allocator, whose trait is unsafe"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use p2pconnect_proto::{
    Candidate, PeerId, PunchPort,
    codec::{self, HEADER_LEN, MAX_BODY, MAX_DECODED, Wire},
    message::{
        DialPolicy, Extension, Extensions, MAX_ALLOWED_PEERS, Notice, Registration, Request,
        Response,
    },
    nodes::{NodeId, NodeMessage},
};
use proptest::prelude::*;

thread_local! {
    /// The bytes that this thread has asked for, freed ones included.
    static ASKED_FOR: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize) {
    // While a thread ends its counter is gone already, and nothing is measured any more.
    let _gone = ASKED_FOR.try_with(|asked| asked.set(asked.get().saturating_add(bytes)));
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps this method's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps this method's contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller keeps this method's contract, which is the same.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns how many bytes decoding asks for in all, and whether it succeeds.
fn decode<M: Wire>(body: &[u8]) -> (usize, bool) {
    let before = ASKED_FOR.get();
    let decoded = black_box(codec::decode::<M>(black_box(body)));
    (ASKED_FOR.get() - before, decoded.is_ok())
}

fn assert_bounded(body: &[u8]) {
    let of_a_node = [&[7; NodeId::LEN], body].concat();
    for (asked, _) in [
        decode::<Request>(body),
        decode::<Response>(body),
        decode::<Notice>(body),
        decode::<NodeMessage>(&of_a_node),
    ] {
        assert!(asked <= MAX_DECODED, "{asked} bytes");
    }
}

#[test]
fn the_counter_counts() {
    let before = ASKED_FOR.get();
    drop(black_box(Vec::<u8>::with_capacity(12_345)));
    assert_eq!(ASKED_FOR.get() - before, 12_345);
}

/// A message that begins so goes on with a list.
struct UpToList {
    start: Vec<u8>,
    decode: fn(&[u8]) -> (usize, bool),
}

fn up_to_lists() -> [UpToList; 5] {
    let up_to = |decode, kind: u8, fields: &[u8]| UpToList {
        start: [&[0, kind], fields].concat(),
        decode,
    };
    [
        // Register.
        up_to(decode::<Request> as fn(&[u8]) -> _, 0, &[]),
        // Dial, with its callee.
        up_to(decode::<Request>, 1, &[0; 32]),
        // Introduced, with session, peer and role.
        up_to(decode::<Response>, 1, &[0; 50]),
        // Flight, with its session.
        up_to(decode::<Notice>, 2, &[0; 16]),
        // A welcome, with an IPv4 address.
        up_to(decode::<Notice>, 0, &[4, 0, 0, 0, 0, 0, 0]),
    ]
}

#[test]
fn lists_that_promise_too_much_take_nothing() {
    for UpToList { start, decode } in up_to_lists() {
        for promised in [1, 2, 100, u16::MAX] {
            let body = [&start[..], &promised.to_be_bytes()].concat();
            assert_eq!(decode(&body), (0, false), "{promised} items promised");
        }
    }
}

#[test]
fn lists_that_are_too_long_take_no_more_than_their_limit() {
    let mut largest = 0;
    for UpToList { start, .. } in up_to_lists() {
        for item in [
            &[0][..],
            &[0, 0],
            &[4, 1, 1, 1, 1, 1, 1],
            &[0, 1, 0, 0],
            &[7; 32],
        ] {
            let mut body = start.clone();
            body.extend_from_slice(&u16::MAX.to_be_bytes());
            while body.len() + item.len() <= MAX_BODY {
                body.extend_from_slice(item);
            }
            assert_bounded(&body);
            largest = largest.max(decode::<Request>(&body).0);
        }
    }
    assert!(largest > 0, "lists are made room for");
}

#[test]
fn the_worst_message_stays_within_the_limit() {
    // As many peer ids and extensions as are kept, and the longest bytes that still fit.
    let mut worst = Registration {
        serial: 1,
        candidates: vec![Candidate::host(([192, 0, 2, 1], 1).into(), PunchPort::PRIMARY); 17],
        nat: Default::default(),
        peer_extensions: Vec::new(),
        extensions: Extensions(vec![
            Extension {
                kind: 1,
                value: Vec::new(),
            };
            33
        ]),
        ..Registration::new(DialPolicy::Only(vec![
            PeerId::from_public_key([1; 32]);
            MAX_ALLOWED_PEERS + 1
        ]))
    };
    let taken = codec::encode(&Request::Register(worst.clone()));
    let left = MAX_BODY + HEADER_LEN - taken.expect("it fits").len();
    worst.peer_extensions = vec![1; left];
    let frame = codec::encode(&Request::Register(worst)).expect("it fits");
    let (asked, decoded) = decode::<Request>(&frame[HEADER_LEN..]);
    assert!(decoded);
    assert!((MAX_BODY..=MAX_DECODED).contains(&asked), "{asked} bytes");
}

#[test]
fn the_longest_honest_message_passes() {
    let message = Request::Register(Registration {
        serial: 1,
        nat: Default::default(),
        peer_extensions: Vec::new(),
        extensions: Extensions::default(),
        ..Registration::new(DialPolicy::Only(vec![
            PeerId::from_public_key([1; 32]);
            MAX_ALLOWED_PEERS
        ]))
    });
    let frame = codec::encode(&message).expect("the limits leave room for it");
    let (asked, decoded) = decode::<Request>(&frame[HEADER_LEN..]);
    assert!(decoded);
    assert_eq!(asked, 32 * MAX_ALLOWED_PEERS);
}

proptest! {
    #[test]
    fn arbitrary_bytes_stay_within_the_limit(
        kind in 0..14_u8,
        bytes in prop::collection::vec(any::<u8>(), 0..4_000),
        sparse in any::<bool>(),
    ) {
        // Mostly zero bytes make plausible tags and lengths, so that decoding gets further.
        let thin = |byte: u8| if sparse && byte > 16 { 0 } else { byte };
        let mut body = vec![0, kind];
        body.extend(bytes.into_iter().map(thin));
        assert_bounded(&body);
    }
}
