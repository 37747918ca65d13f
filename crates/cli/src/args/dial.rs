//! What `dial` is told.

use std::{
    ffi::{OsStr, OsString},
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;
use p2pconnect::{DialError, PeerId};

use super::{
    endpoint::Endpoint,
    peer::{both_peer_and_coordinator, peer_id},
    time::duration,
};

#[derive(Debug, Args)]
pub(crate) struct Dial {
    /// The peer to connect to
    #[arg(value_name = "PEER-ID", value_parser = peer_id)]
    pub(crate) peer: PeerId,
    /// How long to try, such as 15s or 500ms; a number alone is in seconds
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Wait for a peer that is not online yet, or a coordinator, for an hour, or for so long, such
    /// as 90s or 15m; an attempt within takes as long as --timeout says at most, also where the
    /// peer is busy
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1h",
        value_parser = duration
    )]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
}

impl Dial {
    /// Refuses this machine's own id, the coordinator's, and one that is another one's with a slip
    /// of the pen, of those that are known here.
    pub(crate) fn check_peer(&self, own_id: &PeerId, coordinator: &PeerId) -> anyhow::Result<()> {
        if self.peer == *own_id {
            return Err(DialError::OwnId.into());
        }
        if self.peer == *coordinator {
            return Err(both_peer_and_coordinator(coordinator));
        }
        let known = [
            (*own_id, "this machine's own"),
            (*coordinator, "the coordinator's"),
        ];
        let similar = known.iter().find(|(id, _)| self.peer.is_slip_of(id));
        match similar {
            Some((id, whose)) => Err(anyhow!(
                "the peer id {} is {whose} with a slip of the pen, {id}; name the peer's, which `listen` prints there",
                self.peer
            )),
            None => Ok(()),
        }
    }
}

/// Returns the same arguments with `--wait TIME` as `--wait=TIME`. Without a time, the peer id may
/// stand behind the option.
pub(super) fn with_time_to_wait(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for argument in arguments {
        match joined.last_mut() {
            Some(last) if last == "--wait" && may_be_time(&argument) => {
                last.push("=");
                last.push(argument);
            }
            _ => joined.push(argument),
        }
    }
    joined
}

/// Tells whether a word may be meant for a time. A peer id may begin with a digit too, and is long,
/// also where something is mistyped.
fn may_be_time(word: &OsStr) -> bool {
    const LONGEST: usize = 16;

    let word = word.as_encoded_bytes();
    word.len() <= LONGEST && word.first().is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn how_long_to_wait_may_be_said_or_left_out_before_and_behind_the_peer() {
        // Some ids begin with a digit.
        let mut ids = (0..).map(|n| PeerId::from_public_key([n; 32]).to_string());
        let id = ids.find(|id| id.starts_with(|it: char| it.is_ascii_digit()));
        let id = id.unwrap();
        let wait = |words: &str| {
            let words = format!("p2pconnect dial {}", words.replace("ID", &id));
            let words = with_time_to_wait(words.split(' ').map(OsString::from));
            let dialled = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
            match dialled.command {
                Command::Dial(dial) => Ok(dial.wait.map(|it| it.as_secs())),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wait("ID"), Ok(None));
        for hour in ["--wait ID", "ID --wait", "--wait --json ID"] {
            assert_eq!(wait(hour), Ok(Some(3600)), "{hour}");
        }
        for minute in [
            "--wait 60 ID",
            "ID --wait 60",
            "--wait=1m ID",
            "ID --wait=60s",
        ] {
            assert_eq!(wait(minute), Ok(Some(60)), "{minute}");
        }
        for (wrong, told) in [("--wait 5x ID", "no unit"), ("ID --wait 2h", "an hour")] {
            let error: String = wait(wrong).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_known_id_with_a_slip_of_the_pen_is_pointed_out() {
        let [coordinator, own] = [7, 9].map(|n| PeerId::from_public_key([n; 32]));
        let mistyped = |id: PeerId| format!("x{}", &id.to_string()[1..]);
        let dial = |peer: &str| {
            let words = ["p2pconnect", "dial", peer];
            match Cli::try_parse_from(words).unwrap().command {
                Command::Dial(dial) => dial
                    .check_peer(&own, &coordinator)
                    .map_err(|it| it.to_string()),
                other => panic!("{other:?}"),
            }
        };
        assert!(dial(&mistyped(own)).unwrap_err().contains("own"));
        let error = dial(&mistyped(coordinator)).unwrap_err();
        assert!(error.contains("coordinator"), "{error}");
        assert!(dial(&own.to_string()).unwrap_err().contains("own"));
        let error = dial(&coordinator.to_string()).unwrap_err();
        assert!(error.contains("both"), "{error}");
        assert_eq!(dial(&PeerId::from_public_key([8; 32]).to_string()), Ok(()));
    }
}
