//! The command `p2pconnect` between real kernels: hosts, NATs and a server in network namespaces.
//!
//! The path is the same in every test: 80 ms round trip between the peers, 42 ms from either to
//! the server, unless a test says otherwise.
//!
//! - `pairs`: every pair of NATs that can be punched, both ways round, again and again
//! - `addresses`: hosts with a second link, or with a second address on the same
//! - `again`: one endpoint dials the same peer as soon as the last stream has ended
//! - `board`: members of a topic find each other
//! - `bad_paths`: paths that do to packets what they should not
//! - `another`: connections that are used and prove to be another one
//! - `banning`: firewalls that ban whoever sends a SYN that they do not expect
//! - `causes`: failures whose reason the attempts alone do not tell
//! - `cluster`: several coordinators, and links between them that are cut
//! - `draining`: servers that end and are started again under dials, of which none fails
//! - `crossing`: two endpoints dial each other at the same moment
//! - `together`: several processes with one key dial the same peer at the same moment
//! - `ways`: how a connection was opened, by the capture and not by the program's word
//! - `families`: peers that name the coordinator by addresses of different families
//! - `ipv6`: the same without translation
//! - `predicted`: NATs with another external port for each destination
//! - `hopeless`: a pair that cannot be punched says why
//! - `dead_path`: streams whose path has died
//! - `killed`: a process is killed while a dial is under way
//! - `loss`: paths that lose packets
//! - `mapping`: a mapping outlives the idle limit of its NAT
//! - `names`: name servers that do not answer
//! - `nat64`: a peer with IPv6 only, and servers and peers with IPv4 only
//! - `port_mapping`: what no punch can do, a router that maps ports can
//! - `proxies`: networks that lead to the coordinator by a proxy alone
//! - `readme`: what README tells people to type for ssh through two NATs
//! - `same_nat`: peers behind the same NAT
//! - `web`: coordinators behind a web server, and proxies that intercept TLS
//! - `weapon`: what a coordinator that lies makes a listener send to others
//! - `stun_server`: what clients of others find out about their NAT from `stun-server`
//! - `statuses`: what goes wrong ends with the right exit status, in time, and disturbs nobody

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod addresses;
mod again;
mod another;
mod bad_paths;
mod banning;
mod blocks;
mod board;
mod causes;
mod cluster;
mod crossing;
mod dead_path;
mod draining;
mod families;
mod hopeless;
mod ipv6;
mod killed;
mod loss;
mod mapping;
mod names;
mod nat64;
mod pairs;
mod port_mapping;
mod predicted;
mod proxies;
mod readme;
mod same_nat;
mod statuses;
mod stun_server;
mod together;
mod upnp;
mod ways;
mod weapon;
mod web;
