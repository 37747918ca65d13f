//! Servers that are told to end, and are started again, while peers dial each other.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread::scope,
};

use netns_lab::test as in_namespaces;
use p2pconnect_tests::{
    kinds::DROPS,
    net::Net,
    process::{Process, run},
};

/// Starts another server beside the first one, with this key, at this port and with STUN at the
/// next one. Returns it with its address, as peers are told it.
fn serve_beside(net: &Net, key: &Path, port: u16, settings: &[(&str, &str)]) -> (Process, String) {
    let host = net.lab.host("server").ipv4().into();
    let [listen, stun] = [port, port + 1].map(|port| SocketAddr::new(host, port).to_string());
    let mut command = net.command("server", &["serve", "--listen", &listen, "--stun", &stun]);
    command
        .arg("--key")
        .arg(key)
        .env("RUST_LOG", "error,p2pconnect_coordinator=info")
        .envs(settings.iter().copied());
    let mut server = Process::spawn(command);
    let id = server.hear_until("coordinator serves", |line| {
        let (_, id) = line.split_once("coordinator serves server_id=")?;
        Some(id.trim().to_owned())
    });
    (server, format!("{id}@{listen}"))
}

/// Ends a server as a service manager does, and waits until it has let everybody go.
pub(crate) fn end(server: Process) {
    let pid = server.pid().to_string();
    run(Command::new("kill").args(["-TERM", &pid]));
    let ended = server.finish();
    assert_eq!(ended.code(), 0, "{:#?}", ended.stderr);
    let is_told = |it: &String| it.contains("clients have been let go");
    assert!(ended.stderr.iter().any(is_told), "{:#?}", ended.stderr);
}

/// Ends the dials when it is dropped, also where a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does some work while each of these dials again and again, and returns how many dials there were.
/// What the work returns is kept until the last dial is over.
pub(crate) fn under_dials<T>(dials: &[&(dyn Fn(usize) + Sync)], work: impl FnOnce() -> T) -> usize {
    let is_over = AtomicBool::new(false);
    let again_and_again = |dial: &(dyn Fn(usize) + Sync)| {
        let still = (0..).take_while(|_| !is_over.load(Ordering::Relaxed));
        still.map(dial).count()
    };
    scope(|scope| {
        let dialling = dials
            .iter()
            .map(|dial| scope.spawn(|| again_and_again(dial)));
        let dialling: Vec<_> = dialling.collect();
        let over = Over(&is_over);
        let _kept = work();
        drop(over);
        dialling.into_iter().map(|it| it.join().unwrap()).sum()
    })
}

/// Each dial is that of a process of its own, which knows both servers as the listener does.
#[test]
fn two_servers_are_upgraded_in_turn_and_no_dial_fails() {
    in_namespaces(upgrade);
}

fn upgrade() {
    let mut net = Net::new(DROPS.boxes, DROPS.boxes);
    let keys = tempfile::tempdir().unwrap();
    let start = |net: &Net, name: &str, port, other: &str| {
        let settings = [
            ("P2PCONNECT_SERVE_MOVE_TO", other),
            ("P2PCONNECT_SERVE_DRAIN", "4s"),
        ];
        serve_beside(net, &keys.path().join(name), port, &settings)
    };
    // For its key.
    let (first, two) = serve_beside(&net, &keys.path().join("two.pem"), 4451, &[]);
    end(first);
    let (server_one, one) = start(&net, "one.pem", 4441, &two);
    let (server_two, _) = start(&net, "two.pem", 4451, &one);
    net.coordinator = format!("{one},{two}");
    let _listener = net.listen("b");
    let peer = net.id("b");
    let dial = |n| {
        net.dial_echo("a", &peer, &format!("the dial {n}"));
    };
    let dials = under_dials(&[&dial], || {
        end(server_one);
        let (server_one, _) = start(&net, "one.pem", 4441, &two);
        end(server_two);
        let (server_two, _) = start(&net, "two.pem", 4451, &one);
        end(server_one);
        server_two
    });
    assert!(dials > 10, "{dials}");
    net.finish();
}
