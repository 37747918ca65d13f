//! The subcommand `serve`: runs a coordinator and a STUN server.

pub(super) mod addresses;
mod check;
mod cluster;
mod http;
mod members;
mod metrics;
mod reload;
pub(super) mod resources;
mod service_manager;
mod settings;
mod websocket;

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use p2pconnect::{Host, InheritedSockets, PeerId, SecretKey};
use p2pconnect_coordinator::{
    BindError, Drain, Members, Rendezvous, RendezvousError, RendezvousPorts,
};
use p2pconnect_proto::TokenKey;
use tokio::task::JoinSet;

use self::{
    addresses::Addresses,
    cluster::Membership,
    metrics::{Metrics, Stage, State},
    reload::Reload,
    service_manager::ServiceManager,
    settings::{Configuration, Settings, Sources},
    websocket::WebSockets,
};
use crate::{
    args,
    exit::{self, Exit},
    key::{self, COORDINATOR_KEY, Loaded},
    logging::Logging,
    memory,
    privileges::Privileges,
    runtime::{self, Load},
    signals::{HangUps, Interrupts, TERMINATE},
    stdio,
    words::escaped,
};

/// Runs a coordinator and the STUN server beside it until it is told to end, or says what it would
/// run.
pub(crate) fn run(options: &args::Serve) -> Exit {
    let sources = Sources::of(options);
    let configuration = match Configuration::read(&sources) {
        Ok(configuration) => configuration,
        Err(error) => return Exit::usage(error),
    };
    let log = configuration.settings.log;
    let logging = Logging::start(&log.selection(), log.format);
    for (name, nearest) in &configuration.unknown_variables {
        stdio::say(format_args!(
            "note: nothing reads the variable {}; the nearest is {nearest}",
            escaped(name)
        ));
    }
    if options.check {
        return check::run(&configuration);
    }
    let served = runtime::block_on(Load::Strangers, serve(sources, configuration, logging));
    served.unwrap_or_else(|error| Exit::failure(&error))
}

async fn serve(sources: Sources, configuration: Configuration, logging: Logging) -> Exit {
    // Whoever has read where it listens may tell it to end, or to read its settings again.
    let (hang_ups, mut interrupts) = (HangUps::new(), Interrupts::new());
    // As whoever has started this: another user may not get there.
    let manager = ServiceManager::of_environment();
    let started = match start(&configuration.settings).await {
        Ok(started) => started,
        Err(error) => return Exit::usage(error),
    };
    let announced = exit::of_printing(announce(&started));
    if announced != Exit::DONE {
        return announced;
    }
    let Started {
        rendezvous,
        websocket,
        metrics,
        members,
        former_id: _,
    } = started;
    let coordinator = &rendezvous.coordinator;
    let control = coordinator.control();
    let certificate = websocket.and_then(|it| it.certificate);
    let mut reload = Reload::new(sources, configuration, members, control.clone(), logging);
    reload.certificate = certificate;
    let mut beside = JoinSet::new();
    let hidden = coordinator.hidden_clients();
    beside.spawn(async move { hidden.await.into_iter().for_each(warn_of) });
    let inside = coordinator.client_inside();
    beside.spawn(async move { inside.await.into_iter().for_each(warn_of_inside) });
    // All sockets are there: what comes from now on waits at most.
    let state = State::default();
    let meter = rendezvous.meter();
    beside.spawn(manager.clone().watchdog(move || drop(meter.measure())));
    if let Some(metrics) = metrics {
        beside.spawn(metrics.run(rendezvous.meter(), state.clone()));
    }
    manager.ready();
    let operated = async {
        let ended = operate(hang_ups, &mut interrupts, || {
            manager.reloading();
            reload.reload();
            manager.ready();
        });
        let drain = match ended.await {
            Ended::Politely => reload.drain(),
            Ended::AtOnce => Drain::within(Duration::ZERO),
        };
        state.set(Stage::Draining);
        manager.stopping(drain.limit);
        tokio::select! {
            () = control.drain(drain) => {}
            _ = interrupts.next() => {}
        }
    };
    rendezvous.run(operated).await;
    Exit::DONE
}

