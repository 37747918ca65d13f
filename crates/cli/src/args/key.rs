//! Where the secret key is.

use std::path::PathBuf;

use clap::Args;
use p2pconnect::Readers;

use crate::environment;

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The file with the secret key, or a pipe that brings it [env: P2PCONNECT_KEY] [default:
    /// p2pconnect/key.pem in the XDG config directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    sharing: Sharing,
}

impl Key {
    /// Returns the file that was named, by the option or by the variable.
    pub(crate) fn file(&self) -> KeyFile {
        let variable = || environment::path("P2PCONNECT_KEY");
        // As with other programs, that is what comes on stdin.
        let from_stdin = |path: PathBuf| match path.to_str() {
            Some("-") => "/dev/stdin".into(),
            _ => path,
        };
        KeyFile {
            path: self.key.clone().map(from_stdin).or_else(variable),
            readers: self.sharing.readers(),
        }
    }
}

/// Whether others may read the key file.
#[derive(Debug, Args)]
pub(super) struct Sharing {
    /// Take the key file though others on this machine can read it, as on a read-only volume of
    /// secrets; they must not be able to change it
    #[arg(long)]
    shared_key: bool,
}

impl Sharing {
    pub(super) const fn readers(&self) -> Readers {
        if self.shared_key {
            Readers::Others
        } else {
            Readers::Owner
        }
    }
}

/// Where a key is, if not in the usual place, and who may read it.
#[derive(Debug)]
pub(crate) struct KeyFile {
    pub(crate) path: Option<PathBuf>,
    pub(crate) readers: Readers,
}
