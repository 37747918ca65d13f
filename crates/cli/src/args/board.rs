//! What `board` is told.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use p2pconnect::Topic;

use super::endpoint::Endpoint;
use crate::{environment, words::escaped};

/// The longest file with a secret that is read.
const MAX_SECRET: usize = 4096;

/// The variable with the secret.
const SECRET: &str = "P2PCONNECT_BOARD_SECRET";

const EXAMPLES_OF_ANNOUNCE: &str = "\
Examples:
  openssl rand -base64 24 > team.secret      # once, and handed to every member
  p2pconnect board announce team --secret-file team.secret &
  p2pconnect listen --allow-any --forward localhost:22

Exit status: 0 when told to end; otherwise as with `listen`.";

const EXAMPLES_OF_LOOKUP: &str = "\
Examples:
  p2pconnect board lookup team --secret-file team.secret
  p2pconnect dial $(p2pconnect board lookup team --secret-file team.secret | head -n 1)

Exit status: 0 if somebody was found, 3 if nobody was; otherwise as with `dial`.";

const EXAMPLES_OF_WATCH: &str = "\
Examples:
  p2pconnect board watch team --secret-file team.secret | while read what peer; do
      [ \"$what\" = joined ] && echo \"$peer has come\"
  done

The lines are `here PEER-ID` for those who were there, `joined PEER-ID`, `left PEER-ID`, and
`missed` where changes were lost; those who are there then follow anew.

Exit status: 0 when told to end; otherwise as with `listen`.";

/// What is done on the board.
#[derive(Debug, Subcommand)]
pub(crate) enum Board {
    /// Put this machine's peer id on the board, under a topic, until told to end
    ///
    /// Others find it there who know the topic, and dial it where `listen` runs with the same key.
    #[command(after_help = EXAMPLES_OF_ANNOUNCE)]
    Announce(OfTopic),
    /// Print the ids of peers that are on the board under a topic, one a line
    ///
    /// They are a random sample of some dozens, this machine left out.
    #[command(after_help = EXAMPLES_OF_LOOKUP)]
    Lookup(Lookup),
    /// Print who is on the board under a topic, and who comes and goes, until told to end
    #[command(after_help = EXAMPLES_OF_WATCH)]
    Watch(OfTopic),
}

#[derive(Debug, Args)]
pub(crate) struct Lookup {
    /// Print all of them
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) of: OfTopic,
}

/// A topic, and how to reach the board.
#[derive(Debug, Args)]
#[command(
    mut_arg("no_port_mapping", |it| it.hide(true)),
    mut_arg("stream_timeout", |it| it.hide(true))
)]
pub(crate) struct OfTopic {
    /// The topic: any text, in which upper and lower case differ. Whoever guesses it finds its
    /// peers, unless there is a secret
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// A secret that only the members of the topic know. Others on this machine may see it on the
    /// command line [env: P2PCONNECT_BOARD_SECRET]
    #[arg(long, value_name = "TEXT", conflicts_with = "secret_file")]
    secret: Option<String>,
    /// A file with the secret, without the end of its last line; `-` is stdin
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
}

impl Board {
    /// Returns the topic, and how to reach the board.
    pub(crate) const fn of(&self) -> &OfTopic {
        match self {
            Self::Announce(of) | Self::Watch(of) => of,
            Self::Lookup(lookup) => &lookup.of,
        }
    }
}

impl OfTopic {
    /// Reads the topic and its secret.
    pub(crate) fn topic(&self) -> anyhow::Result<Topic> {
        if self.topic.is_empty() {
            bail!("the topic is empty");
        }
        let secret = match (&self.secret, &self.secret_file) {
            (Some(secret), _) => Some(secret.clone().into_bytes()),
            (None, Some(path)) => {
                let name = || format!("the secret in {}", escaped(&path.to_string_lossy()));
                Some(read(path).with_context(name)?)
            }
            (None, None) => environment::text(SECRET).map(String::into_bytes),
        };
        if secret.as_ref().is_some_and(Vec::is_empty) {
            bail!("the secret is empty; leave it out for a topic without one");
        }
        let secret = secret.unwrap_or_default();
        Ok(Topic::with_secret(&self.topic, &secret))
    }
}

/// Reads a secret. Whoever writes one into a file ends the line.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut secret = Vec::new();
    let read =
        |source: &mut dyn io::Read, into| source.take(MAX_SECRET as u64 + 1).read_to_end(into);
    if path == Path::new("-") {
        read(&mut io::stdin(), &mut secret)?;
    } else {
        read(&mut File::open(path)?, &mut secret)?;
    }
    if secret.len() > MAX_SECRET {
        bail!("it has more than {MAX_SECRET} bytes");
    }
    while secret.last().is_some_and(|it| matches!(it, b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(secret)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn topic(words: &[&str]) -> anyhow::Result<Topic> {
        let words = ["p2pconnect", "board", "watch"].iter().chain(words);
        match Cli::try_parse_from(words)?.command {
            Command::Board { action } => action.of().topic(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_is_the_same_wherever_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let path = file.to_str().unwrap();
        let with_secret = Topic::with_secret("chess", b"a secret");
        assert_eq!(
            topic(&["chess", "--secret", "a secret"]).unwrap(),
            with_secret
        );
        assert_eq!(topic(&["chess"]).unwrap(), Topic::new("chess"));
        for text in ["a secret", "a secret\n", "a secret\r\n"] {
            fs::write(&file, text).unwrap();
            assert_eq!(
                topic(&["chess", "--secret-file", path]).unwrap(),
                with_secret
            );
        }
        for (text, told) in [("\n", "is empty"), (&"x".repeat(5000), "more than")] {
            fs::write(&file, text).unwrap();
            let error = topic(&["chess", "--secret-file", path]).unwrap_err();
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
        for words in [&["chess", "--secret", ""][..], &["", "--secret", "x"]] {
            assert!(topic(words).unwrap_err().to_string().contains("is empty"));
        }
    }
}
