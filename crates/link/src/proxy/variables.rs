//! Which proxy the environment names for a coordinator.

use std::net::IpAddr;

use super::{ParseProxyError, Proxy};

/// The variables that name a proxy, in the order in which they count. Those in small letters count
/// before the others, as with curl.
const NAMING: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// The variables that name who is reached without one.
const EXEMPTING: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// A variable does not name a proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {error}")]
pub struct WrongVariable {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with it.
    pub error: ParseProxyError,
}

/// Returns the proxy that variables name for a coordinator at a host, which is a name or an address
/// without brackets: `HTTPS_PROXY` or `ALL_PROXY`, unless the host is this machine or `NO_PROXY`
/// has it. `variable` looks up a variable that is not empty.
///
/// # Errors
///
/// [`WrongVariable`], which repeats nothing of its value.
pub fn proxy_of_variables(
    host: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, WrongVariable> {
    let named = NAMING.iter().find_map(|&it| Some((it, variable(it)?)));
    let Some((name, text)) = named else {
        return Ok(None);
    };
    let exempted = EXEMPTING.iter().find_map(|it| variable(it));
    if is_here(host) || exempted.is_some_and(|it| is_exempted(host, &it)) {
        return Ok(None);
    }
    let proxy = text.parse().map_err(|error| WrongVariable {
        variable: name,
        error,
    });
    proxy.map(Some)
}

/// Tells whether a host is this machine.
fn is_here(host: &str) -> bool {
    let is_loopback = host.parse().is_ok_and(|it: IpAddr| it.is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost")
}

/// Tells whether a list of names, addresses and networks has a host. A name stands for those below
/// it too, and `*` for all.
fn is_exempted(host: &str, list: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    list.split([',', ' ']).map(str::trim).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if let (Ok(ip), Some(network)) = (host.parse(), entry.split_once('/')) {
            return is_within(ip, network.0, network.1);
        }
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        let entry = entry.trim_start_matches('[').trim_end_matches(']');
        match host.strip_suffix(entry) {
            _ if entry.is_empty() => false,
            _ if entry == "*" => true,
            Some(before) => before.is_empty() || before.ends_with('.'),
            None => false,
        }
    })
}

/// Tells whether an address is in a network, written as its address and the length of its prefix.
fn is_within(ip: IpAddr, network: &str, length: &str) -> bool {
    let (Ok(network), Ok(length)) = (network.parse(), length.parse::<u32>()) else {
        return false;
    };
    let same = |bits: u32, difference: u128| {
        length <= bits && difference.checked_shr(bits - length).unwrap_or(0) == 0
    };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            same(32, (ip.to_bits() ^ network.to_bits()).into())
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => same(128, ip.to_bits() ^ network.to_bits()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn named(host: &str, variables: &[(&str, &str)]) -> Result<Option<String>, WrongVariable> {
        let found = proxy_of_variables(host, |name| {
            let found = variables.iter().find(|it| it.0 == name);
            found.map(|it| it.1.to_owned())
        });
        found.map(|it| it.map(|it| it.to_string()))
    }

    #[test]
    fn the_nearest_variable_counts() {
        let all = [("HTTPS_PROXY", "a:1"), ("all_proxy", "b:2")];
        let found = named("c.example", &all).unwrap();
        assert_eq!(found.as_deref(), Some("http://a:1"));
        let found = named("c.example", &all[1..]).unwrap();
        assert_eq!(found.as_deref(), Some("http://b:2"));
        assert_eq!(named("c.example", &[("HTTP_PROXY", "a:1")]), Ok(None));
        for here in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(named(here, &all), Ok(None));
        }
        let wrong = named("c.example", &[("ALL_PROXY", "https://u:pw@a:1")]);
        let wrong = wrong.unwrap_err().to_string();
        assert!(
            wrong.starts_with("ALL_PROXY: ") && !wrong.contains("pw"),
            "{wrong}"
        );
    }

    #[test]
    fn who_is_exempted_is_reached_without_one() {
        for (host, list, is_exempt) in [
            ("c.example.org", "example.org", true),
            ("c.example.org", "x, .example.org", true),
            ("c.example.org", "*.example.org", true),
            ("notexample.org", "example.org", false),
            ("example.org", "EXAMPLE.org", true),
            ("c.example.org", "*", true),
            ("c.example.org", "", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.0.0.0/99", false),
            ("2001:db8::1", "2001:db8::/32", true),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("10.1.2.3", "2001:db8::/32", false),
        ] {
            let variables = [("ALL_PROXY", "a:1"), ("NO_PROXY", list)];
            let found = named(host, &variables).unwrap();
            assert_eq!(found.is_none(), is_exempt, "{host} in {list:?}");
        }
    }
}
