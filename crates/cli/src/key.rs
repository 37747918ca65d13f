//! Loads the key files of peers and coordinators.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use etcetera::BaseStrategy as _;
use p2pconnect::{KeyFileError, Readers, SecretKey, load_or_create_for};

use crate::args::KeyFile;

/// The name of a peer's key file.
pub(crate) const PEER_KEY: &str = "key.pem";

/// The name of a coordinator's key file: another one, so that a machine that is both has two
/// identities.
pub(crate) const COORDINATOR_KEY: &str = "coordinator.pem";

/// A secret key, and where it is kept.
pub(crate) struct Loaded {
    pub(crate) key: SecretKey,
    pub(crate) path: PathBuf,
    /// Whether there was none before.
    pub(crate) is_new: bool,
}

/// Reads the secret key from the file named, or from the usual place; makes it on first use.
pub(crate) fn load(file: &KeyFile, name: &str) -> anyhow::Result<Loaded> {
    let path = match &file.path {
        Some(path) => path.clone(),
        None => default_path(name)?,
    };
    // Only what is said depends on this, should two processes make the key at the same moment.
    let is_new = !path.exists();
    let key =
        load_or_create_for(&path, file.readers).map_err(|error| remedied(error, file.readers))?;
    Ok(Loaded { key, path, is_new })
}

/// Adds what this command can do about it.
fn remedied(error: KeyFileError, readers: Readers) -> anyhow::Error {
    match (&error, readers) {
        (KeyFileError::TooOpen { mode, .. }, Readers::Owner) if mode & 0o022 == 0 => anyhow!(
            "{error}; where that cannot be done, as on a read-only volume of secrets, give --shared-key"
        ),
        _ => error.into(),
    }
}

fn default_path(name: &str) -> anyhow::Result<PathBuf> {
    let base = etcetera::choose_base_strategy()
        .context("no home directory is known; name a key file with --key")?;
    Ok(base.config_dir().join("p2pconnect").join(name))
}
