//! The seam between the product and the host that it runs on: what is at both ends of a dial and
//! between them asks for sockets, addresses, names, randomness and the time in `p2pconnect-host`
//! alone, and for the connection between a peer and a coordinator in `p2pconnect-link`.

use std::path::Path;

use syn::{ExprMethodCall, File, ItemImpl, ItemMod, ItemUse, visit::Visit};

use crate::{
    imports::{is_left_out, leaves},
    root, rust_files,
};

/// The folders of what has to run on any host, a virtual one included.
const SOURCES: [&str; 4] = [
    "crates/coordinator/src",
    "crates/link/src",
    "crates/p2pconnect/src",
    "crates/stun/src",
];

/// What goes past the host, and why it may.
const EXCEPTIONS: [&str; 2] = [
    // Routers are spoken to by a library with sockets of its own, so this is for the operating
    // system alone.
    "crates/p2pconnect/src/machine/port_mapping",
    // `Liveness` also watches connections that a program has with others than peers.
    "crates/p2pconnect/src/stream/liveness.rs",
];

/// What runs on the operating system unless it is told another host.
const DEFAULTS: [&str; 6] = [
    "crates/coordinator/src/service/config.rs",
    "crates/p2pconnect/src/builder.rs",
    // For monitoring, from the machine that monitors.
    "crates/p2pconnect/src/coordinator/probe.rs",
    // For the pauses of a program that tries again by itself.
    "crates/p2pconnect/src/coordinator/reconnecting.rs",
    "crates/stun/src/mapping_config.rs",
    "crates/stun/src/server.rs",
];

/// What asks the operating system.
const SYSTEM: [&str; 15] = [
    "Host::default",
    "crab_nat",
    "getrandom",
    "if_addrs",
    "libc",
    "nix",
    "rustix",
    "socket2",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::time::SystemTime",
    "tokio::net",
];

/// Finds what of a file asks the operating system. Tests are left out.
#[derive(Default)]
struct Asks {
    found: Vec<String>,
    /// Whether `Instant` is that of the standard library, which has no clock but the system's.
    has_system_instant: bool,
}

impl Asks {
    fn of(file: &File) -> Vec<String> {
        let mut asks = Self::default();
        if !is_left_out(&file.attrs) {
            asks.visit_file(file);
        }
        asks.found
    }

    fn note(&mut self, path: &str) {
        let is_below = |path: &str, other: &str| {
            let rest = path.strip_prefix(other);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        // Whoever imports a module can name all of it.
        let is_module = |it: &str| path.contains("::") && is_below(it, path);
        let is_clock = match path {
            "Instant::now" => self.has_system_instant,
            _ => path == "std::time::Instant::now",
        };
        if is_clock || SYSTEM.iter().any(|it| is_below(path, it) || is_module(it)) {
            self.found.push(path.to_owned());
        }
    }
}

impl<'ast> Visit<'ast> for Asks {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_left_out(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_left_out(&item.attrs) {
            syn::visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_left_out(&item.attrs) {
            for (path, _) in leaves(&item.tree, &[]) {
                let path = path.join("::");
                self.has_system_instant |= path == "std::time::Instant";
                self.note(&path);
            }
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if self.has_system_instant && call.method == "elapsed" {
            self.found.push("std::time::Instant::elapsed".to_owned());
        }
        // The numbers of errors are one system's.
        if call.method == "raw_os_error" {
            self.found.push("std::io::Error::raw_os_error".to_owned());
        }
        syn::visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|it| it.ident.to_string());
        self.note(&segments.collect::<Vec<_>>().join("::"));
        syn::visit::visit_path(self, path);
    }
}

/// Tells whether a file has nothing but tests.
fn is_test(file: &Path) -> bool {
    let is_tests = |it: &std::ffi::OsStr| it == "tests" || it == "tests.rs";
    file.iter().any(is_tests)
}

#[test]
fn the_product_asks_the_host_and_not_the_system() {
    let exceptions = EXCEPTIONS.map(|it| root().join(it));
    for source in SOURCES {
        for file in rust_files(&root().join(source)) {
            let within = file.strip_prefix(root()).unwrap();
            let is_exception = exceptions.iter().any(|it| {
                let beside = it.with_extension("rs");
                file.starts_with(it) || file == beside
            });
            if is_exception || is_test(within) {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let mut asks = Asks::of(&syn::parse_file(&text).unwrap());
            if DEFAULTS.iter().any(|it| within == Path::new(it)) {
                asks.retain(|it| it != "Host::default");
            }
            assert!(asks.is_empty(), "{}: {asks:?}", within.display());
            let is_special = text.contains("target_os") || text.contains("\"/proc/");
            assert!(!is_special, "{} is special to one system", within.display());
        }
    }
    for exception in exceptions {
        let files = rust_files(&exception);
        let asks = |file| {
            let text = std::fs::read_to_string(file).unwrap();
            !Asks::of(&syn::parse_file(&text).unwrap()).is_empty()
        };
        assert!(
            files.iter().any(asks),
            "{} is none any more",
            exception.display()
        );
    }
}

/// Where QUIC is named: what makes links of it, and what gives it sockets.
const KNOW_QUIC: [&str; 2] = ["crates/host", "crates/link"];

#[test]
fn peers_and_coordinators_know_a_link_and_not_quic() {
    let knows = |folder: &Path| {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let (_, rest) = manifest.split_once("[dependencies]").unwrap();
        let dependencies = rest.split("\n[").next().unwrap();
        dependencies.lines().any(|line| line.starts_with("quinn"))
    };
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    let mut knowing: Vec<_> = crates
        .map(|entry| entry.unwrap().path())
        .filter(|folder| knows(folder))
        .map(|folder| folder.strip_prefix(root()).unwrap().to_owned())
        .collect();
    knowing.sort();
    assert_eq!(knowing, KNOW_QUIC.map(Path::new));
}

#[test]
fn what_asks_the_system_is_found() {
    let asks = |text| Asks::of(&syn::parse_str(text).unwrap());
    for asking in [
        "use tokio::{net::TcpStream, time::sleep};",
        "use std::net;",
        "use std::net::{IpAddr, UdpSocket as Socket};",
        "fn it() { drop(tokio::net::lookup_host((\"localhost\", 1))); }",
        "fn it() -> i32 { libc::EMFILE }",
        "fn it() -> Host { Host::default() }",
        "mod within { type It = std::net::TcpListener; }",
        "use std::time::{Duration, Instant}; fn it() -> Instant { Instant::now() }",
        "use std::time::Instant; fn it(began: Instant) -> Duration { began.elapsed() }",
        "fn it() { drop(std::time::Instant::now()); }",
        "fn it(error: &Error) -> bool { error.raw_os_error() == Some(1) }",
    ] {
        assert_eq!(asks(asking).len(), 1, "{asking}");
    }
    for other in [
        "use std::net::{IpAddr, SocketAddr};",
        "use std::time::{Duration, Instant};",
        "use tokio::time::Instant; fn it() -> Duration { Instant::now().elapsed() }",
        "#[cfg(test)] mod tests { use tokio::net::TcpStream; }",
        "#![cfg(test)] use tokio::net::TcpStream;",
    ] {
        assert_eq!(asks(other), Vec::<String>::new(), "{other}");
    }
}
