//! Whom the modes of a key file, and of the directories above it, let in.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::process::{getegid, geteuid};

use super::{KeyFileError, Readers, directory_of};

/// Others may delete and rename nothing in a directory that has this bit, as `/tmp` has.
const STICKY: u32 = 0o1000;

/// Whom everybody outside a user namespace looks like (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65_534;

/// Refuses a key file that others can change, or read where that is not wanted.
pub(super) fn check_file(
    path: &Path,
    metadata: &fs::Metadata,
    readers: Readers,
) -> Result<(), KeyFileError> {
    check(path, metadata, readers, |mode| KeyFileError::TooOpen {
        path: path.to_owned(),
        mode,
        is_own: is_own(metadata.uid()),
    })
}

/// Refuses a pipe that others can open: a key that is read from it is read once.
pub(super) fn check_pipe(
    path: &Path,
    metadata: &fs::Metadata,
    readers: Readers,
) -> Result<(), KeyFileError> {
    check(path, metadata, readers, |mode| KeyFileError::OpenPipe {
        path: path.to_owned(),
        mode,
    })
}

/// Refuses what belongs to another user, and what a mode lets others do.
fn check(
    path: &Path,
    metadata: &fs::Metadata,
    readers: Readers,
    too_open: impl FnOnce(u32) -> KeyFileError,
) -> Result<(), KeyFileError> {
    check_owner(path, metadata.uid())?;
    mode_for_others(metadata, readers).map_or(Ok(()), |mode| Err(too_open(mode)))
}

/// Refuses directories that others can write, from the one that holds the file up to the root, as
/// sshd does (`StrictModes`). Others could put another file, or another directory, in the place of
/// what is there.
///
/// Two kinds that sshd refuses are let pass: a directory with the sticky bit, and one that the
/// process's own group can write, which on many systems is that of one user alone. Nor is a
/// directory refused that belongs to somebody outside a user namespace, as these cannot be told
/// apart.
pub(super) fn check_directories(path: &Path) -> Result<(), KeyFileError> {
    let read = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let named = fs::canonicalize(directory_of(path)).map_err(read)?;
    let file = match fs::canonicalize(path) {
        // It is not there yet, or has no name any more.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.map_err(read)?),
    };
    // A link leads from one to the other.
    let real = file.as_deref().and_then(Path::parent);
    for directory in [named.as_path()]
        .into_iter()
        .chain(real)
        .flat_map(Path::ancestors)
    {
        let metadata = fs::metadata(directory).map_err(read)?;
        let owner = metadata.uid();
        if !is_own(owner) && owner != 0 && owner != OVERFLOW_UID {
            return Err(KeyFileError::DirectoryOfAnother {
                path: path.to_owned(),
                directory: directory.to_owned(),
                owner,
            });
        }
        if is_open(&metadata) {
            return Err(KeyFileError::OpenDirectory {
                path: path.to_owned(),
                directory: directory.to_owned(),
                mode: metadata.mode() & 0o7777,
                is_own: is_own(metadata.uid()),
            });
        }
    }
    Ok(())
}

fn is_open(directory: &fs::Metadata) -> bool {
    let is_own_group = directory.gid() == getegid().as_raw();
    let by_others = if is_own_group { 0o002 } else { 0o022 };
    directory.mode() & by_others != 0 && directory.mode() & STICKY == 0
}

/// Returns the permission bits, if they let others do what they should not.
fn mode_for_others(metadata: &fs::Metadata, readers: Readers) -> Option<u32> {
    let mode = metadata.mode() & 0o777;
    let refused = match readers {
        Readers::Owner => 0o077,
        // Whoever can write it can put another key there.
        Readers::Others => 0o022,
    };
    (mode & refused != 0).then_some(mode)
}

/// Refuses what belongs to anybody but the process's own user and root: its owner decides who this
/// process is.
fn check_owner(path: &Path, owner: u32) -> Result<(), KeyFileError> {
    if is_own(owner) || owner == 0 {
        return Ok(());
    }
    Err(KeyFileError::NotOurs {
        path: path.to_owned(),
        owner,
    })
}

