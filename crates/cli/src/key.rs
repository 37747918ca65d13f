use std::path::{Path, PathBuf};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;
use p2pconnect::{SecretKey, load_or_create};

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
pub(crate) fn load(file: Option<&Path>, name: &str) -> anyhow::Result<Loaded> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => default_path(name)?,
    };
    // Only what is said depends on this, should two processes make the key at the same moment.
    let is_new = !path.exists();
    let key = load_or_create(&path)?;
    Ok(Loaded { key, path, is_new })
}

fn default_path(name: &str) -> anyhow::Result<PathBuf> {
    let base = etcetera::choose_base_strategy()
        .context("no home directory is known; name a key file with --key")?;
    Ok(base.config_dir().join("p2pconnect").join(name))
}
