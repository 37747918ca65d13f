//! Where the coordinator is.

use anyhow::anyhow;
use clap::Args;
use p2pconnect::CoordinatorAddr;

use crate::{environment, words::escaped};

#[derive(Debug, Args)]
pub(crate) struct Coordinator {
    /// The coordinator, as `serve` prints it [env: P2PCONNECT_COORDINATOR]
    #[arg(long, value_name = "SERVER-ID@HOST:PORT", value_parser = coordinator)]
    coordinator: Option<CoordinatorAddr>,
}

impl Coordinator {
    /// Returns the coordinator that was named, by the option or by the variable.
    pub(crate) fn address(&self) -> anyhow::Result<CoordinatorAddr> {
        const VARIABLE: &str = "P2PCONNECT_COORDINATOR";

        if let Some(address) = &self.coordinator {
            return Ok(address.clone());
        }
        let text = environment::text(VARIABLE).ok_or_else(|| {
            anyhow!("no coordinator is named; give --coordinator, or set {VARIABLE}")
        })?;
        coordinator(&text).map_err(|error| anyhow!("{VARIABLE} is '{}': {error}", escaped(&text)))
    }
}

/// Reads a coordinator's address. Whoever pastes one may paste the end of its line as well.
fn coordinator(text: &str) -> Result<CoordinatorAddr, String> {
    text.trim()
        .parse()
        .map_err(|error: p2pconnect::ParseCoordinatorAddrError| escaped(&error.to_string()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect::PeerId;

    use super::*;

    #[test]
    fn an_address_may_be_pasted_with_the_end_of_its_line() {
        let id = PeerId::from_public_key([7; 32]).to_string();
        assert!(coordinator(&format!("{id}@192.0.2.1:4433\r\n")).is_ok());
        let error = coordinator(&format!("{id}@host\u{7}x:1")).unwrap_err();
        assert!(!error.contains('\u{7}'), "{error:?}");
    }
}
