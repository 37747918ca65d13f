//! How peers are named.

use anyhow::anyhow;
use p2pconnect::{ParsePeerIdError, PeerId};

/// The peers that one option names.
#[derive(Debug, Clone)]
pub(super) struct PeerIds(pub(super) Vec<PeerId>);

/// Reads a peer id.
pub(super) fn peer_id(text: &str) -> Result<PeerId, String> {
    let text = text.trim();
    let is_id = |text: &str| text.parse::<PeerId>().is_ok();
    if text.split_once('@').is_some_and(|(id, _)| is_id(id)) {
        return Err(
            "this is a coordinator's address, which belongs behind --coordinator; name the peer id, which \
             `p2pconnect id` prints on the other machine"
                .to_owned(),
        );
    }
    text.parse()
        .map_err(|error: ParsePeerIdError| error.to_string())
}

/// Says that one id is given for a peer and for the coordinator. Nobody can tell here which of the
/// two is mistaken.
pub(super) fn both_peer_and_coordinator(id: &PeerId) -> anyhow::Error {
    anyhow!(
        "{id} is given for both the peer and the coordinator, and one of them is mistaken: `p2pconnect id` prints \
         the peer's on its machine, and `serve` prints the coordinator's with its address"
    )
}

/// Reads peer ids with commas between them. A list that a program has put together may have spaces,
/// and a comma at its end.
pub(super) fn peer_ids(text: &str) -> Result<PeerIds, String> {
    let text = text.trim();
    let list = text.strip_suffix(',').unwrap_or(text);
    let ids: Result<_, _> = list.split(',').map(peer_id).collect();
    ids.map(PeerIds)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_peers_may_have_spaces_and_a_comma_at_its_end() {
        let [one, other] = [7, 9].map(|n| PeerId::from_public_key([n; 32]));
        for (text, ids) in [
            (format!("{one}, {other}"), &[one, other][..]),
            (format!("{one},"), &[one]),
            (format!(" {one} , {other} , "), &[one, other]),
        ] {
            assert_eq!(peer_ids(&text).unwrap().0, ids, "{text}");
        }
        for wrong in [String::new(), ",".to_owned(), format!("{one},,{other}")] {
            assert!(peer_ids(&wrong).is_err(), "{wrong}");
        }
    }
}
