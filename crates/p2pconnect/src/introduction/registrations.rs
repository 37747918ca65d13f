//! Remembers what the coordinator was told.

use std::{collections::VecDeque, net::SocketAddr};

use crate::introduction::advertisement::Advertisement;

/// How many registrations may be on their way at a time, and be named by introductions.
const REMEMBERED: usize = 16;

/// The last registrations of an endpoint.
///
/// A dialler acts by the one that the coordinator had when it was introduced, which an introduction
/// names. That need not be the newest.
#[derive(Debug, Default)]
pub(crate) struct Registrations {
    last: u32,
    known: VecDeque<(u32, Advertisement)>,
}

impl Registrations {
    /// Returns the number under which this is told to the coordinator next.
    pub(crate) fn add(&mut self, advertised: Advertisement) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.known.truncate(REMEMBERED - 1);
        self.known.push_front((self.last, advertised));
        self.last
    }

    /// Tells whether whoever is introduced next is told of these unused ports, as far as is known.
    pub(crate) fn tell_of(&self, unused: SocketAddr) -> bool {
        let newest = self.known.front();
        newest.is_some_and(|(_, advertised)| advertised.unused == Some(unused))
    }

    /// Returns what was told under a number, or what was told last if that is too long ago.
    pub(crate) fn told(&self, serial: u32) -> Option<&Advertisement> {
        let named = self.known.iter().find(|(known, _)| *known == serial);
        named
            .or_else(|| self.known.front())
            .map(|(_, advertised)| advertised)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::machine::interfaces::Interfaces;

    fn advertised(port: u16) -> Advertisement {
        Advertisement {
            at: Instant::now(),
            interfaces: Interfaces::of(&p2pconnect_host::Host::default()),
            is_mapped: true,
            candidates: Vec::new(),
            nat: Default::default(),
            predicted: None,
            probed_at: None,
            unused: Some(SocketAddr::from(([192, 0, 2, 1], port))),
        }
    }

    #[test]
    fn the_last_ones_are_known_by_their_numbers() {
        let mut registrations = Registrations::default();
        assert!(registrations.told(1).is_none());
        let count = REMEMBERED as u16 + 1;
        let serials: Vec<_> = (1..=count)
            .map(|port| registrations.add(advertised(port)))
            .collect();
        let port = |serial| registrations.told(serial)?.unused.map(|it| it.port());
        let ports: Vec<_> = serials.iter().map(|serial| port(*serial)).collect();
        // The first is forgotten.
        assert_eq!(ports[0], Some(count));
        assert_eq!(ports[1..], (2..=count).map(Some).collect::<Vec<_>>());
    }
}
