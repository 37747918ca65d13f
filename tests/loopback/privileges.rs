//! What `serve` is allowed once it serves.

use std::{fs, path::Path, process::Stdio};

use p2pconnect_tests::{program::p2pconnect, serving::Serving};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{ChildStderr, Command},
    time::timeout,
};

use crate::{commands::LIMIT, world::World};

/// Starts a server as root: as that of the machine, if root runs the tests, and otherwise as that
/// of a user namespace in which there is nobody else.
async fn start_as_root(directory: &Path, options: &[&str]) -> (Serving, ChildStderr) {
    let any = ([127, 0, 0, 1], 0).into();
    let key = directory.join("key.pem");
    let mut command = Serving::command(any, any, &key);
    if !is_root(directory) {
        let arguments: Vec<_> = command.as_std().get_args().map(ToOwned::to_owned).collect();
        command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", &p2pconnect()])
            .args(arguments);
        command
            .env("RUST_LOG", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
    }
    command.args(options).stderr(Stdio::piped());
    let mut serving = Serving::spawn(command, key).await;
    let stderr = serving.child.stderr.take().unwrap();
    (serving, stderr)
}

/// Tells whether root runs the tests, by whose the files are that they make.
fn is_root(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(directory).unwrap().uid() == 0
}

/// Returns the values that all threads of a process have for a line of their status
/// (proc_pid_status(5)).
fn of_all_threads(serving: &Serving, name: &str) -> Vec<String> {
    let tasks = format!("/proc/{}/task", serving.child.id().unwrap());
    let tasks = fs::read_dir(tasks).unwrap().map(|task| task.unwrap());
    // A thread may have ended meanwhile.
    let texts = tasks.filter_map(|it| fs::read_to_string(it.path().join("status")).ok());
    texts
        .map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

fn assert_all(serving: &Serving, name: &str, wanted: &str) {
    let found = of_all_threads(serving, name);
    assert!(found.len() > 1, "{found:?}");
    assert!(found.iter().all(|it| it == wanted), "{name} {found:?}");
}

#[tokio::test]
async fn serve_does_not_stay_root() {
    let directory = tempfile::tempdir().unwrap();
    let (serving, stderr) = start_as_root(directory.path(), &[]).await;
    let mut lines = BufReader::new(stderr).lines();
    let mut line = async || {
        let line = timeout(LIMIT, lines.next_line()).await.unwrap();
        line.unwrap().unwrap()
    };
    let said = line().await;
    assert!(said.contains("a new key was made"), "{said}");
    let said = line().await;
    if is_root(directory.path()) {
        assert!(said.contains("no longer as root"), "{said}");
        for name in ["Uid:", "Gid:"] {
            assert_all(&serving, name, "65534 65534 65534 65534");
        }
        assert_all(&serving, "Groups:", "");
        for name in ["CapPrm:", "CapEff:", "CapAmb:"] {
            assert_all(&serving, name, "0000000000000000");
        }
    } else {
        assert!(said.contains("goes on as root"), "{said}");
    }
    // And serves.
    let builder = || p2pconnect::Endpoint::builder().coordinator(serving.coordinator.clone());
    let listener = builder().allow(p2pconnect::DialPolicy::Anyone).bind();
    let (listener, dialler) = tokio::join!(listener, builder().bind());
    World::connect(&dialler.unwrap(), &listener.unwrap()).await;
}

#[tokio::test]
async fn serve_becomes_whom_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    if is_root(directory.path()) {
        let (serving, _stderr) = start_as_root(directory.path(), &["--user", "54321"]).await;
        assert_all(&serving, "Uid:", "54321 54321 54321 54321");
        assert_all(&serving, "Gid:", "54321 54321 54321 54321");
    }
    // Somebody who does not exist, and the number that changes nothing.
    for user in ["no-such-user", "4294967295"] {
        let any = ([127, 0, 0, 1], 0).into();
        let mut command = Serving::command(any, any, &directory.path().join("key.pem"));
        command.args(["--user", user]).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        timeout(LIMIT, stderr.read_to_string(&mut said))
            .await
            .unwrap()
            .unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(status.code(), Some(2), "{user}: {said}");
        assert!(said.contains("user"), "{said}");
    }
}

#[tokio::test]
async fn root_stays_root_where_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let (serving, _stderr) = start_as_root(directory.path(), &["--user", "root"]).await;
    let owner = of_all_threads(&serving, "Uid:");
    let here = fs::read_to_string("/proc/self/status").unwrap();
    let here = here.lines().find_map(|it| it.strip_prefix("Uid:")).unwrap();
    let here = here.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(owner.iter().all(|it| *it == here), "{owner:?}");
}
