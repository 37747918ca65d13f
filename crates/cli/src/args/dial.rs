//! What `dial` is told.

use std::time::Duration;

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
    /// How long to try, such as 15s or 500ms
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Wait for a peer that is not online yet, or a coordinator, for so long, or an hour; a peer that is there by
    /// then is dialled for as long as --timeout says, also where it is busy
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "1h", value_parser = wait)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
}

impl Dial {
    /// Refuses this machine's own id, the coordinator's, and one that is another one's with a slip of the pen, of those that are known
    /// here.
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

/// Reads how long to wait, which may be left out: the peer id is easily taken for it.
fn wait(text: &str) -> Result<Duration, String> {
    if text.trim().parse::<PeerId>().is_ok() {
        return Err("this is a peer id; write it before --wait, or --wait=1h before it".to_owned());
    }
    duration(text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn a_peer_id_is_not_taken_for_a_time() {
        let id = PeerId::from_public_key([7; 32]).to_string();
        assert!(id.parse::<PeerId>().is_ok());
        assert!(wait(&id).unwrap_err().contains("before --wait"));
        assert_eq!(wait("15m"), Ok(Duration::from_secs(900)));
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
