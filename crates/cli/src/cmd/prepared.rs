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
    /// One at least.
    pub(super) coordinators: Vec<CoordinatorAddr>,
    proxy: Option<Proxy>,
    invite_secret: Option<InviteSecret>,
}

impl<'a> Prepared<'a> {
    /// Reads the options and the key, which is made on first use, once `check` has nothing against
    /// this machine's peer id and any coordinator. What `check` notes is said.
    ///
    /// Waits for whoever writes the key where that comes by a pipe, so nothing else should be under
    /// way.
    pub(super) fn new(
        options: &'a args::Endpoint,
        reporter: &'a Reporter,
        check: impl Fn(&PeerId, &CoordinatorAddr) -> anyhow::Result<Option<&'static str>>,
    ) -> Result<Self, Failed> {
        let coordinators = options.coordinator.addresses().map_err(exit::of_usage)?;
        let first = coordinators.first().map_or("", |it| &it.host);
        let proxy = options
            .proxy
            .proxy(first, |text| reporter.note(text))
            .map_err(exit::of_usage)?;
        let invite_secret = options.coordinator.invite.secret();
        let invite_secret = invite_secret.map_err(exit::of_usage)?;
        let loaded = key::load(&options.key.file(), PEER_KEY).map_err(exit::of_usage)?;
        let Loaded { key, path, is_new } = loaded;
        let id = key.peer_id();
        let mut note = None;
        for coordinator in &coordinators {
            note = check(&id, coordinator).map_err(exit::of_usage)?;
        }
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
            coordinators,
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
                let all = self.coordinators.iter();
                let mut own = all.filter(|it| it.id == self.id()).map(ToString::to_string);
                let address = own.next_back().unwrap_or_default();
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
            .coordinators(self.coordinators.iter().cloned())
            .secret_key(key.map_err(|error| exit::of_usage(error.into()))?)
            .proxy(self.proxy.clone())
            .port_mapping(!self.options.no_port_mapping)
            .stream_silence(self.options.stream_timeout)
            .observer(move |status| observer.status(&status)))
    }
}
