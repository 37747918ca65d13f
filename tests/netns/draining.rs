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
fn end(server: Process) {
    let pid = server.pid().to_string();
    run(Command::new("kill").args(["-TERM", &pid]));
    let ended = server.finish();
    assert_eq!(ended.code(), 0, "{:#?}", ended.stderr);
    let is_told = |it: &String| it.contains("clients have been let go");
    assert!(ended.stderr.iter().any(is_told), "{:#?}", ended.stderr);
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
    let is_over = AtomicBool::new(false);
    let dials = scope(|scope| {
        let dialling = scope.spawn(|| {
            let mut dials = 0;
            while !is_over.load(Ordering::Relaxed) {
                net.dial_echo("a", &peer, &format!("the dial {dials}"));
                dials += 1;
            }
            dials
        });
        end(server_one);
        let (server_one, _) = start(&net, "one.pem", 4441, &two);
        end(server_two);
        let (_server_two, _) = start(&net, "two.pem", 4451, &one);
        end(server_one);
        is_over.store(true, Ordering::Relaxed);
        dialling.join().unwrap()
    });
    assert!(dials > 10, "{dials}");
    net.finish();
}
