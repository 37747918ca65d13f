//! Loads the key files of peers and coordinators.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::PathBuf,
};

use anyhow::{Context as _, anyhow};
use etcetera::BaseStrategy as _;
use nix::unistd::{Uid, geteuid};
use p2pconnect::{KeyFileError, Readers, SecretKey, Shortage, load_or_create_for};

use crate::args::KeyFile;

/// The name of a peer's key file.
pub(crate) const PEER_KEY: &str = "key.pem";

/// The name of a coordinator's key file: another one, so that a machine that is both has two
/// identities.
pub(crate) const COORDINATOR_KEY: &str = "coordinator.pem";

/// The name of the file with the key that the coordinators of a cluster share.
pub(crate) const CLUSTER_KEY: &str = "cluster.pem";

/// A secret key, and where it is kept.
pub(crate) struct Loaded {
    pub(crate) key: SecretKey,
    pub(crate) path: PathBuf,
    /// Whether this process has made it.
    pub(crate) is_new: bool,
}

/// Reads the secret key from the file named, or from the usual place; makes it on first use.
pub(crate) fn load(file: &KeyFile, name: &str) -> anyhow::Result<Loaded> {
    let path = match &file.path {
        Some(path) => path.clone(),
        None => made(usual_directory()?)?.join(name),
    };
    let loaded = load_or_create_for(&path, file.readers);
    let loaded = loaded.map_err(|error| remedied(error, file.readers))?;
    Ok(Loaded {
        key: loaded.key,
        path,
        is_new: loaded.is_new,
    })
}

/// Reads the secret key as [`load`] does, and makes none. Returns where it would be made if there
/// is none.
pub(crate) fn look(file: &KeyFile, name: &str) -> anyhow::Result<Result<Loaded, PathBuf>> {
    let path = match &file.path {
        Some(path) => path.clone(),
        None => usual_directory()?.join(name),
    };
    if !path.exists() {
        return Ok(Err(path));
    }
    let readers = file.readers;
    load(
        &KeyFile {
            path: Some(path),
            readers,
        },
        name,
    )
    .map(Ok)
}

/// Adds what this command can do about it.
fn remedied(error: KeyFileError, readers: Readers) -> anyhow::Error {
    match (&error, readers) {
        // What the machine lacks says itself what to do.
        (KeyFileError::Read { source, .. } | KeyFileError::Write { source, .. }, _)
            if Shortage::of(source).is_some() || source.kind() == io::ErrorKind::TimedOut =>
        {
            error.into()
        }
        (KeyFileError::Read { path, source }, _) => {
            let owner = path.metadata().ok().map(|it| Uid::from_raw(it.uid()));
            let is_others = owner.is_some_and(|owner| owner != geteuid());
            anyhow!(
                "{error}: {source}; {}",
                to_read_one(source.kind(), is_others)
            )
        }
        (KeyFileError::Write { source, .. }, _) => anyhow!(
            "{error}: {source}; with --key, name a file in a directory where this user can make one"
        ),
        (KeyFileError::TooOpen { mode, .. }, Readers::Owner) if mode & 0o022 == 0 => anyhow!(
            "{error}; where that cannot be done, as on a read-only volume of secrets, give --shared-key"
        ),
        _ => error.into(),
    }
}

/// Says what to do where a key file cannot be read, which may be another user's.
const fn to_read_one(why: io::ErrorKind, is_others: bool) -> &'static str {
    match why {
        // This user would be refused the key of another one, too.
        io::ErrorKind::PermissionDenied if is_others => {
            "it belongs to another user; name one of this user's own with --key"
        }
        io::ErrorKind::PermissionDenied => "let this user read it, or name another one with --key",
        _ => "name another one with --key",
    }
}

/// Returns the directory of the keys that no option names.
fn usual_directory() -> anyhow::Result<PathBuf> {
    let base = etcetera::choose_base_strategy()
        .context("no home directory is known; name a key file with --key")?;
    let directory = base.config_dir().join("p2pconnect");
    let home = base.home_dir();
    // Root could make one, as where a service has the home of a user who has none.
    if directory.starts_with(home) && !home.exists() {
        return Err(anyhow!(
            "there is no home directory {} for the key; set HOME, or name a key file with --key",
            home.display()
        ));
    }
    Ok(directory)
}

/// Makes a directory for its owner alone if it is not there.
fn made(directory: PathBuf) -> anyhow::Result<PathBuf> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    made.with_context(|| {
        format!(
            "the directory {} cannot be made for the key; name a key file elsewhere with --key",
            directory.display()
        )
    })?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_that_cannot_be_used_has_an_advice() {
        let path = || PathBuf::from("/k.pem");
        let denied = || io::ErrorKind::PermissionDenied.into();
        for error in [
            KeyFileError::Read {
                path: path(),
                source: denied(),
            },
            KeyFileError::Write {
                path: path(),
                source: denied(),
            },
        ] {
            let told = format!("{:#}", remedied(error, Readers::Owner));
            assert!(told.contains("permission denied; "), "{told}");
            assert!(told.contains("with --key"), "{told}");
        }
    }

    #[test]
    fn nobody_is_told_to_let_this_user_read_what_that_does_not_help_with() {
        let denied = io::ErrorKind::PermissionDenied;
        assert!(to_read_one(denied, false).contains("let this user read it"));
        let advice = to_read_one(denied, true);
        assert!(advice.contains("of this user's own"), "{advice}");
        // As where links lead in a circle.
        let advice = to_read_one(io::Error::from_raw_os_error(40).kind(), false);
        assert_eq!(advice, "name another one with --key");
    }
}
