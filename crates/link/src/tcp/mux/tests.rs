//! Tests of both sides of a connection, without one.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use proptest::prelude::*;

use super::*;

/// Both ends of a connection.
struct Pair {
    peer: Mux,
    coordinator: Mux,
}

impl Pair {
    fn new() -> Self {
        Self {
            peer: Mux::new(Side::Peer),
            coordinator: Mux::new(Side::Coordinator),
        }
    }

    /// Carries over what is to be sent, in pieces of so many bytes.
    fn carry(&mut self, piece: usize) {
        for _ in 0..2 {
            carry(&mut self.peer, &mut self.coordinator, piece);
            carry(&mut self.coordinator, &mut self.peer, piece);
        }
    }
}

fn carry(from: &mut Mux, to: &mut Mux, piece: usize) {
    let bytes = from.unsent().to_vec();
    from.sent(bytes.len());
    for piece in bytes.chunks(piece) {
        to.receive(piece);
    }
}

fn read_all(mux: &mut Mux, id: u32) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    let mut bytes = [0; 1000];
    loop {
        match mux.read(id, &mut bytes).expect("it has come")? {
            0 => return Ok(all),
            count => all.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Makes a request and answers it, and returns how both are read.
fn exchange(pair: &mut Pair, request: &[u8], answer: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>) {
    let id = pair.peer.open().unwrap();
    pair.peer.write(id, request).unwrap();
    pair.peer.finish(id).unwrap();
    pair.carry(piece);
    assert_eq!(pair.coordinator.accept(), Some(id));
    let asked = read_all(&mut pair.coordinator, id).unwrap();
    pair.coordinator.write(id, answer).unwrap();
    pair.coordinator.drop_sender(id);
    pair.coordinator.drop_receiver(id);
    pair.carry(piece);
    let answered = read_all(&mut pair.peer, id).unwrap();
    pair.peer.drop_sender(id);
    pair.peer.drop_receiver(id);
    (asked, answered)
}

fn is_empty(pair: &Pair) -> bool {
    let is_empty = |mux: &Mux| mux.streams.is_empty() && mux.unread == 0;
    is_empty(&pair.peer) && is_empty(&pair.coordinator)
}

proptest! {
    #[test]
    fn requests_and_answers_arrive_whole_in_pieces_of_any_size(
        lengths in proptest::collection::vec((4_usize..70_000, 4_usize..70_000), 1..6),
        piece in 1_usize..20_000,
    ) {
        let mut pair = Pair::new();
        for (asked, answered) in lengths {
            let (asked, answered) = (vec![1; asked], vec![2; answered]);
            let read = exchange(&mut pair, &asked, &answered, piece);
            prop_assert_eq!(read, (asked, answered));
        }
        prop_assert!(is_empty(&pair));
    }

    #[test]
    fn whatever_comes_is_borne(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        for side in [Side::Peer, Side::Coordinator] {
            let mut mux = Mux::new(side);
            mux.receive(&bytes);
            prop_assert!(mux.streams.len() <= side.other().max_streams() + SLACK);
            prop_assert!(mux.unread <= bytes.len());
        }
    }
}

#[test]
fn as_many_requests_go_on_as_the_other_side_allows_and_more_break_the_rules() {
    let mut pair = Pair::new();
    let open = |mux: &mut Mux| {
        let id = mux.open()?;
        mux.write(id, b"asks").unwrap();
        Some(id)
    };
    let ids: Vec<_> = std::iter::from_fn(|| open(&mut pair.peer)).collect();
    assert_eq!(ids.len(), MAX_REQUESTS);
    pair.carry(100);
    assert_eq!(pair.coordinator.end(), None);
    // One that is given up makes room for another one.
    pair.peer.drop_sender(ids[0]);
    pair.peer.drop_receiver(ids[0]);
    assert!(open(&mut pair.peer).is_some());
    pair.carry(100);
    assert_eq!(pair.coordinator.end(), None);
    let mut flood = Output::default();
    for id in 0..MAX_REQUESTS + SLACK {
        flood.flags(1001 + 2 * u32::try_from(id).unwrap(), flag::SYN);
    }
    pair.coordinator.receive(flood.bytes());
    assert_eq!(pair.coordinator.end(), Some(&End::ClosedHere));
}

#[test]
fn requests_that_are_given_up_before_they_are_taken_up_leave_nothing_behind() {
    let mut pair = Pair::new();
    for _ in 0..2 * MAX_REQUESTS {
        let id = pair.peer.open().unwrap();
        pair.peer.write(id, b"asks").unwrap();
        pair.peer.drop_sender(id);
        pair.peer.drop_receiver(id);
        pair.carry(9);
    }
    assert_eq!(pair.coordinator.accept(), None);
    assert_eq!(pair.coordinator.end(), None);
    assert!(is_empty(&pair));
}

#[test]
fn notices_wait_until_those_before_are_read() {
    let mut pair = Pair::new();
    let mut ids = Vec::new();
    while let Some(id) = pair.coordinator.open() {
        pair.coordinator.write(id, b"notice").unwrap();
        pair.coordinator.drop_sender(id);
        ids.push(id);
    }
    assert_eq!(ids.len(), MAX_NOTICES);
    pair.carry(7);
    assert_eq!(pair.coordinator.open(), None);
    let first = pair.peer.accept().unwrap();
    assert_eq!(read_all(&mut pair.peer, first).unwrap(), b"notice");
    pair.peer.drop_receiver(first);
    pair.peer.drop_sender(first);
    pair.carry(7);
    assert!(pair.coordinator.open().is_some());
}

#[test]
fn a_stream_that_nobody_has_written_on_is_heard_of_by_nobody() {
    let mut pair = Pair::new();
    let id = pair.coordinator.open().unwrap();
    pair.coordinator.drop_sender(id);
    assert!(pair.coordinator.unsent().is_empty());
    assert!(is_empty(&pair));
}

#[test]
fn the_last_words_arrive_behind_what_was_written_before() {
    let mut pair = Pair::new();
    let id = pair.coordinator.open().unwrap();
    pair.coordinator.write(id, b"notice").unwrap();
    pair.coordinator.drop_sender(id);
    let code = CloseCode(7 << 16 | 1);
    pair.coordinator.close(code, "shutting down");
    pair.coordinator.close(CloseCode(9), "again");
    assert_eq!(pair.coordinator.end(), Some(&End::ClosedHere));
    assert!(matches!(
        pair.coordinator.write(id, b"late"),
        Err(StreamError::Ended(End::ClosedHere))
    ));
    pair.carry(5);
    let words = "shutting down".to_owned();
    assert_eq!(pair.peer.end(), Some(&End::Closed { code, words }));
    let id = pair.peer.accept().unwrap();
    assert_eq!(read_all(&mut pair.peer, id).unwrap(), b"notice");
}

#[test]
fn the_last_words_are_as_the_protocol_has_them() {
    let protocol = include_str!("../../../../../proto/PROTOCOL.md");
    let (_, block) = protocol.split_once("```yamux last-words\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let bytes = block
        .lines()
        .map(|line| line.split('#').next().unwrap().trim());
    let wanted: String = bytes.collect();
    let mut mux = Mux::new(Side::Coordinator);
    mux.close(close::GOING_AWAY.into(), "shutting down");
    let hex: String = mux.unsent().iter().map(|it| format!("{it:02x}")).collect();
    assert!(hex.starts_with(&wanted), "{hex}");
}

#[test]
fn long_words_are_cut_off_and_a_bare_end_is_one() {
    let mut pair = Pair::new();
    pair.peer.close(CloseCode(2), &"ä".repeat(1000));
    pair.carry(100);
    let cut = "ä".repeat(256);
    assert!(
        matches!(pair.coordinator.end(), Some(End::Closed { words, .. }) if *words == cut),
        "{:?}",
        pair.coordinator.end()
    );
    for (sent, code) in [
        (0, close::DONE),
        (1, close::PROTOCOL_VIOLATION),
        (2, close::INTERNAL),
    ] {
        let mut mux = Mux::new(Side::Peer);
        let went = Header {
            kind: Kind::GoAway,
            flags: 0,
            stream: 0,
            length: sent,
        };
        mux.receive(&went.encode());
        let (code, words) = (code.into(), String::new());
        assert_eq!(mux.end(), Some(&End::Closed { code, words }));
    }
}

#[test]
fn a_sign_of_life_is_answered_and_told_of() {
    let mut pair = Pair::new();
    pair.coordinator.ask();
    carry(&mut pair.coordinator, &mut pair.peer, 3);
    assert!(pair.peer.was_asked() && !pair.peer.was_asked());
    assert_eq!(pair.peer.unsent().len(), HEADER_LEN);
    pair.carry(3);
    assert!(!pair.coordinator.was_asked());
    assert!(pair.peer.unsent().is_empty() && pair.coordinator.unsent().is_empty());
}

#[test]
fn what_nobody_reads_bounds_what_is_taken() {
    let mut pair = Pair::new();
    let id = pair.peer.open().unwrap();
    pair.peer.write(id, &[7; MAX_UNREAD]).unwrap();
    pair.carry(1_000);
    assert!(!pair.coordinator.takes_more());
    assert_eq!(pair.coordinator.accept(), Some(id));
    pair.coordinator.read(id, &mut [0; 1]).unwrap().unwrap();
    assert!(pair.coordinator.takes_more());
    pair.coordinator.discard(id);
    assert_eq!(pair.coordinator.unread, 0);
    // Questions that nobody takes the answers of are bounded as well.
    let ask = Header {
        kind: Kind::Ping,
        flags: flag::SYN,
        stream: 0,
        length: 7,
    };
    while pair.coordinator.takes_more() {
        pair.coordinator.receive(&ask.encode());
    }
    assert!(pair.coordinator.unsent().len() <= MAX_UNSENT + HEADER_LEN);
}

#[test]
fn a_stream_that_is_reset_breaks_for_both_and_no_other_does() {
    let mut pair = Pair::new();
    let (id, other) = (pair.peer.open().unwrap(), pair.peer.open().unwrap());
    for id in [id, other] {
        pair.peer.write(id, b"half a request").unwrap();
    }
    pair.carry(100);
    pair.coordinator.discard(id);
    pair.coordinator.reset(id);
    pair.carry(100);
    let broken = Some(Err(StreamError::GivenUp(close::DONE.into())));
    assert_eq!(pair.peer.read(id, &mut [0]), broken);
    assert!(pair.peer.write(id, b"rest").is_err());
    pair.peer.write(other, b"rest").unwrap();
    assert_eq!(pair.peer.read(other, &mut [0]), None);
}

#[test]
fn a_stream_longer_than_its_window_breaks_the_rules() {
    let mut pair = Pair::new();
    let id = pair.peer.open().unwrap();
    let most = vec![0; MAX_STREAM as usize];
    pair.peer.write(id, &most).unwrap();
    assert_eq!(pair.peer.write(id, &[0]), Err(StreamError::Over));
    pair.carry(1 << 20);
    assert_eq!(pair.coordinator.end(), None);
    let mut more = Output::default();
    more.data(id, 0, &[0]);
    pair.coordinator.receive(more.bytes());
    assert_eq!(pair.coordinator.end(), Some(&End::ClosedHere));
}