fn is_own(owner: u32) -> bool {
    owner == geteuid().as_raw()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;
    use crate::{
        key_file::{tests::TempDir, write_private},
        load_or_create, load_or_create_for,
    };

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = TempDir::new("too-open");
        let path = dir.0.join("key.pem");
        load_or_create(&path).unwrap();
        set_mode(&path, 0o644);
        let error = load_or_create(&path).unwrap_err();
        let told = matches!(error, KeyFileError::TooOpen { mode: 0o644, .. });
        assert!(told && error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn nobody_is_told_to_change_what_is_no_key() {
        let dir = TempDir::new("no-key");
        let path = dir.0.join("motd");
        for contents in [&b"welcome"[..], &[0xFF; 10], &[b'-'; 100_000], b""] {
            write_private(&path, contents).unwrap();
            set_mode(&path, 0o666);
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Invalid { .. }), "{error}");
            assert!(!error.to_string().contains("chmod"), "{error}");
            fs::remove_file(&path).unwrap();
        }
        let pipe = dir.0.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        set_mode(&pipe, 0o644);
        let error = load_or_create(&pipe).unwrap_err();
        assert!(matches!(error, KeyFileError::OpenPipe { .. }), "{error}");
    }

    #[test]
    fn a_key_on_a_volume_of_secrets_may_be_readable_but_not_writable() {
        let dir = TempDir::new("volume");
        let path = dir.0.join("key.pem");
        let id = load_or_create(&path).unwrap().peer_id();
        for (mode, is_taken) in [(0o440, true), (0o444, true), (0o460, false), (0o602, false)] {
            set_mode(&path, mode);
            assert!(load_or_create(&path).is_err(), "{mode:o}");
            match load_or_create_for(&path, Readers::Others) {
                Ok(it) => assert!(is_taken && it.key.peer_id() == id, "{mode:o}"),
                Err(error) => assert!(!is_taken, "{mode:o}: {error}"),
            }
        }
    }

    #[test]
    fn a_directory_that_others_can_write_holds_no_key() {
        let dir = TempDir::new("open-directory");
        let above = dir.0.join("above");
        let holder = above.join("holder");
        let path = holder.join("key.pem");
        for made in [&above, &holder] {
            fs::create_dir(made).unwrap();
            set_mode(made, 0o700);
        }
        load_or_create(&path).unwrap();
        let link = dir.0.join("link.pem");
        symlink(&path, &link).unwrap();
        for open in [&above, &holder] {
            for (mode, is_taken) in [
                (0o777, false),
                (0o703, false),
                (0o1777, true),
                (0o775, true),
            ] {
                set_mode(open, mode);
                for path in [&path, &link] {
                    match load_or_create(path) {
                        Ok(_) => assert!(is_taken, "{mode:o}"),
                        Err(error @ KeyFileError::OpenDirectory { .. }) => {
                            let advice = format!("run: chmod go-w {}", open.display());
                            assert!(!is_taken && error.to_string().ends_with(&advice), "{error}");
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            set_mode(open, 0o700);
        }
    }

    #[test]
    fn no_key_is_made_where_others_can_take_it_away() {
        let dir = TempDir::new("none-made");
        set_mode(&dir.0, 0o777);
        let error = load_or_create(&dir.0.join("key.pem")).unwrap_err();
        assert!(
            matches!(error, KeyFileError::OpenDirectory { .. }),
            "{error}"
        );
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_another_group_can_write_holds_no_key() {
        // Only root may give a file away.
        if !is_own(0) {
            return;
        }
        let dir = TempDir::new("group");
        set_mode(&dir.0, 0o770);
        chown(&dir.0, None, Some(4242)).unwrap();
        let error = load_or_create(&dir.0.join("key.pem")).unwrap_err();
        let told = matches!(error, KeyFileError::OpenDirectory { mode: 0o770, .. });
        assert!(told, "{error}");
    }

    #[test]
    fn a_key_file_of_somebody_else_is_refused() {
        let dir = TempDir::new("owner");
        let path = dir.0.join("key.pem");
        load_or_create(&path).unwrap();
        let own = fs::metadata(&path).unwrap().uid();
        assert!(check_owner(&path, own).is_ok() && check_owner(&path, 0).is_ok());
        assert!(check_owner(&path, own + 4242).is_err());
        if !is_own(0) {
            return;
        }
        chown(&path, Some(4242), None).unwrap();
        let error = load_or_create(&path).unwrap_err();
        let told = matches!(error, KeyFileError::NotOurs { owner: 4242, .. });
        assert!(told && !error.to_string().contains("chown"), "{error}");
    }

    #[test]
    fn a_directory_of_somebody_else_holds_no_key() {
        if !is_own(0) {
            return;
        }
        let dir = TempDir::new("foreign-directory");
        let path = dir.0.join("key.pem");
        load_or_create(&path).unwrap();
        for (owner, is_taken) in [(4242, false), (OVERFLOW_UID, true), (0, true)] {
            chown(&dir.0, Some(owner), None).unwrap();
            match load_or_create(&path) {
                Ok(_) => assert!(is_taken, "{owner}"),
                Err(KeyFileError::DirectoryOfAnother { owner: told, .. }) => {
                    assert!(!is_taken && told == owner);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
