//! What the tasks of an endpoint share.

use std::{sync::Arc, time::Duration};

use p2pconnect_host::Host;
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::InviteSecret;
use p2pconnect_punch::PunchConfig;

use crate::{
    introduction::{
        glare::GlareTable, one_each::OneEach, pending_failures::PendingFailures,
        registrations::Registrations,
    },
    machine::{nat64::Nat64, port_mapping::PortMappings, punch_ports::PunchPorts},
    metrics::Recorder,
    nat::{
        behaviour::Behaviour,
        mappings::Mappings,
        port_sets::{PortSetOpener, PortSets},
        unused_ports::UnusedPorts,
    },
    session::{
        guess_budget::GuessBudget, holes::Lingering, inbound::Inbound, syn_budget::SynBudget,
    },
    status::Observer,
    stream::pair_rotation::PairRotation,
};

/// What the tasks of an endpoint share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) host: Host,
    pub(crate) key: SecretKey,
    /// What shows private coordinators that this endpoint has been invited.
    pub(crate) invite_secret: Option<InviteSecret>,
    pub(crate) observer: Observer,
    pub(crate) ports: PunchPorts,
    pub(crate) mappings: Arc<Mappings>,
    pub(crate) behaviour: Arc<Behaviour>,
    pub(crate) unused_ports: UnusedPorts,
    /// What the coordinator has been told, and so what diallers act by.
    pub(crate) registered: std::sync::Mutex<Registrations>,
    pub(crate) port_mappings: PortMappings,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) punch: PunchConfig,
    pub(crate) guess_budget: Arc<GuessBudget>,
    pub(crate) lingering: Arc<Lingering>,
    pub(crate) syn_budget: Arc<SynBudget>,
    pub(crate) metrics: Arc<Recorder>,
    pub(crate) nat64: Arc<Nat64>,
    pub(crate) glare_table: Arc<GlareTable>,
    pub(crate) pair_rotation: Arc<PairRotation>,
    pub(crate) port_sets: PortSets,
    /// What further punch ports are opened with.
    pub(crate) opener: PortSetOpener,
    /// Whose dials are answered one at a time, and are being answered.
    pub(crate) one_each: Arc<OneEach>,
    pub(crate) pending_failures: PendingFailures,
    /// For how long nothing may come from the peer of a connection.
    pub(crate) stream_silence: Duration,
}
