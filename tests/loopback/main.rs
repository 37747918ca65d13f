//! Endpoints, coordinator and STUN server over loopback, with real QUIC and TLS.
//!
//! - `dialling`: two endpoints find each other, and what the stream between them promises
//! - `refusals`: who may not be dialled, and by whom
//! - `unreachable`: servers that are gone, closed or somebody else
//! - `crossing`: two endpoints that dial each other at the same moment
//! - `redialling`: the same two again, as soon as either has closed
//! - `arguments`: what the command is told
//! - `board`: the command `board`
//! - `commands`: how the command ends, and how its stream does
//! - `closed_output`: output that nobody takes
//! - `cluster`: several `serve` with the same peers, and servers of NATS that are killed
//! - `signals`: what programs hear of a command that a signal has ended
//! - `stalled`: a log that nobody reads
//! - `ending`: what the end of a stream says of the bytes before it
//! - `gone`: a peer that goes away after its end of the stream
//! - `forwarding`: streams that are carried to a service, which may not be there
//! - `shortages`: a machine that lacks something
//! - `stdio`: the command where somebody has made its files non-blocking
//! - `stun_server`: `stun-server`, what it is told and how it ends
//! - `journal`: what `serve` says of peers
//! - `busy`: an endpoint that accepts nobody for a while
//! - `many`: hundreds of peers of one endpoint at once
//! - `flood`: forged connection attempts by the thousand
//! - `hostile`: an impostor in the peer's place, and garbage on every port
//! - `hearsay`: what a coordinator tells of a peer, and what is believed of it
//! - `restarting`: a coordinator that is killed and comes back
//! - `operating`: settings of `serve`, and what changes while it serves
//! - `service_manager`: `serve` under a service manager such as systemd
//! - `one_family`: `serve` on a kernel without IPv6
//! - `privileges`: what `serve` is allowed once it serves
//! - `memory`: a stream does not grow with its bytes

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod arguments;
mod board;
mod busy;
mod closed_output;
mod cluster;
mod commands;
mod crossing;
mod dialling;
mod ending;
mod flood;
mod forwarding;
mod gone;
mod hearsay;
mod hostile;
mod journal;
mod many;
mod memory;
mod one_family;
mod operating;
mod privileges;
mod redialling;
mod refusals;
mod restarting;
mod service_manager;
mod several;
mod shortages;
mod signals;
mod stalled;
mod stdio;
mod stun_server;
mod terminal;
mod unreachable;
mod world;