/// All that is opened and read before anything is served.
struct Started {
    rendezvous: Rendezvous,
    websocket: Option<WebSockets>,
    metrics: Option<Metrics>,
    members: Members,
    /// By which other id peers may know it.
    former_id: Option<PeerId>,
}

/// How a server is told to end.
enum Ended {
    /// Whoever is there may be let go before.
    Politely,
    AtOnce,
}

/// Does what signals ask for, and ends with the one that ends the server.
async fn operate(
    mut hang_ups: HangUps,
    interrupts: &mut Interrupts,
    mut reload: impl FnMut(),
) -> Ended {
    loop {
        tokio::select! {
            signal = interrupts.next() => return match signal {
                TERMINATE => Ended::Politely,
                _ => Ended::AtOnce,
            },
            is_end = hang_ups.next() => match is_end {
                true => return Ended::AtOnce,
                false => reload(),
            },
        }
    }
}

/// Says that clients are hidden, and what to do about it.
fn warn_of(hidden_behind: IpAddr) {
    stdio::say(format_args!(
        "warning: different peers are seen at {hidden_behind}, which none of them has. If they come from \
         elsewhere, a container with published ports or a router hides their addresses, and dials \
         between them fail: run this on the host's own network (docker run --network host), or on a \
         machine with a public address"
    ));
}

/// Says that some clients are inside a network, and others are not, and what to do about it.
fn warn_of_inside(address: IpAddr) {
    stdio::say(format_args!(
        "warning: a peer is seen inside a network, and others are outside it. These cannot be told where that \
         one is, and most dials between them fail: run this on a machine with a public address, outside that \
         network"
    ));
    tracing::debug!(%address, "this peer is inside");
}

async fn start(settings: &Settings) -> anyhow::Result<Started> {
    let privileges = Privileges::wanted(settings.user.as_deref())?;
    let addresses = Addresses::wanted(settings)?;
    let membership = Membership::read(settings)?;
    let token_key = token_key(membership.as_ref())?;
    let memory = memory::limit().unwrap_or(u64::MAX);
    let mut stun = resources::of_stun(settings.limits.of_stun(), memory);
    let inherited = InheritedSockets::from_environment()?;
    stun.host = Host::with_sockets(inherited.clone());
    let ports = RendezvousPorts::bind(addresses.listen, &addresses.stun, stun, token_key);
    let mut ports = ports.map_err(|error| explained(error, &addresses))?;
    let mut websocket = WebSockets::wanted(settings)?;
    if let Some(websocket) = &mut websocket {
        websocket.listen(&mut ports)?;
    }
    let metrics = settings.metrics.map(bind_metrics).transpose()?;
    let members = members::read(settings)?;
    // What is noted comes behind all that may be wrong.
    let Loaded { key, path, is_new } = key::load(&settings.key_file(), COORDINATOR_KEY)?;
    let former_key = former_key(settings, &key)?;
    if addresses.is_without_ipv6 {
        stdio::say(
            "note: this machine has no IPv6; listening on addresses of IPv4, such as 0.0.0.0",
        );
    }
    let service = resources::of_service(settings.limits.of_service(), memory);
    for address in inherited.left() {
        stdio::say(format_args!(
            "note: the service manager has opened {address}, and no setting names it"
        ));
    }
    if let Some(error) = ports.no_alternates() {
        say_that_mappings_cannot_be_compared(addresses.listen, error);
    }
    if let Some(Membership { loaded, .. }) = membership.as_ref().filter(|it| it.loaded.is_new) {
        stdio::say(format_args!(
            "note: a new key of the cluster was made, {}: all coordinators of the cluster need a copy",
            loaded.path.display()
        ));
    }
    if is_new {
        stdio::say(format_args!(
            "note: a new key was made, {}: peers know this coordinator by the id that goes with it",
            path.display()
        ));
    }
    let mut config = ports.config(key);
    config.limits = settings.limits.of_registry();
    config.service = service;
    config.members = members.clone();
    if let Some(membership) = membership {
        config.others = Some(membership.join().await?);
    }
    let former_id = former_key.as_ref().map(SecretKey::peer_id);
    config.former_key = former_key;
    let rendezvous = ports.coordinate(config)?;
    // Nothing else is opened by its name, or at a port of its own choice, from here on.
    privileges.apply()?;
    Ok(Started {
        rendezvous,
        websocket,
        metrics,
        members,
        former_id,
    })
}

