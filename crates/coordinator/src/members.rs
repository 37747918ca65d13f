//! Whom a coordinator serves.

use std::collections::BTreeSet;

use p2pconnect_proto::{InviteSecret, PeerId};

/// Whom a coordinator serves: everybody, or those on a list and those who know a secret.
#[derive(Debug, Clone, Default)]
pub struct Members {
    /// The peers that are served. Everybody if there are no invites either.
    pub allowed: Option<BTreeSet<PeerId>>,
    /// The secrets, whoever proves one of which is served as well.
    pub invites: Vec<InviteSecret>,
}

/// What a peer shows: its own id, those by which it may know the coordinator, and perhaps a proof
/// that it has been invited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applicant<'a> {
    pub(crate) coordinators: &'a [PeerId],
    pub(crate) peer: &'a PeerId,
    pub(crate) proof: Option<&'a [u8; 32]>,
}

impl Members {
    /// Tells whether it serves a peer.
    pub(crate) fn serves(&self, applicant: Applicant<'_>) -> bool {
        let Applicant {
            coordinators,
            peer,
            proof,
        } = applicant;
        match &self.allowed {
            Some(allowed) if allowed.contains(peer) => return true,
            None if self.invites.is_empty() => return true,
            Some(_) | None => {}
        }
        let Some(proof) = proof else {
            return false;
        };
        let each = |it: &PeerId| {
            let is_by = |secret: &&InviteSecret| secret.verify(proof, it, peer);
            // All of them, so that nobody learns how many there are in front of one.
            self.invites.iter().filter(is_by).count()
        };
        coordinators.iter().map(each).sum::<usize>() > 0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn who_is_listed_or_invited_is_served() {
        let [coordinator, former, listed, other] =
            [1, 4, 2, 3].map(|it| PeerId::from_public_key([it; 32]));
        let [secret, withdrawn] =
            ["sixteen-letters-a", "sixteen-letters-b"].map(|it| InviteSecret::new(it).unwrap());
        let served = |members: &Members, peer: &PeerId, by: Option<&InviteSecret>| {
            let proof = by.map(|it| it.prove(&coordinator, peer));
            members.serves(Applicant {
                coordinators: &[former, coordinator],
                peer,
                proof: proof.as_ref(),
            })
        };
        assert!(served(&Members::default(), &other, None));
        let list = Members {
            allowed: Some([listed].into()),
            invites: Vec::new(),
        };
        assert!(served(&list, &listed, None) && !served(&list, &other, Some(&secret)));
        for allowed in [None, list.allowed.clone()] {
            let has_list = allowed.is_some();
            let invites = vec![secret.clone()];
            let members = Members { allowed, invites };
            assert_eq!(served(&members, &listed, None), has_list);
            assert!(served(&members, &other, Some(&secret)));
            assert!(!served(&members, &other, Some(&withdrawn)));
            assert!(!served(&members, &other, None));
        }
    }
}
