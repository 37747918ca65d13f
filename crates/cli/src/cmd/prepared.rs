//! What `dial` and `listen` have before they bind their endpoint.

use anyhow::anyhow;
use p2pconnect::{
    Builder, CoordinatorAddr, CoordinatorError, Endpoint, InviteSecret, PeerId, Proxy, SecretKey,
};

use crate::{
    args, exit,
    key::{self, Loaded, PEER_KEY},
    pauses,
    report::Reporter,
};

/// Why a command cannot go on, and the status that it ends with.
pub(super) type Failed = (u8, anyhow::Error);

/// Who this machine is, and where it meets others.
pub(super) struct Prepared<'a> {
    options: &'a args::Endpoint,
    reporter: &'a Reporter,
    key: SecretKey,
    pub(super) coordinator: CoordinatorAddr,
    proxy: Option<Proxy>,
    invite_secret: Option<InviteSecret>,
}

impl<'a> Prepared<'a> {
    /// Reads the options and the key, which is made on first use, once `check` has nothing against
    /// this machine's peer id and the coordinator. What `check` notes is said.
    ///
    /// Waits for whoever writes the key where that comes by a pipe, so nothing else should be under
    /// way.
    pub(super) fn new(
        options: &'a args::Endpoint,
        reporter: &'a Reporter,
        check: impl FnOnce(&PeerId, &CoordinatorAddr) -> anyhow::Result<Option<&'static str>>,
    ) -> Result<Self, Failed> {
        let coordinator = options.coordinator.address().map_err(exit::of_usage)?;
        let proxy = options
            .proxy
            .proxy(&coordinator.host, |text| reporter.note(text))
            .map_err(exit::of_usage)?;
        let invite_secret = options.coordinator.invite_secret();
        let invite_secret = invite_secret.map_err(exit::of_usage)?;
        let loaded = key::load(&options.key.file(), PEER_KEY).map_err(exit::of_usage)?;
        let Loaded { key, path, is_new } = loaded;
        let id = key.peer_id();
        let note = check(&id, &coordinator).map_err(exit::of_usage)?;
        if is_new {
            reporter.key_made(&path, &id);
        }
        if let Some(note) = note {
            reporter.note(note);
        }
        if options.no_port_mapping {
            reporter.no_port_mapping();
        }
        Ok(Self {
            options,
            reporter,
            key,
            coordinator,
            proxy,
            invite_secret,
        })
    }

    pub(super) const fn id(&self) -> PeerId {
        self.key.peer_id()
    }

    /// Points out what the user has mistaken, where an error shows that.
    pub(super) fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        match pauses::of_coordinator(&error) {
            Some(CoordinatorError::WrongIdentity { expected, .. }) if *expected == self.id() => {
                let address = self.coordinator.to_string();
                let (_, place) = address.split_once('@').unwrap_or_default();
                anyhow!(
                    "the coordinator's address begins with this machine's own peer id; type --coordinator \
                     SERVER-ID@{place} with the server id that `serve` prints there"
                )
            }
            _ => error,
        }
    }

    /// Returns what binds an endpoint. One that could not be bound has taken its builder, so this
    /// can be asked again.
    pub(super) fn builder(&self) -> Result<Builder, Failed> {
        let key = SecretKey::from_pem(&self.key.to_pem());
        let observer = self.reporter.clone();
        let builder = Endpoint::builder();
        let builder = match &self.invite_secret {
            Some(secret) => builder.invite_secret(secret.clone()),
            None => builder,
        };
        Ok(builder
            .secret_key(key.map_err(|error| exit::of_usage(error.into()))?)
            .coordinator(self.coordinator.clone())
            .proxy(self.proxy.clone())
            .port_mapping(!self.options.no_port_mapping)
            .stream_silence(self.options.stream_timeout)
            .observer(move |status| observer.status(&status)))
    }
}
