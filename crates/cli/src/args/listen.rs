//! What `listen` is told.

use anyhow::anyhow;
use clap::Args;
use p2pconnect::{DialPolicy, PeerId};

use super::{
    endpoint::Endpoint,
    peer::{PeerIds, both_peer_and_coordinator, peer_ids},
    target::{Target, target},
};

/// The most peers that are forwarded at a time; it leaves room below the usual limit of 1,024
/// open files.
const MAX_STREAMS: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct Listen {
    #[command(flatten)]
    allowed: Allowed,
    /// Send each peer's stream to this TCP address, instead of stdin and stdout
    #[arg(long, value_name = "HOST:PORT", value_parser = target)]
    pub(crate) forward: Option<Target>,
    /// Exit after the first peer's stream has ended
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Allowed {
    /// A peer that may dial; repeat it for more, or put commas between them
    #[arg(
        long,
        value_name = "PEER-ID",
        value_parser = peer_ids,
        conflicts_with = "allow_any"
    )]
    allow: Vec<PeerIds>,
    /// Let anybody dial who knows this machine's peer id
    #[arg(long)]
    allow_any: bool,
}

impl Allowed {
    /// Returns all peers that were named, in their order.
    fn ids(&self) -> Vec<PeerId> {
        self.allow.iter().flat_map(|it| &it.0).copied().collect()
    }
}

impl Listen {
    /// Refuses a policy that lets in nobody but this machine itself, or has the coordinator's id or
    /// one with a slip of the pen. Returns what is to be noted beside.
    pub(crate) fn check_policy(
        &self,
        own_id: &PeerId,
        coordinator: &PeerId,
    ) -> anyhow::Result<Option<&'static str>> {
        let allowed = self.allowed.ids();
        if allowed.contains(coordinator) {
            return Err(both_peer_and_coordinator(coordinator));
        }
        if let [first, ..] = &allowed[..]
            && allowed.iter().all(|it| it == own_id)
        {
            return Err(anyhow!(
                "--allow names nobody but this machine itself, {first}; name the peer id of the machine that \
                 dials, which `p2pconnect id` prints there"
            ));
        }
        for (place, id) in allowed.iter().enumerate() {
            let known = allowed[..place].iter().chain([own_id, coordinator]);
            if let Some(similar) = known.into_iter().find(|it| id.is_slip_of(it)) {
                let whose = if similar == own_id {
                    "this machine's own"
                } else if similar == coordinator {
                    "the coordinator's"
                } else {
                    "allowed as well"
                };
                return Err(anyhow!(
                    "--allow names {id}, which is mistyped or {similar} is, {whose}: they differ by one slip of the pen"
                ));
            }
        }
        Ok(allowed
            .contains(own_id)
            .then_some("--allow names this machine's own peer id as well, which changes nothing"))
    }

    /// Returns how many streams there may be at a time.
    pub(crate) const fn max_streams(&self) -> usize {
        if self.forward.is_some() && !self.once {
            MAX_STREAMS
        } else {
            1
        }
    }

    pub(crate) fn policy(&self) -> DialPolicy {
        if self.allowed.allow_any {
            DialPolicy::Anyone
        } else {
            DialPolicy::Only(self.allowed.ids())
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    const COORDINATOR: PeerId = PeerId::from_public_key([5; 32]);

    #[test]
    fn several_peers_may_be_allowed_at_once() {
        let ids = [7, 9].map(|n| PeerId::from_public_key([n; 32]));
        let allowed = format!("{},{}", ids[0], ids[1]);
        let cli = Cli::try_parse_from(["p2pconnect", "listen", "--allow", &allowed]).unwrap();
        let Command::Listen(listen) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!(listen.policy(), DialPolicy::Only(ids.to_vec()));
        assert!(
            listen
                .check_policy(&ids[0], &COORDINATOR)
                .unwrap()
                .is_some()
        );
        let other = PeerId::from_public_key([8; 32]);
        assert_eq!(listen.check_policy(&other, &COORDINATOR).unwrap(), None);
    }

    #[test]
    fn an_id_with_a_slip_of_the_pen_is_pointed_out() {
        let [id, own] = [7, 9].map(|n| PeerId::from_public_key([n; 32]));
        let mistyped = |id: PeerId| format!("x{}", &id.to_string()[1..]);
        for allowed in [
            format!("{id},{}", mistyped(id)),
            mistyped(own),
            mistyped(COORDINATOR),
        ] {
            let cli = Cli::try_parse_from(["p2pconnect", "listen", "--allow", &allowed]).unwrap();
            let Command::Listen(listen) = cli.command else {
                panic!("{cli:?}");
            };
            let error = listen
                .check_policy(&own, &COORDINATOR)
                .unwrap_err()
                .to_string();
            assert!(error.contains("slip of the pen"), "{error}");
        }
    }

    #[test]
    fn listening_needs_to_know_for_whom() {
        let id = PeerId::from_public_key([7; 32]).to_string();
        let at = format!("{id}@192.0.2.1:4433");
        let parse = |extra: &[&str]| {
            let words = ["p2pconnect", "listen", "--coordinator", &at];
            Cli::try_parse_from(words.iter().chain(extra))
        };
        assert!(parse(&[]).is_err());
        assert!(parse(&["--allow", &id, "--allow-any"]).is_err());
        assert!(parse(&["--allow", &id, "--allow", &id]).is_ok());
        assert!(parse(&["--allow-any"]).is_ok());
        assert!(parse(&["--allow-any", "--forward", "nowhere"]).is_err());
    }
}
