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
    PeerId,
    codec::{self, HEADER_LEN, MAX_BODY, MAX_DECODED, Message, VERSION},
    message::{DialPolicy, MAX_ALLOWED_PEERS, Notice, Registration, Request, Response},
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
fn decode<M: Message>(body: &[u8]) -> (usize, bool) {
    let before = ASKED_FOR.get();
    let decoded = black_box(codec::decode::<M>(black_box(body)));
    (ASKED_FOR.get() - before, decoded.is_ok())
}

fn assert_bounded(body: &[u8]) {
    for (asked, _) in [
        decode::<Request>(body),
        decode::<Response>(body),
        decode::<Notice>(body),
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

#[test]
fn lists_that_promise_too_much_take_nothing() {
    // Up to the first list: Register; Dial with its callee; Registered; Introduced with session,
    // peer and role; Welcome with an IPv4 address.
    let prefixes: [&[u8]; 5] = [
        &[VERSION, 0, 0, 0, 0],
        &[&[VERSION, 0, 0, 0, 1], &[7; 32][..]].concat(),
        &[VERSION, 0, 0, 0, 0],
        &[&[VERSION, 0, 0, 0, 1], &[7; 48][..], &[0; 4]].concat(),
        &[&[VERSION, 0, 0, 0, 0], &[0; 10][..]].concat(),
    ];
    let most = u64::try_from(MAX_BODY).expect("64 KiB are few");
    for prefix in prefixes {
        for promised in [most, most + 1, 1 << 32, 1 << 60, u64::MAX / 88, u64::MAX] {
            let body = [prefix, &promised.to_be_bytes()].concat();
            for (asked, decoded) in [
                decode::<Request>(&body),
                decode::<Response>(&body),
                decode::<Notice>(&body),
            ] {
                assert!(!decoded);
                assert_eq!(asked, 0, "{promised} items promised");
            }
        }
    }
}

#[test]
fn every_promise_is_refused_or_within_the_limit() {
    let mut largest = 0;
    for promised in 0..5_000_u64 {
        let body = [&[VERSION, 0, 0, 0, 0][..], &promised.to_be_bytes()].concat();
        // A registration begins with candidates, which are made room for as they come.
        let (asked, _) = decode::<Request>(&body);
        assert_eq!(asked, 0, "{promised} candidates that are not there");
        let (asked, _) = decode::<Response>(&body);
        assert!(asked <= MAX_BODY, "{promised} items took {asked} bytes");
        largest = largest.max(asked);
    }
    assert!(largest > 0, "short lists are made room for");
}

#[test]
fn two_lists_stay_within_the_limit_for_messages() {
    // As many candidates as a list may promise, all there, then as many peer ids as still fit.
    let candidate = [0; 4 + 4 + 4 + 2 + 1 + 1];
    let mut largest = 0;
    for candidates in (0..1_000_u64).step_by(31) {
        let mut start = vec![VERSION, 0, 0, 0, 0];
        start.extend_from_slice(&candidates.to_be_bytes());
        for _ in 0..candidates {
            start.extend_from_slice(&candidate);
        }
        // Nothing known of the NAT, then `DialPolicy::Only`.
        start.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
        for peers in (0..2_100_u64).step_by(13) {
            let body = [&start[..], &peers.to_be_bytes()].concat();
            let (asked, _) = decode::<Request>(&body);
            assert!(asked <= MAX_DECODED, "{asked} bytes");
            largest = largest.max(asked);
        }
    }
    assert!(
        largest > MAX_BODY,
        "the worst case was not reached: {largest}"
    );
}

#[test]
fn the_longest_honest_message_passes() {
    let message = Request::Register(Registration {
        serial: 1,
        candidates: Vec::new(),
        nat: Default::default(),
        policy: DialPolicy::Only(vec![PeerId::from_public_key([1; 32]); MAX_ALLOWED_PEERS]),
    });
    let frame = codec::encode(&message).expect("the limits leave room for it");
    let (asked, decoded) = decode::<Request>(&frame[HEADER_LEN..]);
    assert!(decoded);
    assert_eq!(asked, 32 * MAX_ALLOWED_PEERS);
}

proptest! {
    #[test]
    fn arbitrary_bytes_stay_within_the_limit(
        variant in 0..4_u8,
        bytes in prop::collection::vec(any::<u8>(), 0..4_000),
        sparse in any::<bool>(),
    ) {
        // Mostly zero bytes make plausible tags and lengths, so that decoding gets further.
        let thin = |byte: u8| if sparse && byte > 16 { 0 } else { byte };
        let mut body = vec![VERSION, 0, 0, 0, variant];
        body.extend(bytes.into_iter().map(thin));
        assert_bounded(&body);
    }
}