/// Reads the key that another one has taken the place of.
fn former_key(settings: &Settings, key: &SecretKey) -> anyhow::Result<Option<SecretKey>> {
    let Some(file) = settings.former_key_file() else {
        return Ok(None);
    };
    match key::look(&file, COORDINATOR_KEY)? {
        Ok(former) if former.key.peer_id() == key.peer_id() => {
            bail!("former-key is the same key as key; leave it out, or name the one before")
        }
        Ok(former) => Ok(Some(former.key)),
        Err(path) => bail!("former-key: there is no file {}", path.display()),
    }
}

/// Returns the key with which the STUN servers attest addresses: that of all coordinators of a
/// cluster, or a new one.
fn token_key(membership: Option<&Membership>) -> anyhow::Result<TokenKey> {
    if let Some(membership) = membership {
        return Ok(membership.key.token_key());
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("no randomness from the system")?;
    Ok(TokenKey::from_bytes(secret))
}

/// Says which port cannot be had, and what to do about it.
fn explained(error: RendezvousError, addresses: &Addresses) -> anyhow::Error {
    match error {
        RendezvousError::Stun(error) => {
            let failed = format!("STUN cannot listen on TCP {}", join(&addresses.stun));
            not_listening(error, &failed, "--stun")
        }
        RendezvousError::Shortage(error) => error.into(),
        RendezvousError::Coordinator(BindError::Socket { address, source }) => {
            let failed = format!("the UDP address {address} cannot be listened on");
            not_listening(source, &failed, "--listen")
        }
        RendezvousError::Coordinator(error) => error.into(),
    }
}

fn bind_metrics(address: SocketAddr) -> anyhow::Result<Metrics> {
    Metrics::bind(address).map_err(|error| {
        let failed = format!("metrics cannot be served at {address}");
        not_listening(error, &failed, "--metrics")
    })
}

/// Says where nothing can listen, and what to do about it.
pub(super) fn not_listening(error: io::Error, failed: &str, option: &str) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!("; name another with {option}, or end what has it"),
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 are for root, or for CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => String::new(),
    };
    anyhow::Error::new(error).context(format!("{failed}{advice}"))
}

fn say_that_mappings_cannot_be_compared(listen: SocketAddr, error: &impl std::fmt::Display) {
    stdio::say(format_args!(
        "note: TCP {listen} cannot be listened on as well ({error}), so peers whose network lets no UDP \
         out cannot come, and those with one STUN address cannot tell whether their NAT gives each \
         destination another port; free it, or name two addresses with --stun for the latter"
    ));
}

fn announce(started: &Started) -> io::Result<()> {
    let coordinator = &started.rendezvous.coordinator;
    let stun = started.rendezvous.stun.local_addrs();
    let address = coordinator.local_addr();
    let mut lines = format!("coordinator: {}@{address}\n", coordinator.server_id());
    lines.extend(stun.iter().map(|address| format!("stun: {address}\n")));
    let websocket = started.websocket.iter();
    lines.extend(websocket.map(|it| format!("websocket: {}\n", it.url())));
    let metrics = started.metrics.iter();
    lines.extend(metrics.map(|it| format!("metrics: http://{}/metrics\n", it.local_addr)));
    let former = started.former_id.iter();
    lines.extend(former.map(|id| format!("formerly: {id}@{address}\n")));
    // In one piece, so that whoever reads only the first line does not break the second.
    stdio::stdout().write_all(lines.as_bytes())?;
    if address.ip().is_unspecified() {
        let note = "note: peers need an address of this machine in the place of";
        stdio::say(format_args!("{note} {}", address.ip()));
    }
    Ok(())
}

fn join(addresses: &[SocketAddr]) -> String {
    addresses
        .iter()
        .map(SocketAddr::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_listen_is_told_why() {
        for (kind, told) in [
            (io::ErrorKind::PermissionDenied, "ports below 1024"),
            (io::ErrorKind::AddrInUse, "another with --stun"),
        ] {
            let error = not_listening(kind.into(), "here", "--stun");
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
    }
}
