//! `explain`, `completions` and the plugin of kubectl as a user runs them.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::path::Path;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_kthena-bridge");

/// Exit code, standard output and standard error.
fn run(program: impl AsRef<Path>, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program.as_ref())
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_reason_is_found_whatever_its_case() {
    let (code, out, _) = run(BINARY, &["explain", "nameCONFLICT"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("NameConflict (Accepted=False)\n"), "{out}");
}

#[test]
fn an_unknown_reason_is_refused_with_the_nearest() {
    let (code, out, error) = run(BINARY, &["explain", "RouteConflikt"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(error.contains("'RouteConflict'"), "{error}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Command::new(BINARY)
        .args(["explain"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn there_is_a_script_for_every_shell() {
    for (shell, has) in [
        ("bash", "complete -F _kthena__bridge"),
        ("zsh", "#compdef kthena-bridge"),
        ("fish", "complete -c kthena-bridge"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let (code, out, error) = run(BINARY, &["completions", shell]);
        assert_eq!(code, Some(0), "{error}");
        assert!(out.contains(has), "{shell}: {out}");
        assert!(out.contains("explain"), "{shell}: {out}");
    }
}

#[test]
fn a_link_makes_it_a_plugin_of_kubectl() {
    let folder = std::env::temp_dir().join(format!("kubectl-plugin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let link = |name: &str| {
        let link = folder.join(name);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(BINARY, &link).unwrap();
        link
    };
    let plugin = link("kubectl-kthena_bridge");
    let completion = link("kubectl_complete-kthena_bridge");

    let (_, help, _) = run(&plugin, &["--help"]);
    let (code, _, usage) = run(&plugin, &["render"]);
    let (completed, candidates, _) = run(&completion, &["explain", "RouteO"]);
    std::fs::remove_dir_all(&folder).unwrap();

    assert!(
        help.contains("Usage: kubectl kthena-bridge <COMMAND>"),
        "{help}"
    );
    assert_eq!(code, Some(2));
    assert!(
        usage.contains("Usage: kubectl kthena-bridge render"),
        "{usage}"
    );
    assert_eq!(completed, Some(0));
    assert!(candidates.starts_with("RouteOutranked\t"), "{candidates}");
    assert!(candidates.ends_with("\n:4\n"), "{candidates}");
}
