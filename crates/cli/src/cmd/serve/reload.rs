//! What changes while a coordinator serves, when its operator has it read its settings again.

use std::collections::BTreeSet;

use p2pconnect_coordinator::{Certificate, Control, Drain, Members};
use tracing::{error, info, warn};

use super::{
    members, resources,
    settings::{Configuration, Setting, Sources},
    websocket,
};
use crate::{logging::Logging, memory, words::with_causes};

/// What takes effect at the next start only, below what else does at once.
const FIXED_LIMITS: [&str; 2] = ["limits.idle-timeout", "limits.stun."];

/// What a server runs with, and how it changes.
pub(super) struct Reload {
    sources: Sources,
    /// What is in effect. What waits for the next start is not.
    running: Configuration,
    members: Members,
    control: Control,
    logging: Logging,
    /// The certificate in use, if there is one.
    pub(super) certificate: Option<Certificate>,
}

impl Reload {
    pub(super) const fn new(
        sources: Sources,
        running: Configuration,
        members: Members,
        control: Control,
        logging: Logging,
    ) -> Self {
        Self {
            sources,
            running,
            members,
            control,
            logging,
            certificate: None,
        }
    }

    /// Reads everything again and does what can be done at once. What is wrong with the settings
    /// leaves all as it was, and is logged.
    pub(super) fn reload(&mut self) {
        let read = Configuration::read(&self.sources).and_then(|configuration| {
            let members = members::read(&configuration.settings)?;
            Ok((configuration, members))
        });
        let (read, members) = match read {
            Ok(read) => read,
            Err(error) => {
                let reason = with_causes(&error);
                return error!(%reason, "nothing is reloaded, and everything stays as it was");
            }
        };
        // What is said of the changes is by the new level already.
        let selects = self.logging.set(&read.settings.log.selection());
        let changed = self.take_over(&read.all);
        if !selects {
            info!("what is logged is as RUST_LOG has it, whatever the settings say");
        }
        let running = &mut self.running.settings;
        running.drain = read.settings.drain;
        running.move_to = read.settings.move_to;
        running.limits = read.settings.limits;
        let limits = &running.limits;
        let memory = memory::limit().unwrap_or(u64::MAX);
        let service = resources::of_service(limits.of_service(), memory);
        self.control.set_limits(limits.of_registry(), service);
        self.serve(members);
        self.renew_certificate();
        info!(changed, "the settings are reloaded");
    }

    /// Returns how peers are let go when the server ends.
    pub(super) fn drain(&self) -> Drain {
        let settings = &self.running.settings;
        let mut drain = Drain::within(settings.drain);
        drain.to.clone_from(&settings.move_to);
        drain
    }

    /// Notes the settings that take effect at once, and says which do and which do not. Returns how
    /// many do.
    fn take_over(&mut self, all: &[Setting]) -> usize {
        let mut changed = 0;
        for (new, old) in all.iter().zip(&mut self.running.all) {
            let (setting, value, origin) = (&new.key, new.shown(), &new.origin);
            if new.value == old.value {
                continue;
            }
            if takes_effect_at_once(setting) {
                info!(%setting, %value, before = %old.shown(), %origin, "a setting has changed");
                *old = new.clone();
                changed += 1;
            } else {
                warn!(
                    %setting, %value, before = %old.shown(), %origin,
                    "a setting has changed, and takes effect when this is started anew"
                );
            }
        }
        changed
    }

    /// Reads the certificate again, which may be a new one in the same files. Who serves need not
    /// be allowed to read them any more.
    fn renew_certificate(&self) {
        let Some(certificate) = &self.certificate else {
            return;
        };
        match websocket::certificate(&self.running.settings) {
            Ok(Some(new)) => certificate.replace(&new),
            Ok(None) => {}
            Err(error) => {
                let reason = with_causes(&error);
                warn!(%reason, "the certificate of WebSockets stays as it was");
            }
        }
    }

    fn serve(&mut self, members: Members) {
        let closed = self.control.set_members(members.clone());
        let before = std::mem::replace(&mut self.members, members);
        let now = &self.members;
        if before.invites != now.invites {
            let secrets = now.invites.len();
            info!(secrets, closed, "the invite secrets are reloaded");
        }
        match (&before.allowed, &now.allowed) {
            (None, None) => {}
            (Some(_), None) => info!("every peer is served from now on"),
            (before, Some(now)) => {
                let before = before.as_ref();
                let kept = before.map_or(0, |it| it.intersection(now).count());
                let removed = before.map_or(0, BTreeSet::len) - kept;
                let (peers, added) = (now.len(), now.len() - kept);
                info!(
                    peers,
                    added, removed, closed, "the list of allowed peers is reloaded"
                );
            }
        }
    }
}

fn takes_effect_at_once(setting: &str) -> bool {
    let is_fixed = FIXED_LIMITS.iter().any(|it| setting.starts_with(it));
    matches!(
        setting,
        "allowed" | "drain" | "invite-secrets" | "log.level" | "move-to"
    ) || setting.starts_with("limits.") && !is_fixed
}
