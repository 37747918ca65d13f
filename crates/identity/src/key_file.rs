use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{InvalidKey, SecretKey};

/// A key file is a few hundred bytes; whatever is larger is some other file.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// Reads the key in `path`, or makes a new one there, readable by its owner alone.
///
/// Two processes that start at the same moment end up with the same key: the file appears whole
/// or not at all, and the first one stays.
///
/// # Errors
///
/// [`KeyFileError`], which names the path.
pub fn load_or_create(path: &Path) -> Result<SecretKey, KeyFileError> {
    match load(path) {
        Err(KeyFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(path)?;
            load(path)
        }
        result => result,
    }
}

fn load(path: &Path) -> Result<SecretKey, KeyFileError> {
    let read = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(read)?;
    refuse_readable_by_others(path, &metadata)?;
    if metadata.len() > MAX_KEY_FILE {
        return Err(KeyFileError::Invalid {
            path: path.to_owned(),
            source: InvalidKey,
        });
    }
    let pem = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(read)?);
    SecretKey::from_pem(&pem).map_err(|source| KeyFileError::Invalid {
        path: path.to_owned(),
        source,
    })
}

fn create(path: &Path) -> Result<(), KeyFileError> {
    let write = |source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(write)?;
    let key = SecretKey::generate().map_err(|source| KeyFileError::Invalid {
        path: path.to_owned(),
        source,
    })?;

    let draft = directory.join(format!(".{}.key-draft", std::process::id()));
    let written = write_private(&draft, key.to_pem().as_bytes()).and_then(|()| {
        // A hard link, unlike a rename, never replaces a key that another process has made since.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    });
    let removed = fs::remove_file(&draft);
    written.and(removed).map_err(write)
}

fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(unix)]
fn refuse_readable_by_others(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(KeyFileError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_: &Path, _: &fs::Metadata) -> Result<(), KeyFileError> {
    Ok(())
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file holds something else.
    #[error("the file {} holds no usable key; name another file or remove it", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with its contents.
        source: InvalidKey,
    },
    /// The file cannot be read.
    #[error("the key file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Others than the owner may read the file.
    #[error(
        "the key file {} can be read by others (mode {mode:03o}); run: chmod 600 {}",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be made.
    #[error("the key file {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct TempDir(PathBuf);

    impl TempDir {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("p2pconnect-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_key_is_made_once_and_private() {
        let dir = TempDir::new("made-once");
        let path = dir.0.join("deeper").join("key.pem");
        let first = load_or_create(&path).unwrap().peer_id();
        assert_eq!(load_or_create(&path).unwrap().peer_id(), first);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "the draft is gone");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = TempDir::new("too-open");
        let path = dir.0.join("key.pem");
        load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(
            matches!(error, KeyFileError::TooOpen { mode: 0o644, .. }),
            "{error}"
        );
    }

    #[test]
    fn another_file_is_left_alone() {
        let dir = TempDir::new("left-alone");
        let path = dir.0.join("notes.txt");
        write_private(&path, b"not a key").unwrap();
        assert!(matches!(
            load_or_create(&path),
            Err(KeyFileError::Invalid { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"not a key");
    }
}
