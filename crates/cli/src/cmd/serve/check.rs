//! Says what `serve` would do with its settings, without doing it.

use std::io::{self, Write as _};

use super::{
    Addresses, cluster, join, members, resources,
    settings::{Configuration, Setting, Settings},
    websocket::WebSockets,
};
use crate::{
    exit::{self, Exit},
    key::{self, COORDINATOR_KEY},
    memory,
    privileges::Privileges,
    stdio,
    words::escaped,
};

/// Prints all settings with where they come from, and what would be done.
pub(super) fn run(configuration: &Configuration) -> Exit {
    let mut told = values(configuration);
    match plan(&configuration.settings) {
        Ok(plan) => {
            told.push_str(&plan);
            exit::of_printing(print(&told))
        }
        // What the values are may show what is wrong with them.
        Err(error) => match exit::of_printing(print(&told)) {
            Exit::DONE => Exit::usage(error),
            other => other,
        },
    }
}

fn print(text: &str) -> io::Result<()> {
    stdio::stdout().write_all(text.as_bytes())
}

/// Returns a line for each setting, which are TOML together.
fn values(configuration: &Configuration) -> String {
    let line = |setting: &Setting| {
        let line = format!("{} = {}", setting.key, setting.shown());
        format!("{:60}# {}\n", escaped(&line), setting.origin)
    };
    configuration.all.iter().map(line).collect()
}

/// Returns what would be done.
fn plan(settings: &Settings) -> anyhow::Result<String> {
    let user = Privileges::wanted(settings.user.as_deref())?;
    let Addresses { listen, stun, .. } = Addresses::wanted(settings)?;
    let key = match key::look(&settings.key_file(), COORDINATOR_KEY)? {
        Ok(loaded) => {
            let former = super::former_key(settings, &loaded.key)?;
            let former = former.map(|it| format!(", formerly {}", it.peer_id()));
            let (id, path) = (loaded.key.peer_id(), loaded.path.display());
            format!("{id}, by {path}{}", former.unwrap_or_default())
        }
        Err(path) => format!("a new key, to be made in {}", path.display()),
    };
    let members = members::read(settings)?;
    let mut allowed = match members.allowed {
        Some(peers) => format!("{} peers that are listed", peers.len()),
        None => "every peer".to_owned(),
    };
    if settings.invite_secrets.is_some() {
        let secrets = members.invites.len();
        allowed.push_str(&format!(
            ", and whoever knows one of {secrets} invite secrets"
        ));
    }
    let metrics = match settings.metrics {
        Some(address) => format!("at http://{address}/metrics"),
        None => "nowhere".to_owned(),
    };
    let websocket = match WebSockets::wanted(settings)? {
        Some(websocket) => format!("at {}", websocket.url()),
        None => "nowhere".to_owned(),
    };
    let elsewhere: Vec<_> = settings.move_to.iter().map(ToString::to_string).collect();
    let drained = match elsewhere.is_empty() {
        true => "told when to come back".to_owned(),
        false => format!("sent to {}", elsewhere.join(", ")),
    };
    let bytes = memory::limit().unwrap_or(u64::MAX);
    let service = settings.limits.of_service().within_memory(bytes);
    let stun_config = resources::of_stun(settings.limits.of_stun(), bytes);
    let room = match bytes {
        u64::MAX => "memory without a limit".to_owned(),
        _ => format!("{} MiB of memory", bytes >> 20),
    };
    Ok(format!(
        "\n\
         # It would serve as {}\n\
         # by QUIC over UDP and by TLS on TCP at {}, and compare mappings over TCP there\n\
         # by STUN over TCP at {}\n\
         # {}\n\
         # for {allowed}\n\
         # {}\n\
         # by WebSockets {websocket}\n\
         # with metrics {metrics}\n\
         # with peers {drained} on SIGTERM, for {} at most\n\
         # with {} connections and {} peers at most, and {} connections of each STUN server, in {room}\n",
        escaped(&key),
        listen,
        join(&stun),
        user.told(),
        escaped(&cluster::look(settings)?),
        humantime::format_duration(settings.drain),
        service.max_connections,
        settings.limits.of_registry().max_peers,
        stun_config.max_connections,
    ))
}
