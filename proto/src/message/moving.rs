//! What a coordinator that is going to end asks of its peers.

use std::time::Duration;

use super::Extensions;
use crate::{CoordinatorAddr, codec::wire::fields};

/// The most places that a coordinator names to move to.
pub const MAX_PLACES: usize = 8;

/// The longest place that is read: an id, a name of 253 characters, and a port.
const MAX_PLACE: usize = 320;

/// A coordinator's wish that a peer be served elsewhere, as it is going to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// For how many milliseconds it goes on to serve the peer.
    pub stay_ms: u32,
    /// Where the peer may go, the preferred place first; at most [`MAX_PLACES`]. Each is the text
    /// of a [`CoordinatorAddr`]. None at all where the coordinator knows of no other.
    pub to: Vec<Vec<u8>>,
    /// What later versions add.
    pub extensions: Extensions,
}
fields!(Move { stay_ms, to[MAX_PLACES], extensions });

impl Move {
    /// Returns the wish that a peer be at one of these places after some time.
    #[must_use]
    pub fn new<'a>(stay: Duration, to: impl IntoIterator<Item = &'a CoordinatorAddr>) -> Self {
        let text = |it: &CoordinatorAddr| it.to_string().into_bytes();
        Self {
            stay_ms: u32::try_from(stay.as_millis()).unwrap_or(u32::MAX),
            to: to.into_iter().take(MAX_PLACES).map(text).collect(),
            extensions: Extensions::default(),
        }
    }

    /// Returns for how long the coordinator goes on to serve the peer.
    #[must_use]
    pub fn stay(&self) -> Duration {
        Duration::from_millis(self.stay_ms.into())
    }

    /// Returns the places that can be read. One whose address needs an interface of the receiver's
    /// cannot.
    #[must_use]
    pub fn places(&self) -> Vec<CoordinatorAddr> {
        let read = |text: &Vec<u8>| {
            let text = text.get(..text.len().min(MAX_PLACE + 1))?;
            let text = std::str::from_utf8(text).ok()?;
            let place: CoordinatorAddr = (text.len() <= MAX_PLACE).then(|| text.parse().ok())??;
            (!place.host.contains('%')).then_some(place)
        };
        self.to.iter().take(MAX_PLACES).filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerId;

    fn place(host: &str) -> CoordinatorAddr {
        CoordinatorAddr {
            id: PeerId::from_public_key([7; 32]),
            host: host.to_owned(),
            port: 4433,
            web: None,
        }
    }

    #[test]
    fn places_are_told_in_their_order_and_those_that_cannot_be_read_are_left_out() {
        let [one, other] = ["192.0.2.1", "2001:db8::1"].map(place);
        let mut told = Move::new(Duration::from_secs(20), [&one, &other]);
        assert_eq!((told.stay_ms, told.stay().as_secs()), (20_000, 20));
        let scoped = place("fe80::1%eth0").to_string().into_bytes();
        let long = place(&"a".repeat(300)).to_string().into_bytes();
        for wrong in [vec![], vec![0xFF; 40], b"nowhere".to_vec(), scoped, long] {
            told.to.insert(1, wrong);
        }
        assert_eq!(told.places(), [one.clone(), other]);
        told.to = vec![one.to_string().into_bytes(); MAX_PLACES + 1];
        assert_eq!(told.places().len(), MAX_PLACES);
    }

    #[test]
    fn a_time_that_cannot_be_said_is_the_longest_that_can() {
        assert_eq!(Move::new(Duration::MAX, []).stay_ms, u32::MAX);
    }
}
