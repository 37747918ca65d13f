//! What the command is told: its arguments, its variables and its keys.

use std::os::unix::fs::PermissionsExt;

use p2pconnect::{PeerId, SecretKey};
use p2pconnect_tests::program::p2pconnect;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, UdpSocket},
    process::Command,
    time::timeout,
};

use crate::commands::{LIMIT, Shell, program};

#[tokio::test]
async fn serve_names_the_port_that_is_taken() {
    let keys = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let [tcp, udp] = [tcp.local_addr(), udp.local_addr()].map(|it| it.unwrap().to_string());
    let cases = [
        (["127.0.0.1:0", tcp.as_str()], &tcp),
        ([udp.as_str(), "127.0.0.1:0"], &udp),
    ];
    for ([listen, stun], taken) in cases {
        let mut command = program();
        command.args(["serve", "--listen", listen, "--stun", stun]);
        command.arg("--key").arg(keys.path().join("key"));
        let serving = timeout(LIMIT, command.output()).await.unwrap();
        let output = serving.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(taken), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn serve_does_not_try_again_what_no_other_port_mends() {
    // An address for documentation (RFC 5737).
    let elsewhere = ["serve", "--listen=192.0.2.1:0", "--stun=127.0.0.1:0"];
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key").display().to_string();
    let (status, said) = run(&[&elsewhere[..], &["--key", &key]].concat(), &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("192.0.2.1:0 cannot be listened on"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn serve_says_which_address_the_machine_has_not() {
    for (option, port) in [("--listen", 4433), ("--stun", 3478)] {
        let elsewhere = format!("{option}=192.0.2.1:{port}");
        let (status, said) = run(&["serve", &elsewhere], &[]).await;
        assert_eq!(status, 2, "{said}");
        let told = format!("192.0.2.1:{port} cannot be listened on: this machine has no such");
        let advice = format!("name a port alone, {option} {port},");
        assert!(said.contains(&told) && said.contains(&advice), "{said}");
        let told_of_others = said.contains("STUN") || said.contains("IPv6");
        assert!(!told_of_others && said.lines().count() == 1, "{said}");
    }
}

#[tokio::test]
async fn what_serve_fails_for_comes_before_all_notes() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = tcp.local_addr().unwrap().to_string();
    let wrong = ["serve", "--stun=127.0.0.1:0", "--key=/etc/passwd"];
    let (status, said) = run(&[&wrong[..], &["--listen", &taken]].concat(), &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.starts_with("error: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Runs the command to its end, without anything in its environment but what is given.
async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let keys = tempfile::tempdir().unwrap();
    let mut command = program();
    command
        .args(arguments)
        .env_remove("P2PCONNECT_COORDINATOR")
        .env_remove("P2PCONNECT_KEY")
        .env("XDG_CONFIG_HOME", keys.path())
        .envs(environment.iter().copied());
    let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

#[tokio::test]
async fn an_empty_variable_is_one_that_is_not_set() {
    let empty = [("P2PCONNECT_COORDINATOR", ""), ("P2PCONNECT_KEY", "")];
    let (status, said) = run(&["id"], &empty).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.starts_with("a new key was made, /"), "{said}");
    let peer = PeerId::from_public_key([7; 32]).to_string();
    let (status, said) = run(&["dial", &peer], &empty).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("P2PCONNECT_COORDINATOR"), "{said}");
}

#[tokio::test]
async fn wrong_usage_is_told_to_programs_as_json() {
    let (status, said) = run(&["dial", "--json", "nobody"], &[]).await;
    assert_eq!(status, 2, "{said}");
    let fields: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(fields["status"], 2);
    assert!(fields["reason"].as_str().unwrap().contains("nobody"));
    assert!(fields["since_start_ms"].is_f64());
}

#[tokio::test]
async fn wrong_usage_is_told_to_those_who_want_to_hear_nothing() {
    let peer = PeerId::from_public_key([7; 32]).to_string();
    for arguments in [&["dial", "-q", &peer][..], &["listen", "-q", "--allow-any"]] {
        let (status, said) = run(arguments, &[]).await;
        assert_eq!(status, 2, "{said}");
        // As all that is wrong with a command line.
        let told = "error: no coordinator is named";
        assert!(said.starts_with(told), "{said}");
    }
}

#[tokio::test]
async fn control_characters_of_arguments_do_not_reach_a_terminal() {
    for arguments in [
        ["dial", "abc\r"],
        ["dial", "\u{1b}[31mred"],
        ["id", "\u{1b}[31m"],
        ["listen", "--forward=lo\u{1b}[31mcal"],
    ] {
        let (status, said) = run(&arguments, &[]).await;
        assert_eq!(status, 2, "{said}");
        let is_raw = |c: char| c.is_control() && c != '\n';
        assert!(!said.contains(is_raw), "{said:?}");
        assert!(said.contains("\\r") || said.contains("\\u{1b}"), "{said:?}");
    }
}

#[tokio::test]
async fn an_argument_that_is_no_text_is_wrong_usage() {
    use std::os::unix::ffi::OsStringExt as _;

    let argument = std::ffi::OsString::from_vec(vec![0xff]);
    let output = program().arg("dial").arg(argument).output();
    let output = timeout(LIMIT, output).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test]
async fn a_listener_does_not_allow_itself() {
    let shell = Shell::new();
    let own_id = shell.id().await.to_string();
    let (status, said) = shell.start(&["listen", "--allow", &own_id]).end().await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("nobody but this machine itself"), "{said}");
    // Beside another one it does no harm, as where one list is given to all machines.
    let other = Shell::beside(&shell).id().await;
    let allowed = format!("{own_id},{other}");
    let mut listen = shell.start(&["listen", "--allow", &allowed]);
    listen.wait_for("own peer id as well").await;
    listen.wait_for("can be dialled").await;
}

#[tokio::test]
async fn one_id_for_coordinator_and_peer_is_said_to_be_that() {
    let shell = Shell::new();
    let address = shell.world.address();
    let id = address.id.to_string();
    let at = format!("--coordinator={address}");
    for arguments in [
        ["dial", &id, &at],
        ["listen", &format!("--allow={id}"), &at],
    ] {
        let (status, said) = shell.start(&arguments).end().await;
        assert_eq!(status.code(), Some(2), "{said}");
        // Which of the two is mistaken, nobody here knows.
        for known in ["both", &id, "`serve` prints", "`p2pconnect id` prints"] {
            assert!(said.contains(known), "{known}: {said}");
        }
    }
    let address = address.to_string();
    for arguments in [
        ["dial", &address],
        ["listen", &format!("--allow={address}")],
    ] {
        let (status, said) = shell.start(&arguments).end().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("a coordinator's address"), "{said}");
    }
}

#[tokio::test]
async fn this_machines_own_id_in_the_place_of_the_coordinators_is_pointed_out() {
    let shell = Shell::new();
    let mut address = shell.world.address();
    address.id = shell.id().await;
    let nobody = SecretKey::generate().unwrap().peer_id().to_string();
    let at = format!("--coordinator={address}");
    for arguments in [["dial", &nobody, &at], ["listen", "--allow-any", &at]] {
        let (status, said) = shell.start(&arguments).end().await;
        assert_eq!(status.code(), Some(7), "{said}");
        assert!(said.contains("this machine's own peer id"), "{said}");
        let place = shell.world.coordinator.local_addr();
        let advice = format!("type --coordinator SERVER-ID@{place} with");
        assert!(said.contains(&advice), "{said}");
        assert!(!said.contains("new key"), "{said}");
    }
}

#[tokio::test]
async fn a_key_on_a_read_only_volume_of_secrets_has_a_way_out() {
    let shell = Shell::new();
    let id = shell.id().await;
    let key = shell.key();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o440)).unwrap();
    let (status, said) = shell.start(&["id"]).end().await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("give --shared-key"), "{said}");
    let output = shell.start(&["id", "--shared-key"]).child;
    let output = output.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{id}\n"));
    // Others could put their own there.
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o460)).unwrap();
    let (status, said) = shell.start(&["id", "--shared-key"]).end().await;
    assert_eq!(status.code(), Some(2), "{said}");
}

