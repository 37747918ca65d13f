//! Whom a private coordinator serves: the lists of peers and of invite secrets.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, anyhow};
use p2pconnect::{InviteSecret, PeerId};
use p2pconnect_coordinator::Members;

use super::settings::{Settings, read_text};
use crate::words::escaped;

/// The longest list that is read: a million peers.
const MAX_BYTES: u64 = 64 << 20;

/// Reads whom the files of the settings name: one peer id, or secret, a line. Everybody is served
/// where no file is named.
///
/// # Errors
///
/// A file cannot be read, or a line is no peer id or no secret; its number is told.
pub(super) fn read(settings: &Settings) -> anyhow::Result<Members> {
    let allowed = settings.allowed.as_deref();
    let invites = settings.invite_secrets.as_deref();
    let invites = invites
        .map(|path| of_file(path, parse_secrets))
        .transpose()?;
    Ok(Members {
        allowed: match allowed {
            Some(path) => Some(of_file(path, parse)?),
            // A list of nobody: an empty list of secrets is no invitation to everybody.
            None => invites.is_some().then(BTreeSet::new),
        },
        invites: invites.unwrap_or_default(),
    })
}

fn of_file<T>(path: &Path, parse: fn(&str) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let read = read_text(path, MAX_BYTES).and_then(|text| parse(&text));
    read.with_context(|| escaped(&path.display().to_string()))
}

/// Reads secrets. A line that begins with # is for people.
fn parse_secrets(text: &str) -> anyhow::Result<Vec<InviteSecret>> {
    let lines = text.lines().map(str::trim).enumerate();
    let secrets = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let read = secrets.map(|(number, line)| {
        // What is wrong with it may be a letter.
        InviteSecret::new(line).with_context(|| format!("line {}", number + 1))
    });
    read.collect()
}

/// Reads peer ids. What is behind a # is for people.
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

    #[test]
    fn secrets_are_one_a_line_and_never_told() {
        let text = "# for the family\n\n correct-horse-battery \r\nstaple#staple#staple\n";
        let secrets = parse_secrets(text).unwrap();
        let expected = ["correct-horse-battery", "staple#staple#staple"];
        let expected = expected.map(|it| InviteSecret::new(it).unwrap());
        assert_eq!(secrets, expected);
        let error = parse_secrets("\nshort-secret\n").unwrap_err();
        let told = format!("{error:#}");
        assert!(
            told.starts_with("line 2: ") && !told.contains("short"),
            "{told}"
        );
    }
}
