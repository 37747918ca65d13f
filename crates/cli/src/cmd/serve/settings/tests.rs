//! What settings come of which sources, and what is said of those that cannot be used.

use p2pconnect_coordinator::ServiceLimits;
use p2pconnect_stun::StunServerConfig;

use super::*;

/// Reads a file with this text, and no other source.
fn of_file(text: &str) -> anyhow::Result<Configuration> {
    read(text, &[], Vec::new())
}

fn read(
    text: &str,
    variables: &[(&str, &str)],
    options: Vec<Given>,
) -> anyhow::Result<Configuration> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("serve.toml");
    std::fs::write(&file, text)?;
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Configuration::read(&Sources {
        file: Some(file),
        variables: variables.iter().map(owned).collect(),
        options,
    })
}

fn fault(text: &str) -> String {
    format!("{:#}", of_file(text).unwrap_err())
}

fn origin_of(read: &Configuration, key: &str) -> String {
    let setting = read.all.iter().find(|it| it.key == key).unwrap();
    setting.origin.to_string()
}

#[test]
fn the_example_file_has_every_setting_with_its_default() {
    let nothing = of_file("").unwrap();
    let example = of_file(DEFAULTS).unwrap();
    assert_eq!(example.settings, nothing.settings);
    let keys = |of: &Configuration| of.all.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&example), keys(&nothing));
    assert!(nothing.all.iter().all(|it| it.origin == Origin::Default));
    let from_file = |it: &Setting| matches!(it.origin, Origin::File { .. });
    assert!(example.all.iter().all(from_file));
    // What the library does unless it is told otherwise is what the file says.
    let limits = &nothing.settings.limits;
    assert_eq!(
        limits.of_registry(),
        p2pconnect_coordinator::Limits::default()
    );
    assert_eq!(limits.of_service(), ServiceLimits::default());
    let (stun, usual) = (limits.of_stun(), StunServerConfig::default());
    assert_eq!(format!("{stun:?}"), format!("{usual:?}"));
    let Settings {
        listen,
        stun,
        websocket,
        websocket_certificate,
        websocket_key,
        user,
        key,
        former_key,
        shared_key,
        allowed,
        metrics,
        drain,
        move_to,
        log,
        cluster,
        limits: _,
        invite_secrets,
    } = nothing.settings;
    let Cluster {
        nats,
        key: cluster_key,
        credentials,
        ca,
    } = cluster;
    assert!(nats.is_empty() && cluster_key.is_none() && credentials.is_none() && ca.is_none());
    assert_eq!(listen.to_string(), "[::]:4433");
    assert!(stun.is_empty() && user.is_none() && key.is_none() && !shared_key);
    assert!(allowed.is_none() && invite_secrets.is_none() && metrics.is_none());
    assert!(websocket.is_none() && former_key.is_none() && move_to.is_empty());
    assert!(websocket_certificate.is_none() && websocket_key.is_none());
    assert_eq!(drain.as_secs(), 30);
    assert_eq!(log.format, Format::Text);
    let selection = "error,p2pconnect_coordinator=info,p2pconnect_cluster=info,p2pconnect_stun=info,\
                     p2pconnect_cli=info";
    assert_eq!(log.selection(), selection);
}

#[test]
fn every_setting_is_explained_above_it() {
    let mut is_explained = false;
    for line in DEFAULTS.lines() {
        match line {
            "" => is_explained = false,
            _ if line.starts_with('#') => is_explained = true,
            _ if line.starts_with('[') => {}
            _ => assert!(is_explained, "{line}"),
        }
    }
}

