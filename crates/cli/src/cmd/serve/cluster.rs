//! The other coordinators, and how they are reached.

use std::sync::Arc;

use anyhow::Context as _;
use p2pconnect::Readers;
use p2pconnect_cluster::{NatsBus, NatsOptions};
use p2pconnect_coordinator::nodes;
use p2pconnect_proto::nodes::NodeKey;

use super::settings::{Cluster, Settings, read_text};
use crate::{
    args::KeyFile,
    key::{self, CLUSTER_KEY, Loaded},
};

/// The longest file of credentials.
const MAX_BYTES: u64 = 1 << 20;

/// What the key of nodes is derived from that of the cluster for.
const PURPOSE: &str = "p2pconnect cluster";

/// How this coordinator belongs to others.
pub(super) struct Membership {
    pub(super) key: NodeKey,
    pub(super) loaded: Loaded,
    options: NatsOptions,
}

impl Membership {
    /// Reads what the settings name, if they name servers of NATS.
    ///
    /// # Errors
    ///
    /// Something of it cannot be used.
    pub(super) fn read(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(options) = options(settings)? else {
            return Ok(None);
        };
        let loaded = key::load(&key_file(settings), CLUSTER_KEY)?;
        Ok(Some(Self {
            key: NodeKey::from_bytes(*loaded.key.derive(PURPOSE)),
            loaded,
            options,
        }))
    }

    /// Connects to NATS, which need not be there yet.
    ///
    /// # Errors
    ///
    /// The settings cannot be used.
    pub(super) async fn join(self) -> anyhow::Result<nodes::Cluster> {
        let bus = NatsBus::connect(self.options).await?;
        Ok(nodes::Cluster {
            bus: Arc::new(bus),
            key: self.key,
        })
    }
}

/// Says with whom this coordinator would serve.
///
/// # Errors
///
/// Something that the settings name cannot be used.
pub(super) fn look(settings: &Settings) -> anyhow::Result<String> {
    let Some(options) = options(settings)? else {
        return Ok("alone".to_owned());
    };
    let key = match key::look(&key_file(settings), CLUSTER_KEY)? {
        Ok(loaded) => format!("the key in {}", loaded.path.display()),
        Err(path) => format!("a new key, to be made in {}", path.display()),
    };
    let servers = options.servers().join(", ");
    Ok(format!("with others by NATS at {servers}, and {key}"))
}

fn options(settings: &Settings) -> anyhow::Result<Option<NatsOptions>> {
    let Cluster {
        nats,
        credentials,
        ca,
        ..
    } = &settings.cluster;
    if nats.is_empty() {
        return Ok(None);
    }
    let mut options = NatsOptions::new(nats).context("cluster.nats")?;
    if let Some(path) = credentials {
        let named = || format!("cluster.credentials {}", path.display());
        options = options.with_credentials(read_text(path, MAX_BYTES).with_context(named)?);
        options.check().with_context(named)?;
    }
    if let Some(path) = ca {
        let named = || format!("cluster.ca {}", path.display());
        // The library reads it whenever it connects.
        read_text(path, MAX_BYTES).with_context(named)?;
        options = options.with_ca(path.clone());
    }
    Ok(Some(options))
}

fn key_file(settings: &Settings) -> KeyFile {
    KeyFile {
        path: settings.cluster.key.clone(),
        readers: match settings.shared_key {
            true => Readers::Others,
            false => Readers::Owner,
        },
    }
}
