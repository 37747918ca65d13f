//! What is in front of this endpoint: its mappings, how the NAT behaves, and which ports there are.

pub(crate) mod behaviour;
pub(crate) mod discovery;
pub(crate) mod families;
pub(crate) mod mappings;
pub(crate) mod network;
pub(crate) mod port_sets;
pub(crate) mod query_ports;
pub(crate) mod recent_tuples;
pub(crate) mod unused_ports;
