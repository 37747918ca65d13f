//! The list of the peers that a private coordinator serves.

use std::collections::BTreeSet;

use anyhow::{Context as _, anyhow};
use p2pconnect::PeerId;

use super::settings::{Settings, read_text};
use crate::words::escaped;

/// The longest list that is read: a million peers.
const MAX_BYTES: u64 = 64 << 20;

/// Reads the peers that the file of the settings allows, one a line; what is behind a # is for
/// people. `None` where no file is named, and so everybody is allowed.
///
/// # Errors
///
/// The file cannot be read, or a line is no peer id; it is named.
pub(super) fn read(settings: &Settings) -> anyhow::Result<Option<BTreeSet<PeerId>>> {
    let Some(path) = &settings.allowed else {
        return Ok(None);
    };
    let read = read_text(path, MAX_BYTES).and_then(|text| parse(&text));
    read.with_context(|| escaped(&path.display().to_string()))
        .map(Some)
}

fn parse(text: &str) -> anyhow::Result<BTreeSet<PeerId>> {
    let mut peers = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let id = line.split('#').next().unwrap_or_default().trim();
        if id.is_empty() {
            continue;
        }
        let number = number + 1;
        let peer = id
            .parse()
            .map_err(|error| anyhow!("line {number}: '{}': {error}", escaped(id)))?;
        peers.insert(peer);
    }
    Ok(peers)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_peer_a_line_and_words_for_people() {
        let [one, other] = [7, 8].map(|it| PeerId::from_public_key([it; 32]));
        let text = format!("# friends\n\n{one}\n  {other}  # the laptop\r\n{one}\n");
        assert_eq!(parse(&text).unwrap(), BTreeSet::from([one, other]));
        assert!(parse("").unwrap().is_empty());
        let error = parse(&format!("{one}\nlaptop\u{1b}\n")).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("line 2: 'laptop\\u{1b}': "), "{error}");
    }
}
