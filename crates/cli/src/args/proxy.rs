//! By way of which proxy the coordinator is looked for.

use std::convert::Infallible;

use anyhow::anyhow;
use clap::Args;
use p2pconnect::{ParseProxyError, Proxy, proxy_of_variables};

use crate::environment;

/// The variable in the place of the option.
const VARIABLE: &str = "P2PCONNECT_PROXY";

#[derive(Debug, Args)]
pub(crate) struct ByProxy {
    /// A proxy to reach the coordinator by as well, such as http://USER:PASSWORD@HOST:3128
    /// (CONNECT), socks5://HOST:1080 or socks5h://HOST:1080, which looks names up; `none` for none.
    /// Peers are connected to directly [env: P2PCONNECT_PROXY; HTTPS_PROXY or ALL_PROXY, unless
    /// NO_PROXY has the coordinator]
    #[arg(long, value_name = "URL", value_parser = wanted)]
    proxy: Option<Wanted>,
}

/// What is wanted. A mistake in it is told of later, without the password that may be in it.
#[derive(Debug, Clone)]
enum Wanted {
    None,
    Proxy(Proxy),
    Wrong(ParseProxyError),
}

impl ByProxy {
    /// Returns the proxy that the option or a variable names for a coordinator at a host. One that
    /// is named for all programs and is of no use here is told to `note`.
    pub(crate) fn proxy(&self, host: &str, note: impl Fn(&str)) -> anyhow::Result<Option<Proxy>> {
        let by_variable = || environment::text(VARIABLE).map(|it| (read(&it), VARIABLE));
        let by_option = self.proxy.clone().map(|it| (it, "--proxy"));
        match by_option.or_else(by_variable) {
            Some((Wanted::None, _)) => Ok(None),
            Some((Wanted::Proxy(proxy), _)) => Ok(Some(proxy)),
            Some((Wanted::Wrong(error), name)) => Err(anyhow!("{name}: {error}")),
            None => Ok(
                proxy_of_variables(host, environment::text).unwrap_or_else(|error| {
                    note(&format!("no proxy is used: {error}"));
                    None
                }),
            ),
        }
    }
}

fn read(text: &str) -> Wanted {
    match text.trim() {
        "" | "none" => Wanted::None,
        text => text.parse().map_or_else(Wanted::Wrong, Wanted::Proxy),
    }
}

/// Reads the option. An error here would be shown with what was typed.
#[expect(clippy::unnecessary_wraps, reason = "clap asks for a result")]
fn wanted(text: &str) -> Result<Wanted, Infallible> {
    Ok(read(text))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn named(text: &str) -> anyhow::Result<Option<Proxy>> {
        let option = ByProxy {
            proxy: Some(read(text)),
        };
        option.proxy("c.example", |note| panic!("{note}"))
    }

    #[test]
    fn a_proxy_is_named_or_none() {
        let proxy = named(" http://u:secret@h:3128\n").unwrap().unwrap();
        assert_eq!(proxy.to_string(), "http://h:3128");
        assert_eq!(named("none").unwrap(), None);
        let wrong = named("ftp://u:secret@h").unwrap_err().to_string();
        assert!(
            wrong.contains("--proxy") && !wrong.contains("secret"),
            "{wrong}"
        );
    }
}
