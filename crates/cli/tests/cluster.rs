//! The commands that talk to a cluster, where there is none: they say why, and end.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Exit code and standard error; nothing is printed.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kthena-bridge"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), error)
}

const COMMANDS: [&[&str]; 4] = [
    &["status"],
    &["status", "--wait"],
    &["tree", "demo"],
    &["diff"],
];

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    for command in COMMANDS {
        let (code, error) = run(command);
        assert_eq!(code, Some(2), "{command:?}: {error}");
        assert!(error.contains("KUBECONFIG"), "{command:?}: {error}");
    }
}

/// A kubeconfig of this server, for a test to remove.
fn kubeconfig(name: &str, server: &str) -> PathBuf {
    let text = format!(
        "{{kind: Config, apiVersion: v1, current-context: c, clusters: [{{name: c, cluster: {{server: '{server}'}}}}],
           users: [{{name: c, user: {{}}}}], contexts: [{{name: c, context: {{cluster: c, user: c}}}}]}}"
    );
    let file = std::env::temp_dir().join(format!("kthena-bridge-{name}-{}", std::process::id()));
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_cluster_that_is_silent_is_not_waited_for() {
    // It takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let file = kubeconfig("silent", &server);
    let access = [
        "--kubeconfig",
        file.to_str().unwrap(),
        "--server-timeout=200ms",
    ];
    let began = Instant::now();
    let said = [
        (&["status"][..], 2),
        (&["status", "-o", "wide"], 2),
        (&["tree", "demo"], 2),
        (&["diff"], 2),
        (&["annotate", "demo", "--path=/x"], 1),
        (&["migrate", "demo"], 1),
    ]
    .map(|(command, wanted)| {
        let (code, error) = run(&[command, &access].concat());
        (command, wanted, code, error)
    });
    std::fs::remove_file(&file).unwrap();
    for (command, wanted, code, error) in said {
        assert_eq!(code, Some(wanted), "{command:?}: {error}");
        assert!(error.contains("timed out"), "{command:?}: {error}");
    }
    // Each asks a few times in a row at the most.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    // Nobody listens on the port: it was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let file = kubeconfig("nobody", &server);
    let access = ["--kubeconfig", file.to_str().unwrap()];
    let said = [&["status"][..], &["tree", "demo"], &["diff"]].map(|command| {
        let (code, error) = run(&[command, &access].concat());
        (command, code, error)
    });
    let (code, waited) = run(&[&["status", "--wait", "--timeout=1s"], &access[..]].concat());
    std::fs::remove_file(&file).unwrap();
    for (command, code, error) in said {
        assert_eq!(code, Some(2), "{command:?}: {error}");
        assert!(error.contains("refused"), "{command:?}: {error}");
        let next = "see whether the cluster can be reached";
        assert!(error.contains(next), "{command:?}: {error}");
    }
    assert_eq!(code, Some(2), "{waited}");
    assert!(
        waited.contains("see whether the cluster can be reached"),
        "{waited}"
    );
}

#[test]
fn bad_arguments_are_refused_with_what_is_allowed() {
    for (arguments, said) in [
        (
            &["status", "--wait=Ready"][..],
            "Accepted, Programmed, Reachable",
        ),
        (&["status", "--timeout=5s"], "--wait"),
        (
            &["status", "--wait", "--timeout=soon"],
            "such as 90s or 10m",
        ),
        (&["status", "--wait", "--timeout=-5s"], "is negative"),
        (&["status", "-A", "demo"], "cannot be used with"),
        (&["status", "-o", "table"], "wide, json, yaml"),
        (&["tree"], "<MODEL>"),
        (&["diff", "-A", "-f", "-"], "cannot be used with"),
    ] {
        let (code, error) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn every_exit_code_is_in_the_help() {
    for command in ["status", "tree", "diff"] {
        let output = Command::new(env!("CARGO_BIN_EXE_kthena-bridge"))
            .args([command, "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let (_, codes) = help.split_once("Exit codes:\n").unwrap();
        for code in ["  0  ", "  1  ", "  2  "] {
            assert!(codes.contains(code), "{command}: {help}");
        }
    }
}
