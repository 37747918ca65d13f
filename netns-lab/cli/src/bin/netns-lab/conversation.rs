//! The part of a record that two peers are in.

use std::collections::BTreeSet;

use netns_lab::{EventLog, LogEntry, Topology, contender::Punch, report::Ladder};

use crate::watch;

/// Returns the hosts of a dial between two kinds.
pub(crate) fn hosts() -> Punch {
    Punch::between("dialler", "listener")
}

/// Draws what the peers said to each other; what a server said to them is left out.
pub(crate) fn ladder(title: &str, topology: &Topology, log: &EventLog) -> Ladder {
    let hosts = hosts();
    let places = topology.ladder_places(&[&hosts.dialler, &hosts.listener]);
    let at_server = |entry: &&LogEntry| [&*entry.from, &*entry.to].contains(&"server");
    let entries = log.entries().iter().filter(at_server);
    let servers: BTreeSet<_> = entries.filter_map(server_of).collect();
    let log = log.select(|entry| {
        let text = entry.to_string();
        // Acknowledgements alone tell nothing.
        let is_quiet = text.contains(" . seq ");
        !is_quiet && !servers.iter().any(|server| text.contains(server.as_str()))
    });
    Ladder::from_log(title, &places, &log)
}

/// Returns the address of the server, followed by the mark of a port.
fn server_of(entry: &LogEntry) -> Option<String> {
    let what = watch::what(entry)?;
    let mut words = what.split(' ');
    let address = if &*entry.to == "server" {
        words.nth(2)
    } else {
        words.next()
    };
    let (address, _port) = address?.split_once(':')?;
    Some(format!(" {address}:"))
}
