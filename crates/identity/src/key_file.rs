//! Keeps a secret key in a file that nobody else can read.

#[cfg(unix)]
mod permissions;
#[cfg(unix)]
mod pipe;

use std::{
    fs, io,
    io::{Read, Write as _},
    path::{Path, PathBuf},
};

use crate::{InvalidKey, SecretKey};

/// A key file is a few hundred bytes; whatever is larger is some other file.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// Who may read a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readers {
    /// Its owner alone.
    #[default]
    Owner,
    /// Others on this machine too, as where a read-only volume of secrets gives its files a mode of
    /// its own. Whoever can read the file can be this peer. Others must not be able to change it.
    Others,
}

/// A key that is in a file.
#[derive(Debug)]
#[non_exhaustive]
pub struct KeyOfFile {
    /// The key.
    pub key: SecretKey,
    /// Whether it was made just now, and by this process: of several that start at the same moment,
    /// one makes it.
    pub is_new: bool,
}

/// Reads the key in `path`, or makes a new one there, readable by its owner alone, in a directory
/// that is there. One that others can write is no place for a key. The path may be that of a pipe,
/// which brings the key within a minute; it is read once and to its end.
///
/// Two processes that start at the same moment end up with the same key: the file appears whole
/// or not at all, and the first one stays.
///
/// # Errors
///
/// [`KeyFileError`], which names the path.
pub fn load_or_create(path: &Path) -> Result<SecretKey, KeyFileError> {
    Ok(load_or_create_for(path, Readers::Owner)?.key)
}

/// Does what [`load_or_create`] does, where others may be let read a key file that is there
/// already, and tells whether the key is new.
///
/// # Errors
///
/// [`KeyFileError`], which names the path.
pub fn load_or_create_for(path: &Path, readers: Readers) -> Result<KeyOfFile, KeyFileError> {
    let text = path.as_os_str().as_encoded_bytes();
    if text.ends_with(b"/") || text.ends_with(b"/.") {
        return Err(KeyFileError::Directory {
            path: path.to_owned(),
        });
    }
    match load(path, readers) {
        Err(KeyFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let is_new = create(path)?;
            let key = load(path, readers)?;
            Ok(KeyOfFile { key, is_new })
        }
        loaded => loaded.map(|key| KeyOfFile { key, is_new: false }),
    }
}

fn load(path: &Path, readers: Readers) -> Result<SecretKey, KeyFileError> {
    let read = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let invalid = |source| KeyFileError::Invalid {
        path: path.to_owned(),
        source,
    };
    let (source, metadata) = open(path, readers)?;
    // With this capacity the text is never moved, so no copy of it stays in memory.
    let capacity = usize::try_from(MAX_KEY_FILE + 1).unwrap_or_default();
    let mut pem = zeroize::Zeroizing::new(Vec::with_capacity(capacity));
    let mut bounded = source.take(MAX_KEY_FILE + 1);
    bounded.read_to_end(&mut pem).map_err(read)?;
    if pem.len() as u64 > MAX_KEY_FILE {
        return Err(invalid(InvalidKey::Other));
    }
    let text = str::from_utf8(&pem).map_err(|_| invalid(InvalidKey::Other))?;
    let key = SecretKey::from_pem(text).map_err(invalid)?;
    // Only now: nobody is to be told to change the mode of what is no key.
    #[cfg(unix)]
    if let Some(metadata) = metadata {
        permissions::check_file(path, &metadata, readers)?;
        permissions::check_directories(path)?;
    }
    Ok(key)
}

