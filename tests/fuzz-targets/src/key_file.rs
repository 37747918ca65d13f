//! What is in a key file.

use std::{fs, io::Write as _};

use p2pconnect_identity::{SecretKey, load_or_create, server_config};

use crate::says_why;

/// The most that is read of a key file.
const MAX_KEY_FILE: usize = 16 * 1024;

/// Takes an input for what is in a key file.
///
/// A key that is taken can be written, read again and used. Any other file is left as it is, and no
/// word of it is told: it may be somebody's key.
pub fn key_file(input: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(input).unwrap();
    let loaded = load_or_create(file.path());
    let is_key = |text| SecretKey::from_pem(text).is_ok();
    let is_taken = input.len() <= MAX_KEY_FILE && str::from_utf8(input).is_ok_and(is_key);
    assert_eq!(loaded.is_ok(), is_taken, "{loaded:?}");
    assert_eq!(fs::read(file.path()).unwrap(), input);
    let key = match loaded {
        Ok(key) => key,
        Err(why) => {
            says_why(&why, file.path().as_os_str().as_encoded_bytes());
            return check_is_kept(input, &format!("{why} {why:?}"));
        }
    };
    let text = key.to_pem();
    let again = SecretKey::from_pem(&text).unwrap();
    assert_eq!(again.to_pem(), text, "there is one way to write a key");
    assert_eq!(again.peer_id(), key.peer_id());
    assert_eq!(again.derive("fuzzing"), key.derive("fuzzing"));
    assert!(!key.peer_id().is_forgeable());
    server_config(&key, None, b"fuzzing").unwrap();
    check_is_kept(input, &format!("{key:?}"));
}

/// Checks that no line of a file is in what is told of it.
fn check_is_kept(input: &[u8], told: &str) {
    let lines = input.split(|byte| byte.is_ascii_whitespace());
    for line in lines.filter_map(|line| str::from_utf8(line).ok()) {
        assert!(line.len() < 20 || !told.contains(line), "{told}");
    }
}