#[tokio::test]
async fn a_key_is_made_in_a_directory_of_its_owners() {
    let keys = tempfile::tempdir().unwrap();
    let directory = keys.path().join("config").join("p2pconnect");
    let key = directory.join("key.pem").display().to_string();
    let program = p2pconnect();
    let made = format!("umask 000; '{program}' id");
    let made = Command::new("sh")
        .args(["-c", &made])
        .env("XDG_CONFIG_HOME", directory.parent().unwrap())
        .env_remove("P2PCONNECT_KEY")
        .output();
    let made = timeout(LIMIT, made).await.unwrap().unwrap();
    assert!(made.status.success(), "{made:?}");
    for made in [directory.parent().unwrap(), &directory] {
        let mode = made.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", made.display());
    }
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
    let (status, said) = run(&["id", "--key", &key], &[]).await;
    assert_eq!(status, 2, "{said}");
    let advice = format!("run: chmod go-w {}\n", directory.display());
    assert!(said.ends_with(&advice), "{said}");
}

#[tokio::test]
async fn a_mistyped_path_of_a_key_makes_no_directory() {
    let keys = tempfile::tempdir().unwrap();
    let directory = keys.path().join("mistyped");
    let key = directory.join("key.pem").display().to_string();
    let (status, said) = run(&["id", "--key", &key], &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("run: mkdir -p"), "{said}");
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_home_that_is_not_there_is_not_made() {
    let keys = tempfile::tempdir().unwrap();
    let home = keys.path().join("nonexistent");
    let environment = [("HOME", home.to_str().unwrap()), ("XDG_CONFIG_HOME", "")];
    let (status, said) = run(&["id"], &environment).await;
    assert_eq!(status, 2, "{said}");
    let told = format!("error: there is no home directory {}", home.display());
    assert!(said.starts_with(&told), "{said}");
    assert!(said.contains("--key") && !home.exists());
    std::fs::create_dir(&home).unwrap();
    let (status, said) = run(&["id"], &environment).await;
    assert_eq!(status, 0, "{said}");
}

#[tokio::test]
async fn a_key_of_another_kind_is_called_what_it_is() {
    let keys = tempfile::tempdir().unwrap();
    for (label, told) in [
        ("ENCRYPTED", "openssl pkey -in"),
        ("OPENSSH", "in the format of OpenSSH"),
    ] {
        let key = keys.path().join(label).display().to_string();
        let label = format!("{label} PRIVATE KEY");
        let text = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        std::fs::write(&key, text).unwrap();
        let (status, said) = run(&["id", "--key", &key], &[]).await;
        assert_eq!(status, 2, "{said}");
        assert!(said.contains(told) && said.contains("a new key"), "{said}");
    }
}

#[tokio::test]
async fn nobody_is_told_to_change_the_mode_of_what_is_no_key() {
    for path in ["/etc/passwd", "/etc", "/dev/null", "/proc/version"] {
        for sharing in [&[][..], &["--shared-key"]] {
            let (status, said) = run(&[&["id", "--key", path], sharing].concat(), &[]).await;
            assert_eq!(status, 2, "{said}");
            assert!(said.contains(path) && !said.contains("chmod"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_key_may_come_by_a_pipe() {
    let shell = Shell::new();
    let id = shell.id().await;
    let key = std::fs::read(shell.key()).unwrap();
    let mut listen = shell.start(&["listen", "--allow-any", "--key", "/dev/stdin"]);
    let mut stdin = listen.child.stdin.take().unwrap();
    stdin.write_all(&key).await.unwrap();
    drop(stdin);
    listen.wait_for(&format!("dial {id}")).await;
}
