//! Where the coordinators are.

use std::{fs::File, io::Read as _, path::PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use p2pconnect::{CoordinatorAddr, InviteSecret};

use crate::{environment, words::escaped};

#[derive(Debug, Args)]
pub(crate) struct Coordinator {
    /// A coordinator, as `serve` prints it, or SERVER-ID@wss://HOST/PATH where it is behind a web
    /// server; repeat it, or put commas between, for more, of which the nearest is used and another
    /// one is in reserve [env: P2PCONNECT_COORDINATOR]
    #[arg(
        long = "coordinator",
        value_name = "SERVER-ID@HOST:PORT",
        value_parser = coordinator,
        value_delimiter = ','
    )]
    coordinators: Vec<CoordinatorAddr>,
    #[command(flatten)]
    pub(crate) invite: Invite,
}

#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// A file with the secret by which private coordinators serve this machine [env:
    /// P2PCONNECT_INVITE_SECRET_FILE, or the secret itself in P2PCONNECT_INVITE_SECRET]
    #[arg(long, value_name = "FILE")]
    invite_secret_file: Option<PathBuf>,
}

/// The longest file with a secret that is read.
const MAX_SECRET_FILE: u64 = 4096;

impl Coordinator {
    /// Returns the coordinators that were named, by the option or by the variable: one at least.
    pub(crate) fn addresses(&self) -> anyhow::Result<Vec<CoordinatorAddr>> {
        const VARIABLE: &str = "P2PCONNECT_COORDINATOR";

        if !self.coordinators.is_empty() {
            return Ok(self.coordinators.clone());
        }
        let text = environment::text(VARIABLE).ok_or_else(|| {
            anyhow!("no coordinator is named; give --coordinator, or set {VARIABLE}")
        })?;
        let read: Result<_, _> = text.split(',').map(coordinator).collect();
        read.map_err(|error| anyhow!("{VARIABLE} is '{}': {error}", escaped(&text)))
    }
}

impl Invite {
    /// Returns the secret by which coordinators serve this machine, if one is named.
    pub(crate) fn secret(&self) -> anyhow::Result<Option<InviteSecret>> {
        const FILE: &str = "P2PCONNECT_INVITE_SECRET_FILE";
        const SECRET: &str = "P2PCONNECT_INVITE_SECRET";

        let option = self.invite_secret_file.clone();
        if let Some(path) = option.or_else(|| environment::path(FILE)) {
            let named = || escaped(&path.display().to_string());
            let mut text = String::new();
            let read =
                File::open(&path).and_then(|it| it.take(MAX_SECRET_FILE).read_to_string(&mut text));
            read.with_context(named)?;
            return secret(&text).with_context(named).map(Some);
        }
        let text = environment::text(SECRET);
        text.map(|it| secret(&it).context(SECRET)).transpose()
    }
}

fn secret(text: &str) -> anyhow::Result<InviteSecret> {
    Ok(InviteSecret::new(text.trim())?)
}

/// Reads a coordinator's address. Whoever pastes one may paste the end of its line as well.
pub(super) fn coordinator(text: &str) -> Result<CoordinatorAddr, String> {
    text.trim()
        .parse()
        .map_err(|error: p2pconnect::ParseCoordinatorAddrError| escaped(&error.to_string()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect::PeerId;

    use super::*;

    #[test]
    fn an_address_may_be_pasted_with_the_end_of_its_line() {
        let id = PeerId::from_public_key([7; 32]).to_string();
        assert!(coordinator(&format!("{id}@192.0.2.1:4433\r\n")).is_ok());
        let error = coordinator(&format!("{id}@host\u{7}x:1")).unwrap_err();
        assert!(!error.contains('\u{7}'), "{error:?}");
    }
}