/// Opens a file, and returns what is known of it, or a pipe that nobody else can read. A device may
/// have no end.
fn open(
    path: &Path,
    readers: Readers,
) -> Result<(Box<dyn Read>, Option<fs::Metadata>), KeyFileError> {
    let read = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let kind = fs::metadata(path).map_err(read)?.file_type();
    #[cfg(unix)]
    if pipe::is_pipe(kind) {
        let pipe = pipe::open(path, pipe::LIMIT).map_err(read)?;
        permissions::check_pipe(path, &pipe.file().metadata().map_err(read)?, readers)?;
        return Ok((Box::new(pipe), None));
    }
    if !kind.is_file() {
        return Err(KeyFileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let file = fs::File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    Ok((Box::new(file), Some(metadata)))
}

/// Returns the directory that a path names a file in.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Makes a key, and returns whether it is the one that is there now.
fn create(path: &Path) -> Result<bool, KeyFileError> {
    let write = |source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    };
    let directory = directory_of(path);
    if let Ok(target) = fs::read_link(path) {
        return Err(KeyFileError::Dangling {
            path: path.to_owned(),
            target,
        });
    }
    // Whoever mistypes a path wants no directories.
    if let Err(error) = fs::metadata(directory)
        && error.kind() == io::ErrorKind::NotFound
    {
        return Err(KeyFileError::NoDirectory {
            path: path.to_owned(),
            directory: directory.to_owned(),
        });
    }
    #[cfg(unix)]
    permissions::check_directories(path)?;
    let key = SecretKey::generate().map_err(|source| KeyFileError::Invalid {
        path: path.to_owned(),
        source,
    })?;

    // No other thread or process drafts this key, whatever machine it shares the directory with.
    let draft = directory.join(format!(".{}.key-draft", key.peer_id()));
    let written = write_private(&draft, key.to_pem().as_bytes()).and_then(|()| {
        // A hard link, unlike a rename, never replaces a key that another process has made since.
        let linked = match fs::hard_link(&draft, path) {
            // Some file systems have no hard links (FAT, FUSE, Android's policy). Another process
            // may see the file before it is whole there.
            Err(error) if has_no_links(&error) => write_private(path, key.to_pem().as_bytes()),
            result => result,
        };
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            linked => linked.map(|()| true),
        }
    });
    let removed = fs::remove_file(&draft);
    written
        .and_then(|is_new| removed.map(|()| is_new))
        .map_err(write)
}

/// Tells whether a file system, or the system's policy, allows no hard links.
fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
    )
}

fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The path is that of a symbolic link to what is not there.
    #[error(
        "the key file {} is a link to {}, which is not there; remove the link, or name another file",
        path.display(), target.display()
    )]
    Dangling {
        /// The path.
        path: PathBuf,
        /// Where the link leads.
        target: PathBuf,
    },
    /// The path is one of a directory by its end, whether that is there or not.
    #[error(
        "the path {} names a directory; name a key file, which is made if it is not there", path.display()
    )]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("the file {} holds {}; {}", path.display(), source, usable(source, path))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with its contents.
        source: InvalidKey,
    },
    /// The directory that the file is to be made in is not there.
    #[error(
        "there is no directory {} for the key file {}; run: mkdir -p {}",
        directory.display(), path.display(), directory.display()
    )]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// The path leads to a directory, a terminal or another device.
    #[error(
        "{} is neither a file nor a pipe; name a key file, which is made if it is not there", path.display()
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Another user owns the file or pipe, and could put another key there.
    #[error(
        "the key in {} belongs to another user (number {owner}); run this as that user, or name another file",
        path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// The number of the user who owns it.
        owner: u32,
    },
    /// Another user owns a directory that the file is in, or one above, and could put another file
    /// in its place.
    #[error(
        "the key file {} is not safe in {}, which belongs to another user (number {owner}); name a file elsewhere, \
         or run this as that user",
        path.display(), directory.display()
    )]
    DirectoryOfAnother {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
        /// The number of the user who owns it.
        owner: u32,
    },
    /// Others can write a directory that the file is in, or one above, and so put another file in
    /// its place.
    #[error(
        "the key file {} is not safe in {}, which others can write (mode {mode:03o}); {}",
        path.display(), directory.display(), remedy(*is_own, "chmod go-w", directory, "name a file elsewhere")
    )]
    OpenDirectory {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whether it is this user's.
        is_own: bool,
    },
    /// Others than the owner can open the pipe.
    #[error(
        "the pipe {} is open to others (mode {mode:03o}), who could take the key; send it through one that is not \
         (mkfifo -m 600)", path.display()
    )]
    OpenPipe {
        /// The pipe.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read.
    #[error("the key file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Others than the owner may read the file, or change it.
    #[error(
        "the key file {} is open to others (mode {mode:03o}); {}",
        path.display(), remedy(*is_own, "chmod 600", path, "name another file")
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whether it is this user's.
        is_own: bool,
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

/// Says how to come by a key that can be used, where a file holds another one or none.
fn usable(found: &InvalidKey, path: &Path) -> String {
    let name_another = "name a file with a key that this program has made, or one that is not there, for a new key";
    match found {
        InvalidKey::Encrypted => {
            format!(
                "write it to another file in the clear (openssl pkey -in {} -out FILE), or {name_another}",
                path.display()
            )
        }
        InvalidKey::OpenSsh | InvalidKey::Other => name_another.to_owned(),
    }
}

/// Says what to do about what others can open: change that where it is this user's, and else
/// something else.
fn remedy(is_own: bool, command: &str, path: &Path, otherwise: &str) -> String {
    if is_own {
        format!("run: {command} {}", path.display())
    } else {
        otherwise.to_owned()
    }
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    pub(super) struct TempDir(pub(super) PathBuf);

    impl TempDir {
        pub(super) fn new(name: &str) -> Self {
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
        let path = dir.0.join("key.pem");
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
    fn a_path_that_leads_nowhere_is_no_place_for_a_key() {
        let dir = TempDir::new("nowhere");
        let directory = dir.0.join("mistyped").join("deeper");
        let error = load_or_create(&directory.join("key.pem")).unwrap_err();
        let advice = format!("run: mkdir -p {}", directory.display());
        assert!(error.to_string().ends_with(&advice), "{error}");
        let link = dir.0.join("link");
        std::os::unix::fs::symlink("gone", &link).unwrap();
        let error = load_or_create(&link).unwrap_err();
        assert!(matches!(error, KeyFileError::Dangling { .. }), "{error}");
        let left = fs::read_dir(&dir.0).unwrap();
        assert_eq!(left.count(), 1, "nothing but the link");
    }

    #[test]
    fn a_path_that_ends_as_one_of_a_directory_is_said_to_be_that() {
        let dir = TempDir::new("directory");
        for end in ["", "missing/", "missing/."] {
            let error = load_or_create(&dir.0.join(end)).unwrap_err();
            assert!(error.to_string().contains("names a directory"), "{error}");
        }
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0, "nothing is made");
    }

    #[test]
    fn threads_that_start_at_once_end_up_with_one_key() {
        let dir = TempDir::new("threads");
        for round in 0..20 {
            let path = dir.0.join(format!("{round}.pem"));
            let keys: Vec<_> = std::thread::scope(|scope| {
                let load = || load_or_create_for(&path, Readers::Owner).unwrap();
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
                threads.into_iter().map(|it| it.join().unwrap()).collect()
            });
            let kept = load_or_create(&path).unwrap().peer_id();
            let is_kept = |it: &KeyOfFile| it.key.peer_id() == kept;
            assert!(keys.iter().all(is_kept), "round {round}: {keys:?}");
            let makers = keys.iter().filter(|it| it.is_new).count();
            assert_eq!(makers, 1, "round {round}");
        }
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 20, "no draft stays");
    }

    #[test]
    fn only_a_file_is_read() {
        let dir = TempDir::new("no-file");
        for path in [dir.0.as_path(), Path::new("/dev/zero")] {
            let error = load_or_create(path).unwrap_err();
            assert!(matches!(error, KeyFileError::NotAFile { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_or_too_large_is_no_key() {
        let dir = TempDir::new("no-text");
        let cases = [vec![0xFF; 10], Vec::new(), vec![b'-'; 100_000]];
        for (number, contents) in cases.iter().enumerate() {
            let path = dir.0.join(number.to_string());
            write_private(&path, contents).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Invalid { .. }), "{error}");
        }
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
