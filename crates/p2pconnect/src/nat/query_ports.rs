//! Local ports for questions to STUN servers.

use std::{collections::VecDeque, io, sync::Mutex};

use p2pconnect_host::Host;

use crate::{machine::punch_ports::free_port, sync::lock};

/// How many ports are remembered: what an endpoint asks in the minutes for which a NAT keeps the
/// mapping of a connection that has ended, and far fewer than a system has to give.
const REMEMBERED: usize = 256;

/// How often the system is asked for a port.
const DRAWS: usize = 16;

/// Remembers from where servers were asked lately.
///
/// A system gives out ports at random, so that one comes back now and then. A NAT that still has
/// its mapping uses that again, and the answer says nothing of the port that the next connection
/// gets.
#[derive(Debug, Default)]
pub(crate) struct QueryPorts(Mutex<VecDeque<u16>>);

impl QueryPorts {
    /// Returns a port that nobody uses and that has not been returned lately.
    pub(crate) fn next(&self, host: &Host) -> io::Result<u16> {
        self.next_of(|| free_port(host))
    }

    fn next_of(&self, mut draw: impl FnMut() -> io::Result<u16>) -> io::Result<u16> {
        let mut lately = lock(&self.0);
        let mut port = draw()?;
        for _ in 1..DRAWS {
            if !lately.contains(&port) {
                break;
            }
            port = draw()?;
        }
        if lately.len() == REMEMBERED {
            lately.pop_front();
        }
        lately.push_back(port);
        Ok(port)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn no_port_comes_back_before_many_others() {
        let query_ports = QueryPorts::default();
        // Each port twice, as if the system gave it out again at once.
        let mut system = (0..).map(|draw| Ok(1024 + draw / 2));
        let ports = REMEMBERED as u16 * 2;
        for port in 1024..1024 + ports {
            assert_eq!(
                query_ports.next_of(|| system.next().unwrap()).unwrap(),
                port
            );
        }
        assert_eq!(query_ports.next_of(|| Ok(1024)).unwrap(), 1024);
    }

    #[test]
    fn a_system_with_one_port_gives_that() {
        let query_ports = QueryPorts::default();
        for _ in 0..3 {
            assert_eq!(query_ports.next_of(|| Ok(50_000)).unwrap(), 50_000);
        }
    }

    #[test]
    fn the_system_has_ports() {
        let host = Host::default();
        let query_ports = QueryPorts::default();
        assert_ne!(
            query_ports.next(&host).unwrap(),
            query_ports.next(&host).unwrap()
        );
    }
}
