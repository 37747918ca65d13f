//! The answer to a nomination, as the dialler reads it off a connection.

use p2pconnect_proto::answer::{MAX_REASON, NominationAnswer, Progress};

use crate::says_why;

/// Takes an input for what comes of an answer to a nomination.
///
/// It is the same whether it comes at once or as a driver reads it, which is never more than is
/// lacking. So no byte of the stream behind it is taken.
pub fn nomination_answer(input: &[u8]) {
    let at_once = NominationAnswer::decode(input);
    let mut come = 0;
    let by_and_by = loop {
        match NominationAnswer::decode(&input[..come]) {
            Ok(Progress::Lacks(lacks)) => {
                assert!(lacks > 0, "nothing lacks, and the answer is not whole");
                if come + lacks > input.len() {
                    break Ok(Progress::Lacks(come + lacks - input.len()));
                }
                come += lacks;
            }
            ended => break ended,
        }
    };
    match (at_once, by_and_by) {
        (Ok(Progress::Whole(answer)), Ok(Progress::Whole(same))) => {
            assert_eq!(answer, same);
            check(&answer, &input[..come]);
        }
        (Err(why), Err(same)) => {
            assert_eq!(why, same);
            says_why(&why, &[]);
        }
        (Ok(Progress::Lacks(_)), Ok(Progress::Lacks(_))) => {}
        (one, other) => panic!("{one:?} at once, {other:?} bit by bit"),
    }
}

fn check(answer: &NominationAnswer, bytes: &[u8]) {
    let encoded = answer.encode();
    let Ok(Progress::Whole(again)) = NominationAnswer::decode(&encoded) else {
        panic!("{answer:?} cannot be read again");
    };
    match (answer, again) {
        (NominationAnswer::Accepted, again) => assert_eq!(again, NominationAnswer::Accepted),
        (NominationAnswer::Refused(reason), NominationAnswer::Refused(again)) => {
            // What is no text has been replaced by what may be longer, and is cut.
            assert!(reason.starts_with(&again) && again.len() <= MAX_REASON);
            if !reason.contains('\u{FFFD}') {
                assert_eq!(encoded, bytes);
            }
        }
        (NominationAnswer::Refused(_), NominationAnswer::Accepted) => panic!("{answer:?}"),
    }
}