#[test]
fn every_setting_has_a_variable_of_its_own() {
    let all = of_file("").unwrap().all;
    let names: std::collections::BTreeSet<_> = all.iter().map(|it| variable(&it.key)).collect();
    assert_eq!(names.len(), all.len());
    assert!(names.contains("P2PCONNECT_SERVE_LIMITS_STUN_REQUESTS_PER_SECOND"));
    for Setting { key, value, .. } in all {
        let text = match &value {
            Value::String(text) if text.is_empty() => continue,
            Value::Array(_) => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let name = variable(&key);
        let read = read("", &[(&name, &text)], Vec::new()).unwrap();
        assert_eq!(origin_of(&read, &key), name);
    }
}

#[test]
fn the_command_line_counts_before_variables_and_these_before_the_file() {
    let file = "listen = \"127.0.0.1:1\"\nstun = [\"127.0.0.1:1\"]\n\n[limits]\npeers = 1\n";
    let variables = [
        ("P2PCONNECT_SERVE_LISTEN", "127.0.0.1:2"),
        ("P2PCONNECT_SERVE_STUN", "127.0.0.1:2, [::1]:2"),
    ];
    let options = vec![Given {
        key: "listen",
        option: "--listen",
        value: "127.0.0.1:3".into(),
    }];
    let read = read(file, &variables, options).unwrap();
    assert_eq!(read.settings.listen.port(), 3);
    assert_eq!(read.settings.stun.len(), 2);
    assert_eq!(read.settings.limits.of_registry().max_peers, 1);
    assert_eq!(origin_of(&read, "listen"), "--listen");
    assert_eq!(origin_of(&read, "stun"), "P2PCONNECT_SERVE_STUN");
    assert!(origin_of(&read, "limits.peers").ends_with("serve.toml, line 5"));
    assert_eq!(origin_of(&read, "limits.stun.connections"), "default");
}

#[test]
fn what_is_not_known_is_named_with_its_line_and_what_is_nearest() {
    for (text, line, asked, nearest) in [
        ("lisen = \"[::]:1\"", 1, "lisen", "listen"),
        ("\n[limits]\npeer = 5", 3, "limits.peer", "limits.peers"),
        ("peers = 5", 1, "peers", "limits.peers"),
        ("[limit]\npeers = 5", 1, "limit", "limits"),
        (
            "limits.stun.conections = 5",
            1,
            "limits.stun.conections",
            "limits.stun.connections",
        ),
        ("[limits.stun.more]", 1, "limits.stun.more", ""),
    ] {
        let fault = fault(text);
        let told = format!("line {line}: there is no setting `{asked}`; the nearest is `{nearest}");
        assert!(fault.contains(&told), "{fault}");
    }
    let fault = fault("user = \"a\"\nlimits = 5");
    assert!(fault.contains("line 2: limits is a table"), "{fault}");
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_its_place() {
    for (text, told) in [
        ("listen = \"[::]:4433", "line 1: "),
        (
            "listen = 4433",
            "line 1: listen = 4433: invalid type: integer",
        ),
        (
            "listen = \"nowhere\"",
            "line 1: listen = \"nowhere\": this is no address",
        ),
        (
            "\nstun = [\"224.0.0.1:1\"]",
            "224.0.0.1 is a multicast address",
        ),
        ("[limits]\n\npeers = 0", "line 3: limits.peers = 0: "),
        ("[limits]\npeers = -1", "line 2: limits.peers = -1: "),
        (
            "[limits]\npeers = \"many\"",
            "limits.peers = \"many\": invalid type: string",
        ),
        ("[limits]\nidle-timeout = \"30\"", "such as 30s or 1m"),
        ("shared-key = \"yes\"", "expected a boolean"),
        (
            "[log]\nlevel = \"loud\"",
            "line 2: log.level = \"loud\": unknown variant",
        ),
        (
            "metrics = \"9464\"",
            "metrics = \"9464\": invalid socket address",
        ),
    ] {
        let fault = fault(text);
        assert!(fault.contains(told), "{text}: {fault}");
        assert!(fault.contains("serve.toml"), "{fault}");
    }
    let named = |name, value| {
        let read = read("", &[(name, value)], Vec::new());
        format!("{:#}", read.unwrap_err())
    };
    let fault = named("P2PCONNECT_SERVE_LIMITS_PEERS", "many");
    let told = "P2PCONNECT_SERVE_LIMITS_PEERS: limits.peers = \"many\": invalid type";
    assert!(fault.starts_with(told), "{fault}");
}

#[test]
fn the_key_has_two_variables_and_its_own_counts_first() {
    let (old, new) = ((KEY, "/old.pem"), ("P2PCONNECT_SERVE_KEY", "/new.pem"));
    for (variables, path) in [(&[old][..], "/old.pem"), (&[old, new], "/new.pem")] {
        let read = read("", variables, Vec::new()).unwrap();
        assert_eq!(read.settings.key.as_deref(), Some(Path::new(path)));
    }
}

#[test]
fn a_variable_that_nothing_reads_is_pointed_out() {
    let mistyped = ("P2PCONNECT_SERVE_LIMIT_PEERS", "5");
    let read = read("", &[mistyped], Vec::new()).unwrap();
    let near = "P2PCONNECT_SERVE_LIMITS_PEERS";
    assert_eq!(
        read.unknown_variables,
        [(mistyped.0.to_owned(), near.to_owned())]
    );
}

#[test]
fn a_file_that_is_no_file_or_too_long_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let long = directory.path().join("long.toml");
    std::fs::write(&long, "#".repeat(MAX_BYTES as usize + 1)).unwrap();
    for (path, told) in [
        (missing, "missing.toml: No such file"),
        (long, "more than 1 MiB"),
    ] {
        let sources = Sources {
            file: Some(path),
            ..Sources::default()
        };
        let error = format!("{:#}", Configuration::read(&sources).unwrap_err());
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn what_is_shown_to_nats_is_shown_to_nobody_else() {
    for (text, shown) in [
        (
            "nats = [\"nats://me:se@cret@a.example\", \"tls://secret@b.example:1\"]",
            "[\"nats://***@a.example\", \"tls://***@b.example:1\"]",
        ),
        ("nats = [\"me:secret@a.example\"]", "[\"***@a.example\"]"),
        ("nats = [\"nats://a.example\"]", "[\"nats://a.example\"]"),
    ] {
        let read = of_file(&format!("[cluster]\n{text}")).unwrap();
        let setting = read.all.iter().find(|it| it.key == "cluster.nats").unwrap();
        assert_eq!(setting.shown(), shown);
    }
    let fault = fault("[cluster]\nnats = \"nats://me:secret@a.example\"");
    assert!(
        fault.contains("***@a.example") && !fault.contains("secret"),
        "{fault}"
    );
}
